//! This module has a command decided wherever the leader is, exactly once.
//!
//! Every attempt carries the same request id, so an attempt whose fate is unknown is simply made
//! again: whoever leads by then finds the recorded outcome, or decides it for the first time.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chartmesh_record::{
    Command, Cursor, EntryOutcome, NodeName, Origin, Outcome, Rejection, RejectionReason, Seq,
};
use chartmesh_wire::raft::{decode_cursor, encode_cursor};
use chartmesh_wire::{MAX_CHANGE_SET_BYTES, MAX_COMMAND_BYTES, Purpose, encode_command, proto};
use futures::stream;
use tokio::time::{Instant, timeout_at};

use crate::core::{Admission, Core};
use crate::decider::{Load, Verdict};
use crate::journal;
use crate::limits::{BATCH_BYTES, IsolationWrites, PIECE_BYTES, RETRY_PAUSE};
use crate::peers::client;
use crate::service::verdict_from;
use crate::submit::{Accepted, Durability, Fate, Reason, SubmitError, Unavailable};
use crate::upload::cut;

/// A command on its way to the leader.
struct Parcel {
    load: Load,
    /// What is sent to another node.
    pieces: Vec<Bytes>,
    header: proto::SubmitHeader,
    deadline: Instant,
    /// For a journal, if it is not too big to be kept beside.
    command: Option<Arc<Command>>,
}

/// Has a command decided, and waits until this node holds what it changed.
pub(crate) async fn submit(core: &Core, command: Command) -> Result<Accepted, SubmitError> {
    if core.isolation.since().is_some() {
        return isolated(core, &command).await;
    }
    let parcel = pack(core, command)?;
    let mut fate = Fate::NotWritten;
    let mut pause = RETRY_PAUSE;
    loop {
        if let Admission::Refused(refusal) = &*core.admission.borrow() {
            return Err(Unavailable::new(Reason::Refused(refusal.reason.clone()), fate).into());
        }
        if core.isolation.since().is_some() {
            // What may be decided elsewhere is never journaled.
            return match (&parcel.command, fate) {
                (Some(command), Fate::NotWritten) => isolated(core, command).await,
                _ => Err(Unavailable::new(Reason::NoQuorum, fate).into()),
            };
        }
        let verdict = match core.leader() {
            Some((_, leader)) => {
                let attempt = attempt(core, &parcel, &leader);
                timeout_at(parcel.deadline, attempt).await.unwrap_or(Verdict::Unknown)
            }
            None => Verdict::NotLeader,
        };
        match verdict {
            Verdict::Accepted(outcome) => {
                let applied = match &outcome.change {
                    Some((origin, seq)) => applied(core, origin, *seq).await,
                    None => holds_what_it_names(core, &outcome).await,
                };
                let durability = Durability::Region;
                return Ok(Accepted { outcome, durability, applied });
            }
            Verdict::Rejected(rejection) => return Err(rejection.into()),
            Verdict::Lacking(version) => {
                return Err(Unavailable::new(Reason::Lacking(version), fate).into());
            }
            Verdict::Overloaded => return Err(Unavailable::new(Reason::Overloaded, fate).into()),
            Verdict::Unknown => fate = Fate::Unknown,
            Verdict::NotLeader => {}
        }
        if Instant::now() + pause >= parcel.deadline {
            metrics::counter!("chartmesh_region_unavailable_total").increment(1);
            let heard = core.isolation.was_confirmed();
            let reason = if heard { Reason::NoQuorum } else { Reason::Starting };
            return Err(Unavailable::new(reason, fate).into());
        }
        another_leader(core, pause).await;
        pause = (pause * 2).min(5 * RETRY_PAUSE);
    }
}

/// What an isolated node does with a command.
async fn isolated(core: &Core, command: &Command) -> Result<Accepted, SubmitError> {
    match core.limits.isolation_writes {
        IsolationWrites::Refuse => Err(Unavailable::new(Reason::Isolated, Fate::NotWritten).into()),
        IsolationWrites::Journal => {
            let bytes = encode_command(command).len();
            if bytes > MAX_COMMAND_BYTES {
                let limit = MAX_CHANGE_SET_BYTES;
                let reason = RejectionReason::TooLarge { bytes, limit };
                return Err(Rejection { entry: None, reason }.into());
            }
            journal::write(core, command, Instant::now() + core.limits.patience).await
        }
    }
}

/// Waits until another node leads, but not longer than this.
async fn another_leader(core: &Core, pause: Duration) {
    let before = core.leader();
    tokio::select! {
        biased;
        () = core.until(|core| core.leader().is_some() && core.leader() != before) => {}
        () = tokio::time::sleep(pause) => {}
    }
}

/// Makes a command ready to be decided here or passed on.
fn pack(core: &Core, command: Command) -> Result<Parcel, SubmitError> {
    let bytes = encode_command(&command);
    if bytes.len() > MAX_COMMAND_BYTES {
        let reason = RejectionReason::TooLarge { bytes: bytes.len(), limit: MAX_CHANGE_SET_BYTES };
        return Err(Rejection { entry: None, reason }.into());
    }
    let length = bytes.len();
    let compressed = length > BATCH_BYTES;
    let patience = if compressed { core.limits.patience_big } else { core.limits.patience };
    let mut kept = None;
    let (load, pieces) = if compressed {
        drop(command);
        let pieces = core.blocking.run(|| cut(&bytes)).expect("memory takes what is compressed");
        (Load::Big { pieces: pieces.clone(), length }, pieces)
    } else {
        let command = Arc::new(command);
        kept = Some(Arc::clone(&command));
        (Load::Small { command, size: length }, vec![bytes])
    };
    let header = proto::SubmitHeader { length: length as u64, compressed, ahead: Vec::new() };
    Ok(Parcel { load, pieces, header, deadline: Instant::now() + patience, command: kept })
}

