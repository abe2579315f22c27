//! This module makes backups of a node that runs, and puts one back onto an empty disk.
//!
//! ```text
//! data/state, data/log            what the node holds; what its region's Raft has promised
//! data/backups/NAME/state         a backup: what the node held at one moment
//! data/backups/NAME/backup.toml   of which node and when, how much, and its digest
//! ```
//! What Raft has promised is not part of a backup: a disk that is put back has forgotten what it promised
//! since, so it takes part as a new disk (decision 0015) and fetches what it lacks from the others.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use chartmesh_record::{NodeName, Timestamp};
use chartmesh_region::begin_as_new;
use chartmesh_store::{Memory, OpenError, Options, Report, StateDigest, Store};
use serde::{Deserialize, Serialize};

use crate::limits;

const FOLDER: &str = "backups";
const LABEL: &str = "backup.toml";

/// What stands beside a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupLabel {
    /// The node.
    pub node: String,
    /// When it was made, by the node's clock.
    pub made: String,
    /// The resources that live in it.
    pub resources: u64,
    /// The digest of all that is in it.
    pub digest: String,
}

/// A backup cannot be made or put back.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// Its name could be that of another place.
    #[error(
        "{name:?} is no name of a backup: letters, digits, dots, hyphens and underscores, 64 at the most"
    )]
    Name {
        /// The name.
        name: String,
    },
    /// Something stands in the way.
    #[error("{} is there already: {instead}", path.display())]
    InTheWay {
        /// What.
        path: PathBuf,
        /// What to do.
        instead: &'static str,
    },
    /// It is no backup.
    #[error("{} is no backup: {reason}", path.display())]
    None {
        /// The directory.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// What was put back is not what its label says.
    #[error("the backup is damaged: {0}")]
    Damaged(String),
    /// The disk refuses.
    #[error("{}: {reason}", path.display())]
    Disk {
        /// Where.
        path: PathBuf,
        /// Why.
        reason: io::Error,
    },
    /// The store cannot be copied or opened.
    #[error("{0}")]
    Store(String),
}

/// A backup that is being put back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restoring {
    /// So many bytes of so many are copied.
    Copied(u64, u64),
    /// So many resources are proven from the bytes.
    Proven(u64),
}

impl BackupError {
    fn disk(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |reason| Self::Disk { path, reason }
    }
}

/// Copies what a node holds now, under a name of its own.
pub(crate) fn make(
    store: &Store,
    node: &NodeName,
    name: &str,
    now: Timestamp,
) -> Result<(PathBuf, BackupLabel), BackupError> {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    let fits = (1..=64).contains(&name.len()) && !name.starts_with('.');
    if !(fits && name.bytes().all(is_part)) {
        return Err(BackupError::Name { name: name.to_owned() });
    }
    let dir = store.dir().join(FOLDER).join(name);
    if dir.exists() {
        return Err(BackupError::InTheWay { path: dir, instead: "give the backup another name" });
    }
    fs::create_dir_all(&dir).map_err(BackupError::disk(&dir))?;
    let made = store.checkpoint(&dir).map_err(|error| BackupError::Store(error.to_string()));
    let (standing, counts) = match made {
        Ok(held) => held,
        Err(error) => {
            let _ = fs::remove_dir_all(&dir);
            return Err(error);
        }
    };
    let label = BackupLabel {
        node: node.to_string(),
        made: now.to_string(),
        resources: counts.total().resources,
        digest: standing.digest.to_string(),
    };
    write_label(&dir, &label)?;
    Ok((dir, label))
}

fn write_label(dir: &Path, label: &BackupLabel) -> Result<(), BackupError> {
    let path = dir.join(LABEL);
    let text = toml::to_string(label).expect("a label has texts and a number");
    fs::write(&path, text).map_err(BackupError::disk(&path))?;
    let synced = File::open(&path).and_then(|file| file.sync_all());
    synced.map_err(BackupError::disk(&path))
}

/// Puts a backup back onto a disk that holds nothing, and proves it from its bytes.
///
/// # Errors
/// When it is no backup, is damaged, or the disk holds something.
pub fn restore(
    backup: &Path,
    data: &Path,
    mut progress: impl FnMut(Restoring),
) -> Result<BackupLabel, BackupError> {
    let none = |reason: String| BackupError::None { path: backup.to_owned(), reason };
    let label = backup.join(LABEL);
    let text = fs::read_to_string(&label).map_err(|error| none(format!("{LABEL}: {error}")))?;
    let label: BackupLabel = toml::from_str(&text).map_err(|error| none(error.to_string()))?;
    for part in ["state", "log"] {
        let path = data.join(part);
        if path.exists() {
            let instead = "a backup is put back where nothing is; move it away first";
            return Err(BackupError::InTheWay { path, instead });
        }
    }
    let to = data.join("state");
    let restored = copy(&backup.join("state"), &to, &mut progress)
        .and_then(|()| prove(data, &label, &mut progress));
    if restored.is_err() {
        let _ = fs::remove_dir_all(&to);
    }
    restored.map(|()| label)
}

