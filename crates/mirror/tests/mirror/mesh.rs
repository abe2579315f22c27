//! This module runs a mesh in one process, on one thread: nodes on real disks that follow each other's
//! feeds, connected by pipes that can be cut and count what they carry. What orders the regions is
//! the test's hand.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use axum::{Extension, Router};
use bytes::Bytes;
use chartmesh_mirror::{Limits, Mirror, Orderer, Peer, Setup};
use chartmesh_record::{
    Ancestry, ChangeSet, Clock, Cursor, Generation, NodeName, Origin, Place, Random, RequestDigest,
    RequestId, ResourceKey, Seq, Statement, Timestamp, Version,
};
use chartmesh_store::{Apply, Blocking, Memory, OpenError, Options, Run, Store};
use chartmesh_wire::{Canonical, Links, PeerIdentity, Purpose};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio::task::JoinSet;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

/// How long anything is waited for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A mesh in one process.
pub(crate) struct Mesh {
    peers: Vec<Peer>,
    dir: TempDir,
    pub(crate) pipes: Arc<Pipes>,
    nodes: BTreeMap<NodeName, Node>,
    /// How far the clocks of nodes are ahead, in milliseconds.
    pub(crate) clocks: BTreeMap<NodeName, i64>,
}

/// A node that runs.
pub(crate) struct Node {
    pub(crate) mirror: Mirror,
    pub(crate) store: Store,
    pub(crate) orderer: Arc<Hand>,
}

/// What orders a node's region, as far as a test says.
#[derive(Debug, Default)]
pub(crate) struct Hand {
    pub(crate) orders: Mutex<BTreeSet<Origin>>,
    stated: Mutex<Option<(Statement, Duration, Instant)>>,
    pub(crate) isolated: Mutex<Option<Timestamp>>,
}

/// The connections between the nodes.
#[derive(Debug, Default)]
pub(crate) struct Pipes {
    doors: Mutex<BTreeMap<NodeName, Router>>,
    /// Pairs of nodes that cannot reach each other, in both orders.
    cut: Mutex<BTreeSet<(NodeName, NodeName)>>,
    /// What runs for each connection: who asked whom.
    running: Mutex<BTreeMap<(NodeName, NodeName), JoinSet<()>>>,
    /// Bytes of feeds that were carried, from whom to whom.
    carried: Mutex<BTreeMap<(NodeName, NodeName), u64>>,
}

#[derive(Debug)]
struct PipeLinks {
    me: NodeName,
    pipes: Arc<Pipes>,
    channels: Mutex<BTreeMap<(NodeName, Purpose), Channel>>,
}

#[derive(Debug)]
struct SystemClock {
    began: Instant,
    ahead_ms: i64,
}

#[derive(Debug)]
struct Dice(AtomicU64);

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap()
}

pub(crate) fn name(text: &str) -> NodeName {
    text.parse().unwrap()
}

/// An origin of this name, always with the same tag.
pub(crate) fn origin(name: &str) -> Origin {
    Origin::new(&name.parse().unwrap(), 0x5eed)
}

impl Mesh {
    /// Nodes that are not started yet: name, region, site.
    pub(crate) fn new(nodes: &[(&str, &str, &str)]) -> Self {
        let peer = |(name, region, site): &(&str, &str, &str)| Peer {
            name: name.parse().unwrap(),
            region: region.parse().unwrap(),
            site: site.parse().unwrap(),
        };
        Self {
            peers: nodes.iter().map(peer).collect(),
            dir: TempDir::new().unwrap(),
            pipes: Arc::default(),
            nodes: BTreeMap::new(),
            clocks: BTreeMap::new(),
        }
    }

    /// Nodes that run.
    pub(crate) async fn started(nodes: &[(&str, &str, &str)]) -> Self {
        let mut mesh = Self::new(nodes);
        for (name, ..) in nodes {
            mesh.start(name).await;
        }
        mesh
    }

    /// Starts a node on its disk.
    pub(crate) async fn start(&mut self, node: &str) {
        let me = self.peers.iter().find(|peer| peer.name.as_str() == node).unwrap().clone();
        let dir = self.dir.path().join(node);
        std::fs::create_dir_all(&dir).unwrap();
        let store = eventually("the disk is free", || open(&dir)).await;
        let orderer = Arc::new(Hand::default());
        let links = PipeLinks {
            me: me.name.clone(),
            pipes: Arc::clone(&self.pipes),
            channels: Mutex::default(),
        };
        let regions: BTreeSet<_> = self.peers.iter().map(|peer| peer.region.clone()).collect();
        let ahead_ms = self.clocks.get(&me.name).copied().unwrap_or(0);
        let seed = std::collections::hash_map::RandomState::new();
        let seed = std::hash::BuildHasher::hash_one(&seed, node);
        let (mirror, services) = Mirror::start(Setup {
            me: me.name.clone(),
            region: me.region,
            site: me.site,
            peers: self.peers.iter().filter(|peer| peer.name != me.name).cloned().collect(),
            regions: regions.into_iter().collect(),
            store: store.clone(),
            links: Arc::new(links),
            clock: Arc::new(SystemClock { began: now(), ahead_ms }),
            random: Arc::new(Dice(AtomicU64::new(seed))),
            blocking: Blocking::Inline,
            orderer: orderer.clone(),
            limits: Limits::default(),
        });
        let router = Router::new().route_service("/chartmesh.v1.Mirror/{call}", services.mirror());
        self.pipes.open(&me.name, router);
        self.nodes.insert(me.name, Node { mirror, store, orderer });
    }

