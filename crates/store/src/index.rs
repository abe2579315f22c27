//! This module keeps what searches go through: of every live resource the row of its entries, and the
//! postings that lead to it.
//!
//! Both follow from the current version alone, and are made again when their format or the parameters
//! change.

use std::collections::BTreeSet;

use chartmesh_record::{ResourceId, ResourceKey, ResourceType, mutant};
use chartmesh_search::{Entries, FORMAT, IdKey, Registry, postings};
use rocksdb::{ReadOptions, WriteBatch};

use crate::error::{Corrupt, OpenError};
use crate::keys::{CurrentHead, HeadRow, MetaKey};
use crate::reader::Reader;
use crate::store::{ENTRIES, HEADS, Inner, META, POSTINGS};
use crate::tables::Tables;

/// Resources between two words of progress while an index is made.
const STEP: u64 = 10_000;
/// Bytes of rows that are written at once while an index is made.
const BATCH_BYTES: usize = 4 << 20;

/// The key of the row of a resource's entries.
pub(crate) fn entries_key(resource: &ResourceKey) -> Vec<u8> {
    [&[resource.kind.code()][..], IdKey::new(&resource.id).as_bytes()].concat()
}

/// The resource of such a key.
pub(crate) fn decode_entries_key(key: &[u8]) -> Option<(ResourceType, IdKey)> {
    let (&code, id) = key.split_first()?;
    let id = IdKey::of_posting(id).filter(|it| it.as_bytes() == id)?;
    Some((ResourceType::from_code(code)?, id))
}

/// What searches go through for one resource.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Indexed {
    /// The row of its entries; `None` if it is not live.
    pub(crate) row: Option<Vec<u8>>,
    /// The keys that lead to it.
    pub(crate) postings: BTreeSet<Vec<u8>>,
}

impl Indexed {
    /// Of a resource as it is read.
    pub(crate) fn of(registry: &Registry, resource: &ResourceKey, content: Option<&[u8]>) -> Self {
        let row = content.and_then(|content| Entries::make(registry, resource.kind, content));
        row.map_or_else(Self::default, |row| Self::of_row(resource.kind, &resource.id, row))
    }

    /// Of a resource whose entries are these.
    pub(crate) fn of_row(kind: ResourceType, id: &ResourceId, row: Vec<u8>) -> Self {
        let postings = postings(kind, Entries::read(&row), id).into_iter().collect();
        Self { row: Some(row), postings }
    }

    /// Puts the difference to what is there.
    pub(crate) fn replace(&self, old: &Self, key: &[u8], tables: &Tables, batch: &mut WriteBatch) {
        let (entries, keys) = (tables.table(ENTRIES), tables.table(POSTINGS));
        if self.row != old.row {
            match &self.row {
                Some(row) => batch.put_cf(entries, key, row),
                None => batch.delete_cf(entries, key),
            }
        }
        if !mutant("posting-of-a-superseded-version") {
            old.postings.difference(&self.postings).for_each(|key| batch.delete_cf(keys, key));
        }
        self.postings.difference(&old.postings).for_each(|key| batch.put_cf(keys, key, b""));
    }
}

impl Reader<'_> {
    /// What is kept for a resource.
    pub(crate) fn indexed(&self, resource: &ResourceKey) -> Result<Indexed, Corrupt> {
        let row = self.get(ENTRIES, &entries_key(resource))?;
        Ok(row.map_or_else(Indexed::default, |row| {
            Indexed::of_row(resource.kind, &resource.id, row.to_vec())
        }))
    }
}

/// How the index must have been made to be used: its format, and the zone of dates without one.
fn mark(registry: &Registry) -> [u8; 8] {
    let mut mark = [0; 8];
    mark[..4].copy_from_slice(&FORMAT.to_be_bytes());
    mark[4..].copy_from_slice(&registry.zone().to_be_bytes());
    mark
}

/// Makes the index again if it was made in another way.
pub(crate) fn check_index(inner: &Inner) -> Result<(), OpenError> {
    let mark = mark(&inner.registry);
    let held = inner.tables.get(META, MetaKey::Index.key(), None)?;
    if held.is_some_and(|held| *held == mark) {
        return Ok(());
    }
    rebuild(inner)?;
    let mut batch = WriteBatch::default();
    batch.put(MetaKey::Index.key(), mark);
    Ok(inner.tables.write(batch, true)?)
}

fn rebuild(inner: &Inner) -> Result<(), OpenError> {
    for table in [ENTRIES, POSTINGS] {
        inner.tables.clear(table)?;
    }
    let reader = Reader::live(inner);
    let (mut batch, mut done) = (WriteBatch::default(), 0_u64);
    for row in inner.tables.scan(HEADS, b"", b"", ReadOptions::default()) {
        let (key, value) = row?;
        let bad = || inner.tables.bad_row(HEADS, &key);
        let resource = HeadRow::resource(&key).ok_or_else(bad)?;
        let head = CurrentHead::decode(&value).ok_or_else(bad)?;
        let content = if head.deleted { None } else { reader.content(head.place)? };
        let indexed = Indexed::of(&inner.registry, &resource, content.as_deref());
        let key = entries_key(&resource);
        indexed.replace(&Indexed::default(), &key, &inner.tables, &mut batch);
        if batch.size_in_bytes() > BATCH_BYTES {
            inner.tables.write(std::mem::take(&mut batch), false)?;
        }
        done += 1;
        if done.is_multiple_of(STEP) {
            tracing::info!(resources = done, "making the search index");
        }
    }
    if done > 0 {
        tracing::info!(resources = done, "the search index is made");
    }
    Ok(inner.tables.write(batch, false)?)
}
