//! This module changes who votes: a new disk takes the place of the one that its name had before, and
//! a change that was left half-done is finished.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use chartmesh_record::NodeName;
use chartmesh_wire::{Purpose, proto};
use tokio::time::{sleep, timeout};

use crate::core::{Admission, Core, Why};
use crate::handover;
use crate::limits::{HELLO_EVERY, JOIN_WAIT};
use crate::peers::{Greeting, client, myself};
use crate::setup::Member;
use crate::types::Peer;

/// Asks to be let in until this disk votes.
pub(crate) async fn join(core: Arc<Core>) {
    use proto::join_response::Answer;
    let mut last_told = String::new();
    // What this disk itself has heard of the group may be from before it was taken out.
    while !(is_voter(&core, core.raft_id()) && is_counted_in(&core).await) {
        let leader = core.leader().map(|(_, name)| name);
        let asked = leader.filter(|leader| *leader != core.me).or_else(|| core.someone());
        if let Some(peer) = asked {
            let mut client = client(&core, &peer, Purpose::Forward);
            let request = proto::JoinRequest { node: Some(myself(&core)) };
            let answer = tokio::time::timeout(4 * HELLO_EVERY, client.join(request)).await;
            let told = match answer {
                Ok(Ok(answer)) => match answer.into_inner().answer {
                    Some(Answer::Welcome(_)) => format!("{peer} lets this node in"),
                    Some(Answer::NotLeader(told)) => {
                        core.note_told(told.leader.parse().ok());
                        continue_later(&peer)
                    }
                    Some(Answer::Refused(reason)) => format!("{peer} refuses: {reason}"),
                    None => continue_later(&peer),
                },
                Ok(Err(status)) => {
                    core.forget_told(&peer);
                    format!("{peer} does not answer: {status}")
                }
                Err(_) => continue_later(&peer),
            };
            if told != last_told {
                tracing::info!("{told}");
                last_told = told;
            }
        }
        sleep(HELLO_EVERY).await;
    }
    if let Some(raft) = core.raft().filter(|_| !*core.draining.borrow()) {
        raft.runtime_config().elect(true);
    }
    core.joined();
    tracing::info!("this disk votes now");
}

fn continue_later(peer: &NodeName) -> String {
    format!("{peer} was asked to let this node in")
}

fn is_voter(core: &Core, id: u64) -> bool {
    core.membership().is_some_and(|membership| membership.voter_ids().any(|voter| voter == id))
}

/// Whether the others say that this disk votes.
async fn is_counted_in(core: &Core) -> bool {
    let known = core.recovery.load(Ordering::Acquire);
    let greetings = core.peers.greet(core).await.into_iter();
    let told = greetings.filter(|greeting| greeting.recovery == known);
    let newest = told.filter_map(|greeting| greeting.membership).max_by_key(|it| *it.log_id());
    newest.is_some_and(|it| it.membership().voter_ids().any(|voter| voter == core.raft_id()))
}

/// Whether the group counts a node in, whichever its disk.
fn is_named(core: &Core, name: &NodeName) -> bool {
    let named = |peer: &Peer| peer.name.as_ref() == Some(name);
    core.membership().is_some_and(|membership| membership.nodes().any(|(_, peer)| named(peer)))
}

fn is_invited(core: &Core, name: &NodeName) -> bool {
    core.invited.lock().unwrap_or_else(PoisonError::into_inner).contains(name)
}

/// Lets a node of the topology in that is no voter yet, at the leader, once it asks. Says what is done.
pub(crate) async fn invite(core: &Core, name: &str) -> Result<String, String> {
    let member = core.voters.iter().find(|member| member.name.as_str() == name);
    let Some(Member { name, .. }) = member else {
        return Err(format!(
            "the topology at {} names no voter {name} in region {}: add it there first, at every \
             node, and start them again one after the other",
            core.me, core.region
        ));
    };
    if is_named(core, name) {
        return Ok(format!("{name} is a member already"));
    }
    core.invited.lock().unwrap_or_else(PoisonError::into_inner).insert(name.clone());
    match timeout(JOIN_WAIT, core.until(|core| is_named(core, name))).await {
        Ok(()) => Ok(format!("{name} is a member, and votes once it has filled itself")),
        Err(_) => Ok(format!("{name} is let in as soon as it runs and asks")),
    }
}

