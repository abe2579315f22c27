//! This module says why a command is refused, and where.

use crate::ancestry::Heads;
use crate::criteria::Criteria;
use crate::kind::{ResourceId, ResourceKey};

/// Why a command is refused, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Rejection {
    /// The entry of the transaction, counted from 0.
    pub entry: Option<usize>,
    /// Why.
    pub reason: RejectionReason,
}

/// Why a command is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RejectionReason {
    /// The request id was used for something else (422).
    #[error("the idempotency key was used before for a request with other content")]
    RequestReused,
    /// The precondition does not hold: the client has not seen what stands (412).
    #[error("{key} is not as the precondition says: {}", show_heads(heads))]
    Precondition {
        /// Which resource.
        key: ResourceKey,
        /// Its heads.
        heads: Heads,
    },
    /// A plain delete of a resource with several live heads (412).
    #[error(
        "{key} has several versions in conflict: name the ones to delete with If-Match: {}",
        show_heads(heads)
    )]
    ConflictedDelete {
        /// Which resource.
        key: ResourceKey,
        /// Its heads.
        heads: Heads,
    },
    /// Criteria that cannot be searched by (400).
    #[error("the criteria {criteria} cannot be used: {reason}")]
    UnusableCriteria {
        /// The criteria.
        criteria: Criteria,
        /// Why not.
        reason: String,
    },
    /// Criteria that must match at the most one resource match several (412).
    #[error("{criteria} matches more than one resource")]
    SeveralMatches {
        /// The criteria.
        criteria: Criteria,
    },
    /// A conditional reference that matches nothing (412).
    #[error("the conditional reference {criteria} matches no resource")]
    NoMatch {
        /// The criteria.
        criteria: Criteria,
    },
    /// The id in the body is not that of the resource that matched (400).
    #[error("the body's id is {sent}, but the criteria match {found}")]
    IdMismatch {
        /// The id in the body.
        sent: ResourceId,
        /// What matched.
        found: ResourceKey,
    },
    /// Two entries of a transaction write one resource (400).
    #[error("{key} is written by entry {other} too: a transaction may name a resource once")]
    DuplicateTarget {
        /// Which resource.
        key: ResourceKey,
        /// The other entry.
        other: usize,
    },
    /// A read inside a transaction finds nothing (404).
    #[error("{key} is not known")]
    NotFound {
        /// Which resource.
        key: ResourceKey,
    },
    /// A read inside a transaction finds a deletion (410).
    #[error("{key} is deleted")]
    Gone {
        /// Which resource.
        key: ResourceKey,
    },
    /// More than a change set may hold (413).
    #[error("the change would take {bytes} bytes; the limit is {limit}")]
    TooLarge {
        /// What it would take.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
}

impl Rejection {
    /// A rejection for what no single entry is the cause of.
    pub(super) fn of_all(reason: RejectionReason) -> Self {
        Self { entry: None, reason }
    }
}

fn show_heads(heads: &Heads) -> String {
    let names: Vec<String> =
        heads.distinct().map(|head| format!("W/\"{}\"", head.version)).collect();
    if names.is_empty() {
        "it does not exist".to_owned()
    } else {
        format!("current is {}", names.join(", "))
    }
}
