//! This module holds the prefixes of ordered values (FHIR R4, search, 3.1.1.4.5): `ge2010`, `lt5.4`.

use crate::fault::Fault;

/// How a value found is to stand to the value sought.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Comparison {
    /// `eq`, and without a prefix.
    Equal,
    /// `ne`.
    NotEqual,
    /// `gt`.
    Greater,
    /// `lt`.
    Less,
    /// `ge`.
    GreaterOrEqual,
    /// `le`.
    LessOrEqual,
    /// `sa`.
    StartsAfter,
    /// `eb`.
    EndsBefore,
    /// `ap`.
    Approximate,
}

/// All of them, as they are written.
pub(crate) const PREFIXES: [(&str, Comparison); 9] = [
    ("eq", Comparison::Equal),
    ("ne", Comparison::NotEqual),
    ("gt", Comparison::Greater),
    ("lt", Comparison::Less),
    ("ge", Comparison::GreaterOrEqual),
    ("le", Comparison::LessOrEqual),
    ("sa", Comparison::StartsAfter),
    ("eb", Comparison::EndsBefore),
    ("ap", Comparison::Approximate),
];

/// A prefix, and the rest of the text.
pub(crate) fn split(text: &str) -> Result<(Comparison, &str), Fault> {
    let letters = text.find(|letter: char| !letter.is_ascii_alphabetic()).unwrap_or(text.len());
    let (prefix, rest) = text.split_at(letters);
    if prefix.is_empty() {
        return Ok((Comparison::Equal, rest));
    }
    let known = PREFIXES.iter().find(|(name, _)| *name == prefix);
    let known = known.ok_or("the prefixes are eq, ne, gt, lt, ge, le, sa, eb and ap")?;
    Ok((known.1, rest))
}
