//! This module tells a patient's life as records: who it is, and the visits of the last years.

use rand::Rng as _;
use rand::rngs::StdRng;
use serde_json::{Value, json};

use super::catalogue::{CHRONIC, Code, FAMILIES, MEN, Problem, WOMEN};
use super::chart::{Chart, Naming, Sex, coding, concept, hl7, snomed, us_core};
use super::facility::payer;
use super::{medicine, visit};

/// The five years that the records cover, in days.
const RECORDED_DAYS: i64 = 5 * 365;

/// Races with their OMB codes.
const RACES: [Code; 5] = [
    ("2106-3", "White"),
    ("2054-5", "Black or African American"),
    ("2028-9", "Asian"),
    ("2076-8", "Native Hawaiian or Other Pacific Islander"),
    ("1002-5", "American Indian or Alaska Native"),
];

/// The chart of one patient.
pub(super) fn chart(rng: StdRng) -> Chart {
    let mut chart = Chart::new(rng, Naming::ByBundle);
    let name = name(&mut chart);
    add_patient(&mut chart, &name);
    add_coverage(&mut chart);
    add_care_team(&mut chart);
    medicine::add_allergies(&mut chart);
    let chronic = chronic_problems(&mut chart);
    let first_visit = add_visits(&mut chart, &chronic);
    medicine::add_immunizations(&mut chart, first_visit);
    visit::add_open_order(&mut chart);
    chart
}

