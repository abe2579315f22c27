//! This module is for the tests of this crate and of those above: a state in memory to decide over,
//! and short ways to write commands down.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::convert::Infallible;

use bytes::Bytes;

use crate::ancestry::Heads;
use crate::change_set::ChangeSet;
use crate::command::{Action, Command, Draft, Operation, Place, RequestDigest, RequestId};
use crate::criteria::Criteria;
use crate::decide::{FindError, Recorded, View};
use crate::kind::{ResourceId, ResourceKey};
use crate::resource::Resource;
use crate::version::{Origin, VersionId};

/// What one node holds, in memory: change sets of any origin, in any order.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    heads: BTreeMap<ResourceKey, Heads>,
    contents: BTreeMap<(ResourceKey, VersionId), Option<Bytes>>,
    requests: HashMap<RequestId, Recorded>,
}

impl Memory {
    /// Takes in a change set, any number of times.
    ///
    /// # Panics
    /// When one name has two contents.
    pub fn apply(&mut self, change_set: &ChangeSet) {
        for version in &change_set.versions {
            let head = version.head(&change_set.origin, change_set.request);
            let place = (version.key.clone(), head.version.clone());
            let before = self.contents.insert(place, version.content.clone());
            assert!(
                before.is_none_or(|before| before == version.content),
                "{} of {} has two contents",
                head.version,
                version.key
            );
            self.heads.entry(version.key.clone()).or_default().insert(head);
        }
        let recorded = Recorded { digest: change_set.digest, outcome: change_set.outcome() };
        self.requests.entry(change_set.request).or_insert(recorded);
    }

    /// Forgets all requests, as happens with time.
    pub fn forget_requests(&mut self) {
        self.requests.clear();
    }

    /// All resources of which a version is held, with their heads.
    pub fn resources(&self) -> impl Iterator<Item = (&ResourceKey, &Heads)> {
        self.heads.iter()
    }

    /// How many versions are held.
    #[must_use]
    pub fn version_count(&self) -> usize {
        self.contents.len()
    }

    /// What a plain read of the resource returns.
    #[must_use]
    pub fn current(&self, key: &ResourceKey) -> Option<&Bytes> {
        let head = self.heads.get(key)?.current()?;
        self.contents.get(&(key.clone(), head.version.clone()))?.as_ref()
    }
}

/// What is decided and not applied, in memory.
#[derive(Clone, Debug, Default)]
pub struct Shelf {
    contents: BTreeMap<ResourceKey, Option<Bytes>>,
    /// What has, or once had, an identifier of this value: thousands stand on one shelf.
    by_value: HashMap<String, BTreeSet<ResourceKey>>,
}

impl Shelf {
    /// What may match criteria.
    fn candidates(&self, criteria: &Criteria) -> BTreeSet<&ResourceKey> {
        let identifier = criteria.parameters().find(|(name, _)| *name == "identifier");
        let values = identifier.map(|(_, value)| value.split(','));
        let Some(values) = values.filter(|it| it.clone().all(|value| !value.ends_with('|'))) else {
            return self.contents.keys().collect();
        };
        let plain = |token: &str| token.rsplit('|').next().unwrap_or_default().to_owned();
        values.filter_map(|token| self.by_value.get(&plain(token))).flatten().collect()
    }
}

impl View for Memory {
    type Error = Infallible;
    type Shelf = Shelf;

    fn heads(&self, key: &ResourceKey) -> Result<Heads, Infallible> {
        Ok(self.heads.get(key).cloned().unwrap_or_default())
    }

    fn shelve(&self, shelf: &mut Self::Shelf, key: &ResourceKey, content: Option<&[u8]>) {
        for (_, value) in content.map(identifiers).into_iter().flatten() {
            shelf.by_value.entry(value).or_default().insert(key.clone());
        }
        shelf.contents.insert(key.clone(), content.map(Bytes::copy_from_slice));
    }

    fn unshelve(&self, shelf: &mut Self::Shelf, key: &ResourceKey) {
        shelf.contents.remove(key);
    }

