//! This module answers other nodes: what this one holds, and the changes of a feed from a place on.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use chartmesh_record::{ChainHash, Cursor, NodeName, Seq};
use chartmesh_store::FeedError;
use chartmesh_wire::proto::mirror_server::{self, MirrorServer};
use chartmesh_wire::raft::decode_cursor;
use chartmesh_wire::{Canonical, PeerIdentity, proto};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, timeout_at};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use zstd::stream::write::Encoder;

use crate::core::{Core, lock, refused};
use crate::exchange::horizon_hash;
use crate::freshness;
use crate::limits::{
    CHUNK_BYTES, EXCHANGE_WAIT, MESSAGE_BYTES, PULL_LEVEL, PULL_STALLED, PULL_WAIT, PULLS_SERVED,
};

/// The service of a node's mirroring. Clones are the same.
#[derive(Clone, Debug)]
pub struct Services {
    core: Arc<Core>,
    served: Arc<Semaphore>,
}

impl Services {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        Self { core, served: Arc::new(Semaphore::new(PULLS_SERVED)) }
    }

    /// What other nodes call.
    #[must_use]
    pub fn mirror(&self) -> MirrorServer<Self> {
        MirrorServer::new(self.clone())
            .max_decoding_message_size(MESSAGE_BYTES)
            .max_encoding_message_size(MESSAGE_BYTES)
    }

    /// Who calls: another node of the mesh.
    fn peer<T>(&self, request: &Request<T>) -> Result<NodeName, Status> {
        let Some(PeerIdentity(peer)) = request.extensions().get::<PeerIdentity>() else {
            return Err(Status::unauthenticated("who calls is not known"));
        };
        if self.core.peer(peer).is_none() {
            refused(peer, "stranger", "it is no other node of this mesh");
            return Err(Status::permission_denied("only nodes of the mesh exchange feeds"));
        }
        Ok(peer.clone())
    }
}

#[tonic::async_trait]
impl mirror_server::Mirror for Services {
    type PullStream = ReceiverStream<Result<proto::PullResponse, Status>>;

    async fn exchange(
        &self,
        request: Request<proto::ExchangeRequest>,
    ) -> Result<Response<proto::ExchangeResponse>, Status> {
        let peer = self.peer(&request)?;
        let core = &self.core;
        let message = request.into_inner();
        if let Some(report) = &message.report {
            core.views.learn(core, &peer, report).map_err(|error| {
                refused(&peer, "report", &error);
                Status::invalid_argument(error.to_string())
            })?;
        }
        let began = core.now();
        let wait = Duration::from_millis(message.wait_ms.into()).min(EXCHANGE_WAIT);
        let deadline = Instant::now() + wait;
        let mut changes = core.setup.store.subscribe();
        let (life, revision, report) = loop {
            changes.mark_unchanged();
            let (life, revision, report) = {
                let mut ledger = lock(&core.ledger);
                ledger.refresh(&core.setup.store);
                let report = ledger.since(message.life, message.revision);
                (ledger.life, ledger.revision, report)
            };
            if !report.holdings.is_empty() || Instant::now() >= deadline {
                break (life, revision, report);
            }
            let _ = timeout_at(deadline, changes.changed()).await;
        };
        let standing = core.setup.store.standing();
        Ok(Response::new(proto::ExchangeResponse {
            life,
            revision,
            report: Some(report),
            statements: freshness::told(core),
            wall: core.setup.clock.wall().0,
            horizon: horizon_hash(&standing).to_vec().into(),
            digest: standing.digest.to_bytes().to_vec().into(),
            waited_ms: u32::try_from(core.since(began).as_millis()).unwrap_or(u32::MAX),
        }))
    }

    async fn pull(
        &self,
        request: Request<Streaming<proto::PullRequest>>,
    ) -> Result<Response<Self::PullStream>, Status> {
        let peer = self.peer(&request)?;
        let place = Arc::clone(&self.served).try_acquire_owned();
        let place = place.map_err(|_| Status::resource_exhausted("too many feeds are pulled"))?;
        let (chunks, answers) = mpsc::channel(1);
        let core = Arc::clone(&self.core);
        let requests = request.into_inner();
        tokio::spawn(async move {
            if let Err(status) = give(&core, &peer, requests, &chunks).await {
                tracing::debug!(%peer, %status, "a pull ends");
                let _ = chunks.send(Err(status)).await;
            }
            drop(place);
        });
        Ok(Response::new(ReceiverStream::new(answers)))
    }
}

