//! This module holds what clients asked and were answered, and what the nodes hold in the end: the
//! evidence on which the invariants are judged.
//!
//! Of a region alone less is known than of a mesh: nothing is shared between regions, and no disk is lost.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use crate::freshness::AsOf;

/// One instant of a run, counted from its beginning.
pub type Instant = Duration;

/// The mark of one write: no two writes carry the same, so that it is found again in what is held.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mark(pub String);

/// A resource that several writers write, such as `Patient/register-3`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Register(pub String);

/// A FHIR version id.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VersionId(pub String);

/// A node, by its name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeName(pub String);

/// What orders versions: a region, or a node while it is cut off from its region.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Orderer(pub String);

/// An answer is on its way for so long at the most: the disk may have been lost meanwhile.
const GRACE: Duration = Duration::from_secs(2);

/// What a client wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Writes a register, whatever it holds.
    Write(Register),
    /// Writes a register if this version still stands.
    Replace(Register, VersionId),
    /// Writes a register in place of all these versions: an end to their conflict.
    Resolve(Register, BTreeSet<VersionId>),
    /// Writes several registers, all or none.
    WriteTogether(BTreeSet<Register>),
    /// Creates the one resource that bears this name, unless it is there.
    CreateOnce(String),
    /// Reads a register at the node itself.
    Read(Register),
    /// Reads the newest state of a register.
    ReadNewest(Register),
}

/// What a client was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// Written, as these versions.
    Written(BTreeMap<Register, VersionId>),
    /// Created under this id, or found there.
    Stands {
        /// Where.
        id: String,
        /// Whether this request made it.
        created: bool,
    },
    /// The precondition does not hold.
    Refused,
    /// This version stands; `None`: there is none.
    Holds(Option<VersionId>),
    /// Something that no wish allows for.
    Unexpected(String),
}

/// One wish and what became of it.
#[derive(Clone, Debug)]
pub struct Operation {
    /// Its mark; a read's occurs nowhere else.
    pub mark: Mark,
    /// What was wanted.
    pub wish: Wish,
    /// When it was first asked.
    pub asked: Instant,
    /// When and by which node it was answered; `None`: what became of it is unknown.
    pub answer: Option<Answered>,
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Answered {
    /// When.
    pub at: Instant,
    /// By whom.
    pub by: NodeName,
    /// What.
    pub told: Told,
    /// Whether a read there already shows it.
    pub applied: bool,
    /// The mark of the version that was read.
    pub shown: Option<Mark>,
    /// What the loss of disks may do to what was written.
    pub durability: Durability,
    /// Whether the node said that it was isolated.
    pub isolated: bool,
    /// How fresh the node said that its copy was.
    pub as_of: AsOf,
}

/// What an acknowledged write survives, as `Chartmesh-Durability` says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// The loss of any minority of the region's voters.
    #[default]
    Region,
    /// The loss of all but one of so many disks of a site.
    Site {
        /// How many.
        copies: usize,
    },
    /// As long as the node's disk lives.
    Node,
}

/// A version as a node holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Its name.
    pub version: VersionId,
    /// The mark of the write that made it.
    pub mark: Mark,
}

/// What a node holds in the end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeState {
    /// The versions of each register, the oldest first.
    pub registers: BTreeMap<Register, Vec<Held>>,
    /// The heads of each register that has a version.
    pub heads: BTreeMap<Register, BTreeSet<VersionId>>,
    /// The registers that `$conflicts` names.
    pub conflicts: BTreeSet<Register>,
    /// Feeds that are not everywhere, changes held back and nodes not heard of, as text.
    pub unrest: Vec<String>,
    /// Its cursors, as text.
    pub horizon: String,
    /// Its digest.
    pub digest: String,
}

/// Where a node stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Its region.
    pub region: String,
    /// Its site.
    pub site: String,
}

/// All that is known of a run.
#[derive(Clone, Debug, Default)]
pub struct Evidence {
    /// What clients asked and were answered, in the order of the asking.
    pub operations: Vec<Operation>,
    /// When nodes were started again.
    pub restarts: Vec<(NodeName, Instant)>,
    /// Where each node stands.
    pub places: BTreeMap<NodeName, Standing>,
    /// The registers that clients of several regions write.
    pub shared: BTreeSet<Register>,
    /// Disks that were emptied, or set back to old contents.
    pub lost_disks: Vec<(NodeName, Instant)>,
    /// When the run began by true time, in milliseconds since 1970; `None`: not all clocks were true.
    pub epoch_ms: Option<i64>,
    /// What each node holds in the end.
    pub nodes: BTreeMap<NodeName, NodeState>,
}

impl Operation {
    /// What the client was told, if anything.
    #[must_use]
    pub fn told(&self) -> Option<&Told> {
        self.answer.as_ref().map(|answer| &answer.told)
    }

    /// Until when the operation may have taken effect: for ever, if its fate is unknown.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        self.answer.as_ref().map_or(Instant::MAX, |answer| answer.at)
    }

    /// The registers that it writes.
    #[must_use]
    pub fn writes(&self) -> BTreeSet<&Register> {
        match &self.wish {
            Wish::Write(register) | Wish::Replace(register, _) | Wish::Resolve(register, _) => {
                [register].into()
            }
            Wish::WriteTogether(registers) => registers.iter().collect(),
            Wish::CreateOnce(_) | Wish::Read(_) | Wish::ReadNewest(_) => BTreeSet::new(),
        }
    }
}

