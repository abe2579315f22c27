//! This module holds what becomes of a command that a node has taken.

use std::time::Duration;

use chartmesh_record::{Outcome, Rejection, VersionId};

/// A write that was decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// What it is answered.
    pub outcome: Outcome,
    /// What it survives.
    pub durability: Durability,
    /// Whether this node's store holds it already. If not, it will.
    pub applied: bool,
}

/// What an acknowledged write survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// The loss of any minority of the region's voters.
    Region,
    /// The loss of all but one of these disks, at the node's site.
    Site {
        /// How many hold it.
        copies: usize,
    },
    /// Nothing but what the node's own disk survives.
    Node,
}

/// Why a command is not acknowledged, by what the caller can do.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// The client's fault: the same command is refused again.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// Try again, with the same request id.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// The region cannot answer now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Unavailable {
    /// Why.
    pub reason: Reason,
    /// When to try again.
    pub retry_after: Duration,
    /// What became of the command.
    pub fate: Fate,
}

/// Why the region cannot answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// The node has not heard from a quorum yet.
    #[error("this node has not heard from a quorum of its region yet")]
    Starting,
    /// No quorum.
    #[error("no quorum of the region answers")]
    NoQuorum,
    /// The node is isolated, and set to refuse writes meanwhile.
    #[error(
        "this node is cut off from its region and takes no writes (isolation.writes = \"refuse\")"
    )]
    Isolated,
    /// Too much is waiting.
    #[error("too many writes are waiting")]
    Overloaded,
    /// The command names a version that is not held.
    #[error("version {0} is not held here yet")]
    Lacking(VersionId),
    /// The node is stopping.
    #[error("this node is stopping")]
    Stopping,
    /// The node must not take part in its region.
    #[error("this node takes no part in its region: {0}")]
    Refused(String),
}

/// What became of a command that was not acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It was not written, and will not be.
    NotWritten,
    /// It may have been written, or may still be: the same request id finds out.
    Unknown,
}

impl Unavailable {
    pub(crate) fn new(reason: Reason, fate: Fate) -> Self {
        Self { reason, retry_after: crate::limits::RETRY_AFTER, fate }
    }
}
