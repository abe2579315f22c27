//! This module names the limits of a store.

use std::time::Duration;

/// How long a request is remembered, by the commit times of the region or node that decided it.
pub(crate) const REQUESTS_ARE_REMEMBERED_FOR: Duration = Duration::from_secs(24 * 60 * 60);

/// How many requests one apply forgets at the most, beside those for its change sets.
pub(crate) const FORGOTTEN_PER_APPLY: usize = 8;

/// How many requests one apply forgets for each change set that it takes: more than it adds, so
/// that what is past its time gets less.
pub(crate) const FORGOTTEN_PER_CHANGE: usize = 2;

/// The longest text of an identifier that is kept whole in its key.
pub(crate) const MAX_TEXT_BYTES: usize = 256;

/// How much of the Raft log is kept in memory once it is synced.
pub(crate) const RECENT_ENTRIES_BYTES: usize = 8 * 1024 * 1024;

/// How much of write-ahead logs may build up before a column family is written into a file. It
/// bounds the time that a start takes.
pub(crate) const MAX_WAL_BYTES: u64 = 64 * 1024 * 1024;
