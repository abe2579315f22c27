//! This module measures how long a write takes to other regions, and what it costs: `chartmesh lag`.
//!
//! Writes go to the nodes of a demo's first region at a steady rate, each due at its moment whatever the
//! answers do. Of some of them a node of every other region is asked until it has them. Afterwards all
//! are read back there, which says what the same records take as blocks of NDJSON under zstd.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use chartmesh_node::SystemRandom;
use chartmesh_record::Random as _;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use http::{HeaderMap, Method, StatusCode};
use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use crate::cluster::{Cluster, DEMO_DIR};
use crate::generate;
use crate::http::{BaseUrl, Client};
use crate::links::{self, LinksView, RoundTrip, Said, sent_between_regions};
use crate::load;
use crate::mesh::Mesh;
use crate::status::grouped;
use crate::terminal;
use crate::verify;

/// Writes under way at one time.
const CONNECTIONS: u64 = 64;

/// How many writes in a second are looked for in other regions, and how often they are.
const SAMPLES_PER_SECOND: u64 = 10;
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// How long an answer, a write's arrival, and all nodes may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// For how long is counted what passes while nothing is written.
const IDLE: Duration = Duration::from_secs(3);

/// Records that are read back at one time, and how they are put together.
const READS_AT_ONCE: usize = 16;
const BLOCK_BYTES: usize = 1024 * 1024;
const ZSTD_LEVEL: i32 = 3;

/// Measure how long a write takes to other regions of a demo that runs, and the bytes between them.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  chartmesh lag --delay 50             a round trip of 100 ms between regions, 500 writes/s
  chartmesh lag --rate 50 --seconds 60 --json
  chartmesh lag --delay 50 --data Observation.ndjson    real resources, as many as there are

