//! This module opens and closes a store, and tells how far it is.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, RwLock};

use bytes::Bytes;
use chartmesh_record::{Cursor, Horizon, Origin, Seq, Zone};
use chartmesh_search::Registry;
use rocksdb::{DBCompressionType, ReadOptions, WriteBatch};
use tokio::sync::watch;

use crate::arrivals::check_arrivals;
use crate::counts::Counts;
use crate::digest::StateDigest;
use crate::error::{Corrupt, DiskError, OpenError};
use crate::held_back::held_back;
use crate::index::{check_index, indexed_in};
use crate::keys::{
    ConflictRow, CountRow, FORMAT, LostRow, MetaKey, Note, OriginCode, OriginRow, decode_format,
    encode_format,
};
use crate::memory::Memory;
use crate::origins::Origins;
use crate::tables::{DamagedWal, Layout, Tables};

/// One node's state on one disk. Clones are handles to the same; the last one closes it.
#[derive(Clone, Debug)]
pub struct Store {
    pub(crate) inner: Arc<Inner>,
}

/// How a store is opened.
#[derive(Clone, Debug)]
pub struct Options {
    /// What it shares with the node's other databases.
    pub memory: Memory,
    /// Where dates are read that have no zone. `None`: where they were when it was last open, at first in
    /// UTC. Another zone has the search index made again.
    pub zone: Option<Zone>,
}

impl Options {
    /// With the zone that it has.
    #[must_use]
    pub fn new(memory: Memory) -> Self {
        Self { memory, zone: None }
    }
}

/// A store's tables, and what of them is kept in memory.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) tables: Tables,
    /// Changed by who holds the turn.
    pub(crate) registry: RwLock<Arc<Registry>>,
    /// Goes up when resources are to be indexed again.
    pub(crate) unindexed: watch::Sender<u64>,
    /// Codes are added before rows with them are written, the rest is put right after.
    pub(crate) origins: RwLock<Origins>,
    pub(crate) totals: RwLock<Totals>,
    /// Held while one caller applies.
    pub(crate) turn: Mutex<()>,
    /// Goes up with everything new.
    pub(crate) revision: watch::Sender<u64>,
    /// How far each feed survives a power cut.
    synced: Mutex<BTreeMap<Origin, Seq>>,
    /// Up to where feeds are held that are not applied to their end.
    pub(crate) held_back: RwLock<BTreeMap<Origin, Cursor>>,
    /// Change sets that were passed over.
    pub(crate) lost: RwLock<Vec<Cursor>>,
}

/// What is held, summed up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) digest: StateDigest,
    pub(crate) counts: Counts,
    pub(crate) applied: Option<Bytes>,
    pub(crate) conflicts: u64,
}

/// What a store holds, at one moment: equal horizons mean equal digests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// How far each feed is held.
    pub horizon: Horizon,
    /// All heads.
    pub digest: StateDigest,
}

/// The rows of which there are few.
pub(crate) const META: &str = "default";
/// Headers and pieces.
pub(crate) const FEED: &str = "feed";
/// The heads of every resource.
pub(crate) const HEADS: &str = "heads";
/// Where every version stands.
pub(crate) const VERSIONS: &str = "versions";
/// The entries of every live resource.
pub(crate) const ENTRIES: &str = "entries";
/// What leads to resources from their entries.
pub(crate) const POSTINGS: &str = "postings";
/// Every version by when it arrived.
pub(crate) const ARRIVALS: &str = "arrivals";
/// The requests that are remembered.
pub(crate) const REQUESTS: &str = "requests";

pub(crate) const LAYOUTS: [Layout; 8] = {
    use DBCompressionType::{Lz4, Zstd};
    const fn layout(name: &'static str, compression: DBCompressionType) -> Layout {
        Layout { name, block_bytes: 4 * 1024, compression, dictionary_bytes: 0, sought: false }
    }
    [
        layout(META, Lz4),
        // Small blocks make reads quick; records resemble each other, so that the dictionary makes
        // up for it: smaller and quicker than Zstandard in blocks of 8 KiB (docs/performance.md).
        Layout { dictionary_bytes: 32 * 1024, ..layout(FEED, Lz4) },
        Layout { sought: true, ..layout(HEADS, Lz4) },
        Layout { block_bytes: 16 * 1024, ..layout(VERSIONS, Zstd) },
        Layout { sought: true, ..layout(REQUESTS, Lz4) },
        Layout { dictionary_bytes: 32 * 1024, sought: true, ..layout(ENTRIES, Lz4) },
        layout(POSTINGS, Lz4),
        Layout { block_bytes: 16 * 1024, ..layout(ARRIVALS, Zstd) },
    ]
};

