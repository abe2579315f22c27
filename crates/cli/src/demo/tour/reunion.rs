//! This module is the scenes in which everything comes back, and the conflict is shown and resolved.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use chartmesh_ops::{State, Status};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::losses::BothSides;
use super::stage::time;
use super::{ARRIVAL_WITHIN, BACK_WITHIN, Tour, agree};

const LOOK_EVERY: Duration = Duration::from_millis(50);

/// When what came back, after it could.
#[derive(Clone, Copy, Debug, Default)]
struct Times {
    all_answer: Option<Duration>,
    all_in_region: Option<Duration>,
    all_agree: Option<Duration>,
}

/// Starts the lost region again and heals all links. Ends when all nodes hold the same.
pub(super) async fn everything_comes_back(tour: &mut Tour<'_>) -> anyhow::Result<()> {
    let central = tour.cast.central.clone();
    let cut_off = tour.cast.eur.targets[1].name.clone();
    tour.stage.scene(format!(
        "{} is started again, and the links of {cut_off} are healed (`chartmesh links heal`).",
        central.name
    ));
    let started = Instant::now();
    for target in &central.targets {
        tour.processes.start_again(&target.name)?;
    }
    tour.net.heal();
    let waiting = tour.stage.waiting("until all nodes agree");
    let mut times = Times::default();
    while times.all_agree.is_none() {
        sleep(LOOK_EVERY).await;
        tour.expect_all_run()?;
        let seen = tour.mesh.ask().await;
        let statuses: Vec<&Status> =
            seen.iter().filter_map(|seen| seen.status.as_ref().ok()).collect();
        times.note(&statuses, seen.len(), started.elapsed());
        ensure!(
            started.elapsed() < BACK_WITHIN,
            "the nodes do not agree after {BACK_WITHIN:?}: {}",
            states(&statuses)
        );
    }
    drop(waiting);
    let shown = |at: Option<Duration>| time(at.unwrap_or_default());
    tour.stage.say(format!(
        "All {} nodes answer after {}; {cut_off} is part of its region again after {};\n\
         all nodes hold the same after {}: the same changes of every feed, the same digest.",
        tour.mesh.targets.len(),
        shown(times.all_answer),
        shown(times.all_in_region),
        shown(times.all_agree),
    ));
    tour.stage.measured("Everything comes back: all nodes agree after", shown(times.all_agree));
    Ok(())
}

impl Times {
    fn note(&mut self, statuses: &[&Status], nodes: usize, now: Duration) {
        if statuses.len() < nodes {
            return;
        }
        self.all_answer.get_or_insert(now);
        if !statuses.iter().all(|status| status.state == State::Region) {
            return;
        }
        self.all_in_region.get_or_insert(now);
        if agree(statuses) {
            self.all_agree.get_or_insert(now);
        }
    }
}

fn states(statuses: &[&Status]) -> String {
    let state = |status: &&Status| {
        let held: u64 = status.horizon.iter().map(|feed| feed.seq).sum();
        format!("{} {:?} {held} changes", status.node, status.state)
    };
    statuses.iter().map(state).collect::<Vec<_>>().join(", ")
}

/// Both sides stand: every node shows them, and one client resolves them.
pub(super) async fn conflict(tour: &mut Tour<'_>, both: &BothSides) -> anyhow::Result<()> {
    tour.stage.scene(
        "Both changes of that record are kept. Every node shows the conflict; no clock decides it.",
    );
    let at = tour.cast.central.targets[0].clone();
    let read = tour.tourist.read(&at, &both.allergy).await?;
    for target in &tour.mesh.targets {
        let other = tour.tourist.read(target, &both.allergy).await?;
        ensure!(
            (other.conflict(), &other.body) == (read.conflict(), &read.body),
            "{} and {} do not show the same: {} and {}",
            at.name,
            target.name,
            read.conflict(),
            other.conflict()
        );
    }
    for version in [&both.region, &both.node] {
        ensure!(
            read.conflict().contains(version.as_str()),
            "{version} was acknowledged and is not shown: {}",
            read.conflict()
        );
    }
    let conflicts = tour.tourist.conflicts(&at, &both.allergy).await?;
    let conflict = conflicts.first().context("$conflicts does not list it")?;
    ensure!(conflict.heads.len() == 2, "{} versions stand, not two", conflict.heads.len());
    tour.stage.say(format!(
        "Chartmesh-Conflict: {}\nGET {}/$conflicts: kind {}",
        read.conflict(),
        conflict.resource,
        conflict.kind
    ));
    for head in &conflict.heads {
        tour.stage
            .say(format!("  {} by {} at {}, {}", head.version, head.node, head.site, head.at));
    }
    resolve(tour, both, read.conflict(), &read.body).await
}

/// A person decides, and sends all versions back that were shown.
async fn resolve(
    tour: &mut Tour<'_>,
    both: &BothSides,
    shown: &str,
    current: &[u8],
) -> anyhow::Result<()> {
    let at = tour.cast.central.targets[0].clone();
    let mut record: Value = serde_json::from_slice(current)?;
    record["criticality"] = json!("high");
    record["note"] = json!([{"text": "Anaphylaxis once, a rash at another time: both confirmed"}]);
    let resolved = tour.tourist.update(&at, &record, Some(shown)).await?;
    let started = Instant::now();
    for target in &tour.mesh.targets {
        loop {
            let read = tour.tourist.read(target, &both.allergy).await?;
            if read.version == resolved.version && read.conflict().is_empty() {
                break;
            }
            ensure!(
                started.elapsed() < ARRIVAL_WITHIN,
                "{} still shows the conflict: {}",
                target.name,
                read.conflict()
            );
            sleep(Duration::from_millis(2)).await;
        }
        let left = tour.tourist.conflicts(target, &both.allergy).await?;
        ensure!(left.is_empty(), "{} still lists the conflict", target.name);
    }
    let took = started.elapsed();
    tour.stage.say(format!(
        "A clinician reads both, and sends the record back with that header as If-Match:\n\
         {} follows both of them. After {} no node shows a conflict any more.",
        resolved.version,
        time(took)
    ));
    tour.stage.measured("The conflict is resolved: no node shows it after", time(took));
    Ok(())
}
