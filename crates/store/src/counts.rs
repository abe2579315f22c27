//! This module counts what is held.

use std::collections::BTreeMap;

use chartmesh_record::ResourceType;

/// How much is held of one type, or of all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Resources whose current version is no deletion.
    pub resources: u64,
    /// Versions of all resources, superseded ones and deletions included.
    pub versions: u64,
    /// The canonical bytes of these versions, before compression.
    pub bytes: u64,
}

/// How much is held, by type.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// The types of which anything is held.
    pub types: BTreeMap<ResourceType, Count>,
}

impl Counts {
    /// How much is held of all types.
    #[must_use]
    pub fn total(&self) -> Count {
        self.types.values().fold(Count::default(), |total, count| Count {
            resources: total.resources + count.resources,
            versions: total.versions + count.versions,
            bytes: total.bytes + count.bytes,
        })
    }
}
