//! This module says how fresh the node's view of its region is.
//!
//! The leader puts instants into the log; each binds: what is decided later is stamped later. A
//! node asks the leader for the newest one and how long ago the clock was read for it, and adds the
//! time since it sent the question. No age is ever computed from the clocks of two nodes.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chartmesh_record::{AsOf, Cursor, Moment, Statement, Timestamp};

use crate::core::Core;

/// Instants that a leader remembers having read its clock for.
const STAMPS: usize = 4_096;
/// Answers that a node keeps until it holds what they are about.
const PENDING: usize = 16;

/// What the node knows of instants in the log.
#[derive(Debug, Default)]
pub(crate) struct Freshness {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// At the leader: when its clock was read for which instant.
    stamps: VecDeque<(Timestamp, Moment)>,
    /// Answers whose changes the node does not hold yet, the newest last.
    pending: VecDeque<Answer>,
    /// The newest answer whose changes the node holds.
    shown: Option<Answer>,
}

/// A statement, and how old it was when it was asked for.
#[derive(Clone, Debug)]
struct Answer {
    statement: Statement,
    /// When the question was sent.
    asked: Moment,
    /// How old the instant was then.
    age: Duration,
}

impl Freshness {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that the leader's clock was read for an instant that it proposes.
    pub(crate) fn stamped(&self, at: Timestamp, read: Moment) {
        let mut state = self.state();
        state.stamps.push_back((at, read));
        if state.stamps.len() > STAMPS {
            state.stamps.pop_front();
        }
    }

    /// What this leader answers: the newest instant that is applied, and how old it is. It is true
    /// whoever leads by now; its age says whether a quorum has agreed lately. Nothing before the
    /// first statement of the region's present feed: nobody has said who is silent.
    pub(crate) fn answer(&self, core: &Core) -> Option<(Statement, Duration)> {
        let (at, origin, statement) = {
            let position = core.progress.borrow();
            let (origin, statement) = (position.origin.clone()?, position.statement.clone()?);
            if statement.feed.origin != origin {
                return None;
            }
            (position.at, origin, statement)
        };
        let read = {
            let stamps = &mut self.state().stamps;
            while stamps.pop_front_if(|(stamp, _)| *stamp < at).is_some() {}
            stamps.front().filter(|(stamp, _)| *stamp == at)?.1
        };
        let statement = Statement { feed: core.store.cursor(&origin), at, ..statement };
        Some((statement, core.since(read)))
    }

    /// Takes in what a leader has answered.
    pub(crate) fn learn(&self, core: &Core, asked: Moment, statement: Statement, age: Duration) {
        let learnt = Answer { statement, asked, age };
        let mut state = self.state();
        let fresher = |known: &Answer| known.age_now(core) < learnt.age_now(core);
        if state.newest().is_some_and(fresher) {
            return;
        }
        if state.pending.len() == PENDING {
            state.pending.pop_back();
        }
        state.pending.push_back(learnt);
        state.settle(core);
    }

    /// Up to which instant the node knows all that the region has decided.
    pub(crate) fn as_of(&self, core: &Core) -> Option<AsOf> {
        let mut state = self.state();
        state.settle(core);
        let shown = state.shown.as_ref()?;
        Some(AsOf { instant: shown.statement.at, age: shown.age_now(core) })
    }

    /// The newest statement whose changes the node holds, and its age.
    pub(crate) fn stated(&self, core: &Core) -> Option<(Statement, Duration)> {
        let mut state = self.state();
        state.settle(core);
        let shown = state.shown.as_ref()?;
        Some((shown.statement.clone(), shown.age_now(core)))
    }
}

impl State {
    fn newest(&self) -> Option<&Answer> {
        self.pending.back().or(self.shown.as_ref())
    }

    /// Shows the newest answer whose changes the node holds.
    fn settle(&mut self, core: &Core) {
        let held = self.pending.iter().rposition(|answer| answer.is_held(core));
        if let Some(place) = held {
            self.shown = self.pending.drain(..=place).next_back();
        }
    }
}

impl Answer {
    /// Whether the node holds all that it is about: the feed, and what else the region has ordered.
    fn is_held(&self, core: &Core) -> bool {
        let held = |cursor: &Cursor| core.store.cursor(&cursor.origin).seq >= cursor.seq;
        let own = |cursor: &&Cursor| {
            let name = cursor.origin.name();
            name == core.region.0 || core.nodes().any(|node| node.0 == name)
        };
        held(&self.statement.feed) && self.statement.holds.iter().filter(own).all(held)
    }

    fn age_now(&self, core: &Core) -> Duration {
        self.age + core.since(self.asked)
    }
}
