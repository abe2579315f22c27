//! This module brings records into a mesh: `chartmesh load`.
//!
//! ```text
//! source -> document -> gather -> deliver -> summary
//!  files     JSON        units     requests   counts        journal: what is done
//!            texts       in order  and retries              (a re-run goes on there)
//! ```
//!
//! One thread reads, a bounded number of requests is in flight; both wait for each other, so memory
//! is bounded whatever the size of the sources. Loose resources (NDJSON, collections) travel in
//! transactions of our own making: where one is refused, its halves are tried until the resource
//! that is at fault stands alone and is named. What is refused because something it refers to is
//! not there yet is tried again at the end, for as long as that makes a difference.

mod deliver;
mod document;
mod gather;
mod journal;
mod json;
mod limits;
mod progress;
mod source;
mod summary;
mod unit;

use std::collections::HashSet;
use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use rand::TryRngCore as _;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Instant;

use self::deliver::{Courier, EntryAnswer, Refusal, Verdict};
use self::document::Documents;
use self::gather::{Found, Gatherer, Pass, Stage, Survey};
use self::journal::Journal;
use self::progress::Progress;
use self::source::Input;
use self::unit::{Digest, Unit, Verb};
use crate::http::BaseUrl;

pub(crate) use self::gather::Bundles;
pub(crate) use self::progress::Display;
pub(crate) use self::source::Source;
pub(crate) use self::summary::{Failure, Summary};

/// Requests in flight, unless told otherwise.
const CONCURRENCY: NonZeroUsize = NonZeroUsize::new(8).expect("eight is not zero");

/// How long a request is tried for, unless told otherwise.
const PATIENCE: Duration = Duration::from_secs(120);

/// Load records: NDJSON, bundles or single resources in JSON; compressed (gzip, bzip2, Zstandard)
/// or not, in archives (tar) or not.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Files and directories.
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Where to load them: http://127.0.0.1:8080/fhir. Several endpoints of one mesh share the work.
    #[arg(long, required = true, num_args = 1.., value_name = "URL")]
    to: Vec<BaseUrl>,
    /// How many requests are in flight.
    #[arg(long, value_name = "N", default_value_t = CONCURRENCY)]
    concurrency: NonZeroUsize,
    /// The file that keeps what is done while a load is not complete, so that running it again goes
    /// on there. By default one per set of endpoints, in $XDG_STATE_HOME/chartmesh.
    #[arg(long, alias = "resume-file", value_name = "FILE")]
    state: Option<PathBuf>,
    /// Send everything again, even what the server has been sent before.
    #[arg(long)]
    again: bool,
    /// Store every bundle as a Bundle resource instead of executing it or taking it apart.
    #[arg(long)]
    keep_bundles: bool,
    /// For how many seconds a request is tried while the server cannot be reached.
    #[arg(long, value_name = "SECONDS", default_value_t = PATIENCE.as_secs())]
    patience: u64,
    /// Print the summary as JSON.
    #[arg(long)]
    json: bool,
}

/// What is loaded, where to and how.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// What is loaded.
    pub(crate) sources: Vec<Source>,
    /// Endpoints of one mesh, at least one.
    pub(crate) to: Vec<BaseUrl>,
    /// Requests in flight.
    pub(crate) concurrency: NonZeroUsize,
    /// Where what is done is kept until all is done; without one a load cannot go on.
    pub(crate) state: Option<PathBuf>,
    /// Whether what was sent before is sent again.
    pub(crate) repeat: Repeat,
    /// How bundles are treated.
    pub(crate) bundles: Bundles,
    /// How long a request is tried for.
    pub(crate) patience: Duration,
    /// Whether progress is shown.
    pub(crate) display: Display,
}

/// Whether what was sent before is sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// The same content has the same key: the server answers what it did the first time.
    Never,
    /// Everything is new.
    Everything,
}

