//! This module lays what has been decided, and is not applied yet, over what is held.
//!
//! An overlay over a view is itself a view, so a transaction is ruled in an overlay over its batch's:
//! thrown away when it is refused, absorbed when it is accepted. Searches see all of it, but for two
//! things: where a deletion uncovers another live head, they find what was current before; and within a
//! transaction, references whose targets are not known yet lead nowhere.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;

use bytes::Bytes;

use super::{FindError, Recorded, View};
use crate::ancestry::{Head, Heads};
use crate::change_set::ChangeSet;
use crate::command::RequestId;
use crate::criteria::Criteria;
use crate::kind::{ResourceId, ResourceKey, ResourceType};
use crate::resource::{BodyHash, Resource};
use crate::timestamp::Timestamp;

/// A view with what was written on top of it.
pub(super) struct Overlay<'v, V: View> {
    beneath: &'v V,
    written: Layer,
    shelf: RefCell<Shelved<V::Shelf>>,
}

/// What was written.
#[derive(Debug, Default)]
pub(super) struct Layer(HashMap<ResourceKey, Written>);

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

/// Where searches find what was written. It is put there when somebody first searches its type.
#[derive(Default)]
struct Shelved<S> {
    shelf: S,
    waiting: HashMap<ResourceType, Vec<ResourceId>>,
}

impl<'v, V: View> Overlay<'v, V> {
    /// Nothing written yet.
    pub(super) fn new(beneath: &'v V) -> Self {
        Self { beneath, written: Layer::default(), shelf: RefCell::default() }
    }

    /// What it lies over.
    pub(super) fn beneath(&self) -> &'v V {
        self.beneath
    }

    /// Takes in a version.
    pub(super) fn write(&mut self, key: ResourceKey, written: Written) {
        self.shelf.get_mut().waiting.entry(key.kind).or_default().push(key.id.clone());
        self.written.0.insert(key, written);
    }

    /// What was written.
    pub(super) fn into_layer(self) -> Layer {
        self.written
    }

    /// Takes in what a change set has written, now that its content is complete.
    pub(super) fn absorb(&mut self, mut layer: Layer, change_set: &ChangeSet) {
        for version in &change_set.versions {
            let written = layer.0.remove(&version.key).expect("ruled in that layer");
            let content = version.content.clone();
            self.write(version.key.clone(), Written { content, ..written });
        }
    }

    /// Puts what was written where a search by these criteria finds it.
    fn shelve_for(&self, criteria: &Criteria) {
        let Shelved { shelf, waiting } = &mut *self.shelf.borrow_mut();
        // A plain parameter looks at the resource alone; a chain, a modifier or a list may not.
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        let alone = |name: &str| name != "_list" && name.bytes().all(plain);
        let all = !criteria.parameters().all(|(name, _)| alone(name));
        let kinds: Vec<_> = waiting.keys().copied().collect();
        for kind in kinds.into_iter().filter(|kind| all || *kind == criteria.kind()) {
            for id in waiting.remove(&kind).into_iter().flatten() {
                let key = ResourceKey { kind, id };
                let Some(written) = self.written.0.get(&key) else { continue };
                if written.uncovers() {
                    self.beneath.unshelve(shelf, &key);
                } else {
                    self.beneath.shelve(shelf, &key, written.content(&key).as_deref());
                }
            }
        }
    }
}

impl<V: View> View for Overlay<'_, V> {
    type Error = V::Error;
    type Shelf = V::Shelf;

    fn heads(&self, key: &ResourceKey) -> Result<Heads, V::Error> {
        match self.written.0.get(key) {
            Some(written) => Ok(written.heads()),
            None => self.beneath.heads(key),
        }
    }

    fn shelve(&self, shelf: &mut V::Shelf, key: &ResourceKey, content: Option<&[u8]>) {
        self.beneath.shelve(shelf, key, content);
    }

    fn unshelve(&self, shelf: &mut V::Shelf, key: &ResourceKey) {
        self.beneath.unshelve(shelf, key);
    }

    fn find(
        &self,
        criteria: &Criteria,
        shelves: &[&V::Shelf],
        limit: usize,
    ) -> Result<Vec<ResourceId>, FindError<V::Error>> {
        self.shelve_for(criteria);
        let own = &self.shelf.borrow().shelf;
        let shelves: Vec<_> = std::iter::once(own).chain(shelves.iter().copied()).collect();
        self.beneath.find(criteria, &shelves, limit)
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

    /// The resource as it is, or will be, read; `None` for a deletion.
    fn content(&self, key: &ResourceKey) -> Option<Bytes> {
        let sent = || Some(self.resource.as_ref()?.render(key, &self.head.version, Timestamp(0)));
        self.content.clone().or_else(sent)
    }

    /// Whether it is a deletion that leaves another head live.
    fn uncovers(&self) -> bool {
        self.resource.is_none() && self.heads().current().is_some_and(|head| !head.deleted)
    }
}

impl<V: View> fmt::Debug for Overlay<'_, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Overlay").field("written", &self.written).finish_non_exhaustive()
    }
}
