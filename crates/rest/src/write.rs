//! This module carries out single writes: create, update, delete, and their conditional forms.
//!
//! ```text
//! headers and body -> Operation -> Command -> region -> Outcome -> Answer
//! ```
//!
//! All is parsed and validated before it is anybody's turn to decide.

use axum::body::Body;
use chartmesh_record::{
    Action, Command, Criteria, Draft, Effect, EntryOutcome, Operation, Precondition, Resource,
    ResourceId, ResourceKey, ResourceType, Timestamp,
};
use chartmesh_region::{Accepted, Durability};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::answer::{Answer, Stamp, Told, ascii};
use crate::api::Api;
use crate::binary;
use crate::body::receive;
use crate::condition::{self, InvalidHeader};
use crate::identity::{IF_NONE_EXIST, Identity};
use crate::media;
use crate::path::Writing;
use crate::preference::Echo;
use crate::read::is_current;
use crate::refusal::Refusal;
use crate::server::{Asked, Server};

const DURABILITY: HeaderName = HeaderName::from_static("chartmesh-durability");
const APPLIED: HeaderName = HeaderName::from_static("chartmesh-applied");

impl Server {
    /// Carries out one write.
    pub(crate) async fn write(
        &self,
        asked: &Asked<'_>,
        body: Body,
        writing: Writing,
    ) -> Result<Answer, Refusal> {
        let parts = asked.parts;
        let deletes = matches!(writing, Writing::Delete(_) | Writing::DeleteWhere(_));
        let body = if deletes { Body::empty() } else { body };
        let may_be_content = !deletes && writing.kind().as_str() == "Binary";
        let content_type = Some(&parts.headers).filter(|_| may_be_content);
        let content_type = content_type.and_then(binary::content_type);
        if !deletes && content_type.is_none() {
            media::sends_json(&parts.headers)?;
        }
        let Api { limits, .. } = &self.api;
        let received = receive(body, &parts.headers, limits, &self.big_bodies).await?;
        let bytes = &received.bytes;
        let (operation, identity) = self.sized(bytes.len(), || {
            let body = match content_type {
                Some(kind) => binary::received(kind, &parts.headers, writing.id(), bytes),
                None => bytes.clone(),
            };
            let operation = operation(writing, &parts.headers, &body)?;
            Ok::<_, Refusal>((operation, self.identity(asked, &body)?))
        })?;
        let accepted = self.submit(identity, Action::One(operation)).await?;
        self.tell_one(&accepted, asked)
    }

    /// What is answered about the one operation of a request.
    pub(crate) fn tell_one(
        &self,
        accepted: &Accepted,
        asked: &Asked<'_>,
    ) -> Result<Answer, Refusal> {
        let preferences = asked.preferences;
        let entry = accepted.outcome.entries.first().expect("one outcome per operation");
        let answer = self.tell(entry, accepted.outcome.at, preferences.echo.unwrap_or_default())?;
        Ok(Mark::of(accepted).put_on(answer).applying(preferences.of_writes()))
    }

    /// The identity of a request with this body.
    pub(crate) fn identity(&self, asked: &Asked<'_>, body: &[u8]) -> Result<Identity, Refusal> {
        let parts = asked.parts;
        let target = parts.uri.path_and_query().map_or("", |target| target.as_str());
        Ok(Identity::of(parts.method.as_str(), target, &parts.headers, body, &self.draw)?)
    }

    /// Has a command decided, unless the disk is nearly full.
    pub(crate) async fn submit(
        &self,
        identity: Identity,
        action: Action,
    ) -> Result<Accepted, Refusal> {
        let Api { store, region, clock, place, limits, .. } = &self.api;
        self.room.check(store, &**clock, limits.disk_reserve_bytes)?;
        let Identity { request, digest } = identity;
        let command = Command { request, digest, client: None, place: place.clone(), action };
        Ok(region.submit(command).await?)
    }

    /// What is answered about one operation that was carried out.
    pub(crate) fn tell(
        &self,
        entry: &EntryOutcome,
        decided_at: Timestamp,
        echo: Echo,
    ) -> Result<Answer, Refusal> {
        let EntryOutcome { effect, key, version } = entry;
        let (Some(key), Some(version)) = (key, version) else {
            return Ok(Answer::written(*effect, None, told_without(echo)));
        };
        let made = matches!(effect, Effect::Created | Effect::Updated | Effect::Deleted);
        let echoed = echo == Echo::Representation || *effect == Effect::Read;
        // A version that this node does not hold yet is told without its content.
        let stored = if echoed || !made { self.api.store.vread(key, version)? } else { None };
        let at = if made { Some(decided_at) } else { stored.as_ref().map(|stored| stored.at) };
        let told = match stored.and_then(|stored| stored.content).filter(|_| echoed) {
            Some(content) => Told::Resource(content),
            None => told_without(echo),
        };
        let stamp = Stamp { version: version.clone(), at };
        let answer = Answer::written(*effect, Some((key.clone(), stamp)), told);
        if *effect == Effect::Read {
            let heads = self.api.store.heads(key)?;
            if heads.in_conflict() && is_current(&heads, version) {
                return Ok(answer.in_conflict(&heads));
            }
        }
        Ok(answer)
    }
}

