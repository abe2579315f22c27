//! This module says what a method, a path and a query ask for (FHIR R4, http, 3.1.0).
//!
//! Paths are relative to the base, so that the entries of a bundle are read by the same rules. What
//! is not understood is refused here with the reason: unknown paths, wrong verbs, interactions that
//! this server does not have.

use std::borrow::Cow;
use std::fmt::Write;
use std::str::FromStr;

use chartmesh_record::{
    Criteria, InvalidCriteria, InvalidResourceId, PatchTarget, ResourceId, ResourceKey,
    ResourceType, UnknownResourceType, VersionId,
};
use chartmesh_store::{ConflictKey, ConflictScope};
use http::Method;

use crate::limits::Limits;
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
    Conflicts(ConflictScope, Page<ConflictKey>),
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

/// Which part of a history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Past {
    /// How many entries.
    pub(crate) count: usize,
    /// `_since`: from this instant on.
    pub(crate) since: Option<String>,
    /// `_at`: what was there then.
    pub(crate) at: Option<String>,
    /// Where the page begins.
    pub(crate) page: Option<String>,
}

impl Past {
    /// The newest entries, as many as a page usually has.
    pub(crate) fn newest() -> Self {
        Self { count: Limits::PAGE_ENTRIES, since: None, at: None, page: None }
    }

    /// What a query asks for.
    fn of(query: &Query<'_>) -> Result<Self, Misdirected> {
        let value = |name: &str| query.value(name).map(Cow::into_owned);
        Ok(Self {
            count: count(query)?,
            since: value("_since"),
            at: value("_at"),
            page: value("page"),
        })
    }

    /// Where the page begins, read as what its list has.
    pub(crate) fn page_as<P: FromStr>(&self, name: &'static str) -> Result<Option<P>, Misdirected> {
        let bad = |text: &String| Misdirected::Value { name, value: text.clone() };
        self.page.as_ref().map(|text| text.parse().map_err(|_| bad(text))).transpose()
    }
}

/// Which page of a list whose entries have such names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Page<K> {
    /// How many entries.
    pub(crate) count: usize,
    /// The last entry of the page before.
    pub(crate) after: Option<K>,
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

/// The parameters of a query, in order, decoded one by one.
pub(crate) struct Query<'q>(&'q str);

impl<'q> Query<'q> {
    /// The query after the question mark.
    pub(crate) fn new(text: Option<&'q str>) -> Self {
        Self(text.unwrap_or_default())
    }

    /// Names and values as sent.
    fn raw(&self) -> impl Iterator<Item = (&'q str, &'q str)> {
        let pairs = self.0.split('&').filter(|pair| !pair.is_empty());
        pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")))
    }

    /// The first value of this name, decoded.
    pub(crate) fn value(&self, name: &str) -> Option<Cow<'q, str>> {
        self.raw().find(|(raw, _)| decode(raw) == name).map(|(_, value)| decode(value))
    }

    /// The query as sent, without the parameters that concern only how the answer is written.
    fn criteria(&self) -> String {
        let kept = self.0.split('&').filter(|pair| {
            let name = pair.split_once('=').map_or(*pair, |(name, _)| name);
            !pair.is_empty() && !matches!(&*decode(name), "_format" | "_pretty")
        });
        kept.collect::<Vec<_>>().join("&")
    }

    /// What is searched for.
    fn searching(&self, scope: SearchScope, strict: bool) -> Searching {
        let mut searching = Searching { scope, parameters: Vec::new(), page: None, strict };
        searching.add(self);
        searching
    }

    /// The first parameter that is neither a general one nor among these.
    fn other_than(&self, known: &[&str]) -> Option<String> {
        let names = self.raw().map(|(name, _)| decode(name));
        let mut unknown = names.filter(|name| !GENERAL.contains(&&**name));
        unknown.find(|name| !known.contains(&&**name)).map(Cow::into_owned)
    }
}

