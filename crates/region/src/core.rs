//! This module is what the tasks of a region share: who the node is, its disk, its time, its links,
//! and Raft once the node may take part.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use chartmesh_record::{Clock, NodeName, Random, RegionName, Timestamp};
use chartmesh_store::{RaftLog, Store};
use openraft::async_runtime::WatchReceiver;
use tokio::sync::watch;

use crate::decider::Queue;
use crate::freshness::Freshness;
use crate::limits::Limits;
use crate::peers::Peers;
use crate::position::Position;
use crate::setup::{Blocking, Links, Member, Timers};
use crate::types::{LeaderId, Membership, Peer, Raft};
use crate::upload::Uploads;

/// What the tasks of a region share.
pub(crate) struct Core {
    pub(crate) me: NodeName,
    pub(crate) region: RegionName,
    pub(crate) voters: Vec<Member>,
    pub(crate) timers: Timers,
    pub(crate) limits: Limits,
    pub(crate) store: Store,
    pub(crate) log: RaftLog,
    pub(crate) links: Arc<dyn Links>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) random: Arc<dyn Random>,
    pub(crate) blocking: Blocking,
    /// This disk's Raft id.
    pub(crate) raft_id: u64,
    /// How far the log is applied.
    pub(crate) progress: watch::Receiver<Position>,
    pub(crate) queue: Queue,
    pub(crate) uploads: Uploads,
    pub(crate) freshness: Freshness,
    pub(crate) peers: Peers,
    /// Whether the node takes part.
    pub(crate) admission: watch::Sender<Admission>,
    /// Set before [`Admission::Member`].
    pub(crate) raft: OnceLock<Raft>,
    /// Why the process must end, once it must.
    pub(crate) fatal: watch::Sender<Option<String>>,
}

/// Whether a node takes part in its region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// Not yet: it waits for the founding, or to hear of it.
    Waiting,
    /// It does.
    Member,
    /// It must not.
    Refused(Refusal),
}

/// Why a node must not take part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) reason: String,
    pub(crate) since: Timestamp,
}

impl Core {
    /// Raft, once the node takes part.
    pub(crate) fn raft(&self) -> Option<&Raft> {
        self.raft.get()
    }

    /// Who votes, as far as the node knows; `None` before the founding.
    pub(crate) fn membership(&self) -> Option<Membership> {
        let effective = self.raft().map(|raft| {
            let metrics = raft.server_metrics();
            metrics.borrow_watched().membership_config.membership().clone()
        });
        let applied = || self.progress.borrow().membership.membership().clone();
        let known = |membership: &Membership| membership.nodes().next().is_some();
        effective.filter(known).or_else(|| Some(applied()).filter(known))
    }

    /// The Raft id of the leader, and its name, as far as the node knows.
    pub(crate) fn leader(&self) -> Option<(u64, NodeName)> {
        let metrics = self.raft()?.server_metrics();
        let metrics = metrics.borrow_watched();
        let id = metrics.current_leader?;
        let name = metrics.membership_config.membership().get_node(&id)?.name.clone()?;
        Some((id, name))
    }

    /// This node's leadership, if it leads.
    pub(crate) fn leadership(&self) -> Option<LeaderId> {
        let metrics = self.raft()?.server_metrics();
        let metrics = metrics.borrow_watched();
        let leads = metrics.state.is_leader() && metrics.vote.committed;
        leads.then_some(metrics.vote.leader_id).filter(|leader| leader.node_id == self.raft_id)
    }

    /// Returns once `seen` of the server metrics is true; never if Raft ends before.
    pub(crate) async fn until(&self, mut seen: impl FnMut(&Self) -> bool) {
        let mut admission = self.admission.subscribe();
        while self.raft().is_none() {
            if admission.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
        let raft = self.raft().expect("just seen");
        let mut metrics = raft.server_metrics();
        loop {
            metrics.borrow_and_update();
            if seen(self) {
                return;
            }
            if metrics.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    /// The voters with these Raft ids, for a membership.
    pub(crate) fn founders(&self, ids: &BTreeMap<NodeName, u64>) -> Option<BTreeMap<u64, Peer>> {
        let founder = |member: &Member| {
            let peer = Peer { name: Some(member.name.clone()), address: member.address.clone() };
            Some((*ids.get(&member.name)?, peer))
        };
        self.voters.iter().map(founder).collect()
    }

    /// The voters but this node.
    pub(crate) fn others(&self) -> impl Iterator<Item = &Member> {
        self.voters.iter().filter(|member| member.name != self.me)
    }

    /// Time since some point, measured so that neither a jump of the wall clock nor a pause of the
    /// process makes it too short.
    pub(crate) fn since(&self, then: Moment) -> Duration {
        let wall = self.clock.wall().0.saturating_sub(then.wall);
        let wall = Duration::from_millis(u64::try_from(wall).unwrap_or(0));
        self.clock.monotonic().saturating_sub(then.monotonic).max(wall)
    }

    /// Now, by both clocks.
    pub(crate) fn now(&self) -> Moment {
        Moment { monotonic: self.clock.monotonic(), wall: self.clock.wall().0 }
    }

    /// Ends the process, by way of whoever waits for it.
    pub(crate) fn end(&self, reason: impl fmt::Display) {
        tracing::error!(%reason, "this node cannot go on");
        self.fatal.send_if_modified(|fatal| {
            let first = fatal.is_none();
            fatal.get_or_insert_with(|| reason.to_string());
            first
        });
    }
}

/// A point in time, by both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Moment {
    monotonic: Duration,
    wall: i64,
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core").field("me", &self.me).field("region", &self.region).finish()
    }
}
