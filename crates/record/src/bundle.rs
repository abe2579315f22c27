//! This module reads batch and transaction bundles: what each entry asks for (FHIR R4, http, 3.1.0.11).
//!
//! All entries of a transaction are read or none; those of a batch each for itself. A bundle is
//! parsed once; every problem is named with its path from the bundle on and its place in the text.

use std::borrow::Cow;
use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::command::{Draft, EntityTag, Operation, Precondition};
use crate::criteria::Criteria;
use crate::definitions::Definitions;
use crate::invalid::{Invalid, Problem, ProblemSort};
use crate::json::{Document, Kind, Value};
use crate::kind::{ResourceId, ResourceKey, ResourceType};
use crate::limits;
use crate::links::{self, Targets};
use crate::patch::Patch;
use crate::resource::{self, Resource};
use crate::validate::{Candidate, Validator};

/// A bundle that was posted to be carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PostedBundle {
    /// Each entry for itself, in the bundle's order.
    Batch(Vec<Result<BatchEntry, Invalid>>),
    /// All or nothing, in the bundle's order; links between the entries are found.
    Transaction(Vec<BundledWrite>),
}

/// What an entry of a batch asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BatchEntry {
    /// To write.
    Write(BundledWrite),
    /// To read.
    Read(BundledRead),
}

/// An entry that can be part of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BundledWrite {
    /// It can be decided as it is.
    Operation(Operation),
    /// It has to be applied to what is there before.
    Patch(PatchRequest),
}

/// A resource that is to be changed in parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PatchRequest {
    /// Which one.
    pub target: PatchTarget,
    /// The changes.
    pub patch: Patch,
    /// What the client has seen.
    pub precondition: Precondition,
}

/// Which resource is to be patched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PatchTarget {
    /// This one.
    Resource(ResourceKey),
    /// The one that matches.
    Match(Criteria),
}

/// A GET within a bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BundledRead {
    /// What to read.
    pub what: ReadTarget,
    /// `ifNoneMatch`, as sent.
    pub if_none_match: Option<String>,
    /// `ifModifiedSince`, an instant as sent.
    pub if_modified_since: Option<String>,
}

/// What a GET reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadTarget {
    /// The current version of a resource.
    Resource(ResourceKey),
    /// One version of it, by the text of its id.
    Version(ResourceKey, String),
    /// Its history.
    History(ResourceKey),
    /// What else a URL relative to the base may name, such as a search; in a batch only.
    Url(String),
}

/// One entry, checked.
struct Entry<'d> {
    value: Value<'d>,
    url: Option<Cow<'d, str>>,
    asks: Asks,
    /// What it writes.
    resource: Option<(ResourceType, Value<'d>)>,
    /// The strings in it that may refer to other entries.
    candidates: Vec<Candidate<'d>>,
}

/// What an entry asks for, without the resource.
#[derive(Clone, Debug)]
enum Asks {
    Create { unless: Option<Criteria> },
    Update { key: ResourceKey, precondition: Precondition },
    UpdateWhere { criteria: Criteria, precondition: Precondition },
    Delete { key: ResourceKey, precondition: Precondition },
    DeleteWhere { criteria: Criteria },
    Patch(PatchRequest),
    Read(BundledRead),
}

/// A URL relative to the base.
enum Target<'u> {
    /// A type, with a query or without.
    Type(ResourceType, Option<&'u str>),
    /// Something that can be read.
    Single(ReadTarget),
}

/// A problem that is still without its place.
type Complaint = (ProblemSort, String);

impl PostedBundle {
    /// Reads a bundle.
    ///
    /// # Errors
    /// When it is no bundle of type `batch` or `transaction`, or has too many entries; for a
    /// transaction also when one of its entries cannot be carried out.
    pub fn parse(bytes: &[u8]) -> Result<Self, Invalid> {
        let document = Document::parse(bytes)?;
        let (is_transaction, entries) = outline(document.root())?;
        if is_transaction {
            return transaction(&entries).map(Self::Transaction);
        }
        let entry = |value: &Value<'_>| {
            let entry = Entry::read(*value, Validator::new())?;
            Ok(match entry.asks {
                Asks::Read(read) => BatchEntry::Read(read),
                _ => BatchEntry::Write(entry.write(Vec::new()).expect("it is no read")),
            })
        };
        Ok(Self::Batch(entries.iter().map(entry).collect()))
    }
}

