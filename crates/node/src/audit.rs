//! This module proves over the mesh what a node holds: it answers the question, and asks it.

use std::path::Path;
use std::sync::Arc;

use chartmesh_record::{ChainHash, Clock, Cursor, NodeName, Origin, Seq};
use chartmesh_store::{Difference, Reindexed, Report, Store};
use chartmesh_wire::proto::audit_client::AuditClient;
use chartmesh_wire::proto::audit_server::{Audit, AuditServer};
use chartmesh_wire::proto::region_client::RegionClient;
use chartmesh_wire::{Links, OPERATOR, PeerIdentity, Purpose, proto};
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status, Streaming};

use crate::backup::{self, BackupLabel};
use crate::certificate::CertificateError;
use crate::clock::SystemClock;
use crate::credentials::Credentials;
use crate::guard::{Guard, Proof};
use crate::links::MeshLinks;
use crate::network::Tcp;
use crate::topology::Topology;

/// Answers what whoever operates the mesh asks about one store.
pub(crate) struct Auditor {
    node: NodeName,
    store: Store,
    clock: Arc<dyn Clock>,
    /// One audit at a time: it reads the whole disk.
    turn: Arc<Semaphore>,
}

/// A node did not answer to the end, or refuses.
#[derive(Debug, thiserror::Error)]
#[error("{node} {}: {reason}", if *.refuses { "refuses" } else { "did not answer" })]
pub struct NoAnswer {
    /// Which node.
    pub node: NodeName,
    /// Whether it has answered that it does not do it.
    pub refuses: bool,
    /// Why not.
    pub reason: String,
}

impl NoAnswer {
    fn new(node: &NodeName, status: &Status) -> Self {
        let refuses = matches!(
            status.code(),
            Code::PermissionDenied
                | Code::FailedPrecondition
                | Code::InvalidArgument
                | Code::ResourceExhausted
        );
        Self { node: node.clone(), refuses, reason: reason(status) }
    }
}

/// What a node has found in an audit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Audited {
    /// The change sets it has looked at.
    pub changes: u64,
    /// The versions it has looked at.
    pub versions: u64,
    /// The resources it has looked at.
    pub resources: u64,
    /// The first thing held that is not what the bytes of the feeds say.
    pub difference: Option<String>,
}

/// A place of a feed, as a node holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// The chain up to and with the change set there.
    pub hash: ChainHash,
    /// Whether the change set itself can be read.
    pub readable: bool,
}

/// A change of who votes in a region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// This node of the topology is let in.
    Add(NodeName),
    /// This node votes no longer.
    Remove(NodeName),
}

/// What became of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changed {
    /// What was done.
    Done(String),
    /// Why it was not.
    Refused(String),
    /// The node that was asked does not lead; who does, as far as it knows.
    NotLeader(Option<NodeName>),
}

impl Auditor {
    pub(crate) fn service(
        node: NodeName,
        store: Store,
        clock: Arc<dyn Clock>,
    ) -> AuditServer<Self> {
        AuditServer::new(Self { node, store, clock, turn: Arc::new(Semaphore::new(1)) })
    }
}

#[tonic::async_trait]
impl Audit for Auditor {
    type DeepStream = ReceiverStream<Result<proto::DeepResponse, Status>>;

    async fn deep(
        &self,
        request: Request<proto::DeepRequest>,
    ) -> Result<Response<Self::DeepStream>, Status> {
        let Some(PeerIdentity(peer)) = request.extensions().get() else {
            return Err(Status::unauthenticated("nobody is known to ask"));
        };
        tracing::info!(%peer, "an audit of all that is held begins");
        let turn = Arc::clone(&self.turn)
            .try_acquire_owned()
            .map_err(|_| Status::resource_exhausted("an audit is under way already"))?;
        let (news, answers) = mpsc::channel(4);
        let store = self.store.clone();
        tokio::task::spawn_blocking(move || {
            let progress = |report: &Report| {
                // Nobody has to hear of every step; the end is what counts.
                let _ = news.try_send(Ok(message(report, false)));
            };
            let found = store.deep_verify(progress);
            let end = found.map(|report| message(&report, true));
            let _ =
                news.blocking_send(end.map_err(|corrupt| Status::data_loss(corrupt.to_string())));
            drop(turn);
        });
        Ok(Response::new(ReceiverStream::new(answers)))
    }

