//! Reads, versions and histories.

use serde_json::Value;

use crate::node::Node;

const PATIENT: &str = r#"{"resourceType":"Patient","id":"p1","active":true}"#;

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_told_apart_from_what_is_gone() {
    let node = Node::start().await;
    let first = node.put("Patient/p1", PATIENT, &[]).await;
    let deletion = node.delete("Patient/p1").await;
    let history = |version: &str| format!("Patient/p1/_history/{version}");

    let version = node.get(&history(first.version())).await;
    let deleted = node.get(&history(deletion.version())).await;
    let unknown_version = node.get(&history("9-pac.7h2k4m9qzx")).await;
    let bad_version = node.get(&history("1")).await;
    let unknown = node.get("Patient/p2").await;
    let bad_id = node.get("Patient/p_2").await;

    assert_eq!((version.status, deleted.status), (200, 410));
    assert_eq!((unknown_version.status, bad_version.status), (404, 404));
    assert_eq!((unknown.status, bad_id.status), (404, 404));
    insta::assert_snapshot!(deleted.shown());
}

#[tokio::test(flavor = "multi_thread")]
async fn head_tells_what_get_would_without_the_body() {
    let node = Node::start().await;
    node.put("Patient/p1", PATIENT, &[]).await;

    let get = node.get("Patient/p1").await;
    let head = node.ask("HEAD", "/fhir/Patient/p1", &[], "").await;

    assert_eq!((head.status, head.text.as_str(), head.etag()), (200, "", get.etag()));
    assert_eq!(head.header("content-length"), get.text.len().to_string());
    assert_eq!(head.header("content-type"), "application/fhir+json;charset=utf-8");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_history_shows_all_versions_newest_first_with_deletions() {
    let node = Node::start().await;
    node.put("Patient/p1", PATIENT, &[]).await;
    node.delete("Patient/p1").await;
    node.put("Patient/p1", PATIENT, &[]).await;

    let history = node.get("Patient/p1/_history").await;

    insta::assert_snapshot!(history.shown());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pages_of_a_history_hold_every_version_once() {
    let node = Node::start().await;
    for _ in 0..5 {
        node.put("Patient/p1", PATIENT, &[]).await;
    }

    let mut seen = Vec::new();
    let mut next = Some("http://a:1/fhir/Patient/p1/_history?_count=2".to_owned());
    while let Some(url) = next {
        let page = node.ask("GET", &url, &[], "").await.json();
        let entries = page["entry"].as_array().unwrap();
        assert!(entries.len() <= 2);
        seen.extend(entries.iter().map(|entry| generation(&entry["resource"])));
        next = link(&page, "next");
        // What is written meanwhile is newer than what follows.
        node.put("Patient/p1", PATIENT, &[]).await;
    }

    assert_eq!(seen, [5, 4, 3, 2, 1]);
}

fn generation(resource: &Value) -> u64 {
    let version = resource["meta"]["versionId"].as_str().unwrap();
    version.split_once('-').unwrap().0.parse().unwrap()
}

fn link(bundle: &Value, relation: &str) -> Option<String> {
    let links = bundle["link"].as_array().unwrap();
    let link = links.iter().find(|link| link["relation"] == relation)?;
    Some(link["url"].as_str().unwrap().to_owned())
}
