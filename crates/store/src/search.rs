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
mod lookup;
mod shelf;
mod stream;

use std::cell::{Cell, RefCell};
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use chartmesh_record::{
    Criteria, FindError, ResourceId, ResourceKey, ResourceType, VersionId, mutant,
};
use chartmesh_search::{
    Candidate, Condition, Entries, IdKey, Include, PageKey, Parameter, Query, Registry, Setting,
    SortKey, TokenSought, first_code,
};

use crate::error::Corrupt;
use crate::index::IndexedHead;
use crate::limits::{SEARCH_LOOKS, SEARCH_NEWEST};
use crate::read::{Current, StoredVersion};
use crate::reader::Reader;
use crate::store::{ENTRIES, Store};

pub use shelf::Shelf;
use shelf::Shelved;

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
    /// Which part.
    pub part: Part<'q>,
    /// How many matches it has at the most.
    pub limit: usize,
    /// Whether to count all matches.
    pub count: bool,
    /// How many candidates and postings it may look at, [`SEARCH_LOOKS`] at the most.
    pub looks: usize,
}

/// A part of all matches, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part<'q> {
    /// The first ones.
    First,
    /// Those that follow this place.
    After(&'q PageKey),
    /// Those that end before this place; `None`: the last ones.
    Before(Option<&'q PageKey>),
}

/// What to find the newest of.
#[derive(Clone, Copy, Debug)]
pub struct Newest<'q> {
    /// The type.
    pub kind: ResourceType,
    /// All of them hold.
    pub conditions: &'q [Condition],
    /// The order, the newest first.
    pub sort: &'q [SortKey],
    /// The parameter whose first code puts resources into one group.
    pub by: &'q Parameter,
    /// How many of each group.
    pub most: usize,
    /// How many candidates and postings it may look at, [`SEARCH_LOOKS`] at the most.
    pub looks: usize,
}

/// A part of what was found.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// The matches, in order.
    pub matches: Vec<Match>,
    /// Whether more follow; of a part that ends before a place, whether more come before it.
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
        "the search looks at more than {looks} entries: give a parameter that fewer resources match, \
         such as the patient"
    )]
    TooCostly {
        /// How many it may look at.
        looks: usize,
    },
    /// The codes of a value set cannot be told.
    #[error("value set {name} cannot be searched by: {reason}")]
    ValueSet {
        /// How it was named.
        name: String,
        /// Why not.
        reason: &'static str,
    },
}

impl Store {
    /// The parameters that searches may name.
    #[must_use]
    pub fn registry(&self) -> Arc<Registry> {
        self.inner.registry()
    }

    /// What is found by a search.
    ///
    /// # Errors
    /// When the disk does not hold what it should, or the search would take too long.
    pub fn search(&self, search: Search<'_>) -> Result<Found, SearchError> {
        let reader = Reader::at_this_moment(&self.inner);
        Searcher::new(&reader, &[], search.looks).page(search)
    }

    /// The newest matches of each group, group by group.
    ///
    /// # Errors
    /// When the disk does not hold what it should, or there are too many.
    pub fn newest(&self, newest: Newest<'_>) -> Result<Vec<Match>, SearchError> {
        let reader = Reader::at_this_moment(&self.inner);
        Searcher::new(&reader, &[], newest.looks).newest(newest)
    }
}

impl Reader<'_> {
    /// The resources that match criteria, `limit` at the most; what is on a shelf counts instead of
    /// what is held or on a shelf before it.
    pub(crate) fn find(
        &self,
        criteria: &Criteria,
        shelves: &[&Shelf],
        limit: usize,
    ) -> Result<Vec<ResourceId>, FindError<Corrupt>> {
        // What is about now means about when the newest change was decided.
        let now = self.inner.origins.read().expect("no holder panics").newest_of_all().0;
        let registry = self.inner.registry();
        let setting = Setting { registry: &registry, now, base: None };
        let conditions = Query::criteria(setting, criteria).map_err(FindError::Unusable)?;
        let conditions: Vec<_> = conditions.iter().collect();
        let mut ids = Vec::new();
        let searcher = Searcher::new(self, shelves, SEARCH_LOOKS);
        let searched = searcher.each_match(criteria.kind(), &conditions, None, &mut |id, _| {
            ids.extend(id.id());
            Ok(if ids.len() < limit { Go::On } else { Go::Stop })
        });
        match searched {
            Ok(_) => Ok(ids),
            Err(SearchError::Corrupt(corrupt)) => Err(corrupt.into()),
            Err(refused) => Err(FindError::Unusable(refused.to_string())),
        }
    }
}

