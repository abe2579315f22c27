//! What a node takes at most.

use std::time::Duration;

use axum::body::{Body, Bytes};
use chartmesh_rest::Limits;
use futures::{StreamExt, stream};

use crate::node::Node;

const PATIENT: &str = r#"{"resourceType":"Patient","id":"p1"}"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_writes_and_serves_reads() {
    let node = Node::start_with(Limits { disk_reserve_bytes: u64::MAX, ..Limits::default() }).await;

    let write = node.put("Patient/p1", PATIENT, &[]).await;
    let entry =
        format!(r#"{{"resource":{PATIENT},"request":{{"method":"PUT","url":"Patient/p1"}}}}"#);
    let bundle = format!(r#"{{"resourceType":"Bundle","type":"transaction","entry":[{entry}]}}"#);
    let transaction = node.ask("POST", "/fhir", &[], bundle).await;
    let read = node.get("Patient/p1").await;

    assert_eq!((write.status, transaction.status, read.status), (507, 507, 404));
    assert_eq!(write.json()["issue"][0]["code"], "no-store");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_too_long_is_refused() {
    let node = Node::start_with(Limits { body_bytes: 30, ..Limits::default() }).await;

    let reply = node.put("Patient/p1", PATIENT, &[]).await;

    assert_eq!((reply.status, &reply.json()["issue"][0]["code"]), (413, &"too-long".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_beyond_the_limit_are_sent_away_for_a_moment() {
    let node = Node::start_with(Limits { in_flight: 0, ..Limits::default() }).await;

    let reply = node.get("Patient/p1").await;

    assert_eq!((reply.status, reply.header("retry-after")), (503, "1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_stops_arriving_is_given_up() {
    let stall = Duration::from_millis(50);
    let stalled = Node::start_with(Limits { body_stall: stall, ..Limits::default() }).await;
    let slow = Node::start_with(Limits { request_time: stall, ..Limits::default() }).await;

    let timeout = stalled.ask("PUT", "/fhir/Patient/p1", &[], endless()).await;
    let too_slow = slow.ask("PUT", "/fhir/Patient/p1", &[], endless()).await;

    assert_eq!((timeout.status, too_slow.status), (408, 503));
    assert_eq!(too_slow.header("retry-after"), "1");
}

/// A body that begins and does not go on.
fn endless() -> Body {
    let begin = stream::iter([Ok::<_, std::io::Error>(Bytes::from_static(b"{"))]);
    Body::from_stream(begin.chain(stream::pending()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_is_answered_and_the_next_request_is_served() {
    let node = Node::start().await;
    node.light_the_fuse();

    let reply = node.put("Patient/p1", PATIENT, &[]).await;
    let read = node.get("Patient/p1").await;

    assert_eq!((reply.status, &reply.json()["issue"][0]["code"]), (500, &"exception".into()));
    assert_eq!((reply.header("chartmesh-state"), read.status), ("region", 404));
}
