//! The searches that US Core's servers shall and should know (its CapabilityStatement), over real
//! records and its own examples, by parameters that its SearchParameter resources define.
//!
//! What must be found is worked out here, from the elements that the table below names, by another
//! reading of the specification than the server's.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::time::Duration;

use chartmesh_tests::cluster::{self, Cluster};
use chartmesh_tests::http::{Ask, Client};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::ask;
use crate::searches::{next, page};

pub(crate) const GUIDE: &str = "data/08-us-core-ig/us-core-9.0.0-examples-and-resources.tar.zst";
const PATIENCE: Duration = Duration::from_secs(60);
const EXPECTATION: &str = "http://hl7.org/fhir/StructureDefinition/capabilitystatement-expectation";
const COMBINATION: &str =
    "http://hl7.org/fhir/StructureDefinition/capabilitystatement-search-parameter-combination";

/// Of each parameter, its sort and where its values are; `extension~x` is one whose URL ends so.
const ELEMENTS: &str = "
    AllergyIntolerance clinical-status token clinicalStatus
    AllergyIntolerance patient reference patient
    CarePlan category token category
    CarePlan status token status
    CarePlan date date period
    CarePlan patient reference subject
    CareTeam status token status
    CareTeam role token participant.role
    CareTeam patient reference subject
    Condition abatement-date date abatementDateTime abatementPeriod
    Condition asserted-date date extension~condition-assertedDate.valueDateTime
    Condition category token category
    Condition clinical-status token clinicalStatus
    Condition code token code
    Condition encounter reference encounter
    Condition onset-date date onsetDateTime onsetPeriod
    Condition patient reference subject
    Condition recorded-date date recordedDate
    Coverage patient reference beneficiary
    Device patient reference patient
    Device status token status
    Device type token type
    DiagnosticReport category token category
    DiagnosticReport code token code
    DiagnosticReport date date effectiveDateTime effectivePeriod
    DiagnosticReport patient reference subject
    DiagnosticReport status token status
    DocumentReference category token category
    DocumentReference date date date
    DocumentReference patient reference subject
    DocumentReference period date context.period
    DocumentReference status token status
    DocumentReference type token type
    Encounter class token class
    Encounter date date period
    Encounter discharge-disposition token hospitalization.dischargeDisposition
    Encounter identifier token identifier
    Encounter location reference location.location
    Encounter patient reference subject
    Encounter status token status
    Encounter type token type
    FamilyMemberHistory code token condition.code
    FamilyMemberHistory patient reference patient
    Goal description token description
    Goal lifecycle-status token lifecycleStatus
    Goal patient reference subject
    Goal target-date date target.dueDate
    Immunization date date occurrenceDateTime
    Immunization patient reference patient
    Immunization status token status
    Location address string address.line address.city address.district address.state address.postalCode address.country address.text
    Location address-city string address.city
    Location address-postalcode string address.postalCode
    Location address-state string address.state
    Location name string name alias
    MedicationDispense patient reference subject
    MedicationDispense status token status
    MedicationDispense type token type
    MedicationRequest authoredon date authoredOn
    MedicationRequest encounter reference encounter
    MedicationRequest intent token intent
    MedicationRequest patient reference subject
    MedicationRequest status token status
    Observation category token category
    Observation code token code
    Observation date date effectiveDateTime effectivePeriod effectiveInstant
    Observation patient reference subject
    Observation status token status
    Organization address string address.line address.city address.district address.state address.postalCode address.country address.text
    Organization name string name alias
    Patient birthdate date birthDate
    Patient death-date date deceasedDateTime
    Patient ethnicity token extension~us-core-ethnicity.extension.valueCoding.code
    Patient family string name.family
    Patient given string name.given
    Patient identifier token identifier
    Patient name string name.family name.given name.prefix name.suffix name.text
    Patient race token extension~us-core-race.extension.valueCoding.code
    Practitioner identifier token identifier
    Practitioner name string name.family name.given name.prefix name.suffix name.text
    PractitionerRole practitioner reference practitioner
    PractitionerRole specialty token specialty
    Procedure code token code
    Procedure date date performedDateTime performedPeriod
    Procedure patient reference subject
    Procedure status token status
    QuestionnaireResponse authored date authored
    QuestionnaireResponse patient reference subject
    QuestionnaireResponse questionnaire reference questionnaire
    QuestionnaireResponse status token status
    RelatedPerson name string name.family name.given name.prefix name.suffix name.text
    RelatedPerson patient reference patient
    ServiceRequest authored date authoredOn
    ServiceRequest category token category
    ServiceRequest code token code
    ServiceRequest patient reference subject
    ServiceRequest status token status
    Specimen patient reference subject
