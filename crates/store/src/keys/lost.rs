//! This module holds the row of a change set that was passed over, because no node could give it any
//! more. Its place in the feed has a header row with a hash and nothing else.
//!
//! ```text
//! 'l' origin's text 0 seq (8) -> chain hash (32)
//! ```

use chartmesh_record::{ChainHash, Cursor};

use super::{named_place, named_place_of};

/// A change set that is lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LostRow(pub(crate) Cursor);

impl LostRow {
    /// What the keys begin with.
    pub(crate) const PREFIX: &'static [u8] = b"l";

    pub(crate) fn key(&self) -> Vec<u8> {
        named_place(Self::PREFIX, &self.0.origin, self.0.seq)
    }

    pub(crate) fn encode(&self) -> [u8; 32] {
        self.0.hash.0
    }

    pub(crate) fn decode(key: &[u8], value: &[u8]) -> Option<Self> {
        let (origin, seq) = named_place_of(Self::PREFIX, key)?;
        Some(Self(Cursor { origin, seq, hash: ChainHash(value.try_into().ok()?) }))
    }
}

#[cfg(test)]
mod tests {
    use chartmesh_record::Seq;
    use proptest::prelude::*;

    use super::super::testing::origin;
    use super::*;

    proptest! {
        #[test]
        fn a_row_survives_its_bytes(code in 0..8_u32, seq: u64, hash: [u8; 32]) {
            let row =
                LostRow(Cursor { origin: origin(code), seq: Seq(seq), hash: ChainHash(hash) });
            prop_assert_eq!(LostRow::decode(&row.key(), &row.encode()), Some(row));
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(key: Vec<u8>, value: Vec<u8>) {
            let _ = LostRow::decode(&key, &value);
        }
    }
}
