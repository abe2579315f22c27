//! This module answers the other nodes of the region. Every call is checked against the node that
//! the connection belongs to.

use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use chartmesh_record::{Cursor, NodeName, mutant};
use chartmesh_wire::proto::raft_server::{self, RaftServer};
use chartmesh_wire::proto::region_server::{self, RegionServer};
use chartmesh_wire::raft::{decode_cursor, encode_cursor};
use chartmesh_wire::{
    MAX_COMMAND_BYTES, OPERATOR, PeerIdentity, decode_command, encode_outcome, proto,
    region as wire,
};
use futures::{Stream, StreamExt, stream};
use openraft::ReadPolicy;
use tonic::{Request, Response, Status, Streaming};

use crate::codec::{
    append_from, appended_to, log_id_to, membership_to, snapshot_from, transfer_from,
    transferred_to, vote_request_from, vote_response_to, vote_to,
};
use crate::core::Core;
use crate::decider::{Load, Queue, Room, Verdict};
use crate::forward::unless_lacking;
use crate::limits::{BATCH_BYTES, FEED_WAIT, MESSAGE_BYTES, PIECE_BYTES};
use crate::peers::myself;
use crate::state_machine::Covered;
use crate::types::Raft;
use crate::{isolation, members};

/// What the node offers to the other nodes of its region.
/// Clones are handles to the same.
#[derive(Clone, Debug)]
pub struct Services(Arc<Core>);

impl Services {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        Self(core)
    }

    /// The service that voters speak Raft with. The extensions of every request must hold a
    /// [`PeerIdentity`].
    #[must_use]
    pub fn raft(&self) -> RaftServer<Self> {
        RaftServer::new(self.clone())
            .max_decoding_message_size(MESSAGE_BYTES)
            .max_encoding_message_size(MESSAGE_BYTES)
    }

    /// The service that writes are passed on to. The extensions of every request must hold a
    /// [`PeerIdentity`].
    #[must_use]
    pub fn region(&self) -> RegionServer<Self> {
        RegionServer::new(self.clone())
            .max_decoding_message_size(MESSAGE_BYTES)
            .max_encoding_message_size(MESSAGE_BYTES)
    }

    /// The voter at the other end.
    fn peer<T>(&self, request: &Request<T>) -> Result<NodeName, Status> {
        let peer = request.extensions().get::<PeerIdentity>();
        let peer = peer.ok_or_else(|| refused(None, "the connection has no identity"))?;
        if self.0.voters.iter().any(|member| member.name == peer.0) {
            Ok(peer.0.clone())
        } else {
            Err(refused(Some(&peer.0), "not a voter of this region"))
        }
    }

    /// The node of this region at the other end.
    fn node<T>(&self, request: &Request<T>) -> Result<NodeName, Status> {
        let peer = request.extensions().get::<PeerIdentity>();
        let peer = peer.ok_or_else(|| refused(None, "the connection has no identity"))?;
        if self.0.nodes().any(|node| *node == peer.0) {
            Ok(peer.0.clone())
        } else {
            Err(refused(Some(&peer.0), "not a node of this region"))
        }
    }

    /// Raft, for a message that is meant for this disk.
    fn raft_for(&self, to: u64) -> Result<Raft, Status> {
        if to != self.0.raft_id() {
            return Err(Status::failed_precondition("meant for another disk of this node"));
        }
        let raft = self.0.raft().cloned();
        raft.ok_or_else(|| Status::unavailable("this node takes no part in its region yet"))
    }

    /// Refuses a message in the name of another voter.
    fn claims(&self, peer: &NodeName, voter: Option<u64>) -> Result<(), Status> {
        let voter = voter.ok_or_else(|| Status::invalid_argument("it names no voter"))?;
        let membership = self.0.membership();
        let named = membership.as_ref().and_then(|membership| membership.get_node(&voter));
        match named.and_then(|node| node.name.as_ref()) {
            Some(name) if name != peer => {
                Err(refused(Some(peer), &format!("it speaks in the name of {name}")))
            }
            _ => Ok(()),
        }
    }
}

