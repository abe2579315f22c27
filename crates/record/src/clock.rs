//! This module is the seam through which time and randomness come in: ports that `node` fills,
//! with the machine's in production and with seeded ones in simulation.

use std::fmt::Debug;
use std::time::Duration;

use crate::timestamp::Timestamp;

/// A wall clock and a monotonic clock.
pub trait Clock: Debug + Send + Sync + 'static {
    /// The wall clock. It may jump.
    fn wall(&self) -> Timestamp;

    /// Time since some fixed point of this process. It never goes back.
    fn monotonic(&self) -> Duration;
}

/// A source of random bits.
pub trait Random: Debug + Send + Sync + 'static {
    /// 64 random bits.
    fn bits(&self) -> u64;
}
