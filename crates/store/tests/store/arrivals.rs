//! This module checks the list of what arrived at a node.

use chartmesh_record::{ResourceKey, Timestamp, VersionId};
use chartmesh_store::{Apply, Arrivals, Store, Wanted};
use proptest::prelude::*;

use crate::world::{Feed, ORIGINS, cases, feeds, open, plain_steps, scratch, steps};

const ALL: Wanted = Wanted { kind: None, since: None, during: None, before: None, limit: 1000 };

type Named = (ResourceKey, VersionId);

fn names(arrivals: &Arrivals) -> Vec<Named> {
    arrivals.arrivals.iter().map(|it| (it.key.clone(), it.stored.version.clone())).collect()
}

/// Applies the next change sets of feeds, each time at some moment of a clock. Returns the versions in
/// their order, each with whether it is live and the number of its apply.
fn arrive(
    store: &Store,
    feeds: &[Feed],
    order: &[(usize, usize, i64)],
) -> Vec<(Named, bool, usize)> {
    let (mut done, mut all) = ([0; ORIGINS], Vec::new());
    for (number, &(who, count, at)) in order.iter().enumerate() {
        let end = feeds[who].changes.len().min(done[who] + count);
        let run = feeds[who].run(done[who]..end);
        for change in &run.changes {
            let set = change.change_set();
            all.extend(
                set.versions
                    .iter()
                    .map(|it| ((it.key.clone(), it.id(&set.origin)), it.content.is_some(), number)),
            );
        }
        done[who] = end;
        store.apply(Apply { runs: vec![run], applied: None, arrived: Timestamp(at) }).unwrap();
    }
    all
}

proptest! {
    #![proptest_config(cases(24))]

    #[test]
    fn the_list_is_the_order_of_arrival_whatever_the_clock_says(
        steps in steps(1..20),
        order in prop::collection::vec((0..ORIGINS, 1..4_usize, 1_000..1_100_i64), 1..20),
        limit in 1..5_usize,
    ) {
        let feeds = feeds(&steps);
        let dir = scratch();
        let store = open(dir.path());
        let mut all = arrive(&store, &feeds, &order);
        all.reverse();
        let expected: Vec<_> = all.iter().map(|(named, ..)| named.clone()).collect();

        let whole = store.arrivals(ALL).unwrap();
        prop_assert_eq!(&names(&whole), &expected);
        for (pair, (of, or)) in whole.arrivals.windows(2).zip(all.iter().zip(all.iter().skip(1))) {
            prop_assert_eq!(pair[0].place.at == pair[1].place.at, of.2 == or.2);
        }
        for kind in ["Patient", "Observation"].map(|kind| kind.parse().unwrap()) {
            let of_kind = names(&store.arrivals(Wanted { kind: Some(kind), ..ALL }).unwrap());
            let expected: Vec<_> =
                expected.iter().filter(|(key, _)| key.kind == kind).cloned().collect();
            prop_assert_eq!(of_kind, expected);
        }
        let (mut paged, mut before) = (Vec::new(), None);
        loop {
            let page = store.arrivals(Wanted { before, limit, ..ALL }).unwrap();
            paged.extend(names(&page));
            before = page.arrivals.last().map(|it| it.place);
            if !page.more {
                break;
            }
        }
        prop_assert_eq!(&paged, &expected);
        // Who asks again from where it was told to misses nothing and sees nothing twice.
        for arrival in &whole.arrivals {
            let since = Some(Timestamp(arrival.place.at.0 + 1));
            let later = store.arrivals(Wanted { since, ..ALL }).unwrap().arrivals.len();
            let expected = whole.arrivals.iter().filter(|it| it.place.at > arrival.place.at);
            prop_assert_eq!(later, expected.count());
        }
        prop_assert_eq!(store.deep_verify(|_| {}).unwrap().difference, None);
    }

    #[test]
    fn what_was_there_at_some_time_is_what_had_arrived_last_and_what_arrived_meanwhile(
        steps in steps(1..20),
        order in prop::collection::vec((0..ORIGINS, 1..4_usize), 1..12),
        during in (0..12_usize, 0..4_usize),
        limit in 1..4_usize,
    ) {
        let feeds = feeds(&steps);
        let dir = scratch();
        let store = open(dir.path());
        let instant = |number: usize| 1_000 + 10 * number as i64;
        let order: Vec<_> = order.into_iter().enumerate()
            .map(|(number, (who, count))| (who, count, instant(number))).collect();
        let all = arrive(&store, &feeds, &order);
        let (first, last) = (during.0, during.0 + during.1);
        let mut expected: Vec<_> = all.iter().enumerate().filter(|(place, (named, live, number))| {
            let replaced = all[place + 1..]
                .iter()
                .any(|(later, _, number)| later.0 == named.0 && *number < first);
            *number <= last && (*number >= first || (*live && !replaced))
        }).map(|(_, (named, ..))| named.clone()).collect();
        expected.reverse();

        let during = Some((Timestamp(instant(first)), Timestamp(instant(last))));
        let (mut found, mut before) = (Vec::new(), None);
        loop {
            let page = store.arrivals(Wanted { during, before, limit, ..ALL }).unwrap();
            found.extend(names(&page));
            before = page.arrivals.last().map(|it| it.place);
            if !page.more {
                break;
            }
        }
        prop_assert_eq!(found, expected);
    }
}

/// The tables of a store that is closed.
fn raw(dir: &std::path::Path) -> rocksdb::DB {
    let (state, options) = (dir.join("state"), rocksdb::Options::default());
    let tables = rocksdb::DB::list_cf(&options, &state).unwrap();
    rocksdb::DB::open_cf(&options, &state, tables).unwrap()
}

#[test]
fn a_verification_finds_that_a_version_is_missing_from_the_list() {
    let dir = scratch();
    let store = open(dir.path());
    arrive(&store, &feeds(&plain_steps(6)), &[(0, 100, 5_000)]);
    let place = store.arrivals(ALL).unwrap().arrivals[2].clone();
    drop(store);
    let db = raw(dir.path());
    let key = [
        &[place.key.kind.code()][..],
        &place.place.at.0.to_be_bytes(),
        &place.place.number.to_be_bytes(),
    ]
    .concat();
    let table = db.cf_handle("arrivals").unwrap();
    assert!(db.get_cf(table, &key).unwrap().is_some());
    db.delete_cf(table, &key).unwrap();
    drop(db);

    let difference = open(dir.path()).deep_verify(|_| {}).unwrap().difference.unwrap();

    assert_eq!(difference.what, "what has arrived");
}

#[test]
fn what_an_earlier_build_has_written_is_listed_by_when_it_was_decided() {
    let dir = scratch();
    let feeds = feeds(&plain_steps(6));
    let store = open(dir.path());
    let mut all: Vec<_> = arrive(&store, &feeds, &[(0, 100, 5_000)]);
    drop(store);
    let mut db = raw(dir.path());
    db.drop_cf("arrivals").unwrap();
    db.delete(b"mh").unwrap();
    drop(db);

    let store = open(dir.path());

    let arrivals = store.arrivals(ALL).unwrap();
    let mut listed = names(&arrivals);
    all.sort();
    listed.sort();
    assert_eq!(listed, all.into_iter().map(|(named, ..)| named).collect::<Vec<_>>());
    let decided = arrivals.arrivals.iter().map(|it| it.stored.at);
    let decided: Vec<_> = decided.collect();
    assert!(decided.is_sorted_by(|one, next| one >= next), "{decided:?}");
    assert_eq!(store.deep_verify(|_| {}).unwrap().difference, None);
}
