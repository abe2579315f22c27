//! This module finds the condition that leads to least, and goes through what it leads to.

use std::collections::BTreeSet;
use std::ops::Range;

use chartmesh_record::ResourceType;
use chartmesh_search::{
    Condition, Entries, IdKey, Lookup, Parameter, ReferenceSought, Seeds, Sort, Sought, after,
    targets,
};

use super::stream::{Common, Stream};
use super::{Check, Decide, Go, Row, SearchError, Searcher};
use crate::error::Corrupt;
use crate::index::decode_entries_key;
use crate::keys::ConflictRow;
use crate::limits::{
    SEARCH_CHAINED, SEARCH_CODES, SEARCH_PROBE, SEARCH_PROBE_LONGER, SEARCH_REFERRING,
    SEARCH_ROWS_FIRST, SEARCH_ROWS_MOST, SEARCH_SPLIT,
};
use crate::store::{ENTRIES, META, POSTINGS};

/// The resources that are looked at.
pub(super) enum Candidates<'s> {
    /// These.
    Ids(BTreeSet<IdKey>),
    /// Those that this stream leads to, which is sorted.
    Sorted(Stream<'s>),
    /// Those that each of several such streams leads to.
    Common(Common<'s>),
    /// Those that this stream leads to, in any order.
    Mixed(Stream<'s>),
    /// All of the type.
    All,
}

/// How little a condition is expected to lead to: the less the better.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Few(usize),
    Reference,
    Code,
    Text,
    Range,
    Everything,
}

/// Where a condition leads.
struct Lead<'q, 's> {
    rank: Rank,
    candidates: Candidates<'s>,
    check: Check<'q>,
}

impl<'s> Searcher<'s> {
    /// What to look at after an id, and what to ask of each.
    pub(super) fn candidates<'q>(
        &self,
        kind: ResourceType,
        conditions: &[&'q Condition],
        start: Option<&IdKey>,
    ) -> Result<(Candidates<'s>, Vec<Check<'q>>), SearchError> {
        let mut leads = Vec::with_capacity(conditions.len());
        let mut checks = Vec::with_capacity(conditions.len());
        let mut least = Rank::Everything;
        let (last, first): (Vec<&Condition>, Vec<_>) =
            conditions.iter().copied().partition(|it| matches!(it, Condition::Has(..)));
        for condition in first.into_iter().chain(last) {
            // What refers is asked of each where there are few, and looked up where there are not.
            if matches!(condition, Condition::Has(..)) && least <= Rank::Few(SEARCH_PROBE) {
                checks.push(Check::Condition(condition));
                continue;
            }
            // One that stands alone need not be compared.
            let few = if conditions.len() == 1 { 0 } else { SEARCH_PROBE };
            let Lead { rank, candidates, check } = self.lead(kind, condition, start, few)?;
            checks.push(check);
            least = least.min(rank);
            leads.push((rank, candidates));
        }
        if least >= Rank::Code && leads.len() > 1 {
            // All that a text or a range leads to is gone through: it is worth a longer look.
            for (rank, candidates) in &mut leads {
                if let Candidates::Mixed(stream) = candidates {
                    *rank = stream.fill(self, SEARCH_PROBE_LONGER)?.map_or(*rank, Rank::Few);
                }
            }
        }
        leads.sort_by_key(|(rank, candidates)| {
            (*rank, !matches!(candidates, Candidates::Sorted(_)))
        });
        let mut leads = leads.into_iter();
        let candidates = match leads.next() {
            None => Candidates::All,
            Some((rank, Candidates::Sorted(first))) if rank > Rank::Few(usize::MAX) => {
                let sorted = leads.filter_map(|(_, candidates)| match candidates {
                    Candidates::Sorted(stream) => Some(stream),
                    _ => None,
                });
                match Vec::from_iter(sorted) {
                    others if others.is_empty() => Candidates::Sorted(first),
                    others => Candidates::Common(Common::new(first, others)),
                }
            }
            Some((_, candidates)) => candidates,
        };
        Ok((candidates, checks))
    }

    fn lead<'q>(
        &self,
        kind: ResourceType,
        condition: &'q Condition,
        start: Option<&IdKey>,
        few: usize,
    ) -> Result<Lead<'q, 's>, SearchError> {
        let check = Check::Condition(condition);
        let these = |ids: BTreeSet<IdKey>, check| Lead {
            rank: Rank::Few(ids.len()),
            candidates: Candidates::Ids(ids),
            check,
        };
        let everywhere =
            |check| Lead { rank: Rank::Everything, candidates: Candidates::All, check };
        let probe = |rank, seeds, check| {
            let (rank, candidates) = self.probe(rank, seeds, start, few)?;
            Ok(Lead { rank, candidates, check })
        };
        match condition {
            Condition::Id(ids) => Ok(these(ids.iter().map(IdKey::new).collect(), check)),
            Condition::Listed(lists) => {
                let mut ids = BTreeSet::new();
                for list in lists {
                    let listed = self.listed(list)?;
                    let of_kind = listed.iter().filter(|key| key.kind == kind);
                    ids.extend(of_kind.map(|key| IdKey::new(&key.id)));
                }
                Ok(these(ids, check))
            }
            Condition::In(parameter, names, true) => {
                let mut sought = Vec::new();
                for name in names {
                    sought.extend(self.value_set(name)?.iter().cloned().map(Sought::Token));
                }
                if sought.len() > SEARCH_CODES {
                    return Ok(everywhere(check));
                }
                if sought.is_empty() {
                    return Ok(these(BTreeSet::new(), check));
                }
                let has = Condition::Is(parameter.clone(), sought);
                probe(Rank::Code, has.seeds(kind), check)
            }
            Condition::In(_, names, false) => {
                names.iter().try_for_each(|name| self.value_set(name).map(drop))?;
                Ok(everywhere(check))
            }
            Condition::InConflict => Ok(these(self.in_conflict_of(kind)?, check)),
            Condition::Has(source, parameter, inner) => {
                let ids = self.referred_to(kind, *source, parameter, inner)?;
                Ok(ids.map_or(everywhere(check), |ids| these(ids.clone(), Check::In(ids))))
            }
            Condition::Chain(parameter, inner) => {
                let mut sought = Vec::new();
                for (target, inner) in inner {
                    let whole = self.each_match(*target, &[inner], None, &mut |id, _| {
                        let local = |id| ReferenceSought::Local(vec![*target], id, None);
                        sought.extend(id.id().map(|id| Sought::Reference(local(id))));
                        Ok(if sought.len() > SEARCH_CHAINED { Go::Stop } else { Go::On })
                    })?;
                    if !whole {
                        return Ok(everywhere(check));
                    }
                }
                if sought.is_empty() {
                    return Ok(these(BTreeSet::new(), check));
                }
                let refers = Condition::Is(parameter.clone(), sought);
                probe(Rank::Reference, refers.seeds(kind), check)
            }
            _ => probe(expected(condition), condition.seeds(kind), check),
        }
    }

    /// The resources of a type that are in conflict.
    fn in_conflict_of(&self, kind: ResourceType) -> Result<BTreeSet<IdKey>, SearchError> {
        let prefix = [ConflictRow::BY_RESOURCE, &[kind.code()]].concat();
        let mut ids = BTreeSet::new();
        for row in self.reader.scan(META, &prefix, &prefix) {
            let (key, value) = row?;
            self.look()?;
            let row = ConflictRow::decode(&key, &value);
            let row = row.ok_or_else(|| self.reader.inner.tables.bad_row(META, &key))?;
            ids.insert(IdKey::new(&row.resource.id));
        }
        Ok(ids)
    }

    /// Opens what seeds lead to, and looks whether it is few.
    fn probe(
        &self,
        rank: Rank,
        seeds: Option<Seeds>,
        start: Option<&IdKey>,
        few: usize,
    ) -> Result<(Rank, Candidates<'s>), SearchError> {
        let Some(Seeds { ranges, sorted, shared }) = seeds else {
            return Ok((Rank::Everything, Candidates::All));
        };
        let split = shared.filter(|_| !sorted && self.shelves.is_empty());
        let split = split.map(|shared| self.split(&ranges, shared)).transpose()?.flatten();
        let (ranges, sorted) = split.map_or((ranges, sorted), |ranges| (ranges, true));
        let mut shelved = Vec::new();
        for shelf in self.shelves {
            for range in &ranges {
                let ids = shelf.postings(range).map(|key| self.id_of(key));
                shelved.push(ids.collect::<Result<Vec<_>, _>>()?);
            }
        }
        let mut stream = Stream::new(self, ranges, start.filter(|_| sorted), shelved);
        let rank = stream.fill(self, few)?.map_or(rank, Rank::Few);
        let candidates =
            if sorted { Candidates::Sorted(stream) } else { Candidates::Mixed(stream) };
        Ok((rank, candidates))
    }

    /// The ranges in these ranges whose keys share so many bytes; `None` if there are many.
    fn split(
        &self,
        ranges: &[Range<Vec<u8>>],
        shared: usize,
    ) -> Result<Option<Vec<Range<Vec<u8>>>>, SearchError> {
        let tables = &self.reader.inner.tables;
        let mut found = Vec::new();
        for range in ranges {
            let mut keys = tables.keys(POSTINGS, range, self.reader.options());
            while let Some(key) = keys.key() {
                self.look()?;
                if found.len() == SEARCH_SPLIT {
                    return Ok(None);
                }
                let start = key.get(..shared).ok_or_else(|| tables.bad_row(POSTINGS, key))?;
                let end = after(start);
                found.push(start.to_vec()..end.clone());
                keys.seek(end);
            }
            keys.status().map_err(|error| tables.corrupt(error))?;
        }
        Ok(Some(found))
    }

    /// The resources of a type that matches of another search refer to; `None` if there are too many.
    fn referred_to(
        &self,
        kind: ResourceType,
        source: ResourceType,
        parameter: &Parameter,
        condition: &Condition,
    ) -> Result<Option<BTreeSet<IdKey>>, SearchError> {
        let mut ids = BTreeSet::new();
        let mut seen = 0;
        let whole = self.each_match(source, &[condition], None, &mut |_, row| {
            let keys = targets(parameter, row.entries).into_iter();
            ids.extend(keys.filter(|key| key.kind == kind).map(|key| IdKey::new(&key.id)));
            seen += 1;
            Ok(if seen > SEARCH_REFERRING { Go::Stop } else { Go::On })
        })?;
        Ok(whole.then_some(ids))
    }

    fn id_of(&self, posting: &[u8]) -> Result<IdKey, Corrupt> {
        let bad = || self.reader.inner.tables.bad_row(POSTINGS, posting);
        IdKey::of_posting(posting).ok_or_else(bad)
    }
}