impl Options {
    /// Loads `sources` through `to` with what serves most.
    pub(crate) fn new(sources: Vec<Source>, to: Vec<BaseUrl>) -> Self {
        Self {
            sources,
            to,
            concurrency: CONCURRENCY,
            state: None,
            repeat: Repeat::Never,
            bundles: Bundles::Unpacked,
            patience: PATIENCE,
            display: Display::Shown,
        }
    }
}

/// The first resources that lie one by one in these files, with what they are found by.
pub(crate) fn resources(paths: &[PathBuf], most: usize) -> anyhow::Result<Vec<(String, Bytes)>> {
    let sources: Vec<Source> = paths.iter().cloned().map(Source::Path).collect();
    let (mut found, read) = (Vec::new(), Arc::new(AtomicU64::new(0)));
    for input in source::inputs(&sources)? {
        let _ = input.open(&|_| true, &read, &mut |name, reader| {
            for document in Documents::new(name, reader).flatten() {
                let Ok(resource) = serde_json::from_slice::<serde_json::Value>(&document.text)
                else {
                    continue;
                };
                let member = |name: &str| resource[name].as_str().unwrap_or_default().to_owned();
                let (kind, id) = (member("resourceType"), member("id"));
                if kind != "Bundle" && !id.is_empty() {
                    found.push((format!("{kind}/{id}"), document.text));
                }
                if found.len() == most {
                    return ControlFlow::Break(());
                }
            }
            ControlFlow::Continue(())
        })?;
    }
    Ok(found)
}

/// Runs the command; its exit code tells whether everything is loaded.
pub(crate) async fn command(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let sources = arguments.paths.into_iter().map(Source::Path).collect();
    let state = arguments.state.or_else(|| default_state(&arguments.to));
    let summary = run(Options {
        concurrency: arguments.concurrency,
        state,
        repeat: if arguments.again { Repeat::Everything } else { Repeat::Never },
        bundles: if arguments.keep_bundles { Bundles::Stored } else { Bundles::Unpacked },
        patience: Duration::from_secs(arguments.patience),
        display: if arguments.json { Display::Hidden } else { Display::Shown },
        ..Options::new(sources, arguments.to)
    })
    .await?;
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&summary)?);
    } else {
        print!("{}", summary.text());
    }
    if summary.complete() && !summary.found_anything() {
        bail!("there is nothing to load in what was named");
    }
    Ok(if summary.complete() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Where the journal lies for these endpoints, if there is a home for it.
fn default_state(to: &[BaseUrl]) -> Option<PathBuf> {
    let state = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/state"));
    let mut endpoints: Vec<_> = to.iter().map(ToString::to_string).collect();
    endpoints.sort();
    let name = Digest::of(&[endpoints.join(" ").as_bytes()]);
    Some(state.or_else(home)?.join(format!("chartmesh/load-{name}.journal")))
}

/// Loads what the options name. What is refused is told in the summary; an error means that nothing
/// could begin.
pub(crate) async fn run(options: Options) -> anyhow::Result<Summary> {
    let begun = Instant::now();
    let inputs = source::inputs(&options.sources)?;
    let mut load = Load::begin(&options, inputs).await?;
    for pass in [Pass::Stage(Stage::Foundations), Pass::Stage(Stage::Rest)] {
        if load.summary.stopped.is_none() {
            load.pass(pass, Round::First).await?;
        }
    }
    load.repair().await?;
    load.end(begun)
}

/// A load that is going on.
struct Load {
    inputs: Arc<Vec<Input>>,
    concurrency: usize,
    bundles: Bundles,
    courier: Arc<Courier>,
    journal: Journal,
    survey: Survey,
    progress: Progress,
    read: Arc<AtomicU64>,
    summary: Summary,
    /// Units as they were gathered that are not all there yet, but may be once others are.
    waiting: HashSet<Digest>,
    /// Groups that were refused and whose halves are sent instead.
    split: HashSet<Digest>,
    /// Units that were refused for good.
    refused: HashSet<Digest>,
}

/// How often the sources have been sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Round {
    First,
    Repair(u32),
}

