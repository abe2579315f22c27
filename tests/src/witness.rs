//! This module asks the nodes what they hold in the end, once they hold all that was written and nothing
//! is on its way.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use serde_json::Value;
use tokio::time::sleep;

use crate::history::{Held, Mark, NodeName, NodeState, Register, VersionId};
use crate::http::{Ask, Client};
use crate::writer::{MARK_SYSTEM, heads};

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

/// Waits until all nodes have one horizon, and nothing is pending, held back or unheard of.
///
/// # Errors
/// They have not within `patience`. That something else is left is for the invariants to judge.
pub async fn agree(nodes: &mut [(NodeName, Client)], patience: Duration) -> anyhow::Result<()> {
    let (mut last, mut agreed) = (Vec::new(), false);
    for _ in 0..patience.as_millis() / PAUSE.as_millis() {
        last.clear();
        for (name, client) in nodes.iter_mut() {
            let status = status(client).await.ok();
            let at = status.as_ref().and_then(|status| horizon(status).ok());
            last.push((name.clone(), at, status.as_ref().map(unrest)));
        }
        let first = last[0].1.clone();
        agreed = first.is_some() && last.iter().all(|(_, horizon, _)| *horizon == first);
        let at_rest = |unrest: &Option<Vec<String>>| unrest.as_ref().is_some_and(Vec::is_empty);
        if agreed && last.iter().all(|(_, _, unrest)| at_rest(unrest)) {
            return Ok(());
        }
        sleep(PAUSE).await;
    }
    match agreed {
        true => Ok(()),
        false => bail!("the nodes have not come to one horizon: {last:#?}"),
    }
}

async fn status(client: &mut Client) -> anyhow::Result<Value> {
    let answer = client.ask(Ask::get("/status")).await?;
    ensure!(answer.status.is_success(), "/status: {} {}", answer.status, answer.text());
    Ok(answer.json())
}

/// The cursors of a node, as text: without what differs from node to node and from time to time.
fn horizon(status: &Value) -> anyhow::Result<String> {
    let cursors = status.get("horizon").and_then(Value::as_array).context("no horizon")?;
    let cursor =
        |cursor: &Value| format!("{} {} {}", cursor["origin"], cursor["seq"], cursor["hash"]);
    let mut cursors: Vec<String> = cursors.iter().map(cursor).collect();
    cursors.sort();
    Ok(cursors.join(", "))
}

/// What is not where it should be, as text.
fn unrest(status: &Value) -> Vec<String> {
    let entries = |of: &str| status[of].as_array().cloned().unwrap_or_default();
    let pending = entries("pending")
        .into_iter()
        .map(|feed| format!("{} changes of {} are pending", feed["changes"], feed["origin"]));
    let held_back = entries("held_back").into_iter().map(|feed| {
        format!("{} is held back from {} on: {}", feed["origin"], feed["seq"], feed["reason"])
    });
    let silent = entries("silent").into_iter().map(|node| format!("{} is silent", node["node"]));
    pending.chain(held_back).chain(silent).collect()
}

async fn state(client: &mut Client, registers: &[Register]) -> anyhow::Result<NodeState> {
    let (mut held, mut standing) = (BTreeMap::new(), BTreeMap::new());
    for register in registers {
        let versions = history(client, register).await?;
        if let (Some(oldest), Some(newest)) = (versions.first(), versions.last()) {
            look_at(client, register, oldest).await?;
            look_at(client, register, newest).await?;
            standing.insert(register.clone(), heads_of(client, register).await?);
        }
        held.insert(register.clone(), versions);
    }
    let status = status(client).await?;
    Ok(NodeState {
        registers: held,
        heads: standing,
        conflicts: conflicts(client).await?,
        unrest: unrest(&status),
        horizon: horizon(&status)?,
        digest: status["digest"].as_str().context("no digest")?.to_owned(),
    })
}

/// The heads of a register that has a version: the current one, and those in conflict with it.
async fn heads_of(client: &mut Client, register: &Register) -> anyhow::Result<BTreeSet<VersionId>> {
    let answer = client.ask(Ask::get(format!("/fhir/{}", register.0))).await?;
    let current = VersionId(answer.version().context("a read without a version")?.to_owned());
    let heads = heads(&answer).unwrap_or_else(|| [current.clone()].into());
    ensure!(heads.contains(&current), "{current:?} is shown and none of {heads:?}");
    Ok(heads)
}

/// Asserts that a version is readable by its name, as the history shows it.
async fn look_at(client: &mut Client, register: &Register, held: &Held) -> anyhow::Result<()> {
    let path = format!("/fhir/{}/_history/{}", register.0, held.version.0);
    let answer = client.ask(Ask::get(path)).await?;
    let found = version(&answer.json());
    ensure!(found.as_ref() == Some(held), "{held:?} of {register:?} reads {}", answer.text());
    Ok(())
}

/// The registers that are in conflict, as `$conflicts` lists them.
async fn conflicts(client: &mut Client) -> anyhow::Result<BTreeSet<Register>> {
    let mut found = BTreeSet::new();
    let mut next = Some(format!("/fhir/$conflicts?_count={PAGE}"));
    while let Some(path) = next {
        let answer = client.ask(Ask::get(path)).await?;
        ensure!(answer.status.is_success(), "conflicts: {} {}", answer.status, answer.text());
        let bundle = answer.json();
        for entry in bundle["entry"].as_array().into_iter().flatten() {
            let parameters = entry["resource"]["parameter"].as_array().into_iter().flatten();
            let of = |name: &str| parameters.clone().find(|value| value["name"] == name);
            // Two resources of one name are no conflict of a register.
            if of("kind").is_some_and(|kind| kind["valueCode"] == "duplicate") {
                continue;
            }
            let resource = of("resource").context("a conflict of nothing")?;
            let reference = resource["valueReference"]["reference"].as_str();
            found.insert(Register(reference.context("no reference")?.to_owned()));
        }
        next = next_page(&bundle);
    }
    Ok(found)
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
