//! This module decides whether the node takes part in its region's Raft group, and founds the group.
//!
//! ```text
//! ask the other voters, until
//!   a quorum with this disk has answered, and it has forgotten no promise ------> member
//!   one knows that this disk has promised more than it holds -------------------> joins anew
//!   one knows a group that counts another disk of this name in -----------------> joins anew
//!   all have answered, none knows a group, and this node is to found it -> found, member
//! ```
//! A disk that is empty, or was set back to old contents, has forgotten what it promised: under its
//! Raft id it must neither vote nor take entries (docs/decisions/0015). Until enough others have said
//! what they know of its promises, Raft does not start.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use chartmesh_record::{NodeName, mutant};
use chartmesh_store::Identity;
use openraft::errors::{InitializeError, RaftError};
use openraft::{Config, SnapshotPolicy};

use crate::core::{Admission, Core, Refusal, Why};
use crate::limits::{HELLO_EVERY, RETRY_PAUSE};
use crate::log_store::LogStore;
use crate::members;
use crate::network::Network;
use crate::peers::Greeting;
use crate::promises::Promise;
use crate::recovery::{self, Recovery};
use crate::setup::Timers;
use crate::state_machine::StateMachine;
use crate::types::{Membership, Peer, Raft, StoredMembership};

/// What a node needs to take part, until it does.
pub(crate) struct Entrance {
    pub(crate) core: Arc<Core>,
    pub(crate) log: LogStore,
    pub(crate) state: StateMachine,
    /// Whether to found the region.
    pub(crate) found: bool,
    /// Whether to found it anew, alone: it was recovered from this disk.
    pub(crate) founds: bool,
}

/// How a node enters.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Entry {
    /// As who it is.
    Member,
    /// By asking to be let in as a new one.
    Join(Why),
    /// By founding the group with these.
    Found(BTreeMap<u64, Peer>),
}

/// What a disk knows by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Own {
    name: NodeName,
    raft_id: u64,
    /// Whether it holds anything of a group.
    holds: bool,
    promise: Promise,
    membership: Option<StoredMembership>,
    /// The last recovery that it knows.
    recovery: u64,
    /// How many voters the topology names.
    voters: usize,
}

/// What the other voters' answers mean for a node.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Standing {
    /// Too few have answered.
    Waiting,
    /// It belongs to the group, and has forgotten nothing.
    Member,
    /// Its name belongs to the group, and its disk has forgotten what was promised in that name.
    Forgetful(Why),
    /// There is no group yet; these voters have answered, with their Raft ids.
    Unfounded(BTreeMap<NodeName, u64>),
}

