//! This module names the limits of what is decoded.

/// The longest change set, in canonical bytes.
pub const MAX_CHANGE_SET_BYTES: usize = 64 * 1024 * 1024;

/// The longest command, in encoded bytes: a change set's content and what is asked about it.
pub const MAX_COMMAND_BYTES: usize = 128 * 1024 * 1024;
