//! This module names the limits that a load keeps.

use std::time::Duration;

/// The largest JSON document that is read: a bundle, a resource, a line.
pub(super) const MAX_DOCUMENT_BYTES: usize = 128 * 1024 * 1024;

/// How many archives may lie within each other.
pub(super) const MAX_NESTING: usize = 8;

/// Loose resources are sent together, at most so many.
pub(super) const GROUP_RESOURCES: usize = 250;

/// Loose resources are sent together, in at most so many bytes: a command of more than 1 MiB takes
/// the longer way through the log.
pub(super) const GROUP_BYTES: usize = 768 * 1024;

/// What may be read and not yet answered, in KiB.
pub(super) const UNANSWERED_KIB: usize = 192 * 1024;

/// How often what was refused for a missing reference target is tried again.
pub(super) const REPAIR_ROUNDS: u32 = 8;

/// How many failures are kept by name; the others are counted.
pub(super) const NAMED_FAILURES: usize = 1000;

/// How many issues of one refusal are told.
pub(super) const NAMED_ISSUES: usize = 3;

/// How long an answer is waited for, besides a second for every [`BYTES_PER_SECOND`] sent.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// The slowest server that is waited for.
pub(super) const BYTES_PER_SECOND: usize = 256 * 1024;

/// The first pause before a request is sent again; it doubles up to [`LONGEST_PAUSE`].
pub(super) const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// The longest pause before a request is sent again, unless the server asks for a longer one.
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// The longest pause that a server can ask for.
pub(super) const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(30);
