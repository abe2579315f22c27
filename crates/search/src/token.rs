//! This module indexes and seeks tokens (FHIR R4, search, 3.1.1.4.10): codes, identifiers, flags.
//!
//! Letter case matters: R4 leaves it to each system, a match in spite of it would be a guess, and
//! criteria decide about identity.

use std::borrow::Cow;

use chartmesh_record::{ElementType, Node, escape};

use crate::definitions;
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
    pub system: TokenSystem,
    /// What the value must be; `None`: any (`system|`).
    pub value: Option<String>,
}

/// What the system of a token must be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TokenSystem {
    /// Anything (`value`).
    Any,
    /// Absent (`|value`).
    Absent,
    /// This one (`system|value`).
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
    /// What is sought by a text: `value`, `|value`, `system|value` or `system|`.
    ///
    /// # Errors
    /// Says why it is none of them.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let parts =
            escape::split(text, '|').map(escape::unescape).collect::<Result<Vec<String>, _>>()?;
        let (system, value) = match <[String; 2]>::try_from(parts) {
            Ok([system, value]) if system.is_empty() => (TokenSystem::Absent, value),
            Ok([system, value]) => (TokenSystem::Is(system), value),
            Err(mut parts) if parts.len() == 1 => (TokenSystem::Any, parts.remove(0)),
            Err(_) => return Err("more than one '|': write \\| for one within a value"),
        };
        match (&system, value.is_empty()) {
            (TokenSystem::Is(_), true) => Ok(Self { system, value: None }),
            (_, true) => Err("it is empty"),
            (_, false) => Ok(Self { system, value: Some(value) }),
        }
    }

    /// Whether a value of a system is meant; a value that is missing is empty.
    #[must_use]
    pub fn matches(&self, system: Option<&str>, value: &str) -> bool {
        let in_system = match &self.system {
            TokenSystem::Any => true,
            TokenSystem::Absent => system.is_none(),
            TokenSystem::Is(asked) => system == Some(asked),
        };
        in_system && self.value.as_ref().is_none_or(|asked| asked == value)
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

    fn sought(system: TokenSystem, value: Option<&str>) -> TokenSought {
        TokenSought { system, value: value.map(str::to_owned) }
    }

    fn is(system: &str) -> TokenSystem {
        TokenSystem::Is(system.to_owned())
    }

    #[test]
    fn reads_every_form_of_a_token() {
        let check = |text: &str, expected: TokenSought| {
            assert_eq!(TokenSought::parse(text), Ok(expected), "{text}");
        };

        check("12", sought(TokenSystem::Any, Some("12")));
        check("|12", sought(TokenSystem::Absent, Some("12")));
        check("urn:x|12", sought(is("urn:x"), Some("12")));
        check("urn:x|", sought(is("urn:x"), None));
        check(r"a\,b\|c\$d\\|e", sought(is(r"a,b|c$d\"), Some("e")));
        check("a$b", sought(TokenSystem::Any, Some("a$b")));
        for bad in ["", "|", "a|b|c", r"a\b", r"a\"] {
            assert!(TokenSought::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_token_is_meant_in_its_system_and_to_the_letter() {
        let check = |text: &str, system: Option<&str>, value: &str, expected: bool| {
            let sought = TokenSought::parse(text).expect("a token");
            assert_eq!(sought.matches(system, value), expected, "{text}");
        };

        check("1", Some("s"), "1", true);
        check("s|1", Some("s"), "1", true);
        check("|1", Some("s"), "1", false);
        check("t|1", Some("s"), "1", false);
        check("S|1", Some("s"), "1", false);
        check("|2", None, "2", true);
        check("s|2", None, "2", false);
        check("s|", Some("s"), "1", true);
    }
}
