//! This module is the only place where the machine's clocks and randomness come in.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use chartmesh_record::{Clock, Random, Timestamp};
use rand::TryRngCore;
use rand::rngs::OsRng;

/// The machine's clocks.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    started: Instant,
}

/// The machine's source of random bits.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemRandom;

impl SystemClock {
    /// Clocks whose monotonic time begins now.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is where the monotonic clock comes in")]
    pub fn start() -> Self {
        Self { started: Instant::now() }
    }
}

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is where the wall clock comes in")]
    fn wall(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }

    fn monotonic(&self) -> Duration {
        self.started.elapsed()
    }
}

impl Random for SystemRandom {
    fn bits(&self) -> u64 {
        OsRng.try_next_u64().expect("a machine without random bits cannot run a node")
    }
}
