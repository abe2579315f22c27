//! This module sees to it that every feed is pulled from somewhere: one task looks at what peers hold
//! and begins and ends pulls.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use chartmesh_record::{Cursor, NodeName, Origin, Seq};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Duration, Instant, timeout};

use crate::choose::{Candidate, Choice, Distance, Question, choose};
use crate::core::{Core, lock, refused};
use crate::limits::{AVOIDED_FOR, LOOK_EVERY, NO_PROGRESS, PULLS};
use crate::pull::{End, pull};

/// Looks after all feeds.
pub(crate) struct Follower {
    core: Arc<Core>,
    pulls: JoinSet<(Origin, NodeName, End)>,
    active: BTreeMap<Origin, Active>,
    /// Feeds that are known further than held.
    behind: BTreeMap<Origin, Behind>,
    /// Who is not asked for what, until when.
    avoided: BTreeMap<(Origin, NodeName), Instant>,
    /// Feeds that nobody in the mesh could have begun.
    strange: BTreeSet<Origin>,
}

struct Active {
    choice: Choice,
    handle: AbortHandle,
    progress: Arc<AtomicU64>,
}

/// How long a feed has been behind without any progress.
#[derive(Clone, Copy, Debug)]
struct Behind {
    held: Seq,
    since: Instant,
}

impl Follower {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        Self {
            core,
            pulls: JoinSet::new(),
            active: BTreeMap::new(),
            behind: BTreeMap::new(),
            avoided: BTreeMap::new(),
            strange: BTreeSet::new(),
        }
    }

    /// Follows until it is aborted.
    pub(crate) async fn run(mut self) {
        loop {
            self.look();
            let core = Arc::clone(&self.core);
            tokio::select! {
                biased;
                Some(ended) = self.pulls.join_next() => {
                    if let Ok((origin, peer, end)) = ended {
                        self.ended(&origin, peer, end);
                    }
                }
                _ = timeout(LOOK_EVERY, core.look.notified()) => {}
            }
        }
    }

    fn ended(&mut self, origin: &Origin, peer: NodeName, end: End) {
        self.active.remove(origin);
        let avoid = match end {
            End::Done => return,
            End::Lost => NO_PROGRESS,
            End::Refused => AVOIDED_FOR,
        };
        self.avoided.insert((origin.clone(), peer), Instant::now() + avoid);
    }

    /// Looks at every feed of which a peer holds more.
    fn look(&mut self) {
        let now = Instant::now();
        self.avoided.retain(|_, until| *until > now);
        let core = Arc::clone(&self.core);
        let horizon = core.setup.store.horizon();
        let held = |origin: &Origin| horizon.get(origin).map_or(Seq(0), |cursor| cursor.seq);
        let ahead: BTreeSet<Origin> = core.views.all(|views| {
            let reachable = views.values().filter(|view| view.is_reachable(&core));
            let ahead = reachable.flat_map(|view| view.holdings.values());
            let ahead = ahead.filter(|holding| holding.cursor.seq > held(&holding.cursor.origin));
            ahead.map(|holding| holding.cursor.origin.clone()).collect()
        });
        self.behind.retain(|origin, _| ahead.contains(origin));
        for origin in ahead {
            let held = horizon.get(&origin).cloned();
            self.consider(held.unwrap_or_else(|| Cursor::start(origin)), now);
        }
        lock(&core.troubles)
            .held_back
            .retain(|origin, held| horizon.get(origin).is_none_or(|cursor| cursor.seq < held.seq));
    }

    /// Begins to pull a feed, if it should be and is not.
    fn consider(&mut self, held: Cursor, now: Instant) {
        let core = Arc::clone(&self.core);
        let origin = held.origin.clone();
        if core.region_of(&origin).is_none() {
            if self.strange.insert(origin.clone()) {
                let owners = core.views.all(|views| {
                    let holders = views.iter().filter(|(_, it)| it.holdings.contains_key(&origin));
                    holders.map(|(node, _)| node.clone()).next()
                });
                owners.iter().for_each(|peer| refused(peer, "stranger_feed", &origin));
            }
            return;
        }
        if core.setup.orderer.orders(&origin) || lock(&core.troubles).forks.contains_key(&origin) {
            return;
        }
        let behind =
            self.behind.entry(origin.clone()).or_insert(Behind { held: held.seq, since: now });
        if behind.held != held.seq {
            *behind = Behind { held: held.seq, since: now };
        }
        let behind_for = now - behind.since;
        if let Some(active) = self.active.get(&origin) {
            if behind_for >= NO_PROGRESS {
                tracing::info!(%origin, peer = %active.choice.node, chunks = active.progress.load(Ordering::Relaxed),
                    "a pull brings nothing while others have more");
                active.handle.abort();
                let peer = active.choice.node.clone();
                self.ended(&origin, peer, End::Lost);
            }
            return;
        }
        if self.active.len() >= PULLS {
            return;
        }
        let candidates = self.candidates(&origin);
        let urgent = lock(&core.urgent).contains_key(&origin);
        let (me, held_seq) = (&core.setup.me, held.seq);
        let question = Question {
            me,
            origin: &origin,
            held: held_seq,
            candidates: &candidates,
            urgent,
            behind_for,
        };
        if let Some(choice) = choose(&question) {
            self.begin(choice, held);
        }
    }

    fn candidates(&self, origin: &Origin) -> Vec<Candidate> {
        let core = &self.core;
        core.views.all(|views| {
            let reachable = views.iter().filter(|(_, view)| view.is_reachable(core));
            let candidate = |(node, view): (&NodeName, &crate::views::View)| {
                let peer = core.peer(node)?;
                let distance = if peer.site == core.setup.site {
                    Distance::Site
                } else if peer.region == core.setup.region {
                    Distance::Region
                } else {
                    Distance::Wide
                };
                let seq = view.holdings.get(origin).map_or(Seq(0), |held| held.cursor.seq);
                let avoided = self.avoided.contains_key(&(origin.clone(), node.clone()));
                let rtt = view.rtt.unwrap_or(Duration::ZERO);
                Some(Candidate { node: node.clone(), distance, rtt, seq, avoided })
            };
            reachable.filter_map(candidate).collect()
        })
    }

    fn begin(&mut self, choice: Choice, held: Cursor) {
        tracing::debug!(origin = %held.origin, seq = held.seq.0, from = %choice.node, "a pull begins");
        let (core, origin) = (Arc::clone(&self.core), held.origin.clone());
        let progress = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&progress);
        let (chosen, whose) = (choice.clone(), origin.clone());
        let handle = self.pulls.spawn(async move {
            let end = pull(&core, &chosen, held, &counted).await;
            (whose, chosen.node, end)
        });
        self.active.insert(origin, Active { choice, handle, progress });
    }
}
