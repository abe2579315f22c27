//! This module lays what has been decided, and is not applied yet, over what is held.
//!
//! An overlay over a view is itself a view, so a transaction is ruled in an overlay over its batch's:
//! thrown away when it is refused, absorbed when it is accepted. One thing cannot be seen through it:
//! where a deletion uncovers another live head, criteria are judged by what was current before.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};

use bytes::Bytes;

use super::{Recorded, View};
use crate::ancestry::{Head, Heads};
use crate::change_set::ChangeSet;
use crate::command::RequestId;
use crate::criteria::{Criteria, Term, Token};
use crate::identifier::{Identifier, identifiers};
use crate::kind::{ResourceId, ResourceKey, ResourceType};
use crate::resource::{BodyHash, Resource};

/// A view with what was written on top of it.
#[derive(Debug)]
pub(super) struct Overlay<'v, V> {
    beneath: &'v V,
    written: Layer,
}

/// What was written.
#[derive(Debug, Default)]
pub(super) struct Layer {
    by_key: HashMap<ResourceKey, Written>,
    shelves: RefCell<HashMap<ResourceType, Shelf>>,
}

/// A resource with a version that is not applied yet.
#[derive(Debug)]
pub(super) struct Written {
    /// Its heads without that version.
    pub(super) before: Heads,
    /// That version, its body not hashed yet: seldom does anybody ask.
    pub(super) head: Head,
    /// Its content as sent; `None` for a deletion.
    pub(super) resource: Option<Resource>,
    /// Its content as it is read, once the links are filled in.
    pub(super) content: Option<Bytes>,
}

/// The written resources of one type by their identifiers, read when somebody first searches.
#[derive(Debug, Default)]
struct Shelf {
    unread: Vec<ResourceId>,
    /// What they have; `None` for what is deleted.
    identifiers: HashMap<ResourceId, Option<Vec<Identifier>>>,
    /// What has, or once had, an identifier of this value.
    by_value: HashMap<String, Vec<ResourceId>>,
}

impl<'v, V: View> Overlay<'v, V> {
    /// Nothing written yet.
    pub(super) fn new(beneath: &'v V) -> Self {
        Self { beneath, written: Layer::default() }
    }

    /// What it lies over.
    pub(super) fn beneath(&self) -> &'v V {
        self.beneath
    }

    /// Takes in a version.
    pub(super) fn write(&mut self, key: ResourceKey, written: Written) {
        let shelves = self.written.shelves.get_mut();
        shelves.entry(key.kind).or_default().unread.push(key.id.clone());
        self.written.by_key.insert(key, written);
    }

    /// What was written.
    pub(super) fn into_layer(self) -> Layer {
        self.written
    }

    /// Takes in what a change set has written, now that its content is complete.
    pub(super) fn absorb(&mut self, mut layer: Layer, change_set: &ChangeSet) {
        for version in &change_set.versions {
            let written = layer.by_key.remove(&version.key).expect("ruled in that layer");
            let content = version.content.clone();
            self.write(version.key.clone(), Written { content, ..written });
        }
    }
}

impl<V: View> View for Overlay<'_, V> {
    type Error = V::Error;

    fn heads(&self, key: &ResourceKey) -> Result<Heads, V::Error> {
        match self.written.by_key.get(key) {
            Some(written) => Ok(written.heads()),
            None => self.beneath.heads(key),
        }
    }

    fn find(&self, criteria: &Criteria, limit: usize) -> Result<Vec<ResourceId>, V::Error> {
        let mut shelves = self.written.shelves.borrow_mut();
        let Some(shelf) = shelves.get_mut(&criteria.kind()) else {
            return self.beneath.find(criteria, limit);
        };
        shelf.read(criteria.kind(), &self.written.by_key);
        let mut found = shelf.find(criteria);

        // Those written since may be among them, and are judged here.
        let beneath = self.beneath.find(criteria, limit + shelf.identifiers.len())?;
        found.extend(beneath.into_iter().filter(|id| {
            let key = ResourceKey { kind: criteria.kind(), id: id.clone() };
            self.written.by_key.get(&key).is_none_or(Written::uncovers)
        }));
        Ok(found.into_iter().take(limit).collect())
    }

    fn request(&self, id: &RequestId) -> Result<Option<Recorded>, V::Error> {
        self.beneath.request(id)
    }
}

impl Written {
    fn heads(&self) -> Heads {
        let mut heads = self.before.clone();
        let body = BodyHash::of(self.content.as_deref().unwrap_or_default());
        heads.insert(Head { body, ..self.head.clone() });
        heads
    }

    /// Whether it is a deletion that leaves another head live.
    fn uncovers(&self) -> bool {
        self.resource.is_none() && self.heads().current().is_some_and(|head| !head.deleted)
    }
}

impl Shelf {
    fn read(&mut self, kind: ResourceType, written: &HashMap<ResourceKey, Written>) {
        for id in self.unread.drain(..) {
            let key = ResourceKey { kind, id };
            let resource = written.get(&key).and_then(|written| written.resource.as_ref());
            let found = resource.map(identifiers_of);
            for (_, value) in found.iter().flatten() {
                self.by_value.entry(value.clone()).or_default().push(key.id.clone());
            }
            self.identifiers.insert(key.id, found);
        }
    }

    fn find(&self, criteria: &Criteria) -> BTreeSet<ResourceId> {
        let matches = |id: &&ResourceId| {
            let identifiers = self.identifiers.get(*id).and_then(Option::as_ref);
            identifiers.is_some_and(|identifiers| criteria.matches(id, identifiers))
        };
        let with_value = |token: &Token| self.by_value.get(token.value.as_ref()?);
        match criteria.terms().first() {
            Some(Term::Id(ids)) => ids.iter().filter(matches).cloned().collect(),
            Some(Term::Identifier(tokens)) if tokens.iter().all(|token| token.value.is_some()) => {
                let candidates = tokens.iter().filter_map(with_value).flatten();
                candidates.filter(matches).cloned().collect()
            }
            _ => self.identifiers.keys().filter(matches).cloned().collect(),
        }
    }
}

fn identifiers_of(resource: &Resource) -> Vec<Identifier> {
    let body = &resource.content()[resource.meta_len()..];
    identifiers(&[b"{", body, b"}"].concat())
}
