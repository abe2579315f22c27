//! What goes on without a quorum where no journals are wanted: reads, and nothing else.

use std::time::Duration;

use chartmesh_tests::cluster::{Cluster, Signal};
use chartmesh_tests::http::{Answer, Ask};

const PATIENT: &str = r#"{"resourceType":"Patient","id":"one","active":true}"#;

#[tokio::test]
async fn without_a_quorum_reads_go_on_and_writes_are_told_to_come_back() {
    let settings = "isolation.writes = \"refuse\"\n";
    let mut cluster = Cluster::start_with(settings).await.unwrap();
    let mut client = cluster.client(0);
    let write = || Ask::put("/fhir/Patient/one", PATIENT);
    assert_eq!(client.ask(write()).await.unwrap().status, 201);

    cluster.signal(1, Signal::Kill).unwrap();
    cluster.signal(2, Signal::Kill).unwrap();

    let refused = client.ask(write()).await.unwrap();
    assert_refused_for_now(&refused);
    let read = client.ask(Ask::get("/fhir/Patient/one")).await.unwrap();
    assert_eq!(read.status, 200);
    assert_eq!(client.ask(Ask::get("/health/ready")).await.unwrap().status, 200);
    let newest = Ask::get("/fhir/Patient/one").with("prefer", "chartmesh-consistency=linearizable");
    assert_eq!(client.ask(newest).await.unwrap().status, 503);

    cluster.spawn(1, &[]).unwrap();
    cluster.wait_until_it_leads().await.unwrap();
    let mut patient = cluster.client(0).with_patience(Duration::from_secs(30));
    let accepted = loop {
        let answer = patient.ask(write()).await.unwrap();
        if answer.status != 503 {
            break answer;
        }
    };
    assert_eq!(accepted.status, 200, "{}", accepted.text());
}

fn assert_refused_for_now(answer: &Answer) {
    assert_eq!(answer.status, 503, "{}", answer.text());
    let after: u64 = answer.header("retry-after").parse().expect("a number of seconds");
    assert!(after > 0);
    assert_eq!(answer.json()["resourceType"], "OperationOutcome", "{}", answer.text());
}
