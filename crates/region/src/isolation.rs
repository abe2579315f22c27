//! This module finds out whether the node is in touch with its region: it asks the leader again and
//! again, isolates itself after a while without a confirmed answer, and returns after several.
//!
//! ```text
//! starting --confirmed--> region --none for isolation.after--> isolated
//!    '--none for isolation.after-------------------------------^   |
//!            region <--several in a row, journal at the leader-----'
//! ```

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chartmesh_record::{Cursor, Moment, NodeName, Timestamp};
use chartmesh_wire::raft::{decode_cursor, encode_cursor};
use chartmesh_wire::{Purpose, decode_aged, proto};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use crate::core::Core;
use crate::limits::{ASK_EVERY, CONFIRMATIONS, RETRY_PAUSE, RETURN_WAIT};
use crate::peers::client;
use crate::words::{Said, confirmed_within};

/// Whether the node is in touch with its region.
#[derive(Debug)]
pub(crate) struct Isolation {
    touch: Mutex<Touch>,
    since: watch::Sender<Option<Timestamp>>,
}

/// What has come back from the region. Times are monotonic: a clock that is set must not isolate a
/// node before its leader has called it silent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Touch {
    /// When the process began to ask.
    began: Duration,
    /// When the last confirmed answer arrived.
    confirmed: Option<Duration>,
    /// Confirmed answers in a row.
    row: u32,
    /// The last confirmed answer's.
    token: u64,
}

/// What a leader has answered.
#[derive(Clone, Copy, Debug)]
struct Answer {
    /// Given iff it was confirmed.
    token: Option<u64>,
    /// Whether it holds this node's journals as far as they were named.
    holds: bool,
}

impl Touch {
    fn note(&mut self, now: Duration, token: Option<u64>) {
        match token {
            Some(token) => {
                self.confirmed = Some(now);
                self.token = token;
                self.row = self.row.saturating_add(1);
            }
            None => self.row = 0,
        }
    }

    /// Whether nothing was confirmed for so long.
    fn is_lost(&self, now: Duration, after: Duration) -> bool {
        now.saturating_sub(self.confirmed.unwrap_or(self.began)) >= after
    }

    /// Whether an isolated node may try to return.
    fn is_back(&self) -> bool {
        self.row >= CONFIRMATIONS
    }
}

impl Isolation {
    pub(crate) fn new(began: Duration) -> Self {
        let touch = Touch { began, ..Touch::default() };
        Self { touch: Mutex::new(touch), since: watch::Sender::new(None) }
    }

    fn touch(&self) -> MutexGuard<'_, Touch> {
        self.touch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Since when the node is isolated, if it is.
    pub(crate) fn since(&self) -> Option<Timestamp> {
        *self.since.borrow()
    }

    /// Returns once the node is isolated.
    pub(crate) async fn begun(&self) {
        // The sender lives as long as this.
        let _ = self.since.subscribe().wait_for(Option::is_some).await;
    }

    /// Whether a quorum has ever answered.
    pub(crate) fn was_confirmed(&self) -> bool {
        self.touch().confirmed.is_some()
    }

    /// Isolates the node if it is time to.
    fn look(&self, core: &Core) {
        let mut touch = self.touch();
        let lost = touch.is_lost(core.clock.monotonic(), core.limits.isolation_after);
        if !lost || self.since().is_some() {
            return;
        }
        // Before the region has begun nobody would announce it.
        if touch.confirmed.is_none() && !core.has_begun() {
            return;
        }
        touch.row = 0;
        self.since.send_replace(Some(core.clock.wall()));
        metrics::counter!("chartmesh_region_isolations_total").increment(1);
        tracing::warn!("no quorum of the region answers: this node is isolated");
    }

    fn end(&self) {
        self.since.send_replace(None);
        tracing::info!("the region answers again: this node is isolated no longer");
    }
}

/// Isolates the node when it is time to.
pub(crate) async fn keep_looking(core: Arc<Core>) {
    loop {
        core.isolation.look(&core);
        sleep(core.limits.isolation_after.min(Duration::from_secs(5)) / 50).await;
    }
}

/// Asks the leader, for ever.
pub(crate) async fn keep_asking(core: Arc<Core>) {
    let mut last_leader = None;
    let mut last_named = Vec::new();
    loop {
        let leader = core.leader().map(|(_, name)| name);
        let named = journals(&core);
        // While more is written, the leader can hold no more than what there was a while ago.
        let isolated = core.isolation.since().is_some();
        let asked = if isolated { last_named } else { named.clone() };
        last_named = named;
        let answer = ask(&core, leader.as_ref(), &asked).await;
        let confirmed = answer.is_some_and(|answer| answer.token.is_some());
        let near = answer.is_some_and(|answer| answer.holds) && core.isolation.touch().is_back();
        let returned = isolated && near && come_back(&core, leader.as_ref()).await;
        // What a new leader has confirmed is sent back to it at once: until then it calls this node
        // silent. So it does until it hears that this node has returned.
        let news = returned || (confirmed && leader != last_leader);
        if confirmed {
            last_leader = leader;
        }
        let isolated = core.isolation.since().is_some();
        sleep(match (news, confirmed, isolated) {
            (true, ..) => Duration::from_millis(2),
            (_, true, false) => ASK_EVERY.min(core.limits.isolation_after / 8),
            _ => (ASK_EVERY / 5).min(core.limits.isolation_after / 40),
        })
        .await;
    }
}