    type ReindexStream = ReceiverStream<Result<proto::ReindexResponse, Status>>;

    async fn reindex(
        &self,
        request: Request<proto::ReindexRequest>,
    ) -> Result<Response<Self::ReindexStream>, Status> {
        by_operator(&request, "has resources indexed again")?;
        let (news, answers) = mpsc::channel(4);
        let store = self.store.clone();
        tokio::task::spawn_blocking(move || {
            let progress = |so_far| {
                let _ = news.try_send(Ok(reindexed(so_far, false)));
            };
            let end = store.reindex(progress).map(|all| reindexed(all, true));
            let _ = news.blocking_send(end.map_err(|error| Status::data_loss(error.to_string())));
        });
        Ok(Response::new(ReceiverStream::new(answers)))
    }

    async fn backup(
        &self,
        request: Request<proto::BackupRequest>,
    ) -> Result<Response<proto::BackupResponse>, Status> {
        by_operator(&request, "makes backups")?;
        let proto::BackupRequest { name } = request.into_inner();
        let (store, node, now) = (self.store.clone(), self.node.clone(), self.clock.wall());
        let making =
            tokio::task::spawn_blocking(move || backup::make(&store, &node, &name, now)).await;
        let made = making.map_err(|error| Status::internal(error.to_string()))?;
        let (dir, label) = made.map_err(|error| Status::failed_precondition(error.to_string()))?;
        let BackupLabel { made, resources, digest, .. } = label;
        let dir = dir.display().to_string();
        tracing::info!(%dir, "a backup is made");
        Ok(Response::new(proto::BackupResponse { dir, made, resources, digest }))
    }

    async fn chain(
        &self,
        request: Request<proto::ChainRequest>,
    ) -> Result<Response<proto::ChainResponse>, Status> {
        if request.extensions().get::<PeerIdentity>().is_none() {
            return Err(Status::unauthenticated("nobody is known to ask"));
        }
        let proto::ChainRequest { origin, seq } = request.into_inner();
        let origin: Origin =
            origin.parse().map_err(|_| Status::invalid_argument("this is no origin"))?;
        let chain = |seq: u64| {
            let hash = self.store.chain(&origin, Seq(seq));
            hash.map_err(|corrupt| Status::data_loss(corrupt.to_string()))
        };
        let hash = chain(seq)?;
        let readable = match chain(seq.saturating_sub(1))? {
            Some(before) if hash.is_some() => {
                let after = Cursor { origin, seq: Seq(seq.saturating_sub(1)), hash: before };
                self.store.feed(&after, 1).is_ok_and(|given| !given.is_empty())
            }
            _ => false,
        };
        let hash = hash.map_or_else(Vec::new, |ChainHash(hash)| hash.to_vec()).into();
        Ok(Response::new(proto::ChainResponse { hash, readable }))
    }

    async fn skip(
        &self,
        request: Request<proto::SkipRequest>,
    ) -> Result<Response<proto::SkipResponse>, Status> {
        by_operator(&request, "passes changes over")?;
        let proto::SkipRequest { origin, seq, hash } = request.into_inner();
        let invalid = |what: &str| Status::invalid_argument(format!("this is no {what}"));
        let origin: Origin = origin.parse().map_err(|_| invalid("origin"))?;
        let hash = <[u8; 32]>::try_from(&hash[..]).map_err(|_| invalid("hash"))?;
        let at = Cursor { origin, seq: Seq(seq), hash: ChainHash(hash) };
        let done = self.store.skip(&at, self.clock.wall());
        let done = done.map_err(|error| Status::internal(error.to_string()))?;
        if done {
            tracing::warn!(origin = %at.origin, seq, "a change set is passed over: it is lost here");
        }
        Ok(Response::new(proto::SkipResponse { done }))
    }
}

