//! This module settles the race between whoever begins to carry a command out and whoever gives up on
//! it: one of them comes first, and both know which.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

const OPEN: u8 = 0;
const BEGUN: u8 = 1;
const WITHDRAWN: u8 = 2;

/// Whether a command may still be withdrawn. Clones are handles to the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Claim(Arc<AtomicU8>);

impl Claim {
    /// Begins, or goes on. Says whether it may: from then on the command's fate is unknown until it
    /// is told.
    pub(crate) fn begin(&self) -> bool {
        self.settle(BEGUN)
    }

    /// Withdraws. Says whether it came first: nothing was begun then, and nothing will be.
    pub(crate) fn withdraw(&self) -> bool {
        self.settle(WITHDRAWN)
    }

    fn settle(&self, as_this: u8) -> bool {
        let settled = self.0.compare_exchange(OPEN, as_this, Ordering::AcqRel, Ordering::Acquire);
        settled.is_ok() || settled == Err(as_this)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_comes_first_has_it() {
        let (begun, withdrawn) = (Claim::default(), Claim::default());

        assert!(begun.begin() && begun.begin(), "what is begun goes on");
        assert!(!begun.withdraw());
        assert!(withdrawn.withdraw());
        assert!(!withdrawn.begin());
    }
}
