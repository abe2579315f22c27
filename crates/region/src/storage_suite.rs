//! This module runs openraft's own storage test suite against the node's storage, and what that suite
//! cannot know.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use chartmesh_record::{
    Action, Batch, Clock, Command, Cursor, Draft, Judgement, NodeName, Operation, Place,
    Precondition, Random, RegionName, RequestDigest, RequestId, Resource, ResourceKey, Timestamp,
};
use chartmesh_store::{Apply, Memory, Options, RaftLog, Run, Store, Syncer};
use openraft::entry::RaftEntry;
use openraft::storage::RaftStateMachine;
use openraft::testing::log::{StoreBuilder, Suite};
use openraft::{EntryPayload, StorageError};
use tempfile::TempDir;
use tokio::sync::Notify;

use chartmesh_wire::raft::{Proposal, Upload};
use chartmesh_wire::{Canonical, Links, Purpose};
use futures::future::{BoxFuture, ready};
use futures::{FutureExt, stream};
use tonic::transport::{Channel, Endpoint};

use crate::codec::stored_id_to;
use crate::limits::Limits;
use crate::log_store::LogStore;
use crate::setup::{Feeds, Profile, Setup};
use crate::state_machine::StateMachine;
use crate::types::{Entry, LeaderId, LogId, Sealed, TypeConfig};
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

/// Nothing else runs; what somebody waits for arrives.
#[derive(Debug, Default)]
struct Alone(Mutex<Option<(Store, Run)>>);

impl Links for Alone {
    fn channel(&self, _peer: &NodeName, _purpose: Purpose) -> Channel {
        Endpoint::from_static("http://nobody").connect_lazy()
    }
}

impl Feeds for Alone {
    fn hold(&self, _cursors: Vec<Cursor>, _within: Duration) -> BoxFuture<'_, bool> {
        let arrives = self.0.lock().unwrap().take();
        if let Some((store, run)) = arrives {
            store.apply(Apply { runs: vec![run], ..Apply::default() }).unwrap();
        }
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
        feeds: Arc::new(Alone::default()),
        links: Arc::new(Alone::default()),
        clock: Arc::new(Still),
        random: Arc::new(Alone::default()),
        blocking: Blocking::Inline,
        limits: Limits::default(),
    }
}

impl StoreBuilder<TypeConfig, LogStore, StateMachine, TempDir> for Disks {
    async fn build(&self) -> Result<(TempDir, LogStore, StateMachine), StorageError<TypeConfig>> {
        let dir = TempDir::new().unwrap();
        let memory = Memory::new(8 << 20, 8 << 20);
        let store = Store::open(dir.path(), Options::new(memory.clone())).unwrap();
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

fn entry(index: u64, proposal: &Proposal) -> Entry {
    let id = LogId { leader_id: LeaderId { term: 1, node_id: 1 }, index };
    Entry::new(id, EntryPayload::Normal(Sealed(proposal.encode())))
}

#[tokio::test]
async fn the_decision_on_a_command_whose_pieces_were_purged_is_taken_from_its_feed() {
    let dir = TempDir::new().unwrap();
    let memory = Memory::new(8 << 20, 8 << 20);
    let store = Store::open(dir.path(), Options::new(memory.clone())).unwrap();
    let log = RaftLog::open(dir.path(), Syncer::Thread, &memory).unwrap();
    log.purge(
        stored_id_to(
            &entry(9, &Proposal::Part { upload: 1, piece: bytes::Bytes::new(), complete: None })
                .log_id,
        ),
        Box::new(|_| {}),
    );
    let key = ResourceKey { kind: "Basic".parse().unwrap(), id: "b".parse().unwrap() };
    let json = br#"{"resourceType":"Basic","code":{"text":"x"}}"#;
    let draft = Draft { resource: Resource::parse(json).unwrap(), links: Vec::new() };
    let update = Operation::Update { key: key.clone(), draft, precondition: Precondition::None };
    let command = Command {
        request: RequestId([1; 16]),
        digest: RequestDigest([1; 32]),
        client: None,
        place: Place { node: "pac-1".parse().unwrap(), site: "yokota".parse().unwrap() },
        action: Action::One(update),
    };
    let extends = Cursor::start("pac.7h2k4m9qzx".parse().unwrap());
    let judged = Batch::new(&store.snapshot(), &extends).judge(&command, Timestamp(7)).unwrap();
    let Judgement::Change { decision, change_set } = judged else { panic!("{judged:?}") };
    let change = Canonical::encode(change_set);
    let hash = extends.extend(change.bytes()).hash;
    let run = Run { extends: extends.clone(), changes: vec![change] };
    let arrives = Arc::new(Alone(Mutex::new(Some((store.clone(), run)))));
    let setup = Setup { feeds: arrives.clone(), ..setup(store.clone(), log.clone()) };
    let uploads = Uploads::new(log);
    let (mut state, progress) = StateMachine::open(&setup, uploads, Warm::default()).unwrap();
    let origin = extends.origin.clone();
    let begin = Proposal::Begin { origin, continues: None, at: Timestamp(5) };
    let parts = Upload { indexes: vec![3, 4], length: 100 };
    let decided = Proposal::Decided { extends, upload: 1, parts, decision, hash };

    let entries = [entry(10, &begin), entry(11, &decided)].map(|entry| Ok((entry, None)));
    state.apply(stream::iter(entries)).await.unwrap();

    assert!(arrives.0.lock().unwrap().is_none(), "it was waited for");
    assert!(store.read(&key).unwrap().is_some());
    assert_eq!(progress.borrow().entries(), 12);
}
