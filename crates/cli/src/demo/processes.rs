//! This module keeps the processes of a demo, and `cluster.json` true about them.
//!
//! A process ends with the demo, even if the demo is killed: its standard input is a pipe whose other
//! end only the demo has. One that somebody else starts by its `command` is taken in.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};
use chartmesh_node::{NodeEntry, Topology};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use tokio::time::{Instant, sleep};

use crate::cluster::{Cluster, ClusterNode};
use crate::terminal;

/// How long a node may take to stop before it is killed.
const STOP_WITHIN: Duration = Duration::from_secs(20);

/// How much of a log is shown of a node that has ended.
const LAST_WORDS_BYTES: u64 = 2_000;

/// The processes of a demo.
#[derive(Debug)]
pub(super) struct Processes {
    dir: PathBuf,
    cluster: Cluster,
    /// In the order of the cluster's nodes; `None`: not started by this demo, or ended.
    children: Vec<Option<Child>>,
}

impl Processes {
    /// Starts one process per node. The first one of each region founds it, unless it is founded.
    pub(super) fn start(
        dir: &Path,
        topology: &Topology,
        links: Option<String>,
    ) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("cannot find this program's own file")?;
        let node = |node: &NodeEntry| describe(&program, dir, node);
        let cluster = Cluster {
            topology: dir.join("mesh.toml"),
            tls: dir.join("tls"),
            links,
            nodes: topology.nodes.iter().map(node).collect(),
        };
        let children = cluster.nodes.iter().map(|_| None).collect();
        let mut processes = Self { dir: dir.to_owned(), cluster, children };
        for (place, founds) in founders(topology).into_iter().enumerate() {
            let founds: &[&str] = if founds { &["--found"] } else { &[] };
            processes.spawn(place, founds)?;
        }
        processes.cluster.write(dir)?;
        Ok(processes)
    }

    /// What runs where.
    pub(super) fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// Where everything is kept.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The nodes that do not run.
    pub(super) fn ended(&self) -> Vec<String> {
        let ended = self.cluster.nodes.iter().filter(|node| node.pid == 0);
        ended.map(|node| node.name.clone()).collect()
    }

    /// The end of a node's log.
    pub(super) fn last_words(&self, node: &str) -> String {
        let read = || -> std::io::Result<String> {
            let mut log = File::open(self.log(node))?;
            let from = log.metadata()?.len().saturating_sub(LAST_WORDS_BYTES);
            log.seek(SeekFrom::Start(from))?;
            let mut text = Vec::new();
            log.read_to_end(&mut text)?;
            Ok(String::from_utf8_lossy(&text).into_owned())
        };
        read().unwrap_or_else(|error| format!("({}: {error})", self.log(node).display()))
    }

    /// Finds out who has ended and who was started by somebody else, and writes it down.
    pub(super) fn look(&mut self) -> anyhow::Result<()> {
        let before: Vec<u32> = self.pids();
        for place in 0..self.children.len() {
            self.look_at(place)?;
        }
        if self.pids() != before {
            self.cluster.write(&self.dir)?;
        }
        Ok(())
    }

    /// Kills a node as a power cut would.
    pub(super) fn kill(&mut self, node: &str) -> anyhow::Result<()> {
        let place = self.place(node)?;
        if let Some(pid) = pid(self.cluster.nodes[place].pid) {
            kill_process(pid, Signal::KILL).with_context(|| format!("cannot kill {node}"))?;
        }
        if let Some(mut child) = self.children[place].take() {
            child.wait().with_context(|| format!("{node} does not end"))?;
        }
        self.cluster.nodes[place].pid = 0;
        self.cluster.write(&self.dir)
    }

    /// Starts a node again that has ended.
    pub(super) fn start_again(&mut self, node: &str) -> anyhow::Result<()> {
        let place = self.place(node)?;
        self.spawn(place, &[])?;
        self.cluster.write(&self.dir)
    }

    /// Stops all nodes; kills those that do not stop.
    pub(super) async fn stop(&mut self) {
        for node in &self.cluster.nodes {
            if let Some(pid) = pid(node.pid) {
                let _ = kill_process(pid, Signal::TERM);
            }
        }
        let end = Instant::now() + STOP_WITHIN;
        while self.any_runs() && Instant::now() < end {
            sleep(Duration::from_millis(50)).await;
        }
        self.kill_all();
        let _ = self.cluster.write(&self.dir);
    }

    /// Kills all nodes that still run.
    pub(super) fn kill_all(&mut self) {
        for (node, child) in self.cluster.nodes.iter_mut().zip(&mut self.children) {
            if let Some(pid) = pid(node.pid) {
                let _ = kill_process(pid, Signal::KILL);
            }
            if let Some(mut child) = child.take() {
                let _ = child.wait();
            }
            node.pid = 0;
        }
    }

    fn pids(&self) -> Vec<u32> {
        self.cluster.nodes.iter().map(|node| node.pid).collect()
    }

    fn place(&self, node: &str) -> anyhow::Result<usize> {
        let place = self.cluster.nodes.iter().position(|known| known.name == node);
        place.with_context(|| format!("there is no node {node}"))
    }

    fn log(&self, node: &str) -> PathBuf {
        self.dir.join(format!("{node}.log"))
    }

    /// In a process group of its own, so that Ctrl-C at the terminal reaches the demo alone.
    fn spawn(&mut self, place: usize, more: &[&str]) -> anyhow::Result<()> {
        let node = &mut self.cluster.nodes[place];
        let name = &node.name;
        let log = self.dir.join(format!("{name}.log"));
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log)
            .with_context(|| format!("cannot write {}", log.display()))?;
        let [program, arguments @ ..] = node.command.as_slice() else { bail!("no command") };
        let child = Command::new(program)
            .args(arguments)
            .args(more)
            .arg("--with-parent")
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        node.pid = child.id();
        self.children[place] = Some(child);
        Ok(())
    }

    fn look_at(&mut self, place: usize) -> anyhow::Result<()> {
        let node = &mut self.cluster.nodes[place];
        if let Some(child) = &mut self.children[place] {
            let Some(status) = child.try_wait()? else { return Ok(()) };
            let end = how(status);
            terminal::tell(format!("{} has ended ({end}).", node.name));
            self.children[place] = None;
            node.pid = 0;
        } else if node.pid == 0 {
            if let Some(pid) = running(&node.command) {
                terminal::tell(format!("{} runs again (pid {pid}).", node.name));
                node.pid = pid;
            }
        } else if !runs(node.pid) {
            terminal::tell(format!("{} has ended.", node.name));
            node.pid = 0;
        }
        Ok(())
    }

    fn any_runs(&mut self) -> bool {
        let runs = |(node, child): (&ClusterNode, &mut Option<Child>)| match child {
            Some(child) => matches!(child.try_wait(), Ok(None)),
            None => node.pid != 0 && runs(node.pid),
        };
        self.cluster.nodes.iter().zip(&mut self.children).any(runs)
    }
}

