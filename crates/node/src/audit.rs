//! This module proves over the mesh what a node holds: it answers the question, and asks it.

use std::path::Path;
use std::sync::Arc;

use chartmesh_record::NodeName;
use chartmesh_region::{Links, PeerIdentity, Purpose};
use chartmesh_store::{Difference, Report, Store};
use chartmesh_wire::proto;
use chartmesh_wire::proto::audit_client::AuditClient;
use chartmesh_wire::proto::audit_server::{Audit, AuditServer};
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use crate::certificate::CertificateError;
use crate::clock::SystemClock;
use crate::credentials::Credentials;
use crate::guard::{Guard, OPERATOR, Proof};
use crate::links::MeshLinks;
use crate::network::Tcp;
use crate::topology::Topology;

/// Answers what whoever operates the mesh asks about one store.
pub(crate) struct Auditor {
    store: Store,
    /// One audit at a time: it reads the whole disk.
    turn: Arc<Semaphore>,
}

/// Why an audit has no result.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The operator's certificate cannot be used.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The node did not answer to the end.
    #[error("{node} did not answer: {reason}")]
    NoAnswer {
        /// Which node.
        node: NodeName,
        /// Why not.
        reason: String,
    },
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

impl Auditor {
    pub(crate) fn service(store: Store) -> AuditServer<Self> {
        AuditServer::new(Self { store, turn: Arc::new(Semaphore::new(1)) })
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

/// Asks a node, with the operator's certificate, to compute everything again from its bytes.
///
/// # Errors
/// The certificate cannot be used, or the node did not answer to the end.
pub async fn audit(
    topology: &Arc<Topology>,
    tls: &Path,
    node: &NodeName,
    mut progress: impl FnMut(&Audited),
) -> Result<Audited, AuditError> {
    let operator = OPERATOR.parse().expect("the operator has a valid name");
    let clock = Arc::new(SystemClock::start());
    let credentials = Arc::new(Credentials::read(tls.to_owned(), operator, clock)?);
    let guard = Guard::new(Proof::Certificate(credentials), Arc::new(Tcp), Arc::clone(topology));
    let channel = MeshLinks::new(Arc::new(guard)).channel(node, Purpose::Forward);
    let no_answer =
        |status: Status| AuditError::NoAnswer { node: node.clone(), reason: reason(&status) };
    let answers = AuditClient::new(channel).deep(proto::DeepRequest {}).await;
    let mut answers = answers.map_err(no_answer)?.into_inner();
    while let Some(answer) = answers.message().await.map_err(no_answer)? {
        let audited = Audited {
            changes: answer.changes,
            versions: answer.versions,
            resources: answer.resources,
            difference: answer.difference.map(|found| {
                format!("{}: held is {}, the feeds say {}", found.what, found.held, found.expected)
            }),
        };
        if answer.done {
            return Ok(audited);
        }
        progress(&audited);
    }
    Err(no_answer(Status::aborted("its answer has no end")))
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
