//! This module names the limits of the crate, all in one place.

use std::time::Duration;

/// What a user may set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How far a clock may be from its peers' before it is an alarm.
    pub clock_max_offset: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { clock_max_offset: Duration::from_millis(500) }
    }
}

/// How long the answer to an exchange may wait for news.
pub(crate) const EXCHANGE_WAIT: Duration = Duration::from_millis(500);
/// An exchange that is not answered within this time has failed.
pub(crate) const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(2);
/// Between two exchanges with a peer of the same region, and with another.
pub(crate) const EXCHANGE_PAUSE: Duration = Duration::from_millis(60);
pub(crate) const EXCHANGE_PAUSE_WIDE: Duration = Duration::from_millis(150);
/// After a failed exchange; up to twice that is added at random.
pub(crate) const EXCHANGE_RETRY: Duration = Duration::from_millis(300);
/// With so many nodes of each other region horizons are exchanged.
pub(crate) const NEIGHBOURS: usize = 3;
/// A peer that has not been heard of for this long is not reachable.
pub(crate) const SILENCE: Duration = Duration::from_millis(2_500);

/// Canonical bytes in a chunk; one change set comes, however big.
pub(crate) const CHUNK_BYTES: usize = 1 << 20;
/// The longest chunk: the greatest change set, and its length.
pub(crate) const CHUNK_BYTES_MAX: usize = chartmesh_wire::MAX_CHANGE_SET_BYTES + 16;
/// The longest message.
pub(crate) const MESSAGE_BYTES: usize = CHUNK_BYTES_MAX + (1 << 16);
/// The compression of a feed on its way.
pub(crate) const PULL_LEVEL: i32 = 3;
/// How long the answer to a pull may wait for a change.
pub(crate) const PULL_WAIT: Duration = Duration::from_secs(2);
/// A pull without an answer for this much longer has stalled.
pub(crate) const PULL_STALLED: Duration = Duration::from_secs(3);
/// A live pull asks again after this time: small changes come together and compress better.
pub(crate) const PULL_PAUSE: Duration = Duration::from_millis(5);
pub(crate) const PULL_PAUSE_WIDE: Duration = Duration::from_millis(40);
/// Feeds that are pulled at one time.
pub(crate) const PULLS: usize = 64;
/// Pulls that are served at one time.
pub(crate) const PULLS_SERVED: usize = 512;
/// A region's other nodes give its gateway this long.
pub(crate) const GATEWAY_PATIENCE: Duration = Duration::from_secs(1);
/// A pull that brings nothing for this long while others have more is given up.
pub(crate) const NO_PROGRESS: Duration = Duration::from_secs(2);
/// A peer that gave what cannot be taken is not asked for that feed for so long.
pub(crate) const AVOIDED_FOR: Duration = Duration::from_secs(20);
/// How often it is looked at whom to follow, if nothing else gives reason to.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(200);
/// What was taken in is synced this often.
pub(crate) const SYNC_EVERY: Duration = Duration::from_millis(500);
/// How fresh things are is noted down this often.
pub(crate) const NOTE_EVERY: Duration = Duration::from_secs(5);
/// Statements of one region that wait for the changes they are about.
pub(crate) const CANDIDATES: usize = 16;
/// A feed that is known further than held for this long is an alarm.
pub(crate) const BEHIND_ALARM: Duration = Duration::from_secs(60);
