//! This module opens a RocksDB database and reads its tables (RocksDB: column families).

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use rocksdb::{
    BlockBasedOptions, ColumnFamily, ColumnFamilyDescriptor, DB, DBCompressionType,
    DBPinnableSlice, DBRawIterator, DBRecoveryMode, Direction, ErrorKind, IteratorMode, LogLevel,
    Options, ReadOptions, WriteBatch, WriteOptions,
};

use crate::error::{Corrupt, DiskError, OpenError};
use crate::limits::MAX_WAL_BYTES;
use crate::memory::Memory;
use crate::wal::find_damage;

/// How a table is laid out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    pub(crate) name: &'static str,
    /// How much is compressed together: a read of one row takes a block.
    pub(crate) block_bytes: usize,
    pub(crate) compression: DBCompressionType,
    /// How much of what recurs is kept once per file for all its blocks.
    pub(crate) dictionary_bytes: i32,
    /// Whether rows are looked up that may not be there.
    pub(crate) sought: bool,
}

/// What is done about a write-ahead log that is damaged before its end. An unfinished end is what a
/// crash leaves: it is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DamagedWal {
    /// What comes after the damage is dropped: it is written again from elsewhere.
    Drop,
    /// The database is not opened: what comes after the damage was acknowledged.
    Refuse,
}

/// What RocksDB says when this or another process has a database open.
const LOCKED: [&str; 2] = ["lock hold by current process", "While lock file"];

/// How often it is tried to open a database that another opener has looked at.
const OPEN_ATTEMPTS: usize = 5;

/// A row that was scanned.
pub(crate) type KeyAndValue = (Box<[u8]>, Box<[u8]>);

/// One database.
pub(crate) struct Tables {
    db: DB,
    dir: PathBuf,
}

impl Tables {
    /// Opens the database in `dir`, or makes a new one there.
    pub(crate) fn open(
        dir: &Path,
        layouts: &[Layout],
        memory: &Memory,
        damaged_wal: DamagedWal,
    ) -> Result<Self, OpenError> {
        let refused = |reason| OpenError::Disk(DiskError { dir: dir.to_owned(), reason });
        std::fs::create_dir_all(dir).map_err(|error| refused(error.to_string()))?;
        if let Some(damage) = find_damage(dir).map_err(|error| refused(error.to_string()))? {
            if damaged_wal == DamagedWal::Refuse {
                let what = damage.to_string();
                return Err(OpenError::Corrupt(Corrupt { dir: dir.to_owned(), what }));
            }
            tracing::warn!("{damage}: what follows there is dropped and fetched again");
        }
        let db = open_database(dir, layouts, memory).map_err(|error| {
            let reason = error.to_string();
            match error.kind() {
                ErrorKind::IOError if LOCKED.iter().any(|said| reason.contains(said)) => {
                    OpenError::InUse { dir: dir.to_owned() }
                }
                ErrorKind::IOError if !reason.contains("No such file") => refused(reason),
                _ => OpenError::Corrupt(Corrupt { dir: dir.to_owned(), what: reason }),
            }
        })?;
        Ok(Self { db, dir: dir.to_owned() })
    }

    pub(crate) fn db(&self) -> &DB {
        &self.db
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn table(&self, name: &str) -> &ColumnFamily {
        self.db.cf_handle(name).expect("all tables are opened")
    }

    pub(crate) fn corrupt(&self, what: impl ToString) -> Corrupt {
        Corrupt { dir: self.dir.clone(), what: what.to_string() }
    }

    /// A row that is not as it should be.
    pub(crate) fn bad_row(&self, table: &str, key: &[u8]) -> Corrupt {
        self.corrupt(format_args!("the row {} of table {table} cannot be read", key.escape_ascii()))
    }

    /// A row that another one says is there.
    pub(crate) fn no_row(&self, table: &str, key: &[u8]) -> Corrupt {
        self.corrupt(format_args!("the row {} of table {table} is missing", key.escape_ascii()))
    }

    pub(crate) fn get(
        &self,
        table: &str,
        key: &[u8],
        options: Option<&ReadOptions>,
    ) -> Result<Option<DBPinnableSlice<'_>>, Corrupt> {
        let table = self.table(table);
        let row = match options {
            Some(options) => self.db.get_pinned_cf_opt(table, key, options),
            None => self.db.get_pinned_cf(table, key),
        };
        row.map_err(|error| self.corrupt(error))
    }

