//! This module holds what every part of a node tells when somebody should look.

use crate::timestamp::Timestamp;

/// Something that somebody should look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alarm {
    /// Which, for machines; `docs/operations.md` has a runbook for each.
    pub code: &'static str,
    /// What, for people.
    pub text: String,
    /// Since when, by this node's clock.
    pub since: Timestamp,
}
