//! This module runs a mesh of real processes on loopback, to be killed, frozen and started again.
//!
//! A region alone is reached directly. In a mesh of several regions each node reaches each other one over
//! a link of its own, which can be cut.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::net::TcpListener;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use std::{env, fmt, process, thread};

use anyhow::{Context, bail, ensure};
use chartmesh_link_proxy::{Member, Net};
use chartmesh_node::{Address, Tcp};
use serde_json::Value;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use crate::history::{NodeName, Standing};
use crate::http::{Ask, Client};

/// How long a client waits for an answer.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long a node may take to serve, a region to elect, and a process to end.
const START_WITHIN: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(20);

/// Processes want the machine for themselves: one cluster at a time.
static TURN: Mutex<()> = Mutex::new(());

/// A mesh of processes. They end with it.
pub struct Cluster {
    nodes: Vec<Node>,
    /// The links, if there are several regions.
    net: Option<Net>,
    dir: TempDir,
    _turn: MutexGuard<'static, ()>,
}

/// One node, whether its process runs or not.
struct Node {
    name: NodeName,
    region: String,
    site: String,
    mesh: Address,
    fhir: Address,
    child: Option<Child>,
}

/// A signal to a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Ends it at once.
    Kill,
    /// Asks it to end.
    Terminate,
    /// Freezes it.
    Stop,
    /// Lets it go on.
    Continue,
}

impl Cluster {
    /// A founded region of three nodes that have a leader.
    ///
    /// # Errors
    /// What a process said that could not be started.
    pub async fn start() -> anyhow::Result<Self> {
        Self::start_with("").await
    }

    /// The same, with this `node.toml` at each node.
    ///
    /// # Errors
    /// What a process said that could not be started.
    pub async fn start_with(settings: &str) -> anyhow::Result<Self> {
        let mut cluster = Self::lay_out(3)?;
        fs::write(cluster.path("node.toml"), settings)?;
        cluster.spawn(0, &["--found"])?;
        for node in 1..cluster.nodes.len() {
            cluster.spawn(node, &[])?;
        }
        cluster.wait_until_it_leads().await?;
        Ok(cluster)
    }

    /// Three founded regions, `central`, `pac` and `eur`, of three nodes each, with this `node.toml` at each
    /// node. Call it within a runtime.
    ///
    /// # Errors
    /// What a process said that could not be started.
    pub async fn start_mesh(settings: &str) -> anyhow::Result<Self> {
        let mut cluster = Self::lay_out_regions(&["central", "pac", "eur"], 3)?;
        fs::write(cluster.path("node.toml"), settings)?;
        for node in 0..cluster.size() {
            let is_first = node == 0 || cluster.region(node) != cluster.region(node - 1);
            cluster.spawn(node, if is_first { &["--found"] } else { &[] })?;
        }
        cluster.wait_until_it_leads().await?;
        Ok(cluster)
    }

    /// The files of a region of so many nodes, none of which runs.
    ///
    /// # Errors
    /// The certificates could not be made.
    pub fn lay_out(nodes: usize) -> anyhow::Result<Self> {
        Self::lay_out_regions(&["pac"], nodes)
    }

    /// The files of these regions of so many nodes each, none of which runs. Several regions need a runtime
    /// for their links.
    ///
    /// # Errors
    /// The certificates or the links could not be made.
    pub fn lay_out_regions(regions: &[&str], nodes: usize) -> anyhow::Result<Self> {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let dir = TempDir::with_prefix("chartmesh-")?;
        let ports = free_ports(2 * nodes * regions.len())?;
        let numbered =
            regions.iter().flat_map(|region| (1..=nodes).map(move |number| (region, number)));
        let mut entries = Vec::new();
        for ((region, number), ports) in numbered.zip(ports.chunks(2)) {
            entries.push(Node {
                name: NodeName(format!("{region}-{number}")),
                region: (*region).to_owned(),
                site: format!("site-{}", entries.len() + 1),
                mesh: format!("127.0.0.1:{}", ports[0]).parse()?,
                fhir: format!("127.0.0.1:{}", ports[1]).parse()?,
                child: None,
            });
        }
        let net = if regions.len() > 1 { Some(links(&entries)?) } else { None };
        let cluster = Self { nodes: entries, net, dir, _turn: turn };
        fs::write(cluster.path("mesh.toml"), cluster.topology(None)?)?;
        for node in 0..cluster.size() {
            fs::write(cluster.topology_path(node), cluster.topology(Some(node))?)?;
        }
        fs::write(cluster.path("node.toml"), "")?;
        cluster.make_certificates("tls")?;
        Ok(cluster)
    }

