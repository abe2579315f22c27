//! This module holds one file per kind of row: how its key and its value are written and read.
//!
//! Keys sort as what they name does, so that a range of keys is a range of meaning. Decoding
//! answers `None` where the bytes are not what encoding gives. `docs/storage.md` has a line per kind.

mod count;
mod feed;
mod head;
mod identifier;
mod meta;
mod origin;
mod request;
mod version;

pub(crate) use count::CountRow;
pub(crate) use feed::{FeedKey, HeaderRow};
pub(crate) use head::{CurrentHead, HeadRow, HeldHead};
pub(crate) use identifier::IdentifierKey;
pub(crate) use meta::{FORMAT, MetaKey, decode_format, encode_format};
pub(crate) use origin::{OriginCode, OriginRow};
pub(crate) use request::RequestRow;
pub(crate) use version::{VersionKey, VersionRow};

use chartmesh_record::{ResourceKey, Seq};

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
