//! This module tells what happens when a patient sees the clinic, the emergency department or the
//! ward.

use rand::Rng as _;
use serde_json::{Value, json};

use super::catalogue::{
    ACUTE, ADMISSIONS, Code, EMERGENCIES, HOSPITAL_MEDICATIONS, ICD10, PANELS, Problem, SNOMED,
};
use super::chart::{Chart, Sex, coding, concept, hl7, loinc, quantity, snomed, us_core, with};
use super::moment::Moment;
use super::{laboratory, medicine};

/// What is measured at a bedside: LOINC, unit, usual range, digits after the point.
static VITAL_SIGNS: [(Code, &str, (f64, f64), u32); 4] = [
    (("8867-4", "Heart rate"), "/min", (58.0, 96.0), 0),
    (("9279-1", "Respiratory rate"), "/min", (12.0, 19.0), 0),
    (("8310-5", "Body temperature"), "Cel", (36.2, 37.4), 1),
    (("59408-5", "Oxygen saturation in Arterial blood by Pulse oximetry"), "%", (95.0, 100.0), 0),
];

/// One stay: when, where and with whom.
#[derive(Debug)]
struct Stay {
    class: Code,
    kind: Code,
    start: Moment,
    end: Moment,
    place: &'static str,
    practitioner: &'static str,
}