    /// The text of the topology, as it is or as a node sees it: over its links.
    fn topology(&self, seen_by: Option<usize>) -> anyhow::Result<String> {
        let mut text = "[mesh]\nname = \"test\"\n".to_owned();
        let mut regions: Vec<_> = self.nodes.iter().map(|node| &node.region).collect();
        regions.dedup();
        for region in regions {
            text += &format!("\n[[region]]\nname = \"{region}\"\n");
        }
        for (number, Node { name, region, site, mesh, fhir, .. }) in self.nodes.iter().enumerate() {
            let mesh = match (&self.net, seen_by) {
                (Some(net), Some(other)) if other != number => {
                    let link =
                        net.link(&self.name(other).0, &name.0).context("there is no link")?;
                    link.address().to_string()
                }
                _ => mesh.to_string(),
            };
            let name = &name.0;
            text += &format!(
                "\n[[node]]\nname = \"{name}\"\nregion = \"{region}\"\nsite = \"{site}\"\n\
                 mesh = \"{mesh}\"\nfhir = \"{fhir}\"\n"
            );
        }
        Ok(text)
    }

    fn topology_path(&self, node: usize) -> PathBuf {
        self.path(&format!("{}.toml", self.nodes[node].name.0))
    }

    /// Makes a set of certificates in this folder.
    ///
    /// # Errors
    /// What the command said.
    pub fn make_certificates(&self, folder: &str) -> anyhow::Result<()> {
        let (topology, out) = (self.path("mesh.toml"), self.path(folder));
        run(&["certs", "--topology", text(&topology)?, "--out", text(&out)?]).map(drop)
    }

    /// How many nodes there are.
    #[must_use]
    pub fn size(&self) -> usize {
        self.nodes.len()
    }

    /// A file or folder of the cluster.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Where a node keeps its data.
    #[must_use]
    pub fn data(&self, node: usize) -> PathBuf {
        self.path(&self.nodes[node].name.0)
    }

    /// The name of a node.
    #[must_use]
    pub fn name(&self, node: usize) -> &NodeName {
        &self.nodes[node].name
    }

    /// The region of a node.
    #[must_use]
    pub fn region(&self, node: usize) -> &str {
        &self.nodes[node].region
    }

    /// The nodes of a region.
    #[must_use]
    pub fn members(&self, region: &str) -> Vec<usize> {
        (0..self.size()).filter(|&node| self.region(node) == region).collect()
    }

    /// The regions.
    #[must_use]
    pub fn regions(&self) -> Vec<String> {
        let mut regions: Vec<_> = self.nodes.iter().map(|node| node.region.clone()).collect();
        regions.dedup();
        regions
    }

    /// Where each node stands.
    #[must_use]
    pub fn places(&self) -> BTreeMap<NodeName, Standing> {
        let place = |node: &Node| {
            let (region, site) = (node.region.clone(), node.site.clone());
            (node.name.clone(), Standing { region, site })
        };
        self.nodes.iter().map(place).collect()
    }

    /// The links between the nodes of a mesh.
    ///
    /// # Panics
    /// A region alone has none.
    #[must_use]
    pub fn net(&self) -> &Net {
        self.net.as_ref().expect("a mesh of several regions has links")
    }

    /// The base URL of a node.
    #[must_use]
    pub fn url(&self, node: usize) -> String {
        format!("http://{}", self.nodes[node].fhir)
    }

    /// A client of a node.
    #[must_use]
    pub fn client(&self, node: usize) -> Client {
        Client::new(Arc::new(Tcp), self.nodes[node].fhir.clone(), PATIENCE)
    }

    /// A client of each node.
    #[must_use]
    pub fn clients(&self) -> Vec<(NodeName, Client)> {
        (0..self.size()).map(|node| (self.name(node).clone(), self.client(node))).collect()
    }