/// Refuses what somebody else than the operator asks for.
fn by_operator<T>(request: &Request<T>, what: &str) -> Result<(), Status> {
    let peer = request.extensions().get::<PeerIdentity>();
    if peer.is_some_and(|peer| peer.0.as_str() == OPERATOR) {
        return Ok(());
    }
    Err(Status::permission_denied(format!("only the operator {what}")))
}

fn reindexed(so_far: Reindexed, done: bool) -> proto::ReindexResponse {
    let Reindexed { resources, changed, of } = so_far;
    proto::ReindexResponse { resources, changed, of, done }
}

fn message(report: &Report, done: bool) -> proto::DeepResponse {
    let difference = |difference: &Difference| proto::Difference {
        what: difference.what.clone(),
        held: difference.held.clone(),
        expected: difference.expected.clone(),
    };
    proto::DeepResponse {
        changes: report.changes,
        versions: report.versions,
        resources: report.resources,
        done,
        difference: report.difference.as_ref().map(difference),
    }
}

/// Whoever operates the mesh: it asks nodes with the operator's certificate.
#[derive(Debug)]
pub struct Operator(MeshLinks);

impl Operator {
    /// With `operator.pem` and `operator.key` of this directory.
    ///
    /// # Errors
    /// They cannot be used.
    pub fn enter(topology: Arc<Topology>, tls: &Path) -> Result<Self, CertificateError> {
        let operator = OPERATOR.parse().expect("the operator has a valid name");
        let clock = Arc::new(SystemClock::start());
        let credentials = Arc::new(Credentials::read(tls.to_owned(), operator, clock)?);
        let guard = Guard::new(Proof::Certificate(credentials), Arc::new(Tcp), topology);
        Ok(Self(MeshLinks::new(Arc::new(guard))))
    }

    /// Asks a node to compute everything again from its bytes.
    ///
    /// # Errors
    /// It did not answer to the end.
    pub async fn audit(
        &self,
        node: &NodeName,
        mut progress: impl FnMut(&Audited),
    ) -> Result<Audited, NoAnswer> {
        let answers = self.client(node).deep(proto::DeepRequest {}).await;
        let mut answers = answers.map_err(|status| NoAnswer::new(node, &status))?.into_inner();
        loop {
            let answer = next(&mut answers, node).await?;
            let done = answer.done;
            let audited = audited(answer);
            if done {
                return Ok(audited);
            }
            progress(&audited);
        }
    }

    /// Has a node index all its resources again.
    ///
    /// # Errors
    /// It refuses, or did not answer to the end.
    pub async fn reindex(
        &self,
        node: &NodeName,
        mut progress: impl FnMut(Reindexed),
    ) -> Result<Reindexed, NoAnswer> {
        let answers = self.client(node).reindex(proto::ReindexRequest {}).await;
        let mut answers = answers.map_err(|status| NoAnswer::new(node, &status))?.into_inner();
        loop {
            let proto::ReindexResponse { resources, changed, of, done } =
                next(&mut answers, node).await?;
            let so_far = Reindexed { resources, changed, of };
            if done {
                return Ok(so_far);
            }
            progress(so_far);
        }
    }

    /// Has a node copy what it holds, on its own disk. Returns where, and what stands beside it.
    ///
    /// # Errors
    /// It did not answer, or refuses.
    pub async fn back_up(
        &self,
        node: &NodeName,
        name: &str,
    ) -> Result<(String, BackupLabel), NoAnswer> {
        let request = proto::BackupRequest { name: name.to_owned() };
        let answer = self.client(node).backup(request).await;
        let answer = answer.map_err(|status| NoAnswer::new(node, &status))?.into_inner();
        let proto::BackupResponse { dir, made, resources, digest } = answer;
        Ok((dir, BackupLabel { node: node.to_string(), made, resources, digest }))
    }

