//! What single nodes of a mesh of processes do when they are cut off, alone, or strangers.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use chartmesh_tests::cluster::{Cluster, Signal};
use chartmesh_tests::http::{Answer, Ask, Client};
use chartmesh_tests::witness;
use tokio::time::{Instant, sleep};

const SETTINGS: &str = "isolation.after = \"2s\"\n";
const WITHIN: Duration = Duration::from_secs(30);

fn patient(id: &str, gender: &str) -> Ask {
    let body = format!(r#"{{"resourceType":"Patient","id":"{id}","gender":"{gender}"}}"#);
    Ask::put(format!("/fhir/Patient/{id}"), body)
}

fn read(id: &str) -> Ask {
    Ask::get(format!("/fhir/Patient/{id}"))
}

/// Asks until the answer is as it should be.
async fn until(client: &mut Client, ask: &Ask, holds: impl Fn(&Answer) -> bool) -> Answer {
    let started = Instant::now();
    loop {
        let answer = client.ask(ask.clone()).await;
        if let Ok(answer) = &answer
            && holds(answer)
        {
            return answer.clone();
        }
        assert!(started.elapsed() < WITHIN, "{ask:?}: {answer:?}");
        sleep(Duration::from_millis(50)).await;
    }
}

fn is_journaled(answer: &Answer) -> bool {
    answer.status.is_success() && answer.header("chartmesh-durability") == "node"
}

/// The journals that a node holds which a node of this name wrote, with their lengths.
async fn journals(cluster: &Cluster, node: usize, writer: &str) -> Vec<(String, u64)> {
    let status = cluster.status(node).await.unwrap();
    let cursors = status["horizon"].as_array().cloned().unwrap_or_default();
    let journal = |cursor: &serde_json::Value| {
        let origin = cursor["origin"].as_str()?.to_owned();
        let of_writer = origin.starts_with(&format!("{writer}."));
        of_writer.then(|| (origin, cursor["seq"].as_u64().unwrap_or_default()))
    };
    let mut journals: Vec<_> = cursors.iter().filter_map(journal).collect();
    journals.sort();
    journals
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_region_reduced_to_one_node_serves_follows_and_journals() {
    let mut cluster = Cluster::start_mesh(SETTINGS).await.unwrap();
    let (pac, central) = (cluster.members("pac"), cluster.members("central"));
    let (mut last, mut other) = (cluster.client(pac[0]), cluster.client(central[0]));
    cluster.signal(pac[1], Signal::Kill).unwrap();
    cluster.signal(pac[2], Signal::Kill).unwrap();

    until(&mut last, &patient("of-pac", "female"), is_journaled).await;
    until(&mut other, &patient("of-central", "male"), |answer| answer.status.is_success()).await;

    until(&mut last, &read("of-central"), |answer| answer.status == 200).await;
    until(&mut other, &read("of-pac"), |answer| answer.status == 200).await;
    let refused =
        last.ask(read("of-pac").with("prefer", "chartmesh-consistency=linearizable")).await;
    assert_eq!(refused.unwrap().status, 503);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_killed_and_started_in_its_isolation_delivers_every_journal_once() {
    let mut cluster = Cluster::start_mesh(SETTINGS).await.unwrap();
    let node = cluster.members("eur")[1];
    let name = cluster.name(node).0.clone();
    let mut client = cluster.client(node);
    cluster.net().isolate(&name).unwrap();
    until(&mut client, &patient("before", "female"), is_journaled).await;

    cluster.signal(node, Signal::Kill).unwrap();
    cluster.spawn(node, &[]).unwrap();
    let before = until(&mut client, &read("before"), |answer| answer.status == 200).await;
    until(&mut client, &patient("after", "male"), is_journaled).await;
    let written = journals(&cluster, node, &name).await;
    cluster.net().heal();

    cluster.wait_until_it_leads().await.unwrap();
    witness::agree(&mut cluster.clients(), WITHIN).await.unwrap();
    assert_eq!(written.len(), 2, "a journal is never reopened: {written:?}");
    for other in 0..cluster.size() {
        assert_eq!(journals(&cluster, other, &name).await, written);
        let mut there = cluster.client(other);
        assert_eq!(there.ask(read("before")).await.unwrap().version(), before.version());
        assert_eq!(there.ask(read("after")).await.unwrap().status, 200);
    }
}

/// Copies a directory as it is.
fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(copied.success(), "{} to {}", from.display(), to.display());
}

/// Stops a node at once, and gives its disk back what it was before.
fn set_back(cluster: &mut Cluster, node: usize, to: &Path) {
    cluster.signal(node, Signal::Kill).unwrap();
    std::fs::remove_dir_all(cluster.data(node)).unwrap();
    copy(to, &cluster.data(node));
}

/// Whether a node says that it does not vote, and why.
async fn is_joining(cluster: &Cluster, node: usize) -> bool {
    let status = cluster.status(node).await.unwrap_or_default();
    let alarms = status["alarms"].as_array().cloned().unwrap_or_default();
    alarms.iter().any(|alarm| alarm["code"] == "joining")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_voter_whose_disk_was_set_back_votes_only_as_a_new_one() {
    let mut cluster = Cluster::start_mesh(SETTINGS).await.unwrap();
    let pac = cluster.members("pac");
    let mut client = cluster.client(pac[0]);
    let old = tempfile::tempdir().unwrap();
    let old = old.path().join("old");
    assert_eq!(client.ask(patient("early", "female")).await.unwrap().status, 201);
    cluster.signal(pac[1], Signal::Kill).unwrap();
    copy(&cluster.data(pac[1]), &old);
    cluster.spawn(pac[1], &[]).unwrap();
    cluster.wait_until_it_leads().await.unwrap();
    for turn in 0..20 {
        let id = format!("late-{turn}");
        assert_eq!(client.ask(patient(&id, "male")).await.unwrap().status, 201);
    }
    let mut there = cluster.client(pac[1]);
    until(&mut there, &read("late-19"), |answer| answer.status == 200).await;
    // What is acknowledged is told once a second.
    sleep(Duration::from_secs(3)).await;

    set_back(&mut cluster, pac[1], &old);
    // Only with the others' word it can know: the region has no majority without it.
    cluster.signal(pac[2], Signal::Kill).unwrap();
    cluster.spawn(pac[1], &[]).unwrap();
    let started = Instant::now();
    while !is_joining(&cluster, pac[1]).await {
        assert!(started.elapsed() < WITHIN, "it does not notice");
        sleep(Duration::from_millis(50)).await;
    }
    cluster.spawn(pac[2], &[]).unwrap();

    cluster.wait_until_it_leads().await.unwrap();
    let started = Instant::now();
    while is_joining(&cluster, pac[1]).await {
        assert!(started.elapsed() < WITHIN, "it never votes again");
        sleep(Duration::from_millis(50)).await;
    }
    let mut there = cluster.client(pac[1]);
    until(&mut there, &read("late-19"), |answer| answer.status == 200).await;
    witness::agree(&mut cluster.clients(), WITHIN).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_set_back_in_its_isolation_loses_nothing_that_was_mirrored_and_uses_no_name_twice() {
    let mut cluster = Cluster::start_mesh(SETTINGS).await.unwrap();
    let node = cluster.members("eur")[1];
    let name = cluster.name(node).0.clone();
    let old = tempfile::tempdir().unwrap();
    let old = old.path().join("old");
    cluster.net().isolate(&name).unwrap();
    let mut client = cluster.client(node);
    until(&mut client, &patient("first", "female"), is_journaled).await;
    cluster.signal(node, Signal::Kill).unwrap();
    copy(&cluster.data(node), &old);
    cluster.spawn(node, &[]).unwrap();
    until(&mut client, &patient("mirrored", "female"), is_journaled).await;
    cluster.net().heal();
    let mut other = cluster.client(cluster.members("pac")[0]);
    let mirrored = until(&mut other, &read("mirrored"), |answer| answer.status == 200).await;

    cluster.net().isolate(&name).unwrap();
    set_back(&mut cluster, node, &old);
    cluster.spawn(node, &[]).unwrap();
    let again = until(&mut client, &patient("mirrored", "male"), is_journaled).await;
    assert_ne!(again.version(), mirrored.version());
    cluster.net().heal();

    cluster.wait_until_it_leads().await.unwrap();
    witness::agree(&mut cluster.clients(), WITHIN).await.unwrap();
    for node in 0..cluster.size() {
        let mut client = cluster.client(node);
        assert_eq!(client.ask(read("first")).await.unwrap().status, 200);
        for version in [mirrored.version(), again.version()].map(Option::unwrap) {
            let vread = Ask::get(format!("/fhir/Patient/mirrored/_history/{version}"));
            assert_eq!(client.ask(vread).await.unwrap().status, 200, "{version} at {node}");
        }
        let heads = client.ask(read("mirrored")).await.unwrap();
        assert_eq!(heads.header("chartmesh-conflict").split(',').count(), 2, "at {node}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_conflict_of_an_isolated_site_is_shown_everywhere_and_resolved_everywhere() {
    let cluster = Cluster::start_mesh(SETTINGS).await.unwrap();
    let (site, home) = (cluster.members("eur")[1], cluster.members("eur")[0]);
    let (mut there, mut here) = (cluster.client(site), cluster.client(home));
    assert_eq!(here.ask(patient("both", "other")).await.unwrap().status, 201);
    until(&mut there, &read("both"), |answer| answer.status == 200).await;
    cluster.net().isolate(&cluster.name(site).0).unwrap();
    until(&mut there, &patient("both", "female"), is_journaled).await;
    until(&mut here, &patient("both", "male"), |answer| answer.status == 200).await;

    cluster.net().heal();
    let in_conflict = |answer: &Answer| !answer.header("chartmesh-conflict").is_empty();
    let shown = until(&mut here, &read("both"), in_conflict).await;
    let heads = shown.header("chartmesh-conflict").to_owned();
    assert_eq!(heads.split(',').count(), 2, "{heads}");
    let resolution = patient("both", "male").with("if-match", heads);
    assert_eq!(here.ask(resolution).await.unwrap().status, 200);

    for node in 0..cluster.size() {
        let mut client = cluster.client(node);
        let resolved = |answer: &Answer| answer.status == 200 && !in_conflict(answer);
        until(&mut client, &read("both"), resolved).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn founding_refuses_where_the_region_is_known() {
    let mut cluster = Cluster::start_mesh(SETTINGS).await.unwrap();
    let pac = cluster.members("pac");
    let mut client = cluster.client(pac[0]);
    assert_eq!(client.ask(patient("one", "female")).await.unwrap().status, 201);
    let mut central = cluster.client(cluster.members("central")[0]);
    until(&mut central, &read("one"), |answer| answer.status == 200).await;
    for &node in &pac {
        cluster.signal(node, Signal::Kill).unwrap();
        std::fs::remove_dir_all(cluster.data(node)).unwrap();
    }

    for &node in &pac {
        cluster.spawn(node, if node == pac[0] { &["--found"] } else { &[] }).unwrap();
    }

    let started = Instant::now();
    let status = loop {
        let status = cluster.status(pac[0]).await.unwrap_or_default();
        if status["alarms"].as_array().is_some_and(|alarms| !alarms.is_empty()) {
            break status;
        }
        assert!(started.elapsed() < WITHIN, "it says nothing: {status}");
        sleep(Duration::from_millis(100)).await;
    };
    assert!(status["leader"].is_null(), "it was founded again: {status}");
    let mut client = cluster.client(pac[0]);
    let refused = client.ask(patient("two", "male")).await.unwrap();
    assert_eq!(refused.status, 503, "{}", refused.text());
}
