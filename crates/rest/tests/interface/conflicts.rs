//! Versions that stand beside each other: shown, kept, resolved.

use serde_json::{Value, json};

use crate::client::Reply;
use crate::foreign::{Foreign, made};
use crate::node::Node;

const PATIENT: &str = r#"{"resourceType":"Patient","id":"p1","active":true}"#;
const FOREIGN: &str = r#"W/"1-eur.0000000000""#;

/// A node that holds `Patient/p1` of its own region and another one of the same name from elsewhere.
async fn in_conflict() -> (Node, Foreign) {
    let node = Node::start().await;
    let mut eur = Foreign::new("eur");
    node.put("Patient/p1", PATIENT, &[]).await;
    node.receive(eur.change([made("Patient/p1", r#","active":false"#)]));
    (node, eur)
}

/// What a bundle holds of a tag, as the client reads it.
fn tags(resource: &Value) -> Value {
    resource["meta"]["tag"].clone()
}

fn conflict_tag() -> Value {
    json!([{"system": "urn:chartmesh", "code": "conflict"}])
}

fn bundle(sort: &str, entries: &[Value]) -> String {
    json!({"resourceType": "Bundle", "type": sort, "entry": entries}).to_string()
}

fn get_entry(url: &str) -> Value {
    json!({"request": {"method": "GET", "url": url}})
}

async fn update(node: &Node, if_match: &str) -> Reply {
    node.put("Patient/p1", PATIENT, &[("if-match", if_match)]).await
}

async fn delete(node: &Node, headers: &[(&str, &str)]) -> Reply {
    node.ask("DELETE", "/fhir/Patient/p1", headers, "").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_names_the_heads_and_carries_the_tag() {
    let (node, _eur) = in_conflict().await;

    let read = node.get("Patient/p1").await;
    let head = node.ask("HEAD", "/fhir/Patient/p1", &[], "").await;
    let cached = node.ask("GET", "/fhir/Patient/p1", &[("if-none-match", read.etag())], "").await;

    insta::assert_snapshot!(read.shown());
    let heads = format!("{}, {FOREIGN}", read.etag());
    assert_eq!(read.header("chartmesh-conflict"), heads);
    assert_eq!((head.status, head.header("chartmesh-conflict")), (200, &*heads));
    assert_eq!(head.header("content-length"), read.text.len().to_string());
    assert_eq!((cached.status, cached.header("chartmesh-conflict")), (304, &*heads));
}

#[tokio::test(flavor = "multi_thread")]
async fn resources_in_conflict_are_found_by_the_tag_that_reads_put_on_them() {
    let (node, _eur) = in_conflict().await;
    let other = r#"{"resourceType":"Patient","id":"p9","meta":{"tag":[{"code":"vip"}]}}"#;
    assert_eq!(node.put("Patient/p9", other, &[]).await.status, 201);
    let found = async |query: &str| {
        let bundle = node.get(query).await.json();
        let entries = bundle["entry"].as_array().cloned().unwrap_or_default();
        let ids = entries.iter().map(|entry| entry["resource"]["id"].as_str().unwrap().to_owned());
        (ids.collect::<Vec<_>>(), bundle.to_string().contains(r#""code":"conflict""#))
    };

    let tagged = found("Patient?_tag=urn:chartmesh%7Cconflict").await;
    let either = found("Patient?_tag=urn:chartmesh%7Cconflict,vip").await;
    let vip = found("Patient?_tag=vip").await;

    assert_eq!(tagged, (vec!["p1".to_owned()], true));
    assert_eq!(either, (vec!["p1".to_owned(), "p9".to_owned()], true));
    assert_eq!(vip, (vec!["p9".to_owned()], false));
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_and_histories_are_shown_as_they_are() {
    let (node, _eur) = in_conflict().await;

    let version = node.get("Patient/p1/_history/1-eur.0000000000").await;
    let history = node.get("Patient/p1/_history").await;

    assert_eq!((version.status, version.header("chartmesh-conflict")), (200, ""));
    assert_eq!(version.json()["active"], false);
    let entries = history.json()["entry"].clone();
    assert_eq!(entries.as_array().unwrap().len(), 2);
    assert!(!version.text.contains("urn:chartmesh") && !history.text.contains("urn:chartmesh"));
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_in_bundles_carry_the_tag_and_a_warning() {
    let (node, _eur) = in_conflict().await;
    node.put("Patient/p2", &PATIENT.replace("p1", "p2"), &[]).await;
    let entries = [get_entry("Patient/p1"), get_entry("Patient/p2")];

    for sort in ["batch", "transaction"] {
        let reply = node.ask("POST", "/fhir", &[], bundle(sort, &entries)).await;

        let entries = reply.json()["entry"].clone();
        assert_eq!(tags(&entries[0]["resource"]), conflict_tag(), "{sort}: {}", reply.text);
        let issue = &entries[0]["response"]["outcome"]["issue"][0];
        assert_eq!((&issue["severity"], &issue["code"]), (&json!("warning"), &json!("conflict")));
        assert!(issue["details"]["text"].as_str().unwrap().contains(FOREIGN), "{issue}");
        assert_eq!(tags(&entries[1]["resource"]), Value::Null);
        assert_eq!(entries[1]["response"]["outcome"], Value::Null);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conflict_is_resolved_by_sending_back_what_was_read() {
    let (node, _eur) = in_conflict().await;
    let read = node.get("Patient/p1").await;
    let heads = [("if-match", read.header("chartmesh-conflict"))];

    let resolved = node.put("Patient/p1", &read.text, &heads).await;

    assert_eq!(resolved.status, 200, "{}", resolved.text);
    assert!(resolved.version().starts_with("2-pac."), "{}", resolved.version());
    let after = node.get("Patient/p1").await;
    assert_eq!((after.header("chartmesh-conflict"), after.etag()), ("", resolved.etag()));
    assert_eq!(tags(&after.json()), Value::Null);
    assert_eq!(node.get("$conflicts").await.json()["total"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_supersedes_what_it_names_or_else_the_current_version_alone() {
    let (node, _eur) = in_conflict().await;

    let blind = node.put("Patient/p1", PATIENT, &[]).await;
    let after_blind = node.get("Patient/p1").await;
    let named = update(&node, FOREIGN).await;
    let after_named = node.get("Patient/p1").await;

    assert_eq!((blind.status, named.status), (200, 200));
    assert_eq!(after_blind.header("chartmesh-conflict"), format!("{}, {FOREIGN}", blind.etag()));
    assert_eq!(
        after_named.header("chartmesh-conflict"),
        format!("{}, {}", named.etag(), blind.etag())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_that_names_what_does_not_stand_is_told_what_does() {
    let (node, _eur) = in_conflict().await;
    let current = node.get("Patient/p1").await;
    let newer = update(&node, current.etag()).await;

    let stale = update(&node, current.etag()).await;
    let half_stale = update(&node, &format!("{FOREIGN}, {}", current.etag())).await;
    let absent = node.put("Patient/p1", PATIENT, &[("if-none-match", "*")]).await;

    insta::assert_snapshot!(stale.shown());
    let heads = format!("{}, {FOREIGN}", newer.etag());
    for refused in [stale, half_stale, absent] {
        assert_eq!((refused.status, refused.header("chartmesh-conflict")), (412, &*heads));
    }
    assert_eq!(update(&node, &heads).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delete_must_say_which_of_several_versions_it_means() {
    let (node, _eur) = in_conflict().await;

    let blind = delete(&node, &[]).await;
    let one = delete(&node, &[("if-match", FOREIGN)]).await;
    let left = node.get("Patient/p1").await;
    let rest = delete(&node, &[("if-match", left.header("chartmesh-conflict"))]).await;

    insta::assert_snapshot!(blind.shown());
    assert!(blind.header("chartmesh-conflict").ends_with(FOREIGN));
    // The deletion stands beside the version that was not named.
    assert_eq!((one.status, left.status), (204, 200));
    assert_eq!(left.header("chartmesh-conflict"), format!("{}, {}", left.etag(), one.etag()));
    assert_eq!((rest.status, node.get("Patient/p1").await.status), (204, 410));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_is_refused_with_the_heads_and_the_entry() {
    let (node, _eur) = in_conflict().await;
    let heads = node.get("Patient/p1").await.header("chartmesh-conflict").to_owned();
    let mut stale = json!({
        "resource": serde_json::from_str::<Value>(PATIENT).unwrap(),
        "request": {"method": "PUT", "url": "Patient/p1", "ifMatch": "W/\"17\""},
    });
    let other = json!({
        "resource": {"resourceType": "Basic", "id": "b1", "code": {"text": "x"}},
        "request": {"method": "PUT", "url": "Basic/b1"},
    });

    let refused = node
        .ask("POST", "/fhir", &[], bundle("transaction", &[other.clone(), stale.clone()]))
        .await;
    stale["request"]["ifMatch"] = heads.clone().into();
    let resolved = node.ask("POST", "/fhir", &[], bundle("transaction", &[other, stale])).await;

    insta::assert_snapshot!(refused.shown());
    assert_eq!((refused.status, refused.header("chartmesh-conflict")), (412, &*heads));
    assert_eq!(resolved.status, 200, "{}", resolved.text);
    assert_eq!(node.get("Patient/p1").await.header("chartmesh-conflict"), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_not_arrived_counts_and_is_named_among_the_conflicts_only() {
    let node = Node::start().await;
    let mut eur = Foreign::new("eur");
    let beside = |key: &str| made(key, r#","active":true"#).beside("1-jap.0000000000");
    node.receive(eur.change([beside("Patient/p1")]));
    node.receive(eur.change([beside("Patient/p2").deleted()]));

    let live = node.get("Patient/p1").await;
    let gone = node.get("Patient/p2").await;
    let conflicts = node.get("Patient/p1/$conflicts").await;

    let arrived = r#"W/"2-eur.0000000000""#;
    assert_eq!((live.status, live.header("chartmesh-conflict")), (200, arrived));
    assert_eq!((gone.status, gone.header("chartmesh-conflict")), (410, arrived));
    insta::assert_snapshot!(conflicts.shown());
}

#[tokio::test(flavor = "multi_thread")]
async fn conflicts_are_listed_for_all_for_a_type_and_for_one_resource() {
    let (node, mut eur) = in_conflict().await;
    let basic = r#"{"resourceType":"Basic","id":"b1","code":{"text":"x"}}"#;
    node.put("Basic/b1", basic, &[]).await;
    node.put("Patient/p2", &PATIENT.replace("p1", "p2"), &[]).await;
    node.receive(
        eur.change([made("Basic/b1", r#","code":{"text":"x"}"#).deleted(), made("Patient/p9", "")]),
    );

    let all = node.get("$conflicts").await;
    let patients = node.get("Patient/$conflicts").await;
    let one = node.get("Patient/p1/$conflicts").await;
    let none = node.get("Patient/p2/$conflicts").await;
    let devices = node.get("Device/$conflicts").await;
    let unknown = node.get("Patient/p3/$conflicts").await;

    insta::assert_snapshot!(all.shown());
    chartmesh_record::Resource::parse(all.text.as_bytes()).unwrap();
    assert_eq!(resources(&all), ["Patient/p1", "Basic/b1"]);
    assert_eq!(resources(&patients), ["Patient/p1"]);
    assert_eq!(resources(&one), ["Patient/p1"]);
    assert_eq!((none.status, &none.json()["total"]), (200, &json!(0)));
    assert_eq!((devices.status, &devices.json()["total"]), (200, &json!(0)));
    assert_eq!(unknown.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_resources_made_by_equal_criteria_are_listed_as_duplicates() {
    let node = Node::start().await;
    let body = r#"{"resourceType":"Patient","identifier":[{"system":"urn:s","value":"1"}]}"#;
    let criteria = "identifier=urn:s|1";
    node.ask("POST", "/fhir/Patient", &[("if-none-exist", criteria)], body).await;
    let members = r#","identifier":[{"system":"urn:s","value":"1"}]"#;
    node.receive(Foreign::new("eur").change([made("Patient/p7", members).unless(criteria)]));

    let conflicts = node.get("$conflicts").await;
    let deleted = node.delete("Patient/p7").await;

    insta::assert_snapshot!(conflicts.shown());
    assert_eq!(deleted.status, 204);
    assert_eq!(node.get("$conflicts").await.json()["total"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pages_of_a_list_of_conflicts_hold_each_once() {
    let node = Node::start().await;
    let mut eur = Foreign::new("eur");
    let keys: Vec<String> = (0..5).map(|n| format!("Patient/q{n}")).collect();
    for key in &keys {
        let id = key.strip_prefix("Patient/").unwrap();
        node.put(key, &PATIENT.replace("p1", id), &[]).await;
        node.receive(eur.change([made(key, "")]));
    }

    for base in ["$conflicts", "Patient/$conflicts"] {
        let mut seen = Vec::new();
        let mut next = Some(format!("http://a:1/fhir/{base}?_count=2"));
        while let Some(url) = next {
            let page = node.ask("GET", &url, &[], "").await;
            assert_eq!(page.status, 200, "{url}: {}", page.text);
            let found = resources(&page);
            assert!(found.len() <= 2);
            seen.extend(found);
            next = next_link(&page);
            if base == "$conflicts" {
                assert_eq!(page.json()["total"], 5);
            }
        }
        assert_eq!(seen, keys, "{base}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_conflicts_takes_no_other_parameters() {
    let node = Node::start().await;

    for (path, status) in [
        ("$conflicts?_count=0&_format=json", 200),
        ("$conflicts?kind=update", 400),
        ("Patient/$conflicts?_sort=since", 400),
        ("$conflicts?_count=many", 400),
        ("$conflicts?page=nowhere", 400),
        ("Patiens/$conflicts", 404),
    ] {
        let reply = node.get(path).await;
        assert_eq!(reply.status, status, "{path}: {}", reply.text);
    }
    let posted = node.post("$conflicts", "{}").await;
    assert_eq!((posted.status, posted.header("allow")), (405, "GET, HEAD"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_capability_statement_declares_the_operation() {
    let node = Node::start().await;

    let rest = node.get("metadata").await.json()["rest"][0].clone();

    assert_eq!(rest["operation"][0]["name"], "conflicts");
    assert_eq!(rest["resource"][0]["operation"][0]["name"], "conflicts");
}

/// The first resource of each conflict.
fn resources(reply: &Reply) -> Vec<String> {
    let entries = reply.json()["entry"].clone();
    let entries = entries.as_array().cloned().unwrap_or_default();
    let first = |entry: &Value| {
        let parameters = entry["resource"]["parameter"].as_array().unwrap();
        let resource = parameters.iter().find(|it| it["name"] == "resource").unwrap();
        resource["valueReference"]["reference"].as_str().unwrap().to_owned()
    };
    entries.iter().map(first).collect()
}

fn next_link(reply: &Reply) -> Option<String> {
    let links = reply.json()["link"].as_array().unwrap().clone();
    let next = links.iter().find(|link| link["relation"] == "next")?;
    Some(next["url"].as_str().unwrap().to_owned())
}
