//! This module runs a node as a process: its log, its signals, its end.

use std::future::Future;
use std::io::{self, IsTerminal as _};
use std::panic;
use std::path::PathBuf;

use chartmesh_ops::{Exporter, ExporterError};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

use crate::environment::Environment;
use crate::node::{Node, NodeConfig, StartError};
use crate::settings::{LogFormat, Settings};

/// Why a process ends that was not told to.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// The node cannot start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The node cannot go on.
    #[error("the node cannot go on: {0}; it can be started again")]
    Fatal(String),
    /// A second signal came before the node had stopped.
    #[error(
        "{0} came a second time before the node had stopped: what was under way is not finished"
    )]
    Impatient(&'static str),
    /// The log cannot be written as set.
    #[error("`level` in [log] of node.toml: {0}")]
    Log(#[from] ParseError),
    /// Metrics cannot be kept.
    #[error(transparent)]
    Metrics(#[from] ExporterError),
    /// Signals cannot be waited for.
    #[error("signals cannot be waited for: {0}")]
    Signals(io::Error),
}

/// What a node is told while it runs.
enum Event {
    Stop(&'static str),
    Fatal(String),
}

/// Runs a node until it is told to stop, by SIGTERM, SIGINT or `orphaned`; a second signal ends the
/// process at once. SIGHUP makes it look at its certificates.
///
/// # Errors
/// The node cannot start, or cannot go on.
pub async fn run(
    config: NodeConfig,
    tls: PathBuf,
    orphaned: impl Future<Output = ()>,
) -> Result<(), ProcessError> {
    log(&config.settings)?;
    let exporter = Exporter::install()?;
    let mut signals = Signals::new().map_err(ProcessError::Signals)?;
    let node = Node::start(config, Environment::machine(tls, exporter)).await?;
    let event = tokio::select! {
        name = signals.stop(&node) => Event::Stop(name),
        () = orphaned => Event::Stop("the end of the process that started it"),
        reason = node.region().fatal() => Event::Fatal(reason),
    };
    match event {
        Event::Fatal(reason) => {
            tracing::error!(%reason, "the node cannot go on");
            Err(ProcessError::Fatal(reason))
        }
        Event::Stop(reason) => {
            tracing::info!(reason, "the node stops: a second signal ends it at once");
            tokio::select! {
                () = node.stop() => Ok(()),
                name = signals.next() => Err(ProcessError::Impatient(name)),
            }
        }
    }
}

/// The signals that a node listens to.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }

    async fn stop(&mut self, node: &Node) -> &'static str {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return "SIGTERM",
                _ = self.interrupt.recv() => return "SIGINT",
                _ = self.hang_up.recv() => node.look_at_certificates(),
            }
        }
    }
}

/// Log lines go to standard error. What clients send is never in them, nor what a panic says: it may
/// hold some of it.
fn log(settings: &Settings) -> Result<(), ProcessError> {
    let filter = EnvFilter::builder().parse(&settings.log_level)?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    // A second node in one process would find the log set: it writes to the same.
    let _ = match settings.log_format {
        LogFormat::Text => lines.with_ansi(io::stderr().is_terminal()).try_init(),
        LogFormat::Json => lines.json().try_init(),
    };
    panic::set_hook(Box::new(|info| {
        let place = info.location().map(ToString::to_string);
        tracing::error!(place, "a panic");
    }));
    Ok(())
}
