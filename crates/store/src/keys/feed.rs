//! This module holds the rows of feeds: a header, then its pieces, as they follow in the bytes.
//!
//! ```text
//! origin (4) seq (8)           -> chain hash (32), header
//! origin (4) seq (8) index (4) -> piece
//! ```

use chartmesh_record::{ChainHash, Seq};

use super::{FeedPlace, OriginCode, PiecePlace};
use crate::codec::Fields;

/// The key of a row of a feed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum FeedKey {
    /// That of a change set.
    Header(FeedPlace),
    /// That of one of its versions.
    Piece(PiecePlace),
}

impl FeedKey {
    pub(crate) fn encode(self) -> Vec<u8> {
        let (place, index) = match self {
            Self::Header(place) => (place, None),
            Self::Piece(piece) => (piece.change, Some(piece.index)),
        };
        let mut row = Vec::with_capacity(16);
        row.extend_from_slice(&place.origin.0.to_be_bytes());
        row.extend_from_slice(&place.seq.0.to_be_bytes());
        if let Some(index) = index {
            row.extend_from_slice(&index.to_be_bytes());
        }
        row
    }

    pub(crate) fn decode(row: &[u8]) -> Option<Self> {
        let mut fields = Fields(row);
        let origin = OriginCode(fields.fixed_u32()?);
        let place = FeedPlace { origin, seq: Seq(fields.fixed_u64()?) };
        if fields.rest().is_empty() {
            return Some(Self::Header(place));
        }
        let index = fields.fixed_u32()?;
        fields.end().map(|()| Self::Piece(PiecePlace { change: place, index }))
    }
}

/// The value of a change set's row: the chain up to and with it, and its header's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HeaderRow<'a> {
    pub(crate) hash: ChainHash,
    pub(crate) header: &'a [u8],
}

impl<'a> HeaderRow<'a> {
    pub(crate) fn encode(self) -> Vec<u8> {
        [&self.hash.0, self.header].concat()
    }

    pub(crate) fn decode(row: &'a [u8]) -> Option<Self> {
        let mut fields = Fields(row);
        Some(Self { hash: ChainHash(fields.array()?), header: fields.rest() })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn keys() -> impl Strategy<Value = FeedKey> {
        (0..3_u32, 0..3_u64, prop::option::of(0..3_u32)).prop_map(|(code, seq, index)| {
            let change = FeedPlace { origin: OriginCode(code), seq: Seq(seq) };
            index.map_or(FeedKey::Header(change), |index| {
                FeedKey::Piece(PiecePlace { change, index })
            })
        })
    }

    /// A header comes before its pieces, and these before the next header.
    fn order(key: &FeedKey) -> (FeedPlace, Option<u32>) {
        match key {
            FeedKey::Header(place) => (*place, None),
            FeedKey::Piece(piece) => (piece.change, Some(piece.index)),
        }
    }

    proptest! {
        #[test]
        fn a_key_survives_and_sorts_as_the_bytes_of_the_feed_follow(a in keys(), b in keys()) {
            prop_assert_eq!(FeedKey::decode(&a.encode()), Some(a));
            prop_assert_eq!(a.encode().cmp(&b.encode()), order(&a).cmp(&order(&b)));
        }

        #[test]
        fn a_header_survives_its_row(hash: [u8; 32], header: Vec<u8>) {
            let row = HeaderRow { hash: ChainHash(hash), header: &header };
            let bytes = row.encode();
            prop_assert_eq!(HeaderRow::decode(&bytes), Some(row));
        }

        #[test]
        fn other_bytes_are_no_key(row: Vec<u8>) {
            if let Some(key) = FeedKey::decode(&row) {
                prop_assert_eq!(key.encode(), row);
            }
        }
    }
}
