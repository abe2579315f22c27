//! This module holds the search criteria of conditional interactions and references (FHIR R4, http,
//! 3.1.0.8.1): the parameters of a search, as text. What they mean is decided by who can search, a
//! [`View`](crate::View).
//!
//! Criteria are always strict: none at all, or one that cannot be used, is an error, because criteria
//! that lose a part match more than was meant.

use std::fmt;

use crate::escape::split;
use crate::kind::ResourceType;

/// What must match: all parameters (AND). Criteria compare equal, and so do their texts, whatever the
/// order of their parameters and of the alternatives of each.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Criteria {
    kind: ResourceType,
    /// Names and values, decoded, in order, each once.
    parameters: Vec<(String, String)>,
}

/// The criteria cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCriteria {
    /// There are none.
    #[error(
        "no search criteria: a conditional request needs at least one, such as identifier=system|value"
    )]
    Empty,
    /// A name or value that cannot be read.
    #[error("{text:?} cannot be read as criteria: {reason}")]
    Encoding {
        /// It, as sent.
        text: String,
        /// Why not.
        reason: &'static str,
    },
}

impl Criteria {
    /// The criteria in the query part of a URL, without the question mark, percent-encoded.
    ///
    /// # Errors
    /// When there are none, or one of them cannot be read.
    pub fn parse(kind: ResourceType, query: &str) -> Result<Self, InvalidCriteria> {
        let read = |text: &str| {
            let refuse = |reason| InvalidCriteria::Encoding { text: text.to_owned(), reason };
            decode(text).map_err(refuse)
        };
        let pairs = query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = read(value)?;
            let mut alternatives: Vec<_> = split(&value, ',').collect();
            alternatives.sort_unstable();
            alternatives.dedup();
            Ok((read(name)?, alternatives.join(",")))
        });
        let mut parameters = pairs.collect::<Result<Vec<_>, _>>()?;
        if parameters.is_empty() {
            return Err(InvalidCriteria::Empty);
        }
        parameters.sort();
        parameters.dedup();
        Ok(Self { kind, parameters })
    }

    /// The type that is searched.
    #[must_use]
    pub fn kind(&self) -> ResourceType {
        self.kind
    }

    /// Names and values of the parameters, in order, each once; at least one.
    pub fn parameters(&self) -> impl Iterator<Item = (&str, &str)> {
        self.parameters.iter().map(|(name, value)| (&**name, &**value))
    }

    /// The query that parses to these criteria: the same for all equal ones.
    #[must_use]
    pub fn query(&self) -> String {
        let mut query = String::new();
        for (name, value) in self.parameters() {
            query.push_str(if query.is_empty() { "" } else { "&" });
            encode(name, &mut query);
            query.push('=');
            encode(value, &mut query);
        }
        query
    }
}

/// Undoes percent-encoding, with `+` for a space.
fn decode(text: &str) -> Result<String, &'static str> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut nibble = || char::from(bytes.next()?).to_digit(16);
                let (high, low) =
                    nibble().zip(nibble()).ok_or("'%' is not followed by two hex digits")?;
                u8::try_from(16 * high + low).expect("two hex digits fit a byte")
            }
            plain => plain,
        });
    }
    String::from_utf8(decoded).map_err(|_| "it is not UTF-8")
}

/// Writes a name or value so that it is read back as it is.
fn encode(text: &str, out: &mut String) {
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' => out.push(char::from(byte)),
            b'-' | b'.' | b'_' | b'~' | b':' | b'/' | b'@' => out.push(char::from(byte)),
            b'|' | b',' | b'$' => out.push(char::from(byte)),
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
}

impl fmt::Display for Criteria {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}?{}", self.kind, self.query())
    }
}

impl fmt::Debug for Criteria {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(query: &str) -> Result<Criteria, InvalidCriteria> {
        Criteria::parse("Patient".parse().expect("a type"), query)
    }

    #[test]
    fn names_and_values_are_decoded() {
        let criteria =
            parse("identifier=http://a.b/c%7C1+2%2B3&name:exact=%C3%A4=%26").expect("it");
        let found: Vec<_> = criteria.parameters().collect();
        assert_eq!(found, [("identifier", "http://a.b/c|1 2+3"), ("name:exact", "ä=&")]);
    }

    #[test]
    fn refuses_none_and_what_cannot_be_read() {
        for bad in ["", "&&", "identifier=%4", "identifier=%zz", "identifier=%FF", "%FF=1"] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn equal_criteria_compare_equal_whatever_their_order() {
        let one = parse("_id=b,a&identifier=s|2,s|1&identifier=3&&_id=a,b").expect("valid");
        let other = parse("identifier=3&identifier=s%7C1,s%7C2,s|1&_id=a,b").expect("valid");
        assert_eq!(one, other);
        assert_eq!(one.query(), "_id=a,b&identifier=3&identifier=s|1,s|2");
        assert_ne!(one, parse("_id=a,b&identifier=3,s|1,s|2").expect("valid"));
        let escaped = parse(r"identifier=a\,b,0").expect("valid");
        assert_eq!(escaped.parameters().next(), Some(("identifier", r"0,a\,b")));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn criteria_survive_their_text(
            pairs in prop::collection::vec(("\\PC{1,6}", "(\\PC|[,|$\\\\+%&= ]){0,9}"), 1..4),
        ) {
            let mut query = String::new();
            for (name, value) in &pairs {
                query.push('&');
                encode(name, &mut query);
                query.push('=');
                encode(value, &mut query);
            }
            let criteria = parse(&query).expect("valid");

            prop_assert_eq!(parse(&criteria.query()), Ok(criteria));
        }
    }
}
