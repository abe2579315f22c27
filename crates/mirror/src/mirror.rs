//! This module is the handle to a node's mirroring.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use chartmesh_record::{Cursor, NodeName, Origin, Seq};
use chartmesh_store::Note;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, timeout_at};

use crate::accounting;
use crate::core::{Core, lock};
use crate::exchange::{keep_exchanging, neighbourhoods};
use crate::follow::Follower;
use crate::freshness;
use crate::limits::{NOTE_EVERY, SYNC_EVERY};
use crate::service::Services;
use crate::setup::Setup;
use crate::status::{Freshness, MirrorStatus};
use crate::troubles::hold_back;

/// A node's mirroring. Clones are handles to the same; it ends with the last one.
#[derive(Clone, Debug)]
pub struct Mirror {
    core: Arc<Core>,
    tasks: Arc<Mutex<JoinSet<()>>>,
}

impl Mirror {
    /// Starts it, within a tokio runtime. The services must be mounted where the other nodes reach
    /// this one.
    #[must_use]
    pub fn start(setup: Setup) -> (Self, Services) {
        let core = Arc::new(Core::new(setup));
        match core.setup.store.kept(Note::Freshness) {
            Ok(Some(note)) => freshness::recall(&core, note),
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, "how fresh things were is not known"),
        }
        release(&core);
        let mut tasks = JoinSet::new();
        for neighbourhood in neighbourhoods(&core) {
            for _ in 0..neighbourhood.places {
                tasks.spawn(keep_exchanging(Arc::clone(&core), Arc::clone(&neighbourhood)));
            }
        }
        tasks.spawn(Follower::new(Arc::clone(&core)).run());
        tasks.spawn(keep_syncing(Arc::clone(&core)));
        tasks.spawn(keep_noting(Arc::clone(&core)));
        let services = Services::new(Arc::clone(&core));
        (Self { core, tasks: Arc::new(Mutex::new(tasks)) }, services)
    }

    /// How fresh what the node holds is.
    #[must_use]
    pub fn freshness(&self) -> Freshness {
        freshness::look(&self.core)
    }

    /// Waits until the node holds all these places, or a longer part of their feeds, and asks for
    /// what lacks at once. Says whether it holds them when the time is over.
    pub async fn hold(&self, cursors: &[Cursor], within: Duration) -> bool {
        let core = &self.core;
        let deadline = Instant::now() + within;
        let lacking = || {
            let lacks = |cursor: &&Cursor| core.setup.store.cursor(&cursor.origin).seq < cursor.seq;
            cursors.iter().filter(lacks).map(|cursor| cursor.origin.clone()).collect::<Vec<_>>()
        };
        let mut changes = core.setup.store.subscribe();
        let first = lacking();
        if first.is_empty() {
            return true;
        }
        let _urgent = Urgent::new(core, first);
        loop {
            changes.mark_unchanged();
            if lacking().is_empty() {
                return true;
            }
            if timeout_at(deadline, changes.changed()).await.is_err() {
                return lacking().is_empty();
            }
        }
    }

    /// The places by which this node is ahead of what another is known to hold.
    #[must_use]
    pub fn ahead_of(&self, peer: &NodeName) -> Vec<Cursor> {
        let horizon = self.core.setup.store.horizon();
        self.core.views.with(|known| {
            let held = |origin: &Origin| {
                let holding = known.feeds.get(origin).and_then(|feed| feed.get(peer));
                holding.map_or(Seq(0), |holding| holding.cursor.seq)
            };
            horizon.into_values().filter(|cursor| cursor.seq > held(&cursor.origin)).collect()
        })
    }

    /// Waits until all reachable nodes of the same site hold a place on synced disks, at the most so
    /// long. Says how many disks of the site do, this node's included.
    pub async fn copies(&self, at: &Cursor, within: Duration) -> usize {
        let core = &self.core;
        let deadline = Instant::now() + within;
        let mut news = core.news.subscribe();
        let count = || {
            core.views.with(|known| {
                let feed = known.feeds.get(&at.origin);
                let (mut copies, mut waits) = (1, false);
                for node in known.nodes.keys().filter(|node| core.is_site_mate(node)) {
                    let held = feed.and_then(|feed| feed.get(node));
                    let holds = held.is_some_and(|held| held.synced >= at.seq);
                    copies += usize::from(holds);
                    waits |= !holds && known.is_reachable(core, node);
                }
                (copies, waits)
            })
        };
        loop {
            news.mark_unchanged();
            let (copies, waits) = count();
            if !waits || timeout_at(deadline, news.changed()).await.is_err() {
                return copies;
            }
        }
    }

    /// Whether the node's clock is further from most of its peers' than it may be.
    #[must_use]
    pub fn clock_off(&self) -> bool {
        accounting::clock_off(&self.core)
    }

    /// Where the node stands among the others.
    #[must_use]
    pub fn status(&self) -> MirrorStatus {
        accounting::status(&self.core)
    }

    /// Ends it, with what was taken in synced and how fresh it is noted down.
    pub async fn stop(self) {
        self.core.ending.send_replace(true);
        let mut tasks = std::mem::take(&mut *lock(&self.tasks));
        tasks.shutdown().await;
        let core = &self.core;
        core.setup.blocking.run(|| core.sync());
        write_note(core);
    }

    /// Tells of everything that becomes known of what peers hold.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.core.news.subscribe()
    }
}

/// Feeds that are asked for at once, as long as it lives.
struct Urgent<'c> {
    core: &'c Core,
    origins: Vec<Origin>,
}

impl<'c> Urgent<'c> {
    fn new(core: &'c Core, origins: Vec<Origin>) -> Self {
        core.want(&origins);
        Self { core, origins }
    }
}

impl Drop for Urgent<'_> {
    fn drop(&mut self) {
        self.core.let_go(&self.origins);
    }
}

/// Applies what was held back before and can be read by now; tells what still cannot.
fn release(core: &Core) {
    let setup = &core.setup;
    match setup.blocking.run(|| setup.store.release(setup.clock.wall())) {
        Ok(kept) => {
            for (origin, seq, reason) in kept {
                hold_back(core, &origin, seq, reason);
            }
        }
        Err(error) => tracing::error!(%error, "what was held back is not applied"),
    }
}

/// Syncs what was taken in: only then it counts as a copy.
async fn keep_syncing(core: Arc<Core>) {
    let mut applied = core.setup.store.subscribe();
    let mut ticks = interval(SYNC_EVERY);
    loop {
        ticks.tick().await;
        if applied.has_changed().unwrap_or(false) {
            applied.mark_unchanged();
            if !core.setup.blocking.run(|| core.sync()) {
                applied.mark_changed();
            }
        }
    }
}

async fn keep_noting(core: Arc<Core>) {
    let mut ticks = interval(NOTE_EVERY);
    loop {
        ticks.tick().await;
        write_note(&core);
    }
}

fn write_note(core: &Core) {
    if let Err(error) = core.setup.store.keep(Note::Freshness, &freshness::note(core)) {
        tracing::warn!(%error, "how fresh things are is not noted down");
    }
}
