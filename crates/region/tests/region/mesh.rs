//! This module runs a region in one process: its nodes on real disks, connected by pipes that can
//! be cut, with identities as a node's accept loop would give them.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use axum::{Extension, Router};
use chartmesh_record::{Clock, NodeName, Random, Timestamp};
use chartmesh_region::{
    Blocking, Limits, Links, Member, PeerIdentity, Profile, Purpose, Region, Setup, State,
};
use chartmesh_store::{Memory, OpenError, Options, RaftLog, Store, Syncer};
use chartmesh_wire::proto::region_client::RegionClient;
use chartmesh_wire::{OPERATOR, proto};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf};
use tokio::task::JoinSet;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;
use tracing_subscriber::EnvFilter;

use crate::feeds::{Carrier, NodeFeeds};

/// How long anything is waited for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A region in one process.
pub(crate) struct Mesh {
    /// The voters, then the mirrors.
    names: Vec<NodeName>,
    voters: usize,
    dir: TempDir,
    pipes: Arc<Pipes>,
    pub(crate) carrier: Arc<Carrier>,
    nodes: BTreeMap<NodeName, Node>,
    following: BTreeMap<NodeName, JoinSet<()>>,
    pub(crate) limits: Limits,
}

/// A node that runs.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) region: Region,
    pub(crate) store: Store,
    pub(crate) log: RaftLog,
}

/// The connections between the nodes.
#[derive(Debug, Default)]
pub(crate) struct Pipes {
    doors: Mutex<BTreeMap<NodeName, Router>>,
    /// Voters that cannot be reached and do not reach anybody.
    cut: Mutex<BTreeSet<NodeName>>,
    /// Voters whose questions do not arrive, while answers to them still do.
    mute: Mutex<BTreeSet<NodeName>>,
    /// What runs for each connection, by both its ends.
    running: Mutex<BTreeMap<NodeName, JoinSet<()>>>,
    /// Whom the connections of a voter claim to be from, if not from itself.
    masks: Mutex<BTreeMap<NodeName, NodeName>>,
}

#[derive(Debug)]
struct PipeLinks {
    me: NodeName,
    pipes: Arc<Pipes>,
    channels: Mutex<BTreeMap<(NodeName, Purpose), Channel>>,
}

#[derive(Debug)]
struct SystemClock(Instant);

#[derive(Debug)]
struct Counter(AtomicU64);

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap()
}

impl Mesh {
    /// Voters that are not started yet.
    pub(crate) fn new(voters: usize) -> Self {
        Self::with(voters, 0, Limits::default())
    }

    /// Voters, then mirrors, that are not started yet.
    pub(crate) fn with(voters: usize, mirrors: usize, limits: Limits) -> Self {
        // RUST_LOG=chartmesh_region=debug shows what happens.
        let _ = tracing_subscriber::fmt().with_env_filter(EnvFilter::from_default_env()).try_init();
        let numbers = 1..=voters + mirrors;
        let pipes: Arc<Pipes> = Arc::default();
        Self {
            names: numbers.map(|number| format!("pac-{number}").parse().unwrap()).collect(),
            voters,
            dir: TempDir::new().unwrap(),
            carrier: Arc::new(Carrier::new(Arc::clone(&pipes))),
            pipes,
            nodes: BTreeMap::new(),
            following: BTreeMap::new(),
            limits,
        }
    }

    /// A founded region with a leader.
    pub(crate) async fn founded(voters: usize) -> Self {
        Self::new(voters).found().await
    }

    /// Starts all nodes, and founds the region.
    pub(crate) async fn found(mut self) -> Self {
        for number in 1..=self.names.len() {
            self.start(number, number == 1).await;
        }
        self.leader().await;
        self
    }

    pub(crate) fn name(&self, number: usize) -> NodeName {
        self.names[number - 1].clone()
    }

    /// Takes a killed voter's disk away, once what was still asked of it has let go of it.
    pub(crate) async fn wipe(&self, number: usize) {
        let dir = self.disk(number);
        let wipe = || match std::fs::remove_dir_all(&dir) {
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => None,
            wiped => {
                wiped.unwrap();
                Some(())
            }
        };
        eventually("the disk is wiped", wipe).await;
        let free = || (!dir.exists()).then_some(());
        eventually("nobody writes to the disk any more", free).await;
    }

