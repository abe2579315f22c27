//! This module shows how far a load is: a bar on a terminal, a line every few seconds elsewhere.

use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::Instant;

/// How often a line is written where there is no terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(5);

/// Whether progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Display {
    /// On the error output.
    Shown,
    /// Not at all.
    Hidden,
}

/// How far a load is.
#[derive(Debug)]
pub(super) struct Progress {
    read: Arc<AtomicU64>,
    size: u64,
    begun: Instant,
    shown: Shown,
}

#[derive(Debug)]
enum Shown {
    Bar(ProgressBar),
    Lines { next: Instant },
    Nothing,
}

impl Progress {
    /// A load of this many bytes, of which `read` are read.
    pub(super) fn new(display: Display, size: u64, read: Arc<AtomicU64>) -> Self {
        let shown = match display {
            Display::Hidden => Shown::Nothing,
            Display::Shown if std::io::stderr().is_terminal() => Shown::Bar(bar(size)),
            Display::Shown => Shown::Lines { next: Instant::now() + LINE_INTERVAL },
        };
        Self { read, size, begun: Instant::now(), shown }
    }

    /// Begins another reading of the sources.
    pub(super) fn pass(&mut self, what: &'static str) {
        self.read.store(0, Ordering::Relaxed);
        if let Shown::Bar(bar) = &self.shown {
            bar.set_prefix(what);
            bar.reset_eta();
        }
    }

    /// Shows how many resources are loaded.
    pub(super) fn show(&mut self, resources: usize) {
        let read = self.read.load(Ordering::Relaxed);
        let rate = resources as f64 / self.begun.elapsed().as_secs_f64().max(0.001);
        match &mut self.shown {
            Shown::Bar(bar) => {
                bar.set_position(read.min(self.size));
                bar.set_message(format!("{resources} resources, {rate:.0}/s"));
            }
            Shown::Lines { next } if *next <= Instant::now() => {
                *next = Instant::now() + LINE_INTERVAL;
                let percent = 100 * read / self.size.max(1);
                eprintln!("{resources} resources, {rate:.0}/s, {percent}% read");
            }
            Shown::Lines { .. } | Shown::Nothing => {}
        }
    }

    /// Says something without disturbing the bar.
    pub(super) fn note(&self, text: &str) {
        match &self.shown {
            Shown::Bar(bar) => bar.suspend(|| eprintln!("{text}")),
            Shown::Lines { .. } => eprintln!("{text}"),
            Shown::Nothing => {}
        }
    }

    /// Takes the bar away.
    pub(super) fn finish(&self) {
        if let Shown::Bar(bar) = &self.shown {
            bar.finish_and_clear();
        }
    }
}

fn bar(size: u64) -> ProgressBar {
    let template = "{prefix:11} [{bar:32}] {bytes}/{total_bytes}, {msg}, {eta} left";
    let style = ProgressStyle::with_template(template)
        .expect("the template is valid")
        .progress_chars("=> ");
    let bar = ProgressBar::new(size).with_style(style);
    bar.enable_steady_tick(Duration::from_millis(250));
    bar
}
