//! This module simulates a region: three nodes as they run in production, on a network, on clocks, on
//! disks and with randomness that all come from one seed.
//!
//! ```text
//! conductor: crash, cut the power, partition, delay, heal      (drawn from the seed)
//!     pac-1   pac-2   pac-3        each a Node with its door for clients
//!     writer-0 ... writer-n        over HTTP, at any node
//!     witness                      once all is calm again
//! ```

mod conductor;
mod disk;
mod environment;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use chartmesh_node::{Node, NodeConfig, Settings, Topology};
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tokio::time::sleep;
use turmoil::Sim;

use crate::history::{Evidence, NodeName, NodeState, Recorder, Register, Wish};
use crate::http::Client;
use crate::witness;
use crate::writer::{Run, Writer};

pub use conductor::{Happening, Score, Who};
use environment::{SimulatedNetwork, environment};

/// The nodes.
pub const NODES: [&str; 3] = ["pac-1", "pac-2", "pac-3"];
const FHIR_PORT: u16 = 8080;
const MESH_PORT: u16 = 9100;

/// When the simulated world begins, in seconds since 1970.
const EPOCH_S: u64 = 1_800_000_000;
/// How long a client waits for an answer.
const PATIENCE: Duration = Duration::from_millis(1_500);
/// A network without faults: how long a message takes at the most.
const LATENCY: Duration = Duration::from_millis(4);
/// How long the region is given to come to rest after the last fault.
const REST: Duration = Duration::from_secs(8);
/// No run takes longer than this.
const END: Duration = Duration::from_secs(600);

/// What is simulated.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What all randomness comes from.
    pub seed: u64,
    /// How many clients write.
    pub writers: usize,
    /// How many registers they write.
    pub registers: usize,
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
    topology: Topology,
    dir: TempDir,
    addresses: BTreeMap<std::net::IpAddr, chartmesh_record::NodeName>,
    /// The hosts that are no nodes.
    clients: Vec<String>,
    /// Per node, how often it was started, and whether it leads.
    lives: Mutex<BTreeMap<&'static str, Life>>,
    testimony: Mutex<BTreeMap<NodeName, NodeState>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Life {
    starts: u64,
    leads: bool,
}

/// Simulates a region.
///
/// # Panics
/// When a node panics, or the region does not come to rest.
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
    for name in NODES {
        let world = Arc::clone(&world);
        sim.host(name, move || life(Arc::clone(&world), name));
    }
    let run = run(plan);
    for number in 0..plan.writers {
        let name = writer_name(number);
        let seed = mix(plan.seed, &name);
        let writer = Writer::new(&name, seed, run.clone(), ways());
        sim.client(name, async move {
            writer.go_on().await;
            Ok(())
        });
    }
    sim.client("witness", testify(Arc::clone(&world), run.clone()));
    let (happenings, restarts) = plan.score.perform(&mut sim, &world, &run.stop);
    let operations = run.recorder.operations();
    let nodes = world.testimony.lock().unwrap_or_else(PoisonError::into_inner).clone();
    Outcome { evidence: Evidence { operations, restarts, nodes }, happenings }
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
        let mut text = "[mesh]\nname = \"sim\"\n[[region]]\nname = \"pac\"\n".to_owned();
        for (number, name) in NODES.iter().enumerate() {
            text += &format!(
                "[[node]]\nname = \"{name}\"\nregion = \"pac\"\nsite = \"site-{number}\"\n\
                 mesh = \"{name}:{MESH_PORT}\"\nfhir = \"{name}:{FHIR_PORT}\"\n"
            );
        }
        let address = |name: &&str| (sim.lookup(*name), name.parse().expect("a name"));
        Self {
            seed: plan.seed,
            topology: Topology::parse(&text).expect("a valid topology"),
            dir: folder(),
            clients: (0..plan.writers).map(writer_name).chain(["witness".to_owned()]).collect(),
            addresses: NODES.iter().map(address).collect(),
            lives: Mutex::default(),
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

    /// The node that believes last that it leads; without one, the first.
    fn leader(&self) -> &'static str {
        let lives = self.lives.lock().unwrap_or_else(PoisonError::into_inner);
        let leading = NODES.into_iter().find(|node| lives.get(node).is_some_and(|life| life.leads));
        leading.unwrap_or(NODES[0])
    }
}

/// A temporary folder, in memory where there is one: what a simulated disk loses is not up to the
/// machine's.
fn folder() -> TempDir {
    let in_memory = TempDir::with_prefix_in("chartmesh-sim-", "/dev/shm");
    in_memory.or_else(|_| TempDir::with_prefix("chartmesh-sim-")).expect("a temporary folder")
}

/// One life of a node, from its start to its crash.
async fn life(world: Arc<World>, name: &'static str) -> turmoil::Result {
    let number = world.begin_life(name);
    let seed = mix(world.seed, &format!("{name} {number}"));
    let node: chartmesh_record::NodeName = name.parse()?;
    let config = NodeConfig {
        topology: world.topology.clone(),
        node: node.clone(),
        data: world.data(name),
        settings: Settings { disk_reserve_bytes: 0, ..Settings::default() },
        found: name == NODES[0],
    };
    let node = Node::start(config, environment(seed, world.addresses.clone())).await?;
    let mut ends = pin!(node.region().fatal());
    loop {
        tokio::select! {
            reason = &mut ends => return Err(format!("{name} cannot go on: {reason}").into()),
            () = sleep(Duration::from_millis(5)) => {}
        }
        let leads = node.region().status().leader.is_some_and(|leader| leader.as_str() == name);
        world.note_leads(name, leads);
    }
}

fn writer_name(number: usize) -> String {
    format!("writer-{number}")
}

fn run(plan: &Plan) -> Run {
    Run {
        recorder: Recorder::default(),
        stop: Arc::new(AtomicBool::new(false)),
        now: Arc::new(|| turmoil::sim_elapsed().unwrap_or_default()),
        registers: plan.registers,
        perseverance: Duration::from_secs(60),
        pause: Duration::from_millis(20),
    }
}

fn ways() -> Vec<(NodeName, Client)> {
    let way = |name: &str| {
        let address = format!("{name}:{FHIR_PORT}").parse().expect("an address");
        (NodeName(name.to_owned()), Client::new(Arc::new(SimulatedNetwork), address, PATIENCE))
    };
    NODES.iter().map(|name| way(name)).collect()
}

/// Waits until the writers have ended, and asks the nodes what they hold.
async fn testify(world: Arc<World>, run: Run) -> turmoil::Result {
    while !run.stop.load(Ordering::Relaxed) {
        sleep(Duration::from_millis(50)).await;
    }
    sleep(PATIENCE + Duration::from_secs(1)).await;
    let registers: Vec<Register> = run.registers().collect();
    let names = run.recorder.names();
    let run = Run { stop: Arc::default(), ..run };
    for (number, way) in ways().into_iter().enumerate() {
        let mut writer = Writer::new(&format!("last-{number}"), 0, run.clone(), vec![way]);
        for name in &names {
            writer.fulfil(Wish::CreateOnce(name.clone())).await;
        }
    }
    let nodes = witness::testify(&mut ways(), &registers, REST).await?;
    *world.testimony.lock().unwrap_or_else(PoisonError::into_inner) = nodes;
    Ok(())
}

/// A seed of its own for each part of a simulation.
fn mix(seed: u64, name: &str) -> u64 {
    let hash = Sha256::new().chain_update(seed.to_le_bytes()).chain_update(name).finalize();
    u64::from_le_bytes(hash.first_chunk().copied().expect("32 bytes hold 8"))
}
