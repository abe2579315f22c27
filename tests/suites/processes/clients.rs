//! Public FHIR clients of other makers, unchanged, against running nodes (tests/clients). Their folder,
//! with what `./tests/run.sh --clients` installs there, is named by `CHARTMESH_CLIENTS`.

use std::path::PathBuf;
use std::process::Stdio;

use chartmesh_tests::cluster::{Cluster, Signal};
use chartmesh_tests::workspace;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::Command;

/// Where the clients are installed.
fn installed() -> Option<PathBuf> {
    let dir = std::env::var_os("CHARTMESH_CLIENTS").map(PathBuf::from);
    if dir.is_none() {
        eprintln!("left out: no clients are installed; see ./tests/run.sh --clients");
    }
    dir
}

/// Plays the scenario of a script, which is told when the first node is gone.
async fn play(mut command: Command) {
    let mut cluster = Cluster::start().await.unwrap();
    cluster.wait_until_it_leads().await.unwrap();
    for node in 0..cluster.size() {
        command.arg(format!("{}/fhir", cluster.url(node)));
    }
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
    let mut script = command.spawn().unwrap();
    let mut input = script.stdin.take().unwrap();
    let mut lines = BufReader::new(script.stdout.take().unwrap()).lines();
    let mut said = Vec::new();
    while let Some(line) = lines.next_line().await.unwrap() {
        if line == "kill" {
            cluster.signal(0, Signal::Kill).unwrap();
            cluster.wait_until_it_leads().await.unwrap();
            input.write_all(b"gone\n").await.unwrap();
        }
        said.push(line);
    }
    let status = script.wait().await.unwrap();
    assert!(status.success(), "{status}: {said:?}");
    assert_eq!(said.last().map(String::as_str), Some("passed"), "{said:?}");
    assert!(said.iter().any(|line| line == "kill"), "{said:?}");
}

async fn python(script: &str) {
    let Some(dir) = installed() else { return };
    let mut command = Command::new(dir.join("venv/bin/python"));
    command.arg(workspace::root().join("tests/clients").join(script));
    play(command).await;
}

async fn node(script: &str) {
    let Some(dir) = installed() else { return };
    // Modules are looked for beside the script.
    let copy = dir.join("node").join(script);
    std::fs::copy(workspace::root().join("tests/clients").join(script), &copy).unwrap();
    let mut command = Command::new("node");
    command.arg(copy);
    play(command).await;
}

#[tokio::test]
async fn fhir_sdk_works_unchanged() {
    let Some(dir) = installed() else { return };
    play(Command::new(dir.join("rust/debug/chartmesh-clients"))).await;
}

#[tokio::test]
async fn fhirpy_works_unchanged() {
    python("fhirpy_scenario.py").await;
}

#[tokio::test]
async fn fhirclient_for_python_works_unchanged() {
    python("fhirclient_scenario.py").await;
}

#[tokio::test]
async fn fhir_kit_client_works_unchanged() {
    node("fhir_kit_client.mjs").await;
}

#[tokio::test]
async fn fhirclient_for_javascript_works_unchanged() {
    node("fhirclient_js.mjs").await;
}
