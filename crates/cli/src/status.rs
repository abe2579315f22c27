//! This module shows how the nodes of a mesh are: `chartmesh status`.
//!
//! It begins with the verdict and what is wrong, because whoever looks has been woken up.

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;

use chartmesh_ops::{State, Status};
use serde::Serialize;

use crate::mesh::{self, Seen};
use crate::terminal;

/// Show how the nodes of a mesh are.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  chartmesh status                                  (the demo in ./demo-data)
  chartmesh status --topology mesh.toml
  chartmesh status --to http://127.0.0.1:8080/fhir --json")]
pub(crate) struct Arguments {
    #[command(flatten)]
    mesh: mesh::Arguments,
    /// Print all that the nodes say, as JSON.
    #[arg(long)]
    json: bool,
}

/// One node in the JSON result.
#[derive(Serialize)]
struct Entry<'a> {
    name: &'a str,
    fhir: String,
    reachable: bool,
    error: Option<&'a str>,
    status: Option<&'a Status>,
}

/// Runs the command. It fails only if no node answers: that one does not is what it is there to say.
pub(crate) async fn command(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let seen = arguments.mesh.find()?.ask().await;
    if arguments.json {
        let nodes: Vec<Entry<'_>> = seen.iter().map(entry).collect();
        terminal::print_json(&serde_json::json!({ "nodes": nodes }))?;
    } else {
        terminal::print(report(&seen));
    }
    let answered = seen.iter().any(|seen| seen.status.is_ok());
    Ok(if answered { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn entry(seen: &Seen) -> Entry<'_> {
    Entry {
        name: &seen.target.name,
        fhir: seen.target.fhir.to_string(),
        reachable: seen.status.is_ok(),
        error: seen.status.as_ref().err().map(String::as_str),
        status: seen.status.as_ref().ok(),
    }
}

/// What a person reads.
fn report(seen: &[Seen]) -> String {
    let troubles = troubles(seen);
    let answering = seen.iter().filter(|seen| seen.status.is_ok()).count();
    let verdict = match troubles.len() {
        0 => format!("All is well: {answering} of {} nodes answer.", seen.len()),
        _ => format!("ATTENTION: {answering} of {} nodes answer.", seen.len()),
    };
    let mut text = verdict + "\n";
    for trouble in troubles {
        text += &format!("  ! {trouble}\n");
    }
    text + "\n" + &table(seen)
}

/// All that is not as it should be, the worst first.
fn troubles(seen: &[Seen]) -> Vec<String> {
    let mut troubles = Vec::new();
    for seen in seen {
        if let Err(error) = &seen.status {
            troubles.push(format!("{} does not answer: {error}", seen.target.name));
        }
    }
    let statuses: Vec<&Status> = seen.iter().filter_map(|seen| seen.status.as_ref().ok()).collect();
    let regions: BTreeSet<&str> = statuses.iter().map(|status| status.region.as_str()).collect();
    for region in regions {
        let led = statuses.iter().any(|status| status.region == region && status.leader.is_some());
        if !led {
            troubles.push(format!("region {region} has no leader: reads go on, writes wait"));
        }
    }
    for status in &statuses {
        match status.state {
            State::Region => {}
            State::Starting => {
                troubles.push(format!("{} has not heard from a quorum yet", status.node))
            }
            State::Isolated => {
                troubles.push(format!("{} is without its region's quorum", status.node))
            }
        }
        for alarm in &status.alarms {
            let (node, code, text, since) = (&status.node, &alarm.code, &alarm.text, &alarm.since);
            troubles.push(format!("{node}: {text} [{code}, since {since}]"));
        }
        for held in &status.held_back {
            let (origin, seq, reason) = (&held.origin, held.seq, &held.reason);
            troubles.push(format!("{} holds back {origin} from {seq} on: {reason}", status.node));
        }
    }
    troubles
}

fn table(seen: &[Seen]) -> String {
    let newest = newest(seen);
    let mut table = terminal::table([
        "NODE",
        "SITE",
        "STATE",
        "LEADER",
        "CHANGES",
        "BEHIND",
        "AS OF",
        "RESOURCES",
        "CONFLICTS",
        "FHIR",
    ]);
    for seen in seen {
        let fhir = seen.target.fhir.to_string();
        let Ok(status) = &seen.status else {
            let none = ["", "NO ANSWER", "", "", "", "", "", ""].map(str::to_owned);
            let cells = [seen.target.name.clone()].into_iter().chain(none).chain([fhir]);
            table.add_row(cells.collect::<Vec<_>>());
            continue;
        };
        let held: u64 = status.horizon.iter().map(|feed| feed.seq).sum();
        let age = status.horizon.iter().filter_map(|feed| feed.age).reduce(f64::max);
        table.add_row([
            status.node.clone(),
            status.site.clone(),
            state(status.state).to_owned(),
            if status.leader.as_ref() == Some(&status.node) { "leads" } else { "" }.to_owned(),
            grouped(held),
            grouped(behind(status, &newest)),
            age.map_or_else(|| "never".to_owned(), |age| format!("{age:.1} s ago")),
            grouped(status.store.resources),
            grouped(status.conflicts),
            fhir,
        ]);
    }
    table.to_string()
}

fn state(state: State) -> &'static str {
    match state {
        State::Starting => "starting",
        State::Region => "region",
        State::Isolated => "ISOLATED",
    }
}

/// Per feed, the furthest that any node holds.
fn newest(seen: &[Seen]) -> BTreeMap<&str, u64> {
    let mut newest = BTreeMap::new();
    let feeds = seen.iter().filter_map(|seen| seen.status.as_ref().ok()).flat_map(|s| &s.horizon);
    for feed in feeds {
        let held = newest.entry(feed.origin.as_str()).or_insert(0);
        *held = feed.seq.max(*held);
    }
    newest
}

fn behind(status: &Status, newest: &BTreeMap<&str, u64>) -> u64 {
    let held = |origin: &str| {
        status.horizon.iter().find(|feed| feed.origin == origin).map_or(0, |feed| feed.seq)
    };
    newest.iter().map(|(origin, &seq)| seq - held(origin)).sum()
}

/// A number that is readable when it is long: 1,234,567.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.char_indices() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use chartmesh_ops::{Alarm, Feed, Role, StoreSize};

    use super::*;
    use crate::mesh::Target;

    fn seen(node: &str, seq: u64) -> Seen {
        let feed = Feed {
            origin: "pac.0000000000".to_owned(),
            seq,
            hash: "00".repeat(32),
            as_of: Some("2026-11-21T20:00:01.204Z".to_owned()),
            age: Some(0.42),
            closed: false,
        };
        let status = Status {
            node: node.to_owned(),
            region: "pac".to_owned(),
            site: "yokota".to_owned(),
            role: Role::Voter,
            version: "0.1.0".to_owned(),
            state: State::Region,
            leader: Some("pac-1".to_owned()),
            term: 3,
            horizon: vec![feed],
            digest: "00".repeat(32),
            silent: Vec::new(),
            peers: Vec::new(),
            pending: Vec::new(),
            conflicts: 0,
            held_back: Vec::new(),
            alarms: Vec::new(),
            store: StoreSize { resources: 8_460, versions: 9_001, bytes: 12_345_678 },
        };
        Seen { target: target(node), status: Ok(status) }
    }

    fn target(node: &str) -> Target {
        Target { name: node.to_owned(), fhir: "http://127.0.0.1:8080/fhir".parse().unwrap() }
    }

    #[test]
    fn says_that_all_is_well_when_it_is() {
        let text = report(&[seen("pac-1", 1_421), seen("pac-2", 1_421)]);

        insta::assert_snapshot!(trimmed(&text));
    }

    #[test]
    fn begins_with_what_is_wrong_and_what_it_means() {
        let mut isolated = seen("pac-2", 1_400);
        let status = isolated.status.as_mut().unwrap();
        status.state = State::Isolated;
        status.leader = None;
        status.alarms.push(Alarm {
            code: "certificate-ends".to_owned(),
            text: "the certificate of pac-2 ends on 2026-12-01".to_owned(),
            since: "2026-11-01T00:00:00.000Z".to_owned(),
        });
        let gone = Seen {
            target: target("pac-3"),
            status: Err("cannot reach 127.0.0.1:8082: Connection refused".to_owned()),
        };
        let mut leaderless = seen("pac-1", 1_421);
        leaderless.status.as_mut().unwrap().leader = None;

        let text = report(&[leaderless, isolated, gone]);

        insta::assert_snapshot!(trimmed(&text));
    }

    #[test]
    fn long_numbers_are_grouped() {
        for (number, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(number), text);
        }
    }

    /// Without the spaces with which a table ends its lines.
    fn trimmed(text: &str) -> String {
        text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
    }
}
