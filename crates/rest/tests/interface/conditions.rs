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

#[tokio::test(flavor = "multi_thread")]
async fn criteria_are_any_search_and_strict() {
    let node = Node::start().await;
    let body = |family: &str| {
        format!(
            r#"{{"resourceType":"Patient","name":[{{"family":"{family}"}}],"birthDate":"1970-01-02"}}"#
        )
    };
    let create = async |criteria: &str, family: &str| {
        node.ask("POST", "/fhir/Patient", &[("if-none-exist", criteria)], body(family)).await
    };

    let created = create("family:exact=Doe&birthdate=1970-01-02", "Doe").await;
    let found = create("birthdate=1970-01-02&family:exact=Doe", "Doe").await;
    let other = create("family:exact=Roe", "Roe").await;
    let several = node.delete("Patient?birthdate=1970-01-02").await;
    let updated = node.put("Patient?family:exact=Roe&birthdate=lt1980", &body("Poe"), &[]).await;
    let deleted = node.delete("Patient?family=doe").await;

    let by_url = node.post("Patient?family:exact=Poe", &body("Poe")).await;
    let two = [("if-none-exist", "family=Roe")];
    let two = node.ask("POST", "/fhir/Patient?family=Poe", &two, body("Poe")).await;

    assert_eq!((by_url.status, by_url.place(), two.status), (200, other.place(), 400));
    assert_eq!((created.status, found.status, other.status), (201, 200, 201));
    assert_eq!(created.header("location"), found.header("location"));
    assert_eq!((several.status, updated.status, deleted.status), (412, 200, 204));
    assert_eq!(updated.place(), other.place());
    for (criteria, reason) in [
        ("gendre=male", "did you mean gender?"),
        ("family=Doe&_count=1", "_count"),
        ("birthdate=soon", "soon"),
        ("_text=Doe", "_text"),
    ] {
        let refused = create(criteria, "Doe").await;
        assert_eq!(refused.status, 400, "{criteria}");
        assert!(refused.text.contains(reason), "{}", refused.text);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn conditional_references_of_a_transaction_are_any_search() {
    let node = Node::start().await;
    let entry = |id: u8, resource: &str, url: &str| {
        format!(
            r#"{{"fullUrl":"urn:uuid:0000000{id}-0000-4000-8000-000000000000","resource":{resource},"request":{{"method":"POST","url":"{url}"}}}}"#
        )
    };
    let observation = r#"{"resourceType":"Observation","status":"final","code":{"text":"x"},"subject":{"reference":"Patient?family:exact=Doe&general-practitioner.identifier=n|1"}}"#;
    let bundle = format!(
        r#"{{"resourceType":"Bundle","type":"transaction","entry":[{},{}]}}"#,
        entry(
            1,
            r#"{"resourceType":"Practitioner","identifier":[{"system":"n","value":"1"}]}"#,
            "Practitioner"
        ),
        entry(2, observation, "Observation"),
    );
    let refused = node.post("", &bundle).await;
    let doctor = node
        .put("Practitioner/d1", r#"{"resourceType":"Practitioner","id":"d1","identifier":[{"system":"n","value":"1"}]}"#, &[])
        .await;
    let patient = node
        .put("Patient/p1", r#"{"resourceType":"Patient","id":"p1","name":[{"family":"Doe"}],"generalPractitioner":[{"reference":"Practitioner/d1"}]}"#, &[])
        .await;

    let accepted = node.post("", &bundle).await;

    assert_eq!((doctor.status, patient.status), (201, 201));
    assert_eq!((refused.status, accepted.status), (412, 200), "{}", accepted.text);
    let found = node.get("Observation?subject=Patient/p1").await;
    assert_eq!(found.json()["entry"].as_array().map(Vec::len), Some(1), "{}", found.text);
}
