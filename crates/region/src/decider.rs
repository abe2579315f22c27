//! This module decides: the leader judges waiting commands and puts what they change into the log.
//!
//! ```text
//! Queue --> [ judge all that wait | next part of a big command | statement ] --one entry--> log
//!               over the store, after the own term's first entry           in flight, then answer
//! ```
//! * One entry is in flight, and bound to this term: nobody else's decisions lie between the state
//!   judged and the entry.
//! * An outcome without effect is answered once a quorum has confirmed, after the judgement, that
//!   this node still leads: by the entry of the same batch, or by asking.
//! * Small commands go between the parts of a big one.
//! * Whoever is silent is named by the log before anything is decided at an instant at which it may
//!   have been isolated: the clock is read first, then the last words are looked at
//!   (docs/decisions/0012).

mod begin;
mod big;
mod judge;
mod propose;
mod queue;

use std::collections::VecDeque;
use std::sync::Arc;

use chartmesh_record::{Batch, Cursor, Moment, Silent, Statement, Timestamp, mutant};
use chartmesh_wire::raft::Proposal;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::core::Core;
use crate::limits::{BATCH_BYTES, RETRY_PAUSE, STATEMENT_EVERY};
use crate::types::{Fit, LeaderId};
use crate::words::silent_after;

use big::Uploading;
pub(crate) use judge::{Held, judge};
use propose::{Lost, confirm, propose};
use queue::Message;
pub(crate) use queue::{Inbox, Load, Queue, Room, Verdict, Waiting};

/// Decides while this node leads, and says so to those who ask while it does not.
pub(crate) struct Decider {
    core: Arc<Core>,
    messages: mpsc::Receiver<Message>,
    /// Taken, and not decided yet.
    small: VecDeque<Waiting>,
    big: VecDeque<Waiting>,
    /// The big command that is on its way through the log.
    uploading: Option<Uploading>,
    /// Once the node hands over: who waits for what is in flight.
    draining: Option<Vec<oneshot::Sender<()>>>,
}

/// One term of this node's leadership.
struct Term {
    leader: LeaderId,
    /// How far the feed was when it began.
    began: Cursor,
    /// The last instant that was put into the log.
    last: Timestamp,
    /// What the log said before this term.
    inherited: Inherited,
    /// When the next statement is due.
    speak_at: Instant,
    /// Whom the last statement of this term calls silent; `None` before the first.
    silent: Option<Vec<Silent>>,
}

/// What the log says of silence when a term begins.
#[derive(Clone, Debug, Default)]
struct Inherited {
    /// As of when: whoever is not called silent had a word until then.
    at: Timestamp,
    silent: Vec<Silent>,
}

/// An instant to decide at, and when the clock was read for it.
#[derive(Clone, Copy)]
struct Stamp {
    at: Timestamp,
    read: Moment,
}

/// The region ends.
struct Ended;

impl Inherited {
    /// What the last statement says; where there is none, nobody can have been isolated before.
    fn from(core: &Core) -> Self {
        let position = core.progress.borrow();
        match &position.statement {
            Some(last) => Self { at: last.at, silent: last.silent.clone() },
            None => Self { at: position.at, silent: Vec::new() },
        }
    }
}

impl Decider {
    pub(crate) fn new(core: Arc<Core>, inbox: Inbox) -> Self {
        let (small, big) = (VecDeque::new(), VecDeque::new());
        Self { core, messages: inbox.0, small, big, uploading: None, draining: None }
    }

    /// Decides until the region ends.
    pub(crate) async fn run(mut self) {
        while let Ok(leader) = self.lead().await {
            let ended = match self.begin(leader).await {
                Some(term) => self.decide(term).await.is_err(),
                None => false,
            };
            self.send_away();
            if ended {
                return;
            }
            // Raft refuses what is proposed in a term before its metrics tell that it is over.
            let over = self.core.until(|core| core.leadership() != Some(leader));
            let _ = tokio::time::timeout(RETRY_PAUSE, over).await;
        }
    }

