//! This module turns openraft's types into messages and back, and into the Raft log's entries: no
//! other place knows both.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use chartmesh_store as store;
use chartmesh_wire::{proto, raft as wire};
use openraft::EntryPayload;
use openraft::entry::RaftEntry;
use openraft::raft::{
    StreamAppendError, TransferLeaderError, TransferLeaderRequest, TransferLeaderResponse,
    VoteRequest, VoteResponse,
};
use openraft::vote::{RaftLeaderId, RaftVote};

use crate::position::Position;
use crate::setup::Corrupt;
use crate::state_machine::Covered;
use crate::types::{
    AppendRequest, AppendResult, Entry, LeaderId, LogId, Membership, Payload, Peer, Sealed,
    StoredMembership, TypeConfig, Vote,
};

/// A message that a voter of the same software would not have sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} is missing or not valid")]
pub(crate) struct Unexpected {
    pub(crate) field: &'static str,
}

fn required<T>(value: Option<T>, field: &'static str) -> Result<T, Unexpected> {
    value.ok_or(Unexpected { field })
}

pub(crate) fn log_id_to(id: &LogId) -> proto::LogId {
    let LeaderId { term, node_id } = id.leader_id;
    proto::LogId { term, leader: node_id, index: id.index }
}

pub(crate) fn log_id_from(id: &proto::LogId) -> LogId {
    openraft::LogId { leader_id: LeaderId { term: id.term, node_id: id.leader }, index: id.index }
}

pub(crate) fn stored_id_to(id: &LogId) -> store::LogId {
    let LeaderId { term, node_id } = id.leader_id;
    store::LogId { term, leader: node_id, index: id.index }
}

pub(crate) fn stored_id_from(id: store::LogId) -> LogId {
    openraft::LogId { leader_id: LeaderId { term: id.term, node_id: id.leader }, index: id.index }
}

pub(crate) fn vote_to(vote: &Vote) -> proto::Vote {
    let LeaderId { term, node_id } = *vote.leader_id();
    proto::Vote { term, leader: node_id, committed: vote.is_committed() }
}

pub(crate) fn vote_from(vote: &proto::Vote) -> Vote {
    let leader = <LeaderId as RaftLeaderId>::new(vote.term, vote.leader);
    Vote::from_leader_id(leader, vote.committed)
}

pub(crate) fn membership_to(membership: &Membership) -> proto::Membership {
    let configs = membership.get_joint_config().iter();
    let nodes = membership.nodes().map(|(&id, peer)| proto::RaftNode {
        id,
        name: peer.name.as_ref().map(ToString::to_string).unwrap_or_default(),
        address: peer.address.clone(),
    });
    proto::Membership {
        configs: configs
            .map(|ids| proto::VoterSet { ids: ids.iter().copied().collect() })
            .collect(),
        nodes: nodes.collect(),
    }
}

pub(crate) fn membership_from(message: &proto::Membership) -> Result<Membership, Unexpected> {
    let field = "Membership.nodes";
    let configs: Vec<BTreeSet<u64>> =
        message.configs.iter().map(|set| set.ids.iter().copied().collect()).collect();
    let nodes: BTreeMap<u64, Peer> = message
        .nodes
        .iter()
        .map(|node| {
            let name = match node.name.as_str() {
                "" => None,
                name => Some(name.parse().map_err(|_| Unexpected { field })?),
            };
            Ok((node.id, Peer { name, address: node.address.clone() }))
        })
        .collect::<Result<_, Unexpected>>()?;
    if configs.is_empty() && nodes.is_empty() {
        return Ok(Membership::default());
    }
    Membership::new(configs, nodes).map_err(|_| Unexpected { field })
}

pub(crate) fn stored_membership_to(membership: &StoredMembership) -> proto::StoredMembership {
    proto::StoredMembership {
        at: membership.log_id().as_ref().map(log_id_to),
        membership: Some(membership_to(membership.membership())),
    }
}

pub(crate) fn stored_membership_from(
    message: &proto::StoredMembership,
) -> Result<StoredMembership, Unexpected> {
    let membership = required(message.membership.as_ref(), "StoredMembership.membership")?;
    let at = message.at.as_ref().map(log_id_from);
    Ok(StoredMembership::new(at, membership_from(membership)?))
}

