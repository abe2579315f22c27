//! This module carries out patches (FHIR R4, http, 3.1.0.6), alone and in bundles.
//!
//! ```text
//! patch + the version that this node holds -> an update of exactly that version -> region
//! ```
//! If the region has gone on meanwhile, the patch is applied again to what the node holds then. What the
//! client's own `If-Match` refuses stays refused.

use axum::body::Body;
use chartmesh_record::{
    Action, BundledWrite, Draft, EntityTag, FindError, Operation, Patch, PatchRequest, PatchTarget,
    Precondition, Rejection, RejectionReason, Resource, ResourceKey, VersionId, View,
};
use chartmesh_region::Accepted;
use chartmesh_store::{Current, StoredVersion};

use crate::answer::Answer;
use crate::body::receive;
use crate::condition::{self, InvalidHeader};
use crate::identity::Identity;
use crate::limits::Limits;
use crate::refusal::Refusal;
use crate::server::{Asked, Server};

/// What several writes are together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unity {
    /// There is one only.
    One,
    /// All or nothing.
    Transaction,
}

impl Unity {
    fn action(self, mut operations: Vec<Operation>) -> Action {
        match self {
            Self::One => Action::One(operations.pop().expect("there is one")),
            Self::Transaction => Action::Transaction(operations),
        }
    }
}

/// Why a patch is not an operation yet.
enum Unready {
    /// It will not be.
    Refused(Refusal),
    /// It may be, once the node holds what the client has seen; otherwise it is refused like this.
    Behind(Refusal),
}

impl<R: Into<Refusal>> From<R> for Unready {
    fn from(refusal: R) -> Self {
        Self::Refused(refusal.into())
    }
}

impl Server {
    /// `PATCH [type]/[id]` and `PATCH [type]?criteria`
    pub(crate) async fn patch(
        &self,
        asked: &Asked<'_>,
        body: Body,
        target: PatchTarget,
        read: impl Fn(&[u8]) -> Result<Patch, Refusal>,
    ) -> Result<Answer, Refusal> {
        let headers = &asked.parts.headers;
        let precondition = condition::precondition(headers)?;
        let received = receive(body, headers, &self.api.limits, &self.big_bodies).await?;
        let bytes = &received.bytes;
        let (patch, identity) = self.sized(bytes.len(), || {
            Ok::<_, Refusal>((read(bytes)?, self.identity(asked, bytes)?))
        })?;
        let request = PatchRequest { target, patch, precondition };
        let writes = vec![BundledWrite::Patch(request)];
        let accepted = self.carry_out(identity, writes, Unity::One).await?;
        self.tell_one(&accepted, asked)
    }

    /// Has writes decided, of which some may be patches.
    pub(crate) async fn carry_out(
        &self,
        identity: Identity,
        writes: Vec<BundledWrite>,
        unity: Unity,
    ) -> Result<Accepted, Refusal> {
        if !writes.iter().any(|write| matches!(write, BundledWrite::Patch(_))) {
            let operations = writes.into_iter().filter_map(|write| match write {
                BundledWrite::Operation(operation) => Some(operation),
                BundledWrite::Patch(_) => None,
            });
            return self.submit(identity, unity.action(operations.collect())).await;
        }
        if self.api.store.recorded(&identity.request)?.is_some() {
            // What was decided is told again by its identity alone.
            return self.submit(identity, Action::Transaction(Vec::new())).await;
        }
        for attempt in 1.. {
            let refusal = match self.beside(|| self.operations(&writes, unity)) {
                Err(Unready::Refused(refusal)) => return Err(refusal),
                Err(Unready::Behind(refusal)) => refusal,
                Ok(operations) => match self.submit(identity, unity.action(operations)).await {
                    Err(Refusal::Rejected(rejection)) if is_overtaken(&rejection, &writes) => {
                        rejection.into()
                    }
                    done => return done,
                },
            };
            if attempt == Limits::PATCH_ATTEMPTS {
                return Err(refusal);
            }
            tokio::time::sleep(Limits::PATCH_PAUSE * attempt).await;
        }
        unreachable!("the attempts end")
    }

