//! This module looks at a node and fills in its status and its gauges.

use std::fmt;

use chartmesh_mirror::{FeedStatus, HeldBack as HeldBackFeed, Mirror, MirrorStatus, PeerStatus};
use chartmesh_record::{self as record, AsOf, NodeName, RegionName, SiteName};
use chartmesh_region::{self as region, Region, RegionStatus};
use chartmesh_store::{Count, Store};
use metrics::gauge;

use crate::exporter::Exporter;
use crate::status::{
    Alarm, Feed, HeldBack, Peer, Pending, RegionAge, Role, Silent, State, Status, StoreSize,
};

/// What a node knows of itself from its start on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Its name.
    pub node: NodeName,
    /// Its region.
    pub region: RegionName,
    /// Its site.
    pub site: SiteName,
    /// Its part in the region.
    pub role: Role,
    /// The version of its software.
    pub version: String,
}

/// Looks at a node.
pub struct Observer {
    facts: Facts,
    store: Store,
    region: Region,
    mirror: Mirror,
    exporter: Exporter,
    others: Vec<AlarmSource>,
}

/// Alarms of a part of the node that this crate does not know.
type AlarmSource = Box<dyn Fn() -> Vec<Alarm> + Send + Sync>;

impl Observer {
    /// Over these parts of the node.
    #[must_use]
    pub fn new(
        facts: Facts,
        store: Store,
        region: Region,
        mirror: Mirror,
        exporter: Exporter,
    ) -> Self {
        Self { facts, store, region, mirror, exporter, others: Vec::new() }
    }

    /// Tells these alarms too.
    #[must_use]
    pub fn also(mut self, alarms: impl Fn() -> Vec<Alarm> + Send + Sync + 'static) -> Self {
        self.others.push(Box::new(alarms));
        self
    }

    /// How the node is now.
    #[must_use]
    pub fn status(&self) -> Status {
        let Facts { node, region, site, role, version } = &self.facts;
        let RegionStatus { state, leader, term, alarms, .. } = self.region.status();
        let MirrorStatus { peers, feeds, pending, held_back, alarms: followed } =
            self.mirror.status();
        let freshness = self.mirror.freshness();
        Status {
            node: node.to_string(),
            region: region.to_string(),
            site: site.to_string(),
            role: *role,
            version: version.clone(),
            leader: leader.map(|leader| leader.to_string()),
            term,
            horizon: self.feeds(feeds),
            digest: self.store.digest().to_string(),
            regions: freshness.regions.iter().map(region_age).collect(),
            silent: freshness.silent.iter().map(silent).collect(),
            peers: peers.iter().map(peer).collect(),
            pending: pending.iter().map(pending_changes).collect(),
            conflicts: self.store.conflict_count(),
            held_back: held_back.iter().map(held).collect(),
            alarms: alarms
                .into_iter()
                .chain(followed)
                .map(alarm)
                .chain(self.others.iter().flat_map(|tell| tell()))
                .collect(),
            store: self.size(),
            state: place(&state),
        }
    }

    /// The status as JSON.
    #[must_use]
    pub fn status_json(&self) -> String {
        serde_json::to_string(&self.status()).expect("a status can be written")
    }

