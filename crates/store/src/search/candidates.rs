//! This module finds the condition that leads to least, and goes through what it leads to.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};
use std::ops::Range;

use chartmesh_record::ResourceType;
use chartmesh_search::{
    Condition, Entries, IdKey, Parameter, ReferenceSought, Seeds, Sort, Sought, after, targets,
};

use super::{Check, Decide, Go, SearchError, Searcher};
use crate::error::Corrupt;
use crate::index::decode_entries_key;
use crate::keys::ConflictRow;
use crate::limits::{SEARCH_CHAINED, SEARCH_PROBE, SEARCH_REFERRING};
use crate::store::{ENTRIES, META, POSTINGS};

/// The resources that are looked at.
pub(super) enum Candidates {
    /// These.
    Ids(BTreeSet<IdKey>),
    /// Those that postings lead to: in each range they are sorted.
    Sorted(Vec<Range<Vec<u8>>>),
    /// Those that postings lead to, in any order.
    Mixed(Vec<Range<Vec<u8>>>),
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

impl<'s> Searcher<'s> {
    /// What to look at, and what to ask of each.
    pub(super) fn candidates<'q>(
        &self,
        kind: ResourceType,
        conditions: &[&'q Condition],
    ) -> Result<(Candidates, Vec<Check<'q>>), SearchError> {
        let mut best = (Rank::Everything, Candidates::All);
        let mut checks = Vec::with_capacity(conditions.len());
        for condition in conditions {
            let (rank, candidates, check) = self.lead(kind, condition)?;
            checks.push(check);
            if rank < best.0 {
                best = (rank, candidates);
            }
        }
        Ok((best.1, checks))
    }

    /// Where a condition leads.
    fn lead<'q>(
        &self,
        kind: ResourceType,
        condition: &'q Condition,
    ) -> Result<(Rank, Candidates, Check<'q>), SearchError> {
        let check = Check::Condition(condition);
        match condition {
            Condition::Id(ids) => {
                let ids: BTreeSet<_> = ids.iter().map(IdKey::new).collect();
                Ok((Rank::Few(ids.len()), Candidates::Ids(ids), check))
            }
            Condition::InConflict => {
                let ids = self.in_conflict_of(kind)?;
                Ok((Rank::Few(ids.len()), Candidates::Ids(ids), check))
            }
            Condition::Has(source, parameter, inner) => {
                let Some(ids) = self.referred_to(kind, *source, parameter, inner)? else {
                    return Ok((Rank::Everything, Candidates::All, check));
                };
                Ok((Rank::Few(ids.len()), Candidates::Ids(ids.clone()), Check::In(ids)))
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
                        return Ok((Rank::Everything, Candidates::All, check));
                    }
                }
                if sought.is_empty() {
                    return Ok((Rank::Few(0), Candidates::Ids(BTreeSet::new()), check));
                }
                let refers = Condition::Is(parameter.clone(), sought);
                let (rank, candidates) = self.probe(Rank::Reference, refers.seeds(kind))?;
                Ok((rank, candidates, check))
            }
            _ => {
                let (rank, candidates) = self.probe(expected(condition), condition.seeds(kind))?;
                Ok((rank, candidates, check))
            }
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

    /// Looks whether seeds lead to few.
    fn probe(&self, rank: Rank, seeds: Option<Seeds>) -> Result<(Rank, Candidates), SearchError> {
        let Some(Seeds { ranges, sorted }) = seeds else {
            return Ok((Rank::Everything, Candidates::All));
        };
        let mut few = 0;
        for range in &ranges {
            for key in self.keys(range).take(SEARCH_PROBE + 1 - few) {
                key?;
                self.look()?;
                few += 1;
            }
            if few > SEARCH_PROBE {
                break;
            }
        }
        let rank = if few > SEARCH_PROBE { rank } else { Rank::Few(few) };
        Ok((rank, if sorted { Candidates::Sorted(ranges) } else { Candidates::Mixed(ranges) }))
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
            let keys = targets(parameter, Entries::read(row)).into_iter();
            ids.extend(keys.filter(|key| key.kind == kind).map(|key| IdKey::new(&key.id)));
            seen += 1;
            Ok(if seen > SEARCH_REFERRING { Go::Stop } else { Go::On })
        })?;
        Ok(whole.then_some(ids))
    }

    fn keys(
        &self,
        range: &Range<Vec<u8>>,
    ) -> impl Iterator<Item = Result<Box<[u8]>, Corrupt>> + use<'s> {
        let tables = &self.reader.inner.tables;
        tables.keys(POSTINGS, &range.start, &range.end, self.reader.options())
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

