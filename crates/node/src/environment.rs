//! This module holds what a node runs on, so that the same wiring runs on a machine and in a
//! simulation.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use chartmesh_ops::Exporter;
use chartmesh_record::{Clock, NodeName, Random};
use chartmesh_region::Blocking;
use chartmesh_store::Syncer;

use crate::clock::{SystemClock, SystemRandom};
use crate::network::{Network, Tcp};

/// What a node runs on.
#[derive(Clone, Debug)]
pub struct Environment {
    /// How other processes are reached.
    pub network: Arc<dyn Network>,
    /// How it is known who they are.
    pub trust: Trust,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub random: Arc<dyn Random>,
    /// Where work runs that takes long.
    pub blocking: Blocking,
    /// Who syncs the Raft log.
    pub syncer: Syncer,
    /// Where the process's metrics are kept.
    pub exporter: Exporter,
}

/// How it is known who is at the other end of a connection between nodes.
#[derive(Clone, Debug)]
pub enum Trust {
    /// By certificates: `ca.pem`, `NODE.pem` and `NODE.key` in this directory.
    Certificates(PathBuf),
    /// By addresses: only where nobody lies, in a simulation.
    Addresses(BTreeMap<IpAddr, NodeName>),
}

impl Environment {
    /// The machine, with certificates in this directory.
    #[must_use]
    pub fn machine(tls: PathBuf, exporter: Exporter) -> Self {
        Self {
            network: Arc::new(Tcp),
            trust: Trust::Certificates(tls),
            clock: Arc::new(SystemClock::start()),
            random: Arc::new(SystemRandom),
            blocking: Blocking::Pool,
            syncer: Syncer::Thread,
            exporter,
        }
    }
}
