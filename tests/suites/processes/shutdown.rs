//! How a node ends: asked once, asked twice.

use std::time::Duration;

use chartmesh_tests::cluster::{Cluster, Signal, ended_by};
use tokio::time::{Instant, sleep};

use crate::load::Load;

#[tokio::test]
async fn a_node_that_is_asked_to_end_hands_over_finishes_and_exits_with_zero() {
    let mut cluster = Cluster::start().await.unwrap();
    let load = Load::begin(&cluster, "drain");
    sleep(Duration::from_secs(1)).await;
    let leader = cluster.leader().await.expect("there is a leader");

    let asked = load.now();
    let started = Instant::now();
    cluster.signal(leader, Signal::Terminate).unwrap();
    let status = cluster.wait_for_end(leader).await.unwrap();

    println!("drained in {} ms", started.elapsed().as_millis());
    assert!(status.success(), "{status}");
    load.accepts_after(asked).await;
    let next = cluster.wait_until_it_leads().await.unwrap();
    assert_ne!(next, leader);
    cluster.spawn(leader, &[]).unwrap();
    cluster.wait_until_it_leads().await.unwrap();
    load.end(&cluster).await;
}

#[tokio::test]
async fn a_second_signal_ends_a_node_at_once() {
    let mut cluster = Cluster::start().await.unwrap();
    // Without a quorum a leader cannot hand over: the drain would take its time.
    let leader = cluster.leader().await.expect("there is a leader");
    for other in (0..cluster.size()).filter(|&other| other != leader) {
        cluster.signal(other, Signal::Stop).unwrap();
    }

    let started = Instant::now();
    cluster.signal(leader, Signal::Terminate).unwrap();
    sleep(Duration::from_millis(100)).await;
    cluster.signal(leader, Signal::Terminate).unwrap();
    let status = cluster.wait_for_end(leader).await.unwrap();

    let took = started.elapsed();
    assert!(!status.success(), "it had time to drain: {status}");
    assert!(took < Duration::from_secs(1), "{took:?}, {:?}", ended_by(status));
}
