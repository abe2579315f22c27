//! This module holds the rows of resources that conditional creates have made: what was asked for, and
//! in which origin. Two that were made under equal criteria in different origins are duplicates.
//!
//! ```text
//! 'q' criteria (16) type (1) id 0 origin (4) -> nothing      only while the resource is not deleted
//! 'r' type (1) id 0 criteria (16) origin (4) -> the criteria as text
//! 'e' criteria (16) -> since (8) type (1) id                 where there are duplicates
//! ```
//! Criteria stand by the first half of the SHA-256 of their type and text. Ids have no zero.

use chartmesh_record::{ResourceKey, ResourceType, Timestamp};
use sha2::{Digest, Sha256};

use super::conflict::{sortable, timestamp};
use super::{OriginCode, put_resource, resource_of};

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct CriteriaHash(pub(crate) [u8; 16]);

/// A resource that a conditional create has made.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct MadeRow {
    pub(crate) criteria: CriteriaHash,
    pub(crate) resource: ResourceKey,
    pub(crate) origin: OriginCode,
}

/// Since when there are duplicates, and which resource they are listed by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DuplicateRow {
    pub(crate) since: Timestamp,
    pub(crate) resource: ResourceKey,
}

impl CriteriaHash {
    pub(crate) fn of(kind: ResourceType, criteria: &str) -> Self {
        let hash = Sha256::new().chain_update([kind.code()]).chain_update(criteria).finalize();
        let (first, _) = hash.split_at(16);
        Self(first.try_into().expect("a SHA-256 has 32 bytes"))
    }
}

impl MadeRow {
    /// What the keys by resource begin with.
    pub(crate) const BY_RESOURCE: &'static [u8] = b"r";
    /// What the keys by criteria begin with.
    pub(crate) const BY_CRITERIA: &'static [u8] = b"q";

    /// What the keys by criteria begin with, for equal ones.
    pub(crate) fn of_criteria(criteria: CriteriaHash) -> Vec<u8> {
        [Self::BY_CRITERIA, &criteria.0].concat()
    }

    /// What the keys by resource begin with, for one.
    pub(crate) fn of_resource(resource: &ResourceKey) -> Vec<u8> {
        let mut key = Self::BY_RESOURCE.to_vec();
        put_resource(&mut key, resource);
        key.push(0);
        key
    }

    pub(crate) fn by_criteria(&self) -> Vec<u8> {
        let mut key = Self::of_criteria(self.criteria);
        put_resource(&mut key, &self.resource);
        key.push(0);
        key.extend_from_slice(&self.origin.0.to_be_bytes());
        key
    }

    pub(crate) fn by_resource(&self) -> Vec<u8> {
        let mut key = Self::of_resource(&self.resource);
        key.extend_from_slice(&self.criteria.0);
        key.extend_from_slice(&self.origin.0.to_be_bytes());
        key
    }

    pub(crate) fn decode_by_criteria(key: &[u8]) -> Option<Self> {
        let (criteria, rest) = key.strip_prefix(Self::BY_CRITERIA)?.split_first_chunk()?;
        let (rest, origin) = rest.split_last_chunk()?;
        let resource = resource_of(rest.strip_suffix(&[0])?)?;
        let origin = OriginCode(u32::from_be_bytes(*origin));
        Some(Self { criteria: CriteriaHash(*criteria), resource, origin })
    }

    pub(crate) fn decode_by_resource(key: &[u8]) -> Option<Self> {
        let (rest, origin) = key.strip_prefix(Self::BY_RESOURCE)?.split_last_chunk()?;
        let (rest, criteria) = rest.split_last_chunk()?;
        let resource = resource_of(rest.strip_suffix(&[0])?)?;
        let origin = OriginCode(u32::from_be_bytes(*origin));
        Some(Self { criteria: CriteriaHash(*criteria), resource, origin })
    }
}

impl DuplicateRow {
    /// What the keys begin with.
    pub(crate) const PREFIX: &'static [u8] = b"e";

    pub(crate) fn key(criteria: CriteriaHash) -> Vec<u8> {
        [Self::PREFIX, &criteria.0].concat()
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut row = sortable(self.since).to_vec();
        put_resource(&mut row, &self.resource);
        row
    }

    pub(crate) fn decode(row: &[u8]) -> Option<Self> {
        let (since, resource) = row.split_at_checked(8)?;
        Some(Self { since: timestamp(since)?, resource: resource_of(resource)? })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::testing::resources;
    use super::*;

    proptest! {
        #[test]
        fn a_row_survives_its_bytes_both_ways(
            criteria: [u8; 16], resource in resources(), origin: u32, since: i64,
        ) {
            let (criteria, origin) = (CriteriaHash(criteria), OriginCode(origin));
            let duplicate = DuplicateRow { since: Timestamp(since), resource: resource.clone() };
            let made = MadeRow { criteria, resource, origin };
            prop_assert_eq!(MadeRow::decode_by_criteria(&made.by_criteria()), Some(made.clone()));
            prop_assert_eq!(MadeRow::decode_by_resource(&made.by_resource()), Some(made));
            prop_assert_eq!(DuplicateRow::decode(&duplicate.encode()), Some(duplicate));
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes: Vec<u8>) {
            let _ = MadeRow::decode_by_criteria(&bytes);
            let _ = MadeRow::decode_by_resource(&bytes);
            let _ = DuplicateRow::decode(&bytes);
        }
    }
}
