//! This module accounts for every feed: how far it is held, what only this side holds, what is wrong.

use std::collections::BTreeMap;

use chartmesh_record::{Alarm, NodeName, Origin, Seq};

use crate::core::{Core, lock};
use crate::freshness::{self, Shown};
use crate::limits::BEHIND_ALARM;
use crate::status::{FeedStatus, MirrorStatus, PeerStatus, Pending};
use crate::views::Known;

/// Where this node stands among the others.
pub(crate) fn status(core: &Core) -> MirrorStatus {
    let shown = freshness::shown(core);
    let (feeds, peers, pending) = core.views.with(|known| {
        let feeds = feeds(core, known, &shown);
        let pending = pending(core, known, &feeds);
        (feeds, peers(core, known), pending)
    });
    let (mut alarms, held_back) = {
        let troubles = lock(&core.troubles);
        let alarms = troubles.forks.values().chain(troubles.divergence.values());
        let held_back: Vec<_> = troubles.held_back.values().cloned().collect();
        (alarms.cloned().collect::<Vec<_>>(), held_back)
    };
    alarms.extend(held_back.iter().map(|held| {
        let text = format!(
            "change set {} of {} cannot be applied: {}; update this node",
            held.seq, held.origin, held.reason
        );
        core.alarm("format", text)
    }));
    alarms.extend(core.setup.store.lost().into_iter().map(|at| {
        let text = format!("change set {} of {} is lost here: it was skipped", at.seq, at.origin);
        core.alarm("lost", text)
    }));
    alarms.extend(behind(core, &feeds));
    if clock_off(core) {
        let text = "this node's clock is further than clock.max_offset from those of most others";
        alarms.push(core.alarm("clock", text.to_owned()));
    }
    MirrorStatus { peers, feeds, pending, held_back, alarms }
}

/// Whether this node's clock is off from those of most reachable peers.
pub(crate) fn clock_off(core: &Core) -> bool {
    let most = i64::try_from(core.setup.limits.clock_max_offset.as_millis()).unwrap_or(i64::MAX);
    core.views.with(|known| {
        let reachable = known.nodes.values().filter(|view| view.is_reachable(core));
        let offsets: Vec<i64> = reachable.filter_map(|view| view.clock_offset_ms).collect();
        let off = offsets.iter().filter(|offset| offset.saturating_abs() > most).count();
        // Of two clocks nobody knows which is wrong.
        offsets.len() > 1 && 2 * off > offsets.len()
    })
}

fn peers(core: &Core, known: &Known) -> Vec<PeerStatus> {
    let status = |node: &NodeName| {
        let view = known.nodes.get(node);
        PeerStatus {
            node: node.clone(),
            reachable: known.is_reachable(core, node),
            rtt: view.and_then(|view| view.rtt),
            clock_offset_ms: view.and_then(|view| view.clock_offset_ms),
        }
    };
    core.peers().map(|peer| status(&peer.name)).collect()
}

fn feeds(
    core: &Core,
    known: &Known,
    shown: &BTreeMap<chartmesh_record::RegionName, Shown>,
) -> Vec<FeedStatus> {
    let mut furthest: BTreeMap<Origin, Seq> = BTreeMap::new();
    for origin in known.feeds.keys() {
        let reachable = known.holders(origin).filter(|(node, _)| known.is_reachable(core, node));
        if let Some(seq) = reachable.map(|(_, held)| held.cursor.seq).max() {
            furthest.insert(origin.clone(), seq);
        }
    }
    for (origin, cursor) in core.setup.store.horizon() {
        let seq = furthest.entry(origin).or_default();
        *seq = cursor.seq.max(*seq);
    }
    let feed = |(origin, known): (Origin, Seq)| {
        let statement = shown.get(&core.region_of(&origin)).map(|shown| &shown.statement);
        let closed = statement.is_some_and(|statement| match core.journal_of(&origin) {
            Some(node) if node == core.setup.me => !core.setup.orderer.orders(&origin),
            Some(node) => !statement.silent.iter().any(|silent| silent.node == node),
            None => statement.feed.origin != origin,
        });
        FeedStatus { cursor: core.setup.store.cursor(&origin), known, closed }
    };
    furthest.into_iter().map(feed).collect()
}

fn behind(core: &Core, feeds: &[FeedStatus]) -> Vec<Alarm> {
    let behind = lock(&core.behind);
    let late = feeds.iter().filter_map(|feed| {
        let origin = &feed.cursor.origin;
        let missing = feed.known.0.saturating_sub(feed.cursor.seq.0);
        let behind = behind.get(origin).filter(|it| core.since(it.since) > BEHIND_ALARM);
        let behind = behind.filter(|_| missing > 0)?;
        let text = format!("{missing} change sets of {origin} are known and not here");
        Some(Alarm { code: "behind", text, since: behind.since_wall })
    });
    late.collect()
}

/// What no node outside is known to have on its synced disk: of the own region's feeds none of
/// another region, of the journals of its nodes none but the writer.
fn pending(core: &Core, known: &Known, feeds: &[FeedStatus]) -> Vec<Pending> {
    let own = feeds.iter().filter(|it| core.region_of(&it.cursor.origin) == core.setup.region);
    own.filter_map(|feed| pending_of(core, known, feed)).collect()
}

fn pending_of(core: &Core, known: &Known, feed: &FeedStatus) -> Option<Pending> {
    let origin = &feed.cursor.origin;
    let writer = core.journal_of(origin);
    let is_outside = |node: &NodeName| match &writer {
        Some(writer) => node != writer,
        None => core.peer(node).is_some_and(|peer| peer.region != core.setup.region),
    };
    if !core.peers().any(|peer| is_outside(&peer.name)) {
        return None;
    }
    let here = core.setup.store.synced(origin);
    let others = || known.holders(origin).map(|(node, held)| (node, held.synced));
    let outside = others().chain([(&core.setup.me, here)]).filter(|(node, _)| is_outside(node));
    let delivered = outside.map(|(_, synced)| synced).max().unwrap_or_default();
    let changes = feed.known.0.checked_sub(delivered.0).filter(|&changes| changes > 0)?;
    let copies = others().filter(|(_, synced)| *synced >= feed.known).count();
    let oldest = core.setup.store.decided_at(origin, delivered.next()).ok().flatten();
    // What is not here either is as old as it has been known of.
    let known_since = || lock(&core.behind).get(origin).map(|behind| behind.since_wall);
    Some(Pending {
        origin: origin.clone(),
        changes,
        oldest: oldest.or_else(known_since).unwrap_or_else(|| core.setup.clock.wall()),
        copies: copies + usize::from(feed.cursor.seq >= feed.known),
    })
}
