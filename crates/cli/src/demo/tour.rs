//! This module shows and measures what a mesh does when parts of it are lost: a leader, a region, a site.
//!
//! Each scene says what it saw. One that did not go as it should ends the tour as failed.

mod leader;
mod losses;
mod reunion;
mod stage;
mod tourist;
mod traffic;

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use chartmesh_link_proxy::Net;
use chartmesh_ops::Status;
use futures::future::join_all;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use self::stage::{Stage, time};
use self::tourist::{Reply, Tourist};
use super::processes::Processes;
use crate::cluster::Cluster;
use crate::mesh::{Mesh, Target};
use crate::status::grouped;
use crate::terminal;
use crate::verify;

/// How long a change may take to arrive at every node, and everything to come back.
const ARRIVAL_WITHIN: Duration = Duration::from_secs(15);
const BACK_WITHIN: Duration = Duration::from_secs(60);

/// How long a node may take to notice that it is cut off.
const ISOLATED_WITHIN: Duration = Duration::from_secs(20);

/// Between two looks for a change that is on its way.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// Who takes part, and where the story is told.
struct Tour<'t> {
    mesh: &'t Mesh,
    processes: &'t mut Processes,
    net: &'t Net,
    cast: Cast,
    tourist: Tourist,
    stage: Stage,
}

/// The three regions of the story.
#[derive(Clone, Debug)]
struct Cast {
    central: Region,
    pac: Region,
    eur: Region,
}

/// A region of the story.
#[derive(Clone, Debug)]
struct Region {
    name: String,
    targets: Vec<Target>,
    sites: Vec<String>,
}

/// Goes round.
pub(super) async fn tour(mesh: &Mesh, processes: &mut Processes, net: &Net) -> anyhow::Result<()> {
    let started = Instant::now();
    let cast = Cast::of(mesh, processes.cluster())?;
    let stage = Stage::open("A TOUR: what this mesh does when parts of it are lost");
    let mut tour = Tour { mesh, processes, net, cast, tourist: Tourist::new(), stage };
    let (patient, allergy) = everywhere(&mut tour).await?;
    leader::lost(&mut tour, &patient).await?;
    let elsewhere = losses::region(&mut tour, &patient).await?;
    let both = losses::site(&mut tour, &patient, &allergy).await?;
    reunion::everything_comes_back(&mut tour).await?;
    reunion::conflict(&mut tour, &both).await?;
    proof(&mut tour, &[patient, allergy, elsewhere, both.alone.clone()]).await?;
    tour.stage.measured("The whole tour", time(started.elapsed()));
    tour.stage.close();
    Ok(())
}

/// What is written in one region can be read in all.
async fn everywhere(tour: &mut Tour<'_>) -> anyhow::Result<(String, String)> {
    let Cast { central, pac, eur } = tour.cast.clone();
    let first = &central.targets[0];
    tour.stage
        .scene("Three regions, one set of records: what one region writes, every node serves.");
    let patient = tour.tourist.create(first, &person()).await?;
    let arrivals = [
        tour.arrival(&pac.targets, &patient),
        tour.arrival(&eur.targets, &patient),
        tour.arrival(&tour.mesh.targets, &patient),
    ];
    let [in_pac, in_eur, everywhere] = join_all(arrivals).await.try_into().expect("three");
    let (in_pac, in_eur, everywhere) = (in_pac?, in_eur?, everywhere?);
    let allergy = tour.tourist.create(first, &allergy(&patient.reference)).await?;
    tour.arrival(&tour.mesh.targets, &allergy).await?;
    tour.stage.say(format!(
        "{} is written at {} in {} (Chartmesh-Durability: {}).\n\
         Readable at every node of {} {} later, of {} {} later, everywhere {} later.",
        patient.reference,
        first.name,
        time(patient.took),
        patient.durability(),
        pac.name,
        time(in_pac),
        eur.name,
        time(in_eur),
        time(everywhere),
    ));
    tour.stage.measured("A write arrives at every node after", time(everywhere));
    resources(tour.mesh).await?;
    let picture = tour.picture().await?;
    tour.stage.say(format!("\n{picture}"));
    Ok((patient.reference, allergy.reference))
}

/// Everything that was acknowledged is everywhere, and each node computes it again from its disk.
async fn proof(tour: &mut Tour<'_>, acknowledged: &[String]) -> anyhow::Result<()> {
    tour.stage
        .scene("verify --deep: each node computes everything again from the bytes on its disk.");
    for target in &tour.mesh.targets {
        let lost = tour.tourist.missing(target, acknowledged).await;
        ensure!(lost.is_empty(), "{} does not have {}", target.name, lost.join(", "));
    }
    let verdict = verify::verify(tour.mesh, ARRIVAL_WITHIN, true).await?;
    let report = verify::report(&verdict);
    ensure!(verdict.equal, "{report}");
    tour.stage.say(report);
    Ok(())
}

