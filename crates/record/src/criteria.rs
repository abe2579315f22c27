//! This module holds the search criteria of conditional interactions and references.
//!
//! For now `_id` and `identifier`; any other parameter is refused, those that control the result
//! (`_count`, `_format`) too. Criteria are always strict: none at all, an unknown parameter or a
//! value that cannot be parsed is an error (FHIR R4, http, 3.1.0.8.1), because criteria that lose a
//! part match more than was meant. Any other search finds its place as a [`Term`].

use std::fmt;

use crate::escape::{split, unescape};
use crate::identifier::Identifier;
use crate::kind::{ResourceId, ResourceType};

/// What must match: all terms (AND). Equal criteria compare equal, and so do their texts.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Criteria {
    kind: ResourceType,
    terms: Vec<Term>,
}

/// One parameter with its alternatives (OR), at least one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Term {
    /// `_id`.
    Id(Vec<ResourceId>),
    /// `identifier`.
    Identifier(Vec<Token>),
}

/// One alternative of a token search (FHIR R4, search, 3.1.1.4.10). Letter case matters: these
/// searches decide about identity.
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
        /// The value, as sent.
        value: String,
        /// Why not.
        reason: &'static str,
    },
}

/// The types of R4 whose resources have no identifier: criteria by it would match nothing, silently.
const WITHOUT_IDENTIFIER: [&str; 28] = [
    "AuditEvent",
    "Binary",
    "CapabilityStatement",
    "CompartmentDefinition",
    "GraphDefinition",
    "ImplementationGuide",
    "Linkage",
    "MedicationKnowledge",
    "MedicinalProductContraindication",
    "MedicinalProductIndication",
    "MedicinalProductInteraction",
    "MedicinalProductManufactured",
    "MedicinalProductUndesirableEffect",
    "MessageHeader",
    "NamingSystem",
    "OperationDefinition",
    "OperationOutcome",
    "Parameters",
    "Provenance",
    "SearchParameter",
    "Subscription",
    "SubstanceNucleicAcid",
    "SubstancePolymer",
    "SubstanceProtein",
    "SubstanceReferenceInformation",
    "SubstanceSourceMaterial",
    "TerminologyCapabilities",
    "VerificationResult",
];

impl Criteria {
    /// The criteria in the query part of a URL, without the question mark, percent-encoded.
    ///
    /// # Errors
    /// When there are none, or one of them cannot be used.
    pub fn parse(kind: ResourceType, query: &str) -> Result<Self, InvalidCriteria> {
        let mut terms = query
            .split('&')
            .filter(|parameter| !parameter.is_empty())
            .map(|parameter| {
                let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
                Term::parse(kind, name, value)
            })
            .collect::<Result<Vec<_>, _>>()?;
        if terms.is_empty() {
            return Err(InvalidCriteria::Empty);
        }
        terms.sort();
        terms.dedup();
        Ok(Self { kind, terms })
    }

    /// The type that is searched.
    #[must_use]
    pub fn kind(&self) -> ResourceType {
        self.kind
    }

    /// What must match, in order, each once; at least one.
    #[must_use]
    pub fn terms(&self) -> &[Term] {
        &self.terms
    }

    /// The query that parses to these criteria: the same for all equal ones.
    #[must_use]
    pub fn query(&self) -> String {
        self.terms.iter().map(Term::to_string).collect::<Vec<_>>().join("&")
    }

    /// Whether a resource of that type with this id and these identifiers is meant.
    #[must_use]
    pub fn matches(&self, id: &ResourceId, identifiers: &[Identifier]) -> bool {
        self.terms.iter().all(|term| match term {
            Term::Id(ids) => ids.contains(id),
            Term::Identifier(tokens) => identifiers.iter().any(|(system, value)| {
                tokens.iter().any(|token| token.matches(system.as_deref(), value))
            }),
        })
    }
}

impl Term {
    fn parse(kind: ResourceType, name: &str, value: &str) -> Result<Self, InvalidCriteria> {
        let refuse = |reason| InvalidCriteria::Value {
            name: name.to_owned(),
            value: value.to_owned(),
            reason,
        };
        let decoded = decode(value).map_err(refuse)?;
        let alternatives = split(&decoded, ',');
        match decode(name).as_deref() {
            Ok("_id") => {
                let mut ids = alternatives
                    .map(|text| text.parse().map_err(|_| refuse("not a resource id")))
                    .collect::<Result<Vec<_>, _>>()?;
                ids.sort();
                ids.dedup();
                Ok(Self::Id(ids))
            }
            Ok("identifier") => {
                if WITHOUT_IDENTIFIER.contains(&kind.as_str()) {
                    return Err(refuse("resources of this type have no identifier"));
                }
                let mut tokens = alternatives
                    .map(|text| Token::parse(text).map_err(refuse))
                    .collect::<Result<Vec<_>, _>>()?;
                tokens.sort();
                tokens.dedup();
                Ok(Self::Identifier(tokens))
            }
            _ => Err(InvalidCriteria::Unsupported { name: name.to_owned() }),
        }
    }
}

