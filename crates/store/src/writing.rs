//! This module gathers what one apply changes, and writes it at once.
//!
//! ```text
//! take  change set -> its feed rows, version rows, request; its versions into the heads, in memory
//! forget            -> request rows that are past their time
//! write             -> heads, entries and postings, digest, counts, cursors, applied: all in one batch
//! ```
//! A resource that several change sets touch is looked up once and written once.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use chartmesh_record::{
    ChainHash, Cursor, Origin, RequestId, ResourceKey, ResourceType, Timestamp, Version, mutant,
};
use chartmesh_search::Registry;
use chartmesh_wire::Canonical;
use rocksdb::WriteBatch;

use crate::digest::StateDigest;
use crate::duplicates::Made;
use crate::error::{ApplyError, Corrupt, DiskError};
use crate::index::{Indexed, IndexedHead, entries_key};
use crate::keys::{
    ArrivalPlace, ArrivalRow, ArrivalsRow, ConflictRow, CountRow, CriteriaHash, FeedKey, FeedPlace,
    HeadRow, HeaderRow, HeldHead, LostRow, MadeRow, MetaKey, OriginCode, OriginRow, PiecePlace,
    RequestRow, VersionKey, VersionRow,
};
use crate::limits::{FORGOTTEN_PER_APPLY, FORGOTTEN_PER_CHANGE};
use crate::origins::is_forgotten;
use crate::reader::Reader;
use crate::reindex::SEARCH_PARAMETER;
use crate::store::{ARRIVALS, FEED, HEADS, Inner, REQUESTS, Totals, VERSIONS};

/// What one apply changes.
pub(crate) struct Writing<'s> {
    reader: Reader<'s>,
    registry: Arc<Registry>,
    batch: WriteBatch,
    /// How many origins were known before.
    known: usize,
    origins: BTreeMap<OriginCode, OriginRow>,
    resources: BTreeMap<ResourceKey, Touched>,
    /// The types of these resources.
    kinds: BTreeSet<ResourceType>,
    requests: BTreeMap<RequestId, RequestRow>,
    made: Made,
    /// The versions, in the order in which they were taken.
    arrived: Vec<(ResourceType, ArrivalRow)>,
    /// What is in the batch and may be read again.
    hashes: HashMap<FeedPlace, ChainHash>,
    contents: HashMap<PiecePlace, Option<Bytes>>,
    totals: Totals,
}

/// The heads of a resource before and after.
struct Touched {
    before: HeadRow,
    after: HeadRow,
}

impl<'s> Writing<'s> {
    /// Begins to gather change sets of about so many bytes.
    pub(crate) fn begin(inner: &'s Inner, bytes: usize) -> Self {
        let origins = inner.origins.read().expect("no holder panics");
        Self {
            reader: Reader::live(inner),
            registry: inner.registry(),
            batch: WriteBatch::with_capacity_bytes(bytes + bytes / 8),
            known: origins.count(),
            origins: BTreeMap::new(),
            resources: BTreeMap::new(),
            kinds: BTreeSet::new(),
            requests: BTreeMap::new(),
            made: Made::default(),
            arrived: Vec::new(),
            hashes: HashMap::new(),
            contents: HashMap::new(),
            totals: inner.totals.read().expect("no holder panics").clone(),
        }
    }

    /// Forgets what was gathered: nothing was written.
    pub(crate) fn give_up(self) {
        self.reader.inner.origins.write().expect("no holder panics").truncate(self.known);
    }

    /// How far a feed is held, with what was taken.
    pub(crate) fn cursor(&self, origin: &Origin) -> Cursor {
        let row = self.known_code(origin).map(|code| self.origin_row(code));
        row.map_or_else(|| Cursor::start(origin.clone()), |row| row.cursor)
    }

    pub(crate) fn known_code(&self, origin: &Origin) -> Option<OriginCode> {
        self.reader.inner.origins.read().expect("no holder panics").code(origin)
    }

    /// The chain up to and with a change set that is held or was taken.
    pub(crate) fn hash(&self, place: FeedPlace) -> Result<Option<ChainHash>, Corrupt> {
        match self.hashes.get(&place) {
            Some(&hash) => Ok(Some(hash)),
            None => self.reader.hash(place),
        }
    }

