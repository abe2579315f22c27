//! This module looks at a node and fills in its status and its gauges.

use std::fmt;

use chartmesh_record::{Cursor, NodeName, Origin, RegionName, SiteName};
use chartmesh_region::{self as region, AsOf, MemberStatus, Region, RegionStatus};
use chartmesh_store::{Count, Store};
use metrics::gauge;

use crate::exporter::Exporter;
use crate::status::{Alarm, Feed, Peer, Role, State, Status, StoreSize};

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
    exporter: Exporter,
    others: Vec<AlarmSource>,
}

/// Alarms of a part of the node that this crate does not know.
type AlarmSource = Box<dyn Fn() -> Vec<Alarm> + Send + Sync>;

impl Observer {
    /// Over these parts of the node.
    #[must_use]
    pub fn new(facts: Facts, store: Store, region: Region, exporter: Exporter) -> Self {
        Self { facts, store, region, exporter, others: Vec::new() }
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
        let RegionStatus { state, leader, term, origin, members, alarms, .. } =
            self.region.status();
        Status {
            node: node.to_string(),
            region: region.to_string(),
            site: site.to_string(),
            role: *role,
            version: version.clone(),
            leader: leader.map(|leader| leader.to_string()),
            term,
            horizon: self.feeds(origin.as_ref()),
            digest: self.store.digest().to_string(),
            silent: Vec::new(),
            peers: members.iter().filter(|member| member.name != *node).map(peer).collect(),
            pending: Vec::new(),
            conflicts: 0,
            held_back: Vec::new(),
            alarms: alarms
                .into_iter()
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
        for feed in status.horizon {
            gauge!("chartmesh_feed_seq", "origin" => feed.origin.clone()).set(feed.seq as f64);
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
    /// Feeds of this region other than its present one have ended.
    fn feeds(&self, present: Option<&Origin>) -> Vec<Feed> {
        let as_of = self.region.as_of();
        let feed = |cursor: Cursor| {
            let is_present = present == Some(&cursor.origin);
            let as_of = as_of.filter(|_| is_present);
            Feed {
                closed: present.is_some() && !is_present,
                as_of: as_of.map(|AsOf { instant, .. }| instant.to_string()),
                age: as_of.map(|AsOf { age, .. }| age.as_secs_f64()),
                origin: cursor.origin.to_string(),
                seq: cursor.seq.0,
                hash: cursor.hash.to_string(),
            }
        };
        self.store.horizon().into_values().map(feed).collect()
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
        region::State::NoQuorum | region::State::Refused { .. } => State::Isolated,
    }
}

fn peer(member: &MemberStatus) -> Peer {
    Peer {
        node: member.name.to_string(),
        reachable: member.reachable,
        rtt_ms: member.rtt.map(|rtt| rtt.as_secs_f64() * 1000.0),
        clock_offset_ms: None,
    }
}

fn alarm(alarm: region::Alarm) -> Alarm {
    let region::Alarm { code, text, since } = alarm;
    Alarm { code: code.to_owned(), text, since: since.to_string() }
}

fn flag(set: bool) -> f64 {
    if set { 1.0 } else { 0.0 }
}