fn copy(from: &Path, to: &Path, progress: &mut impl FnMut(Restoring)) -> Result<(), BackupError> {
    let files = fs::read_dir(from).map_err(BackupError::disk(from))?;
    let files: Vec<_> = files.collect::<Result<_, _>>().map_err(BackupError::disk(from))?;
    let length = |file: &fs::DirEntry| file.metadata().map_or(0, |it| it.len());
    let all: u64 = files.iter().map(length).sum();
    fs::create_dir_all(to).map_err(BackupError::disk(to))?;
    let mut copied = 0;
    for file in files {
        let target = to.join(file.file_name());
        copied += fs::copy(file.path(), &target).map_err(BackupError::disk(&target))?;
        let synced = File::open(&target).and_then(|file| file.sync_all());
        synced.map_err(BackupError::disk(&target))?;
        progress(Restoring::Copied(copied, all));
    }
    File::open(to).and_then(|dir| dir.sync_all()).map_err(BackupError::disk(to))
}

fn prove(
    data: &Path,
    label: &BackupLabel,
    progress: &mut impl FnMut(Restoring),
) -> Result<(), BackupError> {
    let memory = Memory::new(limits::CACHE_BYTES, limits::WRITE_BYTES);
    let store = Store::open(data, Options::new(memory))
        .map_err(|error: OpenError| BackupError::Damaged(error.to_string()))?;
    let progress = |report: &Report| progress(Restoring::Proven(report.resources));
    let report = store.deep_verify(progress);
    let report = report.map_err(|corrupt| BackupError::Damaged(corrupt.to_string()))?;
    if let Some(difference) = report.difference {
        return Err(BackupError::Damaged(difference.to_string()));
    }
    let digest: StateDigest = store.digest();
    if digest.to_string() != label.digest {
        let reason = format!("its digest is {digest}, its label says {}", label.digest);
        return Err(BackupError::Damaged(reason));
    }
    begin_as_new(&store).map_err(|error| BackupError::Store(error.to_string()))?;
    store.flush().map_err(|error| BackupError::Store(error.to_string()))
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    fn store(dir: &Path) -> Store {
        Store::open(dir, Options::new(Memory::new(1 << 20, 1 << 20))).unwrap()
    }

    fn backup(dir: &Path, name: &str) -> Result<(PathBuf, BackupLabel), BackupError> {
        make(&store(dir), &"pac-1".parse().unwrap(), name, Timestamp(0))
    }

    #[test]
    fn a_backup_is_put_back_where_nothing_is() {
        let (dir, other) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        let (path, label) = backup(dir.path(), "monday").unwrap();
        assert_eq!(path, dir.path().join("backups/monday"));

        let restored = restore(&path, other.path(), |_| {}).unwrap();

        assert_eq!(restored, label);
        assert_eq!(store(other.path()).digest().to_string(), label.digest);
        let again = restore(&path, other.path(), |_| {}).unwrap_err().to_string();
        assert!(again.contains("move it away first"), "{again}");
        let again = backup(dir.path(), "monday").unwrap_err().to_string();
        assert!(again.contains("another name"), "{again}");
    }

    #[test]
    fn what_is_no_backup_or_is_damaged_is_refused_and_leaves_nothing() {
        let (dir, other) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        let refused = |path: &Path| restore(path, other.path(), |_| {}).unwrap_err().to_string();
        assert!(refused(dir.path()).contains("is no backup"));
        let (path, label) = backup(dir.path(), "b").unwrap();
        write_label(&path, &BackupLabel { digest: "other".to_owned(), ..label }).unwrap();
        assert!(refused(&path).contains("its label says other"));
        assert!(!other.path().join("state").exists());
        fs::remove_file(path.join("state/CURRENT")).unwrap();
        assert!(refused(&path).contains("damaged"), "{}", refused(&path));
        for name in ["", ".", "..", "a/b", "a b", &"x".repeat(65)] {
            assert!(matches!(backup(dir.path(), name), Err(BackupError::Name { .. })), "{name}");
        }
    }
}
