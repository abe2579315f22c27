//! This module hands leadership over: before the node stops, and while its clock is off.

use std::sync::Arc;

use openraft::async_runtime::WatchReceiver;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::core::Core;
use crate::limits::{ASK_EVERY, CLOCK_PAUSE, DRAIN, RETRY_PAUSE};

/// Finishes what this node is deciding, and sees to it that it leads no more.
pub(crate) async fn drain(core: &Core) {
    let deadline = Instant::now() + DRAIN;
    // Without a quorum what is in flight may never be decided.
    if timeout_at(deadline, core.queue.drain()).await.is_err() {
        tracing::warn!("what is in flight was not decided in time");
    }
    core.draining.send_replace(true);
    if core.leadership().is_none() || successor(core).is_none() {
        return;
    }
    let handed = core.until(|core| core.leadership().is_none());
    if timeout_at(deadline, handed).await.is_err() {
        tracing::warn!("leadership was not handed over in time");
    }
}

/// Once the node is about to stop: hands over whenever it leads.
pub(crate) async fn keep_off(core: Arc<Core>) {
    let _ = core.draining.subscribe().wait_for(|draining| *draining).await;
    if let Some(raft) = core.raft() {
        raft.runtime_config().elect(false);
    }
    loop {
        core.until(|core| core.leadership().is_some()).await;
        hand_over(&core).await;
        sleep(RETRY_PAUSE).await;
    }
}

/// Hands over while the clock is further from the others' than it may be.
pub(crate) async fn mind_clock(core: Arc<Core>) {
    loop {
        sleep(ASK_EVERY).await;
        if core.leadership().is_some() && core.feeds.clock_off() {
            tracing::warn!("this node's clock is off: another is to lead");
            if hand_over(&core).await {
                sleep(CLOCK_PAUSE).await;
            }
        }
    }
}

/// Hands leadership to another voter, if one is in reach. Says whether it was taken.
pub(crate) async fn hand_over(core: &Core) -> bool {
    let (Some(raft), Some(successor)) = (core.raft(), successor(core)) else { return false };
    tracing::info!(successor, "handing leadership over");
    if raft.trigger().transfer_leader(successor).await.is_err() {
        return false;
    }
    let handed = core.until(|core| core.leadership().is_none());
    timeout(2 * core.timers.election.1, handed).await.is_ok()
}

/// Whom to hand leadership to, if this node has it: the voter whose log is the longest among those
/// that answer.
fn successor(core: &Core) -> Option<u64> {
    core.leadership()?;
    let metrics = core.raft()?.metrics();
    let metrics = metrics.borrow_watched();
    let reachable: Vec<u64> = core
        .peers
        .status(core)
        .into_iter()
        .filter(|member| member.name != core.me && member.reachable)
        .filter_map(|member| member.raft_id)
        .collect();
    let matched = metrics.replication.as_ref()?.iter();
    let matched = matched.filter(|(id, _)| reachable.contains(id));
    matched.max_by_key(|(_, matched)| matched.as_ref().map(|log| log.index)).map(|(id, _)| *id)
}
