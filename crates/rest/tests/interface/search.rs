//! Searches, over a type, over several and within a compartment.

use serde_json::{Value, json};

use crate::client::Reply;
use crate::node::Node;

/// Two patients and what belongs to the first.
async fn filled() -> Node {
    let node = Node::start().await;
    for (path, body) in [
        (
            "Patient/p1",
            json!({"resourceType": "Patient", "id": "p1", "gender": "male", "birthDate": "1970-01-02",
            "name": [{"family": "Müller", "given": ["Ève"]}], "generalPractitioner": [{"reference": "Practitioner/d1"}]}),
        ),
        (
            "Patient/p2",
            json!({"resourceType": "Patient", "id": "p2", "gender": "female", "active": true}),
        ),
        ("Practitioner/d1", json!({"resourceType": "Practitioner", "id": "d1"})),
        ("Observation/o1", observation("o1", "p1", "2026-11-01", "a")),
        ("Observation/o2", observation("o2", "p1", "2026-11-03", "b")),
        ("Observation/o3", observation("o3", "p2", "2026-11-02", "a")),
    ] {
        let reply = node.put(path, &body.to_string(), &[]).await;
        assert_eq!(reply.status, 201, "{}", reply.text);
    }
    node
}

fn observation(id: &str, patient: &str, date: &str, code: &str) -> Value {
    json!({"resourceType": "Observation", "id": id, "status": "final", "effectiveDateTime": date,
        "code": {"coding": [{"system": "urn:c", "code": code, "display": "Body weight"}]},
        "subject": {"reference": format!("Patient/{patient}")}})
}

/// The resources of a searchset, each with how it got there.
fn entries(reply: &Reply) -> Vec<String> {
    assert_eq!(reply.status, 200, "{}", reply.text);
    let bundle = reply.json();
    let entries = bundle["entry"].as_array().cloned().unwrap_or_default();
    let shown = entries.iter().map(|entry| {
        let (resource, mode) = (&entry["resource"], entry["search"]["mode"].as_str().unwrap());
        let id = resource["id"].as_str().unwrap_or("-");
        format!("{mode} {}/{id}", resource["resourceType"].as_str().unwrap())
    });
    shown.collect()
}

