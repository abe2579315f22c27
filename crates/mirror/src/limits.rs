//! This module names the limits of the crate, all in one place.

use std::time::Duration;

/// What a user may set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How far a clock may be from its peers' before it is an alarm.
    pub clock_max_offset: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { clock_max_offset: Duration::from_millis(500) }
    }
}
