//! This module looks at a node and fills in its status and its gauges.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use chartmesh_mirror::{
    FeedStatus, Freshness, HeldBack as HeldBackFeed, Mirror, MirrorStatus, PeerStatus,
    RegionFreshness,
};
use chartmesh_record::{
    self as record, AsOf, Clock, Cursor, NodeName, Origin, RegionName, SiteName, Timestamp,
};
use chartmesh_region::{self as region, MemberStatus, Region, RegionStatus};
use chartmesh_store::{Count, Store};

use crate::alarms::Alarms;
use crate::exporter::Exporter;
use crate::gauges::Gauges;
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
    /// Below so many free bytes on its disk writes are refused.
    pub disk_reserve_bytes: u64,
}

/// Looks at a node.
pub struct Observer {
    facts: Facts,
    store: Store,
    region: Region,
    mirror: Mirror,
    exporter: Exporter,
    clock: Arc<dyn Clock>,
    others: Vec<AlarmSource>,
    alarms: Alarms,
}

/// Alarms of a part of the node that this crate does not know.
type AlarmSource = Box<dyn Fn() -> Vec<record::Alarm> + Send + Sync>;

impl Observer {
    /// Over these parts of the node.
    #[must_use]
    pub fn new(
        facts: Facts,
        store: Store,
        region: Region,
        mirror: Mirror,
        exporter: Exporter,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let (others, alarms) = (Vec::new(), Alarms::default());
        Self { facts, store, region, mirror, exporter, clock, others, alarms }
    }

    /// Tells these alarms too.
    #[must_use]
    pub fn also(mut self, alarms: impl Fn() -> Vec<record::Alarm> + Send + Sync + 'static) -> Self {
        self.others.push(Box::new(alarms));
        self
    }

