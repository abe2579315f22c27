//! This module checks that a crash at any point leaves a store that opens and goes on.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::sync_channel;

use bytes::Bytes;
use chartmesh_record::Horizon;
use chartmesh_store::{Apply, LogId, RaftLog, StateDigest, Store, Syncer};
use proptest::prelude::*;

use crate::world::{Feed, cases, feeds, memory, open, plain_steps, scratch, steps};

/// What a store says of itself.
#[derive(Clone, Debug, PartialEq)]
struct State {
    digest: StateDigest,
    horizon: Horizon,
    applied: Option<Bytes>,
}

fn state(store: &Store) -> State {
    State { digest: store.digest(), horizon: store.horizon(), applied: store.applied() }
}

/// Applies what each feed has beyond what is held, `size` change sets at once; tells each state.
fn go_on(store: &Store, feeds: &[Feed], size: usize, mut told: impl FnMut(State)) {
    for feed in feeds {
        loop {
            let held = store.cursor(&feed.places[0].origin).seq.0 as usize;
            if held == feed.changes.len() {
                break;
            }
            let run = feed.run(held..feed.changes.len().min(held + size));
            let number = store.applied().map_or(0, |it| it[0]) + 1;
            let applied = Some(Bytes::copy_from_slice(&[number]));
            store.apply(Apply { runs: vec![run], applied, ..Apply::default() }).unwrap();
            told(state(store));
        }
    }
}

pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else if entry.file_name() != "LOCK" {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// The newest write-ahead log.
pub(crate) fn wal(dir: &Path) -> PathBuf {
    let files = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|it| it == "log")).max().unwrap()
}

/// Opens a copy whose write-ahead log was cut at these lengths: it must be in one of the states
/// through which it went, and go on from there to the last.
fn check_cuts(dir: &Path, feeds: &[Feed], size: usize, states: &[State], cuts: &[usize]) {
    for &cut in cuts {
        let copied = scratch();
        copy(dir, copied.path());
        let wal = wal(&copied.path().join("state"));
        fs::File::options().write(true).open(wal).unwrap().set_len(cut as u64).unwrap();

        let store = open(copied.path());
        let found = state(&store);
        assert!(states.contains(&found), "cut at {cut}: {found:?}");
        assert_eq!(store.deep_verify(|_| {}).unwrap().difference, None, "cut at {cut}");
        go_on(&store, feeds, size, |_| {});
        assert_eq!(Some(&state(&store)), states.last(), "cut at {cut}");
    }
}

/// Writes a store through all its states and closes it.
fn write(dir: &Path, feeds: &[Feed], size: usize) -> (Vec<State>, usize) {
    let store = open(dir);
    let mut states = vec![state(&store)];
    go_on(&store, feeds, size, |state| states.push(state));
    drop(store);
    let length = fs::metadata(wal(&dir.join("state"))).unwrap().len() as usize;
    (states, length)
}

#[test]
fn a_crash_at_every_byte_of_a_few_small_writes_leaves_one_of_their_states() {
    let feeds = feeds(&plain_steps(3));
    let dir = scratch();

    let (states, length) = write(dir.path(), &feeds, 1);

    assert_eq!(states.len(), 4);
    let cuts: Vec<usize> = (0..=length).collect();
    std::thread::scope(|scope| {
        for half in cuts.chunks(cuts.len().div_ceil(2)) {
            scope.spawn(|| check_cuts(dir.path(), &feeds, 1, &states, half));
        }
    });
}

proptest! {
    #![proptest_config(cases(12))]

    #[test]
    fn a_crash_anywhere_in_many_writes_leaves_one_of_their_states(
        steps in steps(10..60), size in 1..4_usize, cuts in prop::collection::vec(0.0..1.0, 4),
    ) {
        let feeds = feeds(&steps);
        let dir = scratch();
        let (states, length) = write(dir.path(), &feeds, size);
        let cuts: Vec<usize> = cuts.iter().map(|cut| (length as f64 * cut) as usize).collect();
        check_cuts(dir.path(), &feeds, size, &states, &cuts);
    }
}

const CHILD: &str = "CHARTMESH_STORE_CHILD";

fn entry(index: u64) -> (LogId, Bytes) {
    (LogId { term: 1, leader: 1, index }, Bytes::from(vec![index as u8; 300]))
}

#[test]
#[ignore = "the child of a_killed_process_loses_nothing_that_it_was_told_is_written"]
fn child_writes_until_it_is_killed() {
    let Some(dir) = std::env::var_os(CHILD).map(PathBuf::from) else { return };
    let feeds = feeds(&plain_steps(2000));
    let store = open(&dir);
    let log = RaftLog::open(&dir, Syncer::Thread, &memory()).unwrap();
    for place in 0..2000 {
        let (tell, told) = sync_channel(1);
        let done = Box::new(move |result| tell.send(result).unwrap());
        log.append(vec![entry(place as u64)], done);
        told.recv().unwrap().unwrap();
        store
            .apply(Apply {
                runs: vec![feeds[0].run(place..place + 1)],
                applied: None,
                ..Apply::default()
            })
            .unwrap();
        println!("written {place}");
        std::io::stdout().flush().unwrap();
    }
}

#[test]
fn a_killed_process_loses_nothing_that_it_was_told_is_written() {
    let feeds = feeds(&plain_steps(2000));
    let dir = scratch();
    for round in 1..4 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["crash::child_writes_until_it_is_killed", "--exact", "--ignored", "--nocapture"])
            .env(CHILD, dir.path().join(round.to_string()))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let written = lines.map(Result::unwrap).filter(|line| line.starts_with("written "));
        let count = written.take(97 * round).count() as u64;
        child.kill().unwrap();
        child.wait().unwrap();

        let dir = dir.path().join(round.to_string());
        let store = open(&dir);
        assert_eq!(store.deep_verify(|_| {}).unwrap().difference, None);
        assert!(store.cursor(&feeds[0].places[0].origin).seq.0 >= count);
        let log = RaftLog::open(&dir, Syncer::Caller, &memory()).unwrap();
        let last = log.last().unwrap().index;
        assert!(last + 1 >= count, "{last} of {count}");
        assert_eq!(log.read(0..last + 1).unwrap(), (0..=last).map(entry).collect::<Vec<_>>());
    }
}