impl Entrance {
    /// Waits until it is known whether the node takes part; if so, starts Raft.
    pub(crate) async fn enter(self) {
        let core = Arc::clone(&self.core);
        let entry = match self.ask().await {
            Ok(entry) => entry,
            Err(reason) => {
                tracing::error!(%reason, "this node takes no part in its region");
                let refusal = Refusal { reason, since: core.clock.wall() };
                core.admission.send_replace(Admission::Refused(refusal));
                return;
            }
        };
        let joins = match entry {
            Entry::Join(why) => Some(why),
            Entry::Member | Entry::Found(_) => None,
        };
        let anew = match joins {
            Some(Why::SetBack) => self.begin_anew(core.progress.borrow().log.is_some()),
            Some(Why::Recovered(recovery)) => self.leave_for(recovery),
            Some(Why::Empty | Why::Uninvited) | None => Ok(()),
        };
        if let Err(error) = anew {
            return core.end(error);
        }
        let admission = match joins {
            Some(why) => Admission::Joining { why, since: core.clock.wall() },
            None => Admission::Member,
        };
        let raft = match self.start(admission).await {
            Ok(raft) => raft,
            Err(error) => return core.end(error),
        };
        if joins.is_some() {
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
        let own = self.own()?;
        if own.holds && self.found {
            tracing::info!("the region is founded already; --found does nothing here");
        }
        if self.founds && !own.holds {
            let member = core.voters.iter().find(|member| member.name == core.me);
            let address = member.map(|member| member.address.clone()).unwrap_or_default();
            let me = Peer { name: Some(core.me.clone()), address };
            return Ok(Entry::Found(BTreeMap::from([(own.raft_id, me)])));
        }
        let (mut last_told, mut pause) = (String::new(), RETRY_PAUSE);
        let mut tell = |told: String| {
            if told != last_told {
                tracing::info!("{told}");
                last_told = told;
            }
        };
        loop {
            let greetings = core.peers.greet(core).await;
            match standing(&own, &greetings) {
                Standing::Member => return Ok(Entry::Member),
                Standing::Forgetful(_) if mutant("wiped-voter-keeps-its-id") => {
                    let told = greetings.iter().filter_map(|it| it.membership.as_ref());
                    let old = told.filter_map(|it| counted(it.membership(), &core.me)).next();
                    core.raft_id.store(old.unwrap_or(own.raft_id), Ordering::Release);
                    return Ok(Entry::Member);
                }
                Standing::Forgetful(why) => {
                    let state = match why {
                        Why::Empty => "is not the one that the region counts in",
                        Why::SetBack => "holds less than it has acknowledged: it was set back",
                        Why::Recovered(_) => {
                            "is of a group that was left: the region was recovered"
                        }
                        Why::Uninvited => "is of a node that the region's voters do not count in",
                    };
                    tracing::warn!("this disk {state}; it asks to be let in as a new one");
                    return Ok(Entry::Join(why));
                }
                Standing::Waiting => {
                    tell("to vote, waiting for the others to say what was promised".to_owned());
                }
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
                        tell(format!("to found the region, waiting for {}", missing.join(", ")));
                    }
                },
                Standing::Unfounded(_) => {}
            }
            tokio::time::sleep(pause).await;
            pause = (2 * pause).min(HELLO_EVERY);
        }
    }

    /// What this disk knows by itself.
    fn own(&self) -> Result<Own, String> {
        let core = &self.core;
        let vote = self.log.vote().map_err(|error| error.to_string())?;
        let log = core.log.last();
        let holds = vote.is_some() || log.is_some() || core.progress.borrow().log.is_some();
        Ok(Own {
            name: core.me.clone(),
            raft_id: core.raft_id(),
            holds,
            promise: Promise::of_disk(vote.as_ref(), log),
            membership: core.stored_membership(),
            recovery: core.recovery.load(Ordering::Acquire),
            voters: core.voters.len(),
        })
    }

    /// Becomes another disk, with an empty log; the state stays: what was applied was decided.
    fn begin_anew(&self, founded: bool) -> Result<(), String> {
        let core = &self.core;
        let raft_id = core.random.bits().max(1);
        let identity = Identity { raft_id, region: core.region.clone(), founded };
        core.log.reset(&identity).map_err(|error| error.to_string())?;
        core.raft_id.store(raft_id, Ordering::Release);
        Ok(())
    }

    /// Leaves the group that this disk belongs to for the one of a recovery.
    fn leave_for(&self, recovery: u64) -> Result<(), String> {
        let core = &self.core;
        self.begin_anew(false)?;
        // Its first entry begins the region's feed, whatever this disk has known of it.
        let left = recovery::leave(&core.store, |position| position.origin = None);
        self.state.begin_at(left.map_err(|error| error.to_string())?);
        Recovery::followed(&core.store, recovery).map_err(|error| error.to_string())?;
        core.recovery.store(recovery, Ordering::Release);
        Ok(())
    }

    /// Starts Raft.
    async fn start(self, admission: Admission) -> Result<Raft, String> {
        let Self { core, log, state, .. } = self;
        let config = config(&core.timers, core.region.as_str());
        let config = config.validate().map_err(|error| error.to_string())?;
        let network = Network {
            me: core.raft_id(),
            links: Arc::clone(&core.links),
            patience: core.timers.election.1,
        };
        let raft = Raft::new(core.raft_id(), Arc::new(config), network, log, state).await;
        let raft = raft.map_err(|error| error.to_string())?;
        assert!(core.raft.set(raft.clone()).is_ok(), "a node enters once");
        core.admission.send_replace(admission);
        Ok(raft)
    }
}

