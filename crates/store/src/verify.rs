//! This module proves what is held from its bytes.
//!
//! It walks the feeds (chains, rows of versions, requests), then the resources (heads, entries),
//! and compares what it counted and summed with what is kept. It needs no memory that grows with
//! what is held, and reads one moment while others apply.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use chartmesh_record::{Cursor, ResourceKey, ResourceType, Timestamp};
use chartmesh_search::Registry;
use chartmesh_wire::decode_piece;

use crate::counts::Counts;
use crate::digest::StateDigest;
use crate::duplicates::are_duplicates;
use crate::error::Corrupt;
use crate::index::entries_key;
use crate::keys::{
    ArrivalPlace, ArrivalRow, CriteriaHash, FeedPlace, HeadRow, HeldHead, MadeRow, OriginCode,
    OriginRow, VersionKey, VersionRow,
};
use crate::origins::is_forgotten;
use crate::reader::Reader;
use crate::store::{self, ARRIVALS, ENTRIES, HEADS, META, POSTINGS, Store, VERSIONS};

/// What a verification has found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The change sets looked at.
    pub changes: u64,
    /// The versions looked at.
    pub versions: u64,
    /// The resources looked at.
    pub resources: u64,
    /// The first thing that is not what the bytes say.
    pub difference: Option<Difference>,
}

/// Something held that is not what the bytes of the feeds say.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}: held is {held}, the feeds say {expected}")]
pub struct Difference {
    /// What it is about.
    pub what: String,
    /// What is held.
    pub held: String,
    /// What follows from the feeds.
    pub expected: String,
}

impl Store {
    /// Computes everything again from the bytes of the feeds: chains, heads, histories,
    /// entries, requests, counts and digest. `progress` is told now and then what was done.
    ///
    /// # Errors
    /// When the disk cannot be read.
    pub fn deep_verify(&self, progress: impl FnMut(&Report)) -> Result<Report, Corrupt> {
        let reader = Reader::at_this_moment(&self.inner);
        let mut verification = Verification {
            reader: &reader,
            progress,
            report: Report::default(),
            counts: Counts::default(),
            digest: StateDigest::default(),
            entries: 0,
            postings: 0,
            conflicts: 0,
            arrived: 0,
            registry: self.inner.registry(),
            settled: self.inner.is_settled()?,
        };
        match verification.run() {
            Ok(()) => Ok(verification.report),
            Err(Stop::Differs(difference)) => {
                Ok(Report { difference: Some(difference), ..verification.report })
            }
            Err(Stop::Corrupt(corrupt)) => Err(corrupt),
        }
    }
}

struct Verification<'r, 's, P> {
    reader: &'r Reader<'s>,
    progress: P,
    report: Report,
    counts: Counts,
    digest: StateDigest,
    entries: u64,
    postings: u64,
    conflicts: u64,
    /// Of the versions, where they stand and when they were decided, as a sum of hashes.
    arrived: u64,
    registry: Arc<Registry>,
    /// Whether all resources are indexed by its parameters.
    settled: bool,
}

/// Why a verification ends early.
enum Stop {
    Differs(Difference),
    Corrupt(Corrupt),
}

impl From<Corrupt> for Stop {
    fn from(corrupt: Corrupt) -> Self {
        Self::Corrupt(corrupt)
    }
}

/// How many change sets or resources pass between two words of progress.
const STEP: u64 = 1000;

impl<P: FnMut(&Report)> Verification<'_, '_, P> {
    fn run(&mut self) -> Result<(), Stop> {
        let tables = &self.reader.inner.tables;
        let origins = store::origins(tables, self.reader.options())?;
        for (code, row) in origins.rows() {
            let newest = origins.newest(&row.cursor.origin.name());
            self.feed(code, row, |at| is_forgotten(at, newest))?;
        }
        self.resources()?;
        self.duplicates()?;
        let totals = store::totals(tables, || self.reader.options())?;
        same("the digest", &totals.digest, &self.digest)?;
        same("the number of conflicts", &totals.conflicts, &self.conflicts)?;
        same("the counts", &totals.counts, &self.counts)?;
        same("the number of rows of heads", &self.rows(HEADS)?, &self.report.resources)?;
        same("what has arrived", &self.arrivals()?, &self.arrived)?;
        same("the number of rows of versions", &self.rows(VERSIONS)?, &self.report.versions)?;
        if self.settled {
            same("the number of rows of entries", &self.rows(ENTRIES)?, &self.entries)?;
            same("the number of postings", &self.rows(POSTINGS)?, &self.postings)?;
        }
        (self.progress)(&self.report);
        Ok(())
    }

