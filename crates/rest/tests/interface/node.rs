//! This module starts a node for a test: a real store, a region, a mirror without peers, the router.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::body::Body;
use chartmesh_mirror::Mirror;
use chartmesh_record::{ChangeSet, Clock, NodeName, Place, Random, Timestamp};
use chartmesh_region::{Blocking, Links, Member, Profile, Purpose, Region, Setup};
use chartmesh_rest::{Api, Limits, Pages, router};
use chartmesh_store::{Apply, Memory, Options, RaftLog, Run, RunOutcome, Store, Syncer};
use chartmesh_wire::Canonical;
use tempfile::TempDir;
use tonic::transport::{Channel, Endpoint};

use crate::client::{Reply, ask};
use crate::ports::{Connection, Ports};

/// A node, and the directory that it lives in.
#[derive(Debug)]
pub(crate) struct Node {
    router: Router,
    store: Store,
    clock: Arc<Fused>,
    /// Region and mirror hold the ports, which hold them: this lets go of them.
    _connection: Connection,
    _dir: TempDir,
}

/// What is special about a node.
#[derive(Clone, Debug)]
pub(crate) struct Special {
    pub(crate) limits: Limits,
    /// The regions of the mesh; the node's own is `pac`.
    pub(crate) regions: &'static [&'static str],
    /// The voters of its region; the node itself is `pac-1`.
    pub(crate) voters: &'static [&'static str],
    pub(crate) region: chartmesh_region::Limits,
    /// The web pages that may ask.
    pub(crate) origins: &'static str,
}

impl Default for Special {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            regions: &["pac"],
            voters: &["pac-1"],
            region: chartmesh_region::Limits::default(),
            origins: "",
        }
    }
}

impl Node {
    /// A region of one voter, alone in its mesh, with a quorum.
    pub(crate) async fn start() -> Self {
        Self::start_with(Limits::default()).await
    }

    pub(crate) async fn start_with(limits: Limits) -> Self {
        Self::start_special(Special { limits, ..Special::default() }).await
    }

    pub(crate) async fn start_special(special: Special) -> Self {
        let node = Self::start_without_waiting(special);
        node.until(|reply| {
            reply.header("chartmesh-state") == "region"
                && reply.header("chartmesh-as-of").starts_with("pac=\"")
        })
        .await;
        node
    }

    pub(crate) fn start_without_waiting(special: Special) -> Self {
        let dir = TempDir::new().unwrap();
        let memory = Memory::new(8 << 20, 8 << 20);
        let store = Store::open(dir.path(), Options::new(memory.clone())).unwrap();
        let log = RaftLog::open(dir.path(), Syncer::Thread, &memory).unwrap();
        let clock = Arc::new(MachineClock(machine_start()));
        let ports = Arc::new(Ports::default());
        let (region, _services) = Region::start(Setup {
            me: "pac-1".parse().unwrap(),
            region: "pac".parse().unwrap(),
            voters: special.voters.iter().map(|name| voter(name)).collect(),
            mirrors: Vec::new(),
            profile: Profile::Lan,
            found: special.voters.len() == 1,
            store: store.clone(),
            log,
            feeds: ports.clone(),
            links: Arc::new(NoLinks),
            clock: clock.clone(),
            random: Arc::new(Counter::default()),
            blocking: Blocking::Pool,
            limits: special.region,
        })
        .unwrap();
        let (mirror, _services) = Mirror::start(chartmesh_mirror::Setup {
            me: "pac-1".parse().unwrap(),
            region: "pac".parse().unwrap(),
            site: "yokota".parse().unwrap(),
            peers: Vec::new(),
            regions: special.regions.iter().map(|name| name.parse().unwrap()).collect(),
            store: store.clone(),
            links: Arc::new(NoLinks),
            clock: clock.clone(),
            random: Arc::new(Counter::default()),
            blocking: Blocking::Pool,
            orderer: ports.clone(),
            limits: chartmesh_mirror::Limits::default(),
        });
        let connection = ports.connect(region.clone(), mirror.clone());
        let clock = Arc::new(Fused { clock, fuse: AtomicU64::new(0) });
        let api = Api {
            store: store.clone(),
            region,
            mirror,
            region_name: "pac".parse().unwrap(),
            place: Place { node: "pac-1".parse().unwrap(), site: "yokota".parse().unwrap() },
            software: "1.2.3".to_owned(),
            clock: clock.clone(),
            random: Arc::new(Counter::default()),
            blocking: Blocking::Pool,
            limits: special.limits,
            origins: special.origins.parse().unwrap(),
            pages: Pages {
                status: Box::new(|| "{}".to_owned()),
                metrics: Box::new(|| "a 1\n".to_owned()),
            },
        };
        Self { router: router(api), store, clock, _connection: connection, _dir: dir }
    }

    /// Waits until the answers to an unimportant request are like this.
    pub(crate) async fn until(&self, like: impl Fn(&Reply) -> bool) {
        for _ in 0..1000 {
            if like(&self.get("Patient/none").await) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("in vain: {:?}", self.get("Patient/none").await);
    }

    /// Takes in a change set that was decided elsewhere.
    pub(crate) fn receive(&self, change: ChangeSet) {
        let extends = self.store.cursor(&change.origin);
        let run = Run { extends, changes: vec![Canonical::encode(change)] };
        let apply = Apply { runs: vec![run], applied: None, arrived: wall() };

        let applied = self.store.apply(apply).unwrap();

        assert_eq!(applied.runs, [RunOutcome::Held { new: 1 }]);
    }

    /// Makes a panic of the second look at the clock from now: a write's, within its handling.
    pub(crate) fn light_the_fuse(&self) {
        self.clock.fuse.store(2, Ordering::Relaxed);
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

fn voter(name: &str) -> Member {
    Member {
        name: name.parse().unwrap(),
        site: "yokota".parse().unwrap(),
        address: "127.0.0.1:1".to_owned(),
    }
}

/// Nobody else is there.
#[derive(Debug)]
struct NoLinks;

impl Links for NoLinks {
    fn channel(&self, _peer: &NodeName, _purpose: Purpose) -> Channel {
        Endpoint::from_static("http://127.0.0.1:1").connect_lazy()
    }
}

#[derive(Debug)]
struct MachineClock(Instant);

/// A clock that panics when its fuse has burnt down.
#[derive(Debug)]
struct Fused {
    clock: Arc<MachineClock>,
    fuse: AtomicU64,
}

impl Clock for Fused {
    fn wall(&self) -> Timestamp {
        self.clock.wall()
    }

    fn monotonic(&self) -> Duration {
        let burning = |left: u64| left.checked_sub(1);
        let before = self.fuse.fetch_update(Ordering::Relaxed, Ordering::Relaxed, burning);
        assert_ne!(before, Ok(1), "broken on purpose");
        self.clock.monotonic()
    }
}

#[expect(clippy::disallowed_methods, reason = "this test runs in the machine's time")]
fn machine_start() -> Instant {
    Instant::now()
}

impl Clock for MachineClock {
    fn wall(&self) -> Timestamp {
        wall()
    }

    fn monotonic(&self) -> Duration {
        self.0.elapsed()
    }
}

#[expect(clippy::disallowed_methods, reason = "this test runs in the machine's time")]
pub(crate) fn wall() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    Timestamp(since.as_millis() as i64)
}

/// Numbers that look random and are the same in every run.
#[derive(Debug, Default)]
struct Counter {
    last: AtomicU64,
}

impl Random for Counter {
    fn bits(&self) -> u64 {
        let number = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9)
    }
}
