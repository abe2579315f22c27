//! This module names regions, sites and nodes: one namespace for all three.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// A name: `[a-z][a-z0-9-]{0,23}`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<str>);

/// The text is not a name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is not a name: a lower-case letter, then up to 23 lower-case letters, digits or hyphens"
)]
pub struct InvalidName {
    /// What was given.
    pub text: String,
}

impl Name {
    /// The longest name, in bytes.
    pub const MAX_LEN: usize = 24;

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let letter = |b: u8| b.is_ascii_lowercase();
        let bytes = text.as_bytes();
        let valid = (1..=Self::MAX_LEN).contains(&bytes.len())
            && letter(bytes[0])
            && bytes.iter().all(|&b| letter(b) || b.is_ascii_digit() || b == b'-');
        if valid { Ok(Self(text.into())) } else { Err(InvalidName { text: text.to_owned() }) }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident),*) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub Name);

        impl $name {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                self.0.as_str()
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;

            fn from_str(text: &str) -> Result<Self, InvalidName> {
                text.parse().map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    )*};
}

names! {
    /// The name of a region: a Raft group's area.
    RegionName,
    /// The name of a site: one treatment facility.
    SiteName,
    /// The name of a node: one process with one disk.
    NodeName
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_what_the_pattern_allows_and_nothing_else() {
        for good in ["a", "pac-1", "a23456789012345678901234"] {
            assert_eq!(good.parse::<Name>().map(|n| n.to_string()), Ok(good.to_owned()));
        }
        for bad in ["", "A", "1a", "-a", "a_b", "a.b", "a234567890123456789012345", "ä"] {
            assert!(bad.parse::<Name>().is_err(), "{bad:?}");
        }
    }
}