    /// Waits until this node leads. Who comes meanwhile is told that it does not.
    async fn lead(&mut self) -> Result<LeaderId, Ended> {
        let core = Arc::clone(&self.core);
        loop {
            let may = self.draining.is_none();
            if let Some(leader) = core.leadership().filter(|_| may) {
                return Ok(leader);
            }
            tokio::select! {
                biased;
                () = core.until(|core| core.leadership().is_some()), if may => {}
                message = self.messages.recv() => {
                    self.take(message.ok_or(Ended)?);
                    self.send_away();
                }
            }
        }
    }

    /// Decides as long as the term lasts.
    async fn decide(&mut self, mut term: Term) -> Result<(), Ended> {
        while self.core.leadership() == Some(term.leader) {
            self.wait(&term).await?;
            if self.draining.is_some() || self.step(&mut term).await.is_err() {
                break;
            }
        }
        tracing::info!(term = term.leader.term, "this node decides no longer");
        Ok(())
    }

    /// Waits until there is something to do, and takes what waits.
    async fn wait(&mut self, term: &Term) -> Result<(), Ended> {
        let core = Arc::clone(&self.core);
        while self.small.is_empty() && !self.big_has_work() && self.draining.is_none() {
            tokio::select! {
                biased;
                message = self.messages.recv() => self.take(message.ok_or(Ended)?),
                () = core.uploads.changed(), if self.uploading.is_some() => {}
                () = tokio::time::sleep_until(term.speak_at) => break,
                () = core.until(|core| core.leadership() != Some(term.leader)) => break,
            }
        }
        while let Ok(message) = self.messages.try_recv() {
            self.take(message);
        }
        Ok(())
    }

    /// Puts what waits into the log: at the most one batch, one step of a big command, and a
    /// statement when one is due.
    async fn step(&mut self, term: &mut Term) -> Result<(), Lost> {
        if Instant::now() >= term.speak_at {
            self.speak(term).await?;
        }
        if !self.small.is_empty() {
            self.batch(term).await?;
        }
        self.advance_big(term).await
    }

    /// The nodes of which there has been no word lately, and this one while it is isolated.
    fn silent(&self, term: &Term) -> Vec<Silent> {
        let core = &self.core;
        if mutant("silent-forgotten") {
            return Vec::new();
        }
        let before = term.silent.as_ref().unwrap_or(&term.inherited.silent);
        let old = silent_after(core.limits.isolation_after);
        let others = core.nodes().filter(|node| **node != core.me);
        let is_old = |last| core.since(last) >= old;
        let unheard = term.inherited.at;
        let mut silent = core.words.silent(term.leader, others, before, unheard, is_old);
        if let Some(since) = core.isolation.since() {
            let me = silent.partition_point(|silent| silent.node < core.me);
            silent.insert(me, Silent { node: core.me.clone(), since });
        }
        silent
    }

    /// The next instant to decide at, if the log names all who are silent as of then.
    fn stamp_as_stated(&self, term: &Term) -> Option<Stamp> {
        // Whoever has isolated itself before the clock is read is found silent afterwards.
        let stamp = self.stamp(term.last);
        let hasty = mutant("decides-before-own-first-entry");
        (hasty || term.silent.as_ref() == Some(&self.silent(term))).then_some(stamp)
    }

    /// The next instant to decide at, once the log names all who are silent as of then.
    async fn stamp_once_stated(&self, term: &mut Term) -> Result<Stamp, Lost> {
        loop {
            match self.stamp_as_stated(term) {
                Some(stamp) => return Ok(stamp),
                None => self.speak(term).await?,
            }
        }
    }

    /// States up to which instant the region's feed is complete, and what may be missing.
    async fn speak(&self, term: &mut Term) -> Result<(), Lost> {
        let core = &self.core;
        // In this order: see the module.
        let stamp = self.stamp(term.last);
        let silent = self.silent(term);
        let feed = core.store.cursor(&term.began.origin);
        let others = core.store.horizon().into_values();
        let holds = others.filter(|cursor| cursor.origin != feed.origin).collect();
        term.last = self.proposing(stamp);
        let statement = Statement { feed, at: term.last, holds, silent: silent.clone() };
        let statement = Proposal::Statement { statement };
        let (fit, _) = propose(core, term.leader, &statement).await?.applied().await?;
        if fit == Fit::Applied {
            term.silent = Some(silent);
        }
        term.speak_at = Instant::now() + STATEMENT_EVERY.min(core.limits.isolation_after / 4);
        Ok(())
    }

