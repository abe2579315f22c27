//! One node's state on one disk: apply, read, feeds, and the Raft log.
//!
//! This crate is the only one that knows RocksDB. A [`Store`] holds the versions of all resources
//! once, by their place in their origin's feed, with what is needed to find them; [`Store::apply`]
//! is the only way in. A [`RaftLog`] is a second database with what the region's Raft group has
//! promised and proposed. Both take their memory from one [`Memory`].
//!
//! Called by `region`, which writes, and by `rest` and `node`, which read. It knows neither peers
//! nor Raft's rules, and it takes neither time nor randomness from anywhere.

mod apply;
mod arrivals;
mod blocking;
mod checkpoint;
mod codec;
mod conflicts;
mod counts;
mod digest;
mod duplicates;
mod error;
mod feed;
mod held_back;
mod index;
mod keys;
mod limits;
mod memory;
mod origins;
mod raft_log;
mod read;
mod reader;
mod reindex;
mod search;
mod snapshot;
mod space;
mod store;
mod tables;
mod verify;
mod wal;
mod writing;

pub use apply::{Applied, Apply, Run, RunOutcome};
pub use arrivals::{Arrival, Arrivals, ArrivalsError, InvalidArrivalPlace, Wanted};
pub use blocking::Blocking;
pub use conflicts::{
    Conflict, ConflictHead, ConflictKey, ConflictKind, ConflictScope, InvalidConflictKey, Made,
};
pub use counts::{Count, Counts};
pub use digest::StateDigest;
pub use error::{ApplyError, Corrupt, DiskError, FeedError, LogError, OpenError};
pub use keys::{ArrivalPlace, Note};
pub use limits::SEARCH_LOOKS;
pub use memory::Memory;
pub use raft_log::{Done, Identity, LogId, RaftLog, Syncer};
pub use read::{Current, StoredVersion};
pub use reindex::{ReindexError, Reindexed};
pub use search::{Found, Match, Newest, Part, Search, SearchError, Shelf};
pub use snapshot::Snapshot;
pub use store::{Options, Standing, Store};
pub use verify::{Difference, Report};
