//! This module describes the state of a node's part of its region, for people and probes.

use std::time::Duration;

use chartmesh_record::{Alarm, NodeName, Origin, Timestamp};

/// What a node knows of its region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegionStatus {
    /// Where the node stands.
    pub state: State,
    /// Who leads, as far as it knows.
    pub leader: Option<NodeName>,
    /// The Raft term.
    pub term: u64,
    /// What orders the region's feed now, once known: its other origins have ended.
    pub origin: Option<Origin>,
    /// The index of the last entry of the Raft log.
    pub last_log: u64,
    /// The index of the last entry that is applied.
    pub applied: u64,
    /// The voters, by name, this node included.
    pub members: Vec<MemberStatus>,
    /// What somebody should look at.
    pub alarms: Vec<Alarm>,
}

/// Where a node stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It has not had a confirmed quorum answer yet: reads are served, writes wait.
    Starting {
        /// Whether the region is founded, as far as the node knows.
        founded: bool,
    },
    /// A quorum has answered lately.
    Region,
    /// No quorum has answered for longer than `isolation.after`: writes go into a journal.
    Isolated {
        /// Since when.
        since: Timestamp,
    },
    /// The node must not take part.
    Refused {
        /// Why not.
        reason: String,
    },
}

/// What a node knows of a voter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberStatus {
    /// Which.
    pub name: NodeName,
    /// Its Raft id, once known.
    pub raft_id: Option<u64>,
    /// Whether its last answer is recent.
    pub reachable: bool,
    /// How long that answer took.
    pub rtt: Option<Duration>,
}
