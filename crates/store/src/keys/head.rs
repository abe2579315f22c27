//! This module holds the row of a resource: its heads, the current one first, and where each stands.
//!
//! ```text
//! type (1) id -> count, then per head:
//!                origin, generation, deleted, seq, index, at, request (16), body hash (16),
//!                count of seen, (origin, generation)..., count of kept, (origin, generation)...
//! ```
//! This is the row that every read and every decision looks up first.

use chartmesh_record::{
    Ancestry, BodyHash, Generation, Head, Heads, Origin, RequestId, ResourceKey, Seq, Timestamp,
    VersionId,
};

use super::{FeedPlace, OriginCode, PiecePlace, put_resource, resource_of};
use crate::codec::{Fields, put_signed, put_varint};

/// The heads of one resource, the current one first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct HeadRow(pub(crate) Vec<HeldHead>);

/// A head and where it stands: in the feed of its origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HeldHead {
    pub(crate) head: Head,
    pub(crate) seq: Seq,
    pub(crate) index: u32,
    pub(crate) at: Timestamp,
}

/// As much of a row as a plain read needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CurrentHead {
    pub(crate) generation: Generation,
    pub(crate) deleted: bool,
    pub(crate) place: PiecePlace,
    pub(crate) at: Timestamp,
    /// Whether nothing else can stand beside it: it is the only head and names no other.
    pub(crate) alone: bool,
}

impl HeadRow {
    pub(crate) fn key(resource: &ResourceKey) -> Vec<u8> {
        let mut key = Vec::with_capacity(1 + resource.id.as_str().len());
        put_resource(&mut key, resource);
        key
    }

    /// The resource of a key.
    pub(crate) fn resource(key: &[u8]) -> Option<ResourceKey> {
        resource_of(key)
    }

    /// The heads, without where they stand.
    pub(crate) fn heads(&self) -> Heads {
        Heads::of(self.0.iter().map(|held| held.head.clone()))
    }

    pub(crate) fn current(&self) -> Option<&HeldHead> {
        self.0.first()
    }

    /// Whether versions stand beside each other (see [`Heads::in_conflict`]).
    pub(crate) fn in_conflict(&self) -> bool {
        let alone = matches!(&self.0[..], [only] if only.head.ancestry.kept.is_empty());
        !self.0.is_empty() && !alone && self.heads().in_conflict()
    }

    /// Takes in a version, in any order. What it supersedes leaves, and it does not stay if it is
    /// superseded itself.
    pub(crate) fn insert(&mut self, version: HeldHead) {
        let mut heads = self.heads();
        if !heads.insert(version.head.clone()) {
            return;
        }
        let place = |name: &VersionId| heads.iter().position(|head| head.version == *name);
        if !self.0.iter().any(|held| held.head.version == version.head.version) {
            self.0.push(version);
        }
        self.0.retain(|held| place(&held.head.version).is_some());
        self.0.sort_by_key(|held| place(&held.head.version));
    }

    pub(crate) fn encode(&self, code_of: impl Fn(&Origin) -> OriginCode) -> Vec<u8> {
        let mut row = Vec::with_capacity(72 * self.0.len());
        let name = |row: &mut Vec<u8>, origin: &Origin, generation: Generation| {
            put_varint(row, code_of(origin).0.into());
            put_varint(row, generation.0);
        };
        put_varint(&mut row, self.0.len() as u64);
        for HeldHead { head, seq, index, at } in &self.0 {
            name(&mut row, &head.version.origin, head.version.generation);
            row.push(head.deleted.into());
            put_varint(&mut row, seq.0);
            put_varint(&mut row, (*index).into());
            put_signed(&mut row, at.0);
            row.extend_from_slice(&head.request.0);
            row.extend_from_slice(&head.body.0);
            put_varint(&mut row, head.ancestry.seen.len() as u64);
            for (origin, generation) in &head.ancestry.seen {
                name(&mut row, origin, *generation);
            }
            put_varint(&mut row, head.ancestry.kept.len() as u64);
            for kept in &head.ancestry.kept {
                name(&mut row, &kept.origin, kept.generation);
            }
        }
        row
    }

