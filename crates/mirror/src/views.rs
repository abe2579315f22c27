//! This module keeps what is known of other nodes: how far each holds which feed, and whether it answers.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use chartmesh_record::{Cursor, NodeName, Origin, Seq};
use chartmesh_wire::raft::decode_cursor;
use chartmesh_wire::{WireError, proto};

use crate::core::{Core, Moment, lock};
use crate::limits::SILENCE;

/// What is known of all other nodes.
#[derive(Debug, Default)]
pub(crate) struct Views(Mutex<BTreeMap<NodeName, View>>);

/// What is known of another node.
#[derive(Clone, Debug, Default)]
pub(crate) struct View {
    pub(crate) holdings: BTreeMap<Origin, Holding>,
    /// When it was last heard of.
    pub(crate) heard: Option<Moment>,
    pub(crate) rtt: Option<Duration>,
    /// How far its clock is ahead, in milliseconds.
    pub(crate) clock_offset_ms: Option<i64>,
}

/// How far a node holds a feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Holding {
    pub(crate) cursor: Cursor,
    /// Up to where it survives a power cut there.
    pub(crate) synced: Seq,
}

impl Views {
    /// Looks at what is known of a node, or changes it.
    pub(crate) fn with<T>(&self, node: &NodeName, look: impl FnOnce(&mut View) -> T) -> T {
        look(lock(&self.0).entry(node.clone()).or_default())
    }

    /// Looks at everything.
    pub(crate) fn all<T>(&self, look: impl FnOnce(&BTreeMap<NodeName, View>) -> T) -> T {
        look(&lock(&self.0))
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
            let synced = Seq(holding.synced).min(cursor.seq);
            told.insert(cursor.origin.clone(), Holding { cursor, synced });
        }
        let changed = report.whole || !told.is_empty();
        self.with(node, |view| {
            view.heard = Some(core.now());
            if report.whole {
                view.holdings = told;
            } else {
                view.holdings.extend(told);
            }
        });
        if changed {
            core.tell_news();
        }
        Ok(())
    }

    /// Notes how far a node has a feed on its synced disk.
    pub(crate) fn acknowledged(&self, core: &Core, node: &NodeName, at: &Cursor, synced: Seq) {
        self.with(node, |view| {
            view.heard = Some(core.now());
            let new = || Holding { cursor: at.clone(), synced: Seq(0) };
            let holding = view.holdings.entry(at.origin.clone()).or_insert_with(new);
            if at.seq > holding.cursor.seq {
                holding.cursor = at.clone();
            }
            holding.synced = synced.min(holding.cursor.seq).max(holding.synced);
        });
        core.tell_news();
    }
}

impl View {
    pub(crate) fn is_reachable(&self, core: &Core) -> bool {
        self.heard.is_some_and(|heard| core.since(heard) < SILENCE)
    }
}
