//! This module says how fresh what this node holds is, region by region.
//!
//! A statement comes with its age. The age goes on from the moment at which the question was *sent*,
//! by the clock that has moved further, and is told on with what was added: nobody makes it
//! smaller. A statement is shown once the node holds all that it is about.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use chartmesh_record::{AsOf, Cursor, NodeName, RegionName, Statement, Timestamp, mutant};
use chartmesh_wire::proto;
use chartmesh_wire::{decode_aged, decode_note, encode_aged, encode_note};
use tokio::sync::watch;

use crate::core::{Core, Moment, lock};
use crate::limits::{CANDIDATES, LOOK_KEPT};
use crate::status::{Freshness, RegionFreshness, SilentFreshness};

/// What is known of the regions' statements.
#[derive(Debug)]
pub(crate) struct Freshnesses(Mutex<Table>);

#[derive(Debug)]
struct Table {
    entries: BTreeMap<RegionName, Entry>,
    /// Tells when the store holds more.
    applied: watch::Receiver<u64>,
    /// What was shown last.
    look: Option<Look>,
}

#[derive(Debug, Default)]
struct Entry {
    /// Those whose changes this node does not hold yet, the newest last.
    candidates: VecDeque<Shown>,
    shown: Option<Shown>,
}

/// A statement, and how old it was at some moment.
#[derive(Clone, Debug)]
pub(crate) struct Shown {
    pub(crate) statement: Arc<Statement>,
    at: Moment,
    age: Duration,
}

/// What requests are answered with until it is looked again.
#[derive(Debug)]
struct Look {
    /// When it was looked, by the monotonic clock.
    at: Duration,
    regions: Vec<(RegionName, Option<Point>)>,
    silent: Vec<(NodeName, RegionName, Point)>,
}

/// An instant, and how old it was at some moment.
#[derive(Clone, Copy, Debug)]
struct Point {
    instant: Timestamp,
    at: Moment,
    age: Duration,
}

impl Shown {
    fn age_at(&self, now: Moment) -> Duration {
        self.age.saturating_add(self.at.until(now))
    }

    /// Whether the node holds all that it is about: the feed, and what else its region has ordered.
    fn is_held(&self, core: &Core) -> bool {
        if !core.holds(&self.statement.feed) {
            return false;
        }
        let region = self.statement.region();
        let own = |cursor: &&Cursor| core.region_of(&cursor.origin) == region;
        mutant("statement-before-its-journals")
            || self.statement.holds.iter().filter(own).all(|cursor| core.holds(cursor))
    }
}

impl Point {
    fn as_of(&self, now: Moment) -> AsOf {
        AsOf { instant: self.instant, age: self.age.saturating_add(self.at.until(now)) }
    }
}

impl Freshnesses {
    pub(crate) fn new(applied: watch::Receiver<u64>) -> Self {
        Self(Mutex::new(Table { entries: BTreeMap::new(), applied, look: None }))
    }
}

impl Table {
    /// Shows what has come to be held.
    fn settle(&mut self, core: &Core) {
        if self.applied.has_changed().unwrap_or(false) {
            self.applied.mark_unchanged();
            self.entries.values_mut().for_each(|entry| entry.settle(core));
        }
    }
}

impl Entry {
    fn settle(&mut self, core: &Core) {
        let held = self.candidates.iter().rposition(|candidate| candidate.is_held(core));
        if let Some(place) = held {
            self.shown = self.candidates.drain(..=place).next_back();
        }
    }

    fn newest(&self) -> Option<&Shown> {
        self.candidates.back().or(self.shown.as_ref())
    }
}

/// Takes in a statement that had this age at a moment: for one from a peer, when it was asked. Says
/// whether it is of this mesh.
pub(crate) fn learn(core: &Core, statement: Statement, asked: Moment, age: Duration) -> bool {
    let region = statement.region();
    if !core.setup.regions.contains(&region) {
        return false;
    }
    let learnt = Shown { statement: Arc::new(statement), at: asked, age };
    let now = core.now();
    let mut table = lock(&core.freshness.0);
    table.settle(core);
    let entry = table.entries.entry(region).or_default();
    let fresher = |newest: &Shown| newest.age_at(now) <= learnt.age_at(now);
    if entry.newest().is_some_and(fresher) {
        return true;
    }
    if entry.candidates.len() == CANDIDATES {
        // The older ones stay: they will be held first.
        entry.candidates.pop_back();
    }
    entry.candidates.push_back(learnt);
    entry.settle(core);
    true
}

