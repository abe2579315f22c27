//! This module looks at the files of a node before it is started with them: `chartmesh config check`.

use std::path::PathBuf;
use std::process::ExitCode;

use chartmesh_node::{Role, Settings, Topology};
use chartmesh_record::NodeName;

use crate::terminal::{self, WrongUsage};

/// Look at the files that nodes are started with.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum Action {
    Check(Check),
}

/// Say whether a node would start with these files, and what is wrong with them if not.
///
/// Nothing is opened, written or asked but the files.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  chartmesh config check --topology mesh.toml
  chartmesh config check --topology mesh.toml --node pac-1 --config node.toml

Exit code 0: they are right. 1: they are not. 2: wrong usage.")]
struct Check {
    /// The file that names the nodes of the mesh.
    #[arg(long, value_name = "FILE")]
    topology: Option<PathBuf>,
    /// The node that is to be started.
    #[arg(long, value_name = "NAME", requires = "topology")]
    node: Option<NodeName>,
    /// Settings of the node: node.toml.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Runs the command.
pub(crate) fn command(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let Action::Check(check) = &arguments.action;
    if check.topology.is_none() && check.config.is_none() {
        return Err(WrongUsage("name a file: --topology, --config".to_owned()).into());
    }
    if let Some(file) = &check.topology {
        let topology = Topology::read(file)?;
        let (file, regions, nodes) = (file.display(), topology.regions.len(), topology.nodes.len());
        terminal::print(format!("{file}: regions: {regions}, nodes: {nodes}"));
        if let Some(name) = &check.node {
            let Some(node) = topology.node(name) else {
                anyhow::bail!("{file} names no node {name}");
            };
            let role = match node.role {
                Role::Voter => "votes",
                Role::Mirror => "follows",
            };
            terminal::print(format!(
                "{name}: {role} in region {}, at site {}; nodes reach it at {}, clients at {}",
                node.region, node.site, node.mesh, node.fhir
            ));
        }
    }
    if let Some(file) = &check.config {
        Settings::read(file)?;
        terminal::print(format!("{}: every key is understood", file.display()));
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use clap::Parser;
    use tempfile::TempDir;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }

    fn check(options: &[&str]) -> Result<ExitCode, String> {
        let line = Line::parse_from([&["config", "check"], options].concat());
        command(&line.arguments).map_err(|error| terminal::explain(&error))
    }

    #[test]
    fn files_that_are_right_pass_and_others_are_refused_with_the_reason() {
        let dir = TempDir::new().unwrap();
        let file = |name: &str, text: &str| {
            let path = dir.path().join(name);
            fs::write(&path, text).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let topology = file(
            "mesh.toml",
            "[mesh]\nname = \"m\"\n[[region]]\nname = \"pac\"\n[[node]]\nname = \"pac-1\"\n\
             region = \"pac\"\nsite = \"yokota\"\nmesh = \"h:1\"\nfhir = \"h:2\"\n",
        );
        let (right, wrong) = (file("node.toml", ""), file("wrong.toml", "[dsk]\n"));

        assert!(check(&["--topology", &topology, "--node", "pac-1", "--config", &right]).is_ok());
        let refused = check(&["--topology", &topology, "--node", "pac-2"]).unwrap_err();
        assert!(refused.contains("names no node pac-2"), "{refused}");
        let refused = check(&["--config", &wrong]).unwrap_err();
        assert!(refused.contains("did you mean `disk`?"), "{refused}");
        assert!(check(&["--topology", &wrong]).is_err());
        assert!(check(&[]).is_err());
    }
}
