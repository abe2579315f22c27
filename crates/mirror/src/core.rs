//! This module holds what the tasks of mirroring share.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chartmesh_record::{Alarm, Cursor, Moment, Name, NodeName, Origin, RegionName};
use chartmesh_wire::Purpose;
use chartmesh_wire::proto::mirror_client::MirrorClient;
use tokio::sync::{Notify, Semaphore, watch};
use tonic::transport::Channel;

use crate::choose::Distance;
use crate::follow::Behind;
use crate::freshness::Freshnesses;
use crate::ledger::Ledger;
use crate::limits::{CHUNKS_TAKEN, MESSAGE_BYTES};
use crate::setup::{Peer, Setup};
use crate::troubles::Troubles;
use crate::views::Views;

/// What the tasks share.
pub(crate) struct Core {
    pub(crate) setup: Setup,
    peers: BTreeMap<NodeName, Peer>,
    /// Whose feeds there are.
    names: BTreeSet<Name>,
    pub(crate) views: Views,
    pub(crate) ledger: Ledger,
    pub(crate) freshness: Freshnesses,
    pub(crate) troubles: Mutex<Troubles>,
    /// Feeds that are known further than held.
    pub(crate) behind: Mutex<BTreeMap<Origin, Behind>>,
    /// Feeds that somebody waits for, and how many do.
    urgent: Mutex<BTreeMap<Origin, usize>>,
    /// Told when it should be looked at whom to follow.
    pub(crate) look: Notify,
    /// Goes up when somebody waits: peers are asked without a pause.
    pub(crate) hurry: watch::Sender<u64>,
    /// Goes up whenever more is known of what peers hold.
    pub(crate) news: watch::Sender<u64>,
    /// Goes up whenever more is on this node's synced disk.
    pub(crate) synced: watch::Sender<u64>,
    /// Whether it ends.
    pub(crate) ending: watch::Sender<bool>,
    /// The places of those who take chunks in.
    pub(crate) takers: Semaphore,
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Core {
    pub(crate) fn new(setup: Setup) -> Self {
        let peers = setup.peers.iter().map(|peer| (peer.name.clone(), peer.clone()));
        let peers: BTreeMap<_, _> = peers.collect();
        let regions = setup.regions.iter().map(|region| region.0.clone());
        let nodes = peers.keys().chain([&setup.me]).map(|node| node.0.clone());
        let names = regions.chain(nodes).collect();
        let synced = watch::Sender::new(0);
        Self {
            peers,
            names,
            views: Views::default(),
            ledger: Ledger::new(setup.random.bits(), setup.store.subscribe(), synced.subscribe()),
            freshness: Freshnesses::new(setup.store.subscribe()),
            troubles: Mutex::default(),
            behind: Mutex::default(),
            urgent: Mutex::default(),
            look: Notify::new(),
            hurry: watch::Sender::new(0),
            news: watch::Sender::new(0),
            synced,
            ending: watch::Sender::new(false),
            takers: Semaphore::new(CHUNKS_TAKEN),
            setup,
        }
    }

    /// Now, by both clocks.
    pub(crate) fn now(&self) -> Moment {
        Moment::now(&*self.setup.clock)
    }

    /// Time since some point.
    pub(crate) fn since(&self, then: Moment) -> Duration {
        then.until(self.now())
    }

    /// All other nodes, by name.
    pub(crate) fn peers(&self) -> impl Iterator<Item = &Peer> {
        self.peers.values()
    }

    pub(crate) fn peer(&self, name: &NodeName) -> Option<&Peer> {
        self.peers.get(name)
    }

    /// How near a peer is.
    pub(crate) fn distance(&self, peer: &Peer) -> Distance {
        if peer.site == self.setup.site {
            Distance::Site
        } else if peer.region == self.setup.region {
            Distance::Region
        } else {
            Distance::Wide
        }
    }

    /// Whether somebody in the mesh could have begun this feed.
    pub(crate) fn is_of_mesh(&self, origin: &Origin) -> bool {
        self.names.contains(&origin.name())
    }

    /// The region that a feed belongs to: its own, or that of the node whose journal it is.
    pub(crate) fn region_of(&self, origin: &Origin) -> RegionName {
        let node = NodeName(origin.name());
        if node == self.setup.me {
            return self.setup.region.clone();
        }
        self.peer(&node).map_or_else(|| RegionName(node.0.clone()), |peer| peer.region.clone())
    }

    /// The node whose journal a feed is, if it is one.
    pub(crate) fn journal_of(&self, origin: &Origin) -> Option<NodeName> {
        let node = NodeName(origin.name());
        (node == self.setup.me || self.peers.contains_key(&node)).then_some(node)
    }

    /// Whether a node stands at this node's site.
    pub(crate) fn is_site_mate(&self, node: &NodeName) -> bool {
        self.peer(node).is_some_and(|peer| peer.site == self.setup.site)
    }

    /// Whether a feed is the journal of a node at this site: its writer waits for the copy.
    pub(crate) fn is_site_journal(&self, origin: &Origin) -> bool {
        self.journal_of(origin).is_some_and(|node| self.is_site_mate(&node))
    }

    /// Whether this node holds a place of a feed, or a longer part of it.
    pub(crate) fn holds(&self, place: &Cursor) -> bool {
        let held = self.setup.store.cursor(&place.origin);
        held.seq > place.seq || (held.seq == place.seq && held.hash == place.hash)
    }

    pub(crate) fn client(&self, peer: &NodeName, purpose: Purpose) -> MirrorClient<Channel> {
        MirrorClient::new(self.setup.links.channel(peer, purpose))
            .max_decoding_message_size(MESSAGE_BYTES)
            .max_encoding_message_size(MESSAGE_BYTES)
    }

    /// Tells that more is known of what peers hold.
    pub(crate) fn tell_news(&self) {
        self.news.send_modify(|news| *news += 1);
    }

    /// Notes that somebody waits for feeds, until they are [let go](Self::let_go).
    pub(crate) fn want(&self, origins: &[Origin]) {
        let mut urgent = lock(&self.urgent);
        for origin in origins {
            *urgent.entry(origin.clone()).or_default() += 1;
        }
        drop(urgent);
        self.views.reconsider(origins);
        self.hurry.send_modify(|hurry| *hurry += 1);
        self.look.notify_one();
    }

    pub(crate) fn let_go(&self, origins: &[Origin]) {
        let mut urgent = lock(&self.urgent);
        for origin in origins {
            if let Some(count) = urgent.get_mut(origin) {
                *count -= 1;
                if *count == 0 {
                    urgent.remove(origin);
                }
            }
        }
    }

    /// Whether somebody waits for a feed.
    pub(crate) fn is_urgent(&self, origin: &Origin) -> bool {
        lock(&self.urgent).contains_key(origin)
    }

    /// Syncs what the store has taken in.
    pub(crate) fn sync(&self) -> bool {
        match self.setup.store.sync() {
            Ok(()) => {
                self.synced.send_modify(|synced| *synced += 1);
                true
            }
            Err(error) => {
                tracing::error!(%error, "what was taken in is not synced");
                false
            }
        }
    }

    pub(crate) fn alarm(&self, code: &'static str, text: String) -> Alarm {
        Alarm { code, text, since: self.setup.clock.wall() }
    }
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core").field("me", &self.setup.me).finish_non_exhaustive()
    }
}
