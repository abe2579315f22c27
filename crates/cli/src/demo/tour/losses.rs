//! This module is the scenes in which a whole region is lost, and one site is cut off from everything.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::stage::time;
use super::tourist::Reply;
use super::traffic::observation;
use super::{ISOLATED_WITHIN, Tour};
use crate::mesh::Target;
use crate::status::grouped;

/// Between two reads at a node that is being cut off.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// What was written on both sides of a cut.
#[derive(Clone, Debug)]
pub(super) struct BothSides {
    /// The record that was changed on both.
    pub(super) allergy: String,
    /// Its version from the region.
    pub(super) region: String,
    /// Its version from the node that was cut off.
    pub(super) node: String,
    /// What else the node has written.
    pub(super) alone: String,
}

/// Kills every node of the first region. The second one reads and writes its patients.
pub(super) async fn region(tour: &mut Tour<'_>, patient: &str) -> anyhow::Result<String> {
    let central = tour.cast.central.clone();
    let names: Vec<&str> = central.targets.iter().map(|target| target.name.as_str()).collect();
    tour.stage.scene(format!(
        "All of {} is lost: kill -9 {}. Its patients are read and written in {}.",
        central.name,
        names.join(" "),
        tour.cast.pac.name
    ));
    for name in names {
        tour.processes.kill(name)?;
    }
    let killed = Instant::now();
    let pac = tour.cast.pac.targets[0].clone();
    for target in tour.mesh.targets.iter().filter(|target| !central.targets.contains(target)) {
        tour.tourist.read(target, patient).await?;
    }
    let read = tour.tourist.read(&pac, patient).await?;
    let mut record: Value = serde_json::from_slice(&read.body)?;
    record["telecom"] = json!([{"system": "phone", "use": "home", "value": "+81 3 5550 0100"}]);
    let updated = tour.tourist.update(&pac, &record, Some(&etag(&read.version))).await?;
    let since = killed.elapsed();
    let written = tour.tourist.create(&pac, &observation(patient)).await?;
    ensure!(
        updated.durability() == "region" && written.durability() == "region",
        "{} has not written in its region: {}",
        pac.name,
        updated.durability()
    );
    let elsewhere = tour.arrival(&tour.cast.eur.targets, &written).await?;
    tour.stage.say(format!(
        "Every other node still serves {patient}; {} in {}.\n\
         {} writes its new telephone number: {} becomes {}, in {}, {} after the kill.\n\
         {} writes a heart rate for it in {} (Chartmesh-Durability: {}), readable in {} after {}.\n\
         Chartmesh-As-Of there: {}",
        pac.name,
        time(read.took),
        pac.name,
        read.version,
        updated.version,
        time(updated.took),
        time(since),
        pac.name,
        time(written.took),
        written.durability(),
        tour.cast.eur.name,
        time(elsewhere),
        updated.as_of(),
    ));
    tour.stage.measured(
        format!(
            "{} is lost: a patient of it is written in {} after",
            central.name, tour.cast.pac.name
        ),
        time(since),
    );
    Ok(written.reference)
}

/// Cuts one node of the third region off. It goes on, alone; one record is changed on both sides.
pub(super) async fn site(
    tour: &mut Tour<'_>,
    patient: &str,
    allergy: &str,
) -> anyhow::Result<BothSides> {
    let (near, far) = (tour.cast.eur.targets[0].clone(), tour.cast.eur.targets[1].clone());
    tour.stage.scene(format!(
        "The site of {} ({}) is cut off from everything, as by `chartmesh links isolate {}`.",
        far.name, tour.cast.eur.sites[1], far.name
    ));
    let record = tour.tourist.read(&far, allergy).await?;
    tour.net.isolate(&far.name)?;
    let (noticed, reads) = alone(tour, &far, patient).await?;
    tour.stage.say(format!(
        "{} serves reads all the time: {} since then, none refused. After {} it goes on by itself\n\
         (Chartmesh-State: isolated).",
        far.name,
        grouped(reads),
        time(noticed)
    ));
    let alone = tour.tourist.create(&far, &observation(patient)).await?;
    ensure!(
        alone.durability() == "node" || alone.durability().starts_with("site"),
        "{} is cut off, and says of a write: {}",
        far.name,
        alone.durability()
    );
    tour.stage.say(format!(
        "A write there: acknowledged in {}, Chartmesh-Durability: {}.",
        time(alone.took),
        alone.durability()
    ));
    tour.stage
        .measured(format!("{} is cut off: it goes on by itself after", far.name), time(noticed));
    tour.stage.measured("A write there is acknowledged in", time(alone.took));

    let [node, region] = change(tour, &record, [&far, &near]).await?;
    ensure!(
        region.names(&far.name),
        "{} does not say that {} may be writing what has not arrived: {}",
        near.name,
        far.name,
        region.as_of()
    );
    ensure!(node.names(&far.name), "{} does not say that it is on its own", far.name);
    tour.stage.say(format!(
        "One and the same record, {allergy}, is changed on both sides. Both had read\n\
         {}. It is now {} at {}, {} at {}.\n\
         Chartmesh-As-Of at {}: {}\n\
         Chartmesh-As-Of at {}: {}",
        record.version,
        node.version,
        far.name,
        region.version,
        near.name,
        far.name,
        node.as_of(),
        near.name,
        region.as_of(),
    ));
    Ok(BothSides {
        allergy: allergy.to_owned(),
        region: region.version,
        node: node.version,
        alone: alone.reference,
    })
}

/// Reads at a node until it says that it is on its own: after how long, and how many reads.
async fn alone(tour: &Tour<'_>, node: &Target, patient: &str) -> anyhow::Result<(Duration, u64)> {
    let started = Instant::now();
    let _waiting = tour.stage.waiting(&format!("until {} notices that it is cut off", node.name));
    let mut reads = 0;
    loop {
        let read = tour.tourist.read(node, patient).await?;
        reads += 1;
        if read.state() == "isolated" {
            return Ok((started.elapsed(), reads));
        }
        ensure!(
            started.elapsed() < ISOLATED_WITHIN,
            "{} does not notice that it is cut off: {}",
            node.name,
            read.state()
        );
        sleep(LOOK_EVERY).await;
    }
}

/// Changes a record that both have read: at the node that is cut off, and in the region.
async fn change(
    tour: &Tour<'_>,
    read: &Reply,
    [far, near]: [&Target; 2],
) -> anyhow::Result<[Reply; 2]> {
    let versions = etag(&read.version);
    let mut record: Value = serde_json::from_slice(&read.body)?;
    record["criticality"] = json!("high");
    record["note"] = json!([{"text": format!("Anaphylaxis, treated at {}", far.name)}]);
    let node = tour.tourist.update(far, &record, Some(&versions)).await?;
    record["criticality"] = json!("low");
    record["note"] = json!([{"text": format!("Reports a rash only, asked at {}", near.name)}]);
    let region = tour.tourist.update(near, &record, Some(&versions)).await;
    Ok([node, region.context("the region goes on without the node")?])
}

/// A version as `If-Match` names it.
pub(super) fn etag(version: &str) -> String {
    format!("W/\"{version}\"")
}
