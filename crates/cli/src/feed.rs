//! This module passes a change over that no node can give any more: `chartmesh feed skip`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use chartmesh_node::{Link, Operator, Topology};
use chartmesh_record::{ChainHash, Cursor, NodeName, Origin, Seq};
use serde::{Serialize, Serializer};

use crate::mesh::{self, Seen};
use crate::status::grouped;
use crate::terminal::{self, WrongUsage};

/// Pass a change of a feed over that no node can give any more.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum Action {
    Skip(Skip),
}

/// Let the nodes that wait for a change go on without it. It is lost there: it stays an alarm, by name.
///
/// Only what no node can give is passed over, and only if nodes that hold what follows say what its
/// chain hash is. Bring back every disk that may hold it first.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  chartmesh feed skip pac.7h2k4m9qzx 1042 --topology mesh.toml --tls tls
  chartmesh feed skip pac.7h2k4m9qzx 1042 --yes --json

Exit code 0: the nodes that waited for it go on. 1: nothing was changed. 2: wrong usage.")]
struct Skip {
    /// The feed: its origin.
    origin: Origin,
    /// The change set: its place in the feed.
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    seq: u64,
    #[command(flatten)]
    mesh: mesh::Arguments,
    /// The directory with operator.pem and operator.key.
    #[arg(long, value_name = "DIR")]
    tls: Option<PathBuf>,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
    /// Print what is held and what was done as JSON.
    #[arg(long)]
    json: bool,
}

/// How far a node holds the feed, and what it knows of the change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Holder {
    node: String,
    /// Up to where; `None`: it does not answer.
    seq: Option<u64>,
    /// Whether it can give the change.
    gives: bool,
    /// The chain up to and with it.
    #[serde(serialize_with = "as_text")]
    hash: Option<ChainHash>,
    /// Whether it has passed it over now.
    skipped: bool,
}

/// Runs the command.
pub(crate) async fn command(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let Action::Skip(arguments) = arguments.action;
    let Skip { origin, seq, tls, yes, json, .. } = &arguments;
    let mesh = arguments.mesh.find()?;
    let Some(file) = &mesh.topology else {
        return Err(WrongUsage("name the mesh by --topology or --cluster".to_owned()).into());
    };
    let tls = tls.clone().or(mesh.tls.clone()).context("name the operator's certificate: --tls")?;
    let operator = Operator::enter(Arc::new(Topology::read(file)?), &tls)?;
    let mut holders = Vec::new();
    for seen in mesh.ask().await {
        let name: NodeName = seen.target.name.parse()?;
        let link = match seen.status {
            Ok(_) => operator.chain(&name, origin, Seq(*seq)).await?,
            Err(_) => None,
        };
        holders.push(Holder::new(&seen, origin, link));
    }
    if !json {
        terminal::print(told(origin, *seq, &holders));
    }
    let hash = needed(&holders, *seq).map_err(anyhow::Error::msg)?;
    let question = format!("Change set {seq} of {origin} will be lost. Type its number to go on: ");
    if !yes && !terminal::agreed(&question, &seq.to_string())? {
        terminal::tell("nothing was changed");
        return Ok(ExitCode::FAILURE);
    }
    let at = Cursor { origin: origin.clone(), seq: Seq(*seq), hash };
    for holder in holders.iter_mut().filter(|holder| holder.waits(*seq)) {
        holder.skipped = operator.skip(&holder.node.parse()?, &at).await?;
    }
    if *json {
        terminal::print_json(&holders)?;
    } else {
        let skipped: Vec<&str> =
            holders.iter().filter(|it| it.skipped).map(|it| it.node.as_str()).collect();
        terminal::print(format!("passed over at {}", skipped.join(", ")));
    }
    Ok(ExitCode::SUCCESS)
}

