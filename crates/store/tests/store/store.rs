//! This module checks that a store answers as the model does, whatever the order of arrival.

use chartmesh_record::{Cursor, RequestId, Seq, Timestamp};
use chartmesh_store::{Apply, FeedError, Run, RunOutcome, Store};
use chartmesh_wire::Canonical;
use proptest::prelude::*;

use crate::model::Model;
use crate::world::{Feed, ORIGINS, cases, feeds, key, open, plain_steps, scratch, steps};

/// Applies the next change sets of feeds in the order of `order`, so many at once, until all are.
fn apply_all(
    store: &Store,
    feeds: &[Feed],
    order: &[(usize, usize)],
    mut seen: impl FnMut(&Store),
) {
    let mut done = [0; ORIGINS];
    let rest = (0..ORIGINS).map(|who| (who, usize::MAX));
    for (who, count) in order.iter().copied().chain(rest) {
        let end = feeds[who].changes.len().min(done[who] + count.min(1000));
        // What is held already is given again.
        let run = feeds[who].run(done[who].saturating_sub(1)..end);
        let new = end - done[who];
        let outcome =
            store.apply(Apply { runs: vec![run], applied: None, ..Apply::default() }).unwrap();
        assert_eq!(outcome.runs, [RunOutcome::Held { new }]);
        done[who] = end;
        seen(store);
    }
}

fn order() -> impl Strategy<Value = Vec<(usize, usize)>> {
    prop::collection::vec((0..ORIGINS, 1..4_usize), 0..20)
}

proptest! {
    #![proptest_config(cases(24))]

    #[test]
    fn answers_as_the_model_does_whatever_the_order(
        steps in steps(1..24), first in order(), second in order(),
    ) {
        let feeds = feeds(&steps);
        let mut model = Model::default();
        feeds.iter().flat_map(|feed| &feed.changes).for_each(|it| model.take(it.clone()));

        let (a, b) = (scratch(), scratch());
        let digests = [(a.path(), &first), (b.path(), &second)].map(|(dir, order)| {
            let store = open(dir);
            apply_all(&store, &feeds, order, |_| {});
            model.check(&store);
            store.digest()
        });
        prop_assert_eq!(digests[0], digests[1]);
        model.check(&open(a.path()));
    }

    #[test]
    fn answers_as_the_model_does_on_the_way(steps in steps(1..16), order in order()) {
        let feeds = feeds(&steps);
        let dir = scratch();

        apply_all(&open(dir.path()), &feeds, &order, |store| {
            let mut model = Model::default();
            for feed in &feeds {
                let held = store.cursor(&feed.places[0].origin).seq.0 as usize;
                feed.changes[..held].iter().for_each(|it| model.take(it.clone()));
            }
            model.check(store);
        });
    }

    #[test]
    fn gives_a_feed_out_in_the_bytes_in_which_it_came(steps in steps(1..24), max in 0..2000_usize) {
        let feeds = feeds(&steps);
        let dir = scratch();
        let store = open(dir.path());
        apply_all(&store, &feeds, &[], |_| {});

        for feed in &feeds {
            for place in &feed.places {
                let chain = store.chain(&place.origin, place.seq).unwrap();
                prop_assert_eq!(chain, Some(place.hash));
            }
            let end = feed.places.last().unwrap();
            prop_assert_eq!(store.chain(&end.origin, end.seq.next()).unwrap(), None);
            let mut at = feed.places[0].clone();
            while at.seq < feed.places.last().unwrap().seq {
                let given = store.feed(&at, max).unwrap();
                prop_assert!(!given.is_empty());
                let bytes: usize = given.iter().map(|(change, _)| change.bytes().len()).sum();
                prop_assert!(given.len() == 1 || bytes <= max);
                for (change, hash) in given {
                    prop_assert_eq!(&change, &feed.changes[at.seq.0 as usize]);
                    at = at.extend(change.bytes());
                    prop_assert_eq!(at.hash, hash);
                }
            }
            prop_assert_eq!(store.feed(&at, max).unwrap(), vec![]);
        }
    }
}

#[test]
fn several_runs_of_one_feed_fit_one_apply() {
    let feeds = feeds(&plain_steps(9));
    let (one, many) = (scratch(), scratch());

    let at_once = open(one.path());
    let runs = vec![feeds[0].run(0..4), feeds[0].run(2..6), feeds[0].run(6..9)];
    let applied =
        at_once.apply(Apply { runs, applied: Some("7".into()), ..Apply::default() }).unwrap();
    let in_turn = open(many.path());
    apply_all(&in_turn, &feeds, &[(0, 1), (0, 1)], |_| {});

    let news = [4, 2, 3].map(|new| RunOutcome::Held { new });
    assert_eq!(applied.runs, news);
    assert_eq!(at_once.digest(), in_turn.digest());
    assert_eq!(at_once.applied().as_deref(), Some(&b"7"[..]));
    assert_eq!(at_once.deep_verify(|_| {}).unwrap().difference, None);
}