/// Takes a node out of the group, at the leader. Says what was done.
pub(crate) async fn remove(core: &Core, name: &str) -> Result<String, String> {
    let membership = core.membership().ok_or("nobody votes yet")?;
    let named = |id: &u64| {
        let peer = membership.get_node(id).and_then(|peer| peer.name.as_ref());
        peer.is_some_and(|peer| peer.as_str() == name)
    };
    let (out, stay): (BTreeSet<u64>, BTreeSet<u64>) = membership.voter_ids().partition(named);
    if out.is_empty() {
        return Ok(format!("{name} does not vote"));
    }
    if stay.is_empty() {
        return Err(format!("{name} is the last voter of region {}", core.region));
    }
    if out.contains(&core.raft_id()) {
        handover::hand_over(core).await;
        return Err(format!("{name} led, and has handed over: ask again"));
    }
    let Ok(_turn) = core.changing.try_lock() else {
        return Err("another change is under way: ask again".to_owned());
    };
    core.invited.lock().unwrap_or_else(PoisonError::into_inner).retain(|it| it.as_str() != name);
    let raft = core.raft().ok_or("Raft does not run")?;
    let left = stay.len();
    let changed = timeout(JOIN_WAIT, raft.change_membership(stay, false)).await;
    match changed {
        Ok(Ok(_)) => Ok(format!("{name} votes no longer; {left} voters are left")),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("no majority has agreed in time; it may still be done".to_owned()),
    }
}

/// Heeds what others say of the group: one that has gone on without this node ends its part in it.
pub(crate) fn heed(core: &Arc<Core>, greetings: &[Greeting]) {
    let known = core.recovery.load(Ordering::Acquire);
    if core.raft().is_none() {
        return;
    }
    if let Some(greeting) = greetings.iter().find(|greeting| greeting.recovery > known) {
        return core.end(format!(
            "its region was recovered without it, as {} says: started again, it joins anew",
            greeting.name
        ));
    }
    let here = core.stored_membership();
    let at = here.as_ref().and_then(|here| *here.log_id());
    let of_same = greetings.iter().filter(|greeting| greeting.recovery == known);
    let newer = of_same.filter_map(|greeting| greeting.membership.as_ref());
    let newer = newer.filter(|there| *there.log_id() > at).max_by_key(|there| *there.log_id());
    let gone = newer.is_some_and(|there| there.membership().get_node(&core.raft_id()).is_none());
    if gone && *core.admission.borrow() == Admission::Member {
        tracing::warn!("this node votes no longer in its region: it was taken out");
        if let Some(raft) = core.raft() {
            raft.runtime_config().elect(false);
        }
        let joining = Admission::Joining { why: Why::Uninvited, since: core.clock.wall() };
        core.admission.send_replace(joining);
        tokio::spawn(join(Arc::clone(core)));
    }
}

/// Lets a disk in, at the leader.
pub(crate) fn welcome(core: &Arc<Core>, id: u64, name: &NodeName) -> Result<(), String> {
    let Some(member) = core.voters.iter().find(|member| member.name == *name) else {
        return Err(format!("{name} is not a voter of this region"));
    };
    if is_voter(core, id) {
        return Ok(());
    }
    let recovered = core.recovery.load(Ordering::Acquire) > 0;
    if !recovered && !is_invited(core, name) && !is_named(core, name) {
        return Err(format!("{name} is no voter yet: `chartmesh node add {name}` lets it in"));
    }
    let peer = Peer { name: Some(name.clone()), address: member.address.clone() };
    let core = Arc::clone(core);
    tokio::spawn(async move {
        // One change at a time; who comes meanwhile asks again.
        let Ok(_turn) = core.changing.try_lock() else { return };
        if let Err(error) = replace(&core, id, peer).await {
            tracing::warn!(%error, "a new disk is not let in yet");
        }
    });
    Ok(())
}

/// Lets the disk catch up, and puts it into the place of the one of the same name.
async fn replace(core: &Core, id: u64, peer: Peer) -> Result<(), String> {
    let raft = core.raft().ok_or("Raft does not run")?;
    let membership = core.membership().ok_or("nobody votes yet")?;
    let name = peer.name.clone();
    let known: BTreeMap<u64, Peer> =
        membership.nodes().map(|(&id, peer)| (id, peer.clone())).collect();
    if !known.contains_key(&id) {
        raft.add_learner(id, peer, true).await.map_err(|error| error.to_string())?;
    }
    let stays = |voter: &u64| known.get(voter).is_none_or(|peer| peer.name != name);
    let mut voters: BTreeSet<u64> = membership.voter_ids().filter(stays).collect();
    voters.insert(id);
    raft.change_membership(voters, false).await.map_err(|error| error.to_string())?;
    tracing::info!(name = ?name, raft_id = id, "a new disk votes in the place of the old one");
    Ok(())
}

/// Finishes a change that a leader before this one has left half-done.
pub(crate) fn finish_half_done(core: &Arc<Core>) {
    let joint = core.membership().filter(|membership| membership.get_joint_config().len() > 1);
    let Some(target) = joint.and_then(|membership| membership.get_joint_config().last().cloned())
    else {
        return;
    };
    let core = Arc::clone(core);
    tokio::spawn(async move {
        let Ok(_turn) = core.changing.try_lock() else { return };
        let Some(raft) = core.raft() else { return };
        tracing::info!("a change of the voters that was left half-done is finished");
        if let Err(error) = raft.change_membership(target, false).await {
            tracing::warn!(%error, "it cannot be finished now");
        }
    });
}