    fn find(
        &self,
        criteria: &Criteria,
        shelves: &[&Self::Shelf],
        limit: usize,
    ) -> Result<Vec<ResourceId>, FindError<Infallible>> {
        let shelved = shelves.iter().flat_map(|shelf| shelf.candidates(criteria));
        let keys: BTreeSet<_> = self.heads.keys().chain(shelved).collect();
        let of_kind = keys.into_iter().filter(|key| key.kind == criteria.kind());
        let mut found = Vec::new();
        for key in of_kind {
            let shelved = shelves.iter().rev().find_map(|shelf| shelf.contents.get(key));
            let content = shelved.map_or_else(|| self.current(key), Option::as_ref);
            if let Some(content) = content
                && is_meant(criteria, &key.id, content).map_err(FindError::Unusable)?
            {
                found.push(key.id.clone());
            }
        }
        found.truncate(limit);
        Ok(found)
    }

    fn request(&self, id: &RequestId) -> Result<Option<Recorded>, Infallible> {
        Ok(self.requests.get(id).cloned())
    }
}

/// Whether a resource matches criteria of `_id` and `identifier`.
///
/// # Errors
/// When there is another parameter: its name.
pub fn is_meant(criteria: &Criteria, id: &ResourceId, content: &[u8]) -> Result<bool, String> {
    let identifiers = identifiers(content);
    let has = |token: &str| {
        let (system, value) = token.split_once('|').map_or((None, token), |(s, v)| (Some(s), v));
        identifiers.iter().any(|(of, is)| {
            let fits = system.is_none_or(|system| of.as_deref().unwrap_or_default() == system);
            fits && (value.is_empty() || value == is)
        })
    };
    let mut all = true;
    for (name, value) in criteria.parameters() {
        all &= match name {
            "_id" => value.split(',').any(|one| one == id.as_str()),
            "identifier" => value.split(',').any(has),
            other => return Err(other.to_owned()),
        };
    }
    Ok(all)
}

/// The identifiers of a resource in JSON: system, where there is one, and value.
#[must_use]
pub fn identifiers(content: &[u8]) -> Vec<(Option<String>, String)> {
    let resource: serde_json::Value = serde_json::from_slice(content).unwrap_or_default();
    let all = resource["identifier"].as_array().into_iter().flatten();
    let text = |it: &serde_json::Value| it.as_str().map(str::to_owned);
    all.filter_map(|it| Some((text(&it["system"]), text(&it["value"])?))).collect()
}

/// The origin of this name, always with the same tag.
///
/// # Panics
/// When it is not a name.
#[must_use]
pub fn origin(name: &str) -> Origin {
    Origin::new(&name.parse().expect("a name"), 0x5eed)
}

/// The resource named so: `Patient/1`.
///
/// # Panics
/// When it is no such name.
#[must_use]
pub fn key(text: &str) -> ResourceKey {
    let (kind, id) = text.split_once('/').expect("type and id");
    ResourceKey { kind: kind.parse().expect("a type"), id: id.parse().expect("an id") }
}

/// The criteria written so: `Patient?identifier=1`.
///
/// # Panics
/// When they are none.
#[must_use]
pub fn criteria(text: &str) -> Criteria {
    let (kind, query) = text.split_once('?').expect("type and query");
    Criteria::parse(kind.parse().expect("a type"), query).expect("criteria")
}

/// A resource without an id, with these minified members, to be written without links. Its members
/// are not checked.
///
/// # Panics
/// When the type is none.
#[must_use]
pub fn draft(kind: &str, members: &str) -> Draft {
    let content = Bytes::copy_from_slice(members.as_bytes());
    let resource = Resource::from_parts(kind.parse().expect("a type"), None, content, 0);
    Draft { resource, links: Vec::new() }
}

/// The command of this number: the same number stands for the same request.
///
/// # Panics
/// Never: the names are valid.
#[must_use]
pub fn command(number: u64, action: Action) -> Command {
    let mut request = [0; 16];
    request[..8].copy_from_slice(&number.to_be_bytes());
    let mut digest = [0; 32];
    digest[..8].copy_from_slice(&number.to_be_bytes());
    Command {
        request: RequestId(request),
        digest: RequestDigest(digest),
        client: None,
        place: Place {
            node: "pac-1".parse().expect("a name"),
            site: "yokota".parse().expect("a name"),
        },
        action,
    }
}

/// A command of one operation.
#[must_use]
pub fn one(number: u64, operation: Operation) -> Command {
    command(number, Action::One(operation))
}

/// A transaction.
#[must_use]
pub fn transaction(number: u64, entries: Vec<Operation>) -> Command {
    command(number, Action::Transaction(entries))
}
