//! This module does to the disk of a node that does not run what happens to disks: a power cut takes the
//! end of the state's write-ahead log, which is not synced; all is gone; old contents come back.
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

/// Removes everything.
pub(super) fn wipe(data: &Path) {
    if data.exists() {
        fs::remove_dir_all(data).expect("a folder can be removed");
    }
}

/// Copies everything, to be put back later.
pub(super) fn keep(data: &Path) {
    wipe(&kept(data));
    copy(data, &kept(data));
}

/// Puts back what was kept.
pub(super) fn set_back(data: &Path) {
    wipe(data);
    copy(&kept(data), data);
}

fn kept(data: &Path) -> PathBuf {
    data.with_extension("kept")
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder can be made");
    let Ok(entries) = fs::read_dir(from) else { return };
    for entry in entries {
        let path = entry.expect("a folder can be read").path();
        let target = to.join(path.file_name().expect("an entry has a name"));
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).expect("a file can be copied");
        }
    }
}

/// The write-ahead log with the greatest number.
fn newest_log(folder: &Path) -> Option<PathBuf> {
    let files = fs::read_dir(folder).ok()?.filter_map(|file| Some(file.ok()?.path()));
    let logs = files.filter(|path| path.extension().is_some_and(|ending| ending == "log"));
    logs.max()
}
