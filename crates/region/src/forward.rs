//! This module has a command decided wherever the leader is, exactly once.
//!
//! Every attempt carries the same request id, so an attempt whose fate is unknown is simply made
//! again: whoever leads by then finds the recorded outcome, or decides it for the first time.

use std::future::{Future, ready};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chartmesh_record::{
    Command, Cursor, EntryOutcome, NodeName, Origin, Outcome, Rejection, RejectionReason, Seq,
};
use chartmesh_wire::raft::{decode_cursor, encode_cursor};
use chartmesh_wire::{MAX_CHANGE_SET_BYTES, MAX_COMMAND_BYTES, Purpose, encode_command, proto};
use futures::{StreamExt, stream};
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use crate::claim::Claim;
use crate::core::{Admission, Core};
use crate::decider::{Load, Verdict};
use crate::journal;
use crate::limits::{
    AHEAD_WAIT, BATCH_BYTES, IsolationWrites, LINEARIZE_WAIT, PIECE_BYTES, RETRY_PAUSE,
};
use crate::peers::client;
use crate::service::{read_index, verdict_from};
use crate::submit::{Accepted, Durability, Fate, Reason, SubmitError, Unavailable};
use crate::upload::{cut, join};

/// A command on its way to be decided.
struct Parcel {
    load: Load,
    /// What is sent to another node.
    pieces: Vec<Bytes>,
    header: proto::SubmitHeader,
    deadline: Instant,
}

