//! This module says what a method, a path and a query ask for (FHIR R4, http, 3.1.0).
//!
//! Paths are relative to the base, so that the entries of a bundle are read by the same rules. What
//! is not understood is refused here with the reason: unknown paths, wrong verbs, interactions that
//! this server does not have.

use std::borrow::Cow;
use std::str::FromStr;

use chartmesh_record::{
    Criteria, InvalidCriteria, InvalidResourceId, PatchTarget, ResourceId, ResourceKey,
    ResourceType, UnknownResourceType, VersionId,
};
use chartmesh_store::{ConflictKey, ConflictScope};
use http::Method;

use crate::history::Past;
use crate::limits::Limits;
use crate::query::{Query, decode};
use crate::validation::Validating;

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Interaction {
    Read(Reading),
    Write(Writing),
    /// `PATCH [type]/[id]`, `PATCH [type]?criteria`
    Patch(PatchTarget),
    /// `POST [type]/[id]/$meta-add`, and `$meta-delete`
    ChangeMeta {
        key: ResourceKey,
        adds: bool,
    },
    /// `POST [type]/$validate`, `POST [type]/[id]/$validate`
    Validate(Validating),
    /// `POST [base]`: a batch or a transaction.
    Bundle,
    /// `POST _search`: a search whose further parameters are in the body.
    SearchForm(Searching),
}

/// What is to be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    /// `GET [type]/[id]`
    Current(ResourceKey),
    /// `GET [type]/[id]/_history/[vid]`
    Version(ResourceKey, VersionId),
    /// `GET [type]/[id]/_history`
    History(ResourceKey, Past),
    /// `GET [type]/_history`, `GET _history`
    Arrivals(Option<ResourceType>, Past),
    /// `GET $conflicts`, `GET [type]/$conflicts`, `GET [type]/[id]/$conflicts`
    Conflicts(ConflictScope, Page),
    /// `GET [type]?parameters`, and the same over all types and within a compartment
    Search(Searching),
    /// `GET [type]/[id]/$meta`
    Meta(ResourceKey),
    /// `GET metadata`
    Metadata(Mode),
}

/// What a statement of capabilities is about (FHIR R4, http, 3.1.0.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Full,
    /// What is normative in R4.
    Normative,
    /// Terminologies.
    Terminology,
}

/// What is to be searched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Searching {
    /// Where.
    pub(crate) scope: SearchScope,
    /// The parameters, decoded, in order, without those that concern only how the answer is written.
    pub(crate) parameters: Vec<(String, String)>,
    /// The place after which the page begins.
    pub(crate) page: Option<String>,
    /// Whether parameters that are not understood are refused.
    pub(crate) strict: bool,
}

/// Where is searched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SearchScope {
    /// Among all resources, or those of the types in `_type`.
    All,
    /// Among those of a type.
    Type(ResourceType),
    /// Among those that belong to a compartment, of one type or of any.
    Compartment(ResourceKey, Option<ResourceType>),
    /// All that belongs to a compartment, with what that refers to: `$everything`.
    Everything(ResourceKey),
    /// The newest observations of each code: `$lastn`.
    Newest,
}

/// What is to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Writing {
    /// `POST [type]`
    Create(ResourceType),
    /// `POST [type]?criteria`: only if nothing matches, as some clients write `If-None-Exist`
    CreateUnless(Criteria),
    /// `PUT [type]/[id]`
    Update(ResourceKey),
    /// `PUT [type]?criteria`
    UpdateWhere(Criteria),
    /// `DELETE [type]/[id]`
    Delete(ResourceKey),
    /// `DELETE [type]?criteria`
    DeleteWhere(Criteria),
}

/// Which page of the conflicts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Page {
    /// How many entries.
    pub(crate) count: usize,
    /// The last entry of the page before.
    pub(crate) after: Option<ConflictKey>,
}

