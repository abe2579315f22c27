//! This module describes where the patients are treated and by whom: the same for every seed.

use bytes::Bytes;
use serde_json::{Value, json};

use super::catalogue::{Code, FAMILIES, MEN, SNOMED, WOMEN};
use super::chart::{hl7, resource_text, snomed, transaction, us_core, with};
use super::moment::Moment;

/// One hospital.
#[derive(Debug)]
pub(super) struct Site {
    /// Its part of every id.
    pub(super) id: &'static str,
    /// Its name.
    pub(super) name: &'static str,
    /// Where it stands.
    pub(super) city: &'static str,
    state: &'static str,
    /// Its postal code.
    pub(super) postal: &'static str,
    offset_hours: i8,
}

/// The hospitals.
pub(super) static SITES: [Site; 4] = [
    Site {
        id: "yokota",
        name: "Yokota Clinic",
        city: "Fussa",
        state: "AP",
        postal: "96328",
        offset_hours: 9,
    },
    Site {
        id: "yokosuka",
        name: "Yokosuka Hospital",
        city: "Yokosuka",
        state: "AP",
        postal: "96350",
        offset_hours: 9,
    },
    Site {
        id: "guam",
        name: "Guam Hospital",
        city: "Agana Heights",
        state: "GU",
        postal: "96910",
        offset_hours: 10,
    },
    Site {
        id: "oahu",
        name: "Oahu Medical Center",
        city: "Honolulu",
        state: "HI",
        postal: "96859",
        offset_hours: -10,
    },
];

/// What practitioners do: the part of their id, and SNOMED CT.
const ROLES: [(&str, Code); 6] = [
    ("family-1", ("419772000", "Family practice (qualifier value)")),
    ("family-2", ("419772000", "Family practice (qualifier value)")),
    ("emergency", ("773568002", "Emergency medicine (qualifier value)")),
    ("internal", ("419192003", "Internal medicine (qualifier value)")),
    ("pediatrics", ("394537008", "Pediatric specialty (qualifier value)")),
    ("nurse", ("722166002", "Nursing specialty (qualifier value)")),
];

/// The parts of a hospital: the part of their id, the name, and the kind of place.
const PLACES: [(&str, &str, &str); 4] = [
    ("clinic", "Primary Care Clinic", "PC"),
    ("emergency", "Emergency Department", "ER"),
    ("ward", "Medical Ward", "HU"),
    ("laboratory", "Laboratory", "HLAB"),
];

impl Site {
    /// The end of the records, here.
    pub(super) fn now(&self) -> Moment {
        Moment::now(self.offset_hours)
    }

    /// A reference to the hospital.
    pub(super) fn organization(&self) -> Value {
        json!({ "reference": format!("Organization/{}", self.id), "display": self.name })
    }

    /// A reference to a part of it: `clinic`, `emergency`, `ward`, `laboratory`.
    pub(super) fn place(&self, part: &str) -> Value {
        json!({ "reference": format!("Location/{}-{part}", self.id) })
    }

    /// A reference to one who works here, such as `nurse`.
    pub(super) fn practitioner(&self, role: &str) -> Value {
        json!({ "reference": format!("Practitioner/{}-{role}", self.id), "display": self.doctor(role) })
    }

    /// The state, territory or military postal region.
    pub(super) fn state(&self) -> &'static str {
        self.state
    }

    fn number(&self) -> usize {
        SITES.iter().position(|site| site.id == self.id).unwrap_or_default()
    }

    fn person(&self, role: &str) -> (&'static str, &'static str, bool) {
        let number = ROLES.iter().position(|(name, _)| *name == role).unwrap_or_default();
        let pick = self.number() * ROLES.len() + number;
        let woman = pick.is_multiple_of(2);
        let given = if woman { WOMEN[pick % WOMEN.len()] } else { MEN[pick % MEN.len()] };
        (given, FAMILIES[(pick * 7) % FAMILIES.len()], woman)
    }

    fn doctor(&self, role: &str) -> String {
        let (given, family, _) = self.person(role);
        if role == "nurse" {
            format!("{given} {family}, RN")
        } else {
            format!("Dr. {given} {family}")
        }
    }

    fn address(&self) -> Value {
        json!({ "line": ["1 Hospital Road"], "city": self.city, "state": self.state, "postalCode": self.postal, "country": "US" })
    }
}

