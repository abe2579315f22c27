//! This module holds the row of a change set that is held as it came and not applied yet.
//!
//! ```text
//! 'h' origin's text 0 seq (8) -> chain hash (32), canonical bytes
//! ```

use bytes::Bytes;
use chartmesh_record::{ChainHash, Cursor, Origin, Seq};

use super::{named_origin, named_place, named_place_of};

/// A change set that is held back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HeldBackRow {
    /// Its place, with the chain up to and with it.
    pub(crate) at: Cursor,
    pub(crate) bytes: Bytes,
}

impl HeldBackRow {
    /// What the keys begin with.
    pub(crate) const PREFIX: &'static [u8] = b"h";

    /// What the keys of one feed begin with.
    pub(crate) fn of_origin(origin: &Origin) -> Vec<u8> {
        named_origin(Self::PREFIX, origin)
    }

    pub(crate) fn key_of(origin: &Origin, seq: Seq) -> Vec<u8> {
        named_place(Self::PREFIX, origin, seq)
    }

    pub(crate) fn key(&self) -> Vec<u8> {
        Self::key_of(&self.at.origin, self.at.seq)
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        [&self.at.hash.0[..], &self.bytes].concat()
    }

    pub(crate) fn decode(key: &[u8], value: &[u8]) -> Option<Self> {
        let (origin, seq) = named_place_of(Self::PREFIX, key)?;
        let (hash, bytes) = value.split_first_chunk()?;
        Some(Self {
            at: Cursor { origin, seq, hash: ChainHash(*hash) },
            bytes: Bytes::copy_from_slice(bytes),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::testing::origin;
    use super::*;

    proptest! {
        #[test]
        fn a_row_survives_its_bytes(code in 0..8_u32, seq: u64, hash: [u8; 32], bytes: Vec<u8>) {
            let at = Cursor { origin: origin(code), seq: Seq(seq), hash: ChainHash(hash) };
            let row = HeldBackRow { at, bytes: bytes.into() };
            prop_assert_eq!(HeldBackRow::decode(&row.key(), &row.encode()), Some(row));
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(key: Vec<u8>, value: Vec<u8>) {
            let _ = HeldBackRow::decode(&key, &value);
        }
    }
}