/// Has a command decided by the node that leads; gives up as soon as it leads no longer.
async fn attempt(core: &Core, parcel: &Parcel, leader: &NodeName) -> Verdict {
    if *leader == core.me {
        return core.queue.decide(parcel.load.clone()).await;
    }
    let led_by_another =
        |core: &Core| core.leader().is_none_or(|(_, now_leading)| now_leading != *leader);
    tokio::select! {
        biased;
        verdict = pass_on(core, parcel, leader) => verdict,
        () = core.until(led_by_another) => Verdict::Unknown,
    }
}

/// Passes a command on.
async fn pass_on(core: &Core, parcel: &Parcel, leader: &NodeName) -> Verdict {
    let begun = core.clock.monotonic();
    let present = core.freshness.stated(core).map(|(statement, _)| statement.feed.origin);
    let ahead = core.feeds.ahead_of(leader).into_iter();
    let ahead = ahead.filter(|cursor| Some(&cursor.origin) != present.as_ref());
    let ahead = ahead.map(|cursor| encode_cursor(&cursor)).collect();
    let mut header = Some(proto::SubmitHeader { ahead, ..parcel.header.clone() });
    let requests: Vec<proto::SubmitRequest> = parcel
        .pieces
        .iter()
        .map(|piece| proto::SubmitRequest { header: header.take(), piece: piece.clone() })
        .collect();
    debug_assert!(requests.iter().all(|request| request.piece.len() <= PIECE_BYTES));
    let mut client = client(core, leader, Purpose::Forward);
    let verdict = match client.submit(stream::iter(requests)).await {
        Ok(response) => verdict_from(response.into_inner()),
        Err(status) => {
            tracing::debug!(%leader, %status, "a write cannot be passed on");
            Verdict::Unknown
        }
    };
    let took = core.clock.monotonic().saturating_sub(begun);
    metrics::histogram!("chartmesh_region_forward_seconds").record(took.as_secs_f64());
    verdict
}

/// Waits until this node holds a change; gives up after a while.
async fn applied(core: &Core, origin: &Origin, seq: Seq) -> bool {
    until_held(core, || core.store.cursor(origin).seq >= seq).await
}

async fn until_held(core: &Core, held: impl Fn() -> bool) -> bool {
    let mut changes = core.store.subscribe();
    let held = async {
        loop {
            changes.mark_unchanged();
            if held() {
                return true;
            }
            if changes.changed().await.is_err() {
                return false;
            }
        }
    };
    tokio::time::timeout(core.limits.apply_wait, held).await.unwrap_or(false)
}

/// Waits until this node holds the versions that an outcome without a change names, such as what a
/// conditional create has found; gives up after a while.
async fn holds_what_it_names(core: &Core, outcome: &Outcome) -> bool {
    let holds = |entry: &EntryOutcome| match (&entry.key, &entry.version) {
        (Some(key), Some(version)) => {
            core.store.heads(key).is_ok_and(|heads| heads.covers(version))
        }
        _ => true,
    };
    until_held(core, || outcome.entries.iter().all(holds)).await
}

/// Waits until this node holds all that was decided before it was asked.
pub(crate) async fn linearize(core: &Core) -> Result<(), Unavailable> {
    let deadline = Instant::now() + core.limits.patience;
    let (index, feed) = loop {
        let index = match core.leader() {
            Some((_, leader)) if leader == core.me => {
                crate::service::read_index(core).await.map(|index| (index, None))
            }
            Some((_, leader)) => {
                timeout_at(deadline, index_from(core, &leader)).await.unwrap_or(None)
            }
            None => None,
        };
        if let Some(index) = index {
            break index;
        }
        if Instant::now() + RETRY_PAUSE >= deadline {
            return Err(Unavailable::new(Reason::NoQuorum, Fate::NotWritten));
        }
        another_leader(core, RETRY_PAUSE).await;
    };
    if core.raft().is_none() {
        // Without the log the feed tells how far that is.
        let Some(feed) = feed else { return Ok(()) };
        let within = deadline.saturating_duration_since(Instant::now());
        return match core.feeds.hold(vec![feed], within).await {
            true => Ok(()),
            false => Err(Unavailable::new(Reason::NoQuorum, Fate::NotWritten)),
        };
    }
    let mut progress = core.progress.clone();
    let held = progress.wait_for(|position| position.entries() > index);
    match timeout_at(deadline, held).await {
        Ok(Ok(_)) => Ok(()),
        _ => Err(Unavailable::new(Reason::NoQuorum, Fate::NotWritten)),
    }
}

/// Asks the leader up to where to wait.
async fn index_from(core: &Core, leader: &NodeName) -> Option<(u64, Option<Cursor>)> {
    use proto::linearize_response::Answer;
    const TIMEOUT: Duration = Duration::from_secs(1);
    let mut client = client(core, leader, Purpose::Forward);
    let answer = client.linearize(proto::LinearizeRequest {});
    let answer = tokio::time::timeout(TIMEOUT, answer).await.ok()?.ok()?;
    let answer = answer.into_inner();
    let feed = answer.feed.as_ref().map(decode_cursor).transpose().ok()?;
    match answer.answer? {
        Answer::Index(index) => Some((index, feed)),
        Answer::NotLeader(_) | Answer::NoQuorum(_) => None,
    }
}
