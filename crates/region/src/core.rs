//! This module is what the tasks of a region share: who the node is, its disk, its time, its links,
//! and Raft once the node may take part.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use chartmesh_record::{Clock, Cursor, Moment, NodeName, Origin, Random, RegionName, Timestamp};
use chartmesh_store::{Blocking, RaftLog, Store};
use chartmesh_wire::Links;
use openraft::async_runtime::WatchReceiver;
use tokio::sync::watch;

use crate::decider::Queue;
use crate::freshness::Freshness;
use crate::isolation::Isolation;
use crate::journal::Journal;
use crate::limits::{AHEAD_WAIT, LINEARIZE_WAIT, Limits};
use crate::peers::Peers;
use crate::position::Position;
use crate::promises::Promises;
use crate::setup::{Feeds, Member, Timers};
use crate::types::{LeaderId, Membership, Peer, Raft, StoredMembership};
use crate::upload::Uploads;
use crate::warm::Warm;
use crate::words::Words;

/// What the tasks of a region share.
pub(crate) struct Core {
    pub(crate) me: NodeName,
    pub(crate) region: RegionName,
    pub(crate) voters: Vec<Member>,
    /// The nodes that only follow feeds.
    pub(crate) mirrors: Vec<Member>,
    pub(crate) timers: Timers,
    pub(crate) limits: Limits,
    pub(crate) store: Store,
    pub(crate) log: RaftLog,
    pub(crate) links: Arc<dyn Links>,
    pub(crate) feeds: Arc<dyn Feeds>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) random: Arc<dyn Random>,
    pub(crate) blocking: Blocking,
    /// This disk's Raft id: another one once it has turned out that the disk was set back.
    pub(crate) raft_id: AtomicU64,
    pub(crate) promises: Promises,
    /// The last recovery of the region that this disk knows; 0 if none.
    pub(crate) recovery: AtomicU64,
    /// New nodes that may become voters, at the leader.
    pub(crate) invited: Mutex<BTreeSet<NodeName>>,
    /// How far the log is applied.
    pub(crate) progress: watch::Receiver<Position>,
    pub(crate) queue: Queue,
    pub(crate) uploads: Uploads,
    pub(crate) freshness: Freshness,
    pub(crate) isolation: Isolation,
    pub(crate) journal: Journal,
    pub(crate) words: Words,
    pub(crate) warm: Warm,
    /// Who leads, as others have told, for a node whose Raft does not know.
    pub(crate) told: watch::Sender<Option<NodeName>>,
    /// Set once the node is about to stop: it leads no more.
    pub(crate) draining: watch::Sender<bool>,
    /// Held while the voters are changed.
    pub(crate) changing: tokio::sync::Mutex<()>,
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
    /// It does, and does not vote yet: its disk has forgotten what was promised.
    Joining {
        /// Why it has.
        why: Why,
        /// Since when.
        since: Timestamp,
    },
    /// It must not.
    Refused(Refusal),
}

/// Why a disk does not know what was promised in its node's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// It is empty.
    Empty,
    /// It holds old contents.
    SetBack,
    /// It knows no such group: the region was recovered since, by this recovery.
    Recovered(u64),
    /// The voters do not count it in.
    Uninvited,
}

/// Why a node must not take part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) reason: String,
    pub(crate) since: Timestamp,
}

impl Core {
    /// This disk's Raft id.
    pub(crate) fn raft_id(&self) -> u64 {
        self.raft_id.load(Ordering::Acquire)
    }

    /// Raft, once the node takes part.
    pub(crate) fn raft(&self) -> Option<&Raft> {
        self.raft.get()
    }

    /// Who votes, as far as the node knows; `None` before the founding.
    pub(crate) fn membership(&self) -> Option<Membership> {
        self.stored_membership().map(|stored| stored.membership().clone())
    }

    /// The same, with its place in the log.
    pub(crate) fn stored_membership(&self) -> Option<StoredMembership> {
        let effective = self.raft().map(|raft| {
            let metrics = raft.server_metrics();
            StoredMembership::clone(&metrics.borrow_watched().membership_config)
        });
        let applied = || self.progress.borrow().membership.clone();
        let known = |stored: &StoredMembership| stored.membership().nodes().next().is_some();
        effective.filter(known).or_else(|| Some(applied()).filter(known))
    }

