//! This module is where commands wait for the leader: bounded in count and in bytes.

use std::sync::Arc;

use bytes::Bytes;
use chartmesh_record::{Command, Outcome, Rejection, VersionId};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use crate::limits::Limits;

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
pub(super) struct Waiting {
    pub(super) load: Load,
    reply: oneshot::Sender<Verdict>,
    _room: OwnedSemaphorePermit,
}

/// What the decider reads from.
#[derive(Debug)]
pub(crate) struct Inbox(pub(super) mpsc::Receiver<Message>);

impl Load {
    /// The bytes that it takes while it waits.
    pub(super) fn size(&self) -> usize {
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

    /// Has a command decided here.
    pub(crate) async fn decide(&self, load: Load) -> Verdict {
        let size = u32::try_from(load.size()).unwrap_or(u32::MAX).min(self.capacity);
        let Ok(room) = Arc::clone(&self.room).try_acquire_many_owned(size) else {
            return Verdict::Overloaded;
        };
        let (reply, verdict) = oneshot::channel();
        match self.messages.try_send(Message::Decide(Waiting { load, reply, _room: room })) {
            Ok(()) => verdict.await.unwrap_or(Verdict::Unknown),
            Err(TrySendError::Full(_)) => Verdict::Overloaded,
            Err(TrySendError::Closed(_)) => Verdict::NotLeader,
        }
    }

    /// Makes the decider finish what is in flight and decide no more.
    pub(crate) async fn drain(&self) {
        let (done, drained) = oneshot::channel();
        if self.messages.send(Message::Drain(done)).await.is_ok() {
            let _ = drained.await;
        }
    }
}

impl Waiting {
    /// Whether nobody waits any more.
    pub(super) fn is_forsaken(&self) -> bool {
        self.reply.is_closed()
    }

    /// Answers who waits, if anybody still does.
    pub(super) fn answer(self, verdict: Verdict) {
        let _ = self.reply.send(verdict);
    }
}
