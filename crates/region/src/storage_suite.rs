//! This module runs openraft's own storage test suite against the node's storage.

use std::sync::Arc;
use std::time::Duration;

use chartmesh_record::{Clock, Cursor, NodeName, Random, RegionName, Timestamp};
use chartmesh_store::{Memory, Options, RaftLog, Store, Syncer};
use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};
use tempfile::TempDir;
use tokio::sync::Notify;

use chartmesh_wire::{Links, Purpose};
use futures::FutureExt;
use futures::future::{BoxFuture, ready};
use tonic::transport::{Channel, Endpoint};

use crate::limits::Limits;
use crate::log_store::LogStore;
use crate::setup::{Feeds, Profile, Setup};
use crate::state_machine::StateMachine;
use crate::types::TypeConfig;
use crate::upload::Uploads;
use crate::warm::Warm;
use chartmesh_store::Blocking;

struct Disks {
    syncer: Syncer,
}

/// A clock that stands still.
#[derive(Debug)]
struct Still;

impl Clock for Still {
    fn wall(&self) -> Timestamp {
        Timestamp(1_000)
    }

    fn monotonic(&self) -> Duration {
        Duration::from_secs(1)
    }
}

/// Nothing else runs.
#[derive(Debug)]
struct Alone;

impl Links for Alone {
    fn channel(&self, _peer: &NodeName, _purpose: Purpose) -> Channel {
        Endpoint::from_static("http://nobody").connect_lazy()
    }
}

impl Feeds for Alone {
    fn hold(&self, _cursors: Vec<Cursor>, _within: Duration) -> BoxFuture<'_, bool> {
        ready(true).boxed()
    }

    fn ahead_of(&self, _peer: &NodeName) -> Vec<Cursor> {
        Vec::new()
    }

    fn copies(&self, _at: Cursor, _within: Duration) -> BoxFuture<'_, usize> {
        ready(1).boxed()
    }

    fn clock_off(&self) -> bool {
        false
    }

    fn knows(&self, _region: &RegionName) -> bool {
        false
    }
}

impl Random for Alone {
    fn bits(&self) -> u64 {
        7
    }
}

fn setup(store: Store, log: RaftLog) -> Setup {
    Setup {
        me: "pac-1".parse().unwrap(),
        region: "pac".parse().unwrap(),
        voters: Vec::new(),
        mirrors: Vec::new(),
        profile: Profile::Lan,
        found: false,
        store,
        log,
        feeds: Arc::new(Alone),
        links: Arc::new(Alone),
        clock: Arc::new(Still),
        random: Arc::new(Alone),
        blocking: Blocking::Inline,
        limits: Limits::default(),
    }
}

impl StoreBuilder<TypeConfig, LogStore, StateMachine, TempDir> for Disks {
    async fn build(&self) -> Result<(TempDir, LogStore, StateMachine), StorageError<TypeConfig>> {
        let dir = TempDir::new().unwrap();
        let memory = Memory::new(8 << 20, 8 << 20);
        let store = Store::open(dir.path(), Options { memory: memory.clone() }).unwrap();
        let log = RaftLog::open(dir.path(), self.syncer, &memory).unwrap();
        let appended = Arc::new(Notify::new());
        if self.syncer == Syncer::Caller {
            let (log, appended) = (log.clone(), Arc::clone(&appended));
            tokio::spawn(async move {
                loop {
                    appended.notified().await;
                    log.sync_pending();
                }
            });
        }
        let uploads = Uploads::new(log.clone());
        let warm = Warm::default();
        let (state, _) =
            StateMachine::open(&setup(store, log.clone()), uploads, warm.clone()).unwrap();
        Ok((dir, LogStore::new(log, appended, warm), state))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_storage_passes_openrafts_suite() {
    Suite::test_all(Disks { syncer: Syncer::Thread }).await.unwrap();
}

#[tokio::test]
async fn the_storage_passes_openrafts_suite_where_the_caller_syncs() {
    Suite::test_all(Disks { syncer: Syncer::Caller }).await.unwrap();
}
