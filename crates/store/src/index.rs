//! This module keeps what searches go through: of every live resource the row of its entries, and the
//! postings that lead to it.
//!
//! ```text
//! type (1) id as a key -> origin, generation, seq, index, at, in conflict, then the entries
//! posting              -> nothing
//! ```
//! Both follow from the heads and the current version alone, and are made again when their format or
//! the parameters change.

use std::collections::BTreeSet;

use chartmesh_record::{Generation, ResourceKey, ResourceType, Seq, Timestamp, Zone, mutant};
use chartmesh_search::{Entries, FORMAT, IdKey, Registry, postings};
use rocksdb::{ReadOptions, WriteBatch};

use crate::codec::{Fields, put_signed, put_varint};
use crate::error::{Corrupt, OpenError};
use crate::keys::{FeedPlace, HeadRow, HeldHead, MetaKey, OriginCode, PiecePlace};
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

/// Where the current version of a live resource stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IndexedHead {
    pub(crate) generation: Generation,
    pub(crate) place: PiecePlace,
    pub(crate) at: Timestamp,
    pub(crate) in_conflict: bool,
}

impl IndexedHead {
    /// Of the current head of a row; `None` if nothing lives.
    pub(crate) fn of(row: &HeadRow, code: impl Fn(&HeldHead) -> OriginCode) -> Option<Self> {
        let current = row.current().filter(|held| !held.head.deleted)?;
        let change = FeedPlace { origin: code(current), seq: current.seq };
        Some(Self {
            generation: current.head.version.generation,
            place: PiecePlace { change, index: current.index },
            at: current.at,
            in_conflict: row.in_conflict(),
        })
    }

    fn put(&self, row: &mut Vec<u8>) {
        put_varint(row, self.place.change.origin.0.into());
        put_varint(row, self.generation.0);
        put_varint(row, self.place.change.seq.0);
        put_varint(row, self.place.index.into());
        put_signed(row, self.at.0);
        row.push(self.in_conflict.into());
    }

    /// Reads a row: this, then the entries.
    pub(crate) fn split(row: &[u8]) -> Option<(Self, &[u8])> {
        let mut fields = Fields(row);
        let origin = OriginCode(fields.small()?);
        let generation = Generation(fields.varint()?);
        let change = FeedPlace { origin, seq: Seq(fields.varint()?) };
        let place = PiecePlace { change, index: fields.small()? };
        let at = Timestamp(fields.signed()?);
        let in_conflict = fields.flag()?;
        Some((Self { generation, place, at, in_conflict }, fields.0))
    }
}

/// What searches go through for one resource.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Indexed {
    /// Its row; `None` if it is not live.
    pub(crate) row: Option<Vec<u8>>,
    /// The keys that lead to it.
    pub(crate) postings: BTreeSet<Vec<u8>>,
}

impl Indexed {
    /// Of a live resource as it is read, which stands there.
    pub(crate) fn of(
        registry: &Registry,
        resource: &ResourceKey,
        head: &IndexedHead,
        content: &[u8],
    ) -> Self {
        let entries = Entries::make(registry, resource.kind, content).unwrap_or_default();
        let mut row = Vec::with_capacity(entries.len() + 24);
        head.put(&mut row);
        row.extend_from_slice(&entries);
        let postings = postings(resource.kind, Entries::read(&entries), &resource.id);
        Self { row: Some(row), postings: postings.into_iter().collect() }
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
    /// What is to be kept for a resource with these heads; `None` if it does not live.
    pub(crate) fn index_of(
        &self,
        registry: &Registry,
        resource: &ResourceKey,
        heads: &HeadRow,
    ) -> Result<Option<Indexed>, Corrupt> {
        let origins = self.inner.origins.read().expect("no holder panics");
        let code = |held: &HeldHead| {
            origins.code(&held.head.version.origin).expect("the origin of a head is known")
        };
        let Some(head) = IndexedHead::of(heads, code) else { return Ok(None) };
        drop(origins);
        let content = self.content(head.place)?;
        let content = content.ok_or_else(|| {
            self.bad_change(head.place.change, "it does not say what its head says")
        })?;
        Ok(Some(Indexed::of(registry, resource, &head, &content)))
    }

    /// What is kept for a resource.
    pub(crate) fn indexed(&self, resource: &ResourceKey) -> Result<Indexed, Corrupt> {
        let key = entries_key(resource);
        let Some(row) = self.get(ENTRIES, &key)? else { return Ok(Indexed::default()) };
        let (_, entries) =
            IndexedHead::split(&row).ok_or_else(|| self.inner.tables.bad_row(ENTRIES, &key))?;
        let postings = postings(resource.kind, Entries::read(entries), &resource.id);
        Ok(Indexed { row: Some(row.to_vec()), postings: postings.into_iter().collect() })
    }
}

/// How the index must have been made to be used: its format, and the zone of dates without one.
fn mark(registry: &Registry) -> [u8; 8] {
    let mut mark = [0; 8];
    mark[..4].copy_from_slice(&FORMAT.to_be_bytes());
    mark[4..].copy_from_slice(&registry.zone().to_be_bytes());
    mark
}

/// The zone in which dates were read when the index was made.
pub(crate) fn indexed_in(tables: &Tables) -> Result<Zone, Corrupt> {
    let mark = tables.get(META, MetaKey::Index.key(), None)?;
    let zone = mark.and_then(|mark| mark.last_chunk().copied());
    Ok(zone.map_or_else(Zone::default, |zone| Zone { seconds: i32::from_be_bytes(zone) }))
}

/// Makes the index again if it was made in another way.
pub(crate) fn check_index(inner: &Inner) -> Result<(), OpenError> {
    let mark = mark(&inner.registry());
    let held = inner.tables.get(META, MetaKey::Index.key(), None)?;
    if held.is_some_and(|held| *held == mark) {
        return Ok(());
    }
    rebuild(inner)?;
    let mut batch = WriteBatch::default();
    batch.put(MetaKey::Index.key(), mark);
    inner.settle(batch)?;
    Ok(inner.tables.sync()?)
}

fn rebuild(inner: &Inner) -> Result<(), OpenError> {
    for table in [ENTRIES, POSTINGS] {
        inner.tables.clear(table)?;
    }
    let (reader, registry) = (Reader::live(inner), inner.registry());
    let (mut batch, mut done) = (WriteBatch::default(), 0_u64);
    for row in inner.tables.scan(HEADS, b"", b"", ReadOptions::default()) {
        let (key, value) = row?;
        let resource = HeadRow::resource(&key).ok_or_else(|| inner.tables.bad_row(HEADS, &key))?;
        let heads = reader.decode_head_row(&key, &value)?;
        if let Some(indexed) = reader.index_of(&registry, &resource, &heads)? {
            let key = entries_key(&resource);
            indexed.replace(&Indexed::default(), &key, &inner.tables, &mut batch);
        }
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
