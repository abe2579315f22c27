//! This module answers searches.
//!
//! ```text
//! conditions --seeds--> postings --> ids in order --row of entries--> decided by all conditions
//! ```
//! It begins with the condition that leads to least, and decides over each candidate's row; the
//! resources themselves are read only for the answer. What it reads is one moment. Without `_sort`
//! results come in the order of their ids as keys, which is the same on every node: a page goes on after
//! the last page key of the one before.

mod candidates;
mod include;

use std::cell::{Cell, RefCell};
use std::cmp::Ordering;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use chartmesh_record::{ResourceKey, ResourceType, mutant};
use chartmesh_search::{
    Candidate, Condition, Entries, IdKey, Include, Lookup, PageKey, Registry, SortKey,
};

use crate::error::Corrupt;
use crate::index::entries_key;
use crate::limits::{SEARCH_LOOKS, SEARCH_ROWS_KEPT};
use crate::read::Current;
use crate::reader::Reader;
use crate::store::{ENTRIES, Store};

/// What is searched for, and which part of the answer.
#[derive(Clone, Copy, Debug)]
pub struct Search<'q> {
    /// The type.
    pub kind: ResourceType,
    /// All of them hold.
    pub conditions: &'q [Condition],
    /// The order.
    pub sort: &'q [SortKey],
    /// What comes along with the matches.
    pub includes: &'q [Include],
    /// The place after which the part begins; `None`: at the beginning.
    pub after: Option<&'q PageKey>,
    /// How many matches it has at the most.
    pub limit: usize,
    /// Whether to count all matches.
    pub count: bool,
}

/// A part of what was found.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// The matches, in order.
    pub matches: Vec<Match>,
    /// Whether more follow.
    pub more: bool,
    /// What comes along with them.
    pub included: Vec<(ResourceKey, Current)>,
    /// Whether more would have come along.
    pub included_more: bool,
    /// How many there are in all, where they were counted or there are no others.
    pub total: Option<u64>,
}

/// A resource that was found.
#[derive(Clone, Debug)]
pub struct Match {
    /// Its name.
    pub key: ResourceKey,
    /// Its current version.
    pub current: Current,
    /// Where it stands in the order.
    pub place: PageKey,
}

/// Why a search has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SearchError {
    /// The disk does not hold what it should.
    #[error(transparent)]
    Corrupt(#[from] Corrupt),
    /// It would take too long.
    #[error(
        "the search looks at more than {SEARCH_LOOKS} entries: give a parameter that fewer resources \
         match, such as the patient"
    )]
    TooCostly,
}

impl Store {
    /// The parameters that searches may name.
    #[must_use]
    pub fn registry(&self) -> &Arc<Registry> {
        &self.inner.registry
    }

    /// What is found by a search.
    ///
    /// # Errors
    /// When the disk does not hold what it should, or the search would take too long.
    pub fn search(&self, search: Search<'_>) -> Result<Found, SearchError> {
        Searcher::new(Reader::at_this_moment(&self.inner)).page(search)
    }
}

/// One search, as it goes on.
struct Searcher<'s> {
    reader: Reader<'s>,
    /// Rows of resources that others refer to.
    rows: RefCell<HashMap<ResourceKey, Option<Arc<[u8]>>>>,
    looked: Cell<usize>,
}

/// Whether to go on.
enum Go {
    On,
    Stop,
}

/// What is done with a resource, by its id and the row of its entries.
type Decide<'f> = dyn FnMut(&IdKey, &[u8]) -> Result<Go, SearchError> + 'f;

/// What a candidate must be.
enum Check<'q> {
    Condition(&'q Condition),
    /// One of these, looked up beforehand.
    In(BTreeSet<IdKey>),
}

impl<'s> Searcher<'s> {
    fn new(reader: Reader<'s>) -> Self {
        Self { reader, rows: RefCell::default(), looked: Cell::new(0) }
    }

