//! This module holds the status document: the shape of `GET /status`, which tools read.

use serde::{Deserialize, Serialize};

/// What a node says of itself. Names are kept stable; new ones may be added.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The node's name.
    pub node: String,
    /// Its region.
    pub region: String,
    /// Its site.
    pub site: String,
    /// Its part in the region.
    pub role: Role,
    /// The version of its software.
    pub version: String,
    /// Where it stands.
    pub state: State,
    /// The node that leads the region, as far as this one knows.
    pub leader: Option<String>,
    /// The Raft term.
    pub term: u64,
    /// How far it holds each feed.
    pub horizon: Vec<Feed>,
    /// The digest of all heads, in hexadecimal: equal at nodes with equal horizons.
    pub digest: String,
    /// Nodes that may be writing what has not arrived.
    pub silent: Vec<Silent>,
    /// The other nodes.
    pub peers: Vec<Peer>,
    /// What no node outside holds yet.
    pub pending: Vec<Pending>,
    /// How many resources are in conflict.
    pub conflicts: u64,
    /// Changes that are held but cannot be applied.
    pub held_back: Vec<HeldBack>,
    /// What somebody should look at.
    pub alarms: Vec<Alarm>,
    /// What is stored.
    pub store: StoreSize,
}

/// A node's part in its region.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// It decides with the others.
    Voter,
    /// It follows feeds only.
    Mirror,
}

/// Where a node stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It has not heard from a quorum yet.
    Starting,
    /// It is part of its region.
    Region,
    /// It is without its region's quorum.
    Isolated,
}

/// How far a feed is held.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Feed {
    /// Whose.
    pub origin: String,
    /// The last change set held.
    pub seq: u64,
    /// The hash of the feed up to there, in hexadecimal.
    pub hash: String,
    /// Up to which instant all is known.
    pub as_of: Option<String>,
    /// How long ago that is, in seconds.
    pub age: Option<f64>,
    /// Whether the feed has ended.
    pub closed: bool,
}

/// A node that may be writing what has not arrived.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Silent {
    /// Which.
    pub node: String,
    /// Since when.
    pub since: String,
}

/// Another node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Peer {
    /// Which.
    pub node: String,
    /// Whether it has answered lately.
    pub reachable: bool,
    /// How long that took, in milliseconds.
    pub rtt_ms: Option<f64>,
    /// How far its clock is ahead, in milliseconds; `None` if it was not measured.
    pub clock_offset_ms: Option<f64>,
}

/// Changes that no node outside holds yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    /// Of which feed.
    pub origin: String,
    /// How many.
    pub changes: u64,
    /// When the oldest was decided.
    pub oldest: String,
    /// How many disks hold them.
    pub copies: u64,
}

/// A change that is held but cannot be applied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldBack {
    /// Of which feed.
    pub origin: String,
    /// Which.
    pub seq: u64,
    /// Why not.
    pub reason: String,
}

/// Something that somebody should look at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alarm {
    /// Which, for machines.
    pub code: String,
    /// What, for people.
    pub text: String,
    /// Since when.
    pub since: String,
}

/// What is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreSize {
    /// Resources whose current version is no deletion.
    pub resources: u64,
    /// Versions, deletions included.
    pub versions: u64,
    /// Bytes on disk.
    pub bytes: u64,
}
