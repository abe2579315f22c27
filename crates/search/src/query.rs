//! This module reads the query of a search (FHIR R4, search).
//!
//! A parameter that is not known, or not supported in the way it is used, is left out and named, for the
//! caller to refuse or to tell; a value that cannot be read is always an error.

use std::fmt;
use std::sync::Arc;

use chartmesh_record::{CONFLICT_TAG, Criteria, ResourceType, escape};

use crate::condition::{Condition, Sought};
use crate::date::{Almanac, DateSought};
use crate::fault::Fault;
use crate::limits;
use crate::near::NearSought;
use crate::number::NumberSought;
use crate::parameter::{Parameter, Sort};
use crate::quantity::QuantitySought;
use crate::reference::ReferenceSought;
use crate::registry::Registry;
use crate::sorting::SortKey;
use crate::string::{Manner, StringSought};
use crate::token::TokenSought;
use crate::uri::{UriPlace, UriSought};

/// What is looked for among resources of one type, and how it is to be answered.
#[derive(Clone, Debug)]
pub struct Query {
    /// The type.
    pub kind: ResourceType,
    /// All of them hold.
    pub conditions: Vec<Condition>,
    /// The order, the first key first; then by id.
    pub sort: Vec<SortKey>,
    /// What else is to be in the answer.
    pub includes: Vec<Include>,
    /// How many matches are to be in it (`_count`).
    pub count: Option<usize>,
    /// Whether to say how many there are (`_total`).
    pub total: Total,
    /// What of each resource is to be in it (`_summary`).
    pub summary: Summary,
    /// The elements that are to be in it, if not all (`_elements`).
    pub elements: Vec<String>,
    /// The parameters that were understood, as they were sent.
    pub used: Vec<(String, String)>,
    /// Those that were not.
    pub ignored: Vec<Ignored>,
}

/// Whether to say how many matches there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Total {
    /// Only if it is known anyway.
    #[default]
    None,
    /// About.
    Estimate,
    /// Exactly.
    Accurate,
}

/// What of each resource is to be in an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Summary {
    /// Everything.
    #[default]
    False,
    /// What is marked as summary in the definitions.
    True,
    /// The narrative, and what must be there.
    Text,
    /// Everything but the narrative.
    Data,
    /// Nothing: only how many there are.
    Count,
}

/// Resources that are to come along (`_include`, `_revinclude`).
#[derive(Clone, Debug)]
pub struct Include {
    /// The type that refers.
    pub source: ResourceType,
    /// By which parameter; `None`: by any (`*`).
    pub parameter: Option<Arc<Parameter>>,
    /// The type that is referred to, if only one is meant.
    pub target: Option<ResourceType>,
    /// Whether what came along is looked at too (`:iterate`).
    pub iterate: bool,
    /// Whether those that refer to a match come along (`_revinclude`).
    pub reverse: bool,
}

/// A parameter that is left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ignored {
    /// Its name, as it was sent.
    pub name: String,
    /// Why.
    pub reason: String,
}

/// The query cannot be answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidQuery {
    /// A value cannot be read.
    #[error("value {value:?} of search parameter {name} cannot be used: {reason}")]
    Value {
        /// The parameter.
        name: String,
        /// The value, as it was sent.
        value: String,
        /// Why not.
        reason: String,
    },
    /// Not all resources are indexed by this parameter yet.
    #[error(
        "search parameter {name} was added not long ago, and this node is not through with indexing by \
         it: try again later"
    )]
    Unindexed {
        /// The parameter.
        name: String,
    },
    /// It is longer or deeper than any may be.
    #[error("the search has more than {most} {what}")]
    TooMuch {
        /// Of what.
        what: &'static str,
        /// How many there may be.
        most: usize,
    },
}

/// In what a query is read.
#[derive(Clone, Copy, Debug)]
pub struct Setting<'s> {
    /// The parameters there are.
    pub registry: &'s Registry,
    /// Now: milliseconds since 1970, UTC.
    pub now: i64,
    /// Where this server is: references may begin with it.
    pub base: Option<&'s str>,
}