/// One search, as it goes on.
struct Searcher<'s> {
    reader: &'s Reader<'s>,
    registry: Arc<Registry>,
    /// What is decided and not applied, the last on top.
    shelves: &'s [&'s Shelf],
    /// Rows of resources that others refer to.
    rows: RefCell<HashMap<ResourceKey, Option<Arc<[u8]>>>>,
    value_sets: RefCell<HashMap<String, Arc<[TokenSought]>>>,
    lists: RefCell<HashMap<ResourceId, Arc<[ResourceKey]>>>,
    /// How many more candidates and postings it may look at.
    left: Cell<usize>,
    looks: usize,
}

/// What is compared with each other to find the newest.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Group {
    /// What has this first code: its system and itself.
    Of((Option<String>, String)),
    /// What has no code is like nothing else.
    Alone(IdKey),
}

/// Whether to go on.
enum Go {
    On,
    Stop,
}

/// What is known of a live resource.
#[derive(Clone, Copy)]
struct Row<'r> {
    /// Where its current version stands; `None` if that is not applied.
    head: Option<IndexedHead>,
    entries: Entries<'r>,
}

/// What is done with a resource, by its id and what is known of it.
type Decide<'f> = dyn FnMut(&IdKey, Row<'_>) -> Result<Go, SearchError> + 'f;

/// What a candidate must be.
enum Check<'q> {
    Condition(&'q Condition),
    /// One of these, looked up beforehand.
    In(BTreeSet<IdKey>),
}

