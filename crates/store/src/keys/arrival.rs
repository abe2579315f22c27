//! This module holds the rows of arrivals: when a version came to this node, by its type. What is the
//! order of arrivals here is another one elsewhere; it stands under no digest.
//!
//! ```text
//! type (1) when (8) number within that apply (4) -> origin, then as in a version's row
//! 'm' 'h' -> when the first came (8), when the last came (8)
//! ```

use chartmesh_record::{ResourceType, Timestamp};

use super::{OriginCode, PiecePlace, VersionRow};
use crate::codec::{Fields, put_varint};

/// Where a version stands in the order of arrivals. All of one apply have one instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ArrivalPlace {
    /// When it arrived, by this node's clock; later applies have later instants.
    pub at: Timestamp,
    /// Its number among those of one apply.
    pub number: u32,
}

impl ArrivalPlace {
    /// After everything that has arrived.
    pub(crate) const END: Self = Self { at: Timestamp(i64::MAX), number: u32::MAX };

    pub(crate) fn key(self, kind: ResourceType) -> Vec<u8> {
        let mut key = Vec::with_capacity(13);
        key.push(kind.code());
        key.extend_from_slice(&(self.at.0 as u64).to_be_bytes());
        key.extend_from_slice(&self.number.to_be_bytes());
        key
    }

    pub(crate) fn of_key(key: &[u8]) -> Option<(ResourceType, Self)> {
        let mut fields = Fields(key);
        let kind = ResourceType::from_code(fields.byte()?)?;
        let at = Timestamp(i64::try_from(fields.fixed_u64()?).ok()?);
        let number = fields.fixed_u32()?;
        fields.end().map(|()| (kind, Self { at, number }))
    }
}

/// The version that arrived: where it stands, and when it was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ArrivalRow {
    pub(crate) origin: OriginCode,
    pub(crate) version: VersionRow,
}

impl ArrivalRow {
    pub(crate) fn place(self) -> PiecePlace {
        self.version.place(self.origin)
    }

    pub(crate) fn encode(self) -> Vec<u8> {
        let mut row = Vec::with_capacity(20);
        put_varint(&mut row, self.origin.0.into());
        row.extend_from_slice(&self.version.encode());
        row
    }

    pub(crate) fn decode(row: &[u8]) -> Option<Self> {
        let mut fields = Fields(row);
        let origin = OriginCode(fields.small()?);
        Some(Self { origin, version: VersionRow::decode(fields.rest())? })
    }
}

/// Between which instants everything has arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ArrivalsRow {
    pub(crate) first: Timestamp,
    pub(crate) last: Timestamp,
}

impl ArrivalsRow {
    pub(crate) fn encode(self) -> [u8; 16] {
        let mut row = [0; 16];
        row[..8].copy_from_slice(&self.first.0.to_be_bytes());
        row[8..].copy_from_slice(&self.last.0.to_be_bytes());
        row
    }

    pub(crate) fn decode(row: &[u8]) -> Option<Self> {
        let mut fields = Fields(row);
        let mut instant = || fields.array().map(|bytes| Timestamp(i64::from_be_bytes(bytes)));
        let row = Self { first: instant()?, last: instant()? };
        fields.end().map(|()| row)
    }
}

#[cfg(test)]
mod tests {
    use chartmesh_record::Seq;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn keys_survive_and_sort_by_type_then_arrival(
            kinds in prop::sample::subsequence(ResourceType::all().collect::<Vec<_>>(), 2),
            same: bool,
            at in prop::array::uniform2(0..i64::MAX),
            number: [u32; 2],
        ) {
            let kinds = [kinds[0], kinds[usize::from(!same)]];
            let place = |which: usize| ArrivalPlace { at: Timestamp(at[which]), number: number[which] };
            let keys = [0, 1].map(|which| place(which).key(kinds[which]));
            prop_assert_eq!(ArrivalPlace::of_key(&keys[0]), Some((kinds[0], place(0))));
            let order = |which: usize| (kinds[which].code(), place(which));
            prop_assert_eq!(keys[0].cmp(&keys[1]), order(0).cmp(&order(1)));
        }

        #[test]
        fn rows_survive_their_bytes(
            origin: u32, seq: u64, index: u32, at: i64, first: i64, last: i64,
        ) {
            let version = VersionRow { seq: Seq(seq), index, at: Timestamp(at) };
            let row = ArrivalRow { origin: OriginCode(origin), version };
            prop_assert_eq!(ArrivalRow::decode(&row.encode()), Some(row));
            let row = ArrivalsRow { first: Timestamp(first), last: Timestamp(last) };
            prop_assert_eq!(ArrivalsRow::decode(&row.encode()), Some(row));
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(row: Vec<u8>) {
            let _ = ArrivalPlace::of_key(&row);
            let _ = (ArrivalRow::decode(&row), ArrivalsRow::decode(&row));
        }
    }
}
