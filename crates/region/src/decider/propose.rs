//! This module puts proposals into the log, and confirms that this node still leads.

use std::time::Duration;

use chartmesh_wire::raft::Proposal;
use openraft::ReadPolicy;
use openraft::errors::ClientWriteError;
use openraft::impls::ProgressResponder;
use openraft::raft::ClientWriteResult;
use tokio::sync::oneshot;

use super::queue::Verdict;
use crate::core::Core;
use crate::submit::Fate;
use crate::types::{Fit, LeaderId, LogId, Sealed, TypeConfig};

/// This node decides no longer in the term in which it did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lost {
    /// What became of the last proposal.
    pub(super) fate: Fate,
}

/// A proposal on its way through the log.
pub(super) struct Proposed<'c> {
    core: &'c Core,
    leader: LeaderId,
    begun: Duration,
    commit: oneshot::Receiver<LogId>,
    apply: oneshot::Receiver<ClientWriteResult<TypeConfig>>,
}

impl Lost {
    /// What a command is answered whose proposal was the last.
    pub(super) fn verdict(self) -> Verdict {
        match self.fate {
            Fate::NotWritten => Verdict::NotLeader,
            Fate::Unknown => Verdict::Unknown,
        }
    }
}

/// Puts a proposal into the log in the term of this leader.
pub(super) async fn propose<'c>(
    core: &'c Core,
    leader: LeaderId,
    proposal: &Proposal,
) -> Result<Proposed<'c>, Lost> {
    let not_written = Lost { fate: Fate::NotWritten };
    let raft = core.raft().ok_or(not_written)?;
    let begun = core.clock.monotonic();
    let (responder, commit, apply) = ProgressResponder::new();
    let write = raft.write(Sealed(proposal.encode())).with_leader(leader).responder(responder);
    write.await.map_err(|_| not_written)?;
    Ok(Proposed { core, leader, begun, commit, apply })
}

impl Proposed<'_> {
    /// Returns once it is committed: whatever happens, all voters will apply it. Says its index.
    pub(super) async fn committed(&mut self) -> Result<u64, Lost> {
        let committed = tokio::select! {
            biased;
            committed = &mut self.commit => committed,
            () = self.core.until(|core| core.leadership() != Some(self.leader)) => {
                return Err(Lost { fate: Fate::Unknown });
            }
        };
        match committed {
            Ok(committed) => Ok(committed.index),
            // What was refused is never committed; the reason comes in the other's place.
            Err(_) => match (&mut self.apply).await {
                Ok(Err(refused)) => Err(lost(&refused)),
                Ok(Ok(_)) | Err(_) => Err(Lost { fate: Fate::Unknown }),
            },
        }
    }

    /// Returns once this node has applied it. Says how it fits, and its index.
    pub(super) async fn applied(mut self) -> Result<(Fit, u64), Lost> {
        let applied = tokio::select! {
            biased;
            applied = &mut self.apply => applied,
            () = self.core.until(|core| core.leadership() != Some(self.leader)) => {
                return Err(Lost { fate: Fate::Unknown });
            }
        };
        let applied = applied.map_err(|_| Lost { fate: Fate::Unknown })?;
        let applied = applied.map_err(|refused| lost(&refused))?;
        let took = self.core.clock.monotonic().saturating_sub(self.begun);
        metrics::histogram!("chartmesh_region_proposal_seconds").record(took.as_secs_f64());
        Ok((applied.data, applied.log_id.index))
    }
}

fn lost(refused: &ClientWriteError<TypeConfig>) -> Lost {
    match refused {
        ClientWriteError::ForwardToLeader(_) => Lost { fate: Fate::NotWritten },
        _ => Lost { fate: Fate::Unknown },
    }
}

/// Whether a quorum confirms, from now on, that this node leads in the same term as before.
pub(super) async fn confirm(core: &Core, leader: LeaderId) -> bool {
    let Some(raft) = core.raft() else { return false };
    match raft.get_read_linearizer(ReadPolicy::ReadIndex).await {
        Ok(linearizer) => linearizer.read_log_id().log_id().leader_id == leader,
        Err(_) => false,
    }
}
