//! This module shows and measures what a mesh does when its leader is killed.
//!
//! Each step says what it saw. One that did not go as it should ends the tour as failed.

mod traffic;

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use chartmesh_ops::Status;
use tokio::time::{Instant, sleep};

use self::traffic::{Observed, Tourist, Traffic};
use super::processes::Processes;
use crate::mesh::{Mesh, Target};
use crate::status::grouped;
use crate::terminal;
use crate::verify;

/// How long writers write before the leader is killed, and after.
const BEFORE: Duration = Duration::from_secs(2);
const AFTER: Duration = Duration::from_secs(5);

/// A region that accepts no write for longer than this after a kill has failed.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// How long a change may take to arrive at every node, and a node to come back.
const ARRIVAL_WITHIN: Duration = Duration::from_secs(5);
const BACK_WITHIN: Duration = Duration::from_secs(30);

/// Goes round.
pub(super) async fn tour(mesh: &Mesh, processes: &mut Processes) -> anyhow::Result<()> {
    terminal::print("A TOUR: what this region does when its leader is killed\n");
    let tourist = Tourist::new();
    let patient = everywhere(mesh, &tourist).await?;
    let before = resources(mesh).await?;
    let leader = leader(mesh).await?;
    let observed = kill(mesh, processes, &tourist, &patient, &leader).await?;
    come_back(mesh, processes, &leader).await?;
    nothing_lost(mesh, &tourist, &observed, before).await?;
    all_equal(mesh).await?;
    terminal::print("The tour is over, and all went as it should.\n");
    Ok(())
}

/// A write at each node can be read at every node.
async fn everywhere(mesh: &Mesh, tourist: &Tourist) -> anyhow::Result<String> {
    terminal::print("1. Every node takes writes, and every node serves what another one took.");
    let mut patient = None;
    for target in &mesh.targets {
        let started = Instant::now();
        let written = tourist.create_patient(target).await?;
        let took = started.elapsed();
        let slowest = arrival(mesh, tourist, &written, started).await?;
        terminal::print(format!(
            "   {written} written at {} in {:.1} ms, readable at all {} nodes {:.1} ms after it was sent.",
            target.name,
            millis(took),
            mesh.targets.len(),
            millis(slowest),
        ));
        patient = Some(written);
    }
    patient.context("there is no node")
}

/// When the last node had it.
async fn arrival(
    mesh: &Mesh,
    tourist: &Tourist,
    reference: &str,
    started: Instant,
) -> anyhow::Result<Duration> {
    for target in &mesh.targets {
        while !tourist.can_read(target, reference).await {
            let late = started.elapsed() > ARRIVAL_WITHIN;
            ensure!(!late, "{} does not have {reference} after {ARRIVAL_WITHIN:?}", target.name);
            sleep(Duration::from_millis(1)).await;
        }
    }
    Ok(started.elapsed())
}

/// Kills the leader under writers and readers.
async fn kill(
    mesh: &Mesh,
    processes: &mut Processes,
    tourist: &Tourist,
    patient: &str,
    leader: &str,
) -> anyhow::Result<Observed> {
    terminal::print(format!(
        "\n2. {} writers write and one reader per node reads. {leader} leads: kill -9 {leader}.",
        traffic::WRITERS
    ));
    let survivors: Vec<Target> =
        mesh.targets.iter().filter(|target| target.name != leader).cloned().collect();
    let traffic = Traffic::start(tourist, &mesh.targets, &survivors, patient);
    sleep(BEFORE).await;
    let killed = Instant::now();
    processes.kill(leader)?;
    sleep(AFTER).await;
    let observed = traffic.stop(killed).await?;
    let successor = self::leader(&mesh.only(survivors.clone())).await?;
    terminal::print(format!(
        "   Before: {} writes accepted in {} s. After: {} in {} s, led by {successor}.\n   \
         The longest time without an accepted write: {:.2} s.\n   \
         Reads at the {} survivors meanwhile: {}, refused: {}.",
        grouped(observed.writes_before as u64),
        BEFORE.as_secs(),
        grouped(observed.writes_after as u64),
        AFTER.as_secs(),
        observed.longest_pause.as_secs_f64(),
        survivors.len(),
        grouped(observed.reads),
        observed.reads_refused,
    ));
    ensure!(observed.writes_before > 0, "no write was accepted before the leader was killed");
    ensure!(observed.writes_after > 0, "no write was accepted after the leader was killed");
    ensure!(
        observed.longest_pause <= LONGEST_PAUSE,
        "no write was accepted for longer than {LONGEST_PAUSE:?}"
    );
    ensure!(
        observed.reads > 0 && observed.reads_refused == 0,
        "survivors refused {} of {} reads: {}",
        observed.reads_refused,
        observed.reads + observed.reads_refused,
        observed.first_refusal.unwrap_or_default()
    );
    Ok(observed)
}