impl Writing {
    fn kind(&self) -> ResourceType {
        match self {
            Self::Create(kind) => *kind,
            Self::CreateUnless(criteria)
            | Self::UpdateWhere(criteria)
            | Self::DeleteWhere(criteria) => criteria.kind(),
            Self::Update(key) | Self::Delete(key) => key.kind,
        }
    }

    fn id(&self) -> Option<&ResourceId> {
        match self {
            Self::Update(key) => Some(&key.id),
            _ => None,
        }
    }
}

fn told_without(echo: Echo) -> Told {
    if echo == Echo::OperationOutcome { Told::Words } else { Told::Done }
}

/// What a write survives, and whether this node shows it already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    durability: Durability,
    applied: bool,
}

impl Mark {
    /// Of one write.
    pub(crate) fn of(accepted: &Accepted) -> Self {
        Self { durability: accepted.durability, applied: accepted.applied }
    }

    /// Of several: the least.
    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            durability: least(self.durability, other.durability),
            applied: self.applied && other.applied,
        }
    }

    /// Says it in the headers of an answer.
    pub(crate) fn put_on(self, answer: Answer) -> Answer {
        let durability = match self.durability {
            Durability::Region => HeaderValue::from_static("region"),
            Durability::Site { copies } => ascii(format!("site;copies={copies}")),
            Durability::Node => HeaderValue::from_static("node"),
        };
        let answer = answer.with(DURABILITY, durability);
        if self.applied {
            answer
        } else {
            answer.with(APPLIED, HeaderValue::from_static("pending"))
        }
    }
}

/// What survives less.
fn least(one: Durability, other: Durability) -> Durability {
    let rank = |durability: &Durability| match durability {
        Durability::Node => (0, 0),
        Durability::Site { copies } => (1, *copies),
        Durability::Region => (2, 0),
    };
    if rank(&one) <= rank(&other) { one } else { other }
}

/// What a single write asks for.
fn operation(writing: Writing, headers: &HeaderMap, body: &[u8]) -> Result<Operation, Refusal> {
    match writing {
        Writing::Create(kind) => {
            let unless = unless(kind, headers)?;
            Ok(Operation::Create { draft: draft(body, kind, None)?, unless })
        }
        Writing::CreateUnless(criteria) => {
            let kind = criteria.kind();
            if unless(kind, headers)?.is_some_and(|other| other != criteria) {
                let reason = "the query of the URL gives other criteria";
                return Err(InvalidHeader { name: "If-None-Exist", reason }.into());
            }
            Ok(Operation::Create { draft: draft(body, kind, None)?, unless: Some(criteria) })
        }
        Writing::Update(key) => {
            let precondition = condition::precondition(headers)?;
            let draft = draft(body, key.kind, Some(&key))?;
            Ok(Operation::Update { key, draft, precondition })
        }
        Writing::UpdateWhere(criteria) => {
            let precondition = condition::precondition(headers)?;
            let draft = draft(body, criteria.kind(), None)?;
            Ok(Operation::UpdateWhere { criteria, draft, precondition })
        }
        Writing::Delete(key) => {
            Ok(Operation::Delete { key, precondition: condition::precondition(headers)? })
        }
        Writing::DeleteWhere(criteria) => match condition::precondition(headers)? {
            Precondition::None => Ok(Operation::DeleteWhere { criteria }),
            _ => Err(InvalidHeader {
                name: "If-Match",
                reason: "a conditional delete says by its criteria what it deletes",
            }
            .into()),
        },
    }
}

/// The criteria of a conditional create: only if nothing matches.
fn unless(kind: ResourceType, headers: &HeaderMap) -> Result<Option<Criteria>, Refusal> {
    let Some(value) = headers.get(IF_NONE_EXIST) else { return Ok(None) };
    let text = value
        .to_str()
        .map_err(|_| InvalidHeader { name: "If-None-Exist", reason: "it is not plain ASCII" })?;
    // Some clients send the type and the question mark along.
    let query = text.rsplit_once('?').map_or(text, |(_, query)| query).trim();
    Criteria::parse(kind, query).map(Some).map_err(Refusal::Criteria)
}

/// The resource in a body, which must be of that type and, for an update, have that id.
fn draft(body: &[u8], kind: ResourceType, key: Option<&ResourceKey>) -> Result<Draft, Refusal> {
    let resource = Resource::parse(body)?;
    if resource.kind() != kind {
        let found = resource.kind();
        return Err(Refusal::WrongType { found, expected: kind });
    }
    let wrong_id = |id: Option<&ResourceId>, key: &ResourceKey| Refusal::WrongId {
        key: key.clone(),
        found: id.cloned(),
    };
    match key {
        Some(key) if resource.id() != Some(&key.id) => Err(wrong_id(resource.id(), key)),
        _ => Ok(Draft { resource, links: Vec::new() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_writes_survive_what_the_weakest_of_them_survives() {
        let ascending = [
            Durability::Node,
            Durability::Site { copies: 2 },
            Durability::Site { copies: 3 },
            Durability::Region,
        ];
        for (place, weaker) in ascending.into_iter().enumerate() {
            for stronger in &ascending[place..] {
                assert_eq!(least(weaker, *stronger), weaker);
                assert_eq!(least(*stronger, weaker), weaker);
            }
        }
    }
}
