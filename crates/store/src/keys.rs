//! This module holds one file per kind of row: how its key and its value are written and read.
//!
//! Keys sort as what they name does, so that a range of keys is a range of meaning. Decoding
//! answers `None` where the bytes are not what encoding gives. `docs/storage.md` has a line per kind.

mod arrival;
mod conflict;
mod count;
mod feed;
mod head;
mod held_back;
mod lost;
mod made;
mod meta;
mod origin;
mod request;
mod version;

pub use arrival::ArrivalPlace;
pub(crate) use arrival::{ArrivalRow, ArrivalsRow};
pub(crate) use conflict::ConflictRow;
pub(crate) use count::CountRow;
pub(crate) use feed::{FeedKey, HeaderRow};
pub(crate) use head::{CurrentHead, HeadRow, HeldHead};
pub(crate) use held_back::HeldBackRow;
pub(crate) use lost::LostRow;
pub(crate) use made::{CriteriaHash, DuplicateRow, MadeRow};
pub use meta::Note;
pub(crate) use meta::{FORMAT, MetaKey, decode_format, encode_format};
pub(crate) use origin::{OriginCode, OriginRow};
pub(crate) use request::RequestRow;
pub(crate) use version::{VersionKey, VersionRow};

use chartmesh_record::{Origin, ResourceKey, Seq};

/// Where a change set stands: whose feed, and where in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct FeedPlace {
    pub(crate) origin: OriginCode,
    pub(crate) seq: Seq,
}

/// Where a version stands: its change set, and its place in that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct PiecePlace {
    pub(crate) change: FeedPlace,
    pub(crate) index: u32,
}

/// The first bytes of all keys about a resource: its type's code and its id, which has no zero.
fn put_resource(row: &mut Vec<u8>, key: &ResourceKey) {
    row.push(key.kind.code());
    row.extend_from_slice(key.id.as_str().as_bytes());
}

/// The key of a place of a feed whose origin may have no code: its text, which has no zero.
fn named_place(prefix: &[u8], origin: &Origin, seq: Seq) -> Vec<u8> {
    let mut key = named_origin(prefix, origin);
    key.extend_from_slice(&seq.0.to_be_bytes());
    key
}

/// What all such keys of one feed begin with.
fn named_origin(prefix: &[u8], origin: &Origin) -> Vec<u8> {
    [prefix, origin.as_str().as_bytes(), &[0]].concat()
}

/// The place in such a key.
fn named_place_of(prefix: &[u8], key: &[u8]) -> Option<(Origin, Seq)> {
    let (origin, seq) = key.strip_prefix(prefix)?.split_last_chunk()?;
    let origin = std::str::from_utf8(origin.strip_suffix(&[0])?).ok()?.parse().ok()?;
    Some((origin, Seq(u64::from_be_bytes(*seq))))
}

/// The resource of these bytes.
fn resource_of(bytes: &[u8]) -> Option<ResourceKey> {
    let (&code, id) = bytes.split_first()?;
    let kind = chartmesh_record::ResourceType::from_code(code)?;
    Some(ResourceKey { kind, id: std::str::from_utf8(id).ok()?.parse().ok()? })
}

#[cfg(test)]
pub(crate) mod testing {
    use chartmesh_record::{Generation, Name, Origin, ResourceKey, ResourceType, VersionId};
    use proptest::prelude::*;

    use super::OriginCode;

    pub(crate) fn resources() -> impl Strategy<Value = ResourceKey> {
        let kinds = ResourceType::all().collect::<Vec<_>>();
        (prop::sample::select(kinds), "[A-Za-z0-9.-]{1,64}")
            .prop_map(|(kind, id)| ResourceKey { kind, id: id.parse().unwrap() })
    }

