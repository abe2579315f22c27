//! This module decides from whom a feed is pulled. It is pure: what is known goes in, a plan comes out.

use std::time::Duration;

use chartmesh_record::{NodeName, Origin, Seq};
use sha2::{Digest, Sha256};

use crate::limits::GATEWAY_PATIENCE;

/// How near a node is, the nearest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Distance {
    Site,
    Region,
    Wide,
}

/// A node that could give a feed, or stands in this node's region.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    pub(crate) node: NodeName,
    pub(crate) distance: Distance,
    pub(crate) rtt: Duration,
    /// How far it holds the feed.
    pub(crate) seq: Seq,
    /// Whether it is not to be asked for now.
    pub(crate) avoided: bool,
}

/// What is asked.
#[derive(Debug)]
pub(crate) struct Question<'q> {
    pub(crate) me: &'q NodeName,
    pub(crate) origin: &'q Origin,
    /// How far this node holds the feed.
    pub(crate) held: Seq,
    /// The reachable nodes.
    pub(crate) candidates: &'q [Candidate],
    /// Somebody waits for it.
    pub(crate) urgent: bool,
    /// For how long this node has been behind without progress.
    pub(crate) behind_for: Duration,
}

/// From whom to pull.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Choice {
    pub(crate) node: NodeName,
    pub(crate) distance: Distance,
    /// Whether the pull may wait for more once it has all that is there.
    pub(crate) lives: bool,
}

/// The node to pull a feed from, if there is one to pull it from now.
pub(crate) fn choose(question: &Question<'_>) -> Option<Choice> {
    let ahead = question
        .candidates
        .iter()
        .filter(|candidate| candidate.seq > question.held && !candidate.avoided);
    let best = ahead.min_by_key(|candidate| {
        (candidate.distance, candidate.rtt.as_millis() / 10, spread(question, &candidate.node))
    })?;
    let gateway = best.distance < Distance::Wide || is_gateway(question);
    let goes = gateway || question.urgent || question.behind_for >= GATEWAY_PATIENCE;
    let choice = Choice { node: best.node.clone(), distance: best.distance, lives: gateway };
    goes.then_some(choice)
}

/// Whether this node is the one of its region that pulls the feed from elsewhere.
fn is_gateway(question: &Question<'_>) -> bool {
    let mates = question
        .candidates
        .iter()
        .filter(|candidate| candidate.distance < Distance::Wide)
        .map(|candidate| &candidate.node);
    mates.chain([question.me]).min_by_key(|node| weight(question.origin, node)) == Some(question.me)
}

/// An order of nodes that differs from feed to feed.
fn weight(origin: &Origin, node: &NodeName) -> [u8; 32] {
    // The name, not the whole origin: all feeds of one region cross the same links.
    let hash = Sha256::new().chain_update(origin.name().as_str()).chain_update([0]);
    hash.chain_update(node.as_str()).finalize().into()
}

/// Different nodes ask different ones among equals.
fn spread(question: &Question<'_>, node: &NodeName) -> [u8; 32] {
    let hash = Sha256::new().chain_update(question.me.as_str()).chain_update([0]);
    hash.chain_update(node.as_str()).finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(node: &str, distance: Distance, seq: u64) -> Candidate {
        let node = node.parse().expect("a name");
        Candidate { node, distance, rtt: Duration::ZERO, seq: Seq(seq), avoided: false }
    }

    fn ask(me: &str, candidates: &[Candidate], urgent: bool, behind_ms: u64) -> Option<Choice> {
        choose(&Question {
            me: &me.parse().expect("a name"),
            origin: &"eur.7h2k4m9qzx".parse().expect("an origin"),
            held: Seq(5),
            candidates,
            urgent,
            behind_for: Duration::from_millis(behind_ms),
        })
    }

    #[test]
    fn the_nearest_that_is_ahead_is_asked() {
        use Distance::{Region, Site, Wide};
        let all = [
            candidate("eur-1", Wide, 9),
            candidate("pac-2", Region, 6),
            candidate("pac-3", Site, 6),
            candidate("pac-4", Site, 5),
        ];

        assert_eq!(ask("pac-1", &all, false, 0).map(|it| it.node), "pac-3".parse().ok());
        assert_eq!(ask("pac-1", &all[..2], false, 0).map(|it| it.node), "pac-2".parse().ok());
        assert_eq!(ask("pac-1", &all[3..], false, 0), None, "it has no more");
        let avoided = [Candidate { avoided: true, ..all[2].clone() }];
        assert_eq!(ask("pac-1", &avoided, false, 0), None);
    }

    #[test]
    fn one_node_of_a_region_goes_afar_and_the_others_wait_for_it() {
        use Distance::{Region, Wide};
        let names = ["pac-1", "pac-2", "pac-3"];
        let seen = |me: &str| -> Vec<Candidate> {
            let mates = names.iter().filter(|name| **name != me);
            let mates = mates.map(|name| candidate(name, Region, 5));
            mates.chain([candidate("eur-1", Wide, 9)]).collect()
        };

        let goers: Vec<_> =
            names.iter().filter(|me| ask(me, &seen(me), false, 0).is_some()).collect();
        assert_eq!(goers.len(), 1);
        for me in names {
            let late = ask(me, &seen(me), false, 1_000).expect("it goes in the end");
            assert_eq!(late.lives, me == *goers[0], "only the gateway stays");
            assert!(ask(me, &seen(me), true, 0).is_some(), "what is urgent does not wait");
        }
    }
}
