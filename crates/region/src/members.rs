//! This module changes who votes: a new disk takes the place of the one that its name had before, and
//! a change that was left half-done is finished.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chartmesh_record::NodeName;
use chartmesh_wire::{Purpose, proto};
use tokio::time::sleep;

use crate::core::Core;
use crate::limits::HELLO_EVERY;
use crate::peers::{client, myself};
use crate::types::Peer;

/// Asks to be let in until this disk votes.
pub(crate) async fn join(core: Arc<Core>) {
    use proto::join_response::Answer;
    let mut last_told = String::new();
    while !is_voter(&core, core.raft_id()) {
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
    core.joined();
    tracing::info!("this disk votes now");
}

fn continue_later(peer: &NodeName) -> String {
    format!("{peer} was asked to let this node in")
}

fn is_voter(core: &Core, id: u64) -> bool {
    core.membership().is_some_and(|membership| membership.voter_ids().any(|voter| voter == id))
}

/// Lets a disk in, at the leader.
pub(crate) fn welcome(core: &Arc<Core>, id: u64, name: &NodeName) -> Result<(), String> {
    let Some(member) = core.voters.iter().find(|member| member.name == *name) else {
        return Err(format!("{name} is not a voter of this region"));
    };
    if is_voter(core, id) {
        return Ok(());
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
