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
    let url = link["url"].as_str().unwrap().strip_prefix("http://a:1/fhir");
    Some(url.expect("a link begins with the base").trim_start_matches('/').to_owned())
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
    check("Patient?_id=p1,p2&_has:Observation:patient:code=b", &["Patient/p1"]).await;
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
            if url.is_none() {
                assert_eq!(backwards(&node, &reply).await, seen, "{query}");
            }
        }

        assert_eq!(seen.len(), 3, "{query}: {seen:?}");
        let accurate = query.contains("accurate");
        assert!(!accurate || totals.iter().all(|total| *total == Some(3)), "{totals:?}");
    }
}

/// All that is found from this page back to the first, which the links before it lead to, in order.
async fn backwards(node: &Node, last: &Reply) -> Vec<String> {
    let mut seen = entries(last);
    let mut url = link(last, "prev");
    while let Some(page) = url {
        let reply = node.get(&page).await;
        let next = node.get(&link(&reply, "next").unwrap()).await;
        assert_eq!(entries(&next).first(), seen.first(), "what comes next begins where it ended");
        seen.splice(0..0, entries(&reply));
        url = link(&reply, "prev");
    }
    seen
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

#[tokio::test(flavor = "multi_thread")]
async fn parts_of_what_is_found_may_be_left_out() {
    let node = filled().await;
    let resource = async |query: &str| {
        let reply = node.get(query).await;
        assert_eq!(reply.status, 200, "{}", reply.text);
        reply.json()["entry"][0]["resource"].clone()
    };

    let summary = resource("Patient?_id=p1&_summary=true").await;
    let elements = resource("Patient?_id=p1&_elements=gender").await;
    let text = resource("Observation?_id=o1&_summary=text").await;
    let whole = resource("Patient?_id=p1&_summary=false").await;

    assert_eq!(summary["meta"]["tag"][0]["code"], "SUBSETTED");
    assert!(summary["name"].is_array() && summary["generalPractitioner"].is_null(), "{summary}");
    assert_eq!((&elements["gender"], &elements["name"]), (&json!("male"), &Value::Null));
    assert_eq!(text["status"], "final", "what must be there stays");
    assert!(text["subject"].is_null() && whole["meta"]["tag"].is_null());
    let kept = node.get("Patient?_id=p1&_elements=gender&_count=1").await;
    assert_eq!(link(&kept, "self").unwrap(), "Patient?_id=p1&_elements=gender&_count=1");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_of_several_types_lacks_is_left_out_for_all() {
    let node = filled().await;

    let first = node.get("?_type=Patient,Observation&code=a&_count=4").await;
    let second = node.get(&link(&first, "next").unwrap()).await;

    assert_eq!(entries(&first).last().unwrap(), "outcome OperationOutcome/-");
    assert!(first.text.contains("Patient has no search parameter"), "{}", first.text);
    assert_eq!(link(&first, "self").unwrap(), "?_type=Patient%2CObservation&_count=4");
    let found = |reply: &Reply| entries(reply).iter().filter(|it| it.starts_with("match")).count();
    assert_eq!(found(&first) + found(&second), 5);
    let strict = [("prefer", "handling=strict")];
    let strict = node.ask("GET", "/fhir?_type=Observation,Patient&code=a", &strict, "").await;
    assert_eq!(strict.status, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn codes_are_sought_in_value_sets_and_resources_in_lists() {
    let node = filled().await;
    let value_set = json!({"resourceType": "ValueSet", "id": "v1", "url": "urn:vs", "status": "active",
        "compose": {"include": [{"system": "urn:c", "concept": [{"code": "a"}]}]}});
    let filtered = json!({"resourceType": "ValueSet", "id": "v2", "url": "urn:filtered",
        "status": "active", "compose": {"include": [{"valueSet": ["urn:vs"]}]}});
    let list = json!({"resourceType": "List", "id": "l1", "status": "current", "mode": "working",
        "entry": [{"item": {"reference": "Patient/p2"}}, {"item": {"reference": "Observation/o2"}}]});
    for (path, body) in [("ValueSet/v1", value_set), ("ValueSet/v2", filtered), ("List/l1", list)] {
        assert_eq!(node.put(path, &body.to_string(), &[]).await.status, 201);
    }
    let check = async |query: &str, expected: &[&str]| {
        let expected: Vec<_> = expected.iter().map(|it| format!("match {it}")).collect();
        assert_eq!(entries(&node.get(query).await), expected, "{query}");
    };

    check("Observation?code:in=urn:vs", &["Observation/o1", "Observation/o3"]).await;
    check("Observation?code:in=ValueSet/v1&patient=p1", &["Observation/o1"]).await;
    check("Observation?code:not-in=urn:vs", &["Observation/o2"]).await;
    check("Patient?_list=l1", &["Patient/p2"]).await;
    check("Observation?_list=List/l1", &["Observation/o2"]).await;
    check("Observation?_list=nothing", &[]).await;
    for (value_set, reason) in
        [("urn:nowhere", "not stored here"), ("urn:filtered", "not expanded")]
    {
        for how in ["in", "not-in"] {
            let reply = node.get(&format!("Observation?code:{how}={value_set}&patient=p9")).await;
            assert_eq!(reply.status, 400);
            assert!(reply.text.contains(reason), "{}", reply.text);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_of_a_patient_comes_with_what_it_refers_to() {
    let node = filled().await;
    let check = async |query: &str, expected: &[&str]| {
        assert_eq!(entries(&node.get(query).await), expected, "{query}");
    };

    check(
        "Patient/p1/$everything",
        &[
            "match Patient/p1",
            "match Observation/o1",
            "match Observation/o2",
            "include Practitioner/d1",
        ],
    )
    .await;
    check("Patient/p1/$everything?_type=Observation&start=2026-11-02", &["match Observation/o2"])
        .await;
    check("Patient/p1/$everything?_type=Observation&end=2026-11-02", &["match Observation/o1"])
        .await;
    check("Patient/p1/$everything?_type=Observation&_since=2126-11-02", &[]).await;
    assert_eq!(node.get("Patient/p9/$everything").await.status, 404);
    let page = node.get("Patient/p1/$everything?_count=2").await;
    assert_eq!(entries(&page)[..2], ["match Patient/p1", "match Observation/o1"]);
    assert_eq!(entries(&node.get(&link(&page, "next").unwrap()).await), ["match Observation/o2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_observations_of_each_code_are_told() {
    let node = filled().await;
    let earlier = observation("o0", "p1", "2026-10-01", "a").to_string();
    assert_eq!(node.put("Observation/o0", &earlier, &[]).await.status, 201);
    let check = async |query: &str, expected: &[&str]| {
        let expected: Vec<_> = expected.iter().map(|it| format!("match {it}")).collect();
        assert_eq!(entries(&node.get(query).await), expected, "{query}");
    };

    let codes = "code=urn:c%7Ca,urn:c%7Cb";
    check(&format!("Observation/$lastn?patient=p1&{codes}"), &["Observation/o1", "Observation/o2"])
        .await;
    check(
        &format!("Observation/$lastn?patient=p1&{codes}&max=2"),
        &["Observation/o1", "Observation/o0", "Observation/o2"],
    )
    .await;
    for query in
        ["Observation/$lastn", "Observation/$lastn?patient=p1", "Observation/$lastn?code=a"]
    {
        assert_eq!(node.get(query).await.status, 400, "{query}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn links_begin_with_what_a_proxy_was_asked_for() {
    let node = filled().await;
    let forwarded = [("x-forwarded-proto", "https"), ("x-forwarded-host", "ehr.example.mil")];

    let reply = node.ask("GET", "/fhir/Patient?_id=p1", &forwarded, "").await;

    let bundle = reply.json();
    assert_eq!(bundle["link"][0]["url"], "https://ehr.example.mil/fhir/Patient?_id=p1&_count=50");
    assert_eq!(bundle["entry"][0]["fullUrl"], "https://ehr.example.mil/fhir/Patient/p1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_may_search() {
    let node = filled().await;
    let get = |url: &str| json!({"request": {"method": "GET", "url": url}});
    let batch = json!({"resourceType": "Bundle", "type": "batch", "entry": [
        get("Observation?patient=p1&_count=1"),
        get("Patient/p1/$everything?_type=Patient"),
        get("Patient?gender=none&birthdate=soon"),
        get("metadata"),
        get("nothing/here"),
    ]});

    let reply = node.post("", &batch.to_string()).await;

    assert_eq!(reply.status, 200, "{}", reply.text);
    let answers = reply.json()["entry"].as_array().unwrap().clone();
    let status = |at: usize| answers[at]["response"]["status"].as_str().unwrap()[..3].to_owned();
    assert_eq!(answers[0]["resource"]["entry"][0]["resource"]["id"], "o1");
    assert_eq!(answers[1]["resource"]["entry"][0]["resource"]["id"], "p1");
    assert_eq!(answers[3]["resource"]["resourceType"], "CapabilityStatement");
    assert_eq!([0, 1, 2, 3, 4].map(status), ["200", "200", "400", "200", "404"]);
}
