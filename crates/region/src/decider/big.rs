//! This module takes big commands through the log, part by part, and decides them.

use std::pin::pin;
use std::sync::Arc;

use chartmesh_record::{Batch, Cursor};
use chartmesh_wire::raft::{Proposal, Upload};
use futures::StreamExt;
use futures::stream::FuturesOrdered;

use super::judge::{Changed, Held, RuledOne, judge, judge_one};
use super::propose::{Lost, Proposed, propose};
use super::queue::{Load, Verdict, Waiting};
use super::{Decider, Term};
use crate::core::Core;
use crate::submit::Fate;
use crate::types::Fit;
use crate::upload::Prepared;

/// A big command on its way through the log.
pub(super) struct Uploading {
    pub(super) waiting: Waiting,
    upload: u64,
    parts: Upload,
}

/// What is decided over while this node has not applied it: up to where, in the feed and in the log.
struct Ahead {
    extends: Cursor,
    /// Of the next entry.
    index: u64,
}

impl Uploading {
    pub(super) fn new(waiting: Waiting, upload: u64) -> Self {
        let Load::Big { length, .. } = waiting.load else {
            unreachable!("small commands wait elsewhere");
        };
        Self { waiting, upload, parts: Upload { indexes: Vec::new(), length } }
    }

    /// The next part to put into the log, if one is left.
    fn next_part(&self) -> Option<Proposal> {
        let Load::Big { pieces, .. } = &self.waiting.load else { return None };
        let place = self.parts.indexes.len();
        let piece = pieces.get(place)?.clone();
        let last = place + 1 == pieces.len();
        let complete = last.then(|| self.parts.clone());
        Some(Proposal::Part { upload: self.upload, piece, complete })
    }
}

impl Decider {
    /// Whether there is something to do for a big command.
    pub(super) fn big_has_work(&self) -> bool {
        match &self.uploading {
            None => !self.big.is_empty(),
            Some(uploading) => {
                uploading.next_part().is_some() || self.core.uploads.is_ready(uploading.upload)
            }
        }
    }

    /// Takes one step with a big command, if there is one.
    pub(super) async fn advance_big(&mut self, term: &mut Term) -> Result<(), Lost> {
        if self.uploading.as_ref().is_some_and(|uploading| uploading.waiting.is_forsaken()) {
            self.uploading = None;
        }
        if self.uploading.is_none() {
            self.big.retain(|waiting| !waiting.is_forsaken());
            let upload = self.core.random.bits();
            let next = self.big.pop_front();
            self.uploading = next.map(|waiting| Uploading::new(waiting, upload));
        }
        let Some(uploading) = &mut self.uploading else { return Ok(()) };
        if let Some(part) = uploading.next_part() {
            let (_, index) = propose(&self.core, term.leader, &part).await?.applied().await?;
            uploading.parts.indexes.push(index);
            return Ok(());
        }
        match self.core.uploads.ready(uploading.upload) {
            None => Ok(()),
            Some(Ok(prepared)) => self.decide_big(term, prepared).await,
            Some(Err(_)) => {
                let uploading = self.uploading.take().expect("just seen");
                uploading.waiting.answer(Verdict::Unknown);
                Ok(())
            }
        }
    }

