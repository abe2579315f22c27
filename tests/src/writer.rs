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

use crate::history::{
    Answered, Instant, Mark, NodeName, Recorder, Register, Told, VersionId, Wish,
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
    /// How many registers they write.
    pub registers: usize,
    /// How long they go on trying, before the fate of a write is left unknown.
    pub perseverance: Duration,
    /// How long they think between two wishes.
    pub pause: Duration,
}

impl fmt::Debug for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Run").field("registers", &self.registers).finish_non_exhaustive()
    }
}

impl Run {
    /// The registers of this run.
    pub fn registers(&self) -> impl Iterator<Item = Register> + use<> {
        (0..self.registers).map(|number| Register(format!("Patient/register-{number}")))
    }

    fn has_ended(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// One client.
#[derive(Debug)]
pub struct Writer {
    name: String,
    run: Run,
    nodes: Vec<(NodeName, Client)>,
    /// The node that it asks: another one now and then, and when that one does not answer.
    at: usize,
    random: StdRng,
    wishes: usize,
    /// The versions that it saw last.
    seen: BTreeMap<Register, VersionId>,
}

impl Writer {
    /// A client of this name, which must be unique in its run, with a way to each node.
    #[must_use]
    pub fn new(name: &str, seed: u64, run: Run, nodes: Vec<(NodeName, Client)>) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let at = random.random_range(0..nodes.len());
        let (name, seen) = (name.to_owned(), BTreeMap::new());
        Self { name, run, nodes, at, random, wishes: 0, seen }
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
            if let Some((told, applied)) = answer.ok().and_then(|answer| understand(&wish, &answer))
            {
                self.remember(&wish, &told);
                let answered = Answered { at, by, told: told.clone(), applied };
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
            30..60 => match self.seen.get(&register) {
                Some(version) => Wish::Replace(register, version.clone()),
                None => Wish::Read(register),
            },
            60..70 => {
                let other = self.register();
                Wish::WriteTogether(BTreeSet::from([register, other]))
            }
            // A new name is born every second or so; several writers want it.
            70..80 => {
                let age = (self.run.now)().as_millis() / 1_000;
                Wish::CreateOnce(format!("name-{age}"))
            }
            80..90 => Wish::Read(register),
            _ => Wish::ReadNewest(register),
        }
    }

    fn register(&mut self) -> Register {
        self.run.registers().choose(&mut self.random).expect("there are registers")
    }

    fn remember(&mut self, wish: &Wish, told: &Told) {
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

/// What the client is told, and whether a read at the same node already shows it. `None`: nothing
/// that it can rely on.
fn understand(wish: &Wish, answer: &Answer) -> Option<(Told, bool)> {
    if answer.status == StatusCode::SERVICE_UNAVAILABLE {
        return None;
    }
    let told = told(wish, answer).unwrap_or_else(|| {
        Told::Unexpected(format!("{wish:?}: {} {}", answer.status, answer.text()))
    });
    Some((told, answer.header("chartmesh-applied") != "pending"))
}

fn told(wish: &Wish, answer: &Answer) -> Option<Told> {
    let version = || Some(VersionId(answer.version()?.to_owned()));
    match (wish, answer.status.as_u16()) {
        (Wish::Write(register), 200 | 201) => {
            Some(Told::Written([(register.clone(), version()?)].into()))
        }
        (Wish::Replace(register, _), 200) => {
            Some(Told::Written([(register.clone(), version()?)].into()))
        }
        (Wish::Replace(..), 412) => Some(Told::Refused),
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
