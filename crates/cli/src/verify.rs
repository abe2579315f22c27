//! This module compares what the nodes of a mesh hold: `chartmesh verify`.
//!
//! Nodes that hold the same feeds up to the same place must have the same chain hashes there, and the
//! same digest. With `--deep` each node computes all of that again from the bytes on its disk.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use chartmesh_node::{Audited, Topology};
use chartmesh_ops::Status;
use futures::future::join_all;
use serde::Serialize;
use tokio::time::{Instant, sleep};

use crate::mesh::{self, Mesh, Seen};
use crate::status::grouped;
use crate::terminal::{self, WrongUsage};

/// Between two looks at nodes that do not hold the same yet.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Compare what the nodes of a mesh hold: cursors, chain hashes and digests.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  chartmesh verify                                  (the demo in ./demo-data)
  chartmesh verify --deep
  chartmesh verify --topology mesh.toml --tls tls --deep --json

Exit code 0: all nodes answer and hold the same. 1: they do not, or one does not answer.")]
pub(crate) struct Arguments {
    #[command(flatten)]
    mesh: mesh::Arguments,
    /// Let each node compute everything again from the bytes on its disk. It takes a while.
    #[arg(long)]
    deep: bool,
    /// The directory with operator.pem and operator.key, for --deep.
    #[arg(long, value_name = "DIR")]
    tls: Option<PathBuf>,
    /// For how many seconds to wait for nodes that are still receiving changes.
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    wait: u64,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

/// What was found.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Verdict {
    /// Whether all nodes answer and hold the same.
    pub(crate) equal: bool,
    /// What each node holds.
    pub(crate) nodes: Vec<Held>,
    /// The first difference.
    pub(crate) difference: Option<String>,
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
    /// Its resources.
    pub(crate) resources: u64,
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
    let wait = Duration::from_secs(arguments.wait);
    let verdict = verify(&mesh, wait, arguments.deep).await?;
    if arguments.json {
        terminal::print_json(&verdict)?;
    } else {
        terminal::print(report(&verdict));
    }
    Ok(if verdict.equal { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Compares what the nodes hold; `deep`: and what is on their disks.
pub(crate) async fn verify(mesh: &Mesh, wait: Duration, deep: bool) -> anyhow::Result<Verdict> {
    let mut verdict = compare(mesh, wait).await;
    if deep {
        verdict.deep = audit_all(mesh).await?;
        verdict.equal &= verdict.deep.values().all(|deep| deep.difference.is_none());
    }
    Ok(verdict)
}

/// Looks until all nodes hold the same, or until the time is over.
async fn compare(mesh: &Mesh, wait: Duration) -> Verdict {
    let end = Instant::now() + wait;
    loop {
        let seen = mesh.ask().await;
        let verdict = judge(&seen);
        if verdict.equal || Instant::now() >= end {
            return verdict;
        }
        sleep(LOOK_EVERY).await;
    }
}

fn judge(seen: &[Seen]) -> Verdict {
    let mut verdict = Verdict::default();
    let mut statuses = Vec::new();
    for seen in seen {
        match &seen.status {
            Ok(status) => statuses.push(status),
            Err(error) => {
                verdict.unreachable.insert(seen.target.name.clone(), error.clone());
            }
        }
    }
    let held = |status: &&Status| Held {
        node: status.node.clone(),
        resources: status.store.resources,
        changes: status.horizon.iter().map(|feed| feed.seq).sum(),
        digest: status.digest.clone(),
    };
    verdict.nodes = statuses.iter().map(held).collect();
    let first = statuses.first();
    verdict.difference =
        first.and_then(|first| statuses.iter().skip(1).find_map(|other| difference(first, other)));
    verdict.equal =
        verdict.unreachable.is_empty() && verdict.difference.is_none() && !statuses.is_empty();
    verdict
}

/// The first thing in which two nodes differ.
fn difference(one: &Status, other: &Status) -> Option<String> {
    let feeds = |status: &Status| -> BTreeMap<String, (u64, String)> {
        let feed =
            |feed: &chartmesh_ops::Feed| (feed.origin.clone(), (feed.seq, feed.hash.clone()));
        status.horizon.iter().map(feed).collect()
    };
    let (of_one, of_other) = (feeds(one), feeds(other));
    let (a, b) = (&one.node, &other.node);
    let nothing = (0, String::new());
    for origin in of_one.keys().chain(of_other.keys()) {
        let (seq_a, hash_a) = of_one.get(origin).unwrap_or(&nothing);
        let (seq_b, hash_b) = of_other.get(origin).unwrap_or(&nothing);
        if seq_a != seq_b {
            return Some(format!("feed {origin}: {a} holds {seq_a} changes, {b} holds {seq_b}"));
        }
        if hash_a != hash_b {
            return Some(format!(
                "feed {origin} is forked at or before change {seq_a}: its hash is {hash_a} at {a}, \
                 {hash_b} at {b}"
            ));
        }
    }
    let (digest_a, digest_b) = (&one.digest, &other.digest);
    (digest_a != digest_b).then(|| {
        format!("the same changes, but another state: digest {digest_a} at {a}, {digest_b} at {b}")
    })
}

/// Lets all nodes prove at the same time what they hold.
async fn audit_all(mesh: &Mesh) -> anyhow::Result<BTreeMap<String, Deep>> {
    let (Some(file), Some(tls)) = (&mesh.topology, &mesh.tls) else {
        let reason = "--deep speaks to the nodes' mesh ports: name the mesh with --cluster, or with \
                      --topology and --tls";
        return Err(WrongUsage(reason.to_owned()).into());
    };
    let topology = Arc::new(Topology::read(file)?);
    let audit = async |target: &mesh::Target| -> anyhow::Result<(String, Deep)> {
        let node = target.name.parse().with_context(|| format!("node {}", target.name))?;
        let mut told = Instant::now();
        let progress = |so_far: &Audited| {
            if told.elapsed() > Duration::from_secs(2) {
                told = Instant::now();
                let versions = grouped(so_far.versions);
                terminal::tell(format!("{node}: {versions} versions computed again"));
            }
        };
        let result = chartmesh_node::audit(&topology, tls, &node, progress).await;
        let audited = result.unwrap_or_else(|error| Audited {
            difference: Some(error.to_string()),
            ..Audited::default()
        });
        let Audited { changes, versions, difference, .. } = audited;
        Ok((target.name.clone(), Deep { changes, versions, difference }))
    };
    join_all(mesh.targets.iter().map(audit)).await.into_iter().collect()
}

/// What a person reads.
pub(crate) fn report(verdict: &Verdict) -> String {
    let mut text = match verdict.equal {
        true => format!("{} nodes hold the same.\n", verdict.nodes.len()),
        false => "The nodes do NOT hold the same, or it is not known.\n".to_owned(),
    };
    for (node, error) in &verdict.unreachable {
        text += &format!("  ! {node} does not answer: {error}\n");
    }
    if let Some(difference) = &verdict.difference {
        text += &format!("  ! {difference}\n");
    }
    for (node, deep) in &verdict.deep {
        if let Some(difference) = &deep.difference {
            text += &format!("  ! on the disk of {node}: {difference}\n");
        }
    }
    let mut table = terminal::table(["NODE", "RESOURCES", "CHANGES", "DIGEST", "FROM THE BYTES"]);
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
        let digest = held.digest.chars().take(16).collect();
        let (resources, changes) = (grouped(held.resources), grouped(held.changes));
        table.add_row([held.node.clone(), resources, changes, digest, proven]);
    }
    text + "\n" + &table.to_string()
}

#[cfg(test)]
mod tests {
    use chartmesh_ops::{Feed, Role, State, StoreSize};

    use super::*;
    use crate::mesh::Target;

    fn status(node: &str, feeds: &[(&str, u64, &str)], digest: &str) -> Seen {
        let feed = |&(origin, seq, hash): &(&str, u64, &str)| Feed {
            origin: origin.to_owned(),
            seq,
            hash: hash.to_owned(),
            as_of: None,
            age: None,
            closed: false,
        };
        let status = Status {
            node: node.to_owned(),
            region: "pac".to_owned(),
            site: "yokota".to_owned(),
            role: Role::Voter,
            version: "0.1.0".to_owned(),
            state: State::Region,
            leader: None,
            term: 1,
            horizon: feeds.iter().map(feed).collect(),
            digest: digest.to_owned(),
            silent: Vec::new(),
            peers: Vec::new(),
            pending: Vec::new(),
            conflicts: 0,
            held_back: Vec::new(),
            alarms: Vec::new(),
            store: StoreSize::default(),
        };
        Seen { target: target(node), status: Ok(status) }
    }

    fn target(node: &str) -> Target {
        Target { name: node.to_owned(), fhir: "http://127.0.0.1:8080/fhir".parse().unwrap() }
    }

    #[test]
    fn nodes_are_equal_only_if_all_answer_and_feeds_hashes_and_digests_agree() {
        let check =
            |one: &[(&str, u64, &str)], other: &[(&str, u64, &str)], digest, expect: &str| {
                let verdict = judge(&[status("a", one, "d1"), status("b", other, digest)]);
                assert_eq!(verdict.difference.as_deref().unwrap_or(""), expect);
                assert_eq!(verdict.equal, expect.is_empty());
            };
        check(&[("o", 3, "h")], &[("o", 3, "h")], "d1", "");
        check(&[("o", 3, "h")], &[("o", 2, "g")], "d1", "feed o: a holds 3 changes, b holds 2");
        check(&[("o", 3, "h")], &[], "d1", "feed o: a holds 3 changes, b holds 0");
        check(&[], &[("o", 3, "h")], "d1", "feed o: a holds 0 changes, b holds 3");
        check(
            &[("o", 3, "h")],
            &[("o", 3, "g")],
            "d1",
            "feed o is forked at or before change 3: its hash is h at a, g at b",
        );
        check(
            &[("o", 3, "h")],
            &[("o", 3, "h")],
            "d2",
            "the same changes, but another state: digest d1 at a, d2 at b",
        );
    }

    #[test]
    fn a_node_that_does_not_answer_is_not_equal() {
        let gone = Seen { target: target("b"), status: Err("cannot reach b".to_owned()) };

        let verdict = judge(&[status("a", &[], "d"), gone]);

        assert!(!verdict.equal);
        assert_eq!(verdict.unreachable["b"], "cannot reach b");
        assert!(report(&verdict).contains("! b does not answer: cannot reach b"));
        assert!(!judge(&[]).equal);
    }
}
