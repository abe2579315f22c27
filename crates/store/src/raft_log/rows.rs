//! This module holds the rows of the Raft log.
//!
//! ```text
//! default: 'f' -> format (4)    'i' -> Raft id, founded, region    'v' -> vote
//!          'c' -> committed: term, leader, index        'p' -> purged: term, leader, index
//! entries: index (8)            -> term, leader, payload
//! ```

use std::ops::Range;

use bytes::Bytes;
use rocksdb::{IteratorMode, ReadOptions, WriteBatch};

use super::{Change, Identity, LogId, State};
use crate::codec::{Fields, put_varint};
use crate::error::{Corrupt, OpenError};
use crate::tables::Tables;

/// The table of entries.
pub(super) const ENTRIES: &str = "entries";

/// The table of everything else.
const META: &str = "default";

/// The format that this software writes, and the newest that it reads.
const FORMAT: u32 = 1;

/// A row of which there is one.
#[derive(Clone, Copy, Debug)]
pub(super) enum Row {
    Format,
    Identity,
    Vote,
    Committed,
    Purged,
}

impl Row {
    pub(super) fn key(self) -> &'static [u8] {
        match self {
            Self::Format => b"f",
            Self::Identity => b"i",
            Self::Vote => b"v",
            Self::Committed => b"c",
            Self::Purged => b"p",
        }
    }
}

/// What the rows say. A new log is marked as ours.
pub(super) fn load(tables: &Tables) -> Result<State, OpenError> {
    let bad = |row: Row| tables.bad_row(META, row.key());
    match get(tables, Row::Format)? {
        Some(row) => {
            let format = row[..].try_into().map(u32::from_be_bytes);
            let format = format.map_err(|_| bad(Row::Format))?;
            if format > FORMAT {
                let dir = tables.dir().to_owned();
                return Err(OpenError::NewerFormat { dir, format, known: FORMAT });
            }
        }
        None => {
            if tables.scan(ENTRIES, b"", b"", ReadOptions::default()).next().is_some() {
                return Err(tables.no_row(META, Row::Format.key()).into());
            }
            let mut batch = WriteBatch::default();
            batch.put(Row::Format.key(), FORMAT.to_be_bytes());
            tables.write(batch, true)?;
        }
    }
    let log_id = |row: Row| {
        let found = get(tables, row)?;
        found.map(|bytes| decode_log_id(&bytes).ok_or_else(|| bad(row))).transpose()
    };
    let purged = log_id(Row::Purged)?;
    let identity = get(tables, Row::Identity)?
        .map(|bytes| decode_identity(&bytes).ok_or_else(|| bad(Row::Identity)))
        .transpose()?;
    let after_purged = purged.map_or(0, |purged| purged.index + 1);
    Ok(State {
        first: entry_at(tables, IteratorMode::Start)?.map_or(after_purged, |it| it.index),
        last: entry_at(tables, IteratorMode::End)?.or(purged),
        purged,
        vote: get(tables, Row::Vote)?,
        committed: log_id(Row::Committed)?,
        identity,
        ..State::default()
    })
}

/// Adds a change to a batch.
pub(super) fn put(tables: &Tables, batch: &mut WriteBatch, change: &Change) {
    let entries = tables.table(ENTRIES);
    match change {
        Change::Append(new) => {
            for (id, payload) in new {
                batch.put_cf(entries, id.index.to_be_bytes(), encode_entry(id, payload));
            }
        }
        Change::TruncateAfter(last) => {
            let first = last.map_or(0, |last| last.index + 1);
            batch.delete_range_cf(entries, first.to_be_bytes(), u64::MAX.to_be_bytes());
        }
        Change::Purge(upto) => {
            batch.delete_range_cf(entries, 0_u64.to_be_bytes(), (upto.index + 1).to_be_bytes());
            batch.put(Row::Purged.key(), encode_log_id(upto));
        }
        Change::Vote(vote) => batch.put(Row::Vote.key(), vote),
        Change::Nothing => {}
    }
}

pub(super) fn put_committed(batch: &mut WriteBatch, committed: Option<LogId>) {
    match committed {
        Some(committed) => batch.put(Row::Committed.key(), encode_log_id(&committed)),
        None => batch.delete(Row::Committed.key()),
    }
}

/// The entries of these indexes, up to the first that is not there.
pub(super) fn entries(tables: &Tables, range: Range<u64>) -> Result<Vec<(LogId, Bytes)>, Corrupt> {
    if range.is_empty() {
        return Ok(Vec::new());
    }
    let rows = tables.scan(ENTRIES, &range.start.to_be_bytes(), b"", ReadOptions::default());
    let mut found = Vec::new();
    for (index, row) in range.zip(rows) {
        let (key, value) = row?;
        let entry = decode_entry(&key, &value).ok_or_else(|| tables.bad_row(ENTRIES, &key))?;
        if entry.0.index != index {
            break;
        }
        found.push(entry);
    }
    Ok(found)
}

