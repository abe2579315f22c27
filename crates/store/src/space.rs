//! This module asks how much room the disk has.

use std::io;

use crate::store::Store;

impl Store {
    /// How many bytes can still be written to the disk that holds this store.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn free_space(&self) -> io::Result<u64> {
        let disk = rustix::fs::statvfs(self.inner.tables.dir())?;
        Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
    }
}
