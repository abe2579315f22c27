//! This module names every limit of this crate.

use std::time::Duration;

/// Connections of other nodes at one time, unless it is set otherwise.
pub(crate) const MESH_CONNECTIONS: usize = 1_024;

/// Connections of clients at one time, unless it is set otherwise.
pub(crate) const FHIR_CONNECTIONS: usize = 4_096;

/// Connections of one client address at one time, unless it is set otherwise.
pub(crate) const FHIR_CONNECTIONS_OF_ONE: usize = 512;

/// How often it is looked whether a place is free for a connection that waits.
pub(crate) const PLACES_EVERY: Duration = Duration::from_millis(100);

/// For so long a connection may have nothing under way and is still not asked for its place.
pub(crate) const IDLE_BEFORE_LEAVING: Duration = Duration::from_millis(250);

/// How long a connection that gives its place away may take to end what it has just begun.
pub(crate) const LEAVE_PLACE_WITHIN: Duration = Duration::from_millis(500);

/// How long a client may leave unread what it is sent.
pub(crate) const READ_WITHIN: Duration = Duration::from_secs(30);

/// For how long a node that stops goes on with what is in flight, unless it is set otherwise.
pub(crate) const FINISH_WITHIN: Duration = Duration::from_secs(10);

/// How long a connection may take to show who is at its other end.
pub(crate) const HANDSHAKE_WITHIN: Duration = Duration::from_secs(5);

/// How long a connection to another node may take to stand, its handshake included.
pub(crate) const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// After so long a connection between nodes is replaced, so that a certificate is looked at again.
pub(crate) const CONNECTION_AGE: Duration = Duration::from_secs(3_600);

/// How long calls that were under way go on over a connection that is being replaced.
pub(crate) const CONNECTION_GRACE: Duration = Duration::from_secs(60);

/// How often the files of certificates are looked at.
pub(crate) const CERTIFICATES_EVERY: Duration = Duration::from_secs(3);

/// A certificate that ends sooner than thirty days, in milliseconds, is an alarm.
pub(crate) const CERTIFICATE_ENDS_SOON_MS: i64 = 30 * 86_400_000;

/// The largest file of certificates that is read.
pub(crate) const CERTIFICATE_FILE_BYTES: u64 = 1 << 20;

/// How long a client may take to send the headers of its next request.
pub(crate) const HEADERS_WITHIN: Duration = Duration::from_secs(60);

/// How many requests one HTTP/2 connection carries at one time.
pub(crate) const STREAMS_PER_CONNECTION: u32 = 1_024;

/// What one stream may have under way: 8 MiB over a round trip of 200 ms are 40 MiB/s.
pub(crate) const STREAM_WINDOW_BYTES: u32 = 8 << 20;

/// What one connection may have under way.
pub(crate) const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;

/// How often a connection between nodes is asked whether it still stands.
pub(crate) const PING_EVERY: Duration = Duration::from_millis(300);

/// How long the answer to that may take before the connection counts as lost.
pub(crate) const PONG_WITHIN: Duration = Duration::from_secs(1);

/// After a listener fails (no file handles left, say) it waits so long before it goes on.
pub(crate) const LISTEN_AGAIN_AFTER: Duration = Duration::from_millis(100);

/// What all databases of a node keep in memory of what they have read.
pub(crate) const CACHE_BYTES: usize = 96 << 20;

/// What all databases of a node keep in memory of what is not yet in files.
pub(crate) const WRITE_BYTES: usize = 48 << 20;

/// How often recorded times are sorted into their buckets.
pub(crate) const UPKEEP_EVERY: Duration = Duration::from_secs(5);

/// How long connections of other nodes may take to end when this one stops.
pub(crate) const LEAVE_WITHIN: Duration = Duration::from_millis(200);

/// A write waits so much longer than it takes a node to isolate itself.
pub(crate) const PATIENCE_BEYOND_ISOLATION: Duration = Duration::from_millis(1_500);

/// Between a change of search parameters and the pass that indexes resources by them.
pub(crate) const REINDEX_AFTER: Duration = Duration::from_millis(500);