    /// The rows from a key on, as long as their keys begin with `prefix`.
    pub(crate) fn scan<'t>(
        &'t self,
        table: &str,
        from: &[u8],
        prefix: &[u8],
        mut options: ReadOptions,
    ) -> impl Iterator<Item = Result<KeyAndValue, Corrupt>> + use<'t> {
        if let Some(end) = after_prefix(prefix) {
            options.set_iterate_upper_bound(end);
        }
        self.rows(table, from, Direction::Forward, options)
    }

    /// The rows from a key back, as long as their keys begin with `prefix`.
    pub(crate) fn scan_back<'t>(
        &'t self,
        table: &str,
        from: &[u8],
        prefix: &[u8],
        mut options: ReadOptions,
    ) -> impl Iterator<Item = Result<KeyAndValue, Corrupt>> + use<'t> {
        options.set_iterate_lower_bound(prefix);
        self.rows(table, from, Direction::Reverse, options)
    }

    fn rows<'t>(
        &'t self,
        table: &str,
        from: &[u8],
        direction: Direction,
        options: ReadOptions,
    ) -> impl Iterator<Item = Result<KeyAndValue, Corrupt>> + use<'t> {
        let rows = IteratorMode::From(from, direction);
        let rows = self.db.iterator_cf_opt(self.table(table), options, rows);
        rows.map(|row| row.map_err(|error| self.corrupt(error)))
    }

    /// Goes through the keys from one on, below another.
    pub(crate) fn keys<'t>(
        &'t self,
        table: &str,
        range: &Range<Vec<u8>>,
        mut options: ReadOptions,
    ) -> DBRawIterator<'t> {
        options.set_iterate_upper_bound(&range.end[..]);
        let mut keys = self.db.raw_iterator_cf_opt(self.table(table), options);
        keys.seek(&range.start);
        keys
    }

    /// Several rows at once.
    pub(crate) fn get_several<'t>(
        &'t self,
        table: &str,
        keys: &[Vec<u8>],
        options: &ReadOptions,
    ) -> Result<Vec<Option<DBPinnableSlice<'t>>>, Corrupt> {
        let rows = self.db.batched_multi_get_cf_opt(self.table(table), keys, false, options);
        rows.into_iter().map(|row| row.map_err(|error| self.corrupt(error))).collect()
    }

    /// Removes all rows of a table.
    pub(crate) fn clear(&self, table: &str) -> Result<(), DiskError> {
        let mut batch = WriteBatch::default();
        batch.delete_range_cf(self.table(table), &[][..], &[u8::MAX; 256][..]);
        self.write(batch, false)
    }

    pub(crate) fn write(&self, batch: WriteBatch, sync: bool) -> Result<(), DiskError> {
        let mut options = WriteOptions::default();
        options.set_sync(sync);
        self.db.write_opt(batch, &options).map_err(|error| self.refused(error))
    }

    pub(crate) fn sync(&self) -> Result<(), DiskError> {
        self.db.flush_wal(true).map_err(|error| self.refused(error))
    }

    /// Writes what is in memory into files.
    pub(crate) fn flush(&self, layouts: &[Layout]) -> Result<(), DiskError> {
        layouts.iter().try_for_each(|layout| {
            self.db.flush_cf(self.table(layout.name)).map_err(|error| self.refused(error))
        })
    }

    pub(crate) fn refused(&self, error: rocksdb::Error) -> DiskError {
        DiskError { dir: self.dir.clone(), reason: error.into_string() }
    }
}

/// Opens the database. One that another opener looks at just then, before it finds it locked, may miss
/// an old log of RocksDB's own that the other has deleted: it is tried again.
fn open_database(dir: &Path, layouts: &[Layout], memory: &Memory) -> Result<DB, rocksdb::Error> {
    let options = database_options(memory);
    let mut attempts = 0;
    loop {
        let mut families: Vec<ColumnFamilyDescriptor> = layouts
            .iter()
            .map(|layout| ColumnFamilyDescriptor::new(layout.name, table_options(layout, memory)))
            .collect();
        let present = DB::list_cf(&options, dir).unwrap_or_default();
        families.extend(
            present
                .iter()
                .filter(|name| !layouts.iter().any(|layout| layout.name == name.as_str()))
                .map(|newer| ColumnFamilyDescriptor::new(newer, Options::default())),
        );
        let opened = DB::open_cf_descriptors(&options, dir, families);
        attempts += 1;
        match opened {
            Err(error) if attempts < OPEN_ATTEMPTS && error.to_string().contains("/LOG.old.") => {}
            opened => return opened,
        }
    }
}

impl fmt::Debug for Tables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tables").field("dir", &self.dir).finish_non_exhaustive()
    }
}

/// The first key that sorts after all that begin with these bytes.
fn after_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|&byte| byte < 0xff)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(end)
}

fn database_options(memory: &Memory) -> Options {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    options.set_write_buffer_manager(&memory.writes);
    options.set_max_total_wal_size(MAX_WAL_BYTES);
    options.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
    options.set_max_background_jobs(2);
    options.set_bytes_per_sync(1024 * 1024);
    options.set_max_open_files(512);
    options.set_skip_stats_update_on_db_open(true);
    options.set_stats_dump_period_sec(0);
    options.set_stats_persist_period_sec(0);
    options.set_log_level(LogLevel::Warn);
    options.set_keep_log_file_num(4);
    options.set_max_log_file_size(1024 * 1024);
    options
}

/// RocksDB's own choice of a window, which only zlib has.
const RAW_DEFLATE: i32 = -14;

/// RocksDB's sign for the level that each compression calls its default.
const DEFAULT_LEVEL: i32 = 32_767;

fn table_options(layout: &Layout, memory: &Memory) -> Options {
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_cache(&memory.cache);
    blocks.set_block_size(layout.block_bytes);
    blocks.set_cache_index_and_filter_blocks(true);
    blocks.set_pin_l0_filter_and_index_blocks_in_cache(true);
    blocks.set_format_version(6);
    if layout.sought {
        blocks.set_bloom_filter(10.0, false);
        blocks.set_optimize_filters_for_memory(true);
    }
    let mut options = Options::default();
    options.set_block_based_table_factory(&blocks);
    options.set_compression_type(layout.compression);
    options.set_compression_options(RAW_DEFLATE, DEFAULT_LEVEL, 0, layout.dictionary_bytes);
    options.set_write_buffer_size(16 * 1024 * 1024);
    options.set_max_write_buffer_number(3);
    options.set_target_file_size_base(32 * 1024 * 1024);
    options.set_level_compaction_dynamic_level_bytes(true);
    options
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_ends_before_what_follows_its_prefix() {
        assert_eq!(after_prefix(b"ab"), Some(b"ac".to_vec()));
        assert_eq!(after_prefix(b"a\xff"), Some(b"b".to_vec()));
        assert_eq!(after_prefix(b"\xff"), None);
        assert_eq!(after_prefix(b""), None);
    }
}
