//! This module numbers the changes of what this node holds and shows, so that each peer is told only
//! what is new to it.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use chartmesh_record::{Cursor, Origin, RegionName, Seq, Statement, Timestamp};
use chartmesh_store::{Standing, StateDigest};
use chartmesh_wire::proto;
use chartmesh_wire::raft::encode_cursor;
use sha2::{Digest, Sha256};
use tokio::sync::watch;

use crate::core::{Core, lock};
use crate::freshness;
use crate::limits::NEWS_PAUSE;

/// What this node holds and shows, with the revision at which each of it last changed.
#[derive(Debug)]
pub(crate) struct Ledger(Mutex<Book>);

#[derive(Debug)]
struct Book {
    life: u64,
    revision: u64,
    rows: BTreeMap<Origin, Row>,
    /// The rows by their revisions.
    order: BTreeMap<u64, Origin>,
    summary: Summary,
    /// Which statement of each region was told last, and at which revision first.
    statements: BTreeMap<RegionName, (Timestamp, Cursor, u64)>,
    /// What tells that the store holds more, or has more on its synced disk.
    applied: watch::Receiver<u64>,
    synced: watch::Receiver<u64>,
    /// When it was last looked, by the monotonic clock.
    looked: Option<Duration>,
}

#[derive(Debug)]
struct Row {
    cursor: Cursor,
    synced: Seq,
    revision: u64,
}

/// A place among the revisions. Revisions of another life mean nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Edition {
    /// Drawn when the process began; 0 is what an asker names that has heard nothing.
    pub(crate) life: u64,
    pub(crate) revision: u64,
}

/// All that a node holds, in short: who holds the same must have the same digest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Summary {
    pub(crate) horizon: [u8; 32],
    pub(crate) digest: StateDigest,
}

/// What an asker is told.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) report: proto::Report,
    pub(crate) statements: Vec<proto::AgedStatement>,
    pub(crate) edition: Edition,
    pub(crate) summary: Summary,
}

impl Ledger {
    pub(crate) fn new(
        random: u64,
        mut applied: watch::Receiver<u64>,
        synced: watch::Receiver<u64>,
    ) -> Self {
        // The first look takes everything in.
        applied.mark_changed();
        Self(Mutex::new(Book {
            life: random.max(1),
            revision: 0,
            rows: BTreeMap::new(),
            order: BTreeMap::new(),
            summary: Summary::default(),
            statements: BTreeMap::new(),
            applied,
            synced,
            looked: None,
        }))
    }

    /// Notes what the store holds now. If that was done just before, it is not done again: says then
    /// how long it takes until it can be.
    pub(crate) fn refresh(&self, core: &Core) -> Option<Duration> {
        let mut book = lock(&self.0);
        let new = |receiver: &watch::Receiver<u64>| receiver.has_changed().unwrap_or(false);
        if !new(&book.applied) && !new(&book.synced) {
            return None;
        }
        let now = core.setup.clock.monotonic();
        let rest = book.looked.map(|looked| (looked + NEWS_PAUSE).saturating_sub(now));
        if let Some(rest) = rest.filter(|rest| !rest.is_zero()) {
            return Some(rest);
        }
        book.looked = Some(now);
        book.applied.mark_unchanged();
        book.synced.mark_unchanged();
        let standing = core.setup.store.standing();
        book.summary = Summary::of(&standing, &core.setup.store.lost());
        let store = &core.setup.store;
        for (origin, cursor) in standing.horizon {
            // What is held back is on the disk, and is passed on.
            let furthest = store.furthest(&origin);
            let held_back = furthest.seq > cursor.seq;
            let synced = if held_back { furthest.seq } else { store.synced(&origin) };
            book.note(origin, furthest, synced);
        }
        None
    }

    /// What is held that is newer than what an asker knows, and up to where that goes.
    pub(crate) fn report(&self, known: Edition) -> (proto::Report, Edition) {
        let book = lock(&self.0);
        (book.report(known), book.edition())
    }

    /// Whether more is held than an asker knows.
    pub(crate) fn has_news(&self, known: Edition) -> bool {
        let book = lock(&self.0);
        let after = book.after(known);
        after.is_none() || book.order.range(after.unwrap_or(0) + 1..).next().is_some()
    }

    /// What is held and shown that is newer than what an asker knows, and up to where that goes.
    pub(crate) fn answer(&self, core: &Core, known: Edition) -> Answer {
        let shown = freshness::shown(core);
        let mut book = lock(&self.0);
        let report = book.report(known);
        let after = book.after(known).unwrap_or(0);
        let mut statements = Vec::new();
        for (region, shown) in shown {
            if book.state(&region, &shown.statement) > after {
                statements.push(freshness::tell(core, &region, &shown));
            }
        }
        Answer { report, statements, edition: book.edition(), summary: book.summary }
    }

    /// All that this node holds, in short, as of the last look.
    pub(crate) fn summary(&self) -> Summary {
        lock(&self.0).summary
    }
}

impl Book {
    fn edition(&self) -> Edition {
        Edition { life: self.life, revision: self.revision }
    }

    /// What an asker knows; `None` if that is of another life.
    fn after(&self, known: Edition) -> Option<u64> {
        let same = known.life == self.life && known.revision <= self.revision;
        same.then_some(known.revision)
    }

