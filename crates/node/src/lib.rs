//! The process: configuration, TLS, wiring and lifecycle of one node. The only crate that knows that
//! there is a machine; clocks, randomness and the network come in here, for all others.

mod certificate;
mod clock;
mod credentials;
mod door;
mod guard;
mod keys;
mod limits;
mod links;
mod network;
#[cfg(test)]
mod paper_mill;
mod settings;
mod topology;

pub use certificate::{CertificateError, Facts, Names};
pub use clock::{SystemClock, SystemRandom};
pub use guard::OPERATOR;
pub use keys::{ConfigError, Hint, Problem, ReadError};
pub use network::{Listen, Network, Stream, Tcp};
pub use settings::{LogFormat, Settings};
pub use topology::{Address, InvalidAddress, NodeEntry, RegionEntry, Role, Topology};