/// Returns, if the leader holds the journal to its end while nothing more is written to it. Says
/// whether the node has.
async fn come_back(core: &Core, leader: Option<&NodeName>) -> bool {
    let until = Instant::now() + RETURN_WAIT;
    let mut turn = core.journal.hold_back().await;
    loop {
        let answer = ask(core, leader, &journals(core)).await;
        match answer.filter(|answer| answer.token.is_some()) {
            Some(Answer { holds: true, .. }) => {
                core.journal.close(&mut turn);
                core.isolation.end();
                return true;
            }
            Some(_) if Instant::now() < until => sleep(RETRY_PAUSE).await,
            _ => return false,
        }
    }
}

/// One question, which names these journals.
async fn ask(core: &Core, leader: Option<&NodeName>, journals: &[Cursor]) -> Option<Answer> {
    let (token, isolated) = {
        let touch = core.isolation.touch();
        (touch.token, core.isolation.since().is_some())
    };
    let journals = journals.iter().map(encode_cursor).collect();
    let request = proto::AskRequest { token, isolated, journals };
    let asked = core.now();
    let response = match leader {
        Some(leader) if *leader == core.me => Some(answer(core, leader, &request)),
        Some(leader) => ask_at(core, leader, request).await,
        None => match core.someone() {
            Some(voter) => ask_at(core, &voter, request).await,
            None => None,
        },
    };
    let answer = response.and_then(|response| learn(core, asked, response));
    let token = answer.and_then(|answer| answer.token);
    core.isolation.touch().note(core.clock.monotonic(), token);
    answer
}

async fn ask_at(
    core: &Core,
    peer: &NodeName,
    request: proto::AskRequest,
) -> Option<proto::AskResponse> {
    let mut client = client(core, peer, Purpose::Heartbeat);
    let answer = tokio::time::timeout(2 * ASK_EVERY, client.ask(request)).await;
    match answer {
        Ok(Ok(answer)) => Some(answer.into_inner()),
        Ok(Err(status)) => {
            tracing::debug!(%peer, %status, "no answer about freshness");
            core.forget_told(peer);
            None
        }
        Err(_) => {
            core.forget_told(peer);
            None
        }
    }
}

fn learn(core: &Core, asked: Moment, response: proto::AskResponse) -> Option<Answer> {
    use proto::ask_response::Answer as Wire;
    match response.answer? {
        Wire::Stated(aged) => {
            match decode_aged(&aged) {
                Ok((statement, age)) => core.freshness.learn(core, asked, statement, age),
                Err(error) => {
                    tracing::warn!(%error, "an answer about freshness cannot be read");
                    return None;
                }
            }
            let token = (response.token != 0).then_some(response.token);
            Some(Answer { token, holds: response.holds })
        }
        Wire::NotLeader(told) => {
            core.note_told(told.leader.parse().ok());
            None
        }
    }
}

/// How far the node holds the journals that it has written itself.
fn journals(core: &Core) -> Vec<Cursor> {
    let horizon = core.store.horizon().into_values();
    horizon.filter(|cursor| cursor.origin.name() == core.me.0).collect()
}

/// What this node answers another, or itself, that asks how fresh the region's feed is.
pub(crate) fn answer(
    core: &Core,
    node: &NodeName,
    request: &proto::AskRequest,
) -> proto::AskResponse {
    use proto::ask_response::Answer as Wire;
    let not_leader = || {
        let leader = core.leader().map(|(_, leader)| leader.to_string()).unwrap_or_default();
        let answer = Some(Wire::NotLeader(proto::NotLeader { leader }));
        proto::AskResponse { answer, token: 0, holds: false }
    };
    let Some(leader) = core.leadership() else { return not_leader() };
    let lacks = |journal: &proto::FeedPosition| match decode_cursor(journal) {
        Ok(journal) => core.store.cursor(&journal.origin).seq < journal.seq,
        Err(_) => true,
    };
    let lacking = request.journals.iter().any(lacks);
    let said = Said { token: request.token, isolated: request.isolated, lacking };
    core.words.hear(leader, node, said);
    let Some((statement, age)) = core.freshness.answer(core) else { return not_leader() };
    let confirmed = age < confirmed_within(core.limits.isolation_after);
    let token = if confirmed { core.words.give(leader, core.now(), core.clock.wall()) } else { 0 };
    let aged = chartmesh_wire::encode_aged(&statement, age);
    proto::AskResponse { answer: Some(Wire::Stated(aged)), token, holds: !lacking }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AFTER: Duration = Duration::from_secs(5);

    fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_node_is_lost_when_nothing_was_confirmed_for_long() {
        let mut touch = Touch { began: at(1_000), ..Touch::default() };

        assert!(!touch.is_lost(at(5_999), AFTER), "it has just begun to ask");
        assert!(touch.is_lost(at(6_000), AFTER));
        touch.note(at(6_000), Some(7));
        touch.note(at(9_000), None);
        assert!(!touch.is_lost(at(10_999), AFTER));
        assert!(touch.is_lost(at(11_000), AFTER), "what is not confirmed does not count");
    }

    #[test]
    fn one_confirmed_answer_brings_nobody_back() {
        let mut touch = Touch::default();

        let flapping = [Some(1), Some(2), None, Some(3), Some(4), None, Some(5)];
        for (number, token) in flapping.into_iter().enumerate() {
            touch.note(at(number as u64), token);
            assert!(!touch.is_back(), "after answer {number}");
        }
        touch.note(at(10), Some(6));
        touch.note(at(11), Some(7));
        assert!(touch.is_back());
    }
}