/// Dropped on the way out of an error or a panic, a demo leaves no node behind.
impl Drop for Processes {
    fn drop(&mut self) {
        self.kill_all();
    }
}

/// Whether each node is the first one of its region.
fn founders(topology: &Topology) -> Vec<bool> {
    let mut regions = BTreeSet::new();
    topology.nodes.iter().map(|node| regions.insert(&node.region)).collect()
}

/// The topology file of one node: it reaches the others over links.
pub(super) fn topology_file(dir: &Path, node: &NodeEntry) -> PathBuf {
    dir.join("topology").join(format!("{}.toml", node.name))
}

fn describe(program: &Path, dir: &Path, node: &NodeEntry) -> ClusterNode {
    let data = dir.join(node.name.as_str());
    let text = |path: &Path| path.display().to_string();
    let command = [
        text(program),
        "serve".to_owned(),
        "--topology".to_owned(),
        text(&topology_file(dir, node)),
        "--node".to_owned(),
        node.name.to_string(),
        "--data".to_owned(),
        text(&data),
        "--tls".to_owned(),
        text(&dir.join("tls")),
    ];
    ClusterNode {
        name: node.name.to_string(),
        region: node.region.to_string(),
        site: node.site.to_string(),
        role: node.role.to_string(),
        fhir: format!("http://{}/fhir", node.fhir),
        mesh: node.mesh.to_string(),
        pid: 0,
        data,
        command: command.to_vec(),
    }
}