    /// Starts a node that does not run.
    ///
    /// # Errors
    /// The program is not there.
    pub fn spawn(&mut self, node: usize, more: &[&str]) -> anyhow::Result<()> {
        let name = self.nodes[node].name.0.clone();
        let log = File::options().create(true).append(true).open(self.log_path(node))?;
        let child = Command::new(program()?)
            .args(["serve", "--node", &name])
            .arg("--topology")
            .arg(self.topology_path(node))
            .arg("--data")
            .arg(self.data(node))
            .arg("--tls")
            .arg(self.path("tls"))
            .arg("--config")
            .arg(self.path("node.toml"))
            .args(more)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        self.nodes[node].child = Some(child);
        Ok(())
    }

    /// Sends a signal to a node that runs. After a kill the process is gone.
    ///
    /// # Errors
    /// It does not run.
    pub fn signal(&mut self, node: usize, signal: Signal) -> anyhow::Result<()> {
        let child = self.nodes[node].child.as_mut().context("it does not run")?;
        match signal {
            Signal::Kill => {
                child.kill()?;
                child.wait()?;
                self.nodes[node].child = None;
            }
            Signal::Terminate => send(child, "-TERM")?,
            Signal::Stop => send(child, "-STOP")?,
            Signal::Continue => send(child, "-CONT")?,
        }
        Ok(())
    }

    /// Waits for the process of a node to end.
    ///
    /// # Errors
    /// It does not.
    pub async fn wait_for_end(&mut self, node: usize) -> anyhow::Result<ExitStatus> {
        let started = Instant::now();
        loop {
            let child = self.nodes[node].child.as_mut().context("it does not run")?;
            if let Some(status) = child.try_wait()? {
                self.nodes[node].child = None;
                return Ok(status);
            }
            ensure!(started.elapsed() < START_WITHIN, "{} does not end", self.name(node).0);
            sleep(PAUSE).await;
        }
    }

    /// What the processes of a node have said.
    #[must_use]
    pub fn log(&self, node: usize) -> String {
        fs::read_to_string(self.log_path(node)).unwrap_or_default()
    }

    /// The status of a node.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn status(&self, node: usize) -> anyhow::Result<Value> {
        let mut client = self.client(node).with_patience(Duration::from_secs(2));
        Ok(client.ask(Ask::get("/status")).await?.json())
    }

    /// The node that leads the first region, by the word of those that answer: they must name the same.
    pub async fn leader(&self) -> Option<usize> {
        self.leader_of(self.region(0)).await
    }

    /// The node that leads a region, by the word of those that answer: they must name the same.
    pub async fn leader_of(&self, region: &str) -> Option<usize> {
        let mut named = Vec::new();
        let members = self.members(region).into_iter();
        for node in members.filter(|&node| self.nodes[node].child.is_some()) {
            if let Ok(status) = self.status(node).await {
                named.push(status["leader"].as_str()?.to_owned());
            }
        }
        let first = named.first()?;
        let agreed = named.iter().all(|name| name == first);
        self.nodes.iter().position(|node| agreed && node.name.0 == *first)
    }

    /// Waits until all that run answer, and those of each region agree on a leader. Returns that of the first
    /// region.
    ///
    /// # Errors
    /// They do not; or a process has ended, with what it said.
    pub async fn wait_until_it_leads(&mut self) -> anyhow::Result<usize> {
        let started = Instant::now();
        loop {
            self.expect_all_run()?;
            if self.are_ready().await
                && let Some(leader) =
                    self.leaders().await.and_then(|leaders| leaders.first().copied())
            {
                return Ok(leader);
            }
            if started.elapsed() > START_WITHIN {
                let logs: Vec<_> = (0..self.size()).map(|node| tail(&self.log(node))).collect();
                bail!("the region does not come up:\n{}", logs.join("\n---\n"));
            }
            sleep(PAUSE).await;
        }
    }

    /// The leaders of all regions of which a node runs, if all have one.
    async fn leaders(&self) -> Option<Vec<usize>> {
        let mut leaders = Vec::new();
        for region in self.regions() {
            if self.members(&region).iter().any(|&node| self.nodes[node].child.is_some()) {
                leaders.push(self.leader_of(&region).await?);
            }
        }
        Some(leaders)
    }

    /// Whether all that run serve.
    async fn are_ready(&self) -> bool {
        for node in (0..self.size()).filter(|&node| self.nodes[node].child.is_some()) {
            let mut client = self.client(node).with_patience(Duration::from_secs(2));
            match client.ask(Ask::get("/health/ready")).await {
                Ok(answer) if answer.status.is_success() => {}
                _ => return false,
            }
        }
        true
    }

    fn expect_all_run(&mut self) -> anyhow::Result<()> {
        for node in 0..self.size() {
            let Some(child) = &mut self.nodes[node].child else { continue };
            if let Some(status) = child.try_wait()? {
                self.nodes[node].child = None;
                bail!("{} ended with {status}:\n{}", self.name(node).0, tail(&self.log(node)));
            }
        }
        Ok(())
    }

    fn log_path(&self, node: usize) -> PathBuf {
        self.path(&format!("{}.log", self.nodes[node].name.0))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for (number, node) in self.nodes.iter_mut().enumerate() {
            if let Some(child) = &mut node.child {
                // It may have ended by itself.
                let _ = child.kill();
                let _ = child.wait();
            }
            if thread::panicking() {
                let log = fs::read_to_string(self.dir.path().join(format!("{}.log", node.name.0)));
                eprintln!("--- node {number}:\n{}", tail(&log.unwrap_or_default()));
            }
        }
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster").field("dir", &self.dir.path()).finish_non_exhaustive()
    }
}

