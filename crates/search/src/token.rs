//! This module indexes tokens (FHIR R4, search, 3.1.1.4.10): codes, identifiers, flags. What is sought
//! is a `record::Token`, because criteria decide about identity too.
//!
//! Letter case matters: R4 leaves it to each system, and a match in spite of it would be a guess.

use std::borrow::Cow;

use chartmesh_record::{ElementType, Node};

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
