//! This module runs a mesh on this machine: `chartmesh demo`.
//!
//! ```text
//! plan -> links -> files (topologies, certificates) -> processes -> ready -> loaded -> tour -> until Ctrl-C
//! ```
//!
//! Each node is a process of its own. One that ends is not started again: what that means is what a
//! demo is there to show. All that the nodes say to each other goes over links that this process
//! carries, so that they can be cut without privileges.

mod control;
mod plan;
mod processes;
mod tour;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use chartmesh_link_proxy::Net;
use chartmesh_node::Topology;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep};

use self::control::Control;
use self::plan::{Plan, Size};
use self::processes::{Processes, topology_file};
use crate::certs::{self, AuthorityPolicy};
use crate::cluster::DEMO_DIR;
use crate::generate;
use crate::http::BaseUrl;
use crate::load;
use crate::mesh::Mesh;
use crate::status::grouped;
use crate::terminal::{self, WrongUsage};
use crate::verify;

/// How long the last records may take to arrive at every node.
const ARRIVED_WITHIN: Duration = Duration::from_secs(60);

/// How long the nodes may take to be ready for writes.
const READY_WITHIN: Duration = Duration::from_secs(120);

/// The generated patients of a demo, about a hundred resources each, and what they are made from.
const PATIENTS: u32 = 40;
const SEED: u64 = 1;

/// How often the processes are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Run a mesh on this machine: one process per node, loaded with records, until Ctrl-C.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  chartmesh demo                       three regions of three nodes with generated records
  chartmesh demo --tour                the same, and a tour: a leader, a region and a site are lost
  chartmesh demo --data bundles/       the same with records of your own: bundles, NDJSON, archives
  chartmesh demo --regions 1           one region of three nodes

While it runs: `chartmesh status` shows the nodes, `chartmesh links` cuts and slows what is between them.
DIR/cluster.json says what runs where. A node that was killed is started again by its `command`.")]
pub(crate) struct Arguments {
    /// Where everything is kept. A demo that was stopped goes on there.
    #[arg(long, value_name = "DIR", default_value = DEMO_DIR)]
    dir: PathBuf,
    /// How many regions, 1 to 9.
    #[arg(long, value_name = "N", default_value_t = 3)]
    regions: usize,
    /// How many nodes each region has, 1 to 9.
    #[arg(long, value_name = "N", default_value_t = 3)]
    nodes: usize,
    /// The port of the first node's FHIR endpoint; the others count up.
    #[arg(long, value_name = "PORT", default_value_t = 8080)]
    port: u16,
    /// Records to load instead of generated ones: files or directories.
    #[arg(long, value_name = "PATH")]
    data: Vec<PathBuf>,
    /// Load nothing.
    #[arg(long, conflicts_with = "data")]
    empty: bool,
    /// Show what the mesh does when a leader, a region and a site are lost, and measure it.
    #[arg(long)]
    tour: bool,
    /// Stop when everything is loaded and toured.
    #[arg(long)]
    exit: bool,
    /// Let the nodes reach each other directly, to measure them alone: no link can be cut.
    #[arg(long, conflicts_with = "tour")]
    direct: bool,
}

/// A demo that runs.
struct Demo {
    processes: Processes,
    /// `None`: the nodes reach each other directly.
    net: Option<Arc<Net>>,
    _control: Option<Control>,
}

/// Runs the command.
pub(crate) async fn command(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let Arguments { regions, nodes, tour, .. } = arguments;
    if tour && (regions < 3 || nodes < 3) {
        let reason = "--tour takes a node, a region and a site away: it needs --regions 3 and \
                      --nodes 3, or more";
        return Err(WrongUsage(reason.to_owned()).into());
    }
    let mut signals = Signals::new()?;
    let mut demo = start(&arguments).await?;
    let run = async {
        let result = act(&arguments, &mut demo).await;
        if result.is_ok() && !arguments.exit {
            watch(&mut demo.processes).await;
        }
        result
    };
    let result = tokio::select! {
        result = run => result,
        () = signals.stop() => Ok(()),
    };
    terminal::tell("Stopping the nodes ...");
    tokio::select! {
        () = demo.processes.stop() => {}
        () = signals.stop() => demo.processes.kill_all(),
    }
    result.map(|()| ExitCode::SUCCESS)
}