/// What the answers mean for a disk.
fn standing(own: &Own, greetings: &[Greeting]) -> Standing {
    let latest = greetings.iter().map(|greeting| greeting.recovery).max().unwrap_or(0);
    if latest > own.recovery {
        return Standing::Forgetful(Why::Recovered(latest));
    }
    // Who knows less of recoveries speaks of a group that was left.
    let greetings: Vec<&Greeting> =
        greetings.iter().filter(|greeting| greeting.recovery == own.recovery).collect();
    let told = greetings.iter().filter_map(|greeting| greeting.membership.as_ref());
    let newest = own.membership.iter().chain(told).max_by_key(|stored| *stored.log_id());
    let Some(newest) = newest.map(StoredMembership::membership) else {
        return of_no_group(own, &greetings);
    };
    if newest.get_node(&own.raft_id).is_none() {
        return match counted(newest, &own.name) {
            Some(_) if own.holds => Standing::Forgetful(Why::SetBack),
            Some(_) => Standing::Forgetful(Why::Empty),
            None => Standing::Forgetful(Why::Uninvited),
        };
    }
    let voters: BTreeSet<u64> = newest.voter_ids().collect();
    if !voters.contains(&own.raft_id) {
        // It has been let in, and goes on until it votes.
        return Standing::Forgetful(Why::Empty);
    }
    let answers = greetings.into_iter().filter(|greeting| voters.contains(&greeting.raft_id));
    compare(own, answers, voters.len())
}

/// The Raft id under which a group counts a node in.
fn counted(membership: &Membership, name: &NodeName) -> Option<u64> {
    let named = |peer: &Peer| peer.name.as_ref() == Some(name);
    membership.nodes().find(|(_, peer)| named(peer)).map(|(&id, _)| id)
}

/// Whether a disk has forgotten promises, once enough of so many voters have said what they know.
fn compare<'g>(
    own: &Own,
    answers: impl Iterator<Item = &'g Greeting> + Clone,
    voters: usize,
) -> Standing {
    let promised = answers.clone().filter_map(|greeting| greeting.promise).max();
    if promised.is_some_and(|promised| promised > own.promise) {
        return Standing::Forgetful(Why::SetBack);
    }
    // With this one they must be a majority.
    match 2 * (answers.count() + 1) > voters {
        true => Standing::Member,
        false => Standing::Waiting,
    }
}

