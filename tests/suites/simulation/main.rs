//! A simulated region, and a simulated mesh, under writers, while all that can happen to nodes happens.
//!
//! `CHARTMESH_SEED=N` plays one seed, `CHARTMESH_SEEDS=N` the first N; else a handful of them is
//! played. A seed that fails is printed with the command that repeats it.

mod meshes;
mod scenarios;

use std::env;
use std::thread;

use chartmesh_tests::invariants;
use chartmesh_tests::simulation::{Mesh, Outcome, Plan, Score, simulate, trace};

/// The seeds that are played if nothing else is asked for.
const SEEDS: u64 = 6;
const HAPPENINGS: u32 = 6;

fn plan(seed: u64) -> Plan {
    let score = Score::drawn(seed, HAPPENINGS);
    Plan { seed, mesh: Mesh::REGION, writers: 6, registers: 5, rovers: 0, score }
}

/// The seeds that are asked for; so many if none are.
fn seeds(usual: u64) -> Vec<u64> {
    let number = |name| env::var(name).ok().map(|text| text.parse().expect("a number"));
    match (number("CHARTMESH_SEED"), number("CHARTMESH_SEEDS")) {
        (Some(seed), _) => vec![seed],
        (None, count) => (1..=count.unwrap_or(usual)).collect(),
    }
}

/// Says how to repeat a run that does not end well.
struct Repeat(u64);

impl Drop for Repeat {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("to repeat it: ./tests/run.sh --seed {}", self.0);
        }
    }
}

/// Asserts that a run has seen something, and nothing that may not be.
fn judge(outcome: &Outcome) {
    let violations = invariants::violations(&outcome.evidence);
    let operations = &outcome.evidence.operations;
    let answered = operations.iter().filter(|operation| operation.answer.is_some()).count();

    assert!(violations.is_empty(), "{violations:#?}\n{:#?}", outcome.happenings);
    assert!(answered * 2 > operations.len(), "{answered} of {} answered", operations.len());
}

#[test]
fn every_invariant_holds_whatever_happens_to_the_nodes() {
    let mut seeds = seeds(SEEDS).into_iter();
    loop {
        // As many at a time as the smallest machine has cores.
        let pair: Vec<u64> = seeds.by_ref().take(2).collect();
        if pair.is_empty() {
            break;
        }
        thread::scope(|scope| {
            for seed in pair {
                scope.spawn(move || {
                    let _repeat = Repeat(seed);
                    let outcome = simulate(&plan(seed));
                    println!("seed {seed}: {} operations", outcome.evidence.operations.len());
                    judge(&outcome);
                });
            }
        });
    }
}

#[test]
fn one_seed_played_twice_gives_one_trace() {
    let seed = seeds(SEEDS)[0];
    let _repeat = Repeat(seed);

    let (one, other) = (simulate(&plan(seed)), simulate(&plan(seed)));

    assert_eq!(one.happenings, other.happenings);
    let pairs = one.evidence.operations.iter().zip(&other.evidence.operations);
    for (one, other) in pairs {
        assert_eq!(format!("{one:?}"), format!("{other:?}"), "the first difference");
    }
    assert_eq!(trace(&one), trace(&other));
    assert_ne!(trace(&one), trace(&simulate(&plan(seed + 1))));
}