/// Starts the killed node again, and waits until it holds what the others hold.
async fn come_back(mesh: &Mesh, processes: &mut Processes, node: &str) -> anyhow::Result<()> {
    terminal::print(format!("\n3. {node} is started again on its disk."));
    let started = Instant::now();
    processes.start_again(node)?;
    let mut first_read = None;
    loop {
        let seen = mesh.ask().await;
        let statuses: Vec<&Status> =
            seen.iter().filter_map(|seen| seen.status.as_ref().ok()).collect();
        let back = statuses.iter().find(|status| status.node == node);
        if back.is_some() {
            first_read.get_or_insert_with(|| started.elapsed());
        }
        let same = |status: &&Status| back.is_some_and(|back| held(back) == held(status));
        if statuses.len() == mesh.targets.len() && statuses.iter().all(same) {
            break;
        }
        processes.look()?;
        if processes.ended().iter().any(|ended| ended == node) {
            bail!("{node} has ended again; its log says:\n{}", processes.last_words(node));
        }
        ensure!(started.elapsed() < BACK_WITHIN, "{node} does not hold what the others hold");
        sleep(Duration::from_millis(20)).await;
    }
    terminal::print(format!(
        "   It serves reads after {:.2} s, and holds everything after {:.2} s.",
        first_read.unwrap_or_default().as_secs_f64(),
        started.elapsed().as_secs_f64(),
    ));
    Ok(())
}

/// How far a node holds each feed.
fn held(status: &Status) -> Vec<(&str, u64)> {
    status.horizon.iter().map(|feed| (feed.origin.as_str(), feed.seq)).collect()
}

/// Every acknowledged write is at every node, and nothing was written twice.
async fn nothing_lost(
    mesh: &Mesh,
    tourist: &Tourist,
    observed: &Observed,
    before: u64,
) -> anyhow::Result<()> {
    let acknowledged = observed.acknowledged.len() as u64;
    terminal::print(format!(
        "\n4. {} writes were acknowledged, some of them after a retry. Each is read back at each node.",
        grouped(acknowledged)
    ));
    for target in &mesh.targets {
        let lost = tourist.missing(target, &observed.acknowledged).await;
        ensure!(
            lost.is_empty(),
            "{} has lost {} writes: {}",
            target.name,
            lost.len(),
            lost.join(", ")
        );
    }
    let written = resources(mesh).await?.saturating_sub(before);
    ensure!(
        written == acknowledged,
        "{written} resources were written for {acknowledged} acknowledged writes"
    );
    terminal::print("   None is lost, none was written twice.");
    Ok(())
}

async fn all_equal(mesh: &Mesh) -> anyhow::Result<()> {
    terminal::print(
        "\n5. verify --deep: each node computes everything again from the bytes on its disk.",
    );
    let verdict = verify::verify(mesh, ARRIVAL_WITHIN, true).await?;
    let report = verify::report(&verdict);
    ensure!(verdict.equal, "{report}");
    for line in report.lines() {
        terminal::print(format!("   {line}"));
    }
    terminal::print("");
    Ok(())
}

/// Who leads, once somebody does.
async fn leader(mesh: &Mesh) -> anyhow::Result<String> {
    let end = Instant::now() + LONGEST_PAUSE;
    while Instant::now() < end {
        let seen = mesh.ask().await;
        let leads = |status: &Status| status.leader.as_ref() == Some(&status.node);
        if let Some(status) = seen.into_iter().filter_map(|seen| seen.status.ok()).find(leads) {
            return Ok(status.node);
        }
        sleep(Duration::from_millis(50)).await;
    }
    bail!("no node leads")
}

/// How many resources there are, once all nodes hold the same.
async fn resources(mesh: &Mesh) -> anyhow::Result<u64> {
    let verdict = verify::verify(mesh, ARRIVAL_WITHIN, false).await?;
    ensure!(verdict.equal, "{}", verify::report(&verdict));
    verdict.nodes.first().map(|held| held.resources).context("there is no node")
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}
