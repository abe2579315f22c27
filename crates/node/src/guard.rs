//! This module decides which nodes may connect, and makes the connections to them: at both ends it
//! is known who the other one is.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};

use chartmesh_record::NodeName;
use chartmesh_wire::OPERATOR;
use tokio::time::timeout;

use crate::certificate::Names;
use crate::credentials::Credentials;
use crate::limits;
use crate::network::{Network, Stream};
use crate::topology::Topology;

/// How the other end of a connection is known.
#[derive(Debug)]
pub(crate) enum Proof {
    /// By its certificate (mutual TLS).
    Certificate(Arc<Credentials>),
    /// By its address: in a simulation, where nobody lies.
    Address(BTreeMap<IpAddr, NodeName>),
}

/// Knows who may connect.
#[derive(Debug)]
pub(crate) struct Guard {
    proof: Proof,
    network: Arc<dyn Network>,
    known: BTreeSet<NodeName>,
    topology: Arc<Topology>,
    /// Why the last connection to each peer failed: the same reason is logged once.
    failing: Mutex<BTreeMap<NodeName, String>>,
}

/// Why a connection is refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    /// It did not prove who it is.
    #[error("it did not show a certificate of this mesh: {0}")]
    Unproven(#[from] io::Error),
    /// It did not say anything.
    #[error("it did not show who it is in time")]
    Late,
    /// Its certificate names no node.
    #[error("its certificate names {0}: one node must be named")]
    Nameless(Names),
    /// It is not in the topology.
    #[error("its certificate names {0}, which the topology does not know")]
    Stranger(NodeName),
    /// Nobody is known at its address.
    #[error("no node is known at its address")]
    UnknownAddress,
}

impl Refusal {
    fn label(&self) -> &'static str {
        match self {
            Self::Unproven(_) => "unproven",
            Self::Late => "late",
            Self::Nameless(_) => "nameless",
            Self::Stranger(_) => "stranger",
            Self::UnknownAddress => "unknown_address",
        }
    }
}

impl Guard {
    pub(crate) fn new(proof: Proof, network: Arc<dyn Network>, topology: Arc<Topology>) -> Self {
        let operator = OPERATOR.parse().expect("the operator has a valid name");
        let nodes = topology.nodes.iter().map(|node| node.name.clone());
        let known = nodes.chain([operator]).collect();
        Self { proof, network, known, topology, failing: Mutex::default() }
    }

    /// Finds out who has connected, and whether it may.
    pub(crate) async fn admit(
        &self,
        stream: Box<dyn Stream>,
        from: SocketAddr,
    ) -> Result<(Box<dyn Stream>, NodeName), Refusal> {
        let credentials = match &self.proof {
            Proof::Certificate(credentials) => credentials,
            Proof::Address(nodes) => {
                let node = nodes.get(&from.ip()).cloned().ok_or(Refusal::UnknownAddress)?;
                return Ok((stream, node));
            }
        };
        let shown = timeout(limits::HANDSHAKE_WITHIN, credentials.accept(stream));
        let (stream, names) = shown.await.map_err(|_| Refusal::Late)??;
        let node = names.node().ok_or(Refusal::Nameless(names))?;
        if self.known.contains(&node) { Ok((stream, node)) } else { Err(Refusal::Stranger(node)) }
    }

    /// Says that somebody was refused.
    pub(crate) fn turn_away(&self, from: SocketAddr, refusal: &Refusal) {
        metrics::counter!("chartmesh_mesh_refused_total", "reason" => refusal.label()).increment(1);
        tracing::warn!(%from, %refusal, "a connection from another node was refused");
    }

