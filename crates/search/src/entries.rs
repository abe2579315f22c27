//! This module holds all values of one resource by which it can be found, as one row of bytes.
//!
//! ```text
//! per path of values:  path id (4)  length (varint)  values
//! per value:            a byte for its sort, then its parts; texts have their length before them
//! ```
//! The row decides every match; what else is kept of a resource only leads to it. It has a format
//! ([`FORMAT`]): rows of another one are made again.

use std::borrow::Cow;

use chartmesh_record::{Node, ResourceType, Tree};

use crate::date::Span;
use crate::number::Interval;
use crate::parameter::PathId;
use crate::quantity::Quantity;
use crate::reference::Reference;
use crate::registry::Registry;
use crate::token::Token;
use crate::value::Value;

/// The format of rows and of postings.
pub const FORMAT: u32 = 2;

/// The row of a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entries<'r>(&'r [u8]);

impl<'r> Entries<'r> {
    /// Makes the row of a resource as it is read; `None` if it is not one.
    #[must_use]
    pub fn make(registry: &Registry, kind: ResourceType, stored: &[u8]) -> Option<Vec<u8>> {
        let tree = Tree::parse(stored)?;
        Some(Self::of(registry, kind, tree.root()))
    }

    /// Makes the row of a resource.
    #[must_use]
    pub fn of(registry: &Registry, kind: ResourceType, root: Node<'_>) -> Vec<u8> {
        let mut row = Vec::with_capacity(512);
        let mut values = Vec::with_capacity(128);
        for way in registry.ways(kind) {
            values.clear();
            way.values(root, registry.zone(), &mut |value| put_value(&mut values, &value));
            if !values.is_empty() {
                row.extend_from_slice(&way.id.0);
                put_bytes(&mut row, &values);
            }
        }
        row
    }

    /// The row that these bytes are.
    #[must_use]
    pub fn read(row: &'r [u8]) -> Self {
        Self(row)
    }

    /// Its bytes.
    #[must_use]
    pub fn as_bytes(self) -> &'r [u8] {
        self.0
    }

    /// The values of a path.
    pub(crate) fn values(self, path: PathId) -> impl Iterator<Item = Value<'r>> {
        let mut reader = Reader(self.paths().find(|(id, _)| *id == path).map_or(&[], |it| it.1));
        std::iter::from_fn(move || reader.value())
    }

    /// All values, with their paths.
    pub(crate) fn all(self) -> impl Iterator<Item = (PathId, Value<'r>)> {
        self.paths().flat_map(|(path, values)| {
            let mut reader = Reader(values);
            std::iter::from_fn(move || Some((path, reader.value()?)))
        })
    }

    fn paths(self) -> impl Iterator<Item = (PathId, &'r [u8])> {
        let mut reader = Reader(self.0);
        std::iter::from_fn(move || Some((PathId(reader.array()?), reader.bytes()?)))
    }
}

const TOKEN: u8 = 1;
const TOKEN_IN_SYSTEM: u8 = 2;
const STRING: u8 = 3;
const LOCAL: u8 = 4;
const LOCAL_VERSION: u8 = 5;
const URL: u8 = 6;
const URL_VERSION: u8 = 7;
const IDENTIFIER: u8 = 8;
const DATE: u8 = 9;
const NUMBER: u8 = 10;
const QUANTITY: u8 = 11;
const URI: u8 = 12;
const COMPOSITE: u8 = 13;
const POSITION: u8 = 14;