/// About how many bytes the entries take: in files, and in memory before that.
pub(super) fn bytes(tables: &Tables) -> u64 {
    let property = |name| {
        let value = tables.db().property_int_value_cf(tables.table(ENTRIES), name);
        value.ok().flatten().unwrap_or(0)
    };
    property("rocksdb.total-sst-files-size") + property("rocksdb.size-all-mem-tables")
}

/// Gives back what entries up to a purged one took.
pub(super) fn shrink(tables: &Tables, purged: Option<LogId>) {
    let Some(purged) = purged else { return };
    let end = (purged.index + 1).to_be_bytes();
    tables.db().compact_range_cf(tables.table(ENTRIES), Some(0_u64.to_be_bytes()), Some(end));
}

/// An entry that should be there is not.
pub(super) fn missing(tables: &Tables, index: u64) -> Corrupt {
    tables.no_row(ENTRIES, &index.to_be_bytes())
}

pub(super) fn encode_identity(identity: &Identity) -> Vec<u8> {
    let mut row = Vec::with_capacity(40);
    put_varint(&mut row, identity.raft_id);
    row.push(identity.founded.into());
    row.extend_from_slice(identity.region.as_str().as_bytes());
    row
}

fn decode_identity(row: &[u8]) -> Option<Identity> {
    let mut fields = Fields(row);
    let (raft_id, founded) = (fields.varint()?, fields.flag()?);
    let region = std::str::from_utf8(fields.rest()).ok()?.parse().ok()?;
    Some(Identity { raft_id, region, founded })
}

fn get(tables: &Tables, row: Row) -> Result<Option<Bytes>, Corrupt> {
    let row = tables.get(META, row.key(), None)?;
    Ok(row.map(|row| Bytes::copy_from_slice(&row)))
}

/// The first or the last entry.
fn entry_at(tables: &Tables, end: IteratorMode<'_>) -> Result<Option<LogId>, Corrupt> {
    let mut rows = tables.db().iterator_cf(tables.table(ENTRIES), end);
    let Some(row) = rows.next() else { return Ok(None) };
    let (key, value) = row.map_err(|error| tables.corrupt(error))?;
    let entry = decode_entry(&key, &value).ok_or_else(|| tables.bad_row(ENTRIES, &key))?;
    Ok(Some(entry.0))
}

fn encode_log_id(id: &LogId) -> Vec<u8> {
    let mut row = Vec::with_capacity(30);
    put_varint(&mut row, id.term);
    put_varint(&mut row, id.leader);
    put_varint(&mut row, id.index);
    row
}

fn decode_log_id(row: &[u8]) -> Option<LogId> {
    let mut fields = Fields(row);
    let id = LogId { term: fields.varint()?, leader: fields.varint()?, index: fields.varint()? };
    fields.end().map(|()| id)
}

fn encode_entry(id: &LogId, payload: &[u8]) -> Vec<u8> {
    let mut row = Vec::with_capacity(20 + payload.len());
    put_varint(&mut row, id.term);
    put_varint(&mut row, id.leader);
    row.extend_from_slice(payload);
    row
}

fn decode_entry(key: &[u8], value: &[u8]) -> Option<(LogId, Bytes)> {
    let index = u64::from_be_bytes(key.try_into().ok()?);
    let mut fields = Fields(value);
    let (term, leader) = (fields.varint()?, fields.varint()?);
    Some((LogId { term, leader, index }, Bytes::copy_from_slice(fields.rest())))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ids() -> impl Strategy<Value = LogId> {
        any::<(u64, u64, u64)>().prop_map(|(term, leader, index)| LogId { term, leader, index })
    }

    proptest! {
        #[test]
        fn an_entry_survives_its_row(id in ids(), payload: Vec<u8>) {
            let row = encode_entry(&id, &payload);
            let decoded = decode_entry(&id.index.to_be_bytes(), &row);
            prop_assert_eq!(decoded, Some((id, payload.into())));
        }

        #[test]
        fn keys_sort_as_their_indexes(a: u64, b: u64) {
            prop_assert_eq!(a.to_be_bytes().cmp(&b.to_be_bytes()), a.cmp(&b));
        }

        #[test]
        fn a_log_id_survives_its_row(id in ids()) {
            prop_assert_eq!(decode_log_id(&encode_log_id(&id)), Some(id));
        }

        #[test]
        fn an_identity_survives_its_row(raft_id: u64, founded: bool, region in "[a-z][a-z0-9-]{0,23}") {
            let identity = Identity { raft_id, region: region.parse().unwrap(), founded };
            prop_assert_eq!(decode_identity(&encode_identity(&identity)), Some(identity));
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(key: Vec<u8>, row: Vec<u8>) {
            let _ = (decode_entry(&key, &row), decode_log_id(&row), decode_identity(&row));
        }
    }
}
