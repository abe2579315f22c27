//! This module reads versions.

use bytes::Bytes;
use chartmesh_record::{Heads, ResourceKey, Timestamp, VersionId};

use crate::error::Corrupt;
use crate::store::Store;

/// A version as it is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredVersion {
    /// Its name.
    pub version: VersionId,
    /// When it was decided.
    pub at: Timestamp,
    /// The resource as it is read; `None` for a deletion.
    pub content: Option<Bytes>,
}

/// The version that plain reads return.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Current {
    /// The version.
    pub stored: StoredVersion,
    /// Whether it stands beside others (see [`Heads::in_conflict`]).
    pub in_conflict: bool,
}

impl Store {
    /// The current version; `None` if the resource was never written.
    ///
    /// # Errors
    /// When the disk does not hold what it should.
    pub fn read(&self, key: &ResourceKey) -> Result<Option<Current>, Corrupt> {
        let _ = key;
        unimplemented!()
    }

    /// The version of this name.
    ///
    /// # Errors
    /// When the disk does not hold what it should.
    pub fn vread(
        &self,
        key: &ResourceKey,
        version: &VersionId,
    ) -> Result<Option<StoredVersion>, Corrupt> {
        let _ = (key, version);
        unimplemented!()
    }

    /// The heads of a resource, the current one first.
    ///
    /// # Errors
    /// When the disk does not hold what it should.
    pub fn heads(&self, key: &ResourceKey) -> Result<Heads, Corrupt> {
        let _ = key;
        unimplemented!()
    }

    /// The versions of a resource, newest first (by generation, then origin), `limit` at the most,
    /// from the one that follows `after`, or from the newest.
    ///
    /// # Errors
    /// When the disk does not hold what it should.
    pub fn history(
        &self,
        key: &ResourceKey,
        after: Option<&VersionId>,
        limit: usize,
    ) -> Result<Vec<StoredVersion>, Corrupt> {
        let _ = (key, after, limit);
        unimplemented!()
    }
}