fn put_length(row: &mut Vec<u8>, mut length: usize) {
    while length >= 0x80 {
        row.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    row.push(length as u8);
}

fn put_bytes(row: &mut Vec<u8>, bytes: &[u8]) {
    put_length(row, bytes.len());
    row.extend_from_slice(bytes);
}

fn put_token(row: &mut Vec<u8>, token: &Token<'_>) {
    match &token.system {
        None => row.push(TOKEN),
        Some(system) => {
            row.push(TOKEN_IN_SYSTEM);
            put_bytes(row, system.as_bytes());
        }
    }
    put_bytes(row, token.code.as_bytes());
}

fn put_interval(row: &mut Vec<u8>, interval: Interval) {
    row.extend_from_slice(&interval.low.to_be_bytes());
    row.extend_from_slice(&interval.high.to_be_bytes());
}

fn put_reference(row: &mut Vec<u8>, reference: &Reference<'_>) {
    let mut put = |plain,
                   versioned,
                   kind: Option<ResourceType>,
                   text: &str,
                   version: &Option<Cow<'_, str>>| {
        row.push(if version.is_some() { versioned } else { plain });
        row.extend(kind.map(ResourceType::code));
        put_bytes(row, text.as_bytes());
        version.iter().for_each(|version| put_bytes(row, version.as_bytes()));
    };
    match reference {
        Reference::Local(kind, id, version) => put(LOCAL, LOCAL_VERSION, Some(*kind), id, version),
        Reference::Url(url, version) => put(URL, URL_VERSION, None, url, version),
        Reference::Identifier(token) => {
            row.push(IDENTIFIER);
            put_token(row, token);
        }
    }
}

fn put_value(row: &mut Vec<u8>, value: &Value<'_>) {
    match value {
        Value::Token(token) => put_token(row, token),
        Value::String(text) => {
            row.push(STRING);
            put_bytes(row, text.as_bytes());
        }
        Value::Reference(reference) => put_reference(row, reference),
        Value::Date(span) => {
            row.push(DATE);
            row.extend_from_slice(&span.from.to_be_bytes());
            row.extend_from_slice(&span.to.to_be_bytes());
        }
        Value::Number(interval) => {
            row.push(NUMBER);
            put_interval(row, *interval);
        }
        Value::Quantity(quantity) => {
            row.push(QUANTITY);
            put_interval(row, quantity.value);
            for part in [&quantity.system, &quantity.code, &quantity.unit] {
                // A text that is there has one more than its length before it.
                put_length(row, part.as_ref().map_or(0, |part| part.len() + 1));
                row.extend_from_slice(part.as_deref().unwrap_or_default().as_bytes());
            }
        }
        Value::Uri(uri) => {
            row.push(URI);
            put_bytes(row, uri.as_bytes());
        }
        Value::Composite(parts) => {
            row.push(COMPOSITE);
            put_length(row, parts.len());
            for part in parts {
                put_length(row, part.len());
                part.iter().for_each(|value| put_value(row, value));
            }
        }
        Value::Position(latitude, longitude) => {
            row.push(POSITION);
            put_interval(row, Interval { low: *latitude, high: *longitude });
        }
    }
}

/// Reads what was put, until it is not what was.
struct Reader<'r>(&'r [u8]);

