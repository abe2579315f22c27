//! This module starts a region again that has lost the majority of its voters for good:
//! `chartmesh region recover`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use chartmesh_node::{Survey, Survivor};
use serde::Serialize;

use crate::cluster::{Cluster, DEMO_DIR};
use crate::mesh::{self, Seen};
use crate::status::grouped;
use crate::terminal::{self, WrongUsage};

/// Start a region again whose majority of voters is lost for good.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum Action {
    Recover(Recover),
}

/// Let a region go on from the disk of one voter that is left. Its node must be stopped.
///
/// Writes that only lost disks held are lost: what may be missing is shown first. Choose the survivor
/// that holds the most. The region goes on under a new origin; the other voters that are left, and
/// new disks, join it by themselves when they are started again.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  chartmesh region recover --node pac-2                      (a node of the demo in ./demo-data)
  chartmesh region recover --data /var/lib/chartmesh
  chartmesh region recover --data /var/lib/chartmesh --topology mesh.toml --yes --json

Then start the node as usual. Exit code 0: the region goes on from there once it is started. 1: it does
not. 2: wrong usage.")]
struct Recover {
    #[command(flatten)]
    mesh: mesh::Arguments,
    /// The survivor, where its disk is found by the demo's cluster.json.
    #[arg(long, value_name = "NAME", required_unless_present = "data")]
    node: Option<String>,
    /// The directory of the survivor's data.
    #[arg(long, value_name = "DIR", conflicts_with = "node")]
    data: Option<PathBuf>,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
    /// Print what is held and what was done as JSON.
    #[arg(long)]
    json: bool,
}

/// What is shown, and what was done.
#[derive(Clone, Debug, Serialize)]
struct Report {
    region: String,
    data: PathBuf,
    voters: Vec<String>,
    /// How far the survivor has applied the region's feed.
    applied: Option<Place>,
    /// Up to which instant.
    applied_at: String,
    /// Writes that its log holds beyond that: they are decided again.
    undecided: usize,
    /// Up to which instant its log goes.
    log_at: String,
    /// How far others hold the region's feed.
    others: Vec<Elsewhere>,
    recovered: bool,
}

#[derive(Clone, Debug, Serialize)]
struct Place {
    origin: String,
    seq: u64,
}

#[derive(Clone, Debug, Serialize)]
struct Elsewhere {
    node: String,
    region: String,
    /// `None`: it does not answer.
    seq: Option<u64>,
}

/// Runs the command.
pub(crate) async fn command(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let Action::Recover(arguments) = arguments.action;
    let data = arguments.data()?;
    let survivor =
        Survivor::open(&data).with_context(|| format!("the disk in {}", data.display()))?;
    let survey = survivor.survey()?;
    let others = match arguments.mesh.find() {
        Ok(mesh) => mesh.ask().await,
        // Nobody was named, and there is no demo here.
        Err(_) if arguments.mesh.names_nothing() => Vec::new(),
        Err(error) => return Err(error),
    };
    let mut report = report(&data, &survey, &others);
    if !arguments.json {
        terminal::print(told(&report));
    }
    let question = format!(
        "The old group of {} must never run again. Type the region's name to go on: ",
        report.region
    );
    if !arguments.yes && !terminal::agreed(&question, &report.region)? {
        terminal::tell("nothing was changed");
        return Ok(ExitCode::FAILURE);
    }
    survivor.recover()?;
    report.recovered = true;
    if arguments.json {
        terminal::print_json(&report)?;
    } else {
        terminal::print(format!(
            "region {} goes on from this disk: start its node now, as usual; then those that are left",
            report.region
        ));
    }
    Ok(ExitCode::SUCCESS)
}

impl Recover {
    fn data(&self) -> anyhow::Result<PathBuf> {
        if let Some(data) = &self.data {
            return Ok(data.clone());
        }
        let name = self.node.as_deref().unwrap_or_default();
        let cluster = Cluster::read(Path::new(DEMO_DIR))?;
        let node = cluster.nodes.iter().find(|node| node.name == name);
        let Some(node) = node else {
            return Err(WrongUsage(format!("the demo has no node {name}")).into());
        };
        Ok(node.data.clone())
    }
}

