//! This module reads and applies JSON Patch (RFC 6902), with pointers as RFC 6901 says.

use super::edit::{Json, fits};
use super::{Unpatchable, malformed};
use crate::invalid::Invalid;
use crate::json::{Kind, Value};
use crate::limits;

/// One operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum JsonStep {
    Add(Pointer, Json),
    Remove(Pointer),
    Replace(Pointer, Json),
    Move { from: Pointer, to: Pointer },
    Copy { from: Pointer, to: Pointer },
    Test(Pointer, Json),
}

/// Where something stands: the names and places from the root on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pointer(Vec<Box<str>>);

/// Reads an array of operations.
pub(super) fn read(root: Value<'_>) -> Result<Vec<JsonStep>, Invalid> {
    if root.kind() != Kind::Array {
        return Err(malformed(root, "a JSON Patch is an array of operations"));
    }
    let steps: Vec<_> = root.children().collect();
    if steps.len() > limits::MAX_PATCH_OPERATIONS {
        let most = limits::MAX_PATCH_OPERATIONS;
        return Err(malformed(root, format!("a patch has {most} operations at the most")));
    }
    steps.into_iter().map(read_step).collect()
}

fn read_step(step: Value<'_>) -> Result<JsonStep, Invalid> {
    let text = |name: &str| {
        let value = step.member(name).and_then(Value::string);
        value.ok_or_else(|| malformed(step, format!("an operation needs a text {name:?}")))
    };
    let pointer = |name: &str| {
        let text = text(name)?;
        let bad = || malformed(step, format!("{name} {text:?} is no JSON Pointer (RFC 6901)"));
        Pointer::parse(&text).ok_or_else(bad)
    };
    let value = || {
        let value = step.member("value").map(Json::of);
        value.ok_or_else(|| malformed(step, "this operation needs a \"value\""))
    };
    let path = pointer("path")?;
    match &*text("op")? {
        "add" => Ok(JsonStep::Add(path, value()?)),
        "remove" => Ok(JsonStep::Remove(path)),
        "replace" => Ok(JsonStep::Replace(path, value()?)),
        "move" => Ok(JsonStep::Move { from: pointer("from")?, to: path }),
        "copy" => Ok(JsonStep::Copy { from: pointer("from")?, to: path }),
        "test" => Ok(JsonStep::Test(path, value()?)),
        other => {
            let known = "add, remove, replace, move, copy or test";
            Err(malformed(step, format!("op is {other:?}, not {known}")))
        }
    }
}

/// Applies operations one after the other.
pub(super) fn apply(steps: &[JsonStep], root: &mut Json) -> Result<(), Unpatchable> {
    let mut copied = 0;
    for (number, step) in steps.iter().enumerate() {
        step.apply(root, &mut copied)
            .map_err(|reason| Unpatchable { step: Some(number), reason })?;
    }
    Ok(())
}

impl JsonStep {
    fn apply(&self, root: &mut Json, copied: &mut usize) -> Result<(), String> {
        match self {
            Self::Add(to, value) => to.add(root, value.clone()),
            Self::Remove(at) => at.remove(root).map(drop),
            Self::Replace(at, value) => {
                let own = at.find(root)?;
                at.room(value)?;
                *own = value.clone();
                Ok(())
            }
            Self::Move { from, to } => {
                if to.0.len() > from.0.len() && to.0.starts_with(&from.0) {
                    return Err(format!("{from} cannot be moved into itself"));
                }
                let value = from.remove(root)?;
                to.add(root, value)
            }
            Self::Copy { from, to } => {
                let value = from.find(root)?.clone();
                *copied += value.weight();
                if *copied > limits::MAX_PATCH_COPIED_BYTES {
                    let most = limits::MAX_PATCH_COPIED_BYTES;
                    return Err(format!("more than {most} bytes are copied"));
                }
                to.add(root, value)
            }
            Self::Test(at, value) => {
                if at.find(root)? == value {
                    Ok(())
                } else {
                    Err(format!("what stands at {at} is not what it is tested to be"))
                }
            }
        }
    }
}

impl Pointer {
    fn parse(text: &str) -> Option<Self> {
        if text.is_empty() {
            return Some(Self(Vec::new()));
        }
        let tokens = text.strip_prefix('/')?.split('/');
        let token = |token: &str| {
            let escapes = token.match_indices('~').map(|(at, _)| token.as_bytes().get(at + 1));
            let sound = escapes.into_iter().all(|next| matches!(next, Some(b'0' | b'1')));
            sound.then(|| token.replace("~1", "/").replace("~0", "~").into())
        };
        let tokens: Vec<_> = tokens.map(token).collect::<Option<_>>()?;
        (tokens.len() <= limits::MAX_JSON_DEPTH).then_some(Self(tokens))
    }

    fn nothing(&self) -> String {
        format!("there is nothing at {self}")
    }

    /// What it points to.
    fn find<'j>(&self, root: &'j mut Json) -> Result<&'j mut Json, String> {
        let found = self.0.iter().try_fold(root, |value, token| match value {
            Json::Array(items) => items.get_mut(place(token)?),
            value => value.member_mut(token),
        });
        found.ok_or_else(|| self.nothing())
    }

    /// The value that what it points to stands in, and its token there.
    fn within<'j>(&self, root: &'j mut Json) -> Result<(&'j mut Json, &str), String> {
        let (last, above) = self.0.split_last().ok_or("the resource itself stays")?;
        let above = Self(above.to_vec());
        above.find(root).map(|value| (value, &**last))
    }

    fn room(&self, value: &Json) -> Result<(), String> {
        let deep = limits::MAX_JSON_DEPTH;
        let fits = fits(value, self.0.len());
        fits.then_some(()).ok_or_else(|| format!("it gets deeper than {deep} levels"))
    }

    fn add(&self, root: &mut Json, value: Json) -> Result<(), String> {
        self.room(&value)?;
        if self.0.is_empty() {
            *root = value;
            return Ok(());
        }
        let (within, token) = self.within(root)?;
        match within {
            Json::Array(items) => {
                let at = if token == "-" { Some(items.len()) } else { place(token) };
                let at = at.filter(|at| *at <= items.len()).ok_or_else(|| self.nothing())?;
                items.insert(at, value);
            }
            Json::Object(_) => within.put(token, value),
            Json::Scalar(_) => return Err(self.nothing()),
        }
        Ok(())
    }

    fn remove(&self, root: &mut Json) -> Result<Json, String> {
        let (within, token) = self.within(root)?;
        let removed = match within {
            Json::Array(items) => {
                let at = place(token).filter(|at| *at < items.len());
                at.map(|at| items.remove(at))
            }
            value => value.take(token),
        };
        removed.ok_or_else(|| self.nothing())
    }
}

/// The place in an array that a token is: digits, without a zero before others.
fn place(token: &str) -> Option<usize> {
    let plain = token.bytes().all(|digit| digit.is_ascii_digit());
    let plain = plain && (token.len() == 1 || !token.starts_with('0'));
    plain.then(|| token.parse().ok()).flatten()
}

impl std::fmt::Display for Pointer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.is_empty() {
            return f.write_str("the root");
        }
        let mut tokens = self.0.iter();
        tokens.try_for_each(|token| write!(f, "/{}", token.replace('~', "~0").replace('/', "~1")))
    }
}
