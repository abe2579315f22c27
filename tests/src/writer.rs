//! This module is a client under test: it reads and writes at any node, tries again under the same
//! key until it knows what became of a write, and takes down all it saw.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::StatusCode;
use rand::rngs::StdRng;
use rand::seq::IteratorRandom;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::freshness::AsOf;
use crate::history::{
    Answered, Durability, Instant, Mark, NodeName, Recorder, Register, Told, VersionId, Wish,
};
use crate::http::{Answer, Ask, Client};

/// The system of the identifier that carries a write's mark.
pub const MARK_SYSTEM: &str = "urn:chartmesh:mark";
/// The system of the identifier that is created once.
pub const NAME_SYSTEM: &str = "urn:chartmesh:name";

/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(50);

/// What all writers of a run have in common.
#[derive(Clone)]
pub struct Run {
    /// What they saw.
    pub recorder: Recorder,
    /// Whether they shall end.
    pub stop: Arc<AtomicBool>,
    /// The time since the beginning.
    pub now: Arc<dyn Fn() -> Instant + Send + Sync>,
    /// How long they go on trying, before the fate of a write is left unknown.
    pub perseverance: Duration,
    /// How long they think between two wishes.
    pub pause: Duration,
}

impl fmt::Debug for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Run").finish_non_exhaustive()
    }
}

