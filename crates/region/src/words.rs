//! This module keeps, at the leader, the last word of each node of the region: who may be writing a
//! journal that has not arrived (docs/decisions/0012).
//!
//! A word counts from the instant at which the leader *gave out* the token that the node sends back:
//! whatever is lost or late on the way, the node cannot have got that answer earlier, and begins to
//! count its isolation when it gets it. What a node says while it is isolated counts for nothing: its
//! last word is from before.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use chartmesh_record::{Moment, NodeName, Silent, Timestamp};

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
    given: u64,
    tokens: VecDeque<Given>,
    nodes: BTreeMap<NodeName, Word>,
}

/// A token that was given out: when, by both clocks and as an instant.
#[derive(Clone, Copy, Debug)]
struct Given {
    token: u64,
    moment: Moment,
    at: Timestamp,
}

/// What a node has said last.
#[derive(Clone, Copy, Debug, Default)]
struct Word {
    /// The newest token that has come back from it while it was not isolated.
    last: Option<Given>,
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
    fn with<T>(&self, leader: LeaderId, look: impl FnOnce(&mut Book) -> T) -> T {
        let mut book = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if book.leader != Some(leader) {
            *book = Book { leader: Some(leader), ..Book::default() };
        }
        look(&mut book)
    }

    /// Takes in what a node says. What was said before the last word, and arrives only now, makes
    /// nothing better.
    pub(crate) fn hear(&self, leader: LeaderId, node: &NodeName, said: Said) {
        self.with(leader, |book| {
            let given = book.tokens.iter().rev().find(|given| given.token == said.token).copied();
            let word = book.nodes.entry(node.clone()).or_default();
            let heard = word.last.map_or(0, |last| last.token);
            match given.filter(|given| given.token >= heard && !said.isolated) {
                Some(given) => {
                    *word = Word { last: Some(given), isolated: false, lacking: said.lacking };
                }
                None => {
                    word.isolated |= said.isolated;
                    word.lacking |= said.lacking;
                }
            }
        });
    }

    /// Gives out a token with a confirmed answer.
    pub(crate) fn give(&self, leader: LeaderId, moment: Moment, now: Timestamp) -> u64 {
        self.with(leader, |book| {
            book.given += 1;
            // The term makes it another one than any other leader's.
            let token = (leader.term << 32) | (book.given & 0xffff_ffff);
            if book.tokens.len() == TOKENS {
                book.tokens.pop_front();
            }
            book.tokens.push_back(Given { token, moment, at: now });
            token
        })
    }

