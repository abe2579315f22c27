//! This module says what a region needs to run: who it is, its disk, its time, its links.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use chartmesh_record::{Clock, Cursor, NodeName, Random, RegionName, SiteName};
use chartmesh_store::{Blocking, RaftLog, Store};
use chartmesh_wire::Links;
use futures::future::BoxFuture;

use crate::limits::Limits;

/// All that a node's part of a region is made of.
#[derive(Debug)]
pub struct Setup {
    /// This node.
    pub me: NodeName,
    /// The region.
    pub region: RegionName,
    /// The voters that the topology names, this node included if it is one.
    pub voters: Vec<Member>,
    /// The region's nodes that only follow feeds, this node included if it is one.
    pub mirrors: Vec<Member>,
    /// How far apart they are.
    pub profile: Profile,
    /// Whether to found the region. At a node that belongs to a group already it does nothing.
    pub found: bool,
    /// The node's state.
    pub store: Store,
    /// The node's Raft log; a mirror's stays empty.
    pub log: RaftLog,
    /// The feeds that the node follows.
    pub feeds: Arc<dyn Feeds>,
    /// The ways to the other nodes.
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

/// What a region needs of the feeds that its node follows: a port that `node` fills.
pub trait Feeds: Debug + Send + Sync + 'static {
    /// Waits until the node holds all these places, or a longer part of their feeds; asks for what
    /// lacks at once, and gives up after a while. Says whether it holds them.
    fn hold(&self, cursors: Vec<Cursor>, within: Duration) -> BoxFuture<'_, bool>;

    /// The places by which the node is ahead of what another is known to hold.
    fn ahead_of(&self, peer: &NodeName) -> Vec<Cursor>;

    /// Waits until all reachable nodes of the same site hold a place on synced disks, at the most so
    /// long. Says how many disks do, this node's included.
    fn copies(&self, at: Cursor, within: Duration) -> BoxFuture<'_, usize>;

    /// Whether the node's clock is further from most others' than it may be.
    fn clock_off(&self) -> bool;

    /// Whether anybody is known to hold a feed of a region.
    fn knows(&self, region: &RegionName) -> bool;
}

/// Why a region cannot run.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The topology does not name this node.
    #[error("{me} is no node of region {region}")]
    Stranger {
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
