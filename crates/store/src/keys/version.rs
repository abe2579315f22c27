//! This module holds the row of a version: where it stands, found by its name.
//!
//! ```text
//! type (1) id 0 generation (8, inverted) origin (4) -> seq, index, at
//! ```
//! The versions of a resource follow each other, the highest generation first.

use chartmesh_record::{Generation, ResourceKey, Seq, Timestamp};

use super::{FeedPlace, OriginCode, PiecePlace, put_resource, resource_of};
use crate::codec::{Fields, put_signed, put_varint};

/// The key of a version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct VersionKey {
    pub(crate) resource: ResourceKey,
    pub(crate) generation: Generation,
    pub(crate) origin: OriginCode,
}

impl VersionKey {
    /// What the keys of all versions of a resource begin with, and no others.
    pub(crate) fn prefix(resource: &ResourceKey) -> Vec<u8> {
        let mut key = Vec::with_capacity(14 + resource.id.as_str().len());
        put_resource(&mut key, resource);
        key.push(0);
        key
    }

    /// What the keys of the versions of one generation begin with.
    pub(crate) fn from(resource: &ResourceKey, generation: Generation) -> Vec<u8> {
        let mut key = Self::prefix(resource);
        key.extend_from_slice(&(!generation.0).to_be_bytes());
        key
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut key = Self::from(&self.resource, self.generation);
        key.extend_from_slice(&self.origin.0.to_be_bytes());
        key
    }

    pub(crate) fn decode(key: &[u8]) -> Option<Self> {
        let (resource, mut name) = key.split_at_checked(key.len().checked_sub(12)?)?;
        let resource = resource_of(resource.strip_suffix(&[0])?)?;
        let name = &mut Fields(std::mem::take(&mut name));
        let generation = Generation(!name.fixed_u64()?);
        Some(Self { resource, generation, origin: OriginCode(name.fixed_u32()?) })
    }
}

/// Where a version stands in the feed of its origin, and when it was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct VersionRow {
    pub(crate) seq: Seq,
    pub(crate) index: u32,
    pub(crate) at: Timestamp,
}

impl VersionRow {
    pub(crate) fn place(self, origin: OriginCode) -> PiecePlace {
        PiecePlace { change: FeedPlace { origin, seq: self.seq }, index: self.index }
    }

    pub(crate) fn encode(self) -> Vec<u8> {
        let mut row = Vec::with_capacity(16);
        put_varint(&mut row, self.seq.0);
        put_varint(&mut row, self.index.into());
        put_signed(&mut row, self.at.0);
        row
    }

    pub(crate) fn decode(row: &[u8]) -> Option<Self> {
        let mut fields = Fields(row);
        let row = Self {
            seq: Seq(fields.varint()?),
            index: fields.small()?,
            at: Timestamp(fields.signed()?),
        };
        fields.end().map(|()| row)
    }
}

#[cfg(test)]
mod tests {
    use std::cmp::Reverse;

    use proptest::prelude::*;

    use super::super::testing::resources;
    use super::*;

    fn keys() -> impl Strategy<Value = VersionKey> {
        (resources(), any::<(u64, u32)>()).prop_map(|(resource, (generation, origin))| VersionKey {
            resource,
            generation: Generation(generation),
            origin: OriginCode(origin),
        })
    }

    proptest! {
        #[test]
        fn a_key_survives_and_sorts_by_resource_then_from_the_newest(a in keys(), b in keys()) {
            let order = |key: &VersionKey| {
                (key.resource.clone(), Reverse(key.generation), key.origin)
            };
            prop_assert_eq!(VersionKey::decode(&a.encode()), Some(a.clone()));
            prop_assert_eq!(a.encode().cmp(&b.encode()), order(&a).cmp(&order(&b)));
        }

        #[test]
        fn the_versions_of_one_resource_follow_each_other(a in keys(), generation: u64) {
            let other = VersionKey { generation: Generation(generation), ..a.clone() };
            let prefix = VersionKey::prefix(&a.resource);
            prop_assert!(other.encode().starts_with(&prefix));

            let id = a.resource.id.as_str();
            let id = format!("{}0", &id[..id.len().min(63)]).parse().unwrap();
            let longer = ResourceKey { kind: a.resource.kind, id };
            if longer != a.resource {
                let longer = VersionKey { resource: longer, ..a };
                prop_assert!(!longer.encode().starts_with(&prefix));
            }
        }

        #[test]
        fn a_row_survives_its_bytes(seq: u64, index: u32, at: i64) {
            let row = VersionRow { seq: Seq(seq), index, at: Timestamp(at) };
            prop_assert_eq!(VersionRow::decode(&row.encode()), Some(row));
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(row: Vec<u8>) {
            let _ = (VersionKey::decode(&row), VersionRow::decode(&row));
        }
    }
}