impl<'r> Reader<'r> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*array)
    }

    fn length(&mut self) -> Option<usize> {
        let mut length = 0;
        for shift in (0..usize::BITS).step_by(7) {
            let [byte] = self.array()?;
            length |= usize::from(byte & 0x7f).checked_shl(shift)?;
            if byte < 0x80 {
                return Some(length);
            }
        }
        None
    }

    fn take(&mut self, length: usize) -> Option<&'r [u8]> {
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(bytes)
    }

    fn bytes(&mut self) -> Option<&'r [u8]> {
        let length = self.length()?;
        self.take(length)
    }

    fn text(&mut self) -> Option<Cow<'r, str>> {
        Some(std::str::from_utf8(self.bytes()?).ok()?.into())
    }

    fn optional(&mut self) -> Option<Option<Cow<'r, str>>> {
        let Some(length) = self.length()?.checked_sub(1) else { return Some(None) };
        Some(Some(std::str::from_utf8(self.take(length)?).ok()?.into()))
    }

    fn interval(&mut self) -> Option<Interval> {
        let (low, high) = (self.array()?, self.array()?);
        Some(Interval { low: f64::from_be_bytes(low), high: f64::from_be_bytes(high) })
    }

    fn token(&mut self, sort: u8) -> Option<Token<'r>> {
        let system = match sort {
            TOKEN => None,
            TOKEN_IN_SYSTEM => Some(self.text()?),
            _ => return None,
        };
        Some(Token { system, code: self.text()? })
    }

    fn kind(&mut self) -> Option<ResourceType> {
        let [code] = self.array()?;
        ResourceType::from_code(code)
    }

    fn value(&mut self) -> Option<Value<'r>> {
        let [sort] = self.array()?;
        Some(match sort {
            TOKEN | TOKEN_IN_SYSTEM => Value::Token(self.token(sort)?),
            STRING => Value::String(self.text()?),
            LOCAL => Value::Reference(Reference::Local(self.kind()?, self.text()?, None)),
            LOCAL_VERSION => {
                Value::Reference(Reference::Local(self.kind()?, self.text()?, Some(self.text()?)))
            }
            URL => Value::Reference(Reference::Url(self.text()?, None)),
            URL_VERSION => Value::Reference(Reference::Url(self.text()?, Some(self.text()?))),
            IDENTIFIER => {
                let [sort] = self.array()?;
                Value::Reference(Reference::Identifier(self.token(sort)?))
            }
            DATE => {
                let (from, to) = (self.array()?, self.array()?);
                Value::Date(Span { from: i64::from_be_bytes(from), to: i64::from_be_bytes(to) })
            }
            NUMBER => Value::Number(self.interval()?),
            QUANTITY => Value::Quantity(Quantity {
                value: self.interval()?,
                system: self.optional()?,
                code: self.optional()?,
                unit: self.optional()?,
            }),
            URI => Value::Uri(self.text()?),
            COMPOSITE => {
                let count = self.length()?;
                let part = |reader: &mut Self| {
                    let count = reader.length()?;
                    (0..count).map(|_| reader.value()).collect::<Option<Vec<_>>>()
                };
                Value::Composite((0..count).map(|_| part(self)).collect::<Option<_>>()?)
            }
            POSITION => {
                let pair = self.interval()?;
                Value::Position(pair.low, pair.high)
            }
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn texts() -> impl Strategy<Value = Cow<'static, str>> {
        "\\PC{0,200}".prop_map(Cow::Owned)
    }

    fn tokens() -> impl Strategy<Value = Token<'static>> {
        (prop::option::of(texts()), texts()).prop_map(|(system, code)| Token { system, code })
    }

    fn intervals() -> impl Strategy<Value = Interval> {
        (-1e9..1e9, 0.0..1e9).prop_map(|(low, more)| Interval { low, high: low + more })
    }

    fn values() -> impl Strategy<Value = Value<'static>> {
        let patient: ResourceType = "Patient".parse().expect("a type");
        let optional = || prop::option::of(texts());
        let simple = prop_oneof![
            tokens().prop_map(Value::Token),
            texts().prop_map(Value::String),
            (texts(), optional())
                .prop_map(move |(id, it)| Value::Reference(Reference::Local(patient, id, it))),
            (texts(), optional()).prop_map(|(url, it)| Value::Reference(Reference::Url(url, it))),
            tokens().prop_map(|token| Value::Reference(Reference::Identifier(token))),
            (any::<i64>(), any::<i64>()).prop_map(|(from, to)| Value::Date(Span { from, to })),
            intervals().prop_map(Value::Number),
            (intervals(), optional(), optional(), optional()).prop_map(
                |(value, system, code, unit)| Value::Quantity(Quantity {
                    value,
                    system,
                    code,
                    unit
                })
            ),
            texts().prop_map(Value::Uri),
            (-90.0..90.0, -180.0..180.0).prop_map(|(one, other)| Value::Position(one, other)),
        ];
        let part = || prop::collection::vec(simple.clone(), 1..3);
        prop_oneof![simple.clone(), prop::collection::vec(part(), 2..4).prop_map(Value::Composite),]
    }

    proptest! {
        #[test]
        fn what_is_put_is_read(values in prop::collection::vec(values(), 0..6)) {
            let mut bytes = Vec::new();
            values.iter().for_each(|value| put_value(&mut bytes, value));
            let mut row = vec![1, 2, 3, 4];
            put_bytes(&mut row, &bytes);
            row.extend_from_slice(&[5, 6, 7, 8, 0]);

            let entries = Entries::read(&row);

            prop_assert_eq!(entries.values(PathId([1, 2, 3, 4])).collect::<Vec<_>>(), values);
            prop_assert_eq!(entries.values(PathId([5, 6, 7, 8])).count(), 0);
            prop_assert_eq!(entries.values(PathId([0; 4])).count(), 0);
        }

        #[test]
        fn whatever_is_read_ends(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Entries::read(&bytes).all().count();
        }
    }
}
