//! This module names every limit on what is taken in.

/// The longest JSON text, in bytes: a bundle's.
pub const MAX_JSON_BYTES: usize = 100 * 1024 * 1024;

/// The most values of one JSON text, names aside: each takes memory while it is read.
pub const MAX_JSON_VALUES: usize = 8_000_000;

/// How deep objects and arrays may be nested.
pub const MAX_JSON_DEPTH: usize = 64;

/// The longest name of a member of a JSON object, in bytes as it stands.
pub const MAX_NAME_BYTES: usize = 1024;

/// The most members of one JSON object.
pub const MAX_MEMBERS: usize = 256;

/// The longest string, in bytes (FHIR R4, datatypes, string).
pub const MAX_STRING_BYTES: usize = 1024 * 1024;

/// The most operations of one patch.
pub const MAX_PATCH_OPERATIONS: usize = 1_000;

/// How much the operations of one patch may copy within a resource, in bytes.
pub const MAX_PATCH_COPIED_BYTES: usize = 8 * 1024 * 1024;

/// The longest path of an operation of a patch, in bytes.
pub const MAX_PATH_BYTES: usize = 1_024;

/// How deep conditions may be nested in such a path.
pub const MAX_PATH_DEPTH: usize = 16;

/// How many problems of one input are told.
pub const MAX_PROBLEMS: usize = 20;

/// The most entries of a batch or transaction.
pub const MAX_BUNDLE_ENTRIES: usize = 50_000;

/// The most ETags of one condition.
pub const MAX_ENTITY_TAGS: usize = 64;

/// The largest change set, as [`ChangeSet::size_bytes`](crate::ChangeSet::size_bytes) counts.
pub const MAX_CHANGE_SET_BYTES: usize = 64 * 1024 * 1024;
