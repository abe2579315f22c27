//! Rounds on nine processes in three regions: a leader is killed, a leader is frozen, a region is killed
//! whole, a node is wiped, a node is restored from a backup, a site is isolated under writes.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use chartmesh_tests::cluster::{Cluster, Signal, run};
use chartmesh_tests::witness;
use tokio::task::block_in_place;
use tokio::time::sleep;

use crate::load::{Load, is_accepted_write};
use crate::rounds::{Round, count, refuse_no_read, report};

/// So that a site isolates itself within a round.
const SETTINGS: &str = "isolation.after = \"2s\"\n";
/// Before something happens, and after it is over.
const CALM: Duration = Duration::from_millis(1_500);
/// How long a node is dead, frozen or cut off. Long enough for an isolation.
const OUTAGE: Duration = Duration::from_secs(4);
/// Of each kind, without `CHARTMESH_ROUNDS`: all kinds together stay below three minutes.
const FEW: usize = 1;
const ALL: usize = 20;

/// Plays the rounds of a kind. `play` makes it happen to the node of the round, undoes it, and returns the
/// nodes that could not serve meanwhile.
async fn play(what: &str, play: impl AsyncFn(&mut Cluster, &mut Load, usize) -> Vec<usize>) {
    let rounds = count(FEW, ALL);
    if rounds == 0 {
        return;
    }
    let mut cluster = Cluster::start_mesh(SETTINGS).await.unwrap();
    let mut load = Load::begin(&cluster, "mesh");

    let mut played = Vec::new();
    for round in 0..rounds {
        sleep(CALM).await;
        cluster.wait_until_it_leads().await.unwrap();
        let began = load.now();
        let node = round * 4 % cluster.size();
        let down = play(&mut cluster, &mut load, node).await;
        cluster.wait_until_it_leads().await.unwrap();
        let down = down.into_iter().map(|node| cluster.name(node).clone()).collect();
        played.push(Round { began, ended: load.now(), down });
    }
    sleep(CALM).await;

    let (operations, reads) = load.end(&cluster).await;
    report(what, &played, &operations);
    refuse_no_read(&played, &reads);
}

/// The leader of the region of a node.
async fn leader_near(cluster: &Cluster, node: usize) -> usize {
    cluster.leader_of(cluster.region(node)).await.expect("each region has a leader")
}

fn start_again(cluster: &mut Cluster, load: &mut Load, node: usize) {
    cluster.spawn(node, &[]).unwrap();
    load.is_started_again(cluster.name(node));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_killed_leader_of_a_region_costs_the_mesh_nothing() {
    play("mesh: kill -9 of a leader", async |cluster, load, node| {
        let leader = leader_near(cluster, node).await;
        cluster.signal(leader, Signal::Kill).unwrap();
        sleep(OUTAGE).await;
        start_again(cluster, load, leader);
        vec![leader]
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_frozen_leader_of_a_region_costs_the_mesh_nothing() {
    play("mesh: SIGSTOP of a leader", async |cluster, _, node| {
        let leader = leader_near(cluster, node).await;
        cluster.signal(leader, Signal::Stop).unwrap();
        sleep(OUTAGE).await;
        cluster.signal(leader, Signal::Continue).unwrap();
        vec![leader]
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_region_that_is_killed_whole_comes_back_and_the_others_served() {
    play("mesh: kill -9 of a region", async |cluster, load, node| {
        let members = cluster.members(cluster.region(node));
        for &member in &members {
            cluster.signal(member, Signal::Kill).unwrap();
        }
        sleep(OUTAGE).await;
        for &member in &members {
            start_again(cluster, load, member);
        }
        members
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wiped_node_fills_itself_and_nothing_is_lost() {
    play("mesh: a node wiped", async |cluster, load, node| {
        cluster.signal(node, Signal::Kill).unwrap();
        fs::remove_dir_all(cluster.data(node)).unwrap();
        load.disk_is_lost(cluster.name(node));
        start_again(cluster, load, node);
        sleep(OUTAGE).await;
        vec![node]
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_restored_from_a_backup_fetches_what_it_lacks_and_nothing_is_lost() {
    play("mesh: a node restored from a backup", async |cluster, load, node| {
        let (data, name) = (cluster.data(node), cluster.name(node).0.clone());
        let path = |path: PathBuf| path.to_str().unwrap().to_owned();
        let (topology, tls) = (path(cluster.path("mesh.toml")), path(cluster.path("tls")));
        let ask = ["backup", "b", "--node", &name, "--topology", &topology, "--tls", &tls];
        block_in_place(|| run(&ask)).unwrap();
        let kept = path(cluster.path(&format!("kept-{name}")));
        fs::rename(data.join("backups/b"), &kept).unwrap();
        sleep(OUTAGE).await;
        cluster.signal(node, Signal::Kill).unwrap();
        fs::remove_dir_all(&data).unwrap();
        load.disk_is_lost(cluster.name(node));
        let restored = block_in_place(|| run(&["restore", &kept, "--data", &path(data)])).unwrap();
        assert!(restored.contains("proven"), "{restored}");
        start_again(cluster, load, node);
        sleep(OUTAGE).await;
        vec![node]
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_site_that_is_cut_off_writes_on_and_reads_are_served_there_and_elsewhere() {
    play("mesh: a site isolated under writes", async |cluster, _, node| {
        cluster.net().isolate(&cluster.name(node).0).unwrap();
        sleep(OUTAGE).await;
        cluster.net().heal();
        Vec::new()
    })
    .await;
}

/// For how long all links of a region are cut, without `CHARTMESH_CUT_SECONDS`.
const CUT: u64 = 6;
/// How long each client waits between two operations, without `CHARTMESH_CUT_PAUSE_MS`.
const CARE: u64 = 400;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_region_cut_off_from_all_others_writes_on_and_converges_when_its_links_are_back() {
    if count(1, 1) == 0 {
        return;
    }
    let told = |name, otherwise| std::env::var(name).map_or(otherwise, |it| it.parse().unwrap());
    let cut = Duration::from_secs(told("CHARTMESH_CUT_SECONDS", CUT));
    let care = Duration::from_millis(told("CHARTMESH_CUT_PAUSE_MS", CARE));
    let cluster = Cluster::start_mesh(SETTINGS).await.unwrap();
    let mut load = Load::begin_at_pace(&cluster, "cut", care);
    sleep(CALM).await;

    let region = cluster.region(4).to_owned();
    cluster.net().cut_region(&region).unwrap();
    sleep(cut).await;
    load.rest().await;
    let changes = load.operations().iter().filter(|done| is_accepted_write(done)).count();
    let healed = load.now();
    cluster.net().heal();
    witness::agree(&mut cluster.clients(), Duration::from_secs(60)).await.unwrap();
    let converged = load.now() - healed;

    println!(
        "{region} cut off for {cut:?}: {changes} changes, all nodes equal after {converged:?}"
    );
    load.end(&cluster).await;
    assert!(converged < Duration::from_secs(10), "{converged:?}");
}
