//! Pages that are not about records.

use crate::node::Node;

#[tokio::test(flavor = "multi_thread")]
async fn probes_status_and_metrics_are_served_outside_fhir() {
    let node = Node::start().await;

    let live = node.ask("GET", "/health/live", &[], "").await;
    let ready = node.ask("GET", "/health/ready", &[], "").await;
    let status = node.ask("GET", "/status", &[], "").await;
    let metrics = node.ask("GET", "/metrics", &[], "").await;

    assert_eq!((live.status, ready.status), (200, 200));
    assert_eq!((status.header("content-type"), status.text.as_str()), ("application/json", "{}"));
    assert_eq!((metrics.status, metrics.text.as_str()), (200, "a 1\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_is_a_capability_statement() {
    let node = Node::start().await;

    let metadata = node.get("metadata").await;

    assert_eq!(metadata.status, 200);
    let json = metadata.json();
    assert_eq!(json["resourceType"], "CapabilityStatement");
    assert_eq!(json["implementation"]["description"], "node pac-1 at site yokota, region pac");
}
