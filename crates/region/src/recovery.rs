//! This module starts a region again that has lost the majority of its voters for good
//! (docs/decisions/0017).
//!
//! ```text
//! survivor, stopped:  survey -> a person agrees -> recover: noted down
//! survivor, started:  becomes another disk, founds the group alone, begins a new origin,
//!                     decides again what its log held beyond what was applied
//! others:             learn of it by greeting, leave their old group, and join
//! ```
//! Request ids are kept, so that what was decided and has spread is not decided twice.

use std::fmt::Display;

use bytes::Bytes;
use chartmesh_record::{
    Action, ChangeSet, Command, Cursor, Draft, NodeName, Operation, Precondition, RegionName,
    Resource, Timestamp,
};
use chartmesh_store::{Apply, Identity, Note, RaftLog, Store};
use chartmesh_wire::raft::{self as wire, Proposal};
use chartmesh_wire::{Canonical, decode_command, encode_command, proto};
use openraft::EntryPayload;

use crate::codec::entry_kept;
use crate::core::Core;
use crate::forward;
use crate::limits::RETRY_AFTER;
use crate::position::Position;
use crate::setup::Corrupt;
use crate::submit::SubmitError;
use crate::types::Sealed;
use crate::upload::Uploads;

/// What a survivor's disk holds of its region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Survey {
    /// The region whose group it belonged to.
    pub region: RegionName,
    /// Who voted, as far as it knows.
    pub voters: Vec<NodeName>,
    /// How far it has applied the region's feed.
    pub feed: Option<Cursor>,
    /// The newest instant that it has applied.
    pub at: Timestamp,
    /// Writes that its log holds beyond that: whether they were acknowledged is not known. They are
    /// decided again.
    pub undecided: usize,
    /// The newest instant that its log holds.
    pub log_at: Timestamp,
}

/// What a disk knows of recoveries.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Recovery(proto::Recovery);

/// What the log of a disk holds beyond what was applied.
struct Tail {
    commands: Vec<Bytes>,
    at: Timestamp,
}

fn corrupt(error: impl Display) -> Corrupt {
    Corrupt { what: "what the disk holds of its region", reason: error.to_string() }
}

/// Looks at the disk of a node that does not run.
///
/// # Errors
/// When it belongs to no group, or cannot be read.
pub fn survey(store: &Store, log: &RaftLog) -> Result<Survey, Corrupt> {
    let position = position(store)?;
    let region = region_of(log, &position)?;
    let is_member = position.membership.membership().nodes().next().is_some();
    if log.identity().is_some() && !is_member {
        return Err(corrupt("it belongs to no group"));
    }
    let names = position.membership.membership().nodes();
    let tail = tail(log, &position)?;
    Ok(Survey {
        region,
        voters: names.filter_map(|(_, peer)| peer.name.clone()).collect(),
        feed: position.origin.as_ref().map(|origin| store.cursor(origin)),
        at: position.at,
        undecided: tail.commands.len(),
        log_at: tail.at,
    })
}

/// Notes down that the region goes on from this disk, whose node does not run: its next start founds
/// the group anew. `now` and `bits` order this recovery among others: the later is greater.
///
/// # Errors
/// When the disk cannot be read or written.
pub fn recover(store: &Store, log: &RaftLog, now: Timestamp, bits: u64) -> Result<(), Corrupt> {
    let commands = tail(log, &position(store)?)?.commands;
    let now = u64::try_from(now.0).unwrap_or(0);
    let id = (now << 16) | (bits & 0xffff);
    Recovery(proto::Recovery { id, pending: true, founds: true, commands }).keep(store)?;
    store.sync().map_err(corrupt)
}

/// The region that a disk has taken part in: its log says it, or, of one that was put back from a backup, the
/// feed that it has applied.
fn region_of(log: &RaftLog, position: &Position) -> Result<RegionName, Corrupt> {
    let of_feed = || position.origin.as_ref().map(|origin| RegionName(origin.name()));
    let region = log.identity().map(|identity| identity.region).or_else(of_feed);
    region.ok_or_else(|| corrupt("it has never taken part in a region"))
}

fn position(store: &Store) -> Result<Position, Corrupt> {
    store.applied().map_or_else(|| Ok(Position::start()), Position::decode)
}

/// What the log holds beyond what was applied, as commands.
fn tail(log: &RaftLog, position: &Position) -> Result<Tail, Corrupt> {
    let uploads = Uploads::new(log.clone());
    let (mut commands, mut at) = (Vec::new(), position.at);
    let end = log.last().map_or(0, |last| last.index + 1);
    for index in position.entries()..end {
        let entries = log.read(index..index + 1).map_err(corrupt)?;
        let Some((_, kept)) = entries.into_iter().next() else { continue };
        let EntryPayload::Normal(Sealed(bytes)) = entry_kept(kept)?.payload else { continue };
        match Proposal::decode(bytes).map_err(corrupt)? {
            Proposal::Begin { at: instant, .. } => at = at.max(instant),
            Proposal::Statement { statement } => at = at.max(statement.at),
            Proposal::Part { .. } => {}
            Proposal::Batch { at: instant, change_sets, .. } => {
                at = at.max(instant);
                for bytes in change_sets {
                    let change = Canonical::parse(bytes).map_err(corrupt)?;
                    commands.push(encode_command(&again(change.into_change_set())?));
                }
            }
            Proposal::Decided { parts, decision, .. } => {
                at = at.max(decision.at);
                commands.push(encode_command(&uploads.read(&parts)?.command));
            }
        }
    }
    Ok(Tail { commands, at })
}