/// The statements that this node shows.
pub(crate) fn shown(core: &Core) -> BTreeMap<RegionName, Shown> {
    let stated = core.setup.orderer.stated();
    let now = core.now();
    let mut table = lock(&core.freshness.0);
    table.settle(core);
    let shown = table.entries.iter().filter_map(|(region, entry)| {
        entry.shown.as_ref().map(|shown| (region.clone(), shown.clone()))
    });
    let mut shown: BTreeMap<_, _> = shown.collect();
    drop(table);
    if let Some((statement, age)) = stated {
        let own = &core.setup.region;
        if shown.get(own).is_none_or(|shown| age < shown.age_at(now)) {
            shown.insert(own.clone(), Shown { statement: Arc::new(statement), at: now, age });
        }
    }
    shown
}

/// What a peer is told of a statement: as old as it is now, with what the peer has to hold to show it.
pub(crate) fn tell(core: &Core, region: &RegionName, shown: &Shown) -> proto::AgedStatement {
    let mut statement = Statement::clone(&shown.statement);
    statement.holds.retain(|cursor| core.region_of(&cursor.origin) == *region);
    let age = if mutant("age-dropped-by-relay") { Duration::ZERO } else { shown.age_at(core.now()) };
    encode_aged(&statement, age)
}

/// How fresh everything is.
pub(crate) fn look(core: &Core) -> Freshness {
    let now = core.now();
    let isolated = core.setup.orderer.isolated_since().is_some();
    let kept = |look: &Look| look.at + LOOK_KEPT > now.monotonic;
    let table = lock(&core.freshness.0);
    if let Some(look) = table.look.as_ref().filter(|look| kept(look)) {
        return look.freshness(core, now, isolated);
    }
    drop(table);
    let look = Look::now(core);
    let freshness = look.freshness(core, core.now(), isolated);
    lock(&core.freshness.0).look = Some(look);
    freshness
}

impl Look {
    fn now(core: &Core) -> Self {
        let at = core.setup.clock.monotonic();
        let shown = shown(core);
        let mut silent = Vec::new();
        for (region, shown) in &shown {
            let statement = &shown.statement;
            for node in statement.silent.iter().filter(|silent| silent.node != core.setup.me) {
                let before = statement.at.0.saturating_sub(node.since.0);
                let before = Duration::from_millis(u64::try_from(before).unwrap_or(0));
                let age = shown.age.saturating_add(before);
                let point = Point { instant: node.since, at: shown.at, age };
                silent.push((node.node.clone(), region.clone(), point));
            }
        }
        silent.sort_by(|one, other| one.0.cmp(&other.0));
        let regions = core.setup.regions.iter().map(|region| {
            let point = shown.get(region).map(|shown| Point {
                instant: shown.statement.at,
                at: shown.at,
                age: shown.age,
            });
            (region.clone(), point)
        });
        let mut regions: Vec<_> = regions.collect();
        regions.sort_by(|one, other| one.0.cmp(&other.0));
        Self { at, regions, silent }
    }

    fn freshness(&self, core: &Core, now: Moment, isolated: bool) -> Freshness {
        let regions = self.regions.iter().map(|(region, point)| RegionFreshness {
            region: region.clone(),
            as_of: point.map(|point| point.as_of(now)),
        });
        let silent = self.silent.iter().map(|(node, region, point)| SilentFreshness {
            node: node.clone(),
            region: region.clone(),
            as_of: point.as_of(now),
        });
        let mut silent: Vec<_> = silent.collect();
        if isolated {
            silent.push(SilentFreshness {
                node: core.setup.me.clone(),
                region: core.setup.region.clone(),
                as_of: AsOf { instant: core.setup.clock.wall(), age: Duration::ZERO },
            });
            silent.sort_by(|one, other| one.node.cmp(&other.node));
        }
        Freshness { regions: regions.collect(), silent }
    }
}

/// How fresh everything is, for the disk.
pub(crate) fn note(core: &Core) -> Bytes {
    let shown = shown(core);
    let now = core.now();
    let statements =
        shown.values().map(|shown| encode_aged(&shown.statement, shown.age_at(now))).collect();
    encode_note(&proto::FreshnessNote { wall: now.wall, statements })
}

/// Goes on from what was noted. Whether its changes survived is looked at like for any other.
pub(crate) fn recall(core: &Core, note: Bytes) {
    let note = match decode_note(note) {
        Ok(note) => note,
        Err(error) => return tracing::warn!(%error, "a note about freshness cannot be read"),
    };
    let now = core.now();
    let passed = u64::try_from(now.wall.saturating_sub(note.wall)).unwrap_or(0);
    let passed = Duration::from_millis(passed);
    for aged in &note.statements {
        match decode_aged(aged) {
            Ok((statement, age)) => {
                learn(core, statement, now, age.saturating_add(passed));
            }
            Err(error) => tracing::warn!(%error, "a noted statement cannot be read"),
        }
    }
}
