//! This module makes the requests of a benchmark: which ones, to what, with which bodies.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde::Serialize;

use crate::generate;
use crate::http::BaseUrl;

/// Different bodies of each kind; requests take one by chance.
const RESOURCE_BODIES: u64 = 512;
const TRANSACTION_BODIES: u64 = 64;

/// One patient for so many observations.
const OBSERVATIONS_PER_PATIENT: u64 = 50;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Mix {
    /// Read by id.
    Read,
    /// Create one resource.
    Create,
    /// Update one resource.
    Update,
    /// Write a visit of some twenty resources.
    Transaction,
    /// 80 in 100 reads, 8 creates, 8 updates, 4 transactions.
    Mixed,
}

/// One kind of request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    Read,
    Create,
    Update,
    Transaction,
    Get,
}

impl Kind {
    /// All kinds, in the order of their numbers.
    pub(super) const ALL: [Self; 5] =
        [Self::Read, Self::Create, Self::Update, Self::Transaction, Self::Get];
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "read",
            Self::Create => "create",
            Self::Update => "update",
            Self::Transaction => "transaction",
            Self::Get => "get",
        })
    }
}

/// The names of what a benchmark reads and updates: they follow from its seed, so that a second run
/// finds what the first has written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Records {
    /// The seed.
    pub(super) seed: u64,
    /// How many observations.
    pub(super) count: u64,
}

impl Records {
    /// The id of an observation.
    pub(super) fn id(self, number: u64) -> String {
        format!("bench-{}-{number}", self.seed)
    }

    fn patient_id(self, number: u64) -> String {
        format!("bench-{}-p{}", self.seed, number / OBSERVATIONS_PER_PATIENT)
    }

    /// All of them as NDJSON, patients first.
    pub(super) fn ndjson(self) -> Bytes {
        let mut lines = Vec::new();
        for number in (0..self.count).step_by(OBSERVATIONS_PER_PATIENT as usize) {
            lines.extend_from_slice(&generate::person(self.seed, number, &self.patient_id(number)));
            lines.push(b'\n');
        }
        for number in 0..self.count {
            let patient = format!("Patient/{}", self.patient_id(number));
            let id = self.id(number);
            lines.extend_from_slice(&generate::vital_sign(self.seed, number, &patient, Some(&id)));
            lines.push(b'\n');
        }
        lines.into()
    }
}

/// What all connections send from.
#[derive(Debug)]
pub(super) struct Workload {
    aim: Aim,
    records: Records,
    /// Observations, without their first brace, type and id.
    resources: Vec<Bytes>,
    transactions: Vec<(Bytes, u64)>,
}

#[derive(Clone, Debug)]
enum Aim {
    Mix(Mix),
    Path(String),
}

impl Workload {
    /// A mix over these records.
    pub(super) fn mix(mix: Mix, records: Records) -> Self {
        let patient =
            |number: u64| format!("Patient/{}", records.patient_id(number % records.count.max(1)));
        let seed = records.seed.wrapping_add(1);
        let resource = |number: u64| {
            let text = generate::vital_sign(seed, number, &patient(number), None);
            let begin = text.iter().position(|byte| *byte == b',').map_or(0, |comma| comma + 1);
            text.slice(begin..)
        };
        let transaction = |number: u64| {
            let body = generate::visit(seed, number, &patient(number));
            let entries = body.windows(10).filter(|part| part == b"\"fullUrl\":").count();
            (body, entries as u64)
        };
        let writes = mix != Mix::Read;
        let bundles = matches!(mix, Mix::Transaction | Mix::Mixed);
        Self {
            aim: Aim::Mix(mix),
            records,
            resources: (0..if writes { RESOURCE_BODIES } else { 0 }).map(resource).collect(),
            transactions: (0..if bundles { TRANSACTION_BODIES } else { 0 })
                .map(transaction)
                .collect(),
        }
    }

    /// Plain reads of this path; `{}` in it stands for a number below the count of records.
    pub(super) fn path(path: &str, records: Records) -> Self {
        let aim = Aim::Path(path.to_owned());
        Self { aim, records, resources: Vec::new(), transactions: Vec::new() }
    }
}

/// Makes requests for one connection.
#[derive(Debug)]
pub(super) struct Requests {
    workload: Arc<Workload>,
    rng: StdRng,
    path: String,
    host_lines: String,
    text: Vec<u8>,
}

/// A request that is made.
#[derive(Debug)]
pub(super) struct Request<'a> {
    /// Its kind.
    pub(super) kind: Kind,
    /// How many resources it is about.
    pub(super) resources: u64,
    /// Its bytes.
    pub(super) text: &'a [u8],
}

impl Requests {
    /// The requests of the connection of this number to this endpoint.
    pub(super) fn new(workload: Arc<Workload>, to: &BaseUrl, number: u64) -> Self {
        let rng = StdRng::seed_from_u64(workload.records.seed ^ (number << 32));
        let host_lines = format!(" HTTP/1.1\r\nHost: {}\r\n", to.authority());
        Self { workload, rng, path: to.path().to_owned(), host_lines, text: Vec::new() }
    }

