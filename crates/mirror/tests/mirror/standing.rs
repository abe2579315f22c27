//! This module tests what nodes know of each other: who answers, what is pending, whose clock is off.

use std::time::Duration;

use chartmesh_record::{Seq, Timestamp};

use crate::mesh::{Mesh, eventually, name, origin};

#[tokio::test]
async fn peers_are_reachable_while_they_answer() {
    let mesh = Mesh::started(&[("pac-1", "pac", "yokota"), ("eur-1", "eur", "rota")]).await;
    mesh.meet().await;
    let peer = mesh.mirror("pac-1").status().peers.remove(0);
    assert!(peer.rtt.is_some_and(|rtt| rtt < Duration::from_secs(1)));
    assert!(peer.clock_offset_ms.is_some_and(|offset| offset.abs() < 1_000));

    mesh.pipes.cut("pac-1", "eur-1");
    let gone = || (!mesh.mirror("pac-1").status().peers[0].reachable).then_some(());
    eventually("it is noticed", gone).await;

    mesh.pipes.mend("pac-1", "eur-1");
    mesh.meet().await;
}

#[tokio::test]
async fn what_no_other_region_has_on_a_synced_disk_is_pending() {
    let nodes = [("pac-1", "pac", "yokota"), ("pac-2", "pac", "kadena"), ("eur-1", "eur", "rota")];
    let mesh = Mesh::started(&nodes).await;
    mesh.meet().await;
    mesh.pipes.cut("pac-1", "eur-1");
    mesh.pipes.cut("pac-2", "eur-1");
    let node = mesh.node("pac-1");
    node.write(&origin("pac"), 5, 100);
    node.write(&origin("pac-1"), 3, 100);

    let pending = |feed: &'static str| {
        let pending = mesh.mirror("pac-1").status().pending;
        pending.into_iter().find(|it| it.origin == origin(feed))
    };
    let both = || pending("pac").filter(|it| it.copies == 2);
    let kept = eventually("the mate has a copy", both).await;
    assert_eq!((kept.changes, kept.oldest), (5, Timestamp(1_000)));
    let elsewhere = || pending("pac-1").is_none().then_some(());
    eventually("the journal is delivered to the mate", elsewhere).await;

    mesh.pipes.mend("pac-1", "eur-1");
    mesh.pipes.mend("pac-2", "eur-1");
    let delivered = || mesh.mirror("pac-1").status().pending.is_empty().then_some(());
    eventually("all is delivered", delivered).await;
    assert_eq!(mesh.node("eur-1").store.synced(&origin("pac")), Seq(5));
}

#[tokio::test]
async fn the_places_by_which_a_node_is_ahead_of_another_are_known() {
    let mesh = Mesh::started(&[("pac-1", "pac", "yokota"), ("pac-2", "pac", "kadena")]).await;
    mesh.meet().await;
    mesh.node("pac-1").write(&origin("pac"), 2, 100);
    mesh.settle().await;
    let none = || mesh.mirror("pac-1").ahead_of(&name("pac-2")).is_empty().then_some(());
    eventually("the mate is known to hold the same", none).await;

    mesh.pipes.cut("pac-1", "pac-2");
    let place = mesh.node("pac-1").write(&origin("pac"), 2, 100);

    assert_eq!(mesh.mirror("pac-1").ahead_of(&name("pac-2")), [place]);
}

#[tokio::test]
async fn a_clock_far_from_those_of_most_others_is_an_alarm_at_its_node_only() {
    let nodes = [("pac-1", "pac", "yokota"), ("pac-2", "pac", "kadena"), ("eur-1", "eur", "rota")];
    let mut mesh = Mesh::new(&nodes);
    mesh.clocks.insert(name("pac-2"), 60_000);
    for (node, ..) in nodes {
        mesh.start(node).await;
    }
    mesh.meet().await;

    let noticed = || mesh.mirror("pac-2").clock_off().then_some(());
    eventually("it is noticed", noticed).await;

    let alarms = |node| mesh.mirror(node).status().alarms;
    assert!(alarms("pac-2").iter().any(|alarm| alarm.code == "clock"));
    assert!(!mesh.mirror("pac-1").clock_off());
    assert!(alarms("eur-1").iter().all(|alarm| alarm.code != "clock"));
    let offset = mesh.mirror("pac-1").status().peers;
    let offset = offset.iter().find(|peer| peer.node == name("pac-2")).unwrap().clock_offset_ms;
    assert!((59_000..61_000).contains(&offset.unwrap()), "{offset:?}");
}

#[tokio::test]
async fn feeds_are_listed_with_how_far_they_are_known() {
    let mut mesh = Mesh::new(&[("pac-1", "pac", "yokota"), ("eur-1", "eur", "rota")]);
    crate::liar::Liar::join(&mesh, "eur-1", crate::liar::Trick::Stalls, &origin("eur"));
    mesh.start("pac-1").await;

    let known = || mesh.mirror("pac-1").status().feeds.into_iter().next();
    let feed = eventually("it is known", known).await;

    assert_eq!(feed.cursor.origin, origin("eur"));
    assert_eq!((feed.cursor.seq, feed.known), (Seq(0), Seq(10)));
}
