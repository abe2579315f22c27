//! This module indexes and seeks strings (FHIR R4, search, 3.1.1.4.8): names, addresses, titles.
//!
//! Compared is what is left without letter case, accents and repeated spaces; with `:exact`, the text
//! as it is.

use std::borrow::Cow;

use chartmesh_record::{ElementType, Node, escape};
use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

use crate::fault::Fault;
use crate::names::Names;

/// A string that is sought.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StringSought {
    /// How what is found is to stand to it.
    pub manner: Manner,
    /// The string: folded, unless the manner is exact.
    pub text: String,
}

/// How a string found is to stand to the string sought.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Manner {
    /// It begins with it.
    Begins,
    /// It has it somewhere (`:contains`).
    Contains,
    /// It is it (`:exact`).
    Exact,
}

/// The strings of an element.
pub(crate) fn strings<'t>(
    node: Node<'t>,
    kind: ElementType,
    names: &Names,
    found: &mut impl FnMut(Cow<'t, str>),
) {
    let parts = match kind.name() {
        "HumanName" => {
            &[&names.family, &names.given, &names.prefix, &names.suffix, &names.text][..]
        }
        "Address" => &[
            &names.line,
            &names.city,
            &names.district,
            &names.state,
            &names.postal_code,
            &names.country,
            &names.text,
        ],
        _ => return node.text().into_iter().for_each(found),
    };
    let items = parts.iter().filter_map(|name| node.member(name)).flat_map(Node::items);
    items.filter_map(Node::text).for_each(found);
}

/// Whether values of this type are strings.
pub(crate) fn is_in(kind: ElementType) -> bool {
    matches!(kind.name(), "HumanName" | "Address" | "string" | "markdown" | "code" | "uri" | "id")
}

/// A string without letter case, accents and repeated spaces.
#[must_use]
pub(crate) fn folded(text: &str) -> String {
    let mut folded = String::with_capacity(text.len());
    if text.is_ascii() {
        fold(text.chars(), &mut folded);
    } else {
        fold(text.nfkd().filter(|letter| !is_combining_mark(*letter)), &mut folded);
    }
    folded
}

fn fold(letters: impl Iterator<Item = char>, folded: &mut String) {
    for letter in letters {
        if !letter.is_whitespace() {
            folded.extend(letter.to_lowercase());
        } else if !folded.is_empty() && !folded.ends_with(' ') {
            folded.push(' ');
        }
    }
    folded.truncate(folded.trim_end().len());
}

impl StringSought {
    pub(crate) fn parse(text: &str, manner: Manner) -> Result<Self, Fault> {
        let text = escape::unescape(text)?;
        let text = if manner == Manner::Exact { text } else { folded(&text) };
        if text.is_empty() { Err("it is empty".into()) } else { Ok(Self { manner, text }) }
    }

    /// Whether a string is meant.
    #[must_use]
    pub fn matches(&self, found: &str) -> bool {
        match self.manner {
            Manner::Begins => folded(found).starts_with(&self.text),
            Manner::Contains => folded(found).contains(&self.text),
            Manner::Exact => self.text == found,
        }
    }

    /// What the folded form of everything that is meant begins with.
    pub(crate) fn beginning(&self) -> Option<String> {
        match self.manner {
            Manner::Begins => Some(self.text.clone()),
            Manner::Contains => None,
            Manner::Exact => Some(folded(&self.text)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(sought: &str, manner: Manner, found: &str) -> bool {
        StringSought::parse(sought, manner).expect("a string").matches(found)
    }

    #[test]
    fn strings_are_compared_without_case_accents_and_repeated_spaces() {
        assert_eq!(folded("  Ève \t Müller-ß "), "eve muller-ß");
        assert!(
            matches("eve", Manner::Begins, "Évelyne") && !matches("vel", Manner::Begins, "Eve")
        );
        assert!(matches("LYN", Manner::Contains, "Évelyne"));
        assert!(matches("Eve", Manner::Exact, "Eve") && !matches("eve", Manner::Exact, "Eve"));
        assert!(matches(r"a\,b", Manner::Begins, "A,b c"));
    }

    #[test]
    fn what_names_nothing_is_refused() {
        assert!(StringSought::parse("", Manner::Begins).is_err());
        assert!(StringSought::parse(" ", Manner::Contains).is_err());
        assert!(StringSought::parse(" ", Manner::Exact).is_ok());
    }
}