/// What is expected of a condition whose postings are not few.
fn expected(condition: &Condition) -> Rank {
    let Condition::Is(parameter, _) = condition else { return Rank::Range };
    match parameter.sort() {
        Sort::Reference => Rank::Reference,
        Sort::Token | Sort::Uri | Sort::Composite => Rank::Code,
        Sort::String => Rank::Text,
        Sort::Number | Sort::Date | Sort::Quantity | Sort::Special => Rank::Range,
    }
}

impl Candidates<'_> {
    /// Gives each with its row, in the order of ids, after one. Returns whether it came to the end.
    pub(super) fn each(
        self,
        searcher: &Searcher<'_>,
        kind: ResourceType,
        start: Option<&IdKey>,
        decide: &mut Decide<'_>,
    ) -> Result<bool, SearchError> {
        match self {
            Self::Ids(ids) => each_id(searcher, kind, ids, start, decide),
            Self::Mixed(mut stream) => {
                let mut ids = BTreeSet::new();
                while let Some(id) = stream.next_of_any(searcher)? {
                    searcher.look()?;
                    ids.insert(id);
                }
                each_id(searcher, kind, ids, start, decide)
            }
            Self::Sorted(mut stream) => each_row(searcher, kind, || stream.next(searcher), decide),
            Self::Common(mut common) => each_row(searcher, kind, || common.next(searcher), decide),
            Self::All => all(searcher, kind, start, decide),
        }
    }
}