    fn report(&self, known: Edition) -> proto::Report {
        let after = self.after(known);
        let new = self.order.range(after.unwrap_or(0) + 1..);
        let holdings = new.filter_map(|(_, origin)| self.rows.get(origin)).map(|row| {
            proto::Holding { feed: Some(encode_cursor(&row.cursor)), synced: row.synced.0 }
        });
        proto::Report { whole: after.is_none(), holdings: holdings.collect() }
    }

    fn note(&mut self, origin: Origin, cursor: Cursor, synced: Seq) {
        let before = self.rows.get(&origin);
        if before.is_some_and(|row| row.cursor.seq == cursor.seq && row.synced == synced) {
            return;
        }
        if let Some(row) = before {
            self.order.remove(&row.revision);
        }
        self.revision += 1;
        self.order.insert(self.revision, origin.clone());
        self.rows.insert(origin, Row { cursor, synced, revision: self.revision });
    }

    /// Notes the statement of a region that is shown now. Says at which revision it began to be.
    fn state(&mut self, region: &RegionName, statement: &Statement) -> u64 {
        let before = self.statements.get(region);
        let same = before.filter(|(at, feed, _)| *at == statement.at && *feed == statement.feed);
        if let Some((_, _, revision)) = same {
            return *revision;
        }
        self.revision += 1;
        let stated = (statement.at, statement.feed.clone(), self.revision);
        self.statements.insert(region.clone(), stated);
        self.revision
    }
}

impl Summary {
    /// Who has passed a change set over does not hold the same as who has it.
    fn of(standing: &Standing, lost: &[Cursor]) -> Self {
        let mut hash = Sha256::new();
        for cursor in standing.horizon.values().chain(lost) {
            hash.update(cursor.origin.as_str());
            hash.update(cursor.seq.0.to_be_bytes());
            hash.update(cursor.hash.0);
        }
        Self { horizon: hash.finalize().into(), digest: standing.digest }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Bench;

    fn pass(bench: &Bench) {
        bench.clock.pass(NEWS_PAUSE);
        assert_eq!(bench.core.ledger.refresh(&bench.core), None);
    }

    #[test]
    fn an_asker_is_told_only_what_is_new_to_it() {
        let bench = Bench::new();
        let ledger = &bench.core.ledger;
        let (eur, pac) = ("eur.7h2k4m9qzx".parse(), "pac.7h2k4m9qzx".parse());
        let (eur, pac) = (eur.expect("an origin"), pac.expect("an origin"));
        bench.write(&eur);
        bench.write(&pac);
        pass(&bench);

        let (all, known) = ledger.report(Edition::default());
        bench.write(&pac);
        assert!(!ledger.has_news(known));
        pass(&bench);
        assert!(ledger.has_news(known));
        let (new, known) = ledger.report(known);
        let (nothing, _) = ledger.report(known);

        assert!(all.whole && !new.whole);
        assert_eq!(all.holdings.len(), 2);
        let [holding] = new.holdings.as_slice() else { panic!("{new:?}") };
        assert_eq!(holding.feed.as_ref().map(|feed| feed.seq), Some(2));
        assert_eq!(nothing, proto::Report::default());
    }

    #[test]
    fn an_asker_of_another_life_is_told_all() {
        let bench = Bench::new();
        bench.write(&"eur.7h2k4m9qzx".parse().expect("an origin"));
        pass(&bench);
        let (_, known) = bench.core.ledger.report(Edition::default());

        let other = Edition { life: known.life + 1, ..known };
        let ahead = Edition { revision: known.revision + 1, ..known };

        for known in [other, ahead] {
            assert!(bench.core.ledger.has_news(known));
            assert!(bench.core.ledger.report(known).0.whole);
        }
    }

    #[test]
    fn what_is_synced_is_news() {
        let bench = Bench::new();
        bench.write(&"eur.7h2k4m9qzx".parse().expect("an origin"));
        pass(&bench);
        let (before, known) = bench.core.ledger.report(Edition::default());

        assert!(bench.core.sync());
        pass(&bench);
        let (after, _) = bench.core.ledger.report(known);

        assert_eq!(before.holdings[0].synced, 0);
        assert_eq!(after.holdings[0].synced, 1);
    }

    #[test]
    fn a_statement_is_told_once_without_what_other_regions_hold() {
        let bench = Bench::new();
        let cursor = |origin: &str| Cursor::start(origin.parse().expect("an origin"));
        let statement = Statement {
            feed: cursor("eur.7h2k4m9qzx"),
            at: Timestamp(5),
            holds: vec![cursor("eur-1.x9d2fq71be"), cursor("pac.7h2k4m9qzx")],
            silent: Vec::new(),
        };
        freshness::learn(&bench.core, statement, bench.core.now(), Duration::ZERO);

        let first = bench.core.ledger.answer(&bench.core, Edition::default());
        let second = bench.core.ledger.answer(&bench.core, first.edition);

        let told = first.statements[0].statement.as_ref().expect("a statement");
        assert_eq!(told.holds.len(), 1);
        assert!(second.statements.is_empty());
    }
}
