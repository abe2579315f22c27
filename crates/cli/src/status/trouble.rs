//! This module finds what is wrong in a mesh, from what its nodes say of themselves and of each other.
//!
//! What several nodes say alike is told once. What follows from something else that is told is left
//! out: the nodes of a region that does not answer at all are not listed one by one.

use std::collections::{BTreeMap, BTreeSet};

use chartmesh_ops::{State, Status};
use serde::Serialize;

use super::advice::advice;
use super::{grouped, span};
use crate::mesh::Seen;

/// What is known of a region by a node that is in touch is at the most so old, in seconds.
const FRESH_S: f64 = 10.0;

/// Changes that nobody outside holds after so many seconds are told.
const PENDING_S: f64 = 10.0;

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Trouble {
    /// Whether somebody should do something.
    pub(crate) grave: bool,
    /// What is seen.
    pub(crate) what: String,
    /// What that means.
    pub(crate) means: String,
    /// What to do.
    #[serde(rename = "do")]
    pub(crate) action: String,
}

impl Trouble {
    fn new(what: String, means: &str, action: &str) -> Self {
        Self { grave: true, what, means: means.to_owned(), action: action.to_owned() }
    }
}

/// All that is not as it should be, the worst first.
pub(crate) fn find(seen: &[Seen]) -> Vec<Trouble> {
    let statuses: Vec<&Status> = seen.iter().filter_map(|seen| seen.status.as_ref().ok()).collect();
    let lost = lost_regions(seen);
    let mut troubles = regions(seen, &lost);
    troubles.extend(unreachable(seen, &lost));
    troubles.extend(leaderless(seen, &statuses));
    troubles.extend(alarms(&statuses));
    troubles.extend(states(&statuses));
    troubles.extend(silent(&statuses));
    troubles.extend(held_back(&statuses));
    troubles.extend(pending(&statuses));
    troubles.extend(stale(&statuses, &lost));
    troubles.extend(links(&statuses));
    troubles.extend(conflicts(&statuses));
    troubles
}

/// Regions of which several nodes are known and none answers.
fn lost_regions(seen: &[Seen]) -> BTreeSet<&str> {
    let mut nodes: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for seen in seen {
        if let Some(region) = &seen.target.region {
            let (all, gone) = nodes.entry(region).or_default();
            *all += 1;
            *gone += usize::from(seen.status.is_err());
        }
    }
    let lost = nodes.into_iter().filter(|(_, (all, gone))| all == gone && *all > 1);
    lost.map(|(region, _)| region).collect()
}

fn is_in(seen: &Seen, regions: &BTreeSet<&str>) -> bool {
    seen.target.region.as_deref().is_some_and(|region| regions.contains(region))
}

fn regions(seen: &[Seen], lost: &BTreeSet<&str>) -> Vec<Trouble> {
    let trouble = |region: &&str| {
        let nodes = seen.iter().filter(|seen| seen.target.region.as_deref() == Some(region));
        let reasons: BTreeSet<String> = nodes.filter_map(reason).collect();
        let reasons: Vec<String> = reasons.into_iter().collect();
        Trouble::new(
            format!("region {region}: none of its nodes answers ({})", reasons.join("; ")),
            "its records are served and changed in the other regions, from their copies; what it \
             took last may not have reached them",
            "start its nodes again; they bring what they hold, and nothing has to be decided first",
        )
    };
    lost.iter().map(trouble).collect()
}

/// Why a node does not answer, without its address, so that equal reasons are told once.
fn reason(seen: &Seen) -> Option<String> {
    let error = seen.status.as_ref().err()?;
    Some(error.replace(seen.target.fhir.authority(), "it"))
}

fn unreachable(seen: &[Seen], lost: &BTreeSet<&str>) -> Vec<Trouble> {
    let mut by_reason: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for seen in seen.iter().filter(|seen| !is_in(seen, lost)) {
        if let Some(reason) = reason(seen) {
            by_reason.entry(reason).or_default().push(&seen.target.name);
        }
    }
    let trouble = |(reason, nodes): (String, Vec<&str>)| {
        Trouble::new(
            format!(
                "{} {}: {reason}",
                names(&nodes),
                verb(&nodes, "does not answer", "do not answer")
            ),
            "the others go on; what only this disk holds, if anything, waits on it",
            "is the process running, and can this machine reach it?",
        )
    };
    by_reason.into_iter().map(trouble).collect()
}

