//! This module names versions: `{generation}-{origin}`, the FHIR `versionId`.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::name::Name;

/// What orders one feed: a name and a random tag of ten characters, such as `pac.7h2k4m9qzx`.
///
/// Ordered by its bytes; no origin ever names two contents.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin(Arc<str>);

/// How many versions of one resource came before: 1 + the highest generation its decider knew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(pub u64);

/// One state of one resource. Ordered by generation, then origin: the order of "current".
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VersionId {
    /// Its place among the versions of its resource.
    pub generation: Generation,
    /// Who decided it.
    pub origin: Origin,
}

/// The text is neither an origin nor a version id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a version id of this mesh, such as 3-pac.7h2k4m9qzx")]
pub struct InvalidVersionId {
    /// What was given.
    pub text: String,
}

impl Origin {
    /// The characters of a tag: lower-case letters and digits that are not mistaken for another.
    pub const TAG_ALPHABET: &'static [u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
    /// The length of a tag.
    pub const TAG_LEN: usize = 10;

    /// An origin of this name, with a tag made of fifty of the given random bits.
    #[must_use]
    pub fn new(name: &Name, random: u64) -> Self {
        let mut text = String::with_capacity(name.as_str().len() + 1 + Self::TAG_LEN);
        text.push_str(name.as_str());
        text.push('.');
        for place in 0..Self::TAG_LEN {
            let digit = (random >> (5 * place)) & 31;
            text.push(char::from(Self::TAG_ALPHABET[digit as usize]));
        }
        Self(text.into())
    }

    /// The origin as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name of the region or node that it belongs to.
    #[must_use]
    pub fn name(&self) -> Name {
        let (name, _) = self.0.split_once('.').expect("parsed with a dot");
        name.parse().expect("parsed with a valid name")
    }
}

impl FromStr for Origin {
    type Err = InvalidVersionId;

    fn from_str(text: &str) -> Result<Self, InvalidVersionId> {
        let invalid = || InvalidVersionId { text: text.to_owned() };
        let (name, tag) = text.split_once('.').ok_or_else(invalid)?;
        name.parse::<Name>().map_err(|_| invalid())?;
        let valid =
            tag.len() == Self::TAG_LEN && tag.bytes().all(|b| Self::TAG_ALPHABET.contains(&b));
        if valid { Ok(Self(text.into())) } else { Err(invalid()) }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for VersionId {
    type Err = InvalidVersionId;

    fn from_str(text: &str) -> Result<Self, InvalidVersionId> {
        let invalid = || InvalidVersionId { text: text.to_owned() };
        let (generation, origin) = text.split_once('-').ok_or_else(invalid)?;
        let plain = !generation.starts_with('0') && generation.bytes().all(|b| b.is_ascii_digit());
        let generation = generation.parse().ok().filter(|_| plain).ok_or_else(invalid)?;
        let origin = origin.parse().map_err(|_| invalid())?;
        Ok(Self { generation: Generation(generation), origin })
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for VersionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.generation, self.origin)
    }
}

impl fmt::Debug for VersionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_id_survives_its_text() {
        let name = "pac-1".parse::<Name>().expect("valid");
        let origin = Origin::new(&name, 0x1234_5678_9abc_def0);
        let id = VersionId { generation: Generation(12), origin };
        assert_eq!(id.to_string().parse(), Ok(id.clone()));
        assert_eq!(id.origin.name(), name);
    }

    #[test]
    fn refuses_what_is_not_a_version_id() {
        for bad in [
            "1",
            "",
            "0-pac.7h2k4m9qzx",
            "01-pac.7h2k4m9qzx",
            "1-pac",
            "1-pac.7h2k4m9qz",
            "1-pac.7h2k4m9qzu",
            "+1-pac.7h2k4m9qzx",
        ] {
            assert!(bad.parse::<VersionId>().is_err(), "{bad:?}");
        }
    }
}
