//! This module is the scene in which a region loses its leader under load and gets it back.

use std::time::Duration;

use anyhow::{bail, ensure};
use chartmesh_ops::Status;
use tokio::time::{Instant, sleep};

use super::stage::time;
use super::traffic::{self, Observed, Traffic};
use super::{ARRIVAL_WITHIN, BACK_WITHIN, Tour, held, resources};
use crate::mesh::{Mesh, Target};
use crate::status::grouped;

/// How long writers write before the leader is killed, and after.
const BEFORE: Duration = Duration::from_secs(1);
const AFTER: Duration = Duration::from_secs(3);

/// A region that accepts no write for longer than this after a kill has failed.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Kills the leader of the first region, brings it back, and looks for every acknowledged write.
pub(super) async fn lost(tour: &mut Tour<'_>, patient: &str) -> anyhow::Result<()> {
    let region = tour.mesh.only(tour.cast.central.targets.clone());
    let before = resources(tour.mesh).await?;
    let leader = leader(&region).await?;
    tour.stage.scene(format!(
        "{leader} leads the region {}, and is killed: kill -9. {} writers write there meanwhile, and one \
         reader per node reads.",
        tour.cast.central.name,
        traffic::WRITERS
    ));
    let observed = kill(tour, &region, patient, &leader).await?;
    come_back(tour, &leader).await?;
    nothing_lost(tour, &observed, before).await
}

/// Kills the leader under writers and readers.
async fn kill(
    tour: &mut Tour<'_>,
    region: &Mesh,
    patient: &str,
    leader: &str,
) -> anyhow::Result<Observed> {
    let others = |mesh: &Mesh| -> Vec<Target> {
        mesh.targets.iter().filter(|target| target.name != leader).cloned().collect()
    };
    let survivors = others(tour.mesh);
    let traffic = Traffic::start(&tour.tourist, &region.targets, &survivors, patient);
    sleep(BEFORE).await;
    let killed = Instant::now();
    tour.processes.kill(leader)?;
    sleep(AFTER).await;
    let observed = traffic.stop(killed).await?;
    let successor = self::leader(&region.only(others(region))).await?;
    tour.stage.say(format!(
        "Before: {} writes accepted in {} s. After: {} in {} s, led by {successor}.\n\
         The longest time without an accepted write: {}.\n\
         Reads at the {} other nodes meanwhile: {}, refused: {}.",
        grouped(observed.writes_before as u64),
        BEFORE.as_secs(),
        grouped(observed.writes_after as u64),
        AFTER.as_secs(),
        time(observed.longest_pause),
        survivors.len(),
        grouped(observed.reads),
        observed.reads_refused,
    ));
    tour.stage.measured("A leader is killed: no write accepted for", time(observed.longest_pause));
    ensure!(observed.writes_before > 0, "no write was accepted before the leader was killed");
    ensure!(observed.writes_after > 0, "no write was accepted after the leader was killed");
    ensure!(
        observed.longest_pause <= LONGEST_PAUSE,
        "no write was accepted for longer than {LONGEST_PAUSE:?}"
    );
    ensure!(
        observed.reads > 0 && observed.reads_refused == 0,
        "other nodes refused {} of {} reads: {}",
        observed.reads_refused,
        observed.reads + observed.reads_refused,
        observed.first_refusal.unwrap_or_default()
    );
    Ok(observed)
}

/// Starts the killed node again, and waits until it holds what the others hold.
async fn come_back(tour: &mut Tour<'_>, node: &str) -> anyhow::Result<()> {
    let started = Instant::now();
    tour.processes.start_again(node)?;
    let mut first_read = None;
    loop {
        let seen = tour.mesh.ask().await;
        let statuses: Vec<&Status> =
            seen.iter().filter_map(|seen| seen.status.as_ref().ok()).collect();
        let back = statuses.iter().find(|status| status.node == node);
        if back.is_some() {
            first_read.get_or_insert_with(|| started.elapsed());
        }
        let same = |status: &&Status| back.is_some_and(|back| held(back) == held(status));
        if statuses.len() == tour.mesh.targets.len() && statuses.iter().all(same) {
            break;
        }
        tour.expect_all_run()?;
        ensure!(started.elapsed() < BACK_WITHIN, "{node} does not hold what the others hold");
        sleep(Duration::from_millis(20)).await;
    }
    tour.stage.say(format!(
        "{node} is started again. It serves reads after {}, and holds everything after {}.",
        time(first_read.unwrap_or_default()),
        time(started.elapsed()),
    ));
    Ok(())
}

/// Every acknowledged write is at every node, and nothing was written twice.
async fn nothing_lost(tour: &mut Tour<'_>, observed: &Observed, before: u64) -> anyhow::Result<()> {
    let acknowledged = observed.acknowledged.len() as u64;
    let written = resources(tour.mesh).await?.saturating_sub(before);
    for target in &tour.mesh.targets {
        let lost = tour.tourist.missing(target, &observed.acknowledged).await;
        ensure!(
            lost.is_empty(),
            "{} has lost {} writes: {}",
            target.name,
            lost.len(),
            lost.join(", ")
        );
    }
    ensure!(
        written == acknowledged,
        "{written} resources were written for {acknowledged} acknowledged writes"
    );
    tour.stage.say(format!(
        "{} writes were acknowledged, some after a retry. Each is read back at each of the {} nodes: none \
         is lost,\nnone was written twice.",
        grouped(acknowledged),
        tour.mesh.targets.len()
    ));
    Ok(())
}

/// Who leads, once somebody does.
async fn leader(region: &Mesh) -> anyhow::Result<String> {
    let end = Instant::now() + ARRIVAL_WITHIN;
    while Instant::now() < end {
        let seen = region.ask().await;
        let leads = |status: &Status| status.leader.as_ref() == Some(&status.node);
        if let Some(status) = seen.into_iter().filter_map(|seen| seen.status.ok()).find(leads) {
            return Ok(status.node);
        }
        sleep(Duration::from_millis(50)).await;
    }
    bail!("no node leads")
}
