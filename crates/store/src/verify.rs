//! This module proves what is held from its bytes.

use crate::error::Corrupt;
use crate::store::Store;

/// What a verification has found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The change sets looked at.
    pub changes: u64,
    /// The versions looked at.
    pub versions: u64,
    /// The resources looked at.
    pub resources: u64,
    /// The first thing that is not what the bytes say.
    pub difference: Option<Difference>,
}

/// Something held that is not what the bytes of the feeds say.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}: held is {held}, the feeds say {expected}")]
pub struct Difference {
    /// What it is about.
    pub what: String,
    /// What is held.
    pub held: String,
    /// What follows from the feeds.
    pub expected: String,
}

impl Store {
    /// Computes everything again from the bytes of the feeds: chains, heads, histories,
    /// identifiers, requests, counts and digest. `progress` is told now and then what was done.
    ///
    /// # Errors
    /// When the disk cannot be read.
    pub fn deep_verify(&self, progress: impl FnMut(&Report)) -> Result<Report, Corrupt> {
        let mut progress = progress;
        progress(&Report::default());
        unimplemented!()
    }
}
