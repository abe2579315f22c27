//! Creates, updates and deletes, one at a time.

use serde_json::Value;

use crate::client::Reply;
use crate::node::Node;

const PATIENT: &str = r#"{"resourceType":"Patient","id":"p1","active":true}"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_created_resource_has_an_id_a_version_and_a_place() {
    let node = Node::start().await;

    let created = node.post("Patient", r#"{ "resourceType": "Patient", "active": true }"#).await;

    insta::assert_snapshot!(created.shown());
    let read = node.ask("GET", &created.place(), &[], "").await;
    assert_eq!((read.status, &read.text), (200, &created.text));
    let vread = node.ask("GET", created.header("location"), &[], "").await;
    assert_eq!((vread.status, &vread.text), (200, &created.text));
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_and_extensions_are_read_back_to_the_letter() {
    let node = Node::start().await;
    let sent = concat!(
        r#"{"resourceType":"Observation","id":"o1","meta":{"profile":["http://a/b"]},"#,
        r#""extension":[{"url":"http://a/c","valueDecimal":1.500}],"status":"final","#,
        r#""code":{"text":"\u00e4 \/ é"},"valueQuantity":{"value":0.010,"unit":"mg"},"#,
        r#""effectiveDateTime":"2026-01-01T00:00:00.0+00:00","#,
        r#""_issued":{"extension":[{"url":"http://a/d","valueString":"x"}]}}"#
    );

    let put = node.put("Observation/o1", sent, &[]).await;
    let read = node.get("Observation/o1").await;

    assert_eq!(put.status, 201, "{}", put.text);
    let (head, body) = read.text.split_once(r#""profile":["http://a/b"]},"#).unwrap();
    let (_, sent_body) = sent.split_once(r#""profile":["http://a/b"]},"#).unwrap();
    assert!(head.starts_with(r#"{"resourceType":"Observation","id":"o1","meta":{"versionId":"#));
    assert_eq!(body, sent_body);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_creates_and_then_makes_versions() {
    let node = Node::start().await;

    let first = node.put("Patient/p1", PATIENT, &[]).await;
    let second = node.put("Patient/p1", PATIENT, &[]).await;

    assert_eq!((first.status, second.status), (201, 200));
    assert!(first.version().starts_with("1-pac."), "{}", first.version());
    assert!(second.version().starts_with("2-pac."), "{}", second.version());
    assert_eq!(second.json()["meta"]["versionId"], second.version());
    assert_eq!(second.header("chartmesh-durability"), "region");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_resource_is_gone_and_can_be_written_again() {
    let node = Node::start().await;
    node.put("Patient/p1", PATIENT, &[]).await;

    let deleted = node.delete("Patient/p1").await;
    let gone = node.get("Patient/p1").await;
    let again = node.delete("Patient/p1").await;
    let never = node.delete("Patient/never").await;
    let back = node.put("Patient/p1", PATIENT, &[]).await;

    assert_eq!((deleted.status, deleted.text.as_str()), (204, ""));
    assert_eq!((gone.status, gone.etag()), (410, deleted.etag()));
    assert_eq!((again.status, never.status), (204, 204));
    assert_eq!(back.status, 201);
    assert!(back.version().starts_with("3-pac."));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_chooses_what_an_answer_to_a_write_holds() {
    let node = Node::start().await;
    let put = async |prefer: &str| node.put("Patient/p1", PATIENT, &[("prefer", prefer)]).await;

    let minimal = put("return=minimal").await;
    let representation = put("return=representation").await;
    let outcome = put("return=OperationOutcome").await;
    let deleted =
        node.ask("DELETE", "/fhir/Patient/p1", &[("prefer", "return=OperationOutcome")], "").await;

    assert_eq!((minimal.status, minimal.text.as_str()), (201, ""));
    assert_eq!(minimal.header("preference-applied"), "return=minimal");
    assert_eq!(representation.json()["resourceType"], "Patient");
    insta::assert_snapshot!(outcome.shown());
    assert_eq!((deleted.status, &deleted.json()["resourceType"]), (200, &outcome_type()));
}

fn outcome_type() -> Value {
    Value::from("OperationOutcome")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_repeated_with_its_key_is_written_once() {
    let node = Node::start().await;
    let post = async |body: &str, key: &str| -> Reply {
        node.ask("POST", "/fhir/Patient", &[("idempotency-key", key)], body.to_owned()).await
    };
    let body = r#"{"resourceType":"Patient"}"#;

    let first = post(body, "k1").await;
    let retry = post(body, "k1").await;
    let other_key = post(body, "k2").await;
    let other_content = post(r#"{"resourceType":"Patient","active":true}"#, "k1").await;

    assert_eq!((first.status, retry.status), (201, 201));
    assert_eq!((first.header("location"), &first.text), (retry.header("location"), &retry.text));
    assert_ne!(first.header("location"), other_key.header("location"));
    assert_eq!(other_content.status, 422);
    assert_eq!(other_content.json()["issue"][0]["code"], "business-rule");
}
