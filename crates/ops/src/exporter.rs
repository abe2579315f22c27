//! This module keeps the process's metrics and writes them as Prometheus reads them.

use std::fmt;

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

/// The upper bounds of the buckets in which times are counted, in seconds.
const BUCKETS_S: [f64; 14] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

/// The process's metrics.
#[derive(Clone)]
pub struct Exporter(PrometheusHandle);

/// The metrics cannot be kept.
#[derive(Debug, thiserror::Error)]
#[error("metrics cannot be recorded: {0}")]
pub struct ExporterError(#[from] metrics_exporter_prometheus::BuildError);

impl Exporter {
    /// Begins to record. Once per process, before whatever counts.
    ///
    /// # Errors
    /// When something else records already.
    pub fn install() -> Result<Self, ExporterError> {
        Ok(Self(PrometheusBuilder::new().set_buckets(&BUCKETS_S)?.install_recorder()?))
    }

    /// One that nothing is recorded in: for processes that hold several nodes.
    #[must_use]
    pub fn detached() -> Self {
        Self(PrometheusBuilder::new().build_recorder().handle())
    }

    /// Sorts recorded times into their buckets. They take memory until then: call it every few
    /// seconds.
    pub fn upkeep(&self) {
        self.0.run_upkeep();
    }

    /// All metrics, in Prometheus' text format.
    pub(crate) fn render(&self) -> String {
        self.0.render()
    }
}

impl fmt::Debug for Exporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Exporter")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use metrics::{counter, histogram};

    #[test]
    fn what_is_counted_is_rendered_and_times_stand_in_buckets() {
        let exporter = Exporter::install().unwrap();
        counter!("chartmesh_tests_total", "kind" => "unit").increment(2);
        histogram!("chartmesh_test_seconds").record(0.002);
        exporter.upkeep();

        let text = exporter.render();

        assert!(text.contains(r#"chartmesh_tests_total{kind="unit"} 2"#), "{text}");
        assert!(text.contains(r#"chartmesh_test_seconds_bucket{le="0.0025"} 1"#), "{text}");
        assert!(Exporter::install().is_err());
    }
}
