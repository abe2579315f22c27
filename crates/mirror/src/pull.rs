//! This module pulls one feed from one peer, for as long as that is of use.
//!
//! ```text
//! ask --> pieces --> chunk --> hash chain --> change sets in sequence --> store.apply
//!  ^ with what is on the synced disk                                           |
//!  '---------------------------------------------------------------------------'
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use chartmesh_record::{Cursor, NodeName, Seq, mutant};
use chartmesh_store::{Apply, ApplyError, Run, RunOutcome};
use chartmesh_wire::raft::encode_cursor;
use chartmesh_wire::{Canonical, Purpose, proto};
use tokio::sync::mpsc;
use tokio::time::{Duration, sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

use crate::choose::{Choice, Distance};
use crate::chunk::{Assembly, Chunk, Unreadable};
use crate::core::Core;
use crate::limits::{
    CHUNK_BYTES, PULL_PAUSE, PULL_PAUSE_WIDE, PULL_RESTS, PULL_STALLED, PULL_WAIT,
};
use crate::troubles::{Refused, fork, hold_back, refused};

/// How a pull ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// There is nothing more to do for now.
    Done,
    /// The call broke, or this node's disk refuses.
    Lost,
    /// The peer does not give anything, or has too much to do.
    Stalled,
    /// What it gave cannot be taken.
    Refused,
}

/// What a pull does, for whoever looks after it.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// Goes up with everything that comes.
    pub(crate) steps: AtomicU64,
    /// Whether it waits for a change.
    pub(crate) rests: AtomicBool,
}

/// Why a chunk is not taken.
#[derive(Debug, thiserror::Error)]
enum Bad {
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    #[error("change set {found} comes where {expected} should")]
    Gap { expected: Seq, found: String },
    #[error("the hash up to {0} is not the one that was announced")]
    Hash(Seq),
    #[error("another {} is held", .0.seq)]
    Forked(Cursor),
    #[error("it does not follow on what is held")]
    Misfit,
    #[error("change set {seq} cannot be applied: {reason}")]
    Format { seq: Seq, reason: String },
    #[error("the disk refuses: {0}")]
    Disk(#[from] ApplyError),
}

/// A pull as it goes on.
struct Pull<'p> {
    core: &'p Core,
    choice: &'p Choice,
    progress: &'p Progress,
    /// How far it has come.
    at: Cursor,
    assembly: Assembly,
}

/// Pulls a feed from where this node holds it.
pub(crate) async fn pull(
    core: &Core,
    choice: &Choice,
    from: Cursor,
    progress: &Arc<Progress>,
) -> End {
    let Ok(assembly) = Assembly::new() else { return End::Lost };
    let mut pull = Pull { core, choice, progress, at: from, assembly };
    match pull.run().await {
        Ok(end) => end,
        Err(status) => pull.ended(&status),
    }
}

