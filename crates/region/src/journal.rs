//! This module decides while the node is isolated: over its own store, with the same rules, straight
//! into a journal of its own.
//!
//! A journal begins with the first write of an isolation and ends with the isolation or the process.
//! It is never taken up again: its origin is drawn at random, so no name is ever used twice.

use chartmesh_record::{Batch, Command, Cursor, Judgement, Origin, Outcome, Timestamp, mutant};
use chartmesh_store::{Apply, Run, RunOutcome};
use chartmesh_wire::Canonical;
use tokio::sync::{Mutex, MutexGuard, Semaphore};
use tokio::time::{Instant, timeout_at};

use crate::core::Core;
use crate::limits::COPIES_WAIT;
use crate::submit::{Accepted, Durability, Fate, Reason, SubmitError, Unavailable};

/// The journal of this node.
#[derive(Debug)]
pub(crate) struct Journal {
    /// Held while one command is decided, and while the node finds out whether it may return.
    turn: Mutex<Open>,
    waiting: Semaphore,
}

/// The journal that is open, if there is one.
#[derive(Debug, Default)]
pub(crate) struct Open {
    origin: Option<Origin>,
    /// When the last command was decided.
    last: Timestamp,
}

impl Journal {
    pub(crate) fn new(capacity: usize) -> Self {
        Self { turn: Mutex::default(), waiting: Semaphore::new(capacity.max(1)) }
    }

    /// Keeps new writes back while it lives.
    pub(crate) async fn hold_back(&self) -> MutexGuard<'_, Open> {
        self.turn.lock().await
    }

    /// Whether a feed is the journal that is open.
    pub(crate) fn is_open(&self, origin: &Origin) -> bool {
        // Whoever holds the turn writes to it.
        self.turn.try_lock().map_or(true, |open| open.origin.as_ref() == Some(origin))
    }
}

impl Open {
    /// Ends the journal.
    pub(crate) fn close(&mut self) {
        if let Some(origin) = self.origin.take() {
            tracing::info!(%origin, "the journal is closed");
        }
    }
}

/// What became of a command, and where it stands.
struct Written {
    outcome: Outcome,
    at: Option<Cursor>,
}

/// Decides a command into the journal.
pub(crate) async fn write(
    core: &Core,
    command: &Command,
    deadline: Instant,
) -> Result<Accepted, SubmitError> {
    let journal = &core.journal;
    let overloaded = || Unavailable::new(Reason::Overloaded, Fate::NotWritten);
    let _place = journal.waiting.try_acquire().map_err(|_| overloaded())?;
    let turn = timeout_at(deadline, journal.turn.lock());
    let mut open = turn.await.map_err(|_| overloaded())?;
    if core.isolation.since().is_none() {
        // It has just returned: the region decides.
        return Err(Unavailable::new(Reason::NoQuorum, Fate::NotWritten).into());
    }
    let written = core.blocking.run(|| decide(core, command, &mut open))?;
    drop(open);
    let durability = match &written.at {
        Some(at) => match core.feeds.copies(at.clone(), COPIES_WAIT).await {
            0 | 1 => Durability::Node,
            copies => Durability::Site { copies },
        },
        None => Durability::Node,
    };
    Ok(Accepted { outcome: written.outcome, durability, applied: true })
}

fn decide(core: &Core, command: &Command, open: &mut Open) -> Result<Written, SubmitError> {
    let corrupt = |error: &dyn std::fmt::Display| {
        core.end(error);
        SubmitError::from(Unavailable::new(Reason::Stopping, Fate::NotWritten))
    };
    let origin = open.origin.clone().unwrap_or_else(|| {
        let bits = if mutant("journal-reopened") { 7 } else { core.random.bits() };
        Origin::new(&core.me.0, bits)
    });
    let extends = core.store.cursor(&origin);
    let held = core.store.snapshot();
    let mut batch = Batch::new(&held, &extends);
    let at = Timestamp(core.clock.wall().0.max(open.last.0 + 1));
    let judgement = batch.judge(command, at).map_err(|error| corrupt(&error))?;
    let change = match judgement {
        Judgement::Change { change_set, .. } => Canonical::encode(change_set),
        Judgement::Answer(outcome) => return Ok(Written { outcome, at: None }),
        Judgement::Refused(rejection) => return Err(rejection.into()),
        Judgement::Lacking(version) => {
            return Err(Unavailable::new(Reason::Lacking(version), Fate::NotWritten).into());
        }
    };
    let (outcome, after) = (change.change_set().outcome(), extends.extend(change.bytes()));
    let run = Run { extends, changes: vec![change] };
    let apply = Apply { runs: vec![run], applied: None, arrived: core.clock.wall() };
    let applied = core.store.apply(apply).map_err(|error| corrupt(&error))?;
    if !matches!(applied.runs[..], [RunOutcome::Held { .. }]) {
        return Err(corrupt(&format_args!("the journal {} does not go on", after.origin)));
    }
    if !mutant("journal-not-synced") {
        core.store.sync().map_err(|error| corrupt(&error))?;
    }
    if open.origin.is_none() {
        tracing::warn!(%origin, "writes go into a journal of this node");
    }
    *open = Open { origin: Some(origin), last: at };
    metrics::counter!("chartmesh_region_journaled_total").increment(1);
    Ok(Written { outcome, at: Some(after) })
}
