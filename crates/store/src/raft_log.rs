//! This module keeps what a region's Raft group has promised and proposed.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use chartmesh_record::RegionName;

use crate::error::{LogError, OpenError};
use crate::memory::Memory;

/// The place of an entry in the Raft log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogId {
    /// The term in which it was proposed.
    pub term: u64,
    /// The Raft id of the leader that proposed it.
    pub leader: u64,
    /// Its index.
    pub index: u64,
}

/// Who syncs what is queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Syncer {
    /// A thread, as soon as anything is queued.
    Thread,
    /// The caller, with [`RaftLog::sync_pending`]: for simulation, where what is queued when the
    /// log is dropped is lost. A vote, a truncation or a purge syncs everything queued at once.
    Caller,
}

/// What is called once a write is on the disk, or has failed.
pub type Done = Box<dyn FnOnce(Result<(), LogError>) + Send>;

/// Who this disk is to its Raft group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The Raft id, drawn at the first start.
    pub raft_id: u64,
    /// The region whose group it belongs to.
    pub region: RegionName,
    /// Whether it has belonged to a group.
    pub founded: bool,
}

/// The Raft log of one node. Clones are handles to the same.
#[derive(Clone, Debug)]
pub struct RaftLog {
    #[expect(dead_code, reason = "a place to stand")]
    inner: Arc<()>,
}

impl RaftLog {
    /// Opens the log in `dir/log`, or makes a new one there.
    ///
    /// # Errors
    /// When it is damaged, in use, or of a newer format, or the disk refuses.
    pub fn open(dir: &Path, syncer: Syncer, memory: &Memory) -> Result<Self, OpenError> {
        let _ = (dir, syncer, memory);
        unimplemented!()
    }

    /// Queues entries. They can be read at once; `done` is called when they are synced, after those
    /// queued before.
    pub fn append(&self, entries: Vec<(LogId, Bytes)>, done: Done) {
        let _ = (entries, done);
        unimplemented!()
    }

    /// Forgets all entries after `last`; all if it is `None`.
    pub fn truncate_after(&self, last: Option<LogId>, done: Done) {
        let _ = (last, done);
        unimplemented!()
    }

    /// Forgets all entries up to `upto`, included.
    pub fn purge(&self, upto: LogId, done: Done) {
        let _ = (upto, done);
        unimplemented!()
    }

    /// Keeps a vote.
    pub fn save_vote(&self, vote: Bytes, done: Done) {
        let _ = (vote, done);
        unimplemented!()
    }

    /// The last vote given to [`Self::save_vote`].
    #[must_use]
    pub fn vote(&self) -> Option<Bytes> {
        unimplemented!()
    }

    /// Notes up to where entries are committed. It is written with the next sync.
    pub fn save_committed(&self, committed: Option<LogId>) {
        let _ = committed;
        unimplemented!()
    }

    /// Up to where entries are known to be committed.
    #[must_use]
    pub fn committed(&self) -> Option<LogId> {
        unimplemented!()
    }

    /// The entries of a range of indexes that are held, in order, queued ones included.
    ///
    /// # Errors
    /// When the disk does not hold what it should.
    pub fn read(&self, range: Range<u64>) -> Result<Vec<(LogId, Bytes)>, LogError> {
        let _ = range;
        unimplemented!()
    }

    /// The last entry, queued ones included; if all were purged, the last of those.
    #[must_use]
    pub fn last(&self) -> Option<LogId> {
        unimplemented!()
    }

    /// The last entry that was purged.
    #[must_use]
    pub fn purged(&self) -> Option<LogId> {
        unimplemented!()
    }

    /// Who this disk is; `None` if it is new.
    #[must_use]
    pub fn identity(&self) -> Option<Identity> {
        unimplemented!()
    }

    /// Keeps who this disk is, synced when it returns.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn set_identity(&self, identity: &Identity) -> Result<(), LogError> {
        let _ = identity;
        unimplemented!()
    }

    /// Writes and syncs what is queued: for [`Syncer::Caller`].
    pub fn sync_pending(&self) {
        unimplemented!()
    }

    /// How many times the disk was synced since the log was opened.
    #[must_use]
    pub fn syncs(&self) -> u64 {
        unimplemented!()
    }
}