/// A reference to who pays.
pub(super) fn payer() -> Value {
    json!({ "reference": "Organization/health-plan", "display": "Uniformed Services Health Plan" })
}

/// The transaction that writes all of them.
pub(super) fn bundle() -> Bytes {
    let mut entries = vec![entry(
        "Organization",
        "health-plan",
        &json!({
            "meta": us_core("organization"),
            "active": true,
            "type": [hl7("organization-type", "ins")],
            "name": "Uniformed Services Health Plan",
        }),
    )];
    for site in &SITES {
        write_organization(site, &mut entries);
        PLACES.iter().for_each(|place| write_place(site, place, &mut entries));
        ROLES.iter().for_each(|role| write_practitioner(site, role, &mut entries));
    }
    transaction(&entries)
}

fn entry(kind: &str, id: &str, body: &Value) -> String {
    let resource = resource_text(kind, Some(id), body);
    format!(r#"{{"resource":{resource},"request":{{"method":"PUT","url":"{kind}/{id}"}}}}"#)
}

fn npi(number: usize) -> Value {
    json!([{ "system": "http://hl7.org/fhir/sid/us-npi", "value": format!("99999{number:05}") }])
}

fn write_organization(site: &Site, entries: &mut Vec<String>) {
    let address = with(site.address(), json!({ "use": "work" }));
    let body = json!({
        "meta": us_core("organization"),
        "identifier": npi(site.number()),
        "active": true,
        "type": [hl7("organization-type", "prov")],
        "name": site.name,
        "telecom": [{ "system": "phone", "value": format!("555-010-{:04}", site.number()), "use": "work" }],
        "address": [address],
    });
    entries.push(entry("Organization", site.id, &body));
    let body = json!({
        "meta": us_core("location"),
        "status": "active",
        "name": site.name,
        "mode": "instance",
        "type": [hl7("v3-RoleCode", "HOSP")],
        "address": site.address(),
        "physicalType": hl7("location-physical-type", "bu"),
        "managingOrganization": site.organization(),
    });
    entries.push(entry("Location", site.id, &body));
}

fn write_place(site: &Site, (part, name, kind): &(&str, &str, &str), entries: &mut Vec<String>) {
    let body = json!({
        "meta": us_core("location"),
        "status": "active",
        "name": format!("{}, {name}", site.name),
        "mode": "instance",
        "type": [hl7("v3-RoleCode", kind)],
        "physicalType": hl7("location-physical-type", "wa"),
        "managingOrganization": site.organization(),
        "partOf": { "reference": format!("Location/{}", site.id) },
    });
    entries.push(entry("Location", &format!("{}-{part}", site.id), &body));
}

fn write_practitioner(site: &Site, (role, specialty): &(&str, Code), entries: &mut Vec<String>) {
    let (given, family, woman) = site.person(role);
    let id = format!("{}-{role}", site.id);
    let number = 100 + entries.len();
    let prefix = if *role == "nurse" { "RN" } else { "Dr." };
    let body = json!({
        "meta": us_core("practitioner"),
        "identifier": npi(number),
        "active": true,
        "name": [{ "use": "official", "family": family, "given": [given], "prefix": [prefix] }],
        "gender": if woman { "female" } else { "male" },
        "address": [site.address()],
    });
    entries.push(entry("Practitioner", &id, &body));
    let occupation = if *role == "nurse" {
        ("224535009", "Registered nurse (occupation)")
    } else {
        ("309343006", "Physician (occupation)")
    };
    let body = json!({
        "meta": us_core("practitionerrole"),
        "active": true,
        "practitioner": { "reference": format!("Practitioner/{id}") },
        "organization": site.organization(),
        "code": [snomed(occupation)],
        "specialty": [{ "coding": [{ "system": SNOMED, "code": specialty.0, "display": specialty.1 }] }],
        "location": [{ "reference": format!("Location/{}", site.id) }],
    });
    entries.push(entry("PractitionerRole", &id, &body));
}
