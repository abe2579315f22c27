//! This module compares what the nodes of a mesh hold: `chartmesh verify`.
//!
//! Nodes that hold the same feeds up to the same place must have the same chain hashes there, and the
//! same digest. A running mesh moves, so it looks again until they do, for a while. Feeds that are not
//! held equally far even then are compared at the places that both nodes hold. With `--deep` each node
//! computes all of that again from the bytes on its disk.

mod chains;
mod difference;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use chartmesh_node::{Audited, Operator, Topology};
use chartmesh_ops::Status;
use futures::future::join_all;
use serde::Serialize;
use tokio::time::{Instant, sleep};

pub(crate) use difference::{Difference, Kind};

use crate::mesh::{self, Mesh, Seen};
use crate::status::grouped;
use crate::terminal::{self, Tone, WrongUsage, paint};

/// Between two looks at nodes that do not hold the same yet.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Compare what the nodes of a mesh hold: cursors, chain hashes and digests.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  chartmesh verify                                  (the demo in ./demo-data)
  chartmesh verify --deep
  chartmesh verify --topology mesh.toml --tls tls --deep --json
  chartmesh verify --partial                        (some nodes are down, and that is known)

Exit code 0: all nodes answer and hold the same. 1: they do not, or one does not answer. 2: wrong
usage.")]
pub(crate) struct Arguments {
    #[command(flatten)]
    mesh: mesh::Arguments,
    /// Let each node compute everything again from the bytes on its disk. It takes a while.
    #[arg(long)]
    deep: bool,
    /// The directory with operator.pem and operator.key: for --deep, and to compare nodes that do
    /// not hold a feed equally far.
    #[arg(long, value_name = "DIR")]
    tls: Option<PathBuf>,
    /// For how many seconds to wait for nodes that are still receiving changes.
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    wait: u64,
    /// Leave nodes that do not answer out, instead of failing.
    #[arg(long)]
    partial: bool,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

/// How to compare.
#[derive(Clone, Copy, Debug, Default)]
struct Options {
    wait: Duration,
    deep: bool,
    partial: bool,
}

/// What was found.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Verdict {
    /// Whether the nodes hold the same: all of them, unless told to leave out what does not answer.
    pub(crate) equal: bool,
    /// What each node holds.
    pub(crate) nodes: Vec<Held>,
    /// The first difference.
    pub(crate) difference: Option<Difference>,
    /// Nodes that did not answer, and why.
    pub(crate) unreachable: BTreeMap<String, String>,
    /// What each node has found on its disk.
    pub(crate) deep: BTreeMap<String, Deep>,
}

/// What a node holds.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Held {
    /// The node.
    pub(crate) node: String,
    /// Its region.
    pub(crate) region: String,
    /// Its resources.
    pub(crate) resources: u64,
    /// The feeds of which it holds anything.
    pub(crate) feeds: usize,
    /// Change sets of all feeds.
    pub(crate) changes: u64,
    /// Its digest.
    pub(crate) digest: String,
}

/// What a node has found on its disk.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Deep {
    /// Change sets computed again.
    pub(crate) changes: u64,
    /// Versions computed again.
    pub(crate) versions: u64,
    /// What is not as the bytes say, or why it is not known.
    pub(crate) difference: Option<String>,
}

