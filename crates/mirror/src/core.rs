//! This module holds what the tasks of mirroring share.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chartmesh_record::{Alarm, Name, NodeName, Origin, RegionName};
use chartmesh_wire::Purpose;
use chartmesh_wire::proto::mirror_client::MirrorClient;
use tokio::sync::{Notify, watch};
use tonic::transport::Channel;

use crate::freshness::Table;
use crate::ledger::Ledger;
use crate::limits::MESSAGE_BYTES;
use crate::setup::{Peer, Setup};
use crate::status::HeldBack;
use crate::views::Views;

/// What the tasks share.
pub(crate) struct Core {
    pub(crate) setup: Setup,
    /// The region of each node.
    regions: BTreeMap<NodeName, RegionName>,
    /// Whose feeds there are.
    names: BTreeSet<Name>,
    pub(crate) views: Views,
    pub(crate) ledger: Mutex<Ledger>,
    pub(crate) freshness: Mutex<Table>,
    pub(crate) troubles: Mutex<Troubles>,
    /// Feeds that somebody waits for.
    pub(crate) urgent: Mutex<BTreeMap<Origin, usize>>,
    /// Told when it should be looked at whom to follow.
    pub(crate) look: Notify,
    /// Goes up whenever more is known of what peers hold.
    pub(crate) news: watch::Sender<u64>,
}

/// What went wrong with feeds.
#[derive(Debug, Default)]
pub(crate) struct Troubles {
    /// Feeds that are followed no more.
    pub(crate) forks: BTreeMap<Origin, Alarm>,
    /// Changes that cannot be applied.
    pub(crate) held_back: BTreeMap<Origin, HeldBack>,
    /// Peers that hold the same and say something else of it.
    pub(crate) divergence: BTreeMap<NodeName, Alarm>,
}

/// A point in time, by both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Moment {
    pub(crate) monotonic: Duration,
    pub(crate) wall: i64,
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Core {
    pub(crate) fn new(setup: Setup) -> Self {
        let nodes = setup.peers.iter().map(|peer| (peer.name.clone(), peer.region.clone()));
        let me = (setup.me.clone(), setup.region.clone());
        let regions: BTreeMap<_, _> = nodes.chain([me]).collect();
        let names = regions.keys().map(|node| node.0.clone());
        let names = names.chain(setup.regions.iter().map(|region| region.0.clone())).collect();
        let ledger = Mutex::new(Ledger::new(setup.random.bits()));
        Self {
            regions,
            names,
            views: Views::default(),
            ledger,
            freshness: Mutex::default(),
            troubles: Mutex::default(),
            urgent: Mutex::default(),
            look: Notify::new(),
            news: watch::Sender::new(0),
            setup,
        }
    }

    /// Now, by both clocks.
    pub(crate) fn now(&self) -> Moment {
        let clock = &self.setup.clock;
        Moment { monotonic: clock.monotonic(), wall: clock.wall().0 }
    }

    /// Time since some point: neither a jump of the wall clock nor a pause makes it too short.
    pub(crate) fn since(&self, then: Moment) -> Duration {
        let now = self.now();
        let wall = u64::try_from(now.wall.saturating_sub(then.wall)).unwrap_or(0);
        now.monotonic.saturating_sub(then.monotonic).max(Duration::from_millis(wall))
    }

    pub(crate) fn peer(&self, name: &NodeName) -> Option<&Peer> {
        self.setup.peers.iter().find(|peer| peer.name == *name)
    }

    /// The region that a feed belongs to: its own, or that of the node whose journal it is. `None` if
    /// nobody in the mesh could have begun it.
    pub(crate) fn region_of(&self, origin: &Origin) -> Option<RegionName> {
        let name = origin.name();
        if !self.names.contains(&name) {
            return None;
        }
        let node = self.regions.get(&NodeName(name.clone())).cloned();
        Some(node.unwrap_or(RegionName(name)))
    }

    /// The node whose journal a feed is, if it is one.
    pub(crate) fn journal_of(&self, origin: &Origin) -> Option<NodeName> {
        let node = NodeName(origin.name());
        self.regions.contains_key(&node).then_some(node)
    }

    /// Whether a node stands at this node's site.
    pub(crate) fn is_site_mate(&self, node: &NodeName) -> bool {
        self.peer(node).is_some_and(|peer| peer.site == self.setup.site)
    }

    pub(crate) fn client(&self, peer: &NodeName, purpose: Purpose) -> MirrorClient<Channel> {
        MirrorClient::new(self.setup.links.channel(peer, purpose))
            .max_decoding_message_size(MESSAGE_BYTES)
            .max_encoding_message_size(MESSAGE_BYTES)
    }

    /// Tells that more is known of what peers hold.
    pub(crate) fn tell_news(&self) {
        self.news.send_modify(|news| *news += 1);
        self.look.notify_one();
    }

    pub(crate) fn alarm(&self, code: &'static str, text: String) -> Alarm {
        Alarm { code, text, since: self.setup.clock.wall() }
    }
}

/// Counts and logs something of a peer's that was not taken.
pub(crate) fn refused(peer: &NodeName, reason: &'static str, detail: impl fmt::Display) {
    metrics::counter!("chartmesh_mirror_refused_total", "reason" => reason).increment(1);
    tracing::warn!(%peer, reason, %detail, "something of another node's was refused");
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core").field("me", &self.setup.me).finish_non_exhaustive()
    }
}
