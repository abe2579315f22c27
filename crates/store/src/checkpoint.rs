//! This module copies a store while it is used: into a directory that can be opened as a store.

use std::path::Path;

use rocksdb::checkpoint::Checkpoint;

use crate::counts::Counts;
use crate::error::DiskError;
use crate::store::{Standing, Store};

impl Store {
    /// Copies all that is held now into `dir/state`, which must not be there. On the disk of the store the
    /// copy shares its files, takes no room at first and is made at once; nothing is applied meanwhile. Returns what it holds.
    ///
    /// # Errors
    /// When it is there, or the disk refuses.
    pub fn checkpoint(&self, dir: &Path) -> Result<(Standing, Counts), DiskError> {
        let tables = &self.inner.tables;
        let _turn = self.inner.turn.lock().expect("no holder panics");
        self.sync()?;
        let checkpoint = Checkpoint::new(tables.db()).map_err(|error| tables.refused(error))?;
        let made = checkpoint.create_checkpoint(dir.join("state"));
        made.map_err(|error| tables.refused(error))?;
        Ok((self.standing(), self.counts()))
    }

    /// The directory that it was opened in.
    #[must_use]
    pub fn dir(&self) -> &Path {
        let state = self.inner.tables.dir();
        state.parent().unwrap_or(state)
    }
}