/// Goes through everything of a type; what is on a shelf comes first.
fn all(
    searcher: &Searcher<'_>,
    kind: ResourceType,
    start: Option<&IdKey>,
    decide: &mut Decide<'_>,
) -> Result<bool, SearchError> {
    let prefix = [kind.code()];
    let bad = |key: &[u8]| searcher.reader.inner.tables.bad_row(ENTRIES, key);
    let id_of = |key: &[u8]| decode_entries_key(key).map(|(_, id)| id).ok_or_else(|| bad(key));
    let shelved = searcher.shelves.iter().flat_map(|shelf| shelf.keys(&prefix));
    let shelved = shelved.map(&id_of).collect::<Result<BTreeSet<_>, _>>()?;
    for id in &shelved {
        if let Go::Stop = with_row(searcher, kind, id, decide)? {
            return Ok(false);
        }
    }
    let from = [&prefix[..], start.map_or(&[][..], IdKey::as_bytes)].concat();
    for row in searcher.reader.scan(ENTRIES, &from, &prefix) {
        let (key, row) = row?;
        searcher.look()?;
        let id = id_of(&key)?;
        if start.is_some_and(|start| id <= *start) || shelved.contains(&id) {
            continue;
        }
        if let Go::Stop = decide(&id, searcher.row(&key, &row)?)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn each_id(
    searcher: &Searcher<'_>,
    kind: ResourceType,
    ids: BTreeSet<IdKey>,
    start: Option<&IdKey>,
    decide: &mut Decide<'_>,
) -> Result<bool, SearchError> {
    let mut ids = ids.into_iter().filter(|id| start.is_none_or(|start| id > start));
    each_row(searcher, kind, || Ok(ids.next()), decide)
}

/// Gives each of these with its row, in ascending order.
fn each_row(
    searcher: &Searcher<'_>,
    kind: ResourceType,
    mut next: impl FnMut() -> Result<Option<IdKey>, SearchError>,
    decide: &mut Decide<'_>,
) -> Result<bool, SearchError> {
    let mut at_once = SEARCH_ROWS_FIRST;
    loop {
        let mut ids = Vec::with_capacity(at_once);
        while ids.len() < at_once {
            let Some(id) = next()? else { break };
            ids.push(id);
        }
        if searcher.shelves.is_empty() {
            let key = |id: &IdKey| [&[kind.code()][..], id.as_bytes()].concat();
            let keys: Vec<_> = ids.iter().map(key).collect();
            let rows = searcher.reader.get_several(ENTRIES, &keys)?;
            for ((id, key), row) in ids.iter().zip(&keys).zip(rows) {
                searcher.look()?;
                // An id that was asked for may be one that nothing has.
                let Some(row) = row else { continue };
                if let Go::Stop = decide(id, searcher.row(key, &row)?)? {
                    return Ok(false);
                }
            }
        } else {
            for id in &ids {
                if let Go::Stop = with_row(searcher, kind, id, decide)? {
                    return Ok(false);
                }
            }
        }
        if ids.len() < at_once {
            return Ok(true);
        }
        at_once = (2 * at_once).min(SEARCH_ROWS_MOST);
    }
}

fn with_row(
    searcher: &Searcher<'_>,
    kind: ResourceType,
    id: &IdKey,
    decide: &mut Decide<'_>,
) -> Result<Go, SearchError> {
    searcher.look()?;
    let key = [&[kind.code()][..], id.as_bytes()].concat();
    if let Some(shelved) = searcher.shelved(&key) {
        return shelved.map_or(Ok(Go::On), |shelved| {
            decide(id, Row { head: None, entries: Entries::read(&shelved.entries) })
        });
    }
    match searcher.reader.get(ENTRIES, &key)? {
        Some(row) => decide(id, searcher.row(&key, &row)?),
        None => Ok(Go::On),
    }
}