    /// Starts a node on its disk.
    pub(crate) async fn start(&mut self, number: usize, found: bool) {
        let name = self.name(number);
        self.mend(number);
        let dir = self.disk(number);
        std::fs::create_dir_all(&dir).unwrap();
        let memory = Memory::new(32 << 20, 16 << 20);
        // What was still asked of a voter that was killed lets go of its disk when it is answered.
        let options = || Options::new(memory.clone());
        let open = || match Store::open(&dir, options()) {
            Err(OpenError::InUse { .. }) => None,
            store => Some(store.unwrap()),
        };
        let store = eventually("the disk is free", open).await;
        let log = RaftLog::open(&dir, Syncer::Thread, &memory).unwrap();
        let member = |name: &NodeName| Member {
            name: name.clone(),
            site: "yokota".parse().unwrap(),
            address: format!("{name}:9100"),
        };
        let links = PipeLinks {
            me: name.clone(),
            pipes: Arc::clone(&self.pipes),
            channels: Mutex::default(),
        };
        let seed = std::collections::hash_map::RandomState::new();
        let seed = std::hash::BuildHasher::hash_one(&seed, number);
        let setup = Setup {
            me: name.clone(),
            region: "pac".parse().unwrap(),
            voters: self.names[..self.voters].iter().map(member).collect(),
            mirrors: self.names[self.voters..].iter().map(member).collect(),
            profile: Profile::Lan,
            found,
            store: store.clone(),
            log: log.clone(),
            feeds: Arc::new(NodeFeeds::new(&name, &self.carrier)),
            links: Arc::new(links),
            clock: Arc::new(SystemClock(now())),
            random: Arc::new(Counter(AtomicU64::new(seed))),
            blocking: Blocking::Pool,
            limits: self.limits.clone(),
        };
        let (region, services) = Region::start(setup).unwrap();
        let router = Router::new()
            .route_service("/chartmesh.v1.Raft/{call}", services.raft())
            .route_service("/chartmesh.v1.Region/{call}", services.region());
        lock(&self.pipes.doors).insert(name.clone(), router);
        let node = Node { region, store, log };
        self.carrier.add(&name, node.clone());
        let mut following = JoinSet::new();
        following.spawn(Arc::clone(&self.carrier).follow(name.clone()));
        self.following.insert(name.clone(), following);
        self.nodes.insert(name, node);
    }

    pub(crate) fn disk(&self, number: usize) -> PathBuf {
        self.dir.path().join(self.name(number).as_str())
    }

    /// Keeps a copy of a killed voter's disk.
    pub(crate) async fn copy(&self, number: usize) -> TempDir {
        let memory = Memory::new(8 << 20, 8 << 20);
        let free = || {
            let dir = self.disk(number);
            let store = Store::open(&dir, Options::new(memory.clone()));
            let log = RaftLog::open(&dir, Syncer::Caller, &memory);
            let in_use = matches!(store, Err(OpenError::InUse { .. }))
                || matches!(log, Err(OpenError::InUse { .. }));
            (!in_use).then_some(())
        };
        eventually("the disk is free", free).await;
        let copy = TempDir::new().unwrap();
        copy_all(&self.disk(number), copy.path());
        copy
    }

    /// Gives a killed voter's disk back what it was before.
    pub(crate) async fn set_back(&self, number: usize, to: &TempDir) {
        self.wipe(number).await;
        copy_all(to.path(), &self.disk(number));
    }

    /// The topology does not name this voter any more, or not yet.
    pub(crate) fn add_voter(&mut self) -> usize {
        self.voters += 1;
        self.names.push(format!("pac-{}", self.voters).parse().unwrap());
        self.voters
    }

    /// Asks a voter, as the operator, to change who votes.
    pub(crate) async fn change(
        &self,
        number: usize,
        change: proto::change_request::Change,
    ) -> proto::change_response::Answer {
        let operator: NodeName = OPERATOR.parse().unwrap();
        let links =
            PipeLinks { me: operator, pipes: Arc::clone(&self.pipes), channels: Mutex::default() };
        let channel = links.channel(&self.name(number), Purpose::Forward);
        let request = proto::ChangeRequest { change: Some(change) };
        let answer = RegionClient::new(channel).change(request).await;
        answer.unwrap().into_inner().answer.unwrap()
    }

    /// Stops a voter without a word.
    pub(crate) async fn kill(&mut self, number: usize) {
        let name = self.name(number);
        self.pipes.cut(&name);
        lock(&self.pipes.doors).remove(&name);
        self.carrier.remove(&name);
        self.following.remove(&name).unwrap().shutdown().await;
        self.nodes.remove(&name).unwrap().region.stop().await;
    }

    /// Cuts all connections of a voter.
    pub(crate) fn cut(&self, number: usize) {
        self.pipes.cut(&self.name(number));
    }

    /// Keeps what a voter sends from arriving, but not the answers to what it has sent.
    pub(crate) fn mute(&self, number: usize) {
        lock(&self.pipes.mute).insert(self.name(number));
    }

    /// Lets a voter connect again.
    pub(crate) fn mend(&self, number: usize) {
        lock(&self.pipes.cut).remove(&self.name(number));
        lock(&self.pipes.mute).remove(&self.name(number));
    }

    /// Makes the connections of a voter claim to be from another.
    pub(crate) fn mask(&self, number: usize, as_name: &str) {
        lock(&self.pipes.masks).insert(self.name(number), as_name.parse().unwrap());
        self.pipes.cut(&self.name(number));
        self.mend(number);
    }

    pub(crate) fn node(&self, number: usize) -> &Node {
        &self.nodes[&self.name(number)]
    }

    pub(crate) fn running(&self) -> impl Iterator<Item = (usize, &Node)> {
        let number = |name: &NodeName| self.names.iter().position(|known| known == name).unwrap();
        self.nodes.iter().map(move |(name, node)| (number(name) + 1, node))
    }