/// Runs the command.
pub(crate) async fn command(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let mut mesh = arguments.mesh.find()?;
    mesh.tls = arguments.tls.clone().or(mesh.tls);
    let Arguments { deep, partial, json, wait, .. } = arguments;
    let verdict = run(&mesh, Options { wait: Duration::from_secs(wait), deep, partial }).await?;
    if json {
        terminal::print_json(&verdict)?;
    } else {
        terminal::print(coloured(report(&verdict)));
    }
    Ok(if verdict.equal { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Compares what all nodes hold; `deep`: and what is on their disks.
pub(crate) async fn verify(mesh: &Mesh, wait: Duration, deep: bool) -> anyhow::Result<Verdict> {
    run(mesh, Options { wait, deep, partial: false }).await
}

async fn run(mesh: &Mesh, options: Options) -> anyhow::Result<Verdict> {
    let operator = match options.deep {
        true => Some(operator(mesh)?),
        false => operator(mesh).ok(),
    };
    let (seen, mut verdict) = compare(mesh, options).await;
    if verdict.difference.is_some() {
        look_closer(&seen, operator.as_ref(), &mut verdict).await;
    }
    if options.deep
        && let Some(operator) = &operator
    {
        let answering = seen.iter().filter(|seen| seen.status.is_ok());
        verdict.deep = audit_all(operator, answering).await?;
        verdict.equal &= verdict.deep.values().all(|deep| deep.difference.is_none());
    }
    Ok(verdict)
}

/// Looks until all nodes hold the same, or until the time is over.
async fn compare(mesh: &Mesh, options: Options) -> (Vec<Seen>, Verdict) {
    let end = Instant::now() + options.wait;
    loop {
        let seen = mesh.ask().await;
        let verdict = judge(&seen, options.partial);
        // Those that may be left out are not waited for.
        if verdict.equal || Instant::now() >= end {
            return (seen, verdict);
        }
        sleep(LOOK_EVERY).await;
    }
}

fn judge(seen: &[Seen], partial: bool) -> Verdict {
    let mut verdict = Verdict::default();
    for seen in seen {
        if let Err(error) = &seen.status {
            verdict.unreachable.insert(seen.target.name.clone(), error.clone());
        }
    }
    let statuses = statuses(seen);
    let held = |status: &&Status| Held {
        node: status.node.clone(),
        region: status.region.clone(),
        resources: status.store.resources,
        feeds: status.horizon.iter().filter(|feed| feed.seq > 0).count(),
        changes: status.horizon.iter().map(|feed| feed.seq).sum(),
        digest: status.digest.clone(),
    };
    verdict.nodes = statuses.iter().map(held).collect();
    verdict.difference = difference::first(&statuses);
    verdict.equal = (partial || verdict.unreachable.is_empty())
        && verdict.difference.is_none()
        && !statuses.is_empty();
    verdict
}

fn statuses(seen: &[Seen]) -> Vec<&Status> {
    seen.iter().filter_map(|seen| seen.status.as_ref().ok()).collect()
}

/// Finds out what a difference in the feeds is: a fork, and where it begins, or changes that have not
/// arrived.
async fn look_closer(seen: &[Seen], operator: Option<&Operator>, verdict: &mut Verdict) {
    let Some(found) = verdict.difference.as_mut().filter(|found| found.kind != Kind::State) else {
        return;
    };
    let Some(operator) = operator else {
        if found.kind == Kind::Behind {
            found.text += "; whether they agree up to there is not known: name the mesh with \
                           --cluster, or with --topology and --tls";
        }
        return;
    };
    let statuses = statuses(seen);
    let mut feeds = difference::feeds(&statuses);
    feeds.retain(|_, held| {
        let mut places = held.values();
        let first = places.next();
        places.any(|place| Some(place) != first)
    });
    match chains::find_fork(operator, &feeds).await {
        Ok(Some(fork)) => *found = fork,
        Ok(None) if found.kind == Kind::Behind => {
            found.text += "; as far as two nodes hold a feed, they hold the same";
        }
        Ok(None) => {}
        Err(error) => found.text += &format!("; more is not known: {}", terminal::explain(&error)),
    }
}

/// Whoever operates the mesh, where the mesh is known well enough to speak to its mesh ports.
fn operator(mesh: &Mesh) -> anyhow::Result<Operator> {
    let (Some(file), Some(tls)) = (&mesh.topology, &mesh.tls) else {
        let reason = "--deep speaks to the nodes' mesh ports: name the mesh with --cluster, or with \
                      --topology and --tls";
        return Err(WrongUsage(reason.to_owned()).into());
    };
    Ok(Operator::enter(Arc::new(Topology::read(file)?), tls)?)
}

/// Lets nodes prove at the same time what they hold.
async fn audit_all(
    operator: &Operator,
    seen: impl Iterator<Item = &Seen>,
) -> anyhow::Result<BTreeMap<String, Deep>> {
    let audit = async |seen: &Seen| -> anyhow::Result<(String, Deep)> {
        let name = &seen.target.name;
        let node = name.parse().with_context(|| format!("node {name}"))?;
        let mut told = Instant::now();
        let progress = |so_far: &Audited| {
            if told.elapsed() > Duration::from_secs(2) {
                told = Instant::now();
                let versions = grouped(so_far.versions);
                terminal::tell(format!("{name}: {versions} versions computed again"));
            }
        };
        let audited = operator.audit(&node, progress).await.unwrap_or_else(|error| Audited {
            difference: Some(error.to_string()),
            ..Audited::default()
        });
        let Audited { changes, versions, difference, .. } = audited;
        Ok((name.clone(), Deep { changes, versions, difference }))
    };
    join_all(seen.map(audit)).await.into_iter().collect()
}

/// What a person reads.
pub(crate) fn report(verdict: &Verdict) -> String {
    let (held, gone) = (verdict.nodes.len(), verdict.unreachable.len());
    let damaged = verdict.deep.values().any(|deep| deep.difference.is_some());
    let mut text = match (verdict.equal, &verdict.difference) {
        (true, _) if gone > 0 => {
            format!("{held} nodes hold the same; {gone} left out, because they do not answer.\n")
        }
        (true, _) => format!("{held} nodes hold the same.\n"),
        (false, Some(_)) => "The nodes do NOT hold the same.\n".to_owned(),
        (false, None) if damaged => "Not all disks hold what they should.\n".to_owned(),
        (false, None) => "It is NOT KNOWN whether the nodes hold the same.\n".to_owned(),
    };
    for (node, error) in &verdict.unreachable {
        text += &format!("  ! {node} does not answer: {error}\n");
    }
    if let Some(difference) = &verdict.difference {
        text += &format!("  ! {}\n", difference.text);
        text += &format!("    {}\n", advice(difference.kind));
    }
    for (node, deep) in &verdict.deep {
        if let Some(difference) = &deep.difference {
            text += &format!("  ! on the disk of {node}: {difference}\n");
        }
    }
    text + "\n" + &table(verdict)
}

/// What to do about a difference.
fn advice(kind: Kind) -> &'static str {
    match kind {
        Kind::Fork => "do: see `fork` in docs/operations.md; nothing of either history is dropped",
        Kind::Behind => {
            "do: let writers rest, or wait longer with --wait; `chartmesh status` shows who is cut off"
        }
        Kind::State => "do: `chartmesh verify --deep` tells whose state is not what its bytes say",
    }
}

fn table(verdict: &Verdict) -> String {
    let header = ["NODE", "REGION", "RESOURCES", "FEEDS", "CHANGES", "DIGEST", "FROM THE BYTES"];
    let mut table = terminal::table(header);
    for held in &verdict.nodes {
        let deep = verdict.deep.get(&held.node);
        let proven = deep.map_or_else(String::new, |deep| match &deep.difference {
            None => format!(
                "{} changes, {} versions: equal",
                grouped(deep.changes),
                grouped(deep.versions)
            ),
            Some(_) => "DIFFERENT".to_owned(),
        });
        table.add_row([
            held.node.clone(),
            held.region.clone(),
            grouped(held.resources),
            held.feeds.to_string(),
            grouped(held.changes),
            held.digest.chars().take(16).collect(),
            proven,
        ]);
    }
    table.to_string()
}

fn coloured(report: String) -> String {
    if !terminal::in_colour() {
        return report;
    }
    let line = |(number, line): (usize, &str)| match number {
        0 if line.contains("NOT") || line.contains("Not") => paint(Tone::Bad, line),
        0 => paint(Tone::Good, line),
        _ if line.starts_with("  !") => paint(Tone::Bad, line),
        _ => line.replace("DIFFERENT", &paint(Tone::Bad, "DIFFERENT")),
    };
    report.lines().enumerate().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::sample;

    fn seen(node: &str, feeds: &[(&str, u64, &str)], digest: &str) -> Seen {
        let mut status = sample::status(node);
        status.horizon =
            feeds.iter().map(|&(origin, seq, hash)| sample::feed(origin, seq, hash)).collect();
        status.digest = digest.to_owned();
        sample::seen(status)
    }

    #[test]
    fn nodes_are_equal_only_if_feeds_hashes_and_digests_agree() {
        let check =
            |one: &[(&str, u64, &str)], other: &[(&str, u64, &str)], digest, expect: &str| {
                let nodes = [seen("a", one, "d1"), seen("b", other, digest), seen("c", one, "d1")];
                let verdict = judge(&nodes, false);
                let found = verdict.difference.as_ref().map_or("", |found| &found.text);
                assert_eq!(found, expect);
                assert_eq!(verdict.equal, expect.is_empty());
            };
        check(&[("o", 3, "h")], &[("o", 3, "h")], "d1", "");
        check(
            &[("o", 3, "h")],
            &[("o", 2, "g")],
            "d1",
            "feed o is not held equally far: 3 changes at a, c; 2 changes at b",
        );
        check(
            &[("o", 3, "h")],
            &[],
            "d1",
            "feed o is not held equally far: 3 changes at a, c; 0 changes at b",
        );
        check(
            &[],
            &[("o", 3, "h")],
            "d1",
            "feed o is not held equally far: 0 changes at a, c; 3 changes at b",
        );
        check(
            &[("o", 3, "h")],
            &[("o", 3, "g")],
            "d1",
            "feed o is forked at or before change 3: its hash is h at a, c; g at b",
        );
        check(
            &[("n", 1, "h"), ("o", 3, "h")],
            &[("o", 3, "g")],
            "d1",
            "feed o is forked at or before change 3: its hash is h at a, c; g at b",
        );
        check(
            &[("o", 3, "h")],
            &[("o", 3, "h")],
            "d2",
            "the same changes, but not the same state: the digest is d1 at a, c; d2 at b",
        );
    }

    #[test]
    fn a_feed_of_which_nothing_is_held_is_no_difference() {
        let unheld = [("o", 0, "start")];

        let verdict = judge(&[seen("a", &unheld, "d"), seen("b", &[], "d")], false);

        assert!(verdict.equal);
    }

    #[test]
    fn a_node_that_does_not_answer_is_not_equal_unless_it_may_be_left_out() {
        let gone =
            || Seen { target: sample::target("b"), status: Err("cannot reach b".to_owned()) };
        let nodes = [seen("a", &[], "d"), gone()];

        let (verdict, partial) = (judge(&nodes, false), judge(&nodes, true));

        assert!(!verdict.equal);
        assert_eq!(verdict.unreachable["b"], "cannot reach b");
        assert!(report(&verdict).contains("NOT KNOWN"));
        assert!(report(&verdict).contains("! b does not answer: cannot reach b"));
        assert!(partial.equal);
        assert!(report(&partial).starts_with("1 nodes hold the same; 1 left out"));
        assert!(!judge(&[gone()], true).equal, "nothing was compared");
    }

    #[test]
    fn a_fork_is_named_by_its_first_change_and_the_hashes_there() {
        let hashes = [("a", "h"), ("b", "g"), ("c", "h")];
        let hashes = hashes.map(|(node, hash)| (node.to_owned(), hash.to_owned()));

        let found = difference::fork("o", 7, hashes.into());

        assert_eq!(found.text, "feed o is forked at change 7: its hash is h at a, c; g at b");
        assert_eq!((found.kind, found.seq), (Kind::Fork, Some(7)));
    }
}
