//! This module takes change sets in.

use bytes::Bytes;
use chartmesh_record::Cursor;
use chartmesh_wire::Canonical;

use crate::error::ApplyError;
use crate::store::Store;

/// What is written in one disk batch: all of it or nothing.
#[derive(Clone, Debug, Default)]
pub struct Apply {
    /// Change sets, each run following on a place of its feed.
    pub runs: Vec<Run>,
    /// What the caller keeps beside them, such as how far it has applied its log; `None` leaves
    /// what is there.
    pub applied: Option<Bytes>,
}

/// Successive change sets of one feed.
#[derive(Clone, Debug)]
pub struct Run {
    /// The place that they extend.
    pub extends: Cursor,
    /// The change sets.
    pub changes: Vec<Canonical>,
}

/// What became of an [`Apply`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// One per run.
    pub runs: Vec<RunOutcome>,
}

/// What became of a run: the same at every node that holds the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunOutcome {
    /// All of it is held now; this many change sets were not before.
    Held {
        /// How many are new.
        new: usize,
    },
    /// It does not follow on what is held; nothing of it was taken.
    Misfit {
        /// How far the feed is held.
        held: Cursor,
    },
    /// Other bytes are held at one of its places; nothing of it was taken.
    Forked {
        /// The first such place, with the hash that is held there.
        held: Cursor,
    },
}

impl Store {
    /// Applies runs in order, in one disk batch that is not synced (see [`Store::sync`]).
    ///
    /// # Errors
    /// When what is held cannot be read or the batch cannot be written; nothing has changed then.
    pub fn apply(&self, apply: Apply) -> Result<Applied, ApplyError> {
        let _ = apply;
        unimplemented!()
    }
}
