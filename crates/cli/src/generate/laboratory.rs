//! This module orders laboratory panels, has them done and reports the results.

use rand::Rng as _;
use serde_json::{Value, json};

use super::catalogue::{Analyte, Panel};
use super::chart::{Chart, concept, loinc, quantity, snomed, us_core, with};
use super::moment::Moment;

/// How often a value lies outside its reference range.
const ABNORMAL: f64 = 0.12;

/// A panel from the order to the report.
pub(super) fn add_panel(chart: &mut Chart, panel: &Panel, encounter: &Value, at: Moment) {
    let order = add_order(chart, panel, Some(encounter), at, "completed");
    add_task(chart, &order, Some(encounter), at, "completed");
    let drawn = at.plus_minutes(15);
    let results: Vec<_> = panel
        .analytes
        .iter()
        .map(|analyte| add_result(chart, analyte, &order, encounter, drawn))
        .collect();
    let body = json!({
        "meta": us_core("diagnosticreport-lab"),
        "basedOn": [order],
        "status": "final",
        "category": [concept("http://terminology.hl7.org/CodeSystem/v2-0074", ("LAB", "Laboratory"))],
        "code": loinc(panel.code),
        "subject": chart.patient,
        "encounter": encounter,
        "effectiveDateTime": drawn.to_string(),
        "issued": drawn.plus_minutes(95).to_string(),
        "performer": [chart.site.organization()],
        "result": results,
    });
    chart.add("DiagnosticReport", &body);
}

/// The order for a panel.
pub(super) fn add_order(
    chart: &mut Chart,
    panel: &Panel,
    encounter: Option<&Value>,
    at: Moment,
    status: &str,
) -> Value {
    let body = json!({
        "meta": us_core("servicerequest"),
        "status": status,
        "intent": "order",
        "category": [snomed(("108252007", "Laboratory procedure"))],
        "priority": "routine",
        "code": loinc(panel.code),
        "subject": chart.patient,
        "occurrenceDateTime": at.to_string(),
        "authoredOn": at.to_string(),
        "requester": chart.site.practitioner("family-1"),
        "performer": [chart.site.organization()],
        "locationReference": [chart.site.place("laboratory")],
    });
    chart.add("ServiceRequest", &in_encounter(body, encounter))
}

/// The task of the laboratory to do what is ordered.
pub(super) fn add_task(
    chart: &mut Chart,
    order: &Value,
    encounter: Option<&Value>,
    at: Moment,
    status: &str,
) {
    let mut body = json!({
        "basedOn": [order],
        "status": status,
        "intent": "order",
        "priority": "routine",
        "code": concept("http://hl7.org/fhir/CodeSystem/task-code", ("fulfill", "Fulfill the focal request")),
        "focus": order,
        "for": chart.patient,
        "authoredOn": at.to_string(),
        "lastModified": at.to_string(),
        "requester": chart.site.practitioner("family-1"),
        "owner": chart.site.organization(),
        "location": chart.site.place("laboratory"),
    });
    if status == "completed" {
        let end = at.plus_minutes(110).to_string();
        body["lastModified"] = json!(end);
        body["executionPeriod"] = json!({ "start": at.plus_minutes(15).to_string(), "end": end });
    }
    chart.add("Task", &in_encounter(body, encounter));
}

fn add_result(
    chart: &mut Chart,
    analyte: &Analyte,
    order: &Value,
    encounter: &Value,
    at: Moment,
) -> Value {
    let Analyte { code, unit, low, high, digits } = *analyte;
    let span = high - low;
    let (value, flag) = if chart.rng.random_bool(ABNORMAL) {
        (chart.number(high + 0.05 * span, high + 0.5 * span, digits), ("H", "High"))
    } else {
        (chart.number(low, high, digits), ("N", "Normal"))
    };
    let interpretation = "http://terminology.hl7.org/CodeSystem/v3-ObservationInterpretation";
    let body = json!({
        "meta": us_core("observation-lab"),
        "basedOn": [order],
        "status": "final",
        "category": [concept(
            "http://terminology.hl7.org/CodeSystem/observation-category",
            ("laboratory", "Laboratory"),
        )],
        "code": loinc(code),
        "subject": chart.patient,
        "encounter": encounter,
        "effectiveDateTime": at.to_string(),
        "issued": at.plus_minutes(90).to_string(),
        "performer": [chart.site.organization()],
        "valueQuantity": quantity(value, unit),
        "interpretation": [concept(interpretation, flag)],
        "referenceRange": [{ "low": quantity(low, unit), "high": quantity(high, unit) }],
    });
    let reference = chart.add("Observation", &body);
    with(reference, json!({ "display": code.1 }))
}

fn in_encounter(body: Value, encounter: Option<&Value>) -> Value {
    match encounter {
        Some(encounter) => with(body, json!({ "encounter": encounter })),
        None => body,
    }
}