    fn page(&self, search: Search<'_>) -> Result<Found, SearchError> {
        let conditions: Vec<_> = search.conditions.iter().collect();
        let wanted = search.limit + 1;
        let mut kept: Vec<PageKey> = Vec::new();
        let mut total = 0_u64;
        // In the order of ids, what comes before the page is not looked at, unless it is counted.
        let by_id = search.sort.is_empty();
        let start = search.after.filter(|_| by_id && !search.count).map(|place| &place.id);
        let whole = self.each_match(search.kind, &conditions, start, &mut |id, row| {
            total += 1;
            let place = SortKey::page_key(search.sort, id.clone(), Entries::read(row));
            let is_before = |place: &PageKey, other: &PageKey| {
                SortKey::compare(search.sort, place, other) == Ordering::Less
            };
            if search.after.is_some_and(|after| !is_before(after, &place)) {
                return Ok(Go::On);
            }
            if kept.len() == wanted {
                let worst = kept.last().expect("something is wanted");
                if !is_before(&place, worst) {
                    return Ok(Go::On);
                }
                kept.pop();
            }
            let at = kept.partition_point(|kept| is_before(kept, &place));
            kept.insert(at, place);
            let enough = by_id && !search.count && kept.len() == wanted;
            Ok(if enough { Go::Stop } else { Go::On })
        })?;
        let more = kept.len() == wanted;
        kept.truncate(search.limit);
        let total = (whole && start.is_none()).then_some(total);
        let matches = kept.into_iter().map(|place| self.read(search.kind, place));
        let matches = matches.collect::<Result<Vec<_>, _>>()?;
        let (included, included_more) = self.included(search.includes, &matches)?;
        Ok(Found { matches, more, included, included_more, total })
    }

    fn read(&self, kind: ResourceType, place: PageKey) -> Result<Match, Corrupt> {
        let tables = &self.reader.inner.tables;
        let id = place.id.id().ok_or_else(|| tables.bad_row(ENTRIES, place.id.as_bytes()))?;
        let key = ResourceKey { kind, id };
        let current = self.reader.current(&key)?;
        let current = current.filter(|current| current.stored.content.is_some());
        let current = current.ok_or_else(|| {
            tables.corrupt(format_args!("{key} is found by its entries and is not there"))
        })?;
        Ok(Match { key, current, place })
    }

    /// Gives all matches in the order of their ids, after one. Returns whether it came to the end.
    fn each_match(
        &self,
        kind: ResourceType,
        conditions: &[&Condition],
        after: Option<&IdKey>,
        found: &mut Decide<'_>,
    ) -> Result<bool, SearchError> {
        let (candidates, checks) = self.candidates(kind, conditions)?;
        let mut decide = |id: &IdKey, row: &[u8]| {
            let tables = &self.reader.inner.tables;
            let bad = || tables.bad_row(ENTRIES, id.as_bytes());
            let key = ResourceKey { kind, id: id.id().ok_or_else(bad)? };
            let candidate = Candidate { key: &key, entries: Entries::read(row) };
            for check in &checks {
                let holds = match check {
                    Check::Condition(condition) => condition.matches(candidate, self)?,
                    Check::In(ids) => ids.contains(id),
                };
                let holds = holds || (mutant("and-as-or") && checks.len() > 1);
                if !holds {
                    return Ok(Go::On);
                }
            }
            found(id, row)
        };
        candidates.each(self, kind, after, &mut decide)
    }

    /// Counts what is looked at.
    fn look(&self) -> Result<(), SearchError> {
        self.looked.set(self.looked.get() + 1);
        if self.looked.get() > SEARCH_LOOKS { Err(SearchError::TooCostly) } else { Ok(()) }
    }
}

impl Lookup for Searcher<'_> {
    type Error = SearchError;

    fn entries(&self, key: &ResourceKey) -> Result<Option<Arc<[u8]>>, SearchError> {
        if let Some(known) = self.rows.borrow().get(key) {
            return Ok(known.clone());
        }
        self.look()?;
        let row = self.reader.get(ENTRIES, &entries_key(key))?;
        let row: Option<Arc<[u8]>> = row.map(|row| row[..].into());
        let mut rows = self.rows.borrow_mut();
        if rows.len() < SEARCH_ROWS_KEPT {
            rows.insert(key.clone(), row.clone());
        }
        Ok(row)
    }

    fn content(&self, key: &ResourceKey) -> Result<Option<Arc<[u8]>>, SearchError> {
        self.look()?;
        let current = self.reader.current(key)?;
        let content = current.and_then(|current| current.stored.content);
        Ok(content.map(|content| content[..].into()))
    }

    fn in_conflict(&self, key: &ResourceKey) -> Result<bool, SearchError> {
        self.look()?;
        Ok(self.reader.conflict(key)?.is_some())
    }

    fn any(&self, kind: ResourceType, conditions: &[&Condition]) -> Result<bool, SearchError> {
        let whole = self.each_match(kind, conditions, None, &mut |_, _| Ok(Go::Stop))?;
        Ok(!whole)
    }
}
