//! This module simulates a mesh: nodes as they run in production, on a network, on clocks, on disks and
//! with randomness that all come from one seed.
//!
//! ```text
//! conductor: crash, cut the power, partition, delay, heal      (drawn from the seed)
//!     pac-1   pac-2   pac-3  ...   each a Node with its door for clients
//!     writer-0 ... writer-n        over HTTP, each at the nodes of one region, in registers of that region
//!     rover-0 ... rover-n          over HTTP, at any node, in registers that all rovers write
//!     witness                      once all is calm again
//! ```

mod conductor;
mod disk;
mod environment;
mod mesh;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use chartmesh_node::{Node, NodeConfig, Settings, Topology};
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tokio::time::sleep;
use turmoil::Sim;

use crate::history::{Evidence, NodeName, NodeState, Recorder, Register, Wish};
use crate::witness;
use crate::writer::{Field, Run, Writer};

use conductor::Performed;
pub use conductor::{Happening, Score, Who};
use environment::{SimulatedNetwork, environment};
pub use mesh::{Group, Mesh, Place};

const FHIR_PORT: u16 = 8080;
const MESH_PORT: u16 = 9100;

/// When the simulated world begins, in seconds since 1970.
const EPOCH_S: u64 = 1_800_000_000;
/// For how long a node of several regions goes without word of a quorum before it is isolated. A region
/// alone has the default.
pub const ISOLATION_AFTER: Duration = Duration::from_secs(2);
/// How long a client waits for an answer: of a region alone, and where a write may wait for an isolation.
const PATIENCE: Duration = Duration::from_millis(1_500);
const MESH_PATIENCE: Duration = Duration::from_secs(4);
/// A network without faults: how long a message takes at the most.
const LATENCY: Duration = Duration::from_millis(4);
/// How long a region, and a mesh, is given to come to rest after the last fault.
const REST: Duration = Duration::from_secs(8);
const MESH_REST: Duration = Duration::from_secs(20);
/// A node whose process ends is started again after this time, where its disk was lost.
const SUPERVISOR: Duration = Duration::from_millis(200);
/// No run takes longer than this.
const END: Duration = Duration::from_secs(600);

/// What is simulated.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What all randomness comes from.
    pub seed: u64,
    /// The nodes.
    pub mesh: Mesh,
    /// How many clients write at each region.
    pub writers: usize,
    /// How many registers the writers of each region write.
    pub registers: usize,
    /// How many clients write at all nodes.
    pub rovers: usize,
    /// What happens to the nodes, and when.
    pub score: Score,
}

/// What came of a simulation.
#[derive(Debug)]
pub struct Outcome {
    /// What was seen.
    pub evidence: Evidence,
    /// What happened to the nodes.
    pub happenings: Vec<String>,
}

/// What all parts of a simulation know of each other.
#[derive(Debug)]
struct World {
    seed: u64,
    mesh: Mesh,
    topology: Topology,
    dir: TempDir,
    addresses: BTreeMap<std::net::IpAddr, chartmesh_record::NodeName>,
    /// The hosts that are no nodes.
    clients: Vec<String>,
    /// Per node, how often it was started, and whether it leads.
    lives: Mutex<BTreeMap<&'static str, Life>>,
    /// Per node, by how much its wall clock is wrong.
    clocks: BTreeMap<&'static str, Arc<AtomicI64>>,
    testimony: Mutex<BTreeMap<NodeName, NodeState>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Life {
    starts: u64,
    leads: bool,
}

/// Simulates a mesh.
///
/// # Panics
/// When a node panics, or the mesh does not come to rest.
#[must_use]
pub fn simulate(plan: &Plan) -> Outcome {
    let mut sim = turmoil::Builder::new()
        .rng_seed(plan.seed)
        .epoch(UNIX_EPOCH + Duration::from_secs(EPOCH_S))
        .simulation_duration(END)
        .max_message_latency(LATENCY)
        .tcp_capacity(1 << 16)
        .enable_random_order()
        .build();
    let world = Arc::new(World::new(plan, &sim));
    for name in plan.mesh.names() {
        let world = Arc::clone(&world);
        sim.host(name, move || life(Arc::clone(&world), name));
    }
    let (run, clients) = (run(), plan.clients());
    for Client { name, field, nodes } in &clients {
        let ways = ways(plan.mesh, nodes);
        let writer = Writer::new(name, mix(plan.seed, name), run.clone(), field.clone(), ways);
        sim.client(name.clone(), async move {
            writer.go_on().await;
            Ok(())
        });
    }
    sim.client("witness", testify(Arc::clone(&world), run.clone(), clients));
    let performed = plan.score.perform(&mut sim, &world, &run.stop);
    let Performed { happenings, restarts, lost_disks } = performed;
    let evidence = Evidence {
        operations: run.recorder.operations(),
        restarts,
        places: plan.mesh.places(),
        shared: plan.shared().registers.into_iter().collect(),
        lost_disks,
        epoch_ms: (!plan.score.jumps()).then_some(EPOCH_S as i64 * 1_000),
        nodes: world.testimony.lock().unwrap_or_else(PoisonError::into_inner).clone(),
    };
    Outcome { evidence, happenings }
}

/// A client: what it writes, and at which nodes.
#[derive(Clone, Debug)]
struct Client {
    name: String,
    field: Field,
    nodes: Vec<&'static str>,
}

impl Plan {
    /// The writers of each region, and the rovers.
    fn clients(&self) -> Vec<Client> {
        let mut clients = Vec::new();
        for region in self.mesh.regions() {
            let field = Field::of(region, self.registers);
            let nodes: Vec<_> = self.mesh.members(Group::Region(region)).collect();
            for _ in 0..self.writers {
                let name = format!("writer-{}", clients.len());
                clients.push(Client { name, field: field.clone(), nodes: nodes.clone() });
            }
        }
        for number in 0..self.rovers {
            let (name, nodes) = (format!("rover-{number}"), self.mesh.names().collect());
            clients.push(Client { name, field: self.shared(), nodes });
        }
        clients
    }

