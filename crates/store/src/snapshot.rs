//! This module reads one consistent state while others are applied.

use std::marker::PhantomData;

use chartmesh_record::{Criteria, Heads, Recorded, RequestId, ResourceId, ResourceKey, View};

use crate::error::Corrupt;
use crate::store::Store;

/// What a store held at one moment.
#[derive(Debug)]
pub struct Snapshot<'s> {
    store: PhantomData<&'s Store>,
}

impl Store {
    /// What it holds now.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot<'_> {
        unimplemented!()
    }
}

impl View for Snapshot<'_> {
    type Error = Corrupt;

    fn heads(&self, key: &ResourceKey) -> Result<Heads, Corrupt> {
        let _ = key;
        unimplemented!()
    }

    fn find(&self, criteria: &Criteria, limit: usize) -> Result<Vec<ResourceId>, Corrupt> {
        let _ = (criteria, limit, self.store);
        unimplemented!()
    }

    fn request(&self, id: &RequestId) -> Result<Option<Recorded>, Corrupt> {
        let _ = id;
        unimplemented!()
    }
}