/// What the answers mean as long as nobody knows a group.
fn of_no_group(own: &Own, greetings: &[&Greeting]) -> Standing {
    if own.holds {
        // It was stopped in the midst of the founding.
        let answers = greetings.iter().copied().filter(|greeting| greeting.holds_log);
        return compare(own, answers, own.voters);
    }
    let unbound = greetings.iter().filter(|greeting| !greeting.holds_log);
    let ids = unbound.map(|greeting| (greeting.name.clone(), greeting.raft_id));
    Standing::Unfounded(ids.chain([(own.name.clone(), own.raft_id)]).collect())
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
    use chartmesh_store::LogId;

    use super::*;

    const FOUNDED: [(&str, u64); 3] = [("pac-1", 1), ("pac-2", 2), ("pac-3", 3)];

    fn membership(members: &[(&str, u64)]) -> Option<StoredMembership> {
        let peer = |name: &str| Peer { name: name.parse().ok(), address: String::new() };
        let nodes: BTreeMap<u64, Peer> =
            members.iter().map(|&(name, id)| (id, peer(name))).collect();
        let voters = members.iter().map(|&(_, id)| id).collect::<BTreeSet<u64>>();
        let membership = || Membership::new(vec![voters], nodes).unwrap();
        (!members.is_empty()).then(|| StoredMembership::new(None, membership()))
    }

    fn greeting(name: &str, raft_id: u64, members: &[(&str, u64)]) -> Greeting {
        Greeting {
            name: name.parse().unwrap(),
            raft_id,
            membership: membership(members),
            holds_log: !members.is_empty(),
            promise: None,
            recovery: 0,
            warm: String::new(),
        }
    }

    fn promise(index: u64) -> Promise {
        Promise { term: 1, leader: 2, log: Some(LogId { term: 1, leader: 2, index }) }
    }

    fn own(raft_id: u64, holds: bool) -> Own {
        Own {
            name: "pac-1".parse().unwrap(),
            raft_id,
            holds,
            promise: if holds { promise(5) } else { Promise::default() },
            membership: if holds { membership(&FOUNDED) } else { None },
            recovery: 0,
            voters: 3,
        }
    }

    #[test]
    fn an_empty_disk_takes_part_only_where_nobody_has_its_promises() {
        let empty = own(1, false);

        let alone = standing(&empty, &[]);
        let unfounded = [greeting("pac-2", 2, &[]), greeting("pac-3", 3, &[])];
        let wiped = standing(&own(7, false), &[greeting("pac-3", 3, &FOUNDED)]);
        let stranger = standing(&empty, &[greeting("pac-2", 2, &FOUNDED[1..])]);
        let bound = Greeting { holds_log: true, ..greeting("pac-2", 2, &[]) };

        assert_eq!(alone, Standing::Unfounded([(empty.name.clone(), 1)].into()));
        assert_eq!(standing(&empty, &[bound]), alone, "it may know a group soon");
        assert!(matches!(standing(&empty, &unfounded), Standing::Unfounded(ids) if ids.len() == 3));
        assert_eq!(standing(&empty, &[greeting("pac-3", 3, &FOUNDED)]), Standing::Member);
        assert_eq!(wiped, Standing::Forgetful(Why::Empty));
        assert_eq!(stranger, Standing::Forgetful(Why::Uninvited));
    }

    #[test]
    fn a_disk_that_was_set_back_does_not_vote_again() {
        let told =
            |index| Greeting { promise: Some(promise(index)), ..greeting("pac-2", 2, &FOUNDED) };

        assert_eq!(standing(&own(1, true), &[told(5)]), Standing::Member);
        assert_eq!(standing(&own(1, true), &[told(6)]), Standing::Forgetful(Why::SetBack));
        assert_eq!(standing(&own(1, false), &[told(1)]), Standing::Forgetful(Why::SetBack));
        let replaced = greeting("pac-2", 2, &[("pac-1", 9), ("pac-2", 2), ("pac-3", 3)]);
        let later = StoredMembership::new(
            Some(crate::codec::stored_id_from(LogId { term: 1, leader: 2, index: 8 })),
            replaced.membership.as_ref().unwrap().membership().clone(),
        );
        let replaced = Greeting { membership: Some(later), ..replaced };
        assert_eq!(standing(&own(1, true), &[replaced]), Standing::Forgetful(Why::SetBack));
    }

    #[test]
    fn a_voter_waits_until_a_quorum_has_told_what_it_promised() {
        let replaced = greeting("pac-3", 8, &[]);

        assert_eq!(standing(&own(1, true), &[]), Standing::Waiting);
        assert_eq!(standing(&own(1, true), &[replaced]), Standing::Waiting, "it knows nothing");
        assert_eq!(standing(&own(1, true), &[greeting("pac-3", 3, &FOUNDED)]), Standing::Member);
        let single = Own { membership: membership(&FOUNDED[..1]), ..own(1, true) };
        assert_eq!(standing(&single, &[]), Standing::Member);
    }

    #[test]
    fn a_disk_leaves_its_group_for_that_of_a_later_recovery() {
        let recovered = Greeting { recovery: 7, ..greeting("pac-2", 8, &[("pac-2", 8)]) };
        let left = greeting("pac-3", 3, &FOUNDED);
        let followed = Own { membership: None, recovery: 7, ..own(9, false) };

        let both = [recovered.clone(), left.clone()];
        assert_eq!(standing(&own(1, true), &both), Standing::Forgetful(Why::Recovered(7)));
        assert_eq!(standing(&followed, &both), Standing::Forgetful(Why::Uninvited));
        assert!(matches!(standing(&followed, &[left]), Standing::Unfounded(ids) if ids.len() == 1));
        let later = Own { recovery: 8, ..own(1, true) };
        assert_eq!(standing(&later, &[recovered]), Standing::Waiting, "it was recovered before");
    }

    #[test]
    fn a_founding_that_was_cut_short_goes_on() {
        let cut = Own { membership: None, ..own(1, true) };
        let other = Greeting { holds_log: true, ..greeting("pac-2", 2, &[]) };

        assert_eq!(standing(&cut, &[greeting("pac-2", 2, &[])]), Standing::Waiting);
        assert_eq!(standing(&cut, &[other]), Standing::Member);
    }

    #[test]
    fn the_timers_of_every_profile_are_accepted() {
        use crate::setup::Profile;
        for profile in [Profile::Lan, Profile::Wan50, Profile::Wan100, Profile::Wan200] {
            assert!(config(&profile.timers(), "pac").validate().is_ok(), "{profile:?}");
        }
    }
}
