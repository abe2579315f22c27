//! This module takes change sets in.
//!
//! A run says which place of its feed it extends. What of it is held already is skipped once its
//! hash agrees; what follows on what is held is taken; a run that does neither changes nothing. The
//! answer is a function of what is held, so that all nodes that apply one log do the same.

use bytes::Bytes;
use chartmesh_record::{ChainHash, Cursor, Seq, Timestamp};
use chartmesh_wire::Canonical;

use crate::error::{ApplyError, Corrupt};
use crate::keys::{FeedPlace, OriginCode};
use crate::store::Store;
use crate::writing::Writing;

/// What is written in one disk batch: all of it or nothing.
#[derive(Clone, Debug, Default)]
pub struct Apply {
    /// Change sets, each run following on a place of its feed.
    pub runs: Vec<Run>,
    /// What the caller keeps beside them, such as how far it has applied its log; `None` leaves
    /// what is there. It must not get past a fork: where a run is forked, nothing is written.
    pub applied: Option<Bytes>,
    /// When they arrived, by this node's clock: since then what they bring into conflict is.
    pub arrived: Timestamp,
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
        let _turn = self.inner.turn.lock().expect("no holder panics");
        let mut writing = Writing::begin(&self.inner, apply.bytes());
        let runs =
            apply.runs.iter().map(|run| writing.take_run(run)).collect::<Result<Vec<_>, _>>();
        let mut stuck = false;
        let written = runs.map_err(ApplyError::from).and_then(|runs| {
            let forked = runs.iter().any(|run| matches!(run, RunOutcome::Forked { .. }));
            stuck = forked && apply.applied.is_some();
            if !stuck {
                writing.forget_requests()?;
                writing.write(apply.applied, apply.arrived)?;
            }
            Ok(Applied { runs })
        });
        if stuck || written.is_err() {
            writing.give_up();
        }
        written
    }
}

impl Apply {
    /// The canonical bytes in it.
    fn bytes(&self) -> usize {
        self.runs.iter().flat_map(|run| &run.changes).map(|change| change.bytes().len()).sum()
    }
}

impl Writing<'_> {
    /// Takes a run in if it fits.
    fn take_run(&mut self, run: &Run) -> Result<RunOutcome, Corrupt> {
        let held = self.cursor(&run.extends.origin);
        if run.extends.seq > held.seq || !is_in_sequence(run) {
            return Ok(RunOutcome::Misfit { held });
        }
        let mut at = run.extends.clone();
        let code = self.known_code(&at.origin);
        if let Some(hash) = self.other_hash(code, &held, &at)? {
            return Ok(RunOutcome::Forked { held: Cursor { hash, ..at } });
        }
        let mut new: Vec<(&Canonical, ChainHash)> = Vec::new();
        for change in &run.changes {
            at = at.extend(change.bytes());
            if at.seq > held.seq {
                new.push((change, at.hash));
            } else if let Some(hash) = self.other_hash(code, &held, &at)? {
                return Ok(RunOutcome::Forked { held: Cursor { hash, ..at } });
            }
        }
        for &(change, hash) in &new {
            self.take(change, hash)?;
        }
        Ok(RunOutcome::Held { new: new.len() })
    }

    /// The hash that is held at this place, if it is another one.
    fn other_hash(
        &self,
        code: Option<OriginCode>,
        held: &Cursor,
        at: &Cursor,
    ) -> Result<Option<ChainHash>, Corrupt> {
        let here = match code {
            _ if at.seq == held.seq => Some(held.hash),
            Some(origin) if at.seq > Seq(0) => self.hash(FeedPlace { origin, seq: at.seq })?,
            _ => Some(ChainHash::start(&at.origin)),
        };
        Ok(here.filter(|&here| here != at.hash))
    }
}

/// Whether the change sets of a run say of themselves that they follow on each other there.
fn is_in_sequence(run: &Run) -> bool {
    let places = (run.extends.seq.0 + 1..).map(Seq);
    run.changes.iter().zip(places).all(|(change, seq)| {
        let set = change.change_set();
        set.origin == run.extends.origin && set.seq == seq
    })
}
