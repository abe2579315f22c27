//! This module says how fresh what this node holds is, region by region.
//!
//! A statement comes with its age. The age goes on from the moment at which the question was *sent*,
//! by the clock that has moved further, and is told on with what was added: nobody makes it
//! smaller. A statement is shown once the node holds all that it is about.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use chartmesh_record::{AsOf, RegionName, Statement, mutant};
use chartmesh_wire::proto;
use chartmesh_wire::{decode_aged, decode_note, encode_aged, encode_note};

use crate::core::{Core, Moment, lock};
use crate::limits::CANDIDATES;
use crate::status::{Freshness, RegionFreshness, SilentFreshness};

/// What is known of the regions' statements.
#[derive(Debug, Default)]
pub(crate) struct Table(BTreeMap<RegionName, Entry>);

#[derive(Debug, Default)]
struct Entry {
    /// Those whose changes this node does not hold yet, the newest last.
    candidates: VecDeque<Known>,
    shown: Option<Known>,
}

/// A statement, and how old it was at some moment.
#[derive(Clone, Debug)]
struct Known {
    statement: Statement,
    at: Moment,
    age: Duration,
}

impl Known {
    fn age_now(&self, core: &Core) -> Duration {
        self.age + core.since(self.at)
    }

    /// Whether the node holds all that it is about: the feed, and what else its region has ordered.
    fn is_held(&self, core: &Core) -> bool {
        let region = self.statement.region();
        let store = &core.setup.store;
        let held =
            |cursor: &chartmesh_record::Cursor| store.cursor(&cursor.origin).seq >= cursor.seq;
        let own = |cursor: &&chartmesh_record::Cursor| {
            core.region_of(&cursor.origin).as_ref() == Some(&region)
        };
        held(&self.statement.feed)
            && (mutant("statement-before-its-journals")
                || self.statement.holds.iter().filter(own).all(held))
    }
}

impl Entry {
    fn settle(&mut self, core: &Core) {
        let held = self.candidates.iter().rposition(|candidate| candidate.is_held(core));
        if let Some(place) = held {
            self.shown = self.candidates.drain(..=place).next_back();
        }
    }

    fn newest(&self) -> Option<&Known> {
        self.candidates.back().or(self.shown.as_ref())
    }
}

/// Takes in a statement that had this age when a question was sent.
pub(crate) fn learn(core: &Core, statement: Statement, asked: Moment, age: Duration) {
    let region = statement.region();
    if !core.setup.regions.contains(&region) {
        return;
    }
    let known = Known { statement, at: asked, age };
    let mut table = lock(&core.freshness);
    let entry = table.0.entry(region).or_default();
    entry.settle(core);
    let fresher = |newest: &Known| newest.age_now(core) <= known.age_now(core);
    if entry.newest().is_some_and(fresher) {
        return;
    }
    if entry.candidates.len() == CANDIDATES {
        entry.candidates.pop_back();
    }
    entry.candidates.push_back(known);
    entry.settle(core);
}

/// The statements that this node shows, with their ages now.
fn shown(core: &Core) -> BTreeMap<RegionName, (Statement, Duration)> {
    let mut shown = BTreeMap::new();
    {
        let mut table = lock(&core.freshness);
        for (region, entry) in &mut table.0 {
            entry.settle(core);
            if let Some(known) = &entry.shown {
                shown.insert(region.clone(), (known.statement.clone(), known.age_now(core)));
            }
        }
    }
    if let Some((statement, age)) = core.setup.orderer.stated() {
        let own = shown.entry(core.setup.region.clone());
        let own = own.or_insert_with(|| (statement.clone(), age));
        if age < own.1 {
            *own = (statement, age);
        }
    }
    shown
}

/// What is told to a peer: what this node shows, as old as it is.
pub(crate) fn told(core: &Core) -> Vec<proto::AgedStatement> {
    let aged = |(statement, age): (Statement, Duration)| {
        let age = if mutant("age-dropped-by-relay") { Duration::ZERO } else { age };
        encode_aged(&statement, age)
    };
    shown(core).into_values().map(aged).collect()
}

/// How fresh everything is.
pub(crate) fn look(core: &Core) -> Freshness {
    let mut shown = shown(core);
    let mut silent = Vec::new();
    for (region, (statement, age)) in &shown {
        for node in &statement.silent {
            if node.node == core.setup.me {
                continue;
            }
            let before = statement.at.0.saturating_sub(node.since.0);
            let before = Duration::from_millis(u64::try_from(before).unwrap_or(0));
            silent.push(SilentFreshness {
                node: node.node.clone(),
                region: region.clone(),
                as_of: AsOf { instant: node.since, age: *age + before },
            });
        }
    }
    if core.setup.orderer.isolated_since().is_some() {
        silent.push(SilentFreshness {
            node: core.setup.me.clone(),
            region: core.setup.region.clone(),
            as_of: AsOf { instant: core.setup.clock.wall(), age: Duration::ZERO },
        });
    }
    silent.sort_by(|one, other| one.node.cmp(&other.node));
    let regions = core.setup.regions.iter().map(|region| RegionFreshness {
        region: region.clone(),
        as_of: shown.remove(region).map(|(statement, age)| AsOf { instant: statement.at, age }),
    });
    let mut regions: Vec<_> = regions.collect();
    regions.sort_by(|one, other| one.region.cmp(&other.region));
    Freshness { regions, silent }
}

/// The present feed of each region, as far as it is known.
pub(crate) fn present(core: &Core) -> BTreeMap<RegionName, Statement> {
    shown(core).into_iter().map(|(region, (statement, _))| (region, statement)).collect()
}

/// How fresh everything is, for the disk.
pub(crate) fn note(core: &Core) -> bytes::Bytes {
    let wall = core.setup.clock.wall().0;
    let statements = shown(core).into_values();
    let statements = statements.map(|(statement, age)| encode_aged(&statement, age)).collect();
    encode_note(&proto::FreshnessNote { wall, statements })
}

/// Goes on from what was noted. Whether its changes survived is looked at like for any other.
pub(crate) fn recall(core: &Core, note: bytes::Bytes) {
    let note = match decode_note(note) {
        Ok(note) => note,
        Err(error) => return tracing::warn!(%error, "a note about freshness cannot be read"),
    };
    let now = core.now();
    let passed = Duration::from_millis(u64::try_from(now.wall - note.wall).unwrap_or(0));
    for aged in &note.statements {
        if let Ok((statement, age)) = decode_aged(aged) {
            learn(core, statement, now, age + passed);
        }
    }
}
