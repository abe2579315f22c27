//! What a node does when its disk is empty, full or damaged.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use chartmesh_tests::cluster::{Cluster, Signal};
use chartmesh_tests::http::Ask;
use chartmesh_tests::witness;
use tokio::time::{Instant, sleep};

const RECORD: &str = r#"{"resourceType":"Patient","id":"one"}"#;

#[tokio::test]
async fn a_node_with_an_empty_disk_joins_its_region_by_itself_and_votes_again() {
    let mut cluster = Cluster::start().await.unwrap();
    let leader = cluster.leader().await.expect("there is a leader");
    let wiped = (leader + 1) % cluster.size();
    let mut client = cluster.client(leader);
    assert_eq!(client.ask(Ask::put("/fhir/Patient/one", RECORD)).await.unwrap().status, 201);

    cluster.signal(wiped, Signal::Kill).unwrap();
    fs::remove_dir_all(cluster.data(wiped)).unwrap();
    cluster.spawn(wiped, &[]).unwrap();
    cluster.wait_until_it_leads().await.unwrap();
    witness::agree(&mut cluster.clients(), Duration::from_secs(20)).await.unwrap();

    // Its vote is needed once the leader is gone: there is another leader, so it votes again.
    let started = Instant::now();
    cluster.signal(leader, Signal::Kill).unwrap();
    let mut client = cluster.client(wiped);
    loop {
        let answer = client.ask(Ask::put("/fhir/Patient/one", RECORD)).await;
        if answer.is_ok_and(|answer| {
            answer.status == 200 && answer.header("chartmesh-durability") == "region"
        }) {
            break;
        }
        assert!(started.elapsed() < Duration::from_secs(20), "the wiped node does not vote again");
        sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn below_the_reserve_writes_are_refused_and_reads_go_on() {
    let cluster = Cluster::start_with("[disk]\nreserve = \"1000TiB\"\n").await.unwrap();
    let mut client = cluster.client(0);

    let refused = client.ask(Ask::put("/fhir/Patient/one", RECORD)).await.unwrap();
    let read = client.ask(Ask::get("/fhir/Patient/one")).await.unwrap();

    assert_eq!(refused.status, 507, "{}", refused.text());
    assert_eq!(refused.json()["resourceType"], "OperationOutcome");
    assert_eq!(read.status, 404);
}

#[tokio::test]
async fn a_damaged_store_refuses_to_start_and_its_advice_helps() {
    let mut cluster = Cluster::start().await.unwrap();
    let mut client = cluster.client(0);
    assert_eq!(client.ask(Ask::put("/fhir/Patient/one", RECORD)).await.unwrap().status, 201);
    let damaged = 1;
    cluster.signal(damaged, Signal::Kill).unwrap();
    let state = cluster.data(damaged).join("state");
    damage(&state);

    cluster.spawn(damaged, &[]).unwrap();
    let status = cluster.wait_for_end(damaged).await.unwrap();

    let said = cluster.log(damaged);
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("damaged") && said.contains("move that directory away"), "{said}");
    assert!(said.contains(state.to_str().unwrap()) && !said.contains("panic"), "{said}");
    fs::rename(&state, cluster.path("moved-away")).unwrap();
    cluster.spawn(damaged, &[]).unwrap();
    cluster.wait_until_it_leads().await.unwrap();
    witness::agree(&mut cluster.clients(), Duration::from_secs(20)).await.unwrap();
    let mut client = cluster.client(damaged);
    assert_eq!(client.ask(Ask::get("/fhir/Patient/one")).await.unwrap().status, 200);
}

#[tokio::test]
async fn a_damaged_raft_log_refuses_to_start_and_says_what_to_do() {
    let mut cluster = Cluster::start().await.unwrap();
    let damaged = 1;
    cluster.signal(damaged, Signal::Kill).unwrap();
    let log = cluster.data(damaged).join("log");
    damage(&log);

    cluster.spawn(damaged, &[]).unwrap();
    let status = cluster.wait_for_end(damaged).await.unwrap();

    let said = cluster.log(damaged);
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("damaged") && said.contains(log.to_str().unwrap()), "{said}");
    assert!(!said.contains("panic"), "{said}");
}

/// Turns the first bytes of every MANIFEST below a folder over.
fn damage(folder: &Path) {
    let mut damaged = 0;
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let (inner, files): (Vec<PathBuf>, Vec<_>) = entries.partition(|path| path.is_dir());
        folders.extend(inner);
        for file in files.iter().filter(|file| file.to_string_lossy().contains("MANIFEST")) {
            let mut file = File::options().read(true).write(true).open(file).unwrap();
            let mut start = [0; 64];
            let count = file.read(&mut start).unwrap();
            start.iter_mut().for_each(|byte| *byte = !*byte);
            file.seek(SeekFrom::Start(0)).unwrap();
            file.write_all(&start[..count]).unwrap();
            damaged += 1;
        }
    }
    assert!(damaged > 0, "there was nothing to damage");
}
