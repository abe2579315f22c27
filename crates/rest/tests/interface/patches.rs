//! Patches: of each kind, with conditions, by criteria, within bundles, and beside other writers.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};

use crate::client::Reply;
use crate::node::Node;

const JSON_PATCH: (&str, &str) = ("content-type", "application/json-patch+json");
const MERGE_PATCH: (&str, &str) = ("content-type", "application/merge-patch+json");
const FHIR: (&str, &str) = ("content-type", "application/fhir+json");
const PLAIN: (&str, &str) = ("content-type", "application/json");

async fn node() -> Node {
    let node = Node::start().await;
    let patient = r#"{"resourceType":"Patient","id":"p1","active":true,"gender":"male",
        "identifier":[{"system":"urn:i","value":"1"}],
        "extension":[{"url":"http://a/height","valueDecimal":1.80}]}"#;
    assert_eq!(node.put("Patient/p1", patient, &[]).await.status, 201);
    node
}

async fn patch(node: &Node, path: &str, headers: &[(&str, &str)], body: &str) -> Reply {
    node.ask("PATCH", &format!("/fhir/{path}"), headers, body.to_owned()).await
}

fn parameters(path: &str, kind: &str, value: Option<(&str, Value)>) -> String {
    let mut parts = vec![
        json!({"name": "type", "valueCode": kind}),
        json!({"name": "path", "valueString": path}),
    ];
    parts.extend(value.map(|(name, value)| json!({"name": "value", name: value})));
    json!({"resourceType": "Parameters", "parameter": [{"name": "operation", "part": parts}]})
        .to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_kind_of_patch_changes_what_it_says_and_leaves_the_rest_to_the_letter() {
    let node = node().await;
    let fhir_patch = parameters("Patient.gender", "replace", Some(("valueCode", json!("other"))));
    for (header, body) in [
        (JSON_PATCH, r#"[{"op":"replace","path":"/gender","value":"female"}]"#),
        (MERGE_PATCH, r#"{"gender":"unknown"}"#),
        (PLAIN, r#"{"gender":"male"}"#),
        (FHIR, &fhir_patch),
        (PLAIN, r#"[{"op":"replace","path":"/gender","value":"female"}]"#),
    ] {
        let before = node.get("Patient/p1").await;

        let reply = patch(&node, "Patient/p1", &[header], body).await;

        assert_eq!(reply.status, 200, "{}", reply.text);
        let after = node.get("Patient/p1").await;
        assert_eq!((after.etag(), &after.text), (reply.etag(), &reply.text));
        assert_ne!(after.etag(), before.etag());
        let gender = |reply: &Reply| reply.json()["gender"].as_str().unwrap().to_owned();
        assert_ne!(gender(&after), gender(&before), "{body}");
        let without = |reply: &Reply| {
            let text = reply.text.replace(&gender(reply), "");
            text.split_once("\"active\"").unwrap().1.to_owned()
        };
        assert_eq!(without(&after), without(&before));
        assert!(after.text.contains("1.80"), "{}", after.text);
    }
    let history = node.get("Patient/p1/_history").await.json();
    assert_eq!(history["total"], 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_patch_that_cannot_be_applied_changes_nothing_and_says_why() {
    let node = node().await;
    let before = node.get("Patient/p1").await.text;
    let check = async |path: &str, header, body: &str, status, part: &str| {
        let reply = patch(&node, path, &[header], body).await;
        assert_eq!(reply.status, status, "{body}: {}", reply.text);
        assert!(reply.text.contains(part), "{body}: {}", reply.text);
        reply
    };
    let tested =
        r#"[{"op":"test","path":"/gender","value":"other"},{"op":"remove","path":"/active"}]"#;
    check("Patient/p1", JSON_PATCH, tested, 422, "operation 0").await;
    let spoilt = r#"[{"op":"replace","path":"/gender","value":7}]"#;
    check("Patient/p1", JSON_PATCH, spoilt, 422, "Patient.gender").await;
    check("Patient/p1", MERGE_PATCH, r#"{"nonsense":1}"#, 422, "nonsense").await;
    check("Patient/p1", MERGE_PATCH, r#"{"id":"p2"}"#, 422, "its type and id stay").await;
    check("Patient/p1", MERGE_PATCH, r#"{"resourceType":"Basic","code":{"text":"x"}}"#, 422, "")
        .await;
    check("Patient/p1", JSON_PATCH, "{}", 400, "array of operations").await;
    check("Patient/p1", MERGE_PATCH, "[", 400, "line 1").await;
    check("Patient/p1", FHIR, &parameters("Patient.name", "paint", None), 400, "paint").await;
    check("Patient/none", MERGE_PATCH, "{}", 404, "not known").await;
    check("Patient?identifier=urn:i%7C9", MERGE_PATCH, "{}", 404, "matches no resource").await;
    check("Patient?nonsense=1", MERGE_PATCH, "{}", 400, "nonsense").await;
    check("Patient", MERGE_PATCH, "{}", 400, "").await;
    let xml = ("content-type", "application/fhir+xml");
    let refused = check("Patient/p1", xml, "<x/>", 415, "application/json-patch+json").await;
    assert!(refused.header("accept-patch").contains("application/json-patch+json"));
    assert_eq!(node.get("Patient/p1").await.text, before);

    node.delete("Patient/p1").await;
    check("Patient/p1", MERGE_PATCH, "{}", 410, "deleted").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_patch_honours_if_match_and_criteria() {
    let node = node().await;
    let first = node.get("Patient/p1").await.etag().to_owned();
    let with =
        |tag: &str| [MERGE_PATCH, ("if-match", &*Box::leak(tag.to_owned().into_boxed_str()))];

    let second = patch(&node, "Patient/p1", &with(&first), r#"{"active":false}"#).await;
    assert_eq!(second.status, 200, "{}", second.text);
    let stale = patch(&node, "Patient/p1", &with(&first), r#"{"active":true}"#).await;
    assert_eq!(stale.status, 412, "{}", stale.text);
    let unknown = patch(&node, "Patient/p1", &with("W/\"9-pac.7h2k4m9qzx\""), "{}").await;
    assert_eq!(unknown.status, 412, "{}", unknown.text);
    let any = patch(&node, "Patient/p1", &with("*"), r#"{"gender":"other"}"#).await;
    assert_eq!(any.status, 200, "{}", any.text);
    let absent = [MERGE_PATCH, ("if-none-match", "*")];
    assert_eq!(patch(&node, "Patient/p1", &absent, "{}").await.status, 400);

    let found =
        patch(&node, "Patient?identifier=urn:i%7C1", &[MERGE_PATCH], r#"{"active":true}"#).await;
    assert_eq!((found.status, found.json()["id"].as_str()), (200, Some("p1")));
    let twin =
        r#"{"resourceType":"Patient","id":"p2","identifier":[{"system":"urn:i","value":"1"}]}"#;
    node.put("Patient/p2", twin, &[]).await;
    let several = patch(&node, "Patient?identifier=urn:i%7C1", &[MERGE_PATCH], "{}").await;
    assert_eq!(several.status, 412, "{}", several.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_patch_that_is_sent_again_under_its_key_is_applied_once() {
    let node = node().await;
    // It would not go with what it has made.
    let add = r#"[{"op":"test","path":"/identifier/0/value","value":"1"},
        {"op":"add","path":"/identifier/0","value":{"value":"2"}}]"#;
    let headers = [JSON_PATCH, ("idempotency-key", "k1")];

    let first = patch(&node, "Patient/p1", &headers, add).await;
    let again = patch(&node, "Patient/p1", &headers, add).await;

    assert_eq!((first.status, again.status), (200, 200));
    assert_eq!((first.etag(), &first.text), (again.etag(), &again.text));
    assert_eq!(node.get("Patient/p1").await.json()["identifier"].as_array().unwrap().len(), 2);
    let other = r#"[{"op":"remove","path":"/identifier"}]"#;
    assert_eq!(patch(&node, "Patient/p1", &headers, other).await.status, 422);
}

#[tokio::test(flavor = "multi_thread")]
async fn patches_of_several_clients_are_all_applied() {
    let node = std::sync::Arc::new(node().await);
    let clients = (0..16).map(|client| {
        let node = node.clone();
        tokio::spawn(async move {
            let value = json!([{"op": "add", "path": "/identifier/-", "value": {"value": format!("c{client}")}}]);
            patch(&node, "Patient/p1", &[JSON_PATCH], &value.to_string()).await.status
        })
    });
    let mut taken = 0;
    for client in clients.collect::<Vec<_>>() {
        match client.await.unwrap() {
            200 => taken += 1,
            // It was overtaken until it gave up: nothing of it is there.
            status => assert_eq!(status, 412),
        }
    }
    let identifiers = node.get("Patient/p1").await.json()["identifier"].as_array().unwrap().len();
    assert_eq!(identifiers, 1 + taken);
    assert!(taken >= 10, "{taken} of 16");
}

#[tokio::test(flavor = "multi_thread")]
async fn patches_are_part_of_batches_and_transactions() {
    let node = node().await;
    let binary = |kind: &str, text: &str| json!({"resourceType": "Binary", "contentType": kind, "data": BASE64.encode(text)});
    let entry = |url: &str, resource: Value| json!({"resource": resource, "request": {"method": "PATCH", "url": url}});
    let gender = binary(
        "application/json-patch+json",
        r#"[{"op":"replace","path":"/gender","value":"female"}]"#,
    );
    let delete: Value =
        serde_json::from_str(&parameters("Patient.active", "delete", None)).unwrap();
    let create = json!({"resource": {"resourceType": "Basic", "code": {"text": "x"}}, "request": {"method": "POST", "url": "Basic"}});
    let bundle = |kind: &str, entries: &[Value]| {
        json!({"resourceType": "Bundle", "type": kind, "entry": entries}).to_string()
    };

    let both = [create.clone(), entry("Patient/p1", gender.clone())];
    let reply = node.post("", &bundle("transaction", &both)).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    let statuses = |reply: &Reply| {
        let entries = reply.json()["entry"].as_array().unwrap().clone();
        entries
            .iter()
            .map(|it| it["response"]["status"].as_str().unwrap()[..3].to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(statuses(&reply), ["201", "200"]);
    assert_eq!(node.get("Patient/p1").await.json()["gender"], "female");

    let failing = binary("application/json-patch+json", r#"[{"op":"remove","path":"/none"}]"#);
    let both = [create.clone(), entry("Patient/p1", failing.clone())];
    let reply = node.post("", &bundle("transaction", &both)).await;
    assert_eq!(reply.status, 422, "{}", reply.text);
    assert_eq!(reply.json()["issue"][0]["expression"][0], "Bundle.entry[1]");
    let alone = node.post("", &bundle("transaction", &both[1..])).await;
    assert_eq!(alone.json()["issue"][0]["expression"][0], "Bundle.entry[0]");
    let spoilt = binary("application/merge-patch+json", r#"{"gender":7}"#);
    let spoilt =
        node.post("", &bundle("transaction", &[create.clone(), entry("Patient/p1", spoilt)])).await;
    assert_eq!(
        spoilt.json()["issue"][0]["expression"],
        json!(["Bundle.entry[1]", "Patient.gender"])
    );
    assert_eq!(node.get("Basic?_summary=count").await.json()["total"], 1);

    let merge = binary("application/merge-patch+json", r#"{"gender":"other"}"#);
    let entries = [
        entry("Patient/p1", delete),
        entry("Patient?identifier=urn:i%7C1", merge),
        entry("Patient/p1", failing),
    ];
    let reply = node.post("", &bundle("batch", &entries)).await;
    assert_eq!(statuses(&reply), ["200", "200", "422"], "{}", reply.text);
    let patient = node.get("Patient/p1").await.json();
    assert_eq!((&patient["gender"], &patient["active"]), (&json!("other"), &Value::Null));
}
