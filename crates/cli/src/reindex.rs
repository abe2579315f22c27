//! This module has nodes index their resources again: `chartmesh reindex`.

use std::process::ExitCode;
use std::time::Duration;

use chartmesh_node::{Operator, Reindexed};
use chartmesh_record::NodeName;
use futures::future::join_all;
use serde::Serialize;
use tokio::time::Instant;

use crate::mesh;
use crate::status::grouped;
use crate::terminal;

/// Between two words of how far a node is.
const TELL_EVERY: Duration = Duration::from_secs(2);

/// Let nodes index all their resources again, while they serve.
///
/// Nodes do this by themselves when SearchParameter resources add parameters. By hand it is for an index
/// that `verify --deep` has found to be wrong.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  chartmesh reindex                                 (all nodes of the demo in ./demo-data)
  chartmesh reindex --node pac-1 --node pac-2
  chartmesh reindex --topology mesh.toml --tls tls --json

Exit code 0: all of them have. 1: one has not, or does not answer. 2: wrong usage.")]
pub(crate) struct Arguments {
    #[command(flatten)]
    at: mesh::Operated,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

/// What a node has done.
#[derive(Clone, Debug, Serialize)]
struct Done {
    node: String,
    /// The resources that it has indexed.
    resources: u64,
    /// Those among them whose index was not as it should be.
    changed: u64,
    /// Why it has not.
    error: Option<String>,
}

/// Runs the command.
pub(crate) async fn command(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let (operator, nodes) = arguments.at.enter()?;
    let done = join_all(nodes.iter().map(|node| reindex(&operator, node))).await;
    if arguments.json {
        terminal::print_json(&done)?;
    } else {
        terminal::print(table(&done));
    }
    let failed = done.iter().any(|done| done.error.is_some());
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

async fn reindex(operator: &Operator, node: &NodeName) -> Done {
    let mut told = Instant::now();
    let progress = |Reindexed { resources, of, .. }| {
        if told.elapsed() > TELL_EVERY {
            told = Instant::now();
            let (resources, of) = (grouped(resources), grouped(of));
            terminal::tell(format!("{node}: {resources} of about {of} resources indexed"));
        }
    };
    let (all, error) = match operator.reindex(node, progress).await {
        Ok(all) => (all, None),
        Err(error) => (Reindexed::default(), Some(error.to_string())),
    };
    Done { node: node.to_string(), resources: all.resources, changed: all.changed, error }
}

/// What a person reads.
fn table(done: &[Done]) -> String {
    let mut table = terminal::table(["NODE", "RESOURCES", "WERE WRONG", ""]);
    for Done { node, resources, changed, error } in done {
        table.add_row([
            node.clone(),
            grouped(*resources),
            grouped(*changed),
            error.clone().unwrap_or_default(),
        ]);
    }
    table.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_has_not_is_told_with_its_reason() {
        let done = |node: &str, error: Option<&str>| Done {
            node: node.to_owned(),
            resources: 12_345,
            changed: 2,
            error: error.map(str::to_owned),
        };
        let table = table(&[done("pac-1", None), done("pac-2", Some("it is down"))]);
        assert!(table.contains("12,345") && table.contains("it is down"), "{table}");
    }
}
