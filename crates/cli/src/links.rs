//! This module cuts and slows the links between the nodes of a demo: `chartmesh links`.
//!
//! The demo carries every byte between its nodes. This command asks it over HTTP, at the address that is
//! `links` in cluster.json.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use serde::{Deserialize, Serialize};

use crate::cluster::{Cluster, DEMO_DIR};
use crate::http::Client;
use crate::status::grouped;
use crate::terminal;

/// How long the demo may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Cut, slow and heal the links between the nodes of a demo that runs.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  chartmesh links list                      what is cut or slow, and how much passes between regions
  chartmesh links isolate eur-2             cut one node off from all others
  chartmesh links cut-region pac            cut a region off from the others; within it nothing changes
  chartmesh links stall eur-2               nothing passes, but connections stay: a firewall that drops
  chartmesh links delay 50                  between regions: 50 ms each way, a round trip of 100 ms
  chartmesh links delay 200 --from pac-1 --to eur --rate 100000
  chartmesh links heal                      nothing is cut or stalled any more; delays stay
  chartmesh links delay 0                   and no delays

Each link goes from the node that dials to the node that is dialled, and carries both directions.")]
pub(crate) struct Arguments {
    /// Where the demo keeps its files.
    #[arg(long, value_name = "DIR", default_value = DEMO_DIR, global = true)]
    dir: PathBuf,
    /// What to do.
    #[command(subcommand)]
    action: Action,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum Action {
    /// Show the links: what is not as usual, and what has passed between the regions.
    List {
        /// Show every link.
        #[arg(long)]
        all: bool,
        /// Print every link as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Cut a node off from all others: connections end, new ones are refused.
    Isolate {
        /// Which node.
        node: String,
    },
    /// Let nothing pass between a node and the others; connections stay.
    Stall {
        /// Which node.
        node: String,
    },
    /// Cut a region off from the others.
    CutRegion {
        /// Which region.
        region: String,
    },
    /// End every cut and stall; delays and rates stay.
    Heal,
    /// Give links a delay, and a rate or none. Without --from and --to: all links between regions.
    Delay {
        /// For how many milliseconds each byte is on its way, in each direction.
        #[arg(value_name = "MS")]
        millis: u64,
        /// Only the links that this node, or the nodes of this region, dial.
        #[arg(long, value_name = "NAME")]
        from: Option<String>,
        /// Only the links to this node, or to the nodes of this region.
        #[arg(long, value_name = "NAME")]
        to: Option<String>,
        /// How many bytes pass in a second, in each direction of each link. Without it: as many as come.
        #[arg(long, value_name = "BYTES")]
        rate: Option<u64>,
    },
}

/// All links, as the demo shows them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct LinksView {
    /// By who dials and whom.
    pub(crate) links: Vec<LinkView>,
}

/// A link as the demo shows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct LinkView {
    /// The node that dials.
    pub(crate) from: String,
    /// Its region.
    pub(crate) from_region: String,
    /// The node that is dialled.
    pub(crate) to: String,
    /// Its region.
    pub(crate) to_region: String,
    /// Where.
    pub(crate) address: String,
    /// Whether it is cut.
    pub(crate) cut: bool,
    /// From who dials.
    pub(crate) forth: FlowView,
    /// To who dials.
    pub(crate) back: FlowView,
}

/// One direction of a link.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct FlowView {
    /// For how long each byte is on its way.
    pub(crate) delay_ms: u64,
    /// Bytes in a second; `None`: as many as come.
    pub(crate) rate: Option<u64>,
    /// Whether nothing passes.
    pub(crate) stalled: bool,
    /// What has passed.
    pub(crate) bytes: u64,
}

/// A round trip that was measured, and is what was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct RoundTrip {
    /// How long it took.
    pub(crate) made_ms: f64,
}

/// What the demo answers when it has done something, or has not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Said {
    /// In words.
    pub(crate) text: String,
}

/// Runs the command.
pub(crate) async fn command(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let cluster = Cluster::read(&arguments.dir)?;
    let url = cluster.links.with_context(|| {
        format!("the demo in {} does not carry its links", arguments.dir.display())
    })?;
    if let Action::List { all, json } = arguments.action {
        let view: LinksView = ask(&url, Method::GET, "/").await?;
        match json {
            true => terminal::print_json(&view)?,
            false => terminal::print(report(&view.links, all)),
        }
    } else {
        let said: Said = ask(&url, Method::POST, &path(&arguments.action)).await?;
        terminal::print(said.text);
    }
    Ok(ExitCode::SUCCESS)
}

/// What the demo is to be asked for.
fn path(action: &Action) -> String {
    match action {
        Action::List { .. } => "/".to_owned(),
        Action::Isolate { node } => format!("/isolate/{node}"),
        Action::Stall { node } => format!("/stall/{node}"),
        Action::CutRegion { region } => format!("/cut-region/{region}"),
        Action::Heal => "/heal".to_owned(),
        Action::Delay { millis, from, to, rate } => {
            let mut path = format!("/shape?delay_ms={millis}&rate={}", rate.unwrap_or(0));
            for (key, value) in [("from", from), ("to", to)] {
                if let Some(value) = value {
                    path = format!("{path}&{key}={value}");
                }
            }
            path
        }
    }
}

