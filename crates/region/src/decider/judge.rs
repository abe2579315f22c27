//! This module judges waiting commands over what the node holds.

use bytes::Bytes;
use chartmesh_record::{
    Batch, Command, Criteria, Cursor, Decision, Heads, Judgement, Recorded, RequestId, ResourceId,
    ResourceKey, Seq, Timestamp, View, mutant,
};
use chartmesh_store::{Corrupt, Snapshot, Store};
use chartmesh_wire::Canonical;

use super::queue::{Load, Verdict, Waiting};

/// Judged commands, and what they change.
pub(super) struct Ruled {
    /// What is to be answered, once what they change is in the log.
    pub(super) verdicts: Vec<(Waiting, Verdict)>,
    /// Canonical bytes.
    pub(super) changes: Vec<Bytes>,
}

/// A judged big command.
pub(super) enum RuledBig {
    /// It changes something.
    Change { decision: Decision, change: Canonical },
    /// It does not.
    Verdict(Verdict),
}

/// What is held. One mutant forgets requests of earlier terms.
struct Held<'s> {
    snapshot: Snapshot<'s>,
    forgotten: Seq,
}

impl View for Held<'_> {
    type Error = Corrupt;

    fn heads(&self, key: &ResourceKey) -> Result<Heads, Corrupt> {
        self.snapshot.heads(key)
    }

    fn find(&self, criteria: &Criteria, limit: usize) -> Result<Vec<ResourceId>, Corrupt> {
        self.snapshot.find(criteria, limit)
    }

    fn request(&self, id: &RequestId) -> Result<Option<Recorded>, Corrupt> {
        let recorded = self.snapshot.request(id)?;
        Ok(recorded.filter(|recorded| {
            let change = recorded.outcome.change.as_ref();
            change.is_none_or(|(_, seq)| *seq > self.forgotten)
        }))
    }
}

/// What the leader of a term that began at this place holds.
fn held<'s>(store: &'s Store, began: &Cursor) -> Held<'s> {
    let forgets = mutant("request-forgotten-at-leader-change");
    Held { snapshot: store.snapshot(), forgotten: if forgets { began.seq } else { Seq(0) } }
}

/// Judges commands in turn.
pub(super) fn judge(
    store: &Store,
    began: &Cursor,
    extends: &Cursor,
    commands: Vec<Waiting>,
    at: Timestamp,
) -> Result<Ruled, Corrupt> {
    let held = held(store, began);
    let mut batch = Batch::new(&held, extends);
    let mut ruled = Ruled { verdicts: Vec::with_capacity(commands.len()), changes: Vec::new() };
    for waiting in commands {
        let Load::Small { command, .. } = &waiting.load else {
            unreachable!("big commands wait elsewhere");
        };
        let verdict = match batch.judge(command, at)? {
            Judgement::Change { change_set, .. } => {
                let verdict = Verdict::Accepted(change_set.outcome());
                ruled.changes.push(Canonical::encode(change_set).bytes().clone());
                verdict
            }
            Judgement::Answer(outcome) => Verdict::Accepted(outcome),
            Judgement::Refused(rejection) => Verdict::Rejected(rejection),
            Judgement::Lacking(version) => Verdict::Lacking(version),
        };
        ruled.verdicts.push((waiting, verdict));
    }
    Ok(ruled)
}

/// Judges one big command.
pub(super) fn judge_big(
    store: &Store,
    began: &Cursor,
    extends: &Cursor,
    command: &Command,
    at: Timestamp,
) -> Result<RuledBig, Corrupt> {
    let held = held(store, began);
    Ok(match Batch::new(&held, extends).judge(command, at)? {
        Judgement::Change { decision, change_set } => {
            RuledBig::Change { decision, change: Canonical::encode(change_set) }
        }
        Judgement::Answer(outcome) => RuledBig::Verdict(Verdict::Accepted(outcome)),
        Judgement::Refused(rejection) => RuledBig::Verdict(Verdict::Rejected(rejection)),
        Judgement::Lacking(version) => RuledBig::Verdict(Verdict::Lacking(version)),
    })
}