/// A unit on its way, or a part of one.
struct Job {
    unit: Unit,
    /// The unit as it was gathered.
    whole: Digest,
    /// Its share of what may be in memory.
    share: Arc<OwnedSemaphorePermit>,
}

/// What one reading of the sources leaves to decide.
#[derive(Default)]
struct Remainder {
    accepted: usize,
    unmet: Vec<Failure>,
}

impl Load {
    async fn begin(options: &Options, inputs: Vec<Input>) -> anyhow::Result<Self> {
        let salt = match options.repeat {
            Repeat::Never => Vec::new(),
            Repeat::Everything => fresh_salt()?,
        };
        let courier = Courier::new(options.to.clone(), options.patience, salt);
        courier.greet().await.map_err(|reason| anyhow!(reason))?;
        let read = Arc::<AtomicU64>::default();
        let size = inputs.iter().map(Input::size).sum();
        let progress = Progress::new(options.display, size, read.clone());
        let journal = open_journal(options, &courier, &progress).await?;
        Ok(Self {
            inputs: Arc::new(inputs),
            concurrency: options.concurrency.get(),
            bundles: options.bundles,
            courier: Arc::new(courier),
            journal,
            survey: Survey::default(),
            progress,
            read,
            summary: Summary {
                to: options.to.iter().map(ToString::to_string).collect(),
                ..Summary::default()
            },
            waiting: HashSet::new(),
            split: HashSet::new(),
            refused: HashSet::new(),
        })
    }

    /// Reads the sources once and sends what the pass looks for.
    async fn pass(&mut self, pass: Pass, round: Round) -> anyhow::Result<Remainder> {
        self.progress.pass(match pass {
            Pass::Stage(Stage::Foundations) => "foundations",
            Pass::Stage(Stage::Rest) => "records",
            Pass::Again => "repairing",
        });
        let (sender, mut found) = mpsc::channel(self.concurrency);
        let reading = Reading {
            inputs: self.inputs.clone(),
            pass,
            bundles: self.bundles,
            only: (pass == Pass::Again).then(|| std::mem::take(&mut self.waiting)),
            read: self.read.clone(),
            sender,
        };
        let survey = std::mem::take(&mut self.survey);
        let reader = tokio::task::spawn_blocking(move || reading.run(survey));
        let mut remainder = Remainder::default();
        let mut flying = FuturesUnordered::new();
        let mut jobs = Vec::new();
        let mut reading = true;
        while self.summary.stopped.is_none() && (reading || !flying.is_empty()) {
            tokio::select! {
                next = found.recv(), if reading && flying.len() < self.concurrency => match next {
                    Some((found, share)) => jobs.extend(self.take(found, share)),
                    None => reading = false,
                },
                Some((job, verdict)) = flying.next() => {
                    jobs.extend(self.settle(job, verdict, round, &mut remainder)?);
                }
            }
            while let Some(job) = jobs.pop() {
                if self.split.contains(&job.unit.digest()) {
                    jobs.extend(job.halves());
                } else if self.journal.entries(job.unit.digest()).is_none()
                    && !self.refused.contains(&job.unit.digest())
                {
                    flying.push(send(self.courier.clone(), job, round));
                }
            }
            self.progress.show(self.summary.resources);
        }
        // The reader may be waiting for room or for memory: both are given back before it is awaited.
        drop((found, flying));
        self.survey = reader.await?;
        Ok(remainder)
    }

    /// Takes what the reader found: a unit that is still to be sent comes back.
    fn take(&mut self, found: Found, share: OwnedSemaphorePermit) -> Option<Job> {
        match found {
            Found::Unit(unit) => {
                let whole = unit.digest();
                if let Some(entries) = self.journal.entries(whole) {
                    self.summary.bundles_done_before += 1;
                    self.summary.resources_done_before += entries;
                    return None;
                }
                return Some(Job { unit, whole, share: Arc::new(share) });
            }
            Found::Unusable { place, reason } => {
                self.summary.fail(Failure { place: place.to_string(), reason });
            }
            Found::Foreign { file, reason } => {
                self.summary.left_out.push(Failure { place: file, reason });
            }
        }
        None
    }

