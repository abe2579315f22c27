//! This module makes the keys by which resources are found from a value: the postings.
//!
//! ```text
//! type (1)  path id (4)  the value, shortened  the resource's id (2 to 65)
//! ```
//! Keys of one value stand together, sorted by id; of a sort that has an order they are sorted as the
//! values are. They may lead to too much, never to too little: the row of entries decides.

use std::ops::Range;

use chartmesh_record::{ResourceId, ResourceType};
use sha2::{Digest, Sha256};

use crate::condition::Sought;
use crate::date::{self, Width};
use crate::entries::Entries;
use crate::number::{self, Interval};
use crate::parameter::PathId;
use crate::reference::{Reference, ReferenceSought};
use crate::string::folded;
use crate::token::{Token, TokenSought, TokenSystem};
use crate::uri::UriPlace;
use crate::value::Value;

/// How much of a text is in a key, in bytes.
const TEXT_BYTES: usize = 64;
const URL_BYTES: usize = 128;
/// How much of the hash of a system is in a key, in bytes.
const SYSTEM_BYTES: usize = 4;
/// The first byte after the path id of numbers that are one value, and of those that are a range.
const POINT: u8 = 1;
const RANGE: u8 = 2;
const CANONICAL_POINT: u8 = 3;
const CANONICAL_RANGE: u8 = 4;
const LOCAL: u8 = 1;
const URL: u8 = 2;
const IDENTIFIER: u8 = 3;
/// The last byte of the key of an id that is a UUID: sixteen bytes instead of its text.
const UUID: u8 = 0x80;

/// An id as it ends a key. Ids are in the order of these bytes everywhere.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IdKey(Box<[u8]>);

/// Keys that lead to what is sought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seeds {
    /// From the first key on, below the second.
    pub ranges: Vec<Range<Vec<u8>>>,
    /// Whether all keys of each range have one value: their ids are sorted.
    pub sorted: bool,
    /// If they are not: so many first bytes that keys of one value share, where few values are expected.
    pub shared: Option<usize>,
}

impl IdKey {
    /// The key of an id.
    #[must_use]
    pub fn new(id: &ResourceId) -> Self {
        let text = id.as_str();
        let mut key = Vec::with_capacity(text.len() + 1);
        match uuid(text) {
            Some(bytes) => {
                key.extend_from_slice(&bytes);
                key.push(UUID);
            }
            None => {
                key.extend_from_slice(text.as_bytes());
                key.push(text.len() as u8);
            }
        }
        Self(key.into())
    }

    /// The id.
    #[must_use]
    pub fn id(&self) -> Option<ResourceId> {
        match self.0.split_last()? {
            (&UUID, bytes) => uuid_text(bytes)?.parse().ok(),
            (_, text) => std::str::from_utf8(text).ok()?.parse().ok(),
        }
    }

    /// Its bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The id that ends a posting.
    #[must_use]
    pub fn of_posting(key: &[u8]) -> Option<Self> {
        let length = match *key.last()? {
            UUID => 16,
            length => usize::from(length),
        };
        let start = key.len().checked_sub(length + 1)?;
        Some(Self(key[start..].into()))
    }
}

/// The bytes of a UUID as it is usually written, in small letters.
fn uuid(text: &str) -> Option<[u8; 16]> {
    let bytes = text.as_bytes();
    let is_one = bytes.len() == 36
        && bytes.iter().enumerate().all(|(place, byte)| match place {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
        });
    if !is_one {
        return None;
    }
    let digits: String = text.chars().filter(|letter| *letter != '-').collect();
    u128::from_str_radix(&digits, 16).ok().map(u128::to_be_bytes)
}

fn uuid_text(bytes: &[u8]) -> Option<String> {
    let digits = format!("{:032x}", u128::from_be_bytes(bytes.try_into().ok()?));
    let parts = [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]];
    Some(parts.join("-"))
}