/// Regions of which some node answers and none is in touch with a majority.
fn leaderless(seen: &[Seen], statuses: &[&Status]) -> Vec<Trouble> {
    let regions: BTreeSet<&str> = statuses.iter().map(|status| status.region.as_str()).collect();
    let mut troubles = Vec::new();
    for region in regions {
        let answering: Vec<_> = statuses.iter().filter(|status| status.region == region).collect();
        if answering.iter().any(|status| status.state == State::Region) {
            continue;
        }
        let known =
            seen.iter().filter(|seen| seen.target.region.as_deref() == Some(region)).count();
        let all = known.max(answering.len());
        troubles.push(Trouble::new(
            format!(
                "region {region} has no majority: {} of its {all} nodes {}",
                answering.len(),
                if answering.len() == 1 { "answers" } else { "answer" },
            ),
            "its nodes serve reads, and each that is isolated takes writes into a journal of its own",
            "bring a majority of its voters back, and the links between them",
        ));
    }
    troubles
}

/// Alarms by their code and text: several nodes may say the same.
fn alarms(statuses: &[&Status]) -> Vec<Trouble> {
    let mut groups: BTreeMap<(&str, &str), (Vec<&str>, &str)> = BTreeMap::new();
    for status in statuses {
        for alarm in &status.alarms {
            let group = groups.entry((&alarm.code, &alarm.text));
            let (nodes, since) = group.or_insert_with(|| (Vec::new(), &alarm.since));
            nodes.push(&status.node);
            *since = (*since).min(&alarm.since);
        }
    }
    let trouble = |((code, text), (nodes, since)): ((&str, &str), (Vec<&str>, &str))| {
        let (means, action) = advice(code)
            .map_or(("", "docs/operations.md says more under this code"), |advice| {
                (advice.means, advice.action)
            });
        let what = format!("{}: {text} [{code}, since {since}]", names(&nodes));
        Trouble::new(what, means, action)
    };
    groups.into_iter().map(trouble).collect()
}

/// Nodes that are not in touch and have no alarm that says so.
fn states(statuses: &[&Status]) -> Vec<Trouble> {
    let starting = |status: &&&Status| status.state == State::Starting;
    let nodes: Vec<&str> =
        statuses.iter().filter(starting).map(|status| status.node.as_str()).collect();
    if nodes.is_empty() {
        return Vec::new();
    }
    vec![Trouble::new(
        format!("{} {} not heard from a majority yet", names(&nodes), verb(&nodes, "has", "have")),
        "reads are served, writes wait for a few seconds until this is known",
        "if it lasts: is the region founded (`serve --found`, once, at one of its nodes)?",
    )]
}

/// Nodes that others call silent, unless they answer here and say so themselves.
fn silent(statuses: &[&Status]) -> Vec<Trouble> {
    let mut silent: BTreeMap<&str, f64> = BTreeMap::new();
    for node in statuses.iter().flat_map(|status| &status.silent) {
        let age = silent.entry(&node.node).or_insert(node.age);
        *age = age.min(node.age);
    }
    silent.retain(|node, _| {
        let isolated = |status: &&Status| status.node == *node && status.state == State::Isolated;
        !statuses.iter().any(isolated)
    });
    let trouble = |(node, age): (&str, f64)| {
        Trouble::new(
            format!("{node} has been silent for {}", span(age)),
            "it may be writing a journal that has not arrived: reads elsewhere say so in \
             Chartmesh-As-Of",
            "bring it or its links back; what it wrote arrives by itself",
        )
    };
    silent.into_iter().map(trouble).collect()
}

/// Changes that cannot be applied, where no alarm says so.
fn held_back(statuses: &[&Status]) -> Vec<Trouble> {
    let mut groups: BTreeMap<(&str, u64, &str), Vec<&str>> = BTreeMap::new();
    for status in statuses {
        if status.alarms.iter().any(|alarm| alarm.code == "format") {
            continue;
        }
        for held in &status.held_back {
            let group = groups.entry((&held.origin, held.seq, &held.reason)).or_default();
            group.push(&status.node);
        }
    }
    let trouble = |((origin, seq, reason), nodes): ((&str, u64, &str), Vec<&str>)| {
        Trouble::new(
            format!("{} cannot apply {origin} from change {seq} on: {reason}", names(&nodes)),
            "reads there lack these changes; they are kept and passed on",
            "see `format` and `fork` in docs/operations.md",
        )
    };
    groups.into_iter().map(trouble).collect()
}

