//! This module finds the nodes that a command is about, and asks each how it is.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use chartmesh_node::{Operator, Topology};
use chartmesh_ops::Status;
use chartmesh_record::NodeName;
use futures::future::join_all;
use http::StatusCode;

use crate::cluster::{Cluster, DEMO_DIR};
use crate::http::{BaseUrl, Client};
use crate::terminal::{self, WrongUsage};

/// How long a node may take to say how it is: whoever asks has an answer within three seconds.
const PATIENCE: Duration = Duration::from_millis(2_500);

/// Which nodes a command is about; without any of these, those of the demo in ./demo-data.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct Arguments {
    /// The nodes of a demo: its directory, or its cluster.json.
    #[arg(long, value_name = "PATH", conflicts_with_all = ["topology", "to"])]
    cluster: Option<PathBuf>,
    /// The nodes of a topology file.
    #[arg(long, value_name = "FILE", conflicts_with = "to")]
    topology: Option<PathBuf>,
    /// A node by its FHIR endpoint, such as http://127.0.0.1:8080/fhir. Several may be given.
    #[arg(long, value_name = "URL")]
    to: Vec<BaseUrl>,
}

/// Which nodes an operator asks to do something, by its certificate.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Operated {
    #[command(flatten)]
    mesh: Arguments,
    /// Only this node; may be repeated.
    #[arg(long = "node", value_name = "NODE")]
    nodes: Vec<NodeName>,
    /// The directory with operator.pem and operator.key.
    #[arg(long, value_name = "DIR")]
    tls: Option<PathBuf>,
}

impl Operated {
    /// The operator, and the nodes.
    pub(crate) fn enter(self) -> anyhow::Result<(Operator, Vec<NodeName>)> {
        let mesh = self.mesh.find()?;
        let Some(file) = &mesh.topology else {
            return Err(WrongUsage("name the mesh by --topology or --cluster".to_owned()).into());
        };
        let tls = self.tls.or(mesh.tls).context("name the operator's certificate: --tls")?;
        let topology = Arc::new(Topology::read(file)?);
        let nodes = if self.nodes.is_empty() {
            topology.nodes.iter().map(|node| node.name.clone()).collect()
        } else {
            self.nodes
        };
        if let Some(unknown) = nodes.iter().find(|name| topology.node(name).is_none()) {
            let file = file.display();
            return Err(WrongUsage(format!("{file} names no node {unknown}")).into());
        }
        Ok((Operator::enter(topology, &tls)?, nodes))
    }
}

/// The nodes that a command is about.
#[derive(Clone, Debug)]
pub(crate) struct Mesh {
    /// Which.
    pub(crate) targets: Vec<Target>,
    /// Their topology file, where it is known.
    pub(crate) topology: Option<PathBuf>,
    /// The directory of their certificates, where it is known.
    pub(crate) tls: Option<PathBuf>,
    client: Client,
}

/// A node that can be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// Its name; its address where only that is known.
    pub(crate) name: String,
    /// Its region, where it is known without asking it.
    pub(crate) region: Option<String>,
    /// Its FHIR endpoint.
    pub(crate) fhir: BaseUrl,
}

/// What a node answered.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// Who was asked.
    pub(crate) target: Target,
    /// How it is, or why it is not known.
    pub(crate) status: Result<Status, String>,
}

impl Arguments {
    /// Whether no mesh is named.
    pub(crate) fn names_nothing(&self) -> bool {
        self.cluster.is_none() && self.topology.is_none() && self.to.is_empty()
    }

    /// Finds the nodes.
    pub(crate) fn find(&self) -> anyhow::Result<Mesh> {
        if let Some(file) = &self.topology {
            let topology = Topology::read(file)?;
            let target = |node: &chartmesh_node::NodeEntry| -> anyhow::Result<Target> {
                let fhir = format!("http://{}/fhir", node.fhir).parse()?;
                let (name, region) = (node.name.to_string(), Some(node.region.to_string()));
                Ok(Target { name, region, fhir })
            };
            let targets = topology.nodes.iter().map(target).collect::<Result<_, _>>()?;
            return Ok(Mesh { topology: Some(file.clone()), ..Mesh::of(targets) });
        }
        if !self.to.is_empty() {
            let target = |fhir: &BaseUrl| Target {
                name: fhir.authority().to_owned(),
                region: None,
                fhir: fhir.clone(),
            };
            return Ok(Mesh::of(self.to.iter().map(target).collect()));
        }
        let path = self.cluster.as_deref().unwrap_or(Path::new(DEMO_DIR));
        Mesh::of_cluster(&Cluster::read(path)?)
    }
}

