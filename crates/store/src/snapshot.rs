//! This module reads one consistent state while others are applied.

use std::fmt;

use chartmesh_record::{
    Criteria, FindError, Heads, Recorded, RequestId, ResourceId, ResourceKey, View,
};

use crate::error::Corrupt;
use crate::reader::Reader;
use crate::search::Shelf;
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
    type Shelf = Shelf;

    fn heads(&self, key: &ResourceKey) -> Result<Heads, Corrupt> {
        Ok(self.reader.head_row(key)?.heads())
    }

    fn shelve(&self, shelf: &mut Shelf, key: &ResourceKey, content: Option<&[u8]>) {
        shelf.put(&self.reader.inner.registry(), key, content);
    }

    fn unshelve(&self, shelf: &mut Shelf, key: &ResourceKey) {
        shelf.remove(key);
    }

    fn find(
        &self,
        criteria: &Criteria,
        shelves: &[&Shelf],
        limit: usize,
    ) -> Result<Vec<ResourceId>, FindError<Corrupt>> {
        self.reader.find(criteria, shelves, limit)
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