    /// One feed from its start: the chain, and the row of each of its versions.
    fn feed(
        &mut self,
        origin: OriginCode,
        row: &OriginRow,
        is_forgotten: impl Fn(Timestamp) -> bool,
    ) -> Result<(), Stop> {
        let mut at = Cursor::start(row.cursor.origin.clone());
        for change in self.reader.changes(FeedPlace { origin, seq: at.seq.next() }) {
            let (change, hash) = change?;
            let Some(change) = change else {
                // It was passed over: the chain goes on from what others say it is there.
                at = Cursor { seq: at.seq.next(), hash, ..at };
                self.report.changes += 1;
                continue;
            };
            at = at.extend(change.bytes());
            let set = change.change_set();
            let what = |of| format!("{of} change set {} of {}", set.seq, set.origin);
            same(what("the chain up to"), &hash, &at.hash)?;
            let change_place = FeedPlace { origin, seq: set.seq };
            if set.seq > row.forgotten && !is_forgotten(set.at) {
                let remembered = self.reader.request_row(&set.request)?.0.contains(&change_place);
                same(what("the memory of the request of"), &remembered, &true)?;
            }
            for (index, (version, piece)) in (0..).zip(set.versions.iter().zip(change.pieces())) {
                let (resource, generation) = (version.key.clone(), version.generation);
                let expected = VersionRow { seq: set.seq, index, at: set.at };
                let held = self.reader.version_row(&VersionKey { resource, generation, origin })?;
                let what = format!("where {} of {} stands", version.id(&set.origin), version.key);
                same(what, &held, &Some(expected))?;
                self.arrived = self.arrived.wrapping_add(mixed(
                    version.key.kind,
                    ArrivalRow { origin, version: expected },
                ));
                let count = self.counts.types.entry(version.key.kind).or_default();
                count.versions += 1;
                count.bytes += piece.len() as u64;
                self.report.versions += 1;
                if let Some(text) = &version.criteria {
                    let (resource, kind) = (version.key.clone(), version.key.kind);
                    let made = MadeRow { criteria: CriteriaHash::of(kind, text), resource, origin };
                    let held = self.reader.get(META, &made.by_resource())?.is_some();
                    same(format!("what has made {}", version.key), &held, &true)?;
                }
            }
            self.report.changes += 1;
            if self.report.changes.is_multiple_of(STEP) {
                (self.progress)(&self.report);
            }
        }
        let held = (row.cursor.seq, row.cursor.hash);
        same(format!("the cursor of {}", at.origin), &held, &(at.seq, at.hash))
    }

    /// Every resource: its versions, of which the heads follow.
    fn resources(&mut self) -> Result<(), Stop> {
        let mut open: Option<(ResourceKey, HeadRow)> = None;
        for row in self.reader.scan(VERSIONS, b"", b"") {
            let (key, value) = row?;
            let (key, row) = VersionKey::decode(&key)
                .zip(VersionRow::decode(&value))
                .ok_or_else(|| self.reader.inner.tables.bad_row(VERSIONS, &key))?;
            let version = self.version(&key, row)?;
            match &mut open {
                Some((resource, heads)) if *resource == key.resource => heads.insert(version),
                _ => {
                    if let Some((resource, heads)) = open.take() {
                        self.resource(&resource, &heads)?;
                    }
                    open = Some((key.resource, HeadRow(vec![version])));
                }
            }
        }
        open.map_or(Ok(()), |(resource, heads)| self.resource(&resource, &heads))
    }

    /// A version as its bytes say.
    fn version(&self, key: &VersionKey, row: VersionRow) -> Result<HeldHead, Stop> {
        let place = row.place(key.origin);
        let bad = |why: &dyn ToString| self.reader.bad_change(place.change, why.to_string());
        let piece = self.reader.piece(place)?;
        let version = decode_piece(bytes::Bytes::copy_from_slice(&piece)).map_err(|e| bad(&e))?;
        let what = format!("the version at {} {}", key.resource, key.generation);
        let named = (&version.key, version.generation);
        same(what, &(&key.resource, key.generation), &named)?;
        let request = self.reader.request_of(place.change)?;
        let (request, _) = request.ok_or_else(|| bad(&"its change set is lost"))?;
        let head = version.head(&self.reader.known(key)?, request);
        Ok(HeldHead { head, seq: row.seq, index: row.index, at: row.at })
    }

