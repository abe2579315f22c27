//! Nodes that are cut off from their region: what they write, what is told of them, how they return.

use std::time::Duration;

use chartmesh_record::{Cursor, Origin, Seq, Silent};
use chartmesh_region::{
    Accepted, Durability, Fate, IsolationWrites, Limits, Reason, State, SubmitError, Unavailable,
};

use crate::commands::{create, import, key, put, put_over};
use crate::feeds::{Carries, give_foreign};
use crate::mesh::{Mesh, eventually, now};
use crate::version;

/// A region whose nodes isolate themselves sooner than others do.
pub(crate) fn limits() -> Limits {
    Limits {
        isolation_after: Duration::from_secs(2),
        patience: Duration::from_millis(3_500),
        ..Limits::default()
    }
}

/// One whose nodes are all in touch with it.
async fn region() -> Mesh {
    let mesh = Mesh::with(3, 0, limits()).found().await;
    for number in 1..=3 {
        returned(&mesh, number).await;
    }
    mesh
}

/// The feed of a change, and its place there.
fn change(accepted: &Accepted) -> (Origin, Seq) {
    accepted.outcome.change.clone().unwrap()
}

/// Waits until a node is isolated.
pub(crate) async fn isolated(mesh: &Mesh, number: usize) {
    let isolated = || matches!(mesh.state(number), State::Isolated { .. }).then_some(());
    eventually("it is isolated", isolated).await;
}

/// Waits until a node is in touch with its region.
pub(crate) async fn returned(mesh: &Mesh, number: usize) {
    let returned = || (mesh.state(number) == State::Region).then_some(());
    eventually("it is back in its region", returned).await;
}

/// How the newest statement that a node shows calls another.
fn called(mesh: &Mesh, at: usize, number: usize) -> Option<Silent> {
    let (statement, _) = mesh.node(at).region.stated()?;
    statement.silent.into_iter().find(|silent| silent.node == mesh.name(number))
}

fn unavailable(answer: Result<Accepted, SubmitError>) -> Unavailable {
    match answer {
        Err(SubmitError::Unavailable(unavailable)) => unavailable,
        other => panic!("{other:?}"),
    }
}

