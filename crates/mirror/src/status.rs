//! This module describes how fresh a node's copy is and where its feeds stand, for people and probes.

use std::time::Duration;

use chartmesh_record::{Alarm, AsOf, Cursor, NodeName, Origin, RegionName, Seq, Timestamp};

/// How fresh what a node holds is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Freshness {
    /// One per region of the mesh, ordered by name.
    pub regions: Vec<RegionFreshness>,
    /// One per node that is silent or isolated: it may be writing a journal that has not arrived.
    pub silent: Vec<SilentFreshness>,
}

/// Up to which instant a node knows all that a region has decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegionFreshness {
    /// The region.
    pub region: RegionName,
    /// The instant; `None` for a region that was never heard of: older than any.
    pub as_of: Option<AsOf>,
}

/// Up to which instant a node knows all that a silent node has written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SilentFreshness {
    /// The silent node.
    pub node: NodeName,
    /// Its region.
    pub region: RegionName,
    /// The instant of the last word from it. An isolated node lists itself, as of now.
    pub as_of: AsOf,
}

/// Where a node stands among the others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MirrorStatus {
    /// The other nodes, by name.
    pub peers: Vec<PeerStatus>,
    /// Every feed that is held or known of.
    pub feeds: Vec<FeedStatus>,
    /// What no node outside holds yet, as far as this node knows.
    pub pending: Vec<Pending>,
    /// Changes that are known but not applied.
    pub held_back: Vec<HeldBack>,
    /// What somebody should look at.
    pub alarms: Vec<Alarm>,
}

/// What a node knows of another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerStatus {
    /// Which.
    pub node: NodeName,
    /// Whether its last answer is recent.
    pub reachable: bool,
    /// How long that answer took.
    pub rtt: Option<Duration>,
    /// How far its clock is ahead of this node's, in milliseconds.
    pub clock_offset_ms: Option<i64>,
}

/// How far a feed is held, and how far it is known to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedStatus {
    /// How far it is held here.
    pub cursor: Cursor,
    /// The last change set that any reachable node holds.
    pub known: Seq,
    /// Whether it has ended: a later feed of its region or node has begun, or its isolation is over.
    pub closed: bool,
}

/// Changes of one feed that no node outside holds on a synced disk. Outside: for a region's feed,
/// outside the region; for a journal, any other node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    /// Which feed.
    pub origin: Origin,
    /// How many change sets.
    pub changes: u64,
    /// When the oldest of them was decided.
    pub oldest: Timestamp,
    /// How many disks hold them, this one included.
    pub copies: usize,
}

/// A change that is known but not applied, and with it all that follow in its feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldBack {
    /// Which feed.
    pub origin: Origin,
    /// Which change set.
    pub seq: Seq,
    /// Why not.
    pub reason: String,
}