impl Mesh {
    fn of(targets: Vec<Target>) -> Self {
        Self { targets, topology: None, tls: None, client: Client::new(PATIENCE) }
    }

    /// The nodes of a demo.
    pub(crate) fn of_cluster(cluster: &Cluster) -> anyhow::Result<Self> {
        let target = |node: &crate::cluster::ClusterNode| -> anyhow::Result<Target> {
            let (name, region) = (node.name.clone(), Some(node.region.clone()));
            Ok(Target { name, region, fhir: node.fhir.parse()? })
        };
        let targets = cluster.nodes.iter().map(target).collect::<Result<_, _>>()?;
        let (topology, tls) = (Some(cluster.topology.clone()), Some(cluster.tls.clone()));
        Ok(Self { topology, tls, ..Self::of(targets) })
    }

    /// These of its nodes only.
    pub(crate) fn only(&self, targets: Vec<Target>) -> Self {
        Self { targets, ..self.clone() }
    }

    /// Asks all nodes at the same time.
    pub(crate) async fn ask(&self) -> Vec<Seen> {
        let ask = async |target: &Target| {
            let status = self.status(target).await.map_err(|error| terminal::explain(&error));
            Seen { target: target.clone(), status }
        };
        join_all(self.targets.iter().map(ask)).await
    }

    async fn status(&self, target: &Target) -> anyhow::Result<Status> {
        let url = format!("http://{}/status", target.fhir.authority());
        let answer = self.client.get(&url).await?;
        if answer.status != StatusCode::OK {
            bail!("it answered {} when asked how it is", answer.status);
        }
        serde_json::from_slice(&answer.body).context("its answer is not a status")
    }
}

#[cfg(test)]
pub(crate) mod sample {
    //! This module makes up nodes that have answered, for the tests of commands.

    use chartmesh_ops::{Feed, Peer, RegionAge, Role, State, StoreSize};

    use super::*;

    /// A node with a feed.
    pub(crate) fn feed(origin: &str, seq: u64, hash: &str) -> Feed {
        Feed {
            origin: origin.to_owned(),
            seq,
            hash: hash.to_owned(),
            as_of: None,
            age: None,
            closed: false,
            behind: 0,
        }
    }

    /// A node that is well. Its region is what its name begins with.
    pub(crate) fn status(node: &str) -> Status {
        let region = node.split('-').next().unwrap_or(node);
        Status {
            node: node.to_owned(),
            region: region.to_owned(),
            site: format!("site-{node}"),
            role: Role::Voter,
            version: "0.1.0".to_owned(),
            state: State::Region,
            leader: Some(format!("{region}-1")),
            term: 3,
            horizon: Vec::new(),
            digest: "00".repeat(32),
            regions: ["central", "pac"].map(region_age).into(),
            silent: Vec::new(),
            peers: Vec::new(),
            pending: Vec::new(),
            conflicts: 0,
            held_back: Vec::new(),
            alarms: Vec::new(),
            store: StoreSize { resources: 8_460, versions: 9_001, bytes: 12_345_678 },
        }
    }

    fn region_age(region: &str) -> RegionAge {
        RegionAge {
            region: region.to_owned(),
            as_of: Some("2026-11-21T20:00:01.204Z".to_owned()),
            age: Some(0.42),
            silent: Vec::new(),
        }
    }

    /// What a node knows of another.
    pub(crate) fn peer(node: &str, rtt_ms: f64, clock_offset_ms: f64) -> Peer {
        Peer {
            node: node.to_owned(),
            reachable: true,
            rtt_ms: Some(rtt_ms),
            clock_offset_ms: Some(clock_offset_ms),
        }
    }

    /// Where a node is asked.
    pub(crate) fn target(node: &str) -> Target {
        Target {
            name: node.to_owned(),
            region: node.split_once('-').map(|(region, _)| region.to_owned()),
            fhir: "http://127.0.0.1:8080/fhir".parse().unwrap(),
        }
    }

    /// A node that has answered.
    pub(crate) fn seen(status: Status) -> Seen {
        Seen { target: target(&status.node), status: Ok(status) }
    }
}