/// Why a parameter is not taken.
enum Refusal {
    Ignored(String),
    Value(String, Fault),
    TooMuch(&'static str, usize),
    Unindexed(String),
}

impl Query {
    /// Reads the parameters of a query, decoded, in their order.
    ///
    /// # Errors
    /// When a value cannot be read, or there is too much of something.
    pub fn parse<'p>(
        setting: Setting<'_>,
        kind: ResourceType,
        parameters: impl IntoIterator<Item = (&'p str, &'p str)>,
    ) -> Result<Self, InvalidQuery> {
        let mut query = Self {
            kind,
            conditions: Vec::new(),
            sort: Vec::new(),
            includes: Vec::new(),
            count: None,
            total: Total::default(),
            summary: Summary::default(),
            elements: Vec::new(),
            used: Vec::new(),
            ignored: Vec::new(),
        };
        for (name, value) in parameters {
            match query.take(setting, name, value) {
                Ok(()) => query.used.push((name.to_owned(), value.to_owned())),
                Err(Refusal::Ignored(reason)) => {
                    query.ignored.push(Ignored { name: name.to_owned(), reason });
                }
                Err(Refusal::Value(value, reason)) => {
                    let (name, reason) = (name.to_owned(), reason.into_owned());
                    return Err(InvalidQuery::Value { name, value, reason });
                }
                Err(Refusal::TooMuch(what, most)) => {
                    return Err(InvalidQuery::TooMuch { what, most });
                }
                Err(Refusal::Unindexed(name)) => return Err(InvalidQuery::Unindexed { name }),
            }
        }
        Ok(query)
    }

    /// Reads criteria: conditions only, and all of them.
    ///
    /// # Errors
    /// Says what cannot be used.
    pub fn criteria(setting: Setting<'_>, criteria: &Criteria) -> Result<Vec<Condition>, String> {
        let mut conditions = Vec::new();
        for parameter in criteria.parameters() {
            let query = Self::parse(setting, criteria.kind(), [parameter]);
            let query = query.map_err(|invalid| invalid.to_string())?;
            if let Some(ignored) = query.ignored.first() {
                return Err(ignored.to_string());
            }
            if query.conditions.is_empty() {
                let (name, _) = parameter;
                return Err(format!("{name} is about the answer, not about what matches"));
            }
            conditions.extend(query.conditions);
        }
        match conditions.len() {
            0..=limits::CONDITIONS => Ok(conditions),
            _ => Err(format!("there are more than {} conditions", limits::CONDITIONS)),
        }
    }

    fn take(&mut self, setting: Setting<'_>, name: &str, value: &str) -> Result<(), Refusal> {
        let refuse = |reason: &'static str| Refusal::Value(value.to_owned(), reason.into());
        let (code, modifier) = name.split_once(':').unwrap_or((name, ""));
        match (code, modifier) {
            ("_count", "") => {
                self.count = Some(value.parse().map_err(|_| refuse("not a number from 0 on"))?);
            }
            ("_total", "") => {
                self.total = match value {
                    "none" => Total::None,
                    "estimate" => Total::Estimate,
                    "accurate" => Total::Accurate,
                    _ => return Err(refuse("it is one of none, estimate, accurate")),
                }
            }
            ("_summary", "") => {
                self.summary = match value {
                    "false" => Summary::False,
                    "true" => Summary::True,
                    "text" => Summary::Text,
                    "data" => Summary::Data,
                    "count" => Summary::Count,
                    _ => return Err(refuse("it is one of true, text, data, count, false")),
                }
            }
            ("_elements", "") => {
                self.elements.extend(value.split(',').map(str::to_owned));
            }
            ("_sort", "") => {
                let keys = value.split(',').map(|text| {
                    let key = SortKey::parse(setting.registry, self.kind, text);
                    key.map_err(|reason| Refusal::Ignored(reason.into_owned()))
                });
                // An order is taken as a whole, or not at all: links repeat what was taken.
                let keys = keys.collect::<Result<Vec<_>, _>>()?;
                if self.sort.len() + keys.len() > limits::SORT_KEYS {
                    return Err(Refusal::TooMuch("sort keys", limits::SORT_KEYS));
                }
                self.sort.extend(keys);
            }
            ("_include" | "_revinclude", "" | "iterate" | "recurse") => {
                let include = Include::parse(setting.registry, value, code == "_revinclude")?;
                self.includes.push(Include { iterate: !modifier.is_empty(), ..include });
            }
            ("_contained" | "_containedType", _) if value != "false" => {
                return Err(Refusal::Ignored("contained resources are not searched".to_owned()));
            }
            ("_contained" | "_containedType", _) => {}
            _ => {
                if self.conditions.len() == limits::CONDITIONS {
                    return Err(Refusal::TooMuch("conditions", limits::CONDITIONS));
                }
                self.conditions.push(condition(setting, self.kind, name, value, 0)?);
            }
        }
        Ok(())
    }
}

