//! This module reads versions.

use std::cmp::Reverse;

use bytes::Bytes;
use chartmesh_record::{
    Generation, Heads, Origin, Recorded, RequestId, ResourceKey, Seq, Timestamp, VersionId,
};

use crate::error::Corrupt;
use crate::keys::{CurrentHead, FeedPlace, HeadRow, PiecePlace, VersionKey, VersionRow};
use crate::origins::is_forgotten;
use crate::reader::Reader;
use crate::store::{HEADS, Store, VERSIONS};

/// A version as it is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredVersion {
    /// Its name.
    pub version: VersionId,
    /// When it was decided.
    pub at: Timestamp,
    /// The resource as it is read; `None` for a deletion.
    pub content: Option<Bytes>,
}

/// The version that plain reads return.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Current {
    /// The version.
    pub stored: StoredVersion,
    /// Whether it stands beside others (see [`Heads::in_conflict`]).
    pub in_conflict: bool,
}

impl Store {
    /// The current version; `None` if the resource was never written.
    ///
    /// # Errors
    /// When the disk does not hold what it should.
    pub fn read(&self, key: &ResourceKey) -> Result<Option<Current>, Corrupt> {
        Reader::live(&self.inner).current(key)
    }

    /// The version of this name.
    ///
    /// # Errors
    /// When the disk does not hold what it should.
    pub fn vread(
        &self,
        key: &ResourceKey,
        version: &VersionId,
    ) -> Result<Option<StoredVersion>, Corrupt> {
        Reader::live(&self.inner).version(key, version)
    }

    /// The heads of a resource, the current one first.
    ///
    /// # Errors
    /// When the disk does not hold what it should.
    pub fn heads(&self, key: &ResourceKey) -> Result<Heads, Corrupt> {
        Ok(Reader::live(&self.inner).head_row(key)?.heads())
    }

    /// The versions of a resource, newest first (by generation, then origin), `limit` at the most,
    /// from the one that follows `after`, or from the newest.
    ///
    /// # Errors
    /// When the disk does not hold what it should.
    pub fn history(
        &self,
        key: &ResourceKey,
        after: Option<&VersionId>,
        limit: usize,
    ) -> Result<Vec<StoredVersion>, Corrupt> {
        Reader::live(&self.inner).history(key, after, limit)
    }

    /// When a change set was decided; `None` if it is not held.
    ///
    /// # Errors
    /// When the disk does not hold what it should.
    pub fn decided_at(&self, origin: &Origin, seq: Seq) -> Result<Option<Timestamp>, Corrupt> {
        let held = self.cursor(origin).seq;
        let code = self.inner.origins.read().expect("no holder panics").code(origin);
        let Some(origin) = code.filter(|_| seq.0 > 0 && seq <= held) else { return Ok(None) };
        let request = Reader::live(&self.inner).request_of(FeedPlace { origin, seq })?;
        Ok(request.map(|(_, at)| at))
    }

    /// What became of a request, while it is remembered.
    ///
    /// # Errors
    /// When the disk does not hold what it should.
    pub fn recorded(&self, id: &RequestId) -> Result<Option<Recorded>, Corrupt> {
        Reader::live(&self.inner).recorded(id)
    }
}

impl Reader<'_> {
    pub(crate) fn current(&self, resource: &ResourceKey) -> Result<Option<Current>, Corrupt> {
        let key = HeadRow::key(resource);
        let Some(row) = self.get(HEADS, &key)? else { return Ok(None) };
        let (head, origin) = CurrentHead::decode(&row)
            .and_then(|head| Some((head, self.origin(head.place.change.origin)?)))
            .ok_or_else(|| self.inner.tables.bad_row(HEADS, &key))?;
        let in_conflict = !head.alone && self.decode_head_row(&key, &row)?.heads().in_conflict();
        let version = VersionId { generation: head.generation, origin };
        let stored = self.stored(version, head.at, head.place)?;
        if stored.content.is_none() != head.deleted {
            return Err(self.bad_change(head.place.change, "it does not say what its head says"));
        }
        Ok(Some(Current { stored, in_conflict }))
    }

    fn version(
        &self,
        resource: &ResourceKey,
        version: &VersionId,
    ) -> Result<Option<StoredVersion>, Corrupt> {
        let code = self.inner.origins.read().expect("no holder panics").code(&version.origin);
        let Some(origin) = code else { return Ok(None) };
        let resource = resource.clone();
        let key = VersionKey { resource, generation: version.generation, origin };
        let Some(row) = self.version_row(&key)? else { return Ok(None) };
        self.stored(version.clone(), row.at, row.place(origin)).map(Some)
    }

    fn history(
        &self,
        resource: &ResourceKey,
        after: Option<&VersionId>,
        limit: usize,
    ) -> Result<Vec<StoredVersion>, Corrupt> {
        let newest = after.map_or(Generation(u64::MAX), |after| after.generation);
        let mut found: Vec<(VersionId, VersionRow, PiecePlace)> = Vec::new();
        for row in self.version_rows(resource, newest) {
            let (key, row) = row?;
            let name = VersionId { generation: key.generation, origin: self.known(&key)? };
            let complete = found.last().is_some_and(|(last, ..)| last.generation > key.generation);
            if complete && found.len() >= limit {
                break;
            }
            if after.is_none_or(|after| name < *after) {
                found.push((name, row, row.place(key.origin)));
            }
        }
        // Rows of one generation stand in the order of their codes, which mean nothing elsewhere.
        found.sort_by_key(|(name, ..)| Reverse(name.clone()));
        found.truncate(limit);
        found.into_iter().map(|(name, row, place)| self.stored(name, row.at, place)).collect()
    }

    /// The rows of a resource's versions, from this generation down.
    pub(crate) fn version_rows(
        &self,
        resource: &ResourceKey,
        newest: Generation,
    ) -> impl Iterator<Item = Result<(VersionKey, VersionRow), Corrupt>> {
        let from = VersionKey::from(resource, newest);
        self.scan(VERSIONS, &from, &VersionKey::prefix(resource)).map(|row| {
            let (key, value) = row?;
            VersionKey::decode(&key)
                .zip(VersionRow::decode(&value))
                .ok_or_else(|| self.inner.tables.bad_row(VERSIONS, &key))
        })
    }

    /// The origin of a version's row.
    pub(crate) fn known(&self, key: &VersionKey) -> Result<chartmesh_record::Origin, Corrupt> {
        self.origin(key.origin).ok_or_else(|| self.inner.tables.bad_row(VERSIONS, &key.encode()))
    }

    pub(crate) fn recorded(&self, id: &RequestId) -> Result<Option<Recorded>, Corrupt> {
        let mut changes = Vec::new();
        for place in self.request_row(id)?.0 {
            let change = self.change(place)?.into_change_set();
            let origins = self.inner.origins.read().expect("no holder panics");
            if !is_forgotten(change.at, origins.newest(&change.origin.name())) {
                changes.push(change);
            }
        }
        // A request decided in several origins has several outcomes: everybody takes the same one.
        let first = changes.into_iter().min_by_key(|change| (change.at, change.origin.clone()));
        Ok(first.map(|change| Recorded { digest: change.digest, outcome: change.outcome() }))
    }

    fn stored(
        &self,
        version: VersionId,
        at: Timestamp,
        place: PiecePlace,
    ) -> Result<StoredVersion, Corrupt> {
        Ok(StoredVersion { version, at, content: self.content(place)? })
    }
}
