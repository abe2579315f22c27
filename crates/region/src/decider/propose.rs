//! This module puts proposals into the log, and confirms that this node still leads.

use chartmesh_wire::raft::Proposal;
use openraft::ReadPolicy;
use openraft::errors::ClientWriteError;
use openraft::impls::ProgressResponder;

use crate::core::Core;
use crate::submit::Fate;
use crate::types::{Fit, LeaderId, Sealed};

/// This node decides no longer in the term in which it did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lost {
    /// What became of the last proposal.
    pub(super) fate: Fate,
}

/// Puts a proposal into the log in the term of this leader, and waits until this node has applied
/// it. Says how it fits, and its index.
pub(super) async fn propose(
    core: &Core,
    leader: LeaderId,
    proposal: &Proposal,
) -> Result<(Fit, u64), Lost> {
    let not_written = Lost { fate: Fate::NotWritten };
    let unknown = Lost { fate: Fate::Unknown };
    let raft = core.raft().ok_or(not_written)?;
    let begun = core.clock.monotonic();
    let (responder, applied) = ProgressResponder::complete_only();
    let write = raft.write(Sealed(proposal.encode())).with_leader(leader).responder(responder);
    write.await.map_err(|_| not_written)?;
    let written = tokio::select! {
        written = applied => written.map_err(|_| unknown)?,
        () = core.until(|core| core.leadership() != Some(leader)) => return Err(unknown),
    };
    match written {
        Ok(written) => {
            let took = core.clock.monotonic().saturating_sub(begun);
            metrics::histogram!("chartmesh_region_proposal_seconds").record(took.as_secs_f64());
            Ok((written.data, written.log_id.index))
        }
        Err(ClientWriteError::ForwardToLeader(_)) => Err(not_written),
        Err(_) => Err(unknown),
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
