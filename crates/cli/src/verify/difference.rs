//! This module finds the first thing in which nodes differ, from what each says that it holds.

use std::collections::{BTreeMap, BTreeSet};

use chartmesh_ops::Status;
use serde::Serialize;

use crate::status::grouped;

/// Something in which nodes differ.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Difference {
    /// In what.
    pub(crate) kind: Kind,
    /// The feed, unless it is the state.
    pub(crate) origin: Option<String>,
    /// Of a fork: the first change set that is not the same, as far as that is known. Of a feed that
    /// is not held equally far: the first that somebody lacks.
    pub(crate) seq: Option<u64>,
    /// What each node holds: of a feed how far, with the hash there; of the state its digest.
    pub(crate) held: BTreeMap<String, Place>,
    /// The same in words.
    pub(crate) text: String,
}

/// In what nodes differ, the worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// One feed has two histories.
    Fork,
    /// A feed is not held equally far everywhere: changes are on their way, or do not come.
    Behind,
    /// Equal feeds, and not the same state made of them.
    State,
}

/// How far a node holds something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Place {
    /// The last change set held; 0 of a state.
    pub(crate) seq: u64,
    /// The chain hash there, or the digest.
    pub(crate) hash: String,
}

/// The first difference between these nodes.
pub(crate) fn first(statuses: &[&Status]) -> Option<Difference> {
    let feeds = feeds(statuses);
    let forked = feeds.iter().find_map(|(origin, held)| forked(origin, held));
    forked
        .or_else(|| feeds.iter().find_map(|(origin, held)| behind(origin, held)))
        .or_else(|| state(statuses))
}

/// What each node holds of each feed that any holds.
pub(crate) fn feeds<'s>(statuses: &[&'s Status]) -> BTreeMap<&'s str, BTreeMap<String, Place>> {
    let origins: BTreeSet<&str> = statuses
        .iter()
        .flat_map(|status| &status.horizon)
        .filter(|feed| feed.seq > 0)
        .map(|feed| feed.origin.as_str())
        .collect();
    let place = |status: &Status, origin: &str| {
        let feed = status.horizon.iter().find(|feed| feed.origin == origin && feed.seq > 0);
        feed.map_or_else(
            || Place { seq: 0, hash: String::new() },
            |feed| Place { seq: feed.seq, hash: feed.hash.clone() },
        )
    };
    let held = |origin: &str| {
        statuses.iter().map(|status| (status.node.clone(), place(status, origin))).collect()
    };
    origins.into_iter().map(|origin| (origin, held(origin))).collect()
}

/// Two nodes hold a feed equally far, and not the same.
fn forked(origin: &str, held: &BTreeMap<String, Place>) -> Option<Difference> {
    let mut hashes: BTreeMap<u64, &str> = BTreeMap::new();
    let place = held
        .values()
        .find(|place| *hashes.entry(place.seq).or_insert(&place.hash) != place.hash)?;
    let seq = place.seq;
    let there: BTreeMap<String, Place> = held
        .iter()
        .filter(|(_, place)| place.seq == seq)
        .map(|(node, place)| (node.clone(), place.clone()))
        .collect();
    let hashes = by(&there, |place| short(&place.hash));
    Some(Difference {
        text: format!("feed {origin} is forked at or before change {seq}: its hash is {hashes}"),
        kind: Kind::Fork,
        origin: Some(origin.to_owned()),
        seq: None,
        held: there,
    })
}

/// A feed that has two histories, the first change that is not the same, and the hashes there.
pub(crate) fn fork(origin: &str, seq: u64, hashes: BTreeMap<String, String>) -> Difference {
    let held: BTreeMap<String, Place> =
        hashes.into_iter().map(|(node, hash)| (node, Place { seq, hash })).collect();
    let hashes = by(&held, |place| short(&place.hash));
    Difference {
        text: format!("feed {origin} is forked at change {seq}: its hash is {hashes}"),
        kind: Kind::Fork,
        origin: Some(origin.to_owned()),
        seq: Some(seq),
        held,
    }
}

fn behind(origin: &str, held: &BTreeMap<String, Place>) -> Option<Difference> {
    let least = held.values().map(|place| place.seq).min()?;
    if held.values().all(|place| place.seq == least) {
        return None;
    }
    let far = by(held, |place| format!("{} changes", grouped(place.seq)));
    Some(Difference {
        text: format!("feed {origin} is not held equally far: {far}"),
        kind: Kind::Behind,
        origin: Some(origin.to_owned()),
        seq: Some(least + 1),
        held: held.clone(),
    })
}

fn state(statuses: &[&Status]) -> Option<Difference> {
    let place = |status: &&Status| Place { seq: 0, hash: status.digest.clone() };
    let held: BTreeMap<String, Place> =
        statuses.iter().map(|status| (status.node.clone(), place(status))).collect();
    let first = &statuses.first()?.digest;
    if held.values().all(|place| place.hash == *first) {
        return None;
    }
    let digests = by(&held, |place| short(&place.hash));
    Some(Difference {
        text: format!("the same changes, but not the same state: the digest is {digests}"),
        kind: Kind::State,
        origin: None,
        seq: None,
        held,
    })
}

/// `this at a, b; that at c`: the nodes by what they hold.
fn by(held: &BTreeMap<String, Place>, show: impl Fn(&Place) -> String) -> String {
    let mut groups: Vec<(&Place, Vec<&str>)> = Vec::new();
    for (node, place) in held {
        match groups.iter_mut().find(|(known, _)| *known == place) {
            Some((_, nodes)) => nodes.push(node),
            None => groups.push((place, vec![node])),
        }
    }
    let group =
        |(place, nodes): (&Place, Vec<&str>)| format!("{} at {}", show(place), nodes.join(", "));
    groups.into_iter().map(group).collect::<Vec<_>>().join("; ")
}

fn short(hash: &str) -> String {
    hash.chars().take(16).collect()
}