    /// A resource with these heads.
    fn resource(&mut self, resource: &ResourceKey, heads: &HeadRow) -> Result<(), Stop> {
        let held = self.reader.head_row(resource)?;
        same(format!("the heads of {resource}"), &held, heads)?;
        self.digest.add(StateDigest::of_resource(resource, heads.0.iter().map(|it| &it.head)));
        let in_conflict = heads.heads().in_conflict();
        let listed = self.reader.conflict(resource)?.is_some();
        same(format!("whether {resource} is in conflict"), &listed, &in_conflict)?;
        self.conflicts += u64::from(in_conflict);
        self.report.resources += 1;
        if self.report.resources.is_multiple_of(STEP) {
            (self.progress)(&self.report);
        }
        let Some(current) = heads.current() else { return Ok(()) };
        let count = self.counts.types.entry(resource.kind).or_default();
        count.resources += u64::from(!current.head.deleted);
        if !self.settled {
            return Ok(());
        }
        let expected = self.reader.index_of(&self.registry, resource, heads)?.unwrap_or_default();
        let row = self.reader.get(ENTRIES, &entries_key(resource))?;
        same(format!("the entries of {resource}"), &row.as_deref(), &expected.row.as_deref())?;
        self.entries += u64::from(expected.row.is_some());
        for key in &expected.postings {
            let held = self.reader.get(POSTINGS, key)?.is_some();
            same(format!("a posting of {resource}"), &held, &true)?;
            self.postings += 1;
        }
        Ok(())
    }

    /// What conditional creates have made: who of them lives is found by the criteria, and duplicates
    /// are listed.
    fn duplicates(&mut self) -> Result<(), Stop> {
        let mut lives = 0;
        let bad = |key: &[u8]| self.reader.inner.tables.bad_row(META, key);
        for row in self.reader.scan(META, MadeRow::BY_RESOURCE, MadeRow::BY_RESOURCE) {
            let (key, _) = row?;
            let made = MadeRow::decode_by_resource(&key).ok_or_else(|| bad(&key))?;
            let heads = self.reader.head_row(&made.resource)?;
            let live = heads.current().is_some_and(|held| !held.head.deleted);
            let found = self.reader.get(META, &made.by_criteria())?.is_some();
            same(format!("whether {} is found by its criteria", made.resource), &found, &live)?;
            lives += u64::from(live);
        }
        let (mut found, mut listed) = (0, 0);
        let mut last = None;
        for row in self.reader.scan(META, MadeRow::BY_CRITERIA, MadeRow::BY_CRITERIA) {
            let (key, _) = row?;
            let made = MadeRow::decode_by_criteria(&key).ok_or_else(|| bad(&key))?;
            found += 1;
            if last.replace(made.criteria) == Some(made.criteria) {
                continue;
            }
            let expected = are_duplicates(&self.reader.makers(made.criteria)?);
            let is_listed = self.reader.duplicate(made.criteria)?.is_some();
            same(format!("whether {} has duplicates", made.resource), &is_listed, &expected)?;
            listed += u64::from(expected);
        }
        same("the number of rows of what lives by its criteria", &found, &lives)?;
        self.conflicts += listed;
        Ok(())
    }

    /// The sum over the list of arrivals.
    fn arrivals(&self) -> Result<u64, Corrupt> {
        let mut sum = 0_u64;
        for row in self.reader.scan(ARRIVALS, b"", b"") {
            let (key, value) = row?;
            let (kind, row) = ArrivalPlace::of_key(&key)
                .map(|(kind, _)| kind)
                .zip(ArrivalRow::decode(&value))
                .ok_or_else(|| self.reader.inner.tables.bad_row(ARRIVALS, &key))?;
            sum = sum.wrapping_add(mixed(kind, row));
        }
        Ok(sum)
    }

    fn rows(&self, table: &str) -> Result<u64, Corrupt> {
        self.reader.scan(table, b"", b"").try_fold(0, |count, row| row.map(|_| count + 1))
    }
}

/// A hash of a version that arrived.
fn mixed(kind: ResourceType, row: ArrivalRow) -> u64 {
    let mut hasher = DefaultHasher::new();
    (kind.code(), row.encode()).hash(&mut hasher);
    hasher.finish()
}

fn same<T: PartialEq + std::fmt::Debug>(
    what: impl Into<String>,
    held: &T,
    expected: &T,
) -> Result<(), Stop> {
    if held == expected {
        return Ok(());
    }
    Err(Stop::Differs(Difference {
        what: what.into(),
        held: format!("{held:?}"),
        expected: format!("{expected:?}"),
    }))
}