fn report(data: &Path, survey: &Survey, others: &[Seen]) -> Report {
    let applied = survey.feed.as_ref();
    let applied = applied.map(|feed| Place { origin: feed.origin.to_string(), seq: feed.seq.0 });
    let held = |seen: &Seen| {
        let status = seen.status.as_ref().ok()?;
        let origin = &applied.as_ref()?.origin;
        let feed = status.horizon.iter().find(|feed| feed.origin == *origin);
        Some(feed.map_or(0, |feed| feed.seq))
    };
    let elsewhere = |seen: &Seen| Elsewhere {
        node: seen.target.name.clone(),
        region: seen.target.region.clone().unwrap_or_default(),
        seq: held(seen),
    };
    Report {
        others: others.iter().map(elsewhere).collect(),
        region: survey.region.to_string(),
        data: data.to_owned(),
        voters: survey.voters.iter().map(ToString::to_string).collect(),
        applied,
        applied_at: survey.at.to_string(),
        undecided: survey.undecided,
        log_at: survey.log_at.to_string(),
        recovered: false,
    }
}

/// The report for a person.
fn told(report: &Report) -> String {
    let mut lines = vec![
        format!("region {}, from the disk in {}", report.region, report.data.display()),
        match report.voters.is_empty() {
            true => "  it was put back from a backup, which does not say who voted".to_owned(),
            false => format!("  its voters were {}", report.voters.join(", ")),
        },
    ];
    if let Some(Place { origin, seq }) = &report.applied {
        lines.push(format!("  holds change sets of {origin} up to {}", grouped(*seq)));
    }
    lines.push(format!("  knows the region up to {}", report.applied_at));
    let undecided = grouped(report.undecided as u64);
    lines.push(format!("  {undecided} writes in its log beyond that are decided again"));
    let held = report.applied.as_ref().map_or(0, |place| place.seq);
    for other in &report.others {
        let (node, region) = (&other.node, &other.region);
        lines.push(match other.seq {
            Some(seq) if seq > held => {
                let more = grouped(seq - held);
                format!(
                    "  {node} ({region}) holds {more} change sets more: this disk gets them back"
                )
            }
            Some(_) => format!("  {node} ({region}) answers, and holds no more"),
            None => format!("  {node} ({region}) does not answer"),
        });
    }
    lines.push(format!(
        "May be missing afterwards: what was written in {} after {} and is held by none of those that \
         answer.",
        report.region, report.log_at
    ));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use chartmesh_record::{Cursor, Seq, Timestamp};

    use super::*;
    use crate::mesh::sample;

    #[test]
    fn what_may_be_missing_is_shown() {
        let origin = "pac.7h2k4m9qzx";
        let feed = Cursor { seq: Seq(1_200), ..Cursor::start(origin.parse().unwrap()) };
        let survey = Survey {
            region: "pac".parse().unwrap(),
            voters: vec!["pac-1".parse().unwrap(), "pac-2".parse().unwrap()],
            feed: Some(feed),
            at: Timestamp(0),
            undecided: 3,
            log_at: Timestamp(1_000),
        };
        let mut ahead = sample::status("eur-1");
        ahead.horizon = vec![sample::feed(origin, 1_205, "00")];
        let others = [
            sample::seen(ahead),
            Seen { target: sample::target("pac-3"), status: Err("refused".to_owned()) },
        ];

        let text = told(&report(Path::new("/data"), &survey, &others));

        assert!(text.contains("up to 1,200"), "{text}");
        assert!(text.contains("3 writes in its log"), "{text}");
        assert!(text.contains("eur-1 (eur) holds 5 change sets more"), "{text}");
        assert!(text.contains("pac-3 (pac) does not answer"), "{text}");
        assert!(text.contains("written in pac after 1970-01-01T00:00:01.000Z"), "{text}");
    }
}
