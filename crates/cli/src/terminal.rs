//! This module writes to the terminal: results to standard output, the story meanwhile to standard
//! error, tables that are readable when they are piped too.

use std::fmt::Display;
use std::io::{self, Write as _};

use comfy_table::{Cell, ContentArrangement, Row, Table, presets};
use serde::Serialize;

/// Writes a result. A reader that has gone away (`| head`) is no failure.
pub(crate) fn print(text: impl Display) {
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}

/// Writes a result for a program.
pub(crate) fn print_json(value: &impl Serialize) -> anyhow::Result<()> {
    print(serde_json::to_string_pretty(value)?);
    Ok(())
}

/// Tells what happens, beside the result.
pub(crate) fn tell(text: impl Display) {
    let _ = writeln!(io::stderr().lock(), "{text}");
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