impl<'s> Searcher<'s> {
    fn new(reader: &'s Reader<'s>, shelves: &'s [&'s Shelf], looks: usize) -> Self {
        let looks = looks.min(SEARCH_LOOKS);
        Self {
            reader,
            registry: reader.inner.registry(),
            shelves,
            rows: RefCell::default(),
            value_sets: RefCell::default(),
            lists: RefCell::default(),
            left: Cell::new(looks),
            looks,
        }
    }

    /// What a shelf has of a resource, by the key of its row.
    fn shelved(&self, key: &[u8]) -> Option<Option<&'s Shelved>> {
        self.shelves.iter().rev().find_map(|shelf| shelf.get(key))
    }

    fn page(&self, search: Search<'_>) -> Result<Found, SearchError> {
        let conditions: Vec<_> = search.conditions.iter().collect();
        let wanted = search.limit + 1;
        let backwards = matches!(search.part, Part::Before(_));
        let mut kept: VecDeque<(PageKey, IndexedHead)> = VecDeque::new();
        let drop_outermost = |kept: &mut VecDeque<_>| {
            if backwards {
                kept.pop_front()
            } else {
                kept.pop_back()
            };
        };
        let mut total = 0_u64;
        let comes_before = |place: &PageKey, other: &PageKey| {
            SortKey::compare(search.sort, place, other) == Ordering::Less
        };
        // In the order of ids, what lies beyond the page is not looked at, unless it is counted.
        let skips = search.sort.is_empty() && !search.count;
        let start = match search.part {
            Part::After(place) if skips => Some(&place.id),
            _ => None,
        };
        let whole = self.each_match(search.kind, &conditions, start, &mut |id, row| {
            total += 1;
            let place = SortKey::page_key(search.sort, id.clone(), row.entries);
            let is_in = match search.part {
                Part::First | Part::Before(None) => true,
                Part::After(after) => comes_before(after, &place),
                Part::Before(Some(end)) => comes_before(&place, end),
            };
            if !is_in {
                return Ok(if skips && backwards { Go::Stop } else { Go::On });
            }
            let at = kept.partition_point(|(kept, _)| comes_before(kept, &place));
            let outside = if backwards { 0 } else { wanted };
            if kept.len() == wanted && at == outside {
                return Ok(Go::On);
            }
            kept.insert(at, (place, row.head.expect("what is applied stands somewhere")));
            if kept.len() > wanted {
                drop_outermost(&mut kept);
            }
            let enough = skips && !backwards && kept.len() == wanted;
            Ok(if enough { Go::Stop } else { Go::On })
        })?;
        let more = kept.len() == wanted;
        if more {
            drop_outermost(&mut kept);
        }
        let kept = Vec::from(kept);
        let total = (whole && start.is_none()).then_some(total);
        let matches = self.matches(search.kind, kept)?;
        let (included, included_more) = self.included(search.includes, &matches)?;
        Ok(Found { matches, more, included, included_more, total })
    }

    fn newest(&self, newest: Newest<'_>) -> Result<Vec<Match>, SearchError> {
        let conditions: Vec<_> = newest.conditions.iter().collect();
        let mut groups: BTreeMap<Group, Vec<(PageKey, IndexedHead)>> = BTreeMap::new();
        let mut count = 0;
        self.each_match(newest.kind, &conditions, None, &mut |id, row| {
            let place = SortKey::page_key(newest.sort, id.clone(), row.entries);
            let group = match first_code(newest.by, row.entries) {
                Some(code) => Group::Of(code),
                None => Group::Alone(id.clone()),
            };
            let group = groups.entry(group).or_default();
            let is_before =
                |kept: &PageKey| SortKey::compare(newest.sort, kept, &place) == Ordering::Less;
            let at = group.partition_point(|(kept, _)| is_before(kept));
            if at == newest.most {
                return Ok(Go::On);
            }
            group.insert(at, (place, row.head.expect("what is applied stands somewhere")));
            if group.len() > newest.most {
                group.pop();
            } else {
                count += 1;
            }
            if count > SEARCH_NEWEST {
                return Err(SearchError::TooCostly { looks: SEARCH_NEWEST });
            }
            Ok(Go::On)
        })?;
        self.matches(newest.kind, groups.into_values().flatten().collect())
    }

    /// The resources that stand there.
    fn matches(
        &self,
        kind: ResourceType,
        kept: Vec<(PageKey, IndexedHead)>,
    ) -> Result<Vec<Match>, SearchError> {
        let heads: Vec<_> = kept.iter().map(|(_, head)| *head).collect();
        let currents = self.currents(&heads)?;
        let matches = kept.into_iter().zip(currents).map(|((place, _), current)| {
            let id = place.id.id();
            let bad = || self.reader.inner.tables.bad_row(ENTRIES, place.id.as_bytes());
            let key = ResourceKey { kind, id: id.ok_or_else(bad)? };
            Ok(Match { key, current, place })
        });
        Ok(matches.collect::<Result<_, Corrupt>>()?)
    }

    /// The versions that stand there.
    fn currents(&self, heads: &[IndexedHead]) -> Result<Vec<Current>, Corrupt> {
        let places: Vec<_> = heads.iter().map(|head| head.place).collect();
        let contents = self.reader.contents(&places)?;
        let current = |(head, content): (&IndexedHead, Bytes)| {
            let origin = self.reader.origin(head.place.change.origin).ok_or_else(|| {
                self.reader.bad_change(head.place.change, "its origin is not known")
            })?;
            let version = VersionId { generation: head.generation, origin };
            let stored = StoredVersion { version, at: head.at, content: Some(content) };
            Ok(Current { stored, in_conflict: head.in_conflict })
        };
        heads.iter().zip(contents).map(current).collect()
    }

    /// Gives all matches in the order of their ids, after one. Returns whether it came to the end.
    fn each_match(
        &self,
        kind: ResourceType,
        conditions: &[&Condition],
        after: Option<&IdKey>,
        found: &mut Decide<'_>,
    ) -> Result<bool, SearchError> {
        let (candidates, checks) = self.candidates(kind, conditions, after)?;
        let mut decide = |id: &IdKey, row: Row<'_>| {
            let tables = &self.reader.inner.tables;
            let bad = || tables.bad_row(ENTRIES, id.as_bytes());
            let key = ResourceKey { kind, id: id.id().ok_or_else(bad)? };
            let candidate = Candidate { key: &key, entries: row.entries };
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
        let left = self.left.get().checked_sub(1);
        self.left.set(left.ok_or(SearchError::TooCostly { looks: self.looks })?);
        Ok(())
    }

    /// What a row of the table says.
    fn row<'r>(&self, key: &[u8], row: &'r [u8]) -> Result<Row<'r>, Corrupt> {
        let (head, entries) = IndexedHead::split(row)
            .ok_or_else(|| self.reader.inner.tables.bad_row(ENTRIES, key))?;
        Ok(Row { head: Some(head), entries: Entries::read(entries) })
    }
}
