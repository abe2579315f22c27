//! This module indexes and seeks tokens (FHIR R4, search, 3.1.1.4.10): codes, identifiers, flags.
//!
//! Letter case matters: R4 leaves it to each system, and a match in spite of it would be a guess.

use std::borrow::Cow;

use chartmesh_record::{ElementType, Node};

use crate::definitions;
use crate::escape;
use crate::fault::Fault;
use crate::names::Names;

/// A code in a system.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token<'v> {
    /// The system, if it has one.
    pub system: Option<Cow<'v, str>>,
    /// The code; empty if there is only a system.
    pub code: Cow<'v, str>,
}

/// A token that is sought.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenSought {
    /// What the system must be.
    pub system: SystemSought,
    /// What the code must be; `None`: any (`system|`).
    pub code: Option<String>,
}

/// What the system of a token must be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SystemSought {
    /// Anything (`code`).
    Any,
    /// Absent (`|code`).
    Absent,
    /// This one (`system|code`).
    Is(String),
}

impl<'v> Token<'v> {
    /// The tokens of an element.
    pub(crate) fn of(
        node: Node<'v>,
        kind: ElementType,
        names: &Names,
        found: &mut impl FnMut(Self),
    ) {
        let pair = |code| Self {
            system: node.member(&names.system).and_then(Node::text),
            code: node.member(code).and_then(Node::text).unwrap_or_default(),
        };
        let token = match kind.name() {
            "CodeableConcept" => {
                let codings = node.member(&names.coding).into_iter().flat_map(Node::items);
                for coding in codings {
                    Self::coding(coding, names).into_iter().for_each(&mut *found);
                }
                return;
            }
            "Coding" => return Self::coding(node, names).into_iter().for_each(found),
            "Identifier" => pair(&names.value),
            // R4 lets the system of a contact point alone: it says what kind it is, not whose.
            "ContactPoint" => Self { system: None, ..pair(&names.value) },
            "code" => Self {
                system: kind.code_set().and_then(definitions::system_of).map(Cow::Borrowed),
                code: node.text().unwrap_or_default(),
            },
            "boolean" | "string" | "id" | "uri" | "url" | "canonical" | "oid" | "uuid"
            | "integer" | "positiveInt" | "unsignedInt" | "markdown" => {
                Self { system: None, code: node.text().unwrap_or_default() }
            }
            _ => return,
        };
        if token.system.is_some() || !token.code.is_empty() {
            found(token);
        }
    }

    fn coding(node: Node<'v>, names: &Names) -> Option<Self> {
        let system = node.member(&names.system).and_then(Node::text);
        let code = node.member(&names.code).and_then(Node::text);
        (system.is_some() || code.is_some())
            .then(|| Self { system, code: code.unwrap_or_default() })
    }

    /// Whether values of this type are tokens.
    pub(crate) fn is_in(kind: ElementType) -> bool {
        matches!(
            kind.name(),
            "CodeableConcept"
                | "Coding"
                | "Identifier"
                | "ContactPoint"
                | "code"
                | "boolean"
                | "string"
                | "id"
                | "uri"
                | "url"
                | "canonical"
                | "oid"
                | "uuid"
                | "integer"
                | "positiveInt"
                | "unsignedInt"
                | "markdown"
        )
    }
}

impl TokenSought {
    pub(crate) fn parse(text: &str) -> Result<Self, Fault> {
        let parts = escape::split(text, '|').map(escape::unescape);
        let mut parts = parts.collect::<Result<Vec<_>, _>>()?;
        let code = parts.pop().unwrap_or_default();
        let system = match parts.pop() {
            None => SystemSought::Any,
            Some(system) if system.is_empty() => SystemSought::Absent,
            Some(system) => SystemSought::Is(system),
        };
        if !parts.is_empty() {
            return Err("more than one '|': write \\| for one within a value".into());
        }
        match (&system, code.is_empty()) {
            (SystemSought::Is(_), true) => Ok(Self { system, code: None }),
            (_, true) => Err("it is empty".into()),
            (_, false) => Ok(Self { system, code: Some(code) }),
        }
    }

    /// Whether a token is meant.
    #[must_use]
    pub fn matches(&self, found: &Token<'_>) -> bool {
        let in_system = match &self.system {
            SystemSought::Any => true,
            SystemSought::Absent => found.system.is_none(),
            SystemSought::Is(system) => found.system.as_deref() == Some(system),
        };
        in_system && self.code.as_deref().is_none_or(|code| code == found.code)
    }
}

/// The texts that stand beside the codes of an element, for `:text`.
pub(crate) fn texts<'t>(
    node: Node<'t>,
    kind: ElementType,
    names: &Names,
    found: &mut impl FnMut(Cow<'t, str>),
) {
    let mut text = |node: Node<'t>, name| {
        let text = node.member(name).and_then(Node::text);
        text.into_iter().for_each(&mut *found);
    };
    match kind.name() {
        "CodeableConcept" => {
            text(node, &names.text);
            let codings = node.member(&names.coding).into_iter().flat_map(Node::items);
            codings.for_each(|coding| text(coding, &names.display));
        }
        "Coding" => text(node, &names.display),
        "Identifier" => {
            node.member(&names.kind).into_iter().for_each(|kind| text(kind, &names.text))
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(sought: &str, system: Option<&str>, code: &str) -> bool {
        let found = Token { system: system.map(Into::into), code: code.into() };
        TokenSought::parse(sought).expect("a token").matches(&found)
    }

    #[test]
    fn a_bar_tells_the_system_from_the_code() {
        assert!(matches("male", Some("urn:a"), "male") && matches("male", None, "male"));
        assert!(
            matches("urn:a|male", Some("urn:a"), "male") && !matches("urn:a|male", None, "male")
        );
        assert!(matches("|male", None, "male") && !matches("|male", Some("urn:a"), "male"));
        assert!(matches("urn:a|", Some("urn:a"), "any") && !matches("urn:a|", None, "any"));
        assert!(!matches("Male", None, "male"));
        assert!(matches(r"urn:a|x\|y", Some("urn:a"), "x|y"));
    }

    #[test]
    fn what_names_nothing_is_refused() {
        for text in ["", "|", "a|b|c", r"a\b"] {
            assert!(TokenSought::parse(text).is_err(), "{text}");
        }
    }
}