#[test]
fn a_run_that_does_not_fit_changes_nothing() {
    let feeds = feeds(&plain_steps(5));
    let dir = scratch();
    let store = open(dir.path());
    let held = feeds[0].places[2].clone();
    store
        .apply(Apply { runs: vec![feeds[0].run(0..2)], applied: None, ..Apply::default() })
        .unwrap();

    let gap = feeds[0].run(3..4);
    let elsewhere = Run { extends: held.clone(), changes: vec![feeds[0].changes[3].clone()] };
    let forked = Run {
        extends: Cursor { hash: feeds[0].places[0].hash, ..held.clone() },
        changes: vec![feeds[0].changes[2].clone()],
    };
    let digest = store.digest();
    let outcome = store
        .apply(Apply { runs: vec![gap, elsewhere, forked], applied: None, ..Apply::default() })
        .unwrap();

    let misfit = RunOutcome::Misfit { held: held.clone() };
    assert_eq!(outcome.runs, [misfit.clone(), misfit, RunOutcome::Forked { held }]);
    assert_eq!(store.digest(), digest);
}

#[test]
fn other_bytes_at_a_place_that_is_held_are_a_fork() {
    let feeds = feeds(&plain_steps(3));
    let dir = scratch();
    let store = open(dir.path());
    store
        .apply(Apply { runs: vec![feeds[0].run(0..3)], applied: None, ..Apply::default() })
        .unwrap();

    let mut other = feeds[0].changes[1].change_set().clone();
    other.client = Some("somebody else".to_owned());
    let run = Run {
        extends: feeds[0].places[1].clone(),
        changes: vec![Canonical::encode(other), feeds[0].changes[2].clone()],
    };
    let outcome =
        store.apply(Apply { runs: vec![run.clone()], applied: None, ..Apply::default() }).unwrap();
    let beside = store
        .apply(Apply { runs: vec![run], applied: Some("8".into()), ..Apply::default() })
        .unwrap();

    let held = feeds[0].places[2].clone();
    assert_eq!(outcome.runs, [RunOutcome::Forked { held }]);
    assert_eq!(beside.runs, outcome.runs);
    assert_eq!(store.applied(), None, "nobody gets past a fork");
    let stranger = Cursor { hash: feeds[0].places[0].hash, ..feeds[0].places[1].clone() };
    assert!(store.feed(&stranger, 1000).is_err());
}

/// A feed of change sets that are decided an hour apart.
fn hourly(count: usize) -> Feed {
    let mut feed = feeds(&plain_steps(count)).swap_remove(0);
    let mut at = feed.places[0].clone();
    feed.places.truncate(1);
    for (hour, change) in feed.changes.iter_mut().enumerate() {
        let mut set = change.change_set().clone();
        set.at = Timestamp(set.at.0 + 3_600_000 * hour as i64);
        set.request = RequestId([hour as u8; 16]);
        *change = Canonical::encode(set);
        at = at.extend(change.bytes());
        feed.places.push(at.clone());
    }
    feed
}

#[test]
fn a_request_is_remembered_for_a_day_of_its_region_and_no_longer() {
    let feed = hourly(60);
    let (one, many) = (scratch(), scratch());
    let at_once = open(one.path());
    at_once
        .apply(Apply { runs: vec![feed.run(0..60)], applied: None, ..Apply::default() })
        .unwrap();
    let in_turn = open(many.path());
    for place in 0..60 {
        in_turn
            .apply(Apply {
                runs: vec![feed.run(place..place + 1)],
                applied: None,
                ..Apply::default()
            })
            .unwrap();
    }

    for store in [&at_once, &in_turn] {
        for hour in 0..60_u8 {
            let remembered = store.recorded(&RequestId([hour; 16])).unwrap();
            // The newest is of hour 59; what was decided more than 24 hours before is forgotten.
            assert_eq!(remembered.is_some(), hour >= 36, "hour {hour}");
            let seq = Seq(u64::from(hour) + 1);
            let change = remembered.and_then(|it| it.outcome.change).map(|(_, seq)| seq);
            assert!(change.is_none_or(|it| it == seq));
        }
        assert_eq!(store.deep_verify(|_| {}).unwrap().difference, None);
    }
}

