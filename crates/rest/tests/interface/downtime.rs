//! The first questions of a downtime: who is on the ward, who comes today, what was given, what is
//! ordered, what has nobody answered.

use serde_json::{Value, json};

use crate::node::Node;

async fn holding(resources: &[Value]) -> Node {
    let node = Node::start().await;
    for resource in resources {
        let path = format!("{}/{}", text(&resource["resourceType"]), text(&resource["id"]));
        let reply = node.put(&path, &resource.to_string(), &[]).await;
        assert_eq!(reply.status, 201, "{}", reply.text);
    }
    node
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

/// The ids that are found, in the order of the answer, matches first.
async fn ids(node: &Node, query: &str) -> Vec<String> {
    let strict = [("prefer", "handling=strict")];
    let reply = node.ask("GET", &format!("/fhir/{query}"), &strict, "").await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    let entries = reply.json()["entry"].as_array().cloned().unwrap_or_default();
    entries.iter().map(|entry| text(&entry["resource"]["id"]).to_owned()).collect()
}

fn refers(to: &str) -> Value {
    json!({"reference": to})
}

#[tokio::test(flavor = "multi_thread")]
async fn the_census_of_a_ward_is_its_open_encounters_with_their_patients() {
    let encounter = |id: &str, status: &str, ward: &str, patient: &str| {
        json!({"resourceType": "Encounter", "id": id, "status": status, "class": {"code": "IMP"},
            "subject": refers(patient), "location": [{"location": refers(ward), "status": "active"}]})
    };
    let node = holding(&[
        json!({"resourceType": "Patient", "id": "p1"}),
        json!({"resourceType": "Patient", "id": "p2"}),
        encounter("e1", "in-progress", "Location/ward-4", "Patient/p1"),
        encounter("e2", "finished", "Location/ward-4", "Patient/p2"),
        encounter("e3", "in-progress", "Location/ward-5", "Patient/p2"),
    ])
    .await;

    let census = "Encounter?location=Location/ward-4&status=in-progress&_include=Encounter:patient";
    assert_eq!(ids(&node, census).await, ["e1", "p1"]);
    let patients = "Patient?_has:Encounter:patient:location=ward-5";
    assert_eq!(ids(&node, patients).await, ["p2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_of_a_day_is_its_appointments_at_a_location_by_time() {
    let appointment = |id: &str, start: &str, end: &str, place: &str| {
        json!({"resourceType": "Appointment", "id": id, "status": "booked", "start": start, "end": end,
            "participant": [{"actor": refers(place), "status": "accepted"}]})
    };
    let (late, noon) = ("2026-11-30T15:00:00Z", "2026-11-30T12:00:00Z");
    let node = holding(&[
        appointment("a1", late, "2026-11-30T15:30:00Z", "Location/clinic"),
        appointment("a2", noon, "2026-11-30T12:30:00Z", "Location/clinic"),
        appointment("a3", noon, "2026-11-30T12:30:00Z", "Location/elsewhere"),
        appointment("a4", "2026-12-01T12:00:00Z", "2026-12-01T12:30:00Z", "Location/clinic"),
    ])
    .await;

    let today = "Appointment?location=Location/clinic&date=2026-11-30&_sort=date";
    assert_eq!(ids(&node, today).await, ["a2", "a1"]);
    let actor = "Appointment?actor=Location/clinic&date=ge2026-11-30&_sort=-date";
    assert_eq!(ids(&node, actor).await, ["a4", "a1", "a2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_given_is_found_by_when_it_was() {
    let given = |id: &str, at: Value| {
        let mut resource = json!({"resourceType": "MedicationAdministration", "id": id,
            "status": "completed", "medicationCodeableConcept": {"text": "m"},
            "subject": refers("Patient/p1")});
        resource.as_object_mut().unwrap().extend(at.as_object().unwrap().clone());
        resource
    };
    let drip = json!({"start": "2026-11-29T22:00:00Z", "end": "2026-11-30T02:00:00Z"});
    let node = holding(&[
        given("g1", json!({"effectiveDateTime": "2026-11-30T08:00:00Z"})),
        given("g2", json!({"effectiveDateTime": "2026-11-29T08:00:00Z"})),
        given("g3", json!({"effectivePeriod": drip})),
    ])
    .await;

    let since =
        "MedicationAdministration?patient=p1&effective-time=ge2026-11-30T01:00:00Z&_sort=_id";
    assert_eq!(ids(&node, since).await, ["g1", "g3"]);
    let before = "MedicationAdministration?patient=p1&effective-time=lt2026-11-30&_sort=_id";
    assert_eq!(ids(&node, before).await, ["g2", "g3"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn open_orders_are_found_by_who_is_to_carry_them_out() {
    let order = |id: &str, status: &str, performer: &str| {
        json!({"resourceType": "ServiceRequest", "id": id, "status": status, "intent": "order",
            "subject": refers("Patient/p1"), "performer": [refers(performer)]})
    };
    let node = holding(&[
        order("o1", "active", "Organization/lab"),
        order("o2", "completed", "Organization/lab"),
        order("o3", "active", "Organization/imaging"),
        order("o4", "on-hold", "Organization/lab"),
    ])
    .await;

    let open = "ServiceRequest?performer=Organization/lab&status=active,on-hold&intent=order";
    assert_eq!(ids(&node, open).await, ["o1", "o4"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_that_nobody_has_answered_are_found_by_who_asked() {
    let task = |id: &str, status: &str, requester: &str, authored: &str| {
        json!({"resourceType": "Task", "id": id, "status": status, "intent": "order",
            "authoredOn": authored, "requester": refers(requester), "for": refers("Patient/p1")})
    };
    let node = holding(&[
        task("t1", "requested", "Practitioner/d1", "2026-11-29T10:00:00Z"),
        task("t2", "accepted", "Practitioner/d1", "2026-11-29T11:00:00Z"),
        task("t3", "requested", "Practitioner/d2", "2026-11-29T12:00:00Z"),
        task("t4", "received", "Practitioner/d1", "2026-11-28T10:00:00Z"),
    ])
    .await;

    let unanswered = "Task?requester=Practitioner/d1&status=requested,received&_sort=authored-on";
    assert_eq!(ids(&node, unanswered).await, ["t4", "t1"]);
}
