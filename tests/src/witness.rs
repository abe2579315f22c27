//! This module asks the nodes what they hold in the end, once they hold all that was written.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use serde_json::Value;
use tokio::time::sleep;

use crate::history::{Held, Mark, NodeName, NodeState, Register, VersionId};
use crate::http::{Ask, Client};
use crate::writer::MARK_SYSTEM;

const PAUSE: Duration = Duration::from_millis(100);

/// How many versions a page of a history has.
const PAGE: usize = 500;

/// What each node holds of these registers, after all have come to one horizon.
///
/// # Errors
/// They have not within `patience`, or do not answer.
pub async fn testify(
    nodes: &mut [(NodeName, Client)],
    registers: &[Register],
    patience: Duration,
) -> anyhow::Result<BTreeMap<NodeName, NodeState>> {
    agree(nodes, patience).await?;
    let mut states = BTreeMap::new();
    for (name, client) in nodes {
        states.insert(name.clone(), state(client, registers).await?);
    }
    Ok(states)
}

/// Waits until all nodes have one horizon.
///
/// # Errors
/// They have not within `patience`.
pub async fn agree(nodes: &mut [(NodeName, Client)], patience: Duration) -> anyhow::Result<()> {
    let mut last = Vec::new();
    for _ in 0..patience.as_millis() / PAUSE.as_millis() {
        last.clear();
        for (name, client) in nodes.iter_mut() {
            last.push((name.clone(), horizon(client).await.ok()));
        }
        if last.iter().all(|(_, horizon)| horizon.is_some() && *horizon == last[0].1) {
            return Ok(());
        }
        sleep(PAUSE).await;
    }
    bail!("the nodes have not come to one horizon: {last:#?}")
}

async fn status(client: &mut Client) -> anyhow::Result<Value> {
    let answer = client.ask(Ask::get("/status")).await?;
    ensure!(answer.status.is_success(), "/status: {} {}", answer.status, answer.text());
    Ok(answer.json())
}

/// The cursors of a node, as text: without what differs from node to node and from time to time.
async fn horizon(client: &mut Client) -> anyhow::Result<String> {
    let status = status(client).await?;
    let cursors = status.get("horizon").and_then(Value::as_array).context("no horizon")?;
    let cursor =
        |cursor: &Value| format!("{} {} {}", cursor["origin"], cursor["seq"], cursor["hash"]);
    let mut cursors: Vec<String> = cursors.iter().map(cursor).collect();
    cursors.sort();
    Ok(cursors.join(", "))
}

async fn state(client: &mut Client, registers: &[Register]) -> anyhow::Result<NodeState> {
    let mut held = BTreeMap::new();
    for register in registers {
        held.insert(register.clone(), history(client, register).await?);
    }
    let digest = status(client).await?["digest"].as_str().context("no digest")?.to_owned();
    Ok(NodeState { registers: held, horizon: horizon(client).await?, digest })
}

async fn history(client: &mut Client, register: &Register) -> anyhow::Result<Vec<Held>> {
    let mut versions = Vec::new();
    let mut next = Some(format!("/fhir/{}/_history?_count={PAGE}", register.0));
    while let Some(path) = next {
        let answer = client.ask(Ask::get(path)).await?;
        if answer.status == http::StatusCode::NOT_FOUND {
            break;
        }
        ensure!(answer.status.is_success(), "history: {} {}", answer.status, answer.text());
        let bundle = answer.json();
        for entry in bundle["entry"].as_array().into_iter().flatten() {
            versions.push(version(&entry["resource"]).context("a version without a mark")?);
        }
        next = next_page(&bundle);
    }
    versions.reverse();
    Ok(versions)
}

fn version(resource: &Value) -> Option<Held> {
    let version = VersionId(resource.pointer("/meta/versionId")?.as_str()?.to_owned());
    let identifiers = resource.get("identifier")?.as_array()?;
    let mark = identifiers.iter().find(|identifier| identifier["system"] == MARK_SYSTEM)?;
    Some(Held { version, mark: Mark(mark["value"].as_str()?.to_owned()) })
}

/// The path of a bundle's next page, without scheme and host.
fn next_page(bundle: &Value) -> Option<String> {
    let links = bundle["link"].as_array()?;
    let next = links.iter().find(|link| link["relation"] == "next")?["url"].as_str()?;
    let path = next.find("/fhir/")?;
    Some(next[path..].to_owned())
}