/// Checks a bundle without its entries. Whether it is a transaction, and its entries.
fn outline<'d>(root: Value<'d>) -> Result<(bool, Vec<Value<'d>>), Invalid> {
    let named = root.member("resourceType").and_then(Value::string);
    if named.as_deref() != Some("Bundle") {
        let reason = "only a Bundle can be posted to the base".to_owned();
        return Err(Invalid::new(vec![Problem::with(root, ProblemSort::Structure, reason)]));
    }
    let mut validator = Validator::new();
    let kind: ResourceType = "Bundle".parse().expect("it is a resource type");
    validator.object_without(root, Definitions::of_r4().resource(kind), Some("entry"));
    let posted_as = root.member("type").and_then(Value::string).unwrap_or_default();
    if !matches!(&*posted_as, "batch" | "transaction") {
        let value = root.member("type").unwrap_or(root);
        let reason = "a Bundle posted to the base must be of type batch or transaction";
        validator.fault(value, ProblemSort::Value, reason);
    }
    let entries: Vec<_> = match root.member("entry") {
        None => Vec::new(),
        Some(entries) if entries.kind() == Kind::Array && !entries.is_empty() => {
            entries.children().collect()
        }
        Some(other) => {
            validator.fault(other, ProblemSort::Structure, "entry must be a non-empty JSON array");
            Vec::new()
        }
    };
    if entries.len() > limits::MAX_BUNDLE_ENTRIES {
        let reason = format!("more than {} entries", limits::MAX_BUNDLE_ENTRIES);
        validator.fault(root, ProblemSort::TooMuch, reason);
    }
    validator.finish()?;
    Ok((posted_as == "transaction", entries))
}