    pub(crate) fn decode(
        row: &[u8],
        origin_of: impl Fn(OriginCode) -> Option<Origin>,
    ) -> Option<Self> {
        let mut fields = Fields(row);
        let name = |fields: &mut Fields<'_>| {
            let origin = origin_of(OriginCode(fields.small()?))?;
            Some((origin, Generation(fields.varint()?)))
        };
        let count = fields.varint()?;
        let mut heads = Vec::new();
        for _ in 0..count {
            let (origin, generation) = name(&mut fields)?;
            let version = VersionId { generation, origin };
            let deleted = fields.flag()?;
            let (seq, index) = (Seq(fields.varint()?), fields.small()?);
            let at = Timestamp(fields.signed()?);
            let request = RequestId(fields.array()?);
            let body = BodyHash(fields.array()?);
            let mut ancestry = Ancestry::default();
            for _ in 0..fields.varint()? {
                ancestry.seen.extend([name(&mut fields)?]);
            }
            for _ in 0..fields.varint()? {
                let (origin, generation) = name(&mut fields)?;
                ancestry.kept.insert(VersionId { generation, origin });
            }
            let head = Head { version, ancestry, deleted, request, body };
            heads.push(HeldHead { head, seq, index, at });
        }
        fields.end().map(|()| Self(heads))
    }
}

impl CurrentHead {
    /// The first head of a row, without making any of the names in it.
    pub(crate) fn decode(row: &[u8]) -> Option<Self> {
        let mut fields = Fields(row);
        let count = fields.varint()?;
        let origin = OriginCode(fields.small()?);
        let generation = Generation(fields.varint()?);
        let deleted = fields.flag()?;
        let change = FeedPlace { origin, seq: Seq(fields.varint()?) };
        let place = PiecePlace { change, index: fields.small()? };
        let at = Timestamp(fields.signed()?);
        fields.take(32)?;
        for _ in 0..fields.varint()? {
            fields.varint()?;
            fields.varint()?;
        }
        let alone = count == 1 && fields.varint()? == 0;
        Some(Self { generation, deleted, place, at, alone })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::resource_of;
    use super::super::testing::{code_of, origin, origin_of, resources, versions};
    use super::*;

    fn heads() -> impl Strategy<Value = HeldHead> {
        let seen = prop::collection::btree_map((0..8_u32).prop_map(origin), 1..u64::MAX, 0..4);
        let kept = prop::collection::btree_set(versions(), 0..3);
        (versions(), seen, kept, any::<(bool, u64, u32, i64, [u8; 16], [u8; 16])>()).prop_map(
            |(version, seen, kept, (deleted, seq, index, at, request, body))| {
                let seen = seen.into_iter().map(|(origin, last)| (origin, Generation(last)));
                let head = Head {
                    version,
                    ancestry: Ancestry { seen: seen.collect(), kept },
                    deleted,
                    request: RequestId(request),
                    body: BodyHash(body),
                };
                HeldHead { head, seq: Seq(seq), index, at: Timestamp(at) }
            },
        )
    }

    proptest! {
        #[test]
        fn a_row_survives_its_bytes(heads in prop::collection::vec(heads(), 0..4)) {
            let row = HeadRow(heads);
            let bytes = row.encode(code_of);

            prop_assert_eq!(HeadRow::decode(&bytes, origin_of), Some(row.clone()));
            if let Some(first) = row.current() {
                let current = CurrentHead::decode(&bytes).unwrap();
                prop_assert_eq!(current.place.change.seq, first.seq);
                let origin = origin_of(current.place.change.origin).unwrap();
                prop_assert_eq!(&origin, &first.head.version.origin);
                prop_assert_eq!((current.place.index, current.at), (first.index, first.at));
                prop_assert_eq!(current.deleted, first.head.deleted);
                prop_assert_eq!(current.alone,
                    row.0.len() == 1 && first.head.ancestry.kept.is_empty());
            }
        }

        #[test]
        fn a_key_survives_and_sorts_as_its_resource(a in resources(), b in resources()) {
            prop_assert_eq!(resource_of(&HeadRow::key(&a)), Some(a.clone()));
            prop_assert_eq!(HeadRow::key(&a).cmp(&HeadRow::key(&b)), a.cmp(&b));
        }

        #[test]
        fn versions_taken_in_one_by_one_leave_the_heads_in_their_order(
            versions in prop::collection::vec(heads(), 0..6),
        ) {
            let mut row = HeadRow::default();
            versions.iter().for_each(|version| row.insert(version.clone()));

            let held: Vec<Head> = row.0.iter().map(|held| held.head.clone()).collect();
            let heads = row.heads();
            prop_assert_eq!(held, heads.iter().cloned().collect::<Vec<_>>());
            prop_assert!(row.0.iter().all(|held| versions.contains(held)));
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(row: Vec<u8>) {
            let _ = (HeadRow::decode(&row, origin_of), CurrentHead::decode(&row));
        }
    }
}
