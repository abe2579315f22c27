//! This module decides whether the node takes part in its region's Raft group, and founds the group.
//!
//! ```text
//! log not empty ------------------------------------------------------------> member
//! log empty: ask the other voters, until
//!   one knows a group that counts this disk's Raft id in ----------------------> member
//!   one knows a group that counts another disk of this name in ----------------> joins anew
//!   all have answered, none knows a group, and this node is to found it -> found, member
//! ```
//! A node with an empty disk has forgotten what it promised, if it promised anything: it neither
//! votes nor takes entries before it is known that it did not.

use std::collections::BTreeMap;
use std::sync::Arc;

use chartmesh_record::NodeName;
use openraft::errors::{InitializeError, RaftError};
use openraft::{Config, SnapshotPolicy};

use crate::codec::membership_from;
use crate::core::{Admission, Core, Refusal};
use crate::limits::HELLO_EVERY;
use crate::log_store::LogStore;
use crate::members;
use crate::network::Network;
use crate::peers::Greeting;
use crate::setup::Timers;
use crate::state_machine::StateMachine;
use crate::types::{Membership, Peer, Raft};

/// What a node needs to take part, until it does.
pub(crate) struct Entrance {
    pub(crate) core: Arc<Core>,
    pub(crate) log: LogStore,
    pub(crate) state: StateMachine,
    /// Whether the log is empty.
    pub(crate) pristine: bool,
    /// Whether to found the region.
    pub(crate) found: bool,
}

/// How a node enters.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Entry {
    /// As who it is.
    Member,
    /// With an empty disk, by asking.
    Join,
    /// By founding the group with these.
    Found(BTreeMap<u64, Peer>),
}

/// What the other voters' answers mean for a node with an empty disk.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Standing {
    /// It belongs to the group.
    Member,
    /// Its name belongs to the group, and its disk is another one.
    Another(u64),
    /// It must not take part.
    Refused(String),
    /// There is no group yet; these voters have answered, with their Raft ids.
    Unfounded(BTreeMap<NodeName, u64>),
}

impl Entrance {
    /// Waits until it is known whether the node takes part; if so, starts Raft.
    pub(crate) async fn enter(self) {
        let core = Arc::clone(&self.core);
        let mut entry = Entry::Member;
        if self.pristine {
            match self.ask().await {
                Ok(found) => entry = found,
                Err(reason) => {
                    tracing::error!(%reason, "this node takes no part in its region");
                    let refusal = Refusal { reason, since: core.clock.wall() };
                    core.admission.send_replace(Admission::Refused(refusal));
                    return;
                }
            }
        } else if self.found {
            tracing::info!("the region is founded already; --found does nothing here");
        }
        let joins = entry == Entry::Join;
        let admission = match joins {
            true => Admission::Joining { since: core.clock.wall() },
            false => Admission::Member,
        };
        let raft = match self.start(admission).await {
            Ok(raft) => raft,
            Err(error) => return core.end(error),
        };
        if joins {
            members::join(core).await;
        } else if let Entry::Found(founders) = entry {
            match raft.initialize(founders).await {
                Ok(()) => tracing::info!(region = %core.region, "the region is founded"),
                Err(RaftError::APIError(InitializeError::NotAllowed(_))) => {}
                Err(error) => core.end(error),
            }
        }
    }

    /// Asks the other voters until it is known how the node enters; `Err` says why it must not.
    async fn ask(&self) -> Result<Entry, String> {
        let core = &self.core;
        let mut last_told = String::new();
        loop {
            let greetings = core.peers.greet(core).await;
            match standing(&core.me, core.raft_id, &greetings) {
                Standing::Member => return Ok(Entry::Member),
                Standing::Another(old) => {
                    tracing::warn!(
                        old = format!("{old:016x}"),
                        new = format!("{:016x}", core.raft_id),
                        "this disk is empty, and the region is founded with another of this \
                         node: it asks to be let in as a new one"
                    );
                    return Ok(Entry::Join);
                }
                Standing::Refused(reason) => return Err(reason),
                Standing::Unfounded(_) if self.found && core.feeds.knows(&core.region) => {
                    return Err(format!(
                        "other nodes hold feeds of region {}: it was founded before, and is not \
                         founded again over what they hold",
                        core.region
                    ));
                }
                Standing::Unfounded(ids) if self.found => match core.founders(&ids) {
                    Some(founders) => return Ok(Entry::Found(founders)),
                    None => {
                        let missing = core.voters.iter().map(|member| &member.name);
                        let missing: Vec<&str> = missing
                            .filter(|name| !ids.contains_key(name))
                            .map(NodeName::as_str)
                            .collect();
                        let told = missing.join(", ");
                        if told != last_told {
                            tracing::info!("to found the region, waiting for {told}");
                            last_told = told;
                        }
                    }
                },
                Standing::Unfounded(_) => {}
            }
            tokio::time::sleep(HELLO_EVERY).await;
        }
    }

