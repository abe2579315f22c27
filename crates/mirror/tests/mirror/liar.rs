//! This module is a node that does not do what it should: it holds a feed and plays a trick with it.

use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use bytes::Bytes;
use chartmesh_record::{Cursor, Origin, Seq};
use chartmesh_wire::proto;
use chartmesh_wire::proto::mirror_server::{self, MirrorServer};
use chartmesh_wire::raft::{decode_cursor, encode_cursor};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use zstd::stream::write::Encoder;

use crate::mesh::{Mesh, change, feed, lock, name};

/// What is wrong with a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trick {
    /// It leaves the second change set out.
    Gap,
    /// It gives another second change set than the one that its chain has.
    Tampered,
    /// Its third change set is of a format to come.
    NewFormat,
    /// Chunks are longer than they say.
    Longer,
    /// It does not answer those who pull.
    Stalls,
    /// A pull breaks off after two chunks.
    BreaksOff,
    /// None.
    Honest,
}

/// The node.
#[derive(Debug)]
pub(crate) struct Liar {
    trick: Trick,
    origin: Origin,
    /// The feed's change sets, as they go over the wire.
    changes: Vec<Bytes>,
    /// Where its chain stands after each of them, from nothing on.
    chain: Vec<Cursor>,
    /// From where on it was asked for the feed, call by call.
    pub(crate) asked_after: Mutex<Vec<Seq>>,
    pub(crate) exchanges: AtomicUsize,
    /// What it says of all that it holds.
    pub(crate) summary: Mutex<(Bytes, Bytes)>,
}

impl Liar {
    /// Lets it answer in a mesh, under a name of the mesh.
    pub(crate) fn join(mesh: &Mesh, node: &str, trick: Trick, origin: &Origin) -> Arc<Self> {
        let start = Cursor::start(origin.clone());
        let mut changes: Vec<Bytes> =
            feed(&start, 10, 100).iter().map(|change| change.bytes().clone()).collect();
        if trick == Trick::NewFormat {
            let mut bytes = changes[2].to_vec();
            assert_eq!(bytes[..2], [8, 1], "the format stands first");
            bytes[1] = 2;
            changes[2] = bytes.into();
        }
        let mut chain = vec![start];
        for bytes in &changes {
            chain.push(chain.last().unwrap().extend(bytes));
        }
        let liar = Arc::new(Self {
            trick,
            origin: origin.clone(),
            changes,
            chain,
            asked_after: Mutex::default(),
            exchanges: AtomicUsize::new(0),
            summary: Mutex::default(),
        });
        let router = Router::new().route_service(
            "/chartmesh.v1.Mirror/{call}",
            MirrorServer::new(Answers(Arc::clone(&liar))),
        );
        mesh.pipes.open(&name(node), router);
        liar
    }

    /// How often somebody began to pull.
    pub(crate) fn pulls(&self) -> usize {
        lock(&self.asked_after).len()
    }

    /// What it gives after so many chunks, and the hash that it names.
    fn chunk(&self, after: usize) -> (Vec<Bytes>, Bytes) {
        let hash = |at: &Cursor| Bytes::copy_from_slice(&at.hash.0);
        let take = |count: usize| {
            let end = (after + count).min(self.changes.len());
            (self.changes[after..end].to_vec(), hash(&self.chain[end]))
        };
        match self.trick {
            Trick::Gap => {
                let changes = vec![self.changes[0].clone(), self.changes[2].clone()];
                let at = changes.iter().fold(self.chain[0].clone(), |at, it| at.extend(it));
                (changes, hash(&at))
            }
            Trick::Tampered => {
                let (mut changes, hash) = take(3);
                if after == 0 {
                    changes[1] = change(&self.origin, Seq(2), "forged").bytes().clone();
                }
                (changes, hash)
            }
            _ => take(4),
        }
    }
}

/// What it answers.
#[derive(Debug)]
struct Answers(Arc<Liar>);

#[tonic::async_trait]
impl mirror_server::Mirror for Answers {
    type PullStream = ReceiverStream<Result<proto::PullResponse, Status>>;

    async fn exchange(
        &self,
        request: Request<proto::ExchangeRequest>,
    ) -> Result<Response<proto::ExchangeResponse>, Status> {
        let liar = &self.0;
        liar.exchanges.fetch_add(1, Ordering::Relaxed);
        let wait = Duration::from_millis(request.get_ref().wait_ms.into());
        tokio::time::sleep(wait / 5).await;
        let end = liar.chain.last().unwrap();
        let holding = proto::Holding { feed: Some(encode_cursor(end)), synced: end.seq.0 };
        let (horizon, digest) = lock(&liar.summary).clone();
        Ok(Response::new(proto::ExchangeResponse {
            life: 1,
            revision: 1,
            report: Some(proto::Report { whole: true, holdings: vec![holding] }),
            horizon,
            digest,
            ..proto::ExchangeResponse::default()
        }))
    }

    async fn pull(
        &self,
        request: Request<Streaming<proto::PullRequest>>,
    ) -> Result<Response<Self::PullStream>, Status> {
        let liar = Arc::clone(&self.0);
        let mut requests = request.into_inner();
        let first = requests.message().await?.unwrap();
        let after = decode_cursor(&first.after.unwrap()).unwrap().seq;
        lock(&liar.asked_after).push(after);
        let (pieces, answers) = mpsc::channel(1);
        tokio::spawn(async move {
            if liar.trick == Trick::Stalls {
                pieces.closed().await;
                return;
            }
            let mut encoder = Encoder::new(Vec::new(), 1).unwrap();
            let mut at = usize::try_from(after.0).unwrap();
            for chunks in 1.. {
                let (changes, hash) = liar.chunk(at);
                at += changes.len();
                let mut length = 0;
                for bytes in &changes {
                    encoder.write_all(&(bytes.len() as u64).to_be_bytes()).unwrap();
                    encoder.write_all(bytes).unwrap();
                    length += 8 + bytes.len() as u64;
                }
                if length > 0 {
                    encoder.flush().unwrap();
                }
                if liar.trick == Trick::Longer {
                    length /= 2;
                }
                let bytes = std::mem::take(encoder.get_mut()).into();
                let piece = proto::PullResponse { changes: bytes, length, hash, more: false };
                if pieces.send(Ok(piece)).await.is_err() {
                    return;
                }
                if liar.trick == Trick::BreaksOff && chunks == 2 && after == Seq(0) {
                    let _ = pieces.send(Err(Status::unavailable("it breaks off"))).await;
                    return;
                }
                let Ok(Some(_)) = requests.message().await else { return };
            }
        });
        Ok(Response::new(ReceiverStream::new(answers)))
    }
}
