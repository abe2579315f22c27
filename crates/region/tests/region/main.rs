//! Regions in one process: real disks and real tonic, connections that can be cut.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod commands;
mod disks;
mod feeds;
mod isolation;
mod mesh;
mod mirrors;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use chartmesh_record::{Effect, RejectionReason};
use chartmesh_region::{Accepted, Fate, Limits, Reason, State, SubmitError};

use commands::{create, import, key, put, put_new, put_over};
use mesh::{Mesh, eventually, now};

/// The name of the version that the first operation has made.
fn version(accepted: &Accepted) -> String {
    accepted.outcome.entries[0].version.as_ref().unwrap().to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_single_voter_is_a_region() {
    let mesh = Mesh::founded(1).await;
    let region = &mesh.node(1).region;

    let first = region.submit(put(1, "a", "one")).await.unwrap();
    let second = region.submit(put(2, "a", "two")).await.unwrap();

    assert!(first.applied && second.applied);
    assert!(version(&first).starts_with("1-pac."), "{}", version(&first));
    assert!(version(&second).starts_with("2-pac."), "{}", version(&second));
    eventually("it is a region", || (mesh.state(1) == State::Region).then_some(())).await;
    assert!(region.as_of().is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_at_any_voter_is_read_there_at_once_and_everywhere_soon() {
    let mesh = Mesh::founded(3).await;

    for number in 1..=3 {
        let id = format!("at-{number}");
        let accepted = mesh.node(number).region.submit(put(number as u64, &id, "x")).await;
        assert!(accepted.unwrap().applied);
        assert!(mesh.node(number).store.read(&key(&id)).unwrap().is_some());
    }

    mesh.settle().await;
    for number in 1..=3 {
        assert!(mesh.node(1).store.read(&key(&format!("at-{number}"))).unwrap().is_some());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_linearizable_read_sees_what_was_written_elsewhere_before() {
    let mesh = Mesh::founded(3).await;
    let follower = mesh.follower().await;
    let leader = mesh.leader().await;

    for number in 0..20 {
        let id = format!("r{number}");
        mesh.node(leader).region.submit(put(number, &id, "x")).await.unwrap();
        mesh.node(follower).region.linearize().await.unwrap();
        assert!(mesh.node(follower).store.read(&key(&id)).unwrap().is_some());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retry_returns_the_recorded_outcome_at_any_voter_and_under_any_leader() {
    let mut mesh = Mesh::founded(3).await;
    let follower = mesh.follower().await;
    let first = mesh.node(follower).region.submit(put(1, "a", "once")).await.unwrap();

    let same = mesh.node(mesh.leader().await).region.submit(put(1, "a", "once")).await.unwrap();
    mesh.kill(mesh.leader().await).await;
    let later = mesh.node(follower).region.submit(put(1, "a", "once")).await.unwrap();

    assert_eq!(first.outcome, same.outcome);
    assert_eq!(first.outcome, later.outcome);
    let heads = mesh.node(follower).store.heads(&key("a")).unwrap();
    assert_eq!(heads.current().unwrap().version.generation.0, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_names_the_heads_wherever_it_is_asked_for() {
    let mesh = Mesh::founded(3).await;
    let first = mesh.node(1).region.submit(put(1, "a", "one")).await.unwrap();
    mesh.node(1).region.submit(put(2, "a", "two")).await.unwrap();

    for number in 1..=3 {
        let stale = put_over(10 + number as u64, "a", "three", &version(&first));
        match mesh.node(number).region.submit(stale).await {
            Err(SubmitError::Rejected(rejection)) => match rejection.reason {
                RejectionReason::Precondition { key: about, heads } => {
                    assert_eq!(about, key("a"));
                    assert_eq!(heads.current().unwrap().version.generation.0, 2);
                }
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_lose_nothing_and_double_nothing_while_leaders_are_killed() {
    let mut mesh = Mesh::founded(3).await;
    mesh.limits = Limits { patience: Duration::from_secs(10), ..Limits::default() };
    let acknowledged = Arc::new(AtomicU64::new(0));
    let mut writers = tokio::task::JoinSet::new();
    let stop = Arc::new(AtomicBool::new(false));
    let live =
        |mesh: &Mesh| mesh.running().map(|(_, node)| node.region.clone()).collect::<Vec<_>>();
    let regions = Arc::new(std::sync::Mutex::new(live(&mesh)));
    for writer in 0..8_u64 {
        let (regions, stop) = (Arc::clone(&regions), Arc::clone(&stop));
        let acknowledged = Arc::clone(&acknowledged);
        writers.spawn(async move {
            let mut number = writer * 1_000_000;
            let id = format!("w{writer}");
            while !stop.load(Ordering::Relaxed) {
                number += 1;
                loop {
                    let region = {
                        let regions = regions.lock().unwrap();
                        regions[(number as usize) % regions.len()].clone()
                    };
                    let attempt = region.submit(put(number, &id, &format!("{number}")));
                    match tokio::time::timeout(Duration::from_secs(3), attempt).await {
                        Ok(Ok(_)) => break,
                        Ok(Err(SubmitError::Rejected(rejection))) => panic!("{rejection}"),
                        Ok(Err(SubmitError::Unavailable(_))) | Err(_) => {}
                    }
                }
                acknowledged.fetch_add(1, Ordering::Relaxed);
            }
            number - writer * 1_000_000
        });
    }

    for _ in 0..4 {
        tokio::time::sleep(Duration::from_millis(700)).await;
        let leader = mesh.leader().await;
        mesh.kill(leader).await;
        *regions.lock().unwrap() = live(&mesh);
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        mesh.start(leader, false).await;
        *regions.lock().unwrap() = live(&mesh);
    }
    stop.store(true, Ordering::Relaxed);
    let mut written = Vec::new();
    while let Some(count) = writers.join_next().await {
        written.push(count.unwrap());
    }
    mesh.settle().await;

    println!("{} writes", acknowledged.load(Ordering::Relaxed));
    let generations: u64 = (0..8)
        .map(|writer| {
            let heads = mesh.node(1).store.heads(&key(&format!("w{writer}"))).unwrap();
            heads.current().unwrap().version.generation.0
        })
        .sum();
    assert_eq!(generations, written.iter().sum::<u64>(), "each write made one version");
    assert_eq!(generations, acknowledged.load(Ordering::Relaxed));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_write_is_accepted_soon_after_the_leader_is_killed() {
    let mut mesh = Mesh::founded(3).await;
    let mut gaps = Vec::new();

    for round in 0..6_u64 {
        let leader = mesh.leader().await;
        let survivor = mesh.follower().await;
        mesh.node(survivor).region.submit(put(100 * round, "a", "before")).await.unwrap();
        let killed = now();
        mesh.kill(leader).await;
        mesh.node(survivor).region.submit(put(100 * round + 1, "a", "after")).await.unwrap();
        gaps.push(killed.elapsed());
        mesh.start(leader, false).await;
        mesh.settle().await;
    }

    gaps.sort();
    println!("time without a write after a leader was killed: {gaps:?}");
    assert!(gaps[gaps.len() / 2] < Duration::from_millis(1_200), "{gaps:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drained_leader_has_handed_over_before_it_stops() {
    let mut mesh = Mesh::founded(3).await;
    tokio::time::sleep(Duration::from_millis(1_500)).await;

    for round in 0..3_u64 {
        let leader = mesh.leader().await;
        let survivor = mesh.follower().await;
        let begun = now();
        mesh.node(leader).region.drain().await;
        let drained = begun.elapsed();
        mesh.node(survivor).region.submit(put(round, "a", "x")).await.unwrap();
        let written = begun.elapsed();
        println!("drained in {drained:?}, next write after {written:?}");
        assert!(drained < Duration::from_millis(1_200), "{drained:?}");
        assert!(written < Duration::from_millis(1_200), "{written:?}");
        mesh.kill(leader).await;
        mesh.start(leader, false).await;
        mesh.settle().await;
        tokio::time::sleep(Duration::from_millis(1_500)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deposed_leader_that_does_not_know_it_yet_refuses_nothing() {
    let mut mesh = Mesh::new(3);
    mesh.limits = Limits { patience: Duration::from_secs(2), ..Limits::default() };
    for number in 1..=3 {
        mesh.start(number, number == 1).await;
    }
    let old = mesh.leader().await;
    mesh.node(old).region.submit(put(1, "a", "stands")).await.unwrap();
    mesh.settle().await;

    mesh.cut(old);
    // What was on its way may still arrive, and confirm.
    tokio::time::sleep(Duration::from_millis(50)).await;
    let answer = mesh.node(old).region.submit(put_new(2, "a")).await;

    match answer {
        Err(SubmitError::Unavailable(unavailable)) => {
            assert!(matches!(unavailable.reason, Reason::NoQuorum), "{unavailable:?}");
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_quorum_writes_are_answered_in_time_and_reads_go_on() {
    let mut mesh = Mesh::new(3);
    mesh.limits = Limits {
        patience: Duration::from_secs(1),
        isolation_after: Duration::from_secs(3),
        ..Limits::default()
    };
    for number in 1..=3 {
        mesh.start(number, number == 1).await;
    }
    let accepted = mesh.node(3).region.submit(put(1, "a", "x")).await.unwrap();
    assert!(accepted.applied);
    eventually("it is a region", || (mesh.state(3) == State::Region).then_some(())).await;
    mesh.kill(1).await;
    mesh.kill(2).await;

    let begun = now();
    let answer = mesh.node(3).region.submit(put(2, "a", "y")).await;

    assert!(begun.elapsed() < Duration::from_millis(1_500), "{:?}", begun.elapsed());
    let Err(SubmitError::Unavailable(unavailable)) = answer else { panic!("{answer:?}") };
    assert_eq!(unavailable.reason, Reason::NoQuorum);
    assert!(mesh.node(3).region.linearize().await.is_err());
    assert!(mesh.node(3).store.read(&key("a")).unwrap().is_some());
    let isolated = || matches!(mesh.state(3), State::Isolated { .. }).then_some(());
    eventually("it is isolated", isolated).await;

    mesh.start(1, false).await;
    eventually("it is a region", || (mesh.state(3) == State::Region).then_some(())).await;
    let again = mesh.node(3).region.submit(put(2, "a", "y")).await;
    let again = match again {
        Ok(again) => again,
        Err(_) => mesh.node(3).region.submit(put(2, "a", "y")).await.unwrap(),
    };
    assert_eq!(again.outcome.entries[0].effect, Effect::Updated);
    assert!(version(&again).starts_with("2-"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn before_the_founding_writes_wait_and_then_say_why() {
    let mut mesh = Mesh::new(3);
    mesh.limits = Limits { patience: Duration::from_millis(400), ..Limits::default() };
    mesh.start(1, true).await;
    mesh.start(2, false).await;

    let answer = mesh.node(1).region.submit(create(1, "x")).await;

    let Err(SubmitError::Unavailable(unavailable)) = answer else { panic!("{answer:?}") };
    assert_eq!((unavailable.reason, unavailable.fate), (Reason::Starting, Fate::NotWritten));
    assert_eq!(mesh.state(1), State::Starting { founded: false });
    mesh.start(3, false).await;
    mesh.leader().await;
    assert!(mesh.node(2).region.submit(create(1, "x")).await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_voter_with_an_empty_disk_is_let_in_as_a_new_one() {
    let mut mesh = Mesh::founded(3).await;
    mesh.node(1).region.submit(put(1, "a", "x")).await.unwrap();
    mesh.settle().await;
    let raft_id = |mesh: &Mesh, number: usize| {
        let members = mesh.node(number).region.status().members;
        let own = members.iter().find(|member| member.name == mesh.name(number));
        own.unwrap().raft_id
    };

    // Neither with the flag nor without is the region founded again.
    for (found, number) in [(false, 2), (true, 3)] {
        let wiped = mesh.follower().await;
        let old = raft_id(&mesh, wiped);
        mesh.kill(wiped).await;
        mesh.wipe(wiped).await;
        mesh.start(wiped, found).await;
        let votes = || {
            let status = mesh.node(wiped).region.status();
            let votes = status.applied > 0 && status.alarms.is_empty();
            (votes && status.state == State::Region).then_some(())
        };
        eventually("it votes again", votes).await;
        assert_ne!(raft_id(&mesh, wiped), old);
        mesh.node(wiped).region.submit(put(number, "b", "x")).await.unwrap();
        mesh.settle().await;
    }
    assert!(mesh.node(1).store.read(&key("a")).unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_founding_flag_does_nothing_at_a_voter_of_a_group() {
    let mut mesh = Mesh::founded(3).await;
    let first = mesh.node(2).region.submit(put(1, "a", "x")).await.unwrap();
    mesh.kill(1).await;

    mesh.start(1, true).await;
    mesh.settle().await;
    let second = mesh.node(1).region.submit(put(2, "a", "y")).await.unwrap();

    let origin = |accepted: &Accepted| accepted.outcome.change.clone().unwrap().0;
    assert_eq!(origin(&first), origin(&second));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_speaks_in_the_name_of_another_voter() {
    let mut mesh = Mesh::founded(3).await;
    let leader = mesh.leader().await;
    let (one, two) = match leader {
        1 => (2, 3),
        2 => (1, 3),
        _ => (1, 2),
    };

    // The leader's messages now come in the name of a follower: the others refuse them, and elect.
    mesh.mask(leader, mesh.name(one).as_str());
    let elected = eventually("another leads", || {
        let status = mesh.node(two).region.status();
        status.leader.filter(|name| *name != mesh.name(leader))
    });
    elected.await;
    mesh.kill(leader).await;

    assert!(mesh.node(two).region.submit(put(1, "a", "x")).await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_big_command_is_the_same_at_all_voters_and_small_ones_go_between_its_parts() {
    let mut mesh = Mesh::founded(3).await;
    let follower = mesh.follower().await;
    let big = import(1, 4_000, 3_000);
    let stop = Arc::new(AtomicBool::new(false));
    let small = tokio::spawn({
        let (region, stop) = (mesh.node(follower).region.clone(), Arc::clone(&stop));
        async move {
            let (mut number, mut worst) = (1_000_000, Duration::ZERO);
            while !stop.load(Ordering::Relaxed) {
                number += 1;
                let begun = now();
                region.submit(put(number, "small", "x")).await.unwrap();
                worst = worst.max(begun.elapsed());
            }
            (number - 1_000_000, worst)
        }
    });

    let begun = now();
    let accepted = mesh.node(follower).region.submit(big.clone()).await.unwrap();
    let took = begun.elapsed();
    stop.store(true, Ordering::Relaxed);
    let (writes, worst) = small.await.unwrap();
    println!("12 MB in {took:?}; meanwhile {writes} small writes, the slowest in {worst:?}");

    assert_eq!(accepted.outcome.entries.len(), 4_000);
    mesh.settle().await;
    // A voter that was away puts it together from its log; a retry finds it done.
    mesh.kill(follower).await;
    let other = mesh.leader().await;
    let again = mesh.node(other).region.submit(big).await.unwrap();
    assert_eq!(again.outcome, accepted.outcome);
    let second = mesh.node(other).region.submit(import(2, 1_000, 3_000)).await.unwrap();
    mesh.start(follower, false).await;
    mesh.settle().await;
    for (_, node) in mesh.running() {
        let last = second.outcome.entries.last().unwrap().key.clone().unwrap();
        assert!(node.store.read(&last).unwrap().is_some());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn instants_never_go_back_and_ages_stay_small() {
    let mut mesh = Mesh::founded(3).await;
    let mut last = None;

    for round in 0..3_u64 {
        let leader = mesh.leader().await;
        for number in 0..20 {
            let (_, node) = mesh.running().next().unwrap();
            let accepted = node.region.submit(put(100 * round + number, "a", "x")).await.unwrap();
            assert!(Some(accepted.outcome.at) > last, "{:?} after {last:?}", accepted.outcome.at);
            last = Some(accepted.outcome.at);
        }
        for (number, node) in mesh.running() {
            let what = format!("node {number} shows a young instant past the last write");
            let young = || {
                let as_of = node.region.as_of()?;
                let passed = Some(as_of.instant) >= last;
                (passed && as_of.age < Duration::from_millis(2_500)).then_some(())
            };
            eventually(&what, young).await;
        }
        mesh.kill(leader).await;
        mesh.start(leader, false).await;
        mesh.settle().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chain_of_updates_is_never_refused_while_leaders_change() {
    let mut mesh = Mesh::founded(3).await;
    mesh.limits = Limits { patience: Duration::from_secs(10), ..Limits::default() };

    for round in 0..4_u64 {
        let leader = mesh.leader().await;
        let survivor = mesh.node(mesh.follower().await).region.clone();
        let old = mesh.node(leader).region.clone();
        let killed = tokio::sync::watch::Sender::new(false);
        let mut chains = tokio::task::JoinSet::new();
        for chain in 0..8_u64 {
            let (survivor, old, mut killed) = (survivor.clone(), old.clone(), killed.subscribe());
            chains.spawn(async move {
                let mut number = round * 1_000_000 + chain * 10_000;
                let id = format!("c{number}");
                let first = survivor.submit(put(number, &id, "0")).await.unwrap();
                let (mut over, mut after) = (version(&first), 0);
                while after < 2 {
                    number += 1;
                    let update = put_over(number, &id, &format!("{number}"), &over);
                    let dead = *killed.borrow_and_update();
                    let answer = if dead {
                        survivor.submit(update.clone()).await
                    } else {
                        tokio::select! {
                            answer = old.submit(update.clone()) => answer,
                            _ = killed.changed() => survivor.submit(update.clone()).await,
                        }
                    };
                    over = version(&answer.unwrap());
                    after += u32::from(dead);
                }
            });
        }
        drop(old);
        tokio::time::sleep(Duration::from_millis(200)).await;
        // What is acknowledged now, nobody else knows to be committed.
        mesh.mute(leader);
        tokio::time::sleep(Duration::from_millis(40)).await;
        mesh.cut(leader);
        killed.send_replace(true);
        while let Some(done) = chains.join_next().await {
            done.unwrap();
        }
        drop(survivor);
        mesh.kill(leader).await;
        mesh.start(leader, false).await;
        mesh.settle().await;
    }
}

/// Not a check: a figure. Run with `--ignored --nocapture`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn figures() {
    let mesh = Mesh::founded(3).await;
    let follower = mesh.follower().await;
    for clients in [1, 8, 32] {
        let count = Arc::new(AtomicU64::new(0));
        let stop = Arc::new(AtomicBool::new(false));
        let mut writers = tokio::task::JoinSet::new();
        for client in 0..clients {
            let number = 1 + (client as usize) % 3;
            let region = mesh.node(number).region.clone();
            let (count, stop) = (Arc::clone(&count), Arc::clone(&stop));
            writers.spawn(async move {
                let mut number = clients * 1_000_000_000 + client * 1_000_000;
                while !stop.load(Ordering::Relaxed) {
                    number += 1;
                    region.submit(create(number, "some words")).await.unwrap();
                    count.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        let (begun, before) = (now(), count.load(Ordering::Relaxed));
        tokio::time::sleep(Duration::from_secs(4)).await;
        let done = count.load(Ordering::Relaxed) - before;
        let rate = done as f64 / begun.elapsed().as_secs_f64();
        println!("{clients} clients: {rate:.0} writes/s");
        stop.store(true, Ordering::Relaxed);
        while writers.join_next().await.is_some() {}
    }
    let stop = Arc::new(AtomicBool::new(false));
    let small = tokio::spawn({
        let (region, stop) = (mesh.node(follower).region.clone(), Arc::clone(&stop));
        async move {
            let mut writes = tokio::task::JoinSet::new();
            let mut ticks = tokio::time::interval(Duration::from_millis(20));
            let mut number = 1_000;
            while !stop.load(Ordering::Relaxed) {
                ticks.tick().await;
                number += 1;
                let region = region.clone();
                writes.spawn(async move {
                    let begun = now();
                    let accepted = region.submit(create(number, "small")).await.unwrap();
                    (begun.elapsed(), accepted.applied)
                });
            }
            let mut took = writes.join_all().await;
            took.sort();
            let pending = took.iter().filter(|(_, applied)| !applied).count();
            let at = |part: f64| took[((took.len() - 1) as f64 * part) as usize].0;
            println!(
                "50 small writes/s: {} done, p50 {:?}, p90 {:?}, p99 {:?}, max {:?}, {pending} pending",
                took.len(),
                at(0.5),
                at(0.9),
                at(0.99),
                at(1.0)
            );
        }
    });
    tokio::time::sleep(Duration::from_secs(3)).await;
    let begun = now();
    let big = import(1, 25_000, 2_000);
    println!("made in {:?}", begun.elapsed());
    let begun = now();
    let leader = mesh.leader().await;
    mesh.node(leader).region.submit(big).await.unwrap();
    println!("25,000 resources, 62 MB: {:?}", begun.elapsed());
    tokio::time::sleep(Duration::from_secs(3)).await;
    stop.store(true, Ordering::Relaxed);
    small.await.unwrap();
}
