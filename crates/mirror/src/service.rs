//! This module answers other nodes: what this one holds, and the changes of a feed from a place on.
//! Each call is one of a node of the mesh, and each node may make so many at one time.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chartmesh_record::NodeName;
use chartmesh_wire::proto::mirror_server::{self, MirrorServer};
use chartmesh_wire::{PeerIdentity, proto};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::core::{Core, lock};
use crate::give::give;
use crate::ledger::Edition;
use crate::limits::{
    EXCHANGE_WAIT, EXCHANGES_SERVED_PER_PEER, MESSAGE_BYTES, PULLS_SERVED, PULLS_SERVED_PER_PEER,
};
use crate::troubles::{Refused, refused};

/// The service of a node's mirroring. Clones are the same.
#[derive(Clone, Debug)]
pub struct Services {
    core: Arc<Core>,
    exchanges: Arc<Calls>,
    pulls: Arc<Calls>,
}

/// How many calls are being answered, by peer.
#[derive(Debug)]
struct Calls {
    open: Mutex<BTreeMap<NodeName, usize>>,
    most_per_peer: usize,
    most: usize,
}

/// A call that is being answered, as long as it lives.
#[derive(Debug)]
struct Call {
    calls: Arc<Calls>,
    peer: NodeName,
}

impl Calls {
    fn new(most_per_peer: usize, most: usize) -> Arc<Self> {
        Arc::new(Self { open: Mutex::default(), most_per_peer, most })
    }

    /// Begins to answer one more call of a peer's, if it may make one.
    fn begin(self: &Arc<Self>, peer: &NodeName) -> Result<Call, Status> {
        let mut open = lock(&self.open);
        let all: usize = open.values().sum();
        let own = open.get(peer).copied().unwrap_or(0);
        if own >= self.most_per_peer || all >= self.most {
            drop(open);
            refused(peer, Refused::Calls, format_args!("{own} calls are open, {all} of all"));
            return Err(Status::resource_exhausted("too many calls are open"));
        }
        open.insert(peer.clone(), own + 1);
        Ok(Call { calls: Arc::clone(self), peer: peer.clone() })
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let mut open = lock(&self.calls.open);
        match open.get_mut(&self.peer) {
            Some(own) if *own > 1 => *own -= 1,
            _ => {
                open.remove(&self.peer);
            }
        }
    }
}

impl Services {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        let exchanges = Calls::new(EXCHANGES_SERVED_PER_PEER, usize::MAX);
        let pulls = Calls::new(PULLS_SERVED_PER_PEER, PULLS_SERVED);
        Self { core, exchanges, pulls }
    }

    /// What other nodes call. The extensions of every request must hold a [`PeerIdentity`].
    #[must_use]
    pub fn mirror(&self) -> MirrorServer<Self> {
        MirrorServer::new(self.clone())
            .max_decoding_message_size(MESSAGE_BYTES)
            .max_encoding_message_size(MESSAGE_BYTES)
    }

    /// Who calls: another node of the mesh.
    fn peer<T>(&self, request: &Request<T>) -> Result<NodeName, Status> {
        let Some(PeerIdentity(peer)) = request.extensions().get::<PeerIdentity>() else {
            refused("unknown", Refused::Stranger, "the connection has no identity");
            return Err(Status::unauthenticated("who calls is not known"));
        };
        if self.core.peer(peer).is_none() {
            refused(peer, Refused::Stranger, "it is no other node of this mesh");
            return Err(Status::permission_denied("only nodes of the mesh exchange feeds"));
        }
        if *self.core.ending.borrow() {
            return Err(Status::unavailable("this node is stopping"));
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
        let _call = self.exchanges.begin(&peer)?;
        let core = &self.core;
        let message = request.into_inner();
        if let Some(report) = &message.report {
            core.views.learn(core, &peer, report).map_err(|error| {
                refused(&peer, Refused::Report, &error);
                Status::invalid_argument(error.to_string())
            })?;
        }
        let began = core.setup.clock.monotonic();
        let known = Edition { life: message.life, revision: message.revision };
        let wait = Duration::from_millis(message.wait_ms.into()).min(EXCHANGE_WAIT);
        wait_for_news(core, known, wait).await;
        let answer = core.ledger.answer(core, known);
        let waited = core.setup.clock.monotonic().saturating_sub(began);
        Ok(Response::new(proto::ExchangeResponse {
            life: answer.edition.life,
            revision: answer.edition.revision,
            report: Some(answer.report),
            statements: answer.statements,
            wall: core.setup.clock.wall().0,
            horizon: answer.summary.horizon.to_vec().into(),
            digest: answer.summary.digest.to_bytes().to_vec().into(),
            waited_ms: u32::try_from(waited.as_millis()).unwrap_or(u32::MAX),
        }))
    }

    async fn pull(
        &self,
        request: Request<Streaming<proto::PullRequest>>,
    ) -> Result<Response<Self::PullStream>, Status> {
        let peer = self.peer(&request)?;
        let call = self.pulls.begin(&peer)?;
        let (pieces, answers) = mpsc::channel(1);
        let core = Arc::clone(&self.core);
        let requests = request.into_inner();
        tokio::spawn(async move {
            let mut ending = core.ending.subscribe();
            let ended = tokio::select! {
                ended = give(&core, &peer, requests, &pieces) => ended,
                _ = ending.wait_for(|ending| *ending) => {
                    Err(Status::unavailable("this node is stopping"))
                }
            };
            if let Err(status) = ended {
                tracing::debug!(%peer, %status, "a pull ends");
                // Whoever has gone does not hear it.
                let _ = pieces.try_send(Err(status));
            }
            drop(call);
        });
        Ok(Response::new(ReceiverStream::new(answers)))
    }
}

/// Waits until more is held than an asker knows, or until the time is over.
async fn wait_for_news(core: &Core, known: Edition, wait: Duration) {
    let deadline = Instant::now() + wait;
    let mut applied = core.setup.store.subscribe();
    let mut synced = core.synced.subscribe();
    let mut ending = core.ending.subscribe();
    loop {
        applied.mark_unchanged();
        synced.mark_unchanged();
        let rest = core.ledger.refresh(core);
        if core.ledger.has_news(known) || Instant::now() >= deadline || *ending.borrow() {
            return;
        }
        // What came within the rest is looked at after it.
        let until = rest.map_or(deadline, |rest| (Instant::now() + rest).min(deadline));
        if rest.is_some() {
            tokio::time::sleep_until(until).await;
            continue;
        }
        let changed = async {
            tokio::select! {
                _ = applied.changed() => {}
                _ = synced.changed() => {}
                _ = ending.changed() => {}
            }
        };
        let _ = timeout_at(until, changed).await;
    }
}