/// Reads the entries of a transaction, and finds the links between them.
fn transaction(values: &[Value<'_>]) -> Result<Vec<BundledWrite>, Invalid> {
    let mut problems = Problems::default();
    let mut entries = Vec::with_capacity(values.len());
    for &value in values {
        match Entry::read(value, Validator::noting_links()) {
            Ok(entry) => entries.push(entry),
            Err(invalid) => problems.0.extend_from_slice(invalid.problems()),
        }
        problems.limit()?;
    }
    problems.none()?;
    let targets = targets(&entries, &mut problems);
    let mut writes = Vec::with_capacity(entries.len());
    for mut entry in entries {
        if let (Asks::Patch(_), Some((_, sent))) = (&entry.asks, entry.resource)
            && let Some(url) = named_in_patch(&targets, sent)
        {
            let reason = format!("a patch cannot refer to another entry, as this does to {url:?}");
            problems.add(entry.value, ProblemSort::NotSupported, reason);
        }
        let mut found = Vec::new();
        for candidate in std::mem::take(&mut entry.candidates) {
            match targets.find(&candidate, entry.url.as_deref()) {
                Ok(links) => found.extend(links),
                Err((sort, reason)) => problems.add(candidate.value, sort, reason),
            }
        }
        problems.limit()?;
        // What is not read in a transaction was noted as a problem.
        writes.extend(entry.write(found));
    }
    problems.none()?;
    Ok(writes)
}

/// The URL of an entry that a patch names.
fn named_in_patch(targets: &Targets, sent: Value<'_>) -> Option<String> {
    match binary(sent) {
        Some(bytes) => targets.named_in(Document::parse(&bytes).ok()?.root()),
        None => targets.named_in(sent),
    }
}

/// What a Binary holds.
fn binary(sent: Value<'_>) -> Option<Vec<u8>> {
    BASE64.decode(&*sent.member("data")?.string()?).ok()
}

/// The entries that can be referred to. No two may have one URL, or write one resource; only
/// instances are read.
fn targets(entries: &[Entry<'_>], problems: &mut Problems) -> Targets {
    let mut targets = Targets::default();
    let mut written: BTreeMap<&ResourceKey, usize> = BTreeMap::new();
    for (number, entry) in entries.iter().enumerate() {
        let key = match &entry.asks {
            Asks::Update { key, .. }
            | Asks::Delete { key, .. }
            | Asks::Patch(PatchRequest { target: PatchTarget::Resource(key), .. }) => Some(key),
            Asks::Read(BundledRead { what, .. }) if !matches!(what, ReadTarget::Resource(_)) => {
                let reason = "a transaction reads resources, no versions, histories or searches";
                problems.add(entry.value, ProblemSort::NotSupported, reason.to_owned());
                None
            }
            _ => None,
        };
        if let Some(key) = key
            && let Some(other) = written.insert(key, number)
        {
            let reason = format!("{key} is written by Bundle.entry[{other}] too");
            problems.add(entry.value, ProblemSort::Duplicate, reason);
        }
        let writes = entry.asks.writes_resource();
        let Some(url) = entry.url.as_deref().filter(|_| writes) else { continue };
        if let Err(other) = targets.insert(url, number, key) {
            let reason = format!("Bundle.entry[{other}] has the fullUrl {url:?} too");
            problems.add(entry.value, ProblemSort::Duplicate, reason);
        }
    }
    targets
}

/// What is wrong with the entries of a transaction.
#[derive(Default)]
struct Problems(Vec<Problem>);

impl Problems {
    fn add(&mut self, value: Value<'_>, sort: ProblemSort, reason: String) {
        self.0.push(Problem::with(value, sort, reason));
    }

    /// An error once there are as many as are told.
    fn limit(&mut self) -> Result<(), Invalid> {
        if self.0.len() < limits::MAX_PROBLEMS { Ok(()) } else { self.none() }
    }

    fn none(&mut self) -> Result<(), Invalid> {
        if self.0.is_empty() { Ok(()) } else { Err(Invalid::new(std::mem::take(&mut self.0))) }
    }
}

impl<'d> Entry<'d> {
    /// Checks one entry.
    fn read(value: Value<'d>, mut validator: Validator<'d>) -> Result<Self, Invalid> {
        validator.object_without(value, Definitions::of_r4().bundle_entry(), Some("resource"));
        let sent = value.member("resource");
        let resource = sent.and_then(|sent| Some((resource::check(&mut validator, sent)?, sent)));
        let request = value.member("request").filter(|request| request.kind() == Kind::Object);
        if request.is_none() {
            let reason = "an entry of a batch or transaction must have a request";
            validator.lacks(value, "request", reason);
        }
        let url = value.member("fullUrl").and_then(Value::string);
        if url.as_deref().is_some_and(|url| !url.contains(':')) {
            validator.fault(value, ProblemSort::Value, "the fullUrl must be absolute");
        }
        let mut asks = None;
        if let Some(request) = request.filter(|_| validator.problems() == 0) {
            match Request(request).asks(resource) {
                Ok(asked) => asks = Some(asked),
                Err((sort, reason)) => validator.fault(request, sort, reason),
            }
        }
        let mut candidates = validator.finish()?;
        let asks = asks.expect("an entry without problems asks for something");
        let within = resource.filter(|_| asks.writes_resource());
        let within = within.map_or(0..0, |(_, resource)| resource.span());
        candidates.retain(|candidate| within.contains(&candidate.value.span().start));
        Ok(Self { value, url, asks, resource, candidates })
    }

    /// What it writes, with these links; `None` for a read that is no operation.
    fn write(self, found: Vec<links::Found>) -> Option<BundledWrite> {
        let draft = || {
            let (kind, value) = self.resource.expect("what writes has a resource");
            let wanted: Vec<_> = found.iter().map(|found| found.source.clone()).collect();
            let (resource, placed) = Resource::cut(kind, value, &wanted);
            Draft { resource, links: links::place(found, placed) }
        };
        let operation = match self.asks {
            Asks::Create { unless } => Operation::Create { draft: draft(), unless },
            Asks::Update { key, precondition } => {
                Operation::Update { key, draft: draft(), precondition }
            }
            Asks::UpdateWhere { criteria, precondition } => {
                Operation::UpdateWhere { criteria, draft: draft(), precondition }
            }
            Asks::Delete { key, precondition } => Operation::Delete { key, precondition },
            Asks::DeleteWhere { criteria } => Operation::DeleteWhere { criteria },
            Asks::Read(BundledRead { what: ReadTarget::Resource(key), .. }) => {
                Operation::Read { key }
            }
            Asks::Patch(patch) => return Some(BundledWrite::Patch(patch)),
            Asks::Read(_) => return None,
        };
        Some(BundledWrite::Operation(operation))
    }
}

impl Asks {
    fn writes_resource(&self) -> bool {
        matches!(self, Self::Create { .. } | Self::Update { .. } | Self::UpdateWhere { .. })
    }
}

/// `Bundle.entry.request`, checked as an element.
#[derive(Clone, Copy)]
struct Request<'d>(Value<'d>);

impl<'d> Request<'d> {
    fn text(self, name: &str) -> Option<Cow<'d, str>> {
        self.0.member(name).and_then(Value::string)
    }

    /// What it asks for, with this resource.
    fn asks(self, resource: Option<(ResourceType, Value<'d>)>) -> Result<Asks, Complaint> {
        let method = self.text("method").unwrap_or_default();
        let url = self.text("url").unwrap_or_default();
        self.check_conditions(&method)?;
        let target = match Target::parse(&url) {
            Ok(Target::Type(..)) | Err(_) if method == "GET" && !url.contains("://") => {
                Target::Single(ReadTarget::Url(url.trim_start_matches('/').to_owned()))
            }
            target => target?,
        };
        match (&*method, target) {
            ("POST", Target::Type(kind, None)) => {
                expect_resource(resource, kind)?;
                let unless = self.text("ifNoneExist");
                let unless = unless.map(|query| criteria(kind, query.trim_start_matches('?')));
                Ok(Asks::Create { unless: unless.transpose()? })
            }
            ("PUT", Target::Single(ReadTarget::Resource(key))) => {
                let sent = expect_resource(resource, key.kind)?;
                if sent.as_ref() != Some(&key.id) {
                    let sent = sent.map_or_else(|| "none".to_owned(), |id| id.to_string());
                    let reason = format!("the URL names the id {}, the resource {sent}", key.id);
                    return Err((ProblemSort::Value, reason));
                }
                Ok(Asks::Update { key, precondition: self.precondition()? })
            }
            ("PUT", Target::Type(kind, Some(query))) => {
                expect_resource(resource, kind)?;
                let criteria = criteria(kind, query)?;
                Ok(Asks::UpdateWhere { criteria, precondition: self.precondition()? })
            }
            ("DELETE", Target::Single(ReadTarget::Resource(key))) => {
                Ok(Asks::Delete { key, precondition: self.precondition()? })
            }
            ("DELETE", Target::Type(kind, Some(query))) => {
                if self.text("ifMatch").is_some() {
                    let reason = "ifMatch does not go with a conditional delete";
                    return Err((ProblemSort::NotSupported, reason.to_owned()));
                }
                Ok(Asks::DeleteWhere { criteria: criteria(kind, query)? })
            }
            ("GET", Target::Single(what)) => Ok(Asks::Read(self.read(what))),
            ("PATCH", Target::Single(ReadTarget::Resource(key))) => {
                Ok(Asks::Patch(self.patch(PatchTarget::Resource(key), resource)?))
            }
            ("PATCH", Target::Type(kind, Some(query))) => {
                Ok(Asks::Patch(self.patch(PatchTarget::Match(criteria(kind, query)?), resource)?))
            }
            ("HEAD", _) => not_supported(&format!("{method} within a bundle")),
            _ => Err((ProblemSort::Value, format!("{method} does not go with the URL {url:?}"))),
        }
    }

    /// Each condition goes with some methods only.
    fn check_conditions(self, method: &str) -> Result<(), Complaint> {
        for (condition, methods) in [
            ("ifMatch", ["PUT", "DELETE", "PATCH"].as_slice()),
            ("ifNoneMatch", ["GET", "PUT"].as_slice()),
            ("ifModifiedSince", ["GET"].as_slice()),
            ("ifNoneExist", ["POST"].as_slice()),
        ] {
            if self.0.member(condition).is_some() && !methods.contains(&method) {
                let reason = format!("{condition} does not go with {method}");
                return Err((ProblemSort::Value, reason));
            }
        }
        Ok(())
    }

    fn precondition(self) -> Result<Precondition, Complaint> {
        let bad = |reason: &str| Err((ProblemSort::Value, reason.to_owned()));
        match (self.text("ifMatch"), self.text("ifNoneMatch")) {
            (None, None) => Ok(Precondition::None),
            (Some(_), Some(_)) => bad("ifMatch and ifNoneMatch exclude each other"),
            (None, Some(none)) if none.trim() == "*" => Ok(Precondition::Absent),
            (None, Some(_)) => bad("with PUT, ifNoneMatch can only be *"),
            (Some(tags), None) if tags.trim() == "*" => Ok(Precondition::Exists),
            (Some(tags), None) => match EntityTag::list(&tags) {
                Some(tags) => Ok(Precondition::Match(tags)),
                None => bad("ifMatch must be one or more ETags, such as W/\"3-pac.7h2k4m9qzx\""),
            },
        }
    }

    /// A patch: a Binary that holds one, or a Parameters resource that is one.
    fn patch(
        self,
        target: PatchTarget,
        resource: Option<(ResourceType, Value<'d>)>,
    ) -> Result<PatchRequest, Complaint> {
        let bad = |reason: String| (ProblemSort::Value, reason);
        let patch = match resource {
            Some((kind, sent)) if kind.as_str() == "Binary" => {
                let bytes = binary(sent).ok_or_else(|| bad("the Binary has no data".to_owned()))?;
                let media_type = sent.member("contentType").and_then(Value::string);
                let media_type = media_type.unwrap_or_default();
                let named = media_type.split(';').next().unwrap_or_default().trim();
                match named {
                    "application/json-patch+json" => Patch::json(&bytes),
                    "application/merge-patch+json" => Patch::merge(&bytes),
                    "application/fhir+json" | "application/json" => Patch::any(&bytes),
                    other => return not_supported(&format!("a patch of type {other:?}")),
                }
            }
            Some((kind, sent)) if kind.as_str() == "Parameters" => Patch::of_parameters(sent),
            _ => {
                let reason = "a PATCH needs a Binary that holds a patch, or a Parameters resource";
                return Err((ProblemSort::Required, reason.to_owned()));
            }
        };
        let patch = patch.map_err(|invalid| bad(invalid.to_string()))?;
        Ok(PatchRequest { target, patch, precondition: self.precondition()? })
    }

    fn read(self, what: ReadTarget) -> BundledRead {
        BundledRead {
            what,
            if_none_match: self.text("ifNoneMatch").map(String::from),
            if_modified_since: self.text("ifModifiedSince").map(String::from),
        }
    }
}

impl<'u> Target<'u> {
    /// Reads a URL relative to the base.
    fn parse(url: &'u str) -> Result<Self, Complaint> {
        let bad = |reason: &str| (ProblemSort::Value, format!("the URL {url:?} {reason}"));
        if url.contains("://") {
            return Err(bad("must be relative to the server's base"));
        }
        let (path, query) = match url.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (url, None),
        };
        let mut segments = path.trim_start_matches('/').split('/');
        let kind = segments.next().unwrap_or_default();
        if kind.starts_with(['$', '_']) || kind == "metadata" {
            return not_supported(&format!("{kind} within a bundle"));
        }
        let kind: ResourceType =
            kind.parse().map_err(|unknown| bad(&format!("names no type: {unknown}")))?;
        let rest: Vec<&str> = segments.collect();
        let key = |id: &str| match id.parse() {
            Ok(id) => Ok(ResourceKey { kind, id }),
            Err(_) if id.starts_with(['$', '_']) => not_supported(&format!("{id} within a bundle")),
            Err(invalid) => Err(bad(&format!("names no resource: {invalid}"))),
        };
        match (rest.as_slice(), query) {
            ([], query) => Ok(Self::Type(kind, query)),
            ([id], None) => Ok(Self::Single(ReadTarget::Resource(key(id)?))),
            ([id, "_history"], None) => Ok(Self::Single(ReadTarget::History(key(id)?))),
            ([id, "_history", version], None) => {
                Ok(Self::Single(ReadTarget::Version(key(id)?, (*version).to_owned())))
            }
            ([_, operation, ..], _) if operation.starts_with('$') => {
                not_supported(&format!("{operation} within a bundle"))
            }
            (_, Some(_)) => not_supported("a query after the id of a resource"),
            _ => Err(bad("leads nowhere")),
        }
    }
}

fn not_supported<T>(what: &str) -> Result<T, Complaint> {
    Err((ProblemSort::NotSupported, format!("{what} is not supported")))
}

fn criteria(kind: ResourceType, query: &str) -> Result<Criteria, Complaint> {
    Criteria::parse(kind, query).map_err(|invalid| (ProblemSort::Value, invalid.to_string()))
}

/// The id of the resource that is sent, which must be there and of this type.
fn expect_resource(
    resource: Option<(ResourceType, Value<'_>)>,
    kind: ResourceType,
) -> Result<Option<ResourceId>, Complaint> {
    match resource {
        Some((sent, value)) if sent == kind => {
            let id = value.member("id").and_then(Value::string);
            Ok(id.and_then(|id| id.parse().ok()))
        }
        Some((sent, _)) => Err((
            ProblemSort::Value,
            format!("the URL names the type {kind}, the resource is a {sent}"),
        )),
        None => {
            Err((ProblemSort::Required, "an entry that writes must have a resource".to_owned()))
        }
    }
}

#[cfg(test)]
mod tests;
