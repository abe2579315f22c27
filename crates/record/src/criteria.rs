//! This module holds the search criteria of conditional interactions and references.
//!
//! For now `_id` and `identifier`; any other parameter is refused. Criteria are always strict: none
//! at all, an unknown parameter or a value that cannot be parsed is an error (FHIR R4, http, 3.1.0.8.1).

use std::fmt;

use crate::kind::{ResourceId, ResourceType};

/// What must match: all terms (AND).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Criteria {
    /// The type that is searched.
    pub kind: ResourceType,
    /// As sent, without the type and the question mark.
    pub text: String,
    /// At least one.
    pub terms: Vec<Term>,
}

/// One parameter with its alternatives (OR).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Term {
    /// `_id`.
    Id(Vec<ResourceId>),
    /// `identifier`.
    Identifier(Vec<Token>),
}

/// One alternative of a token search (FHIR R4, search, 3.1.1.4.10).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token {
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

/// The criteria cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCriteria {
    /// There are none.
    #[error(
        "no search criteria: a conditional request needs at least one, such as identifier=system|value"
    )]
    Empty,
    /// A parameter that is not supported.
    #[error("search parameter {name:?} cannot be used in criteria here: _id and identifier can")]
    Unsupported {
        /// Its name, modifier included.
        name: String,
    },
    /// A value that cannot be parsed.
    #[error("value {value:?} of {name} cannot be used: {reason}")]
    Value {
        /// The parameter.
        name: String,
        /// The value.
        value: String,
        /// Why not.
        reason: &'static str,
    },
}

impl fmt::Debug for Criteria {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}?{}", self.kind, self.text)
    }
}

impl fmt::Display for Criteria {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}
