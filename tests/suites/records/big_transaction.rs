//! One transaction of 25,000 resources, while small writes go on.

use std::path::Path;
use std::time::Duration;

use chartmesh_tests::cluster::Cluster;
use chartmesh_tests::http::Ask;
use chartmesh_tests::{records, witness, workspace};
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, sleep};

use crate::{ask, parse};

const TRANSACTION: &str = "data/03-big-tx/ff4188f6-12eb-419f-68a6-a0a245aa4b92.json.bz2";
const STUBS: &str = "data/03-big-tx/stubs.ndjson";
/// Its files `0-*` hold the rest of what the transaction refers to.
const HOSPITALS: &str = "data/01-synthea-small/synthea-small-tx.tar.zst";
const ENTRIES: u64 = 25_000;
/// What writes a second come in meanwhile, whether the last was answered or not.
const RATE: u64 = 50;
const BEDS: u64 = 10;
const PATIENCE: Duration = Duration::from_secs(120);

#[tokio::test]
async fn a_transaction_of_25_000_entries_is_all_there_at_once_and_small_writes_go_on() {
    let files = [TRANSACTION, STUBS, HOSPITALS].map(workspace::shared);
    let [Some(transaction), Some(stubs), Some(hospitals)] = files else { return };
    let transaction = records::bzip2(&transaction).unwrap();
    let mut cluster = Cluster::start().await.unwrap();
    let before = prepare(&cluster, &stubs, &hospitals).await;
    let leader = cluster.wait_until_it_leads().await.unwrap();
    let term = cluster.status(leader).await.unwrap()["term"].clone();

    let asked = (leader + 1) % cluster.size();
    let mut importer = cluster.client(asked).with_patience(PATIENCE);
    let import = tokio::spawn(async move {
        let started = Instant::now();
        let answer = importer.ask(Ask::post("/fhir", transaction)).await.unwrap();
        (answer, started.elapsed())
    });
    let mut small = JoinSet::new();
    let mut tick = interval(Duration::from_secs(1) / u32::try_from(RATE).unwrap());
    let mut seen = Vec::new();
    for number in 0.. {
        tick.tick().await;
        if import.is_finished() {
            break;
        }
        small.spawn(small_write(&cluster, number));
        if number % 5 == 0 {
            let node = usize::try_from(number / 5).unwrap() % cluster.size();
            seen.push(resources(&cluster, node).await);
        }
    }
    let (answer, took) = import.await.unwrap();
    let mut times = small.join_all().await;

    assert_eq!(answer.status, 200, "{:.500}", answer.text());
    assert_eq!(parse(&answer.body).list("entry").len() as u64, ENTRIES);
    let after = before + ENTRIES;
    let answered = Instant::now();
    if !answer.headers.contains_key("chartmesh-applied") {
        assert_eq!(resources(&cluster, asked).await, after, "it is not said to be pending");
    }
    for node in 0..cluster.size() {
        // An answer may come before the change is applied, and says so.
        while resources(&cluster, node).await != after {
            assert!(answered.elapsed() < PATIENCE, "node {node} does not apply it");
            sleep(Duration::from_millis(100)).await;
        }
    }
    let applied = answered.elapsed();
    witness::agree(&mut cluster.clients(), Duration::from_secs(30)).await.unwrap();
    assert!(seen.iter().all(|count| [before, after].contains(count)), "torn: {seen:?}");
    for node in 0..cluster.size() {
        assert_eq!(resources(&cluster, node).await, after);
        let status = cluster.status(node).await.unwrap();
        assert_eq!(status["term"], term, "the leader has changed: {status}");
    }
    times.sort();
    let at = |share: usize| times[(times.len() - 1) * share / 100].as_millis();
    println!(
        "{ENTRIES} entries in {} ms, at all nodes after {} ms more; {} small writes meanwhile",
        took.as_millis(),
        applied.as_millis(),
        times.len()
    );
    println!("  ms: median {}, p99 {}, max {}", at(50), at(99), at(100));
}

/// What the transaction refers to, and the beds that small writes write. Returns how many resources
/// there are then.
async fn prepare(cluster: &Cluster, stubs: &Path, hospitals: &Path) -> u64 {
    let mut client = cluster.client(0);
    for line in records::lines(stubs).unwrap() {
        let stub = parse(line.as_bytes());
        let (kind, id) = (stub.text("resourceType").unwrap(), stub.text("id").unwrap());
        let write = Ask::put(format!("/fhir/{kind}/{id}"), line);
        assert_eq!(ask(&mut client, write).await.status, 201);
    }
    for (name, bundle) in records::documents(hospitals, ".json").unwrap() {
        if name.contains("/0-") {
            assert_eq!(ask(&mut client, Ask::post("/fhir", bundle)).await.status, 200);
        }
    }
    for number in 0..BEDS {
        assert_eq!(ask(&mut client, bed(number, "new")).await.status, 201);
    }
    witness::agree(&mut cluster.clients(), Duration::from_secs(30)).await.unwrap();
    resources(cluster, 0).await
}

fn bed(number: u64, name: &str) -> Ask {
    let id = format!("bed-{}", number % BEDS);
    let body = format!(r#"{{"resourceType":"Location","id":"{id}","name":"{name}"}}"#);
    Ask::put(format!("/fhir/Location/{id}"), body)
}

/// A small write at any node, and how long it takes until it is accepted.
fn small_write(cluster: &Cluster, number: u64) -> impl Future<Output = Duration> + use<> {
    let node = usize::try_from(number).unwrap() % cluster.size();
    let mut client = cluster.client(node).with_patience(PATIENCE);
    async move {
        let started = Instant::now();
        let write = bed(number, &number.to_string());
        while !client.ask(write.clone()).await.is_ok_and(|answer| answer.status == 200) {
            sleep(Duration::from_millis(10)).await;
        }
        started.elapsed()
    }
}

async fn resources(cluster: &Cluster, node: usize) -> u64 {
    let status = cluster.status(node).await.unwrap();
    status["store"]["resources"].as_u64().expect("a number")
}