/// Asks a demo about its links, or to change them.
pub(crate) async fn ask<T: for<'de> Deserialize<'de>>(
    url: &str,
    method: Method,
    path: &str,
) -> anyhow::Result<T> {
    let url = format!("{url}{path}");
    let answer = Client::new(PATIENCE).send(method, &url, HeaderMap::new(), Bytes::new()).await;
    let answer = answer.context("the demo does not answer: does it run?")?;
    if answer.status != StatusCode::OK {
        let said: Result<Said, _> = serde_json::from_slice(&answer.body);
        bail!("{}", said.map_or_else(|_| answer.status.to_string(), |said| said.text));
    }
    serde_json::from_slice(&answer.body).context("the answer of the demo cannot be understood")
}

/// What a person reads.
fn report(links: &[LinkView], all: bool) -> String {
    let cut = links.iter().filter(|link| link.cut).count();
    let stalled = links.iter().filter(|link| link.forth.stalled || link.back.stalled).count();
    let mut text = format!("{} links: {cut} cut, {stalled} stalled.\n", links.len());
    let shown = || links.iter().filter(|link| all || link.is_unusual());
    if shown().next().is_some() {
        let mut table = terminal::table(["LINK", "", "THERE", "BACK", "BYTES THERE", "BYTES BACK"]);
        for link in shown() {
            table.add_row([
                format!("{} -> {}", link.from, link.to),
                if link.cut { "CUT" } else { "" }.to_owned(),
                link.forth.in_words(),
                link.back.in_words(),
                grouped(link.forth.bytes),
                grouped(link.back.bytes),
            ]);
        }
        text = format!("{text}\n{table}\n");
    }
    format!("{text}\n{}", between_regions(links))
}

fn between_regions(links: &[LinkView]) -> String {
    let sent = sent_between_regions(links);
    if sent.is_empty() {
        return "There is one region.".to_owned();
    }
    let mut table = terminal::table(["FROM", "TO", "BYTES"]);
    for ((from, to), bytes) in sent {
        table.add_row([from, to, grouped(bytes)]);
    }
    table.to_string()
}

/// What each region has sent to each other one, whoever has dialled.
pub(crate) fn sent_between_regions(links: &[LinkView]) -> BTreeMap<(String, String), u64> {
    let mut sent = BTreeMap::new();
    for link in links.iter().filter(|link| link.from_region != link.to_region) {
        let (from, to) = (link.from_region.clone(), link.to_region.clone());
        *sent.entry((from.clone(), to.clone())).or_insert(0) += link.forth.bytes;
        *sent.entry((to, from)).or_insert(0) += link.back.bytes;
    }
    sent
}

impl LinkView {
    fn is_unusual(&self) -> bool {
        let unusual = |flow: &FlowView| flow.stalled || flow.delay_ms > 0 || flow.rate.is_some();
        self.cut || unusual(&self.forth) || unusual(&self.back)
    }
}

impl FlowView {
    fn in_words(&self) -> String {
        let mut words = Vec::new();
        if self.stalled {
            words.push("STALLED".to_owned());
        }
        if self.delay_ms > 0 {
            words.push(format!("{} ms", self.delay_ms));
        }
        words.extend(self.rate.map(|rate| format!("{} bytes/s", grouped(rate))));
        words.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(from: &str, to: &str) -> LinkView {
        let region = |node: &str| node.split('-').next().unwrap().to_owned();
        let flow = FlowView { delay_ms: 0, rate: None, stalled: false, bytes: 1_000 };
        LinkView {
            from: from.to_owned(),
            from_region: region(from),
            to: to.to_owned(),
            to_region: region(to),
            address: "127.0.0.1:1".to_owned(),
            cut: false,
            forth: flow.clone(),
            back: flow,
        }
    }

    #[test]
    fn shows_what_is_not_as_usual_and_what_passes_between_regions() {
        let mut slow = link("pac-1", "eur-1");
        slow.forth = FlowView { delay_ms: 50, rate: Some(100_000), stalled: true, bytes: 2_000 };
        let mut cut = link("eur-1", "pac-1");
        cut.cut = true;
        let links = [link("pac-1", "pac-2"), slow, cut];

        let text = report(&links, false);

        let lines: Vec<String> = text
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect();
        assert_eq!(
            lines,
            [
                "3 links: 1 cut, 1 stalled.",
                "",
                "LINK THERE BACK BYTES THERE BYTES BACK",
                "pac-1 -> eur-1 STALLED, 50 ms, 100,000 bytes/s 2,000 1,000",
                "eur-1 -> pac-1 CUT 1,000 1,000",
                "",
                "FROM TO BYTES",
                "eur pac 2,000",
                "pac eur 3,000",
            ]
        );
        assert!(report(&links, true).contains("pac-1 -> pac-2"));
    }

    #[test]
    fn a_delay_without_ends_says_nothing_of_them() {
        let delay = |from: Option<&str>, to: Option<&str>, rate| {
            let (from, to) = (from.map(str::to_owned), to.map(str::to_owned));
            path(&Action::Delay { millis: 50, from, to, rate })
        };

        assert_eq!(delay(None, None, None), "/shape?delay_ms=50&rate=0");
        assert_eq!(
            delay(Some("pac-1"), Some("eur"), Some(9)),
            "/shape?delay_ms=50&rate=9&from=pac-1&to=eur"
        );
    }
}
