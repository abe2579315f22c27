//! This module asks how much room the disk has, and what takes it.

use std::collections::BTreeMap;
use std::io;

use crate::error::DiskError;
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

    /// How many bytes of files each table has; what is in memory and in logs is not counted.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn table_bytes(&self) -> Result<BTreeMap<String, u64>, DiskError> {
        let files = self.inner.tables.db().live_files();
        let files = files.map_err(|error| self.inner.tables.refused(error))?;
        let mut tables = BTreeMap::new();
        for file in files {
            *tables.entry(file.column_family_name).or_default() += file.size as u64;
        }
        Ok(tables)
    }
}