impl Include {
    fn parse(registry: &Registry, value: &str, reverse: bool) -> Result<Self, Refusal> {
        let refuse = |reason: String| Refusal::Value(value.to_owned(), reason.into());
        let kind = |name: &str| {
            name.parse::<ResourceType>().map_err(|_| refuse(format!("there is no type {name:?}")))
        };
        let mut parts = value.split(':');
        let source = kind(parts.next().unwrap_or_default())?;
        let parameter = match parts.next() {
            Some("*") => None,
            Some(code) => {
                let parameter = registry.parameter(source, code);
                let parameter = parameter.filter(|it| it.sort() == Sort::Reference);
                let parameter = parameter.ok_or_else(|| {
                    refuse(format!("{source} has no reference parameter {code:?}"))
                })?;
                Some(parameter.clone())
            }
            None => return Err(refuse("not Type:parameter or Type:parameter:Type".to_owned())),
        };
        let target = parts.next().map(kind).transpose()?;
        Ok(Self { source, parameter, target, iterate: false, reverse })
    }
}

/// Reads one parameter of a search: a condition for resources of a type.
fn condition(
    setting: Setting<'_>,
    kind: ResourceType,
    name: &str,
    value: &str,
    depth: usize,
) -> Result<Condition, Refusal> {
    if depth > limits::CHAIN_DEPTH {
        return Err(Refusal::TooMuch("links in a chain", limits::CHAIN_DEPTH));
    }
    if let Some(rest) = name.strip_prefix("_has:") {
        return has(setting, kind, rest, value, depth);
    }
    let (first, rest) = match name.split_once('.') {
        Some((first, rest)) => (first, Some(rest)),
        None => (name, None),
    };
    let (code, modifier) = match first.split_once(':') {
        Some((code, modifier)) => (code, Some(modifier)),
        None => (first, None),
    };
    if (code, modifier, rest) == ("_list", None, None) {
        let ids = escape::split(value, ',').map(|text| {
            let id = text.strip_prefix("List/").unwrap_or(text).parse();
            id.map_err(|_| Refusal::Value(text.to_owned(), "not the id of a List".into()))
        });
        return Ok(Condition::Listed(ids.collect::<Result<_, _>>()?));
    }
    if let "_text" | "_content" | "_filter" | "_query" = code {
        let reason = "this server searches by parameters, not in texts or by expressions";
        return Err(Refusal::Ignored(reason.to_owned()));
    }
    let parameter = setting.registry.parameter(kind, code);
    let parameter = parameter.ok_or_else(|| unknown(setting.registry, kind, code))?;
    if let Some(rest) = rest {
        return chain(setting, parameter, modifier, rest, value, depth);
    }
    let values: Vec<_> = escape::split(value, ',').collect();
    if values.len() > limits::VALUES {
        return Err(Refusal::TooMuch("values of one parameter", limits::VALUES));
    }
    if code == "_id" && modifier.is_none() {
        let ids = values.iter().map(|text| {
            text.parse().map_err(|_| Refusal::Value((*text).to_owned(), "not an id".into()))
        });
        return Ok(Condition::Id(ids.collect::<Result<_, _>>()?));
    }
    if code == "_tag" {
        return tag(setting, parameter, modifier, &values);
    }
    with_modifier(setting, parameter, modifier, &values)
}

