//! This module is for the tests of this crate: a node's mirroring without peers, with hands on its time
//! and on what orders its region.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use chartmesh_record::{
    Ancestry, ChangeSet, Clock, Cursor, Generation, NodeName, Origin, Place, Random, RequestDigest,
    RequestId, ResourceKey, Statement, Timestamp, Version,
};
use chartmesh_store::{Apply, Blocking, Memory, Options, Run, Store};
use chartmesh_wire::{Canonical, Links, Purpose};
use tempfile::TempDir;
use tonic::transport::{Channel, Endpoint};

use crate::core::Core;
use crate::limits::Limits;
use crate::setup::{Orderer, Peer, Setup};

/// A node `pac-1` of regions `pac` and `eur`, with site mate `pac-2`.
pub(crate) struct Bench {
    pub(crate) core: Core,
    pub(crate) clock: Arc<Hands>,
    pub(crate) orderer: Arc<ByHand>,
    _dir: TempDir,
}

/// Clocks that are moved by hand, in milliseconds.
#[derive(Debug, Default)]
pub(crate) struct Hands {
    pub(crate) monotonic: AtomicU64,
    pub(crate) wall: AtomicI64,
}

/// What orders the region, as far as a test says.
#[derive(Debug, Default)]
pub(crate) struct ByHand {
    pub(crate) stated: Mutex<Option<(Statement, Duration)>>,
    pub(crate) isolated: Mutex<Option<Timestamp>>,
}

#[derive(Debug)]
struct NoLinks;

#[derive(Debug)]
struct Dice(AtomicU64);

impl Hands {
    /// Lets both clocks go on.
    pub(crate) fn pass(&self, time: Duration) {
        let ms = u64::try_from(time.as_millis()).expect("a short time");
        self.monotonic.fetch_add(ms, Ordering::Relaxed);
        self.wall.fetch_add(i64::try_from(ms).expect("a short time"), Ordering::Relaxed);
    }
}

impl Bench {
    pub(crate) fn new() -> Self {
        let dir = TempDir::new().expect("a directory");
        let options = Options::new(Memory::new(8 << 20, 8 << 20));
        let store = Store::open(dir.path(), options).expect("a new store");
        let (clock, orderer) = (Arc::new(Hands::default()), Arc::new(ByHand::default()));
        clock.wall.store(1_000_000, Ordering::Relaxed);
        let peer = |name: &str, region: &str, site: &str| Peer {
            name: name.parse().expect("a name"),
            region: region.parse().expect("a name"),
            site: site.parse().expect("a name"),
        };
        let core = Core::new(Setup {
            me: "pac-1".parse().expect("a name"),
            region: "pac".parse().expect("a name"),
            site: "yokota".parse().expect("a name"),
            peers: vec![peer("pac-2", "pac", "yokota"), peer("eur-1", "eur", "ramstein")],
            regions: vec!["pac".parse().expect("a name"), "eur".parse().expect("a name")],
            store,
            links: Arc::new(NoLinks),
            clock: clock.clone(),
            random: Arc::new(Dice(AtomicU64::new(7))),
            blocking: Blocking::Inline,
            orderer: orderer.clone(),
            limits: Limits::default(),
        });
        Self { core, clock, orderer, _dir: dir }
    }

    /// Takes in the next change set of a feed.
    pub(crate) fn write(&self, origin: &Origin) -> Cursor {
        let store = &self.core.setup.store;
        let extends = store.cursor(origin);
        let changes = vec![change(&extends)];
        let run = Run { extends, changes };
        let apply = Apply { runs: vec![run], applied: None, arrived: Timestamp(0) };
        store.apply(apply).expect("a disk");
        store.cursor(origin)
    }
}

/// Some change set that follows on a place.
pub(crate) fn change(after: &Cursor) -> Canonical {
    let seq = after.seq.next();
    let mut request = [0; 16];
    request[..8].copy_from_slice(&seq.0.to_be_bytes());
    let content = format!(r#"{{"resourceType":"Basic","id":"r{seq}"}}"#);
    let version = Version {
        key: ResourceKey {
            kind: "Basic".parse().expect("a type"),
            id: format!("r{seq}").parse().expect("an id"),
        },
        generation: Generation(1),
        ancestry: Ancestry::default(),
        criteria: None,
        content: Some(Bytes::from(content)),
    };
    Canonical::encode(ChangeSet {
        origin: after.origin.clone(),
        seq,
        at: Timestamp(i64::try_from(seq.0).expect("a short feed")),
        request: RequestId(request),
        digest: RequestDigest([1; 32]),
        client: None,
        place: Place {
            node: "pac-1".parse().expect("a name"),
            site: "yokota".parse().expect("a name"),
        },
        entries: Vec::new(),
        versions: vec![version],
    })
}

impl Clock for Hands {
    fn wall(&self) -> Timestamp {
        Timestamp(self.wall.load(Ordering::Relaxed))
    }

    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.monotonic.load(Ordering::Relaxed))
    }
}

impl Orderer for ByHand {
    fn orders(&self, _: &Origin) -> bool {
        false
    }

    fn stated(&self) -> Option<(Statement, Duration)> {
        self.stated.lock().expect("no holder panics").clone()
    }

    fn isolated_since(&self) -> Option<Timestamp> {
        *self.isolated.lock().expect("no holder panics")
    }
}

impl Links for NoLinks {
    fn channel(&self, _: &NodeName, _: Purpose) -> Channel {
        Endpoint::from_static("http://nowhere.invalid").connect_lazy()
    }
}

impl Random for Dice {
    fn bits(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed)
    }
}