impl Store {
    /// Opens the store in `dir/state`, or makes a new one there.
    ///
    /// # Errors
    /// When it is damaged, in use, or of a newer format, or the disk refuses.
    pub fn open(dir: &Path, options: Options) -> Result<Self, OpenError> {
        let dir = dir.join("state");
        let tables = Tables::open(&dir, &LAYOUTS, &options.memory, DamagedWal::Drop)?;
        check_format(&tables)?;
        let origins = origins(&tables, ReadOptions::default())?;
        let totals = totals(&tables, ReadOptions::default)?;
        let held_back = RwLock::new(held_back(&tables)?);
        let lost = RwLock::new(lost(&tables)?);
        let zone = match options.zone {
            Some(zone) => zone,
            None => indexed_in(&tables)?,
        };
        let inner = Inner {
            lost,
            held_back,
            tables,
            registry: RwLock::new(Arc::new(Registry::of_r4(zone.seconds))),
            unindexed: watch::Sender::new(0),
            origins: RwLock::new(origins),
            totals: RwLock::new(totals),
            turn: Mutex::new(()),
            revision: watch::Sender::new(0),
            synced: Mutex::default(),
        };
        inner.learn_parameters()?;
        check_index(&inner)?;
        check_arrivals(&inner)?;
        let store = Self { inner: Arc::new(inner) };
        store.sync()?;
        Ok(store)
    }

    /// How far all feeds are held of which anything is.
    #[must_use]
    pub fn horizon(&self) -> Horizon {
        held(&self.inner.origins.read().expect("no holder panics"))
    }

    /// What it holds, at one moment.
    #[must_use]
    pub fn standing(&self) -> Standing {
        let totals = self.inner.totals.read().expect("no holder panics");
        let origins = self.inner.origins.read().expect("no holder panics");
        Standing { horizon: held(&origins), digest: totals.digest }
    }

    /// Tells of everything new that is taken in. What it carries only goes up.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.inner.revision.subscribe()
    }

    /// How far a feed survives a power cut: as far as it was held when [`Self::sync`] last began.
    #[must_use]
    pub fn synced(&self, origin: &Origin) -> Seq {
        let synced = self.inner.synced.lock().expect("no holder panics");
        synced.get(origin).copied().unwrap_or_default()
    }

    /// Notes something down, over what was noted before; a power cut may take it.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn keep(&self, note: Note, bytes: &[u8]) -> Result<(), DiskError> {
        let mut batch = WriteBatch::default();
        batch.put(MetaKey::Note(note).key(), bytes);
        self.inner.tables.write(batch, false)
    }

    /// What was noted down.
    ///
    /// # Errors
    /// When the disk does not hold what it should.
    pub fn kept(&self, note: Note) -> Result<Option<Bytes>, Corrupt> {
        let row = self.inner.tables.get(META, MetaKey::Note(note).key(), None)?;
        Ok(row.map(|row| Bytes::copy_from_slice(&row)))
    }

    /// How far one feed is held; its start if nothing is.
    #[must_use]
    pub fn cursor(&self, origin: &Origin) -> Cursor {
        let origins = self.inner.origins.read().expect("no holder panics");
        let row = origins.code(origin).and_then(|code| origins.row(code));
        row.map_or_else(|| Cursor::start(origin.clone()), |row| row.cursor.clone())
    }

    /// What is held, in 32 bytes.
    #[must_use]
    pub fn digest(&self) -> StateDigest {
        self.totals().digest
    }

    /// How much is held.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.totals().counts
    }

    /// What the last [`crate::Apply`] that had any left in `applied`.
    #[must_use]
    pub fn applied(&self) -> Option<Bytes> {
        self.totals().applied
    }

    /// Syncs everything applied before: it survives a power cut then.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn sync(&self) -> Result<(), DiskError> {
        let horizon = self.horizon();
        self.inner.tables.sync()?;
        let mut synced = self.inner.synced.lock().expect("no holder panics");
        for (origin, cursor) in horizon {
            let known = synced.entry(origin).or_default();
            *known = cursor.seq.max(*known);
        }
        Ok(())
    }

    /// Writes what is in memory into files, so that the next start is quick.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn flush(&self) -> Result<(), DiskError> {
        self.inner.tables.flush(&LAYOUTS)
    }

    pub(crate) fn totals(&self) -> Totals {
        self.inner.totals.read().expect("no holder panics").clone()
    }
}