    /// Takes a change set that is the next of its feed.
    pub(crate) fn take(&mut self, change: &Canonical, hash: ChainHash) -> Result<(), Corrupt> {
        let set = change.change_set();
        let place = FeedPlace { origin: self.code(&set.origin), seq: set.seq };
        let header = HeaderRow { hash, header: &change.header() };
        self.put(FEED, FeedKey::Header(place).encode(), header.encode());
        self.hashes.insert(place, hash);
        for (index, (version, piece)) in (0..).zip(set.versions.iter().zip(change.pieces())) {
            let place = PiecePlace { change: place, index };
            let count = self.totals.counts.types.entry(version.key.kind).or_default();
            self.kinds.insert(version.key.kind);
            count.versions += 1;
            count.bytes += piece.len() as u64;
            self.put(FEED, FeedKey::Piece(place).encode(), piece);
            self.take_version(change, version, place)?;
        }
        self.requests_of(&set.request)?.insert(place);
        let mut row = self.origin_row(place.origin);
        row.cursor = Cursor { origin: set.origin.clone(), seq: set.seq, hash };
        row.newest = row.newest.max(set.at);
        self.origins.insert(place.origin, row);
        Ok(())
    }

    /// Passes over the next change set of a feed: its place has a hash and nothing else.
    pub(crate) fn lose(&mut self, at: &Cursor) {
        let place = FeedPlace { origin: self.code(&at.origin), seq: at.seq };
        let header = HeaderRow { hash: at.hash, header: b"" };
        self.put(FEED, FeedKey::Header(place).encode(), header.encode());
        self.hashes.insert(place, at.hash);
        let lost = LostRow(at.clone());
        self.batch.put(lost.key(), lost.encode());
        let row = OriginRow { cursor: at.clone(), ..self.origin_row(place.origin) };
        self.origins.insert(place.origin, row);
    }

