//! This module opens and closes a store, and tells how far it is.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use chartmesh_record::{Cursor, Horizon, Origin, Recorded, RequestId};

use crate::counts::Counts;
use crate::digest::StateDigest;
use crate::error::{Corrupt, DiskError, OpenError};
use crate::memory::Memory;

/// One node's state on one disk. Clones are handles to the same.
#[derive(Clone, Debug)]
pub struct Store {
    #[expect(dead_code, reason = "a place to stand")]
    inner: Arc<()>,
}

/// How a store is opened.
#[derive(Clone, Debug)]
pub struct Options {
    /// What it shares with the node's other databases.
    pub memory: Memory,
}

impl Store {
    /// Opens the store in `dir/state`, or makes a new one there.
    ///
    /// # Errors
    /// When it is damaged, in use, or of a newer format, or the disk refuses.
    pub fn open(dir: &Path, options: Options) -> Result<Self, OpenError> {
        let _ = (dir, options);
        unimplemented!()
    }

    /// How far all feeds are held.
    #[must_use]
    pub fn horizon(&self) -> Horizon {
        unimplemented!()
    }

    /// How far one feed is held; its start if nothing is.
    #[must_use]
    pub fn cursor(&self, origin: &Origin) -> Cursor {
        let _ = origin;
        unimplemented!()
    }

    /// What is held, in 32 bytes.
    #[must_use]
    pub fn digest(&self) -> StateDigest {
        unimplemented!()
    }

    /// How much is held.
    #[must_use]
    pub fn counts(&self) -> Counts {
        unimplemented!()
    }

    /// What the last [`crate::Apply`] that had any left in `applied`.
    #[must_use]
    pub fn applied(&self) -> Option<Bytes> {
        unimplemented!()
    }

    /// What became of a request, while it is remembered.
    ///
    /// # Errors
    /// When the disk does not hold what it should.
    pub fn recorded(&self, id: &RequestId) -> Result<Option<Recorded>, Corrupt> {
        let _ = id;
        unimplemented!()
    }

    /// Syncs everything applied before: it survives a power cut then.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn sync(&self) -> Result<(), DiskError> {
        unimplemented!()
    }

    /// Writes what is in memory into files, so that the next start is quick.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn flush(&self) -> Result<(), DiskError> {
        unimplemented!()
    }
}
