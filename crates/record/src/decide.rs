//! This module judges commands: a pure function of a command, what is held, and the time.
//!
//! ```text
//! Command --rule, over a View and what the batch has written--> Decision (small)
//! Decision + Command --assemble--> ChangeSet (with the content)
//! ```
//!
//! Who orders a feed judges waiting commands as a [`Batch`]; each sees what the ones before it have
//! changed. A refused command leaves the batch as it was. A retry, known by its request id or by an
//! id that it derived, changes nothing.

mod decision;
mod overlay;
mod precondition;
mod rejection;
mod replay;
mod rule;

use std::collections::HashMap;

use crate::ancestry::Heads;
use crate::change_set::{ChangeSet, Outcome};
use crate::command::{Command, RequestDigest, RequestId};
use crate::criteria::Criteria;
use crate::kind::{ResourceId, ResourceKey};
use crate::limits::MAX_CHANGE_SET_BYTES;
use crate::position::{Cursor, Seq};
use crate::timestamp::Timestamp;
use crate::version::{Origin, VersionId};

pub use decision::{Decision, Ruling, UnfitDecision};
pub use rejection::{Rejection, RejectionReason};

use overlay::Overlay;
use rule::{Ruled, Stop, rule};

/// What is held, to be read while commands are judged: one consistent state.
pub trait View {
    /// Why it cannot be read.
    type Error;

    /// Resources that are decided and not applied, where searches find them.
    type Shelf: Default;

    /// The heads of a resource; empty if no version is held.
    fn heads(&self, key: &ResourceKey) -> Result<Heads, Self::Error>;

    /// Puts a resource on a shelf, in place of what is there of it. `None`: it is deleted.
    fn shelve(&self, shelf: &mut Self::Shelf, key: &ResourceKey, content: Option<&[u8]>);

    /// Takes a resource off a shelf: what is beneath counts again.
    fn unshelve(&self, shelf: &mut Self::Shelf, key: &ResourceKey);

    /// The resources that are live and match, `limit` at the most. What is on a shelf counts instead of
    /// what is held or on a shelf before it.
    ///
    /// # Errors
    /// When it cannot be read, or the criteria are none that can be searched by.
    fn find(
        &self,
        criteria: &Criteria,
        shelves: &[&Self::Shelf],
        limit: usize,
    ) -> Result<Vec<ResourceId>, FindError<Self::Error>>;

    /// What became of a request, while it is remembered.
    fn request(&self, id: &RequestId) -> Result<Option<Recorded>, Self::Error>;
}

/// Why nothing is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FindError<E> {
    /// What is held cannot be read.
    Unreadable(E),
    /// The criteria cannot be used, for this reason.
    Unusable(String),
}

impl<E> From<E> for FindError<E> {
    fn from(error: E) -> Self {
        Self::Unreadable(error)
    }
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
pub struct Batch<'v, V: View> {
    held: Overlay<'v, V>,
    requests: HashMap<RequestId, Recorded>,
    origin: Origin,
    next: Seq,
}

/// What becomes of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// It changes something: next in the feed.
    Change {
        /// What was decided, without the content that the command carries.
        decision: Decision,
        /// All of it: what `decision.assemble(command)` gives.
        change_set: ChangeSet,
    },
    /// It changes nothing, or was judged before: this is the answer.
    Answer(Outcome),
    /// It is the client's fault.
    Refused(Rejection),
    /// It names a version that is not held, of another origin: fetch it first.
    Lacking(VersionId),
}

impl<'v, V: View> Batch<'v, V> {
    /// A batch that goes on at this place of its origin's feed.
    pub fn new(view: &'v V, extends: &Cursor) -> Self {
        Self {
            held: Overlay::new(view),
            requests: HashMap::new(),
            origin: extends.origin.clone(),
            next: extends.seq.next(),
        }
    }

    /// Judges a command that is decided at this instant, which must not be before that of the last.
    ///
    /// # Errors
    /// When the view cannot be read; the batch is as before then.
    ///
    /// # Panics
    /// When the command is not [sound](Command::is_sound).
    pub fn judge(&mut self, command: &Command, at: Timestamp) -> Result<Judgement, V::Error> {
        assert!(command.is_sound(), "only sound commands are judged");
        let recorded = match self.requests.get(&command.request) {
            Some(recorded) => Some(recorded.clone()),
            None => self.held.beneath().request(&command.request)?,
        };
        if let Some(recorded) = recorded {
            return Ok(if recorded.digest == command.digest {
                Judgement::Answer(recorded.outcome)
            } else {
                Judgement::Refused(Rejection::of_all(RejectionReason::RequestReused))
            });
        }

        let Ruled { rulings, matches, written } = match rule(&self.held, &self.origin, command, at)
        {
            Ok(ruled) => ruled,
            Err(Stop::Unreadable(error)) => return Err(error),
            Err(Stop::Refused(rejection)) => return Ok(Judgement::Refused(rejection)),
            Err(Stop::Lacking(version)) => return Ok(Judgement::Lacking(version)),
            Err(Stop::Answered(outcome)) => return Ok(Judgement::Answer(outcome)),
        };
        let decision =
            Decision { origin: self.origin.clone(), seq: self.next, at, rulings, matches };
        let change_set = decision.assemble(command).expect("it was made from this command");
        let bytes = change_set.size_bytes();
        if bytes > MAX_CHANGE_SET_BYTES {
            let reason = RejectionReason::TooLarge { bytes, limit: MAX_CHANGE_SET_BYTES };
            return Ok(Judgement::Refused(Rejection::of_all(reason)));
        }

        self.held.absorb(written, &change_set);
        let recorded = Recorded { digest: command.digest, outcome: change_set.outcome() };
        self.requests.insert(command.request, recorded);
        self.next = self.next.next();
        Ok(Judgement::Change { decision, change_set })
    }
}

#[cfg(test)]
mod tests;
