//! This module runs one node: `chartmesh serve`.

use std::future::Future;
use std::io::{self, Read as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;

use anyhow::Context as _;
use chartmesh_node::{NodeConfig, Settings, Topology};
use chartmesh_record::NodeName;
use tokio::sync::oneshot;

/// Run one node of a mesh until SIGTERM or SIGINT. A second signal ends it at once; SIGHUP makes it
/// look at its certificates.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  chartmesh serve --topology mesh.toml --node pac-1 --data /var/lib/chartmesh --tls /etc/chartmesh/tls
  The same with --found, once, at one voter of a region that does not exist yet: it founds the region
  as soon as all its voters answer.")]
pub(crate) struct Arguments {
    /// The file that names the nodes of the mesh, the same at every node.
    #[arg(long, value_name = "FILE")]
    topology: PathBuf,
    /// Which of them this is.
    #[arg(long, value_name = "NAME")]
    node: NodeName,
    /// The directory of its data; made if it is not there.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// The directory of its certificates: ca.pem, NODE.pem and NODE.key, as `chartmesh certs` makes
    /// them.
    #[arg(long, value_name = "DIR")]
    tls: PathBuf,
    /// Settings of this node: node.toml.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Found the region. At a node of a founded region it does nothing but say so.
    #[arg(long)]
    found: bool,
    /// Stop when standard input ends: whoever started this process has ended.
    #[arg(long, hide = true)]
    with_parent: bool,
}

/// Runs the command.
pub(crate) async fn command(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let topology = Topology::read(&arguments.topology)?;
    let settings = arguments.config.as_deref().map(Settings::read).transpose()?;
    let config = NodeConfig {
        topology,
        node: arguments.node.clone(),
        data: arguments.data,
        settings: settings.unwrap_or_default(),
        found: arguments.found,
    };
    let ended = orphaned(arguments.with_parent);
    chartmesh_node::run(config, arguments.tls, ended)
        .await
        .with_context(|| format!("node {}", arguments.node))?;
    Ok(ExitCode::SUCCESS)
}

/// Ends when standard input does, if that matters. A thread of its own waits for it: one of the
/// runtime's would keep the process from ending.
fn orphaned(matters: bool) -> impl Future<Output = ()> {
    let (gone, parent_gone) = oneshot::channel();
    if matters {
        thread::spawn(move || {
            let mut rest = [0; 64];
            while matches!(io::stdin().read(&mut rest), Ok(1..)) {}
            let _ = gone.send(());
        });
        return futures::future::Either::Left(async {
            let _ = parent_gone.await;
        });
    }
    futures::future::Either::Right(std::future::pending())
}