fn how(status: ExitStatus) -> String {
    match (status.signal(), status.code()) {
        (Some(signal), _) => format!("signal {signal}"),
        (None, Some(code)) => format!("exit code {code}"),
        (None, None) => "nobody knows how".to_owned(),
    }
}

fn pid(number: u32) -> Option<Pid> {
    i32::try_from(number).ok().and_then(Pid::from_raw)
}

fn runs(number: u32) -> bool {
    pid(number).is_some_and(|pid| test_kill_process(pid).is_ok())
}

/// The process that somebody has started with exactly this command.
fn running(command: &[String]) -> Option<u32> {
    let mut wanted = Vec::new();
    for argument in command {
        wanted.extend_from_slice(argument.as_bytes());
        wanted.push(0);
    }
    let entries = fs::read_dir("/proc").ok()?;
    entries.filter_map(Result::ok).find_map(|entry| {
        let pid = std::str::from_utf8(entry.file_name().as_bytes()).ok()?.parse().ok()?;
        let found = fs::read(entry.path().join("cmdline")).ok()?;
        (found == wanted).then_some(pid)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_found_by_its_exact_command() {
        let command = ["sleep", "31.4159"].map(str::to_owned);
        let mut child = Command::new("sleep").arg("31.4159").spawn().unwrap();

        // The name of the program appears once the child has begun to run it.
        let found = std::iter::repeat_with(|| {
            std::thread::sleep(Duration::from_millis(5));
            running(&command)
        })
        .take(400)
        .find_map(|found| found);
        child.kill().unwrap();
        child.wait().unwrap();

        assert_eq!(found, Some(child.id()));
        assert_eq!(running(&["sleep".to_owned(), "31.4158".to_owned()]), None);
        assert!(!runs(child.id()));
    }

    #[test]
    fn the_command_that_starts_a_node_again_works_alone() {
        let text = "[mesh]\nname = \"demo\"\n[[region]]\nname = \"pac\"\n[[node]]\nname = \"pac-1\"\n\
                    region = \"pac\"\nsite = \"yokota\"\nmesh = \"h:1\"\nfhir = \"h:2\"\n";
        let topology = Topology::parse(text).unwrap();

        let node = describe(Path::new("/bin/chartmesh"), Path::new("/d"), &topology.nodes[0]);

        assert_eq!(
            node.command.join(" "),
            "/bin/chartmesh serve --topology /d/topology/pac-1.toml --node pac-1 --data /d/pac-1 --tls /d/tls"
        );
        assert_eq!((node.fhir.as_str(), node.mesh.as_str()), ("http://h:2/fhir", "h:1"));
        assert_eq!((node.role.as_str(), node.pid), ("voter", 0));
    }

    #[test]
    fn the_first_node_of_each_region_founds_it() {
        let node = |name: &str, region: &str, port: u16| {
            format!(
                "[[node]]\nname = \"{name}\"\nregion = \"{region}\"\nsite = \"at-{name}\"\n\
                 mesh = \"h:{port}\"\nfhir = \"h:{}\"\n",
                port + 1
            )
        };
        let text =
            "[mesh]\nname = \"demo\"\n[[region]]\nname = \"pac\"\n[[region]]\nname = \"eur\"\n"
                .to_owned()
                + &node("p1", "pac", 1)
                + &node("p2", "pac", 3)
                + &node("e1", "eur", 5);

        assert_eq!(founders(&Topology::parse(&text).unwrap()), [true, false, true]);
    }
}
