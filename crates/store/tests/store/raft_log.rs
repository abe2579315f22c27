//! This module checks what the Raft log promises: its order, its syncs, and what a crash leaves.

use std::fs;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use chartmesh_store::{Done, Identity, LogError, LogId, RaftLog, Syncer};
use proptest::prelude::*;

use crate::crash::{copy, wal};
use crate::world::{cases, memory, scratch};

fn id(term: u64, index: u64) -> LogId {
    LogId { term, leader: 9, index }
}

fn entries(term: u64, range: Range<u64>) -> Vec<(LogId, Bytes)> {
    range.map(|index| (id(term, index), format!("{term}.{index}").into())).collect()
}

fn open(dir: &Path) -> RaftLog {
    RaftLog::open(dir, Syncer::Caller, &memory()).unwrap()
}

fn nothing() -> Done {
    Box::new(|result| assert!(matches!(result, Ok(()) | Err(LogError::Closed)), "{result:?}"))
}

fn noted() -> (Arc<AtomicBool>, Done) {
    let note = Arc::new(AtomicBool::new(false));
    let noting = Arc::clone(&note);
    (note, Box::new(move |result| noting.store(result.is_ok(), Ordering::SeqCst)))
}

fn all(log: &RaftLog) -> Vec<(LogId, Bytes)> {
    log.read(0..u64::MAX).unwrap()
}

#[test]
fn success_is_reported_once_it_is_synced_and_not_before() {
    let dir = scratch();
    let log = open(dir.path());
    let (done, note) = noted();

    log.append(entries(1, 0..3), note);
    assert!(!done.load(Ordering::SeqCst));
    assert_eq!(all(&log), entries(1, 0..3));
    log.sync_pending();

    assert!(done.load(Ordering::SeqCst));
    assert_eq!(log.syncs(), 1);
}

#[test]
fn who_waits_for_an_entry_is_told_once_it_is_synced_and_nothing_is_written_for_that() {
    let dir = scratch();
    let log = open(dir.path());
    let [(early, note_early), (late, note_late)] = [noted(), noted()];

    log.append(entries(1, 0..3), nothing());
    log.when_synced(2, note_early);
    assert!(!early.load(Ordering::SeqCst));
    log.sync_pending();
    assert!(early.load(Ordering::SeqCst));
    log.save_committed(Some(id(1, 2)));
    log.when_synced(1, note_late);

    assert!(late.load(Ordering::SeqCst));
    log.sync_pending();
    assert_eq!(log.syncs(), 1);
}

#[test]
fn what_was_not_synced_is_lost_with_the_process() {
    let dir = scratch();
    let log = open(dir.path());
    log.append(entries(1, 0..3), nothing());
    log.sync_pending();
    let (done, note) = noted();
    log.append(entries(1, 3..5), note);
    drop(log);

    assert!(!done.load(Ordering::SeqCst));
    assert_eq!(all(&open(dir.path())), entries(1, 0..3));
}

#[test]
fn a_vote_is_synced_with_all_that_was_queued_before_it() {
    let dir = scratch();
    let log = open(dir.path());
    let (done, note) = noted();
    log.append(entries(1, 0..3), note);
    log.save_committed(Some(id(1, 1)));
    log.save_vote("mine".into(), nothing());

    assert!(done.load(Ordering::SeqCst));
    drop(log);
    let log = open(dir.path());
    assert_eq!(log.vote().as_deref(), Some(&b"mine"[..]));
    assert_eq!(log.committed(), Some(id(1, 1)));
    assert_eq!(all(&log), entries(1, 0..3));
}

#[test]
fn a_disk_knows_who_it_is() {
    let dir = scratch();
    let identity = Identity { raft_id: 42, region: "pac".parse().unwrap(), founded: true };
    let log = open(dir.path());
    assert_eq!(log.identity(), None);
    log.set_identity(&identity).unwrap();
    drop(log);
    assert_eq!(open(dir.path()).identity(), Some(identity));
}

#[test]
fn entries_that_do_not_follow_are_refused() {
    let dir = scratch();
    let log = open(dir.path());
    log.append(entries(1, 4..6), nothing());
    log.sync_pending();
    let (tell, told) = sync_channel(1);
    log.append(entries(1, 7..8), Box::new(move |result| tell.send(result).unwrap()));

    assert_eq!(told.recv().unwrap(), Err(LogError::Gap { last: 5, given: 7 }));
    assert_eq!(all(&log), entries(1, 4..6));
}

#[test]
fn a_thread_syncs_together_what_waits_and_reports_it_in_order() {
    let dir = scratch();
    let log = RaftLog::open(dir.path(), Syncer::Thread, &memory()).unwrap();
    let order = Arc::new(Mutex::new(Vec::new()));
    let (tell, told) = sync_channel(1);
    for index in 0..500 {
        let (order, tell) = (Arc::clone(&order), tell.clone());
        let done = move |result: Result<(), LogError>| {
            result.unwrap();
            order.lock().unwrap().push(index);
            if index == 499 {
                tell.send(()).unwrap();
            }
        };
        log.append(entries(1, index..index + 1), Box::new(done));
    }
    told.recv().unwrap();

    assert_eq!(*order.lock().unwrap(), (0..500).collect::<Vec<_>>());
    assert!(log.syncs() < 500, "{} syncs", log.syncs());
    drop(log);
    assert_eq!(all(&open(dir.path())), entries(1, 0..500));
}

