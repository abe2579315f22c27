//! This module tests that every feed gets to every node, on the way that it should.

use std::time::Duration;

use chartmesh_record::{Cursor, Seq};

use crate::liar::{Liar, Trick};
use crate::mesh::{Mesh, eventually, lock, name, now, origin};

const SOON: Duration = Duration::from_secs(10);

#[tokio::test]
async fn three_regions_converge_over_a_chain_of_relays() {
    let nodes = [("pac-1", "pac", "yokota"), ("mid-1", "mid", "oahu"), ("eur-1", "eur", "rota")];
    let mut mesh = Mesh::new(&nodes);
    mesh.pipes.cut("pac-1", "eur-1");
    for node in ["pac-1", "mid-1", "eur-1"] {
        mesh.start(node).await;
        mesh.node(node).write(&origin(&node[..3]), 50, 200);
    }
    mesh.node("eur-1").write(&origin("eur-1"), 5, 200);

    mesh.settle().await;

    let held = |feed: &str| mesh.node("pac-1").held(&origin(feed));
    assert_eq!([held("pac"), held("mid"), held("eur")], [Seq(50); 3]);
    assert_eq!(held("eur-1"), Seq(5), "the journal of eur-1 comes over the relay too");

    for node in ["pac-1", "mid-1", "eur-1"] {
        mesh.node(node).write(&origin(&node[..3]), 1, 200);
    }
    mesh.settle().await;
    assert_eq!(mesh.node("pac-1").held(&origin("eur")), Seq(51), "and what comes later");
}

#[tokio::test]
async fn big_changes_and_many_feeds_come_too() {
    let mesh = Mesh::started(&[("pac-1", "pac", "yokota"), ("eur-1", "eur", "rota")]).await;
    let node = mesh.node("eur-1");

    node.write(&origin("eur"), 3, 3 << 20);
    let journal = |number: u64| chartmesh_record::Origin::new(&name("eur-1").0, number);
    for number in 0..200 {
        node.write(&journal(number), 2, 50);
    }

    mesh.settle().await;
    assert_eq!(mesh.node("pac-1").store.horizon().len(), 201);
}

