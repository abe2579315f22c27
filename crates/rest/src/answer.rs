//! This module turns what became of a request into an answer: the one place that knows HTTP status
//! codes and makes OperationOutcomes.
//!
//! An [`Answer`] becomes either an HTTP response or the response of an entry in a bundle.

use axum::body::Body;
use bytes::Bytes;
use chartmesh_record::{
    Effect, Heads, Invalid, Problem, Rejection, RejectionReason, ResourceKey, Timestamp, VersionId,
};
use chartmesh_region::{Fate, Unavailable};
use chartmesh_search::InvalidQuery;
use http::header::{ALLOW, CONTENT_TYPE, ETAG, LAST_MODIFIED, LOCATION, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};

use crate::base::Base;
use crate::body::BodyError;
use crate::conflict::tagged;
use crate::document::{
    Coding, Details, EntryHead, EntryResponse, IntegerExtension, Issue, OperationOutcome, render,
};
use crate::http_date;
use crate::media;
use crate::path::Misdirected;
use crate::preference::Preferences;
use crate::pretty::pretty;
use crate::refusal::Refusal;

const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");
const ACCEPT_PATCH: HeaderName = HeaderName::from_static("accept-patch");
const CONFLICT: HeaderName = HeaderName::from_static("chartmesh-conflict");
const FHIR_JSON: HeaderValue = HeaderValue::from_static("application/fhir+json;charset=utf-8");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const PLAIN_TEXT: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4");
/// A client that finds the node busy is asked to wait this long, in seconds.
const BUSY_RETRY_AFTER_S: u64 = 1;

/// What a request is answered.
#[derive(Debug)]
pub(crate) struct Answer {
    status: StatusCode,
    stamp: Option<Stamp>,
    location: Option<(ResourceKey, VersionId)>,
    /// The heads of the resource, where the client has to know of them.
    conflict: Option<HeaderValue>,
    content: Content,
    headers: Vec<(HeaderName, HeaderValue)>,
}

/// The version that an answer is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) version: VersionId,
    /// Its `lastUpdated`, if this node knows it.
    pub(crate) at: Option<Timestamp>,
}

/// What an answer holds.
#[derive(Debug)]
pub(crate) enum Content {
    Nothing,
    /// A resource as it is stored.
    Resource(Bytes),
    /// What is said about the request.
    Outcome(OperationOutcome),
    /// What a Binary holds, of this type.
    Raw(Bytes, HeaderValue),
}

/// What is to be answered about one operation that was carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// That it was.
    Done,
    /// That it was, in words.
    Words,
    /// The resource as it is now.
    Resource(Bytes),
}

impl Answer {
    fn new(status: StatusCode, content: Content) -> Self {
        let headers = Vec::new();
        Self { status, stamp: None, location: None, conflict: None, content, headers }
    }

    /// A version of a resource.
    pub(crate) fn resource(stamp: Stamp, content: Bytes) -> Self {
        let answer = Self::new(StatusCode::OK, Content::Resource(content));
        Self { stamp: Some(stamp), ..answer }
    }

    /// The client holds that version already.
    pub(crate) fn not_modified(stamp: Stamp) -> Self {
        Self { stamp: Some(stamp), ..Self::new(StatusCode::NOT_MODIFIED, Content::Nothing) }
    }

    /// A resource that the server has written for this answer.
    pub(crate) fn document(content: Bytes) -> Self {
        Self::new(StatusCode::OK, Content::Resource(content))
    }

    /// What one operation did.
    pub(crate) fn written(
        effect: Effect,
        written: Option<(ResourceKey, Stamp)>,
        told: Told,
    ) -> Self {
        let nothing_left = matches!(effect, Effect::Deleted | Effect::NothingToDelete);
        let status = match (effect, &told) {
            (Effect::Created, _) => StatusCode::CREATED,
            (Effect::Updated | Effect::Found | Effect::Read, _) => StatusCode::OK,
            (Effect::Deleted | Effect::NothingToDelete, Told::Words) => StatusCode::OK,
            (Effect::Deleted | Effect::NothingToDelete, _) => StatusCode::NO_CONTENT,
        };
        let content = match told {
            Told::Done => Content::Nothing,
            Told::Words => Content::Outcome(done(effect, written.as_ref())),
            Told::Resource(_) if nothing_left => Content::Nothing,
            Told::Resource(content) => Content::Resource(content),
        };
        let (location, stamp) =
            written.map(|(key, stamp)| ((key, stamp.version.clone()), stamp)).unzip();
        // What is gone has no place; what was only read has not moved.
        let location = location.filter(|_| !nothing_left && effect != Effect::Read);
        Self { stamp, location, ..Self::new(status, content) }
    }