/// Lays the links, writes what the nodes need, and starts them.
async fn start(arguments: &Arguments) -> anyhow::Result<Demo> {
    let &Arguments { regions, nodes, port, .. } = arguments;
    fs::create_dir_all(&arguments.dir)
        .with_context(|| format!("cannot make {}", arguments.dir.display()))?;
    let dir = fs::canonicalize(&arguments.dir)?;
    let plan = Plan::new(&dir, Size { regions, nodes }, port)?;
    let net = (!arguments.direct).then(|| Net::start(plan.members()?).map_err(anyhow::Error::from));
    let net = net.transpose().context("cannot lay the links between the nodes")?.map(Arc::new);
    write(&dir.join("mesh.toml"), &plan.topology)?;
    fs::create_dir_all(dir.join("topology"))?;
    for node in &plan.topology.nodes {
        let seen = match &net {
            Some(net) => &plan.seen_by(node, net)?,
            None => &plan.topology,
        };
        write(&topology_file(&dir, node), seen)?;
    }
    certs::make(&plan.topology, &dir.join("tls"), &[], AuthorityPolicy::Keep)?;
    let control = match &net {
        Some(net) => Some(Control::start(Arc::clone(net)).await?),
        None => None,
    };
    terminal::tell(format!("Starting {regions} x {nodes} nodes in {} ...", dir.display()));
    let links = control.as_ref().map(Control::url);
    let processes = Processes::start(&dir, &plan.topology, links)?;
    Ok(Demo { processes, net, _control: control })
}

fn write(file: &Path, topology: &Topology) -> anyhow::Result<()> {
    fs::write(file, topology.to_string())
        .with_context(|| format!("cannot write {}", file.display()))
}

/// Waits until the nodes are ready, loads, shows, tours.
async fn act(arguments: &Arguments, demo: &mut Demo) -> anyhow::Result<()> {
    let processes = &mut demo.processes;
    let mesh = Mesh::of_cluster(processes.cluster())?;
    let took = ready(&mesh, processes).await?;
    terminal::tell(format!("All nodes are ready for writes after {:.1} s.", took.as_secs_f64()));
    fill(arguments, &mesh).await?;
    terminal::print(overview(processes, &mesh).await);
    if !arguments.exit {
        terminal::print(what_to_try(processes));
    }
    if arguments.tour
        && let Some(net) = &demo.net
    {
        tour::tour(&mesh, processes, net).await?;
    }
    Ok(())
}

/// Waits until every node takes writes.
async fn ready(mesh: &Mesh, processes: &mut Processes) -> anyhow::Result<Duration> {
    let started = Instant::now();
    loop {
        processes.look()?;
        if let Some(ended) = processes.ended().first() {
            bail!(
                "{ended} has ended while it started; its log says:\n{}",
                processes.last_words(ended)
            );
        }
        let waiting: Vec<String> = mesh.ask().await.into_iter().filter_map(not_ready).collect();
        if waiting.is_empty() {
            return Ok(started.elapsed());
        }
        if started.elapsed() > READY_WITHIN {
            bail!("not ready after {} s: {}", READY_WITHIN.as_secs(), waiting.join("; "));
        }
        sleep(Duration::from_millis(50)).await;
    }
}

fn not_ready(seen: crate::mesh::Seen) -> Option<String> {
    let name = seen.target.name;
    match seen.status {
        Ok(status) if status.state == chartmesh_ops::State::Region => None,
        Ok(_) => Some(format!("{name} has not heard from a quorum")),
        Err(error) => Some(format!("{name}: {error}")),
    }
}

