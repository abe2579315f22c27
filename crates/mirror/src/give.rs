//! This module gives one feed to one peer, chunk by chunk, as it is asked for. What is not asked for
//! is read from nowhere and kept nowhere.

use std::io::{self, Write};
use std::time::Duration;

use bytes::Bytes;
use chartmesh_record::{ChainHash, Cursor, NodeName, Seq};
use chartmesh_store::FeedError;
use chartmesh_wire::proto;
use chartmesh_wire::raft::decode_cursor;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout, timeout_at};
use tonic::{Status, Streaming};
use zstd::stream::write::Encoder;

use crate::choose::Distance;
use crate::core::Core;
use crate::limits::{
    CHUNK_BYTES, GIVE_STALLED, PIECE_BYTES, PULL_LEVEL, PULL_LEVEL_WIDE, PULL_WAIT, PULL_WINDOW,
    PULL_WINDOW_WIDE,
};
use crate::troubles::{Refused, refused};

type Pieces = mpsc::Sender<Result<proto::PullResponse, Status>>;

/// Gives a feed until nobody asks for more of it.
pub(crate) async fn give(
    core: &Core,
    peer: &NodeName,
    mut requests: Streaming<proto::PullRequest>,
    pieces: &Pieces,
) -> Result<(), Status> {
    let mut encoder = encoder(core, peer).map_err(|error| Status::internal(error.to_string()))?;
    let mut at: Option<Cursor> = None;
    loop {
        let next = timeout(GIVE_STALLED, requests.message()).await;
        let Ok(Some(request)) = next.map_err(|_| Status::cancelled("not asked any more"))? else {
            return Ok(());
        };
        let after = match at.take() {
            Some(at) => at,
            None => begins_at(core, peer, &request)?,
        };
        core.views.acknowledged(core, peer, &after, Seq(request.synced));
        let wait = Duration::from_millis(request.wait_ms.into()).min(PULL_WAIT);
        let bytes = usize::try_from(request.max_bytes).unwrap_or(0).clamp(1, CHUNK_BYTES);
        let changes = next_changes(core, peer, &after, bytes, wait).await?;
        let reached = match changes.last() {
            Some((_, hash)) => {
                let seq = Seq(after.seq.0 + changes.len() as u64);
                Cursor { origin: after.origin, seq, hash: *hash }
            }
            None => after,
        };
        let chunk = core.setup.blocking.run(|| compress(&mut encoder, &changes));
        drop(changes);
        let chunk = chunk.map_err(|error| Status::internal(error.to_string()))?;
        metrics::counter!("chartmesh_mirror_given_bytes_total").increment(chunk.bytes.len() as u64);
        if !send(pieces, chunk, &reached).await? {
            return Ok(());
        }
        at = Some(reached);
    }
}

/// One zstd stream for the whole call: small changes compress over those before them.
fn encoder(core: &Core, peer: &NodeName) -> io::Result<Encoder<'static, Vec<u8>>> {
    let wide = core.peer(peer).is_some_and(|peer| core.distance(peer) == Distance::Wide);
    let (level, window) =
        if wide { (PULL_LEVEL_WIDE, PULL_WINDOW_WIDE) } else { (PULL_LEVEL, PULL_WINDOW) };
    let mut encoder = Encoder::new(Vec::new(), level)?;
    encoder.window_log(window)?;
    Ok(encoder)
}

/// The place that the first chunk follows on.
fn begins_at(core: &Core, peer: &NodeName, request: &proto::PullRequest) -> Result<Cursor, Status> {
    let refuse = |why: String| {
        refused(peer, Refused::Report, &why);
        Status::invalid_argument(why)
    };
    let after = request.after.as_ref();
    let after = after.ok_or_else(|| refuse("the place to begin at is missing".to_owned()))?;
    let after = decode_cursor(after).map_err(|error| refuse(error.to_string()))?;
    if core.is_of_mesh(&after.origin) {
        Ok(after)
    } else {
        Err(refuse(format!("nobody in this mesh began {}", after.origin)))
    }
}

/// What follows on a place; waits for it if there is nothing.
async fn next_changes(
    core: &Core,
    peer: &NodeName,
    after: &Cursor,
    bytes: usize,
    wait: Duration,
) -> Result<Vec<(Bytes, ChainHash)>, Status> {
    let deadline = Instant::now() + wait;
    let mut applied = core.setup.store.subscribe();
    loop {
        applied.mark_unchanged();
        let held = core.setup.store.furthest(&after.origin);
        let nothing = held.seq < after.seq || (held.seq == after.seq && held.hash == after.hash);
        if !nothing || Instant::now() >= deadline {
            let changes = core.setup.blocking.run(|| core.setup.store.feed_as_held(after, bytes));
            return changes.map_err(|error| cannot_give(peer, error));
        }
        let _ = timeout_at(deadline, applied.changed()).await;
    }
}

fn cannot_give(peer: &NodeName, error: FeedError) -> Status {
    match error {
        FeedError::Forked { held } => {
            refused(peer, Refused::Fork, format_args!("it asks on from another {}", held.seq));
            let text = format!("holds {} at change set {} of {}", held.hash, held.seq, held.origin);
            Status::failed_precondition(text)
        }
        lost @ FeedError::Lost { .. } => Status::data_loss(lost.to_string()),
        FeedError::Corrupt(corrupt) => {
            tracing::error!(%corrupt, "a feed cannot be given");
            Status::data_loss(corrupt.to_string())
        }
    }
}

/// A chunk as it goes over the wire.
struct Chunk {
    bytes: Bytes,
    /// Before compression.
    length: u64,
}

/// Puts change sets into the stream.
fn compress(
    encoder: &mut Encoder<'static, Vec<u8>>,
    changes: &[(Bytes, ChainHash)],
) -> io::Result<Chunk> {
    let mut length = 0;
    for (bytes, _) in changes {
        encoder.write_all(&(bytes.len() as u64).to_be_bytes())?;
        encoder.write_all(bytes)?;
        length += 8 + bytes.len() as u64;
    }
    if length > 0 {
        encoder.flush()?;
    }
    Ok(Chunk { bytes: std::mem::take(encoder.get_mut()).into(), length })
}

/// Sends a chunk, piece by piece. Says whether it is taken.
async fn send(pieces: &Pieces, chunk: Chunk, reached: &Cursor) -> Result<bool, Status> {
    let mut rest = chunk.bytes;
    loop {
        let piece = rest.split_to(rest.len().min(PIECE_BYTES));
        let more = !rest.is_empty();
        let hash = Bytes::copy_from_slice(&reached.hash.0);
        let response = proto::PullResponse { changes: piece, length: chunk.length, hash, more };
        match timeout(GIVE_STALLED, pieces.send(Ok(response))).await {
            Ok(Ok(())) if more => {}
            Ok(Ok(())) => return Ok(true),
            Ok(Err(_)) => return Ok(false),
            Err(_) => return Err(Status::cancelled("what is given is not taken")),
        }
    }
}
