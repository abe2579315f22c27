//! This module holds what a region states about once a second: up to where its feed is complete as of
//! which instant, and what may be missing.

use std::time::Duration;

use crate::name::{NodeName, RegionName};
use crate::position::Cursor;
use crate::timestamp::Timestamp;

/// What a region's leader puts into its order beside the changes. It travels beside the feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// Up to where the region's present feed is complete as of the instant. Its origin names the
    /// region.
    pub feed: Cursor,
    /// The instant, by the leader's clock.
    pub at: Timestamp,
    /// Other feeds that the leader holds: all earlier feeds of the region and all journals of its
    /// nodes, which whoever shows the statement must hold too, and those of other regions.
    pub holds: Vec<Cursor>,
    /// The region's nodes that may be writing a journal that has not arrived, ordered by name.
    pub silent: Vec<Silent>,
}

impl Statement {
    /// The region that states it.
    #[must_use]
    pub fn region(&self) -> RegionName {
        RegionName(self.feed.origin.name())
    }
}

/// A node of which its region's leader has had no word as not isolated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Silent {
    /// Which.
    pub node: NodeName,
    /// When the last word came, by the clock of the leader that had it.
    pub since: Timestamp,
}

/// Up to which instant somebody's decisions are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AsOf {
    /// The instant, by the clock of whoever named it.
    pub instant: Timestamp,
    /// How long ago that was: measured, never computed from two clocks.
    pub age: Duration,
}
