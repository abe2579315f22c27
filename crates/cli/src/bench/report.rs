//! This module tells what a benchmark has measured, as a table or as JSON.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;

use super::drive::{Measured, Plan};
use super::histogram::Histogram;

/// The result of a benchmark.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    /// The endpoints.
    pub(crate) to: Vec<String>,
    /// Requests a second that were due, in an open loop.
    pub(crate) rate: Option<f64>,
    /// How many connections.
    pub(crate) connections: usize,
    /// How long was measured.
    pub(crate) seconds: f64,
    /// Requests that succeeded, per second.
    pub(crate) requests_per_second: f64,
    /// Resources in them, per second.
    pub(crate) resources_per_second: f64,
    /// Times by kind of request.
    pub(crate) kinds: BTreeMap<String, Times>,
    /// What did not succeed: HTTP statuses, `connection`, `unanswered`, `unsent`.
    pub(crate) errors: BTreeMap<String, u64>,
    /// Processor cores that this client kept busy, where the system tells.
    pub(crate) client_cores: Option<f64>,
}

/// The times of one kind of request, in milliseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Times {
    /// How many succeeded.
    pub(crate) count: u64,
    /// The same per second.
    pub(crate) per_second: f64,
    /// Half of them took no longer.
    pub(crate) p50: f64,
    /// Nine in ten.
    pub(crate) p90: f64,
    /// 99 in 100.
    pub(crate) p99: f64,
    /// 999 in 1000.
    pub(crate) p999: f64,
    /// The longest.
    pub(crate) max: f64,
}

impl Times {
    fn new(histogram: &Histogram, seconds: f64) -> Self {
        let millis = |duration: Duration| (duration.as_secs_f64() * 1e6).round() / 1e3;
        Self {
            count: histogram.count(),
            per_second: histogram.count() as f64 / seconds,
            p50: millis(histogram.quantile(0.5)),
            p90: millis(histogram.quantile(0.9)),
            p99: millis(histogram.quantile(0.99)),
            p999: millis(histogram.quantile(0.999)),
            max: millis(histogram.max()),
        }
    }
}

impl Report {
    pub(super) fn new(plan: &Plan, measured: &Measured, client_cores: Option<f64>) -> Self {
        let seconds = plan.duration.as_secs_f64();
        let kinds: BTreeMap<_, _> = measured
            .times
            .iter()
            .map(|(kind, histogram)| (kind.to_string(), Times::new(histogram, seconds)))
            .collect();
        let refused = measured.refused.iter().map(|(status, count)| (status.to_string(), *count));
        let others = [
            ("connection", measured.broken),
            ("unanswered", measured.unanswered),
            ("unsent", measured.unsent),
        ];
        let others = others.map(|(name, count)| (name.to_owned(), count));
        Self {
            to: plan.to.iter().map(ToString::to_string).collect(),
            rate: plan.rate,
            connections: plan.connections,
            seconds,
            requests_per_second: kinds.values().map(|times| times.per_second).sum(),
            resources_per_second: measured.resources as f64 / seconds,
            kinds,
            errors: refused.chain(others).filter(|(_, count)| *count > 0).collect(),
            client_cores,
        }
    }

    /// Whether at least one request succeeded and none failed.
    pub(crate) fn is_clean(&self) -> bool {
        self.errors.is_empty() && !self.kinds.is_empty()
    }

    /// The report as it is read by people.
    pub(crate) fn text(&self) -> String {
        let mut out = String::new();
        let how = match self.rate {
            Some(rate) => format!("{rate} requests/s due, at most {} at a time", self.connections),
            None => format!("{} connections", self.connections),
        };
        let _ = writeln!(out, "{how}, {} s, to {}", self.seconds, self.to.join(" "));
        let _ = writeln!(
            out,
            "{:<12}{:>10}{:>12}{:>10}{:>10}{:>10}{:>10}{:>10}",
            "ms", "count", "per second", "p50", "p90", "p99", "p99.9", "max"
        );
        for (kind, times) in &self.kinds {
            let Times { count, per_second, p50, p90, p99, p999, max } = times;
            let _ = writeln!(
                out,
                "{kind:<12}{count:>10}{per_second:>12.0}{p50:>10.3}{p90:>10.3}{p99:>10.3}{p999:>10.3}{max:>10.3}"
            );
        }
        for (what, count) in &self.errors {
            let _ = writeln!(out, "failed: {what}: {count}");
        }
        let Self { requests_per_second, resources_per_second, .. } = self;
        let _ = write!(
            out,
            "{requests_per_second:.0} requests/s, {resources_per_second:.0} resources/s"
        );
        if let Some(cores) = self.client_cores {
            let _ = write!(out, ", this client: {cores:.2} cores");
        }
        out.push('\n');
        out
    }
}
