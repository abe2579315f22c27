//! This module counts what the nodes of all tests count: nodes of different tests have different names.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use metrics::{
    Counter, CounterFn, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit,
};

use crate::mesh::lock;

type Counts = Arc<Mutex<BTreeMap<String, Arc<Count>>>>;

/// What was refused of a peer's, for a reason.
pub(crate) fn refused(peer: &str, reason: &str) -> u64 {
    let key = format!("chartmesh_mirror_refused_total peer={peer} reason={reason}");
    lock(counts()).get(&key).map_or(0, |count| count.0.load(Ordering::Relaxed))
}

/// Begins to count, in the first test that asks for it.
pub(crate) fn counts() -> &'static Counts {
    static COUNTS: OnceLock<Counts> = OnceLock::new();
    COUNTS.get_or_init(|| {
        let counts = Counts::default();
        metrics::set_global_recorder(Counting(Arc::clone(&counts))).expect("nobody else counts");
        counts
    })
}

struct Counting(Counts);

#[derive(Default)]
pub(crate) struct Count(AtomicU64);

impl CounterFn for Count {
    fn increment(&self, value: u64) {
        self.0.fetch_add(value, Ordering::Relaxed);
    }

    fn absolute(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }
}

impl Recorder for Counting {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        let mut labels: Vec<_> =
            key.labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
        labels.sort();
        let name = format!("{} {}", key.name(), labels.join(" "));
        Counter::from_arc(Arc::clone(lock(&self.0).entry(name).or_default()))
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}
