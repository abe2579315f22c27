//! The process: configuration, TLS, wiring and lifecycle of one node. The only crate that knows that
//! there is a machine; clocks, randomness and the network come in here, for all others.

mod audit;
mod backup;
mod certificate;
mod clock;
mod credentials;
mod door;
mod environment;
mod guard;
mod keys;
mod limits;
mod links;
mod network;
mod node;
#[cfg(test)]
mod paper_mill;
mod places;
mod ports;
mod process;
mod recovery;
mod settings;
mod stall;
mod topology;

pub use audit::{Audited, Change, Changed, Link, NoAnswer, Operator};
pub use backup::{BackupError, BackupLabel, Restoring, restore};
pub use certificate::{CertificateError, Facts, Names, check_certificate};
pub use chartmesh_region::{IsolationWrites, Profile, Survey};
pub use chartmesh_store::Reindexed;
pub use chartmesh_wire::OPERATOR;
pub use clock::{SystemClock, SystemRandom};
pub use environment::{Environment, Trust};
pub use keys::{ConfigError, Hint, Problem, ReadError};
pub use network::{Listen, Network, Stream, Tcp};
pub use node::{Node, NodeConfig, StartError};
pub use process::{ProcessError, run};
pub use recovery::{RecoveryError, Survivor};
pub use settings::{LogFormat, Settings};
pub use topology::{Address, InvalidAddress, NodeEntry, RegionEntry, Role, Topology};
