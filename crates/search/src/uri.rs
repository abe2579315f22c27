//! This module seeks URIs (FHIR R4, search, 3.1.1.4.13): compared letter by letter.

use chartmesh_record::{ElementType, escape};

use crate::fault::Fault;

/// A URI that is sought.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UriSought {
    /// How what is found is to stand to it.
    pub place: UriPlace,
    /// The URI.
    pub uri: String,
}

/// Where a URI found is to lie, seen from the URI sought.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum UriPlace {
    /// It is the same.
    Same,
    /// It begins with it (`:below`).
    Below,
    /// It is what it begins with (`:above`).
    Above,
}

/// Whether values of this type are URIs.
pub(crate) fn is_in(kind: ElementType) -> bool {
    matches!(kind.name(), "uri" | "url" | "canonical" | "oid" | "uuid")
}

impl UriSought {
    pub(crate) fn parse(text: &str, place: UriPlace) -> Result<Self, Fault> {
        let uri = escape::unescape(text)?;
        if uri.is_empty() { Err("it is empty".into()) } else { Ok(Self { place, uri }) }
    }

    /// Whether a URI is meant.
    #[must_use]
    pub fn matches(&self, found: &str) -> bool {
        match self.place {
            UriPlace::Same => found == self.uri,
            UriPlace::Below => lies_below(found, &self.uri),
            UriPlace::Above => lies_below(&self.uri, found),
        }
    }
}

/// Whether a URI is another one or goes on from it, at the end of a segment.
fn lies_below(uri: &str, other: &str) -> bool {
    uri.strip_prefix(other).is_some_and(|rest| {
        rest.is_empty() || other.ends_with('/') || rest.starts_with(['/', '|', '?', '#'])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn above_and_below_end_at_segments() {
        let is =
            |sought, place, found| UriSought::parse(sought, place).expect("a URI").matches(found);

        assert!(is("http://a.org/x", UriPlace::Same, "http://a.org/x"));
        assert!(is("http://a.org/x", UriPlace::Below, "http://a.org/x/y"));
        assert!(!is("http://a.org/x", UriPlace::Below, "http://a.org/xy"));
        assert!(is("http://a.org/x/y", UriPlace::Above, "http://a.org/"));
        assert!(!is("http://a.org/x", UriPlace::Above, "http://a.org/x/y"));
    }
}