struct Name {
    given: [&'static str; 2],
    family: &'static str,
}

fn name(chart: &mut Chart) -> Name {
    let pool = if chart.sex == Sex::Female { &WOMEN } else { &MEN };
    Name { given: [*chart.any(pool), *chart.any(pool)], family: chart.any::<&str>(&FAMILIES) }
}

fn add_patient(chart: &mut Chart, name: &Name) {
    let body = person(chart, name);
    let reference = chart.add("Patient", &body);
    chart.patient = json!({
        "reference": reference["reference"],
        "display": format!("{} {}", name.given[0], name.family),
    });
}

/// A patient as a resource by itself.
pub(super) fn alone(rng: StdRng) -> Value {
    let mut chart = Chart::new(rng, Naming::ByServer);
    let name = name(&mut chart);
    person(&mut chart, &name)
}

fn person(chart: &mut Chart, name: &Name) -> Value {
    let (gender, birth_sex, prefix) = match chart.sex {
        Sex::Female => ("female", "F", "Ms."),
        Sex::Male => ("male", "M", "Mr."),
    };
    let adult = chart.age(chart.site.now()) >= 18;
    let house = chart.rng.random_range(1..2000);
    let street =
        *chart.any(&["Birch Lane", "Falcon Loop", "Harbor Drive", "Ohana Street", "Palm Circle"]);
    let record = chart.rng.random_range(1_000_000..10_000_000);
    let card = chart.rng.random_range(1_000_000_000_u64..10_000_000_000);
    let phone = chart.rng.random_range(0..10_000);
    let mut body = json!({
        "meta": {
            "profile": ["http://hl7.org/fhir/us/core/StructureDefinition/us-core-patient"],
            "security": [coding("http://terminology.hl7.org/CodeSystem/v3-ActReason", ("HTEST", "test health data"))],
        },
        "extension": [race(chart), ethnicity(chart), {
            "url": "http://hl7.org/fhir/us/core/StructureDefinition/us-core-birthsex",
            "valueCode": birth_sex,
        }],
        "identifier": [{
            "use": "usual",
            "type": concept("http://terminology.hl7.org/CodeSystem/v2-0203", ("MR", "Medical record number")),
            "system": format!("urn:chartmesh:generated:{}", chart.site.id),
            "value": record.to_string(),
        }, {
            "use": "official",
            "type": concept("http://terminology.hl7.org/CodeSystem/v2-0203", ("MI", "Military ID number")),
            "system": "urn:oid:2.16.840.1.113883.3.42.10001.100001.12",
            "value": card.to_string(),
        }],
        "active": true,
        "name": [{ "use": "official", "family": name.family, "given": name.given, "prefix": [prefix] }],
        "telecom": [{ "system": "phone", "value": format!("555-01{}-{phone:04}", phone % 10), "use": "home" }],
        "gender": gender,
        "birthDate": chart.born.to_string(),
        "address": [{
            "use": "home",
            "line": [format!("{house} {street}")],
            "city": chart.site.city,
            "state": chart.site.state(),
            "postalCode": chart.site.postal,
            "country": "US",
        }],
        "communication": [{ "language": concept("urn:ietf:bcp:47", ("en-US", "English (United States)")) }],
        "generalPractitioner": [chart.site.practitioner("family-1")],
        "managingOrganization": chart.site.organization(),
    });
    if adult {
        let status = *chart.any(&["M", "S", "D"]);
        body["maritalStatus"] = hl7("v3-MaritalStatus", status);
        let given = name.given[0].to_lowercase();
        let email = format!("{given}.{}{record}@example.com", name.family.to_lowercase());
        if let Some(telecom) = body["telecom"].as_array_mut() {
            telecom.push(json!({ "system": "email", "value": email }));
        }
    }
    body
}

fn race(chart: &mut Chart) -> Value {
    let weighted = chart.rng.random_range(0..20);
    let code = RACES[[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 3, 3, 4][weighted]];
    omb("us-core-race", code)
}

fn ethnicity(chart: &mut Chart) -> Value {
    let hispanic = chart.rng.random_bool(0.2);
    let code = if hispanic {
        ("2135-2", "Hispanic or Latino")
    } else {
        ("2186-5", "Not Hispanic or Latino")
    };
    omb("us-core-ethnicity", code)
}

fn omb(extension: &str, code: Code) -> Value {
    json!({
        "url": format!("http://hl7.org/fhir/us/core/StructureDefinition/{extension}"),
        "extension": [
            { "url": "ombCategory", "valueCoding": coding("urn:oid:2.16.840.1.113883.6.238", code) },
            { "url": "text", "valueString": code.1 },
        ],
    })
}

fn add_coverage(chart: &mut Chart) {
    let member = chart.rng.random_range(100_000_000..1_000_000_000);
    let relationship = if chart.age(chart.site.now()) >= 18 { "self" } else { "child" };
    let start = chart.born.max(chart.site.now().day().plus_days(-RECORDED_DAYS));
    let body = json!({
        "meta": us_core("coverage"),
        "status": "active",
        "type": concept(
            "http://terminology.hl7.org/CodeSystem/v3-ActCode",
            ("MCPOL", "managed care policy"),
        ),
        "subscriberId": member.to_string(),
        "beneficiary": chart.patient,
        "relationship": hl7("subscriber-relationship", relationship),
        "period": { "start": start.to_string() },
        "payor": [payer()],
    });
    chart.add("Coverage", &body);
}

fn add_care_team(chart: &mut Chart) {
    let member = |role: Code, member: Value| json!({ "role": [snomed(role)], "member": member });
    let body = json!({
        "meta": us_core("careteam"),
        "status": "active",
        "name": "Primary care team",
        "subject": chart.patient,
        "participant": [
            member(("116154003", "Patient (person)"), chart.patient.clone()),
            member(("446050000", "Primary care provider (occupation)"), chart.site.practitioner("family-1")),
            member(("224535009", "Registered nurse (occupation)"), chart.site.practitioner("nurse")),
        ],
        "managingOrganization": [chart.site.organization()],
    });
    chart.add("CareTeam", &body);
}

/// Up to three problems that fit the patient's age; older people have more.
fn chronic_problems(chart: &mut Chart) -> Vec<&'static Problem> {
    let age = chart.age(chart.site.now());
    let fitting: Vec<_> = CHRONIC
        .iter()
        .filter(|problem| (problem.from_age..problem.to_age).contains(&age))
        .collect();
    let wanted = match age {
        0..18 => usize::from(chart.rng.random_bool(0.2)),
        18..46 => chart.rng.random_range(0..2),
        _ => chart.rng.random_range(1..4),
    };
    let mut problems = Vec::new();
    for _ in 0..wanted.min(fitting.len()) {
        let problem = *chart.any(&fitting);
        if !problems.iter().any(|had: &&Problem| had.snomed == problem.snomed) {
            problems.push(problem);
        }
    }
    problems
}

/// The visits of the recorded years, oldest first; the first comes back as days before now.
fn add_visits(chart: &mut Chart, chronic: &[&'static Problem]) -> i64 {
    let alive = chart.born.days_until(chart.site.now().day()) - 30;
    let mut days: Vec<i64> =
        (0..4).map(|_| chart.rng.random_range(20..RECORDED_DAYS.min(alive))).collect();
    days.sort_unstable();
    days.reverse();
    let first = days[0];
    for (number, &days_ago) in days.iter().enumerate() {
        let at = chart.clinic_hours(days_ago);
        let new_problems = if number == 0 { chronic } else { &[] };
        visit::ambulatory(chart, at, new_problems);
    }
    if chart.rng.random_bool(0.3) {
        let at = chart.clinic_hours(days[1]).plus_minutes(13 * 60);
        visit::emergency(chart, at);
    }
    match chart.rng.random_range(0..20) {
        0..3 => {
            let at = chart.clinic_hours(days[2] + 2).plus_minutes(7 * 60);
            visit::inpatient(chart, at);
        }
        3 => {
            let at = chart.site.now().plus_minutes(-40 * 60);
            visit::inpatient(chart, at);
        }
        _ => {}
    }
    first
}
