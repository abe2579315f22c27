//! This module holds what deciding adds to a command, and puts the change set together from both.
//!
//! A decision is small, however big its command: ids that can be derived, and everything that the
//! command carries, are left out. Whoever holds the command makes the same change set from it.

use std::collections::HashMap;
use std::io::Write as _;

use crate::ancestry::Ancestry;
use crate::change_set::{ChangeSet, Effect, EntryOutcome, Version};
use crate::command::{Command, Draft, LinkTarget, Operation};
use crate::criteria::Criteria;
use crate::kind::{ResourceId, ResourceKey};
use crate::position::Seq;
use crate::resource::Resource;
use crate::timestamp::Timestamp;
use crate::version::{Generation, Origin, VersionId};

/// What deciding a command adds to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Who decided.
    pub origin: Origin,
    /// The place in the origin's feed.
    pub seq: Seq,
    /// When it was decided.
    pub at: Timestamp,
    /// One per operation, in the request's order.
    pub rulings: Vec<Ruling>,
    /// What the conditional references refer to: one per distinct criteria among the resources that
    /// are written, in the order in which they first occur.
    pub matches: Vec<ResourceId>,
}

/// What is decided of one operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ruling {
    /// It makes a version.
    Write {
        /// Created, updated or deleted.
        effect: Effect,
        /// What its criteria have found; `None`: the resource that the operation names, or whose id
        /// derives from the request.
        found: Option<ResourceId>,
        /// The generation of the version.
        generation: Generation,
        /// What the version says of the others.
        ancestry: Ancestry,
    },
    /// It makes none.
    Leave(EntryOutcome),
}

/// The decision was made on another command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the decision does not fit the command")]
pub struct UnfitDecision;

impl Decision {
    /// What the command changes: the same for everybody who holds both.
    ///
    /// # Errors
    /// When the decision was made on another command.
    pub fn assemble(&self, command: &Command) -> Result<ChangeSet, UnfitDecision> {
        let operations = command.operations();
        if operations.len() != self.rulings.len() {
            return Err(UnfitDecision);
        }
        let targets: Vec<Option<ResourceKey>> = (0..operations.len())
            .map(|place| target(command, place, &self.rulings[place]))
            .collect();
        let mut filling = Filling { targets: &targets, found: HashMap::new(), next: &self.matches };

        let mut entries = Vec::with_capacity(operations.len());
        let mut versions = Vec::with_capacity(operations.len());
        for ((operation, ruling), key) in operations.iter().zip(&self.rulings).zip(&targets) {
            let (effect, generation, ancestry) = match ruling {
                Ruling::Leave(outcome) => {
                    entries.push(outcome.clone());
                    continue;
                }
                Ruling::Write { effect, generation, ancestry, .. } => {
                    (*effect, *generation, ancestry.clone())
                }
            };
            let key = key.clone().ok_or(UnfitDecision)?;
            let id = VersionId { generation, origin: self.origin.clone() };
            let content = match operation.draft() {
                Some(draft) => Some(filling.fill(draft)?.render(&key, &id, self.at)),
                None => None,
            };
            let criteria = operation.criteria().filter(|_| effect == Effect::Created);
            let criteria = criteria.map(Criteria::query);
            entries.push(EntryOutcome { effect, key: Some(key.clone()), version: Some(id) });
            versions.push(Version { key, generation, ancestry, criteria, content });
        }
        Ok(ChangeSet {
            origin: self.origin.clone(),
            seq: self.seq,
            at: self.at,
            request: command.request,
            digest: command.digest,
            client: command.client.clone(),
            place: command.place.clone(),
            entries,
            versions,
        })
    }
}

/// The resource that a ruled operation is about; none where a conditional delete matched nothing.
pub(super) fn target(command: &Command, place: usize, ruling: &Ruling) -> Option<ResourceKey> {
    let found = match ruling {
        Ruling::Leave(outcome) => return outcome.key.clone(),
        Ruling::Write { found, .. } => found.clone(),
    };
    let (kind, id) = match &command.operations()[place] {
        Operation::Create { draft, .. } => (draft.resource.kind(), None),
        Operation::UpdateWhere { draft, .. } => (draft.resource.kind(), draft.resource.id()),
        Operation::DeleteWhere { criteria } => (criteria.kind(), None),
        Operation::Update { key, .. } | Operation::Delete { key, .. } | Operation::Read { key } => {
            return Some(key.clone());
        }
    };
    let id = found.or_else(|| id.cloned()).unwrap_or_else(|| command.derived_id(place));
    Some(ResourceKey { kind, id })
}

/// Fills in the links of one command's drafts, in order.
struct Filling<'a> {
    targets: &'a [Option<ResourceKey>],
    found: HashMap<&'a Criteria, &'a ResourceId>,
    next: &'a [ResourceId],
}

impl<'a> Filling<'a> {
    fn fill(&mut self, draft: &'a Draft) -> Result<Resource, UnfitDecision> {
        let resource = &draft.resource;
        if draft.links.is_empty() {
            return Ok(resource.clone());
        }
        let content = resource.content();
        let mut filled = Vec::with_capacity(content.len() + 48 * draft.links.len());
        let mut meta_len = resource.meta_len();
        let mut copied = 0;
        for link in &draft.links {
            filled.extend_from_slice(&content[copied..link.at.start]);
            let start = filled.len();
            match &link.target {
                LinkTarget::Entry(entry) => {
                    let key = self.targets[*entry].as_ref().ok_or(UnfitDecision)?;
                    write!(filled, "{key}")
                }
                LinkTarget::Match(criteria) => {
                    write!(filled, "{}/{}", criteria.kind(), self.matched(criteria)?)
                }
            }
            .expect("a Vec takes everything");
            if link.at.end <= resource.meta_len() {
                meta_len = meta_len + (filled.len() - start) - link.at.len();
            }
            copied = link.at.end;
        }
        filled.extend_from_slice(&content[copied..]);
        let (kind, id) = (resource.kind(), resource.id().cloned());
        Ok(Resource::from_parts(kind, id, filled.into(), meta_len))
    }

    fn matched(&mut self, criteria: &'a Criteria) -> Result<&'a ResourceId, UnfitDecision> {
        if let Some(id) = self.found.get(criteria) {
            return Ok(id);
        }
        let (id, rest) = self.next.split_first().ok_or(UnfitDecision)?;
        self.next = rest;
        self.found.insert(criteria, id);
        Ok(id)
    }
}
