//! This module finds duplicates: resources that conditional creates have made under equal criteria in
//! different origins, none of which is deleted. No decider could have known of the other.

use std::collections::{BTreeMap, BTreeSet};

use chartmesh_record::{ResourceKey, Timestamp};

use crate::error::Corrupt;
use crate::keys::{ConflictRow, CriteriaHash, DuplicateRow, MadeRow, OriginCode};
use crate::reader::Reader;
use crate::store::META;

/// The resources that were made under equal criteria and are not deleted, with the origins in which
/// they were.
pub(crate) type Makers = BTreeMap<ResourceKey, BTreeSet<OriginCode>>;

/// Whether these are duplicates of each other.
pub(crate) fn are_duplicates(makers: &Makers) -> bool {
    let origins: BTreeSet<OriginCode> = makers.values().flatten().copied().collect();
    makers.len() > 1 && origins.len() > 1
}

impl Reader<'_> {
    /// What conditional creates have made of a resource, each with its criteria as text.
    pub(crate) fn made_under(
        &self,
        resource: &ResourceKey,
    ) -> Result<Vec<(MadeRow, String)>, Corrupt> {
        let prefix = MadeRow::of_resource(resource);
        let rows = self.scan(META, &prefix, &prefix).map(|row| {
            let (key, text) = row?;
            let made = MadeRow::decode_by_resource(&key);
            made.zip(String::from_utf8(text.into_vec()).ok())
                .ok_or_else(|| self.inner.tables.bad_row(META, &key))
        });
        rows.collect()
    }

    /// Who was made under these criteria and is not deleted.
    pub(crate) fn makers(&self, criteria: CriteriaHash) -> Result<Makers, Corrupt> {
        let prefix = MadeRow::of_criteria(criteria);
        let mut makers = Makers::new();
        for row in self.scan(META, &prefix, &prefix) {
            let (key, _) = row?;
            let made = MadeRow::decode_by_criteria(&key);
            let made = made.ok_or_else(|| self.inner.tables.bad_row(META, &key))?;
            makers.entry(made.resource).or_default().insert(made.origin);
        }
        Ok(makers)
    }

    /// Since when there are duplicates under these criteria, if there are.
    pub(crate) fn duplicate(
        &self,
        criteria: CriteriaHash,
    ) -> Result<Option<DuplicateRow>, Corrupt> {
        let key = DuplicateRow::key(criteria);
        let Some(row) = self.get(META, &key)? else { return Ok(None) };
        let row = DuplicateRow::decode(&row);
        row.map(Some).ok_or_else(|| self.inner.tables.bad_row(META, &key))
    }

    /// The duplicates that a resource is one of.
    pub(crate) fn duplicates_of(
        &self,
        resource: &ResourceKey,
    ) -> Result<Vec<ConflictRow>, Corrupt> {
        let mut found = Vec::new();
        for (made, _) in self.made_under(resource)? {
            let listed = |row: &ConflictRow| row.criteria == Some(made.criteria);
            if found.iter().any(listed) || !self.makers(made.criteria)?.contains_key(resource) {
                continue;
            }
            if let Some(DuplicateRow { since, resource }) = self.duplicate(made.criteria)? {
                found.push(ConflictRow { since, resource, criteria: Some(made.criteria) });
            }
        }
        Ok(found)
    }
}

/// What conditional creates have made, as one apply changes it.
#[derive(Debug, Default)]
pub(crate) struct Made {
    /// Rows that are new, with their criteria as text.
    new: BTreeMap<MadeRow, String>,
}

/// A row to be put, or to be deleted.
pub(crate) type Change = (Vec<u8>, Option<Vec<u8>>);

impl Made {
    /// Notes that a conditional create has made a resource.
    pub(crate) fn note(&mut self, made: MadeRow, text: String) {
        self.new.insert(made, text);
    }

    /// Whether a conditional create has made this resource.
    pub(crate) fn has(&self, resource: &ResourceKey) -> bool {
        self.new.keys().any(|made| made.resource == *resource)
    }

    /// The rows that change with these resources, of which it is known whether they live before and
    /// after. Says also by how much the number of duplicates grows.
    pub(crate) fn settle(
        self,
        reader: &Reader<'_>,
        touched: &BTreeMap<ResourceKey, (bool, bool)>,
        arrived: Timestamp,
    ) -> Result<(Vec<Change>, i64), Corrupt> {
        let mut changes: Vec<Change> = Vec::new();
        let mut concerned: BTreeMap<CriteriaHash, Vec<(MadeRow, bool)>> = BTreeMap::new();
        for (made, text) in &self.new {
            changes.push((made.by_resource(), Some(text.clone().into_bytes())));
        }
        for (resource, &(before, after)) in touched {
            let mine = self.new.keys().filter(|made| made.resource == *resource);
            let mut rows: BTreeSet<MadeRow> = mine.cloned().collect();
            if before != after || !rows.is_empty() {
                rows.extend(reader.made_under(resource)?.into_iter().map(|(made, _)| made));
            }
            for made in rows {
                changes.push((made.by_criteria(), after.then(Vec::new)));
                concerned.entry(made.criteria).or_default().push((made, after));
            }
        }
        let mut more = 0;
        for (criteria, rows) in concerned {
            let mut makers = reader.makers(criteria)?;
            for (made, lives) in rows {
                if lives {
                    makers.entry(made.resource).or_default().insert(made.origin);
                } else {
                    makers.remove(&made.resource);
                }
            }
            let before = reader.duplicate(criteria)?;
            let first = makers.keys().next().filter(|_| are_duplicates(&makers));
            let after = first.map(|resource| DuplicateRow {
                since: before.as_ref().map_or(arrived, |row| row.since),
                resource: resource.clone(),
            });
            if before == after {
                continue;
            }
            let listed = |row: &DuplicateRow| {
                let (since, resource) = (row.since, row.resource.clone());
                ConflictRow { since, resource, criteria: Some(criteria) }.by_age()
            };
            more += i64::from(after.is_some()) - i64::from(before.is_some());
            changes.extend(before.iter().map(|row| (listed(row), None)));
            changes.extend(after.iter().map(|row| (listed(row), Some(Vec::new()))));
            changes.push((DuplicateRow::key(criteria), after.map(|row| row.encode())));
        }
        Ok((changes, more))
    }
}