    /// Starts Raft.
    async fn start(self, admission: Admission) -> Result<Raft, String> {
        let Self { core, log, state, .. } = self;
        let config = config(&core.timers, core.region.as_str());
        let config = config.validate().map_err(|error| error.to_string())?;
        let network = Network {
            me: core.raft_id,
            links: Arc::clone(&core.links),
            patience: core.timers.election.1,
        };
        let raft = Raft::new(core.raft_id, Arc::new(config), network, log, state).await;
        let raft = raft.map_err(|error| error.to_string())?;
        assert!(core.raft.set(raft.clone()).is_ok(), "a node enters once");
        core.admission.send_replace(admission);
        Ok(raft)
    }
}

/// What the answers mean for a node of this name whose disk has this Raft id.
fn standing(me: &NodeName, raft_id: u64, greetings: &[Greeting]) -> Standing {
    let mut ids = BTreeMap::from([(me.clone(), raft_id)]);
    let mut member = false;
    for greeting in greetings {
        let membership = greeting.membership.as_ref().map(membership_from).transpose();
        // One that knows a group which cannot be read here does not count as one that knows none.
        let Ok(membership) = membership else { continue };
        ids.insert(greeting.name.clone(), greeting.raft_id);
        let Some(membership) = membership else { continue };
        match counted(&membership, me) {
            Some(id) if id == raft_id => member = true,
            Some(id) => {
                return Standing::Another(id);
            }
            None => {
                return Standing::Refused(format!(
                    "{} says that the region is founded without {me}",
                    greeting.name
                ));
            }
        }
    }
    if member { Standing::Member } else { Standing::Unfounded(ids) }
}

/// The Raft id under which a group counts a node in.
fn counted(membership: &Membership, name: &NodeName) -> Option<u64> {
    let named = |peer: &Peer| peer.name.as_ref() == Some(name);
    membership.nodes().find(|(_, peer)| named(peer)).map(|(&id, _)| id)
}

fn config(timers: &Timers, region: &str) -> Config {
    let millis = |duration: std::time::Duration| u64::try_from(duration.as_millis());
    let millis = |duration| millis(duration).expect("timers are short");
    let (least, most) = timers.election;
    Config {
        cluster_name: region.to_owned(),
        heartbeat_interval: millis(timers.heartbeat),
        election_timeout_min: millis(least),
        election_timeout_max: millis(most),
        quorum_loss_probe_interval: Some(2 * millis(most)),
        enable_pre_vote: Some(true),
        enable_leader_restore: Some(false),
        // The whole log is kept.
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: u64::MAX,
        replication_lag_threshold: u64::MAX,
        backoff: "20ms 40ms 80ms ...400ms".to_owned(),
        ..Config::default()
    }
}

#[cfg(test)]
mod tests {
    use chartmesh_wire::proto;

    use super::*;

    fn greeting(name: &str, raft_id: u64, members: &[(&str, u64)]) -> Greeting {
        let node = |&(name, id): &(&str, u64)| proto::RaftNode {
            id,
            name: name.to_owned(),
            address: String::new(),
        };
        let membership = proto::Membership {
            configs: vec![proto::VoterSet { ids: members.iter().map(|&(_, id)| id).collect() }],
            nodes: members.iter().map(node).collect(),
        };
        let membership = (!members.is_empty()).then_some(membership);
        let warm = String::new();
        Greeting { name: name.parse().unwrap(), raft_id, membership, warm }
    }

    #[test]
    fn an_empty_disk_takes_part_only_where_nobody_has_its_promises() {
        let me: NodeName = "pac-1".parse().unwrap();
        let founded = [("pac-1", 1), ("pac-2", 2), ("pac-3", 3)];

        let alone = standing(&me, 1, &[]);
        let unfounded = standing(&me, 1, &[greeting("pac-2", 2, &[]), greeting("pac-3", 3, &[])]);
        let counted_in = standing(&me, 1, &[greeting("pac-3", 3, &founded)]);
        let wiped = standing(&me, 7, &[greeting("pac-2", 2, &[]), greeting("pac-3", 3, &founded)]);
        let stranger = standing(&me, 1, &[greeting("pac-2", 2, &founded[1..])]);
        let unreadable = standing(&me, 1, &[greeting("pac-2", 2, &[("no name", 2)])]);

        assert_eq!(alone, Standing::Unfounded([(me, 1)].into()));
        assert_eq!(unreadable, alone, "it counts as one that has not answered");
        assert!(matches!(unfounded, Standing::Unfounded(ids) if ids.len() == 3));
        assert_eq!(counted_in, Standing::Member);
        assert_eq!(wiped, Standing::Another(1));
        assert!(matches!(stranger, Standing::Refused(reason) if reason.contains("without")));
    }

    #[test]
    fn the_timers_of_every_profile_are_accepted() {
        use crate::setup::Profile;
        for profile in [Profile::Lan, Profile::Wan50, Profile::Wan100, Profile::Wan200] {
            assert!(config(&profile.timers(), "pac").validate().is_ok(), "{profile:?}");
        }
    }
}