impl Candidates {
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
            Self::Mixed(ranges) => {
                let mut ids = BTreeSet::new();
                for range in &ranges {
                    for key in searcher.keys(range) {
                        searcher.look()?;
                        ids.insert(id_of(searcher, &key?)?);
                    }
                }
                each_id(searcher, kind, ids, start, decide)
            }
            Self::Sorted(ranges) => merge(searcher, kind, ranges, start, decide),
            Self::All => {
                let prefix = [kind.code()];
                let from = [&prefix[..], start.map_or(&[][..], IdKey::as_bytes)].concat();
                for row in searcher.reader.scan(ENTRIES, &from, &prefix) {
                    let (key, row) = row?;
                    searcher.look()?;
                    let id = decode_entries_key(&key).map(|(_, id)| id);
                    let id =
                        id.ok_or_else(|| searcher.reader.inner.tables.bad_row(ENTRIES, &key))?;
                    if start.is_some_and(|start| id <= *start) {
                        continue;
                    }
                    if let Go::Stop = decide(&id, &row)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
        }
    }
}

fn id_of(searcher: &Searcher<'_>, key: &[u8]) -> Result<IdKey, Corrupt> {
    IdKey::of_posting(key).ok_or_else(|| searcher.reader.inner.tables.bad_row(POSTINGS, key))
}

fn each_id(
    searcher: &Searcher<'_>,
    kind: ResourceType,
    ids: BTreeSet<IdKey>,
    start: Option<&IdKey>,
    decide: &mut Decide<'_>,
) -> Result<bool, SearchError> {
    for id in ids.iter().filter(|id| start.is_none_or(|start| *id > start)) {
        if let Go::Stop = with_row(searcher, kind, id, decide)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn with_row(
    searcher: &Searcher<'_>,
    kind: ResourceType,
    id: &IdKey,
    decide: &mut Decide<'_>,
) -> Result<Go, SearchError> {
    searcher.look()?;
    let key = [&[kind.code()][..], id.as_bytes()].concat();
    match searcher.reader.get(ENTRIES, &key)? {
        Some(row) => decide(id, &row),
        // An id that was asked for, and that nothing has.
        None => Ok(Go::On),
    }
}

/// Goes through several sorted ranges at once.
fn merge(
    searcher: &Searcher<'_>,
    kind: ResourceType,
    ranges: Vec<Range<Vec<u8>>>,
    start: Option<&IdKey>,
    decide: &mut Decide<'_>,
) -> Result<bool, SearchError> {
    let from = |range: Range<Vec<u8>>| match start {
        // What follows the last id of the page before.
        Some(id) => after(&[&range.start, id.as_bytes()].concat())..range.end,
        None => range,
    };
    let mut streams: Vec<_> = ranges.into_iter().map(|range| searcher.keys(&from(range))).collect();
    let mut heads = BinaryHeap::new();
    for (number, stream) in streams.iter_mut().enumerate() {
        if let Some(key) = stream.next() {
            heads.push(Reverse((id_of(searcher, &key?)?, number)));
        }
    }
    let mut last = None;
    while let Some(Reverse((id, number))) = heads.pop() {
        if let Some(key) = streams[number].next() {
            heads.push(Reverse((id_of(searcher, &key?)?, number)));
        }
        if last.as_ref() == Some(&id) {
            continue;
        }
        if let Go::Stop = with_row(searcher, kind, &id, decide)? {
            return Ok(false);
        }
        last = Some(id);
    }
    Ok(true)
}