fn link(reply: &Reply, relation: &str) -> Option<String> {
    let bundle = reply.json();
    let links = bundle["link"].as_array().unwrap();
    let link = links.iter().find(|link| link["relation"] == relation)?;
    let url = link["url"].as_str().unwrap().strip_prefix("http://a:1/fhir/");
    Some(url.expect("a link begins with the base").to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_sort_of_parameter_finds_what_is_meant() {
    let node = filled().await;
    let check = async |query: &str, expected: &[&str]| {
        let expected: Vec<_> = expected.iter().map(|it| format!("match {it}")).collect();
        assert_eq!(entries(&node.get(query).await), expected, "{query}");
    };

    check("Patient?gender=male", &["Patient/p1"]).await;
    check("Patient?gender=http://hl7.org/fhir/administrative-gender%7Cmale", &["Patient/p1"]).await;
    check("Patient?gender=urn:other%7Cmale", &[]).await;
    check("Patient?gender:not=male", &["Patient/p2"]).await;
    check("Patient?family=mull", &["Patient/p1"]).await;
    check("Patient?family:exact=Muller", &[]).await;
    check("Patient?name:contains=VE", &["Patient/p1"]).await;
    check("Patient?birthdate=lt1980&gender=male,female", &["Patient/p1"]).await;
    check("Patient?birthdate:missing=true", &["Patient/p2"]).await;
    check("Patient?active=true", &["Patient/p2"]).await;
    check("Patient?deceased=false", &["Patient/p1", "Patient/p2"]).await;
    check("Patient?_id=p2,p3", &["Patient/p2"]).await;
    check("Observation?code=urn:c%7Ca&patient=p1", &["Observation/o1"]).await;
    check("Observation?subject=Patient/p1&date=ge2026-11-02", &["Observation/o2"]).await;
    check("Observation?subject=http://a:1/fhir/Patient/p2", &["Observation/o3"]).await;
    check("Observation?code:text=body", &["Observation/o1", "Observation/o2", "Observation/o3"])
        .await;
    check("Observation?patient.family=Müller&_sort=-date", &["Observation/o2", "Observation/o1"])
        .await;
    check("Observation?subject:Patient._id=p2", &["Observation/o3"]).await;
    check("Patient?_has:Observation:patient:code=b", &["Patient/p1"]).await;
    check("Patient/p1/Observation", &["Observation/o1", "Observation/o2"]).await;
    check(
        "Patient/p1/*?_type=Observation,Patient",
        &["Observation/o1", "Observation/o2", "Patient/p1"],
    )
    .await;
    check("?_type=Patient,Practitioner&_id=d1,p1", &["Patient/p1", "Practitioner/d1"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_deleted_or_changed_is_not_found_any_more() {
    let node = filled().await;

    node.delete("Observation/o1").await;
    node.put("Observation/o2", &observation("o2", "p2", "2026-11-03", "a").to_string(), &[]).await;

    assert_eq!(entries(&node.get("Observation?patient=p1").await), [""; 0]);
    let codes = entries(&node.get("Observation?code=a").await);
    assert_eq!(codes, ["match Observation/o2", "match Observation/o3"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_follow_each_other_by_links_with_each_match_once() {
    let node = filled().await;
    for query in [
        "Observation?_count=1",
        "Observation?_count=1&_sort=-date&_total=accurate",
        "Patient/p1/*?_count=1",
        "Patient/p1/*?_count=1&_total=accurate",
    ] {
        let (mut url, mut seen, mut totals) = (Some(query.to_owned()), Vec::new(), Vec::new());
        while let Some(page) = url {
            let reply = node.get(&page).await;
            seen.extend(entries(&reply));
            totals.push(reply.json()["total"].as_u64());
            assert_eq!(entries(&node.get(&link(&reply, "self").unwrap()).await), entries(&reply));
            url = link(&reply, "next");
        }

        assert_eq!(seen.len(), 3, "{query}: {seen:?}");
        let accurate = query.contains("accurate");
        assert!(!accurate || totals.iter().all(|total| *total == Some(3)), "{totals:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_search_may_be_posted() {
    let node = filled().await;
    let form = [("content-type", "application/x-www-form-urlencoded")];

    let posted =
        node.ask("POST", "/fhir/Observation/_search?patient=p1", &form, "code=b&_count=5").await;
    let json = node
        .ask("POST", "/fhir/Observation/_search", &[("content-type", "application/json")], "{}")
        .await;
    let within = node.ask("POST", "/fhir/Patient/p1/Observation/_search", &form, "code=a").await;

    assert_eq!(entries(&posted), ["match Observation/o2"]);
    let again = link(&posted, "self").unwrap();
    assert_eq!(again, "Observation?patient=p1&code=b&_count=5");
    assert_eq!(json.status, 415);
    assert_eq!(entries(&within), ["match Observation/o1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_belongs_to_matches_comes_along() {
    let node = filled().await;
    let check = async |query: &str, expected: &[&str]| {
        assert_eq!(entries(&node.get(query).await), expected, "{query}");
    };

    check(
        "Observation?_id=o1&_include=Observation:patient",
        &["match Observation/o1", "include Patient/p1"],
    )
    .await;
    check(
        "Observation?_id=o1&_include=Observation:*",
        &["match Observation/o1", "include Patient/p1"],
    )
    .await;
    check("Observation?_id=o1&_include=Observation:subject:Group", &["match Observation/o1"]).await;
    check(
        "Observation?_id=o1&_include=Observation:patient&_include:iterate=Patient:general-practitioner",
        &["match Observation/o1", "include Patient/p1", "include Practitioner/d1"],
    )
    .await;
    check(
        "Patient?_id=p1&_revinclude=Observation:patient",
        &["match Patient/p1", "include Observation/o1", "include Observation/o2"],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_understood_is_told_or_refused_if_the_client_is_strict() {
    let node = filled().await;

    let lenient = node.get("Patient?gendre=male&_id=p1").await;
    let strict = [("prefer", "handling=strict")];
    let strict = node.ask("GET", "/fhir/Patient?gendre=male&_id=p1", &strict, "").await;

    assert_eq!(entries(&lenient), ["match Patient/p1", "outcome OperationOutcome/-"]);
    assert!(lenient.text.contains("did you mean gender?"), "{}", lenient.text);
    assert_eq!(link(&lenient, "self").unwrap(), "Patient?_id=p1&_count=50");
    assert_eq!(strict.status, 400);
    assert!(strict.text.contains("gendre") && strict.text.contains("gender"), "{}", strict.text);
    for query in [
        "Patient?birthdate=yesterday",
        "Observation?date=xx2010",
        "Observation?value-quantity=heavy",
        "Observation?code-value-quantity=a",
        "Patient?_count=many",
        "Patient?_include=Patient:nonsense",
        "Patient?page=nonsense",
        "Patient?birthdate:missing=maybe",
        "?_type=Nonsense",
    ] {
        let reply = node.get(query).await;
        assert!(matches!(reply.status, 400 | 404), "{query}: {}", reply.status);
        assert!(reply.text.contains("OperationOutcome"), "{query}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_count_alone_says_how_many_there_are() {
    let node = filled().await;

    let counted = node.get("Observation?patient=p1&_summary=count").await;
    let none = node.get("Observation?_count=0").await;

    let shown = counted.json();
    assert_eq!((shown["total"].as_u64(), shown.get("entry")), (Some(2), None));
    assert_eq!(none.json()["total"], 3);
    assert_eq!(link(&none, "next"), None);
}
