//! This module names every limit of the links.

use std::time::Duration;

/// What is read at one time, at the most.
pub(crate) const CHUNK_BYTES: usize = 64 * 1024;

/// A buffer with less room than this is replaced by a new one before the next reading.
pub(crate) const ROOM_TO_READ_BYTES: usize = 8 * 1024;

/// What waits in one direction of one connection, at the most: enough for 50 MB/s over 300 ms.
pub(crate) const QUEUE_BYTES: usize = 16 * 1024 * 1024;

/// The chunks that wait in one direction of one connection, however small they are.
pub(crate) const QUEUE_CHUNKS: usize = 8_192;

/// Where there is a rate, bytes are passed on in pieces that take so long.
pub(crate) const PIECE: Duration = Duration::from_millis(10);

/// The smallest such piece.
pub(crate) const PIECE_BYTES_MIN: u64 = 512;

/// For so long a direction that had nothing to pass on may make up for it: timers are late by a
/// millisecond or two, which must not make it slower than it was asked to be.
pub(crate) const CREDIT: Duration = Duration::from_millis(10);

/// The connections of one link at one time. The next one waits to be accepted.
pub(crate) const CONNECTIONS: usize = 256;

/// Connections that wait to be accepted.
pub(crate) const BACKLOG: i32 = 128;

/// After an error a link listens again after this time.
pub(crate) const LISTEN_AGAIN_AFTER: Duration = Duration::from_millis(50);

/// The round trips of which the best is taken.
pub(crate) const PROBES: usize = 5;

/// How much longer than asked for a round trip may take: a tenth, and what timers and a busy machine add.
pub(crate) const ROUND_TRIP_SLACK: Duration = Duration::from_millis(5);

/// How much longer than all its round trips a measurement may take.
pub(crate) const PROBE_PATIENCE: Duration = Duration::from_secs(5);

/// The open files that a mesh of links may need. Many systems give a process a thousand only.
pub(crate) const OPEN_FILES: u64 = 65_536;
