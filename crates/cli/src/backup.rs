//! This module makes backups of nodes while they run, and puts one back: `chartmesh backup` and
//! `chartmesh restore`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use chartmesh_node::{BackupLabel, Operator, Restoring, restore};
use chartmesh_record::NodeName;
use futures::future::join_all;
use serde::Serialize;
use tokio::time::Instant;

use crate::mesh;
use crate::status::grouped;
use crate::terminal;

/// Between two words of how far a backup is put back.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// Copy what nodes hold, while they serve.
///
/// Each backup is made on the node's own disk, in `backups/NAME` of its data directory: at once, and at first
/// without taking room. Take it from there to another machine: a disk that is lost takes its backups along.
/// It is put back by `chartmesh restore`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  chartmesh backup monday                           (all nodes of the demo in ./demo-data)
  chartmesh backup monday --node pac-1
  chartmesh backup 2026-12-01 --topology mesh.toml --tls tls --json

Exit code 0: all of them are made. 1: one is not. 2: wrong usage.")]
pub(crate) struct Arguments {
    /// What to call it: letters, digits, dots, hyphens and underscores.
    name: String,
    #[command(flatten)]
    at: mesh::Operated,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

/// Put a backup back onto an empty disk, and prove it from its bytes.
///
/// The node takes part as a new disk afterwards: it asks its region to be let in, and fetches what was written
/// since from the others. What it alone had acknowledged since then, cut off from everybody
/// (`Chartmesh-Durability: node`), is lost with the disk.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  chartmesh restore /mnt/backups/pac-1/monday --data /var/lib/chartmesh

Exit code 0: it is put back, and the node can be started. 1: it is not; the disk is as it was. 2: wrong usage.")]
pub(crate) struct RestoreArguments {
    /// The backup: the directory with backup.toml.
    backup: PathBuf,
    /// The node's data directory, without `state` and `log`.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

/// What became of the backup of a node.
#[derive(Clone, Debug, Serialize)]
struct Made {
    node: String,
    /// Where it is, on the node's machine.
    dir: Option<String>,
    resources: Option<u64>,
    digest: Option<String>,
    /// Why there is none.
    error: Option<String>,
}

/// Runs `chartmesh backup`.
pub(crate) async fn command(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let (operator, nodes) = arguments.at.enter()?;
    let made = join_all(nodes.iter().map(|node| make(&operator, node, &arguments.name))).await;
    if arguments.json {
        terminal::print_json(&made)?;
    } else {
        terminal::print(table(&made));
    }
    let failed = made.iter().any(|made| made.error.is_some());
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

async fn make(operator: &Operator, node: &NodeName, name: &str) -> Made {
    let node_name = node.to_string();
    match operator.back_up(node, name).await {
        Ok((dir, BackupLabel { resources, digest, .. })) => Made {
            node: node_name,
            dir: Some(dir),
            resources: Some(resources),
            digest: Some(digest),
            error: None,
        },
        Err(error) => Made {
            node: node_name,
            dir: None,
            resources: None,
            digest: None,
            error: Some(error.to_string()),
        },
    }
}

/// What a person reads.
fn table(made: &[Made]) -> String {
    let mut table = terminal::table(["NODE", "RESOURCES", "DIGEST", "WHERE"]);
    for Made { node, dir, resources, digest, error } in made {
        let digest = digest.as_ref().map(|digest| digest.chars().take(12).collect());
        table.add_row([
            node.clone(),
            resources.map(grouped).unwrap_or_default(),
            digest.unwrap_or_default(),
            error.as_ref().or(dir.as_ref()).cloned().unwrap_or_default(),
        ]);
    }
    table.to_string()
}

/// Runs `chartmesh restore`.
pub(crate) fn restore_command(arguments: &RestoreArguments) -> anyhow::Result<ExitCode> {
    let mut told = Instant::now();
    let progress = |restoring| {
        if told.elapsed() > TELL_EVERY {
            told = Instant::now();
            terminal::tell(match restoring {
                Restoring::Copied(bytes, of) => {
                    format!("{} of {} MB copied", grouped(bytes >> 20), grouped(of >> 20))
                }
                Restoring::Proven(resources) => {
                    format!("{} resources proven from their bytes", grouped(resources))
                }
            });
        }
    };
    let label = restore(&arguments.backup, &arguments.data, progress)?;
    if arguments.json {
        terminal::print_json(&label)?;
    } else {
        let BackupLabel { node, made, resources, .. } = &label;
        let data = arguments.data.display();
        terminal::print(format!(
            "{} resources of {node}, as of {made}, are in {data} and proven.\nStart the node: it takes part as a \
             new disk and fetches what was written since.",
            grouped(*resources)
        ));
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_without_a_backup_is_told_with_its_reason() {
        let made = |node: &str, error: Option<&str>| Made {
            node: node.to_owned(),
            dir: error.is_none().then(|| "/data/backups/monday".to_owned()),
            resources: error.is_none().then_some(12_345),
            digest: error.is_none().then(|| "0123456789abcdef".to_owned()),
            error: error.map(str::to_owned),
        };
        let table = table(&[made("pac-1", None), made("pac-2", Some("it is down"))]);
        assert!(table.contains("12,345") && table.contains("0123456789ab "), "{table}");
        assert!(table.contains("/data/backups/monday") && table.contains("it is down"), "{table}");
    }
}
