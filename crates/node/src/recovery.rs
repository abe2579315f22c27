//! This module opens the disk of a node that does not run, to start its region again from there.

use std::path::Path;

use chartmesh_record::{Clock, Random};
use chartmesh_region::{Corrupt, Survey, recover, survey};
use chartmesh_store::{Memory, OpenError, Options, RaftLog, Store, Syncer};

use crate::clock::{SystemClock, SystemRandom};
use crate::limits;

/// The disk of a node whose region has lost its majority for good.
#[derive(Debug)]
pub struct Survivor {
    store: Store,
    log: RaftLog,
}

/// A region cannot be started again from a disk.
#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    /// The disk cannot be opened: above all, while its node runs.
    #[error("{0}; the node must be stopped for this")]
    Open(#[from] OpenError),
    /// It does not hold what it must.
    #[error(transparent)]
    Corrupt(#[from] Corrupt),
}

impl Survivor {
    /// Opens the disk.
    ///
    /// # Errors
    /// When its node runs, or the disk is damaged or of a newer format.
    pub fn open(data: &Path) -> Result<Self, RecoveryError> {
        let memory = Memory::new(limits::CACHE_BYTES, limits::WRITE_BYTES);
        let store = Store::open(data, Options::new(memory.clone()))?;
        let log = RaftLog::open(data, Syncer::Thread, &memory)?;
        Ok(Self { store, log })
    }

    /// What it holds of its region.
    ///
    /// # Errors
    /// When it belongs to no group, or cannot be read.
    pub fn survey(&self) -> Result<Survey, RecoveryError> {
        Ok(survey(&self.store, &self.log)?)
    }

    /// Notes down that the region goes on from here: the next start of the node founds its group anew.
    ///
    /// # Errors
    /// When the disk cannot be read or written.
    pub fn recover(&self) -> Result<(), RecoveryError> {
        let (clock, random) = (SystemClock::start(), SystemRandom);
        Ok(recover(&self.store, &self.log, clock.wall(), random.bits())?)
    }
}
