//! This module decides while the node is isolated: over its own store, with the same rules, straight
//! into a journal of its own.
//!
//! A journal begins with the first write of an isolation and ends with the isolation or the process.
//! It is never taken up again: its origin is drawn at random, so no name is ever used twice.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use chartmesh_record::{Batch, Cursor, Origin, Outcome, Timestamp, mutant};
use chartmesh_store::{Apply, Run, RunOutcome};
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::{Instant, sleep_until};

use crate::core::Core;
use crate::decider::{Held, Inbox, Load, Queue, Verdict, Waiting, judge};
use crate::forward::unless_lacking;
use crate::limits::{COPIES_WAIT, Limits};
use crate::submit::{Accepted, Durability, Fate, Reason, SubmitError, Unavailable};

/// The journal of this node.
#[derive(Debug)]
pub(crate) struct Journal {
    queue: Queue,
    /// Held while a batch is decided, and while the node finds out whether it may return.
    turn: Mutex<Turn>,
    /// The journal that is open, if there is one.
    open: RwLock<Option<Origin>>,
}

/// The right to write, or to end the journal.
#[derive(Debug, Default)]
pub(crate) struct Turn {
    /// When the last batch was decided.
    last: Timestamp,
}

impl Journal {
    pub(crate) fn new(limits: &Limits) -> (Self, Inbox) {
        let (queue, inbox) = Queue::new(limits);
        (Self { queue, turn: Mutex::default(), open: RwLock::default() }, inbox)
    }

    /// Keeps new writes back while it lives.
    pub(crate) async fn hold_back(&self) -> MutexGuard<'_, Turn> {
        self.turn.lock().await
    }

    /// Whether a feed is the journal that is open.
    pub(crate) fn is_open(&self, origin: &Origin) -> bool {
        self.origin().as_ref() == Some(origin)
    }

    fn origin(&self) -> Option<Origin> {
        self.open.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_origin(&self, origin: Option<Origin>) {
        *self.open.write().unwrap_or_else(PoisonError::into_inner) = origin;
    }

    /// Ends the journal, if one is open.
    pub(crate) fn close(&self, _turn: &mut Turn) {
        if let Some(origin) = self.origin() {
            tracing::info!(%origin, "the journal is closed");
            self.set_origin(None);
        }
    }
}

/// Has a command decided into the journal. `None`: the node has returned to its region meanwhile,
/// and nothing was written.
pub(crate) async fn write(
    core: &Core,
    load: Load,
    deadline: Instant,
) -> Result<Option<Accepted>, SubmitError> {
    let decide = || core.journal.queue.decide(load.clone(), None, sleep_until(deadline));
    let unavailable = |reason, fate| Err(Unavailable::new(reason, fate).into());
    let outcome = match unless_lacking(core, decide).await {
        Verdict::Accepted(outcome) => outcome,
        Verdict::Rejected(rejection) => return Err(rejection.into()),
        Verdict::Lacking(version) => {
            return unavailable(Reason::Lacking(version), Fate::NotWritten);
        }
        Verdict::NotLeader if core.isolation.since().is_none() => return Ok(None),
        Verdict::NotLeader | Verdict::Overloaded => {
            return unavailable(Reason::Overloaded, Fate::NotWritten);
        }
        Verdict::Unknown => return unavailable(Reason::Stopping, Fate::Unknown),
    };
    let durability = durability(core, &outcome).await?;
    Ok(Some(Accepted { outcome, durability, applied: true }))
}

/// What an outcome survives: how many disks of the site hold what it has changed.
async fn durability(core: &Core, outcome: &Outcome) -> Result<Durability, SubmitError> {
    let Some((origin, seq)) = &outcome.change else { return Ok(Durability::Node) };
    if origin.name() == core.region.0 {
        // A retry of what the region has decided.
        return Ok(Durability::Region);
    }
    let hash = core.store.chain(origin, *seq).map_err(|error| {
        core.end(error);
        Unavailable::new(Reason::Stopping, Fate::Unknown)
    })?;
    let Some(hash) = hash else { return Ok(Durability::Node) };
    let at = Cursor { origin: origin.clone(), seq: *seq, hash };
    Ok(match core.feeds.copies(at, COPIES_WAIT).await {
        0 | 1 => Durability::Node,
        copies => Durability::Site { copies },
    })
}

/// Decides what waits while the node is isolated, batch by batch, for ever.
pub(crate) async fn keep_deciding(core: Arc<Core>, mut inbox: Inbox) {
    while let Some(commands) = inbox.next_batch().await {
        let mut turn = core.journal.turn.lock().await;
        if core.isolation.since().is_none() {
            // It has just returned: the region decides.
            commands.into_iter().for_each(|waiting| waiting.answer(Verdict::NotLeader));
            continue;
        }
        if decide(&core, commands, &mut turn).is_none() {
            return;
        }
    }
}

/// Decides a batch. What is answered is on the disk. `None`: the node cannot go on.
fn decide(core: &Core, commands: Vec<Waiting>, turn: &mut Turn) -> Option<()> {
    let origin = core.journal.origin().unwrap_or_else(|| {
        let bits = if mutant("journal-reopened") { 7 } else { core.random.bits() };
        Origin::new(&core.me.0, bits)
    });
    let extends = core.store.cursor(&origin);
    let held = Held::of(&core.store, &Cursor::start(origin.clone()));
    let mut batch = Batch::new(&held, &extends);
    let at = Timestamp(core.clock.wall().0.max(turn.last.0 + 1));
    let ruled = judge(core, &mut batch, commands, at).ok()?;
    if !ruled.changes.is_empty() {
        if core.journal.origin().is_none() {
            tracing::warn!(%origin, "writes go into a journal of this node");
            core.journal.set_origin(Some(origin));
        }
        turn.last = at;
        let changes = ruled.changes.clone();
        metrics::counter!("chartmesh_region_journaled_total").increment(changes.len() as u64);
        let written = core.blocking.run(|| keep(core, Run { extends, changes }));
        written.map_err(|error| core.end(error)).ok()?;
    }
    ruled.answer();
    Some(())
}

/// Puts changes into the journal, on the disk.
fn keep(core: &Core, run: Run) -> Result<(), Broken> {
    let broken = |error: &dyn fmt::Display| Broken(error.to_string());
    let arrived = core.clock.wall();
    let apply = Apply { runs: vec![run], applied: None, arrived };
    let applied = core.store.apply(apply).map_err(|error| broken(&error))?;
    if !matches!(applied.runs[..], [RunOutcome::Held { .. }]) {
        return Err(broken(&"it does not go on where it was"));
    }
    if !mutant("journal-not-synced") {
        core.store.sync().map_err(|error| broken(&error))?;
    }
    Ok(())
}

/// The journal cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("the journal cannot be written: {0}")]
struct Broken(String);
