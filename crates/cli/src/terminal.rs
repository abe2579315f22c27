//! This module writes to the terminal: results to standard output, the story meanwhile to standard
//! error, tables that are readable when they are piped too.

use std::env;
use std::fmt::Display;
use std::io::{self, IsTerminal as _, Write as _};

use comfy_table::{Cell, ContentArrangement, Row, Table, presets};
use serde::Serialize;

/// A command line that cannot be meant: exit code 2.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct WrongUsage(pub(crate) String);

/// Writes a result. A reader that has gone away (`| head`) is no failure.
pub(crate) fn print(text: impl Display) {
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}

/// Writes a result over the last one on a terminal, below it elsewhere.
///
/// # Errors
/// Nobody reads it any more.
pub(crate) fn redraw(text: impl Display) -> io::Result<()> {
    // The cursor at the start, then everything below it cleared.
    let clear = if io::stdout().is_terminal() { "\x1b[H\x1b[2J" } else { "" };
    let mut out = io::stdout().lock();
    writeln!(out, "{clear}{text}").and_then(|()| out.flush())
}

/// Whether results are shown in colours: to a person who has not declined them.
pub(crate) fn in_colour() -> bool {
    io::stdout().is_terminal() && env::var_os("NO_COLOR").is_none_or(|set| set.is_empty())
}

/// What somebody should see first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tone {
    /// As it should be.
    Good,
    /// On its way.
    Fair,
    /// Wrong.
    Bad,
    /// Beside the point.
    Quiet,
}

/// Text in the colour of a tone. Layout comes first: what colours it counts as characters.
pub(crate) fn paint(tone: Tone, text: &str) -> String {
    let code = match tone {
        Tone::Good => "32",
        Tone::Fair => "33",
        Tone::Bad => "1;31",
        Tone::Quiet => "2",
    };
    format!("\x1b[{code}m{text}\x1b[0m")
}

/// Writes a result for a program.
pub(crate) fn print_json(value: &impl Serialize) -> anyhow::Result<()> {
    print(serde_json::to_string_pretty(value)?);
    Ok(())
}

/// What went wrong, and why, and why that: a cause that is told already is not told twice.
pub(crate) fn explain(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

/// Tells what happens, beside the result.
pub(crate) fn tell(text: impl Display) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Asks a question that is answered by this text, to go on.
///
/// # Errors
/// Nobody can be asked.
pub(crate) fn agreed(question: &str, answer: &str) -> anyhow::Result<bool> {
    if !io::stdin().is_terminal() {
        anyhow::bail!("nobody can be asked here: --yes goes on without asking");
    }
    let mut err = io::stderr().lock();
    write!(err, "{question}")?;
    err.flush()?;
    let mut said = String::new();
    io::stdin().read_line(&mut said)?;
    Ok(said.trim() == answer)
}

/// A table without lines between its rows.
pub(crate) fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table
        .load_preset(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_header(Row::from(header.map(Cell::new).to_vec()));
    if let Some(column) = table.column_mut(0) {
        column.set_padding((0, 1));
    }
    table
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    #[test]
    fn a_cause_is_told_once() {
        let refused = || anyhow::anyhow!("the disk is full");

        let nested = Err::<(), _>(refused()).context("cannot write a").unwrap_err();
        let repeated =
            Err::<(), _>(refused()).context("cannot write a: the disk is full").unwrap_err();

        assert_eq!(explain(&nested), "cannot write a: the disk is full");
        assert_eq!(explain(&repeated), "cannot write a: the disk is full");
    }
}