#[test]
fn closing_syncs_what_a_thread_was_given() {
    let dir = scratch();
    let count = Arc::new(AtomicU64::new(0));
    let log = RaftLog::open(dir.path(), Syncer::Thread, &memory()).unwrap();
    for index in 0..50 {
        let count = Arc::clone(&count);
        let done = move |result: Result<(), LogError>| {
            result.unwrap();
            count.fetch_add(1, Ordering::SeqCst);
        };
        log.append(entries(1, index..index + 1), Box::new(done));
    }
    drop(log);
    assert_eq!(count.load(Ordering::SeqCst), 50);
}

#[derive(Clone, Debug)]
enum Operation {
    Append(u64),
    Truncate(u64),
    Purge(u64),
    Vote(u8),
    Sync,
    Reopen,
}

fn operations(count: usize) -> impl Strategy<Value = Vec<Operation>> {
    let operation = prop_oneof![
        6 => (1..4_u64).prop_map(Operation::Append),
        1 => (0..4_u64).prop_map(Operation::Truncate),
        1 => (0..6_u64).prop_map(Operation::Purge),
        1 => any::<u8>().prop_map(Operation::Vote),
        2 => Just(Operation::Sync),
        1 => Just(Operation::Reopen),
    ];
    prop::collection::vec(operation, 1..count)
}

/// What a log must hold.
#[derive(Clone, Debug, Default, PartialEq)]
struct Model {
    entries: Vec<(LogId, Bytes)>,
    purged: Option<LogId>,
    vote: Option<Bytes>,
}

impl Model {
    fn last(&self) -> Option<LogId> {
        self.entries.last().map(|(id, _)| *id).or(self.purged)
    }

    fn of(log: &RaftLog) -> Self {
        let model = Self { entries: all(log), purged: log.purged(), vote: log.vote() };
        assert_eq!(log.last(), model.last());
        model
    }

    /// Does an operation to both. A term is never used twice for an index.
    fn step(&mut self, log: &RaftLog, term: u64, operation: &Operation) {
        let next = self.last().map_or(0, |last| last.index + 1);
        match *operation {
            Operation::Append(count) => {
                let new = entries(term, next..next + count);
                self.entries.extend(new.clone());
                log.append(new, nothing());
            }
            Operation::Truncate(count) => {
                let keep = self.entries.len().saturating_sub(count as usize);
                self.entries.truncate(keep);
                log.truncate_after(self.last(), nothing());
            }
            Operation::Purge(count) => {
                let gone = self.entries.len().min(count as usize);
                if let Some((upto, _)) = self.entries.drain(..gone).last() {
                    self.purged = Some(upto);
                    log.purge(upto, nothing());
                }
            }
            Operation::Vote(vote) => {
                let vote = Bytes::copy_from_slice(&[vote]);
                self.vote = Some(vote.clone());
                log.save_vote(vote, nothing());
            }
            Operation::Sync | Operation::Reopen => log.sync_pending(),
        }
    }
}

proptest! {
    #![proptest_config(cases(40))]

    #[test]
    fn holds_what_the_model_holds(operations in operations(40)) {
        let dir = scratch();
        let mut log = Some(open(dir.path()));
        let mut model = Model::default();
        for (term, operation) in (1..).zip(&operations) {
            model.step(log.as_ref().unwrap(), term, operation);
            if matches!(operation, Operation::Reopen) {
                drop(log.take());
                log = Some(open(dir.path()));
            }
            let log = log.as_ref().unwrap();
            prop_assert_eq!(&Model::of(log), &model);
            for start in 0..6 {
                let part = log.read(start..start + 3).unwrap();
                let within = |id: &LogId| (start..start + 3).contains(&id.index);
                let expected = model.entries.iter().filter(|(id, _)| within(id));
                prop_assert_eq!(part, expected.cloned().collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn a_crash_anywhere_leaves_all_that_was_acknowledged(
        operations in operations(12), cuts in prop::collection::vec(0.0..=1.0, 6),
    ) {
        let dir = scratch();
        let log = open(dir.path());
        // What is held once the file is so long; every state is synced.
        let length = || fs::metadata(wal(&dir.path().join("log"))).unwrap().len();
        let mut states = vec![(0, Model::default())];
        let mut model = Model::default();
        for (term, operation) in (1..).zip(&operations) {
            model.step(&log, term, operation);
            log.sync_pending();
            states.push((length(), model.clone()));
        }
        drop(log);
        for cut in cuts {
            let cut = (length() as f64 * cut) as u64;
            let copied = scratch();
            copy(dir.path(), copied.path());
            let wal = wal(&copied.path().join("log"));
            fs::File::options().write(true).open(wal).unwrap().set_len(cut).unwrap();

            let found = Model::of(&open(copied.path()));
            let acknowledged = states.iter().rposition(|(length, _)| *length <= cut).unwrap();
            prop_assert_eq!(&found, &states[acknowledged].1, "cut at {}", cut);
        }
    }
}
