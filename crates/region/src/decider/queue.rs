//! This module is where commands wait to be decided, by the leader or into a journal: bounded in count
//! and in bytes.

use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use chartmesh_record::{Command, Outcome, Rejection, VersionId};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use crate::claim::Claim;
use crate::limits::{BATCH_BYTES, Limits};

/// A command on its way to the decider.
#[derive(Clone, Debug)]
pub(crate) enum Load {
    /// One that fits a batch.
    Small {
        /// The command.
        command: Arc<Command>,
        /// Its encoded length, in bytes.
        size: usize,
    },
    /// One that goes through the log in parts.
    Big {
        /// The compressed command, cut.
        pieces: Vec<Bytes>,
        /// The length of the command before compression, in bytes.
        length: usize,
    },
}

/// What became of a command at the node that was asked to decide it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It was decided, and is in the log.
    Accepted(Outcome),
    /// The client's fault.
    Rejected(Rejection),
    /// It names a version that is not held.
    Lacking(VersionId),
    /// The node does not decide: nothing was written.
    NotLeader,
    /// The node decides no longer: it may have been written, or may still be.
    Unknown,
    /// Too much is waiting: nothing was written.
    Overloaded,
}

/// The way to the decider. Clones lead to the same.
#[derive(Clone, Debug)]
pub(crate) struct Queue {
    messages: mpsc::Sender<Message>,
    room: Arc<Semaphore>,
    capacity: u32,
}

/// Room for a command that is on its way to the queue.
#[derive(Debug)]
pub(crate) struct Room(OwnedSemaphorePermit);

/// What the decider is asked.
#[derive(Debug)]
pub(super) enum Message {
    /// To decide a command.
    Decide(Waiting),
    /// To decide no more.
    Drain(oneshot::Sender<()>),
}

/// A command that waits, and who waits for it.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(super) load: Load,
    reply: oneshot::Sender<Verdict>,
    claim: Claim,
    _room: Room,
}

/// What the decider reads from.
#[derive(Debug)]
pub(crate) struct Inbox(pub(super) mpsc::Receiver<Message>);

impl Load {
    /// The bytes that it takes while it waits.
    pub(crate) fn size(&self) -> usize {
        match self {
            Self::Small { size, .. } => *size,
            Self::Big { pieces, .. } => pieces.iter().map(Bytes::len).sum(),
        }
    }
}

impl Queue {
    pub(crate) fn new(limits: &Limits) -> (Self, Inbox) {
        let capacity = u32::try_from(limits.queue_bytes).unwrap_or(u32::MAX >> 4);
        let room = Arc::new(Semaphore::new(capacity as usize));
        let (messages, inbox) = mpsc::channel(limits.queue_commands.max(1));
        (Self { messages, room, capacity }, Inbox(inbox))
    }

    /// Makes room for a command of so many bytes, if there is any.
    pub(crate) fn reserve(&self, bytes: usize) -> Option<Room> {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX).min(self.capacity);
        Arc::clone(&self.room).try_acquire_many_owned(bytes).ok().map(Room)
    }

    /// Has a command decided here. Until that begins it is withdrawn once `given_up` returns.
    pub(crate) async fn decide(
        &self,
        load: Load,
        room: Option<Room>,
        given_up: impl Future<Output = ()>,
    ) -> Verdict {
        let Some(_room) = room.or_else(|| self.reserve(load.size())) else {
            return Verdict::Overloaded;
        };
        let (reply, mut verdict) = oneshot::channel();
        let claim = Claim::default();
        let waiting = Waiting { load, reply, claim: claim.clone(), _room };
        match self.messages.try_send(Message::Decide(waiting)) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => return Verdict::Overloaded,
            Err(TrySendError::Closed(_)) => return Verdict::NotLeader,
        }
        tokio::select! {
            biased;
            decided = &mut verdict => return decided.unwrap_or(Verdict::Unknown),
            () = given_up => {}
        }
        if claim.withdraw() {
            return Verdict::NotLeader;
        }
        verdict.await.unwrap_or(Verdict::Unknown)
    }

    /// Makes the decider finish what is in flight and decide no more.
    pub(crate) async fn drain(&self) {
        let (done, drained) = oneshot::channel();
        if self.messages.send(Message::Drain(done)).await.is_ok() {
            let _ = drained.await;
        }
    }
}

impl Room {
    /// Gives back what is not needed of it.
    pub(crate) fn shrink(&mut self, bytes: usize) {
        let spare = self.0.num_permits().saturating_sub(bytes);
        drop(self.0.split(spare));
    }
}

impl Inbox {
    /// The next commands that wait, up to the size of a batch; `None` once nobody can ask any more.
    pub(crate) async fn next_batch(&mut self) -> Option<Vec<Waiting>> {
        let (mut commands, mut bytes) = (Vec::new(), 0);
        let mut next = Some(self.0.recv().await?);
        while let Some(message) = next {
            match message {
                Message::Decide(waiting) => {
                    bytes += waiting.load.size();
                    commands.push(waiting);
                }
                Message::Drain(done) => drop(done.send(())),
            }
            next = if bytes < BATCH_BYTES { self.0.try_recv().ok() } else { None };
        }
        Some(commands)
    }
}

impl Waiting {
    /// Whether nobody waits any more.
    pub(super) fn is_forsaken(&self) -> bool {
        self.reply.is_closed()
    }

    /// Begins to decide it, unless nobody waits any more.
    pub(super) fn begin(&self) -> bool {
        !self.is_forsaken() && self.claim.begin()
    }

    /// Answers who waits, if anybody still does.
    pub(crate) fn answer(self, verdict: Verdict) {
        let _ = self.reply.send(verdict);
    }
}
