//! This module finds out whether the node is in touch with its region: it asks the leader again and
//! again, isolates itself after a while without a confirmed answer, and returns after several.
//!
//! ```text
//! starting --confirmed--> region --none for isolation.after--> isolated
//!    '--none for isolation.after-------------------------------^   |
//!            region <--several in a row, journal at the leader-----'
//! ```

use std::sync::Arc;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chartmesh_record::{Cursor, NodeName, Timestamp};
use chartmesh_wire::raft::{decode_cursor, encode_cursor};
use chartmesh_wire::{Purpose, decode_aged, proto};
use tokio::time::sleep;

use crate::core::{Core, Moment};
use crate::limits::{ASK_EVERY, CONFIRMATIONS};
use crate::peers::client;
use crate::words::{Said, confirmed_within};

/// Whether the node is in touch with its region.
#[derive(Debug)]
pub(crate) struct Isolation(Mutex<State>);

#[derive(Debug)]
struct State {
    /// When the process began to ask.
    began: Moment,
    /// When the last confirmed answer arrived.
    confirmed: Option<Moment>,
    isolated: Option<Timestamp>,
    /// Confirmed answers in a row.
    row: u32,
    /// The last confirmed answer's.
    token: u64,
}

/// What a leader has answered.
struct Answer {
    confirmed: bool,
    /// Whether it holds this node's journals as far as they were named.
    holds: bool,
}

impl Isolation {
    pub(crate) fn new(began: Moment) -> Self {
        Self(Mutex::new(State { began, confirmed: None, isolated: None, row: 0, token: 0 }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Since when the node is isolated, if it is.
    pub(crate) fn since(&self) -> Option<Timestamp> {
        self.state().isolated
    }

    /// Whether a quorum has ever answered.
    pub(crate) fn was_confirmed(&self) -> bool {
        self.state().confirmed.is_some()
    }

    /// Takes in whether an answer was confirmed. Says how many were in a row.
    fn note(&self, core: &Core, answer: Option<&Answer>, token: u64) -> u32 {
        let mut state = self.state();
        match answer {
            Some(Answer { confirmed: true, .. }) => {
                state.confirmed = Some(core.now());
                state.token = token;
                state.row += 1;
            }
            _ => state.row = 0,
        }
        state.row
    }

    /// Isolates the node if it is time to.
    fn look(&self, core: &Core) {
        let mut state = self.state();
        let last = state.confirmed.unwrap_or(state.began);
        if state.isolated.is_some() || core.since(last) < core.limits.isolation_after {
            return;
        }
        if state.confirmed.is_none() && !core.belongs() {
            return;
        }
        state.isolated = Some(core.clock.wall());
        state.row = 0;
        metrics::counter!("chartmesh_region_isolations_total").increment(1);
        tracing::warn!("no quorum of the region answers: this node is isolated");
    }

    fn end(&self) {
        self.state().isolated = None;
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
    loop {
        let leader = core.leader().map(|(_, name)| name);
        let answer = ask(&core, leader.as_ref()).await;
        let row = core.isolation.state().row;
        if let Some(Answer { holds: true, .. }) = answer
            && row >= CONFIRMATIONS
            && core.isolation.since().is_some()
        {
            come_back(&core, leader.as_ref()).await;
        }
        let confirmed = answer.is_some_and(|answer| answer.confirmed);
        // What a new leader has confirmed is sent back to it at once: until then it calls this node
        // silent.
        let new = confirmed && leader != last_leader;
        if confirmed {
            last_leader = leader;
        }
        let isolated = core.isolation.since().is_some();
        sleep(match (new, confirmed, isolated) {
            (true, ..) => Duration::from_millis(2),
            (_, true, false) => ASK_EVERY,
            _ => ASK_EVERY / 5,
        })
        .await;
    }
}

/// Returns, if the leader holds the journal to its end while nothing more is written to it.
async fn come_back(core: &Core, leader: Option<&NodeName>) {
    let mut open = core.journal.hold_back().await;
    if let Some(Answer { confirmed: true, holds: true }) = ask(core, leader).await {
        open.close();
        core.isolation.end();
    }
}

/// One question.
async fn ask(core: &Core, leader: Option<&NodeName>) -> Option<Answer> {
    let (token, isolated) = {
        let state = core.isolation.state();
        (state.token, state.isolated.is_some())
    };
    let request = proto::AskRequest {
        token,
        isolated,
        journals: journals(core).iter().map(encode_cursor).collect(),
    };
    let asked = core.now();
    let response = match leader {
        Some(leader) if *leader == core.me => Some(answer(core, leader, &request)),
        Some(leader) => ask_at(core, leader, request).await,
        None => match core.someone() {
            Some(voter) => ask_at(core, &voter, request).await,
            None => None,
        },
    };
    let token = response.as_ref().map_or(0, |response| response.token);
    let answer = response.and_then(|response| learn(core, asked, response));
    core.isolation.note(core, answer.as_ref(), token);
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
            Some(Answer { confirmed: response.token != 0, holds: response.holds })
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
    let now = core.clock.wall();
    core.words.hear(leader, now, node, said);
    let Some((statement, age)) = core.freshness.answer(core) else { return not_leader() };
    let confirmed = age < confirmed_within(core.limits.isolation_after);
    let token = if confirmed { core.words.give(leader, core.now(), now) } else { 0 };
    let aged = chartmesh_wire::encode_aged(&statement, age);
    proto::AskResponse { answer: Some(Wire::Stated(aged)), token, holds: !lacking }
}
