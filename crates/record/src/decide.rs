//! This module judges commands: a pure function of a command, what is held, and the time.

use crate::ancestry::Heads;
use crate::change_set::{ChangeSet, Outcome};
use crate::command::{Command, RequestDigest, RequestId};
use crate::criteria::Criteria;
use crate::kind::{ResourceId, ResourceKey};
use crate::position::{Cursor, Seq};
use crate::timestamp::Timestamp;
use crate::version::{Origin, VersionId};

/// What is held, to be read while commands are judged: one consistent state.
pub trait View {
    /// Why it cannot be read.
    type Error;

    /// The heads of a resource; empty if no version is held.
    fn heads(&self, key: &ResourceKey) -> Result<Heads, Self::Error>;

    /// The resources whose current version is live and matches, in key order, `limit` at the most.
    fn find(&self, criteria: &Criteria, limit: usize) -> Result<Vec<ResourceId>, Self::Error>;

    /// What became of a request, while it is remembered.
    fn request(&self, id: &RequestId) -> Result<Option<Recorded>, Self::Error>;
}

/// What is remembered of a request that changed something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// The digest of its content.
    pub digest: RequestDigest,
    /// What it was answered.
    pub outcome: Outcome,
}

/// Commands judged in turn, each over what is held and what the ones before it have changed.
#[derive(Debug)]
pub struct Batch<'v, V> {
    view: &'v V,
    origin: Origin,
    next: Seq,
}

/// What becomes of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// It changes something: this change set, next in the feed.
    Change(ChangeSet),
    /// It changes nothing, or was judged before: this is the answer.
    Answer(Outcome),
    /// It is the client's fault.
    Refused(Rejection),
    /// It names a version that is not held, of another origin: fetch it first.
    Lacking(VersionId),
}

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

fn show_heads(heads: &Heads) -> String {
    let names: Vec<String> =
        heads.distinct().map(|head| format!("W/\"{}\"", head.version)).collect();
    if names.is_empty() {
        "it does not exist".to_owned()
    } else {
        format!("current is {}", names.join(", "))
    }
}

impl<'v, V: View> Batch<'v, V> {
    /// A batch that goes on at this place of its origin's feed.
    pub fn new(view: &'v V, extends: &Cursor) -> Self {
        Self { view, origin: extends.origin.clone(), next: extends.seq.next() }
    }

    /// Judges a command that is decided at this instant, which must not be before that of the last.
    ///
    /// # Errors
    /// When the view cannot be read; the batch is as before then.
    pub fn judge(&mut self, command: &Command, at: Timestamp) -> Result<Judgement, V::Error> {
        let _ = (command, at, self.view, &self.origin, self.next);
        unimplemented!()
    }
}
