//! This module holds what a command has changed: versions written together, and what is answered.

use bytes::Bytes;

use crate::ancestry::{Ancestry, Head};
use crate::command::{Place, RequestDigest, RequestId};
use crate::kind::ResourceKey;
use crate::position::Seq;
use crate::resource::BodyHash;
use crate::timestamp::Timestamp;
use crate::version::{Generation, Origin, VersionId};

/// Versions written together: one place in their origin's feed, applied atomically.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangeSet {
    /// Who decided it.
    pub origin: Origin,
    /// Its place in the origin's feed.
    pub seq: Seq,
    /// When it was decided: the `lastUpdated` of all its versions.
    pub at: Timestamp,
    /// The request that it answers.
    pub request: RequestId,
    /// The digest of that request.
    pub digest: RequestDigest,
    /// Who asked, where that is known.
    pub client: Option<String>,
    /// Who took the request.
    pub place: Place,
    /// What becomes of each operation, in the request's order.
    pub entries: Vec<EntryOutcome>,
    /// The new versions, one per resource at the most.
    pub versions: Vec<Version>,
}

/// One new state of one resource. Its origin is that of its change set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// Of which resource.
    pub key: ResourceKey,
    /// Its place among the versions of that resource.
    pub generation: Generation,
    /// What it says of the others.
    pub ancestry: Ancestry,
    /// Where criteria that matched nothing made it: their text ([`Criteria::query`](crate::Criteria::query)).
    pub criteria: Option<String>,
    /// The resource as it is read, id and meta included; `None` for a deletion.
    pub content: Option<Bytes>,
}

impl Version {
    /// Its name.
    #[must_use]
    pub fn id(&self, origin: &Origin) -> VersionId {
        VersionId { generation: self.generation, origin: origin.clone() }
    }

    /// What decides about heads: itself without its bytes.
    #[must_use]
    pub fn head(&self, origin: &Origin, request: RequestId) -> Head {
        Head {
            version: self.id(origin),
            ancestry: self.ancestry.clone(),
            deleted: self.content.is_none(),
            request,
            body: BodyHash::of(self.content.as_deref().unwrap_or_default()),
        }
    }
}

/// What a request is answered, and where it stands in the feed if it changed anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// When it was decided.
    pub at: Timestamp,
    /// The change set it became; `None` if it changed nothing.
    pub change: Option<(Origin, Seq)>,
    /// One per operation, in the request's order.
    pub entries: Vec<EntryOutcome>,
}

/// What became of one operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryOutcome {
    /// What was done.
    pub effect: Effect,
    /// To which resource; `None` only where a conditional delete matched nothing.
    pub key: Option<ResourceKey>,
    /// The version made or found; `None` where there is none.
    pub version: Option<VersionId>,
}

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// A resource now exists that did not (201).
    Created,
    /// An existing resource has a new version (200).
    Updated,
    /// A conditional create found the resource (200).
    Found,
    /// A resource is deleted (204).
    Deleted,
    /// There was nothing to delete (204).
    NothingToDelete,
    /// A read inside a transaction (200); the answering node fills in what is read.
    Read,
}

impl ChangeSet {
    /// How many bytes it takes in canonical form, at the most: content counted to the byte, names
    /// and numbers generously.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        /// What frames a field, a number included.
        const FIELD: usize = 16;
        let key = |key: &ResourceKey| 2 * FIELD + key.kind.as_str().len() + key.id.as_str().len();
        let name = |version: &VersionId| 2 * FIELD + version.origin.as_str().len();
        let entry = |entry: &EntryOutcome| {
            FIELD + entry.key.as_ref().map_or(0, key) + entry.version.as_ref().map_or(0, name)
        };
        let version = |version: &Version| {
            let Ancestry { seen, kept } = &version.ancestry;
            let seen: usize = seen.keys().map(|origin| 2 * FIELD + origin.as_str().len()).sum();
            let kept: usize = kept.iter().map(name).sum();
            let text = version.criteria.as_ref().map_or(0, String::len);
            let content = version.content.as_ref().map_or(0, Bytes::len);
            4 * FIELD + key(&version.key) + seen + kept + text + content
        };
        let client = self.client.as_ref().map_or(0, String::len);
        256 + client
            + self.entries.iter().map(entry).sum::<usize>()
            + self.versions.iter().map(version).sum::<usize>()
    }

    /// What its request is answered.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        Outcome {
            at: self.at,
            change: Some((self.origin.clone(), self.seq)),
            entries: self.entries.clone(),
        }
    }
}
