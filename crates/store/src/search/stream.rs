//! This module goes through the ids that postings lead to.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::ops::Range;

use chartmesh_search::IdKey;
use rocksdb::DBRawIterator;

use super::{SearchError, Searcher};
use crate::limits::{SEARCH_AT_ONCE, SEARCH_FILTERS, SEARCH_UNFILTERED};
use crate::store::POSTINGS;

/// The ids that ranges of postings lead to. If all postings of a range have one value, its ids are
/// sorted, and so is the stream.
pub(super) struct Stream<'s> {
    /// One iterator for all ranges: hundreds of them are common, and each of its own would cost more
    /// than what it reads.
    keys: DBRawIterator<'s>,
    /// The range whose next posting the iterator stands at.
    at: Option<usize>,
    parts: Vec<Part>,
    /// The next id of each range, if all begun; of a sorted stream.
    heads: Option<BinaryHeap<Reverse<(IdKey, usize)>>>,
}

/// One range of a stream.
struct Part {
    range: Range<Vec<u8>>,
    /// Where to read on; `None` at the end.
    from: Option<Vec<u8>>,
    /// What was read already.
    waiting: VecDeque<IdKey>,
    /// How many to read next.
    at_once: usize,
}

impl<'s> Stream<'s> {
    /// The ids in these ranges, of a sorted stream those after one, and these others, which are
    /// sorted.
    pub(super) fn new(
        searcher: &Searcher<'s>,
        ranges: Vec<Range<Vec<u8>>>,
        after: Option<&IdKey>,
        others: Vec<Vec<IdKey>>,
    ) -> Self {
        let first = ranges.iter().map(|range| &range.start).min();
        let last = ranges.iter().map(|range| &range.end).max();
        let all = first.cloned().unwrap_or_default()..last.cloned().unwrap_or_default();
        let reader = searcher.reader;
        let at_once = if ranges.len() > 1 { SEARCH_AT_ONCE / 2 } else { SEARCH_AT_ONCE };
        let from = |range: &Range<Vec<u8>>| match after {
            Some(id) => [&range.start, id.as_bytes(), &[0]].concat(),
            None => range.start.clone(),
        };
        let read = ranges.into_iter().map(|range| Part {
            from: Some(from(&range)),
            range,
            waiting: VecDeque::new(),
            at_once,
        });
        let follows = |id: &IdKey| after.is_none_or(|after| id > after);
        let others = others.into_iter().map(|ids| Part {
            range: Range::default(),
            from: None,
            waiting: ids.into_iter().filter(follows).collect(),
            at_once,
        });
        Self {
            keys: reader.inner.tables.keys(POSTINGS, &all, reader.options()),
            at: None,
            parts: read.chain(others).collect(),
            heads: None,
        }
    }

    /// Reads on until so many ids wait. Returns how many there are, if that is all.
    pub(super) fn fill(
        &mut self,
        searcher: &Searcher<'_>,
        most: usize,
    ) -> Result<Option<usize>, SearchError> {
        let mut found = 0;
        for number in 0..self.parts.len() {
            while found + self.parts[number].waiting.len() < most && self.read(searcher, number)? {}
            found += self.parts[number].waiting.len();
            if found >= most {
                return Ok(None);
            }
        }
        Ok(Some(found))
    }

    /// The next id, range by range.
    pub(super) fn next_of_any(
        &mut self,
        searcher: &Searcher<'_>,
    ) -> Result<Option<IdKey>, SearchError> {
        while let Some(number) = self.parts.len().checked_sub(1) {
            if let Some(id) = self.next_of(searcher, number)? {
                return Ok(Some(id));
            }
            self.parts.pop();
        }
        Ok(None)
    }

    /// The next id of a sorted stream.
    pub(super) fn next(&mut self, searcher: &Searcher<'_>) -> Result<Option<IdKey>, SearchError> {
        self.peek(searcher)?;
        let Some(id) = self.step(searcher)? else { return Ok(None) };
        while self.peek(searcher)? == Some(&id) {
            self.step(searcher)?;
        }
        Ok(Some(id))
    }

    fn peek(&mut self, searcher: &Searcher<'_>) -> Result<Option<&IdKey>, SearchError> {
        if self.heads.is_none() {
            let mut heads = BinaryHeap::with_capacity(self.parts.len());
            for number in 0..self.parts.len() {
                heads.extend(self.next_of(searcher, number)?.map(|id| Reverse((id, number))));
            }
            self.heads = Some(heads);
        }
        let head = self.heads.as_ref().and_then(BinaryHeap::peek);
        Ok(head.map(|Reverse((id, _))| id))
    }

