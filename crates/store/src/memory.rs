//! This module bounds the memory of all databases of one process.

use std::fmt;

use rocksdb::{Cache, WriteBufferManager};

/// One cache for what is read and one budget for what is not yet in files.
#[derive(Clone)]
pub struct Memory {
    pub(crate) cache: Cache,
    pub(crate) writes: WriteBufferManager,
}

impl Memory {
    /// Memory for the databases of one node.
    #[must_use]
    pub fn new(cache_bytes: usize, write_bytes: usize) -> Self {
        Self {
            cache: Cache::new_hyper_clock_cache(cache_bytes, 0),
            writes: WriteBufferManager::new_write_buffer_manager(write_bytes, false),
        }
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory")
            .field("cached", &self.cache.get_usage())
            .field("unwritten", &self.writes.get_usage())
            .finish()
    }
}