    /// Decides a big command that is all in the log. To apply it takes a while, and once it is
    /// committed nothing can come in between any more: small commands are decided over what it
    /// changes, and answered when they are committed, until this node has caught up.
    async fn decide_big(&mut self, term: &mut Term, prepared: Prepared) -> Result<(), Lost> {
        let stamp = self.stamp_once_stated(term).await?;
        let Some(uploading) = self.uploading.take() else { return Ok(()) };
        let Uploading { waiting, upload, parts } = uploading;
        let core = Arc::clone(&self.core);
        if !waiting.begin() {
            return Ok(());
        }
        let index = core.progress.borrow().entries();
        let held = Held::of(&core.store, &term.began);
        let extends = core.store.cursor(&term.began.origin);
        let mut batch = Batch::new(&held, &extends);
        let begun = core.clock.monotonic();
        let judged = core.blocking.run(|| {
            let judged = judge_one(&core, &mut batch, &prepared.command, stamp.at)?;
            Ok(match judged {
                RuledOne::Change(changed) => {
                    let after = extends.extend(changed.change.bytes());
                    Ok((changed, after))
                }
                RuledOne::Verdict(verdict) => Err(verdict),
            })
        });
        let (Changed { decision, change }, after) = match judged? {
            Ok((changed, after)) => (*changed, after),
            Err(verdict) => {
                self.answer_confirmed(term.leader, vec![(waiting, verdict)]);
                return Ok(());
            }
        };
        term.last = self.proposing(stamp);
        let bytes = change.bytes().len();
        let judged_in = core.clock.monotonic().saturating_sub(begun);
        let verdict = Verdict::Accepted(change.change_set().outcome());
        core.uploads.keep(upload, Ok(Prepared { change: Some(change), ..prepared }));
        let hash = after.hash;
        let decided = Proposal::Decided { extends, upload, parts, decision, hash };
        let mut proposed = match propose(&core, term.leader, &decided).await {
            Ok(proposed) => proposed,
            Err(lost) => {
                waiting.answer(lost.verdict());
                return Err(lost);
            }
        };
        drop(decided);
        if let Err(lost) = follows(proposed.committed().await, index) {
            waiting.answer(lost.verdict());
            return Err(lost);
        }
        waiting.answer(verdict);
        let committed_in = core.clock.monotonic().saturating_sub(begun);
        tracing::info!(bytes, ?judged_in, ?committed_in, "a big command is decided");
        metrics::counter!("chartmesh_region_big_commands_total").increment(1);
        self.go_on(term, &mut batch, Ahead { extends: after, index: index + 1 }, proposed).await
    }

    /// Decides small commands over what is committed, until this node has applied the big one.
    async fn go_on(
        &mut self,
        term: &mut Term,
        batch: &mut Batch<'_, Held<'_>>,
        mut ahead: Ahead,
        big: Proposed<'_>,
    ) -> Result<(), Lost> {
        let core = Arc::clone(&self.core);
        let mut behind = FuturesOrdered::new();
        let mut applied = pin!(big.applied());
        loop {
            tokio::select! {
                biased;
                fit = &mut applied => {
                    fits(&core, fit?)?;
                    break;
                }
                message = self.messages.recv(), if self.small.is_empty() => {
                    self.take(message.ok_or(Lost { fate: Fate::Unknown })?);
                }
                () = std::future::ready(()), if !self.small.is_empty() => {}
            }
            while let Ok(message) = self.messages.try_recv() {
                self.take(message);
            }
            // A statement says up to where the feed is held, so it waits until this node has caught
            // up; and what has to follow on it waits with it.
            let Some(stamp) = self.stamp_as_stated(term) else {
                fits(&core, applied.await?)?;
                break;
            };
            let commands = self.next_batch();
            if commands.is_empty() {
                continue;
            }
            let ruled = judge(&core, batch, commands, stamp.at)?;
            if ruled.changes.is_empty() {
                self.answer_confirmed(term.leader, ruled.verdicts);
                continue;
            }
            term.last = self.proposing(stamp);
            let proposal = ruled.proposal(ahead.extends.clone(), term.last);
            let committed = match propose(&core, term.leader, &proposal).await {
                Ok(mut proposed) => {
                    let committed = proposed.committed().await;
                    follows(committed, ahead.index).map(|()| proposed)
                }
                Err(lost) => Err(lost),
            };
            match committed {
                Ok(proposed) => behind.push_back(proposed.applied()),
                Err(lost) => return Err(ruled.lose(lost)),
            }
            ahead.extends =
                ruled.changes.iter().fold(ahead.extends, |at, change| at.extend(change.bytes()));
            ahead.index += 1;
            ruled.answer();
        }
        while let Some(fit) = behind.next().await {
            fits(&core, fit?)?;
        }
        Ok(())
    }
}

/// Checks that an entry was committed at the index that follows on what it was decided over: nothing
/// lies in between, so it fits.
fn follows(committed: Result<u64, Lost>, index: u64) -> Result<(), Lost> {
    match committed {
        Ok(committed) if committed == index => Ok(()),
        Ok(committed) => {
            tracing::warn!(
                committed,
                index,
                "an entry does not follow on what it was decided over"
            );
            Err(Lost { fate: Fate::Unknown })
        }
        Err(lost) => Err(lost),
    }
}

/// Checks that what was committed fits. It was answered already, so this node must not go on if not.
fn fits(core: &Core, (fit, index): (Fit, u64)) -> Result<(), Lost> {
    if fit == Fit::Applied {
        return Ok(());
    }
    core.end(format_args!("entry {index} was committed, but does not fit"));
    Err(Lost { fate: Fate::Unknown })
}
