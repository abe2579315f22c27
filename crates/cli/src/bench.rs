//! This module measures how fast a mesh answers: `chartmesh bench`.
//!
//! It prepares its own records under ids that follow from its seed, sends one kind of request or a
//! mix of them in a closed or an open loop, and tells rates and percentiles.

mod connection;
mod drive;
mod histogram;
mod report;
mod workload;

use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};

use self::drive::Plan;
use self::workload::{Records, Workload};
use crate::http::{BaseUrl, Client};
use crate::load::{self, Display, Repeat, Source};

pub(crate) use self::report::Report;
pub(crate) use self::workload::Mix;

/// How long the preparation waits for an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Measure how fast a mesh answers.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The endpoints, such as http://127.0.0.1:8080/fhir; connections take them in turns.
    #[arg(long, required = true, num_args = 1.., value_name = "URL")]
    pub(crate) to: Vec<BaseUrl>,
    /// What is sent.
    #[arg(long, value_enum, default_value_t = Mix::Read)]
    pub(crate) mix: Mix,
    /// Read this path of the host instead, such as /health/live; {} in it stands for a number below
    /// the number of resources. Nothing is prepared.
    #[arg(long, value_name = "PATH", conflicts_with = "mix")]
    pub(crate) get: Option<String>,
    /// How many connections.
    #[arg(long, value_name = "N", default_value = "32")]
    pub(crate) connections: NonZeroUsize,
    /// Send so many requests a second, whatever the answers do (open loop). Times count from when a
    /// request was due.
    #[arg(long, value_name = "PER_SECOND", value_parser = positive)]
    pub(crate) rate: Option<f64>,
    /// For how many seconds is measured.
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = positive)]
    pub(crate) duration: f64,
    /// For how many seconds is sent without measuring before.
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0)]
    pub(crate) warm_up: f64,
    /// How many resources are read and updated.
    #[arg(long, value_name = "N", default_value_t = 2000)]
    pub(crate) resources: u64,
    /// How many threads send.
    #[arg(long, value_name = "N", default_value = "1")]
    pub(crate) threads: NonZeroUsize,
    /// What the records and the order of requests follow from.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Print the report as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

fn positive(text: &str) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| "it must be a number".to_owned())?;
    if number > 0.0 && number.is_finite() {
        Ok(number)
    } else {
        Err("it must be positive".to_owned())
    }
}

/// Runs the command; its exit code tells whether every request succeeded.
pub(crate) async fn command(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let json = arguments.json;
    let report = run(arguments).await?;
    if json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{}", report.text());
    }
    Ok(if report.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Prepares and measures.
pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<Report> {
    let records = Records { seed: arguments.seed, count: arguments.resources };
    let workload = match &arguments.get {
        Some(path) if path.starts_with('/') => Workload::path(path, records),
        Some(path) => bail!("{path:?} is no path: it must begin with a slash"),
        None => {
            prepare(records, &arguments.to).await?;
            Workload::mix(arguments.mix, records)
        }
    };
    let plan = Plan {
        to: arguments.to,
        connections: arguments.connections.get(),
        threads: arguments.threads.get(),
        rate: arguments.rate,
        warm_up: Duration::try_from_secs_f64(arguments.warm_up).context("--warm-up")?,
        duration: Duration::try_from_secs_f64(arguments.duration).context("--duration")?,
    };
    let workload = Arc::new(workload);
    tokio::task::spawn_blocking(move || {
        let begun = (tokio::time::Instant::now(), processor_seconds());
        let measured = drive::run(&plan, &workload)?;
        let elapsed = begun.0.elapsed().as_secs_f64();
        let busy =
            begun.1.zip(processor_seconds()).map(|(before, after)| (after - before) / elapsed);
        Ok(Report::new(&plan, &measured, busy))
    })
    .await?
}

/// Loads the records, unless the first and the last are there.
async fn prepare(records: Records, to: &[BaseUrl]) -> anyhow::Result<()> {
    let client = Client::new(ANSWER_TIMEOUT);
    let mut missing = false;
    for base in to {
        for number in [0, records.count.saturating_sub(1)] {
            let url = base.join(&format!("Observation/{}", records.id(number)));
            missing |= !client.get(&url).await?.status.is_success();
        }
    }
    if !missing {
        return Ok(());
    }
    let content = records.ndjson();
    let source = Source::Memory { name: "records.ndjson".to_owned(), content };
    let summary = load::run(load::Options {
        repeat: Repeat::Everything,
        display: Display::Hidden,
        ..load::Options::new(vec![source], to[..1].to_vec())
    })
    .await?;
    match summary.failures.first() {
        Some(failure) => bail!("cannot prepare records: {}: {}", failure.place, failure.reason),
        None if !summary.complete() => bail!("cannot prepare records: {}", summary.text()),
        None => Ok(()),
    }
}

/// Processor time that this process has used; nothing where `/proc` does not tell.
fn processor_seconds() -> Option<f64> {
    /// Linux tells times to user space in hundredths of a second.
    const TICKS_PER_SECOND: f64 = 100.0;
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let mut fields = stat.rsplit(')').next()?.split_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / TICKS_PER_SECOND)
}
