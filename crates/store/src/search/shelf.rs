//! This module holds resources that are decided and not applied, where searches find them: what the
//! tables of entries and postings will hold of them.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use bytes::Bytes;
use chartmesh_record::ResourceKey;
use chartmesh_search::{Entries, Registry, postings};

use crate::index::entries_key;

/// Resources that are decided and not applied.
#[derive(Debug, Default)]
pub struct Shelf {
    /// By the keys of their rows; `None` if they are deleted.
    resources: BTreeMap<Vec<u8>, Option<Shelved>>,
    postings: BTreeSet<Vec<u8>>,
}

/// A resource on a shelf.
#[derive(Debug)]
pub(super) struct Shelved {
    pub(super) entries: Vec<u8>,
    pub(super) content: Bytes,
}

impl Shelf {
    /// Puts a resource in place of what is there of it; `None`: it is deleted.
    pub(crate) fn put(&mut self, registry: &Registry, key: &ResourceKey, content: Option<&[u8]>) {
        self.remove(key);
        let shelved = content.map(|content| Shelved {
            entries: Entries::make(registry, key.kind, content).unwrap_or_default(),
            content: Bytes::copy_from_slice(content),
        });
        if let Some(Shelved { entries, .. }) = &shelved {
            self.postings.extend(postings(key.kind, Entries::read(entries), &key.id));
        }
        self.resources.insert(entries_key(key), shelved);
    }

    /// Takes a resource off.
    pub(crate) fn remove(&mut self, key: &ResourceKey) {
        if let Some(Some(Shelved { entries, .. })) = self.resources.remove(&entries_key(key)) {
            for posting in postings(key.kind, Entries::read(&entries), &key.id) {
                self.postings.remove(&posting);
            }
        }
    }

    /// What is there of a resource, by the key of its row: outside `None` if nothing is known of it.
    pub(super) fn get(&self, key: &[u8]) -> Option<Option<&Shelved>> {
        self.resources.get(key).map(Option::as_ref)
    }

    /// The keys of rows that begin so.
    pub(super) fn keys(&self, prefix: &[u8]) -> impl Iterator<Item = &[u8]> {
        let keys = self.resources.range(prefix.to_vec()..).map(|(key, _)| &key[..]);
        keys.take_while(move |key| key.starts_with(prefix))
    }

    /// The postings in a range.
    pub(super) fn postings(&self, range: &Range<Vec<u8>>) -> impl Iterator<Item = &[u8]> {
        self.postings.range(range.clone()).map(Vec::as_slice)
    }
}