    /// What the rovers write.
    fn shared(&self) -> Field {
        Field::nameless("shared", if self.rovers == 0 { 0 } else { self.registers })
    }
}

/// All that was seen, in 64 letters: equal for equal runs.
#[must_use]
pub fn trace(outcome: &Outcome) -> String {
    let mut hash = Sha256::new();
    hash.update(format!("{:?}", outcome.happenings));
    for operation in &outcome.evidence.operations {
        hash.update(format!("{operation:?}"));
    }
    hash.update(format!("{:?}", outcome.evidence.nodes));
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

impl World {
    fn new(plan: &Plan, sim: &Sim<'_>) -> Self {
        let address = |name: &'static str| (sim.lookup(name), name.parse().expect("a name"));
        let clients = plan.clients().into_iter().map(|client| client.name);
        Self {
            seed: plan.seed,
            mesh: plan.mesh,
            topology: Topology::parse(&plan.mesh.topology()).expect("a valid topology"),
            dir: folder(),
            clients: clients.chain(["witness".to_owned()]).collect(),
            addresses: plan.mesh.names().map(address).collect(),
            lives: Mutex::default(),
            clocks: plan.mesh.names().map(|name| (name, Arc::default())).collect(),
            testimony: Mutex::default(),
        }
    }

    /// Where a node keeps its data.
    fn data(&self, node: &str) -> PathBuf {
        self.dir.path().join(node)
    }

    fn begin_life(&self, node: &'static str) -> u64 {
        let mut lives = self.lives.lock().unwrap_or_else(PoisonError::into_inner);
        let life = lives.entry(node).or_default();
        *life = Life { starts: life.starts + 1, leads: false };
        life.starts
    }

    fn note_leads(&self, node: &'static str, leads: bool) {
        let mut lives = self.lives.lock().unwrap_or_else(PoisonError::into_inner);
        lives.entry(node).or_default().leads = leads;
    }

    /// The first node of a region that believes that it leads; without one, the first.
    fn leader(&self, region: &'static str) -> &'static str {
        let lives = self.lives.lock().unwrap_or_else(PoisonError::into_inner);
        let mut members = self.mesh.members(Group::Region(region));
        let leading = members.find(|node| lives.get(node).is_some_and(|life| life.leads));
        leading.unwrap_or_else(|| self.mesh.founder(region))
    }

    /// Lets the wall clock of a node be wrong by so much.
    fn set_clock(&self, node: &str, offset_ms: i64) {
        self.clocks[node].store(offset_ms, Ordering::Relaxed);
    }

    fn settings(&self) -> Settings {
        let settings = Settings { disk_reserve_bytes: 0, ..Settings::default() };
        match self.mesh.is_region() {
            true => settings,
            false => Settings { isolation_after: ISOLATION_AFTER, ..settings },
        }
    }

    fn patience(&self) -> (Duration, Duration) {
        if self.mesh.is_region() { (PATIENCE, REST) } else { (MESH_PATIENCE, MESH_REST) }
    }
}

/// A temporary folder, in memory where there is one: what a simulated disk loses is not up to the
/// machine's.
fn folder() -> TempDir {
    let in_memory = TempDir::with_prefix_in("chartmesh-sim-", "/dev/shm");
    in_memory.or_else(|_| TempDir::with_prefix("chartmesh-sim-")).expect("a temporary folder")
}

/// The lives of a node between two crashes of its host: one, unless its process ends because its disk
/// holds less than it had promised. Then its supervisor starts it again.
async fn life(world: Arc<World>, name: &'static str) -> turmoil::Result {
    loop {
        let ended = live(&world, name).await?;
        if world.mesh.is_region() {
            return Err(format!("{name} cannot go on: {ended}").into());
        }
        sleep(SUPERVISOR).await;
    }
}

/// One life of a node, until it cannot go on. Returns why.
async fn live(world: &World, name: &'static str) -> turmoil::Result<String> {
    let number = world.begin_life(name);
    let seed = mix(world.seed, &format!("{name} {number}"));
    let node: chartmesh_record::NodeName = name.parse()?;
    let region = world.mesh.region_of(name);
    let config = NodeConfig {
        topology: world.topology.clone(),
        node: node.clone(),
        data: world.data(name),
        settings: world.settings(),
        // In a mesh a disk may come back empty: only the first life founds.
        found: name == world.mesh.founder(region) && (world.mesh.is_region() || number == 1),
    };
    let clock = Arc::clone(&world.clocks[name]);
    let environment = environment(seed, world.addresses.clone(), clock);
    let node = Node::start(config, environment).await?;
    let mut ends = pin!(node.region().fatal());
    loop {
        tokio::select! {
            reason = &mut ends => return Ok(reason),
            () = sleep(Duration::from_millis(5)) => {}
        }
        let leads = node.region().status().leader.is_some_and(|leader| leader.as_str() == name);
        world.note_leads(name, leads);
    }
}

fn run() -> Run {
    Run {
        recorder: Recorder::default(),
        stop: Arc::new(AtomicBool::new(false)),
        now: Arc::new(|| turmoil::sim_elapsed().unwrap_or_default()),
        perseverance: Duration::from_secs(60),
        pause: Duration::from_millis(20),
    }
}

/// Ways to these nodes.
fn ways(mesh: Mesh, nodes: &[&str]) -> Vec<(NodeName, crate::http::Client)> {
    let patience = if mesh.is_region() { PATIENCE } else { MESH_PATIENCE };
    let way = |name: &&str| {
        let address = format!("{name}:{FHIR_PORT}").parse().expect("an address");
        let client = crate::http::Client::new(Arc::new(SimulatedNetwork), address, patience);
        (NodeName((*name).to_owned()), client)
    };
    nodes.iter().map(way).collect()
}

/// Waits until the clients have ended, and asks the nodes what they hold.
async fn testify(world: Arc<World>, run: Run, clients: Vec<Client>) -> turmoil::Result {
    while !run.stop.load(Ordering::Relaxed) {
        sleep(Duration::from_millis(50)).await;
    }
    let (patience, rest) = world.patience();
    sleep(patience + Duration::from_secs(1)).await;
    look_for_names(&world, &run).await;
    let registers: BTreeSet<Register> =
        clients.into_iter().flat_map(|client| client.field.registers).collect();
    let registers: Vec<Register> = registers.into_iter().collect();
    let all: Vec<_> = world.mesh.names().collect();
    let nodes = witness::testify(&mut ways(world.mesh, &all), &registers, rest).await?;
    *world.testimony.lock().unwrap_or_else(PoisonError::into_inner) = nodes;
    Ok(())
}

/// Looks for every name at every node of the region whose writers wanted it.
async fn look_for_names(world: &World, run: &Run) {
    let names = run.recorder.names();
    let run = Run { stop: Arc::default(), ..run.clone() };
    for node in world.mesh.names() {
        let region = world.mesh.region_of(node);
        let begins = |name: &&String| name.starts_with(&format!("{region}-"));
        let field = Field::of(region, 1);
        let last = format!("last-{node}");
        let mut writer = Writer::new(&last, 0, run.clone(), field, ways(world.mesh, &[node]));
        for name in names.iter().filter(begins) {
            writer.fulfil(Wish::CreateOnce(name.clone())).await;
        }
    }
}

/// A seed of its own for each part of a simulation.
fn mix(seed: u64, name: &str) -> u64 {
    let hash = Sha256::new().chain_update(seed.to_le_bytes()).chain_update(name).finalize();
    u64::from_le_bytes(hash.first_chunk().copied().expect("32 bytes hold 8"))
}