/// All postings of a resource.
pub fn postings(kind: ResourceType, entries: Entries<'_>, id: &ResourceId) -> Vec<Vec<u8>> {
    let id = IdKey::new(id);
    let mut keys = Vec::new();
    for (path, value) in entries.all() {
        let mut put = |value: &[u8]| keys.push([&prefix(kind, path)[..], value, &id.0].concat());
        match value {
            Value::Token(token) => put(&token_key(&token)),
            Value::String(text) => put(&text_key(&folded(&text), TEXT_BYTES)),
            Value::Reference(reference) => put(&reference_key(&reference)),
            Value::Date(span) => {
                put(&[&[Width::of(span) as u8][..], &date::sortable(span.from)].concat());
            }
            Value::Number(interval) => put(&number_key(interval, [POINT, RANGE], &[])),
            Value::Quantity(quantity) => {
                put(&number_key(quantity.value, [POINT, RANGE], &[]));
                if let Some((value, unit)) = quantity.canonical() {
                    let unit = text_key(&unit, TEXT_BYTES);
                    put(&number_key(value, [CANONICAL_POINT, CANONICAL_RANGE], &unit));
                }
            }
            Value::Uri(uri) => put(&text_key(&uri, URL_BYTES)),
            Value::Composite(_) | Value::Position(..) => {}
        }
    }
    keys.sort();
    keys.dedup();
    keys
}

/// What all postings of a path begin with.
pub(crate) fn prefix(kind: ResourceType, path: PathId) -> [u8; 5] {
    let [a, b, c, d] = path.0;
    [kind.code(), a, b, c, d]
}

/// The beginning of a text, with a zero after it.
fn text_key(text: &str, most: usize) -> Vec<u8> {
    let mut key = beginning(text, most);
    key.push(0);
    key
}

/// The beginning of a text. A zero in it would look like its end.
fn beginning(text: &str, most: usize) -> Vec<u8> {
    let cut = &text.as_bytes()[..text.floor_char_boundary(most)];
    cut.iter().map(|byte| if *byte == 0 { 1 } else { *byte }).collect()
}

fn token_key(token: &Token<'_>) -> Vec<u8> {
    let mut key = text_key(&token.code, TEXT_BYTES);
    key.extend_from_slice(&system_key(token.system.as_deref()));
    key
}

fn system_key(system: Option<&str>) -> [u8; SYSTEM_BYTES] {
    let Some(system) = system else { return [0; SYSTEM_BYTES] };
    let hash: [u8; 32] = Sha256::digest(system).into();
    *hash.first_chunk().expect("32 bytes hold 4")
}

fn reference_key(reference: &Reference<'_>) -> Vec<u8> {
    match reference {
        Reference::Local(kind, id, _) => local_key(*kind, id),
        Reference::Url(url, _) => [&[URL][..], &text_key(url, URL_BYTES)].concat(),
        Reference::Identifier(token) => [&[IDENTIFIER][..], &token_key(token)].concat(),
    }
}

fn local_key(kind: ResourceType, id: &str) -> Vec<u8> {
    [&[LOCAL, kind.code()][..], &text_key(id, TEXT_BYTES)].concat()
}

fn number_key(interval: Interval, [point, range]: [u8; 2], unit: &[u8]) -> Vec<u8> {
    let sort = if interval.low == interval.high { point } else { range };
    [&[sort], unit, &number::sortable(interval.low)].concat()
}

/// The keys that begin with one of these.
fn all_of(beginnings: impl IntoIterator<Item = Vec<u8>>, sorted: bool) -> Seeds {
    let ranges = beginnings.into_iter().map(|from| from.clone()..after(&from)).collect();
    Seeds { ranges, sorted, shared: None }
}

/// The first key that does not begin with this one.
#[must_use]
pub fn after(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return end;
        }
    }
    vec![u8::MAX; 80]
}

impl Seeds {
    fn join(mut self, other: Self) -> Self {
        self.ranges.extend(other.ranges);
        let shared = self.shared.filter(|shared| other.shared == Some(*shared));
        Self { sorted: self.sorted && other.sorted, shared, ..self }
    }

    /// Those of several values.
    pub(crate) fn join_all(all: impl IntoIterator<Item = Self>) -> Option<Self> {
        all.into_iter().reduce(Self::join)
    }
}

