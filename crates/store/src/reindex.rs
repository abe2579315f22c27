//! This module indexes resources again while they are read and written: because SearchParameter resources
//! have added parameters, or because an operator wants it.
//!
//! ```text
//! SearchParameter applied -> reindex: other parameters, those that are new unindexed -> all resources, some
//! at a time, between what is applied -> all are indexed
//! ```
//! What is written meanwhile is indexed by all parameters at once; who searches by one that is unindexed is
//! told so. Rows say by which added parameters everything is indexed, so that a restart goes on.

use std::sync::Arc;

use chartmesh_record::ResourceType;
use chartmesh_search::{Added, Registry};
use rocksdb::{ReadOptions, WriteBatch};
use tokio::sync::watch;

use crate::error::{Corrupt, DiskError};
use crate::index::{Indexed, entries_key};
use crate::keys::{HeadRow, MetaKey};
use crate::limits::REINDEXED_AT_ONCE;
use crate::reader::Reader;
use crate::store::{HEADS, Inner, META, Store};

/// The type whose resources add parameters.
pub(crate) const SEARCH_PARAMETER: &str = "SearchParameter";

/// How far resources are indexed again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reindexed {
    /// The resources looked at.
    pub resources: u64,
    /// Those among them whose index was not as it should be.
    pub changed: u64,
    /// The resources that there are, about.
    pub of: u64,
}

/// Resources cannot be indexed again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReindexError {
    /// The disk does not hold what it should.
    #[error(transparent)]
    Corrupt(#[from] Corrupt),
    /// The disk refuses.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

impl Inner {
    /// The parameters that searches may name.
    pub(crate) fn registry(&self) -> Arc<Registry> {
        self.registry.read().expect("no holder panics").clone()
    }

    /// Whether all resources are indexed by the parameters there are.
    pub(crate) fn is_settled(&self) -> Result<bool, Corrupt> {
        Ok(self.indexed_by()? == self.registry().added().lines())
    }

    /// The added parameters that all resources are indexed by.
    fn indexed_by(&self) -> Result<String, Corrupt> {
        let row = self.tables.get(META, MetaKey::Added.key(), None)?;
        let bad = |_| self.tables.bad_row(META, MetaKey::Added.key());
        row.map_or(Ok(String::new()), |row| String::from_utf8(row.to_vec()).map_err(bad))
    }

    /// Takes on the parameters that the SearchParameter resources held now define. Called at the start,
    /// and by who holds the turn.
    pub(crate) fn learn_parameters(&self) -> Result<(), Corrupt> {
        let registry = self.registry();
        let added = self.added()?;
        if added != *registry.added() {
            let next = registry.with(added, &self.indexed_by()?);
            *self.registry.write().expect("no holder panics") = Arc::new(next);
        }
        Ok(())
    }

    /// Notes, with what else is in the batch, that all resources are indexed by all parameters. Called
    /// at the start, and by who holds the turn.
    pub(crate) fn settle(&self, mut batch: WriteBatch) -> Result<(), DiskError> {
        let registry = self.registry();
        let added = registry.added();
        batch.put(MetaKey::Added.key(), added.lines());
        self.tables.write(batch, false)?;
        let settled = registry.with(added.clone(), &added.lines());
        *self.registry.write().expect("no holder panics") = Arc::new(settled);
        Ok(())
    }

    /// What the SearchParameter resources define.
    fn added(&self) -> Result<Added, Corrupt> {
        let reader = Reader::live(self);
        let kind: ResourceType = SEARCH_PARAMETER.parse().expect("it is a type of R4");
        let mut added = Added::default();
        let prefix = [kind.code()];
        for row in self.tables.scan(HEADS, &prefix, &prefix, ReadOptions::default()) {
            let (key, _) = row?;
            let resource =
                HeadRow::resource(&key).ok_or_else(|| self.tables.bad_row(HEADS, &key))?;
            let current = reader.current(&resource)?;
            let Some(content) = current.and_then(|current| current.stored.content) else {
                continue;
            };
            if let Err(reason) = added.take(&content) {
                tracing::info!(%resource, reason, "a search parameter is not used");
            }
        }
        Ok(added)
    }
}

impl Store {
    /// Tells when resources are to be indexed again, by [`Self::reindex`]. What it carries goes up.
    #[must_use]
    pub fn unindexed(&self) -> watch::Receiver<u64> {
        self.inner.unindexed.subscribe()
    }

    /// Whether resources are to be indexed again.
    ///
    /// # Errors
    /// When the disk does not hold what it should.
    pub fn is_indexed(&self) -> Result<bool, Corrupt> {
        self.inner.is_settled()
    }

    /// Indexes all resources again, some at a time, while others read and apply. `progress` is told now
    /// and then how far it is. Begins anew where the parameters change meanwhile.
    ///
    /// # Errors
    /// When the disk does not hold what it should, or refuses; it can be begun again.
    pub fn reindex(&self, mut progress: impl FnMut(Reindexed)) -> Result<Reindexed, ReindexError> {
        let inner = &*self.inner;
        let mut unindexed = inner.unindexed.subscribe();
        unindexed.mark_changed();
        let of = self.counts().total().resources;
        let mut done = Reindexed::default();
        let mut next = Some(Vec::new());
        while let Some(from) = next {
            let _turn = inner.turn.lock().expect("no holder panics");
            if unindexed.has_changed().unwrap_or_default() {
                unindexed.mark_unchanged();
                inner.learn_parameters()?;
                (done, next) = (Reindexed { of, ..Reindexed::default() }, Some(Vec::new()));
                continue;
            }
            next = reindex_some(inner, &from, &mut done)?;
            if next.is_none() {
                inner.settle(WriteBatch::default())?;
            }
            progress(done);
        }
        Ok(done)
    }
}

/// Indexes some resources again, from the one with this key. Returns the key of the next.
fn reindex_some(
    inner: &Inner,
    from: &[u8],
    done: &mut Reindexed,
) -> Result<Option<Vec<u8>>, ReindexError> {
    let (reader, registry) = (Reader::live(inner), inner.registry());
    let mut batch = WriteBatch::default();
    let mut next = None;
    let rows = inner.tables.scan(HEADS, from, b"", ReadOptions::default());
    for (number, row) in rows.enumerate() {
        let (key, value) = row?;
        if number == REINDEXED_AT_ONCE {
            next = Some(key.into_vec());
            break;
        }
        let resource = HeadRow::resource(&key).ok_or_else(|| inner.tables.bad_row(HEADS, &key))?;
        let heads = reader.decode_head_row(&key, &value)?;
        let expected: Indexed = reader.index_of(&registry, &resource, &heads)?.unwrap_or_default();
        let held = reader.indexed(&resource)?;
        done.resources += u64::from(expected.row.is_some());
        done.changed += u64::from(expected != held);
        expected.replace(&held, &entries_key(&resource), &inner.tables, &mut batch);
    }
    inner.tables.write(batch, false)?;
    Ok(next)
}