impl Pull<'_> {
    async fn run(&mut self) -> Result<End, Status> {
        let (requests, asked) = mpsc::channel(1);
        let stalled = |_| Status::deadline_exceeded("nothing comes");
        let first = proto::PullRequest { after: Some(encode_cursor(&self.at)), ..self.ask() };
        if requests.try_send(first).is_err() {
            return Ok(End::Lost);
        }
        let mut client = self.core.client(&self.choice.node, Purpose::Feed);
        let call = client.pull(ReceiverStream::new(asked));
        let mut answers = timeout(PULL_STALLED, call).await.map_err(stalled)??.into_inner();
        let mut rests = 0;
        loop {
            let chunk = match self.receive(&mut answers).await? {
                Ok(chunk) => chunk,
                Err(bad) => return Ok(self.turned_down(&bad.into())),
            };
            let length = chunk.length();
            rests = if length == 0 { rests + 1 } else { 0 };
            self.progress.rests.store(length == 0, Ordering::Relaxed);
            if length > 0 {
                match self.take(chunk).await {
                    Ok(after) => self.at = after,
                    Err(bad) => return Ok(self.turned_down(&bad)),
                }
            } else if !self.choice.lives || rests > PULL_RESTS {
                return Ok(End::Done);
            }
            sleep(self.pause(length)).await;
            if requests.send(self.ask()).await.is_err() {
                return Ok(End::Lost);
            }
        }
    }

    fn ask(&self) -> proto::PullRequest {
        let wait = if self.choice.lives { PULL_WAIT } else { Duration::ZERO };
        proto::PullRequest {
            after: None,
            synced: self.core.setup.store.synced(&self.at.origin).min(self.at.seq).0,
            wait_ms: u32::try_from(wait.as_millis()).unwrap_or(u32::MAX),
            max_bytes: u32::try_from(CHUNK_BYTES).unwrap_or(u32::MAX),
        }
    }

    /// How long to wait before more is asked for, after a chunk of this length.
    fn pause(&self, length: usize) -> Duration {
        let more_waits = length >= CHUNK_BYTES / 2 || (length > 0 && !self.choice.lives);
        if more_waits || self.core.is_site_journal(&self.at.origin) {
            Duration::ZERO
        } else if self.choice.distance == Distance::Wide {
            PULL_PAUSE_WIDE
        } else {
            PULL_PAUSE
        }
    }

    /// The next chunk.
    async fn receive(
        &mut self,
        answers: &mut Streaming<proto::PullResponse>,
    ) -> Result<Result<Chunk, Unreadable>, Status> {
        let wide = if self.choice.distance == Distance::Wide { "wide" } else { "near" };
        loop {
            let next = timeout(PULL_WAIT + PULL_STALLED, answers.message()).await;
            let next = next.map_err(|_| Status::deadline_exceeded("nothing comes"))??;
            let piece = next.ok_or_else(|| Status::unavailable("the call has ended"))?;
            metrics::counter!("chartmesh_mirror_pulled_bytes_total", "distance" => wide)
                .increment(piece.changes.len() as u64);
            if piece.length > 0 {
                self.progress.steps.fetch_add(1, Ordering::Relaxed);
            }
            match self.assembly.add(&piece) {
                Ok(None) => {}
                Ok(Some(chunk)) => return Ok(Ok(chunk)),
                Err(unreadable) => return Ok(Err(unreadable)),
            }
        }
    }

    /// Takes a chunk in. Returns how far the feed has come with it.
    async fn take(&self, chunk: Chunk) -> Result<Cursor, Bad> {
        let core = self.core;
        let _place = core.takers.acquire().await;
        core.setup.blocking.run(|| {
            let after = self.check_hash(&chunk)?;
            if core.setup.store.is_held_back(&self.at.origin) {
                return self.hold_back(&self.at, &chunk.changes);
            }
            let (changes, stop) = self.parse(&chunk)?;
            let applied = changes.len();
            self.apply(changes)?;
            if let Some(bad) = stop {
                self.tell_held_back(&bad);
                let read = chunk.changes[..applied].iter();
                let at = read.fold(self.at.clone(), |at, change| at.extend(change));
                return self.hold_back(&at, &chunk.changes[applied..]);
            }
            if core.is_site_journal(&self.at.origin) {
                core.sync();
            }
            Ok(after)
        })
    }

    /// Whether a chunk is what the peer itself has, and has announced. Returns its end.
    fn check_hash(&self, chunk: &Chunk) -> Result<Cursor, Bad> {
        let (peer, origin) = (&self.choice.node, &self.at.origin);
        let announced = self.core.views.with(|known| {
            known.feeds.get(origin).and_then(|feed| feed.get(peer)).map(|held| held.cursor.clone())
        });
        let mut after = self.at.clone();
        for change in &chunk.changes {
            after = after.extend(change);
            let differs = announced
                .as_ref()
                .is_some_and(|told| told.seq == after.seq && told.hash != after.hash);
            if differs && !mutant("hash-not-checked-on-arrival") {
                return Err(Bad::Hash(after.seq));
            }
        }
        if after.hash.0[..] != chunk.hash && !mutant("hash-not-checked-on-arrival") {
            return Err(Bad::Hash(after.seq));
        }
        Ok(after)
    }

    /// The change sets of a chunk, up to the first that this software does not know, and why it does
    /// not.
    fn parse(&self, chunk: &Chunk) -> Result<(Vec<Canonical>, Option<Bad>), Bad> {
        let mut changes = Vec::with_capacity(chunk.changes.len());
        let mut expected = self.at.seq;
        for bytes in &chunk.changes {
            expected = expected.next();
            let change = match Canonical::parse(bytes.clone()) {
                Ok(change) => change,
                Err(error @ chartmesh_wire::WireError::Format { .. }) => {
                    let bad = Bad::Format { seq: expected, reason: error.to_string() };
                    return Ok((changes, Some(bad)));
                }
                Err(error) => return Err(Unreadable::Change(error).into()),
            };
            let set = change.change_set();
            let next = set.origin == self.at.origin && set.seq == expected;
            if !next && !mutant("gap-accepted-on-arrival") {
                let found = format!("{} of {}", set.seq, set.origin);
                return Err(Bad::Gap { expected, found });
            }
            changes.push(change);
        }
        Ok((changes, None))
    }

    /// Keeps change sets that cannot be read, to pass them on.
    fn hold_back(&self, after: &Cursor, changes: &[Bytes]) -> Result<Cursor, Bad> {
        self.core.setup.store.hold_back(after, changes)?.ok_or(Bad::Misfit)
    }

    fn tell_held_back(&self, bad: &Bad) {
        if let Bad::Format { seq, reason } = bad {
            hold_back(self.core, &self.at.origin, *seq, reason.clone());
        }
        let (peer, origin) = (&self.choice.node, &self.at.origin);
        refused(peer, Refused::Format, format_args!("{origin}: {bad}"));
    }

    fn apply(&self, changes: Vec<Canonical>) -> Result<(), Bad> {
        if changes.is_empty() {
            return Ok(());
        }
        let setup = &self.core.setup;
        let run = Run { extends: self.at.clone(), changes };
        let apply = Apply { runs: vec![run], applied: None, arrived: setup.clock.wall() };
        match setup.store.apply(apply)?.runs.into_iter().next() {
            Some(RunOutcome::Held { .. }) => Ok(()),
            Some(RunOutcome::Forked { held }) => Err(Bad::Forked(held)),
            Some(RunOutcome::Misfit { .. }) | None if mutant("gap-accepted-on-arrival") => Ok(()),
            Some(RunOutcome::Misfit { .. }) | None => Err(Bad::Misfit),
        }
    }

    /// A chunk was not taken.
    fn turned_down(&self, bad: &Bad) -> End {
        let (core, peer) = (self.core, &self.choice.node);
        let reason = match bad {
            Bad::Disk(error) => {
                tracing::error!(%error, origin = %self.at.origin, "a chunk cannot be taken in");
                return End::Lost;
            }
            Bad::Forked(held) => {
                fork(core, peer, held, "gives another");
                return End::Refused;
            }
            Bad::Format { .. } => Refused::Format,
            Bad::Unreadable(_) => Refused::Unreadable,
            Bad::Gap { .. } | Bad::Misfit => Refused::Gap,
            Bad::Hash(_) => Refused::Hash,
        };
        refused(peer, reason, format_args!("{}: {bad}", self.at.origin));
        End::Refused
    }

    /// The call has ended.
    fn ended(&self, status: &Status) -> End {
        let (peer, origin): (&NodeName, _) = (&self.choice.node, &self.at.origin);
        tracing::debug!(%peer, %origin, %status, "a pull has ended");
        match status.code() {
            Code::FailedPrecondition => {
                fork(self.core, peer, &self.at, status.message());
                End::Refused
            }
            Code::DataLoss | Code::InvalidArgument | Code::PermissionDenied => End::Refused,
            Code::DeadlineExceeded | Code::ResourceExhausted => End::Stalled,
            _ => End::Lost,
        }
    }
}
