//! This module is the clients of a tour: writers that never give up, readers that count refusals.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow, ensure};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::tourist::{Tourist, created, said};
use crate::mesh::Target;

/// Writers at work at one time.
pub(super) const WRITERS: usize = 4;

/// Between two attempts at the same write, and between two reads.
const PAUSE: Duration = Duration::from_millis(10);

/// A write that is not accepted for so long is given up, and the tour with it.
const PERSISTENCE: Duration = Duration::from_secs(30);

/// Writers and readers at work.
pub(super) struct Traffic {
    stop: watch::Sender<bool>,
    writers: JoinSet<anyhow::Result<Vec<Accepted>>>,
    readers: JoinSet<Reads>,
}

/// A write that was acknowledged.
#[derive(Clone, Debug)]
struct Accepted {
    at: Instant,
    reference: String,
}

#[derive(Clone, Debug, Default)]
struct Reads {
    answered: u64,
    refused: u64,
    first_refusal: Option<String>,
}

/// What the writers and readers saw.
#[derive(Clone, Debug)]
pub(super) struct Observed {
    /// The resources that were acknowledged.
    pub(super) acknowledged: Vec<String>,
    /// Writes that were acknowledged before the kill.
    pub(super) writes_before: usize,
    /// Writes that were acknowledged after the kill.
    pub(super) writes_after: usize,
    /// The longest time without an acknowledged write, from the kill on.
    pub(super) longest_pause: Duration,
    /// Reads that were answered.
    pub(super) reads: u64,
    /// Reads that were not.
    pub(super) reads_refused: u64,
    /// What the first of them was told.
    pub(super) first_refusal: Option<String>,
}

impl Tourist {
    /// Writes one observation, at one node after the other until one acknowledges it. The key makes
    /// sure that it is written once.
    async fn insist(
        &self,
        targets: &[Target],
        patient: &str,
        which: usize,
    ) -> anyhow::Result<Accepted> {
        let key = HeaderValue::try_from(format!("tour-{:x}-{which}", self.tag))?;
        let headers =
            HeaderMap::from_iter([(header::HeaderName::from_static("idempotency-key"), key)]);
        let body = Bytes::from(observation(patient).to_string());
        let started = Instant::now();
        for target in targets.iter().cycle().skip(which) {
            let url = target.fhir.join("Observation");
            let sent = self.client.send(Method::POST, &url, headers.clone(), body.clone()).await;
            match sent {
                Ok(answer) if answer.status.is_success() => {
                    let reference =
                        created(&answer).context("an answer does not name what it created")?;
                    return Ok(Accepted { at: Instant::now(), reference });
                }
                Ok(answer) if answer.status.is_client_error() => {
                    return Err(anyhow!("{} refused a write: {}", target.name, said(&answer)));
                }
                Ok(_) | Err(_) => {}
            }
            ensure!(
                started.elapsed() < PERSISTENCE,
                "a write was not accepted for {PERSISTENCE:?}"
            );
            sleep(PAUSE).await;
        }
        Err(anyhow!("there is no node"))
    }

    async fn look(&self, target: &Target, patient: &str, reads: &mut Reads) {
        let refusal = match self.client.get(&target.fhir.join(patient)).await {
            Ok(answer) if answer.status == StatusCode::OK => {
                reads.answered += 1;
                return;
            }
            Ok(answer) => said(&answer),
            Err(error) => error.to_string(),
        };
        reads.refused += 1;
        reads.first_refusal.get_or_insert(format!("{}: {refusal}", target.name));
    }
}

impl Traffic {
    /// Lets writers write at `nodes` and readers read at `survivors`.
    pub(super) fn start(
        tourist: &Tourist,
        nodes: &[Target],
        survivors: &[Target],
        patient: &str,
    ) -> Self {
        let (stop, stopped) = watch::channel(false);
        let nodes: Arc<[Target]> = nodes.into();
        let mut writers = JoinSet::new();
        for writer in 0..WRITERS {
            let (tourist, nodes, patient) =
                (tourist.clone(), Arc::clone(&nodes), patient.to_owned());
            let stopped = stopped.clone();
            writers.spawn(async move {
                let mut accepted = Vec::new();
                while !*stopped.borrow() {
                    let which = writer + WRITERS * accepted.len();
                    accepted.push(tourist.insist(&nodes, &patient, which).await?);
                }
                Ok(accepted)
            });
        }
        let mut readers = JoinSet::new();
        for survivor in survivors {
            let (tourist, survivor, patient) =
                (tourist.clone(), survivor.clone(), patient.to_owned());
            let stopped = stopped.clone();
            readers.spawn(async move {
                let mut reads = Reads::default();
                while !*stopped.borrow() {
                    tourist.look(&survivor, &patient, &mut reads).await;
                    sleep(PAUSE).await;
                }
                reads
            });
        }
        Self { stop, writers, readers }
    }

    /// Lets everybody finish what is begun, and sums up.
    pub(super) async fn stop(self, killed: Instant) -> anyhow::Result<Observed> {
        self.stop.send_replace(true);
        let mut accepted = Vec::new();
        for writes in self.writers.join_all().await {
            accepted.extend(writes?);
        }
        accepted.sort_by_key(|accepted| accepted.at);
        let mut reads = Reads::default();
        for seen in self.readers.join_all().await {
            reads.answered += seen.answered;
            reads.refused += seen.refused;
            reads.first_refusal = reads.first_refusal.or(seen.first_refusal);
        }
        let before = accepted.partition_point(|accepted| accepted.at <= killed);
        let times = [killed].into_iter().chain(accepted[before..].iter().map(|write| write.at));
        let next = accepted[before..].iter().map(|write| write.at);
        Ok(Observed {
            writes_before: before,
            writes_after: accepted.len() - before,
            longest_pause: times.zip(next).map(|(a, b)| b - a).max().unwrap_or_default(),
            acknowledged: accepted.into_iter().map(|accepted| accepted.reference).collect(),
            reads: reads.answered,
            reads_refused: reads.refused,
            first_refusal: reads.first_refusal,
        })
    }
}

/// A heart rate.
pub(super) fn observation(patient: &str) -> Value {
    json!({
        "resourceType": "Observation",
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": "8867-4", "display": "Heart rate"}]},
        "subject": {"reference": patient},
        "valueQuantity": {
            "value": 72, "unit": "/min", "system": "http://unitsofmeasure.org", "code": "/min",
        },
    })
}
