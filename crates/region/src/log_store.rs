//! This module is openraft's view of the Raft log on disk.
//!
//! Entries can be read as soon as they are queued; openraft is told that they are written once they
//! are synced, in order. What is streamed, to be applied, is synced here too, though others may have
//! made it committed before: a state that is ahead of the log on its disk when the process is killed
//! would leave a hole in that log, and openraft closes it by forgetting all that the log holds.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

use chartmesh_store::{Done, LogError, RaftLog};
use chartmesh_wire::raft as wire;
use futures::{Stream, stream};
use openraft::storage::{IOFlushed, LogState, RaftLogReader, RaftLogStorage};
use openraft::{EntryPayload, OptionalSend};
use tokio::sync::{Notify, oneshot};

use crate::codec::{entry_bytes, entry_kept, stored_id_from, stored_id_to, vote_from, vote_to};
use crate::limits::APPEND_BYTES;
use crate::setup::Corrupt;
use crate::types::{Entry, LogId, TypeConfig, Vote};
use crate::warm::Warm;

/// Entries that are read in one go.
const READ_ENTRIES: u64 = 16;

/// The Raft log. Clones are handles to the same.
#[derive(Clone, Debug)]
pub(crate) struct LogStore {
    log: RaftLog,
    /// Told of every append, for whoever syncs where no thread does.
    appended: Arc<Notify>,
    warm: Warm,
}

impl LogStore {
    pub(crate) fn new(log: RaftLog, appended: Arc<Notify>, warm: Warm) -> Self {
        Self { log, appended, warm }
    }

    /// Notes the proposals among these entries that their own leader has made in its present term.
    fn note_live(&self, entries: &[Entry]) {
        let Ok(Some(vote)) = self.vote() else { return };
        let term = vote.leader_id().term;
        let live = |entry: &Entry| {
            entry.log_id.leader_id.term == term && matches!(entry.payload, EntryPayload::Normal(_))
        };
        if entries.iter().any(live) {
            self.warm.appended(term);
        }
    }

    /// The vote that was kept last.
    pub(crate) fn vote(&self) -> Result<Option<Vote>, Corrupt> {
        let decode = |bytes| match wire::decode_vote(bytes) {
            Ok(vote) => Ok(vote_from(&vote)),
            Err(error) => Err(Corrupt { what: "the vote", reason: error.to_string() }),
        };
        self.log.vote().map(decode).transpose()
    }

    /// Entries of a range, from its start, until they take `bytes`; at least one if there is any.
    fn read_some(&self, start: u64, end: u64, bytes: usize) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        let (mut next, mut taken) = (start, 0);
        while next < end && taken < bytes {
            let read =
                self.log.read(next..end.min(next + READ_ENTRIES)).map_err(io::Error::other)?;
            if read.is_empty() {
                break;
            }
            for (id, kept) in read {
                if taken >= bytes {
                    break;
                }
                taken += kept.len();
                next = id.index + 1;
                entries.push(entry_kept(kept).map_err(io::Error::other)?);
            }
        }
        Ok(entries)
    }

    /// The first index of a range, and the one after its last.
    fn bounds(&self, range: &impl RangeBounds<u64>) -> (u64, u64) {
        let start = match range.start_bound() {
            Bound::Included(&index) => index,
            Bound::Excluded(&index) => index + 1,
            Bound::Unbounded => 0,
        };
        let held = self.log.last().map_or(0, |last| last.index + 1);
        let end = match range.end_bound() {
            Bound::Included(&index) => index + 1,
            Bound::Excluded(&index) => index,
            Bound::Unbounded => held,
        };
        let first = self.log.purged().map_or(0, |purged| purged.index + 1);
        (start.max(first), end.min(held))
    }
}

/// Asks for a write and waits until it is on the disk.
async fn written(write: impl FnOnce(Done)) -> io::Result<()> {
    let (done, wait) = oneshot::channel();
    write(Box::new(move |result| {
        let _ = done.send(result);
    }));
    wait.await.unwrap_or(Err(LogError::Closed)).map_err(io::Error::other)
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB>(&mut self, range: RB) -> io::Result<Vec<Entry>>
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let (start, end) = self.bounds(&range);
        self.read_some(start, end, usize::MAX)
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        self.read_some(start, end, APPEND_BYTES)
    }

    async fn entries_stream<RB>(
        &mut self,
        range: RB,
    ) -> impl Stream<Item = io::Result<Entry>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let (start, end) = self.bounds(&range);
        let log = self.clone();
        let chunks = stream::try_unfold((log, start), move |(log, next)| async move {
            if next >= end {
                return Ok(None);
            }
            let entries = log.read_some(next, end, APPEND_BYTES)?;
            let Some(last) = entries.last() else {
                return Err(io::Error::other(format!("entry {next} is not in the log")));
            };
            let last = last.log_id.index;
            written(|done| log.log.when_synced(last, done)).await?;
            let after = last + 1;
            Ok(Some((stream::iter(entries.into_iter().map(Ok)), (log, after))))
        });
        futures::TryStreamExt::try_flatten(chunks)
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        self.vote().map_err(io::Error::other)
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<TypeConfig>> {
        Ok(LogState {
            last_purged_log_id: self.log.purged().map(stored_id_from),
            last_log_id: self.log.last().map(stored_id_from),
        })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        let vote = wire::encode_vote(&vote_to(vote));
        written(|done| self.log.save_vote(vote, done)).await
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        self.log.save_committed(committed.as_ref().map(stored_id_to));
        Ok(())
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        Ok(self.log.committed().map(stored_id_from))
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        self.note_live(&entries);
        let entries = entries.iter().map(entry_bytes).collect();
        let done: Done = Box::new(|result| callback.io_completed(result.map_err(io::Error::other)));
        self.log.append(entries, done);
        self.appended.notify_one();
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> io::Result<()> {
        let last = last.as_ref().map(stored_id_to);
        let held = self.log.last().map(|held| held.index);
        if last.is_some_and(|last| Some(last.index) >= held) {
            return Ok(());
        }
        written(|done| self.log.truncate_after(last, done)).await
    }

    async fn purge(&mut self, upto: LogId) -> io::Result<()> {
        written(|done| self.log.purge(stored_id_to(&upto), done)).await
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use chartmesh_store::{Memory, Syncer};
    use futures::{FutureExt, StreamExt};
    use openraft::EntryPayload;
    use openraft::entry::RaftEntry;

    use super::*;
    use crate::types::LeaderId;

    #[tokio::test]
    async fn what_is_applied_is_in_the_log_on_this_disk() {
        let dir = tempfile::tempdir().unwrap();
        let memory = Memory::new(1 << 20, 1 << 20);
        let log = RaftLog::open(dir.path(), Syncer::Caller, &memory).unwrap();
        let id = LogId { leader_id: LeaderId { term: 1, node_id: 1 }, index: 0 };
        let entry = Entry::new(id, EntryPayload::Blank);
        log.append(vec![entry_bytes(&entry)], Box::new(|_| {}));
        let mut store = LogStore::new(log.clone(), Arc::default(), Warm::default());

        let mut streamed = pin!(store.entries_stream(0..1).await);

        assert!(streamed.next().now_or_never().is_none(), "it is not synced");
        log.sync_pending();
        assert!(matches!(streamed.next().await, Some(Ok(_))));
    }
}