/// Has a command decided, and waits until this node holds what it changed.
pub(crate) async fn submit(core: &Core, command: Command) -> Result<Accepted, SubmitError> {
    let parcel = pack(core, command)?;
    let mut fate = Fate::NotWritten;
    let mut pause = RETRY_PAUSE;
    loop {
        if let Admission::Refused(refusal) = &*core.admission.borrow() {
            return Err(Unavailable::new(Reason::Refused(refusal.reason.clone()), fate).into());
        }
        if core.isolation.since().is_some() {
            // What may be decided elsewhere is never journaled.
            if fate == Fate::Unknown {
                return Err(Unavailable::new(Reason::NoQuorum, fate).into());
            }
            if let Some(accepted) = isolated(core, &parcel).await? {
                return Ok(accepted);
            }
        }
        let verdict = match core.leader() {
            Some((_, leader)) => attempt(core, &parcel, &leader).await,
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

/// What an isolated node does with a command; `None` if it has returned meanwhile.
async fn isolated(core: &Core, parcel: &Parcel) -> Result<Option<Accepted>, SubmitError> {
    if core.limits.isolation_writes == IsolationWrites::Refuse {
        return Err(Unavailable::new(Reason::Isolated, Fate::NotWritten).into());
    }
    let load = match &parcel.load {
        Load::Small { .. } => parcel.load.clone(),
        Load::Big { pieces, length } => {
            let command = core.blocking.run(|| join(pieces, *length));
            let command = command.expect("this node has made the pieces itself");
            Load::Small { command: Arc::new(command), size: *length }
        }
    };
    journal::write(core, load, parcel.deadline).await
}

/// Waits until another node leads, but not longer than this, or until this node is isolated.
async fn another_leader(core: &Core, pause: Duration) {
    let before = core.leader();
    tokio::select! {
        biased;
        () = core.until(|core| core.leader().is_some() && core.leader() != before) => {}
        () = core.isolation.begun() => {}
        () = sleep(pause) => {}
    }
}

/// Has a command decided; decides again what names a version that is not held, once more of its
/// origin has come, for a while.
pub(crate) async fn unless_lacking<D>(core: &Core, mut decide: impl FnMut() -> D) -> Verdict
where
    D: Future<Output = Verdict>,
{
    let until = Instant::now() + AHEAD_WAIT;
    let mut changes = core.store.subscribe();
    let mut held = None;
    loop {
        changes.mark_unchanged();
        let verdict = decide().await;
        let Verdict::Lacking(version) = &verdict else { return verdict };
        loop {
            let Ok(Ok(())) = timeout_at(until, changes.changed()).await else { return verdict };
            let now_held = core.store.cursor(&version.origin).seq;
            if held.replace(now_held) != Some(now_held) {
                break;
            }
        }
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
    let (load, pieces) = if compressed {
        drop(command);
        let pieces = core.blocking.run(|| cut(&bytes)).expect("memory takes what is compressed");
        (Load::Big { pieces: pieces.clone(), length }, pieces)
    } else {
        (Load::Small { command: Arc::new(command), size: length }, vec![bytes])
    };
    let header = proto::SubmitHeader { length: length as u64, compressed, ahead: Vec::new() };
    Ok(Parcel { load, pieces, header, deadline: Instant::now() + patience })
}

/// Has a command decided by the node that leads. Gives up when the time is over or that node leads no
/// longer; and when this node is isolated, if nothing has begun until then.
async fn attempt(core: &Core, parcel: &Parcel, leader: &NodeName) -> Verdict {
    if *leader == core.me {
        let decide = || {
            let given_up = async {
                tokio::select! {
                    biased;
                    () = core.isolation.begun() => {}
                    () = sleep_until(parcel.deadline) => {}
                }
            };
            core.queue.decide(parcel.load.clone(), None, given_up)
        };
        let decided = timeout_at(parcel.deadline, unless_lacking(core, decide)).await;
        return decided.unwrap_or(Verdict::Unknown);
    }
    let claim = Claim::default();
    let led_by_another =
        |core: &Core| core.leader().is_none_or(|(_, now_leading)| now_leading != *leader);
    let isolated = async {
        core.isolation.begun().await;
        // What may have arrived may still be answered.
        if !claim.withdraw() {
            std::future::pending().await
        }
    };
    tokio::select! {
        biased;
        verdict = pass_on(core, parcel, leader, claim.clone()) => return verdict,
        () = core.until(led_by_another) => {}
        () = isolated => {}
        () = sleep_until(parcel.deadline) => {}
    }
    unfinished(&claim)
}

/// What became of a command that was not answered.
fn unfinished(claim: &Claim) -> Verdict {
    if claim.withdraw() { Verdict::NotLeader } else { Verdict::Unknown }
}

/// Passes a command on. It begins when its first byte is sent.
async fn pass_on(core: &Core, parcel: &Parcel, leader: &NodeName, claim: Claim) -> Verdict {
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
    let sent = claim.clone();
    let requests = stream::iter(requests).take_while(move |_| ready(sent.begin()));
    let mut client = client(core, leader, Purpose::Forward);
    let verdict = match client.submit(requests).await {
        Ok(response) => verdict_from(response.into_inner()),
        Err(status) => {
            tracing::debug!(%leader, %status, "a write cannot be passed on");
            unfinished(&claim)
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
    let no_quorum = || Unavailable::new(Reason::NoQuorum, Fate::NotWritten);
    let (index, feeds) = loop {
        let read = match core.leader() {
            Some((_, leader)) if leader == core.me => {
                read_index(core).await.map(|index| (index, Vec::new()))
            }
            Some((_, leader)) => {
                timeout_at(deadline, index_from(core, &leader)).await.unwrap_or(None)
            }
            None => None,
        };
        if let Some(read) = read {
            break read;
        }
        if Instant::now() + RETRY_PAUSE >= deadline {
            return Err(no_quorum());
        }
        sleep(RETRY_PAUSE).await;
    };
    if core.raft().is_none() {
        // Without the log the feeds tell how far that is.
        let within = deadline.saturating_duration_since(Instant::now());
        let held = core.feeds.hold(feeds, within).await;
        return if held { Ok(()) } else { Err(no_quorum()) };
    }
    let mut progress = core.progress.clone();
    let held = progress.wait_for(|position| position.entries() > index);
    match timeout_at(deadline, held).await {
        Ok(Ok(_)) => Ok(()),
        _ => Err(no_quorum()),
    }
}

/// Asks the leader up to where to wait: in the log, and in the region's feeds.
async fn index_from(core: &Core, leader: &NodeName) -> Option<(u64, Vec<Cursor>)> {
    use proto::linearize_response::Answer;
    let mut client = client(core, leader, Purpose::Forward);
    let answer = client.linearize(proto::LinearizeRequest {});
    let answer = tokio::time::timeout(2 * LINEARIZE_WAIT, answer).await.ok()?.ok()?.into_inner();
    let feeds = answer.feeds.iter().map(decode_cursor).collect::<Result<_, _>>().ok()?;
    match answer.answer? {
        Answer::Index(index) => Some((index, feeds)),
        Answer::NotLeader(_) | Answer::NoQuorum(_) => None,
    }
}
