//! This module names the limits of the crate, all in one place.

/// Conditions in one query.
pub const CONDITIONS: usize = 64;
/// Alternatives of one condition.
pub const VALUES: usize = 1_000;
/// Keys that results are sorted by.
pub const SORT_KEYS: usize = 8;
/// References that one condition follows, either way.
pub const CHAIN_DEPTH: usize = 8;
/// Codes of a value set that is searched by.
pub const VALUE_SET_CODES: usize = 5_000;
/// Parameters that SearchParameter resources add.
pub const ADDED_PARAMETERS: usize = 2_000;
/// The longest expression of one, in bytes.
pub const EXPRESSION_BYTES: usize = 4_096;
