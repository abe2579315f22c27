//! This module counts what a load did and tells it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;

use super::limits::NAMED_FAILURES;

/// What a load did.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Summary {
    /// Where it went.
    pub(crate) to: Vec<String>,
    /// Resources that are there now because of it.
    pub(crate) resources: usize,
    /// The same by resource type.
    pub(crate) types: BTreeMap<String, Counts>,
    /// Bundles that were accepted.
    pub(crate) bundles: usize,
    /// Bundles that an earlier, interrupted run had brought there.
    pub(crate) bundles_done_before: usize,
    /// Resources in those bundles.
    pub(crate) resources_done_before: usize,
    /// How much was refused or could not be read.
    pub(crate) failed: usize,
    /// The first of them by name.
    pub(crate) failures: Vec<Failure>,
    /// Files that hold no FHIR.
    pub(crate) left_out: Vec<Failure>,
    /// Why the load stopped before its end.
    pub(crate) stopped: Option<String>,
    /// How long it took.
    pub(crate) seconds: f64,
    /// Resources per second.
    pub(crate) resources_per_second: f64,
}

/// What became of the resources of one type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Counts {
    /// New ones.
    pub(crate) created: usize,
    /// New versions.
    pub(crate) updated: usize,
    /// What was there already: matches of conditional creates.
    pub(crate) unchanged: usize,
    /// Deletions and reads.
    pub(crate) other: usize,
}

/// Something that was not loaded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Failure {
    /// The file, and the line or entry in it.
    pub(crate) place: String,
    /// Why.
    pub(crate) reason: String,
}

impl Summary {
    /// Whether everything that was to be loaded is there.
    pub(crate) fn complete(&self) -> bool {
        self.failed == 0 && self.stopped.is_none()
    }

    /// Whether there was anything to load.
    pub(crate) fn found_anything(&self) -> bool {
        self.bundles + self.bundles_done_before + self.failed > 0
    }

    pub(super) fn fail(&mut self, failure: Failure) {
        self.failed += 1;
        if self.failures.len() < NAMED_FAILURES {
            self.failures.push(failure);
        }
    }

    pub(super) fn finish(&mut self, elapsed: Duration) {
        self.seconds = elapsed.as_secs_f64();
        self.resources_per_second = self.resources as f64 / self.seconds.max(0.001);
    }

    /// The summary as it is read by people.
    pub(crate) fn text(&self) -> String {
        let mut out = String::new();
        if !self.types.is_empty() {
            self.write_types(&mut out);
        }
        if self.bundles_done_before > 0 {
            let (bundles, resources) = (self.bundles_done_before, self.resources_done_before);
            let _ =
                writeln!(out, "done by an earlier run: {resources} resources in {bundles} bundles");
        }
        for Failure { place, reason } in &self.left_out {
            let _ = writeln!(out, "left out: {place}: {reason}");
        }
        for Failure { place, reason } in &self.failures {
            let _ = writeln!(out, "failed: {place}: {reason}");
        }
        if self.failed > self.failures.len() {
            let _ = writeln!(out, "... and {} more failures", self.failed - self.failures.len());
        }
        if let Some(reason) = &self.stopped {
            let _ = writeln!(out, "stopped: {reason}");
        }
        let Self { resources, bundles, failed, seconds, resources_per_second, .. } = self;
        let _ = writeln!(
            out,
            "{resources} resources in {bundles} bundles, {failed} failed, in {seconds:.1} s: \
             {resources_per_second:.0} resources/s"
        );
        out
    }

    fn write_types(&self, out: &mut String) {
        let columns = ["created", "updated", "unchanged", "other"];
        let rows = self.types.iter().map(|(kind, counts)| (kind.as_str(), counts.columns()));
        let total = self.types.values().fold([0; 4], |sum, counts| {
            let row = counts.columns();
            std::array::from_fn(|column| sum[column] + row[column])
        });
        let shown: Vec<_> = (0..4).filter(|&column| column < 2 || total[column] > 0).collect();
        let _ = write!(out, "{:<28}", "");
        shown.iter().for_each(|&column| {
            let _ = write!(out, "{:>10}", columns[column]);
        });
        out.push('\n');
        for (kind, row) in rows.chain([("all", total)]) {
            let _ = write!(out, "{kind:<28}");
            shown.iter().for_each(|&column| {
                let _ = write!(out, "{:>10}", row[column]);
            });
            out.push('\n');
        }
    }
}

impl Counts {
    fn columns(self) -> [usize; 4] {
        [self.created, self.updated, self.unchanged, self.other]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_has_a_row_per_type_names_failures_and_hides_empty_columns() {
        let mut summary = Summary { resources: 3, bundles: 2, ..Summary::default() };
        let created = Counts { created: 2, updated: 1, ..Counts::default() };
        summary.types.insert("Patient".to_owned(), created);
        summary.fail(Failure { place: "a.json".to_owned(), reason: "broken".to_owned() });
        summary.finish(Duration::from_secs(2));

        let text = summary.text();

        let expected = "                               created   updated\n\
                        Patient                              2         1\n\
                        all                                  2         1\n\
                        failed: a.json: broken\n\
                        3 resources in 2 bundles, 1 failed, in 2.0 s: 2 resources/s\n";
        assert_eq!(text, expected);
        assert!(!summary.complete() && summary.found_anything());
        assert!(!Summary::default().found_anything());
    }
}