/// A refusal, told and counted.
fn refused(peer: Option<&NodeName>, why: &str) -> Status {
    let peer = peer.map_or("unknown", NodeName::as_str);
    tracing::warn!(peer, why, "a call is refused");
    metrics::counter!("chartmesh_region_refused_calls_total").increment(1);
    Status::permission_denied(why)
}

fn leader_of(vote: Option<&proto::Vote>) -> Option<u64> {
    vote.map(|vote| vote.leader)
}

fn fatal(error: impl std::fmt::Display) -> Status {
    Status::unavailable(error.to_string())
}

type Answers = Pin<Box<dyn Stream<Item = Result<proto::AppendResponse, Status>> + Send>>;

#[tonic::async_trait]
impl raft_server::Raft for Services {
    type AppendStream = Answers;

    async fn append(
        &self,
        request: Request<Streaming<proto::AppendRequest>>,
    ) -> Result<Response<Answers>, Status> {
        let peer = self.peer(&request)?;
        let raft = self.raft_for(self.0.raft_id())?;
        // Why the stream of requests has ended before its time.
        let broken: Arc<Mutex<Option<Status>>> = Arc::default();
        let note = Arc::clone(&broken);
        let services = self.clone();
        let admitted = request.into_inner().map(move |message| {
            let message = message?;
            services.raft_for(message.to)?;
            services.claims(&peer, leader_of(message.vote.as_ref()))?;
            append_from(message).map_err(|error| Status::invalid_argument(error.to_string()))
        });
        let admitted = admitted.scan((), move |(), message: Result<_, Status>| {
            let message = message.map_err(|status| {
                *note.lock().unwrap_or_else(PoisonError::into_inner) = Some(status);
            });
            std::future::ready(message.ok())
        });
        let answers = raft.stream_append(admitted).map(|answer| match answer {
            Ok(answer) => Ok(appended_to(&answer)),
            Err(error) => Err(fatal(error)),
        });
        let ending =
            stream::once(
                async move { broken.lock().unwrap_or_else(PoisonError::into_inner).take() },
            );
        let ending = ending.filter_map(|broken| std::future::ready(broken.map(Err)));
        Ok(Response::new(Box::pin(answers.chain(ending))))
    }

    async fn vote(
        &self,
        request: Request<proto::VoteRequest>,
    ) -> Result<Response<proto::VoteResponse>, Status> {
        let peer = self.peer(&request)?;
        let message = request.into_inner();
        let raft = self.raft_for(message.to)?;
        self.claims(&peer, leader_of(message.vote.as_ref()))?;
        let vote = vote_request_from(&message)
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let response = raft.vote(vote).await.map_err(fatal)?;
        Ok(Response::new(vote_response_to(&response)))
    }

    async fn pre_vote(
        &self,
        request: Request<proto::VoteRequest>,
    ) -> Result<Response<proto::VoteResponse>, Status> {
        let peer = self.peer(&request)?;
        let message = request.into_inner();
        let raft = self.raft_for(message.to)?;
        self.claims(&peer, leader_of(message.vote.as_ref()))?;
        let vote = vote_request_from(&message)
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let response = raft.pre_vote(vote).await.map_err(fatal)?;
        Ok(Response::new(vote_response_to(&response)))
    }

    async fn transfer_leader(
        &self,
        request: Request<proto::TransferRequest>,
    ) -> Result<Response<proto::TransferResponse>, Status> {
        let peer = self.peer(&request)?;
        let message = request.into_inner();
        let raft = self.raft_for(message.to)?;
        self.claims(&peer, leader_of(message.from.as_ref()))?;
        if *self.0.draining.borrow() {
            return Err(Status::unavailable("this node is about to stop"));
        }
        let transfer =
            transfer_from(&message).map_err(|error| Status::invalid_argument(error.to_string()))?;
        let response = raft.handle_transfer_leader(transfer).await.map_err(fatal)?;
        Ok(Response::new(transferred_to(&response)))
    }

