//! This module holds the row of an origin: the short code that stands for it on this disk, and how
//! far its feed is held.
//!
//! ```text
//! 'o' code (4) -> seq, hash (32), newest instant, forgotten up to, origin's text
//! ```

use chartmesh_record::{ChainHash, Cursor, Origin, Seq, Timestamp};

use crate::codec::{Fields, put_signed, put_varint};

/// What stands for an origin on this disk. It means nothing elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct OriginCode(pub(crate) u32);

/// How far a feed is held. An origin may be known only by name: nothing of it is held then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OriginRow {
    pub(crate) cursor: Cursor,
    /// When the newest change set held was decided; 0 while there is none.
    pub(crate) newest: Timestamp,
    /// The last change set whose request is forgotten.
    pub(crate) forgotten: Seq,
}

impl OriginCode {
    /// What the keys of all origins begin with.
    pub(crate) const PREFIX: &'static [u8] = b"o";

    pub(crate) fn key(self) -> Vec<u8> {
        [Self::PREFIX, &self.0.to_be_bytes()].concat()
    }

    pub(crate) fn decode(key: &[u8]) -> Option<Self> {
        let mut fields = Fields(key.strip_prefix(Self::PREFIX)?);
        let code = Self(fields.fixed_u32()?);
        fields.end().map(|()| code)
    }
}

impl OriginRow {
    pub(crate) fn start(origin: Origin) -> Self {
        Self { cursor: Cursor::start(origin), newest: Timestamp(0), forgotten: Seq(0) }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut row = Vec::with_capacity(96);
        put_varint(&mut row, self.cursor.seq.0);
        row.extend_from_slice(&self.cursor.hash.0);
        put_signed(&mut row, self.newest.0);
        put_varint(&mut row, self.forgotten.0);
        row.extend_from_slice(self.cursor.origin.as_str().as_bytes());
        row
    }

    pub(crate) fn decode(row: &[u8]) -> Option<Self> {
        let mut fields = Fields(row);
        let (seq, hash) = (Seq(fields.varint()?), ChainHash(fields.array()?));
        let newest = Timestamp(fields.signed()?);
        let forgotten = Seq(fields.varint()?);
        let origin = std::str::from_utf8(fields.rest()).ok()?.parse().ok()?;
        Some(Self { cursor: Cursor { origin, seq, hash }, newest, forgotten })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::testing::origin;
    use super::*;

    proptest! {
        #[test]
        fn a_row_survives_its_bytes(
            code in 0..8_u32, seq: u64, hash: [u8; 32], newest: i64, forgotten: u64,
        ) {
            let cursor = Cursor { origin: origin(code), seq: Seq(seq), hash: ChainHash(hash) };
            let row = OriginRow { cursor, newest: Timestamp(newest), forgotten: Seq(forgotten) };
            prop_assert_eq!(OriginRow::decode(&row.encode()), Some(row));
        }

        #[test]
        fn a_key_survives_and_sorts_as_its_code(a: u32, b: u32) {
            let (a, b) = (OriginCode(a), OriginCode(b));
            prop_assert_eq!(OriginCode::decode(&a.key()), Some(a));
            prop_assert_eq!(a.key().cmp(&b.key()), a.cmp(&b));
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(row: Vec<u8>) {
            let _ = (OriginRow::decode(&row), OriginCode::decode(&row));
        }
    }
}