impl Tour<'_> {
    /// How long after its acknowledgement the last of these nodes has a record.
    async fn arrival(&self, targets: &[Target], written: &Reply) -> anyhow::Result<Duration> {
        let started = Instant::now();
        let arrival = async |target: &Target| {
            while !self.tourist.can_read(target, &written.reference).await {
                ensure!(
                    started.elapsed() < ARRIVAL_WITHIN,
                    "{} does not have {} after {ARRIVAL_WITHIN:?}",
                    target.name,
                    written.reference
                );
                sleep(LOOK_EVERY).await;
            }
            Ok(started.elapsed())
        };
        let arrivals = join_all(targets.iter().map(arrival)).await;
        arrivals.into_iter().try_fold(Duration::ZERO, |last, next| Ok(last.max(next?)))
    }

    /// Each region: who leads it, what its nodes hold, and how fresh that is.
    async fn picture(&self) -> anyhow::Result<String> {
        let mut table =
            terminal::table(["REGION", "LEADER", "NODES", "CHANGES", "OLDEST AS OF", "DIGEST"]);
        for region in [&self.cast.central, &self.cast.pac, &self.cast.eur] {
            let seen = self.mesh.only(region.targets.clone()).ask().await;
            let statuses: Vec<Status> =
                seen.into_iter().filter_map(|seen| seen.status.ok()).collect();
            let one = statuses.first().context("no node answers")?;
            let feeds = statuses.iter().flat_map(|status| &status.horizon);
            let oldest = feeds.filter_map(|feed| feed.age).reduce(f64::max);
            table.add_row([
                region.name.clone(),
                one.leader.clone().unwrap_or_default(),
                statuses.len().to_string(),
                grouped(one.horizon.iter().map(|feed| feed.seq).sum()),
                oldest.map_or_else(|| "never".to_owned(), |age| format!("{age:.1} s ago")),
                one.digest.chars().take(16).collect(),
            ]);
        }
        Ok(table.to_string())
    }

    /// A process that has ended by itself ends the tour, with what it said.
    fn expect_all_run(&mut self) -> anyhow::Result<()> {
        self.processes.look()?;
        if let Some(node) = self.processes.ended().first() {
            bail!("{node} has ended; its log says:\n{}", self.processes.last_words(node));
        }
        Ok(())
    }
}

impl Cast {
    fn of(mesh: &Mesh, cluster: &Cluster) -> anyhow::Result<Self> {
        let mut regions: Vec<Region> = Vec::new();
        for (node, target) in cluster.nodes.iter().zip(&mesh.targets) {
            if regions.last().is_none_or(|region| region.name != node.region) {
                let name = node.region.clone();
                regions.push(Region { name, targets: Vec::new(), sites: Vec::new() });
            }
            let region = regions.last_mut().expect("there is one now");
            region.targets.push(target.clone());
            region.sites.push(node.site.clone());
        }
        let mut regions = regions.into_iter();
        let mut next = || regions.next().context("the tour needs three regions");
        Ok(Self { central: next()?, pac: next()?, eur: next()? })
    }
}

/// How far a node holds each feed.
fn held(status: &Status) -> Vec<(&str, u64)> {
    let mut held: Vec<_> =
        status.horizon.iter().map(|feed| (feed.origin.as_str(), feed.seq)).collect();
    held.sort_unstable();
    held
}

/// Whether these nodes hold the same.
fn agree(statuses: &[&Status]) -> bool {
    let same = |a: &Status, b: &Status| held(a) == held(b) && a.digest == b.digest;
    statuses.windows(2).all(|pair| same(pair[0], pair[1]))
}

/// How many resources there are, once all nodes hold the same.
async fn resources(mesh: &Mesh) -> anyhow::Result<u64> {
    let verdict = verify::verify(mesh, ARRIVAL_WITHIN, false).await?;
    ensure!(verdict.equal, "{}", verify::report(&verdict));
    verdict.nodes.first().map(|held| held.resources).context("there is no node")
}

fn person() -> Value {
    json!({
        "resourceType": "Patient",
        "active": true,
        "name": [{"family": "Tour", "given": ["Guide"]}],
    })
}

fn allergy(patient: &str) -> Value {
    let status = |kind: &str, code: &str| {
        let system = format!("http://terminology.hl7.org/CodeSystem/allergyintolerance-{kind}");
        json!({"coding": [{"system": system, "code": code}]})
    };
    json!({
        "resourceType": "AllergyIntolerance",
        "clinicalStatus": status("clinical", "active"),
        "verificationStatus": status("verification", "unconfirmed"),
        "criticality": "unable-to-assess",
        "code": {"text": "Penicillin"},
        "patient": {"reference": patient},
    })
}
