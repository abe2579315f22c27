//! This module holds a JSON value that can be changed. What is not changed is written as it was read.

use std::borrow::Cow;

use crate::json::{Kind, Value, unescape};
use crate::limits;

/// A value.
#[derive(Clone, Debug)]
pub(super) enum Json {
    /// A string with its quotes, a number, a boolean or null, as it is written.
    Scalar(Box<str>),
    Array(Vec<Self>),
    /// Members by their names, in order.
    Object(Vec<(Box<str>, Self)>),
}

/// A step into a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Member(Box<str>),
    Item(usize),
}

impl PartialEq for Json {
    /// As JSON Patch compares: numbers by what they are, members in any order (RFC 6902, 4.6).
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Scalar(one), Self::Scalar(two)) => {
                one == two || self.comparable() == other.comparable()
            }
            (Self::Array(one), Self::Array(two)) => one == two,
            (Self::Object(one), Self::Object(two)) => {
                let same = |(name, value): &(Box<str>, Self)| other.member(name) == Some(value);
                one.len() == two.len() && one.iter().all(same)
            }
            _ => false,
        }
    }
}

impl Eq for Json {}

/// A scalar without the ways of writing it.
#[derive(PartialEq)]
enum Comparable<'j> {
    Text(Cow<'j, str>),
    Number(f64),
    Word(&'j str),
}

impl Json {
    pub(super) fn of(value: Value<'_>) -> Self {
        match value.kind() {
            Kind::Array => Self::Array(value.children().map(Self::of).collect()),
            Kind::Object => {
                let members = value.children();
                Self::Object(members.map(|it| (it.name().into(), Self::of(it))).collect())
            }
            _ => Self::Scalar(value.text().into()),
        }
    }

    pub(super) fn null() -> Self {
        Self::Scalar("null".into())
    }

    pub(super) fn is_null(&self) -> bool {
        matches!(self, Self::Scalar(text) if &**text == "null")
    }

    /// A string's characters; a number or a boolean as it is written.
    pub(super) fn text(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Scalar(text) if &**text == "null" => None,
            Self::Scalar(text) => {
                let inner = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
                Some(match inner {
                    Some(inner) if inner.contains('\\') => unescape(inner).into(),
                    Some(inner) => inner.into(),
                    None => (&**text).into(),
                })
            }
            _ => None,
        }
    }

    fn comparable(&self) -> Option<Comparable<'_>> {
        let Self::Scalar(text) = self else { return None };
        match text.bytes().next()? {
            b'"' => Some(Comparable::Text(self.text()?)),
            b'-' | b'0'..=b'9' => text.parse().ok().map(Comparable::Number),
            _ => Some(Comparable::Word(text)),
        }
    }

    pub(super) fn member(&self, name: &str) -> Option<&Self> {
        let Self::Object(members) = self else { return None };
        members.iter().find(|(own, _)| &**own == name).map(|(_, value)| value)
    }

    pub(super) fn member_mut(&mut self, name: &str) -> Option<&mut Self> {
        let Self::Object(members) = self else { return None };
        members.iter_mut().find(|(own, _)| &**own == name).map(|(_, value)| value)
    }

    /// Puts a member in the place of one of its name, or at the end.
    pub(super) fn put(&mut self, name: &str, value: Self) {
        let Self::Object(members) = self else { return };
        match members.iter_mut().find(|(own, _)| &**own == name) {
            Some((_, own)) => *own = value,
            None => members.push((name.into(), value)),
        }
    }

    pub(super) fn take(&mut self, name: &str) -> Option<Self> {
        let Self::Object(members) = self else { return None };
        let place = members.iter().position(|(own, _)| &**own == name)?;
        Some(members.remove(place).1)
    }

    /// What stands there.
    pub(super) fn at(&self, steps: &[Step]) -> Option<&Self> {
        steps.iter().try_fold(self, |value, step| match (step, value) {
            (Step::Member(name), value) => value.member(name),
            (Step::Item(place), Self::Array(items)) => items.get(*place),
            (Step::Item(_), _) => None,
        })
    }

    pub(super) fn at_mut(&mut self, steps: &[Step]) -> Option<&mut Self> {
        steps.iter().try_fold(self, |value, step| match (step, value) {
            (Step::Member(name), value) => value.member_mut(name),
            (Step::Item(place), Self::Array(items)) => items.get_mut(*place),
            (Step::Item(_), _) => None,
        })
    }

    /// Changes this as a JSON Merge Patch says (RFC 7396, 2).
    pub(super) fn merge(&mut self, patch: &Self) {
        let Self::Object(changes) = patch else {
            *self = patch.clone();
            return;
        };
        if !matches!(self, Self::Object(_)) {
            *self = Self::Object(Vec::new());
        }
        for (name, change) in changes {
            if change.is_null() {
                self.take(name);
                continue;
            }
            match self.member_mut(name) {
                Some(own) => own.merge(change),
                None => {
                    let mut new = Self::Object(Vec::new());
                    new.merge(change);
                    self.put(name, new);
                }
            }
        }
    }

    /// How deep it is: 1 for a scalar.
    pub(super) fn depth(&self) -> usize {
        let deepest = match self {
            Self::Scalar(_) => None,
            Self::Array(items) => items.iter().map(Self::depth).max(),
            Self::Object(members) => members.iter().map(|(_, value)| value.depth()).max(),
        };
        1 + deepest.unwrap_or_default()
    }

    /// About how many bytes it takes.
    pub(super) fn weight(&self) -> usize {
        match self {
            Self::Scalar(text) => text.len() + 1,
            Self::Array(items) => 2 + items.iter().map(Self::weight).sum::<usize>(),
            Self::Object(members) => {
                let each = members.iter().map(|(name, value)| name.len() + 4 + value.weight());
                2 + each.sum::<usize>()
            }
        }
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Scalar(text) => out.extend_from_slice(text.as_bytes()),
            Self::Array(items) => {
                out.push(b'[');
                for (place, item) in items.iter().enumerate() {
                    if place > 0 {
                        out.push(b',');
                    }
                    item.write(out);
                }
                out.push(b']');
            }
            Self::Object(members) => {
                out.push(b'{');
                for (place, (name, value)) in members.iter().enumerate() {
                    if place > 0 {
                        out.push(b',');
                    }
                    out.extend_from_slice(quoted(name).as_bytes());
                    out.push(b':');
                    value.write(out);
                }
                out.push(b'}');
            }
        }
    }
}

/// Whether a value may stand so many steps below the root.
pub(super) fn fits(value: &Json, below: usize) -> bool {
    below + value.depth() <= limits::MAX_JSON_DEPTH
}

/// A text as a JSON string.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for letter in text.chars() {
        match letter {
            '"' | '\\' => out.extend(['\\', letter]),
            '\0'..='\u{1f}' => out.push_str(&format!("\\u{:04x}", u32::from(letter))),
            _ => out.push(letter),
        }
    }
    out.push('"');
    out
}