    /// Decides small commands that wait, as one batch.
    async fn batch(&mut self, term: &mut Term) -> Result<(), Lost> {
        let core = Arc::clone(&self.core);
        let stamp = self.stamp_once_stated(term).await?;
        let held = Held::of(&core.store, &term.began);
        let extends = core.store.cursor(&term.began.origin);
        let mut batch = Batch::new(&held, &extends);
        let commands = self.next_batch();
        let ruled = judge(&core, &mut batch, commands, stamp.at)?;
        if ruled.changes.is_empty() {
            self.answer_confirmed(term.leader, ruled.verdicts);
            return Ok(());
        }
        term.last = self.proposing(stamp);
        let proposal = ruled.proposal(extends, term.last);
        let applied = match propose(&core, term.leader, &proposal).await {
            Ok(proposed) => proposed.applied().await,
            Err(lost) => Err(lost),
        };
        match applied {
            Ok((Fit::Applied, _)) => ruled.answer(),
            Ok((Fit::Misfit, _)) => {
                tracing::warn!("a batch did not fit; its commands are decided again");
                for (waiting, _) in ruled.verdicts.into_iter().rev() {
                    self.small.push_front(waiting);
                }
            }
            Err(lost) => return Err(ruled.lose(lost)),
        }
        Ok(())
    }

    /// The commands that are decided next, up to the size of a batch.
    fn next_batch(&mut self) -> Vec<Waiting> {
        let (mut commands, mut bytes) = (Vec::new(), 0);
        while let Some(waiting) = self.small.pop_front() {
            if waiting.is_forsaken() {
                continue;
            }
            bytes += waiting.load.size();
            if bytes > BATCH_BYTES && !commands.is_empty() {
                self.small.push_front(waiting);
                break;
            }
            commands.push(waiting);
        }
        commands
    }

    /// Answers outcomes without effect, once a quorum has confirmed that this node still leads.
    fn answer_confirmed(&self, leader: LeaderId, verdicts: Vec<(Waiting, Verdict)>) {
        if verdicts.is_empty() {
            return;
        }
        let core = Arc::clone(&self.core);
        tokio::spawn(async move {
            let confirmed = mutant("refusal-without-confirmation") || confirm(&core, leader).await;
            for (waiting, verdict) in verdicts {
                waiting.answer(if confirmed { verdict } else { Verdict::NotLeader });
            }
        });
    }

    /// The next instant to decide at: later than any in the log, and than the last one proposed.
    fn stamp(&self, last: Timestamp) -> Stamp {
        let core = &self.core;
        let read = core.now();
        let known = core.progress.borrow().at.max(last);
        Stamp { at: Timestamp(core.clock.wall().0.max(known.0 + 1)), read }
    }

    /// Notes that an instant is proposed: what is known of it is needed once it is in the log.
    fn proposing(&self, Stamp { at, read }: Stamp) -> Timestamp {
        self.core.freshness.stamped(at, read);
        at
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Decide(waiting) => match waiting.load {
                Load::Small { .. } => self.small.push_back(waiting),
                Load::Big { .. } => self.big.push_back(waiting),
            },
            Message::Drain(done) => self.draining.get_or_insert_default().push(done),
        }
    }

    /// Tells all who wait that nothing was written here.
    fn send_away(&mut self) {
        let uploading = self.uploading.take().map(|uploading| uploading.waiting);
        let waiting = self.small.drain(..).chain(self.big.drain(..)).chain(uploading);
        waiting.for_each(|waiting| waiting.answer(Verdict::NotLeader));
        for done in self.draining.iter_mut().flat_map(|waiting| waiting.drain(..)) {
            let _ = done.send(());
        }
    }
}
