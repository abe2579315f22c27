//! This module goes through the ids that postings lead to.

use std::collections::VecDeque;
use std::ops::Range;

use chartmesh_search::{IdKey, after};
use rocksdb::DBRawIterator;

use super::Searcher;
use crate::error::Corrupt;
use crate::store::POSTINGS;

/// The ids of a range of postings, in the order of the postings. Where they all have one value, that
/// is the order of the ids.
pub(super) struct Stream<'s> {
    /// What was read already.
    waiting: VecDeque<IdKey>,
    keys: Keys<'s>,
}

enum Keys<'s> {
    OnDisk(DBRawIterator<'s>),
    Ended,
}

impl<'s> Stream<'s> {
    /// The ids after one, of postings that all have one value; or all ids.
    pub(super) fn of(
        searcher: &Searcher<'s>,
        range: &Range<Vec<u8>>,
        start: Option<&IdKey>,
    ) -> Self {
        let range = match start {
            Some(id) => after(&[&range.start, id.as_bytes()].concat())..range.end.clone(),
            None => range.clone(),
        };
        let reader = searcher.reader;
        let keys = reader.inner.tables.keys(POSTINGS, &range, reader.options());
        Self { waiting: VecDeque::new(), keys: Keys::OnDisk(keys) }
    }

    /// The next id.
    pub(super) fn next(&mut self, searcher: &Searcher<'_>) -> Result<Option<IdKey>, Corrupt> {
        match self.waiting.pop_front() {
            Some(id) => Ok(Some(id)),
            None => self.read(searcher),
        }
    }

    /// Reads on, and keeps what it reads, until so many wait. Returns how many there are, if that is
    /// all.
    pub(super) fn fill(
        &mut self,
        searcher: &Searcher<'_>,
        most: usize,
    ) -> Result<Option<usize>, Corrupt> {
        while self.waiting.len() < most {
            match self.read(searcher)? {
                Some(id) => self.waiting.push_back(id),
                None => return Ok(Some(self.waiting.len())),
            }
        }
        Ok(None)
    }

    fn read(&mut self, searcher: &Searcher<'_>) -> Result<Option<IdKey>, Corrupt> {
        let Keys::OnDisk(keys) = &mut self.keys else { return Ok(None) };
        let tables = &searcher.reader.inner.tables;
        let Some(key) = keys.key() else {
            keys.status().map_err(|error| tables.corrupt(error))?;
            self.keys = Keys::Ended;
            return Ok(None);
        };
        let id = IdKey::of_posting(key).ok_or_else(|| tables.bad_row(POSTINGS, key))?;
        keys.next();
        Ok(Some(id))
    }
}

impl Stream<'static> {
    /// These ids.
    pub(super) fn of_ids(ids: impl IntoIterator<Item = IdKey>) -> Self {
        Self { waiting: ids.into_iter().collect(), keys: Keys::Ended }
    }
}
