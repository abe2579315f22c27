//! Nodes that only follow feeds: they take writes too, and know how fresh they are.

use std::time::Duration;

use chartmesh_region::{Durability, State};

use crate::commands::{key, put, put_new};
use crate::feeds::Carries;
use crate::isolation::{isolated, limits, returned};
use crate::mesh::{Mesh, eventually};
use crate::version;

/// The number of the mirror.
const MIRROR: usize = 4;

async fn region() -> Mesh {
    let mesh = Mesh::with(3, 1, limits()).found().await;
    returned(&mesh, MIRROR).await;
    mesh
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mirror_passes_writes_on_and_reads_them_at_once() {
    let mesh = region().await;
    let mirror = &mesh.node(MIRROR).region;

    let accepted = mirror.submit(put(1, "a", "x")).await.unwrap();
    let refused = mirror.submit(put_new(2, "a")).await;

    assert!(version(&accepted).starts_with("1-pac."), "{}", version(&accepted));
    assert_eq!(accepted.durability, Durability::Region);
    assert!(accepted.applied && mesh.node(MIRROR).store.read(&key("a")).unwrap().is_some());
    assert!(refused.is_err());
    let fresh = || mirror.as_of().filter(|as_of| as_of.age < Duration::from_secs(2)).map(drop);
    eventually("it knows how fresh it is", fresh).await;
    assert!(!mirror.orders(&accepted.outcome.change.unwrap().0), "its changes come by the feed");
    mesh.settle().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_linearizable_read_at_a_mirror_sees_what_was_written_elsewhere_before() {
    let mesh = region().await;
    mesh.carrier.carry(Carries::WhatIsAskedFor);

    for number in 0..20 {
        let id = format!("r{number}");
        mesh.node(1 + number % 3).region.submit(put(number as u64, &id, "x")).await.unwrap();
        mesh.node(MIRROR).region.linearize().await.unwrap();
        assert!(mesh.node(MIRROR).store.read(&key(&id)).unwrap().is_some());
    }

    mesh.carrier.carry(Carries::Nothing);
    mesh.node(1).region.submit(put(99, "unseen", "x")).await.unwrap();
    assert!(mesh.node(MIRROR).region.linearize().await.is_err(), "it cannot get there");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mirror_follows_its_region_to_another_leader() {
    let mut mesh = region().await;
    for round in 0..2 {
        let leader = mesh.leader().await;
        mesh.kill(leader).await;

        mesh.node(MIRROR).region.submit(put(round, "a", "x")).await.unwrap();

        mesh.start(leader, false).await;
        mesh.settle().await;
    }
    assert_eq!(mesh.state(MIRROR), State::Region);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mirror_that_is_cut_off_writes_a_journal_and_returns() {
    let mesh = region().await;
    let mirror = mesh.node(MIRROR);
    mirror.region.submit(put(1, "a", "x")).await.unwrap();
    mesh.cut(MIRROR);
    isolated(&mesh, MIRROR).await;

    let journaled = mirror.region.submit(put(2, "a", "y")).await.unwrap();

    assert!(version(&journaled).starts_with("2-pac-4."), "{}", version(&journaled));
    mesh.mend(MIRROR);
    returned(&mesh, MIRROR).await;
    let after = mirror.region.submit(put(3, "a", "z")).await.unwrap();
    assert!(version(&after).starts_with("3-pac."), "{}", version(&after));
    mesh.settle().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copies_at_the_same_site_are_told() {
    let mut mesh = region().await;
    mesh.node(MIRROR).region.submit(put(1, "a", "x")).await.unwrap();
    mesh.settle().await;
    for number in [1, 2] {
        mesh.kill(number).await;
    }
    for number in [3, MIRROR] {
        isolated(&mesh, number).await;
    }

    let journaled = mesh.node(MIRROR).region.submit(put(2, "a", "y")).await.unwrap();

    assert_eq!(journaled.durability, Durability::Site { copies: 2 });
    assert!(
        mesh.node(3)
            .store
            .heads(&key("a"))
            .unwrap()
            .current()
            .is_some_and(|head| { head.version.to_string() == version(&journaled) })
    );
}