    /// Decides what follows from a verdict: the parts that are to be sent instead come back.
    fn settle(
        &mut self,
        job: Job,
        verdict: Verdict,
        round: Round,
        remainder: &mut Remainder,
    ) -> anyhow::Result<Vec<Job>> {
        let digest = job.unit.digest();
        let refusal = match verdict {
            Verdict::Accepted(answers) => {
                remainder.accepted += 1;
                self.count(&job.unit, &answers)?;
                return Ok(Vec::new());
            }
            Verdict::Unanswered(reason) => {
                self.summary.stopped = Some(reason);
                return Ok(Vec::new());
            }
            Verdict::Refused(refusal) => refusal,
        };
        if refusal.may_hold_later() {
            self.waiting.insert(job.whole);
            if round == Round::First {
                return Ok(Vec::new());
            }
        }
        let halves = job.halves();
        if !halves.is_empty() {
            self.split.insert(digest);
            return Ok(halves);
        }
        let failure = failure(&job.unit, &refusal);
        if refusal.may_hold_later() {
            remainder.unmet.push(failure);
        } else {
            self.refused.insert(digest);
            self.summary.fail(failure);
        }
        Ok(Vec::new())
    }

    /// Counts what became of each entry.
    fn count(&mut self, unit: &Unit, answers: &[EntryAnswer]) -> anyhow::Result<()> {
        self.summary.bundles += 1;
        let mut all = true;
        for entry in 0..unit.entries() {
            let Some(asked) = unit.asked(entry) else { continue };
            let (status, location, reason) = match answers.get(entry) {
                Some(answer) => (answer.status, answer.location.as_deref(), answer.reason.clone()),
                None => (0, None, Some("the server's answer has no entry for it".to_owned())),
            };
            if !matches!(status, 200..=299 | 304) {
                let reason = reason.unwrap_or_else(|| "no reason given".to_owned());
                let place = unit.entry_place(entry).to_string();
                self.summary
                    .fail(Failure { place, reason: Refusal { status, reason }.to_string() });
                all = false;
                continue;
            }
            let kind = location.and_then(|location| location.split('/').next());
            let kind = kind.map_or(asked.kind, ToOwned::to_owned);
            let counts = self.summary.types.entry(kind).or_default();
            let (counter, is_there) = match (status, asked.verb) {
                (201, _) => (&mut counts.created, 1),
                (304, _) | (_, Verb::Post) => (&mut counts.unchanged, 1),
                (_, Verb::Put) => (&mut counts.updated, 1),
                (_, Verb::Other) => (&mut counts.other, 0),
            };
            *counter += 1;
            self.summary.resources += is_there;
        }
        if all {
            let location = answers.iter().find_map(|answer| answer.location.as_deref());
            self.journal
                .add(unit.digest(), unit.entries(), location)
                .context("cannot write down what is done")?;
        }
        Ok(())
    }

    /// Sends again what was refused for the want of something else, while that makes a difference.
    async fn repair(&mut self) -> anyhow::Result<()> {
        for round in 1..=limits::REPAIR_ROUNDS {
            if self.waiting.is_empty() || self.summary.stopped.is_some() {
                break;
            }
            let remainder = self.pass(Pass::Again, Round::Repair(round)).await?;
            if remainder.accepted == 0 || round == limits::REPAIR_ROUNDS {
                remainder.unmet.into_iter().for_each(|failure| self.summary.fail(failure));
                break;
            }
        }
        Ok(())
    }

    fn end(mut self, begun: Instant) -> anyhow::Result<Summary> {
        self.progress.finish();
        self.summary.finish(begun.elapsed());
        if self.summary.complete() {
            self.journal.remove().context("cannot remove the file of what is done")?;
        } else if let Some(path) = self.journal.path() {
            self.progress.note(&format!(
                "not complete: run the same command again to go on; what is done is kept in {}",
                path.display()
            ));
        }
        Ok(self.summary)
    }
}

