//! This module names the limits of a store.

use std::time::Duration;

/// How long a request is remembered, by the commit times of the region or node that decided it.
pub(crate) const REQUESTS_ARE_REMEMBERED_FOR: Duration = Duration::from_secs(24 * 60 * 60);

/// How many requests one apply forgets at the most, beside those for its change sets.
pub(crate) const FORGOTTEN_PER_APPLY: usize = 8;

/// How many requests one apply forgets for each change set that it takes: more than it adds, so
/// that what is past its time gets less.
pub(crate) const FORGOTTEN_PER_CHANGE: usize = 2;

/// How much of the Raft log is kept in memory once it is synced.
pub(crate) const RECENT_ENTRIES_BYTES: usize = 8 * 1024 * 1024;

/// How much of write-ahead logs may build up before a column family is written into a file. It
/// bounds the time that a start takes.
pub(crate) const MAX_WAL_BYTES: u64 = 64 * 1024 * 1024;

/// How many candidates and postings one search looks at, at the most.
pub const SEARCH_LOOKS: usize = 2_000_000;

/// So many rows of candidates are read at once at first, and so many at the most.
pub(crate) const SEARCH_ROWS_FIRST: usize = 8;
pub(crate) const SEARCH_ROWS_MOST: usize = 64;

/// So many postings of each condition are looked at to see which leads to least.
pub(crate) const SEARCH_PROBE: usize = 32;

/// So many of a condition that would be gone through as a whole, before one that leads to many is begun with.
pub(crate) const SEARCH_PROBE_LONGER: usize = 256;

/// So many postings are read at once at first, and eight times as many at the most.
pub(crate) const SEARCH_AT_ONCE: usize = 8;

/// So many candidates are read before they are looked for in the postings of other conditions.
pub(crate) const SEARCH_UNFILTERED: usize = 64;

/// So often the postings of a condition are asked for a candidate before it is judged whether that pays.
pub(crate) const SEARCH_FILTERS: usize = 32;

/// So many resources that others refer to are looked up first, to begin with them.
pub(crate) const SEARCH_CHAINED: usize = 1_000;

/// In so many systems, at the most, a code without a system is gone through system by system.
pub(crate) const SEARCH_SPLIT: usize = 8;

/// So many codes of a value set are gone through one by one; beyond, all resources are.
pub(crate) const SEARCH_CODES: usize = 200;

/// So many resources that refer to others are looked up first, to see to which.
pub(crate) const SEARCH_REFERRING: usize = 50_000;

/// So many resources are the newest of their groups in one answer.
pub(crate) const SEARCH_NEWEST: usize = 1_000;

/// Rows of other resources that one search remembers.
pub(crate) const SEARCH_ROWS_KEPT: usize = 20_000;

/// Resources that come along with the matches of one page.
pub(crate) const SEARCH_INCLUDED: usize = 1_000;

/// So many versions are looked at for one list of arrivals.
pub(crate) const ARRIVAL_LOOKS: usize = 200_000;

/// So many resources are indexed again before whoever applies has its turn.
pub(crate) const REINDEXED_AT_ONCE: usize = 100;
