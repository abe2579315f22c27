//! This module takes from a crashed node's disk what a power cut would: the end of the state's
//! write-ahead log, which is not synced.
//!
//! What was queued for the Raft log and not synced is lost with the node itself.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// How much of the end may be lost.
const LOST_AT_MOST: u64 = 64 << 10;

/// Cuts a random part from the end of the newest write-ahead log of the state in this folder.
/// `share`, of one, is how much of what may be lost is.
pub(super) fn cut_power(data: &Path, share: f64) {
    let Some(newest) = newest_log(&data.join("state")) else { return };
    let Ok(file) = File::options().write(true).open(&newest) else { return };
    let length = file.metadata().map_or(0, |facts| facts.len());
    let lost = (length.min(LOST_AT_MOST) as f64 * share) as u64;
    file.set_len(length - lost).expect("a file can be cut");
}

/// The write-ahead log with the greatest number.
fn newest_log(folder: &Path) -> Option<PathBuf> {
    let files = fs::read_dir(folder).ok()?.filter_map(|file| Some(file.ok()?.path()));
    let logs = files.filter(|path| path.extension().is_some_and(|ending| ending == "log"));
    logs.max()
}