/// A snapshot, as a leader sends it to a voter.
pub(crate) fn snapshot_to(to: u64, vote: &Vote, covered: &Covered) -> proto::SnapshotRequest {
    proto::SnapshotRequest {
        to,
        vote: Some(vote_to(vote)),
        applied: Some(covered.position.to_message()),
        feeds: covered.feeds.iter().map(wire::encode_cursor).collect(),
    }
}

pub(crate) fn snapshot_from(
    message: &proto::SnapshotRequest,
) -> Result<(Vote, Covered), Unexpected> {
    let vote = required(message.vote.as_ref().map(vote_from), "SnapshotRequest.vote")?;
    let field = "SnapshotRequest.applied";
    let applied = required(message.applied.as_ref(), field)?;
    let position = Position::from_message(applied).map_err(|_| Unexpected { field })?;
    if position.log.is_none() {
        return Err(Unexpected { field });
    }
    let feeds = message.feeds.iter().map(wire::decode_cursor).collect::<Result<_, _>>();
    let feeds = feeds.map_err(|_| Unexpected { field: "SnapshotRequest.feeds" })?;
    Ok((vote, Covered { position, feeds }))
}

pub(crate) fn entry_to(entry: &Entry) -> proto::LogEntry {
    use proto::log_entry::Payload as Wire;
    let payload = match &entry.payload {
        EntryPayload::Blank => None,
        EntryPayload::Normal(Sealed(bytes)) => Some(Wire::Proposal(bytes.clone())),
        EntryPayload::Membership(membership) => Some(Wire::Membership(membership_to(membership))),
    };
    proto::LogEntry { id: Some(log_id_to(&entry.log_id)), payload }
}

pub(crate) fn entry_from(message: proto::LogEntry) -> Result<Entry, Unexpected> {
    use proto::log_entry::Payload as Wire;
    let id = required(message.id.as_ref(), "LogEntry.id")?;
    let payload: Payload = match message.payload {
        None => EntryPayload::Blank,
        Some(Wire::Proposal(bytes)) => EntryPayload::Normal(Sealed(bytes)),
        Some(Wire::Membership(membership)) => {
            EntryPayload::Membership(membership_from(&membership)?)
        }
    };
    Ok(Entry::new(log_id_from(id), payload))
}

/// An entry as it is kept in the log.
pub(crate) fn entry_bytes(entry: &Entry) -> (store::LogId, Bytes) {
    (stored_id_to(&entry.log_id), wire::encode_entry(&entry_to(entry)))
}

/// An entry that was kept in the log.
pub(crate) fn entry_kept(bytes: Bytes) -> Result<Entry, Corrupt> {
    let corrupt = |reason: String| Corrupt { what: "an entry of the Raft log", reason };
    let message = wire::decode_entry(bytes).map_err(|error| corrupt(error.to_string()))?;
    entry_from(message).map_err(|error| corrupt(error.to_string()))
}

pub(crate) fn append_to(to: u64, request: &AppendRequest) -> proto::AppendRequest {
    proto::AppendRequest {
        to,
        vote: Some(vote_to(&request.vote)),
        previous: request.prev_log_id.as_ref().map(log_id_to),
        entries: request.entries.iter().map(entry_to).collect(),
        committed: request.leader_commit.as_ref().map(log_id_to),
    }
}

pub(crate) fn append_from(message: proto::AppendRequest) -> Result<AppendRequest, Unexpected> {
    Ok(AppendRequest {
        vote: vote_from(&required(message.vote, "AppendRequest.vote")?),
        prev_log_id: message.previous.as_ref().map(log_id_from),
        entries: message.entries.into_iter().map(entry_from).collect::<Result<_, _>>()?,
        leader_commit: message.committed.as_ref().map(log_id_from),
    })
}

pub(crate) fn appended_to(result: &AppendResult) -> proto::AppendResponse {
    use proto::append_response::Answer;
    let answer = match result {
        Ok(last) => Answer::Matched(proto::Matched { last: last.as_ref().map(log_id_to) }),
        Err(StreamAppendError::Conflict(at)) => Answer::Conflict(log_id_to(at)),
        Err(StreamAppendError::HigherVote(vote)) => Answer::HigherVote(vote_to(vote)),
    };
    proto::AppendResponse { answer: Some(answer) }
}