    /// The metrics as Prometheus reads them, with the gauges as they are now.
    #[must_use]
    pub fn metrics(&self) -> String {
        let status = self.status();
        gauge!("chartmesh_resources").set(status.store.resources as f64);
        gauge!("chartmesh_versions").set(status.store.versions as f64);
        gauge!("chartmesh_version_bytes").set(status.store.bytes as f64);
        gauge!("chartmesh_conflicts").set(status.conflicts as f64);
        gauge!("chartmesh_raft_term").set(status.term as f64);
        gauge!("chartmesh_leader").set(flag(status.leader.as_ref() == Some(&status.node)));
        gauge!("chartmesh_in_region").set(flag(status.state == State::Region));
        gauge!("chartmesh_alarms").set(status.alarms.len() as f64);
        gauge!("chartmesh_silent_nodes").set(status.silent.len() as f64);
        gauge!("chartmesh_held_back").set(status.held_back.len() as f64);
        gauge!("chartmesh_isolated").set(flag(status.state == State::Isolated));
        let pending: u64 = status.pending.iter().map(|pending| pending.changes).sum();
        gauge!("chartmesh_pending_changes").set(pending as f64);
        for region in status.regions {
            // A region that was never heard of is infinitely old.
            let age = region.age.unwrap_or(f64::INFINITY);
            gauge!("chartmesh_region_age_seconds", "region" => region.region).set(age);
        }
        for feed in status.horizon {
            gauge!("chartmesh_feed_seq", "origin" => feed.origin.clone()).set(feed.seq as f64);
            gauge!("chartmesh_feed_behind_changes", "origin" => feed.origin.clone())
                .set(feed.behind as f64);
            if let Some(age) = feed.age {
                gauge!("chartmesh_feed_age_seconds", "origin" => feed.origin).set(age);
            }
        }
        for peer in status.peers {
            gauge!("chartmesh_peer_reachable", "node" => peer.node).set(flag(peer.reachable));
        }
        if let Ok(free) = self.store.free_space() {
            gauge!("chartmesh_disk_free_bytes").set(free as f64);
        }
        self.exporter.render()
    }
}

impl Observer {
    /// The feeds that are held, and how fresh the present feed of each region is.
    fn feeds(&self, feeds: Vec<FeedStatus>) -> Vec<Feed> {
        let ages = self.mirror.freshness().regions;
        let feed = |FeedStatus { cursor, known, closed }: FeedStatus| {
            let name = cursor.origin.name();
            let as_of = ages.iter().find(|age| age.region.0 == name && !closed);
            let as_of = as_of.and_then(|age| age.as_of);
            Feed {
                as_of: as_of.map(|AsOf { instant, .. }| instant.to_string()),
                age: as_of.map(|AsOf { age, .. }| age.as_secs_f64()),
                origin: cursor.origin.to_string(),
                seq: cursor.seq.0,
                hash: cursor.hash.to_string(),
                behind: known.0.saturating_sub(cursor.seq.0),
                closed,
            }
        };
        feeds.into_iter().filter(|feed| feed.cursor.seq.0 > 0).map(feed).collect()
    }

    fn size(&self) -> StoreSize {
        let Count { resources, versions, bytes } = self.store.counts().total();
        StoreSize { resources, versions, bytes }
    }
}

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Observer").field("facts", &self.facts).finish_non_exhaustive()
    }
}

fn place(state: &region::State) -> State {
    match state {
        region::State::Starting { .. } => State::Starting,
        region::State::Region => State::Region,
        region::State::Isolated { .. } | region::State::Refused { .. } => State::Isolated,
    }
}

fn peer(peer: &PeerStatus) -> Peer {
    Peer {
        node: peer.node.to_string(),
        reachable: peer.reachable,
        rtt_ms: peer.rtt.map(|rtt| rtt.as_secs_f64() * 1000.0),
        clock_offset_ms: peer.clock_offset_ms.map(|offset| offset as f64),
    }
}

fn region_age(region: &chartmesh_mirror::RegionFreshness) -> RegionAge {
    RegionAge {
        region: region.region.to_string(),
        as_of: region.as_of.map(|as_of| as_of.instant.to_string()),
        age: region.as_of.map(|as_of| as_of.age.as_secs_f64()),
    }
}

fn silent(silent: &chartmesh_mirror::SilentFreshness) -> Silent {
    Silent { node: silent.node.to_string(), since: silent.as_of.instant.to_string() }
}

fn pending_changes(pending: &chartmesh_mirror::Pending) -> Pending {
    Pending {
        origin: pending.origin.to_string(),
        changes: pending.changes,
        oldest: pending.oldest.to_string(),
        copies: pending.copies as u64,
    }
}

fn held(held: &HeldBackFeed) -> HeldBack {
    HeldBack { origin: held.origin.to_string(), seq: held.seq.0, reason: held.reason.clone() }
}

fn alarm(alarm: record::Alarm) -> Alarm {
    let record::Alarm { code, text, since } = alarm;
    Alarm { code: code.to_owned(), text, since: since.to_string() }
}

fn flag(set: bool) -> f64 {
    if set { 1.0 } else { 0.0 }
}