/// How far all feeds are held of which anything is.
fn held(origins: &Origins) -> Horizon {
    let rows = origins.rows().filter(|(_, row)| row.cursor.seq.0 > 0);
    rows.map(|(_, row)| (row.cursor.origin.clone(), row.cursor.clone())).collect()
}

/// Refuses what a newer software version wrote, and marks a new store as ours.
fn check_format(tables: &Tables) -> Result<(), OpenError> {
    let key = MetaKey::Format.key();
    let Some(row) = tables.get(META, key, None)? else {
        let mut rows = tables.db().iterator(rocksdb::IteratorMode::Start);
        if rows.next().is_some() {
            return Err(tables.no_row(META, key).into());
        }
        let mut batch = WriteBatch::default();
        batch.put(key, encode_format());
        return Ok(tables.write(batch, true)?);
    };
    match decode_format(&row) {
        Some(FORMAT) => Ok(()),
        Some(format) => {
            Err(OpenError::NewerFormat { dir: tables.dir().to_owned(), format, known: FORMAT })
        }
        None => Err(tables.bad_row(META, key).into()),
    }
}

/// All origins that are known.
pub(crate) fn origins(tables: &Tables, options: ReadOptions) -> Result<Origins, Corrupt> {
    let prefix = OriginCode::PREFIX;
    let rows = tables.scan(META, prefix, prefix, options).map(|row| {
        let (key, value) = row?;
        OriginCode::decode(&key)
            .zip(OriginRow::decode(&value))
            .ok_or_else(|| tables.bad_row(META, &key))
    });
    let rows = rows.collect::<Result<Vec<_>, Corrupt>>()?;
    Origins::of(rows).ok_or_else(|| tables.corrupt("an origin is missing from table default"))
}

/// The change sets that were passed over.
fn lost(tables: &Tables) -> Result<Vec<Cursor>, Corrupt> {
    let rows = tables.scan(META, LostRow::PREFIX, LostRow::PREFIX, ReadOptions::default());
    let rows = rows.map(|row| {
        let (key, value) = row?;
        let row = LostRow::decode(&key, &value).ok_or_else(|| tables.bad_row(META, &key))?;
        Ok(row.0)
    });
    rows.collect()
}

/// What is held, summed up.
pub(crate) fn totals(
    tables: &Tables,
    options: impl Fn() -> ReadOptions,
) -> Result<Totals, Corrupt> {
    let prefix = CountRow::PREFIX;
    let mut types = BTreeMap::new();
    for row in tables.scan(META, prefix, prefix, options()) {
        let (key, value) = row?;
        let (kind, count) = CountRow::kind(&key)
            .zip(CountRow::decode(&value))
            .ok_or_else(|| tables.bad_row(META, &key))?;
        types.insert(kind, count.0);
    }
    let digest = match tables.get(META, MetaKey::Digest.key(), Some(&options()))? {
        Some(row) => StateDigest::from_bytes(&row)
            .ok_or_else(|| tables.bad_row(META, MetaKey::Digest.key()))?,
        None => StateDigest::default(),
    };
    let applied = tables.get(META, MetaKey::Applied.key(), Some(&options()))?;
    let applied = applied.map(|row| Bytes::copy_from_slice(&row));
    let rows = tables.scan(META, ConflictRow::BY_AGE, ConflictRow::BY_AGE, options());
    let conflicts = rows.map(|row| row.map(|_| 1)).sum::<Result<u64, Corrupt>>()?;
    Ok(Totals { digest, counts: Counts { types }, applied, conflicts })
}
