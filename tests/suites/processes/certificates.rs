//! Certificates that are replaced while the nodes run.

use std::fs;
use std::time::Duration;

use chartmesh_tests::cluster::{Cluster, Signal};
use chartmesh_tests::http::Ask;
use tokio::time::{Instant, sleep};

const RECORD: &str = r#"{"resourceType":"Patient","id":"one"}"#;

#[tokio::test]
async fn a_certificate_replaced_on_disk_is_used_without_a_restart() {
    let mut cluster = Cluster::start().await.unwrap();
    // A second authority: who still shows the old certificates is a stranger to it.
    cluster.make_certificates("tls-next").unwrap();
    for file in fs::read_dir(cluster.path("tls-next")).unwrap() {
        let from = file.unwrap().path();
        let to = cluster.path("tls").join(from.file_name().unwrap());
        fs::copy(&from, cluster.path("next")).unwrap();
        fs::rename(cluster.path("next"), to).unwrap();
    }

    // A process that starts now knows the new authority only.
    sleep(Duration::from_secs(3)).await;
    let leader = cluster.wait_until_it_leads().await.unwrap();
    let newcomer = (leader + 1) % cluster.size();
    cluster.signal(newcomer, Signal::Kill).unwrap();
    cluster.spawn(newcomer, &[]).unwrap();
    cluster.wait_until_it_leads().await.unwrap();

    let started = Instant::now();
    let mut client = cluster.client(newcomer);
    loop {
        let answer = client.ask(Ask::put("/fhir/Patient/one", RECORD)).await;
        if answer.is_ok_and(|answer| answer.status.is_success()) {
            break;
        }
        assert!(started.elapsed() < Duration::from_secs(20), "the newcomer is not let in");
    }
}
