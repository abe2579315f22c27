//! This module checks what is generated: that it repeats, that it is about as large as promised,
//! and that all of it fits together.

use std::collections::{BTreeMap, HashSet};

use serde_json::Value;

use super::*;

fn parsed(bundle: &Bundle) -> Value {
    serde_json::from_slice(&bundle.content).unwrap()
}

fn entries(bundle: &Value) -> &Vec<Value> {
    bundle["entry"].as_array().unwrap()
}

/// Every value of a member `reference`, and every text under a member that ends in a time.
fn collect<'a>(value: &'a Value, references: &mut Vec<&'a str>, times: &mut Vec<&'a str>) {
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                match value.as_str() {
                    Some(text) if name == "reference" => references.push(text),
                    Some(text)
                        if text.len() >= 10
                            && text[4..].starts_with('-')
                            && text[7..].starts_with('-') =>
                    {
                        times.push(text);
                    }
                    _ => collect(value, references, times),
                }
            }
        }
        Value::Array(elements) => elements.iter().for_each(|e| collect(e, references, times)),
        _ => {}
    }
}

#[test]
fn the_same_seed_gives_the_same_bytes_and_a_patient_does_not_depend_on_the_others() {
    let population = |seed, patients| Population { seed, patients }.bundles().collect::<Vec<_>>();

    assert_eq!(population(7, 5), population(7, 5));
    assert_eq!(population(7, 5)[..3], population(7, 2));
    assert_ne!(population(7, 1)[1], population(8, 1)[1]);
    assert_eq!(population(7, 0), population(8, 0));
}

#[test]
fn every_reference_is_to_something_in_the_bundle_or_in_the_shared_one() {
    let mut shared = HashSet::new();
    for bundle in (Population { seed: 1, patients: 60 }).bundles() {
        let bundle_value = parsed(&bundle);
        let mut own = HashSet::new();
        for entry in entries(&bundle_value) {
            let url = entry["request"]["url"].as_str().unwrap();
            assert_eq!(entry["request"]["method"], "PUT");
            let resource = &entry["resource"];
            let kind = resource["resourceType"].as_str().unwrap();
            assert_eq!(url, format!("{kind}/{}", resource["id"].as_str().unwrap()));
            let fresh = match entry["fullUrl"].as_str() {
                Some(full_url) => own.insert(full_url.to_owned()),
                None => shared.insert(url.to_owned()),
            };
            assert!(fresh, "{url} occurs twice");
        }
        let (mut references, mut times) = (Vec::new(), Vec::new());
        collect(&bundle_value, &mut references, &mut times);
        for reference in references {
            assert!(own.contains(reference) || shared.contains(reference), "{reference}");
        }
    }
}

#[test]
fn nothing_happens_before_birth_and_only_appointments_lie_ahead() {
    for bundle in (Population { seed: 2, patients: 200 }).bundles().skip(1) {
        let bundle = parsed(&bundle);
        let born = entries(&bundle)[0]["resource"]["birthDate"].as_str().unwrap();
        for entry in entries(&bundle) {
            let mut times = Vec::new();
            collect(&entry["resource"], &mut Vec::new(), &mut times);
            let last = if entry["resource"]["resourceType"] == "Appointment" {
                "2026-10-09"
            } else {
                "2026-10-02"
            };
            for time in times {
                assert!(&time[..10] >= born, "{time} before {born}: {entry}");
                assert!(&time[..10] < last, "{time}: {entry}");
            }
        }
    }
}

#[test]
fn a_patient_has_about_a_hundred_resources_of_all_the_types() {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let patients = 400;
    for bundle in (Population { seed: 3, patients }).bundles().skip(1) {
        for entry in entries(&parsed(&bundle)) {
            *counts
                .entry(entry["resource"]["resourceType"].as_str().unwrap().to_owned())
                .or_default() += 1;
        }
    }

    let kinds: Vec<_> = counts.keys().map(String::as_str).collect();
    let expected = [
        "AllergyIntolerance",
        "Appointment",
        "CareTeam",
        "Condition",
        "Coverage",
        "DiagnosticReport",
        "Encounter",
        "Immunization",
        "MedicationAdministration",
        "MedicationRequest",
        "Observation",
        "Patient",
        "ServiceRequest",
        "Task",
    ];
    assert_eq!(kinds, expected);
    let mean = counts.values().sum::<usize>() / usize::try_from(patients).unwrap();
    assert!((85..=115).contains(&mean), "{mean} resources a patient: {counts:?}");
}

#[test]
fn a_visit_and_a_vital_sign_belong_to_the_patient_they_are_asked_for() {
    let visit: Value = serde_json::from_slice(&visit(1, 2, "Patient/x")).unwrap();
    let count = entries(&visit).len();
    assert!((18..=24).contains(&count), "{count}");
    assert!(entries(&visit).iter().all(|entry| entry["request"]["method"] == "POST"));

    let sign: Value = serde_json::from_slice(&vital_sign(1, 2, "Patient/x", Some("o-1"))).unwrap();
    assert_eq!((&sign["id"], &sign["subject"]["reference"]), (&"o-1".into(), &"Patient/x".into()));
    assert_ne!(vital_sign(1, 2, "Patient/x", None), vital_sign(1, 3, "Patient/x", None));
}

#[test]
fn every_resource_is_one_that_a_node_accepts() {
    let bundles = (Population { seed: 5, patients: 40 }).bundles().map(|bundle| bundle.content);
    for bundle in bundles.chain([visit(1, 1, "Patient/x")]) {
        let bundle: Value = serde_json::from_slice(&bundle).unwrap();
        for entry in entries(&bundle) {
            let text = entry["resource"].to_string();
            if let Err(reason) = chartmesh_record::Resource::parse(text.as_bytes()) {
                panic!("{reason:?}: {text}");
            }
        }
    }
    assert!(chartmesh_record::Resource::parse(&vital_sign(1, 1, "Patient/x", None)).is_ok());
}
