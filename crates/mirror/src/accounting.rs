//! This module accounts for every feed: how far it is held, what only this side holds, what is wrong.

use std::collections::BTreeMap;

use chartmesh_record::{Alarm, NodeName, Origin, Seq, Timestamp};

use crate::core::{Core, Moment, lock};
use crate::freshness;
use crate::limits::BEHIND_ALARM;
use crate::status::{FeedStatus, MirrorStatus, PeerStatus, Pending};
use crate::views::View;

/// Since when feeds are known further than they are held.
#[derive(Debug, Default)]
pub(crate) struct BehindSince(BTreeMap<Origin, (Moment, Timestamp)>);

/// Where this node stands among the others.
pub(crate) fn status(core: &Core, since: &mut BehindSince) -> MirrorStatus {
    let views = core.views.all(BTreeMap::clone);
    let feeds = feeds(core, &views);
    let mut alarms: Vec<Alarm> = {
        let troubles = lock(&core.troubles);
        troubles.forks.values().chain(troubles.divergence.values()).cloned().collect()
    };
    alarms.extend(behind(core, &feeds, since));
    let held_back: Vec<_> = lock(&core.troubles).held_back.values().cloned().collect();
    alarms.extend(held_back.iter().map(|held| {
        let text = format!(
            "change set {} of {} cannot be applied: {}; update this node",
            held.seq, held.origin, held.reason
        );
        core.alarm("format", text)
    }));
    if clock_off(core) {
        let text = "this node's clock is further than clock.max_offset from those of most others";
        alarms.push(core.alarm("clock", text.to_owned()));
    }
    let peers = core.setup.peers.iter().map(|peer| {
        let view = views.get(&peer.name);
        PeerStatus {
            node: peer.name.clone(),
            reachable: view.is_some_and(|view| view.is_reachable(core)),
            rtt: view.and_then(|view| view.rtt),
            clock_offset_ms: view.and_then(|view| view.clock_offset_ms),
        }
    });
    MirrorStatus {
        peers: peers.collect(),
        pending: pending(core, &views),
        feeds,
        held_back,
        alarms,
    }
}

/// Whether this node's clock is off from those of most reachable peers.
pub(crate) fn clock_off(core: &Core) -> bool {
    let most = i64::try_from(core.setup.limits.clock_max_offset.as_millis()).unwrap_or(i64::MAX);
    core.views.all(|views| {
        let reachable = views.values().filter(|view| view.is_reachable(core));
        let offsets: Vec<i64> = reachable.filter_map(|view| view.clock_offset_ms).collect();
        let off = offsets.iter().filter(|offset| offset.abs() > most).count();
        // Of two clocks nobody knows which is wrong.
        offsets.len() > 1 && 2 * off > offsets.len()
    })
}

fn feeds(core: &Core, views: &BTreeMap<NodeName, View>) -> Vec<FeedStatus> {
    let mut known: BTreeMap<Origin, Seq> = BTreeMap::new();
    for view in views.values().filter(|view| view.is_reachable(core)) {
        for (origin, holding) in &view.holdings {
            let seq = known.entry(origin.clone()).or_default();
            *seq = holding.cursor.seq.max(*seq);
        }
    }
    let horizon = core.setup.store.horizon();
    for (origin, cursor) in &horizon {
        let seq = known.entry(origin.clone()).or_default();
        *seq = cursor.seq.max(*seq);
    }
    let present = freshness::present(core);
    let feed = |(origin, known): (Origin, Seq)| {
        let closed = match core.region_of(&origin).and_then(|region| present.get(&region)) {
            Some(statement) => match core.journal_of(&origin) {
                Some(node) => !statement.silent.iter().any(|silent| silent.node == node),
                None => statement.feed.origin != origin,
            },
            None => false,
        };
        FeedStatus { cursor: core.setup.store.cursor(&origin), known, closed }
    };
    known.into_iter().map(feed).collect()
}

fn behind(core: &Core, feeds: &[FeedStatus], since: &mut BehindSince) -> Vec<Alarm> {
    let lagging: Vec<&FeedStatus> = feeds.iter().filter(|it| it.known > it.cursor.seq).collect();
    since.0.retain(|origin, _| lagging.iter().any(|feed| feed.cursor.origin == *origin));
    let mut alarms = Vec::new();
    for feed in lagging {
        let new = || (core.now(), core.setup.clock.wall());
        let (moment, wall) = *since.0.entry(feed.cursor.origin.clone()).or_insert_with(new);
        if core.since(moment) > BEHIND_ALARM {
            let (origin, missing) = (&feed.cursor.origin, feed.known.0 - feed.cursor.seq.0);
            let text = format!("{missing} change sets of {origin} are known and not here");
            alarms.push(Alarm { code: "behind", text, since: wall });
        }
    }
    alarms
}

/// What no node outside is known to hold: of the own region's feeds none of another region, of the
/// journals of its nodes no other node.
fn pending(core: &Core, views: &BTreeMap<NodeName, View>) -> Vec<Pending> {
    let mut pending = Vec::new();
    for (origin, cursor) in core.setup.store.horizon() {
        if core.region_of(&origin).as_ref() != Some(&core.setup.region) {
            continue;
        }
        let journal = core.journal_of(&origin);
        if journal.as_ref().is_some_and(|node| *node != core.setup.me) {
            // Another node's journal is held here: somebody else has it.
            continue;
        }
        let outside = |node: &NodeName| match &journal {
            Some(writer) => node != writer,
            None => core.peer(node).is_some_and(|peer| peer.region != core.setup.region),
        };
        if !core.setup.peers.iter().any(|peer| outside(&peer.name)) {
            continue;
        }
        let synced = |view: &View| view.holdings.get(&origin).map_or(Seq(0), |held| held.synced);
        let outside = views.iter().filter(|(node, _)| outside(node));
        let held = outside.map(|(_, view)| synced(view)).max().unwrap_or_default();
        if held >= cursor.seq {
            continue;
        }
        let oldest = core.setup.store.decided_at(&origin, held.next()).ok().flatten();
        let copies = views.values().filter(|view| synced(view) >= cursor.seq).count();
        pending.push(Pending {
            changes: cursor.seq.0 - held.0,
            oldest: oldest.unwrap_or_default(),
            copies: 1 + copies,
            origin,
        });
    }
    pending
}
