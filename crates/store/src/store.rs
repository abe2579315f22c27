//! This module opens and closes a store, and tells how far it is.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, RwLock};

use bytes::Bytes;
use chartmesh_record::{Cursor, Horizon, Origin};
use rocksdb::{DBCompressionType, ReadOptions, WriteBatch};

use crate::counts::Counts;
use crate::digest::StateDigest;
use crate::error::{Corrupt, DiskError, OpenError};
use crate::keys::{CountRow, FORMAT, MetaKey, OriginCode, OriginRow, decode_format, encode_format};
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
}

/// A store's tables, and what of them is kept in memory.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) tables: Tables,
    /// Codes are added before rows with them are written, the rest is put right after.
    pub(crate) origins: RwLock<Origins>,
    pub(crate) totals: RwLock<Totals>,
    /// Held while one caller applies.
    pub(crate) turn: Mutex<()>,
}

/// What is held, summed up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) digest: StateDigest,
    pub(crate) counts: Counts,
    pub(crate) applied: Option<Bytes>,
}

/// The rows of which there are few.
pub(crate) const META: &str = "default";
/// Headers and pieces.
pub(crate) const FEED: &str = "feed";
/// The heads of every resource.
pub(crate) const HEADS: &str = "heads";
/// Where every version stands.
pub(crate) const VERSIONS: &str = "versions";
/// The identifiers of current versions.
pub(crate) const IDENTIFIERS: &str = "identifiers";
/// The requests that are remembered.
pub(crate) const REQUESTS: &str = "requests";

pub(crate) const LAYOUTS: [Layout; 6] = {
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
        Layout { block_bytes: 16 * 1024, ..layout(IDENTIFIERS, Zstd) },
        Layout { sought: true, ..layout(REQUESTS, Lz4) },
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
        let inner = Inner {
            tables,
            origins: RwLock::new(origins),
            totals: RwLock::new(totals),
            turn: Mutex::new(()),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// How far all feeds are held of which anything is.
    #[must_use]
    pub fn horizon(&self) -> Horizon {
        let origins = self.inner.origins.read().expect("no holder panics");
        origins
            .rows()
            .filter(|(_, row)| row.cursor.seq.0 > 0)
            .map(|(_, row)| (row.cursor.origin.clone(), row.cursor.clone()))
            .collect()
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
        self.inner.tables.sync()
    }

    /// Writes what is in memory into files, so that the next start is quick.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn flush(&self) -> Result<(), DiskError> {
        self.inner.tables.flush(&LAYOUTS)
    }

    fn totals(&self) -> Totals {
        self.inner.totals.read().expect("no holder panics").clone()
    }
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
    Ok(Totals { digest, counts: Counts { types }, applied })
}
