//! This module is for the tests of this crate and of those above: a state in memory to decide over,
//! and short ways to write commands down.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;

use bytes::Bytes;

use crate::ancestry::Heads;
use crate::change_set::ChangeSet;
use crate::command::{Action, Command, Draft, Operation, Place, RequestDigest, RequestId};
use crate::criteria::Criteria;
use crate::decide::{Recorded, View};
use crate::identifier::identifiers;
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

impl View for Memory {
    type Error = Infallible;

    fn heads(&self, key: &ResourceKey) -> Result<Heads, Infallible> {
        Ok(self.heads.get(key).cloned().unwrap_or_default())
    }

    fn find(&self, criteria: &Criteria, limit: usize) -> Result<Vec<ResourceId>, Infallible> {
        let of_kind = self.heads.keys().filter(|key| key.kind == criteria.kind());
        let matches = |key: &&ResourceKey| {
            self.current(key)
                .is_some_and(|content| criteria.matches(&key.id, &identifiers(content)))
        };
        Ok(of_kind.filter(matches).take(limit).map(|key| key.id.clone()).collect())
    }

    fn request(&self, id: &RequestId) -> Result<Option<Recorded>, Infallible> {
        Ok(self.requests.get(id).cloned())
    }
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
