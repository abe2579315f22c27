//! This module holds the row of a type's counts.
//!
//! ```text
//! 'c' type (1) -> resources, versions, bytes
//! ```

use chartmesh_record::ResourceType;

use crate::codec::{Fields, put_varint};
use crate::counts::Count;

/// How much is held of one type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CountRow(pub(crate) Count);

impl CountRow {
    /// What the keys of all types begin with.
    pub(crate) const PREFIX: &'static [u8] = b"c";

    pub(crate) fn key(kind: ResourceType) -> Vec<u8> {
        [Self::PREFIX, &[kind.code()]].concat()
    }

    pub(crate) fn kind(key: &[u8]) -> Option<ResourceType> {
        let mut fields = Fields(key.strip_prefix(Self::PREFIX)?);
        let kind = ResourceType::from_code(fields.byte()?)?;
        fields.end().map(|()| kind)
    }

    pub(crate) fn encode(self) -> Vec<u8> {
        let mut row = Vec::with_capacity(24);
        put_varint(&mut row, self.0.resources);
        put_varint(&mut row, self.0.versions);
        put_varint(&mut row, self.0.bytes);
        row
    }

    pub(crate) fn decode(row: &[u8]) -> Option<Self> {
        let mut fields = Fields(row);
        let count = Count {
            resources: fields.varint()?,
            versions: fields.varint()?,
            bytes: fields.varint()?,
        };
        fields.end().map(|()| Self(count))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::testing::resources;
    use super::*;

    proptest! {
        #[test]
        fn a_row_survives_its_bytes(resources: u64, versions: u64, bytes: u64) {
            let row = CountRow(Count { resources, versions, bytes });
            prop_assert_eq!(CountRow::decode(&row.encode()), Some(row));
        }

        #[test]
        fn a_key_survives_and_sorts_as_its_type(a in resources(), b in resources()) {
            prop_assert_eq!(CountRow::kind(&CountRow::key(a.kind)), Some(a.kind));
            prop_assert_eq!(CountRow::key(a.kind).cmp(&CountRow::key(b.kind)), a.kind.cmp(&b.kind));
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(row: Vec<u8>) {
            let _ = (CountRow::decode(&row), CountRow::kind(&row));
        }
    }
}