    async fn snapshot(
        &self,
        request: Request<proto::SnapshotRequest>,
    ) -> Result<Response<proto::SnapshotResponse>, Status> {
        let peer = self.peer(&request)?;
        let message = request.into_inner();
        let raft = self.raft_for(message.to)?;
        self.claims(&peer, leader_of(message.vote.as_ref()))?;
        let (vote, covered) =
            snapshot_from(&message).map_err(|error| Status::invalid_argument(error.to_string()))?;
        self.hold(&covered).await?;
        let index = covered.position.entries();
        let response =
            raft.install_full_snapshot(vote, covered.into_snapshot()).await.map_err(fatal)?;
        tracing::info!(%peer, index, "this node goes on from a snapshot");
        Ok(Response::new(proto::SnapshotResponse { vote: Some(vote_to(&response.vote)) }))
    }
}

impl Services {
    /// Waits until this node holds what a snapshot is about, on its disk: only then Raft may count on
    /// it.
    async fn hold(&self, covered: &Covered) -> Result<(), Status> {
        let core = &self.0;
        if mutant("snapshot-without-its-data") {
            return Ok(());
        }
        if !core.feeds.hold(covered.feeds.clone(), FEED_WAIT).await {
            return Err(Status::unavailable("the feeds have not arrived that far yet"));
        }
        core.blocking.run(|| core.store.sync()).map_err(fatal)
    }
}

#[tonic::async_trait]
impl region_server::Region for Services {
    async fn hello(
        &self,
        request: Request<proto::HelloRequest>,
    ) -> Result<Response<proto::HelloResponse>, Status> {
        let peer = self.node(&request)?;
        let message = request.into_inner();
        let named = message.node.as_ref().map(|node| node.name.as_str());
        if named != Some(peer.as_str()) || message.region != self.0.region.as_str() {
            return Err(refused(Some(&peer), "it greets in another name"));
        }
        let core = &self.0;
        let asker = message.node.as_ref().map_or(0, |node| node.id);
        if !message.promises.is_empty() && core.voters.iter().any(|voter| voter.name == peer) {
            core.promises.learn(core, &message.promises);
        }
        let membership = core.stored_membership();
        let at = membership.as_ref().and_then(|stored| stored.log_id().as_ref().map(log_id_to));
        Ok(Response::new(proto::HelloResponse {
            region: core.region.to_string(),
            node: Some(myself(core)),
            membership: membership.map(|stored| membership_to(stored.membership())),
            warm: core.warm.origin().map(|origin| origin.to_string()).unwrap_or_default(),
            membership_at: at,
            holds_log: core.log.last().is_some() || core.log.vote().is_some(),
            promise: core.promises.of(asker).map(|promise| promise.encode(asker)),
            recovery: core.recovery.load(Ordering::Acquire),
        }))
    }

    async fn submit(
        &self,
        request: Request<Streaming<proto::SubmitRequest>>,
    ) -> Result<Response<proto::SubmitResponse>, Status> {
        let peer = self.node(&request)?;
        // Before anything is kept: whether it is for this node, and whether there is room.
        let verdict = match self.0.leadership() {
            Some(_) => match receive(&self.0.queue, request.into_inner(), &peer).await? {
                Some(received) => decide(&self.0, received).await,
                None => Verdict::Overloaded,
            },
            None => Verdict::NotLeader,
        };
        let leader = || self.0.leader().map(|(_, name)| name.to_string()).unwrap_or_default();
        Ok(Response::new(verdict_to(verdict, leader)))
    }

    async fn linearize(
        &self,
        request: Request<proto::LinearizeRequest>,
    ) -> Result<Response<proto::LinearizeResponse>, Status> {
        use proto::linearize_response::Answer;
        self.node(&request)?;
        let mut feeds = Vec::new();
        let mut index = read_index(&self.0).await;
        if let Some(at) = index {
            match self.0.applied_feeds(at).await {
                Some(held) => feeds = held.iter().map(encode_cursor).collect(),
                None => index = None,
            }
        }
        let answer = match (index, self.0.leader()) {
            (Some(index), _) => Answer::Index(index),
            (None, Some((_, leader))) if leader != self.0.me => {
                Answer::NotLeader(proto::NotLeader { leader: leader.to_string() })
            }
            (None, _) => Answer::NoQuorum(proto::Nothing {}),
        };
        Ok(Response::new(proto::LinearizeResponse { answer: Some(answer), feeds }))
    }