    /// The silent ones among these nodes. One that was called silent before keeps its instant; one
    /// of which this leadership has had no word was heard by another, until `unheard`.
    pub(crate) fn silent<'n>(
        &self,
        leader: LeaderId,
        nodes: impl Iterator<Item = &'n NodeName>,
        before: &[Silent],
        unheard: Timestamp,
        is_old: impl Fn(Moment) -> bool,
    ) -> Vec<Silent> {
        self.with(leader, |book| {
            let silent = nodes.filter_map(|node| {
                let word = book.nodes.get(node).copied().unwrap_or_default();
                let heard = word.last.is_some_and(|last| !is_old(last.moment));
                if heard && !word.isolated && !word.lacking {
                    return None;
                }
                let called = before.iter().find(|silent| silent.node == *node);
                let last = word.last.map_or(unheard, |last| last.at);
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
        let wall = Timestamp(ms as i64);
        (Moment { monotonic: Duration::from_millis(ms), wall }, wall)
    }

    fn node() -> NodeName {
        "pac-2".parse().expect("a name")
    }

    /// Since when the node is called silent, if it is.
    fn since(words: &Words, term: u64, before: &[Silent], ms: u64) -> Option<i64> {
        let old = |then: Moment| {
            Duration::from_millis(ms).saturating_sub(then.monotonic) >= Duration::from_secs(4)
        };
        let all = words.silent(leader(term), [&node()].into_iter(), before, Timestamp(-7), old);
        all.first().map(|silent| silent.since.0)
    }

    fn silent(words: &Words, term: u64, ms: u64) -> bool {
        since(words, term, &[], ms).is_some()
    }

    const WELL: Said = Said { token: 0, isolated: false, lacking: false };

    #[test]
    fn a_node_is_silent_until_it_sends_back_a_token_of_this_leader() {
        let words = Words::default();
        let hear = |term, said| words.hear(leader(term), &node(), said);

        assert!(silent(&words, 1, 0));
        let token = words.give(leader(1), at(10).0, at(10).1);
        hear(1, WELL);
        assert!(silent(&words, 1, 20), "it was not confirmed anything");
        hear(1, Said { token, ..WELL });
        assert!(!silent(&words, 1, 20));
        hear(1, Said { token, lacking: true, ..WELL });
        assert!(silent(&words, 1, 30), "its journal has not arrived");
        hear(2, Said { token, ..WELL });
        assert!(silent(&words, 2, 40), "that was another leader");
    }

    #[test]
    fn what_was_said_before_the_last_word_makes_nothing_better() {
        let words = Words::default();
        let give = |ms| words.give(leader(1), at(ms).0, at(ms).1);
        let hear = |said| words.hear(leader(1), &node(), said);
        let (first, second, third) = (give(0), give(100), give(200));

        hear(Said { token: second, ..WELL });
        hear(Said { token: third, isolated: true, ..WELL });
        hear(Said { token: first, ..WELL });
        assert!(silent(&words, 1, 300), "it is isolated, and its old word came late");
        hear(WELL);
        assert!(silent(&words, 1, 300), "a word without a token neither");
        hear(Said { token: third, ..WELL });
        assert!(!silent(&words, 1, 300), "it has returned");
        hear(Said { token: first, isolated: true, ..WELL });
        assert!(silent(&words, 1, 300), "but a word that warns does, however late");
    }

    #[test]
    fn a_silent_node_is_dated_from_the_last_word_of_it_that_anybody_had() {
        let called = [Silent { node: node(), since: Timestamp(-99) }];
        let words = Words::default();
        let hear = |said| words.hear(leader(1), &node(), said);

        assert_eq!(since(&words, 1, &[], 5), Some(-7), "the leader before had one until then");
        assert_eq!(since(&words, 1, &called, 5), Some(-99), "it had none either");
        let token = words.give(leader(1), at(10).0, at(10).1);
        hear(Said { token, ..WELL });
        assert_eq!(since(&words, 1, &called, 20), None);
        let later = words.give(leader(1), at(30).0, at(30).1);
        hear(Said { token: later, isolated: true, ..WELL });
        assert_eq!(since(&words, 1, &[], 40), Some(10), "what it says meanwhile does not count");
    }

    /// What a node and its leader do, and how long after what came before.
    #[derive(Clone, Debug)]
    struct Step {
        passes: u64,
        /// Whether the node asks: after how long the question arrives, and the answer; over 2,000
        /// ms it does not.
        asks: Option<(u64, u64)>,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let asks = prop::option::weighted(0.8, (0_u64..2_600, 0_u64..2_600));
        let step = (0_u64..1_500, asks).prop_map(|(passes, asks)| Step { passes, asks });
        prop::collection::vec(step, 1..80)
    }

    proptest! {
        /// Questions and answers are lost, late and out of order at random; the node is isolated and
        /// returns. Whenever it is, its leader calls it silent, and since before it was.
        #[test]
        fn a_node_is_called_silent_before_it_is_isolated(steps in steps()) {
            let words = Words::default();
            let mut now = 0;
            // At the node: when the last confirmed answer came, since when it is isolated, and how
            // many confirmed answers have come since.
            let (mut confirmed, mut token) = (None, 0);
            let (mut isolated, mut row) = (None, 0);
            let mut questions: Vec<(u64, Said, u64)> = Vec::new();
            let mut answers: Vec<(u64, u64)> = Vec::new();
            for Step { passes, asks } in steps {
                for _ in 0..passes.max(1) {
                    now += 1;
                    for (_, said, back) in questions.extract_if(.., |(when, ..)| *when <= now) {
                        words.hear(leader(1), &node(), said);
                        let given = words.give(leader(1), at(now).0, at(now).1);
                        if back <= 2_000 {
                            answers.push((now + back, given));
                        }
                    }
                    for (_, given) in answers.extract_if(.., |(when, _)| *when <= now) {
                        // A node asks one question after the other: it takes no older answer.
                        if given > token {
                            (confirmed, token) = (Some(now), given);
                            row += 1;
                        }
                    }
                    if isolated.is_some() && row >= 3 {
                        isolated = None;
                    }
                    if isolated.is_none() && confirmed.is_some_and(|last| now >= last + 5_000) {
                        (isolated, row) = (Some(now), 0);
                    }
                    if let Some(began) = isolated {
                        let since = since(&words, 1, &[], now);
                        prop_assert!(since.is_some_and(|since| since <= began as i64));
                    }
                }
                if let Some((there, back)) = asks.filter(|(there, _)| *there <= 2_000) {
                    let said = Said { token, isolated: isolated.is_some(), lacking: false };
                    questions.push((now + there, said, back));
                }
            }
        }
    }
}