impl VersionId {
    /// Who ordered it: what stands between the generation and the origin's tag.
    #[must_use]
    pub fn orderer(&self) -> Orderer {
        let origin = self.0.split_once('-').map_or("", |(_, origin)| origin);
        Orderer(origin.rsplit_once('.').map_or(origin, |(name, _)| name).to_owned())
    }

    /// Its generation; 0 if it is no version id.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.0.split('-').next().and_then(|text| text.parse().ok()).unwrap_or_default()
    }
}

impl Evidence {
    /// Whether any node said that it was isolated.
    #[must_use]
    pub fn was_isolated(&self) -> bool {
        let mut answers = self.operations.iter().filter_map(|operation| operation.answer.as_ref());
        answers.any(|answer| answer.isolated || answer.durability != Durability::Region)
    }

    /// Who decided what was answered: the node if it was isolated, else its region.
    #[must_use]
    pub fn decider(&self, answer: &Answered) -> Option<Orderer> {
        let Standing { region, .. } = self.places.get(&answer.by)?;
        Some(Orderer(if answer.isolated { answer.by.0.clone() } else { region.clone() }))
    }

    /// Whether a node, not a region, ordered this.
    #[must_use]
    pub fn is_journal(&self, orderer: &Orderer) -> bool {
        self.places.contains_key(&NodeName(orderer.0.clone()))
    }

    /// Whether the loss of disks excuses that a write is lost which was acknowledged at this instant by
    /// this orderer. What a region has agreed on is never lost.
    #[must_use]
    pub fn may_be_lost(&self, orderer: &Orderer, acknowledged: Instant, of: Durability) -> bool {
        let lost_later = |node: &NodeName| {
            self.lost_disks.iter().any(|(lost, at)| lost == node && *at + GRACE >= acknowledged)
        };
        let node = NodeName(orderer.0.clone());
        match of {
            Durability::Region => false,
            Durability::Node => lost_later(&node),
            Durability::Site { copies } => {
                let Some(Standing { site, .. }) = self.places.get(&node) else { return false };
                let here = self.places.iter().filter(|(_, standing)| standing.site == *site);
                here.filter(|(name, _)| lost_later(name)).count() >= copies
            }
        }
    }

    /// What the first node holds of the registers: all hold the same, or do not agree.
    #[must_use]
    pub fn registers(&self) -> BTreeMap<Register, Vec<Held>> {
        self.nodes.values().next().map(|node| node.registers.clone()).unwrap_or_default()
    }
}

/// Takes down what clients ask and are answered while they run.
#[derive(Clone, Debug, Default)]
pub struct Recorder(Arc<Mutex<Vec<Operation>>>);

/// An operation that was taken down and may still be answered.
#[derive(Clone, Copy, Debug)]
pub struct Ticket(usize);

impl Recorder {
    /// Takes down what is asked, before it is.
    #[must_use]
    pub fn ask(&self, mark: Mark, wish: Wish, asked: Instant) -> Ticket {
        let mut operations = self.lock();
        operations.push(Operation { mark, wish, asked, answer: None });
        Ticket(operations.len() - 1)
    }

    /// Takes down the answer.
    pub fn answer(&self, ticket: Ticket, answer: Answered) {
        self.lock()[ticket.0].answer = Some(answer);
    }

    /// Everything so far, in the order of the asking.
    #[must_use]
    pub fn operations(&self) -> Vec<Operation> {
        self.lock().clone()
    }

    /// The names that anybody wanted to create.
    #[must_use]
    pub fn names(&self) -> BTreeSet<String> {
        let name = |operation: &Operation| match &operation.wish {
            Wish::CreateOnce(name) => Some(name.clone()),
            _ => None,
        };
        self.lock().iter().filter_map(name).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Operation>> {
        self.0.lock().expect("nobody panics while holding it")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_id_says_who_ordered_it_though_names_have_hyphens() {
        let check = |text: &str, generation: u64, orderer: &str| {
            let version = VersionId(text.to_owned());
            assert_eq!((version.generation(), version.orderer().0.as_str()), (generation, orderer));
        };
        check("3-pac.7h2k4m9qzx", 3, "pac");
        check("12-pac-1.x9d2fq71be", 12, "pac-1");
        check("1-x", 1, "x");
    }

    #[test]
    fn only_the_loss_of_the_disks_that_a_durability_names_excuses_a_loss() {
        let place = |node: &str, site: &str| {
            let standing = Standing { region: "pac".to_owned(), site: site.to_owned() };
            (NodeName(node.to_owned()), standing)
        };
        let lose = |nodes: &[&str]| Evidence {
            places: [place("pac-1", "one"), place("pac-2", "one"), place("pac-3", "two")].into(),
            lost_disks: nodes
                .iter()
                .map(|node| (NodeName((*node).to_owned()), Duration::from_secs(9)))
                .collect(),
            ..Evidence::default()
        };
        let excused = |nodes: &[&str], of| {
            lose(nodes).may_be_lost(&Orderer("pac-1".to_owned()), Duration::from_secs(1), of)
        };

        assert!(!excused(&["pac-1", "pac-2"], Durability::Region));
        assert!(excused(&["pac-1"], Durability::Node));
        assert!(!excused(&["pac-2"], Durability::Node));
        assert!(!excused(&["pac-1", "pac-3"], Durability::Site { copies: 2 }));
        assert!(excused(&["pac-1", "pac-2"], Durability::Site { copies: 2 }));
    }
}
