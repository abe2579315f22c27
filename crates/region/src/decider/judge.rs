//! This module judges waiting commands over what the node holds.

use chartmesh_record::{
    Batch, Command, Criteria, Cursor, Decision, FindError, Heads, Judgement, Recorded, RequestId,
    ResourceId, ResourceKey, Seq, Timestamp, View, mutant,
};
use chartmesh_store::{Corrupt, Shelf, Snapshot, Store};
use chartmesh_wire::Canonical;
use chartmesh_wire::raft::Proposal;

use super::propose::Lost;
use super::queue::{Load, Verdict, Waiting};
use crate::core::Core;
use crate::submit::Fate;

/// Judged commands, and what they change.
pub(crate) struct Ruled {
    /// What is to be answered, once what they change is in the log.
    pub(super) verdicts: Vec<(Waiting, Verdict)>,
    /// In the feed's order.
    pub(crate) changes: Vec<Canonical>,
}

/// One judged command.
pub(super) enum RuledOne {
    /// It changes something.
    Change(Box<Changed>),
    /// It does not.
    Verdict(Verdict),
}

/// What a command changes.
pub(super) struct Changed {
    /// What was decided.
    pub(super) decision: Decision,
    /// What it makes of the command.
    pub(super) change: Canonical,
}

/// What is held. One mutant forgets requests of earlier terms.
pub(crate) struct Held<'s> {
    snapshot: Snapshot<'s>,
    forgotten: Seq,
}

impl View for Held<'_> {
    type Error = Corrupt;
    type Shelf = Shelf;

    fn heads(&self, key: &ResourceKey) -> Result<Heads, Corrupt> {
        self.snapshot.heads(key)
    }

    fn shelve(&self, shelf: &mut Shelf, key: &ResourceKey, content: Option<&[u8]>) {
        self.snapshot.shelve(shelf, key, content);
    }

    fn unshelve(&self, shelf: &mut Shelf, key: &ResourceKey) {
        self.snapshot.unshelve(shelf, key);
    }

    fn find(
        &self,
        criteria: &Criteria,
        shelves: &[&Shelf],
        limit: usize,
    ) -> Result<Vec<ResourceId>, FindError<Corrupt>> {
        self.snapshot.find(criteria, shelves, limit)
    }

    fn request(&self, id: &RequestId) -> Result<Option<Recorded>, Corrupt> {
        let recorded = self.snapshot.request(id)?;
        Ok(recorded.filter(|recorded| {
            let change = recorded.outcome.change.as_ref();
            change.is_none_or(|(_, seq)| *seq > self.forgotten)
        }))
    }
}

impl<'s> Held<'s> {
    /// What the leader of a term that began at this place holds.
    pub(crate) fn of(store: &'s Store, began: &Cursor) -> Self {
        let forgets = mutant("request-forgotten-at-leader-change");
        Self { snapshot: store.snapshot(), forgotten: if forgets { began.seq } else { Seq(0) } }
    }
}

/// Judges commands in turn.
pub(crate) fn judge(
    core: &Core,
    batch: &mut Batch<'_, Held<'_>>,
    commands: Vec<Waiting>,
    at: Timestamp,
) -> Result<Ruled, Lost> {
    let mut ruled = Ruled { verdicts: Vec::with_capacity(commands.len()), changes: Vec::new() };
    core.blocking.run(|| {
        for waiting in commands {
            if !waiting.begin() {
                continue;
            }
            let Load::Small { command, .. } = &waiting.load else {
                unreachable!("big commands wait elsewhere");
            };
            let verdict = match judge_one(core, batch, command, at)? {
                RuledOne::Change(changed) => {
                    let verdict = Verdict::Accepted(changed.change.change_set().outcome());
                    ruled.changes.push(changed.change);
                    verdict
                }
                RuledOne::Verdict(verdict) => verdict,
            };
            ruled.verdicts.push((waiting, verdict));
        }
        Ok(ruled)
    })
}

/// Judges one command.
pub(super) fn judge_one(
    core: &Core,
    batch: &mut Batch<'_, Held<'_>>,
    command: &Command,
    at: Timestamp,
) -> Result<RuledOne, Lost> {
    let judgement = batch.judge(command, at).map_err(|corrupt| {
        core.end(&corrupt);
        Lost { fate: Fate::NotWritten }
    })?;
    Ok(match judgement {
        Judgement::Change { decision, change_set } => {
            let change = Canonical::encode(change_set);
            RuledOne::Change(Box::new(Changed { decision, change }))
        }
        Judgement::Answer(outcome) => RuledOne::Verdict(Verdict::Accepted(outcome)),
        Judgement::Refused(rejection) => RuledOne::Verdict(Verdict::Rejected(rejection)),
        Judgement::Lacking(version) => RuledOne::Verdict(Verdict::Lacking(version)),
    })
}

impl Ruled {
    /// What puts the changes into the log.
    pub(super) fn proposal(&self, extends: Cursor, at: Timestamp) -> Proposal {
        metrics::histogram!("chartmesh_region_batch_changes").record(self.changes.len() as f64);
        let change_sets = self.changes.iter().map(|change| change.bytes().clone()).collect();
        Proposal::Batch { extends, at, change_sets }
    }

    /// Tells everybody the verdict.
    pub(crate) fn answer(self) {
        self.verdicts.into_iter().for_each(|(waiting, verdict)| waiting.answer(verdict));
    }

    /// Tells everybody that the changes may not have got into the log.
    pub(super) fn lose(self, lost: Lost) -> Lost {
        self.verdicts.into_iter().for_each(|(waiting, _)| waiting.answer(lost.verdict()));
        lost
    }
}
