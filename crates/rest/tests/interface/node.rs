//! This module starts a node for a test: a real store, a region of one voter, the router.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::body::Body;
use chartmesh_record::{Clock, NodeName, Place, Random, Timestamp};
use chartmesh_region::{
    Blocking, Links, Member, Profile, Purpose, Region, Setup, State as RegionState,
};
use chartmesh_rest::{Api, Limits, Pages, router};
use chartmesh_store::{Memory, Options, RaftLog, Store, Syncer};
use tempfile::TempDir;
use tonic::transport::{Channel, Endpoint};

use crate::client::{Reply, ask};

/// A node, and the directory that it lives in.
#[derive(Debug)]
pub(crate) struct Node {
    router: Router,
    random: Arc<Counter>,
    _dir: TempDir,
}

impl Node {
    pub(crate) async fn start() -> Self {
        Self::start_with(Limits::default()).await
    }

    pub(crate) async fn start_with(limits: Limits) -> Self {
        let dir = TempDir::new().unwrap();
        let memory = Memory::new(8 << 20, 8 << 20);
        let store = Store::open(dir.path(), Options { memory: memory.clone() }).unwrap();
        let log = RaftLog::open(dir.path(), Syncer::Thread, &memory).unwrap();
        let place = Place { node: "pac-1".parse().unwrap(), site: "yokota".parse().unwrap() };
        let (clock, random) =
            (Arc::new(MachineClock(machine_start())), Arc::new(Counter::default()));
        let me = Member {
            name: place.node.clone(),
            site: place.site.clone(),
            address: "127.0.0.1:1".to_owned(),
        };
        let setup = Setup {
            me: place.node.clone(),
            region: "pac".parse().unwrap(),
            voters: vec![me],
            profile: Profile::Lan,
            found: true,
            store: store.clone(),
            log,
            links: Arc::new(NoLinks),
            clock: clock.clone(),
            random: Arc::new(Counter::default()),
            blocking: Blocking::Pool,
            limits: chartmesh_region::Limits::default(),
        };
        let (region, _services) = Region::start(setup).unwrap();
        await_quorum(&region).await;
        let api = Api {
            store,
            region,
            region_name: "pac".parse().unwrap(),
            place,
            software: "1.2.3".to_owned(),
            clock,
            random: random.clone(),
            blocking: Blocking::Pool,
            limits,
            pages: Pages {
                status: Box::new(|| "{}".to_owned()),
                metrics: Box::new(|| "a 1\n".to_owned()),
            },
        };
        Self { router: router(api), random, _dir: dir }
    }

    /// From now on whatever needs randomness panics.
    pub(crate) fn break_randomness(&self) {
        self.random.broken.store(true, Ordering::Relaxed);
    }

    pub(crate) async fn ask(
        &self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: impl Into<Body>,
    ) -> Reply {
        ask(&self.router, &format!("{method} {target}"), headers, body).await
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        self.ask("GET", &format!("/fhir/{path}"), &[], "").await
    }

    pub(crate) async fn post(&self, path: &str, body: &str) -> Reply {
        self.ask("POST", &format!("/fhir/{path}"), &[], body.to_owned()).await
    }

    pub(crate) async fn put(&self, path: &str, body: &str, headers: &[(&str, &str)]) -> Reply {
        self.ask("PUT", &format!("/fhir/{path}"), headers, body.to_owned()).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Reply {
        self.ask("DELETE", &format!("/fhir/{path}"), &[], "").await
    }
}

async fn await_quorum(region: &Region) {
    for _ in 0..1000 {
        if region.status().state == RegionState::Region && region.as_of().is_some() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("no quorum of one: {:?}", region.status());
}

/// A region of one has nobody to talk to.
#[derive(Debug)]
struct NoLinks;

impl Links for NoLinks {
    fn channel(&self, _peer: &NodeName, _purpose: Purpose) -> Channel {
        Endpoint::from_static("http://127.0.0.1:1").connect_lazy()
    }
}

#[derive(Debug)]
struct MachineClock(Instant);

#[expect(clippy::disallowed_methods, reason = "this test runs in the machine's time")]
fn machine_start() -> Instant {
    Instant::now()
}

impl Clock for MachineClock {
    #[expect(clippy::disallowed_methods, reason = "this test runs in the machine's time")]
    fn wall(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        Timestamp(since.as_millis() as i64)
    }

    fn monotonic(&self) -> Duration {
        self.0.elapsed()
    }
}

/// Numbers that look random and are the same in every run.
#[derive(Debug, Default)]
struct Counter {
    last: AtomicU64,
    broken: AtomicBool,
}

impl Random for Counter {
    fn bits(&self) -> u64 {
        assert!(!self.broken.load(Ordering::Relaxed), "broken on purpose");
        let number = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9)
    }
}