    /// The resource in it.
    pub(crate) fn resource_bytes(&self) -> Option<&Bytes> {
        match &self.content {
            Content::Resource(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// The same with what its resource holds instead of that.
    pub(crate) fn raw(self, content: Bytes, kind: HeaderValue) -> Self {
        Self { content: Content::Raw(content, kind), ..self }
    }

    /// The same with another document.
    pub(crate) fn instead(self, document: Bytes) -> Self {
        Self { content: Content::Resource(document), ..self }
    }

    /// Adds a header. Bundles leave headers out.
    pub(crate) fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// Says which preferences have shaped it.
    pub(crate) fn applying(self, preferences: Preferences) -> Self {
        match preferences.applied() {
            Some(applied) => self.with(PREFERENCE_APPLIED, applied),
            None => self,
        }
    }

    /// Says that the resource is in conflict: names its heads, and tags what is read of it.
    pub(crate) fn in_conflict(mut self, heads: &Heads) -> Self {
        if let Content::Resource(resource) = &self.content {
            self.content = Content::Resource(tagged(resource));
        }
        self.conflict = tag_list(heads);
        self
    }

    /// The response to a request of its own; for people if `is_pretty`.
    pub(crate) fn into_response(self, base: &Base<'_>, is_pretty: bool) -> Response<Body> {
        let (body, kind) = match self.content {
            Content::Nothing => (None, None),
            Content::Resource(bytes) => (Some(bytes), Some(FHIR_JSON)),
            Content::Outcome(outcome) => (Some(render(&outcome).into()), Some(FHIR_JSON)),
            Content::Raw(bytes, kind) => (Some(bytes), Some(kind)),
        };
        let is_pretty = is_pretty && kind == Some(FHIR_JSON);
        let body = body.map(|body| if is_pretty { pretty(&body).into() } else { body });
        let mut headers = HeaderMap::with_capacity(10);
        headers.extend(kind.map(|kind| (CONTENT_TYPE, kind)));
        if let Some(Stamp { version, at }) = &self.stamp {
            headers.insert(ETAG, tag(version));
            headers.extend(at.map(|at| (LAST_MODIFIED, http_date::format(at))));
        }
        if let Some((key, version)) = self.location {
            let location = format!("{}/{key}/_history/{version}", base.url());
            headers.insert(LOCATION, ascii(location));
        }
        headers.extend(self.conflict.map(|heads| (CONFLICT, heads)));
        headers.extend(self.headers);
        let mut response = Response::new(body.map_or_else(Body::empty, Body::from));
        *response.status_mut() = self.status;
        *response.headers_mut() = headers;
        response
    }

    /// The entry of a bundle that answers one, and its resource.
    pub(crate) fn into_entry(self, base: &Base<'_>) -> (EntryHead, Option<Bytes>) {
        let reason = self.status.canonical_reason().unwrap_or_default();
        // An entry has no headers.
        let warning = self.conflict.as_ref().map(conflict_warning);
        let (outcome, resource) = match self.content {
            Content::Nothing => (warning, None),
            Content::Resource(bytes) => (warning, Some(bytes)),
            Content::Outcome(outcome) => (Some(outcome), None),
            Content::Raw(..) => unreachable!("what is in a bundle is a resource"),
        };
        let stamp = self.stamp.as_ref();
        let response = EntryResponse {
            status: format!("{} {reason}", self.status.as_str()),
            location: self
                .location
                .as_ref()
                .map(|(key, version)| format!("{key}/_history/{version}")),
            etag: stamp.map(|stamp| format!("W/\"{}\"", stamp.version)),
            last_modified: stamp.and_then(|stamp| stamp.at).map(|at| at.to_string()),
            outcome,
        };
        let full_url = self.location.map(|(key, _)| format!("{}/{key}", base.url()));
        (EntryHead { full_url, request: None, response }, resource)
    }
}

/// What a version is answered in a history: created, updated or deleted.
pub(crate) fn history_status(effect: Effect) -> &'static str {
    match effect {
        Effect::Created => "201 Created",
        Effect::Deleted => "204 No Content",
        _ => "200 OK",
    }
}

/// A page outside FHIR.
pub(crate) fn page(page: Page) -> Response<Body> {
    let (status, kind, body) = match page {
        Page::Live => (StatusCode::OK, PLAIN_TEXT, "live\n".into()),
        Page::Ready => (StatusCode::OK, PLAIN_TEXT, "ready\n".into()),
        Page::NotReady(reason) => (StatusCode::SERVICE_UNAVAILABLE, PLAIN_TEXT, reason + "\n"),
        Page::Status(json) => (StatusCode::OK, JSON, json),
        Page::Metrics(text) => (StatusCode::OK, PLAIN_TEXT, text),
    };
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

/// What is shown outside FHIR.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Page {
    Live,
    Ready,
    NotReady(String),
    Status(String),
    Metrics(String),
}

impl Refusal {
    /// What the client is told.
    pub(crate) fn answer(&self) -> Answer {
        self.answer_at(None)
    }

    /// What the client is told, if it was refused for this entry of a bundle, counted from 0.
    pub(crate) fn answer_at(&self, entry: Option<usize>) -> Answer {
        if let Self::AtEntry { entry, refusal } = self {
            return refusal.answer_at(Some(*entry));
        }
        let (status, code) = self.sort();
        let issues = match self {
            Self::Invalid(invalid) => problems(invalid),
            Self::Spoilt(invalid) => {
                let mut issues = problems(invalid);
                issues
                    .iter_mut()
                    .for_each(|it| drop(it.expression.splice(0..0, self.place(entry))));
                issues
            }
            _ => vec![self.issue(code, entry)],
        };
        let outcome = OperationOutcome { issue: issues };
        let mut answer = Answer::new(status, Content::Outcome(outcome));
        match self {
            Self::Misdirected(Misdirected::WrongVerb { allow, .. }) => {
                answer.headers.push((ALLOW, HeaderValue::from_static(allow)));
            }
            Self::UnsupportedPatch { .. } => {
                answer.headers.push((ACCEPT_PATCH, ascii(media::PATCHES.join(", "))));
            }
            Self::Unavailable(Unavailable { retry_after, .. }) => {
                let seconds = retry_after.as_millis().div_ceil(1000).max(1);
                answer.headers.push((RETRY_AFTER, ascii(seconds.to_string())));
            }
            Self::Overloaded
            | Self::Stale(_)
            | Self::TooSlow { .. }
            | Self::Query(InvalidQuery::Unindexed { .. }) => {
                answer.headers.push((RETRY_AFTER, BUSY_RETRY_AFTER_S.into()));
            }
            Self::Gone { version, at, conflict, .. } => {
                answer.stamp = Some(Stamp { version: version.clone(), at: Some(*at) });
                answer.conflict = conflict.as_ref().and_then(tag_list);
            }
            Self::Rejected(Rejection { reason, .. }) => {
                answer.conflict = heads(reason).and_then(tag_list);
            }
            _ => {}
        }
        answer
    }

    /// The status, and the code of the issue (FHIR R4, value set issue-type).
    fn sort(&self) -> (StatusCode, &'static str) {
        match self {
            Self::Misdirected(misdirected) => misdirected.sort(),
            Self::Query(InvalidQuery::TooMuch { .. }) | Self::TooCostly(_) | Self::LongAgo(_) => {
                (StatusCode::BAD_REQUEST, "too-costly")
            }
            Self::Query(InvalidQuery::Unindexed { .. }) => {
                (StatusCode::SERVICE_UNAVAILABLE, "transient")
            }
            Self::Query(_) => (StatusCode::BAD_REQUEST, "value"),
            Self::ValueSet(_) => (StatusCode::BAD_REQUEST, "not-found"),
            Self::Incomplete(_) => (StatusCode::BAD_REQUEST, "required"),
            Self::Ignored(_) | Self::NoCompartment { .. } => {
                (StatusCode::BAD_REQUEST, "not-supported")
            }
            Self::UrlTooLong { .. } => (StatusCode::URI_TOO_LONG, "too-long"),
            Self::Header(_) | Self::Criteria(_) | Self::WrongType { .. } | Self::WrongId { .. } => {
                (StatusCode::BAD_REQUEST, "value")
            }
            Self::NotAcceptable(_) => (StatusCode::NOT_ACCEPTABLE, "not-supported"),
            Self::UnsupportedMediaType(_)
            | Self::UnsupportedPatch { .. }
            | Self::Body(BodyError::Encoded { .. }) => {
                (StatusCode::UNSUPPORTED_MEDIA_TYPE, "not-supported")
            }
            Self::Body(BodyError::TooLong { .. }) => (StatusCode::PAYLOAD_TOO_LARGE, "too-long"),
            Self::Body(BodyError::Stalled) => (StatusCode::REQUEST_TIMEOUT, "timeout"),
            Self::Body(BodyError::Broken(_)) => (StatusCode::BAD_REQUEST, "incomplete"),
            Self::Invalid(invalid) if invalid.is_too_much() => {
                (StatusCode::PAYLOAD_TOO_LARGE, "too-costly")
            }
            Self::Invalid(_) => (StatusCode::BAD_REQUEST, "invalid"),
            Self::Rejected(rejection) => rejection_sort(&rejection.reason),
            Self::Unavailable(_) | Self::Stale(_) => (StatusCode::SERVICE_UNAVAILABLE, "transient"),
            Self::Overloaded => (StatusCode::SERVICE_UNAVAILABLE, "throttled"),
            Self::TooSlow { .. } => (StatusCode::SERVICE_UNAVAILABLE, "timeout"),
            Self::Unpatchable(_) | Self::Renamed { .. } => {
                (StatusCode::UNPROCESSABLE_ENTITY, "processing")
            }
            Self::Spoilt(_) => (StatusCode::UNPROCESSABLE_ENTITY, "invalid"),
            Self::AtEntry { refusal, .. } => refusal.sort(),
            Self::Unmatched { .. } | Self::Unknown { .. } | Self::UnknownVersion { .. } => {
                (StatusCode::NOT_FOUND, "not-found")
            }
            Self::Gone { .. } => (StatusCode::GONE, "deleted"),
            Self::ForeignPage => (StatusCode::GONE, "not-found"),
            Self::DiskFull { .. } => (StatusCode::INSUFFICIENT_STORAGE, "no-store"),
            Self::Store(_) | Self::Fault => (StatusCode::INTERNAL_SERVER_ERROR, "exception"),
        }
    }

    fn issue(&self, code: &'static str, entry: Option<usize>) -> Issue {
        let entry = match self {
            Self::Rejected(rejection) => rejection.entry.or(entry),
            _ => entry,
        };
        let mut details = Details { coding: None, text: self.to_string() };
        if let Self::Unavailable(Unavailable { fate, .. }) = self {
            let (fate, told) = match fate {
                Fate::NotWritten => ("not-written", "nothing was written"),
                Fate::Unknown => (
                    "outcome-unknown",
                    "whether it was written is not known: the same request with the same \
                     Idempotency-Key finds out",
                ),
            };
            details.text = format!("{}; {told}", details.text);
            details.coding = Some([Coding { system: "urn:chartmesh", code: fate }]);
        }
        Issue {
            extension: Vec::new(),
            severity: "error",
            code,
            details,
            diagnostics: None,
            expression: self.place(entry).into_iter().collect(),
        }
    }

    /// The element at fault.
    fn place(&self, entry: Option<usize>) -> Option<String> {
        match self {
            Self::WrongType { found, .. } => Some(format!("{found}.resourceType")),
            Self::WrongId { key, .. } => Some(format!("{}.id", key.kind)),
            _ => entry.map(|entry| format!("Bundle.entry[{entry}]")),
        }
    }
}

impl Misdirected {
    fn sort(&self) -> (StatusCode, &'static str) {
        match self {
            Self::Nowhere { .. }
            | Self::UnknownType(_)
            | Self::NoSuchId(_)
            | Self::NoSuchVersion { .. } => (StatusCode::NOT_FOUND, "not-found"),
            Self::BadId(_) | Self::Criteria(_) | Self::Value { .. } => {
                (StatusCode::BAD_REQUEST, "value")
            }
            Self::Parameter { .. } => (StatusCode::BAD_REQUEST, "not-supported"),
            Self::WrongVerb { .. } => (StatusCode::METHOD_NOT_ALLOWED, "not-supported"),
            Self::NotSupported { .. } => (StatusCode::NOT_IMPLEMENTED, "not-supported"),
        }
    }
}

fn rejection_sort(reason: &RejectionReason) -> (StatusCode, &'static str) {
    match reason {
        RejectionReason::RequestReused => (StatusCode::UNPROCESSABLE_ENTITY, "business-rule"),
        RejectionReason::Precondition { .. } | RejectionReason::ConflictedDelete { .. } => {
            (StatusCode::PRECONDITION_FAILED, "conflict")
        }
        RejectionReason::SeveralMatches { .. } => {
            (StatusCode::PRECONDITION_FAILED, "multiple-matches")
        }
        RejectionReason::UnusableCriteria { .. } => (StatusCode::BAD_REQUEST, "value"),
        RejectionReason::NoMatch { .. } => (StatusCode::PRECONDITION_FAILED, "not-found"),
        RejectionReason::IdMismatch { .. } => (StatusCode::BAD_REQUEST, "value"),
        RejectionReason::DuplicateTarget { .. } => (StatusCode::BAD_REQUEST, "duplicate"),
        RejectionReason::NotFound { .. } => (StatusCode::NOT_FOUND, "not-found"),
        RejectionReason::Gone { .. } => (StatusCode::GONE, "deleted"),
        RejectionReason::TooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "too-long"),
    }
}

/// The heads that a refused client has not taken into account.
fn heads(reason: &RejectionReason) -> Option<&Heads> {
    match reason {
        RejectionReason::Precondition { heads, .. }
        | RejectionReason::ConflictedDelete { heads, .. } => Some(heads),
        _ => None,
    }
}

/// What is wrong with a resource.
pub(crate) fn problems(invalid: &Invalid) -> Vec<Issue> {
    const LINE: &str = "http://hl7.org/fhir/StructureDefinition/operationoutcome-issue-line";
    const COLUMN: &str = "http://hl7.org/fhir/StructureDefinition/operationoutcome-issue-col";
    let extension = |(line, column)| {
        [(LINE, line), (COLUMN, column)]
            .map(|(url, value_integer)| IntegerExtension { url, value_integer })
            .into()
    };
    let issue = |problem: &Problem| Issue {
        extension: problem.place.map(extension).unwrap_or_default(),
        severity: "error",
        code: problem.sort.code(),
        details: Details { coding: None, text: problem.reason.clone() },
        diagnostics: problem.place.map(|(line, column)| format!("line {line}, column {column}")),
        expression: Some(problem.path.clone())
            .filter(|path| !path.is_empty())
            .into_iter()
            .collect(),
    };
    invalid.problems().iter().map(issue).collect()
}

/// What was done, in words.
fn done(effect: Effect, written: Option<&(ResourceKey, Stamp)>) -> OperationOutcome {
    let verb = match effect {
        Effect::Created => "created",
        Effect::Updated => "updated",
        Effect::Found => "was there already",
        Effect::Deleted => "deleted",
        Effect::NothingToDelete => "there was nothing to delete",
        Effect::Read => "read",
    };
    let text = match written {
        Some((key, stamp)) => format!("{verb}: {key}, version {}", stamp.version),
        None => verb.to_owned(),
    };
    OperationOutcome { issue: vec![note("information", "informational", text)] }
}

/// Something that is said, with no place.
pub(crate) fn note(severity: &'static str, code: &'static str, text: String) -> Issue {
    Issue {
        extension: Vec::new(),
        severity,
        code,
        details: Details { coding: None, text },
        diagnostics: None,
        expression: Vec::new(),
    }
}

/// What a searchset says of parameters that were left out, and of what did not come along.
pub(crate) fn search_warning(texts: impl Iterator<Item = String>) -> OperationOutcome {
    OperationOutcome { issue: texts.map(|text| note("warning", "not-supported", text)).collect() }
}

/// What goes with an entry whose resource is in conflict.
fn conflict_warning(heads: &HeaderValue) -> OperationOutcome {
    let heads = heads.to_str().unwrap_or_default();
    let text = format!("several versions stand beside each other: {heads}");
    OperationOutcome { issue: vec![note("warning", "conflict", text)] }
}

/// The heads that have arrived as the value of `If-Match`; `None` if there are none.
fn tag_list(heads: &Heads) -> Option<HeaderValue> {
    let tags: Vec<String> =
        heads.distinct().map(|head| format!("W/\"{}\"", head.version)).collect();
    (!tags.is_empty()).then(|| ascii(tags.join(", ")))
}

fn tag(version: &VersionId) -> HeaderValue {
    ascii(format!("W/\"{version}\""))
}

pub(crate) fn ascii(text: String) -> HeaderValue {
    HeaderValue::try_from(text).expect("names, numbers and URLs are plain ASCII")
}
