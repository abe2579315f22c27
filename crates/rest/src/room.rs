//! This module keeps writes off a disk that is nearly full.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use chartmesh_record::Clock;
use chartmesh_store::Store;

use crate::limits::Limits;
use crate::refusal::Refusal;

/// How much room the disk had when it was last asked.
#[derive(Debug, Default)]
pub(crate) struct Room(Mutex<Option<Seen>>);

#[derive(Clone, Copy, Debug)]
struct Seen {
    at: Duration,
    free_bytes: u64,
}

impl Room {
    /// Refuses a write if the disk has less room than the reserve. If the system does not say how
    /// much there is, it is left to the write to find out.
    pub(crate) fn check(
        &self,
        store: &Store,
        clock: &dyn Clock,
        reserve_bytes: u64,
    ) -> Result<(), Refusal> {
        let now = clock.monotonic();
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = |seen: &Seen| now.saturating_sub(seen.at) < Limits::FREE_SPACE_KEPT;
        let current = (*seen).filter(fresh).unwrap_or_else(|| Seen {
            at: now,
            free_bytes: store.free_space().unwrap_or(u64::MAX),
        });
        *seen = Some(current);
        if current.free_bytes < reserve_bytes {
            return Err(Refusal::DiskFull { reserve_bytes });
        }
        Ok(())
    }
}
