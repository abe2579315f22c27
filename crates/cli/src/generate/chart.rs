//! This module collects the resources of one patient into a transaction bundle.

use bytes::Bytes;
use rand::Rng;
use rand::rngs::StdRng;
use serde_json::{Map, Value, json};

use super::catalogue::{Code, LOINC, SNOMED, UCUM};
use super::facility::{SITES, Site};
use super::moment::{Day, Moment};

/// Who names the resources.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Naming {
    /// The bundle: they are updates that create.
    ByBundle,
    /// The server: they are creates.
    ByServer,
}

/// The sex of a patient, as it decides about names and measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sex {
    Female,
    Male,
}

/// What is known of one patient so far.
#[derive(Debug)]
pub(super) struct Chart {
    /// Where all chance comes from.
    pub(super) rng: StdRng,
    /// Where the patient is treated.
    pub(super) site: &'static Site,
    /// How others refer to the patient.
    pub(super) patient: Value,
    /// When the patient was born.
    pub(super) born: Day,
    /// The patient's sex.
    pub(super) sex: Sex,
    naming: Naming,
    entries: Vec<String>,
}

impl Chart {
    /// The empty chart of a new patient.
    pub(super) fn new(mut rng: StdRng, naming: Naming) -> Self {
        let site = &SITES[rng.random_range(0..SITES.len())];
        let sex = if rng.random_bool(0.45) { Sex::Female } else { Sex::Male };
        let years = match rng.random_range(0..100) {
            0..25 => rng.random_range(1..18),
            25..75 => rng.random_range(18..46),
            _ => rng.random_range(46..86),
        };
        let born = site.now().day().plus_days(-(years * 365 + rng.random_range(1..365)));
        Self { rng, site, patient: Value::Null, born, sex, naming, entries: Vec::new() }
    }

    /// An empty chart that adds to what is known of this patient.
    pub(super) fn of_known_patient(rng: StdRng, patient: &str, naming: Naming) -> Self {
        let mut chart = Self::new(rng, naming);
        chart.patient = json!({ "reference": patient });
        chart
    }

    /// The patient's age in years at a moment.
    pub(super) fn age(&self, at: Moment) -> i64 {
        self.born.days_until(at.day()) / 365
    }

    /// A moment of the last year at which a clinic is open, after the patient's birth.
    pub(super) fn recent_moment(&mut self) -> Moment {
        let days = self.rng.random_range(1..300);
        self.clinic_hours(days)
    }

    /// A moment so many days before now at which a clinic is open.
    pub(super) fn clinic_hours(&mut self, days_ago: i64) -> Moment {
        let (hour, quarter) = (self.rng.random_range(8..16), self.rng.random_range(0..4));
        self.site.now().plus_days(-days_ago).at(hour, quarter * 15)
    }

    /// One of these.
    pub(super) fn any<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.rng.random_range(0..of.len())]
    }

    /// A number between these two with so many digits after the point.
    pub(super) fn number(&mut self, low: f64, high: f64, digits: u32) -> f64 {
        let scale = 10_f64.powi(i32::try_from(digits).expect("a few digits"));
        (self.rng.random_range(low..=high) * scale).round() / scale
    }

    /// A random UUID (version 4).
    pub(super) fn uuid(&mut self) -> String {
        let mut bytes: [u8; 16] = self.rng.random();
        bytes[6] = (bytes[6] & 0x0f) | 0x40;
        bytes[8] = (bytes[8] & 0x3f) | 0x80;
        let hex = format!("{:032x}", u128::from_be_bytes(bytes));
        [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
    }

    /// Adds a resource; what others refer to it by comes back.
    pub(super) fn add(&mut self, kind: &str, body: &Value) -> Value {
        let id = self.uuid();
        let (id_member, verb, url) = match self.naming {
            Naming::ByBundle => (Some(id.as_str()), "PUT", format!("{kind}/{id}")),
            Naming::ByServer => (None, "POST", kind.to_owned()),
        };
        let resource = resource_text(kind, id_member, body);
        let request = format!(r#"{{"method":"{verb}","url":"{url}"}}"#);
        self.entries.push(format!(
            r#"{{"fullUrl":"urn:uuid:{id}","resource":{resource},"request":{request}}}"#
        ));
        json!({ "reference": format!("urn:uuid:{id}") })
    }

    /// The transaction that writes all this.
    pub(super) fn into_bundle(self) -> Bytes {
        transaction(&self.entries)
    }
}

/// A transaction of these entries.
pub(super) fn transaction(entries: &[String]) -> Bytes {
    let entries = entries.join(",\n");
    let head = r#"{"resourceType":"Bundle","type":"transaction","entry":["#;
    format!("{head}\n{entries}\n]}}\n").into()
}

/// A resource with its type and id first.
pub(super) fn resource_text(kind: &str, id: Option<&str>, body: &Value) -> String {
    let id = id.map(|id| format!(r#""id":"{id}","#)).unwrap_or_default();
    let body = body.to_string();
    format!(r#"{{"resourceType":"{kind}",{id}{}"#, &body[1..])
}

/// A `CodeableConcept` of one coding.
pub(super) fn concept(system: &str, (code, display): Code) -> Value {
    json!({ "coding": [coding(system, (code, display))], "text": display })
}

/// A `Coding`.
pub(super) fn coding(system: &str, (code, display): Code) -> Value {
    json!({ "system": system, "code": code, "display": display })
}

/// A `CodeableConcept` of SNOMED CT.
pub(super) fn snomed(code: Code) -> Value {
    concept(SNOMED, code)
}

/// A `CodeableConcept` of LOINC.
pub(super) fn loinc(code: Code) -> Value {
    concept(LOINC, code)
}

/// A code of an HL7 terminology, without a text.
pub(super) fn hl7(system: &str, code: &str) -> Value {
    json!({ "coding": [{ "system": format!("http://terminology.hl7.org/CodeSystem/{system}"), "code": code }] })
}

/// A `Quantity` in a unit of UCUM.
pub(super) fn quantity(value: f64, unit: &str) -> Value {
    json!({ "value": decimal(value), "unit": unit, "system": UCUM, "code": unit })
}

/// A `Meta` that claims a profile of US Core.
pub(super) fn us_core(profile: &str) -> Value {
    json!({ "profile": [format!("http://hl7.org/fhir/us/core/StructureDefinition/us-core-{profile}")] })
}

/// Both members.
pub(super) fn with(mut body: Value, more: Value) -> Value {
    if let (Value::Object(body), Value::Object(more)) = (&mut body, more) {
        body.extend::<Map<_, _>>(more);
    }
    body
}

/// A number without a point where it has no fraction.
fn decimal(value: f64) -> Value {
    if value.fract() == 0.0 && value.abs() < 1e9 { json!(value as i64) } else { json!(value) }
}
