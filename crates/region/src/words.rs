//! This module keeps, at the leader, the last word of each node of the region: who may be writing a
//! journal that has not arrived (docs/decisions/0012).
//!
//! A word counts from the instant at which the leader *gave out* the token that the node sends back:
//! whatever is lost or late on the way, the node cannot have got that answer earlier, and begins to
//! count its isolation when it gets it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use chartmesh_record::{NodeName, Silent, Timestamp};

use crate::core::Moment;
use crate::types::LeaderId;

/// Tokens that a leader remembers having given out.
const TOKENS: usize = 8_192;

/// The last words of all nodes.
#[derive(Debug, Default)]
pub(crate) struct Words(Mutex<Book>);

#[derive(Debug, Default)]
struct Book {
    /// Whose leadership they belong to: another one begins anew.
    leader: Option<LeaderId>,
    began: Timestamp,
    given: u64,
    tokens: VecDeque<(u64, Moment, Timestamp)>,
    nodes: BTreeMap<NodeName, Word>,
}

/// What a node has said last.
#[derive(Clone, Copy, Debug, Default)]
struct Word {
    /// When the newest token was given out that has come back, by both clocks and as an instant.
    last: Option<(Moment, Timestamp)>,
    isolated: bool,
    /// Whether the leader lacks part of a journal that the node has written.
    lacking: bool,
}

/// What a node says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Said {
    pub(crate) token: u64,
    pub(crate) isolated: bool,
    pub(crate) lacking: bool,
}

impl Words {
    fn with<T>(&self, leader: LeaderId, now: Timestamp, look: impl FnOnce(&mut Book) -> T) -> T {
        let mut book = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if book.leader != Some(leader) {
            *book = Book { leader: Some(leader), began: now, ..Book::default() };
        }
        look(&mut book)
    }

    /// Takes in what a node says.
    pub(crate) fn hear(&self, leader: LeaderId, now: Timestamp, node: &NodeName, said: Said) {
        self.with(leader, now, |book| {
            let given = book.tokens.iter().rev().find(|(token, ..)| *token == said.token);
            let given = given.map(|&(_, moment, at)| (moment, at));
            let word = book.nodes.entry(node.clone()).or_default();
            let newer = |last: &(Moment, Timestamp)| given.is_some_and(|given| given.1 > last.1);
            if word.last.as_ref().is_none_or(newer) {
                word.last = given.or(word.last);
            }
            word.isolated = said.isolated;
            word.lacking = said.lacking;
        });
    }

    /// Gives out a token with a confirmed answer.
    pub(crate) fn give(&self, leader: LeaderId, moment: Moment, now: Timestamp) -> u64 {
        self.with(leader, now, |book| {
            book.given += 1;
            // The term makes it another one than any other leader's.
            let token = (leader.term << 32) | (book.given & 0xffff_ffff);
            if book.tokens.len() == TOKENS {
                book.tokens.pop_front();
            }
            book.tokens.push_back((token, moment, now));
            token
        })
    }

    /// The silent ones among these nodes. One that was called silent before keeps its instant.
    pub(crate) fn silent<'n>(
        &self,
        leader: LeaderId,
        now: Timestamp,
        nodes: impl Iterator<Item = &'n NodeName>,
        before: &[Silent],
        is_old: impl Fn(Moment) -> bool,
    ) -> Vec<Silent> {
        self.with(leader, now, |book| {
            let silent = nodes.filter_map(|node| {
                let word = book.nodes.get(node).copied().unwrap_or_default();
                let heard = word.last.is_some_and(|(moment, _)| !is_old(moment));
                if heard && !word.isolated && !word.lacking {
                    return None;
                }
                let called = before.iter().find(|silent| silent.node == *node);
                let last = word.last.map_or(book.began, |(_, at)| at);
                let since = called.map_or(last, |called| called.since);
                Some(Silent { node: node.clone(), since })
            });
            let mut silent: Vec<_> = silent.collect();
            silent.sort_by(|one, other| one.node.cmp(&other.node));
            silent
        })
    }
}

/// How long after its last word a node is called silent: before it can be isolated.
pub(crate) fn silent_after(isolation_after: Duration) -> Duration {
    isolation_after.mul_f64(0.8)
}

/// How old the newest instant in the log may be for an answer to be confirmed.
pub(crate) fn confirmed_within(isolation_after: Duration) -> Duration {
    isolation_after / 2
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn leader(term: u64) -> LeaderId {
        LeaderId { term, node_id: 1 }
    }

    fn at(ms: u64) -> (Moment, Timestamp) {
        (Moment::of(Duration::from_millis(ms), ms as i64), Timestamp(ms as i64))
    }

    fn silent(words: &Words, term: u64, ms: u64) -> bool {
        let node: NodeName = "pac-2".parse().expect("a name");
        let old = |then: Moment| {
            Duration::from_millis(ms).saturating_sub(then.monotonic()) >= Duration::from_secs(4)
        };
        let all = words.silent(leader(term), Timestamp(ms as i64), [&node].into_iter(), &[], old);
        !all.is_empty()
    }

    #[test]
    fn a_node_is_silent_until_it_sends_back_a_token_of_this_leader() {
        let node: NodeName = "pac-2".parse().expect("a name");
        let words = Words::default();
        let said = |token| Said { token, isolated: false, lacking: false };

        assert!(silent(&words, 1, 0));
        let token = words.give(leader(1), at(10).0, at(10).1);
        words.hear(leader(1), at(20).1, &node, said(0));
        assert!(silent(&words, 1, 20), "it was not confirmed anything");
        words.hear(leader(1), at(20).1, &node, said(token));
        assert!(!silent(&words, 1, 20));
        words.hear(leader(1), at(30).1, &node, Said { lacking: true, ..said(token) });
        assert!(silent(&words, 1, 30), "its journal has not arrived");
        words.hear(leader(2), at(40).1, &node, said(token));
        assert!(silent(&words, 2, 40), "that was another leader");
    }

    proptest! {
        /// Questions and answers are lost and late at random: a node is called silent before it can
        /// be isolated.
        #[test]
        fn a_node_is_called_silent_before_it_is_isolated(
            steps in prop::collection::vec((0_u64..1_500, any::<bool>(), 0_u64..3_000), 1..60),
        ) {
            let node: NodeName = "pac-2".parse().expect("a name");
            let words = Words::default();
            let (mut now, mut token) = (0, 0);
            // When the node got its last answer, and answers on their way to it.
            let mut confirmed = None;
            let mut coming: Vec<(u64, u64)> = Vec::new();
            for (passes, arrives, delay) in steps {
                now += passes;
                for &(when, given) in coming.iter().filter(|(when, _)| *when <= now) {
                    (confirmed, token) = (confirmed.max(Some(when)), given.max(token));
                }
                coming.retain(|(when, _)| *when > now);
                let isolated = confirmed.is_some_and(|confirmed| now >= confirmed + 5_000);
                if isolated {
                    prop_assert!(silent(&words, 1, now));
                }
                if arrives {
                    let said = Said { token, isolated, lacking: false };
                    words.hear(leader(1), at(now).1, &node, said);
                    let given = words.give(leader(1), at(now).0, at(now).1);
                    if delay < 2_000 {
                        coming.push((now + delay, given));
                    }
                }
            }
        }
    }
}