pub(crate) fn appended_from(message: proto::AppendResponse) -> Result<AppendResult, Unexpected> {
    use proto::append_response::Answer;
    Ok(match required(message.answer, "AppendResponse.answer")? {
        Answer::Matched(matched) => Ok(matched.last.as_ref().map(log_id_from)),
        Answer::Conflict(at) => Err(StreamAppendError::Conflict(log_id_from(&at))),
        Answer::HigherVote(vote) => Err(StreamAppendError::HigherVote(vote_from(&vote))),
    })
}

pub(crate) fn vote_request_to(to: u64, request: &VoteRequest<TypeConfig>) -> proto::VoteRequest {
    proto::VoteRequest {
        to,
        vote: Some(vote_to(&request.vote)),
        last: request.last_log_id.as_ref().map(log_id_to),
        transfer: request.leadership_transfer,
    }
}

pub(crate) fn vote_request_from(
    message: &proto::VoteRequest,
) -> Result<VoteRequest<TypeConfig>, Unexpected> {
    let vote = required(message.vote.as_ref(), "VoteRequest.vote")?;
    let last = message.last.as_ref().map(log_id_from);
    let mut request = VoteRequest::new(vote_from(vote), last);
    request.leadership_transfer = message.transfer;
    Ok(request)
}

pub(crate) fn vote_response_to(response: &VoteResponse<TypeConfig>) -> proto::VoteResponse {
    proto::VoteResponse {
        vote: Some(vote_to(&response.vote)),
        granted: response.vote_granted,
        last: response.last_log_id.as_ref().map(log_id_to),
    }
}

pub(crate) fn vote_response_from(
    message: &proto::VoteResponse,
) -> Result<VoteResponse<TypeConfig>, Unexpected> {
    let vote = vote_from(required(message.vote.as_ref(), "VoteResponse.vote")?);
    let last = message.last.as_ref().map(log_id_from);
    Ok(VoteResponse::new(vote, last, message.granted))
}

pub(crate) fn transfer_to(
    to: u64,
    request: &TransferLeaderRequest<TypeConfig>,
) -> proto::TransferRequest {
    proto::TransferRequest {
        to,
        from: Some(vote_to(request.from_leader())),
        successor: *request.to_node_id(),
        last: request.last_log_id().map(log_id_to),
    }
}

pub(crate) fn transfer_from(
    message: &proto::TransferRequest,
) -> Result<TransferLeaderRequest<TypeConfig>, Unexpected> {
    let from = vote_from(required(message.from.as_ref(), "TransferRequest.from")?);
    let last = message.last.as_ref().map(log_id_from);
    Ok(TransferLeaderRequest::new(from, message.successor, last))
}

pub(crate) fn transferred_to(
    response: &TransferLeaderResponse<TypeConfig>,
) -> proto::TransferResponse {
    use proto::transfer_response::Refusal;
    let refusal = match response {
        Ok(()) => None,
        Err(TransferLeaderError::VoteChanged { actual, .. }) => {
            Some(Refusal::VoteChanged(vote_to(actual)))
        }
        Err(TransferLeaderError::LogNotFlushed { actual, .. }) => {
            Some(Refusal::NotSynced(proto::Matched { last: actual.as_ref().map(log_id_to) }))
        }
    };
    proto::TransferResponse { refusal }
}

pub(crate) fn transferred_from(
    request: &TransferLeaderRequest<TypeConfig>,
    message: proto::TransferResponse,
) -> TransferLeaderResponse<TypeConfig> {
    use proto::transfer_response::Refusal;
    match message.refusal {
        None => Ok(()),
        Some(Refusal::VoteChanged(vote)) => Err(TransferLeaderError::VoteChanged {
            expected: *request.from_leader(),
            actual: vote_from(&vote),
        }),
        Some(Refusal::NotSynced(matched)) => Err(TransferLeaderError::LogNotFlushed {
            expected: request.last_log_id().cloned(),
            actual: matched.last.as_ref().map(log_id_from),
        }),
    }
}
