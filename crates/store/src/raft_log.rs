//! This module keeps what a region's Raft group has promised and proposed.
//!
//! ```text
//! append, truncate, purge, vote -> queue -> one batch, one sync -> their `done`, in order
//!                               \-> recent entries, in memory: read at once
//! ```
//! Whatever waits while the disk syncs is written together next. Nothing is called done before it
//! is on the disk; after a failed write everything fails, because what the disk holds is not known.
//!
//! The queue is bounded by what Raft lets be under way: it waits for `done` before it goes on.

mod recent;
mod rows;

use std::fmt;
use std::mem;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};

use bytes::Bytes;
use chartmesh_record::{RegionName, mutant};
use rocksdb::{DBCompressionType, WriteBatch};

use crate::error::{DiskError, LogError, OpenError};
use crate::memory::Memory;
use crate::tables::{DamagedWal, Layout, Tables};
use recent::Recent;
use rows::{ENTRIES, Row};

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

/// The Raft log of one node. Clones are handles to the same; the last one closes it, once what is
/// queued is synced if a thread does that.
#[derive(Clone, Debug)]
pub struct RaftLog {
    handle: Arc<Handle>,
}

#[derive(Debug)]
struct Handle {
    log: Arc<Log>,
    syncer: Option<JoinHandle<()>>,
}

struct Log {
    tables: Tables,
    state: Mutex<State>,
    /// Told when something is queued, or the log is to be closed.
    queued: Condvar,
    /// Held while a batch is written, so that batches are written in the order of the queue.
    turn: Mutex<()>,
    syncs: AtomicU64,
}

/// What the log is, with all that is queued.
#[derive(Default)]
struct State {
    queue: Vec<Operation>,
    next_ticket: u64,
    recent: Recent,
    /// The index of the first entry, where there is any.
    first: u64,
    last: Option<LogId>,
    purged: Option<LogId>,
    vote: Option<Bytes>,
    committed: Option<LogId>,
    /// Whether `committed` is to be written.
    committed_is_new: bool,
    identity: Option<Identity>,
    failed: Option<LogError>,
    closing: bool,
}

struct Operation {
    /// Counted from 0 in the order of the queue.
    ticket: u64,
    change: Change,
    done: Done,
}

enum Change {
    Append(Vec<(LogId, Bytes)>),
    TruncateAfter(Option<LogId>),
    Purge(LogId),
    Vote(Bytes),
    /// Somebody waits for what is queued before.
    Nothing,
}

const LAYOUTS: [Layout; 2] = [
    Layout {
        name: "default",
        block_bytes: 4096,
        compression: DBCompressionType::Lz4,
        dictionary_bytes: 0,
        sought: false,
    },
    Layout {
        name: ENTRIES,
        block_bytes: 64 * 1024,
        compression: DBCompressionType::Zstd,
        dictionary_bytes: 0,
        sought: false,
    },
];

impl RaftLog {
    /// Opens the log in `dir/log`, or makes a new one there.
    ///
    /// # Errors
    /// When it is damaged, in use, or of a newer format, or the disk refuses.
    pub fn open(dir: &Path, syncer: Syncer, memory: &Memory) -> Result<Self, OpenError> {
        let tables = Tables::open(&dir.join("log"), &LAYOUTS, memory, DamagedWal::Refuse)?;
        let state = Mutex::new(rows::load(&tables)?);
        let (queued, turn, syncs) = (Condvar::new(), Mutex::new(()), AtomicU64::new(0));
        let log = Arc::new(Log { tables, state, queued, turn, syncs });
        let syncer = match syncer {
            Syncer::Caller => None,
            Syncer::Thread => {
                let log = Arc::clone(&log);
                let thread = thread::Builder::new().name("raft-log".to_owned());
                Some(thread.spawn(move || log.keep_syncing()).map_err(|error| {
                    let dir = dir.join("log");
                    DiskError { dir, reason: error.to_string() }
                })?)
            }
        };
        Ok(Self { handle: Arc::new(Handle { log, syncer }) })
    }

    /// Queues entries. They can be read at once; `done` is called when they are synced, after those
    /// queued before.
    pub fn append(&self, entries: Vec<(LogId, Bytes)>, done: Done) {
        let mut state = self.log().state();
        if let Some((last, given)) = state.gap(&entries) {
            drop(state);
            return done(Err(LogError::Gap { last, given }));
        }
        let ticket = state.next_ticket;
        if let Some((id, _)) = entries.first().filter(|_| state.last == state.purged) {
            state.first = id.index;
        }
        for (id, payload) in &entries {
            state.recent.push(*id, payload.clone(), ticket);
            state.last = Some(*id);
        }
        let done = if mutant("success-before-sync") {
            done(Ok(()));
            Box::new(|_| {})
        } else {
            done
        };
        self.enqueue(state, Change::Append(entries), done);
    }

