//! Three regions, and what happens to them: drawn from seeds, and looked for on purpose.

use std::time::Duration;

use chartmesh_tests::simulation::{Group, Happening, Mesh, Plan, Score, Who, simulate, trace};

use crate::{Repeat, judge, seeds};

/// A mesh is ten nodes: fewer seeds than of a region.
const SEEDS: u64 = 2;
const HAPPENINGS: u32 = 6;
/// Longer than a node waits before it isolates itself.
const LONG: Duration = Duration::from_secs(5);

fn plan(seed: u64, score: Score) -> Plan {
    Plan { seed, mesh: Mesh::THREE_REGIONS, writers: 2, registers: 3, rovers: 3, score }
}

fn drawn(seed: u64) -> Plan {
    plan(seed, Score::drawn_for_mesh(Mesh::THREE_REGIONS, seed, HAPPENINGS))
}

fn play(happenings: &[(u64, Happening)]) {
    let instants = happenings.iter().map(|&(at, what)| (Duration::from_millis(at), what));
    let seed = 1;
    let _repeat = Repeat(seed);
    judge(&simulate(&plan(seed, Score::of(instants))));
}

#[test]
fn every_invariant_of_a_mesh_holds_whatever_happens_to_its_nodes() {
    for seed in seeds(SEEDS) {
        let _repeat = Repeat(seed);
        let outcome = simulate(&drawn(seed));
        println!("seed {seed}: {} operations", outcome.evidence.operations.len());
        judge(&outcome);
    }
}

#[test]
fn one_seed_of_a_mesh_played_twice_gives_one_trace() {
    let seed = seeds(SEEDS)[0];
    let _repeat = Repeat(seed);

    let (one, other) = (simulate(&drawn(seed)), simulate(&drawn(seed)));

    assert_eq!(one.happenings, other.happenings);
    assert_eq!(trace(&one), trace(&other));
}

#[test]
fn an_isolated_site_writes_on_and_both_sides_of_every_conflict_stand() {
    let outcome = {
        let site = Happening::Cut(Group::Site("yokota"), LONG);
        let score = Score::of([(Duration::from_secs(2), site)]);
        simulate(&plan(1, score))
    };

    assert!(outcome.evidence.was_isolated(), "nobody wrote in isolation: nothing was tested");
    judge(&outcome);
}

#[test]
fn a_region_that_is_cut_off_goes_on_and_loses_nothing() {
    play(&[
        (2_000, Happening::Cut(Group::Region("pac"), LONG)),
        (9_000, Happening::Cut(Group::Region("central"), LONG)),
    ]);
}

#[test]
fn a_node_that_crashes_in_its_isolation_delivers_its_journals_once() {
    play(&[
        (2_000, Happening::Cut(Group::Node("eur-2"), LONG * 2)),
        (5_500, Happening::Crash(Who::Node("eur-2"))),
    ]);
}

#[test]
fn a_region_whose_voters_all_lose_their_power_names_nothing_twice() {
    play(&[
        (2_000, Happening::RegionPowerCut("pac")),
        (6_500, Happening::PowerCut),
        (11_000, Happening::RegionPowerCut("central")),
    ]);
}

#[test]
fn a_wiped_voter_and_a_wiped_leader_come_back_and_nothing_is_lost() {
    play(&[
        (2_000, Happening::Wipe(Who::Node("pac-2"))),
        (8_000, Happening::Wipe(Who::LeaderOf("central"))),
    ]);
}

#[test]
fn a_disk_that_is_set_back_neither_votes_nor_names_anything_twice() {
    play(&[
        (2_000, Happening::SetBack(Who::LeaderOf("pac"))),
        (4_000, Happening::Cut(Group::Node("eur-3"), LONG)),
    ]);
}

#[test]
fn a_clock_that_is_hours_off_changes_nothing_about_what_is_current() {
    play(&[
        (2_000, Happening::ClockJump(Who::LeaderOf("central"), 7_200_000)),
        (6_500, Happening::ClockJump(Who::LeaderOf("pac"), -7_200_000)),
        (8_000, Happening::Crash(Who::LeaderOf("pac"))),
    ]);
}