impl Holder {
    fn new(seen: &Seen, origin: &Origin, link: Option<Link>) -> Self {
        let feed = |status: &chartmesh_ops::Status| {
            let feed = status.horizon.iter().find(|feed| feed.origin == origin.as_str());
            feed.map_or(0, |feed| feed.seq)
        };
        Self {
            node: seen.target.name.clone(),
            seq: seen.status.as_ref().ok().map(feed),
            gives: link.is_some_and(|link| link.readable),
            hash: link.map(|link| link.hash),
            skipped: false,
        }
    }

    /// Whether this change is the next that it lacks.
    fn waits(&self, seq: u64) -> bool {
        self.seq == Some(seq - 1)
    }
}

/// The hash under which the change is passed over, if it must and can be.
fn needed(holders: &[Holder], seq: u64) -> Result<ChainHash, String> {
    if let Some(holder) = holders.iter().find(|holder| holder.gives) {
        return Err(format!("{} can give it: nothing is passed over", holder.node));
    }
    if !holders.iter().any(|holder| holder.waits(seq)) {
        return Err("no node waits for it: nothing is passed over".to_owned());
    }
    let mut hashes = holders.iter().filter_map(|holder| holder.hash);
    let first = hashes.next();
    let first = first.ok_or("no node holds what follows on it: there is nothing to go on with")?;
    if hashes.any(|hash| hash != first) {
        return Err("nodes hold different histories there: see `chartmesh verify`".to_owned());
    }
    Ok(first)
}

fn as_text<S: Serializer>(hash: &Option<ChainHash>, to: S) -> Result<S::Ok, S::Error> {
    hash.map(|hash| hash.to_string()).serialize(to)
}

/// What is held, for a person.
fn told(origin: &Origin, seq: u64, holders: &[Holder]) -> String {
    let line = |holder: &Holder| {
        let node = &holder.node;
        match holder.seq {
            None => format!("  {node} does not answer; it may hold it"),
            Some(_) if holder.gives => format!("  {node} can give it"),
            Some(held) if held >= seq => {
                format!("  {node} holds the feed up to {}, and cannot give it", grouped(held))
            }
            Some(_) if holder.waits(seq) => format!("  {node} waits for it"),
            Some(held) => format!("  {node} holds the feed up to {}", grouped(held)),
        }
    };
    let head = format!("change set {} of {origin}", grouped(seq));
    std::iter::once(head).chain(holders.iter().map(line)).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holder(node: &str, seq: Option<u64>, gives: bool, hash: Option<u8>) -> Holder {
        let hash = hash.map(|byte| ChainHash([byte; 32]));
        Holder { node: node.to_owned(), seq, gives, hash, skipped: false }
    }

    #[test]
    fn only_what_nobody_can_give_and_somebody_waits_for_is_passed_over() {
        let waits = holder("eur-1", Some(6), false, None);
        let damaged = holder("pac-1", Some(9), false, Some(0xab));
        let gives = holder("pac-2", Some(9), true, Some(0xab));
        let other = holder("pac-3", Some(9), false, Some(0xcd));
        let gone = holder("pac-4", None, false, None);
        let needed = |holders: &[&Holder]| {
            let holders: Vec<Holder> = holders.iter().map(|&holder| holder.clone()).collect();
            needed(&holders, 7).map(|hash| hash.0)
        };

        assert_eq!(needed(&[&waits, &damaged, &gone]), Ok([0xab; 32]));
        assert!(needed(&[&waits, &damaged, &gives]).is_err_and(|why| why.contains("can give it")));
        assert!(needed(&[&damaged]).is_err_and(|why| why.contains("no node waits")));
        assert!(needed(&[&waits]).is_err_and(|why| why.contains("nothing to go on with")));
        assert!(needed(&[&waits, &damaged, &other]).is_err_and(|why| why.contains("histories")));
        let text = told(&"pac.7h2k4m9qzx".parse().unwrap(), 7, &[waits, damaged, gone]);
        assert!(text.contains("eur-1 waits for it") && text.contains("pac-4 does not"), "{text}");
    }
}
