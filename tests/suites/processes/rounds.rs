//! Rounds under load: the leader is killed, the leader is frozen, all are killed at once.

use std::env;
use std::time::Duration;

use chartmesh_tests::cluster::{Cluster, Signal};
use chartmesh_tests::history::{Instant, NodeName, Operation};
use tokio::time::sleep;

use crate::load::{Load, Read, longest_silence};

/// Before something happens, and after it is over.
const CALM: Duration = Duration::from_millis(1_500);
/// How long a leader stays dead or frozen.
const OUTAGE: Duration = Duration::from_millis(2_500);

/// What happened in one round.
pub(crate) struct Round {
    pub(crate) began: Instant,
    pub(crate) ended: Instant,
    /// Who could not serve meanwhile.
    pub(crate) down: Vec<NodeName>,
}

/// How many rounds of a kind are played: a few, or all.
pub(crate) fn count(few: usize, all: usize) -> usize {
    if env::var_os("CHARTMESH_QUICK").is_some() {
        println!("left out: CHARTMESH_QUICK is set");
        return 0;
    }
    match env::var("CHARTMESH_ROUNDS") {
        Ok(rounds) if rounds == "full" => all,
        Ok(rounds) => rounds.parse().expect("CHARTMESH_ROUNDS is `full` or a number"),
        Err(_) => few,
    }
}

#[tokio::test]
async fn a_killed_leader_costs_no_acknowledged_write_and_no_read_at_a_survivor() {
    let rounds = count(3, 20);
    if rounds == 0 {
        return;
    }
    let mut cluster = Cluster::start().await.unwrap();
    let load = Load::begin(&cluster, "kill");

    let mut played = Vec::new();
    for _ in 0..rounds {
        sleep(CALM).await;
        let leader = cluster.wait_until_it_leads().await.unwrap();
        let began = load.now();
        cluster.signal(leader, Signal::Kill).unwrap();
        load.accepts_after(began).await;
        sleep(OUTAGE.saturating_sub(load.now() - began)).await;
        cluster.spawn(leader, &[]).unwrap();
        cluster.wait_until_it_leads().await.unwrap();
        let down = vec![cluster.name(leader).clone()];
        played.push(Round { began, ended: load.now(), down });
    }
    sleep(CALM).await;

    let (operations, reads) = load.end(&cluster).await;
    report("kill -9 of the leader", &played, &operations);
    refuse_no_read(&played, &reads);
}

#[tokio::test]
async fn a_frozen_leader_costs_no_acknowledged_write_and_no_read_at_a_survivor() {
    let rounds = count(3, 20);
    if rounds == 0 {
        return;
    }
    let mut cluster = Cluster::start().await.unwrap();
    let load = Load::begin(&cluster, "stop");

    let mut played = Vec::new();
    for _ in 0..rounds {
        sleep(CALM).await;
        let leader = cluster.wait_until_it_leads().await.unwrap();
        let began = load.now();
        cluster.signal(leader, Signal::Stop).unwrap();
        load.accepts_after(began).await;
        sleep(OUTAGE.saturating_sub(load.now() - began)).await;
        cluster.signal(leader, Signal::Continue).unwrap();
        cluster.wait_until_it_leads().await.unwrap();
        let down = vec![cluster.name(leader).clone()];
        played.push(Round { began, ended: load.now(), down });
    }
    sleep(CALM).await;

    let (operations, reads) = load.end(&cluster).await;
    report("SIGSTOP of the leader", &played, &operations);
    refuse_no_read(&played, &reads);
}

#[tokio::test]
async fn killing_all_nodes_at_once_costs_no_acknowledged_write() {
    let rounds = count(1, 5);
    if rounds == 0 {
        return;
    }
    let mut cluster = Cluster::start().await.unwrap();
    let load = Load::begin(&cluster, "power");

    let mut played = Vec::new();
    for _ in 0..rounds {
        sleep(CALM).await;
        let began = load.now();
        for node in 0..cluster.size() {
            cluster.signal(node, Signal::Kill).unwrap();
        }
        for node in 0..cluster.size() {
            cluster.spawn(node, &[]).unwrap();
        }
        cluster.wait_until_it_leads().await.unwrap();
        load.accepts_after(began).await;
        let down = (0..cluster.size()).map(|node| cluster.name(node).clone()).collect();
        played.push(Round { began, ended: load.now(), down });
    }
    sleep(CALM).await;

    let (operations, reads) = load.end(&cluster).await;
    report("kill -9 of all nodes at once", &played, &operations);
    refuse_no_read(&played, &reads);
}

/// Prints the time without an accepted write.
pub(crate) fn report(what: &str, rounds: &[Round], operations: &[Operation]) {
    let silence = |round: &Round| longest_silence(operations, round.began, round.ended);
    let mut silences: Vec<Duration> = rounds.iter().map(silence).collect();
    let each: Vec<String> = silences.iter().map(|time| time.as_millis().to_string()).collect();
    silences.sort();
    let median = silences[silences.len() / 2].as_millis();
    let worst = silences[silences.len() - 1].as_millis();
    println!("{what}: {} rounds, {} operations", rounds.len(), operations.len());
    println!("  ms without an accepted write: median {median}, worst {worst} ({})", each.join(" "));
}

/// No read was refused by a node that was not down.
pub(crate) fn refuse_no_read(rounds: &[Round], reads: &[Read]) {
    let excused = |read: &Read| {
        rounds.iter().any(|round| {
            round.down.contains(&read.node)
                && read.answered >= round.began
                && read.asked <= round.ended
        })
    };
    let refused: Vec<&Read> =
        reads.iter().filter(|read| read.refused.is_some() && !excused(read)).collect();
    let served = reads.iter().filter(|read| read.refused.is_none()).count();

    println!("  reads served: {served}");
    assert!(refused.is_empty(), "{refused:#?}");
    assert!(served > 0, "nobody read anything");
}
