//! This module pulls one feed from one peer, for as long as that is of use.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use chartmesh_record::{Cursor, NodeName, mutant};
use chartmesh_store::{Apply, ApplyError, Run, RunOutcome};
use chartmesh_wire::raft::encode_cursor;
use chartmesh_wire::{Canonical, Purpose, WireError, proto};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;
use zstd::stream::write::Decoder;

use crate::choose::{Choice, Distance};
use crate::core::{Core, lock, refused};
use crate::limits::{
    CHUNK_BYTES, CHUNK_BYTES_MAX, PULL_PAUSE, PULL_PAUSE_WIDE, PULL_STALLED, PULL_WAIT,
};
use crate::status::HeldBack;

/// How a pull ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// There is nothing more to do for now.
    Done,
    /// The peer does not answer, or has gone.
    Lost,
    /// What it gave cannot be taken: it is not asked again for a while.
    Refused,
}

/// Why a chunk is not taken.
#[derive(Debug, thiserror::Error)]
enum Bad {
    #[error("a chunk cannot be read: {0}")]
    Unreadable(&'static str),
    #[error("a change set cannot be read: {0}")]
    Wire(#[from] WireError),
    #[error("change set {found} of {of} comes where {expected} should")]
    Gap { of: String, expected: u64, found: u64 },
    #[error("the hash up to {0} is not the one that was announced")]
    Hash(u64),
    #[error("the disk refuses: {0}")]
    Disk(#[from] ApplyError),
    #[error("what is held up to {0} is something else")]
    Forked(u64),
    #[error("it does not follow on what is held")]
    Misfit,
}

impl Bad {
    fn label(&self) -> &'static str {
        match self {
            Self::Unreadable(_) | Self::Wire(_) => "unreadable",
            Self::Gap { .. } => "gap",
            Self::Hash(_) => "hash",
            Self::Disk(_) => "disk",
            Self::Forked(_) => "fork",
            Self::Misfit => "misfit",
        }
    }
}

/// Pulls a feed from where this node holds it. `progress` goes up with every chunk that brings more.
pub(crate) async fn pull(
    core: &Core,
    choice: &Choice,
    from: Cursor,
    progress: &Arc<AtomicU64>,
) -> End {
    let (requests, asked) = mpsc::channel(1);
    let mut at = from;
    let ask = |at: &Cursor, first: bool| proto::PullRequest {
        after: first.then(|| encode_cursor(at)),
        synced: core.setup.store.synced(&at.origin).min(at.seq).0,
        wait_ms: if choice.lives { PULL_WAIT.as_millis() as u32 } else { 0 },
        max_bytes: CHUNK_BYTES as u32,
    };
    let mut client = core.client(&choice.node, Purpose::Feed);
    if requests.send(ask(&at, true)).await.is_err() {
        return End::Lost;
    }
    let call = client.pull(ReceiverStream::new(asked));
    let mut answers = match timeout(PULL_STALLED, call).await {
        Ok(Ok(response)) => response.into_inner(),
        Ok(Err(status)) => return ended(core, choice, &at, &status),
        Err(_) => return End::Lost,
    };
    let Ok(mut decoder) = Decoder::new(Vec::new()) else { return End::Lost };
    let mut idle = 0;
    loop {
        let chunk = match timeout(PULL_WAIT + PULL_STALLED, answers.message()).await {
            Ok(Ok(Some(chunk))) => chunk,
            Ok(Ok(None)) | Err(_) => return End::Lost,
            Ok(Err(status)) => return ended(core, choice, &at, &status),
        };
        if chunk.length == 0 {
            idle += 1;
            // A feed that rests is begun again when it goes on: thousands of them rest.
            if !choice.lives || idle > 5 {
                return End::Done;
            }
        } else {
            idle = 0;
            let bytes = chunk.changes.len() as u64;
            match take(core, &choice.node, &at, &mut decoder, &chunk).await {
                Ok(after) => at = after,
                Err(bad) => return turned_down(core, choice, &at, &bad),
            }
            let wide = if choice.distance == Distance::Wide { "wide" } else { "near" };
            metrics::counter!("chartmesh_mirror_pulled_bytes_total", "distance" => wide)
                .increment(bytes);
            progress.fetch_add(1, Ordering::Relaxed);
        }
        let pause = if choice.distance == Distance::Wide { PULL_PAUSE_WIDE } else { PULL_PAUSE };
        // A full chunk is followed by the next at once.
        if chunk.length < CHUNK_BYTES as u64 / 2 {
            sleep(if is_site_journal(core, &at) { Duration::ZERO } else { pause }).await;
        }
        if requests.send(ask(&at, false)).await.is_err() {
            return End::Lost;
        }
    }
}

/// Whether a feed is the journal of a node at this site: its writers wait for the copy.
fn is_site_journal(core: &Core, at: &Cursor) -> bool {
    core.journal_of(&at.origin).is_some_and(|node| core.is_site_mate(&node))
}

/// Takes a chunk in. Returns how far the feed is held then.
async fn take(
    core: &Core,
    peer: &NodeName,
    at: &Cursor,
    decoder: &mut Decoder<'static, Vec<u8>>,
    chunk: &proto::PullResponse,
) -> Result<Cursor, Bad> {
    let length = usize::try_from(chunk.length).unwrap_or(usize::MAX);
    if length > CHUNK_BYTES_MAX {
        return Err(Bad::Unreadable("it is too long"));
    }
    let written = decoder.write_all(&chunk.changes).and_then(|()| decoder.flush());
    written.map_err(|_| Bad::Unreadable("it is not compressed as it should be"))?;
    let bytes = Bytes::from(std::mem::take(decoder.get_mut()));
    if bytes.len() != length {
        return Err(Bad::Unreadable("it is not as long as it says"));
    }
    core.setup.blocking.run(|| {
        let changes = split(bytes)?;
        let after = check(core, peer, at, &changes)?;
        let run = Run { extends: at.clone(), changes };
        let arrived = core.setup.clock.wall();
        let applied = core.setup.store.apply(Apply { runs: vec![run], applied: None, arrived })?;
        match applied.runs.first() {
            Some(RunOutcome::Held { .. }) => {}
            Some(RunOutcome::Forked { held }) => return Err(Bad::Forked(held.seq.0)),
            Some(RunOutcome::Misfit { .. }) | None => return Err(Bad::Misfit),
        }
        if is_site_journal(core, at)
            && let Err(error) = core.setup.store.sync()
        {
            tracing::error!(%error, "what was taken in is not synced");
        }
        Ok(after)
    })
}

/// The change sets of a chunk.
fn split(mut bytes: Bytes) -> Result<Vec<Canonical>, Bad> {
    let mut changes = Vec::new();
    while !bytes.is_empty() {
        let short = Bad::Unreadable("it ends too early");
        let Some((length, _)) = bytes.split_first_chunk::<8>() else { return Err(short) };
        let length = usize::try_from(u64::from_be_bytes(*length)).unwrap_or(usize::MAX);
        let Some(end) = length.checked_add(8).filter(|&end| end <= bytes.len()) else {
            return Err(short);
        };
        let change = bytes.split_to(end).slice(8..);
        changes.push(Canonical::parse(change)?);
    }
    Ok(changes)
}

/// Whether change sets are the next ones, with the hashes that the peer has announced.
fn check(core: &Core, peer: &NodeName, at: &Cursor, changes: &[Canonical]) -> Result<Cursor, Bad> {
    let announced = core
        .views
        .with(peer, |view| view.holdings.get(&at.origin).map(|holding| holding.cursor.clone()));
    let mut after = at.clone();
    for change in changes {
        let set = change.change_set();
        let expected = after.seq.next();
        let next = set.origin == at.origin && set.seq == expected;
        if !next && !mutant("gap-accepted-on-arrival") {
            let of = set.origin.to_string();
            return Err(Bad::Gap { of, expected: expected.0, found: set.seq.0 });
        }
        after = after.extend(change.bytes());
        let differs = announced
            .as_ref()
            .is_some_and(|announced| announced.seq == after.seq && announced.hash != after.hash);
        if differs && !mutant("hash-not-checked-on-arrival") {
            return Err(Bad::Hash(after.seq.0));
        }
    }
    Ok(after)
}

/// A chunk was not taken.
fn turned_down(core: &Core, choice: &Choice, at: &Cursor, bad: &Bad) -> End {
    refused(&choice.node, bad.label(), bad);
    match bad {
        Bad::Forked(seq) => {
            fork(core, at, format!("{} gives another change set {seq}", choice.node))
        }
        Bad::Wire(error @ WireError::Format { .. }) => {
            let (origin, seq) = (at.origin.clone(), at.seq.next());
            let held_back = HeldBack { origin, seq, reason: error.to_string() };
            lock(&core.troubles).held_back.insert(at.origin.clone(), held_back);
        }
        _ => {}
    }
    End::Refused
}

/// The peer has ended the call.
fn ended(core: &Core, choice: &Choice, at: &Cursor, status: &tonic::Status) -> End {
    tracing::debug!(peer = %choice.node, origin = %at.origin, %status, "a pull has ended");
    match status.code() {
        Code::FailedPrecondition => {
            refused(&choice.node, "fork", status.message());
            fork(core, at, format!("{} says: {}", choice.node, status.message()));
            End::Refused
        }
        Code::DataLoss | Code::InvalidArgument | Code::PermissionDenied => End::Refused,
        _ => End::Lost,
    }
}

/// Two histories of one feed: both are kept, and it is followed no more.
fn fork(core: &Core, at: &Cursor, why: String) {
    let text = format!(
        "the feed {} has two histories: this node holds change set {} with hash {}, and {why}; \
         it is not followed any more",
        at.origin, at.seq, at.hash
    );
    tracing::error!(origin = %at.origin, %text, "a feed is forked");
    let alarm = core.alarm("fork", text);
    lock(&core.troubles).forks.entry(at.origin.clone()).or_insert(alarm);
}
