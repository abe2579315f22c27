//! This module holds what clients asked and were answered, and what the nodes hold in the end: the
//! evidence on which the invariants are judged.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

/// One instant of a run, counted from its beginning.
pub type Instant = Duration;

/// The mark of one write: no two writes carry the same, so that it is found again in what is held.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mark(pub String);

/// A resource that several writers write, such as `Patient/register-3`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Register(pub String);

/// A FHIR version id.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VersionId(pub String);

/// A node, by its name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeName(pub String);

/// What a client wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Writes a register, whatever it holds.
    Write(Register),
    /// Writes a register if this version still stands.
    Replace(Register, VersionId),
    /// Writes several registers, all or none.
    WriteTogether(BTreeSet<Register>),
    /// Creates the one resource that bears this name, unless it is there.
    CreateOnce(String),
    /// Reads a register at the node itself.
    Read(Register),
    /// Reads the newest state of a register.
    ReadNewest(Register),
}

/// What a client was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// Written, as these versions.
    Written(BTreeMap<Register, VersionId>),
    /// Created under this id, or found there.
    Stands {
        /// Where.
        id: String,
        /// Whether this request made it.
        created: bool,
    },
    /// The precondition does not hold.
    Refused,
    /// This version stands; `None`: there is none.
    Holds(Option<VersionId>),
    /// Something that no wish allows for.
    Unexpected(String),
}

/// One wish and what became of it.
#[derive(Clone, Debug)]
pub struct Operation {
    /// Its mark; a read's occurs nowhere else.
    pub mark: Mark,
    /// What was wanted.
    pub wish: Wish,
    /// When it was first asked.
    pub asked: Instant,
    /// When and by which node it was answered; `None`: what became of it is unknown.
    pub answer: Option<Answered>,
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Answered {
    /// When.
    pub at: Instant,
    /// By whom.
    pub by: NodeName,
    /// What.
    pub told: Told,
    /// Whether a read there already shows it.
    pub applied: bool,
}

/// A version as a node holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Its name.
    pub version: VersionId,
    /// The mark of the write that made it.
    pub mark: Mark,
}

/// What a node holds in the end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeState {
    /// The versions of each register, the oldest first.
    pub registers: BTreeMap<Register, Vec<Held>>,
    /// Its cursors, as text.
    pub horizon: String,
    /// Its digest.
    pub digest: String,
}

/// All that is known of a run.
#[derive(Clone, Debug, Default)]
pub struct Evidence {
    /// What clients asked and were answered, in the order of the asking.
    pub operations: Vec<Operation>,
    /// When nodes were started again.
    pub restarts: Vec<(NodeName, Instant)>,
    /// What each node holds in the end.
    pub nodes: BTreeMap<NodeName, NodeState>,
}

impl Operation {
    /// What the client was told, if anything.
    #[must_use]
    pub fn told(&self) -> Option<&Told> {
        self.answer.as_ref().map(|answer| &answer.told)
    }

    /// Until when the operation may have taken effect: for ever, if its fate is unknown.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        self.answer.as_ref().map_or(Instant::MAX, |answer| answer.at)
    }

    /// The registers that it writes.
    #[must_use]
    pub fn writes(&self) -> BTreeSet<&Register> {
        match &self.wish {
            Wish::Write(register) | Wish::Replace(register, _) => [register].into(),
            Wish::WriteTogether(registers) => registers.iter().collect(),
            Wish::CreateOnce(_) | Wish::Read(_) | Wish::ReadNewest(_) => BTreeSet::new(),
        }
    }
}

impl Evidence {
    /// What the first node holds of the registers: all hold the same, or do not agree.
    #[must_use]
    pub fn registers(&self) -> BTreeMap<Register, Vec<Held>> {
        self.nodes.values().next().map(|node| node.registers.clone()).unwrap_or_default()
    }
}

/// Takes down what clients ask and are answered while they run.
#[derive(Clone, Debug, Default)]
pub struct Recorder(Arc<Mutex<Vec<Operation>>>);

/// An operation that was taken down and may still be answered.
#[derive(Clone, Copy, Debug)]
pub struct Ticket(usize);

impl Recorder {
    /// Takes down what is asked, before it is.
    #[must_use]
    pub fn ask(&self, mark: Mark, wish: Wish, asked: Instant) -> Ticket {
        let mut operations = self.lock();
        operations.push(Operation { mark, wish, asked, answer: None });
        Ticket(operations.len() - 1)
    }

    /// Takes down the answer.
    pub fn answer(&self, ticket: Ticket, answer: Answered) {
        self.lock()[ticket.0].answer = Some(answer);
    }

    /// Everything so far, in the order of the asking.
    #[must_use]
    pub fn operations(&self) -> Vec<Operation> {
        self.lock().clone()
    }

    /// The names that anybody wanted to create.
    #[must_use]
    pub fn names(&self) -> BTreeSet<String> {
        let name = |operation: &Operation| match &operation.wish {
            Wish::CreateOnce(name) => Some(name.clone()),
            _ => None,
        };
        self.lock().iter().filter_map(name).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Operation>> {
        self.0.lock().expect("nobody panics while holding it")
    }
}