impl Searching {
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

/// Parameters that concern how an answer is written (FHIR R4, http, 3.1.0.1.11). Those that would
/// leave something out of it are hints, and the whole is always given.
const GENERAL: [&str; 4] = ["_format", "_pretty", "_summary", "_elements"];

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
    let search = |scope| Interaction::Read(Reading::Search(query.searching(scope, strict)));
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
            Interaction::SearchForm(query.searching(scope, strict))
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
fn page<K: FromStr>(query: &Query<'_>) -> Result<Page<K>, Misdirected> {
    if let Some(name) = query.other_than(PAGING) {
        return Err(Misdirected::Parameter { name });
    }
    let bad = |value: Cow<'_, str>| Misdirected::Value { name: "page", value: value.into_owned() };
    let after = query.value("page").map(|text| text.parse::<K>().map_err(|_| bad(text)));
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
fn count(query: &Query<'_>) -> Result<usize, Misdirected> {
    let text = query.value("_count");
    let bad =
        |value: Cow<'_, str>| Misdirected::Value { name: "_count", value: value.into_owned() };
    let count = text.map(|text| text.parse::<usize>().map_err(|_| bad(text))).transpose()?;
    Ok(count.unwrap_or(Limits::PAGE_ENTRIES).min(Limits::PAGE_ENTRIES_MAX))
}

/// Percent-encoding of a value in a query.
pub(crate) fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            write!(out, "%{byte:02X}").expect("a string takes whatever is written");
        }
    }
    out
}