    /// Forgets all entries after `last`; all if it is `None`.
    pub fn truncate_after(&self, last: Option<LogId>, done: Done) {
        let mut state = self.log().state();
        state.last = last.max(state.purged);
        state.recent.truncate_after(last.map(|last| last.index));
        self.enqueue(state, Change::TruncateAfter(last), done);
        self.sync_if_caller_does();
    }

    /// Forgets all entries up to `upto`, included.
    pub fn purge(&self, upto: LogId, done: Done) {
        let mut state = self.log().state();
        state.purged = state.purged.max(Some(upto));
        if state.last.is_none_or(|last| last.index <= upto.index) {
            state.last = Some(upto);
        }
        state.first = state.first.max(upto.index + 1);
        state.recent.purge(upto.index);
        self.enqueue(state, Change::Purge(upto), done);
        self.sync_if_caller_does();
    }

    /// Keeps a vote.
    pub fn save_vote(&self, vote: Bytes, done: Done) {
        let mut state = self.log().state();
        state.vote = Some(vote.clone());
        self.enqueue(state, Change::Vote(vote), done);
        self.sync_if_caller_does();
    }

    /// Calls `done` once the entry of this index and all before it are synced: at once if they are.
    pub fn when_synced(&self, index: u64, done: Done) {
        let state = self.log().state();
        if state.recent.is_synced(index) || mutant("success-before-sync") {
            drop(state);
            return done(Ok(()));
        }
        self.enqueue(state, Change::Nothing, done);
    }

    /// The last vote given to [`Self::save_vote`].
    #[must_use]
    pub fn vote(&self) -> Option<Bytes> {
        self.log().state().vote.clone()
    }

    /// Notes up to where entries are committed. It is written with the next sync.
    pub fn save_committed(&self, committed: Option<LogId>) {
        let mut state = self.log().state();
        state.committed = committed;
        state.committed_is_new = true;
    }

    /// Up to where entries are known to be committed.
    #[must_use]
    pub fn committed(&self) -> Option<LogId> {
        self.log().state().committed
    }

    /// The entries of a range of indexes that are held, in order, queued ones included.
    ///
    /// # Errors
    /// When the disk does not hold what it should.
    pub fn read(&self, range: Range<u64>) -> Result<Vec<(LogId, Bytes)>, LogError> {
        let (mut on_disk, mut recent) = self.log().state().locate(&range);
        loop {
            let mut entries = rows::entries(&self.log().tables, on_disk.clone())?;
            if entries.len() as u64 == on_disk.end - on_disk.start {
                entries.extend(recent);
                return Ok(entries);
            }
            // What is not there was purged or truncated meanwhile, or should be there.
            let now = self.log().state().locate(&range);
            if now.0 == on_disk {
                let index = on_disk.start + entries.len() as u64;
                return Err(rows::missing(&self.log().tables, index).into());
            }
            (on_disk, recent) = now;
        }
    }

    /// The last entry, queued ones included; if all were purged, the last of those.
    #[must_use]
    pub fn last(&self) -> Option<LogId> {
        self.log().state().last
    }

    /// The last entry that was purged.
    #[must_use]
    pub fn purged(&self) -> Option<LogId> {
        self.log().state().purged
    }

    /// Who this disk is; `None` if it is new.
    #[must_use]
    pub fn identity(&self) -> Option<Identity> {
        self.log().state().identity.clone()
    }