";

/// Where the values of a parameter are, and what they are.
struct Element {
    sort: &'static str,
    paths: Vec<&'static str>,
}

/// What is in the guide.
pub(crate) struct Guide {
    resources: Vec<Value>,
}

impl Guide {
    pub(crate) fn read(archive: &Path) -> Self {
        let file = std::fs::File::open(archive).unwrap();
        let mut archive = tar::Archive::new(zstd::stream::read::Decoder::new(file).unwrap());
        let mut resources = Vec::new();
        for entry in archive.entries().unwrap() {
            let mut text = String::new();
            entry.unwrap().read_to_string(&mut text).unwrap();
            let Ok(Value::Object(mut resource)) = serde_json::from_str(&text) else { continue };
            // Some narratives have been cut short: they are not what is looked at.
            resource.remove("text");
            resources.extend(Some(Value::Object(resource)).filter(|it| it["id"].is_string()));
        }
        assert!(resources.len() > 300, "{}", resources.len());
        Self { resources }
    }

    fn of(&self, kind: &str) -> impl Iterator<Item = &Value> {
        self.resources.iter().filter(move |it| it["resourceType"] == kind)
    }

    /// The searches of each type that shall or should work: the names of their parameters.
    fn searches(&self) -> BTreeMap<String, BTreeSet<Vec<String>>> {
        let server = |it: &&Value| it["id"] == "us-core-server";
        let statement = self.of("CapabilityStatement").find(server).unwrap();
        let wanted = |it: &Value| {
            let extensions = it["extension"].as_array().into_iter().flatten();
            let mut expected = extensions.filter(|it| it["url"] == EXPECTATION);
            expected.any(|it| matches!(it["valueCode"].as_str(), Some("SHALL" | "SHOULD")))
        };
        let text = |it: &Value| it.as_str().unwrap().to_owned();
        let mut searches: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
        for resource in statement["rest"][0]["resource"].as_array().unwrap() {
            let of_type = searches.entry(text(&resource["type"])).or_default();
            let single = resource["searchParam"].as_array().into_iter().flatten();
            of_type.extend(single.filter(|it| wanted(it)).map(|it| vec![text(&it["name"])]));
            let all = resource["extension"].as_array().into_iter().flatten();
            for combination in all.filter(|it| it["url"] == COMBINATION && wanted(it)) {
                let parts = combination["extension"].as_array().unwrap().iter();
                let required = parts.filter(|it| it["url"] == "required");
                of_type.insert(required.map(|it| text(&it["valueString"])).collect());
            }
        }
        // Not in its statement, but defined by it, and of what R4 lacks.
        let patient = searches.entry("Patient".to_owned()).or_default();
        patient.extend([vec!["race".to_owned()], vec!["ethnicity".to_owned()]]);
        searches
    }
}