/// The keys in a path that lead to what is sought; `None` if there are none for it.
pub(crate) fn seeds(kind: ResourceType, path: PathId, sought: &Sought) -> Option<Seeds> {
    let start = prefix(kind, path);
    let with = |rest: &[u8]| [&start[..], rest].concat();
    let between = |sort: &[u8], from: [u8; 8], to: [u8; 8]| {
        with(&[sort, &from].concat())..after(&with(&[sort, &to].concat()))
    };
    Some(match sought {
        Sought::Token(token) => token_seeds(token, &with)?,
        Sought::String(string) => {
            let text = string.beginning()?;
            let key = beginning(&text, TEXT_BYTES);
            all_of([with(&key)], false)
        }
        Sought::Reference(reference) => reference_seeds(reference, &with)?,
        Sought::Date(date) => {
            let ranges = Width::ALL.map(|width| {
                let (first, last) = date.reach(width);
                between(&[width as u8], date::sortable(first), date::sortable(last))
            });
            Seeds { ranges: ranges.into(), sorted: false, shared: None }
        }
        Sought::Number(number) => {
            let (low, high) = number.reach();
            let points = between(&[POINT], number::sortable(low), number::sortable(high));
            Seeds { ranges: vec![points], sorted: false, shared: None }
                .join(all_of([with(&[RANGE])], false))
        }
        Sought::Quantity(quantity) => {
            let canonical = quantity.canonical();
            let (number, sorts, unit) = match &canonical {
                Some((number, unit)) => {
                    (number, [CANONICAL_POINT, CANONICAL_RANGE], text_key(unit, TEXT_BYTES))
                }
                None => (&quantity.number, [POINT, RANGE], Vec::new()),
            };
            let (low, high) = number.reach();
            let [point, range] = sorts.map(|sort| [&[sort], &unit[..]].concat());
            let points = between(&point, number::sortable(low), number::sortable(high));
            Seeds { ranges: vec![points], sorted: false, shared: None }
                .join(all_of([with(&range)], false))
        }
        Sought::Uri(uri) => match uri.place {
            UriPlace::Same => all_of([with(&text_key(&uri.uri, URL_BYTES))], true),
            UriPlace::Below => all_of([with(&beginning(&uri.uri, URL_BYTES))], false),
            UriPlace::Above => return None,
        },
        Sought::Composite(_) | Sought::Near(_) => return None,
    })
}

fn token_seeds(token: &TokenSought, with: &impl Fn(&[u8]) -> Vec<u8>) -> Option<Seeds> {
    let mut key = text_key(token.value.as_deref()?, TEXT_BYTES);
    let system = match &token.system {
        TokenSystem::Any => {
            let key = with(&key);
            let shared = Some(key.len() + SYSTEM_BYTES);
            return Some(Seeds { shared, ..all_of([key], false) });
        }
        TokenSystem::Absent => None,
        TokenSystem::Is(system) => Some(system.as_str()),
    };
    key.extend_from_slice(&system_key(system));
    Some(all_of([with(&key)], true))
}

fn reference_seeds(reference: &ReferenceSought, with: &impl Fn(&[u8]) -> Vec<u8>) -> Option<Seeds> {
    Some(match reference {
        ReferenceSought::Local(kinds, id, _) => {
            let any: Vec<_> = ResourceType::all().collect();
            let kinds = if kinds.is_empty() { &any } else { kinds };
            all_of(kinds.iter().map(|kind| with(&local_key(*kind, id.as_str()))), true)
        }
        ReferenceSought::Url(url, _) => {
            all_of([with(&[&[URL][..], &text_key(url, URL_BYTES)].concat())], true)
        }
        ReferenceSought::Identifier(token) => {
            return token_seeds(token, &|key| with(&[&[IDENTIFIER][..], key].concat()));
        }
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_id_that_is_a_uuid_takes_seventeen_bytes() {
        let id = "0b2c9d3e-1f00-4a5b-8c6d-7e8f90a1b2c3".parse().expect("an id");
        let key = IdKey::new(&id);
        assert_eq!(key.as_bytes().len(), 17);
        assert_eq!(key.id(), Some(id));
    }

    proptest! {
        #[test]
        fn an_id_is_read_back_from_the_end_of_a_key(
            id in "[A-Za-z0-9.-]{1,64}|[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
            before in prop::collection::vec(any::<u8>(), 0..30),
        ) {
            let id: ResourceId = id.parse().expect("an id");
            let key = [&before[..], IdKey::new(&id).as_bytes()].concat();
            prop_assert_eq!(IdKey::of_posting(&key).and_then(|key| key.id()), Some(id));
        }

        #[test]
        fn keys_with_a_prefix_lie_before_the_one_after(
            prefix in prop::collection::vec(any::<u8>(), 1..6),
            rest in prop::collection::vec(any::<u8>(), 0..6),
        ) {
            let key = [&prefix[..], &rest].concat();
            prop_assert!(key < after(&prefix));
            prop_assert!(prefix < after(&prefix));
        }
    }
}
