//! This module decides whether a resource is meant by a condition of a search.

use std::borrow::Cow;
use std::sync::Arc;

use chartmesh_record::{ResourceId, ResourceKey, ResourceType, Tree};

use crate::date::DateSought;
use crate::entries::Entries;
use crate::names::Names;
use crate::near::NearSought;
use crate::number::NumberSought;
use crate::parameter::Parameter;
use crate::posting::{self, Seeds};
use crate::quantity::QuantitySought;
use crate::reference::{Reference, ReferenceSought};
use crate::string::StringSought;
use crate::token::{self, TokenSought, TokenSystem};
use crate::uri::UriSought;
use crate::value::Value;

/// A value that is sought, of one sort.
#[derive(Clone, Debug, PartialEq)]
pub enum Sought {
    /// A code, identifier or flag.
    Token(TokenSought),
    /// A text.
    String(StringSought),
    /// What another resource is named by.
    Reference(ReferenceSought),
    /// A date.
    Date(DateSought),
    /// A number.
    Number(NumberSought),
    /// A number of a unit.
    Quantity(QuantitySought),
    /// A URI.
    Uri(UriSought),
    /// A value for each component.
    Composite(Vec<Self>),
    /// A place on earth, and how near.
    Near(NearSought),
}

/// What a resource must be.
#[derive(Clone, Debug)]
pub enum Condition {
    /// It has one of these ids.
    Id(Vec<ResourceId>),
    /// A value of the parameter is one of those sought.
    Is(Arc<Parameter>, Vec<Sought>),
    /// No value of the parameter is one of those sought (`:not`).
    IsNot(Arc<Parameter>, Vec<Sought>),
    /// The parameter has values, or has none (`:missing`).
    Missing(Arc<Parameter>, bool),
    /// A text beside the codes is one of those sought (`:text`).
    Text(Arc<Parameter>, Vec<StringSought>),
    /// An identifier has one of these types and values (`:of-type`).
    OfType(Arc<Parameter>, Vec<(TokenSought, String)>),
    /// A code is in one of these value sets (`:in`), or none is (`:not-in`). They are named by their
    /// canonical URLs or as `ValueSet/id`.
    In(Arc<Parameter>, Vec<String>, bool),
    /// One of these lists names it (`_list`).
    Listed(Vec<ResourceId>),
    /// A resource that the parameter refers to, of one of these types, is as its condition says
    /// (chaining).
    Chain(Arc<Parameter>, Vec<(ResourceType, Self)>),
    /// A resource of this type that refers to it by the parameter is as the condition says (`_has`).
    Has(ResourceType, Arc<Parameter>, Box<Self>),
    /// Versions of it stand beside each other (`_tag=urn:chartmesh|conflict`).
    InConflict,
    /// One of these at the least.
    Either(Vec<Self>),
}

/// A resource that may be meant.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'c> {
    /// Its name.
    pub key: &'c ResourceKey,
    /// Its values.
    pub entries: Entries<'c>,
}

/// Where other resources are looked up.
pub trait Lookup {
    /// Why they cannot be.
    type Error;

    /// The row of entries of a resource; `None` if it is not there, or deleted.
    ///
    /// # Errors
    /// When it cannot be read.
    fn entries(&self, key: &ResourceKey) -> Result<Option<Arc<[u8]>>, Self::Error>;

    /// A resource as it is read; `None` if it is not there, or deleted.
    ///
    /// # Errors
    /// When it cannot be read.
    fn content(&self, key: &ResourceKey) -> Result<Option<Arc<[u8]>>, Self::Error>;

    /// Whether versions of a resource stand beside each other.
    ///
    /// # Errors
    /// When it cannot be read.
    fn in_conflict(&self, key: &ResourceKey) -> Result<bool, Self::Error>;

    /// The codes of a value set, named by its canonical URL or as `ValueSet/id`.
    ///
    /// # Errors
    /// When they cannot be told, or read.
    fn value_set(&self, name: &str) -> Result<Arc<[TokenSought]>, Self::Error>;

    /// What a list names; nothing if it is not there.
    ///
    /// # Errors
    /// When it cannot be read.
    fn listed(&self, list: &ResourceId) -> Result<Arc<[ResourceKey]>, Self::Error>;