The delay stays when this ends: `chartmesh links delay 0` takes it away.")]
pub(crate) struct Arguments {
    /// Where the demo keeps its files.
    #[arg(long, value_name = "DIR", default_value = DEMO_DIR)]
    dir: PathBuf,
    /// How many resources are written in a second.
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    rate: u64,
    /// For how many seconds.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    seconds: u64,
    /// Write these resources instead of made-up vital signs: NDJSON files, compressed or not.
    #[arg(long, value_name = "PATH")]
    data: Vec<PathBuf>,
    /// Give the links between regions this delay first, in milliseconds each way.
    #[arg(long, value_name = "MS")]
    delay: Option<u64>,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

/// What was measured.
#[derive(Clone, Debug, Serialize)]
struct Report {
    /// Writes that were acknowledged.
    written: u64,
    /// Writes that were not.
    failed: u64,
    /// Acknowledged writes in a second.
    per_second: f64,
    /// By the region in which they arrived.
    regions: BTreeMap<String, Arrival>,
    /// Bytes of one of these records in 1 MiB blocks of NDJSON under zstd -3.
    zstd_bytes_per_resource: f64,
}

/// How writes have arrived in one region.
#[derive(Clone, Copy, Debug, Default, Serialize)]
struct Arrival {
    /// The round trip to there, measured over the link itself.
    round_trip_ms: f64,
    /// Writes that were looked for.
    samples: usize,
    /// From the acknowledgement until a node there had them, in milliseconds: half of them.
    p50_ms: f64,
    /// 99 in 100.
    p99_ms: f64,
    /// The longest.
    max_ms: f64,
    /// Bytes from all other regions, less what passes when nothing is written.
    bytes: u64,
    /// The same per resource.
    bytes_per_resource: f64,
    /// The same in relation to zstd.
    ratio: f64,
}

/// A region in which writes arrive.
#[derive(Clone, Debug)]
struct Watched {
    region: String,
    name: String,
    node: BaseUrl,
}

/// What all writers share.
struct Work {
    to: Vec<BaseUrl>,
    watched: Vec<Watched>,
    client: Client,
    tag: u64,
    rate: u64,
    total: u64,
    /// What is written, with what it is found by; made up if it is empty.
    records: Vec<(String, Bytes)>,
    next: AtomicU64,
}

/// What one writer has seen.
#[derive(Default)]
struct Seen {
    written: u64,
    failed: u64,
    lags: Vec<(usize, Duration)>,
}

/// Runs the command.
pub(crate) async fn command(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let report = measure(&arguments).await?;
    match arguments.json {
        true => terminal::print_json(&report)?,
        false => terminal::print(report.text()),
    }
    Ok(if report.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn measure(arguments: &Arguments) -> anyhow::Result<Report> {
    let cluster = Cluster::read(&arguments.dir)?;
    let url = cluster.links.clone().context("the demo does not carry its links")?;
    if let Some(delay) = arguments.delay {
        let path = format!("/shape?delay_ms={delay}");
        let _: Said = links::ask(&url, Method::POST, &path).await?;
    }
    let work = Arc::new(Work::new(&cluster, arguments)?);
    let mut round_trips = Vec::new();
    for watched in &work.watched {
        let path = format!("/round-trip?from={}&to={}", cluster.nodes[0].name, watched.name);
        let RoundTrip { made_ms } = links::ask(&url, Method::GET, &path).await?;
        round_trips.push(made_ms);
    }
    let mesh = Mesh::of_cluster(&cluster)?;

    let before_idle = received(&url).await?;
    sleep(IDLE).await;
    let before = received(&url).await?;
    let started = Instant::now();
    let seen = write(&work).await?;
    let took = started.elapsed();
    let verdict = verify::verify(&mesh, PATIENCE, false).await?;
    ensure!(verdict.equal, "{}", verify::report(&verdict));
    let (after, whole) = (received(&url).await?, started.elapsed());

    let zstd = compressed(&work).await? as f64 / seen.written.max(1) as f64;
    let mut regions = BTreeMap::new();
    for (place, watched) in work.watched.iter().enumerate() {
        let lags = seen.lags.iter().filter(|(of, _)| *of == place).map(|(_, lag)| *lag);
        let at = |counts: &BTreeMap<String, u64>| counts.get(&watched.region).copied().unwrap_or(0);
        let idle = (at(&before) - at(&before_idle)) as f64 / IDLE.as_secs_f64();
        let idle = (idle * whole.as_secs_f64()) as u64;
        let bytes = (at(&after) - at(&before)).saturating_sub(idle);
        let arrival = Arrival::new(lags.collect(), bytes, seen.written, zstd);
        let arrival = Arrival { round_trip_ms: round_trips[place], ..arrival };
        regions.insert(watched.region.clone(), arrival);
    }
    Ok(Report {
        written: seen.written,
        failed: seen.failed,
        per_second: seen.written as f64 / took.as_secs_f64(),
        regions,
        zstd_bytes_per_resource: zstd,
    })
}

/// The bytes that each region has received from others.
async fn received(url: &str) -> anyhow::Result<BTreeMap<String, u64>> {
    let view: LinksView = links::ask(url, Method::GET, "/").await?;
    let mut received = BTreeMap::new();
    for ((_, to), bytes) in sent_between_regions(&view.links) {
        *received.entry(to).or_insert(0) += bytes;
    }
    Ok(received)
}

/// Lets all writers write.
async fn write(work: &Arc<Work>) -> anyhow::Result<Seen> {
    let start = Instant::now();
    let mut writers = JoinSet::new();
    for _ in 0..CONNECTIONS {
        let work = Arc::clone(work);
        writers.spawn(async move { work.write(start).await });
    }
    let mut all = Seen::default();
    while let Some(seen) = writers.join_next().await {
        let seen = seen.context("a writer failed")??;
        all.written += seen.written;
        all.failed += seen.failed;
        all.lags.extend(seen.lags);
    }
    Ok(all)
}

/// The size of all records as one of the other regions has them.
async fn compressed(work: &Work) -> anyhow::Result<usize> {
    let node = &work.watched[0].node;
    let read = async |number: u64| -> anyhow::Result<Option<Bytes>> {
        let answer = work.client.get(&node.join(&work.reference(number))).await?;
        Ok((answer.status == StatusCode::OK).then_some(answer.body))
    };
    let records: Vec<_> =
        stream::iter(0..work.total).map(read).buffered(READS_AT_ONCE).try_collect().await?;
    let mut size = 0;
    let mut block = Vec::new();
    for record in records.into_iter().flatten() {
        block.write_all(&record)?;
        block.push(b'\n');
        if block.len() >= BLOCK_BYTES {
            size += zstd::bulk::compress(&block, ZSTD_LEVEL)?.len();
            block.clear();
        }
    }
    Ok(size + zstd::bulk::compress(&block, ZSTD_LEVEL)?.len())
}

impl Work {
    fn new(cluster: &Cluster, arguments: &Arguments) -> anyhow::Result<Self> {
        let first = &cluster.nodes.first().context("the demo has no nodes")?.region;
        let mut to = Vec::new();
        let mut watched: Vec<Watched> = Vec::new();
        for node in &cluster.nodes {
            let (region, url) = (node.region.clone(), node.fhir.parse()?);
            if region == *first {
                to.push(url);
            } else if watched.iter().all(|watched| watched.region != region) {
                watched.push(Watched { region, name: node.name.clone(), node: url });
            }
        }
        if watched.is_empty() {
            bail!("the demo has one region only");
        }
        let mut total = arguments.rate * arguments.seconds;
        let most = usize::try_from(total).unwrap_or(usize::MAX);
        let records = load::resources(&arguments.data, most)?;
        if !arguments.data.is_empty() {
            ensure!(!records.is_empty(), "these files hold no resources one by one");
            total = total.min(records.len() as u64);
        }
        Ok(Self {
            to,
            watched,
            client: Client::new(PATIENCE),
            tag: SystemRandom.bits(),
            rate: arguments.rate,
            total,
            records,
            next: AtomicU64::new(0),
        })
    }

    fn record(&self, number: u64) -> Option<&(String, Bytes)> {
        self.records.get(usize::try_from(number).ok()?)
    }

    fn reference(&self, number: u64) -> String {
        let made_up = || format!("Observation/{}", self.id(number));
        self.record(number).map_or_else(made_up, |(reference, _)| reference.clone())
    }

    fn body(&self, number: u64) -> Bytes {
        let made_up =
            || generate::vital_sign(self.tag, number, "Patient/lag", Some(&self.id(number)));
        self.record(number).map_or_else(made_up, |(_, body)| body.clone())
    }

    fn id(&self, number: u64) -> String {
        format!("lag-{:x}-{number}", self.tag)
    }

    /// Takes one write after the other until all are taken.
    async fn write(self: Arc<Self>, start: Instant) -> anyhow::Result<Seen> {
        let mut seen = Seen::default();
        let mut samples = JoinSet::new();
        let every = (self.rate / SAMPLES_PER_SECOND).max(1);
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            if number >= self.total {
                break;
            }
            sleep_until(start + Duration::from_secs_f64(number as f64 / self.rate as f64)).await;
            let url = self.to[number as usize % self.to.len()].join(&self.reference(number));
            let body = self.body(number);
            let answer = self.client.send(Method::PUT, &url, HeaderMap::new(), body).await;
            if !answer.is_ok_and(|answer| answer.status.is_success()) {
                seen.failed += 1;
                continue;
            }
            seen.written += 1;
            if number.is_multiple_of(every) {
                for place in 0..self.watched.len() {
                    samples.spawn(Arc::clone(&self).arrival(place, number, Instant::now()));
                }
            }
        }
        while let Some(sample) = samples.join_next().await {
            seen.lags.push(sample.context("a look failed")??);
        }
        Ok(seen)
    }

    /// Asks a node of another region until it has a write.
    async fn arrival(
        self: Arc<Self>,
        place: usize,
        number: u64,
        acknowledged: Instant,
    ) -> anyhow::Result<(usize, Duration)> {
        let Watched { region, node, .. } = &self.watched[place];
        let url = node.join(&self.reference(number));
        loop {
            let answer = self.client.get(&url).await?;
            if answer.status == StatusCode::OK {
                return Ok((place, acknowledged.elapsed()));
            }
            ensure!(
                acknowledged.elapsed() < PATIENCE,
                "a write has not arrived in {region} after {PATIENCE:?}"
            );
            sleep(LOOK_EVERY).await;
        }
    }
}

impl Arrival {
    fn new(mut lags: Vec<Duration>, bytes: u64, written: u64, zstd: f64) -> Self {
        lags.sort_unstable();
        let millis = |lag: Option<&Duration>| lag.map_or(0.0, |lag| lag.as_secs_f64() * 1e3);
        let share = |share: f64| {
            let rank = (share * lags.len() as f64).ceil() as usize;
            millis(lags.get(rank.saturating_sub(1)))
        };
        let bytes_per_resource = bytes as f64 / written.max(1) as f64;
        Self {
            round_trip_ms: 0.0,
            samples: lags.len(),
            p50_ms: share(0.5),
            p99_ms: share(0.99),
            max_ms: millis(lags.last()),
            bytes,
            bytes_per_resource,
            ratio: bytes_per_resource / zstd.max(1.0),
        }
    }
}

impl Report {
    fn text(&self) -> String {
        let mut table = terminal::table([
            "REGION",
            "ROUND TRIP ms",
            "SAMPLES",
            "P50 ms",
            "P99 ms",
            "MAX ms",
            "BYTES",
            "PER RESOURCE",
            "x zstd -3",
        ]);
        for (region, arrival) in &self.regions {
            table.add_row([
                region.clone(),
                format!("{:.1}", arrival.round_trip_ms),
                arrival.samples.to_string(),
                format!("{:.0}", arrival.p50_ms),
                format!("{:.0}", arrival.p99_ms),
                format!("{:.0}", arrival.max_ms),
                grouped(arrival.bytes),
                format!("{:.0}", arrival.bytes_per_resource),
                format!("{:.2}", arrival.ratio),
            ]);
        }
        format!(
            "{} writes acknowledged, {} failed, {:.0}/s. In blocks under zstd -3: {:.0} bytes per resource.\n\n\
             {table}",
            grouped(self.written),
            self.failed,
            self.per_second,
            self.zstd_bytes_per_resource
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_what_was_seen() {
        let lags = (1..=200).rev().map(Duration::from_millis).collect();

        let arrival = Arrival::new(lags, 6_000, 20, 200.0);

        assert_eq!((arrival.p50_ms, arrival.p99_ms, arrival.max_ms), (100.0, 198.0, 200.0));
        assert_eq!((arrival.samples, arrival.bytes_per_resource, arrival.ratio), (200, 300.0, 1.5));
        assert_eq!(Arrival::new(Vec::new(), 0, 0, 0.0).max_ms, 0.0);
    }
}
