//! This module keeps what is known of other nodes: how far each holds which feed, and whether it
//! answers. It notes which feeds it should be looked at again.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::sync::Mutex;
use std::time::Duration;

use chartmesh_record::{Cursor, Moment, NodeName, Origin, Seq};
use chartmesh_wire::raft::decode_cursor;
use chartmesh_wire::{WireError, proto};

use crate::core::{Core, lock};
use crate::limits::{FEEDS_TOLD, SILENCE};
use crate::troubles::{Refused, fork, refused};

/// What is known of all other nodes.
#[derive(Debug, Default)]
pub(crate) struct Views(Mutex<Known>);

/// What is known, node by node and feed by feed.
#[derive(Debug, Default)]
pub(crate) struct Known {
    pub(crate) nodes: BTreeMap<NodeName, View>,
    pub(crate) feeds: BTreeMap<Origin, BTreeMap<NodeName, Holding>>,
    /// Feeds of which somebody holds something else than before.
    changed: BTreeSet<Origin>,
}

/// What is known of another node.
#[derive(Clone, Debug, Default)]
pub(crate) struct View {
    /// When it was last heard of.
    heard: Option<Moment>,
    pub(crate) rtt: Option<Duration>,
    /// How far its clock is ahead, in milliseconds.
    pub(crate) clock_offset_ms: Option<i64>,
    /// How many feeds it holds.
    feeds: usize,
}

/// How far a node holds a feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Holding {
    pub(crate) cursor: Cursor,
    /// Up to where it survives a power cut there.
    pub(crate) synced: Seq,
}

impl Views {
    /// Looks at what is known.
    pub(crate) fn with<T>(&self, look: impl FnOnce(&Known) -> T) -> T {
        look(&lock(&self.0))
    }

    /// Notes how far away a node is that has just answered, and what its clock says.
    pub(crate) fn measured(&self, core: &Core, node: &NodeName, rtt: Duration, offset_ms: i64) {
        let mut known = lock(&self.0);
        known.heard(core, node);
        let view = known.nodes.entry(node.clone()).or_default();
        (view.rtt, view.clock_offset_ms) = (Some(rtt), Some(offset_ms));
    }

    /// Takes in what a node has told of itself.
    pub(crate) fn learn(
        &self,
        core: &Core,
        node: &NodeName,
        report: &proto::Report,
    ) -> Result<(), WireError> {
        let mut told = BTreeMap::new();
        for holding in &report.holdings {
            let Some(feed) = &holding.feed else { continue };
            let cursor = decode_cursor(feed)?;
            if !core.is_of_mesh(&cursor.origin) {
                refused(node, Refused::StrangeFeed, &cursor.origin);
                continue;
            }
            let here = core.setup.store.furthest(&cursor.origin);
            if here.seq == cursor.seq && here.hash != cursor.hash {
                fork(core, node, &here, format_args!("holds {}", cursor.hash));
            }
            let synced = Seq(holding.synced).min(cursor.seq);
            told.insert(cursor.origin.clone(), Holding { cursor, synced });
        }
        let mut known = lock(&self.0);
        known.heard(core, node);
        if report.whole {
            known.forget_others(node, &told);
        }
        let mut changed = false;
        for (origin, holding) in told {
            match known.put(node, origin, holding) {
                Ok(new) => changed |= new,
                Err(origin) => refused(node, Refused::TooMany, origin),
            }
        }
        drop(known);
        if changed {
            core.tell_news();
            core.look.notify_one();
        }
        Ok(())
    }

    /// Notes how far a node has a feed on its synced disk.
    pub(crate) fn acknowledged(&self, core: &Core, node: &NodeName, at: &Cursor, synced: Seq) {
        if !core.is_of_mesh(&at.origin) {
            return;
        }
        let mut known = lock(&self.0);
        known.heard(core, node);
        let held = known.feeds.get(&at.origin).and_then(|feed| feed.get(node)).cloned();
        let mut holding =
            held.unwrap_or_else(|| Holding { cursor: at.clone(), synced: Seq::default() });
        if at.seq > holding.cursor.seq {
            holding.cursor = at.clone();
        }
        holding.synced = synced.min(holding.cursor.seq).max(holding.synced);
        let changed = known.put(node, at.origin.clone(), holding).unwrap_or(false);
        drop(known);
        if changed {
            core.tell_news();
        }
    }

    /// The feeds that should be looked at again, once.
    pub(crate) fn take_changed(&self) -> BTreeSet<Origin> {
        mem::take(&mut lock(&self.0).changed)
    }

    /// Has feeds looked at again.
    pub(crate) fn reconsider(&self, origins: &[Origin]) {
        lock(&self.0).changed.extend(origins.iter().cloned());
    }
}

impl Known {
    /// The nodes that are known to hold something of a feed.
    pub(crate) fn holders(
        &self,
        origin: &Origin,
    ) -> impl Iterator<Item = (&NodeName, &Holding)> + '_ {
        self.feeds.get(origin).into_iter().flatten()
    }

    pub(crate) fn is_reachable(&self, core: &Core, node: &NodeName) -> bool {
        self.nodes.get(node).is_some_and(|view| view.is_reachable(core))
    }

    fn heard(&mut self, core: &Core, node: &NodeName) {
        let view = self.nodes.entry(node.clone()).or_default();
        let was_reachable = view.is_reachable(core);
        view.heard = Some(core.now());
        if !was_reachable {
            let held = self.feeds.iter().filter(|(_, feed)| feed.contains_key(node));
            self.changed.extend(held.map(|(origin, _)| origin.clone()));
        }
    }

    /// Notes how far a node holds a feed. Says whether that is new, or gives the origin back if the
    /// node holds too many.
    fn put(&mut self, node: &NodeName, origin: Origin, holding: Holding) -> Result<bool, Origin> {
        let feed = self.feeds.entry(origin.clone()).or_default();
        let before = feed.get(node);
        if before == Some(&holding) {
            return Ok(false);
        }
        if before.is_none() {
            let view = self.nodes.entry(node.clone()).or_default();
            if view.feeds == FEEDS_TOLD {
                if feed.is_empty() {
                    self.feeds.remove(&origin);
                }
                return Err(origin);
            }
            view.feeds += 1;
        }
        if before.is_none_or(|before| before.cursor != holding.cursor) {
            self.changed.insert(origin);
        }
        feed.insert(node.clone(), holding);
        Ok(true)
    }

    /// Forgets what a node held beside what it holds.
    fn forget_others(&mut self, node: &NodeName, held: &BTreeMap<Origin, Holding>) {
        let mut forgotten = 0;
        self.feeds.retain(|origin, feed| {
            if !held.contains_key(origin) {
                forgotten += usize::from(feed.remove(node).is_some());
            }
            !feed.is_empty()
        });
        if let Some(view) = self.nodes.get_mut(node) {
            view.feeds -= forgotten;
        }
    }
}

impl View {
    pub(crate) fn is_reachable(&self, core: &Core) -> bool {
        self.heard.is_some_and(|heard| core.since(heard) < SILENCE)
    }
}
