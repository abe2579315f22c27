//! This module judges the evidence of a run: one file per invariant.

mod acknowledged_writes_are_held;
mod conflicts_are_concurrent;
mod every_answer_is_expected;
mod freshness_is_honest;
mod names_are_created_once;
mod names_mean_one_content;
mod nodes_agree;
mod nothing_is_left_behind;
mod reads_never_go_back;
mod registers_are_linearizable;
mod transactions_are_whole;
mod writes_happen_once;

use crate::history::Evidence;

/// An invariant that does not hold, and what shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which invariant.
    pub invariant: &'static str,
    /// What shows it.
    pub proof: String,
}

type Check = fn(&Evidence) -> Vec<String>;

const INVARIANTS: &[(&str, Check)] = &[
    ("every answer is expected", every_answer_is_expected::check),
    ("nodes agree", nodes_agree::check),
    ("nothing is left behind", nothing_is_left_behind::check),
    ("acknowledged writes are held", acknowledged_writes_are_held::check),
    ("writes happen once", writes_happen_once::check),
    ("transactions are whole", transactions_are_whole::check),
    ("conflicts are concurrent", conflicts_are_concurrent::check),
    ("names mean one content", names_mean_one_content::check),
    ("names are created once", names_are_created_once::check),
    ("registers are linearizable", registers_are_linearizable::check),
    ("reads never go back", reads_never_go_back::check),
    ("freshness is honest", freshness_is_honest::check),
];

/// All violations of all invariants.
#[must_use]
pub fn violations(evidence: &Evidence) -> Vec<Violation> {
    INVARIANTS
        .iter()
        .flat_map(|&(invariant, check)| {
            check(evidence).into_iter().map(move |proof| Violation { invariant, proof })
        })
        .collect()
}

/// Small pieces of evidence for the tests of the invariants.
#[cfg(test)]
mod fixture {
    use std::time::Duration;

    use crate::freshness::AsOf;
    use crate::history::{
        Answered, Durability, Evidence, Held, Mark, NodeName, NodeState, Operation, Register,
        Standing, Told, VersionId, Wish,
    };

    pub(super) fn register(name: &str) -> Register {
        Register(name.to_owned())
    }

    pub(super) fn version(name: &str) -> VersionId {
        VersionId(name.to_owned())
    }

    /// An operation asked at `window.0` and answered by node `a` at `window.1`, in milliseconds.
    pub(super) fn operation(mark: &str, wish: Wish, window: (u64, u64), told: Told) -> Operation {
        let answer = Answered {
            at: Duration::from_millis(window.1),
            by: NodeName("a".to_owned()),
            told,
            applied: true,
            shown: None,
            durability: Durability::Region,
            isolated: false,
            as_of: AsOf::default(),
        };
        Operation { answer: Some(answer), ..unanswered(mark, wish, window.0) }
    }

    pub(super) fn unanswered(mark: &str, wish: Wish, asked: u64) -> Operation {
        let asked = Duration::from_millis(asked);
        Operation { mark: Mark(mark.to_owned()), wish, asked, answer: None }
    }

    /// A node of region `pac` with a site of its own.
    pub(super) fn place(name: &str) -> (NodeName, Standing) {
        let standing = Standing { region: "pac".to_owned(), site: format!("site-of-{name}") };
        (NodeName(name.to_owned()), standing)
    }

    /// The same operation, answered by this node.
    pub(super) fn by(mut operation: Operation, node: &str) -> Operation {
        let answer = operation.answer.as_mut().expect("it was answered");
        answer.by = NodeName(node.to_owned());
        operation
    }

    /// The same operation, answered by this node into its journal.
    pub(super) fn journaled(operation: Operation, node: &str) -> Operation {
        let mut operation = by(operation, node);
        let answer = operation.answer.as_mut().expect("it was answered");
        (answer.isolated, answer.durability) = (true, Durability::Node);
        operation
    }

    /// A write of register `r` that was acknowledged as this version.
    pub(super) fn written(mark: &str, name: &str, window: (u64, u64)) -> Operation {
        let told = Told::Written([(register("r"), version(name))].into());
        operation(mark, Wish::Write(register("r")), window, told)
    }

    /// One node that holds these versions, with their marks, of these registers.
    pub(super) fn evidence(
        operations: Vec<Operation>,
        registers: &[(&str, &[(&str, &str)])],
    ) -> Evidence {
        let held = |&(name, mark): &(&str, &str)| Held {
            version: version(name),
            mark: Mark(mark.to_owned()),
        };
        let registers = registers
            .iter()
            .map(|&(name, versions)| (register(name), versions.iter().map(held).collect()))
            .collect();
        let state = NodeState { registers, ..NodeState::default() };
        let nodes = [(NodeName("a".to_owned()), state)].into();
        Evidence { operations, nodes, ..Evidence::default() }
    }
}
