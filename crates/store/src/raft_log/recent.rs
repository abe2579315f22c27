//! This module holds the newest entries in memory: those not yet synced, and as many more as fit.

use std::collections::VecDeque;
use std::ops::Range;

use bytes::Bytes;

use super::LogId;
use crate::limits::RECENT_ENTRIES_BYTES;

/// The last entries of the log, in order, without a gap.
#[derive(Debug, Default)]
pub(super) struct Recent {
    entries: VecDeque<Entry>,
    bytes: usize,
}

#[derive(Debug)]
struct Entry {
    id: LogId,
    payload: Bytes,
    /// The operation that queued it; `None` once that is synced.
    queued_by: Option<u64>,
}

impl Recent {
    /// Takes in an entry that follows on the last one and was queued by this operation.
    pub(super) fn push(&mut self, id: LogId, payload: Bytes, ticket: u64) {
        self.bytes += payload.len();
        self.entries.push_back(Entry { id, payload, queued_by: Some(ticket) });
    }

    /// Notes that the operations up to this one are synced, and lets go of what is too much.
    pub(super) fn synced(&mut self, ticket: u64) {
        for entry in self.entries.iter_mut().rev() {
            match entry.queued_by {
                None => break,
                Some(queued_by) if queued_by <= ticket => entry.queued_by = None,
                Some(_) => {}
            }
        }
        while self.bytes > RECENT_ENTRIES_BYTES
            && self.entries.front().is_some_and(|entry| entry.queued_by.is_none())
        {
            self.pop_front();
        }
    }

    /// Whether the entry of this index is synced, and with it all before it. What is not held here
    /// is.
    pub(super) fn is_synced(&self, index: u64) -> bool {
        let after = self.entries.partition_point(|entry| entry.id.index <= index);
        let last = after.checked_sub(1).map(|place| &self.entries[place]);
        last.is_none_or(|entry| entry.queued_by.is_none())
    }

    /// Forgets the entries after this index; all if it is `None`.
    pub(super) fn truncate_after(&mut self, last: Option<u64>) {
        while self.entries.back().is_some_and(|entry| last.is_none_or(|it| entry.id.index > it)) {
            let gone = self.entries.pop_back().expect("there is a last one");
            self.bytes -= gone.payload.len();
        }
    }

    /// Forgets the entries up to this index.
    pub(super) fn purge(&mut self, upto: u64) {
        while self.entries.front().is_some_and(|entry| entry.id.index <= upto) {
            self.pop_front();
        }
    }

    /// The entries of a range that are held here. What is missing is before them.
    pub(super) fn read(&self, range: Range<u64>) -> Vec<(LogId, Bytes)> {
        let start = self.entries.partition_point(|entry| entry.id.index < range.start);
        let entries = self.entries.range(start..);
        entries
            .take_while(|entry| entry.id.index < range.end)
            .map(|entry| (entry.id, entry.payload.clone()))
            .collect()
    }

    fn pop_front(&mut self) {
        let gone = self.entries.pop_front().expect("there is a first one");
        self.bytes -= gone.payload.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(index: u64) -> LogId {
        LogId { term: 1, leader: 1, index }
    }

    fn indexes(recent: &Recent) -> Vec<u64> {
        recent.read(0..u64::MAX).iter().map(|(id, _)| id.index).collect()
    }

    #[test]
    fn lets_go_of_the_oldest_but_never_of_what_is_not_synced() {
        let mut recent = Recent::default();
        let half = Bytes::from(vec![0; RECENT_ENTRIES_BYTES / 2]);
        (1..=5).for_each(|index| recent.push(entry(index), half.clone(), index));

        recent.synced(2);
        assert_eq!(indexes(&recent), [3, 4, 5]);
        recent.synced(5);
        assert_eq!(indexes(&recent), [4, 5]);
    }

    #[test]
    fn reads_only_the_range_that_is_asked_for() {
        let mut recent = Recent::default();
        (4..=9).for_each(|index| recent.push(entry(index), Bytes::new(), 0));
        recent.truncate_after(Some(8));
        recent.purge(4);

        assert_eq!(indexes(&recent), [5, 6, 7, 8]);
        assert_eq!(recent.read(1..7).len(), 2);
        assert_eq!(recent.read(1..3).len(), 0);
        assert_eq!(recent.read(9..12).len(), 0);
    }
}