    /// Asks a node for the chain of a feed up to and with a change set; `None` if it does not hold
    /// the feed up to there.
    ///
    /// # Errors
    /// It did not answer.
    pub async fn chain(
        &self,
        node: &NodeName,
        origin: &Origin,
        seq: Seq,
    ) -> Result<Option<Link>, NoAnswer> {
        let request = proto::ChainRequest { origin: origin.to_string(), seq: seq.0 };
        let answer = self.client(node).chain(request).await;
        let answer = answer.map_err(|status| NoAnswer::new(node, &status))?.into_inner();
        if answer.hash.is_empty() {
            return Ok(None);
        }
        let hash = <[u8; 32]>::try_from(&answer.hash[..]);
        let hash = hash.map_err(|_| Status::internal("its answer holds no hash"));
        let hash = ChainHash(hash.map_err(|status| NoAnswer::new(node, &status))?);
        Ok(Some(Link { hash, readable: answer.readable }))
    }

    /// Has a node pass a change set over that no node can give any more. Says whether it was the next
    /// of its feed there.
    ///
    /// # Errors
    /// It did not answer, or refuses.
    pub async fn skip(&self, node: &NodeName, at: &Cursor) -> Result<bool, NoAnswer> {
        let request = proto::SkipRequest {
            origin: at.origin.to_string(),
            seq: at.seq.0,
            hash: at.hash.0.to_vec().into(),
        };
        let answer = self.client(node).skip(request).await;
        Ok(answer.map_err(|status| NoAnswer::new(node, &status))?.into_inner().done)
    }

    /// Asks a node of a region to change who votes in it; the one that leads does.
    ///
    /// # Errors
    /// It did not answer, or refuses.
    pub async fn change(&self, node: &NodeName, change: &Change) -> Result<Changed, NoAnswer> {
        use proto::change_response::Answer;
        let change = Some(match change {
            Change::Add(name) => proto::change_request::Change::Add(name.to_string()),
            Change::Remove(name) => proto::change_request::Change::Remove(name.to_string()),
        });
        let mut client = RegionClient::new(self.0.channel(node, Purpose::Forward));
        let answer = client.change(proto::ChangeRequest { change }).await;
        let answer = answer.map_err(|status| NoAnswer::new(node, &status))?.into_inner().answer;
        Ok(match answer {
            Some(Answer::Done(done)) => Changed::Done(done),
            Some(Answer::Refused(reason)) => Changed::Refused(reason),
            Some(Answer::NotLeader(told)) => Changed::NotLeader(told.leader.parse().ok()),
            None => return Err(NoAnswer::new(node, &Status::internal("its answer is empty"))),
        })
    }

    fn client(&self, node: &NodeName) -> AuditClient<Channel> {
        AuditClient::new(self.0.channel(node, Purpose::Forward))
    }
}

/// The next part of an answer.
async fn next<T>(answers: &mut Streaming<T>, node: &NodeName) -> Result<T, NoAnswer> {
    let answer = answers.message().await.map_err(|status| NoAnswer::new(node, &status))?;
    answer.ok_or_else(|| NoAnswer::new(node, &Status::aborted("its answer has no end")))
}

fn audited(answer: proto::DeepResponse) -> Audited {
    let text = |found: proto::Difference| {
        format!("{}: held is {}, the feeds say {}", found.what, found.held, found.expected)
    };
    Audited {
        changes: answer.changes,
        versions: answer.versions,
        resources: answer.resources,
        difference: answer.difference.map(text),
    }
}

/// The innermost reason, which is what happened; the layers above only pass it on.
fn reason(status: &Status) -> String {
    let mut innermost: &dyn std::error::Error = status;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    match innermost.downcast_ref::<Status>() {
        Some(status) => status.message().to_owned(),
        None => innermost.to_string(),
    }
}
