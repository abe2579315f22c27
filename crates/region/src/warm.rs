//! This module remembers of which origin this voter has, in its present process, taken an entry from a
//! live leader (docs/decisions/0014).

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chartmesh_record::Origin;

/// What this process has taken from live leaders. Clones are handles to the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Warm(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// Terms of which an entry was appended while their own leader was in office.
    terms: BTreeSet<u64>,
    origin: Option<Origin>,
}

impl Warm {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a proposal was appended in the term of the leader that made it.
    pub(crate) fn appended(&self, term: u64) {
        self.state().terms.insert(term);
    }

    /// Notes that a proposal of a term was applied while the region went by this origin.
    pub(crate) fn applied(&self, term: u64, origin: Option<&Origin>) {
        let mut state = self.state();
        if state.terms.contains(&term) && state.origin.as_ref() != origin {
            state.origin = origin.cloned();
        }
    }

    /// The origin.
    pub(crate) fn origin(&self) -> Option<Origin> {
        self.state().origin.clone()
    }
}