/// Why a method, path and query ask for nothing that can be done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Misdirected {
    #[error("there is nothing at {path:?}")]
    Nowhere { path: String },
    #[error(transparent)]
    UnknownType(#[from] UnknownResourceType),
    #[error("no resource can have this id: {0}")]
    NoSuchId(InvalidResourceId),
    #[error(transparent)]
    BadId(InvalidResourceId),
    #[error("no version can have this id: {text:?}")]
    NoSuchVersion { text: String },
    #[error("{method} is not possible here; possible: {allow}")]
    WrongVerb { method: Method, allow: &'static str },
    #[error("this server does not support {what} yet")]
    NotSupported { what: &'static str },
    #[error(transparent)]
    Criteria(#[from] InvalidCriteria),
    #[error("parameter {name:?} cannot be used here")]
    Parameter { name: String },
    #[error("{value:?} cannot be the value of parameter {name:?}")]
    Value { name: &'static str, value: String },
}

/// What a path names, whatever the method.
enum Place {
    Base,
    Metadata,
    Type(ResourceType),
    Instance(ResourceKey),
    History(ResourceKey),
    Arrivals(Option<ResourceType>),
    Version(ResourceKey, VersionId),
    Conflicts(ConflictScope),
    Compartment(ResourceKey, Option<ResourceType>),
    Everything(ResourceKey),
    Newest,
    SearchForm(SearchScope),
    Meta(ResourceKey),
    ChangeMeta { key: ResourceKey, adds: bool },
    Validate(ResourceType, Option<ResourceKey>),
}

impl Searching {
    fn of(scope: SearchScope, query: &Query<'_>, strict: bool) -> Self {
        let mut searching = Self { scope, parameters: Vec::new(), page: None, strict };
        searching.add(query);
        searching
    }

    /// Adds the parameters of a query.
    pub(crate) fn add(&mut self, query: &Query<'_>) {
        for (name, value) in query.raw() {
            match &*decode(name) {
                "page" => self.page = Some(decode(value).into_owned()),
                "_format" | "_pretty" => {}
                name => self.parameters.push((name.to_owned(), decode(value).into_owned())),
            }
        }
    }
}

/// What is asked for. A path with parameters it does not know is refused if `strict`.
///
/// # Errors
/// When it is nothing that can be done.
pub(crate) fn interaction(
    method: &Method,
    path: &str,
    query: &Query<'_>,
    strict: bool,
) -> Result<Interaction, Misdirected> {
    let reading = method == Method::GET || method == Method::HEAD;
    let place = place(path, reading)?;
    let wrong = |allow| Err(Misdirected::WrongVerb { method: method.clone(), allow });
    let search = |scope| Interaction::Read(Reading::Search(Searching::of(scope, query, strict)));
    let interaction = match (place, method.as_str()) {
        (Place::Base, "POST") => Interaction::Bundle,
        (Place::Base, "GET" | "HEAD") => search(SearchScope::All),
        (Place::Base, _) => return wrong("GET, HEAD, POST"),
        (Place::Metadata, "GET" | "HEAD") => Interaction::Read(Reading::Metadata(mode(query)?)),
        (Place::Meta(key), "GET" | "HEAD") => Interaction::Read(Reading::Meta(key)),
        (Place::Meta(_), _) => return wrong("GET, HEAD"),
        (Place::ChangeMeta { key, adds }, "POST") => Interaction::ChangeMeta { key, adds },
        (Place::Validate(kind, key), "POST") => {
            let profile = query.value("profile").map(Cow::into_owned);
            Interaction::Validate(Validating { kind, key, profile })
        }
        (Place::ChangeMeta { .. } | Place::Validate(..), _) => return wrong("POST"),
        (Place::Metadata, _) => return wrong("GET, HEAD"),
        (Place::Type(kind), _) => match on_type(kind, method, query)? {
            Some(interaction) => interaction,
            None if reading => search(SearchScope::Type(kind)),
            None => return wrong("GET, HEAD, POST, PUT, PATCH, DELETE"),
        },
        (Place::Compartment(key, kind), "GET" | "HEAD") => {
            search(SearchScope::Compartment(key, kind))
        }
        (Place::Everything(key), "GET" | "HEAD") => search(SearchScope::Everything(key)),
        (Place::Newest, "GET" | "HEAD") => search(SearchScope::Newest),
        (Place::Compartment(..) | Place::Everything(_) | Place::Newest, _) => {
            return wrong("GET, HEAD");
        }
        (Place::SearchForm(scope), "POST") => {
            Interaction::SearchForm(Searching::of(scope, query, strict))
        }
        (Place::SearchForm(_), _) => return wrong("POST"),
        (Place::Instance(key), "GET" | "HEAD") => Interaction::Read(Reading::Current(key)),
        (Place::Instance(key), "PUT") => Interaction::Write(Writing::Update(key)),
        (Place::Instance(key), "DELETE") => Interaction::Write(Writing::Delete(key)),
        (Place::Instance(key), "PATCH") => Interaction::Patch(PatchTarget::Resource(key)),
        (Place::Instance(_), _) => return wrong("GET, HEAD, PUT, PATCH, DELETE"),
        (Place::History(key), "GET" | "HEAD") => {
            Interaction::Read(Reading::History(key, past(query)?))
        }
        (Place::Arrivals(kind), "GET" | "HEAD") => {
            Interaction::Read(Reading::Arrivals(kind, past(query)?))
        }
        (Place::Version(key, version), "GET" | "HEAD") => {
            Interaction::Read(Reading::Version(key, version))
        }
        (Place::Conflicts(scope), "GET" | "HEAD") => {
            Interaction::Read(Reading::Conflicts(scope, page(query)?))
        }
        (Place::History(_) | Place::Arrivals(_) | Place::Version(..) | Place::Conflicts(_), _) => {
            return wrong("GET, HEAD");
        }
    };
    let known = match &interaction {
        Interaction::Read(Reading::Search(_)) => None,
        Interaction::Read(Reading::Metadata(_)) => Some(OF_METADATA),
        Interaction::Read(Reading::History(..) | Reading::Arrivals(..)) => Some(OF_HISTORIES),
        _ => Some(PAGING),
    };
    let known = known.filter(|_| strict && reading);
    let unknown = known.and_then(|known| query.other_than(known));
    unknown.map_or(Ok(interaction), |name| Err(Misdirected::Parameter { name }))
}

/// What a method that writes does with a type.
fn on_type(
    kind: ResourceType,
    method: &Method,
    query: &Query<'_>,
) -> Result<Option<Interaction>, Misdirected> {
    let criteria = || criteria(kind, query);
    Ok(Some(match method.as_str() {
        "POST" if query.criteria().is_empty() => Interaction::Write(Writing::Create(kind)),
        "POST" => Interaction::Write(Writing::CreateUnless(criteria()?)),
        "PUT" => Interaction::Write(Writing::UpdateWhere(criteria()?)),
        "PATCH" => Interaction::Patch(PatchTarget::Match(criteria()?)),
        "DELETE" => Interaction::Write(Writing::DeleteWhere(criteria()?)),
        _ => return Ok(None),
    }))
}

const PAGING: &[&str] = &["_count", "page"];
const OF_METADATA: &[&str] = &["mode"];
const OF_HISTORIES: &[&str] = &["_count", "page", "_since", "_at"];

fn criteria(kind: ResourceType, query: &Query<'_>) -> Result<Criteria, Misdirected> {
    Ok(Criteria::parse(kind, &query.criteria())?)
}

fn place(path: &str, reading: bool) -> Result<Place, Misdirected> {
    let nowhere = || Misdirected::Nowhere { path: path.to_owned() };
    let trimmed = path.strip_suffix('/').unwrap_or(path);
    let (above, last) = trimmed.rsplit_once('/').unwrap_or(("", trimmed));
    let mut segments = trimmed.split('/');
    let [first, second, third, fourth, fifth] = std::array::from_fn(|_| segments.next());
    let first = decode(first.unwrap_or_default());
    let rest = [second, third, fourth];
    if fifth.is_some() {
        return Err(nowhere());
    }
    match (&*first, rest) {
        ("", [None, ..]) => return Ok(Place::Base),
        ("metadata", [None, ..]) => return Ok(Place::Metadata),
        ("_history", [None, ..]) => return Ok(Place::Arrivals(None)),
        ("_search", [None, ..]) => return Ok(Place::SearchForm(SearchScope::All)),
        _ if decode(last) == "$conflicts" => return conflicts(above, reading),
        _ if matches!(&*decode(last), "$meta" | "$meta-add" | "$meta-delete" | "$validate") => {
            return on_resource(above, &decode(last), reading);
        }
        _ if decode(last) == "$everything" => return everything(above, reading),
        ("Observation", [Some(last), None, _]) if decode(last) == "$lastn" => {
            return Ok(Place::Newest);
        }
        _ if trimmed.contains("/$") || trimmed.starts_with('$') => {
            return Err(Misdirected::NotSupported { what: "this operation" });
        }
        _ => {}
    }
    let kind = first.parse::<ResourceType>()?;
    let (id, third, fourth) = match rest {
        [None, ..] => return Ok(Place::Type(kind)),
        [Some("_history"), None, _] => return Ok(Place::Arrivals(Some(kind))),
        [Some("_search"), None, _] => return Ok(Place::SearchForm(SearchScope::Type(kind))),
        [Some(id), third, fourth] => (id, third, fourth),
    };
    let invalid_id = |error| {
        if reading { Misdirected::NoSuchId(error) } else { Misdirected::BadId(error) }
    };
    let id = decode(id).parse::<ResourceId>().map_err(invalid_id)?;
    let key = ResourceKey { kind, id };
    match (third, fourth) {
        (None, _) => Ok(Place::Instance(key)),
        (Some("_history"), None) => Ok(Place::History(key)),
        (Some("_history"), Some(version)) => {
            let text = decode(version).into_owned();
            let version =
                VersionId::from_str(&text).map_err(|_| Misdirected::NoSuchVersion { text })?;
            Ok(Place::Version(key, version))
        }
        (Some("*"), None) => Ok(Place::Compartment(key, None)),
        (Some(kind), rest) if is_type(kind) => {
            let kind = Some(kind.parse()?);
            match rest {
                None => Ok(Place::Compartment(key, kind)),
                Some("_search") => Ok(Place::SearchForm(SearchScope::Compartment(key, kind))),
                Some(_) => Err(nowhere()),
            }
        }
        _ => Err(nowhere()),
    }
}

/// The conflicts of what this path names.
fn conflicts(above: &str, reading: bool) -> Result<Place, Misdirected> {
    let scope = match place(above, reading)? {
        Place::Base => ConflictScope::All,
        Place::Type(kind) => ConflictScope::Type(kind),
        Place::Instance(key) => ConflictScope::Resource(key),
        _ => return Err(Misdirected::NotSupported { what: "this operation" }),
    };
    Ok(Place::Conflicts(scope))
}

/// An operation on the resource that this path names, or on its type.
fn on_resource(above: &str, operation: &str, reading: bool) -> Result<Place, Misdirected> {
    match (place(above, reading)?, operation) {
        (Place::Instance(key), "$meta") => Ok(Place::Meta(key)),
        (Place::Instance(key), "$meta-add") => Ok(Place::ChangeMeta { key, adds: true }),
        (Place::Instance(key), "$meta-delete") => Ok(Place::ChangeMeta { key, adds: false }),
        (Place::Instance(key), "$validate") => Ok(Place::Validate(key.kind, Some(key))),
        (Place::Type(kind), "$validate") => Ok(Place::Validate(kind, None)),
        _ => Err(Misdirected::NotSupported { what: "this operation" }),
    }
}

/// What a statement of capabilities is to be about.
fn mode(query: &Query<'_>) -> Result<Mode, Misdirected> {
    match query.value("mode").as_deref() {
        None | Some("full") => Ok(Mode::Full),
        Some("normative") => Ok(Mode::Normative),
        Some("terminology") => Ok(Mode::Terminology),
        Some(other) => Err(Misdirected::Value { name: "mode", value: other.to_owned() }),
    }
}

/// All that belongs to the patient or encounter that this path names.
fn everything(above: &str, reading: bool) -> Result<Place, Misdirected> {
    match place(above, reading)? {
        Place::Instance(key) if matches!(key.kind.as_str(), "Patient" | "Encounter") => {
            Ok(Place::Everything(key))
        }
        _ => Err(Misdirected::NotSupported { what: "this operation" }),
    }
}

fn is_type(text: &str) -> bool {
    text.parse::<ResourceType>().is_ok()
}

/// The page of a list that is asked for. A parameter that would select entries is refused, for an
/// answer that ignores it would say something else than what was asked.
fn page(query: &Query<'_>) -> Result<Page, Misdirected> {
    if let Some(name) = query.other_than(PAGING) {
        return Err(Misdirected::Parameter { name });
    }
    let bad = |value: Cow<'_, str>| Misdirected::Value { name: "page", value: value.into_owned() };
    let after = query.value("page").map(|text| text.parse::<ConflictKey>().map_err(|_| bad(text)));
    Ok(Page { count: count(query)?, after: after.transpose()? })
}

/// The part of a history that is asked for, by the same rule.
fn past(query: &Query<'_>) -> Result<Past, Misdirected> {
    match query.other_than(OF_HISTORIES) {
        Some(name) => Err(Misdirected::Parameter { name }),
        None => Past::of(query),
    }
}

/// How many entries a page has.
pub(crate) fn count(query: &Query<'_>) -> Result<usize, Misdirected> {
    let text = query.value("_count");
    let bad =
        |value: Cow<'_, str>| Misdirected::Value { name: "_count", value: value.into_owned() };
    let count = text.map(|text| text.parse::<usize>().map_err(|_| bad(text))).transpose()?;
    Ok(count.unwrap_or(Limits::PAGE_ENTRIES).min(Limits::PAGE_ENTRIES_MAX))
}

#[cfg(test)]
mod tests;
