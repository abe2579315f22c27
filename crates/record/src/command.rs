//! This module holds what a client asks to be written, parsed and validated, before it is decided.

use std::fmt;
use std::ops::Range;

use sha2::{Digest, Sha256};

use crate::criteria::Criteria;
use crate::kind::{ResourceId, ResourceKey};
use crate::name::{NodeName, SiteName};
use crate::resource::Resource;

/// The identity of one request, of the client's choice or drawn by the node that took it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub [u8; 16]);

/// The SHA-256 of what was asked: a request id seen with another digest is refused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestDigest(pub [u8; 32]);

impl RequestDigest {
    /// Of a request whose id was drawn by the node that took it: nobody else can ask under it. It
    /// takes no bytes in a change set.
    pub const DRAWN: Self = Self([0; 32]);
}

/// The node that took a request, and its site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The node.
    pub node: NodeName,
    /// Its site.
    pub site: SiteName,
}

/// One request to write: decided once, all of it or nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// Which request this is.
    pub request: RequestId,
    /// The digest of its content.
    pub digest: RequestDigest,
    /// Who asked, where that is known.
    pub client: Option<String>,
    /// Who took it.
    pub place: Place,
    /// What to do.
    pub action: Action,
}

/// What a command does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// One interaction. Its rejection names no entry.
    One(Operation),
    /// A transaction bundle's entries, in the bundle's order (FHIR R4, http, 3.1.0.11.2).
    Transaction(Vec<Operation>),
}

/// One interaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Creates a resource under an id of the server's choice; with criteria, only if none matches.
    Create {
        /// What to create; an id in it is ignored.
        draft: Draft,
        /// `If-None-Exist`.
        unless: Option<Criteria>,
    },
    /// Writes a new version under a given id, the first one included.
    Update {
        /// Which resource.
        key: ResourceKey,
        /// Its new content.
        draft: Draft,
        /// What the client has seen.
        precondition: Precondition,
    },
    /// Updates what matches; creates where nothing does.
    UpdateWhere {
        /// What must match.
        criteria: Criteria,
        /// The new content.
        draft: Draft,
        /// What the client has seen.
        precondition: Precondition,
    },
    /// Deletes a resource.
    Delete {
        /// Which resource.
        key: ResourceKey,
        /// What the client has seen.
        precondition: Precondition,
    },
    /// Deletes what matches, if it is one.
    DeleteWhere {
        /// What must match.
        criteria: Criteria,
    },
    /// Reads a resource after the writes of its transaction; absent or deleted, it fails it.
    Read {
        /// Which resource.
        key: ResourceKey,
    },
}

/// What a client says it has seen (RFC 9110, 13.1; FHIR R4, http, 3.1.0.5).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Precondition {
    /// Nothing.
    #[default]
    None,
    /// `If-Match` with these tags: all must name heads, and exactly those are superseded.
    Match(Vec<EntityTag>),
    /// `If-Match: *`: the resource must exist.
    Exists,
    /// `If-None-Match: *`: the resource must not exist.
    Absent,
}

/// The text of an ETag, without `W/` and quotes. One that is no version id matches nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntityTag(pub String);

/// A resource to be written, with the references in it that only the decision can fill in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// The content.
    pub resource: Resource,
    /// The references to fill in, in ascending order and disjoint.
    pub links: Vec<Link>,
}

/// A reference to fill in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The bytes to replace by `Type/id`, in [`Resource::content`]: within a JSON string.
    pub at: Range<usize>,
    /// What it will refer to.
    pub target: LinkTarget,
}

/// What a reference in a transaction refers to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkTarget {
    /// What becomes of this entry of the transaction, counted from 0.
    Entry(usize),
    /// The one resource that matches (a conditional reference).
    Match(Criteria),
}

impl Command {
    /// The operations, in the request's order.
    #[must_use]
    pub fn operations(&self) -> &[Operation] {
        match &self.action {
            Action::One(operation) => std::slice::from_ref(operation),
            Action::Transaction(entries) => entries,
        }
    }

    /// The id that a resource gets which this operation creates: a retry derives the same.
    #[must_use]
    pub fn derived_id(&self, place: usize) -> ResourceId {
        let hash: [u8; 32] = Sha256::new()
            .chain_update(b"chartmesh id ")
            .chain_update(self.request.0)
            .chain_update(self.digest.0)
            .chain_update((place as u64).to_be_bytes())
            .finalize()
            .into();
        ResourceId::from_bytes(hash.first_chunk().copied().expect("32 bytes hold 16"))
    }

    /// Whether all links lie where they can be filled in, and refer to entries that there are.
    /// What decodes or builds a command sees to it; only sound commands are judged.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        let operations = self.operations();
        operations.iter().filter_map(Operation::draft).all(|draft| draft.is_sound(operations.len()))
    }
}

impl Operation {
    /// What it writes; none for what deletes or reads.
    #[must_use]
    pub fn draft(&self) -> Option<&Draft> {
        match self {
            Self::Create { draft, .. }
            | Self::Update { draft, .. }
            | Self::UpdateWhere { draft, .. } => Some(draft),
            Self::Delete { .. } | Self::DeleteWhere { .. } | Self::Read { .. } => None,
        }
    }

    /// What it searches for, where it is conditional.
    #[must_use]
    pub fn criteria(&self) -> Option<&Criteria> {
        match self {
            Self::Create { unless, .. } => unless.as_ref(),
            Self::UpdateWhere { criteria, .. } | Self::DeleteWhere { criteria } => Some(criteria),
            Self::Update { .. } | Self::Delete { .. } | Self::Read { .. } => None,
        }
    }
}

impl Draft {
    fn is_sound(&self, entries: usize) -> bool {
        let (meta, all) = (self.resource.meta_len(), self.resource.content().len());
        let mut free = 0;
        self.links.iter().all(|Link { at, target }| {
            let lies_within = at.start < at.end
                && (at.end <= meta || meta <= at.start && at.end <= all)
                && free <= at.start;
            free = at.end;
            lies_within && !matches!(target, LinkTarget::Entry(entry) if *entry >= entries)
        })
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for RequestDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
