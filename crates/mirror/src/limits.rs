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
pub(crate) const EXCHANGE_PAUSE_WIDE: Duration = Duration::from_millis(500);
/// After a failed exchange; up to twice that is added at random.
pub(crate) const EXCHANGE_RETRY: Duration = Duration::from_millis(300);
/// With so many nodes of each other region horizons are exchanged.
pub(crate) const NEIGHBOURS: usize = 2;
/// A peer that has not been heard of for this long is not reachable.
pub(crate) const SILENCE: Duration = Duration::from_secs(2);
/// Between two looks at all that this node holds, to see what is new.
pub(crate) const NEWS_PAUSE: Duration = Duration::from_millis(20);
/// Feeds that one peer may tell of.
pub(crate) const FEEDS_TOLD: usize = 100_000;
/// Exchanges that one peer may have open at one time.
pub(crate) const EXCHANGES_SERVED_PER_PEER: usize = 8;

/// Canonical bytes in a chunk; one change set comes, however big.
pub(crate) const CHUNK_BYTES: usize = 1 << 20;
/// The longest chunk: the greatest change set, and its length.
pub(crate) const CHUNK_BYTES_MAX: usize = chartmesh_wire::MAX_CHANGE_SET_BYTES + 16;
/// Compressed bytes in one message: progress shows while a long chunk is on its way.
pub(crate) const PIECE_BYTES: usize = 256 << 10;
/// The longest message: a report of all feeds that may be told of.
pub(crate) const MESSAGE_BYTES: usize = 16 << 20;
/// The compression of a feed on its way, within a region and beyond it, and the power of two of how
/// far back it looks: as much memory does a call cost at both ends.
pub(crate) const PULL_LEVEL: i32 = 1;
pub(crate) const PULL_LEVEL_WIDE: i32 = 3;
pub(crate) const PULL_WINDOW: u32 = 17;
pub(crate) const PULL_WINDOW_WIDE: u32 = 20;
/// How long the answer to a pull may wait for a change.
pub(crate) const PULL_WAIT: Duration = Duration::from_secs(2);
/// A pull without an answer for this much longer has stalled.
pub(crate) const PULL_STALLED: Duration = Duration::from_secs(3);
/// Whoever neither asks nor takes for this long has gone.
pub(crate) const GIVE_STALLED: Duration = Duration::from_secs(30);
/// A live pull asks again after this time: small changes come together and compress better.
pub(crate) const PULL_PAUSE: Duration = Duration::from_millis(5);
pub(crate) const PULL_PAUSE_WIDE: Duration = Duration::from_millis(120);
/// A feed that has rested for so many answers is begun again when it goes on: thousands of them rest.
pub(crate) const PULL_RESTS: u32 = 5;
/// Feeds that are pulled at one time.
pub(crate) const PULLS: usize = 64;
/// Chunks that are taken in at one time: the store takes one after the other.
pub(crate) const CHUNKS_TAKEN: usize = 2;
/// Pulls that are served at one time, to one peer and to all.
pub(crate) const PULLS_SERVED_PER_PEER: usize = PULLS + 8;
pub(crate) const PULLS_SERVED: usize = 512;
/// A region's other nodes give its gateway this long.
pub(crate) const GATEWAY_PATIENCE: Duration = Duration::from_secs(1);
/// A pull that brings nothing for this long while another peer has more is given up, and sooner if
/// somebody waits for it.
pub(crate) const NO_PROGRESS: Duration = Duration::from_secs(2);
pub(crate) const NO_PROGRESS_URGENT: Duration = Duration::from_millis(500);
/// For so long a peer is not asked for a feed when the call broke, when it brought nothing, and when
/// it gave what cannot be taken.
pub(crate) const LOST_FOR: Duration = Duration::from_millis(500);
pub(crate) const STALLED_FOR: Duration = Duration::from_secs(4);
pub(crate) const REFUSED_FOR: Duration = Duration::from_secs(20);
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