    /// Keeps who this disk is, synced when it returns.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn set_identity(&self, identity: &Identity) -> Result<(), LogError> {
        let _turn = self.log().turn.lock().expect("no holder panics");
        let mut batch = WriteBatch::default();
        batch.put(Row::Identity.key(), rows::encode_identity(identity));
        self.log().write(batch)?;
        self.log().state().identity = Some(identity.clone());
        Ok(())
    }

    /// Forgets everything, and becomes another disk: synced when it returns. Nothing may be under way.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn reset(&self, identity: &Identity) -> Result<(), LogError> {
        let log = self.log();
        let _turn = log.turn.lock().expect("no holder panics");
        let mut batch = WriteBatch::default();
        rows::put(&log.tables, &mut batch, &Change::TruncateAfter(None));
        for row in [Row::Vote, Row::Committed, Row::Purged] {
            batch.delete(row.key());
        }
        batch.put(Row::Identity.key(), rows::encode_identity(identity));
        log.write(batch)?;
        *log.state() = State { identity: Some(identity.clone()), ..State::default() };
        Ok(())
    }

    /// Writes and syncs what is queued: for [`Syncer::Caller`].
    pub fn sync_pending(&self) {
        self.log().sync_queued();
    }

    /// About how many bytes its entries take on the disk.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        rows::bytes(&self.log().tables)
    }

    /// Gives back what purged entries took. It takes a while.
    pub fn shrink(&self) {
        rows::shrink(&self.log().tables, self.purged());
    }

    /// How many times the disk was synced since the log was opened.
    #[must_use]
    pub fn syncs(&self) -> u64 {
        self.log().syncs.load(Ordering::Relaxed)
    }

    fn log(&self) -> &Log {
        &self.handle.log
    }

    fn enqueue(&self, mut state: MutexGuard<'_, State>, change: Change, done: Done) {
        if let Some(error) = state.failed.clone() {
            drop(state);
            return done(Err(error));
        }
        let ticket = state.next_ticket;
        state.next_ticket += 1;
        state.queue.push(Operation { ticket, change, done });
        drop(state);
        self.log().queued.notify_one();
    }

    fn sync_if_caller_does(&self) {
        if self.handle.syncer.is_none() {
            self.sync_pending();
        }
    }
}

impl Log {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder panics")
    }

    /// What the thread does.
    fn keep_syncing(&self) {
        loop {
            let idle = |state: &mut State| state.queue.is_empty() && !state.closing;
            let waited = self.queued.wait_while(self.state(), idle).expect("no holder panics");
            if waited.queue.is_empty() {
                return;
            }
            drop(waited);
            self.sync_queued();
        }
    }

    /// Writes what is queued in one batch, syncs it, and says so.
    fn sync_queued(&self) {
        let turn = self.turn.lock().expect("no holder panics");
        let mut batch = WriteBatch::default();
        let (queue, failed) = {
            let mut state = self.state();
            if state.queue.is_empty() {
                return;
            }
            let writes = state.queue.iter().any(|it| !matches!(it.change, Change::Nothing));
            if writes && mem::take(&mut state.committed_is_new) {
                rows::put_committed(&mut batch, state.committed);
            }
            (mem::take(&mut state.queue), state.failed.clone())
        };
        for operation in &queue {
            rows::put(&self.tables, &mut batch, &operation.change);
        }
        let written = match failed {
            Some(error) => Err(error),
            None if batch.is_empty() => Ok(()),
            None => self.write(batch),
        };
        {
            let mut state = self.state();
            match (&written, queue.last()) {
                (Ok(()), Some(last)) => state.recent.synced(last.ticket),
                (Ok(()), None) => {}
                (Err(error), _) => state.failed = Some(error.clone()),
            }
        }
        drop(turn);
        for operation in queue {
            (operation.done)(written.clone());
        }
    }

    fn write(&self, batch: WriteBatch) -> Result<(), LogError> {
        self.syncs.fetch_add(1, Ordering::Relaxed);
        Ok(self.tables.write(batch, true)?)
    }
}

impl State {
    /// The part of a range that is to be read from the disk, and the entries that follow on it.
    fn locate(&self, range: &Range<u64>) -> (Range<u64>, Vec<(LogId, Bytes)>) {
        let first = self.first.max(range.start);
        let end = self.last.map_or(0, |last| last.index + 1).min(range.end).max(first);
        let recent = self.recent.read(first..end);
        let on_disk_until = recent.first().map_or(end, |(id, _)| id.index);
        (first..on_disk_until, recent)
    }

    /// The last index and the given one, if entries do not follow on what is there. An empty log
    /// may begin anywhere.
    fn gap(&self, entries: &[(LogId, Bytes)]) -> Option<(u64, u64)> {
        let mut last = self.last.map(|last| last.index);
        for (id, _) in entries {
            if let Some(last) = last.filter(|last| last + 1 != id.index) {
                return Some((last, id.index));
            }
            last = Some(id.index);
        }
        None
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.log.state().closing = true;
        self.log.queued.notify_one();
        if let Some(syncer) = self.syncer.take()
            && syncer.thread().id() != thread::current().id()
        {
            // A panic there was in somebody's `done`, and has been reported.
            let _ = syncer.join();
        }
        let lost = mem::take(&mut self.log.state().queue);
        lost.into_iter().for_each(|operation| (operation.done)(Err(LogError::Closed)));
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log").field("tables", &self.tables).finish_non_exhaustive()
    }
}