    /// How the node is now.
    #[must_use]
    pub fn status(&self) -> Status {
        let Facts { node, region, site, role, version, .. } = &self.facts;
        let RegionStatus { state, leader, term, alarms, members, .. } = self.region.status();
        let MirrorStatus { peers, feeds, pending, held_back, alarms: followed } =
            self.mirror.status();
        let freshness = self.mirror.freshness();
        let now = self.clock.wall();
        let others = self.others.iter().flat_map(|tell| tell());
        let alarms = alarms.into_iter().chain(followed).chain(others).chain(self.low_disk());
        let held = self.store.standing();
        Status {
            node: node.to_string(),
            region: region.to_string(),
            site: site.to_string(),
            role: *role,
            version: version.clone(),
            leader: leader.map(|leader| leader.to_string()),
            term,
            horizon: horizon(feeds, &held.horizon, &freshness),
            digest: held.digest.to_string(),
            regions: freshness
                .regions
                .iter()
                .map(|region| region_age(region, &freshness))
                .collect(),
            silent: freshness.silent.iter().map(silent).collect(),
            peers: self.peers(&peers, &members),
            pending: pending.iter().map(|pending| pending_changes(pending, now)).collect(),
            conflicts: self.store.conflict_count(),
            held_back: held_back.iter().map(held_change).collect(),
            alarms: self.alarms.look(alarms.collect()).into_iter().map(alarm).collect(),
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
        let free = self.store.free_space().ok();
        self.exporter.render() + &gauges(&self.status(), free)
    }

    /// All other nodes: as following knows them, and the region's voters as Raft knows them.
    fn peers(&self, followed: &[PeerStatus], members: &[MemberStatus]) -> Vec<Peer> {
        let mut peers: Vec<Peer> = followed.iter().map(peer).collect();
        for member in members.iter().filter(|member| member.name != self.facts.node) {
            let rtt_ms = member.rtt.map(|rtt| rtt.as_secs_f64() * 1000.0);
            match peers.iter_mut().find(|peer| peer.node == member.name.as_str()) {
                Some(peer) => {
                    peer.reachable |= member.reachable;
                    peer.rtt_ms = peer.rtt_ms.or(rtt_ms);
                }
                None => peers.push(Peer {
                    node: member.name.to_string(),
                    reachable: member.reachable,
                    rtt_ms,
                    clock_offset_ms: None,
                }),
            }
        }
        peers
    }

    fn low_disk(&self) -> Option<record::Alarm> {
        let reserve = self.facts.disk_reserve_bytes;
        let low = self.store.free_space().is_ok_and(|free| free < reserve);
        low.then(|| record::Alarm {
            code: "disk",
            text: format!(
                "less than {} MiB are free on this node's disk: it refuses writes",
                reserve >> 20
            ),
            since: self.clock.wall(),
        })
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

/// The feeds that are held or known of, and how fresh the present feed of each region is.
///
/// The digest beside it was taken with the cursors of `held`; what has begun since the feeds were
/// looked at is among these only.
fn horizon(feeds: Vec<FeedStatus>, held: &record::Horizon, freshness: &Freshness) -> Vec<Feed> {
    let new =
        |cursor: &Cursor| FeedStatus { cursor: cursor.clone(), known: cursor.seq, closed: false };
    let mut all: BTreeMap<Origin, FeedStatus> =
        held.iter().map(|(origin, cursor)| (origin.clone(), new(cursor))).collect();
    all.extend(feeds.into_iter().map(|feed| (feed.cursor.origin.clone(), feed)));
    let feed = |FeedStatus { cursor, known, closed }: FeedStatus| {
        let name = cursor.origin.name();
        let present = |age: &&RegionFreshness| age.region.0 == name && !closed;
        let as_of = freshness.regions.iter().find(present).and_then(|age| age.as_of);
        let cursor = held.get(&cursor.origin).unwrap_or(&cursor);
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
    let there = |feed: &Feed| feed.seq > 0 || feed.behind > 0;
    all.into_values().map(feed).filter(there).collect()
}

fn gauges(status: &Status, disk_free_bytes: Option<u64>) -> String {
    let mut page = Gauges::default();
    own_gauges(&mut page, status, disk_free_bytes);
    let Status { regions, horizon, pending, peers, alarms, .. } = status;
    // A region that was never heard of is infinitely old.
    let ages = regions.iter().map(|it| (it.region.as_str(), it.age.unwrap_or(f64::INFINITY)));
    let help = "How long ago all that the region had decided was known here.";
    page.each("chartmesh_region_age_seconds", help, "region", ages);
    let help = "The last change set of a feed that is held.";
    let feeds = horizon.iter().map(|it| (it.origin.as_str(), it.seq as f64));
    page.each("chartmesh_feed_seq", help, "origin", feeds);
    let help = "Change sets of a feed that a reachable node holds and this one does not.";
    let behind = horizon.iter().map(|it| (it.origin.as_str(), it.behind as f64));
    page.each("chartmesh_feed_behind_changes", help, "origin", behind);
    let help = "Change sets of a feed that no node outside is known to hold.";
    let changes = pending.iter().map(|it| (it.origin.as_str(), it.changes as f64));
    page.each("chartmesh_pending_changes", help, "origin", changes);
    let help = "How long ago the oldest pending change was decided.";
    let oldest = pending.iter().map(|it| it.oldest_age).fold(0.0, f64::max);
    page.one("chartmesh_pending_oldest_seconds", help, oldest);
    let help = "Whether another node has answered lately.";
    let reachable = peers.iter().map(|it| (it.node.as_str(), flag(it.reachable)));
    page.each("chartmesh_peer_reachable", help, "node", reachable);
    let help = "How long another node took to answer.";
    let rtts = peers.iter().filter_map(|it| Some((it.node.as_str(), it.rtt_ms? / 1000.0)));
    page.each("chartmesh_peer_rtt_seconds", help, "node", rtts);
    let help = "How far another node's clock is ahead of this one's.";
    let offset = |it: &Peer| Some(it.clock_offset_ms? / 1000.0);
    let offsets = peers.iter().filter_map(|it| Some((it.node.as_str(), offset(it)?)));
    page.each("chartmesh_clock_offset_seconds", help, "node", offsets);
    let mut counts: BTreeMap<&str, f64> = BTreeMap::new();
    for alarm in alarms {
        *counts.entry(&alarm.code).or_default() += 1.0;
    }
    let help = "How many alarms there are, by code: docs/operations.md says what to do.";
    page.each("chartmesh_alarm", help, "code", counts);
    page.finish()
}

fn own_gauges(page: &mut Gauges, status: &Status, disk_free_bytes: Option<u64>) {
    let Status { node, leader, state, store, .. } = status;
    let leads = flag(leader.as_ref() == Some(node));
    page.one("chartmesh_leader", "Whether this node leads its region.", leads);
    let in_region = flag(*state == State::Region);
    page.one("chartmesh_in_region", "Whether a quorum of the region answers.", in_region);
    let isolated = flag(*state == State::Isolated);
    page.one("chartmesh_isolated", "Whether the node is cut off from its region.", isolated);
    page.one("chartmesh_raft_term", "The Raft term.", status.term as f64);
    let help = "Resources whose current version is no deletion.";
    page.one("chartmesh_resources", help, store.resources as f64);
    let help = "Versions that are held, deletions included.";
    page.one("chartmesh_versions", help, store.versions as f64);
    page.one("chartmesh_version_bytes", "The bytes of these versions.", store.bytes as f64);
    page.one("chartmesh_conflicts", "Conflicts that are open.", status.conflicts as f64);
    let help = "Nodes that may be writing what has not arrived.";
    page.one("chartmesh_silent_nodes", help, status.silent.len() as f64);
    let help = "Feeds of which a change is known and cannot be applied.";
    page.one("chartmesh_held_back", help, status.held_back.len() as f64);
    let help = "Alarms that somebody should look at.";
    page.one("chartmesh_alarms", help, status.alarms.len() as f64);
    if let Some(free) = disk_free_bytes {
        page.one("chartmesh_disk_free_bytes", "Free bytes on the node's disk.", free as f64);
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

fn region_age(region: &RegionFreshness, freshness: &Freshness) -> RegionAge {
    let silent = freshness.silent.iter().filter(|silent| silent.region == region.region);
    RegionAge {
        silent: silent.map(|silent| silent.node.to_string()).collect(),
        region: region.region.to_string(),
        as_of: region.as_of.map(|as_of| as_of.instant.to_string()),
        age: region.as_of.map(|as_of| as_of.age.as_secs_f64()),
    }
}

fn silent(silent: &chartmesh_mirror::SilentFreshness) -> Silent {
    Silent {
        node: silent.node.to_string(),
        since: silent.as_of.instant.to_string(),
        age: silent.as_of.age.as_secs_f64(),
    }
}

fn pending_changes(pending: &chartmesh_mirror::Pending, now: Timestamp) -> Pending {
    let age_ms = now.0.saturating_sub(pending.oldest.0).max(0);
    Pending {
        oldest_age: age_ms as f64 / 1000.0,
        origin: pending.origin.to_string(),
        changes: pending.changes,
        oldest: pending.oldest.to_string(),
        copies: pending.copies as u64,
    }
}

fn held_change(held: &HeldBackFeed) -> HeldBack {
    HeldBack { origin: held.origin.to_string(), seq: held.seq.0, reason: held.reason.clone() }
}

fn alarm(alarm: record::Alarm) -> Alarm {
    let record::Alarm { code, text, since } = alarm;
    Alarm { code: code.to_owned(), text, since: since.to_string() }
}

fn flag(set: bool) -> f64 {
    if set { 1.0 } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use chartmesh_record::{ChainHash, Horizon, Seq};

    use super::*;
    use crate::status::tests::sample;

    fn cursor(origin: &str, seq: u64) -> Cursor {
        Cursor { origin: origin.parse().unwrap(), seq: Seq(seq), hash: ChainHash([7; 32]) }
    }

    #[test]
    fn everything_that_hides_undelivered_changes_has_a_gauge() {
        let page = gauges(&sample(), Some(5));

        for line in [
            "chartmesh_region_age_seconds{region=\"pac\"} 0.7",
            "chartmesh_feed_behind_changes{origin=\"pac.7h2k4m9qzx\"} 2",
            "chartmesh_pending_changes{origin=\"pac.7h2k4m9qzx\"} 1",
            "chartmesh_pending_oldest_seconds 1.5",
            "chartmesh_silent_nodes 1",
            "chartmesh_held_back 1",
            "chartmesh_alarm{code=\"clock\"} 1",
            "chartmesh_peer_reachable{node=\"pac-2\"} 1",
            "chartmesh_isolated 0",
            "chartmesh_conflicts 0",
            "chartmesh_disk_free_bytes 5",
        ] {
            assert!(page.lines().any(|found| found == line), "{line} is not in\n{page}");
        }
    }

    #[test]
    fn what_is_over_has_no_series_any_more_and_what_was_never_heard_of_is_infinitely_old() {
        let mut status = sample();
        status.alarms.clear();
        status.pending.clear();
        status.regions[0].age = None;

        let page = gauges(&status, None);

        assert!(!page.contains("chartmesh_alarm{"), "{page}");
        assert!(!page.contains("chartmesh_pending_changes"), "{page}");
        assert!(page.contains("chartmesh_region_age_seconds{region=\"pac\"} +Inf"), "{page}");
    }

    #[test]
    fn only_the_present_feed_of_a_region_has_an_age_and_what_is_not_here_is_told() {
        let (ended, present) = (cursor("pac.0000000001", 5), cursor("pac.0000000002", 3));
        let journal = cursor("pac-1.0000000003", 2);
        let feed = |cursor: &Cursor, known, closed| FeedStatus {
            cursor: cursor.clone(),
            known: Seq(known),
            closed,
        };
        let unheld = feed(&cursor("eur.0000000004", 0), 9, false);
        let feeds = vec![feed(&ended, 5, true), feed(&present, 4, false), unheld];
        let held = [&ended, &present, &journal].map(|it| (it.origin.clone(), it.clone()));
        let as_of = AsOf { instant: Timestamp(0), age: Duration::from_millis(500) };
        let pac = RegionFreshness { region: "pac".parse().unwrap(), as_of: Some(as_of) };
        let freshness = Freshness { regions: vec![pac], silent: Vec::new() };

        let horizon = horizon(feeds, &Horizon::from(held), &freshness);

        let seen: Vec<_> = horizon
            .iter()
            .map(|feed| (feed.origin.as_str(), feed.seq, feed.behind, feed.age))
            .collect();
        let expected = [
            ("eur.0000000004", 0, 9, None),
            ("pac-1.0000000003", 2, 0, None),
            ("pac.0000000001", 5, 0, None),
            ("pac.0000000002", 3, 1, Some(0.5)),
        ];
        assert_eq!(seen, expected);
    }
}
