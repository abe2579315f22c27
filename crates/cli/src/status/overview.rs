//! This module lays out a mesh in tables: its regions, its nodes, its alarms.

use std::collections::{BTreeMap, BTreeSet};

use chartmesh_ops::{Role, State, Status};

use super::trouble::pending_by_feed;
use super::{grouped, span};
use crate::mesh::Seen;
use crate::terminal;

/// The tables that have rows.
pub(crate) fn tables(seen: &[Seen]) -> Vec<String> {
    let statuses: Vec<&Status> = seen.iter().filter_map(|seen| seen.status.as_ref().ok()).collect();
    [Some(regions(seen, &statuses)), Some(nodes(seen, &statuses)), alarms(&statuses)]
        .into_iter()
        .flatten()
        .collect()
}

fn regions(seen: &[Seen], statuses: &[&Status]) -> String {
    let named = seen.iter().filter_map(|seen| seen.target.region.as_deref());
    let known = statuses.iter().flat_map(|status| &status.regions).map(|it| it.region.as_str());
    let own = statuses.iter().map(|status| status.region.as_str());
    let names: BTreeSet<&str> = named.chain(known).chain(own).collect();
    let header =
        ["REGION", "LEADER", "TERM", "NODES UP", "KNOWN AS OF", "PENDING", "OLDEST", "CONFLICTS"];
    let mut table = terminal::table(header);
    for region in names {
        let members: Vec<&&Status> = statuses.iter().filter(|it| it.region == region).collect();
        let all = seen.iter().filter(|seen| region_of(seen) == Some(region)).count();
        let leads = members.iter().filter(|it| it.state == State::Region && it.leader.is_some());
        let leads = leads.max_by_key(|status| status.term);
        let leader = leads.and_then(|status| status.leader.clone());
        let pending = pending_by_feed(&members.iter().map(|status| **status).collect::<Vec<_>>());
        let changes: u64 = pending.values().map(|pending| pending.changes).sum();
        let oldest = pending.values().map(|pending| pending.oldest_age).reduce(f64::max);
        let conflicts = members.iter().map(|status| status.conflicts).max();
        // Of a region nobody of which was asked nothing is known, and nothing is wrong.
        let known = all.max(members.len());
        let none = if known == 0 { "?" } else { "NONE" };
        table.add_row([
            region.to_owned(),
            leader.unwrap_or_else(|| none.to_owned()),
            leads.map_or_else(String::new, |status| status.term.to_string()),
            if known == 0 { "?".to_owned() } else { format!("{} of {known}", members.len()) },
            age(region, statuses),
            if members.is_empty() { "?".to_owned() } else { grouped(changes) },
            oldest.map_or_else(String::new, span),
            conflicts.map_or_else(|| "?".to_owned(), grouped),
        ]);
    }
    table.to_string()
}

/// Up to when what a region decided is known at the node that knows least of it.
fn age(region: &str, statuses: &[&Status]) -> String {
    let ages = statuses.iter().flat_map(|it| &it.regions).filter(|age| age.region == region);
    let ages: Vec<Option<f64>> = ages.map(|age| age.age).collect();
    if ages.is_empty() {
        return "?".to_owned();
    }
    let worst = ages.into_iter().reduce(|one, other| Some(one?.max(other?))).flatten();
    worst.map_or_else(|| "never".to_owned(), |age| format!("{} ago", span(age)))
}

fn region_of(seen: &Seen) -> Option<&str> {
    let told = seen.status.as_ref().ok().map(|status| status.region.as_str());
    told.or(seen.target.region.as_deref())
}

fn nodes(seen: &[Seen], statuses: &[&Status]) -> String {
    let newest = newest(statuses);
    let header =
        ["NODE", "REGION", "SITE", "STATE", "BEHIND", "LINKS", "RTT", "CLOCK", "RESOURCES", "FHIR"];
    let mut table = terminal::table(header);
    for seen in seen {
        let fhir = seen.target.fhir.authority().to_owned();
        let region = region_of(seen).unwrap_or_default().to_owned();
        let Ok(status) = &seen.status else {
            let none = ["", "NO ANSWER", "", "", "", "", ""].map(str::to_owned);
            let cells = [seen.target.name.clone(), region].into_iter().chain(none).chain([fhir]);
            table.add_row(cells.collect::<Vec<_>>());
            continue;
        };
        let reachable = status.peers.iter().filter(|peer| peer.reachable);
        let rtt = reachable.clone().filter_map(|peer| peer.rtt_ms).reduce(f64::max);
        table.add_row([
            status.node.clone(),
            region,
            status.site.clone(),
            state(status).to_owned(),
            grouped(behind(status, &newest)),
            format!("{}/{}", reachable.count(), status.peers.len()),
            rtt.map_or_else(String::new, |rtt| format!("{rtt:.1} ms")),
            clock(&status.node, statuses).map_or_else(String::new, |ms| format!("{ms:+.0} ms")),
            grouped(status.store.resources),
            fhir,
        ]);
    }
    table.to_string()
}

fn state(status: &Status) -> &'static str {
    let leads = status.leader.as_ref() == Some(&status.node);
    match (status.state, status.role) {
        (State::Starting, _) => "starting",
        (State::Isolated, _) => "ISOLATED",
        (State::Region, _) if leads => "leads",
        (State::Region, Role::Voter) => "votes",
        (State::Region, Role::Mirror) => "mirrors",
    }
}

/// How far a node's clock is ahead, in milliseconds: the middle of what the others measured.
fn clock(node: &str, statuses: &[&Status]) -> Option<f64> {
    let peers = statuses.iter().flat_map(|status| &status.peers);
    let told = peers.filter(|peer| peer.node == node && peer.reachable);
    let mut offsets: Vec<f64> = told.filter_map(|peer| peer.clock_offset_ms).collect();
    offsets.sort_by(f64::total_cmp);
    offsets.get(offsets.len() / 2).copied()
}

/// Per feed, the furthest that any node holds.
fn newest<'s>(statuses: &[&'s Status]) -> BTreeMap<&'s str, u64> {
    let mut newest = BTreeMap::new();
    for feed in statuses.iter().flat_map(|status| &status.horizon) {
        let held = newest.entry(feed.origin.as_str()).or_insert(0);
        *held = feed.seq.max(*held);
    }
    newest
}

/// The change sets that any node holds or knows of and this one does not hold.
fn behind(status: &Status, newest: &BTreeMap<&str, u64>) -> u64 {
    let feed = |origin: &str| status.horizon.iter().find(|feed| feed.origin == origin);
    let missing = |(origin, &seq): (&&str, &u64)| match feed(origin) {
        Some(feed) => feed.behind.max(seq.saturating_sub(feed.seq)),
        None => seq,
    };
    newest.iter().map(missing).sum()
}

fn alarms(statuses: &[&Status]) -> Option<String> {
    let mut table = terminal::table(["ALARM", "NODE", "SINCE"]);
    let mut rows: Vec<[&str; 3]> = Vec::new();
    for status in statuses {
        for alarm in &status.alarms {
            rows.push([&alarm.code, &status.node, &alarm.since]);
        }
    }
    rows.sort_unstable();
    for row in &rows {
        table.add_row(*row);
    }
    (!rows.is_empty()).then(|| table.to_string())
}