    async fn ask(
        &self,
        request: Request<proto::AskRequest>,
    ) -> Result<Response<proto::AskResponse>, Status> {
        let peer = self.node(&request)?;
        Ok(Response::new(isolation::answer(&self.0, &peer, request.get_ref())))
    }

    async fn join(
        &self,
        request: Request<proto::JoinRequest>,
    ) -> Result<Response<proto::JoinResponse>, Status> {
        use proto::join_response::Answer;
        let peer = self.peer(&request)?;
        let node = request.into_inner().node;
        let Some(node) = node.filter(|node| node.name == peer.as_str() && node.id != 0) else {
            return Err(refused(Some(&peer), "it asks in another name"));
        };
        let answer = match self.0.leadership() {
            Some(_) => match members::welcome(&self.0, node.id, &peer) {
                Ok(()) => Answer::Welcome(proto::Nothing {}),
                Err(reason) => Answer::Refused(reason),
            },
            None => {
                let leader = self.0.leader().map(|(_, leader)| leader.to_string());
                Answer::NotLeader(proto::NotLeader { leader: leader.unwrap_or_default() })
            }
        };
        Ok(Response::new(proto::JoinResponse { answer: Some(answer) }))
    }

    async fn change(
        &self,
        request: Request<proto::ChangeRequest>,
    ) -> Result<Response<proto::ChangeResponse>, Status> {
        use proto::change_request::Change;
        use proto::change_response::Answer;
        let peer = request.extensions().get::<PeerIdentity>().map(|peer| peer.0.clone());
        if peer.as_ref().map(NodeName::as_str) != Some(OPERATOR) {
            return Err(refused(peer.as_ref(), "only the operator changes who votes"));
        }
        let change = request.into_inner().change;
        let change = change.ok_or_else(|| Status::invalid_argument("it names no change"))?;
        if self.0.leadership().is_none() {
            let leader = self.0.leader().map(|(_, leader)| leader.to_string());
            let answer = Answer::NotLeader(proto::NotLeader { leader: leader.unwrap_or_default() });
            return Ok(Response::new(proto::ChangeResponse { answer: Some(answer) }));
        }
        let done = match change {
            Change::Add(name) => members::invite(&self.0, &name).await,
            Change::Remove(name) => members::remove(&self.0, &name).await,
        };
        let answer = done.map_or_else(Answer::Refused, Answer::Done);
        Ok(Response::new(proto::ChangeResponse { answer: Some(answer) }))
    }
}

/// A command that was passed on.
struct Received {
    load: Load,
    room: Room,
    /// By what the node that has passed it on is ahead.
    ahead: Vec<Cursor>,
}

/// Decides a command that was passed on, over what its node holds, as far as it can be had.
async fn decide(core: &Core, received: Received) -> Verdict {
    let Received { load, room, ahead } = received;
    core.catch_up_with(ahead).await;
    let mut room = Some(room);
    let decide = || core.queue.decide(load.clone(), room.take(), std::future::pending());
    match core.leadership() {
        Some(_) => unless_lacking(core, decide).await,
        None => Verdict::NotLeader,
    }
}