    /// Whether a resource of a type is as all of these say.
    ///
    /// # Errors
    /// When it cannot be told.
    fn any(&self, kind: ResourceType, conditions: &[&Condition]) -> Result<bool, Self::Error>;
}

impl Sought {
    /// Whether a value is meant.
    #[must_use]
    pub fn matches(&self, value: &Value<'_>) -> bool {
        match (self, value) {
            (Self::Token(sought), Value::Token(found)) => {
                sought.matches(found.system.as_deref(), &found.code)
            }
            (Self::String(sought), Value::String(found)) => sought.matches(found),
            (Self::Reference(sought), Value::Reference(found)) => sought.matches(found),
            (Self::Date(sought), Value::Date(found)) => sought.matches(*found),
            (Self::Number(sought), Value::Number(found)) => sought.matches(*found),
            (Self::Quantity(sought), Value::Quantity(found)) => sought.matches(found),
            (Self::Uri(sought), Value::Uri(found)) => sought.matches(found),
            (Self::Near(sought), Value::Position(latitude, longitude)) => {
                sought.matches(*latitude, *longitude)
            }
            (Self::Composite(sought), Value::Composite(found)) => sought
                .iter()
                .zip(found)
                .all(|(sought, found)| found.iter().any(|value| sought.matches(value))),
            _ => false,
        }
    }
}

/// Whether a value of a parameter is one of those sought.
fn is_one(parameter: &Parameter, sought: &[Sought], entries: Entries<'_>) -> bool {
    parameter.paths().iter().any(|(path, target)| {
        entries.values(*path).any(|value| {
            let fits = target.is_none_or(|target| may_be(&value, target));
            fits && sought.iter().any(|sought| sought.matches(&value))
        })
    })
}

/// Whether a value of a parameter is one of these codes.
fn has_code(parameter: &Parameter, codes: &[TokenSought], entries: Entries<'_>) -> bool {
    parameter.paths().iter().flat_map(|(path, _)| entries.values(*path)).any(|value| {
        let Value::Token(found) = &value else { return false };
        codes.iter().any(|code| code.matches(found.system.as_deref(), &found.code))
    })
}

fn may_be(value: &Value<'_>, target: ResourceType) -> bool {
    matches!(value, Value::Reference(reference) if reference.may_be(target))
}

/// Whether a parameter has a value at all.
fn has_value(parameter: &Parameter, entries: Entries<'_>) -> bool {
    parameter.paths().iter().any(|(path, target)| {
        entries.values(*path).any(|value| target.is_none_or(|target| may_be(&value, target)))
    })
}

/// The resources that a parameter refers to.
pub fn targets(parameter: &Parameter, entries: Entries<'_>) -> Vec<ResourceKey> {
    let mut keys = Vec::new();
    for (path, target) in parameter.paths() {
        for value in entries.values(*path) {
            if let Value::Reference(reference @ Reference::Local(kind, ..)) = &value
                && target.is_none_or(|target| target == *kind)
            {
                keys.extend(reference.key());
            }
        }
    }
    keys
}

/// The first code of a parameter: its system and itself.
#[must_use]
pub fn first_code(parameter: &Parameter, entries: Entries<'_>) -> Option<(Option<String>, String)> {
    let mut values = parameter.paths().iter().flat_map(|(path, _)| entries.values(*path));
    values.find_map(|value| match value {
        Value::Token(token) => Some((token.system.map(Cow::into_owned), token.code.into_owned())),
        _ => None,
    })
}

