//! This module takes big commands through the log, part by part, and decides them.

use std::sync::Arc;

use chartmesh_wire::raft::{Proposal, Upload};

use super::judge::{RuledBig, judge_big};
use super::propose::{Lost, propose};
use super::queue::{Load, Verdict, Waiting};
use super::{Decider, Term};
use crate::submit::Fate;
use crate::types::Fit;
use crate::upload::Prepared;

/// A big command on its way through the log.
pub(super) struct Uploading {
    pub(super) waiting: Waiting,
    upload: u64,
    parts: Upload,
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
        if self.uploading.is_none() {
            self.big.retain(|waiting| !waiting.is_forsaken());
            let upload = self.core.random.bits();
            let next = self.big.pop_front();
            self.uploading = next.map(|waiting| Uploading::new(waiting, upload));
        }
        let Some(uploading) = &mut self.uploading else { return Ok(()) };
        if let Some(part) = uploading.next_part() {
            let (_, index) = propose(&self.core, term.leader, &part).await?;
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

    /// Decides a big command that is all in the log. If the decision does not fit, it stays to be
    /// decided again.
    async fn decide_big(&mut self, term: &mut Term, prepared: Prepared) -> Result<(), Lost> {
        let Some(uploading) = self.uploading.take() else { return Ok(()) };
        let Uploading { waiting, upload, parts } = uploading;
        let core = Arc::clone(&self.core);
        let extends = core.store.cursor(&term.began.origin);
        let (at, read) = self.instant();
        let judged = core
            .blocking
            .run(|| judge_big(&core.store, &term.began, &extends, &prepared.command, at));
        let (decision, change) = match judged {
            Ok(RuledBig::Change { decision, change }) => (decision, change),
            Ok(RuledBig::Verdict(verdict)) => {
                self.answer_confirmed(term.leader, vec![(waiting, verdict)]);
                return Ok(());
            }
            Err(corrupt) => {
                core.end(&corrupt);
                return Err(Lost { fate: Fate::NotWritten });
            }
        };
        let verdict = Verdict::Accepted(change.change_set().outcome());
        let hash = extends.extend(change.bytes()).hash;
        core.uploads.keep(upload, Ok(Prepared { change: Some(change), ..prepared }));
        let decided = Proposal::Decided { extends, upload, parts: parts.clone(), decision, hash };
        core.freshness.stamped(at, read);
        match propose(&core, term.leader, &decided).await {
            Ok((Fit::Applied, _)) => waiting.answer(verdict),
            Ok((Fit::Misfit, _)) => self.big.push_front(waiting),
            Err(lost) => {
                waiting.answer(lost.verdict());
                return Err(lost);
            }
        }
        term.spoken();
        metrics::counter!("chartmesh_region_big_commands_total").increment(1);
        Ok(())
    }
}