/// Gives one feed, chunk by chunk, as it is asked for.
async fn give(
    core: &Core,
    peer: &NodeName,
    mut requests: Streaming<proto::PullRequest>,
    chunks: &mpsc::Sender<Result<proto::PullResponse, Status>>,
) -> Result<(), Status> {
    let bad = |why: &str| Status::invalid_argument(why.to_owned());
    let mut encoder = Encoder::new(Vec::new(), PULL_LEVEL).map_err(|e| bad(&e.to_string()))?;
    let mut at: Option<Cursor> = None;
    loop {
        // Whoever does not ask for more within this time has gone.
        let next = tokio::time::timeout(PULL_STALLED * 10, requests.message()).await;
        let Ok(Some(request)) = next.map_err(|_| Status::cancelled("not asked any more"))? else {
            return Ok(());
        };
        let after = match (at.take(), &request.after) {
            (Some(at), _) => at,
            (None, Some(after)) => decode_cursor(after).map_err(|e| bad(&e.to_string()))?,
            (None, None) => return Err(bad("the place to begin at is missing")),
        };
        core.views.acknowledged(core, peer, &after, Seq(request.synced));
        let wait = Duration::from_millis(request.wait_ms.into()).min(PULL_WAIT);
        let bytes = usize::try_from(request.max_bytes).unwrap_or(0).clamp(1, CHUNK_BYTES);
        let changes = next_changes(core, &after, bytes, wait).await?;
        let length = frame(&mut encoder, &changes).map_err(|e| Status::internal(e.to_string()))?;
        let bytes = std::mem::take(encoder.get_mut());
        let last = changes.last().map(|(change, hash)| (change.change_set().seq, *hash));
        at = Some(match last {
            Some((seq, hash)) => Cursor { origin: after.origin, seq, hash },
            None => after,
        });
        metrics::counter!("chartmesh_mirror_given_bytes_total").increment(bytes.len() as u64);
        let response = proto::PullResponse { changes: bytes.into(), length: length as u64 };
        if chunks.send(Ok(response)).await.is_err() {
            return Ok(());
        }
    }
}

/// What follows on a place; waits for it if there is nothing.
async fn next_changes(
    core: &Core,
    after: &Cursor,
    bytes: usize,
    wait: Duration,
) -> Result<Vec<(Canonical, ChainHash)>, Status> {
    let deadline = Instant::now() + wait;
    let mut news = core.setup.store.subscribe();
    loop {
        news.mark_unchanged();
        let changes = core.setup.blocking.run(|| core.setup.store.feed(after, bytes));
        let changes = changes.map_err(|error| match error {
            FeedError::Forked { held } => Status::failed_precondition(format!(
                "{} of {} has another hash here: {}",
                held.seq, held.origin, held.hash
            )),
            FeedError::Corrupt(corrupt) => {
                tracing::error!(%corrupt, "a feed cannot be given");
                Status::data_loss(corrupt.to_string())
            }
        })?;
        if !changes.is_empty() || Instant::now() >= deadline {
            return Ok(changes);
        }
        let _ = timeout_at(deadline, news.changed()).await;
    }
}

/// Puts change sets into the stream. Says how many bytes they are.
fn frame(
    encoder: &mut Encoder<'static, Vec<u8>>,
    changes: &[(Canonical, ChainHash)],
) -> std::io::Result<usize> {
    let mut length = 0;
    for (change, _) in changes {
        let bytes = change.bytes();
        encoder.write_all(&(bytes.len() as u64).to_be_bytes())?;
        encoder.write_all(bytes)?;
        length += 8 + bytes.len();
    }
    if length > 0 {
        encoder.flush()?;
    }
    Ok(length)
}
