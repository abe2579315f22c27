//! This module writes records of people who do not exist: patients of a few military hospitals, as
//! US Core describes them, each a transaction bundle of about a hundred resources.
//!
//! Everything follows from a seed: the same seed gives the same bytes, on any machine. The first
//! bundle holds what all patients share (organizations, locations, practitioners) under fixed ids;
//! patients refer to it by id, and to their own resources by `urn:uuid`.

mod catalogue;
mod chart;
mod facility;
mod laboratory;
mod medicine;
mod moment;
mod patient;
mod visit;

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use bytes::Bytes;
use rand::SeedableRng as _;
use rand::rngs::StdRng;

use self::chart::{Chart, Naming};

/// Write records of people who do not exist into files, a transaction bundle each.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Arguments {
    /// How many patients.
    #[arg(long, value_name = "N", default_value_t = 20)]
    patients: u32,
    /// What everything follows from: the same seed gives the same bytes.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The directory to write to.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

/// Runs the command.
pub(crate) fn command(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let Arguments { patients, seed, out } = arguments;
    fs::create_dir_all(out).with_context(|| format!("cannot make {}", out.display()))?;
    for Bundle { name, content } in (Population { seed: *seed, patients: *patients }).bundles() {
        let path = out.join(name);
        fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))?;
    }
    println!("{patients} patients in {}", out.display());
    Ok(ExitCode::SUCCESS)
}

/// People who do not exist.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Population {
    /// What everything follows from.
    pub(crate) seed: u64,
    /// How many people.
    pub(crate) patients: u32,
}

/// A transaction bundle in JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bundle {
    /// A file name: `0-facilities.json`, `patient-00001.json`.
    pub(crate) name: String,
    /// The bundle.
    pub(crate) content: Bytes,
}

impl Population {
    /// The shared bundle, then one per patient.
    pub(crate) fn bundles(self) -> impl Iterator<Item = Bundle> {
        std::iter::once(facilities()).chain((0..self.patients).map(move |number| Bundle {
            name: format!("patient-{:05}.json", number + 1),
            content: patient::chart(source(self.seed, number.into())).into_bundle(),
        }))
    }
}

/// What all patients share, under the same ids whatever the seed.
pub(crate) fn facilities() -> Bundle {
    Bundle { name: "0-facilities.json".to_owned(), content: facility::bundle() }
}

/// A patient of this id as a resource by itself.
pub(crate) fn person(seed: u64, number: u64, id: &str) -> Bytes {
    let body = patient::alone(source(seed, number));
    chart::resource_text("Patient", Some(id), &body).into()
}

/// One visit of a patient who is known already (`Patient/1`): some twenty resources to be created.
pub(crate) fn visit(seed: u64, number: u64, patient: &str) -> Bytes {
    let mut chart = Chart::of_known_patient(source(seed, number), patient, Naming::ByServer);
    let at = chart.recent_moment();
    visit::short(&mut chart, at);
    chart.into_bundle()
}

/// One vital sign of a patient who is known already, as a resource by itself; with the id, if one
/// is given.
pub(crate) fn vital_sign(seed: u64, number: u64, patient: &str, id: Option<&str>) -> Bytes {
    let mut chart = Chart::of_known_patient(source(seed, number), patient, Naming::ByServer);
    let at = chart.recent_moment();
    let body = visit::one_vital_sign(&mut chart, at);
    chart::resource_text("Observation", id, &body).into()
}

/// Randomness for the one of this number: it does not depend on how many there are.
fn source(seed: u64, number: u64) -> StdRng {
    StdRng::seed_from_u64(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ number)
}

#[cfg(test)]
mod tests;