/// The tag of resources in conflict stands on no resource as it is stored.
fn tag(
    setting: Setting<'_>,
    parameter: &Arc<Parameter>,
    modifier: Option<&str>,
    values: &[&str],
) -> Result<Condition, Refusal> {
    let (system, code) = CONFLICT_TAG;
    let is_ours = |text: &&&str| {
        let token = TokenSought::parse(text);
        token.is_ok_and(|token| token.matches(Some(system), code))
    };
    let ours = values.iter().filter(is_ours).count();
    match modifier {
        None if ours == values.len() => Ok(Condition::InConflict),
        None if ours > 0 => {
            let stored = with_modifier(setting, parameter, None, values)?;
            Ok(Condition::Either(vec![Condition::InConflict, stored]))
        }
        Some("not") if ours > 0 => {
            Err(Refusal::Ignored("what is not in conflict cannot be searched for".to_owned()))
        }
        modifier => with_modifier(setting, parameter, modifier, values),
    }
}

/// The condition that a parameter with a modifier makes of values.
fn with_modifier(
    setting: Setting<'_>,
    parameter: &Arc<Parameter>,
    modifier: Option<&str>,
    values: &[&str],
) -> Result<Condition, Refusal> {
    fn each<T>(
        values: &[&str],
        parse: impl Fn(&str) -> Result<T, Fault>,
    ) -> Result<Vec<T>, Refusal> {
        let parse =
            |text: &&str| parse(text).map_err(|reason| Refusal::Value((*text).to_owned(), reason));
        values.iter().map(parse).collect()
    }
    let sought = |manner: Modifier| {
        each(values, |text| parse_value(setting, parameter, parameter.sort(), manner, text))
    };
    let is = |sought| Ok(Condition::Is(parameter.clone(), sought));
    let Some(modifier) = modifier else { return is(sought(Modifier::None)?) };
    match (parameter.sort(), modifier) {
        (_, "missing") => match values {
            ["true"] => Ok(Condition::Missing(parameter.clone(), true)),
            ["false"] => Ok(Condition::Missing(parameter.clone(), false)),
            _ => Err(Refusal::Value(values.join(","), "it is true or false".into())),
        },
        (Sort::String, "exact") => is(sought(Modifier::Manner(Manner::Exact))?),
        (Sort::String, "contains") => is(sought(Modifier::Manner(Manner::Contains))?),
        (Sort::Uri, "below") => is(sought(Modifier::Place(UriPlace::Below))?),
        (Sort::Uri, "above") => is(sought(Modifier::Place(UriPlace::Above))?),
        (Sort::Token, "not") => Ok(Condition::IsNot(parameter.clone(), sought(Modifier::None)?)),
        (Sort::Token, "in" | "not-in") => {
            let names = each(values, |text| Ok(escape::unescape(text)?))?;
            Ok(Condition::In(parameter.clone(), names, modifier == "in"))
        }
        (Sort::Token, "text") => {
            let texts = each(values, |text| StringSought::parse(text, Manner::Begins))?;
            Ok(Condition::Text(parameter.clone(), texts))
        }
        (Sort::Token, "of-type") => {
            let pairs = each(values, |text| {
                let (kind, value) = text.rsplit_once('|').ok_or("not system|code|value")?;
                Ok((TokenSought::parse(kind)?, escape::unescape(value)?))
            })?;
            Ok(Condition::OfType(parameter.clone(), pairs))
        }
        (Sort::Reference, "identifier") => is(sought(Modifier::Identifier)?),
        (Sort::Reference, name) => match name.parse::<ResourceType>() {
            Ok(kind) => is(sought(Modifier::Type(kind))?),
            Err(_) => Err(no_modifier(parameter, name)),
        },
        (_, name) => Err(no_modifier(parameter, name)),
    }
}

fn no_modifier(parameter: &Parameter, modifier: &str) -> Refusal {
    let (code, sort) = (parameter.code(), parameter.sort().as_str());
    Refusal::Ignored(format!(
        "{code} is a {sort}: the modifier :{modifier} cannot be used with it here"
    ))
}

