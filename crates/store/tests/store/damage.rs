//! This module checks that what is damaged is refused or reported, with the place and what to do,
//! and never served.

use std::fs;
use std::path::{Path, PathBuf};

use chartmesh_store::{Apply, Memory, OpenError, Options, RaftLog, Store, Syncer};

use crate::crash::{copy, wal};
use crate::world::{Feed, feeds, keys, memory, open, plain_steps, scratch};

fn flip(file: &Path, offset: usize) {
    let mut bytes = fs::read(file).unwrap();
    bytes[offset] ^= 0x10;
    fs::write(file, bytes).unwrap();
}

fn files(dir: &Path, extension: &str) -> Vec<PathBuf> {
    let files = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> =
        files.filter(|path| path.extension().is_some_and(|it| it == extension)).collect();
    files.sort();
    files
}

fn try_open(dir: &Path) -> Result<Store, OpenError> {
    Store::open(dir, Options::new(Memory::new(8 << 20, 8 << 20)))
}

fn written(dir: &Path, count: usize) -> Feed {
    let feed = feeds(&plain_steps(count)).swap_remove(0);
    let store = open(dir);
    for place in 0..count {
        store
            .apply(Apply {
                runs: vec![feed.run(place..place + 1)],
                applied: None,
                ..Apply::default()
            })
            .unwrap();
    }
    feed
}

#[test]
fn a_damaged_file_is_refused_or_reported_and_never_served() {
    let dir = scratch();
    let feed = written(dir.path(), 40);
    open(dir.path()).flush().unwrap();
    let intact = open(dir.path());
    let truth: Vec<_> = keys().map(|key| intact.read(&key).unwrap()).collect();
    drop(intact);

    let (mut reported, mut unharmed) = (0, 0);
    for file in files(&dir.path().join("state"), "sst") {
        let length = fs::metadata(&file).unwrap().len() as usize;
        for offset in (0..length).step_by(length / 25 + 1) {
            let copied = scratch();
            copy(dir.path(), copied.path());
            flip(&copied.path().join("state").join(file.file_name().unwrap()), offset);

            let store = match try_open(copied.path()) {
                Ok(store) => store,
                Err(error) => {
                    assert!(error.to_string().contains("move that directory away"), "{error}");
                    reported += 1;
                    continue;
                }
            };
            for (key, truth) in keys().zip(&truth) {
                match store.read(&key) {
                    Ok(read) => assert_eq!(&read, truth, "{offset} of {}", file.display()),
                    Err(error) => assert!(error.to_string().contains("is damaged"), "{error}"),
                }
            }
            for (given, change) in
                store.feed(&feed.places[0], usize::MAX).iter().flatten().zip(&feed.changes)
            {
                assert_eq!(&given.0, change);
            }
            match store.deep_verify(|_| {}) {
                Err(_) => reported += 1,
                Ok(report) => {
                    assert_eq!(report.difference, None, "{offset} of {}", file.display());
                    unharmed += 1;
                }
            }
        }
    }
    assert!(reported > unharmed, "{reported} reported, {unharmed} not");
}

#[test]
fn a_damaged_write_ahead_log_of_the_state_loses_its_end_and_nothing_else() {
    let dir = scratch();
    let feed = written(dir.path(), 6);
    let length = fs::metadata(wal(&dir.path().join("state"))).unwrap().len() as usize;

    for offset in (0..length).step_by(97) {
        let copied = scratch();
        copy(dir.path(), copied.path());
        flip(&wal(&copied.path().join("state")), offset);

        let store = open(copied.path());
        assert_eq!(store.deep_verify(|_| {}).unwrap().difference, None, "{offset}");
        let held = store.cursor(&feed.places[0].origin);
        assert_eq!(held, feed.places[held.seq.0 as usize], "{offset}");
        store
            .apply(Apply {
                runs: vec![feed.run(held.seq.0 as usize..6)],
                applied: None,
                ..Apply::default()
            })
            .unwrap();
    }
}

#[test]
fn a_raft_log_damaged_in_the_middle_is_refused() {
    let dir = scratch();
    let log = RaftLog::open(dir.path(), Syncer::Caller, &memory()).unwrap();
    let entry = |index| {
        let id = chartmesh_store::LogId { term: 1, leader: 1, index };
        (id, bytes::Bytes::from(vec![index as u8; 200]))
    };
    let mut before_last = 0;
    for index in 0..8 {
        before_last = fs::metadata(wal(&dir.path().join("log"))).unwrap().len() as usize;
        log.append(vec![entry(index)], Box::new(|result| result.unwrap()));
        log.sync_pending();
    }
    drop(log);

    for offset in 0..before_last {
        let copied = scratch();
        copy(dir.path(), copied.path());
        flip(&wal(&copied.path().join("log")), offset);

        match RaftLog::open(copied.path(), Syncer::Caller, &memory()) {
            Err(OpenError::Corrupt(_)) => {}
            Err(other) => panic!("{offset}: {other}"),
            Ok(log) => assert_eq!(
                log.read(0..8).unwrap(),
                (0..8).map(entry).collect::<Vec<_>>(),
                "{offset}"
            ),
        }
    }
}

#[test]
fn a_newer_format_is_refused() {
    let dir = scratch();
    written(dir.path(), 1);
    let state = dir.path().join("state");
    let options = rocksdb::Options::default();
    let names = rocksdb::DB::list_cf(&options, &state).unwrap();
    let mut db = rocksdb::DB::open_cf(&options, &state, names).unwrap();
    db.put(b"mf", 2_u32.to_be_bytes()).unwrap();
    db.create_cf("of the future", &options).unwrap();
    drop(db);

    let error = try_open(dir.path()).unwrap_err();

    assert!(matches!(error, OpenError::NewerFormat { format: 2, known: 1, .. }), "{error}");
    assert!(error.to_string().contains("start the newer software again"), "{error}");
}

#[test]
fn a_directory_that_lacks_a_file_is_refused() {
    let dir = scratch();
    written(dir.path(), 20);
    open(dir.path()).flush().unwrap();
    fs::remove_file(&files(&dir.path().join("state"), "sst")[0]).unwrap();

    let error = try_open(dir.path()).unwrap_err();

    assert!(matches!(error, OpenError::Corrupt(_)), "{error}");
    assert!(error.to_string().contains("move that directory away"), "{error}");
}
