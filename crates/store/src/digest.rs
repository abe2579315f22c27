//! This module sums up what is held in 32 bytes that do not depend on the order of arrival.

use std::fmt;

/// The sum of a hash per resource: equal for nodes that hold the same change sets.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct StateDigest([u64; 4]);

impl fmt::Display for StateDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|word| write!(f, "{word:016x}"))
    }
}

impl fmt::Debug for StateDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
