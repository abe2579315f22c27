//! This module carries feeds between the nodes of a mesh in one process, as their mirroring would:
//! straight from store to store, unless a pipe between them is cut.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chartmesh_record::{
    Batch, Command, Cursor, Judgement, NodeName, Origin, RegionName, Timestamp,
};
use chartmesh_region::Feeds;
use chartmesh_store::{Apply, Run, Store};
use chartmesh_wire::Canonical;
use futures::future::BoxFuture;

use crate::mesh::{Node, Pipes, lock, now};

/// What is carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Carries {
    /// All feeds, all the time.
    All,
    /// What somebody waits for.
    WhatIsAskedFor,
    /// Nothing.
    Nothing,
}

/// What carries feeds between nodes.
#[derive(Debug)]
pub(crate) struct Carrier {
    pipes: Arc<Pipes>,
    nodes: Mutex<BTreeMap<NodeName, Node>>,
    carries: Mutex<Carries>,
    /// Nodes whose clock is off.
    clock_off: Mutex<BTreeSet<NodeName>>,
}

/// The feeds of one node.
#[derive(Debug)]
pub(crate) struct NodeFeeds {
    me: NodeName,
    carrier: Arc<Carrier>,
}

impl Carrier {
    pub(crate) fn new(pipes: Arc<Pipes>) -> Self {
        let carries = Mutex::new(Carries::All);
        Self { pipes, nodes: Mutex::default(), carries, clock_off: Mutex::default() }
    }

    pub(crate) fn add(&self, name: &NodeName, node: Node) {
        lock(&self.nodes).insert(name.clone(), node);
    }

    pub(crate) fn remove(&self, name: &NodeName) {
        lock(&self.nodes).remove(name);
    }

    pub(crate) fn clear(&self) {
        let nodes = std::mem::take(&mut *lock(&self.nodes));
        drop(nodes);
    }

    pub(crate) fn carry(&self, carries: Carries) {
        *lock(&self.carries) = carries;
    }

    /// Makes a node's clock differ from the others', as far as its mirroring tells.
    pub(crate) fn turn_clock(&self, name: NodeName) {
        lock(&self.clock_off).insert(name);
    }

    fn node(&self, name: &NodeName) -> Option<Node> {
        lock(&self.nodes).get(name).cloned()
    }

    /// The other nodes that a node reaches.
    fn others(&self, me: &NodeName) -> Vec<Node> {
        let nodes = lock(&self.nodes);
        let reached = nodes.iter().filter(|(name, _)| *name != me);
        reached
            .filter(|(name, _)| self.pipes.connects(me, name))
            .map(|(_, node)| node.clone())
            .collect()
    }

    /// Carries what a node lacks to it; what it orders itself only if somebody waits for it.
    fn pull(&self, me: &NodeName, waits: bool) {
        let Some(node) = self.node(me) else { return };
        for other in self.others(me) {
            for there in other.store.horizon().into_values() {
                let here = node.store.cursor(&there.origin);
                let comes_by_itself = node.region.orders(&there.origin) && !waits;
                if there.seq <= here.seq || comes_by_itself {
                    continue;
                }
                let changes = other.store.feed(&here, 1 << 20).unwrap();
                let changes = changes.into_iter().map(|(change, _)| change).collect();
                apply(&node.store, Run { extends: here, changes });
                node.store.sync().unwrap();
            }
        }
    }

    /// Carries all that a node lacks to it, for ever.
    pub(crate) async fn follow(self: Arc<Self>, me: NodeName) {
        loop {
            if *lock(&self.carries) == Carries::All {
                self.pull(&me, false);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

fn apply(store: &Store, run: Run) {
    store.apply(Apply { runs: vec![run], applied: None, arrived: Timestamp(1) }).unwrap();
}

/// Gives a node a change that another region has made. Says the name of its version.
pub(crate) fn give_foreign(store: &Store, command: &Command) -> String {
    let origin: Origin = "eur.7h2k4m9qzx".parse().unwrap();
    let extends = store.cursor(&origin);
    let judgement = {
        let held = store.snapshot();
        Batch::new(&held, &extends).judge(command, Timestamp(1_000)).unwrap()
    };
    let Judgement::Change { change_set, .. } = judgement else { panic!("{judgement:?}") };
    let version = change_set.outcome().entries[0].version.clone().unwrap();
    apply(store, Run { extends, changes: vec![Canonical::encode(change_set)] });
    version.to_string()
}

impl NodeFeeds {
    pub(crate) fn new(me: &NodeName, carrier: &Arc<Carrier>) -> Self {
        Self { me: me.clone(), carrier: Arc::clone(carrier) }
    }

    /// Waits until something holds, at the most so long.
    async fn wait(&self, within: Duration, holds: impl Fn(&Node) -> bool + Send) -> bool {
        let begun = now();
        loop {
            if *lock(&self.carrier.carries) != Carries::Nothing {
                self.carrier.pull(&self.me, true);
            }
            if self.carrier.node(&self.me).is_some_and(|node| holds(&node)) {
                return true;
            }
            if begun.elapsed() >= within {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

fn holds(store: &Store, place: &Cursor) -> bool {
    store.cursor(&place.origin).seq >= place.seq
}

impl Feeds for NodeFeeds {
    fn hold(&self, cursors: Vec<Cursor>, within: Duration) -> BoxFuture<'_, bool> {
        Box::pin(async move {
            self.wait(within, |node| cursors.iter().all(|place| holds(&node.store, place))).await
        })
    }

    fn ahead_of(&self, peer: &NodeName) -> Vec<Cursor> {
        let (own, peer) = (self.carrier.node(&self.me), self.carrier.node(peer));
        let (Some(own), Some(peer)) = (own, peer) else { return Vec::new() };
        let held = own.store.horizon().into_values();
        held.filter(|place| !holds(&peer.store, place)).collect()
    }

    fn copies(&self, at: Cursor, within: Duration) -> BoxFuture<'_, usize> {
        Box::pin(async move {
            let others = || self.carrier.others(&self.me);
            self.wait(within, |_| others().iter().all(|node| holds(&node.store, &at))).await;
            1 + others().iter().filter(|node| holds(&node.store, &at)).count()
        })
    }

    fn clock_off(&self) -> bool {
        lock(&self.carrier.clock_off).contains(&self.me)
    }

    fn knows(&self, region: &RegionName) -> bool {
        let others = self.carrier.others(&self.me);
        let named = |origin: &Origin| origin.name() == region.0;
        others.iter().any(|node| node.store.horizon().keys().any(named))
    }
}