/// Percent-decoding, with `+` for a space. What is no valid encoding stays as it is.
fn decode(text: &str) -> Cow<'_, str> {
    if !text.bytes().any(|byte| byte == b'%' || byte == b'+') {
        return Cow::Borrowed(text);
    }
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut place = 0;
    while place < bytes.len() {
        let escape = bytes.get(place + 1..place + 3).filter(|_| bytes[place] == b'%');
        let escaped = escape
            .filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match escaped {
            Some(byte) => {
                out.push(byte);
                place += 3;
            }
            None => {
                out.push(if bytes[place] == b'+' { b' ' } else { bytes[place] });
                place += 1;
            }
        }
    }
    String::from_utf8(out).map_or(Cow::Borrowed(text), Cow::Owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_path_and_query_is_understood_or_refused(
            method in "GET|PUT|POST|DELETE|PATCH|X",
            path in "(Patient|metadata|_history|%|\\$|\\$conflicts|[a-zA-Z%./_-]{0,9}|/){0,7}",
            query in prop::option::of("([_a-z%+0-9]{0,8}[=&]?){0,5}"),
            strict: bool,
        ) {
            let method = method.parse().unwrap();
            let _ = interaction(&method, &path, &Query::new(query.as_deref()), strict);
        }
    }

    proptest! {
        #[test]
        fn a_value_survives_its_encoding(text in ".{0,20}") {
            let encoded = encode(&text);
            prop_assert!(encoded.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'&'));
            prop_assert_eq!(decode(&encoded), text);
        }
    }

    fn parse(request: &str) -> Result<Interaction, Misdirected> {
        let (method, target) = request.split_once(' ').unwrap();
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (target, None),
        };
        let (method, strict) = match method.strip_suffix('!') {
            Some(method) => (method, true),
            None => (method, false),
        };
        interaction(&method.parse().unwrap(), path, &Query::new(query), strict)
    }

    fn show(result: &Result<Interaction, Misdirected>) -> String {
        match result {
            Ok(interaction) => format!("{interaction:?}"),
            Err(Misdirected::WrongVerb { allow, .. }) => format!("allow {allow}"),
            Err(misdirected) => misdirected.to_string(),
        }
    }

    #[test]
    fn every_interaction_is_recognized_by_method_and_path() {
        let kind = |text: &str| text.parse::<ResourceType>().unwrap();
        let key = ResourceKey { kind: kind("Patient"), id: "a-1.B".parse().unwrap() };
        let version: VersionId = "3-pac.7h2k4m9qzx".parse().unwrap();
        let criteria = Criteria::parse(kind("Patient"), "identifier=a|1").unwrap();
        let past = |since: Option<&str>, page: Option<&str>, count| Past {
            count,
            since: since.map(str::to_owned),
            at: None,
            page: page.map(str::to_owned),
        };
        let check = |request: &str, expect: Interaction| {
            assert_eq!(parse(request), Ok(expect), "{request}");
        };
        check("GET Patient/a-1.B", Interaction::Read(Reading::Current(key.clone())));
        check("HEAD Patient/a-1.B", Interaction::Read(Reading::Current(key.clone())));
        check("GET Patient/a-1.B/", Interaction::Read(Reading::Current(key.clone())));
        check("GET Patient/a%2D1.B?_format=json", Interaction::Read(Reading::Current(key.clone())));
        check(
            "GET Patient/a-1.B?_summary=true&x=1",
            Interaction::Read(Reading::Current(key.clone())),
        );
        check(
            "GET Patient/a-1.B/_history/3-pac.7h2k4m9qzx",
            Interaction::Read(Reading::Version(key.clone(), version)),
        );
        check(
            "GET Patient/a-1.B/_history",
            Interaction::Read(Reading::History(key.clone(), Past::newest())),
        );
        check(
            "GET Patient/a-1.B/_history?_count=5000&page=3-pac.7h2k4m9qzx",
            Interaction::Read(Reading::History(
                key.clone(),
                past(None, Some("3-pac.7h2k4m9qzx"), Limits::PAGE_ENTRIES_MAX),
            )),
        );
        check(
            "GET _history?_since=2026&_count=2",
            Interaction::Read(Reading::Arrivals(None, past(Some("2026"), None, 2))),
        );
        check(
            "HEAD Patient/_history",
            Interaction::Read(Reading::Arrivals(Some(kind("Patient")), Past::newest())),
        );
        check("PATCH Patient/a-1.B", Interaction::Patch(PatchTarget::Resource(key.clone())));
        check(
            "PATCH Patient?identifier=a|1",
            Interaction::Patch(PatchTarget::Match(criteria.clone())),
        );
        check("PUT Patient/a-1.B", Interaction::Write(Writing::Update(key.clone())));
        check("DELETE Patient/a-1.B", Interaction::Write(Writing::Delete(key)));
        check("POST Patient", Interaction::Write(Writing::Create(kind("Patient"))));
        check(
            "PUT Patient?identifier=a%7C1&_format=json",
            Interaction::Write(Writing::UpdateWhere(criteria.clone())),
        );
        check(
            "POST Patient?identifier=a|1&_pretty=true",
            Interaction::Write(Writing::CreateUnless(criteria.clone())),
        );
        check("DELETE Patient?identifier=a|1", Interaction::Write(Writing::DeleteWhere(criteria)));
        check("POST ", Interaction::Bundle);
        check("POST /", Interaction::Bundle);
    }

    #[test]
    fn searches_and_operations_are_recognized_by_method_and_path() {
        let kind = |text: &str| text.parse::<ResourceType>().unwrap();
        let patients = kind("Patient");
        let key = ResourceKey { kind: patients, id: "a-1.B".parse().unwrap() };
        let check = |request: &str, expect: Interaction| {
            assert_eq!(parse(request), Ok(expect), "{request}");
        };
        let conflicts = |scope: ConflictScope| {
            let page = Page { count: Limits::PAGE_ENTRIES, after: None };
            Interaction::Read(Reading::Conflicts(scope, page))
        };
        check("GET $conflicts", conflicts(ConflictScope::All));
        check("GET %24conflicts/", conflicts(ConflictScope::All));
        check("HEAD Patient/$conflicts", conflicts(ConflictScope::Type(patients)));
        let scope = ConflictScope::Resource(key);
        check("GET Patient/a-1.B/$conflicts?_format=json", conflicts(scope));
        let search = |scope, name: &str, strict| Searching {
            scope,
            parameters: vec![(name.to_owned(), "a b".to_owned())],
            page: Some("p~1".to_owned()),
            strict,
        };
        let within = |kind| {
            SearchScope::Compartment(ResourceKey { kind: patients, id: "1".parse().unwrap() }, kind)
        };
        let read = |searching| Interaction::Read(Reading::Search(searching));
        let of_type = search(SearchScope::Type(patients), "name:exact", true);
        check("GET! Patient?name%3Aexact=a+b&_format=json&page=p~1", read(of_type));
        let form = search(SearchScope::Type(patients), "name", false);
        check("POST Patient/_search?name=a%20b&page=p~1", Interaction::SearchForm(form));
        check("GET ?x=a+b&page=p~1", read(search(SearchScope::All, "x", false)));
        let observations = within(Some(kind("Observation")));
        check("GET Patient/1/Observation?x=a+b&page=p~1", read(search(observations, "x", false)));
        check("HEAD Patient/1/*?x=a+b&page=p~1", read(search(within(None), "x", false)));
        let patient = ResourceKey { kind: patients, id: "1".parse().unwrap() };
        let all = search(SearchScope::Everything(patient), "start", false);
        check("GET Patient/1/$everything?start=a+b&page=p~1", read(all));
        let newest = search(SearchScope::Newest, "max", false);
        check("GET Observation/$lastn?max=a+b&page=p~1", read(newest));
        check("GET metadata", Interaction::Read(Reading::Metadata(Mode::Full)));
        check(
            "GET! metadata?mode=terminology",
            Interaction::Read(Reading::Metadata(Mode::Terminology)),
        );
        let patient = ResourceKey { kind: patients, id: "1".parse().unwrap() };
        check("GET Patient/1/$meta", Interaction::Read(Reading::Meta(patient.clone())));
        let change = |adds| Interaction::ChangeMeta { key: patient.clone(), adds };
        check("POST Patient/1/$meta-add", change(true));
        check("POST Patient/1/%24meta-delete", change(false));
        let validate = |key, profile: Option<&str>| {
            let profile = profile.map(str::to_owned);
            Interaction::Validate(Validating { kind: patients, key, profile })
        };
        check("POST Patient/$validate?profile=urn:x", validate(None, Some("urn:x")));
        check("POST Patient/1/$validate", validate(Some(patient.clone()), None));
    }

    #[test]
    fn a_known_path_with_the_wrong_verb_says_which_are_allowed() {
        let check = |request: &str, allow: &str| {
            assert_eq!(show(&parse(request)), format!("allow {allow}"), "{request}");
        };
        check("PUT ", "GET, HEAD, POST");
        check("DELETE metadata", "GET, HEAD");
        check("GET Patient/1/$meta-add", "POST");
        check("GET Patient/$validate", "POST");
        check("TRACE Patient", "GET, HEAD, POST, PUT, PATCH, DELETE");
        check("PUT Patient/1/Observation", "GET, HEAD");
        check("GET Patient/_search", "POST");
        check("POST Patient/1", "GET, HEAD, PUT, PATCH, DELETE");
        check("DELETE Patient/_history", "GET, HEAD");
        check("DELETE Patient/1/_history", "GET, HEAD");
        check("PUT Patient/1/_history/1-pac.7h2k4m9qzx", "GET, HEAD");
        check("POST $conflicts", "GET, HEAD");
        check("DELETE Patient/1/$conflicts", "GET, HEAD");
    }

    #[test]
    fn what_is_not_understood_is_refused_with_its_reason() {
        let check = |request: &str, expect: &str| {
            assert_eq!(show(&parse(request)), expect, "{request}");
        };
        let long = "x".repeat(65);
        check("GET Patiens/1", r#""Patiens" is not a resource type of FHIR R4"#);
        check("GET patient/1", r#""patient" is not a resource type of FHIR R4"#);
        check("GET Patient/1/foo", r#"there is nothing at "Patient/1/foo""#);
        check("GET Patient/1/_history/1/2", r#"there is nothing at "Patient/1/_history/1/2""#);
        check("GET Patient/1/_history/1", r#"no version can have this id: "1""#);
        check("GET Patient/1/_history?_sort=x", r#"parameter "_sort" cannot be used here"#);
        check(
            "GET Patient/1/_history?_count=x",
            r#""x" cannot be the value of parameter "_count""#,
        );
        check("GET! Patient/1?x=1", r#"parameter "x" cannot be used here"#);
        check("GET Patient/1/Observation/1", r#"there is nothing at "Patient/1/Observation/1""#);
        check("GET Group/1/$everything", "this server does not support this operation yet");
        check("GET Patient/$everything", "this server does not support this operation yet");
        check("GET Patient/$lastn", "this server does not support this operation yet");
        check("GET metadata/$conflicts", "this server does not support this operation yet");
        check("GET $conflicts/$conflicts", "this server does not support this operation yet");
        check("GET $conflicts?kind=update", r#"parameter "kind" cannot be used here"#);
        check("GET $conflicts?page=x", r#""x" cannot be the value of parameter "page""#);
        check("GET Patiens/$conflicts", r#""Patiens" is not a resource type of FHIR R4"#);
        assert!(matches!(parse(&format!("GET Patient/{long}")), Err(Misdirected::NoSuchId(_))));
        assert!(matches!(parse("PUT Patient/a_b"), Err(Misdirected::BadId(_))));
        assert!(matches!(parse("DELETE Patient"), Err(Misdirected::Criteria(_))));
        assert!(matches!(parse("PUT Patient?name=%x"), Err(Misdirected::Criteria(_))));
    }
}
