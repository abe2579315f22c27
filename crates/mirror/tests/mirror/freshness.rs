//! This module tests how fresh nodes say that what they hold is.

use std::time::Duration;

use chartmesh_mirror::RegionFreshness;
use chartmesh_record::{AsOf, Cursor, Statement, Timestamp};

use crate::mesh::{Mesh, Node, eventually, feed, lock, name, now, origin};

/// What the clocks of a test may differ by.
const SLACK: Duration = Duration::from_millis(5);

fn as_of(node: &Node, region: &str) -> Option<AsOf> {
    let regions = node.mirror.freshness().regions;
    let of = |it: &&RegionFreshness| it.region.as_str() == region;
    regions.iter().find(of).unwrap().as_of
}

fn stated(feed: Cursor, at: i64) -> Statement {
    Statement { feed, at: Timestamp(at), holds: Vec::new(), silent: Vec::new() }
}

#[tokio::test]
async fn an_age_goes_on_over_relays_and_a_restart() {
    let mut mesh = Mesh::new(&[
        ("pac-1", "pac", "yokota"),
        ("mid-1", "mid", "oahu"),
        ("eur-1", "eur", "rota"),
    ]);
    mesh.pipes.cut("pac-1", "eur-1");
    for node in ["pac-1", "mid-1", "eur-1"] {
        mesh.start(node).await;
    }
    let place = mesh.node("eur-1").write(&origin("eur"), 3, 100);
    let old = Duration::from_secs(1_000);
    let begun = now();
    mesh.node("eur-1").orderer.state(stated(place, 5), old);

    let shown = || as_of(mesh.node("pac-1"), "eur");
    let shown = eventually("the statement is shown behind the relay", shown).await;

    assert_eq!(shown.instant, Timestamp(5));
    assert!(shown.age >= old, "{shown:?}");
    assert!(shown.age < old + 4 * begun.elapsed() + Duration::from_secs(1), "{shown:?}");

    mesh.pipes.cut("pac-1", "mid-1");
    mesh.stop("pac-1", false).await;
    mesh.start("pac-1").await;
    let again = as_of(mesh.node("pac-1"), "eur").expect("it was noted down");
    assert!(again.age + SLACK >= old + begun.elapsed(), "{again:?}");
}

#[tokio::test]
async fn a_statement_is_not_shown_before_the_journals_that_it_names() {
    let mesh = Mesh::started(&[("pac-1", "pac", "yokota"), ("eur-1", "eur", "rota")]).await;
    let node = mesh.node("eur-1");
    let held = node.write(&origin("eur"), 3, 100);
    // What the journal will be.
    let start = Cursor::start(origin("eur-1"));
    let journal = feed(&start, 2, 100).iter().fold(start, |at, it| at.extend(it.bytes()));
    node.orderer.state(stated(held.clone(), 5), Duration::ZERO);

    let shown = || as_of(mesh.node("pac-1"), "eur").map(|as_of| as_of.instant);
    let first = eventually("the first statement is shown", shown).await;
    node.orderer.state(Statement { holds: vec![journal], ..stated(held, 9) }, Duration::ZERO);
    let told = || {
        let peers = mesh.node("pac-1").mirror.status().peers;
        peers.iter().any(|peer| peer.node == name("eur-1") && peer.reachable).then_some(())
    };
    eventually("they talk", told).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(first, Timestamp(5));
    assert_eq!(shown(), Some(Timestamp(5)), "what the second names is held nowhere");

    node.write(&origin("eur-1"), 2, 100);
    let second = || (shown() == Some(Timestamp(9))).then_some(());
    eventually("the second statement is shown", second).await;
}

#[tokio::test]
async fn an_isolated_node_lists_itself() {
    let mesh = Mesh::started(&[("pac-1", "pac", "yokota"), ("eur-1", "eur", "rota")]).await;

    *lock(&mesh.node("pac-1").orderer.isolated) = Some(Timestamp(0));

    let silent = mesh.mirror("pac-1").freshness().silent;
    assert_eq!(silent.len(), 1);
    assert_eq!(silent[0].node, name("pac-1"));
    assert_eq!(silent[0].as_of.age, Duration::ZERO);
}
