//! Executions that were looked for on purpose, each played with several seeds.

use std::time::Duration;

use chartmesh_tests::simulation::{Happening, Mesh, Plan, Score, Who, simulate};

use crate::{Repeat, judge};

const SEEDS: u64 = 3;

fn play(happenings: &[(u64, Happening)]) {
    let instants = happenings.iter().map(|&(at, what)| (Duration::from_millis(at), what));
    let score = Score::of(instants);
    for seed in 1..=SEEDS {
        let _repeat = Repeat(seed);
        let (mesh, score) = (Mesh::REGION, score.clone());
        judge(&simulate(&Plan { seed, mesh, writers: 8, registers: 2, rovers: 0, score }));
    }
}

#[test]
fn a_leader_that_is_cut_off_refuses_and_finds_nothing_on_its_own() {
    play(&[
        (2_000, Happening::Isolate(Who::Leader)),
        (5_000, Happening::Isolate(Who::Leader)),
        (8_000, Happening::Mute(Who::Leader)),
        (11_000, Happening::Freeze(Who::Leader)),
    ]);
}

#[test]
fn a_new_leader_decides_over_all_that_was_decided_before() {
    play(&[
        (2_000, Happening::Crash(Who::Leader)),
        (5_000, Happening::Crash(Who::Leader)),
        (8_000, Happening::Crash(Who::Leader)),
        (11_000, Happening::Crash(Who::Leader)),
    ]);
}

#[test]
fn what_was_acknowledged_survives_the_loss_of_power_everywhere() {
    play(&[
        (2_000, Happening::PowerCut),
        (5_000, Happening::PowerCut),
        (8_000, Happening::PowerCut),
        (11_000, Happening::PowerCut),
    ]);
}
