//! Twenty generated patients in their transactions: loaded by the program, and by hand to compare
//! what is read with what was sent.

use std::collections::BTreeMap;
use std::time::Duration;

use chartmesh_tests::cluster::{self, Cluster};
use chartmesh_tests::http::{Ask, Client};
use chartmesh_tests::json::Json;
use chartmesh_tests::{records, witness, workspace};
use tokio::time::Instant;

use crate::{ask, parse};

const SET: &str = "data/01-synthea-small/synthea-small-tx.tar.zst";
const RESOURCES: usize = 8_460;
const PATIENCE: Duration = Duration::from_secs(30);

#[tokio::test]
async fn the_program_loads_all_patients_and_all_nodes_hold_them() {
    let Some(archive) = workspace::shared(SET) else { return };
    let cluster = Cluster::start().await.unwrap();
    let topology = cluster.path("mesh.toml");

    let started = Instant::now();
    cluster::run(&["load", archive.to_str().unwrap(), "--to", &cluster.url(0)]).unwrap();
    println!("loaded {RESOURCES} resources in {} ms", started.elapsed().as_millis());

    witness::agree(&mut cluster.clients(), PATIENCE).await.unwrap();
    for node in 0..cluster.size() {
        let status = cluster.status(node).await.unwrap();
        assert_eq!(status["store"]["resources"], RESOURCES, "{status}");
    }
    cluster::run(&["verify", "--topology", topology.to_str().unwrap()]).unwrap();
}

/// What was sent, and where it stands.
struct Written {
    sent: Json,
    key: String,
}

#[tokio::test]
async fn every_resource_of_a_patient_is_read_back_to_the_letter() {
    let Some(archive) = workspace::shared(SET) else { return };
    let cluster = Cluster::start().await.unwrap();
    let mut client = cluster.client(0);

    let mut written = Vec::new();
    let mut by_url = BTreeMap::new();
    for (name, bytes) in records::documents(&archive, ".json").unwrap() {
        for (url, one) in post(&mut client, &name, bytes).await {
            by_url.insert(url, one.key.clone());
            written.push(one);
        }
    }

    assert_eq!(written.len(), RESOURCES);
    witness::agree(&mut cluster.clients(), PATIENCE).await.unwrap();
    let by_identifier = identifiers(&written);
    let mut violations = Vec::new();
    for (number, Written { sent, key }) in written.into_iter().enumerate() {
        let mut reader = cluster.client(number % cluster.size());
        let read = ask(&mut reader, Ask::get(format!("/fhir/{key}"))).await;
        let rewritten = |member: &str, text: String| {
            let known = if member == "reference" {
                by_url.get(&text).or_else(|| by_identifier.get(&text))
            } else {
                None
            };
            known.cloned().unwrap_or(text)
        };
        let expected = sent.as_sent().map_texts(&rewritten);
        let difference = expected.difference(&parse(&read.body).as_sent());
        violations.extend(difference.map(|difference| format!("{key} {difference}")));
    }
    let first: Vec<&String> = violations.iter().take(20).collect();
    assert!(violations.is_empty(), "{} of them: {first:#?}", violations.len());
}

/// Sends a bundle, and pairs what it held, under its full URLs, with what became of it.
async fn post(client: &mut Client, name: &str, bytes: Vec<u8>) -> Vec<(String, Written)> {
    let sent = parse(&bytes);
    let answer = ask(client, Ask::post("/fhir", bytes)).await;
    assert_eq!(answer.status, 200, "{name}: {}", answer.text());
    let answered = parse(&answer.body);
    let (sent, answered) = (sent.list("entry"), answered.list("entry"));
    assert_eq!(sent.len(), answered.len(), "{name}");
    let pairs = sent.iter().zip(answered).map(|(sent, answered)| {
        let response = answered.member("response").expect("a response");
        let status = response.text("status").expect("a status");
        assert!(status.starts_with("201"), "{name}: {response}");
        let location = response.text("location").expect("a location");
        let url = sent.text("fullUrl").expect("a full URL").to_owned();
        let sent = sent.member("resource").expect("a resource").clone();
        (url, Written { sent, key: key(location) })
    });
    pairs.collect()
}

/// `Patient/1` of `http://host/fhir/Patient/1/_history/2`.
fn key(location: &str) -> String {
    let path = location.split("/_history/").next().expect("one at least");
    let mut parts = path.rsplit('/');
    let (id, kind) = (parts.next().expect("an id"), parts.next().expect("a type"));
    format!("{kind}/{id}")
}

/// What a conditional reference may say of each resource, and where the resource stands.
fn identifiers(written: &[Written]) -> BTreeMap<String, String> {
    let of = |Written { sent, key }: &Written| {
        let kind = sent.text("resourceType").expect("a type").to_owned();
        let identifiers = sent.list("identifier").to_vec();
        identifiers.into_iter().filter_map({
            let key = key.clone();
            move |identifier| {
                let (system, value) = (identifier.text("system")?, identifier.text("value")?);
                Some((format!("{kind}?identifier={system}|{value}"), key.clone()))
            }
        })
    };
    written.iter().flat_map(of).collect()
}
