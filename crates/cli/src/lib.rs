//! The `chartmesh` binary: one command per file. The only crate that knows the terminal.
//!
//! Every command that a script would read has `--json`. Exit codes: 0 done, 1 failed, 2 usage.

mod backup;
mod bench;
mod certs;
mod cluster;
mod config;
mod demo;
mod feed;
mod generate;
mod http;
mod lag;
mod links;
mod load;
mod members;
mod mesh;
mod region;
mod reindex;
mod serve;
mod status;
mod terminal;
mod verify;

use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};

/// A mesh of nodes that keep FHIR R4 records, go on when others are lost, and lose nothing.
#[derive(Debug, Parser)]
#[command(
    name = "chartmesh",
    version,
    after_help = "Begin with:
  chartmesh demo --tour

Exit codes: 0 done, 1 failed, 2 wrong usage."
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::Arguments),
    Demo(demo::Arguments),
    Links(links::Arguments),
    Load(load::Arguments),
    Status(status::Arguments),
    Verify(verify::Arguments),
    Node(members::Arguments),
    Region(region::Arguments),
    Feed(feed::Arguments),
    Reindex(reindex::Arguments),
    Backup(backup::Arguments),
    Restore(backup::RestoreArguments),
    Certs(certs::Arguments),
    Config(config::Arguments),
    Bench(bench::Arguments),
    Lag(lag::Arguments),
    Generate(generate::Arguments),
}

/// Does what the command line says.
#[must_use]
pub fn main() -> ExitCode {
    let Arguments { command } = Arguments::parse();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            terminal::tell(format!("chartmesh: cannot start: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let result = runtime.block_on(run(command));
    runtime.shutdown_timeout(Duration::from_millis(100));
    result.unwrap_or_else(|error| {
        terminal::tell(format!("chartmesh: {}", terminal::explain(&error)));
        if error.is::<terminal::WrongUsage>() { ExitCode::from(2) } else { ExitCode::FAILURE }
    })
}

async fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Serve(arguments) => Box::pin(serve::command(arguments)).await,
        Command::Demo(arguments) => Box::pin(demo::command(arguments)).await,
        Command::Links(arguments) => links::command(arguments).await,
        Command::Load(arguments) => Box::pin(load::command(arguments)).await,
        Command::Status(arguments) => status::command(arguments).await,
        Command::Verify(arguments) => Box::pin(verify::command(arguments)).await,
        Command::Node(arguments) => Box::pin(members::command(arguments)).await,
        Command::Region(arguments) => Box::pin(region::command(arguments)).await,
        Command::Feed(arguments) => Box::pin(feed::command(arguments)).await,
        Command::Reindex(arguments) => Box::pin(reindex::command(arguments)).await,
        Command::Backup(arguments) => Box::pin(backup::command(arguments)).await,
        Command::Restore(arguments) => backup::restore_command(&arguments),
        Command::Certs(arguments) => certs::command(&arguments),
        Command::Config(arguments) => config::command(&arguments),
        Command::Bench(arguments) => Box::pin(bench::command(arguments)).await,
        Command::Lag(arguments) => Box::pin(lag::command(arguments)).await,
        Command::Generate(arguments) => generate::command(&arguments),
    }
}
