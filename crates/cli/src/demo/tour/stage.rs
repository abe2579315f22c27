//! This module tells the story of a tour: scenes, what was seen in them, and a summary of what was
//! measured. Colours and moving things only where somebody looks at a terminal.

use std::fmt::Display;
use std::io::{self, IsTerminal as _};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::terminal;

const BOLD: &str = "\x1b[1m";
const PLAIN: &str = "\x1b[0m";

/// Where the story is told.
#[derive(Debug)]
pub(super) struct Stage {
    scenes: usize,
    measured: Vec<(String, String)>,
    bold: bool,
}

/// Something is waited for.
#[derive(Debug)]
pub(super) struct Waiting(Option<ProgressBar>);

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(spinner) = &self.0 {
            spinner.finish_and_clear();
        }
    }
}

impl Stage {
    pub(super) fn open(title: &str) -> Self {
        let bold = io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        let stage = Self { scenes: 0, measured: Vec::new(), bold };
        terminal::print(stage.strong(title));
        stage
    }

    /// Begins a scene.
    pub(super) fn scene(&mut self, title: impl Display) {
        self.scenes += 1;
        let title = format!("{}. {title}", self.scenes);
        terminal::print(format!("\n{}", self.strong(&title)));
    }

    /// Says what is seen, in lines below the title.
    pub(super) fn say(&self, text: impl Display) {
        for line in text.to_string().lines() {
            terminal::print(format!("   {line}").trim_end());
        }
    }

    /// Notes a figure for the summary.
    pub(super) fn measured(&mut self, what: impl Display, value: impl Display) {
        self.measured.push((what.to_string(), value.to_string()));
    }

    /// Shows what is waited for, until what comes back is dropped.
    pub(super) fn waiting(&self, what: &str) -> Waiting {
        Waiting(io::stderr().is_terminal().then(|| spinner(what)))
    }

    /// Ends the tour with what was measured in it.
    pub(super) fn close(self) {
        let mut table = terminal::table(["MEASURED", ""]);
        for (what, value) in &self.measured {
            table.add_row([what, value]);
        }
        terminal::print(format!("\n{}\n", self.strong("In short")));
        self.say(table);
        terminal::print("\nThe tour is over, and all went as it should.\n");
    }

    fn strong(&self, text: &str) -> String {
        if self.bold { format!("{BOLD}{text}{PLAIN}") } else { text.to_owned() }
    }
}

fn spinner(what: &str) -> ProgressBar {
    let style = ProgressStyle::with_template("   {spinner} {msg} {elapsed}");
    let style = style.expect("the template is valid");
    let spinner = ProgressBar::new_spinner().with_style(style).with_message(what.to_owned());
    spinner.enable_steady_tick(Duration::from_millis(100));
    spinner
}

/// A time as a person reads it.
pub(super) fn time(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    match seconds {
        ..0.1 => format!("{:.1} ms", seconds * 1_000.0),
        ..1.0 => format!("{:.0} ms", seconds * 1_000.0),
        _ => format!("{seconds:.1} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_the_unit_that_suits_it() {
        for (micros, text) in [(1_234, "1.2 ms"), (123_456, "123 ms"), (12_345_678, "12.3 s")] {
            assert_eq!(time(Duration::from_micros(micros)), text);
        }
    }
}