impl Run {
    fn has_ended(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// What a client writes.
#[derive(Clone, Debug)]
pub struct Field {
    /// The registers.
    pub registers: Vec<Register>,
    /// How the names that it creates once begin; `None`: it creates none.
    pub names: Option<String>,
}

impl Field {
    /// So many registers whose ids begin so, and names that begin so.
    #[must_use]
    pub fn of(begin: &str, registers: usize) -> Self {
        Self { names: Some(begin.to_owned()), ..Self::nameless(begin, registers) }
    }

    /// So many registers whose ids begin so, and no names.
    #[must_use]
    pub fn nameless(begin: &str, registers: usize) -> Self {
        let register = |number| Register(format!("Patient/{begin}-{number}"));
        Self { registers: (0..registers).map(register).collect(), names: None }
    }
}

/// One client.
#[derive(Debug)]
pub struct Writer {
    name: String,
    run: Run,
    field: Field,
    nodes: Vec<(NodeName, Client)>,
    /// The node that it asks: another one now and then, and when that one does not answer.
    at: usize,
    random: StdRng,
    wishes: usize,
    /// The versions that it saw last.
    seen: BTreeMap<Register, VersionId>,
    /// The conflicts that it saw last and has not resolved.
    conflicts: BTreeMap<Register, BTreeSet<VersionId>>,
}

impl Writer {
    /// A client of this name, which must be unique in its run, with a way to each node.
    #[must_use]
    pub fn new(
        name: &str,
        seed: u64,
        run: Run,
        field: Field,
        nodes: Vec<(NodeName, Client)>,
    ) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let at = random.random_range(0..nodes.len());
        let (name, seen, conflicts) = (name.to_owned(), BTreeMap::new(), BTreeMap::new());
        Self { name, run, field, nodes, at, random, wishes: 0, seen, conflicts }
    }

    /// Reads and writes until the run ends.
    pub async fn go_on(mut self) {
        while !self.run.has_ended() {
            if self.random.random_ratio(1, 10) {
                self.at = self.random.random_range(0..self.nodes.len());
            }
            let wish = self.wish();
            self.fulfil(wish).await;
            if !self.run.pause.is_zero() {
                let pause = self.run.pause.mul_f64(self.random.random_range(0.0..2.0));
                sleep(pause).await;
            }
        }
    }

    /// Asks until it is answered, and takes down the answer. `None`: it has given up.
    pub async fn fulfil(&mut self, wish: Wish) -> Option<Told> {
        self.wishes += 1;
        let mark = Mark(format!("{}-{}", self.name, self.wishes));
        let asked = (self.run.now)();
        let ticket = self.run.recorder.ask(mark.clone(), wish.clone(), asked);
        loop {
            let by = self.nodes[self.at].0.clone();
            let answer = self.nodes[self.at].1.ask(ask(&mark, &wish)).await;
            let at = (self.run.now)();
            if let Ok(answer) = answer
                && let Some(answered) = understand(&wish, &answer, at, by)
            {
                let told = answered.told.clone();
                self.remember(&wish, &told, &answer);
                self.run.recorder.answer(ticket, answered);
                return Some(told);
            }
            // Reads are not worth a second attempt: another one is a read of its own.
            let is_read = matches!(wish, Wish::Read(_) | Wish::ReadNewest(_));
            self.at = self.random.random_range(0..self.nodes.len());
            sleep(PAUSE).await;
            if is_read || self.run.has_ended() || at - asked > self.run.perseverance {
                return None;
            }
        }
    }

    fn wish(&mut self) -> Wish {
        let register = self.register();
        match self.random.random_range(0..100) {
            0..30 => Wish::Write(register),
            30..60 if self.conflicts.contains_key(&register) => {
                let heads = self.conflicts.remove(&register).unwrap_or_default();
                Wish::Resolve(register, heads)
            }
            30..60 => match self.seen.get(&register) {
                Some(version) => Wish::Replace(register, version.clone()),
                None => Wish::Read(register),
            },
            60..70 => {
                let other = self.register();
                Wish::WriteTogether(BTreeSet::from([register, other]))
            }
            // A new name is born every second or so; several writers want it.
            70..80 => match &self.field.names {
                Some(begin) => {
                    let age = (self.run.now)().as_millis() / 1_000;
                    Wish::CreateOnce(format!("{begin}-{age}"))
                }
                None => Wish::Write(register),
            },
            80..90 => Wish::Read(register),
            _ => Wish::ReadNewest(register),
        }
    }

    fn register(&mut self) -> Register {
        let registers = self.field.registers.iter();
        registers.choose(&mut self.random).expect("there are registers").clone()
    }

    fn remember(&mut self, wish: &Wish, told: &Told, answer: &Answer) {
        if let (Wish::Read(register) | Wish::ReadNewest(register), Told::Holds(Some(_))) =
            (wish, told)
        {
            match heads(answer) {
                Some(heads) if heads.len() > 1 => {
                    self.conflicts.insert(register.clone(), heads);
                }
                _ => drop(self.conflicts.remove(register)),
            }
        }
        match (wish, told) {
            (_, Told::Written(versions)) => self.seen.extend(versions.clone()),
            (Wish::Read(of) | Wish::ReadNewest(of), Told::Holds(Some(version))) => {
                self.seen.insert(of.clone(), version.clone());
            }
            (Wish::Replace(register, _), Told::Refused) => {
                self.seen.remove(register);
            }
            _ => {}
        }
    }
}

fn ask(mark: &Mark, wish: &Wish) -> Ask {
    let ask = match wish {
        Wish::Write(register) => Ask::put(path(register), content(register, mark)),
        Wish::Replace(register, version) => Ask::put(path(register), content(register, mark))
            .with("if-match", format!("W/\"{}\"", version.0)),
        Wish::Resolve(register, heads) => {
            let named: Vec<_> = heads.iter().map(|head| format!("W/\"{}\"", head.0)).collect();
            Ask::put(path(register), content(register, mark)).with("if-match", named.join(", "))
        }
        Wish::WriteTogether(registers) => Ask::post("/fhir", bundle(registers, mark)),
        Wish::CreateOnce(name) => Ask::post("/fhir/Patient", named(name, mark))
            .with("if-none-exist", format!("identifier={NAME_SYSTEM}|{name}")),
        Wish::Read(register) => return Ask::get(path(register)),
        Wish::ReadNewest(register) => {
            return Ask::get(path(register)).with("prefer", "chartmesh-consistency=linearizable");
        }
    };
    ask.with("idempotency-key", mark.0.clone())
}

fn path(register: &Register) -> String {
    format!("/fhir/{}", register.0)
}

fn resource(register: &Register, mark: &Mark) -> Value {
    let (kind, id) = register.0.split_once('/').expect("a type and an id");
    let identifier = json!([{ "system": MARK_SYSTEM, "value": mark.0 }]);
    json!({ "resourceType": kind, "id": id, "identifier": identifier })
}

fn content(register: &Register, mark: &Mark) -> String {
    resource(register, mark).to_string()
}

fn bundle(registers: &BTreeSet<Register>, mark: &Mark) -> String {
    let entry = |register: &Register| {
        let request = json!({ "method": "PUT", "url": register.0 });
        json!({ "resource": resource(register, mark), "request": request })
    };
    let entries: Vec<Value> = registers.iter().map(entry).collect();
    json!({ "resourceType": "Bundle", "type": "transaction", "entry": entries }).to_string()
}

fn named(name: &str, mark: &Mark) -> String {
    let identifier = json!([
        { "system": NAME_SYSTEM, "value": name },
        { "system": MARK_SYSTEM, "value": mark.0 },
    ]);
    json!({ "resourceType": "Patient", "identifier": identifier }).to_string()
}

/// What a client is told, and by whom. `None`: nothing that it can rely on.
fn understand(wish: &Wish, answer: &Answer, at: Instant, by: NodeName) -> Option<Answered> {
    if answer.status == StatusCode::SERVICE_UNAVAILABLE {
        return None;
    }
    let unexpected = |what: &str| {
        Told::Unexpected(format!("{wish:?}: {what}: {} {}", answer.status, answer.text()))
    };
    let mut told = told(wish, answer).unwrap_or_else(|| unexpected("status"));
    let as_of = AsOf::parse(answer.header("chartmesh-as-of")).unwrap_or_else(|| {
        told = unexpected(answer.header("chartmesh-as-of"));
        AsOf::default()
    });
    let durability = durability(answer.header("chartmesh-durability")).unwrap_or_else(|| {
        told = unexpected(answer.header("chartmesh-durability"));
        Durability::default()
    });
    Some(Answered {
        at,
        by,
        told,
        applied: answer.header("chartmesh-applied") != "pending",
        shown: shown(answer),
        durability,
        isolated: answer.header("chartmesh-state") == "isolated",
        as_of,
    })
}

/// Only writes say how durable they are.
fn durability(header: &str) -> Option<Durability> {
    match header {
        "" | "region" => Some(Durability::Region),
        "node" => Some(Durability::Node),
        _ => {
            let copies = header.strip_prefix("site;copies=")?.parse().ok()?;
            Some(Durability::Site { copies })
        }
    }
}

/// The mark of the resource in an answer.
fn shown(answer: &Answer) -> Option<Mark> {
    let resource = answer.json();
    let identifiers = resource.get("identifier")?.as_array()?;
    let mark = identifiers.iter().find(|identifier| identifier["system"] == MARK_SYSTEM)?;
    Some(Mark(mark["value"].as_str()?.to_owned()))
}

/// The heads that `Chartmesh-Conflict` names: all of a conflict that have arrived.
#[must_use]
pub fn heads(answer: &Answer) -> Option<BTreeSet<VersionId>> {
    let named = answer.header("chartmesh-conflict");
    let tags = named.split(',').map(str::trim).filter(|tag| !tag.is_empty());
    let version = |tag: &str| {
        let name = tag.strip_prefix("W/\"")?.strip_suffix('"')?;
        Some(VersionId(name.to_owned()))
    };
    let heads: BTreeSet<_> = tags.map(version).collect::<Option<_>>()?;
    (!heads.is_empty()).then_some(heads)
}

fn told(wish: &Wish, answer: &Answer) -> Option<Told> {
    let version = || Some(VersionId(answer.version()?.to_owned()));
    match (wish, answer.status.as_u16()) {
        (Wish::Write(register), 200 | 201) => {
            Some(Told::Written([(register.clone(), version()?)].into()))
        }
        (Wish::Replace(register, _) | Wish::Resolve(register, _), 200) => {
            Some(Told::Written([(register.clone(), version()?)].into()))
        }
        // Two resources of one name, made in different origins, both stand.
        (Wish::Replace(..) | Wish::Resolve(..) | Wish::CreateOnce(_), 412) => Some(Told::Refused),
        (Wish::WriteTogether(registers), 200) => {
            let body = answer.json();
            let entries = body.get("entry")?.as_array()?;
            let versions = registers.iter().zip(entries).map(|(register, entry)| {
                let etag = entry.pointer("/response/etag")?.as_str()?;
                let version = etag.strip_prefix("W/\"")?.strip_suffix('"')?;
                Some((register.clone(), VersionId(version.to_owned())))
            });
            let versions: BTreeMap<_, _> = versions.collect::<Option<_>>()?;
            (versions.len() == registers.len()).then_some(Told::Written(versions))
        }
        (Wish::CreateOnce(_), status @ (200 | 201)) => {
            let path = answer.header("location").split("/_history/").next()?;
            let id = path.rsplit_once("/Patient/")?.1.to_owned();
            Some(Told::Stands { id, created: status == 201 })
        }
        (Wish::Read(_) | Wish::ReadNewest(_), 200) => Some(Told::Holds(Some(version()?))),
        (Wish::Read(_) | Wish::ReadNewest(_), 404) => Some(Told::Holds(None)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::HeaderMap;

    use super::*;

    #[test]
    fn durabilities_and_heads_are_understood() {
        let conflict = |header: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert("chartmesh-conflict", header.parse().expect("plain text"));
            heads(&Answer { status: StatusCode::OK, headers, body: Bytes::new() })
        };
        let named = |name: &str| VersionId(name.to_owned());

        assert_eq!(durability("region"), Some(Durability::Region));
        assert_eq!(durability("site;copies=2"), Some(Durability::Site { copies: 2 }));
        assert_eq!(durability("node"), Some(Durability::Node));
        assert_eq!(durability("disk"), None);
        assert_eq!(
            conflict("W/\"3-pac.a\", W/\"3-pac-1.b\""),
            Some([named("3-pac.a"), named("3-pac-1.b")].into())
        );
        assert_eq!(conflict("3-pac.a"), None);
    }
}
