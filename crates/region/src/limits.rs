//! This module names the limits of the crate, all in one place.

use std::time::Duration;

/// What a user may set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How long a write waits for its decision before it is answered "unavailable".
    pub patience: Duration,
    /// The same for a command that goes through the log in parts.
    pub patience_big: Duration,
    /// How long a node waits for its own store to hold what the leader has decided. A big change
    /// takes longer to apply than a small write should wait for.
    pub apply_wait: Duration,
    /// How many commands may wait for the leader.
    pub queue_commands: usize,
    /// How many bytes they may take.
    pub queue_bytes: usize,
    /// How long a node goes on as a member of its region without a confirmed quorum answer.
    pub isolation_after: Duration,
    /// What an isolated node does with writes.
    pub isolation_writes: IsolationWrites,
    /// How much of the Raft log is kept on the disk, at the most twice this: a voter that was away
    /// for longer goes on from the feeds.
    pub log_bytes: u64,
}

/// What an isolated node does with writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IsolationWrites {
    /// It takes them into a journal of its own.
    Journal,
    /// It refuses them for now.
    Refuse,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // A write that waits when the node isolates itself is journaled, not refused.
            patience: Duration::from_millis(6_500),
            patience_big: Duration::from_secs(60),
            apply_wait: Duration::from_millis(500),
            queue_commands: 4_096,
            queue_bytes: 256 << 20,
            isolation_after: Duration::from_secs(5),
            isolation_writes: IsolationWrites::Journal,
            log_bytes: 512 << 20,
        }
    }
}

/// A batch is closed at this size, and a command above it goes through the log in parts.
pub(crate) const BATCH_BYTES: usize = 1 << 20;
/// A piece of a command, compressed.
pub(crate) const PIECE_BYTES: usize = 1 << 20;
/// The compression of pieces: fast; the log is read by few.
pub(crate) const PIECE_LEVEL: i32 = 1;
/// A message between voters: entries up to this, and one entry however big.
pub(crate) const APPEND_BYTES: usize = 2 << 20;
/// The longest message: one entry may be longer than a batch, above all the decision on a command of
/// tens of thousands of operations.
pub(crate) const MESSAGE_BYTES: usize = 32 << 20;
/// Entries that are applied in one go, at the most.
pub(crate) const APPLY_BYTES: usize = 4 << 20;
/// How many big commands a voter keeps prepared.
pub(crate) const PREPARED: usize = 2;
/// An idle leader says this often that nothing was decided.
pub(crate) const STATEMENT_EVERY: Duration = Duration::from_secs(1);
/// A node asks this often how fresh the region's feed is.
pub(crate) const ASK_EVERY: Duration = Duration::from_millis(500);
/// An isolated node returns after so many confirmed answers in a row.
pub(crate) const CONFIRMATIONS: u32 = 3;
/// How long an isolated node waits for copies of a write at its site.
pub(crate) const COPIES_WAIT: Duration = Duration::from_millis(300);
/// How long a leader waits for what the node that passes a command on is ahead by.
pub(crate) const AHEAD_WAIT: Duration = Duration::from_secs(1);
/// How long an isolated node that tries to return keeps new writes back.
pub(crate) const RETURN_WAIT: Duration = Duration::from_secs(1);
/// How long a leader may take to say up to where a linearizable read must wait.
pub(crate) const LINEARIZE_WAIT: Duration = Duration::from_secs(1);
/// A leader whose clock is off hands over at the most this often.
pub(crate) const CLOCK_PAUSE: Duration = Duration::from_secs(60);
/// How long a new leader waits for what the last statement names.
pub(crate) const NAMED_WAIT: Duration = Duration::from_millis(500);
/// How long a new leader waits to hear whether a majority remembers the region's origin.
pub(crate) const WARM_WAIT: Duration = Duration::from_millis(300);
/// A node that belongs to no group asks the others this often.
pub(crate) const HELLO_EVERY: Duration = Duration::from_millis(250);
/// How long a voter waits for the feeds that a snapshot names before it asks for a moment more.
pub(crate) const FEED_WAIT: Duration = Duration::from_secs(2);
/// How long a leader waits for a voter to take a snapshot in.
pub(crate) const SNAPSHOT_WAIT: Duration = Duration::from_secs(10);
/// How long whoever changes the voters waits for it.
pub(crate) const JOIN_WAIT: Duration = Duration::from_secs(5);
/// It is looked this often whether the log has become too long.
pub(crate) const PURGE_EVERY: Duration = Duration::from_secs(5);
/// So many entries are kept at the least.
pub(crate) const PURGE_KEEPS: u64 = 1_000;
/// A client is asked to wait this long before it tries again.
pub(crate) const RETRY_AFTER: Duration = Duration::from_secs(1);
/// Between two attempts to reach a leader.
pub(crate) const RETRY_PAUSE: Duration = Duration::from_millis(20);
/// How long a drain may take.
pub(crate) const DRAIN: Duration = Duration::from_millis(1_100);
