//! This module sees to it that every feed is pulled from somewhere: one task looks at what peers hold
//! and begins and ends pulls. It looks only at feeds of which somebody holds something new, and at
//! those that are behind.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use chartmesh_record::{Cursor, Moment, NodeName, Origin, Seq, Timestamp};
use tokio::task::{AbortHandle, Id, JoinSet};
use tokio::time::{Duration, Instant, timeout};

use crate::choose::{Candidate, Choice, Question, choose};
use crate::core::{Core, lock};
use crate::limits::{
    LOOK_EVERY, LOST_FOR, NO_PROGRESS, NO_PROGRESS_URGENT, PULLS, REFUSED_FOR, STALLED_FOR,
};
use crate::pull::{End, Progress, pull};

/// Looks after all feeds.
pub(crate) struct Follower {
    core: Arc<Core>,
    pulls: JoinSet<End>,
    active: BTreeMap<Origin, Active>,
    /// Whose the running pulls are.
    owners: BTreeMap<Id, Origin>,
    /// Who is not asked for what, until when.
    avoided: BTreeMap<(Origin, NodeName), Instant>,
}

/// A pull that runs.
struct Active {
    choice: Choice,
    id: Id,
    handle: AbortHandle,
    progress: Arc<Progress>,
}

/// A feed that is known further than held.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Behind {
    /// Up to where it was known at some time, and is not held yet.
    goal: Seq,
    /// When that was, by both clocks and as a person reads it.
    pub(crate) since: Moment,
    pub(crate) since_wall: Timestamp,
    /// How far it was held, and what its pull had brought, when it was last looked at.
    held: Seq,
    steps: u64,
    /// When there was progress last.
    moved: Instant,
}