/// What a modifier says of how a value is read.
#[derive(Clone, Copy)]
enum Modifier {
    None,
    Manner(Manner),
    Place(UriPlace),
    Type(ResourceType),
    Identifier,
}

fn parse_value(
    setting: Setting<'_>,
    parameter: &Parameter,
    sort: Sort,
    modifier: Modifier,
    text: &str,
) -> Result<Sought, Fault> {
    let almanac = Almanac { zone: setting.registry.zone(), now: setting.now };
    Ok(match (sort, modifier) {
        (Sort::Token, _) => Sought::Token(TokenSought::parse(text)?),
        (Sort::String, Modifier::Manner(manner)) => {
            Sought::String(StringSought::parse(text, manner)?)
        }
        (Sort::String, _) => Sought::String(StringSought::parse(text, Manner::Begins)?),
        (Sort::Reference, Modifier::Identifier) => {
            Sought::Reference(ReferenceSought::Identifier(TokenSought::parse(text)?))
        }
        (Sort::Reference, modifier) => {
            let kind = if let Modifier::Type(kind) = modifier { Some(kind) } else { None };
            Sought::Reference(ReferenceSought::parse(
                text,
                kind,
                parameter.targets(),
                setting.base,
            )?)
        }
        (Sort::Date, _) => Sought::Date(DateSought::parse(text, &almanac)?),
        (Sort::Number, _) => Sought::Number(NumberSought::parse(text)?),
        (Sort::Quantity, _) => Sought::Quantity(QuantitySought::parse(text)?),
        (Sort::Uri, Modifier::Place(place)) => Sought::Uri(UriSought::parse(text, place)?),
        (Sort::Uri, _) => Sought::Uri(UriSought::parse(text, UriPlace::Same)?),
        (Sort::Special, _) => Sought::Near(NearSought::parse(text)?),
        (Sort::Composite, _) => {
            let sorts = parameter.components();
            let parts: Vec<_> = escape::split(text, '$').collect();
            if parts.len() != sorts.len() {
                let wanted = sorts.len();
                return Err(
                    format!("it has {} parts between '$', not {wanted}", parts.len()).into()
                );
            }
            let parts = parts.into_iter().zip(sorts);
            let parts = parts
                .map(|(part, sort)| parse_value(setting, parameter, sort, Modifier::None, part));
            Sought::Composite(parts.collect::<Result<_, _>>()?)
        }
    })
}

/// `parameter.rest`: the resource referred to is as the rest says.
fn chain(
    setting: Setting<'_>,
    parameter: &Arc<Parameter>,
    modifier: Option<&str>,
    rest: &str,
    value: &str,
    depth: usize,
) -> Result<Condition, Refusal> {
    let code = parameter.code();
    if parameter.sort() != Sort::Reference {
        let sort = parameter.sort().as_str();
        return Err(Refusal::Ignored(format!(
            "{code} is a {sort}: only a reference can be followed"
        )));
    }
    let only: Option<ResourceType> = match modifier {
        None => None,
        Some(name) => Some(name.parse().map_err(|_| no_modifier(parameter, name))?),
    };
    let everything: Vec<_> = ResourceType::all().collect();
    let all = parameter.targets();
    let all = if all.is_empty() { &everything } else { all };
    let meant = all.iter().filter(|kind| only.is_none_or(|only| only == **kind));
    let (mut conditions, mut refused) = (Vec::new(), None);
    for kind in meant {
        match condition(setting, *kind, rest, value, depth + 1) {
            Ok(condition) => conditions.push((*kind, condition)),
            // Not every type that may be meant has such a parameter.
            Err(refusal @ Refusal::Ignored(_)) => refused = refused.or(Some(refusal)),
            Err(refusal) => return Err(refusal),
        }
    }
    match (conditions.is_empty(), refused) {
        (false, _) => Ok(Condition::Chain(parameter.clone(), conditions)),
        (true, Some(refusal)) => Err(refusal),
        (true, None) => {
            let reason = format!("{code} never refers to a resource of that type");
            Err(Refusal::Ignored(reason))
        }
    }
}