    /// The number of the voter that all running ones take for the leader.
    pub(crate) async fn leader(&self) -> usize {
        let agreed = || {
            let mut leaders: BTreeSet<Option<NodeName>> =
                self.nodes.values().map(|node| node.region.status().leader).collect();
            let leader = leaders.pop_first().flatten().filter(|_| leaders.is_empty())?;
            self.nodes.contains_key(&leader).then_some(leader)
        };
        let leader = eventually("the voters agree on a leader", agreed).await;
        self.names.iter().position(|name| *name == leader).unwrap() + 1
    }

    /// The number of the voter that another takes for the leader.
    pub(crate) fn leader_of(&self, number: usize) -> usize {
        let leader = self.node(number).region.status().leader.unwrap();
        self.names.iter().position(|name| *name == leader).unwrap() + 1
    }

    /// Some running voter that does not lead.
    pub(crate) async fn follower(&self) -> usize {
        let leader = self.leader().await;
        self.running().map(|(number, _)| number).find(|&number| number != leader).unwrap()
    }

    /// Waits until all running nodes hold the same, and checks that they do.
    pub(crate) async fn settle(&self) {
        let same = || {
            let mut states =
                self.nodes.values().map(|node| (node.store.horizon(), node.store.digest()));
            let first = states.next()?;
            let voters = self.running().filter(|(number, _)| *number <= self.voters);
            let mut applied = voters.map(|(_, node)| node.region.status().applied);
            let position = applied.next()?;
            let same = states.all(|state| state == first) && applied.all(|at| at == position);
            same.then_some(())
        };
        eventually("all nodes hold the same", same).await;
    }

    pub(crate) fn state(&self, number: usize) -> State {
        self.node(number).region.status().state
    }
}

impl Drop for Mesh {
    fn drop(&mut self) {
        self.carrier.clear();
    }
}

fn copy_all(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_all(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
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
    /// Carries what one end of a connection sends, unless it is mute.
    async fn carry(
        self: Arc<Self>,
        from: NodeName,
        mut near: ReadHalf<DuplexStream>,
        mut far: WriteHalf<DuplexStream>,
    ) {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(read @ 1..) = near.read(&mut buffer).await {
            while lock(&self.mute).contains(&from) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            if far.write_all(&buffer[..read]).await.is_err() {
                return;
            }
        }
    }

    fn cut(&self, name: &NodeName) {
        lock(&self.cut).insert(name.clone());
        lock(&self.running).remove(name);
    }

    /// Whether neither of two nodes is cut off.
    pub(crate) fn connects(&self, one: &NodeName, other: &NodeName) -> bool {
        let cut = lock(&self.cut);
        !cut.contains(one) && !cut.contains(other)
    }

    /// Connects two voters.
    fn connect(
        self: &Arc<Self>,
        from: &NodeName,
        to: &NodeName,
    ) -> io::Result<TokioIo<DuplexStream>> {
        let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
        let cut = lock(&self.cut);
        if cut.contains(from) || cut.contains(to) {
            return Err(refused());
        }
        let door = lock(&self.doors).get(to).cloned().ok_or_else(refused)?;
        let identity = lock(&self.masks).get(from).unwrap_or(from).clone();
        let (mine, near) = tokio::io::duplex(1 << 20);
        let (far, theirs) = tokio::io::duplex(1 << 20);
        let (near_read, mut near_write) = tokio::io::split(near);
        let (mut far_read, far_write) = tokio::io::split(far);
        let questions = Arc::clone(self).carry(from.clone(), near_read, far_write);
        let service = TowerToHyperService::new(door.layer(Extension(PeerIdentity(identity))));
        let mut running = lock(&self.running);
        // The pipe breaks with either end.
        let (ended, mut either) = tokio::sync::mpsc::channel::<()>(1);
        running.entry(from.clone()).or_default().spawn(async move {
            let _ended = ended;
            std::future::pending::<()>().await;
        });
        running.entry(to.clone()).or_default().spawn(async move {
            let serve = Builder::new(TokioExecutor::new());
            let serve = serve.serve_connection(TokioIo::new(theirs), service);
            tokio::select! {
                _ = serve => {}
                () = questions => {}
                _ = tokio::io::copy(&mut far_read, &mut near_write) => {}
                _ = either.recv() => {}
            }
        });
        Ok(TokioIo::new(mine))
    }
}

impl Links for PipeLinks {
    fn channel(&self, peer: &NodeName, purpose: Purpose) -> Channel {
        let connect = || {
            let (pipes, me, peer) = (Arc::clone(&self.pipes), self.me.clone(), peer.clone());
            let connector = service_fn(move |_| {
                let connected = pipes.connect(&me, &peer);
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

#[expect(clippy::disallowed_methods, reason = "a test runs on the machine's clock")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "a test runs on the machine's clock")]
    fn wall(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        Timestamp(i64::try_from(since.as_millis()).unwrap())
    }

    fn monotonic(&self) -> Duration {
        self.0.elapsed()
    }
}

impl Random for Counter {
    fn bits(&self) -> u64 {
        let state = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        (state ^ (state >> 31)).wrapping_mul(0xbf58_476d_1ce4_e5b9)
    }
}
