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

/// A point in time, by both clocks of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// By the monotonic clock.
    pub monotonic: Duration,
    /// By the wall clock.
    pub wall: Timestamp,
}

impl Moment {
    /// Now.
    #[must_use]
    pub fn now(clock: &dyn Clock) -> Self {
        Self { monotonic: clock.monotonic(), wall: clock.wall() }
    }

    /// The time to a later point, by the clock that has moved further: neither a jump of the wall
    /// clock nor a pause of the process makes it too short.
    #[must_use]
    pub fn until(self, later: Self) -> Duration {
        let wall = u64::try_from(later.wall.0.saturating_sub(self.wall.0)).unwrap_or(0);
        later.monotonic.saturating_sub(self.monotonic).max(Duration::from_millis(wall))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_that_has_moved_further_tells_the_time_between() {
        let at = |monotonic_ms, wall_ms| Moment {
            monotonic: Duration::from_millis(monotonic_ms),
            wall: Timestamp(wall_ms),
        };

        for (later, passed_ms) in [(at(9, 1), 9), (at(1, 9), 9), (at(9, -50), 9), (at(0, -1), 0)] {
            assert_eq!(at(0, 0).until(later), Duration::from_millis(passed_ms), "{later:?}");
        }
    }
}
