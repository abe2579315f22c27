//! This module says how fresh the node's view of its region is.
//!
//! The leader puts instants into the log; each binds: what is decided later is stamped later. A
//! node asks the leader for the newest one and how long ago the clock was read for it, and adds the
//! time since it sent the question. No age is ever computed from the clocks of two nodes.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chartmesh_record::{Cursor, Timestamp};
use chartmesh_wire::proto;
use chartmesh_wire::raft::{decode_cursor, encode_cursor};

use crate::core::{Core, Moment};
use crate::status::AsOf;

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

/// The region's feed is complete up to a place as of an instant.
#[derive(Clone, Debug)]
struct Answer {
    at: Timestamp,
    feed: Cursor,
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

    /// What this leader answers: the newest instant that is applied. It is true whoever leads by
    /// now; how old it is says whether a quorum has agreed lately.
    pub(crate) fn answer(&self, core: &Core) -> Option<proto::Freshness> {
        let (at, origin) = {
            let position = core.progress.borrow();
            (position.at, position.origin.clone()?)
        };
        let read = {
            let stamps = &mut self.state().stamps;
            while stamps.pop_front_if(|(stamp, _)| *stamp < at).is_some() {}
            stamps.front().filter(|(stamp, _)| *stamp == at)?.1
        };
        let age = u64::try_from(core.since(read).as_millis()).unwrap_or(u64::MAX);
        let feed = encode_cursor(&core.store.cursor(&origin));
        Some(proto::Freshness { at: at.0, feed: Some(feed), age })
    }

    /// Takes in what a leader has answered.
    pub(crate) fn learn(&self, core: &Core, asked: Moment, answer: &proto::Freshness) {
        let Some(Ok(feed)) = answer.feed.as_ref().map(decode_cursor) else {
            tracing::warn!("an answer about freshness names no place");
            return;
        };
        let age = Duration::from_millis(answer.age);
        let learnt = Answer { at: Timestamp(answer.at), feed, asked, age };
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
        Some(AsOf { instant: shown.at, age: shown.age_now(core) })
    }

    /// How long ago a quorum is known to have agreed.
    pub(crate) fn since_quorum(&self, core: &Core) -> Option<Duration> {
        self.state().newest().map(|answer| answer.age_now(core))
    }
}

impl State {
    fn newest(&self) -> Option<&Answer> {
        self.pending.back().or(self.shown.as_ref())
    }

    /// Shows the newest answer whose changes the node holds.
    fn settle(&mut self, core: &Core) {
        let held = |answer: &Answer| core.store.cursor(&answer.feed.origin).seq >= answer.feed.seq;
        while let Some(answer) = self.pending.pop_front_if(|answer| held(answer)) {
            self.shown = Some(answer);
        }
    }
}

impl Answer {
    fn age_now(&self, core: &Core) -> Duration {
        self.age + core.since(self.asked)
    }
}