/// The journals of a node that another holds.
fn journals(mesh: &Mesh, at: usize, of: usize) -> Vec<Cursor> {
    let horizon = mesh.node(at).store.horizon().into_values();
    horizon.filter(|cursor| cursor.origin.name() == mesh.name(of).0).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_voter_that_is_cut_off_writes_a_journal_and_returns_with_nothing_lost() {
    let mesh = region().await;
    let (leader, cut) = (mesh.leader().await, mesh.follower().await);
    let node = mesh.node(cut);
    node.region.submit(put(1, "both", "before")).await.unwrap();
    mesh.settle().await;

    mesh.cut(cut);
    isolated(&mesh, cut).await;
    let created = node.region.submit(put(2, "alone", "x")).await.unwrap();
    let updated = node.region.submit(put(3, "both", "here")).await.unwrap();
    mesh.node(leader).region.submit(put(4, "both", "there")).await.unwrap();

    let (journal, _) = change(&created);
    assert_eq!(journal.name(), mesh.name(cut).0);
    assert_eq!(change(&updated), (journal.clone(), Seq(2)), "both are in one journal");
    assert_eq!(created.durability, Durability::Node);
    assert!(created.applied && node.store.read(&key("alone")).unwrap().is_some());
    assert_eq!(node.store.synced(&journal), Seq(2), "what is answered is on the disk");
    assert!(node.region.orders(&journal));

    mesh.mend(cut);
    returned(&mesh, cut).await;
    assert!(!node.region.orders(&journal), "it is closed");
    for (number, _) in mesh.running().filter(|(number, _)| *number == leader) {
        assert_eq!(journals(&mesh, number, cut), [node.store.cursor(&journal)]);
    }
    let after = node.region.submit(put(5, "alone", "y")).await.unwrap();
    assert_eq!(change(&after).0.name().as_str(), "pac");
    assert_eq!(after.durability, Durability::Region);
    mesh.settle().await;
    for (number, node) in mesh.running() {
        let both = node.store.heads(&key("both")).unwrap();
        assert!(both.in_conflict() && both.iter().len() == 2, "at {number}: {both:?}");
        let alone = node.store.heads(&key("alone")).unwrap();
        assert_eq!(alone.iter().len(), 1, "at {number}: {alone:?}");
    }

    mesh.cut(cut);
    isolated(&mesh, cut).await;
    let again = node.region.submit(put(6, "again", "x")).await.unwrap();
    assert_ne!(change(&again).0, journal, "no journal is taken up again");
    mesh.mend(cut);
    returned(&mesh, cut).await;
    mesh.settle().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_journal_takes_big_commands_and_many_at_once() {
    let mesh = region().await;
    let cut = mesh.follower().await;
    mesh.cut(cut);
    isolated(&mesh, cut).await;

    let mut writers = tokio::task::JoinSet::new();
    for number in 0..200 {
        let region = mesh.node(cut).region.clone();
        writers.spawn(async move { region.submit(create(1_000 + number, "x")).await });
    }
    let big = mesh.node(cut).region.submit(import(1, 1_000, 3_000)).await.unwrap();
    while let Some(written) = writers.join_next().await {
        written.unwrap().unwrap();
    }

    assert_eq!(big.outcome.entries.len(), 1_000);
    assert_eq!(mesh.node(cut).store.cursor(&change(&big).0).seq, Seq(201));
    mesh.mend(cut);
    returned(&mesh, cut).await;
    mesh.settle().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_waits_when_its_node_isolates_itself_is_journaled() {
    let mesh = region().await;
    let cut = mesh.follower().await;
    mesh.cut(cut);
    // What was on its way may still have arrived: what is written later cannot.
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(mesh.state(cut), State::Region, "it does not know yet");

    let small = mesh.node(cut).region.submit(put(1, "a", "x"));
    let big = mesh.node(cut).region.submit(import(2, 1_000, 3_000));
    let (small, big) = tokio::join!(small, big);

    for accepted in [small.unwrap(), big.unwrap()] {
        assert_eq!(change(&accepted).0.name(), mesh.name(cut).0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_cut_off_journals_what_it_has_not_begun_to_decide() {
    let mesh = region().await;
    let cut = mesh.leader().await;
    mesh.cut(cut);
    tokio::time::sleep(Duration::from_millis(50)).await;

    // One of them may get into the log, where its fate is unknown; what waits behind it does not.
    let region = &mesh.node(cut).region;
    let first = region.submit(put(1, "a", "x"));
    let second = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        region.submit(put(2, "b", "x")).await
    };
    let (first, second) = tokio::join!(first, second);

    if first.is_err() {
        assert_eq!(unavailable(first).fate, Fate::Unknown);
    }
    assert_eq!(change(&second.unwrap()).0.name(), mesh.name(cut).0);
    mesh.mend(cut);
    returned(&mesh, cut).await;
    mesh.settle().await;
    mesh.node(cut).region.submit(put(1, "a", "x")).await.unwrap();
    let heads = mesh.node(cut).store.heads(&key("a")).unwrap();
    assert_eq!(heads.iter().len(), 1, "{heads:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_whose_fate_is_unknown_is_not_journaled() {
    let mesh = region().await;
    let mute = mesh.follower().await;
    let node = mesh.node(mute);
    node.region.submit(put(1, "a", "x")).await.unwrap();

    // What it sends is on its way for long; what others send arrives.
    mesh.mute(mute);
    let answer = node.region.submit(put(2, "b", "x")).await;

    assert_eq!(unavailable(answer).fate, Fate::Unknown);
    assert!(matches!(mesh.state(mute), State::Isolated { .. }));
    assert_eq!(journals(&mesh, mute, mute), []);
    let other = node.region.submit(put(3, "c", "x")).await.unwrap();
    assert_eq!(change(&other).0.name(), mesh.name(mute).0);
    mesh.mend(mute);
    returned(&mesh, mute).await;
    let again = node.region.submit(put(2, "b", "x")).await.unwrap();
    assert_eq!(change(&again).0.name().as_str(), "pac");
    mesh.settle().await;
    let heads = node.store.heads(&key("b")).unwrap();
    assert!(heads.iter().len() == 1 && version(&again).starts_with("1-"), "{heads:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_isolated_node_is_called_silent_since_before_it_was() {
    let mesh = region().await;
    let cut = mesh.follower().await;
    let others: Vec<usize> =
        mesh.running().map(|(number, _)| number).filter(|number| *number != cut).collect();
    let known = || called(&mesh, others[0], cut).is_none().then_some(());
    eventually("it is not silent", known).await;

    mesh.cut(cut);
    isolated(&mesh, cut).await;
    let since = mesh.node(cut).region.isolated_since().unwrap();
    let begun = now();
    let mut seen = 0;
    while begun.elapsed() < Duration::from_secs(1) {
        for &other in &others {
            let Some((statement, _)) = mesh.node(other).region.stated() else { continue };
            if statement.at >= since {
                let silent = statement.silent.iter().find(|it| it.node == mesh.name(cut));
                assert!(silent.is_some_and(|silent| silent.since <= since), "{statement:?}");
                seen += 1;
            }
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }

    assert!(seen > 0, "nothing was stated since");
    mesh.mend(cut);
    returned(&mesh, cut).await;
    eventually("it is silent no longer", known).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_journal_that_has_not_arrived_keeps_its_node_silent_across_a_restart() {
    let mut mesh = region().await;
    let cut = mesh.follower().await;
    mesh.cut(cut);
    isolated(&mesh, cut).await;
    mesh.carrier.carry(Carries::Nothing);
    let written = mesh.node(cut).region.submit(put(1, "a", "x")).await.unwrap();
    let (journal, seq) = change(&written);

    mesh.kill(cut).await;
    mesh.start(cut, false).await;
    returned(&mesh, cut).await;
    let leader = mesh.leader().await;
    let wall = |mesh: &Mesh| mesh.node(leader).region.stated().map(|(statement, _)| statement.at);
    let heard = wall(&mesh);
    let newer = || (wall(&mesh) > heard).then_some(());
    for _ in 0..4 {
        eventually("something newer is stated", newer).await;
        assert!(called(&mesh, leader, cut).is_some(), "its journal has not arrived");
    }
    assert!(!mesh.node(cut).region.orders(&journal), "it ended with the process");

    mesh.carrier.carry(Carries::All);
    let silent_no_more = || called(&mesh, leader, cut).is_none().then_some(());
    eventually("it is silent no longer", silent_no_more).await;
    let (statement, _) = mesh.node(leader).region.stated().unwrap();
    let named = statement.holds.iter().find(|cursor| cursor.origin == journal);
    assert_eq!(named.map(|cursor| cursor.seq), Some(seq), "who shows it must hold the journal");
    mesh.settle().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_does_not_return_before_its_leader_holds_its_journal() {
    let mesh = region().await;
    let cut = mesh.follower().await;
    mesh.cut(cut);
    isolated(&mesh, cut).await;
    mesh.carrier.carry(Carries::Nothing);
    mesh.node(cut).region.submit(put(1, "a", "x")).await.unwrap();

    mesh.mend(cut);
    let leader = mesh.leader().await;
    let fresh = || mesh.node(cut).region.stated().filter(|(_, age)| age.as_secs() < 1).map(drop);
    eventually("it hears from its leader", fresh).await;
    for number in 2..6 {
        // Longer than it takes to have several answers; writes go on meanwhile.
        tokio::time::sleep(Duration::from_millis(200)).await;
        let written = mesh.node(cut).region.submit(put(number, "a", "y")).await.unwrap();
        assert_eq!(change(&written).0.name(), mesh.name(cut).0);
    }
    assert!(called(&mesh, leader, cut).is_some());

    mesh.carrier.carry(Carries::All);
    returned(&mesh, cut).await;
    mesh.settle().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_returns_while_it_is_written_to() {
    let mesh = region().await;
    let cut = mesh.follower().await;
    mesh.cut(cut);
    isolated(&mesh, cut).await;
    let region = mesh.node(cut).region.clone();
    let writer = tokio::spawn(async move {
        let mut number = 0;
        loop {
            number += 1;
            let written = region.submit(create(number, "x")).await.unwrap();
            if change(&written).0.name().as_str() == "pac" {
                return number;
            }
        }
    });

    mesh.mend(cut);
    returned(&mesh, cut).await;

    let written = writer.await.unwrap();
    mesh.settle().await;
    for (_, node) in mesh.running() {
        assert_eq!(node.store.counts().total().resources, written);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retry_writes_nothing_twice_across_an_isolation() {
    let mesh = region().await;
    let (leader, cut) = (mesh.leader().await, mesh.follower().await);
    let node = mesh.node(cut);
    let decided = node.region.submit(put(1, "a", "x")).await.unwrap();
    mesh.cut(cut);
    isolated(&mesh, cut).await;

    let again = node.region.submit(put(1, "a", "x")).await.unwrap();
    let here = node.region.submit(put(2, "b", "x")).await.unwrap();
    let here_again = node.region.submit(put(2, "b", "x")).await.unwrap();
    // Its client tries another node meanwhile, with the same key.
    let there = mesh.node(leader).region.submit(put(2, "b", "x")).await.unwrap();

    assert_eq!(again.outcome, decided.outcome);
    assert_eq!(again.durability, Durability::Region);
    assert_eq!(here_again.outcome, here.outcome);
    assert_ne!(here.outcome, there.outcome);
    mesh.mend(cut);
    returned(&mesh, cut).await;
    mesh.settle().await;
    node.region.submit(put(2, "b", "x")).await.unwrap();
    mesh.settle().await;
    for (number, node) in mesh.running() {
        let heads = node.store.heads(&key("b")).unwrap();
        assert_eq!(heads.iter().len(), 2, "at {number}: {heads:?}");
        assert!(heads.distinct().count() == 1 && !heads.in_conflict(), "they are twins");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_set_to_refuse_writes_no_journal() {
    let limits = Limits { isolation_writes: IsolationWrites::Refuse, ..limits() };
    let mesh = Mesh::with(3, 0, limits).found().await;
    let cut = mesh.follower().await;
    returned(&mesh, cut).await;
    mesh.cut(cut);
    isolated(&mesh, cut).await;

    let refused = unavailable(mesh.node(cut).region.submit(put(1, "a", "x")).await);

    assert_eq!((refused.reason, refused.fate), (Reason::Isolated, Fate::NotWritten));
    assert_eq!(journals(&mesh, cut, cut), []);
    mesh.mend(cut);
    returned(&mesh, cut).await;
    mesh.node(cut).region.submit(put(1, "a", "x")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_starts_with_nobody_in_reach_journals() {
    let mut mesh = region().await;
    mesh.node(1).region.submit(put(1, "a", "x")).await.unwrap();
    mesh.settle().await;
    for number in 1..=3 {
        mesh.kill(number).await;
    }
    mesh.start(2, false).await;

    assert_eq!(mesh.state(2), State::Starting { founded: true });
    isolated(&mesh, 2).await;
    let written = mesh.node(2).region.submit(put(2, "a", "y")).await.unwrap();

    assert!(version(&written).starts_with("2-pac-2."), "{}", version(&written));
    mesh.start(1, false).await;
    returned(&mesh, 2).await;
    mesh.start(3, false).await;
    mesh.settle().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_leader_merely_lacks_is_never_refused_as_stale() {
    let mesh = region().await;
    let (leader, follower) = (mesh.leader().await, mesh.follower().await);
    mesh.carrier.carry(Carries::WhatIsAskedFor);
    let first = give_foreign(&mesh.node(follower).store, &put(1, "a", "x"));

    // The node that passes it on tells by what it is ahead, and the leader asks for it.
    let over = mesh.node(follower).region.submit(put_over(2, "a", "y", &first)).await.unwrap();

    assert!(version(&over).starts_with("2-pac."), "{}", version(&over));
    mesh.carrier.carry(Carries::Nothing);
    let second = give_foreign(&mesh.node(follower).store, &put(3, "b", "x"));
    let lacking = mesh.node(follower).region.submit(put_over(4, "b", "y", &second)).await;
    let lacking = unavailable(lacking);
    assert!(matches!(lacking.reason, Reason::Lacking(_)), "{lacking:?}");
    assert_eq!(lacking.fate, Fate::NotWritten);
    // What comes while the command waits is taken into account.
    let waits = mesh.node(leader).region.submit(put_over(5, "b", "y", &second));
    let comes = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        mesh.carrier.carry(Carries::All);
    };
    let (over, ()) = tokio::join!(waits, comes);
    assert!(version(&over.unwrap()).starts_with("2-pac."));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_isolated_node_does_not_refuse_as_stale_what_it_merely_lacks() {
    let mesh = region().await;
    let (leader, cut) = (mesh.leader().await, mesh.follower().await);
    mesh.cut(cut);
    isolated(&mesh, cut).await;
    let unseen = mesh.node(leader).region.submit(put(1, "a", "x")).await.unwrap();

    let over = put_over(2, "a", "y", &version(&unseen));
    let lacking = unavailable(mesh.node(cut).region.submit(over).await);

    assert!(matches!(lacking.reason, Reason::Lacking(_)), "{lacking:?}");
    assert_eq!(journals(&mesh, cut, cut), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_whose_clock_is_off_hands_over() {
    let mesh = region().await;
    let off = mesh.leader().await;
    // It hands over to one that it has greeted.
    let greeted = || {
        let members = mesh.node(off).region.status().members;
        members.iter().all(|member| member.reachable).then_some(())
    };
    eventually("all voters answer", greeted).await;

    mesh.carrier.turn_clock(mesh.name(off));

    let another = || {
        let leader = mesh.node(off).region.status().leader?;
        (leader != mesh.name(off)).then_some(())
    };
    eventually("another leads", another).await;
    mesh.node(off).region.submit(put(1, "a", "x")).await.unwrap();
}
