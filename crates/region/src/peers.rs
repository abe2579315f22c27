//! This module knows the other voters: whether they answer, how fast, and who their disks are.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chartmesh_record::{Moment, NodeName};
use chartmesh_wire::proto;
use chartmesh_wire::proto::region_client::RegionClient;
use futures::future::join_all;
use tonic::Request;
use tonic::transport::Channel;

use crate::core::Core;
use crate::limits::MESSAGE_BYTES;
use chartmesh_wire::Purpose;

use crate::codec::{log_id_from, membership_from};
use crate::promises::{Promise, Promises};
use crate::setup::Member;
use crate::status::MemberStatus;
use crate::types::StoredMembership;

/// A voter that has not answered for this long counts as unreachable.
const SILENCE: Duration = Duration::from_secs(2);
/// A voter that does not answer within this time has not answered.
const HELLO_TIMEOUT: Duration = Duration::from_millis(800);

/// What is known of the other voters.
#[derive(Debug, Default)]
pub(crate) struct Peers {
    seen: Mutex<BTreeMap<NodeName, Seen>>,
}

/// What is known of one voter.
#[derive(Clone, Copy, Debug)]
struct Seen {
    raft_id: u64,
    at: Moment,
    rtt: Duration,
}

/// What a voter has said of itself.
#[derive(Clone, Debug)]
pub(crate) struct Greeting {
    pub(crate) name: NodeName,
    pub(crate) raft_id: u64,
    /// Who votes, as far as it knows.
    pub(crate) membership: Option<StoredMembership>,
    /// Whether its Raft log holds anything.
    pub(crate) holds_log: bool,
    /// What it knows that this node has acknowledged.
    pub(crate) promise: Option<Promise>,
    /// The last recovery of the region that it knows; 0 if none.
    pub(crate) recovery: u64,
    /// The origin that it is warm for, as text; empty if none.
    pub(crate) warm: String,
}

impl Peers {
    fn seen(&self) -> MutexGuard<'_, BTreeMap<NodeName, Seen>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Greets all other voters. Returns what those have said that answered.
    pub(crate) async fn greet(&self, core: &Core) -> Vec<Greeting> {
        let greetings = core.others().map(|member| self.greet_one(core, member));
        join_all(greetings).await.into_iter().flatten().collect()
    }

    pub(crate) async fn greet_one(&self, core: &Core, member: &Member) -> Option<Greeting> {
        let (asked, asked_as) = (core.now(), core.raft_id());
        let request = hello(core);
        let mut client = client(core, &member.name, Purpose::Heartbeat);
        let answer = tokio::time::timeout(HELLO_TIMEOUT, client.hello(request)).await.ok()?;
        let answer = match answer {
            Ok(answer) => answer.into_inner(),
            Err(status) => {
                tracing::debug!(peer = %member.name, %status, "no greeting");
                return None;
            }
        };
        let node = answer.node?;
        if node.name != member.name.as_str() || answer.region != core.region.as_str() {
            tracing::warn!(peer = %member.name, named = node.name, "greeted by another");
            return None;
        }
        let seen = Seen { raft_id: node.id, at: core.now(), rtt: core.since(asked) };
        self.seen().insert(member.name.clone(), seen);
        let membership = answer.membership.as_ref().map(membership_from);
        let membership = match membership.transpose() {
            Ok(membership) => membership,
            Err(error) => {
                // It does not count as one that knows no group.
                tracing::warn!(peer = %member.name, %error, "its greeting cannot be read");
                return None;
            }
        };
        let at = answer.membership_at.as_ref().map(log_id_from);
        let promise = answer.promise.as_ref().map(Promise::decode);
        Some(Greeting {
            name: member.name.clone(),
            raft_id: node.id,
            membership: membership.map(|membership| StoredMembership::new(at, membership)),
            holds_log: answer.holds_log,
            promise: promise.filter(|(id, _)| *id == asked_as).map(|(_, promise)| promise),
            recovery: answer.recovery,
            warm: answer.warm,
        })
    }

    /// What is known of all voters.
    pub(crate) fn status(&self, core: &Core) -> Vec<MemberStatus> {
        let seen = self.seen();
        let status = |member: &Member| {
            if member.name == core.me {
                return MemberStatus {
                    name: core.me.clone(),
                    raft_id: Some(core.raft_id()),
                    reachable: true,
                    rtt: Some(Duration::ZERO),
                };
            }
            let seen = seen.get(&member.name);
            MemberStatus {
                name: member.name.clone(),
                raft_id: seen.map(|seen| seen.raft_id),
                reachable: seen.is_some_and(|seen| core.since(seen.at) < SILENCE),
                rtt: seen.map(|seen| seen.rtt),
            }
        };
        core.voters.iter().map(status).collect()
    }
}

/// Who this node is, as a question.
fn hello(core: &Core) -> Request<proto::HelloRequest> {
    Request::new(proto::HelloRequest {
        region: core.region.to_string(),
        node: Some(myself(core)),
        promises: Promises::told_to(core),
    })
}

/// Who this node is.
pub(crate) fn myself(core: &Core) -> proto::RaftNode {
    let mut all = core.voters.iter().chain(&core.mirrors);
    let address = all.find(|member| member.name == core.me);
    proto::RaftNode {
        id: core.raft_id(),
        name: core.me.to_string(),
        address: address.map(|member| member.address.clone()).unwrap_or_default(),
    }
}

/// A way to ask a voter.
pub(crate) fn client(core: &Core, peer: &NodeName, purpose: Purpose) -> RegionClient<Channel> {
    RegionClient::new(core.links.channel(peer, purpose))
        .max_decoding_message_size(MESSAGE_BYTES)
        .max_encoding_message_size(MESSAGE_BYTES)
}