impl Token {
    /// What is sought by a text: `value`, `|value`, `system|value` or `system|`.
    ///
    /// # Errors
    /// Says why it is none of them.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let parts = split(text, '|').map(unescape).collect::<Result<Vec<String>, _>>()?;
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

/// Writes a value so that it is read back as it is: escaped, then percent-encoded where needed.
fn encode(value: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for byte in value.bytes() {
        match byte {
            b'\\' | b',' | b'|' | b'$' => write!(f, "%5C{}", char::from(byte)),
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' => write!(f, "{}", char::from(byte)),
            b'-' | b'.' | b'_' | b'~' | b':' | b'/' | b'@' => write!(f, "{}", char::from(byte)),
            other => write!(f, "%{other:02X}"),
        }?;
    }
    Ok(())
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fn list<T: fmt::Display>(all: &[T], f: &mut fmt::Formatter<'_>) -> fmt::Result {
            all.iter().enumerate().try_for_each(|(place, one)| {
                f.write_str(if place == 0 { "" } else { "," })?;
                one.fmt(f)
            })
        }
        match self {
            Self::Id(ids) => f.write_str("_id=").and_then(|()| list(ids, f)),
            Self::Identifier(tokens) => f.write_str("identifier=").and_then(|()| list(tokens, f)),
        }
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.system {
            TokenSystem::Any => {}
            TokenSystem::Absent => f.write_str("|")?,
            TokenSystem::Is(system) => {
                encode(system, f)?;
                f.write_str("|")?;
            }
        }
        self.value.as_ref().map_or(Ok(()), |value| encode(value, f))
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

    fn patient() -> ResourceType {
        "Patient".parse().expect("a type")
    }

    fn token(system: TokenSystem, value: Option<&str>) -> Token {
        Token { system, value: value.map(str::to_owned) }
    }

    fn is(system: &str) -> TokenSystem {
        TokenSystem::Is(system.to_owned())
    }

    #[test]
    fn reads_every_form_of_a_token() {
        let check = |value: &str, expected: Token| {
            let criteria = Criteria::parse(patient(), &format!("identifier={value}"));
            let terms = vec![Term::Identifier(vec![expected])];
            assert_eq!(criteria, Ok(Criteria { kind: patient(), terms }), "{value}");
        };

        check("12", token(TokenSystem::Any, Some("12")));
        check("|12", token(TokenSystem::Absent, Some("12")));
        check("urn:x|12", token(is("urn:x"), Some("12")));
        check("urn:x|", token(is("urn:x"), None));
        check("http://a.b/c%7C1+2%2B3", token(is("http://a.b/c"), Some("1 2+3")));
        check(r"a%5C,b\|c\$d\\|e", token(is(r"a,b|c$d\"), Some("e")));
        check("a$b", token(TokenSystem::Any, Some("a$b")));
        check("%C3%A4=%26", token(TokenSystem::Any, Some("ä=&")));
    }

    #[test]
    fn refuses_what_it_cannot_keep_to_the_letter() {
        for bad in [
            "",
            "&&",
            "_id",
            "_id=",
            "_id=a,,b",
            "_id=a_b",
            "identifier",
            "identifier=",
            "identifier=|",
            "identifier=a,",
            "identifier=a|b|c",
            r"identifier=a\b",
            r"identifier=a\",
            "identifier=%4",
            "identifier=%zz",
            "identifier=%FF",
            "identifier:of-type=a|b|c",
            "identifier=a&_count=1",
            "_format=json",
            "name=a",
            "?identifier=a",
        ] {
            assert!(Criteria::parse(patient(), bad).is_err(), "{bad:?}");
        }
        assert!(Criteria::parse("Binary".parse().expect("a type"), "identifier=a").is_err());
    }

    #[test]
    fn equal_criteria_compare_equal_whatever_their_order() {
        let parse = |query| Criteria::parse(patient(), query).expect("valid");
        let one = parse("_id=b,a&identifier=s|2,s|1&identifier=3&&_id=a,b");
        let other = parse("identifier=3&identifier=s%7C1,s%7C2,s|1&_id=a,b");
        assert_eq!(one, other);
        assert_eq!(one.query(), "_id=a,b&identifier=3&identifier=s|1,s|2");
        assert_ne!(one, parse("_id=a,b&identifier=3,s|1,s|2"));
    }

    #[test]
    fn commas_are_or_and_repetition_is_and() {
        let id = "x".parse::<ResourceId>().expect("an id");
        let identifiers = [(Some("s".to_owned()), "1".to_owned()), (None, "2".to_owned())];
        let check = |query: &str, expected: bool| {
            let criteria = Criteria::parse(patient(), query).expect("valid");
            assert_eq!(criteria.matches(&id, &identifiers), expected, "{query}");
        };

        check("identifier=1", true);
        check("identifier=s|1", true);
        check("identifier=|1", false);
        check("identifier=t|1", false);
        check("identifier=|2", true);
        check("identifier=s|2", false);
        check("identifier=s|", true);
        check("identifier=S|1", false);
        check("identifier=t|1,|2", true);
        check("identifier=1&identifier=2", true);
        check("identifier=1&identifier=3", false);
        check("_id=x", true);
        check("_id=y", false);
        check("_id=y,x&identifier=1", true);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn criteria_survive_their_text(tokens in prop::collection::vec(
            ("(\\PC|[,|$\\\\+%&= ]){0,6}", "(\\PC|[,|$\\\\+%&= ]){1,6}", 0..4_u8), 1..4,
        )) {
            let mut tokens: Vec<Token> = tokens
                .into_iter()
                .map(|(system, value, form)| match form {
                    _ if system.is_empty() => Token { system: TokenSystem::Absent, value: Some(value) },
                    0 => Token { system: TokenSystem::Any, value: Some(value) },
                    1 => Token { system: TokenSystem::Is(system), value: None },
                    _ => Token { system: TokenSystem::Is(system), value: Some(value) },
                })
                .collect();
            tokens.sort();
            tokens.dedup();
            let criteria = Criteria { kind: patient(), terms: vec![Term::Identifier(tokens)] };

            let parsed = Criteria::parse(patient(), &criteria.query());

            prop_assert_eq!(parsed, Ok(criteria));
        }
    }
}