#[tokio::test]
async fn a_change_crosses_to_another_region_once() {
    let mesh = Mesh::started(&[
        ("pac-1", "pac", "yokota"),
        ("pac-2", "pac", "kadena"),
        ("pac-3", "pac", "misawa"),
        ("eur-1", "eur", "rota"),
    ])
    .await;
    mesh.meet().await;

    for _ in 0..20 {
        mesh.node("eur-1").write(&origin("eur"), 20, 1_000);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    mesh.settle().await;

    let carried = ["pac-1", "pac-2", "pac-3"].map(|to| mesh.pipes.carried("eur-1", to));
    let all: u64 = carried.iter().sum();
    // Hexadecimal digits compress to half of themselves.
    let once = 20 * 20 * 1_000 / 2;
    assert!(all >= once, "{carried:?}");
    assert!(all < once * 3 / 2, "{carried:?}");
    assert_eq!(carried.iter().filter(|&&bytes| bytes > once / 10).count(), 1, "{carried:?}");
}

#[tokio::test]
async fn a_region_whose_gateway_is_gone_is_reached_by_another_node() {
    let nodes = [("pac-1", "pac", "yokota"), ("pac-2", "pac", "kadena"), ("eur-1", "eur", "rota")];
    let mesh = Mesh::started(&nodes).await;
    mesh.meet().await;
    mesh.node("eur-1").write(&origin("eur"), 1, 100);
    mesh.settle().await;

    // One of the two does not reach the other region any more, whichever is the gateway.
    for cut in ["pac-1", "pac-2"] {
        mesh.pipes.cut(cut, "eur-1");
        mesh.node("eur-1").write(&origin("eur"), 1, 100);
        mesh.settle().await;
        mesh.pipes.mend(cut, "eur-1");
        mesh.meet().await;
    }
}

#[tokio::test]
async fn a_pull_goes_on_where_it_was_cut() {
    let mut mesh = Mesh::new(&[("pac-1", "pac", "yokota"), ("eur-1", "eur", "rota")]);
    let liar = Liar::join(&mesh, "eur-1", Trick::BreaksOff, &origin("eur"));
    mesh.start("pac-1").await;

    let held = || (mesh.node("pac-1").held(&origin("eur")) == Seq(10)).then_some(());
    eventually("the feed is held", held).await;

    assert_eq!(lock(&liar.asked_after).as_slice(), [Seq(0), Seq(8)]);
}

#[tokio::test]
async fn links_that_are_cut_and_mended_do_not_stop_a_feed() {
    let mesh = Mesh::started(&[("pac-1", "pac", "yokota"), ("eur-1", "eur", "rota")]).await;
    mesh.meet().await;
    for _ in 0..3 {
        mesh.node("eur-1").write(&origin("eur"), 20, 100_000);
        tokio::time::sleep(Duration::from_millis(30)).await;
        mesh.pipes.cut("pac-1", "eur-1");
        mesh.node("pac-1").write(&origin("pac"), 20, 1_000);
        mesh.pipes.mend("pac-1", "eur-1");
    }

    mesh.settle().await;
}

#[tokio::test]
async fn a_stalled_peer_stops_neither_its_feed_nor_others() {
    let nodes = [("pac-1", "pac", "yokota"), ("eur-1", "eur", "rota"), ("eur-2", "eur", "rota")];
    let mut mesh = Mesh::new(&nodes);
    let liar = Liar::join(&mesh, "eur-1", Trick::Stalls, &origin("eur"));
    mesh.start("pac-1").await;
    eventually("the stalled one is asked", || (liar.pulls() > 0).then_some(())).await;
    let begun = now();

    mesh.start("eur-2").await;
    let node = mesh.node("eur-2");
    node.write(&origin("eur"), 10, 100);
    node.write(&origin("eur-2"), 10, 100);

    let held = |feed: &str| {
        let feed = origin(feed);
        let node = mesh.node("pac-1");
        move || (node.held(&feed) == Seq(10)).then_some(())
    };
    eventually("the journal is held", held("eur-2")).await;
    eventually("the feed is held", held("eur")).await;
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_wiped_node_fills_itself_and_a_restarted_one_goes_on() {
    let nodes = [("pac-1", "pac", "yokota"), ("eur-1", "eur", "rota")];
    let mut mesh = Mesh::started(&nodes).await;
    mesh.node("eur-1").write(&origin("eur"), 30, 500);
    mesh.node("pac-1").write(&origin("pac"), 30, 500);
    mesh.settle().await;

    for wipe in [true, false] {
        mesh.stop("eur-1", wipe).await;
        mesh.node("pac-1").write(&origin("pac"), 5, 500);
        mesh.start("eur-1").await;
        mesh.settle().await;
        mesh.node("eur-1").write(&origin("eur-1"), 5, 500);
        mesh.settle().await;
    }
}

#[tokio::test]
async fn what_is_waited_for_comes_at_once() {
    let nodes = [("pac-1", "pac", "yokota"), ("pac-2", "pac", "kadena"), ("eur-1", "eur", "rota")];
    let mesh = Mesh::started(&nodes).await;
    mesh.meet().await;
    let lacking = Cursor { seq: Seq(9), ..Cursor::start(origin("pac")) };

    for node in ["pac-1", "pac-2"] {
        let place = mesh.node("eur-1").write(&origin("eur"), 3, 100);
        let mirror = mesh.mirror(node);
        assert!(mirror.hold(std::slice::from_ref(&place), SOON).await);
        assert!(mesh.node(node).held(&place.origin) >= place.seq);
        assert!(!mirror.hold(&[place, lacking.clone()], Duration::from_millis(50)).await);
    }
    assert!(mesh.mirror("pac-1").hold(&[], Duration::ZERO).await);
}

#[tokio::test]
async fn what_is_ordered_here_is_followed_only_when_somebody_waits_for_it() {
    let nodes = [("pac-1", "pac", "yokota"), ("pac-2", "pac", "kadena")];
    let mesh = Mesh::started(&nodes).await;
    mesh.meet().await;
    lock(&mesh.node("pac-1").orderer.orders).insert(origin("pac"));
    let place = mesh.node("pac-2").write(&origin("pac"), 3, 100);
    mesh.node("pac-2").write(&origin("pac-2"), 3, 100);

    let journal = || (mesh.node("pac-1").held(&origin("pac-2")) == Seq(3)).then_some(());
    eventually("the journal is held", journal).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(mesh.node("pac-1").held(&place.origin), Seq(0));

    assert!(mesh.mirror("pac-1").hold(&[place], SOON).await);
}

#[tokio::test]
async fn a_journal_has_its_copies_at_the_site_within_300_ms() {
    let mesh = Mesh::started(&[
        ("pac-1", "pac", "yokota"),
        ("pac-2", "pac", "yokota"),
        ("pac-3", "pac", "kadena"),
        ("eur-1", "eur", "rota"),
    ])
    .await;
    mesh.meet().await;
    let node = mesh.node("pac-1");
    lock(&node.orderer.orders).insert(origin("pac-1"));

    for write in 0..10 {
        let place = node.write(&origin("pac-1"), 1, 500);
        node.store.sync().unwrap();
        let copies = node.mirror.copies(&place, Duration::from_millis(300)).await;
        assert_eq!(copies, 2, "of write {write}");
        assert!(mesh.node("pac-2").store.synced(&place.origin) >= place.seq);
    }
}

#[tokio::test]
async fn a_node_alone_at_its_site_waits_for_no_copies() {
    let mesh = Mesh::started(&[("pac-1", "pac", "yokota"), ("pac-2", "pac", "kadena")]).await;
    mesh.meet().await;
    let place = mesh.node("pac-1").write(&origin("pac-1"), 1, 500);
    let begun = now();

    let copies = mesh.mirror("pac-1").copies(&place, SOON).await;

    assert_eq!(copies, 1);
    assert!(begun.elapsed() < SOON / 2);
}