/// `_has:Type:parameter:rest`: a resource of that type refers here, and is as the rest says.
fn has(
    setting: Setting<'_>,
    kind: ResourceType,
    name: &str,
    value: &str,
    depth: usize,
) -> Result<Condition, Refusal> {
    let mut parts = name.splitn(3, ':');
    let (Some(source), Some(code), Some(rest)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(Refusal::Ignored("it is written _has:Type:reference:parameter".to_owned()));
    };
    let source: ResourceType =
        source.parse().map_err(|_| Refusal::Ignored(format!("there is no type {source:?}")))?;
    let parameter = setting.registry.parameter(source, code);
    let parameter = parameter.ok_or_else(|| unknown(setting.registry, source, code))?;
    let may_be = parameter.targets().is_empty() || parameter.targets().contains(&kind);
    if parameter.sort() != Sort::Reference || !may_be {
        let reason = format!("{code} of {source} does not refer to {kind} resources");
        return Err(Refusal::Ignored(reason));
    }
    let inner = condition(setting, source, rest, value, depth + 1)?;
    Ok(Condition::Has(source, parameter.clone(), Box::new(inner)))
}

fn unknown(registry: &Registry, kind: ResourceType, code: &str) -> Refusal {
    if registry.is_unindexed(kind, code) {
        return Refusal::Unindexed(code.to_owned());
    }
    let names = registry.parameters(kind).map(|parameter| parameter.code());
    let near = names
        .map(|name| (strsim::jaro_winkler(name, code), name))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|(one, _), (other, _)| one.total_cmp(other));
    let hint = near.map_or_else(String::new, |(_, name)| format!("; did you mean {name}?"));
    Refusal::Ignored(format!("{kind} has no search parameter {code:?}{hint}"))
}

impl fmt::Display for Ignored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "search parameter {:?} is not supported: {}", self.name, self.reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(kind: &str, pairs: &[(&str, &str)]) -> Result<Query, InvalidQuery> {
        let registry = Registry::of_r4(0);
        let setting = Setting { registry: &registry, now: 0, base: None };
        Query::parse(setting, kind.parse().expect("a type"), pairs.iter().copied())
    }

    #[test]
    fn an_order_is_taken_as_a_whole_or_not_at_all() {
        let both = parse("Observation", &[("_sort", "-date,code")]).expect("a query");
        let half = parse("Observation", &[("_sort", "-date,nonsense")]).expect("a query");

        assert_eq!((both.sort.len(), both.ignored.len()), (2, 0));
        assert_eq!((half.sort.len(), half.ignored.len(), half.used.len()), (0, 1, 0));
    }

    #[test]
    fn what_is_not_known_is_named_with_what_is_near() {
        let query =
            parse("Patient", &[("gendre", "male"), ("gender:below", "x")]).expect("a query");
        let reasons: Vec<_> = query.ignored.iter().map(ToString::to_string).collect();

        assert_eq!(query.conditions.len(), 0);
        assert!(reasons[0].ends_with("did you mean gender?"), "{reasons:?}");
        assert!(reasons[1].contains(":below"), "{reasons:?}");
    }

    #[test]
    fn too_much_of_anything_is_refused() {
        let many: Vec<_> = (0..=limits::CONDITIONS).map(|_| ("gender", "male")).collect();
        let values = vec!["male"; limits::VALUES + 1].join(",");
        let chain = ["patient"; 12].join(".link.");
        let refused = |kind, pairs: &[(&str, &str)]| parse(kind, pairs).expect_err("a refusal");

        assert!(matches!(refused("Patient", &many), InvalidQuery::TooMuch { .. }));
        let values = refused("Patient", &[("gender", &values)]);
        assert!(matches!(values, InvalidQuery::TooMuch { .. }));
        let chain = refused("Observation", &[(&chain, "x")]);
        assert!(matches!(chain, InvalidQuery::TooMuch { .. }), "{chain}");
        let sort = refused("Patient", &[("_sort", "_id,_id,_id,_id,_id,_id,_id,_id,_id")]);
        assert!(matches!(sort, InvalidQuery::TooMuch { .. }));
    }
}
