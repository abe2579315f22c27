//! How fresh an answer is, and what a client may demand.

use std::time::Duration;

use chartmesh_region::Limits as RegionLimits;

use crate::client::Reply;
use crate::foreign::{Foreign, made};
use crate::node::{Node, Special};

const PATIENT: &str = r#"{"resourceType":"Patient","id":"p1","active":true}"#;

async fn read(node: &Node, prefer: &str) -> Reply {
    node.ask("GET", "/fhir/Patient/p1", &[("prefer", prefer)], "").await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_says_how_fresh_it_is() {
    let node = Node::start().await;

    for path in ["/fhir/metadata", "/fhir/Patient/none", "/fhir/Nonsense", "/fhir"] {
        let reply = node.ask("GET", path, &[], "").await;

        assert_eq!(reply.header("chartmesh-state"), "region", "{path}");
        let as_of = reply.header("chartmesh-as-of");
        assert!(as_of.starts_with("pac=\"20") && as_of.contains(";age="), "{path}: {as_of}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_region_never_heard_of_has_an_entry_and_is_older_than_any_limit() {
    let regions = &["central", "eur", "pac"];
    let node = Node::start_special(Special { regions, ..Special::default() }).await;
    node.put("Patient/p1", PATIENT, &[]).await;

    let plain = node.get("Patient/p1").await;
    let limited = read(&node, "chartmesh-max-staleness=1000000").await;

    let as_of = plain.header("chartmesh-as-of");
    assert!(as_of.starts_with("pac=\"20") && as_of.ends_with(", central=?0, eur=?0"), "{as_of}");
    assert_eq!((limited.status, limited.header("retry-after")), (503, "1"));
    let text = limited.json()["issue"][0]["details"]["text"].as_str().unwrap().to_owned();
    assert!(text.contains("region central") || text.contains("region eur"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_is_served_if_it_is_as_fresh_as_the_client_demands() {
    let node = Node::start().await;
    node.put("Patient/p1", PATIENT, &[]).await;

    let linearizable = read(&node, "chartmesh-consistency=linearizable").await;
    let limited = read(&node, "return=minimal, chartmesh-max-staleness=60;all").await;
    let impossible = read(&node, "chartmesh-max-staleness=0").await;
    let nonsense = read(&node, "chartmesh-max-staleness=60;some").await;

    let applied = |reply: &Reply| reply.header("preference-applied").to_owned();
    assert_eq!(
        (linearizable.status, applied(&linearizable).as_str()),
        (200, "chartmesh-consistency=linearizable")
    );
    assert_eq!((limited.status, applied(&limited).as_str()), (200, "chartmesh-max-staleness=60"));
    assert_eq!((impossible.status, nonsense.status), (503, 400));
    assert!(impossible.text.contains("region pac"), "{}", impossible.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_its_region_serves_reads_and_writes_to_its_journal() {
    let region =
        RegionLimits { isolation_after: Duration::from_millis(300), ..RegionLimits::default() };
    let voters = &["pac-1", "pac-2", "pac-3"];
    let node = Node::start_without_waiting(Special { voters, region, ..Special::default() });
    // Its region has begun, as its disk tells.
    node.receive(Foreign::new("pac").change([made("Patient/p0", "")]));

    let starting = node.get("Patient/p1").await;
    node.until(|reply| reply.header("chartmesh-state") == "isolated").await;
    let written = node.put("Patient/p1", PATIENT, &[]).await;
    let read = node.get("Patient/p1").await;
    let ready = node.ask("GET", "/health/ready", &[], "").await;

    assert_eq!((starting.status, starting.header("chartmesh-state")), (404, "starting"));
    assert_eq!((written.status, written.header("chartmesh-durability")), (201, "node"));
    assert!(written.version().starts_with("1-pac-1."), "{}", written.version());
    assert_eq!((read.status, read.etag(), ready.status), (200, written.etag(), 200));
    let as_of = read.header("chartmesh-as-of");
    assert!(as_of.starts_with("pac=?0, pac-1=\"20"), "{as_of}");
}