    fn operations(&self, writes: &[BundledWrite], unity: Unity) -> Result<Vec<Operation>, Unready> {
        let operation = |(entry, write): (usize, &BundledWrite)| match write {
            BundledWrite::Operation(operation) => Ok(operation.clone()),
            BundledWrite::Patch(request) => {
                let entry = (unity == Unity::Transaction).then_some(entry);
                self.operation(request).map_err(|unready| match unready {
                    Unready::Refused(refusal) => Unready::Refused(refusal.at(entry)),
                    Unready::Behind(refusal) => Unready::Behind(refusal.at(entry)),
                })
            }
        };
        writes.iter().enumerate().map(operation).collect()
    }

    /// The update that a patch is, of what this node holds.
    fn operation(&self, request: &PatchRequest) -> Result<Operation, Unready> {
        let PatchRequest { target, patch, precondition } = request;
        let key = self.target(target)?;
        let Some(Current { stored, .. }) = self.api.store.read(&key)? else {
            return Err(Refusal::Unknown { key }.into());
        };
        let StoredVersion { version, at, content } = stored;
        let Some(content) = content else {
            return Err(Refusal::Gone { key, version, at, conflict: None }.into());
        };
        let seen = self.seen(&key, &version, precondition)?;
        let patched = patch.apply(key.kind, &content)?;
        let resource =
            Resource::parse(&patched).map_err(|invalid| Refusal::Spoilt(invalid.unplaced()))?;
        if resource.kind() != key.kind || resource.id() != Some(&key.id) {
            return Err(Refusal::Renamed { key }.into());
        }
        let draft = Draft { resource, links: Vec::new() };
        Ok(match target {
            PatchTarget::Resource(_) => Operation::Update { key, draft, precondition: seen },
            PatchTarget::Match(criteria) => {
                let criteria = criteria.clone();
                Operation::UpdateWhere { criteria, draft, precondition: seen }
            }
        })
    }

    fn target(&self, target: &PatchTarget) -> Result<ResourceKey, Unready> {
        let criteria = match target {
            PatchTarget::Resource(key) => return Ok(key.clone()),
            PatchTarget::Match(criteria) => criteria,
        };
        let reject = |reason| Refusal::Rejected(Rejection { entry: None, reason });
        let found = self.api.store.snapshot().find(criteria, &[], 2);
        let mut found = found.map_err(|error| match error {
            FindError::Unreadable(corrupt) => corrupt.into(),
            FindError::Unusable(reason) => {
                let criteria = criteria.clone();
                reject(RejectionReason::UnusableCriteria { criteria, reason })
            }
        })?;
        let criteria = criteria.clone();
        match (found.pop(), found.pop()) {
            (Some(id), None) => Ok(ResourceKey { kind: criteria.kind(), id }),
            (None, _) => Err(Refusal::Unmatched { criteria }.into()),
            _ => Err(reject(RejectionReason::SeveralMatches { criteria }).into()),
        }
    }

    /// What the update demands to stand: what the client has seen, this version with it.
    fn seen(
        &self,
        key: &ResourceKey,
        version: &VersionId,
        precondition: &Precondition,
    ) -> Result<Precondition, Unready> {
        let own = EntityTag(version.to_string());
        match precondition {
            Precondition::None | Precondition::Exists => Ok(Precondition::Match(vec![own])),
            Precondition::Match(tags) if tags.contains(&own) => {
                Ok(Precondition::Match(tags.clone()))
            }
            Precondition::Match(tags) => {
                let heads = self.api.store.heads(key)?;
                let reason = RejectionReason::Precondition { key: key.clone(), heads };
                let refusal = Refusal::Rejected(Rejection { entry: None, reason });
                for tag in tags {
                    let Ok(seen) = tag.0.parse() else { continue };
                    if self.api.store.vread(key, &seen)?.is_none() {
                        return Err(Unready::Behind(refusal));
                    }
                }
                Err(refusal.into())
            }
            Precondition::Absent => Err(InvalidHeader {
                name: "If-None-Match",
                reason: "a patch changes what is there",
            }
            .into()),
        }
    }
}

/// Whether a command was refused because the region has gone on since a patch was applied.
fn is_overtaken(rejection: &Rejection, writes: &[BundledWrite]) -> bool {
    let write = writes.get(rejection.entry.unwrap_or_default());
    let free = |it: &Precondition| matches!(it, Precondition::None | Precondition::Exists);
    matches!(rejection.reason, RejectionReason::Precondition { .. })
        && matches!(write, Some(BundledWrite::Patch(it)) if free(&it.precondition))
}
