//! This module holds the rows of what is in conflict: one to find a resource's, one to list the oldest
//! first. Since when is a matter of this node alone, and stands under no digest.
//!
//! ```text
//! 'k' type (1) id -> since (8)
//! 'a' since (8) type (1) id [0 criteria (16)] -> nothing     with criteria: of duplicates
//! ```

use chartmesh_record::{ResourceKey, Timestamp};

use super::{CriteriaHash, put_resource, resource_of};

/// Since when a resource is in conflict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ConflictRow {
    pub(crate) since: Timestamp,
    pub(crate) resource: ResourceKey,
    /// Of duplicates: under which criteria they were made.
    pub(crate) criteria: Option<CriteriaHash>,
}

/// Turns the order of signed numbers into that of their bytes.
pub(crate) fn sortable(at: Timestamp) -> [u8; 8] {
    (at.0 as u64 ^ (1 << 63)).to_be_bytes()
}

pub(crate) fn timestamp(bytes: &[u8]) -> Option<Timestamp> {
    let bytes = bytes.try_into().ok()?;
    Some(Timestamp((u64::from_be_bytes(bytes) ^ (1 << 63)) as i64))
}

impl ConflictRow {
    /// What the keys by resource begin with.
    pub(crate) const BY_RESOURCE: &'static [u8] = b"k";
    /// What the keys by age begin with.
    pub(crate) const BY_AGE: &'static [u8] = b"a";

    /// The key under which a resource's row stands.
    pub(crate) fn by_resource(resource: &ResourceKey) -> Vec<u8> {
        let mut key = Self::BY_RESOURCE.to_vec();
        put_resource(&mut key, resource);
        key
    }

    /// The key under which it stands in the order of age.
    pub(crate) fn by_age(&self) -> Vec<u8> {
        let mut key = Self::BY_AGE.to_vec();
        key.extend_from_slice(&sortable(self.since));
        put_resource(&mut key, &self.resource);
        if let Some(CriteriaHash(criteria)) = &self.criteria {
            key.push(0);
            key.extend_from_slice(criteria);
        }
        key
    }

    /// The value of the row by resource.
    pub(crate) fn encode(&self) -> [u8; 8] {
        sortable(self.since)
    }

    /// What the row by resource says.
    pub(crate) fn decode(key: &[u8], value: &[u8]) -> Option<Self> {
        let resource = resource_of(key.strip_prefix(Self::BY_RESOURCE)?)?;
        Some(Self { since: timestamp(value)?, resource, criteria: None })
    }

    /// What the key in the order of age says.
    pub(crate) fn decode_by_age(key: &[u8]) -> Option<Self> {
        let (since, rest) = key.strip_prefix(Self::BY_AGE)?.split_at_checked(8)?;
        // Ids have no zero; a type's code may be one.
        let end = rest.iter().skip(1).position(|&byte| byte == 0).map(|end| end + 1);
        let (resource, criteria) = rest.split_at(end.unwrap_or(rest.len()));
        let criteria = match criteria {
            [] => None,
            [_, criteria @ ..] => Some(CriteriaHash(criteria.try_into().ok()?)),
        };
        Some(Self { since: timestamp(since)?, resource: resource_of(resource)?, criteria })
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
            since: i64, resource in resources(), criteria: Option<[u8; 16]>,
        ) {
            let row = ConflictRow { since: Timestamp(since), resource, criteria: None };
            let by_resource = ConflictRow::by_resource(&row.resource);
            prop_assert_eq!(ConflictRow::decode(&by_resource, &row.encode()), Some(row.clone()));
            let row = ConflictRow { criteria: criteria.map(CriteriaHash), ..row };
            prop_assert_eq!(ConflictRow::decode_by_age(&row.by_age()), Some(row));
        }

        #[test]
        fn the_oldest_comes_first(a: i64, b: i64, one in resources(), two in resources()) {
            let a = ConflictRow { since: Timestamp(a), resource: one, criteria: None };
            let b = ConflictRow { since: Timestamp(b), resource: two, criteria: None };
            if a.since != b.since {
                prop_assert_eq!(a.by_age().cmp(&b.by_age()), a.since.cmp(&b.since));
            }
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(key: Vec<u8>, value: Vec<u8>) {
            let _ = ConflictRow::decode(&key, &value);
            let _ = ConflictRow::decode_by_age(&key);
        }
    }
}
