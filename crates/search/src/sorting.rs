//! This module orders what was found (FHIR R4, search, 3.1.1.5.6).
//!
//! A resource with several values is placed by the least of them, or by the greatest where the order is
//! turned round; one without any comes last, either way.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use chartmesh_record::{ResourceType, mutant};

use crate::date;
use crate::entries::Entries;
use crate::fault::Fault;
use crate::number;
use crate::parameter::{Parameter, Sort};
use crate::posting::IdKey;
use crate::reference::Reference;
use crate::registry::Registry;
use crate::string::folded;
use crate::value::Value;

/// How much of a text counts, in bytes.
const TEXT_BYTES: usize = 128;

/// What results are ordered by.
#[derive(Clone, Debug)]
pub struct SortKey {
    by: By,
    descending: bool,
}

#[derive(Clone, Debug)]
enum By {
    Id,
    Parameter(Arc<Parameter>),
}

/// Where a resource stands in an order: what each key says, then its id. They compare by
/// [`SortKey::compare`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PageKey {
    /// What each key says; `None`: the resource has no value.
    pub keys: Vec<Option<Vec<u8>>>,
    /// The id.
    pub id: IdKey,
}

impl fmt::Display for PageKey {
    /// `key~key~id`: each key in hexadecimal digits, `x` for none.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for key in &self.keys {
            match key {
                Some(key) => key.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?,
                None => f.write_str("x")?,
            }
            f.write_str("~")?;
        }
        match self.id.id() {
            Some(id) => write!(f, "{id}"),
            None => Err(fmt::Error),
        }
    }
}

/// A text is no page key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a place in a list of results")]
pub struct InvalidPageKey;

impl FromStr for PageKey {
    type Err = InvalidPageKey;

    fn from_str(text: &str) -> Result<Self, InvalidPageKey> {
        let mut parts: Vec<_> = text.split('~').collect();
        let id = parts.pop().and_then(|id| id.parse().ok()).ok_or(InvalidPageKey)?;
        let key = |text: &str| match text {
            "x" => Ok(None),
            digits => bytes(digits).map(Some).ok_or(InvalidPageKey),
        };
        let keys = parts.into_iter().map(key).collect::<Result<_, _>>()?;
        Ok(Self { keys, id: IdKey::new(&id) })
    }
}

fn bytes(digits: &str) -> Option<Vec<u8>> {
    if !digits.len().is_multiple_of(2) || !digits.is_ascii() {
        return None;
    }
    let pairs = (0..digits.len()).step_by(2).map(|at| &digits[at..at + 2]);
    pairs.map(|pair| u8::from_str_radix(pair, 16).ok()).collect()
}

impl SortKey {
    /// `parameter` or `-parameter`.
    pub(crate) fn parse(
        registry: &Registry,
        kind: ResourceType,
        text: &str,
    ) -> Result<Self, Fault> {
        let (descending, code) = match text.strip_prefix('-') {
            Some(code) => (true, code),
            None => (false, text),
        };
        if code == "_id" {
            return Ok(Self { by: By::Id, descending });
        }
        let parameter = registry.parameter(kind, code);
        let parameter = parameter
            .ok_or_else(|| format!("{kind} has no search parameter {code:?} to sort by"))?;
        if matches!(parameter.sort(), Sort::Composite | Sort::Special) {
            let sort = parameter.sort().as_str();
            return Err(format!("{code} is a {sort}: it has no order").into());
        }
        Ok(Self { by: By::Parameter(parameter.clone()), descending })
    }

    /// Where a resource stands in the order of these keys.
    #[must_use]
    pub fn page_key(keys: &[Self], id: IdKey, entries: Entries<'_>) -> PageKey {
        PageKey { keys: keys.iter().map(|key| key.of(&id, entries)).collect(), id }
    }

    /// Which of two comes first in the order of these keys.
    #[must_use]
    pub fn compare(keys: &[Self], one: &PageKey, other: &PageKey) -> Ordering {
        let pairs = keys.iter().zip(one.keys.iter().zip(&other.keys));
        let by_keys = pairs.map(|(key, pair)| match pair {
            (Some(one), Some(other)) if key.descending => other.cmp(one),
            (Some(one), Some(other)) => one.cmp(other),
            (None, None) => Ordering::Equal,
            (None, Some(_)) => Ordering::Greater,
            (Some(_), None) => Ordering::Less,
        });
        let first = by_keys.into_iter().find(|order| order.is_ne());
        if mutant("page-key-without-tie-breaker") && !keys.is_empty() {
            return first.unwrap_or(Ordering::Equal);
        }
        first.unwrap_or_else(|| one.id.cmp(&other.id))
    }

    fn of(&self, id: &IdKey, entries: Entries<'_>) -> Option<Vec<u8>> {
        let By::Parameter(parameter) = &self.by else {
            return Some(id.id()?.as_str().as_bytes().to_vec());
        };
        let paths = parameter.paths().iter();
        let values = paths.flat_map(|(path, _)| entries.values(*path));
        let keys = values.filter_map(|value| self.key(&value));
        if self.descending { keys.max() } else { keys.min() }
    }

    /// Bytes that sort as values do.
    fn key(&self, value: &Value<'_>) -> Option<Vec<u8>> {
        Some(match value {
            Value::Token(token) => cut(&token.code),
            Value::String(text) => cut(&folded(text)),
            Value::Uri(text) => cut(text),
            Value::Reference(Reference::Local(kind, id, _)) => cut(&format!("{kind}/{id}")),
            Value::Reference(Reference::Url(url, _)) => cut(url),
            Value::Date(span) => {
                date::sortable(if self.descending { span.to } else { span.from }).to_vec()
            }
            Value::Number(it) => {
                number::sortable(if self.descending { it.high } else { it.low }).to_vec()
            }
            Value::Quantity(quantity) => {
                let (value, unit) =
                    quantity.canonical().unwrap_or_else(|| (quantity.value, String::new()));
                let value = if self.descending { value.high } else { value.low };
                [unit.as_bytes(), &[0], &number::sortable(value)].concat()
            }
            Value::Reference(Reference::Identifier(_))
            | Value::Composite(_)
            | Value::Position(..) => return None,
        })
    }
}

fn cut(text: &str) -> Vec<u8> {
    text.as_bytes()[..text.floor_char_boundary(TEXT_BYTES)].to_vec()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_page_key_is_read_back_from_its_text(
            keys in prop::collection::vec(
                prop::option::of(prop::collection::vec(any::<u8>(), 0..20)),
                0..3,
            ),
            id in "[A-Za-z0-9.-]{1,64}",
        ) {
            let key = PageKey { keys, id: IdKey::new(&id.parse().expect("an id")) };
            prop_assert_eq!(key.to_string().parse(), Ok(key));
        }

        #[test]
        fn any_text_is_a_page_key_or_refused(text in "\\PC{0,40}") {
            let _ = text.parse::<PageKey>();
        }
    }
}