#[test]
fn a_snapshot_does_not_see_what_is_applied_later() {
    use chartmesh_record::View;
    let feeds = feeds(&plain_steps(6));
    let dir = scratch();
    let store = open(dir.path());
    store
        .apply(Apply { runs: vec![feeds[0].run(0..3)], applied: None, ..Apply::default() })
        .unwrap();

    let before = store.heads(&key(0)).unwrap();
    let snapshot = store.snapshot();
    store
        .apply(Apply { runs: vec![feeds[0].run(3..6)], applied: None, ..Apply::default() })
        .unwrap();

    assert_eq!(snapshot.heads(&key(0)).unwrap(), before);
    assert_ne!(store.heads(&key(0)).unwrap(), before);
}

#[test]
fn knows_how_much_room_is_left() {
    let dir = scratch();
    assert!(open(dir.path()).free_space().unwrap() > 0);
}

#[test]
fn a_store_that_is_open_elsewhere_says_so() {
    let dir = scratch();
    let _store = open(dir.path());
    let options = chartmesh_store::Options::new(crate::world::memory());
    let error = Store::open(dir.path(), options).unwrap_err();
    assert!(error.to_string().contains("in use by another process"), "{error}");
}

#[test]
fn what_is_held_back_is_given_out_and_applied_once_it_can_be_read() {
    let feeds = feeds(&plain_steps(9));
    let feed = &feeds[0];
    let dir = scratch();
    let bytes = |range: std::ops::Range<usize>| -> Vec<bytes::Bytes> {
        feed.changes[range].iter().map(|change| change.bytes().clone()).collect()
    };
    let origin = feed.places[0].origin.clone();

    {
        let store = open(dir.path());
        store.apply(Apply { runs: vec![feed.run(0..3)], ..Apply::default() }).unwrap();
        assert_eq!(store.hold_back(&feed.places[2], &bytes(2..4)).unwrap(), None, "not its end");
        let end = store.hold_back(&feed.places[3], &bytes(3..6)).unwrap();
        assert_eq!(end.as_ref(), Some(&feed.places[6]));
        store.hold_back(&feed.places[6], &bytes(6..9)).unwrap().unwrap();
        assert_eq!(store.cursor(&origin), feed.places[3], "nothing of it is applied");
    }
    let store = open(dir.path());
    assert_eq!(store.furthest(&origin), feed.places[9]);
    for place in 0..9 {
        let given = store.feed_as_held(&feed.places[place], 1).unwrap();
        assert_eq!(given, [(feed.changes[place].bytes().clone(), feed.places[place + 1].hash)]);
    }
    assert_eq!(store.feed_as_held(&feed.places[9], 1).unwrap(), []);
    let other = Cursor { hash: feed.places[0].hash, ..feed.places[5].clone() };
    assert!(matches!(store.feed_as_held(&other, 1), Err(FeedError::Forked { .. })));

    assert_eq!(store.release(Timestamp(1)).unwrap(), []);

    assert_eq!(store.cursor(&origin), feed.places[9]);
    assert!(!store.is_held_back(&origin));
    assert_eq!(store.deep_verify(|_| {}).unwrap().difference, None);
    drop(store);
    assert!(!open(dir.path()).is_held_back(&origin));
}

#[test]
fn what_no_node_can_give_is_passed_over_by_name_and_what_follows_is_taken() {
    let feeds = feeds(&plain_steps(6));
    let feed = &feeds[0];
    let (dir, whole) = (scratch(), scratch());
    let lost = feed.places[3].clone();

    {
        let store = open(dir.path());
        store.apply(Apply { runs: vec![feed.run(0..2)], ..Apply::default() }).unwrap();
        assert!(!store.skip(&feed.places[4], Timestamp(1)).unwrap(), "it is not the next");
        assert!(store.skip(&lost, Timestamp(1)).unwrap());
        store.apply(Apply { runs: vec![feed.run(3..6)], ..Apply::default() }).unwrap();
    }
    let store = open(dir.path());
    let complete = open(whole.path());
    apply_all(&complete, &feeds, &[], |_| {});

    assert_eq!(store.cursor(&lost.origin), feed.places[6]);
    assert_eq!(store.lost(), std::slice::from_ref(&lost));
    assert_eq!(store.feed(&feed.places[1], usize::MAX).unwrap().len(), 1, "up to there");
    let nothing = store.feed(&feed.places[2], 1);
    assert!(matches!(nothing, Err(FeedError::Lost { seq: Seq(3), .. })), "{nothing:?}");
    assert_eq!(store.feed(&lost, 1).unwrap().len(), 1, "it goes on after it");
    assert_eq!(store.decided_at(&lost.origin, Seq(3)).unwrap(), None);
    assert_eq!(store.deep_verify(|_| {}).unwrap().difference, None);
    assert_ne!(store.counts(), complete.counts(), "what is lost is missing");
}