    /// Stops a node, and wipes its disk if that is wanted.
    pub(crate) async fn stop(&mut self, node: &str, wipe: bool) {
        self.pipes.close(&name(node));
        let Node { mirror, store, .. } = self.nodes.remove(&name(node)).unwrap();
        mirror.stop().await;
        drop(store);
        if wipe {
            let dir = self.dir.path().join(node);
            drop(eventually("the disk is free", || open(&dir)).await);
            std::fs::remove_dir_all(&dir).unwrap();
        }
    }

    pub(crate) fn node(&self, node: &str) -> &Node {
        &self.nodes[&name(node)]
    }

    pub(crate) fn mirror(&self, node: &str) -> &Mirror {
        &self.node(node).mirror
    }

    /// Waits until all nodes that run have heard of all others that do.
    pub(crate) async fn meet(&self) {
        let met = || {
            let meets = |node: &Node| {
                let peers = node.mirror.status().peers;
                peers.iter().all(|peer| peer.reachable || !self.nodes.contains_key(&peer.node))
            };
            self.nodes.values().all(meets).then_some(())
        };
        eventually("all nodes have met", met).await;
    }

    /// Waits until all running nodes hold the same, and that is not nothing.
    pub(crate) async fn settle(&self) {
        let same = || {
            let mut states =
                self.nodes.values().map(|node| (node.store.horizon(), node.store.digest()));
            let first = states.next().filter(|(horizon, _)| !horizon.is_empty())?;
            states.all(|state| state == first).then_some(())
        };
        eventually("all nodes hold the same", same).await;
    }

    /// A channel to a node that claims to come from another, or from nobody.
    pub(crate) fn channel_as(&self, from: Option<&str>, to: &str) -> Channel {
        let (pipes, to) = (Arc::clone(&self.pipes), name(to));
        let from = from.map(name);
        let connect = service_fn(move |_| {
            let connected = pipes.connect(from.as_ref(), &to, Purpose::Heartbeat);
            async move { connected }
        });
        Endpoint::from_static("http://mesh").connect_with_connector_lazy(connect)
    }
}

impl Node {
    /// Decides this many changes of about so many bytes, as whatever orders the feed would.
    pub(crate) fn write(&self, origin: &Origin, count: usize, bytes: usize) -> Cursor {
        let extends = self.store.cursor(origin);
        let changes = feed(&extends, count, bytes);
        let runs = vec![Run { extends, changes }];
        self.store.apply(Apply { runs, applied: None, arrived: Timestamp(0) }).unwrap();
        self.store.cursor(origin)
    }

    pub(crate) fn held(&self, origin: &Origin) -> Seq {
        self.store.cursor(origin).seq
    }
}

impl Hand {
    /// Has the region state something that is so old by now.
    pub(crate) fn state(&self, statement: Statement, age: Duration) {
        *lock(&self.stated) = Some((statement, age, now()));
    }
}

/// Change sets that follow on a place, with contents that do not compress well.
pub(crate) fn feed(after: &Cursor, count: usize, bytes: usize) -> Vec<Canonical> {
    let seqs = (after.seq.0 + 1..).take(count);
    seqs.map(|seq| change(&after.origin, Seq(seq), &noise(seq, bytes))).collect()
}