impl Condition {
    /// Whether a resource is as this says.
    ///
    /// # Errors
    /// When another resource that it depends on cannot be read.
    pub fn matches<L: Lookup>(&self, it: Candidate<'_>, lookup: &L) -> Result<bool, L::Error> {
        Ok(match self {
            Self::Id(ids) => ids.contains(&it.key.id),
            Self::Is(parameter, sought) => is_one(parameter, sought, it.entries),
            Self::IsNot(parameter, sought) => !is_one(parameter, sought, it.entries),
            Self::Missing(parameter, missing) => has_value(parameter, it.entries) != *missing,
            Self::Text(parameter, sought) => {
                let content = lookup.content(it.key)?;
                content.is_some_and(|content| has_text(parameter, sought, &content))
            }
            Self::OfType(parameter, sought) => {
                let content = lookup.content(it.key)?;
                content.is_some_and(|content| is_of_type(parameter, sought, &content))
            }
            Self::In(parameter, names, is_in) => {
                let mut found = false;
                for name in names {
                    let codes = lookup.value_set(name)?;
                    found |= has_code(parameter, &codes, it.entries);
                }
                found == *is_in
            }
            Self::Listed(lists) => {
                for list in lists {
                    if lookup.listed(list)?.contains(it.key) {
                        return Ok(true);
                    }
                }
                false
            }
            Self::Chain(parameter, conditions) => {
                for key in targets(parameter, it.entries) {
                    for (_, condition) in conditions.iter().filter(|(kind, _)| *kind == key.kind) {
                        let Some(row) = lookup.entries(&key)? else { continue };
                        let target = Candidate { key: &key, entries: Entries::read(&row) };
                        if condition.matches(target, lookup)? {
                            return Ok(true);
                        }
                    }
                }
                false
            }
            Self::Has(kind, parameter, condition) => {
                let refers = Self::refers_to(parameter.clone(), it.key);
                lookup.any(*kind, &[&refers, condition])?
            }
            Self::InConflict => lookup.in_conflict(it.key)?,
            Self::Either(conditions) => {
                for condition in conditions {
                    if condition.matches(it, lookup)? {
                        return Ok(true);
                    }
                }
                false
            }
        })
    }

    /// That a parameter refers to a resource.
    #[must_use]
    pub fn refers_to(parameter: Arc<Parameter>, key: &ResourceKey) -> Self {
        let sought = ReferenceSought::Local(vec![key.kind], key.id.clone(), None);
        Self::Is(parameter, vec![Sought::Reference(sought)])
    }

    /// Keys that lead to every resource of the type that is as this says, and to others; `None` if there
    /// are none of that kind, and all resources have to be looked at.
    #[must_use]
    pub fn seeds(&self, kind: ResourceType) -> Option<Seeds> {
        match self {
            Self::Is(parameter, sought) => {
                let paths = parameter.seed_paths();
                let each = paths.iter().flat_map(|path| {
                    sought.iter().map(|sought| {
                        let first = match sought {
                            Sought::Composite(parts) => parts.first()?,
                            simple => simple,
                        };
                        posting::seeds(kind, *path, first)
                    })
                });
                Seeds::join_all(each.collect::<Option<Vec<_>>>()?)
            }
            Self::Either(conditions) => {
                let each = conditions.iter().map(|condition| condition.seeds(kind));
                Seeds::join_all(each.collect::<Option<Vec<_>>>()?)
            }
            Self::Text(parameter, _) | Self::Missing(parameter, false) => {
                parameter.all_postings(kind)
            }
            Self::OfType(parameter, sought) => {
                let values = sought.iter().map(|(_, value)| {
                    let system = TokenSystem::Any;
                    Sought::Token(TokenSought { system, value: Some(value.clone()) })
                });
                Self::Is(parameter.clone(), values.collect()).seeds(kind)
            }
            Self::Id(_)
            | Self::InConflict
            | Self::IsNot(..)
            | Self::Missing(..)
            | Self::In(..)
            | Self::Listed(_)
            | Self::Chain(..)
            | Self::Has(..) => None,
        }
    }
}

/// Whether a text beside the codes of a parameter is meant.
fn has_text(parameter: &Parameter, sought: &[StringSought], content: &[u8]) -> bool {
    let Some(tree) = Tree::parse(content) else { return false };
    let mut found = false;
    for way in parameter.ways() {
        way.walk(tree.root(), &mut |node, kind| {
            token::texts(node, kind, Names::all(), &mut |text| {
                found |= sought.iter().any(|sought| sought.matches(&text));
            });
        });
    }
    found
}