impl Follower {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        Self {
            core,
            pulls: JoinSet::new(),
            active: BTreeMap::new(),
            owners: BTreeMap::new(),
            avoided: BTreeMap::new(),
        }
    }

    /// Follows until it is aborted.
    pub(crate) async fn run(mut self) {
        let core = Arc::clone(&self.core);
        loop {
            self.look();
            tokio::select! {
                biased;
                Some(ended) = self.pulls.join_next_with_id() => match ended {
                    Ok((id, end)) => self.ended(id, end),
                    Err(error) => self.ended(error.id(), End::Stalled),
                },
                _ = timeout(LOOK_EVERY, core.look.notified()) => {}
            }
        }
    }

    /// Looks at every feed of which a peer may hold more.
    fn look(&mut self) {
        let now = Instant::now();
        self.avoided.retain(|_, until| *until > now);
        let mut origins = self.core.views.take_changed();
        origins.extend(lock(&self.core.behind).keys().cloned());
        for origin in origins {
            self.consider(&origin, now);
        }
        let held = |origin: &Origin| self.core.setup.store.cursor(origin).seq;
        let held_back = &mut lock(&self.core.troubles).held_back;
        held_back.retain(|origin, change| held(origin) < change.seq);
    }

    /// Begins to pull a feed, or another pull of it, if there should be one.
    fn consider(&mut self, origin: &Origin, now: Instant) {
        let held = self.core.setup.store.furthest(origin);
        if !self.is_behind(&held) {
            lock(&self.core.behind).remove(origin);
            return;
        }
        let candidates = self.candidates(origin);
        let known = candidates.iter().map(|candidate| candidate.seq).max().unwrap_or_default();
        let quiet_for = self.quiet_for(&held, known, now);
        let urgent = self.core.is_urgent(origin);
        let ordered = self.core.setup.orderer.orders(origin);
        let forked = lock(&self.core.troubles).forks.contains_key(origin);
        // What somebody waits for is pulled although it will come by being ordered: later.
        if forked || (ordered && !urgent) {
            return;
        }
        let core = Arc::clone(&self.core);
        let mut question = Question {
            me: &core.setup.me,
            origin,
            held: held.seq,
            candidates: &candidates,
            urgent,
            behind_for: quiet_for,
        };
        if let Some(active) = self.active.get(origin) {
            let patience = if urgent { NO_PROGRESS_URGENT } else { NO_PROGRESS };
            let without = without(&candidates, &active.choice.node);
            question.candidates = &without;
            if quiet_for < patience || choose(&question).is_none() {
                return;
            }
            tracing::info!(%origin, peer = %active.choice.node, "a pull brings nothing");
            self.give_up(origin, End::Stalled);
            let choice = choose(&question);
            return self.begin_if_there_is_room(choice, held, ordered);
        }
        self.begin_if_there_is_room(choose(&question), held, ordered);
    }

    /// Whether a reachable node holds more of a feed.
    fn is_behind(&self, held: &Cursor) -> bool {
        self.core.views.with(|known| {
            let mut more =
                known.holders(&held.origin).filter(|(_, there)| there.cursor.seq > held.seq);
            more.any(|(node, _)| known.is_reachable(&self.core, node))
        })
    }

    /// For how long a feed has been behind without any progress.
    fn quiet_for(&self, held: &Cursor, known: Seq, now: Instant) -> Duration {
        let active = self.active.get(&held.origin);
        let steps = active.map_or(0, |active| active.progress.steps.load(Ordering::Relaxed));
        let mut all = lock(&self.core.behind);
        let new = || Behind {
            goal: known,
            since: self.core.now(),
            since_wall: self.core.setup.clock.wall(),
            held: held.seq,
            steps,
            moved: now,
        };
        let behind = all.entry(held.origin.clone()).or_insert_with(new);
        if held.seq >= behind.goal {
            *behind = new();
        }
        if (behind.held, behind.steps) != (held.seq, steps) {
            (behind.held, behind.steps, behind.moved) = (held.seq, steps, now);
        }
        now - behind.moved
    }

    /// The reachable nodes, with how far each holds a feed.
    fn candidates(&self, origin: &Origin) -> Vec<Candidate> {
        let core = &self.core;
        core.views.with(|known| {
            let holders = known.feeds.get(origin);
            let reachable = known.nodes.iter().filter(|(_, view)| view.is_reachable(core));
            let candidate = |(node, view): (&NodeName, &crate::views::View)| {
                let held = holders.and_then(|holders| holders.get(node));
                Some(Candidate {
                    node: node.clone(),
                    distance: core.distance(core.peer(node)?),
                    rtt: view.rtt.unwrap_or(Duration::ZERO),
                    seq: held.map_or(Seq(0), |held| held.cursor.seq),
                    avoided: self.avoided.contains_key(&(origin.clone(), node.clone())),
                })
            };
            reachable.filter_map(candidate).collect()
        })
    }

    fn begin_if_there_is_room(&mut self, choice: Option<Choice>, held: Cursor, ordered: bool) {
        let Some(mut choice) = choice else { return };
        if self.active.len() >= PULLS && !self.make_room() {
            return;
        }
        let core = &self.core;
        let origin = held.origin.clone();
        let closed = core.journal_of(&origin).is_some() && !core.is_site_journal(&origin);
        // A journal rests for ever once it has ended; what is ordered here comes by itself.
        choice.lives &= !closed && !ordered;
        tracing::debug!(%origin, seq = held.seq.0, from = %choice.node, "a pull begins");
        let progress = Arc::<Progress>::default();
        let (core, chosen, counted) = (Arc::clone(core), choice.clone(), Arc::clone(&progress));
        let handle = self.pulls.spawn(async move { pull(&core, &chosen, held, &counted).await });
        let id = handle.id();
        self.owners.insert(id, origin.clone());
        self.active.insert(origin, Active { choice, id, handle, progress });
    }

    /// Ends a pull that rests.
    fn make_room(&mut self) -> bool {
        let rests = |active: &Active| active.progress.rests.load(Ordering::Relaxed);
        let resting = self.active.iter().find(|(_, active)| rests(active));
        let Some(origin) = resting.map(|(origin, _)| origin.clone()) else { return false };
        self.give_up(&origin, End::Done);
        true
    }

    fn give_up(&mut self, origin: &Origin, end: End) {
        let Some(active) = self.active.get(origin) else { return };
        active.handle.abort();
        self.ended(active.id, end);
    }

    fn ended(&mut self, id: Id, end: End) {
        // One that was given up has been seen to.
        let Some(origin) = self.owners.remove(&id) else { return };
        let Some(active) = self.active.remove(&origin) else { return };
        let now = Instant::now();
        self.core.views.reconsider(std::slice::from_ref(&origin));
        let avoid = match end {
            // Who has less than it said is not asked again at once.
            End::Done if active.progress.steps.load(Ordering::Relaxed) == 0 => LOST_FOR,
            End::Done => return,
            End::Lost => LOST_FOR,
            End::Stalled => STALLED_FOR,
            End::Refused => REFUSED_FOR,
        };
        self.avoided.insert((origin, active.choice.node), now + avoid);
    }
}

/// The candidates, this one not to be asked.
fn without(candidates: &[Candidate], node: &NodeName) -> Vec<Candidate> {
    let avoid = |candidate: &Candidate| Candidate {
        avoided: candidate.avoided || candidate.node == *node,
        ..candidate.clone()
    };
    candidates.iter().map(avoid).collect()
}