pub(crate) fn change(origin: &Origin, seq: Seq, text: &str) -> Canonical {
    let id = format!("{origin}-{seq}");
    let mut request = [0; 16];
    request[..8].copy_from_slice(&seq.0.to_be_bytes());
    let tag = origin.as_str().as_bytes();
    request[8..].copy_from_slice(&tag[tag.len() - 8..]);
    let content = format!(r#"{{"resourceType":"Basic","id":"{id}","code":{{"text":"{text}"}}}}"#);
    let version = Version {
        key: ResourceKey { kind: "Basic".parse().unwrap(), id: id.parse().unwrap() },
        generation: Generation(1),
        ancestry: Ancestry::default(),
        criteria: None,
        content: Some(Bytes::from(content)),
    };
    Canonical::encode(ChangeSet {
        origin: origin.clone(),
        seq,
        at: Timestamp(1_000 * i64::try_from(seq.0).unwrap()),
        request: RequestId(request),
        digest: RequestDigest([1; 32]),
        client: None,
        place: Place { node: name("pac-1"), site: "yokota".parse().unwrap() },
        entries: Vec::new(),
        versions: vec![version],
    })
}

fn noise(seed: u64, bytes: usize) -> String {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut text = String::with_capacity(bytes + 16);
    while text.len() < bytes {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        text.push_str(&format!("{:08x}", state >> 32));
    }
    text
}

/// Opens a disk, once whoever had it before has let go of it.
fn open(dir: &Path) -> Option<Store> {
    let options = Options::new(Memory::new(16 << 20, 8 << 20));
    match Store::open(dir, options) {
        Err(OpenError::InUse { .. }) => None,
        store => Some(store.unwrap()),
    }
}

/// Waits until something is there.
pub(crate) async fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = now();
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(begun.elapsed() < PATIENCE, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

impl Pipes {
    /// Has a node answer.
    pub(crate) fn open(&self, node: &NodeName, door: Router) {
        lock(&self.doors).insert(node.clone(), door);
    }

    fn close(&self, node: &NodeName) {
        lock(&self.doors).remove(node);
        lock(&self.running).retain(|(from, to), _| from != node && to != node);
    }

    /// Cuts the link between two nodes.
    pub(crate) fn cut(&self, one: &str, other: &str) {
        for (from, to) in [(one, other), (other, one)] {
            lock(&self.cut).insert((name(from), name(to)));
            lock(&self.running).remove(&(name(from), name(to)));
        }
    }

    /// Lets two nodes connect again.
    pub(crate) fn mend(&self, one: &str, other: &str) {
        for (from, to) in [(one, other), (other, one)] {
            lock(&self.cut).remove(&(name(from), name(to)));
        }
    }

    /// How many bytes of feeds one node has given another.
    pub(crate) fn carried(&self, from: &str, to: &str) -> u64 {
        lock(&self.carried).get(&(name(from), name(to))).copied().unwrap_or(0)
    }

    /// Connects two nodes.
    fn connect(
        self: &Arc<Self>,
        from: Option<&NodeName>,
        to: &NodeName,
        purpose: Purpose,
    ) -> io::Result<TokioIo<DuplexStream>> {
        let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
        let pair = (from.cloned().unwrap_or_else(|| name("nobody")), to.clone());
        if lock(&self.cut).contains(&pair) {
            return Err(refused());
        }
        let door = lock(&self.doors).get(to).cloned().ok_or_else(refused)?;
        let door = match from {
            Some(from) => door.layer(Extension(PeerIdentity(from.clone()))),
            None => door,
        };
        let (mine, near) = tokio::io::duplex(1 << 20);
        let (far, theirs) = tokio::io::duplex(1 << 20);
        let (near_read, near_write) = tokio::io::split(near);
        let (far_read, far_write) = tokio::io::split(far);
        let answers = (pair.1.clone(), pair.0.clone());
        let answers = (purpose == Purpose::Feed).then_some(answers);
        let pipes = Arc::clone(self);
        lock(&self.running).entry(pair).or_default().spawn(async move {
            let serve = Builder::new(TokioExecutor::new());
            let service = TowerToHyperService::new(door);
            let serve = serve.serve_connection(TokioIo::new(theirs), service);
            tokio::select! {
                _ = serve => {}
                () = pipes.carry(near_read, far_write, None) => {}
                () = pipes.carry(far_read, near_write, answers) => {}
            }
        });
        Ok(TokioIo::new(mine))
    }

    async fn carry(
        &self,
        mut near: impl AsyncRead + Unpin,
        mut far: impl AsyncWrite + Unpin,
        counted: Option<(NodeName, NodeName)>,
    ) {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(read @ 1..) = near.read(&mut buffer).await {
            if let Some(pair) = &counted {
                *lock(&self.carried).entry(pair.clone()).or_default() += read as u64;
            }
            if far.write_all(&buffer[..read]).await.is_err() {
                return;
            }
        }
    }
}

impl Links for PipeLinks {
    fn channel(&self, peer: &NodeName, purpose: Purpose) -> Channel {
        let connect = || {
            let (pipes, me, peer) = (Arc::clone(&self.pipes), self.me.clone(), peer.clone());
            let connector = service_fn(move |_| {
                let connected = pipes.connect(Some(&me), &peer, purpose);
                async move { connected }
            });
            Endpoint::from_static("http://mesh")
                .initial_stream_window_size(8 << 20)
                .initial_connection_window_size(8 << 20)
                .connect_with_connector_lazy(connector)
        };
        lock(&self.channels).entry((peer.clone(), purpose)).or_insert_with(connect).clone()
    }
}

impl Orderer for Hand {
    fn orders(&self, origin: &Origin) -> bool {
        lock(&self.orders).contains(origin)
    }

    fn stated(&self) -> Option<(Statement, Duration)> {
        let stated = lock(&self.stated);
        let (statement, age, then) = stated.as_ref()?;
        Some((statement.clone(), *age + then.elapsed()))
    }

    fn isolated_since(&self) -> Option<Timestamp> {
        *lock(&self.isolated)
    }
}

#[expect(clippy::disallowed_methods, reason = "a test runs on the machine's clock")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "a test runs on the machine's clock")]
    fn wall(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        Timestamp(i64::try_from(since.as_millis()).unwrap() + self.ahead_ms)
    }

    fn monotonic(&self) -> Duration {
        self.began.elapsed()
    }
}

impl Random for Dice {
    fn bits(&self) -> u64 {
        let state = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        (state ^ (state >> 31)).wrapping_mul(0xbf58_476d_1ce4_e5b9)
    }
}
