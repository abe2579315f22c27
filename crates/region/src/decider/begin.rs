//! This module begins a term: it catches up, finds out whether the region goes on with its origin, and
//! first pulls up to what the last statement names.

use std::collections::BTreeSet;
use std::sync::Arc;

use chartmesh_record::{Cursor, Origin, Timestamp, mutant};
use chartmesh_wire::raft::Proposal;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::time::Instant;

use super::propose::propose;
use super::{Decider, Inherited, Term};
use crate::core::Core;
use crate::limits::{NAMED_WAIT, STATEMENT_EVERY, WARM_WAIT};
use crate::members;
use crate::types::{Fit, LeaderId};

impl Decider {
    /// Begins a term, unless it ends before: waits until this node has applied its own term's first
    /// entry, and with it all that was decided before.
    pub(super) async fn begin(&mut self, leader: LeaderId) -> Option<Term> {
        let core = Arc::clone(&self.core);
        let mut progress = core.progress.clone();
        let hasty = mutant("decides-before-own-first-entry");
        if !hasty {
            let first = progress.wait_for(|position| {
                position.log.as_ref().is_some_and(|log| log.leader_id == leader)
            });
            tokio::select! {
                biased;
                first = first => drop(first.ok()?),
                () = core.until(|core| core.leadership() != Some(leader)) => return None,
            }
            self.catch_up(leader).await?;
        }
        members::finish_half_done(&core);
        let stands = core.progress.borrow().origin.clone();
        let began = match stands {
            Some(origin) if hasty || mutant("origin-kept-after-restart") => {
                core.store.cursor(&origin)
            }
            Some(origin) => {
                let remembered = is_remembered(&core, &origin);
                let remembered = tokio::time::timeout(WARM_WAIT, remembered).await;
                match remembered.unwrap_or(false) {
                    true => core.store.cursor(&origin),
                    false => self.begin_feed(leader, Some(core.store.cursor(&origin))).await?,
                }
            }
            None => self.begin_feed(leader, None).await?,
        };
        let inherited = Inherited::from(&core);
        let named = core.progress.borrow().statement.clone();
        let named = named.map(|statement| statement.holds).unwrap_or_default();
        let lacks = |cursor: &Cursor| core.store.cursor(&cursor.origin).seq < cursor.seq;
        let lacking: Vec<Cursor> = named.into_iter().filter(lacks).collect();
        if !lacking.is_empty() {
            core.feeds.hold(lacking, NAMED_WAIT).await;
        }
        tracing::info!(term = leader.term, seq = began.seq.0, "this node decides");
        metrics::counter!("chartmesh_region_terms_led_total").increment(1);
        let speak_at = Instant::now();
        // A statement waits for its own entry to be applied, and a hasty one does not wait.
        let speak_at = if hasty { speak_at + STATEMENT_EVERY } else { speak_at };
        Some(Term { leader, began, last: Timestamp(0), inherited, speak_at, silent: None })
    }

    /// Waits until this node has applied all that its own log holds. A term that is taken up again,
    /// because Raft refused one proposal of it, may have others that are committed but not applied.
    async fn catch_up(&self, leader: LeaderId) -> Option<()> {
        let core = &self.core;
        let last =
            core.raft()?.with_raft_state(|state| state.log_ids.last().copied()).await.ok()?;
        let mut progress = core.progress.clone();
        let caught_up = progress.wait_for(|position| position.log >= last);
        tokio::select! {
            biased;
            caught_up = caught_up => caught_up.ok().map(drop),
            () = core.until(|core| core.leadership() != Some(leader)) => None,
        }
    }

    /// Begins the region's feed.
    async fn begin_feed(&self, leader: LeaderId, continues: Option<Cursor>) -> Option<Cursor> {
        let origin = Origin::new(&self.core.region.0, self.core.random.bits());
        let stamp = self.stamp(Timestamp(0));
        let at = self.proposing(stamp);
        let after = continues.as_ref().map(|cursor| format!("{} of {}", cursor.seq, cursor.origin));
        tracing::info!(%origin, ?after, "a feed of the region begins");
        let begin = Proposal::Begin { origin: origin.clone(), continues, at };
        let proposed = propose(&self.core, leader, &begin).await.ok()?;
        let (fit, _) = proposed.applied().await.ok()?;
        (fit == Fit::Applied).then(|| Cursor::start(origin))
    }
}

/// Whether a majority of the voters, this node included, has in its present process taken an entry of
/// an origin from a live leader. Returns as soon as it is known that one has.
async fn is_remembered(core: &Core, origin: &Origin) -> bool {
    let Some(membership) = core.membership() else { return false };
    let voters: BTreeSet<u64> = membership.voter_ids().collect();
    let majority = voters.len() / 2 + 1;
    let own = core.warm.origin().as_ref() == Some(origin) && voters.contains(&core.raft_id());
    let mut warm = usize::from(own);
    let greetings = core.others().map(|member| core.peers.greet_one(core, member));
    let mut greetings: FuturesUnordered<_> = greetings.collect();
    while warm < majority {
        let Some(greeting) = greetings.next().await else { break };
        let counts = greeting.is_some_and(|greeting| {
            voters.contains(&greeting.raft_id) && greeting.warm == origin.as_str()
        });
        warm += usize::from(counts);
    }
    warm >= majority
}
