//! This module writes gauges as Prometheus reads them, with what they mean.
//!
//! They are made from one look at the node and kept nowhere. So a feed that has ended, a node that
//! has left or an alarm that is over has no series any more, instead of one that stays at its last
//! value: Prometheus marks a series stale when the next look does not have it.

use std::fmt::Write;

/// A page of gauges.
#[derive(Debug, Default)]
pub(crate) struct Gauges(String);

impl Gauges {
    /// One value.
    pub(crate) fn one(&mut self, name: &str, help: &str, value: f64) {
        self.head(name, help);
        let _ = writeln!(self.0, "{name} {}", shown(value));
    }

    /// A value for each of these, told apart by one label.
    pub(crate) fn each<'v>(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        values: impl IntoIterator<Item = (&'v str, f64)>,
    ) {
        let mut values = values.into_iter().peekable();
        if values.peek().is_none() {
            return;
        }
        self.head(name, help);
        for (of, value) in values {
            let _ = writeln!(self.0, "{name}{{{label}=\"{}\"}} {}", escaped(of), shown(value));
        }
    }

    /// The page.
    pub(crate) fn finish(self) -> String {
        self.0
    }

    fn head(&mut self, name: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} gauge");
    }
}

fn shown(value: f64) -> String {
    if value == f64::INFINITY { "+Inf".to_owned() } else { value.to_string() }
}

/// What may stand between the quotes of a label.
fn escaped(text: &str) -> String {
    text.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gauges_are_written_as_prometheus_reads_them() {
        let mut gauges = Gauges::default();

        gauges.one("a", "What a is.", 3.0);
        gauges.each("b", "What b is.", "of", [("x", 0.5), ("\"\\\n", f64::INFINITY)]);
        gauges.each("c", "What c is.", "of", []);

        let expected = "# HELP a What a is.\n# TYPE a gauge\na 3\n\
                        # HELP b What b is.\n# TYPE b gauge\nb{of=\"x\"} 0.5\n\
                        b{of=\"\\\"\\\\\\n\"} +Inf\n";
        assert_eq!(gauges.finish(), expected);
    }
}
