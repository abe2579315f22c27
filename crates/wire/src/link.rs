//! This module says how a node reaches another, and how it knows who calls.

use std::fmt::Debug;

use chartmesh_record::NodeName;
use tonic::transport::Channel;

/// What a connection carries. Each purpose has its own connection, so that none waits for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Purpose {
    /// Log entries: much, in a stream.
    Raft,
    /// Heartbeats, votes, hand-overs, greetings and horizons: little, at once.
    Heartbeat,
    /// Writes that are passed on to the leader.
    Forward,
    /// Feeds that are followed: much, in streams.
    Feed,
}

/// The ways to the other nodes: a port that `node` fills.
pub trait Links: Debug + Send + Sync + 'static {
    /// A channel to a node, that connects when it is used and again after it broke. It should
    /// notice within a second that the other end is gone, and its HTTP/2 windows should fit
    /// 8 MiB.
    fn channel(&self, peer: &NodeName, purpose: Purpose) -> Channel;
}

/// The name in the certificate of whoever operates the mesh: it may ask, but takes no part.
pub const OPERATOR: &str = "operator";

/// The node at the other end of a connection, from its certificate. The accept loop puts it into
/// the extensions of every request; a call without it is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerIdentity(pub NodeName);