/// The command that writes again what a change set has written.
fn again(set: ChangeSet) -> Result<Command, Corrupt> {
    let operation = |version: chartmesh_record::Version| {
        let (key, precondition) = (version.key, Precondition::None);
        let Some(content) = version.content else {
            return Ok(Operation::Delete { key, precondition });
        };
        let resource = Resource::parse(&content).map_err(corrupt)?;
        let draft = Draft { resource, links: Vec::new() };
        Ok(Operation::Update { key, draft, precondition })
    };
    let operations =
        set.versions.into_iter().map(operation).collect::<Result<Vec<_>, Corrupt>>()?;
    Ok(Command {
        request: set.request,
        digest: set.digest,
        client: set.client,
        place: set.place,
        action: Action::Transaction(operations),
    })
}

impl Recovery {
    /// What the disk knows.
    pub(crate) fn recall(store: &Store) -> Result<Self, Corrupt> {
        let kept = store.kept(Note::Recovery).map_err(corrupt)?;
        let kept = kept.map(wire::decode_recovery).transpose().map_err(corrupt)?;
        Ok(Self(kept.unwrap_or_default()))
    }

    fn keep(&self, store: &Store) -> Result<(), Corrupt> {
        store.keep(Note::Recovery, &wire::encode_recovery(&self.0)).map_err(corrupt)
    }

    /// Which it is: a later one is greater, and 0 none.
    pub(crate) fn id(&self) -> u64 {
        self.0.id
    }

    /// Whether this disk founds the group anew.
    pub(crate) fn founds(&self) -> bool {
        self.0.founds
    }

    /// Leaves the old group for good, if that is still to be done. Whatever is cut short is done at
    /// the next start.
    pub(crate) fn begin(
        mut self,
        store: &Store,
        log: &RaftLog,
        raft_id: u64,
    ) -> Result<Self, Corrupt> {
        if !self.0.pending {
            return Ok(self);
        }
        let position = position(store)?;
        let region = region_of(log, &position)?;
        let at = tail(log, &position)?.at;
        log.reset(&Identity { raft_id, region, founded: false }).map_err(corrupt)?;
        leave(store, |position| position.at = position.at.max(at))?;
        self.0.pending = false;
        self.keep(store)?;
        store.sync().map_err(corrupt)?;
        tracing::warn!(undecided = self.0.commands.len(), "the region is recovered from this disk");
        Ok(self)
    }

    /// Notes down that this disk has joined the group of a recovery.
    pub(crate) fn followed(store: &Store, id: u64) -> Result<Self, Corrupt> {
        let followed = Self(proto::Recovery { id, ..proto::Recovery::default() });
        followed.keep(store)?;
        store.sync().map_err(corrupt)?;
        Ok(followed)
    }
}

/// Makes of a copied state that of a disk that has never taken part in a group: what it holds stays, and
/// its node asks to be let in as a new disk.
///
/// # Errors
/// When the disk cannot be read or written.
pub fn begin_as_new(store: &Store) -> Result<(), Corrupt> {
    leave(store, |_| {})?;
    store.sync().map_err(corrupt)
}

/// Forgets the group and its log; what was applied stays. Returns the position that is left.
pub(crate) fn leave(store: &Store, adapt: impl FnOnce(&mut Position)) -> Result<Position, Corrupt> {
    let mut position = Position {
        log: None,
        membership: crate::types::StoredMembership::default(),
        ..position(store)?
    };
    adapt(&mut position);
    let apply = Apply { applied: Some(position.encode()), ..Apply::default() };
    store.apply(apply).map_err(corrupt)?;
    Ok(position)
}

/// Has decided again what the log of a survivor held, once the region goes on from it.
pub(crate) async fn decide_again(core: std::sync::Arc<Core>) {
    let recovery = match Recovery::recall(&core.store) {
        Ok(recovery) => recovery,
        Err(error) => return core.end(error),
    };
    if recovery.0.commands.is_empty() {
        return;
    }
    for bytes in &recovery.0.commands {
        let command = match decode_command(bytes.clone()) {
            Ok(command) => command,
            Err(error) => return core.end(error),
        };
        loop {
            // An isolated node would journal it: it waits until the region decides.
            while core.leader().is_none() || core.isolation.since().is_some() {
                tokio::time::sleep(RETRY_AFTER / 4).await;
            }
            match forward::submit(&core, command.clone()).await {
                Ok(_) => break,
                Err(SubmitError::Rejected(rejection)) => {
                    tracing::warn!(%rejection, request = %command.request,
                        "a write of the old group is not written again");
                    break;
                }
                Err(SubmitError::Unavailable(reason)) => {
                    tracing::debug!(%reason, "a write of the old group waits");
                    tokio::time::sleep(RETRY_AFTER / 4).await;
                }
            }
        }
    }
    tracing::info!(writes = recovery.0.commands.len(), "what the old group's log held is decided");
    let mut done = recovery;
    done.0.commands = Vec::new();
    let kept = done.keep(&core.store);
    if let Err(error) = kept {
        tracing::warn!(%error, "it is decided again at the next start, which finds it decided");
    }
}