    /// One of eight origins; its code is its place among them.
    pub(crate) fn origin(code: u32) -> Origin {
        let name: Name = if code < 4 { "pac" } else { "pac-1" }.parse().unwrap();
        Origin::new(&name, u64::from(code).wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    pub(crate) fn code_of(origin: &Origin) -> OriginCode {
        OriginCode((0..8).find(|&code| self::origin(code) == *origin).unwrap())
    }

    pub(crate) fn origin_of(code: OriginCode) -> Option<Origin> {
        (code.0 < 8).then(|| origin(code.0))
    }

    pub(crate) fn versions() -> impl Strategy<Value = VersionId> {
        (1..u64::MAX, 0..8_u32).prop_map(|(generation, code)| VersionId {
            generation: Generation(generation),
            origin: origin(code),
        })
    }
}

#[cfg(test)]
mod tests {
    use chartmesh_record::{
        Ancestry, BodyHash, ChainHash, Cursor, Generation, Head, RequestId, ResourceKey, Seq,
        Timestamp, VersionId,
    };

    use super::testing::{code_of, origin};
    use super::*;
    use crate::counts::Count;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn head_row() -> HeadRow {
        let version = VersionId { generation: Generation(3), origin: origin(1) };
        let seen = [(origin(0), Generation(2)), (origin(1), Generation(1))].into();
        let kept = [VersionId { generation: Generation(2), origin: origin(5) }].into();
        let ancestry = Ancestry { seen, kept };
        let (request, body) = (RequestId([0x11; 16]), BodyHash([0x22; 16]));
        let head = Head { version, ancestry, deleted: true, request, body };
        HeadRow(vec![HeldHead { head, seq: Seq(300), index: 4, at: Timestamp(1_795_291_201_204) }])
    }

    /// One row of each kind, as its table, key and value.
    fn rows() -> Vec<(&'static str, Vec<u8>, Vec<u8>)> {
        let resource = ResourceKey { kind: "Patient".parse().unwrap(), id: "p-1".parse().unwrap() };
        let code = OriginCode(1);
        let change = FeedPlace { origin: code, seq: Seq(300) };
        let piece = PiecePlace { change, index: 4 };
        let header = HeaderRow { hash: ChainHash([0x33; 32]), header: b"header" };
        let at = Timestamp(1_795_291_201_204);
        let version = VersionRow { seq: Seq(300), index: 4, at };
        let generation = Generation(3);
        let cursor = Cursor { origin: origin(1), seq: Seq(300), hash: ChainHash([0x33; 32]) };
        let origin_row = OriginRow { cursor: cursor.clone(), newest: at, forgotten: Seq(7) };
        let count = CountRow(Count { resources: 1, versions: 300, bytes: 70_000 });
        let kind = resource.kind;
        let key = VersionKey { resource: resource.clone(), generation, origin: code };
        let criteria = CriteriaHash::of(kind, "identifier=urn:a|1");
        let conflict = ConflictRow { since: at, resource: resource.clone(), criteria: None };
        let duplicates = ConflictRow { criteria: Some(criteria), ..conflict.clone() };
        let made = MadeRow { criteria, resource: resource.clone(), origin: code };
        let lost = LostRow(cursor.clone());
        let held_back = HeldBackRow { at: cursor, bytes: b"change".as_slice().into() };
        let duplicate = DuplicateRow { since: at, resource: resource.clone() };
        let arrival = ArrivalPlace { at, number: 4 }.key(kind);
        let arrivals = ArrivalsRow { first: at, last: at };
        vec![
            ("feed", FeedKey::Header(change).encode(), header.encode()),
            ("feed", FeedKey::Piece(piece).encode(), b"piece".to_vec()),
            ("heads", HeadRow::key(&resource), head_row().encode(code_of)),
            ("versions", key.encode(), version.encode()),
            ("arrivals", arrival, ArrivalRow { origin: code, version }.encode()),
            ("requests", [0x11; 16].to_vec(), RequestRow(vec![change]).encode()),
            ("default", code.key(), origin_row.encode()),
            ("default", CountRow::key(kind), count.encode()),
            ("default", MetaKey::Format.key().to_vec(), encode_format().to_vec()),
            ("default", MetaKey::Digest.key().to_vec(), [0x44; 32].to_vec()),
            ("default", MetaKey::Index.key().to_vec(), vec![0, 0, 0, 2, 0, 0, 0, 0]),
            ("default", MetaKey::Arrivals.key().to_vec(), arrivals.encode().to_vec()),
            ("default", MetaKey::Added.key().to_vec(), b"Patient race 0011\n".to_vec()),
            ("default", MetaKey::Applied.key().to_vec(), b"applied".to_vec()),
            ("default", ConflictRow::by_resource(&resource), conflict.encode().to_vec()),
            ("default", conflict.by_age(), Vec::new()),
            ("default", duplicates.by_age(), Vec::new()),
            ("default", made.by_resource(), b"identifier=urn:a|1".to_vec()),
            ("default", made.by_criteria(), Vec::new()),
            ("default", DuplicateRow::key(criteria), duplicate.encode()),
            ("default", held_back.key(), held_back.encode()),
            ("default", lost.key(), lost.encode().to_vec()),
            ("default", MetaKey::Note(Note::Freshness).key().to_vec(), b"noted".to_vec()),
            ("default", MetaKey::Note(Note::Promises).key().to_vec(), b"noted".to_vec()),
            ("default", MetaKey::Note(Note::Recovery).key().to_vec(), b"noted".to_vec()),
        ]
    }

    #[test]
    fn the_rows_of_format_1_stay_as_they_are() {
        let rows = rows().into_iter();
        let text: String = rows
            .map(|(table, key, row)| format!("{table} {} {}\n", hex(&key), hex(&row)))
            .collect();
        assert_eq!(text, include_str!("../golden/rows.1.txt"), "\n{text}");
    }
}
