//! This module says what can go wrong, sorted by what can be done about it.

use std::path::PathBuf;

use chartmesh_record::{Cursor, Origin, Seq};

/// What is on the disk is not what was written: stop, and fill the node from its peers.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the data in {} is damaged: {what}; stop the node, move that directory away, and start it \
     again: it fills itself from its peers", dir.display()
)]
pub struct Corrupt {
    /// The database.
    pub dir: PathBuf,
    /// What is wrong, with the file where it is known.
    pub what: String,
}

/// The disk refused a write: it may be full.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot write to {}: {reason}", dir.display())]
pub struct DiskError {
    /// The database.
    pub dir: PathBuf,
    /// What the disk said.
    pub reason: String,
}

/// Why a database cannot be opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// It is damaged.
    #[error(transparent)]
    Corrupt(#[from] Corrupt),
    /// Another process has it open.
    #[error("{} is in use by another process: stop that one, or choose another directory", dir.display())]
    InUse {
        /// The database.
        dir: PathBuf,
    },
    /// It was written by a newer software version.
    #[error(
        "{} was written in format {format}, this software knows up to {known}: start the newer \
         software again", dir.display()
    )]
    NewerFormat {
        /// The database.
        dir: PathBuf,
        /// The format found.
        format: u32,
        /// The newest format known.
        known: u32,
    },
    /// The directory cannot be read or written.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

/// Why a change cannot be applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// What is held cannot be read.
    #[error(transparent)]
    Corrupt(#[from] Corrupt),
    /// The batch cannot be written. Nothing of it was.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

/// Why a feed cannot be read from a place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FeedError {
    /// What is held cannot be read.
    #[error(transparent)]
    Corrupt(#[from] Corrupt),
    /// The place was reached over other bytes than those held.
    #[error("the feed of {} is forked at {}: {} is held there", held.origin, held.seq, held.hash)]
    Forked {
        /// What is held at that place.
        held: Cursor,
    },
    /// What follows there was passed over.
    #[error("change set {seq} of {origin} is lost here")]
    Lost {
        /// Whose.
        origin: Origin,
        /// Which.
        seq: Seq,
    },
}

/// Why the Raft log cannot be read or written. After a failed write it stays failed: what the disk
/// holds is not known then, and the process must end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// What is held cannot be read.
    #[error(transparent)]
    Corrupt(#[from] Corrupt),
    /// A write failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// Entries that do not follow on the last one.
    #[error("entry {given} does not follow on entry {last}")]
    Gap {
        /// The last index held.
        last: u64,
        /// The index given.
        given: u64,
    },
    /// The log was closed before it was written.
    #[error("the log is closed")]
    Closed,
}
