//! This module purges the Raft log when it has become too long. What the log has said is in the state
//! by then, on the disk; a voter that lacks it goes on from the feeds.
//!
//! Raft snapshots, purges and applies at different paces: this is done rarely, one step after the
//! other, and far below what is being applied.

use std::sync::Arc;
use std::time::Duration;

use openraft::async_runtime::WatchReceiver;
use tokio::time::{sleep, timeout};

use crate::core::Core;
use crate::limits::{PURGE_EVERY, PURGE_KEEPS};

/// How long Raft may take to note a snapshot down.
const NOTED_WITHIN: Duration = Duration::from_secs(10);

/// Purges the log again and again.
pub(crate) async fn keep_purging(core: Arc<Core>) {
    loop {
        sleep(PURGE_EVERY).await;
        if let Some(upto) = due(&core) {
            purge(&core, upto).await;
        }
    }
}

/// Up to which index the log is too long, if it is.
fn due(core: &Core) -> Option<u64> {
    let last = core.log.last()?.index;
    let first = core.log.purged().map_or(0, |purged| purged.index + 1);
    let held = last.saturating_sub(first) + 1;
    let bytes = core.log.bytes();
    if bytes < 2 * core.limits.log_bytes {
        return None;
    }
    // As if all entries were of the same length.
    let kept = u128::from(held) * u128::from(core.limits.log_bytes) / u128::from(bytes.max(1));
    let kept = u64::try_from(kept).unwrap_or(u64::MAX).max(PURGE_KEEPS);
    let applied = core.progress.borrow().entries();
    let upto = last.saturating_sub(kept).min(applied.saturating_sub(PURGE_KEEPS));
    (upto > first).then_some(upto)
}

async fn purge(core: &Core, upto: u64) {
    let Some(raft) = core.raft() else { return };
    if raft.trigger().snapshot().await.is_err() {
        return;
    }
    let mut metrics = raft.metrics();
    let noted = async {
        loop {
            let snapshot = metrics.borrow_watched().snapshot.map(|log| log.index);
            if snapshot.is_some_and(|index| index >= upto) {
                return true;
            }
            if metrics.changed().await.is_err() {
                return false;
            }
        }
    };
    if timeout(NOTED_WITHIN, noted).await != Ok(true) {
        return;
    }
    tracing::info!(upto, "the Raft log is purged");
    metrics::counter!("chartmesh_region_log_purges_total").increment(1);
    if raft.trigger().purge_log(upto).await.is_err() {
        return;
    }
    let purged = async {
        while core.log.purged().is_none_or(|purged| purged.index < upto) {
            sleep(Duration::from_millis(50)).await;
        }
    };
    if timeout(NOTED_WITHIN, purged).await.is_ok() {
        core.blocking.run(|| core.log.shrink());
    }
}