/// Whether an identifier of a parameter has a type and a value that are meant.
fn is_of_type(parameter: &Parameter, sought: &[(TokenSought, String)], content: &[u8]) -> bool {
    let Some(tree) = Tree::parse(content) else { return false };
    let mut found = false;
    for way in parameter.ways() {
        way.walk(tree.root(), &mut |node, _| {
            let names = Names::all();
            let value = node.member(&names.value).and_then(|value| value.text());
            let kind = node.member(&names.kind).into_iter();
            let codings = kind.filter_map(|kind| kind.member(&names.coding));
            for coding in codings.flat_map(|codings| codings.items()) {
                let text = |name| coding.member(name).and_then(|it| it.text());
                let (system, code) = (text(&names.system), text(&names.code).unwrap_or_default());
                found |= sought.iter().any(|(kind, asked)| {
                    kind.matches(system.as_deref(), &code) && value.as_deref() == Some(asked)
                });
            }
        });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::posting::postings;
    use crate::query::{Query, Setting};
    use crate::registry::Registry;

    /// Whether a resource is as a query says, and whether the query's seeds lead to it.
    fn matches(kind: &str, resource: &str, name: &str, value: &str) -> bool {
        struct Nothing;
        impl Lookup for Nothing {
            type Error = std::convert::Infallible;
            fn entries(&self, _: &ResourceKey) -> Result<Option<Arc<[u8]>>, Self::Error> {
                Ok(None)
            }
            fn content(&self, _: &ResourceKey) -> Result<Option<Arc<[u8]>>, Self::Error> {
                Ok(None)
            }
            fn in_conflict(&self, _: &ResourceKey) -> Result<bool, Self::Error> {
                Ok(false)
            }
            fn value_set(&self, _: &str) -> Result<Arc<[TokenSought]>, Self::Error> {
                Ok([].into())
            }
            fn listed(&self, _: &ResourceId) -> Result<Arc<[ResourceKey]>, Self::Error> {
                Ok([].into())
            }
            fn any(&self, _: ResourceType, _: &[&Condition]) -> Result<bool, Self::Error> {
                Ok(false)
            }
        }

        let registry = Registry::of_r4(0);
        let kind = kind.parse().expect("a type");
        let key = ResourceKey { kind, id: "1".parse().expect("an id") };
        let row = Entries::make(&registry, kind, resource.as_bytes()).expect("a resource");
        let entries = Entries::read(&row);
        let setting = Setting { registry: &registry, now: 0, base: None };
        let query = Query::parse(setting, kind, [(name, value)]).expect("a query");
        let condition = query.conditions.first().expect("it is known");
        let found = condition.matches(Candidate { key: &key, entries }, &Nothing).expect("told");
        if let Some(seeds) = condition.seeds(kind).filter(|_| found) {
            let led = postings(kind, entries, &key.id)
                .iter()
                .any(|posting| seeds.ranges.iter().any(|range| range.contains(posting)));
            assert!(led, "{name}={value} is not led to");
        }
        found
    }

    #[test]
    fn what_is_meant_is_led_to() {
        let relates =
            r#"{"relatesTo":[{"code":"replaces","target":{"reference":"DocumentReference/2"}}]}"#;
        let near = r#"{"position":{"latitude":35.0,"longitude":139.0}}"#;
        let variant = r#"{"referenceSeq":{"chromosome":{"coding":[{"code":"1"}]}},"variant":[{"start":5,"end":9}]}"#;
        let check = |kind, resource, name, value, expected| {
            assert_eq!(matches(kind, resource, name, value), expected, "{name}={value}");
        };

        check("DocumentReference", relates, "relationship", "replaces$DocumentReference/2", true);
        check("DocumentReference", relates, "relationship", "replaces$DocumentReference/3", false);
        check("DocumentReference", relates, "relatesto", "2", true);
        check("Location", near, "near", "35|139", true);
        check("Location", near, "near:missing", "false", true);
        check("Location", "{}", "near:missing", "true", true);
        check("MolecularSequence", variant, "chromosome-variant-coordinate", "1$5$9", true);
        check("MolecularSequence", variant, "chromosome-variant-coordinate", "1$6$9", false);
        check("MolecularSequence", variant, "chromosome-variant-coordinate:missing", "false", true);
    }

    #[test]
    fn composites_are_of_values_that_stand_together() {
        let pressure = r#"{"code":{"coding":[{"code":"bp"}]},"component":[
            {"code":{"coding":[{"code":"sys"}]},"valueQuantity":{"value":120}},
            {"code":{"coding":[{"code":"dia"}]},"valueQuantity":{"value":80}}]}"#;
        let check = |name, value, expected| {
            assert_eq!(matches("Observation", pressure, name, value), expected, "{name}={value}");
        };

        check("component-code-value-quantity", "sys$120", true);
        check("component-code-value-quantity", "sys$80", false);
        check("combo-code-value-quantity", "dia$lt90", true);
        check("code-value-quantity", "sys$120", false);
    }
}
