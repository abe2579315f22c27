//! This module writes what a patient is given, and what the patient must not be given: medication
//! orders and administrations, immunizations, allergies.

use rand::Rng as _;
use serde_json::{Value, json};

use super::catalogue::{
    ALLERGIES, CHILDHOOD_VACCINES, CVX, Code, INFLUENZA, INTRAMUSCULAR, Medication, RXNORM,
    SERVICE_VACCINES, UCUM,
};
use super::chart::{Chart, concept, hl7, quantity, snomed, us_core, with};
use super::moment::Moment;

/// For how many days a lasting medication is dispensed at a time.
const SUPPLY_DAYS: i64 = 90;

/// An order, for so many days or for good.
pub(super) fn add_order(
    chart: &mut Chart,
    medication: &Medication,
    encounter: &Value,
    reason: &Value,
    at: Moment,
    days: Option<i64>,
) -> Value {
    let over = days.is_some_and(|days| !at.plus_days(days).is_ahead());
    let supply = days.unwrap_or(SUPPLY_DAYS);
    let doses = supply as f64 * f64::from(medication.times_a_day);
    let body = json!({
        "meta": us_core("medicationrequest"),
        "status": if over { "completed" } else { "active" },
        "intent": "order",
        "category": [hl7("medicationrequest-category", if days.is_some() { "outpatient" } else { "community" })],
        "medicationCodeableConcept": concept(RXNORM, medication.code),
        "subject": chart.patient,
        "encounter": encounter,
        "authoredOn": at.to_string(),
        "requester": chart.site.practitioner("family-1"),
        "reasonReference": [reason],
        "dosageInstruction": [{
            "text": instruction(medication),
            "timing": { "repeat": { "frequency": medication.times_a_day, "period": 1, "periodUnit": "d" } },
            "route": snomed(medication.route),
            "doseAndRate": [{ "doseQuantity": dose(medication, medication.dose) }],
        }],
        "dispenseRequest": {
            "numberOfRepeatsAllowed": if days.is_some() { 0 } else { 3 },
            "quantity": dose(medication, medication.dose * doses),
            "expectedSupplyDuration": with(quantity(supply as f64, "d"), json!({ "unit": "days" })),
        },
    });
    chart.add("MedicationRequest", &body)
}

/// One dose given in hospital.
pub(super) fn add_administration(
    chart: &mut Chart,
    medication: &Medication,
    encounter: &Value,
    order: &Value,
    at: Moment,
) {
    let body = json!({
        "status": "completed",
        "medicationCodeableConcept": concept(RXNORM, medication.code),
        "subject": chart.patient,
        "context": encounter,
        "effectiveDateTime": at.to_string(),
        "performer": [{ "actor": chart.site.practitioner("nurse") }],
        "request": order,
        "dosage": {
            "route": snomed(medication.route),
            "dose": dose(medication, medication.dose),
        },
    });
    chart.add("MedicationAdministration", &body);
}

/// One or two allergies, or the statement that none are known.
pub(super) fn add_allergies(chart: &mut Chart) {
    if chart.rng.random_bool(0.6) {
        let body = allergy(chart, ("716186003", "No known allergy (situation)"));
        chart.add("AllergyIntolerance", &body);
        return;
    }
    let first = chart.rng.random_range(0..ALLERGIES.len());
    let second = chart.rng.random_bool(0.3).then_some((first + 1) % ALLERGIES.len());
    for pick in std::iter::once(first).chain(second) {
        let (code, category, criticality, reaction) = ALLERGIES[pick];
        let more = json!({
            "type": "allergy",
            "category": [category],
            "criticality": criticality,
            "reaction": [{ "manifestation": [snomed(reaction)], "severity": if criticality == "high" { "severe" } else { "mild" } }],
        });
        let body = with(allergy(chart, code), more);
        chart.add("AllergyIntolerance", &body);
    }
}

fn allergy(chart: &Chart, code: Code) -> Value {
    let recorded = chart.born.plus_days(200);
    json!({
        "meta": us_core("allergyintolerance"),
        "clinicalStatus": hl7("allergyintolerance-clinical", "active"),
        "verificationStatus": hl7("allergyintolerance-verification", "confirmed"),
        "code": snomed(code),
        "patient": chart.patient,
        "recordedDate": recorded.to_string(),
        "recorder": chart.site.practitioner("family-1"),
    })
}

/// What children get at their ages, what is due abroad, and influenza in autumn.
pub(super) fn add_immunizations(chart: &mut Chart, first_visit_days_ago: i64) {
    let now = chart.site.now();
    if chart.age(now) < 18 {
        for (vaccine, day) in &CHILDHOOD_VACCINES {
            let at = chart.born.plus_days(*day).at(now, 10, 30);
            if !at.is_ahead() {
                add_immunization(chart, *vaccine, at);
            }
        }
    } else {
        let start = chart.rng.random_range(0..SERVICE_VACCINES.len());
        for offset in 0..2 {
            let at = chart.clinic_hours(first_visit_days_ago - offset);
            let vaccine =
                SERVICE_VACCINES[(start + usize::from(offset == 1)) % SERVICE_VACCINES.len()];
            add_immunization(chart, vaccine, at);
        }
    }
    for year in 1..=chart.rng.random_range(1..3) {
        let at = now.plus_days(20 - 365 * year).at(9, 0);
        if at.day() > chart.born {
            add_immunization(chart, INFLUENZA, at);
        }
    }
}

fn add_immunization(chart: &mut Chart, vaccine: Code, at: Moment) {
    let lot = chart.rng.random_range(10_000..100_000);
    let arm = if chart.rng.random_bool(0.5) { ("LA", "left arm") } else { ("RA", "right arm") };
    let body = json!({
        "meta": us_core("immunization"),
        "status": "completed",
        "vaccineCode": concept(CVX, vaccine),
        "patient": chart.patient,
        "occurrenceDateTime": at.to_string(),
        "primarySource": true,
        "location": chart.site.place("clinic"),
        "lotNumber": format!("L{lot}"),
        "site": concept("http://terminology.hl7.org/CodeSystem/v3-ActSite", arm),
        "route": snomed(INTRAMUSCULAR),
        "doseQuantity": quantity(0.5, "mL"),
        "performer": [{ "actor": chart.site.practitioner("nurse") }],
    });
    chart.add("Immunization", &body);
}

fn instruction(medication: &Medication) -> String {
    let Medication { dose, unit, times_a_day, .. } = medication;
    let often = match times_a_day {
        1 => "once a day".to_owned(),
        2 => "twice a day".to_owned(),
        times => format!("{times} times a day"),
    };
    format!("{dose} {unit} {often}")
}

/// A dose: units of UCUM by their code, countable ones as an annotation.
fn dose(medication: &Medication, value: f64) -> Value {
    let unit = medication.unit;
    let code = if matches!(unit, "mg" | "g") { unit.to_owned() } else { format!("{{{unit}}}") };
    with(quantity(value, unit), json!({ "system": UCUM, "code": code }))
}
