//! This module says how fresh what this node holds is, region by region.
//!
//! A statement comes with its age. The age goes on from the moment at which the question was *sent*,
//! by the clock that has moved further, and is told on with what was added: nobody makes it
//! smaller. A statement is shown once the node holds all that it is about.

use std::cmp::Ordering;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use chartmesh_record::{AsOf, Cursor, Moment, RegionName, Statement, mutant};
use chartmesh_wire::proto;
use chartmesh_wire::{decode_aged, decode_note, encode_aged, encode_note};
use tokio::sync::watch;

use crate::core::{Core, lock};
use crate::limits::CANDIDATES;
use crate::status::{Freshness, RegionFreshness, SilentFreshness};

/// What is known of the regions' statements.
#[derive(Debug)]
pub(crate) struct Freshnesses(Mutex<Table>);

#[derive(Debug)]
struct Table {
    entries: BTreeMap<RegionName, Entry>,
    /// Tells when the store holds more.
    applied: watch::Receiver<u64>,
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

impl Shown {
    /// Whether it was decided before or after another; `None` if they are about different feeds, whose
    /// instants nothing orders.
    fn order(&self, other: &Self) -> Option<Ordering> {
        let (own, other) = (&self.statement, &other.statement);
        (own.feed.origin == other.feed.origin).then(|| own.at.cmp(&other.at))
    }

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

impl Freshnesses {
    pub(crate) fn new(applied: watch::Receiver<u64>) -> Self {
        Self(Mutex::new(Table { entries: BTreeMap::new(), applied }))
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
    let mut learnt = Shown { statement: Arc::new(statement), at: asked, age };
    let now = core.now();
    let mut table = lock(&core.freshness.0);
    table.settle(core);
    let entry = table.entries.entry(region).or_default();
    if let Some(newest) = entry.newest() {
        let older = newest.age_at(now) <= learnt.age_at(now);
        match learnt.order(newest) {
            // It was decided after the other, so it is not older than that.
            Some(Ordering::Greater) if older => {
                (learnt.at, learnt.age) = (newest.at, newest.age);
            }
            Some(Ordering::Greater) => {}
            Some(Ordering::Less) => return true,
            Some(Ordering::Equal) | None if older => return true,
            Some(Ordering::Equal) | None => {}
        }
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
    let age =
        if mutant("age-dropped-by-relay") { Duration::ZERO } else { shown.age_at(core.now()) };
    encode_aged(&statement, age)
}

/// How fresh everything is.
pub(crate) fn look(core: &Core) -> Freshness {
    let (shown, now) = (shown(core), core.now());
    let mut silent = Vec::new();
    for (region, shown) in &shown {
        let statement = &shown.statement;
        for node in statement.silent.iter().filter(|silent| silent.node != core.setup.me) {
            let before = statement.at.0.saturating_sub(node.since.0);
            let before = Duration::from_millis(u64::try_from(before).unwrap_or(0));
            let age = shown.age_at(now).saturating_add(before);
            let as_of = AsOf { instant: node.since, age };
            silent.push(SilentFreshness { node: node.node.clone(), region: region.clone(), as_of });
        }
    }
    if core.setup.orderer.isolated_since().is_some() {
        silent.push(SilentFreshness {
            node: core.setup.me.clone(),
            region: core.setup.region.clone(),
            as_of: AsOf { instant: now.wall, age: Duration::ZERO },
        });
    }
    silent.sort_by(|one, other| one.node.cmp(&other.node));
    let as_of = |shown: &Shown| AsOf { instant: shown.statement.at, age: shown.age_at(now) };
    let regions = core.setup.regions.iter().map(|region| RegionFreshness {
        region: region.clone(),
        as_of: shown.get(region).map(as_of),
    });
    let mut regions: Vec<_> = regions.collect();
    regions.sort_by(|one, other| one.region.cmp(&other.region));
    Freshness { regions, silent }
}

/// How fresh everything is, for the disk.
pub(crate) fn note(core: &Core) -> Bytes {
    let shown = shown(core);
    let now = core.now();
    let statements =
        shown.values().map(|shown| encode_aged(&shown.statement, shown.age_at(now))).collect();
    encode_note(&proto::FreshnessNote { wall: now.wall.0, statements })
}

/// Goes on from what was noted. Whether its changes survived is looked at like for any other.
pub(crate) fn recall(core: &Core, note: Bytes) {
    let note = match decode_note(note) {
        Ok(note) => note,
        Err(error) => return tracing::warn!(%error, "a note about freshness cannot be read"),
    };
    let now = core.now();
    let passed = u64::try_from(now.wall.0.saturating_sub(note.wall)).unwrap_or(0);
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering::Relaxed;

    use chartmesh_record::{Origin, Silent, Timestamp};

    use super::*;
    use crate::testing::Bench;

    const SECOND: Duration = Duration::from_secs(1);

    fn origin(text: &str) -> Origin {
        text.parse().expect("an origin")
    }

    fn eur() -> Origin {
        origin("eur.7h2k4m9qzx")
    }

    fn stated(feed: Cursor, at: i64) -> Statement {
        Statement { feed, at: Timestamp(at), holds: Vec::new(), silent: Vec::new() }
    }

    /// What is shown of a region, by now.
    fn as_of(bench: &Bench, region: &str) -> Option<AsOf> {
        let freshness = look(&bench.core);
        let of = |it: &&RegionFreshness| it.region.as_str() == region;
        freshness.regions.iter().find(of).expect("every region is listed").as_of
    }

    #[test]
    fn a_region_never_heard_of_is_listed_without_an_instant() {
        let bench = Bench::new();

        let freshness = look(&bench.core);

        let names: Vec<_> = freshness.regions.iter().map(|it| it.region.as_str()).collect();
        assert_eq!(names, ["eur", "pac"]);
        assert!(freshness.regions.iter().all(|it| it.as_of.is_none()));
    }

    #[test]
    fn a_relay_adds_the_time_since_it_sent_the_question() {
        let bench = Bench::new();
        let asked = bench.core.now();
        bench.clock.pass(2 * SECOND);

        learn(&bench.core, stated(Cursor::start(eur()), 5), asked, SECOND);
        bench.clock.pass(4 * SECOND);
        let all = shown(&bench.core);
        let (region, of_eur) = all.first_key_value().expect("it is shown");
        let (_, age) = decode_aged(&tell(&bench.core, region, of_eur)).expect("a statement");

        assert_eq!(age, 7 * SECOND);
        assert!(as_of(&bench, "eur").is_some_and(|as_of| as_of.age >= 7 * SECOND));
    }

    #[test]
    fn the_clock_that_has_moved_further_decides() {
        for (monotonic_ms, wall_ms) in [(9_000, 1_000), (1_000, 9_000), (9_000, -50_000)] {
            let bench = Bench::new();
            learn(&bench.core, stated(Cursor::start(eur()), 5), bench.core.now(), SECOND);

            bench.clock.monotonic.fetch_add(monotonic_ms, Relaxed);
            bench.clock.wall.fetch_add(wall_ms, Relaxed);

            let age = as_of(&bench, "eur").map(|as_of| as_of.age);
            assert_eq!(age, Some(10 * SECOND), "{monotonic_ms} {wall_ms}");
        }
    }

    #[test]
    fn a_statement_is_shown_once_its_feed_and_its_regions_journals_are_held() {
        let bench = Bench::new();
        let journal = origin("eur-1.x9d2fq71be");
        let earlier = Bench::new();
        let (feed, held) = (earlier.write(&eur()), earlier.write(&journal));
        let foreign = earlier.write(&origin("pac.7h2k4m9qzx"));
        let statement = Statement { holds: vec![held, foreign], ..stated(feed, 5) };
        learn(&bench.core, statement, bench.core.now(), SECOND);

        assert_eq!(as_of(&bench, "eur"), None, "neither is held");
        bench.write(&eur());
        assert_eq!(as_of(&bench, "eur"), None, "the journal is not held");
        bench.write(&journal);
        let shown = as_of(&bench, "eur").expect("both are held, the feed of pac does not matter");
        assert_eq!(shown.instant, Timestamp(5));
    }

    #[test]
    fn another_history_of_the_same_length_is_not_what_a_statement_is_about() {
        let bench = Bench::new();
        let mut feed = bench.write(&eur());
        feed.hash.0[0] ^= 1;

        learn(&bench.core, stated(feed, 5), bench.core.now(), SECOND);

        assert_eq!(as_of(&bench, "eur"), None);
    }

    #[test]
    fn the_freshest_wins_and_what_comes_late_changes_nothing() {
        let bench = Bench::new();
        let at = |instant| stated(Cursor::start(eur()), instant);

        learn(&bench.core, at(50), bench.core.now(), 5 * SECOND);
        learn(&bench.core, at(90), bench.core.now(), SECOND);
        learn(&bench.core, at(50), bench.core.now(), 6 * SECOND);

        assert_eq!(as_of(&bench, "eur").map(|it| it.instant), Some(Timestamp(90)));
    }

    #[test]
    fn a_later_statement_is_taken_though_it_took_longer_and_is_not_older_than_the_earlier() {
        let bench = Bench::new();
        let at = |instant| stated(Cursor::start(eur()), instant);

        learn(&bench.core, at(50), bench.core.now(), SECOND);
        learn(&bench.core, at(90), bench.core.now(), 5 * SECOND);

        let shown = as_of(&bench, "eur");
        assert_eq!(shown, Some(AsOf { instant: Timestamp(90), age: SECOND }));
    }

    #[test]
    fn however_many_statements_wait_few_are_kept_and_the_first_to_be_held_is_shown() {
        let bench = Bench::new();
        let mut feed = Cursor::start(eur());
        for at in 0..1_000 {
            feed = feed.extend(crate::testing::change(&feed).bytes());
            learn(&bench.core, stated(feed.clone(), at), bench.core.now(), Duration::ZERO);
            bench.clock.pass(SECOND);
        }

        let kept =
            lock(&bench.core.freshness.0).entries.values().next().map(|it| it.candidates.len());
        bench.write(&eur());

        assert_eq!(kept, Some(CANDIDATES));
        assert_eq!(as_of(&bench, "eur").map(|it| it.instant), Some(Timestamp(0)));
    }

    #[test]
    fn ages_go_on_across_a_restart_and_never_get_smaller() {
        let before = Bench::new();
        learn(&before.core, stated(Cursor::start(eur()), 5), before.core.now(), 3 * SECOND);
        before.clock.pass(SECOND);
        let noted = note(&before.core);
        let saved = before.core.now().wall.0;

        for (passed_ms, age) in [(60_000, 64 * SECOND), (-60_000, 4 * SECOND)] {
            let after = Bench::new();
            after.clock.wall.store(saved + passed_ms, Relaxed);
            recall(&after.core, noted.clone());
            let shown = as_of(&after, "eur").expect("it is shown as before");
            assert_eq!(shown.age, age, "{passed_ms}");
        }
    }

    #[test]
    fn a_restart_that_lost_changes_does_not_show_what_it_showed() {
        let before = Bench::new();
        let feed = before.write(&eur());
        learn(&before.core, stated(feed, 5), before.core.now(), SECOND);
        let noted = note(&before.core);
        let after = Bench::new();

        recall(&after.core, noted);

        assert_eq!(as_of(&after, "eur"), None);
        after.write(&eur());
        assert!(as_of(&after, "eur").is_some());
    }

    #[test]
    fn silent_nodes_are_as_old_as_the_last_word_from_them() {
        let bench = Bench::new();
        let silent =
            |node: &str| Silent { node: node.parse().expect("a name"), since: Timestamp(10_000) };
        let silent = vec![silent("eur-1"), silent("pac-1")];
        let statement = Statement { silent, ..stated(Cursor::start(eur()), 12_000) };

        learn(&bench.core, statement, bench.core.now(), SECOND);
        let listed = look(&bench.core).silent;

        let [node] = listed.as_slice() else {
            panic!("this node knows what it has written: {listed:?}")
        };
        assert_eq!(node.node.as_str(), "eur-1");
        assert_eq!(node.as_of, AsOf { instant: Timestamp(10_000), age: 3 * SECOND });
    }

    #[test]
    fn an_isolated_node_lists_itself_at_once_as_of_now() {
        let bench = Bench::new();
        assert!(look(&bench.core).silent.is_empty());

        *lock(&bench.orderer.isolated) = Some(Timestamp(0));
        let listed = look(&bench.core).silent;

        let wall = bench.core.now().wall;
        assert_eq!(listed.len(), 1);
        assert_eq!(listed[0].node, bench.core.setup.me);
        assert_eq!(listed[0].as_of, AsOf { instant: wall, age: Duration::ZERO });
    }

    #[test]
    fn the_own_regions_statement_comes_from_what_orders_it_if_that_is_fresher() {
        let bench = Bench::new();
        let pac = Cursor::start(origin("pac.7h2k4m9qzx"));
        learn(&bench.core, stated(pac.clone(), 5), bench.core.now(), 3 * SECOND);

        for (age, instant) in [(9 * SECOND, 5), (SECOND, 7)] {
            *lock(&bench.orderer.stated) = Some((stated(pac.clone(), 7), age));
            assert_eq!(as_of(&bench, "pac").map(|it| it.instant), Some(Timestamp(instant)));
        }
    }

    #[test]
    fn statements_of_other_meshes_are_not_taken() {
        let bench = Bench::new();
        let strange = stated(Cursor::start(origin("mars.7h2k4m9qzx")), 5);

        assert!(!learn(&bench.core, strange, bench.core.now(), SECOND));
    }
}