    fn take_version(
        &mut self,
        change: &Canonical,
        version: &Version,
        place: PiecePlace,
    ) -> Result<(), Corrupt> {
        let set = change.change_set();
        let (seq, index, at) = (set.seq, place.index, set.at);
        let (resource, generation) = (version.key.clone(), version.generation);
        let key = VersionKey { resource, generation, origin: place.change.origin };
        let row = VersionRow { seq, index, at };
        self.put(VERSIONS, key.encode(), row.encode());
        let arrived = ArrivalRow { origin: key.origin, version: row };
        self.arrived.push((version.key.kind, arrived));
        self.contents.insert(place, version.content.clone());
        if let Some(text) = &version.criteria {
            let (resource, origin) = (version.key.clone(), place.change.origin);
            let criteria = CriteriaHash::of(version.key.kind, text);
            self.made.note(MadeRow { criteria, resource, origin }, text.clone());
        }
        for origin in version.ancestry.seen.keys() {
            self.code(origin);
        }
        for kept in &version.ancestry.kept {
            self.code(&kept.origin);
        }
        let head = version.head(&set.origin, set.request);
        let touched = match self.resources.entry(key.resource) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                let before = self.reader.head_row(entry.key())?;
                entry.insert(Touched { after: before.clone(), before })
            }
        };
        touched.after.insert(HeldHead { head, seq, index, at });
        Ok(())
    }

    /// Forgets requests of the regions and nodes from which something new was taken, the oldest
    /// first, a bounded number. The rest is for later: what is past its time is not shown anyway.
    pub(crate) fn forget_requests(&mut self) -> Result<(), Corrupt> {
        let mut allowed = FORGOTTEN_PER_APPLY + FORGOTTEN_PER_CHANGE * self.hashes.len();
        let names: BTreeSet<_> =
            self.origins.values().map(|row| row.cursor.origin.name()).collect();
        for name in names {
            let (codes, held) = {
                let origins = self.reader.inner.origins.read().expect("no holder panics");
                (origins.named(&name).to_vec(), origins.newest(&name))
            };
            let newest =
                codes.iter().map(|&code| self.origin_row(code).newest).max().unwrap_or(held);
            for code in codes {
                let mut row = self.origin_row(code);
                while allowed > 0 && row.forgotten < row.cursor.seq {
                    let place = FeedPlace { origin: code, seq: row.forgotten.next() };
                    if self.hashes.contains_key(&place) {
                        break;
                    }
                    if let Some((request, at)) = self.reader.request_of(place)? {
                        if !is_forgotten(at, newest) {
                            break;
                        }
                        self.requests_of(&request)?.remove(place);
                    }
                    row.forgotten = place.seq;
                    self.origins.insert(code, row.clone());
                    allowed -= 1;
                }
            }
        }
        Ok(())
    }

    /// Writes everything, and shows it.
    pub(crate) fn write(
        &mut self,
        applied: Option<Bytes>,
        arrived: Timestamp,
    ) -> Result<(), ApplyError> {
        if mutant("transaction-in-two-batches") {
            self.flush_batch()?;
        }
        self.put_duplicates(arrived)?;
        self.put_arrivals(arrived)?;
        for (resource, touched) in std::mem::take(&mut self.resources) {
            self.put_resource(&resource, &touched)?;
            self.put_conflict(resource, &touched, arrived)?;
        }
        for (request, row) in std::mem::take(&mut self.requests) {
            let key = RequestRow::key(&request);
            if row.0.is_empty() {
                self.batch.delete_cf(self.reader.inner.tables.table(REQUESTS), key);
            } else {
                self.put(REQUESTS, key, row.encode());
            }
        }
        for (code, row) in &self.origins {
            self.batch.put(code.key(), row.encode());
        }
        for (kind, count) in &self.totals.counts.types {
            if self.kinds.contains(kind) {
                self.batch.put(CountRow::key(*kind), CountRow(*count).encode());
            }
        }
        self.batch.put(MetaKey::Digest.key(), self.totals.digest.to_bytes());
        if let Some(applied) = applied {
            if mutant("applied-position-in-another-batch") {
                self.flush_batch()?;
            }
            self.batch.put(MetaKey::Applied.key(), &applied);
            self.totals.applied = Some(applied);
        }
        self.flush_batch()?;
        let inner = self.reader.inner;
        let mut totals = inner.totals.write().expect("no holder panics");
        let mut origins = inner.origins.write().expect("no holder panics");
        for (code, row) in std::mem::take(&mut self.origins) {
            origins.set(code, row);
        }
        *totals = std::mem::take(&mut self.totals);
        drop((origins, totals));
        if self.kinds.iter().any(|kind| kind.as_str() == SEARCH_PARAMETER) {
            inner.unindexed.send_modify(|times| *times += 1);
        }
        if !self.hashes.is_empty() {
            inner.revision.send_modify(|revision| *revision += 1);
        }
        Ok(())
    }

    /// Puts when each version arrived: later than all before, whatever the clock says.
    fn put_arrivals(&mut self, arrived: Timestamp) -> Result<(), Corrupt> {
        if self.arrived.is_empty() {
            return Ok(());
        }
        let before = self.reader.arrivals_row()?;
        let at = before.map_or(arrived, |before| arrived.max(Timestamp(before.last.0 + 1)));
        for (number, (kind, row)) in (0..).zip(std::mem::take(&mut self.arrived)) {
            self.put(ARRIVALS, ArrivalPlace { at, number }.key(kind), row.encode());
        }
        let all = ArrivalsRow { first: before.map_or(at, |before| before.first), last: at };
        self.batch.put(MetaKey::Arrivals.key(), all.encode());
        Ok(())
    }

    /// Puts what conditional creates have made, and which of it are duplicates.
    fn put_duplicates(&mut self, arrived: Timestamp) -> Result<(), Corrupt> {
        let lives = |row: &HeadRow| row.current().is_some_and(|held| !held.head.deleted);
        // What is new and was not asked for by criteria is nobody's duplicate.
        let may_be = |touched: &Touched| !touched.before.0.is_empty();
        let made = std::mem::take(&mut self.made);
        let touched = self.resources.iter();
        let touched = touched.filter(|(resource, it)| may_be(it) || made.has(resource));
        let touched = touched
            .map(|(resource, it)| (resource.clone(), (lives(&it.before), lives(&it.after))))
            .collect();
        let (changes, more) = made.settle(&self.reader, &touched, arrived)?;
        for (key, value) in changes {
            match value {
                Some(value) => self.batch.put(key, value),
                None => self.batch.delete(key),
            }
        }
        self.totals.conflicts = self.totals.conflicts.saturating_add_signed(more);
        Ok(())
    }

    /// Puts whether a resource is in conflict, and since when.
    fn put_conflict(
        &mut self,
        resource: ResourceKey,
        touched: &Touched,
        arrived: Timestamp,
    ) -> Result<(), Corrupt> {
        match (touched.before.in_conflict(), touched.after.in_conflict()) {
            (false, true) => {
                let row = ConflictRow { since: arrived, resource, criteria: None };
                self.batch.put(ConflictRow::by_resource(&row.resource), row.encode());
                self.batch.put(row.by_age(), b"");
                self.totals.conflicts += 1;
            }
            (true, false) => {
                if let Some(row) = self.reader.conflict(&resource)? {
                    self.batch.delete(ConflictRow::by_resource(&row.resource));
                    self.batch.delete(row.by_age());
                }
                self.totals.conflicts -= 1;
            }
            (false, false) | (true, true) => {}
        }
        Ok(())
    }

    /// Puts the heads of a resource, and what follows from them.
    fn put_resource(&mut self, resource: &ResourceKey, touched: &Touched) -> Result<(), Corrupt> {
        let Touched { before, after } = touched;
        let row = after.encode(|origin| self.known_code(origin).expect("it was given one"));
        self.put(HEADS, HeadRow::key(resource), row);

        let sum =
            |row: &HeadRow| StateDigest::of_resource(resource, row.0.iter().map(|held| &held.head));
        self.totals.digest.subtract(sum(before));
        self.totals.digest.add(sum(after));

        let live = |row: &HeadRow| row.current().is_some_and(|held| !held.head.deleted);
        let count = self.totals.counts.types.entry(resource.kind).or_default();
        count.resources -= u64::from(live(before));
        count.resources += u64::from(live(after));

        let name = |row: &HeadRow| row.current().map(|held| held.head.version.clone());
        if name(before) != name(after) || before.in_conflict() != after.in_conflict() {
            self.put_entries(resource, after)?;
        }
        Ok(())
    }

    /// Puts what searches go through.
    fn put_entries(&mut self, resource: &ResourceKey, after: &HeadRow) -> Result<(), Corrupt> {
        let inner = self.reader.inner;
        let old = self.reader.indexed(resource)?;
        let code =
            |held: &HeldHead| self.known_code(&held.head.version.origin).expect("it was given one");
        let new = match IndexedHead::of(after, code) {
            None => Indexed::default(),
            Some(head) => {
                let content = self.content(head.place)?;
                Indexed::of(&self.registry, resource, &head, &content)
            }
        };
        new.replace(&old, &entries_key(resource), &inner.tables, &mut self.batch);
        Ok(())
    }

    /// The resource in a version that is no deletion.
    fn content(&self, place: PiecePlace) -> Result<Bytes, Corrupt> {
        let content = match self.contents.get(&place) {
            Some(content) => content.clone(),
            None => self.reader.content(place)?,
        };
        let differs = "it does not say what its head says";
        content.ok_or_else(|| self.reader.bad_change(place.change, differs))
    }

    /// The code of an origin, which it is given if it has none.
    fn code(&mut self, origin: &Origin) -> OriginCode {
        self.known_code(origin).unwrap_or_else(|| {
            let row = OriginRow::start(origin.clone());
            let mut origins = self.reader.inner.origins.write().expect("no holder panics");
            let code = origins.add(row.clone());
            self.origins.insert(code, row);
            code
        })
    }

    fn origin_row(&self, code: OriginCode) -> OriginRow {
        self.origins.get(&code).cloned().unwrap_or_else(|| {
            let origins = self.reader.inner.origins.read().expect("no holder panics");
            origins.row(code).cloned().expect("codes are never taken back while they are used")
        })
    }

    fn requests_of(&mut self, request: &RequestId) -> Result<&mut RequestRow, Corrupt> {
        match self.requests.entry(*request) {
            Entry::Occupied(entry) => Ok(entry.into_mut()),
            Entry::Vacant(entry) => Ok(entry.insert(self.reader.request_row(request)?)),
        }
    }

    fn put(&mut self, table: &str, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        self.batch.put_cf(self.reader.inner.tables.table(table), key, value);
    }

    fn flush_batch(&mut self) -> Result<(), DiskError> {
        self.reader.inner.tables.write(std::mem::take(&mut self.batch), false)
    }
}
