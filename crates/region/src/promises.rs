//! This module keeps, on this node's disk, what each voter of the region is known to have acknowledged
//! (docs/decisions/0015). The leader knows it, and tells all voters once a second.
//!
//! A voter whose disk is set back to old contents has forgotten what it promised. It finds out from
//! the others, before it votes.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use chartmesh_store::{LogId, Note, Store};
use chartmesh_wire::{proto, raft as wire};
use openraft::async_runtime::WatchReceiver;

use crate::codec::stored_id_to;
use crate::core::Core;
use crate::types::Vote;

/// What a voter has acknowledged. What it says later is greater, whoever leads by then: within one
/// leadership its log only grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Promise {
    /// The leadership that it has followed: the term, and the leader's Raft id.
    pub(crate) term: u64,
    pub(crate) leader: u64,
    /// The last entry on its disk.
    pub(crate) log: Option<LogId>,
}

/// What is known of all voters' promises, by Raft id.
#[derive(Debug, Default)]
pub(crate) struct Promises(Mutex<BTreeMap<u64, Promise>>);

impl Promise {
    /// What a disk says of itself.
    pub(crate) fn of_disk(vote: Option<&Vote>, log: Option<LogId>) -> Self {
        let leader = vote.map(|vote| *vote.leader_id());
        let (term, leader) = leader.map_or((0, 0), |leader| (leader.term, leader.node_id));
        Self { term, leader, log }
    }

    pub(crate) fn encode(&self, voter: u64) -> proto::Promise {
        let Self { term, leader, log } = *self;
        let log = log.map(|LogId { term, leader, index }| proto::LogId { term, leader, index });
        proto::Promise { voter, term, leader, log }
    }

    pub(crate) fn decode(message: &proto::Promise) -> (u64, Self) {
        let proto::Promise { voter, term, leader, log } = message;
        let log = log.map(|id| LogId { term: id.term, leader: id.leader, index: id.index });
        (*voter, Self { term: *term, leader: *leader, log })
    }
}

impl Promises {
    /// What the disk holds of them. What cannot be read there is learnt again.
    pub(crate) fn recall(store: &Store) -> Self {
        let kept = match store.kept(Note::Promises) {
            Ok(kept) => kept.map(wire::decode_promises).transpose(),
            Err(error) => {
                tracing::warn!(%error, "what the voters have acknowledged is not known");
                return Self::default();
            }
        };
        let kept = kept.unwrap_or_else(|error| {
            tracing::warn!(%error, "what the voters have acknowledged is not known");
            None
        });
        let kept = kept.unwrap_or_default().promises;
        Self(Mutex::new(kept.iter().map(Promise::decode).collect()))
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<u64, Promise>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a voter is known to have acknowledged.
    pub(crate) fn of(&self, voter: u64) -> Option<Promise> {
        self.all().get(&voter).copied()
    }

    /// Takes in what a leader tells, and keeps it on the disk; what is known of disks that are no
    /// members any more is forgotten.
    pub(crate) fn learn(&self, core: &Core, told: &[proto::Promise]) {
        let membership = core.membership();
        let is_member = |id: u64| {
            membership.as_ref().is_none_or(|membership| membership.get_node(&id).is_some())
        };
        let kept = {
            let mut all = self.all();
            let before = all.clone();
            all.retain(|&voter, _| is_member(voter));
            for (voter, promise) in told.iter().map(Promise::decode) {
                if is_member(voter) {
                    let known = all.entry(voter).or_default();
                    *known = promise.max(*known);
                }
            }
            if *all == before {
                return;
            }
            let promises = all.iter().map(|(&voter, promise)| promise.encode(voter)).collect();
            wire::encode_promises(&proto::Promises { promises })
        };
        let kept = core.blocking.run(|| core.store.keep(Note::Promises, &kept));
        if let Err(error) = kept {
            tracing::warn!(%error, "what the voters have acknowledged is not kept");
        }
    }

    /// What the voters have acknowledged to this node, if it leads.
    pub(crate) fn told_to(core: &Core) -> Vec<proto::Promise> {
        let (Some(leader), Some(raft)) = (core.leadership(), core.raft()) else {
            return Vec::new();
        };
        let metrics = raft.metrics();
        let metrics = metrics.borrow_watched();
        let Some(matched) = metrics.replication.as_ref() else { return Vec::new() };
        let promise = |log| Promise { term: leader.term, leader: leader.node_id, log: Some(log) };
        let told = matched.iter().filter_map(|(&voter, matched)| {
            // Before anything of this leadership matches, nothing is known to be acknowledged to it.
            let log = matched.as_ref().map(stored_id_to)?;
            (log.term == leader.term).then(|| promise(log).encode(voter))
        });
        told.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn promise(term: u64, log: (u64, u64)) -> Promise {
        Promise { term, leader: 1, log: Some(LogId { term: log.0, leader: 1, index: log.1 }) }
    }

    #[test]
    fn a_voter_that_has_only_followed_another_leader_since_has_forgotten_nothing() {
        let told = promise(2, (2, 10));

        assert!(promise(2, (2, 9)) < told, "its log is shorter under the same leader");
        assert!(promise(1, (1, 30)) < told, "it does not know that leader");
        assert!(promise(3, (1, 7)) > told, "a later leader has cut its log");
    }

    #[test]
    fn a_promise_survives_its_message() {
        for promise in [Promise::default(), promise(2, (1, 10))] {
            assert_eq!(Promise::decode(&promise.encode(7)), (7, promise));
        }
    }
}
