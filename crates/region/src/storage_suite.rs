//! This module runs openraft's own storage test suite against the node's storage.

use std::sync::Arc;
use std::time::Duration;

use chartmesh_record::{Clock, Timestamp};
use chartmesh_store::{Memory, Options, RaftLog, Store, Syncer};
use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};
use tempfile::TempDir;
use tokio::sync::Notify;

use crate::log_store::LogStore;
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
            StateMachine::open(store, uploads, Blocking::Inline, Arc::new(Still), warm.clone())
                .unwrap();
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