/// What stays where it was written, by feed: at the most as many as any node says.
pub(crate) fn pending_by_feed<'s>(
    statuses: &[&'s Status],
) -> BTreeMap<&'s str, &'s chartmesh_ops::Pending> {
    let mut pending: BTreeMap<&str, &chartmesh_ops::Pending> = BTreeMap::new();
    for told in statuses.iter().flat_map(|status| &status.pending) {
        let most = pending.entry(&told.origin).or_insert(told);
        if told.changes > most.changes {
            *most = told;
        }
    }
    pending
}

fn pending(statuses: &[&Status]) -> Vec<Trouble> {
    let old = pending_by_feed(statuses).into_values().filter(|it| it.oldest_age > PENDING_S);
    let trouble = |pending: &chartmesh_ops::Pending| {
        let changes = pending.changes;
        Trouble::new(
            format!(
                "{} {} of {} {} nowhere else yet, the oldest for {}; copies on {} {}",
                grouped(changes),
                if changes == 1 { "change" } else { "changes" },
                pending.origin,
                if changes == 1 { "is" } else { "are" },
                span(pending.oldest_age),
                pending.copies,
                if pending.copies == 1 { "disk" } else { "disks" },
            ),
            "if these disks are lost now, these changes are",
            "bring the links out of there back; it goes out by itself",
        )
    };
    old.map(trouble).collect()
}

/// Regions that answer, of which other nodes know only what is old.
fn stale(statuses: &[&Status], lost: &BTreeSet<&str>) -> Vec<Trouble> {
    let mut groups: BTreeMap<&str, (Vec<&str>, Option<f64>)> = BTreeMap::new();
    let in_touch = statuses.iter().filter(|status| status.state == State::Region);
    for status in in_touch {
        for region in status.regions.iter().filter(|it| !lost.contains(it.region.as_str())) {
            if region.age.is_some_and(|age| age <= FRESH_S) {
                continue;
            }
            let (nodes, oldest) = groups.entry(&region.region).or_insert((Vec::new(), Some(0.0)));
            nodes.push(&status.node);
            *oldest = oldest.zip(region.age).map(|(oldest, age)| oldest.max(age));
        }
    }
    let trouble = |(region, (nodes, oldest)): (&str, (Vec<&str>, Option<f64>))| {
        let known = oldest.map_or_else(
            || "not know it at all".to_owned(),
            |age| format!("know it as of up to {} ago", span(age)),
        );
        Trouble::new(
            format!("region {region}: {} {known}", names(&nodes)),
            "reads there may lack what it has decided since",
            "look at the links between the regions",
        )
    };
    groups.into_iter().map(trouble).collect()
}

/// Links that have worked and do not: nodes that both answer here and do not hear of each other. Those
/// that are isolated have said so.
fn links(statuses: &[&Status]) -> Vec<Trouble> {
    let connected = statuses.iter().filter(|status| status.state != State::Isolated);
    let answering: BTreeSet<&str> = connected.clone().map(|status| status.node.as_str()).collect();
    let mut cut: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for status in connected {
        for peer in &status.peers {
            let both = answering.contains(peer.node.as_str());
            if both && !peer.reachable && peer.rtt_ms.is_some() {
                cut.entry(&status.node).or_default().push(&peer.node);
            }
        }
    }
    let trouble = |(node, others): (&str, Vec<&str>)| {
        Trouble::new(
            format!("{node} hears nothing of {}", names(&others)),
            "what one has reaches the other over third nodes, if there is a way",
            "look at the network between them, and at the logs of both for refused certificates",
        )
    };
    cut.into_iter().map(trouble).collect()
}

/// Conflicts are no fault: somebody has to look at the records.
fn conflicts(statuses: &[&Status]) -> Option<Trouble> {
    let most = statuses.iter().map(|status| status.conflicts).max().filter(|&most| most > 0)?;
    let (noun, verb) = if most == 1 { ("conflict", "is") } else { ("conflicts", "are") };
    Some(Trouble {
        grave: false,
        what: format!("{} {noun} {verb} open", grouped(most)),
        means: "records that were changed on two sides; all versions are kept and shown".to_owned(),
        action: "somebody who knows the patients resolves them: GET [base]/$conflicts".to_owned(),
    })
}

fn verb<'v>(nodes: &[&str], one: &'v str, several: &'v str) -> &'v str {
    if nodes.len() == 1 { one } else { several }
}

fn names(nodes: &[&str]) -> String {
    nodes.join(", ")
}
