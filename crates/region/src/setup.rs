//! This module says what a region needs to run: who it is, its disk, its time, its links.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use chartmesh_record::{Clock, NodeName, Random, RegionName, SiteName};
use chartmesh_store::{RaftLog, Store};
use tonic::transport::Channel;

use crate::limits::Limits;

/// All that a node's part of a region is made of.
#[derive(Debug)]
pub struct Setup {
    /// This node, one of the voters.
    pub me: NodeName,
    /// The region.
    pub region: RegionName,
    /// The voters that the topology names, this node included.
    pub voters: Vec<Member>,
    /// How far apart they are.
    pub profile: Profile,
    /// Whether to found the region. At a node that belongs to a group already it does nothing.
    pub found: bool,
    /// The node's state.
    pub store: Store,
    /// The node's Raft log.
    pub log: RaftLog,
    /// The ways to the other voters.
    pub links: Arc<dyn Links>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub random: Arc<dyn Random>,
    /// Where work runs that takes long.
    pub blocking: Blocking,
    /// A user's numbers.
    pub limits: Limits,
}

/// A voter, as the topology names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its name.
    pub name: NodeName,
    /// Its site.
    pub site: SiteName,
    /// Its mesh address, `host:port`.
    pub address: String,
}

/// How far apart the voters of a region are: the round trip that the timers allow for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Profile {
    /// A few milliseconds.
    #[default]
    Lan,
    /// 50 ms.
    Wan50,
    /// 100 ms.
    Wan100,
    /// 200 ms.
    Wan200,
}

/// Where work runs that takes long, such as the application of a big change set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blocking {
    /// On a thread that the runtime gives up for it (needs the multi-threaded runtime).
    Pool,
    /// Where it stands: for a simulation on one thread.
    Inline,
}

/// What a connection carries. Each purpose has its own connection, so that none waits for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Purpose {
    /// Log entries: much, in a stream.
    Raft,
    /// Heartbeats, votes, hand-overs and questions: little, at once.
    Heartbeat,
    /// Writes that are passed on to the leader.
    Forward,
}

/// The ways to the other voters: a port that `node` fills.
pub trait Links: Debug + Send + Sync + 'static {
    /// A channel to a voter, that connects when it is used and again after it broke. It should
    /// notice within a second that the other end is gone, and its HTTP/2 windows should fit
    /// 8 MiB.
    fn channel(&self, peer: &NodeName, purpose: Purpose) -> Channel;
}

/// The node at the other end of a connection, from its certificate. The accept loop puts it into
/// the extensions of every request; a call without it is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerIdentity(pub NodeName);

/// Why a region cannot run.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The topology does not name this node as a voter.
    #[error("{me} is not a voter of region {region}")]
    NotVoter {
        /// This node.
        me: NodeName,
        /// The region.
        region: RegionName,
    },
    /// The disk does not hold what it must.
    #[error(transparent)]
    Corrupt(#[from] Corrupt),
}

/// What the disk holds cannot be used. Nothing is repaired by going on.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {reason}")]
pub struct Corrupt {
    /// What was read.
    pub what: &'static str,
    /// What is wrong with it.
    pub reason: String,
}

/// Timers of one profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Timers {
    /// Between two heartbeats; also how long one may take.
    pub(crate) heartbeat: Duration,
    /// A new election begins after a random time of this range, once the lease is over.
    pub(crate) election: (Duration, Duration),
}

impl Profile {
    /// The timers: 3/4 of a heartbeat is more than two round trips.
    pub(crate) fn timers(self) -> Timers {
        let (heartbeat, least, most) = match self {
            Self::Lan => (100, 250, 375),
            Self::Wan50 => (200, 600, 900),
            Self::Wan100 => (350, 1_050, 1_500),
            Self::Wan200 => (700, 2_100, 3_000),
        };
        let millis = Duration::from_millis;
        Timers { heartbeat: millis(heartbeat), election: (millis(least), millis(most)) }
    }
}

impl Blocking {
    /// Runs work that takes long.
    pub(crate) fn run<T>(self, work: impl FnOnce() -> T) -> T {
        match self {
            Self::Pool => tokio::task::block_in_place(work),
            Self::Inline => work(),
        }
    }
}
