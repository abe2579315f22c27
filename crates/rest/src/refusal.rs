//! This module lists why a request is refused. How that is answered is `answer`'s matter.

use std::time::Duration;

use chartmesh_record::{
    Criteria, Heads, Invalid, InvalidCriteria, Rejection, ResourceId, ResourceKey, ResourceType,
    Timestamp, Unpatchable, VersionId,
};
use chartmesh_region::{SubmitError, Unavailable};
use chartmesh_search::{Ignored, InvalidQuery};
use chartmesh_store::{ArrivalsError, Corrupt, SearchError};

use crate::body::BodyError;
use crate::condition::InvalidHeader;
use crate::freshness::Stale;
use crate::media::{NotAcceptable, UnsupportedMediaType};
use crate::path::Misdirected;

/// Why a request is refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error(transparent)]
    Misdirected(#[from] Misdirected),
    #[error("the URL is longer than {limit} bytes")]
    UrlTooLong { limit: usize },
    #[error(transparent)]
    Header(#[from] InvalidHeader),
    #[error(transparent)]
    NotAcceptable(#[from] NotAcceptable),
    #[error(transparent)]
    UnsupportedMediaType(#[from] UnsupportedMediaType),
    #[error(
        "a patch of type {sent:?} cannot be read: send application/json-patch+json, \
         application/merge-patch+json, or a Parameters resource as application/fhir+json"
    )]
    UnsupportedPatch { sent: String },
    #[error(transparent)]
    Body(#[from] BodyError),
    #[error(transparent)]
    Invalid(#[from] Invalid),
    #[error("the body holds a {found}, but the URL says {expected}")]
    WrongType { found: ResourceType, expected: ResourceType },
    #[error("the body's id is {}, but the URL says {}", show_id(found.as_ref()), key.id)]
    WrongId { key: ResourceKey, found: Option<ResourceId> },
    #[error(transparent)]
    Unpatchable(#[from] Unpatchable),
    #[error("the patch leaves no valid resource: {0}")]
    Spoilt(Invalid),
    #[error("the patch makes another resource of {key}: its type and id stay")]
    Renamed { key: ResourceKey },
    #[error("{criteria} matches no resource")]
    Unmatched { criteria: Criteria },
    #[error("entry {entry}: {refusal}")]
    AtEntry { entry: usize, refusal: Box<Self> },
    #[error(transparent)]
    Query(#[from] InvalidQuery),
    #[error("{}", show_ignored(.0))]
    Ignored(Vec<Ignored>),
    #[error("there are no compartments of {kind} resources")]
    NoCompartment { kind: ResourceType },
    #[error(transparent)]
    TooCostly(SearchError),
    #[error(transparent)]
    ValueSet(SearchError),
    #[error(
        "this page is one of another node's order of arrival, or of one that is lost: begin again at this \
         node, with _since as far back as the greatest age that was seen"
    )]
    ForeignPage,
    #[error(transparent)]
    LongAgo(ArrivalsError),
    #[error("$lastn needs {0}")]
    Incomplete(&'static str),
    #[error("If-None-Exist: {0}")]
    Criteria(InvalidCriteria),
    #[error(transparent)]
    Rejected(#[from] Rejection),
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    #[error("{key} is not known")]
    Unknown { key: ResourceKey },
    #[error("{key} has no version {version}")]
    UnknownVersion { key: ResourceKey, version: VersionId },
    #[error("{key} is deleted, since version {version} of {at}")]
    Gone { key: ResourceKey, version: VersionId, at: Timestamp, conflict: Option<Heads> },
    #[error(transparent)]
    Stale(#[from] Stale),
    #[error(
        "less than {reserve_bytes} bytes are free on this node's disk: it takes no writes until \
         there are more; reads go on"
    )]
    DiskFull { reserve_bytes: u64 },
    #[error("too many requests are under way")]
    Overloaded,
    #[error("the request took longer than {limit:?}; whether it was carried out is not known")]
    TooSlow { limit: Duration },
    #[error("this node's disk cannot be used: {0}")]
    Store(#[from] Corrupt),
    #[error("the request has met a fault of the server, which is written down in its log")]
    Fault,
}

fn show_ignored(ignored: &[Ignored]) -> String {
    ignored.iter().map(Ignored::to_string).collect::<Vec<_>>().join("; ")
}

impl Refusal {
    /// It, said of an entry of a transaction.
    pub(crate) fn at(self, entry: Option<usize>) -> Self {
        match (self, entry) {
            (Self::Rejected(rejection), entry) => Self::Rejected(Rejection { entry, ..rejection }),
            (refusal, Some(entry)) => Self::AtEntry { entry, refusal: Box::new(refusal) },
            (refusal, None) => refusal,
        }
    }
}

impl From<SearchError> for Refusal {
    fn from(error: SearchError) -> Self {
        match error {
            SearchError::Corrupt(corrupt) => Self::Store(corrupt),
            SearchError::TooCostly { .. } => Self::TooCostly(error),
            SearchError::ValueSet { .. } => Self::ValueSet(error),
        }
    }
}

fn show_id(id: Option<&ResourceId>) -> String {
    id.map_or("missing".to_owned(), ResourceId::to_string)
}

impl From<SubmitError> for Refusal {
    fn from(error: SubmitError) -> Self {
        match error {
            SubmitError::Rejected(rejection) => Self::Rejected(rejection),
            SubmitError::Unavailable(unavailable) => Self::Unavailable(unavailable),
        }
    }
}
