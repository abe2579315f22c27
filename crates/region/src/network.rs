//! This module is how openraft reaches the other voters.
//!
//! Entries go over one connection, in a stream whose answers come in order; heartbeats and votes over
//! another, so that they never wait behind entries.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use chartmesh_wire::proto;
use chartmesh_wire::proto::raft_client::RaftClient;
use futures::future::BoxFuture;
use futures::stream::{BoxStream, StreamExt};
use futures::{FutureExt, Stream};
use openraft::OptionalSend;
use openraft::errors::{NetworkError, ReplicationClosed, StreamingError, Timeout, Unreachable};
use openraft::network::{
    Backoff, NetBackoff, NetSnapshot, NetStreamAppend, NetTransferLeader, NetVote, RPCOption,
    RPCTypes, RaftNetworkFactory,
};
use openraft::raft::{
    SnapshotResponse, TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::type_config::alias::SnapshotOf;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::codec::{
    Unexpected, append_to, appended_from, snapshot_to, transfer_to, transferred_from, vote_from,
    vote_request_to, vote_response_from,
};
use crate::limits::{MESSAGE_BYTES, SNAPSHOT_WAIT};
use crate::state_machine::Covered;
use crate::types::{AppendRequest, AppendResult, Peer, RpcError, TypeConfig, Vote};
use chartmesh_wire::{Links, Purpose};

/// Makes ways to the other voters.
#[derive(Clone, Debug)]
pub(crate) struct Network {
    pub(crate) me: u64,
    pub(crate) links: Arc<dyn Links>,
    /// How long a stream of entries may take to begin.
    pub(crate) patience: Duration,
}

/// A way to one voter.
#[derive(Clone, Debug)]
pub(crate) struct Way {
    me: u64,
    to: u64,
    /// For the stream of entries, or of heartbeats; `None` if the voter has no name.
    stream: Option<RaftClient<Channel>>,
    /// For single messages.
    call: Option<RaftClient<Channel>>,
    patience: Duration,
}

impl Network {
    fn way(&self, to: u64, peer: &Peer, stream: Purpose) -> Way {
        let client = |purpose| {
            let name = peer.name.as_ref()?;
            let client = RaftClient::new(self.links.channel(name, purpose));
            Some(
                client
                    .max_decoding_message_size(MESSAGE_BYTES)
                    .max_encoding_message_size(MESSAGE_BYTES),
            )
        };
        Way {
            me: self.me,
            to,
            stream: client(stream),
            call: client(Purpose::Heartbeat),
            patience: self.patience,
        }
    }
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Way;

    async fn new_client(&mut self, target: u64, node: &Peer) -> Way {
        self.way(target, node, Purpose::Raft)
    }

    async fn new_heartbeat_client(&mut self, target: u64, node: &Peer) -> Way {
        self.way(target, node, Purpose::Heartbeat)
    }
}

impl Way {
    /// Makes a call that must be answered in time.
    async fn call<T, F>(
        &self,
        kind: RPCTypes,
        option: &RPCOption,
        call: impl FnOnce(RaftClient<Channel>) -> F,
    ) -> Result<T, RpcError>
    where
        F: Future<Output = Result<tonic::Response<T>, Status>>,
    {
        let client = self.call.clone().ok_or_else(nameless)?;
        let timeout = option.soft_ttl();
        match tokio::time::timeout(timeout, call(client)).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(failed(&status)),
            Err(_) => Err(Timeout { action: kind, id: self.me, target: self.to, timeout }.into()),
        }
    }
}

fn nameless() -> RpcError {
    Unreachable::from_string("the voter has no name").into()
}

/// What openraft does about a failed call: it waits a little before the next one unless the other
/// end has only been slow.
fn failed(status: &Status) -> RpcError {
    match status.code() {
        Code::DeadlineExceeded | Code::Cancelled => NetworkError::new(status).into(),
        _ => Unreachable::new(status).into(),
    }
}

fn unexpected(error: &Unexpected) -> RpcError {
    Unreachable::new(error).into()
}

impl NetBackoff<TypeConfig> for Way {
    fn backoff(&self) -> Option<Backoff> {
        None
    }
}

impl NetStreamAppend<TypeConfig> for Way {
    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        _option: RPCOption,
    ) -> BoxFuture<'s, Result<BoxStream<'s, Result<AppendResult, RpcError>>, RpcError>>
    where
        S: Stream<Item = AppendRequest> + OptionalSend + Unpin + 'static,
    {
        async move {
            let to = self.to;
            let mut client = self.stream.clone().ok_or_else(nameless)?;
            // After a failure openraft waits before it gives the first request, and a connection
            // that is refused at once would be tried again at once if it did not ask for one.
            let mut input = input.peekable();
            Pin::new(&mut input).peek().await;
            let requests = input.map(move |request| append_to(to, &request));
            let begun = tokio::time::timeout(self.patience, client.append(requests)).await;
            let answers = match begun {
                Ok(Ok(response)) => response.into_inner(),
                Ok(Err(status)) => return Err(failed(&status)),
                Err(_) => return Err(Unreachable::from_string("no answer").into()),
            };
            let answers = answers.map(|answer: Result<proto::AppendResponse, Status>| {
                let answer = answer.map_err(|status| failed(&status))?;
                appended_from(answer).map_err(|error| unexpected(&error))
            });
            Ok(answers.boxed())
        }
        .boxed()
    }
}

impl NetVote<TypeConfig> for Way {
    async fn vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RpcError> {
        let request = vote_request_to(self.to, &rpc);
        let call = |mut client: RaftClient<Channel>| async move { client.vote(request).await };
        let response = self.call(RPCTypes::Vote, &option, call).await?;
        vote_response_from(&response).map_err(|error| unexpected(&error))
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RpcError> {
        let request = vote_request_to(self.to, &rpc);
        let call = |mut client: RaftClient<Channel>| async move { client.pre_vote(request).await };
        let response = self.call(RPCTypes::Vote, &option, call).await?;
        vote_response_from(&response).map_err(|error| unexpected(&error))
    }
}

impl NetTransferLeader<TypeConfig> for Way {
    async fn transfer_leader(
        &mut self,
        rpc: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, RpcError> {
        let request = transfer_to(self.to, &rpc);
        let call =
            |mut client: RaftClient<Channel>| async move { client.transfer_leader(request).await };
        let response = self.call(RPCTypes::TransferLeader, &option, call).await?;
        Ok(transferred_from(&rpc, response))
    }
}

impl NetSnapshot<TypeConfig> for Way {
    type SnapshotData = Covered;

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: SnapshotOf<TypeConfig, Covered>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let mut client = self.call.clone().ok_or_else(nameless)?;
        let request = snapshot_to(self.to, &vote, &snapshot.snapshot);
        let answer = tokio::select! {
            closed = cancel => return Err(closed.into()),
            answer = tokio::time::timeout(SNAPSHOT_WAIT, client.snapshot(request)) => answer,
        };
        let answer = match answer {
            Ok(Ok(answer)) => answer.into_inner(),
            Ok(Err(status)) => return Err(Unreachable::new(&status).into()),
            Err(_) => return Err(Unreachable::from_string("no answer").into()),
        };
        let vote = answer.vote.as_ref().map(vote_from);
        let vote = vote.ok_or_else(|| Unreachable::from_string("it names no vote"))?;
        Ok(SnapshotResponse::new(vote))
    }
}