/// Loads what is to be loaded. A demo that goes on has its records already.
async fn fill(arguments: &Arguments, mesh: &Mesh) -> anyhow::Result<()> {
    if arguments.empty {
        return Ok(());
    }
    let held = mesh.ask().await.into_iter().find_map(|seen| seen.status.ok());
    let held = held.map_or(0, |status| status.store.resources);
    if held > 0 && arguments.data.is_empty() {
        terminal::tell(format!("It goes on with the {} resources that it holds.", grouped(held)));
        return Ok(());
    }
    let sources = match arguments.data.as_slice() {
        [] => generated(),
        paths => paths.iter().cloned().map(load::Source::Path).collect(),
    };
    // The first region takes them all; the others receive them.
    let first = mesh.targets.iter().take(arguments.nodes);
    let to: Vec<BaseUrl> = first.map(|target| target.fhir.clone()).collect();
    let summary = load::run(load::Options::new(sources, to)).await?;
    let loaded = Instant::now();
    terminal::tell(summary.text());
    if !summary.complete() {
        bail!("not everything was loaded");
    }
    let verdict = verify::verify(mesh, ARRIVED_WITHIN, false).await?;
    ensure!(verdict.equal, "{}", verify::report(&verdict));
    terminal::tell(format!(
        "All {} nodes hold all of it {:.1} s later.",
        mesh.targets.len(),
        loaded.elapsed().as_secs_f64()
    ));
    Ok(())
}

/// The records of a demo of which nothing else is said.
fn generated() -> Vec<load::Source> {
    let source = |bundle: generate::Bundle| load::Source::Memory {
        name: bundle.name,
        content: bundle.content,
    };
    let population = generate::Population { seed: SEED, patients: PATIENTS };
    population.bundles().map(source).collect()
}

/// What runs where.
async fn overview(processes: &Processes, mesh: &Mesh) -> String {
    let seen = mesh.ask().await;
    let mut table = terminal::table(["NODE", "REGION", "SITE", "", "FHIR", "PID", "RESOURCES"]);
    let mut resources = 0;
    for (node, seen) in processes.cluster().nodes.iter().zip(&seen) {
        let (held, leads) = match &seen.status {
            Ok(status) => (status.store.resources, status.leader.as_ref() == Some(&status.node)),
            Err(_) => (0, false),
        };
        resources = held.max(resources);
        let leads = if leads { "leads" } else { "" };
        let (pid, held) = (node.pid.to_string(), grouped(held));
        table.add_row([&node.name, &node.region, &node.site, leads, &node.fhir, &pid, &held]);
    }
    format!("\n{table}\n\nEach node holds all {} resources.\n", grouped(resources))
}

fn what_to_try(processes: &Processes) -> String {
    let nodes = &processes.cluster().nodes;
    let (first, last) = (&nodes[0].fhir, &nodes[nodes.len() - 1].name);
    let dir = processes.dir().display();
    let status = first.trim_end_matches("/fhir");
    let chartmesh = std::env::args().next().unwrap_or_else(|| "chartmesh".to_owned());
    format!(
        "Try, while it runs:\n  curl -s {first}/metadata\n  curl -s {status}/status\n  \
         {chartmesh} status --cluster {dir}\n  {chartmesh} verify --deep --cluster {dir}\n  \
         {chartmesh} links isolate {last} --dir {dir}\n  \
         kill -9 PID, and write at another node; {dir}/cluster.json says how to start it again\n"
    )
}

/// Keeps `cluster.json` true until the demo is told to stop.
async fn watch(processes: &mut Processes) {
    terminal::tell("Running. Ctrl-C stops it.");
    loop {
        sleep(LOOK_EVERY).await;
        if let Err(error) = processes.look() {
            terminal::tell(terminal::explain(&error));
        }
    }
}

/// The signals that a demo listens to.
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> anyhow::Result<Self> {
        let interrupt = signal(SignalKind::interrupt())?;
        Ok(Self { interrupt, terminate: signal(SignalKind::terminate())? })
    }

    async fn stop(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// The topology of a demo that was started in this directory before.
fn earlier(dir: &Path) -> anyhow::Result<Option<Topology>> {
    let file = dir.join("mesh.toml");
    if !file.exists() {
        return Ok(None);
    }
    Ok(Some(Topology::read(&file)?))
}
