//! Batches and transactions.

use serde_json::{Value, json};

use crate::client::Reply;
use crate::node::Node;

fn bundle(sort: &str, entries: &[Value]) -> String {
    json!({"resourceType": "Bundle", "type": sort, "entry": entries}).to_string()
}

fn entry(method: &str, url: &str, resource: Value) -> Value {
    let mut entry = json!({"request": {"method": method, "url": url}});
    if !resource.is_null() {
        entry["resource"] = resource;
    }
    entry
}

fn patient(id: &str) -> Value {
    json!({"resourceType": "Patient", "id": id, "active": true})
}

async fn post(node: &Node, headers: &[(&str, &str)], body: &str) -> Reply {
    node.ask("POST", "/fhir", headers, body.to_owned()).await
}

fn statuses(reply: &Reply) -> Vec<String> {
    let bundle = reply.json();
    let entries = bundle["entry"].as_array().unwrap_or_else(|| panic!("{}", reply.text));
    entries.iter().map(|entry| entry["response"]["status"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_is_answered_in_the_order_of_its_entries_with_links_filled_in() {
    let node = Node::start().await;
    let mother = "urn:uuid:6f1b4c5e-0000-4000-8000-000000000001";
    let link = json!([{"other": {"reference": mother}, "type": "seealso"}]);
    let mut created = entry("POST", "Patient", json!({"resourceType": "Patient"}));
    created["fullUrl"] = mother.into();
    let mut child = patient("p1");
    child["link"] = link;
    let body = bundle(
        "transaction",
        &[entry("PUT", "Patient/p1", child), created, entry("GET", "Patient/p1", Value::Null)],
    );

    let reply = post(&node, &[], &body).await;

    insta::assert_snapshot!(reply.shown());
    let location = reply.json()["entry"][1]["response"]["location"].as_str().unwrap().to_owned();
    let read = node.get("Patient/p1").await.json();
    let reference = read["link"][0]["other"]["reference"].as_str().unwrap();
    assert!(location.starts_with(&format!("{reference}/_history/")), "{location} {reference}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_fails_writes_nothing_and_names_the_entry() {
    let node = Node::start().await;
    let mut stale = entry("PUT", "Patient/p2", patient("p2"));
    stale["request"]["ifMatch"] = "W/\"17\"".into();
    let body = bundle("transaction", &[entry("PUT", "Patient/p1", patient("p1")), stale]);

    let reply = post(&node, &[], &body).await;

    assert_eq!(reply.status, 412);
    insta::assert_snapshot!(reply.shown());
    assert_eq!(node.get("Patient/p1").await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_repeated_with_its_key_is_written_once() {
    let node = Node::start().await;
    let body =
        bundle("transaction", &[entry("POST", "Patient", json!({"resourceType": "Patient"}))]);
    let key = [("idempotency-key", "k1"), ("prefer", "return=representation")];

    let first = post(&node, &key, &body).await;
    let retry = post(&node, &key, &body).await;

    assert_eq!((first.status, &first.text), (200, &retry.text));
    assert_eq!(first.json()["entry"][0]["resource"]["resourceType"], "Patient");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_entries_of_a_batch_stand_for_themselves() {
    let node = Node::start().await;
    let colour = json!({"resourceType": "Patient", "colour": "red"});
    let body = bundle(
        "batch",
        &[
            entry("PUT", "Patient/p1", patient("p1")),
            entry("GET", "Patient/p1", Value::Null),
            entry("POST", "Patient", colour),
            entry("PUT", "Patient/p1", patient("p1")),
            entry("GET", "Patient/p1/_history", Value::Null),
            entry("DELETE", "Patient/p1", Value::Null),
            entry("GET", "Patient/p1", Value::Null),
            entry("GET", "Patient/none", Value::Null),
            entry("GET", "Patient/p1/_history/1", Value::Null),
            entry("GET", "Patient?name=x", Value::Null),
        ],
    );

    let reply = post(&node, &[("prefer", "return=representation")], &body).await;

    assert_eq!(
        statuses(&reply),
        [
            "201 Created",
            "200 OK",
            "400 Bad Request",
            "200 OK",
            "200 OK",
            "204 No Content",
            "410 Gone",
            "404 Not Found",
            "404 Not Found",
            "200 OK"
        ]
    );
    assert_eq!(reply.header("chartmesh-durability"), "region");
    let entries = reply.json()["entry"].clone();
    assert_eq!(entries[1]["resource"]["id"], "p1");
    assert_eq!(entries[4]["resource"]["total"], 2);
    let issue = &entries[2]["response"]["outcome"]["issue"][0];
    let place = issue["expression"][0].as_str().unwrap();
    assert!(place.contains("entry[2]") && place.contains("colour"), "{issue}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_repeated_with_its_key_writes_each_entry_once() {
    let node = Node::start().await;
    let create = || entry("POST", "Patient", json!({"resourceType": "Patient"}));
    let body = bundle("batch", &[create(), create()]);

    let first = post(&node, &[("idempotency-key", "k1")], &body).await;
    let retry = post(&node, &[("idempotency-key", "k1")], &body).await;

    assert_eq!(first.text, retry.text);
    let places = first.json()["entry"].clone();
    assert_ne!(places[0]["response"]["location"], places[1]["response"]["location"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_batch_or_transaction_is_refused() {
    let node = Node::start().await;
    for body in [
        "{}".to_owned(),
        patient("p1").to_string(),
        bundle("document", &[]),
        bundle("transaction", &[json!({"resource": patient("p1")})]),
        bundle(
            "transaction",
            &[entry("PUT", "Patient/p1", patient("p1")), entry("PUT", "Patient/p1", patient("p1"))],
        ),
        bundle(
            "transaction",
            &[entry(
                "POST",
                "Group",
                json!({"resourceType": "Group", "type": "person", "actual": true,
                    "managingEntity": {"reference": "urn:uuid:6f1b4c5e-0000-4000-8000-000000000009"}}),
            )],
        ),
    ] {
        let reply = post(&node, &[], &body).await;

        assert_eq!(reply.status, 400, "{body}: {}", reply.text);
        assert_eq!(reply.json()["resourceType"], "OperationOutcome", "{body}");
    }
}
