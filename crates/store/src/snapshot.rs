//! This module reads one consistent state while others are applied.

use std::fmt;

use chartmesh_record::{Criteria, Heads, Recorded, RequestId, ResourceId, ResourceKey, View};

use crate::error::Corrupt;
use crate::reader::Reader;
use crate::store::Store;

/// What a store held at one moment.
pub struct Snapshot<'s> {
    reader: Reader<'s>,
}

impl Store {
    /// What it holds now.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot<'_> {
        Snapshot { reader: Reader::at_this_moment(&self.inner) }
    }
}

impl View for Snapshot<'_> {
    type Error = Corrupt;

    fn heads(&self, key: &ResourceKey) -> Result<Heads, Corrupt> {
        Ok(self.reader.head_row(key)?.heads())
    }

    fn find(&self, criteria: &Criteria, limit: usize) -> Result<Vec<ResourceId>, Corrupt> {
        self.reader.find(criteria, limit)
    }

    fn request(&self, id: &RequestId) -> Result<Option<Recorded>, Corrupt> {
        self.reader.recorded(id)
    }
}

impl fmt::Debug for Snapshot<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot").field("of", &self.reader.inner.tables).finish()
    }
}