/// A visit of a patient to the clinic, with problems that are noted for the first time.
pub(super) fn ambulatory(chart: &mut Chart, at: Moment, new: &[&'static Problem]) {
    let stay = Stay {
        class: ("AMB", "ambulatory"),
        kind: ("185349003", "Encounter for check up (procedure)"),
        start: at,
        end: at.plus_minutes(30),
        place: "clinic",
        practitioner: if chart.age(at) < 18 { "pediatrics" } else { "family-1" },
    };
    let acute = chart.rng.random_bool(0.6).then(|| fitting(chart, &ACUTE, at));
    let encounter = add_encounter(chart, &stay, acute);
    for problem in new {
        let condition = add_condition(chart, problem, &encounter, at, None);
        if let Some(medication) = problem.medication {
            medicine::add_order(chart, medication, &encounter, &condition, at, None);
        }
    }
    if let Some(problem) = acute {
        let over = at.plus_days(chart.rng.random_range(5..15));
        let condition = add_condition(chart, problem, &encounter, at, Some(over));
        if let Some(medication) = problem.medication {
            medicine::add_order(chart, medication, &encounter, &condition, at, Some(7));
        }
    }
    add_vital_signs(chart, &encounter, at);
    add_body_measures(chart, &encounter, at);
    if chart.age(at) >= 18 || chart.rng.random_bool(0.3) {
        let panel = chart.any(&PANELS);
        laboratory::add_panel(chart, panel, &encounter, at);
    }
}

/// A night in the emergency department.
pub(super) fn emergency(chart: &mut Chart, at: Moment) {
    let stay = Stay {
        class: ("EMER", "emergency"),
        kind: ("50849002", "Emergency room admission (procedure)"),
        start: at,
        end: at.plus_minutes(chart.rng.random_range(90..400)),
        place: "emergency",
        practitioner: "emergency",
    };
    let problem = fitting(chart, &EMERGENCIES, at);
    let encounter = add_encounter(chart, &stay, Some(problem));
    let condition = add_condition(chart, problem, &encounter, at, Some(at.plus_days(10)));
    add_vital_signs(chart, &encounter, at.plus_minutes(5));
    laboratory::add_panel(chart, &PANELS[1], &encounter, at.plus_minutes(20));
    if let Some(medication) = problem.medication {
        let order = medicine::add_order(chart, medication, &encounter, &condition, at, Some(5));
        medicine::add_administration(chart, medication, &encounter, &order, at.plus_minutes(40));
    }
}

/// Some days on the ward; a stay that has not ended by the end of the records is in progress.
pub(super) fn inpatient(chart: &mut Chart, at: Moment) {
    let days = chart.rng.random_range(2..4);
    let stay = Stay {
        class: ("IMP", "inpatient encounter"),
        kind: ("32485007", "Hospital admission (procedure)"),
        start: at,
        end: at.plus_days(days),
        place: "ward",
        practitioner: "internal",
    };
    let problem = fitting(chart, &ADMISSIONS, at);
    let encounter = add_encounter(chart, &stay, Some(problem));
    let over = stay.end.plus_days(7);
    let condition = add_condition(chart, problem, &encounter, at, Some(over));
    laboratory::add_panel(chart, &PANELS[0], &encounter, at.plus_minutes(60));
    let medications: Vec<_> = HOSPITAL_MEDICATIONS.iter().take(2).collect();
    let orders: Vec<_> = medications
        .iter()
        .map(|medication| {
            medicine::add_order(chart, medication, &encounter, &condition, at, Some(days))
        })
        .collect();
    for hour in (2..days * 24).step_by(8) {
        let round = at.plus_minutes(hour * 60);
        if round.is_ahead() {
            break;
        }
        add_vital_signs(chart, &encounter, round);
        for (medication, order) in medications.iter().zip(&orders) {
            if medication.times_a_day > 1 || hour % 24 == 2 {
                medicine::add_administration(
                    chart,
                    medication,
                    &encounter,
                    order,
                    round.plus_minutes(10),
                );
            }
        }
    }
}

/// A short visit: an encounter with a problem, vital signs, body measures and a panel.
pub(super) fn short(chart: &mut Chart, at: Moment) {
    let stay = Stay {
        class: ("AMB", "ambulatory"),
        kind: ("185345009", "Encounter for symptom (procedure)"),
        start: at,
        end: at.plus_minutes(20),
        place: "clinic",
        practitioner: "family-2",
    };
    let problem = &ACUTE[0];
    let encounter = add_encounter(chart, &stay, Some(problem));
    add_condition(chart, problem, &encounter, at, None);
    add_vital_signs(chart, &encounter, at);
    add_body_measures(chart, &encounter, at);
    laboratory::add_panel(chart, &PANELS[0], &encounter, at);
}

/// A vital sign by itself.
pub(super) fn one_vital_sign(chart: &mut Chart, at: Moment) -> Value {
    let pick = chart.rng.random_range(0..=VITAL_SIGNS.len());
    match VITAL_SIGNS.get(pick) {
        Some(sign) => vital_sign(chart, sign, at),
        None => blood_pressure(chart, at),
    }
}

/// What is yet to come: an order for a check of the blood, the task to do it, and the appointment.
pub(super) fn add_open_order(chart: &mut Chart) {
    let ordered = chart.clinic_hours(3);
    let panel = chart.any(&PANELS);
    let order = laboratory::add_order(chart, panel, None, ordered, "active");
    laboratory::add_task(chart, &order, None, ordered, "requested");
    let start = chart.clinic_hours(-7);
    let participant =
        |actor: Value| json!({ "actor": actor, "required": "required", "status": "accepted" });
    let body = json!({
        "status": "booked",
        "serviceType": [{ "text": "Blood draw and follow-up" }],
        "description": panel.code.1,
        "start": start.to_string(),
        "end": start.plus_minutes(30).to_string(),
        "minutesDuration": 30,
        "created": ordered.to_string(),
        "basedOn": [order],
        "participant": [
            participant(chart.patient.clone()),
            participant(chart.site.practitioner("family-1")),
            participant(chart.site.place("clinic")),
        ],
    });
    chart.add("Appointment", &body);
}

/// One of these problems that fits the patient's age; the first fits everybody it is asked for.
fn fitting(chart: &mut Chart, problems: &'static [Problem], at: Moment) -> &'static Problem {
    let age = chart.age(at);
    let fitting: Vec<_> = problems
        .iter()
        .filter(|problem| (problem.from_age..=problem.to_age).contains(&age))
        .collect();
    if fitting.is_empty() { &problems[0] } else { chart.any::<&Problem>(&fitting) }
}

fn add_encounter(chart: &mut Chart, stay: &Stay, reason: Option<&Problem>) -> Value {
    let goes_on = stay.end.is_ahead();
    let mut period = json!({ "start": stay.start.to_string() });
    if !goes_on {
        period["end"] = json!(stay.end.to_string());
    }
    let participation = "http://terminology.hl7.org/CodeSystem/v3-ParticipationType";
    let number = chart.rng.random_range(10_000_000..100_000_000);
    let mut body = json!({
        "meta": us_core("encounter"),
        "identifier": [{ "system": format!("urn:chartmesh:generated:{}:visit", chart.site.id), "value": number.to_string() }],
        "status": if goes_on { "in-progress" } else { "finished" },
        "class": coding("http://terminology.hl7.org/CodeSystem/v3-ActCode", stay.class),
        "type": [snomed(stay.kind)],
        "subject": chart.patient,
        "participant": [{
            "type": [concept(participation, ("PPRF", "primary performer"))],
            "period": period,
            "individual": chart.site.practitioner(stay.practitioner),
        }],
        "period": period,
        "location": [{
            "location": chart.site.place(stay.place),
            "status": if goes_on { "active" } else { "completed" },
            "period": period,
        }],
        "serviceProvider": chart.site.organization(),
    });
    if let Some(problem) = reason {
        body["reasonCode"] = json!([snomed(problem.snomed)]);
    }
    if stay.class.0 == "IMP" {
        body["hospitalization"] = json!({ "admitSource": hl7("admit-source", "emd") });
        if !goes_on {
            body["hospitalization"]["dischargeDisposition"] = hl7("discharge-disposition", "home");
        }
    }
    chart.add("Encounter", &body)
}

fn add_condition(
    chart: &mut Chart,
    problem: &Problem,
    encounter: &Value,
    at: Moment,
    over: Option<Moment>,
) -> Value {
    let over = over.filter(|over| !over.is_ahead());
    let profile = if over.is_some() {
        "condition-encounter-diagnosis"
    } else {
        "condition-problems-health-concerns"
    };
    let category = if over.is_some() { "encounter-diagnosis" } else { "problem-list-item" };
    let mut body = json!({
        "meta": us_core(profile),
        "clinicalStatus": hl7("condition-clinical", if over.is_some() { "resolved" } else { "active" }),
        "verificationStatus": hl7("condition-ver-status", "confirmed"),
        "category": [hl7("condition-category", category)],
        "code": {
            "coding": [coding(SNOMED, problem.snomed), coding(ICD10, problem.icd10)],
            "text": problem.icd10.1,
        },
        "subject": chart.patient,
        "encounter": encounter,
        "onsetDateTime": at.to_string(),
        "recordedDate": at.to_string(),
        "recorder": chart.site.practitioner("family-1"),
    });
    if let Some(over) = over {
        body["abatementDateTime"] = json!(over.to_string());
    }
    chart.add("Condition", &body)
}

fn observation(chart: &Chart, code: Code, at: Moment) -> Value {
    json!({
        "status": "final",
        "category": [concept(
            "http://terminology.hl7.org/CodeSystem/observation-category",
            ("vital-signs", "Vital Signs"),
        )],
        "code": loinc(code),
        "subject": chart.patient,
        "effectiveDateTime": at.to_string(),
        "issued": at.plus_minutes(1).to_string(),
        "performer": [chart.site.practitioner("nurse")],
    })
}

fn vital_sign(
    chart: &mut Chart,
    &(code, unit, (low, high), digits): &(Code, &str, (f64, f64), u32),
    at: Moment,
) -> Value {
    let value = chart.number(low, high, digits);
    with(observation(chart, code, at), json!({ "valueQuantity": quantity(value, unit) }))
}

fn blood_pressure(chart: &mut Chart, at: Moment) -> Value {
    let systolic = chart.number(102.0, 148.0, 0);
    let diastolic = (systolic * 0.65 + chart.number(-6.0, 6.0, 0)).round();
    let component = |code: Code, value: f64| json!({ "code": loinc(code), "valueQuantity": quantity(value, "mm[Hg]") });
    let body = json!({
        "meta": us_core("blood-pressure"),
        "component": [
            component(("8480-6", "Systolic blood pressure"), systolic),
            component(("8462-4", "Diastolic blood pressure"), diastolic),
        ],
    });
    let panel = ("85354-9", "Blood pressure panel with all children optional");
    with(observation(chart, panel, at), body)
}

fn add_vital_signs(chart: &mut Chart, encounter: &Value, at: Moment) {
    let of_visit = || json!({ "encounter": encounter });
    let body = blood_pressure(chart, at);
    chart.add("Observation", &with(body, of_visit()));
    for sign in &VITAL_SIGNS {
        let body = vital_sign(chart, sign, at);
        chart.add("Observation", &with(body, of_visit()));
    }
}

/// Height, weight and body mass index, which agree with each other and with the patient's age.
fn add_body_measures(chart: &mut Chart, encounter: &Value, at: Moment) {
    let grown = if chart.sex == Sex::Female { 163.0 } else { 176.0 };
    let years = chart.age(at).clamp(0, 18) as f64;
    let height = 55.0 + (grown - 55.0) * (years / 18.0).sqrt() + chart.number(-4.0, 4.0, 1);
    let height = (height * 10.0).round() / 10.0;
    let index =
        if years < 18.0 { chart.number(15.0, 22.0, 1) } else { chart.number(20.0, 32.0, 1) };
    let weight = (index * height * height / 1000.0).round() / 10.0;
    let index = (weight * 100_000.0 / (height * height)).round() / 10.0;
    for (code, value, unit) in [
        (("8302-2", "Body height"), height, "cm"),
        (("29463-7", "Body weight"), weight, "kg"),
        (("39156-5", "Body mass index (BMI) [Ratio]"), index, "kg/m2"),
    ] {
        let more = json!({ "encounter": encounter, "valueQuantity": quantity(value, unit) });
        let body = with(observation(chart, code, at), more);
        chart.add("Observation", &body);
    }
}