/// Loads the guide's parameters and examples, and waits until every node searches by the parameters.
pub(crate) async fn load(cluster: &Cluster, guide: &Guide) {
    let searches = guide.searches();
    let wanted = |it: &&Value| {
        let kind = it["resourceType"].as_str().unwrap();
        kind == "SearchParameter" || searches.get(kind).is_some_and(|all| !all.is_empty())
    };
    let mut client = cluster.client(0).with_patience(PATIENCE);
    for resource in guide.resources.iter().filter(wanted) {
        let path = format!(
            "/fhir/{}/{}",
            resource["resourceType"].as_str().unwrap(),
            resource["id"].as_str().unwrap()
        );
        let answer = ask(&mut client, Ask::put(path, resource.to_string())).await;
        assert!(answer.status.is_success(), "{}", answer.text());
    }
    let end = Instant::now() + PATIENCE;
    for node in 0..cluster.size() {
        let mut client = cluster.client(node).with_patience(PATIENCE);
        for query in ["Patient?race=x", "Condition?asserted-date=2020", "CareTeam?role=x"] {
            loop {
                let get = Ask::get(format!("/fhir/{query}"));
                let answer = client.ask(get.with("prefer", "handling=strict")).await.unwrap();
                if answer.status == 200 {
                    break;
                }
                assert!(Instant::now() < end, "{query}: {}", answer.text());
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Has all nodes index everything again, which finds nothing to put right.
pub(crate) fn an_index_made_again_is_the_same(cluster: &Cluster) {
    let [topology, tls] = ["mesh.toml", "tls"].map(|name| cluster.path(name));
    let named = ["--topology", topology.to_str().unwrap(), "--tls", tls.to_str().unwrap()];
    let told = cluster::run(&[&["reindex", "--json"][..], &named].concat()).unwrap();
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told.as_array().map(Vec::len), Some(cluster.size()), "{told}");
    for node in told.as_array().unwrap() {
        assert_eq!((&node["error"], &node["changed"]), (&Value::Null, &0.into()), "{node}");
        assert!(node["resources"].as_u64() > Some(90_000), "{node}");
    }
}

/// Asks every search of the guide for which there is a resource that has all its elements.
pub(crate) async fn searches_find_what_the_elements_say(
    cluster: &Cluster,
    guide: &Guide,
    set: &Path,
) {
    let elements = elements();
    let (mut asked, mut left_out) = (0, Vec::new());
    for (kind, searches) in guide.searches() {
        if searches.is_empty() {
            continue;
        }
        let resources = resources(set, guide, &kind);
        for parameters in searches {
            let of = |name: &String| elements.get(&format!("{kind} {name}"));
            let known: Vec<_> = parameters.iter().filter_map(of).collect();
            let has = |it: &&Value| known.iter().all(|element| !element.values(it).is_empty());
            let Some(sample) = resources.iter().find(has) else {
                left_out.push(format!("{kind} {}", parameters.join(" ")));
                continue;
            };
            let mut query = Vec::new();
            let mut sought: Vec<(&Element, String)> = Vec::new();
            let id = sample["id"].as_str().unwrap();
            for name in &parameters {
                assert!(of(name).is_some() || name.starts_with('_'), "{kind} {name} is not known");
                let value = match of(name) {
                    None if name == "_id" => id.to_owned(),
                    None => "ge2020-01-01".to_owned(),
                    Some(element) => {
                        let value = element.values(sample).remove(0);
                        let value = if element.sort == "date" {
                            value.split('/').next().unwrap().to_owned()
                        } else {
                            value
                        };
                        sought.push((element, value.clone()));
                        if element.sort == "date" { format!("ge{value}") } else { escaped(&value) }
                    }
                };
                query.push(format!("{name}={}", encoded(&value)));
            }
            let by_id = parameters.iter().any(|name| name == "_id");
            let expected: BTreeSet<_> = resources
                .iter()
                .filter(|it| sought.iter().all(|(element, value)| element.matches(it, value)))
                .map(|it| it["id"].as_str().unwrap().to_owned())
                .filter(|it| !by_id || it == id)
                .collect();
            let query = format!("/fhir/{kind}?{}&_count=1000", query.join("&"));
            let node = asked % cluster.size();
            let mut client = cluster.client(node).with_patience(PATIENCE);
            assert_eq!(found(&mut client, &query).await, expected, "{query}");
            asked += 1;
        }
    }
    println!(
        "{asked} searches of US Core; left out, for no record has their elements: {left_out:?}"
    );
    assert!(asked >= 70, "{asked}: {left_out:?}");
}

/// The ids that are found.
async fn found(client: &mut Client, query: &str) -> BTreeSet<String> {
    let (mut url, mut ids) = (Some(query.to_owned()), BTreeSet::new());
    while let Some(path) = url {
        let page = page(client, Ask::get(path).with("prefer", "handling=strict")).await;
        let entries = page["entry"].as_array().cloned().unwrap_or_default();
        ids.extend(entries.iter().map(|it| it["resource"]["id"].as_str().unwrap().to_owned()));
        url = next(&page);
    }
    ids
}

/// All resources of a type, of the set and of the guide.
fn resources(set: &Path, guide: &Guide, kind: &str) -> Vec<Value> {
    let mut all: BTreeMap<String, Value> = BTreeMap::new();
    if let Ok(file) = std::fs::File::open(set.join(format!("{kind}.ndjson.zst"))) {
        let lines = BufReader::new(zstd::stream::read::Decoder::new(file).unwrap()).lines();
        for line in lines {
            let resource: Value = serde_json::from_str(&line.unwrap()).unwrap();
            all.insert(resource["id"].as_str().unwrap().to_owned(), resource);
        }
    }
    for resource in guide.of(kind) {
        all.insert(resource["id"].as_str().unwrap().to_owned(), resource.clone());
    }
    all.into_values().collect()
}

fn elements() -> BTreeMap<String, Element> {
    let lines = ELEMENTS.trim().lines().map(|line| {
        let mut words = line.split_whitespace();
        let mut word = || words.next().unwrap();
        let (kind, name, sort) = (word(), word(), word());
        (format!("{kind} {name}"), Element { sort, paths: words.collect() })
    });
    lines.collect()
}

impl Element {
    /// The values in a resource: `system|code` or `code`, a reference, `start/end`, a text.
    fn values(&self, resource: &Value) -> Vec<String> {
        let mut values = Vec::new();
        for path in &self.paths {
            let mut nodes = vec![resource];
            for step in path.split('.') {
                let (name, ending) = step.split_once('~').unwrap_or((step, ""));
                let members = nodes.iter().flat_map(|node| items(&node[name]));
                let fits = |it: &&Value| {
                    ending.is_empty() || it["url"].as_str().is_some_and(|url| url.ends_with(ending))
                };
                nodes = members.filter(fits).collect();
            }
            for node in nodes {
                match self.sort {
                    "token" => tokens(node, &mut values),
                    "reference" => {
                        let text = node["reference"].as_str().or(node.as_str());
                        values.extend(text.map(str::to_owned));
                    }
                    "date" if node.is_object() => {
                        let part = |name: &str| node[name].as_str().unwrap_or_default();
                        if node["start"].is_string() {
                            values.push(format!("{}/{}", part("start"), part("end")));
                        }
                    }
                    "date" => values.extend(node.as_str().map(|it| format!("{it}/{it}"))),
                    _ => values.extend(node.as_str().map(str::to_owned)),
                }
            }
        }
        values
    }

    fn matches(&self, resource: &Value, sought: &str) -> bool {
        self.values(resource).iter().any(|value| match self.sort {
            "string" => value.to_lowercase().starts_with(&sought.to_lowercase()),
            "reference" => value == sought || value.split('|').next() == Some(sought),
            "date" => {
                let (start, end) = value.split_once('/').unwrap();
                let (from, _) = span(start);
                let until = if end.is_empty() { i64::MAX } else { span(end).1 };
                let (first, last) = span(sought);
                // What lies above meets it, or it lies within.
                until > last || from >= first
            }
            _ => value == sought,
        })
    }
}

fn items(value: &Value) -> Vec<&Value> {
    match value {
        Value::Null => Vec::new(),
        Value::Array(all) => all.iter().collect(),
        one => vec![one],
    }
}

fn tokens(node: &Value, values: &mut Vec<String>) {
    if let Some(code) = node.as_str() {
        values.push(code.to_owned());
    }
    for coding in items(&node["coding"]) {
        tokens(coding, values);
    }
    let code = node["code"].as_str().or(node["value"].as_str());
    if let Some(code) = code {
        let system = node["system"].as_str();
        values.push(system.map_or_else(|| format!("|{code}"), |system| format!("{system}|{code}")));
    }
}

/// The milliseconds that a date spans, from its first to its last.
fn span(date: &str) -> (i64, i64) {
    let number = |range: std::ops::Range<usize>| date[range].parse::<i64>().unwrap();
    let year = number(0..4);
    let day = |year: i64, month: i64, day: i64| {
        // Days since 1970 in the Gregorian calendar, years beginning in March.
        let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
        let era = year.div_euclid(400);
        let of_era = year - era * 400;
        let of_year = (153 * month + 2) / 5 + day - 1;
        let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
        days * 86_400_000
    };
    match date.len() {
        4 => (day(year, 1, 1), day(year + 1, 1, 1) - 1),
        7 => {
            let month = number(5..7);
            let (after, next) = if month == 12 { (year + 1, 1) } else { (year, month + 1) };
            (day(year, month, 1), day(after, next, 1) - 1)
        }
        10 => {
            let start = day(year, number(5..7), number(8..10));
            (start, start + 86_399_999)
        }
        _ => {
            let zone = date.rfind(['Z', '+', '-']).unwrap();
            let offset = match &date[zone..] {
                "Z" => 0,
                text => {
                    let minutes = text[1..3].parse::<i64>().unwrap() * 60
                        + text[4..6].parse::<i64>().unwrap();
                    if text.starts_with('-') { -minutes } else { minutes }
                }
            };
            let clock = (number(11..13) * 60 + number(14..16) - offset) * 60 + number(17..19);
            let fraction = date[..zone].split_once('.').map(|(_, digits)| digits);
            let millis =
                fraction.map(|digits| format!("{digits:0<3}")[..3].parse::<i64>().unwrap());
            let start =
                day(year, number(5..7), number(8..10)) + clock * 1_000 + millis.unwrap_or(0);
            (start, start + if millis.is_some() { 0 } else { 999 })
        }
    }
}

/// A value as one alternative of a search.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace(',', "\\,").replace('$', "\\$")
}

fn encoded(text: &str) -> String {
    let letter = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b':' | b'/' => {
            char::from(byte).to_string()
        }
        other => format!("%{other:02X}"),
    };
    text.bytes().map(letter).collect()
}
