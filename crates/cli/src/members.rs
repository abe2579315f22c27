//! This module changes who votes in a region that runs: `chartmesh node add`, `chartmesh node remove`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use chartmesh_node::{Change, Changed, Operator, Role, Topology};
use chartmesh_record::NodeName;
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::mesh;
use crate::terminal::{self, WrongUsage};

/// For how long a leader is looked for.
const PATIENCE: Duration = Duration::from_secs(20);
/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(300);

/// Let a node into its region's voters, or take one out, while the region runs.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  chartmesh node add pac-4 --topology mesh.toml --tls tls
  chartmesh node remove pac-3 --topology mesh.toml --tls tls

To add: put the node into the topology file of every node, start them again one after the other, start
the new node, then let it in. To remove: take it out first, then out of the topology files. The directory
of --tls holds operator.pem and operator.key.")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum Action {
    /// Let a node of the topology vote.
    Add(Which),
    /// Let a node vote no longer.
    Remove(Which),
}

#[derive(Clone, Debug, clap::Args)]
struct Which {
    /// The node.
    node: NodeName,
    #[command(flatten)]
    mesh: mesh::Arguments,
    /// The directory with operator.pem and operator.key.
    #[arg(long, value_name = "DIR")]
    tls: Option<PathBuf>,
    /// Print what was done as JSON.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub(crate) async fn command(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let (which, change) = match arguments.action {
        Action::Add(which) => (which.clone(), Change::Add(which.node)),
        Action::Remove(which) => (which.clone(), Change::Remove(which.node)),
    };
    let mesh = which.mesh.find()?;
    let Some(file) = &mesh.topology else {
        return Err(WrongUsage("name the mesh by --topology or --cluster".to_owned()).into());
    };
    let topology = Topology::read(file)?;
    let Some(entry) = topology.node(&which.node) else {
        return Err(WrongUsage(format!("{} names no node {}", file.display(), which.node)).into());
    };
    if entry.role != Role::Voter {
        let text = format!("{} is a mirror in {}: it never votes", which.node, file.display());
        return Err(WrongUsage(text).into());
    }
    let tls = which.tls.clone().or(mesh.tls).context("name the operator's certificate: --tls")?;
    let voters: Vec<NodeName> =
        topology.voters(&entry.region).map(|node| node.name.clone()).collect();
    let operator = Operator::enter(Arc::new(topology), &tls)?;
    let done = ask(&operator, &voters, &change).await?;
    if which.json {
        terminal::print_json(&json!({ "node": which.node.as_str(), "done": done }))?;
    } else {
        terminal::print(done);
    }
    Ok(ExitCode::SUCCESS)
}

/// Asks the voters in turn, and whom they name, until the leader has answered.
async fn ask(operator: &Operator, voters: &[NodeName], change: &Change) -> anyhow::Result<String> {
    let until = Instant::now() + PATIENCE;
    let (mut named, mut reason) = (None, "no voter answers".to_owned());
    for turn in 0.. {
        let Some(next) = voters.get(turn % voters.len().max(1)) else { break };
        let node = named.take().unwrap_or_else(|| next.clone());
        match operator.change(&node, change).await {
            Ok(Changed::Done(done)) => return Ok(done),
            Ok(Changed::NotLeader(leader)) => {
                "no voter leads".clone_into(&mut reason);
                named = leader;
            }
            Ok(Changed::Refused(why)) if why.ends_with("ask again") => reason = why,
            Ok(Changed::Refused(why)) => bail!("{node} refuses: {why}"),
            Err(no_answer) => reason = no_answer.to_string(),
        }
        if Instant::now() >= until {
            break;
        }
        sleep(PAUSE).await;
    }
    bail!("nothing was changed: {reason}")
}
