//! This module names every limit of the FHIR interface; those of what is sent are `record`'s.

use std::time::Duration;

use chartmesh_record::limits::MAX_JSON_BYTES;

/// What one node takes at most. The defaults suit a node with two cores and 2 GiB of memory.
#[derive(Clone, Debug)]
pub struct Limits {
    /// The longest request body, in bytes (413).
    pub body_bytes: usize,
    /// The most requests under way at once (503).
    pub in_flight: usize,
    /// The most bodies over [`Self::BIG_BODY_BYTES`] held at once; further ones wait.
    pub big_bodies: usize,
    /// How long a body may make no progress (408).
    pub body_stall: Duration,
    /// How long a request may take in all, its body included (503).
    pub request_time: Duration,
    /// Below this much free space on the disk writes are refused (507), in bytes.
    pub disk_reserve_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes: MAX_JSON_BYTES,
            in_flight: 1024,
            big_bodies: 4,
            body_stall: Duration::from_secs(30),
            request_time: Duration::from_secs(600),
            disk_reserve_bytes: 256 << 20,
        }
    }
}

impl Limits {
    /// The largest head of a request, in bytes; for whoever reads heads off the connection (431).
    pub const HEAD_BYTES: usize = 64 << 10;
    /// The longest path with its query, in bytes (414).
    pub const TARGET_BYTES: usize = 8 << 10;
    /// The longest body of a search, in bytes (414).
    pub const FORM_BYTES: usize = 256 << 10;
    /// The longest `X-Request-Id` that is said back, in bytes.
    pub const REQUEST_ID_BYTES: usize = 255;
    /// Answers of at least so many bytes are compressed, if the client takes that.
    pub const COMPRESSED_BYTES: u16 = 1024;
    /// The longest `Idempotency-Key`, in bytes.
    pub const IDEMPOTENCY_KEY_BYTES: usize = 255;
    /// From this size on a body waits for one of the places for big ones, in bytes.
    pub const BIG_BODY_BYTES: usize = 1 << 20;
    /// From this size on a body is parsed beside the threads that serve connections, in bytes.
    pub const PARSE_INLINE_BYTES: usize = 256 << 10;
    /// The entries of a page where `_count` is absent.
    pub const PAGE_ENTRIES: usize = 50;
    /// The most entries of a page, whatever `_count` says.
    pub const PAGE_ENTRIES_MAX: usize = 1000;
    /// A search that looks at no more entries than this is answered where it is understood; others run
    /// beside the threads that serve connections.
    pub const BRIEF_LOOKS: usize = 400;
    /// So often a patch is applied to what the node holds, if the region goes on meanwhile; between two
    /// attempts the node waits the pause, then twice, three times as long.
    pub const PATCH_ATTEMPTS: u32 = 10;
    /// See [`Self::PATCH_ATTEMPTS`].
    pub const PATCH_PAUSE: Duration = Duration::from_millis(20);
    /// The most entries of one batch under way at once.
    pub const BATCH_PARALLEL: usize = 32;
    /// How long the free space of the disk is taken as known.
    pub const FREE_SPACE_KEPT: Duration = Duration::from_secs(1);
    /// The most entries of `Chartmesh-As-Of`.
    pub const AS_OF_ENTRIES: usize = 32;
    /// How long the headers about freshness are taken as known; ages are rounded up by it.
    pub const FRESHNESS_KEPT: Duration = Duration::from_millis(20);
}
