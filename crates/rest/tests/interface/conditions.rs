//! Requests that depend on what is there.

use crate::node::Node;

const PATIENT: &str = r#"{"resourceType":"Patient","id":"p1","active":true}"#;

#[tokio::test(flavor = "multi_thread")]
async fn an_update_with_a_stale_version_is_refused_and_told_what_stands() {
    let node = Node::start().await;
    let first = node.put("Patient/p1", PATIENT, &[]).await;
    let second = node.put("Patient/p1", PATIENT, &[("if-match", first.etag())]).await;

    let stale = node.put("Patient/p1", PATIENT, &[("if-match", first.etag())]).await;
    let fresh = node.put("Patient/p1", PATIENT, &[("if-match", second.version())]).await;
    let absent = node.put("Patient/p2", &with_id("p2"), &[("if-match", first.etag())]).await;
    let nonsense = node.put("Patient/p1", PATIENT, &[("if-match", "\"17\"")]).await;

    assert_eq!(second.status, 200);
    assert_eq!((stale.status, stale.header("chartmesh-conflict")), (412, second.etag()));
    assert!(stale.text.contains(second.version()), "{}", stale.text);
    assert_eq!((fresh.status, absent.status, nonsense.status), (200, 412, 412));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_may_demand_that_something_or_nothing_is_there() {
    let node = Node::start().await;

    let must_exist = node.put("Patient/p1", PATIENT, &[("if-match", "*")]).await;
    let must_not = node.put("Patient/p1", PATIENT, &[("if-none-match", "*")]).await;
    let must_not_again = node.put("Patient/p1", PATIENT, &[("if-none-match", "*")]).await;
    let stale =
        node.ask("DELETE", "/fhir/Patient/p1", &[("if-match", "W/\"9-pac.7h2k4m9qzx\"")], "").await;
    let deleted =
        node.ask("DELETE", "/fhir/Patient/p1", &[("if-match", must_not.etag())], "").await;

    assert_eq!((must_exist.status, must_not.status, must_not_again.status), (412, 201, 412));
    // A version of an origin that nobody has heard of may yet arrive.
    assert!(matches!(stale.status, 412 | 503), "{}", stale.status);
    assert_eq!(deleted.status, 204);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_holds_the_version_is_not_sent_it_again() {
    let node = Node::start().await;
    let put = node.put("Patient/p1", PATIENT, &[]).await;
    let modified = put.header("last-modified");
    let get = async |name: &str, value: &str| {
        node.ask("GET", "/fhir/Patient/p1", &[(name, value)], "").await
    };

    let same = get("if-none-match", put.etag()).await;
    let unquoted = get("if-none-match", put.version()).await;
    let other = get("if-none-match", "W/\"1\"").await;
    let since = get("if-modified-since", modified).await;
    let before = get("if-modified-since", "Thu, 01 Jan 1970 00:00:00 GMT").await;

    assert_eq!((same.status, same.text.as_str(), same.etag()), (304, "", put.etag()));
    assert_eq!((unquoted.status, other.status), (304, 200));
    assert_eq!((since.status, before.status), (304, 200));
}

#[tokio::test(flavor = "multi_thread")]
async fn conditional_writes_find_create_update_and_delete_by_identifier() {
    let node = Node::start().await;
    let body = r#"{"resourceType":"Patient","identifier":[{"system":"urn:s","value":"1"}]}"#;
    let criteria = "identifier=urn:s|1";
    let create =
        async || node.ask("POST", "/fhir/Patient", &[("if-none-exist", criteria)], body).await;

    let created = create().await;
    let found = create().await;
    let updated = node.put("Patient?identifier=urn:s%7C1", body, &[]).await;
    let made =
        node.put("Patient?identifier=urn:s%7C2", &body.replace(r#""1""#, r#""2""#), &[]).await;
    let deleted = node.delete("Patient?identifier=urn:s%7C1").await;
    let nothing = node.delete("Patient?identifier=urn:s%7C1").await;

    assert_eq!((created.status, found.status), (201, 200));
    assert_eq!(created.header("location"), found.header("location"));
    assert_eq!((updated.status, updated.place()), (200, created.place()));
    assert_eq!(made.status, 201);
    assert_ne!(made.place(), created.place());
    assert_eq!((deleted.status, nothing.status), (204, 204));
    assert_eq!(node.ask("GET", &created.place(), &[], "").await.status, 410);
}

#[tokio::test(flavor = "multi_thread")]
async fn criteria_that_match_several_are_refused() {
    let node = Node::start().await;
    let body = r#"{"resourceType":"Patient","identifier":[{"system":"urn:s","value":"1"}]}"#;
    node.post("Patient", body).await;
    node.post("Patient", body).await;

    let created =
        node.ask("POST", "/fhir/Patient", &[("if-none-exist", "identifier=urn:s|1")], body).await;
    let updated = node.put("Patient?identifier=urn:s|1", body, &[]).await;
    let deleted = node.delete("Patient?identifier=urn:s|1").await;

    for refused in [created, updated, deleted] {
        assert_eq!(refused.status, 412, "{}", refused.text);
        assert_eq!(refused.json()["issue"][0]["code"], "multiple-matches");
    }
}

fn with_id(id: &str) -> String {
    PATIENT.replace("p1", id)
}