/// Reads a command that is passed on; `None` if there is no room for it.
async fn receive(
    queue: &Queue,
    mut stream: Streaming<proto::SubmitRequest>,
    peer: &NodeName,
) -> Result<Option<Received>, Status> {
    let bad = |why: &str| Status::invalid_argument(why.to_owned());
    let first = stream.message().await?.ok_or_else(|| bad("it is empty"))?;
    let header = first.header.ok_or_else(|| bad("the header is missing"))?;
    let ahead = header.ahead.iter().map(decode_cursor).collect::<Result<Vec<_>, _>>();
    let ahead = ahead.map_err(|error| bad(&error.to_string()))?;
    let length = usize::try_from(header.length).map_err(|_| bad("it is too long"))?;
    if length > MAX_COMMAND_BYTES || (!header.compressed && length > BATCH_BYTES) {
        return Err(bad("it is too long"));
    }
    let Some(mut room) = queue.reserve(length) else { return Ok(None) };
    let mut pieces = vec![first.piece];
    let mut received = pieces[0].len();
    while let Some(next) = stream.message().await? {
        received += next.piece.len();
        // What cannot be compressed grows a little.
        if received > length + PIECE_BYTES {
            return Err(bad("it is longer than it says"));
        }
        pieces.push(next.piece);
    }
    if header.compressed {
        if pieces.iter().any(|piece| piece.is_empty() || piece.len() > PIECE_BYTES) {
            return Err(bad("a piece is empty or too long"));
        }
        let load = Load::Big { pieces, length };
        room.shrink(load.size());
        return Ok(Some(Received { load, room, ahead }));
    }
    if received != length {
        return Err(bad("it is not as long as it says"));
    }
    let bytes: Bytes = if pieces.len() == 1 { pieces.remove(0) } else { pieces.concat().into() };
    let unreadable = |why: &str| {
        tracing::warn!(%peer, why, "a command that cannot be read");
        Status::invalid_argument(why.to_owned())
    };
    let command = decode_command(bytes).map_err(|error| unreadable(&error.to_string()))?;
    if !command.is_sound() {
        return Err(unreadable("a link leads nowhere"));
    }
    let load = Load::Small { command: Arc::new(command), size: length };
    Ok(Some(Received { load, room, ahead }))
}

/// The index up to which the log must be applied to read all that is decided by now, if this node
/// leads and a quorum confirms it.
pub(crate) async fn read_index(core: &Core) -> Option<u64> {
    let linearizer = core.raft()?.get_read_linearizer(ReadPolicy::ReadIndex).await.ok()?;
    Some(linearizer.read_log_id().log_id().index)
}

/// A verdict, as it is told to the node that passed the command on.
fn verdict_to(verdict: Verdict, leader: impl Fn() -> String) -> proto::SubmitResponse {
    use proto::delay::Reason;
    use proto::submit_response::Verdict as Wire;
    let delay = |reason, unknown| Wire::Unavailable(proto::Delay { reason: Some(reason), unknown });
    let verdict = match verdict {
        Verdict::Accepted(outcome) => Wire::Accepted(encode_outcome(&outcome)),
        Verdict::Rejected(rejection) => Wire::Rejected(wire::encode_rejection(&rejection)),
        Verdict::Lacking(version) => delay(Reason::Lacking(version.to_string()), false),
        Verdict::NotLeader => Wire::NotLeader(proto::NotLeader { leader: leader() }),
        Verdict::Unknown => delay(Reason::NoQuorum(proto::Nothing {}), true),
        Verdict::Overloaded => delay(Reason::Overloaded(proto::Nothing {}), false),
    };
    proto::SubmitResponse { verdict: Some(verdict) }
}

/// A verdict that the leader has told.
pub(crate) fn verdict_from(response: proto::SubmitResponse) -> Verdict {
    use proto::delay::Reason;
    use proto::submit_response::Verdict as Wire;
    let told = match response.verdict {
        Some(Wire::Accepted(outcome)) => {
            chartmesh_wire::decode_outcome(&outcome).map(Verdict::Accepted)
        }
        Some(Wire::Rejected(rejection)) => wire::decode_rejection(rejection).map(Verdict::Rejected),
        Some(Wire::NotLeader(_)) => Ok(Verdict::NotLeader),
        Some(Wire::Unavailable(delay)) => Ok(match delay.reason {
            Some(Reason::Overloaded(_)) => Verdict::Overloaded,
            Some(Reason::Lacking(version)) => {
                version.parse().map_or(Verdict::Unknown, Verdict::Lacking)
            }
            _ => Verdict::Unknown,
        }),
        None => Ok(Verdict::Unknown),
    };
    told.unwrap_or_else(|error| {
        tracing::error!(%error, "the leader's verdict cannot be read");
        Verdict::Unknown
    })
}