/// Runs the program to its end and returns what it printed.
///
/// # Errors
/// What it said, if it failed.
pub fn run(arguments: &[&str]) -> anyhow::Result<String> {
    let output = Command::new(program()?).args(arguments).stdin(Stdio::null()).output()?;
    let (said, complained) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let status = output.status;
    ensure!(status.success(), "chartmesh {arguments:?}: {status}\n{said}\n{complained}");
    Ok(said.into_owned())
}

/// The `chartmesh` program: `CHARTMESH_BINARY`, or what cargo has built beside this test.
///
/// # Errors
/// It is not there and cannot be built.
pub fn program() -> anyhow::Result<PathBuf> {
    if let Some(path) = env::var_os("CHARTMESH_BINARY") {
        return Ok(path.into());
    }
    let me = env::current_exe()?;
    let folder = me.parent().and_then(Path::parent).context("cargo runs this in target/*/deps")?;
    let program = folder.join("chartmesh");
    if !program.exists() {
        let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let built = Command::new(cargo)
            .args(["build", "--release", "--locked", "-p", "chartmesh-cli"])
            .current_dir(crate::workspace::root())
            .status()?;
        ensure!(built.success(), "the program cannot be built");
    }
    Ok(program)
}

/// Whether a process was ended by a signal, and by which.
#[must_use]
pub fn ended_by(status: ExitStatus) -> Option<i32> {
    status.signal()
}

/// A link from each node to each other one.
fn links(nodes: &[Node]) -> anyhow::Result<Net> {
    let member = |node: &Node| -> anyhow::Result<Member> {
        let (name, region) = (node.name.0.clone(), node.region.clone());
        Ok(Member { name, region, mesh: node.mesh.as_str().parse()? })
    };
    Ok(Net::start(nodes.iter().map(member).collect::<Result<_, _>>()?)?)
}

fn send(child: &Child, signal: &str) -> anyhow::Result<()> {
    let sent = Command::new("kill").args([signal, &child.id().to_string()]).status()?;
    ensure!(sent.success(), "kill {signal}: {sent}");
    Ok(())
}

/// Ports that are free now, below those that the system gives to outgoing connections. All are held
/// until the last is found, so that none comes twice.
fn free_ports(count: usize) -> anyhow::Result<Vec<u16>> {
    const FIRST: u32 = 20_000;
    const LAST: u32 = 32_000;
    let start = FIRST + process::id() * 64 % (LAST - FIRST);
    let mut held = Vec::new();
    for port in (start..LAST).chain(FIRST..start) {
        if held.len() == count {
            break;
        }
        held.extend(TcpListener::bind(("127.0.0.1", u16::try_from(port)?)));
    }
    ensure!(held.len() == count, "no free ports");
    Ok(held
        .iter()
        .map(TcpListener::local_addr)
        .map(|at| Ok(at?.port()))
        .collect::<io::Result<_>>()?)
}

fn text(path: &Path) -> anyhow::Result<&str> {
    path.to_str().context("not text")
}

fn tail(log: &str) -> String {
    const LINES: usize = 40;
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}