    /// Opens a connection to a node, and makes sure that it is that node.
    pub(crate) async fn reach(&self, peer: &NodeName) -> io::Result<Box<dyn Stream>> {
        let reached = match timeout(limits::CONNECT_WITHIN, self.connect(peer)).await {
            Ok(reached) => reached,
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "no answer in time")),
        };
        self.note(peer, reached.as_ref().err());
        reached
    }

    async fn connect(&self, peer: &NodeName) -> io::Result<Box<dyn Stream>> {
        let entry = self.topology.node(peer).ok_or(io::ErrorKind::NotFound)?;
        let stream = self.network.connect(&entry.mesh).await?;
        match &self.proof {
            Proof::Certificate(credentials) => credentials.connect(stream, peer).await,
            Proof::Address(_) => Ok(stream),
        }
    }

    fn note(&self, peer: &NodeName, error: Option<&io::Error>) {
        let mut failing = self.failing.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let Some(error) = error else {
            if failing.remove(peer).is_some() {
                tracing::info!(%peer, "connected again");
            }
            return;
        };
        let reason = error.to_string();
        if failing.get(peer) != Some(&reason) {
            let unproven = error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>());
            if unproven {
                metrics::counter!("chartmesh_mesh_refused_total", "reason" => "server")
                    .increment(1);
            }
            tracing::warn!(%peer, %reason, "no connection to another node");
            failing.insert(peer.clone(), reason);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use futures::future::BoxFuture;
    use time::Duration;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;
    use crate::clock::SystemClock;
    use crate::network::Listen;
    use crate::paper_mill::PaperMill;
    use crate::topology::Address;

    /// A network of one wire.
    #[derive(Debug)]
    struct Wire(Mutex<Option<DuplexStream>>);

    impl Network for Wire {
        fn listen<'a>(&'a self, _: &'a Address) -> BoxFuture<'a, io::Result<Box<dyn Listen>>> {
            Box::pin(async { Err(io::ErrorKind::Unsupported.into()) })
        }

        fn connect<'a>(&'a self, _: &'a Address) -> BoxFuture<'a, io::Result<Box<dyn Stream>>> {
            let end = self.0.lock().unwrap().take().unwrap();
            Box::pin(async { Ok(Box::new(end) as Box<dyn Stream>) })
        }
    }

    fn topology() -> Arc<Topology> {
        let mut text = "[mesh]\nname = \"demo\"\n[[region]]\nname = \"pac\"\n".to_owned();
        for n in 1..=2 {
            text += &format!(
                "[[node]]\nname = \"pac-{n}\"\nregion = \"pac\"\nsite = \"yokota\"\n\
                 mesh = \"h:{n}\"\nfhir = \"h:{n}{n}\"\n"
            );
        }
        Arc::new(Topology::parse(&text).unwrap())
    }

    fn guard(dir: &Path, node: &str, wire: Option<DuplexStream>) -> Guard {
        let clock = Arc::new(SystemClock::start());
        let credentials = Credentials::read(dir.to_owned(), node.parse().unwrap(), clock).unwrap();
        let proof = Proof::Certificate(Arc::new(credentials));
        Guard::new(proof, Arc::new(Wire(Mutex::new(wire))), topology())
    }

    fn from() -> SocketAddr {
        "10.0.0.1:5".parse().unwrap()
    }

    /// What the two ends make of each other when `dialler` dials pac-2 and finds `answerer`.
    async fn meet(dialler: (&Path, &str), answerer: (&Path, &str)) -> (String, String) {
        let (near, far) = duplex(1 << 16);
        let dialling = guard(dialler.0, dialler.1, Some(near));
        let answering = guard(answerer.0, answerer.1, None);
        let peer = "pac-2".parse().unwrap();
        let dial = async {
            let mut stream = dialling.reach(&peer).await?;
            stream.write_all(b"ping").await?;
            let mut answer = [0; 4];
            stream.read_exact(&mut answer).await?;
            Ok::<_, io::Error>("pong".to_owned())
        };
        let answer = async {
            let (mut stream, peer) = answering.admit(Box::new(far), from()).await?;
            let mut question = [0; 4];
            stream.read_exact(&mut question).await?;
            stream.write_all(b"pong").await?;
            stream.flush().await?;
            Ok::<_, Refusal>(peer.to_string())
        };
        let (dialled, answered) = tokio::join!(dial, answer);
        let text = |error: io::Error| error.to_string();
        (dialled.unwrap_or_else(text), answered.unwrap_or_else(|refusal| refusal.to_string()))
    }

    #[tokio::test]
    async fn two_nodes_of_one_mesh_know_each_other() {
        let dir = tempfile::tempdir().unwrap();
        let mill = PaperMill::new();
        mill.equip(dir.path(), "pac-1");
        mill.equip(dir.path(), "pac-2");
        mill.equip(dir.path(), OPERATOR);

        let nodes = meet((dir.path(), "pac-1"), (dir.path(), "pac-2")).await;
        let operator = meet((dir.path(), OPERATOR), (dir.path(), "pac-2")).await;

        assert_eq!(nodes, ("pong".to_owned(), "pac-1".to_owned()));
        assert_eq!(operator, ("pong".to_owned(), OPERATOR.to_owned()));
    }

    #[tokio::test]
    async fn a_certificate_of_another_authority_is_refused_at_both_ends() {
        let dir = tempfile::tempdir().unwrap();
        let ours = PaperMill::new().equip(&dir.path().join("ours"), "pac-1");
        let theirs = PaperMill::new().equip(&dir.path().join("theirs"), "pac-2");

        let (dialled, answered) = meet((&ours, "pac-1"), (&theirs, "pac-2")).await;

        assert!(dialled.contains("invalid peer certificate"), "{dialled}");
        assert!(answered.contains("did not show a certificate of this mesh"), "{answered}");
    }

    #[tokio::test]
    async fn a_dialler_whose_certificate_is_of_another_authority_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let mill = PaperMill::new();
        let good = mill.equip(&dir.path().join("good"), "pac-2");
        let bad = PaperMill::new().equip(&dir.path().join("bad"), "pac-1");
        // It trusts the mesh, but the mesh does not trust it.
        let impostor = dir.path().join("impostor");
        std::fs::create_dir(&impostor).unwrap();
        let both =
            [bad.join("ca.pem"), good.join("ca.pem")].map(|path| std::fs::read(path).unwrap());
        std::fs::write(impostor.join("ca.pem"), both.concat()).unwrap();
        for file in ["pac-1.pem", "pac-1.key"] {
            std::fs::copy(bad.join(file), impostor.join(file)).unwrap();
        }

        let (dialled, answered) = meet((&impostor, "pac-1"), (&good, "pac-2")).await;

        assert!(dialled != "pong", "{dialled}");
        assert!(answered.contains("did not show a certificate of this mesh"), "{answered}");
    }

    #[tokio::test]
    async fn a_node_at_the_address_of_another_one_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let mill = PaperMill::new();
        mill.equip(dir.path(), "pac-1");

        let (dialled, _) = meet((dir.path(), "pac-1"), (dir.path(), "pac-1")).await;

        assert!(dialled.contains("certificate not valid for name \"pac-2\""), "{dialled}");
    }

    #[tokio::test]
    async fn certificates_that_have_ended_or_name_the_wrong_ones_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let mill = PaperMill::new();
        mill.equip(dir.path(), "pac-2");
        mill.issue(dir.path(), "pac-1", &["pac-1"], Duration::days(-1));
        mill.equip(dir.path(), "stranger");

        let (_, ended) = meet((dir.path(), "pac-1"), (dir.path(), "pac-2")).await;
        let (_, stranger) = meet((dir.path(), "stranger"), (dir.path(), "pac-2")).await;

        assert!(ended.contains("certificate expired"), "{ended}");
        assert!(
            stranger.contains("names stranger, which the topology does not know"),
            "{stranger}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_connects_and_says_nothing_is_refused_in_time() {
        let dir = tempfile::tempdir().unwrap();
        PaperMill::new().equip(dir.path(), "pac-2");
        let (_silent, far) = duplex(64);

        let refusal = guard(dir.path(), "pac-2", None).admit(Box::new(far), from()).await;

        assert!(matches!(refusal, Err(Refusal::Late)));
    }
}