impl Job {
    fn halves(&self) -> Vec<Self> {
        let halves = self.unit.halves().into_iter().flatten();
        halves.map(|unit| Self { unit, whole: self.whole, share: self.share.clone() }).collect()
    }
}

fn failure(unit: &Unit, refusal: &Refusal) -> Failure {
    Failure { place: unit.place().to_string(), reason: unit.in_own_terms(&refusal.to_string()) }
}

async fn send(courier: Arc<Courier>, job: Job, round: Round) -> (Job, Verdict) {
    let round = match round {
        Round::First => 0,
        Round::Repair(round) => round,
    };
    let verdict = courier.deliver(&job.unit, round).await;
    (job, verdict)
}

fn fresh_salt() -> anyhow::Result<Vec<u8>> {
    let mut salt = vec![0; 16];
    rand::rngs::OsRng.try_fill_bytes(&mut salt).context("the system gives no random bytes")?;
    Ok(salt)
}

async fn open_journal(
    options: &Options,
    courier: &Courier,
    progress: &Progress,
) -> anyhow::Result<Journal> {
    let Some(path) = &options.state else { return Ok(Journal::in_memory()) };
    let mut journal = Journal::open(path)
        .with_context(|| format!("cannot keep what is done in {}", path.display()))?;
    if options.repeat == Repeat::Everything {
        journal.clear()?;
    }
    if let Some(location) = journal.last_location() {
        let units = journal.units();
        if courier.knows(location).await == Some(false) {
            progress.note(&format!("the server has no {location} any more: beginning anew"));
            journal.clear()?;
        } else {
            progress.note(&format!(
                "going on: an earlier run has left word of {units} bundles that are done"
            ));
        }
    }
    Ok(journal)
}

/// One reading of the sources, on a thread of its own.
struct Reading {
    inputs: Arc<Vec<Input>>,
    pass: Pass,
    bundles: Bundles,
    /// The units to hand on; all, if nothing is said.
    only: Option<HashSet<Digest>>,
    read: Arc<AtomicU64>,
    sender: mpsc::Sender<(Found, OwnedSemaphorePermit)>,
}

impl Reading {
    fn run(self, mut survey: Survey) -> Survey {
        let memory = Arc::new(Semaphore::new(limits::UNANSWERED_KIB));
        let mut emit = |found: Found| self.hand_on(found, &memory);
        // A break means that nobody takes any more, and the survey is all that is left to give.
        let _ = self.gather(&mut survey, &mut emit);
        survey
    }

    fn gather(
        &self,
        survey: &mut Survey,
        emit: &mut dyn FnMut(Found) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let known = survey.clone();
        let wants = |file: &str| known.wants(file, self.pass);
        let mut gatherer = Gatherer::new(self.pass, self.bundles, survey, emit);
        for input in self.inputs.iter() {
            let mut show = |file: &str, reader: &mut dyn std::io::Read| gatherer.file(file, reader);
            match input.open(&wants, &self.read, &mut show) {
                Ok(flow) => flow?,
                Err(broken) => gatherer.broken(broken)?,
            }
        }
        gatherer.finish()
    }

    fn hand_on(&self, found: Found, memory: &Arc<Semaphore>) -> ControlFlow<()> {
        let kib = match &found {
            Found::Unit(unit) => {
                if self.only.as_ref().is_some_and(|only| !only.contains(&unit.digest())) {
                    return ControlFlow::Continue(());
                }
                unit.body().len().div_ceil(1024).clamp(1, limits::UNANSWERED_KIB)
            }
            Found::Unusable { .. } | Found::Foreign { .. } => 0,
        };
        let kib = u32::try_from(kib).expect("the limit fits");
        let share = Handle::current().block_on(memory.clone().acquire_many_owned(kib));
        let share = share.expect("the semaphore is never closed");
        match self.sender.blocking_send((found, share)) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    }
}

#[cfg(test)]
mod tests;