    /// Takes the first of the heads.
    fn step(&mut self, searcher: &Searcher<'_>) -> Result<Option<IdKey>, SearchError> {
        let Some(heads) = &mut self.heads else { return Ok(None) };
        let Some(Reverse((id, number))) = heads.pop() else { return Ok(None) };
        if let Some(next) = self.next_of(searcher, number)? {
            self.heads.as_mut().expect("one was taken from them").push(Reverse((next, number)));
        }
        Ok(Some(id))
    }

    /// Passes over what comes before an id in a sorted stream. Returns the next one.
    fn skip_to(
        &mut self,
        searcher: &Searcher<'_>,
        id: &IdKey,
    ) -> Result<Option<&IdKey>, SearchError> {
        if self.heads.is_none() {
            (0..self.parts.len()).for_each(|number| self.skip_part_to(number, id));
        }
        while let Some(Reverse((head, number))) = self.heads.as_ref().and_then(BinaryHeap::peek)
            && head < id
        {
            self.skip_part_to(*number, id);
            self.step(searcher)?;
        }
        self.peek(searcher)
    }

    fn skip_part_to(&mut self, number: usize, id: &IdKey) {
        let part = &mut self.parts[number];
        let before = part.waiting.partition_point(|waiting| waiting < id);
        part.waiting.drain(..before);
        if part.waiting.is_empty() && part.from.is_some() {
            part.from = Some([&part.range.start, id.as_bytes()].concat());
            part.at_once = 1;
            self.at = self.at.filter(|at| *at != number);
        }
    }

    fn next_of(
        &mut self,
        searcher: &Searcher<'_>,
        number: usize,
    ) -> Result<Option<IdKey>, SearchError> {
        if self.parts[number].waiting.is_empty() {
            self.read(searcher, number)?;
        }
        Ok(self.parts[number].waiting.pop_front())
    }

    /// Reads on in a range. Returns whether more may follow.
    fn read(&mut self, searcher: &Searcher<'_>, number: usize) -> Result<bool, SearchError> {
        let part = &mut self.parts[number];
        let Some(from) = &part.from else { return Ok(false) };
        searcher.look()?;
        if self.at != Some(number) {
            self.keys.seek(from);
            self.at = Some(number);
        }
        let tables = &searcher.reader.inner.tables;
        let mut last = Vec::new();
        for _ in 0..part.at_once {
            let Some(key) = self.keys.key().filter(|key| *key < &part.range.end[..]) else {
                self.keys.status().map_err(|error| tables.corrupt(error))?;
                part.from = None;
                return Ok(false);
            };
            let id = IdKey::of_posting(key).ok_or_else(|| tables.bad_row(POSTINGS, key))?;
            part.waiting.push_back(id);
            last.clear();
            last.extend_from_slice(key);
            self.keys.next();
        }
        last.push(0);
        part.from = Some(last);
        part.at_once = (2 * part.at_once).min(8 * SEARCH_AT_ONCE);
        Ok(true)
    }
}

/// The ids that each of several sorted streams leads to.
pub(super) struct Common<'s> {
    first: Stream<'s>,
    others: Vec<Filter<'s>>,
    given: usize,
}

/// A stream that ids are looked for in.
struct Filter<'s> {
    stream: Stream<'s>,
    asked: usize,
    had: usize,
}

impl<'s> Common<'s> {
    /// Of one stream and others: the others may be left out where they leave nearly all.
    pub(super) fn new(first: Stream<'s>, others: Vec<Stream<'s>>) -> Self {
        let filter = |stream| Filter { stream, asked: 0, had: 0 };
        Self { first, others: others.into_iter().map(filter).collect(), given: 0 }
    }

    /// The next id.
    pub(super) fn next(&mut self, searcher: &Searcher<'_>) -> Result<Option<IdKey>, SearchError> {
        'ids: loop {
            let Some(id) = self.first.next(searcher)? else { return Ok(None) };
            // A page is often full before it pays to look into the others.
            self.given += 1;
            if self.given <= SEARCH_UNFILTERED {
                return Ok(Some(id));
            }
            self.others.retain(Filter::is_worth_it);
            for filter in &mut self.others {
                searcher.look()?;
                filter.asked += 1;
                match filter.stream.skip_to(searcher, &id)? {
                    None => return Ok(None),
                    Some(reached) if *reached == id => filter.had += 1,
                    Some(reached) => {
                        self.first.skip_to(searcher, reached)?;
                        continue 'ids;
                    }
                }
            }
            return Ok(Some(id));
        }
    }
}

impl Filter<'_> {
    /// Whether it is new, or has not had most of what it was asked for.
    fn is_worth_it(&self) -> bool {
        self.asked < SEARCH_FILTERS || 8 * self.had < 5 * self.asked
    }
}