    /// The Raft id of the leader, and its name, as far as the node knows; 0 where only its name is.
    pub(crate) fn leader(&self) -> Option<(u64, NodeName)> {
        let known = self.raft().and_then(|raft| {
            let metrics = raft.server_metrics();
            let metrics = metrics.borrow_watched();
            let id = metrics.current_leader?;
            let name = metrics.membership_config.membership().get_node(&id)?.name.clone()?;
            Some((id, name))
        });
        if *self.admission.borrow() == Admission::Member {
            return known;
        }
        // Its Raft may have heard of a leader long ago.
        self.told.borrow().clone().map(|name| (0, name)).or(known)
    }

    /// Notes who is said to lead.
    pub(crate) fn note_told(&self, leader: Option<NodeName>) {
        self.told.send_if_modified(|told| {
            let new = *told != leader;
            *told = leader;
            new
        });
    }

    /// Believes no longer that a node leads that does not answer.
    pub(crate) fn forget_told(&self, leader: &NodeName) {
        if self.told.borrow().as_ref() == Some(leader) {
            self.note_told(None);
        }
    }

    /// Some other voter, to be asked who leads.
    pub(crate) fn someone(&self) -> Option<NodeName> {
        let others: Vec<_> = self.others().collect();
        let place = usize::try_from(self.random.bits()).unwrap_or(0).checked_rem(others.len())?;
        others.get(place).map(|member| member.name.clone())
    }

    /// Whether the node belongs to a founded region, as far as its disk tells.
    pub(crate) fn belongs(&self) -> bool {
        let of_region = |origin: &Origin| origin.name() == self.region.0;
        self.membership().is_some() || self.store.horizon().keys().any(of_region)
    }

    /// Whether the region has decided to begin its feed, as far as the node's disk tells.
    pub(crate) fn has_begun(&self) -> bool {
        let of_region = |origin: &Origin| origin.name() == self.region.0;
        self.progress.borrow().origin.is_some() || self.store.horizon().keys().any(of_region)
    }

    /// Waits, for a bounded time, until the node holds what another is ahead by.
    pub(crate) async fn catch_up_with(&self, ahead: Vec<Cursor>) {
        let lacks = |cursor: &Cursor| self.store.cursor(&cursor.origin).seq < cursor.seq;
        let lacking: Vec<Cursor> = ahead.into_iter().filter(lacks).collect();
        if !lacking.is_empty() && !self.feeds.hold(lacking, AHEAD_WAIT).await {
            tracing::debug!("a command is decided without all that its node holds");
        }
    }

    /// How far the region's feeds are, the present one and earlier ones, once the log is applied up
    /// to an index; `None` if it is not in time.
    pub(crate) async fn applied_feeds(&self, index: u64) -> Option<Vec<Cursor>> {
        let mut progress = self.progress.clone();
        let applied = progress.wait_for(|position| position.entries() > index);
        drop(tokio::time::timeout(LINEARIZE_WAIT, applied).await.ok()?.ok()?);
        let feeds = self.store.horizon().into_values();
        Some(feeds.filter(|feed| feed.origin.name() == self.region.0).collect())
    }

    /// The disk votes now.
    pub(crate) fn joined(&self) {
        self.admission.send_replace(Admission::Member);
    }

    /// All nodes of the region.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = &NodeName> {
        self.voters.iter().chain(&self.mirrors).map(|member| &member.name)
    }

    /// This node's leadership, if it leads.
    pub(crate) fn leadership(&self) -> Option<LeaderId> {
        let metrics = self.raft()?.server_metrics();
        let metrics = metrics.borrow_watched();
        let leads = metrics.state.is_leader() && metrics.vote.committed;
        leads.then_some(metrics.vote.leader_id).filter(|leader| leader.node_id == self.raft_id())
    }

    /// Returns once `seen` of the server metrics is true; never if Raft ends before.
    pub(crate) async fn until(&self, mut seen: impl FnMut(&Self) -> bool) {
        let mut admission = self.admission.subscribe();
        let mut told = self.told.subscribe();
        while self.raft().is_none() {
            if seen(self) {
                return;
            }
            let changed = tokio::select! {
                biased;
                changed = admission.changed() => changed,
                changed = told.changed() => changed,
            };
            if changed.is_err() {
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

    /// Time since some point.
    pub(crate) fn since(&self, then: Moment) -> Duration {
        then.until(self.now())
    }

    /// Now, by both clocks.
    pub(crate) fn now(&self) -> Moment {
        Moment::now(&*self.clock)
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

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core").field("me", &self.me).field("region", &self.region).finish()
    }
}