    /// The next request.
    pub(super) fn next(&mut self) -> Request<'_> {
        let kind = self.kind();
        let number = self.rng.random_range(0..self.workload.records.count.max(1));
        self.text.clear();
        let mut resources = 1;
        match kind {
            Kind::Get => {
                let Aim::Path(path) = &self.workload.aim else {
                    unreachable!("only a path is got")
                };
                let path = path.replace("{}", &number.to_string());
                self.text
                    .extend_from_slice(format!("GET {path}{}\r\n", self.host_lines).as_bytes());
            }
            Kind::Read => {
                let Self { path, host_lines, text, workload, .. } = self;
                let seed = workload.records.seed;
                let line = format!("GET {path}/Observation/bench-{seed}-{number}{host_lines}\r\n");
                text.extend_from_slice(line.as_bytes());
            }
            Kind::Create => self.write("POST", None),
            Kind::Update => self.write("PUT", Some(self.workload.records.id(number))),
            Kind::Transaction => {
                let pick = self.rng.random_range(0..self.workload.transactions.len());
                let (body, entries) = self.workload.transactions[pick].clone();
                self.head("POST", "", body.len());
                self.text.extend_from_slice(&body);
                resources = entries;
            }
        }
        Request { kind, resources, text: &self.text }
    }

    fn kind(&mut self) -> Kind {
        match &self.workload.aim {
            Aim::Path(_) => Kind::Get,
            Aim::Mix(Mix::Read) => Kind::Read,
            Aim::Mix(Mix::Create) => Kind::Create,
            Aim::Mix(Mix::Update) => Kind::Update,
            Aim::Mix(Mix::Transaction) => Kind::Transaction,
            Aim::Mix(Mix::Mixed) => match self.rng.random_range(0..100) {
                0..80 => Kind::Read,
                80..88 => Kind::Create,
                88..96 => Kind::Update,
                _ => Kind::Transaction,
            },
        }
    }

    fn write(&mut self, verb: &str, id: Option<String>) {
        let pick = self.rng.random_range(0..self.workload.resources.len());
        let body = self.workload.resources[pick].clone();
        let (below, begin) = match id {
            Some(id) => (
                format!("/Observation/{id}"),
                format!(r#"{{"resourceType":"Observation","id":"{id}","#),
            ),
            None => ("/Observation".to_owned(), r#"{"resourceType":"Observation","#.to_owned()),
        };
        self.head(verb, &below, begin.len() + body.len());
        self.text.extend_from_slice(begin.as_bytes());
        self.text.extend_from_slice(&body);
    }

    fn head(&mut self, verb: &str, below: &str, length: usize) {
        let Self { path, host_lines, text, .. } = self;
        let head = format!(
            "{verb} {path}{below}{host_lines}Content-Type: application/fhir+json\r\n\
             Prefer: return=minimal\r\nContent-Length: {length}\r\n\r\n"
        );
        text.extend_from_slice(head.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::Value;

    use super::*;

    const RECORDS: Records = Records { seed: 1, count: 120 };

    fn requests(workload: Workload) -> Requests {
        Requests::new(Arc::new(workload), &"http://h:1/fhir".parse().unwrap(), 0)
    }

    fn body(text: &[u8]) -> Value {
        let text = str::from_utf8(text).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("Content-Length: {}", body.len())), "{head}");
        serde_json::from_str(body).unwrap()
    }

    #[test]
    fn every_kind_of_request_is_whole_and_about_the_records() {
        let mut read = requests(Workload::mix(Mix::Read, RECORDS));
        let text = String::from_utf8(read.next().text.to_vec()).unwrap();
        assert!(text.starts_with("GET /fhir/Observation/bench-1-"), "{text}");
        assert!(text.ends_with(" HTTP/1.1\r\nHost: h:1\r\n\r\n"), "{text}");

        let mut create = requests(Workload::mix(Mix::Create, RECORDS));
        let created = body(create.next().text);
        assert_eq!(created["resourceType"], "Observation");
        assert!(created["id"].is_null() && created["status"] == "final");

        let mut update = requests(Workload::mix(Mix::Update, RECORDS));
        let text = update.next().text.to_vec();
        let updated = body(&text);
        let line =
            format!("PUT /fhir/Observation/{} HTTP/1.1\r\n", updated["id"].as_str().unwrap());
        assert!(text.starts_with(line.as_bytes()));

        let mut transaction = requests(Workload::mix(Mix::Transaction, RECORDS));
        let request = transaction.next();
        assert_eq!(body(request.text)["entry"].as_array().unwrap().len() as u64, request.resources);

        let mut path = requests(Workload::path("/values/{}", RECORDS));
        assert!(path.next().text.starts_with(b"GET /values/"));
    }

    #[test]
    fn the_mix_holds_its_shares_and_a_connection_repeats() {
        let counted = || {
            let mut counts = BTreeMap::new();
            let mut mixed = requests(Workload::mix(Mix::Mixed, RECORDS));
            (0..5000).for_each(|_| *counts.entry(mixed.next().kind).or_insert(0) += 1);
            counts
        };
        let counts = counted();
        assert!((3800..4200).contains(&counts[&Kind::Read]), "{counts:?}");
        assert!((120..280).contains(&counts[&Kind::Transaction]), "{counts:?}");
        assert_eq!(counts, counted());
    }

    #[test]
    fn records_are_lines_of_patients_and_their_observations() {
        let text = RECORDS.ndjson();
        let lines: Vec<Value> = text
            .split(|b| *b == b'\n')
            .filter(|l| !l.is_empty())
            .map(|l| serde_json::from_slice(l).unwrap())
            .collect();
        assert_eq!(lines.len(), 3 + 120);
        assert_eq!(lines[2]["id"], "bench-1-p2");
        assert_eq!(lines[122]["id"], "bench-1-119");
        assert_eq!(lines[122]["subject"]["reference"], "Patient/bench-1-p2");
    }
}
