//! This module remembers which units of a load are done, so that a load that was interrupted goes
//! on where it stopped.
//!
//! A text file, one line a unit: the digest of its content, how many entries it had, and where its
//! first resource lies. The last of these is read back before the file is believed: a server that
//! has been emptied since then gets everything again.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::unit::Digest;

const TITLE: &str = "chartmesh load journal 1";

/// What is done, in memory and, if it has a file, on disk.
#[derive(Debug, Default)]
pub(super) struct Journal {
    done: HashMap<Digest, usize>,
    last_location: Option<String>,
    file: Option<(PathBuf, File)>,
}

impl Journal {
    /// A journal that ends with the process.
    pub(super) fn in_memory() -> Self {
        Self::default()
    }

    /// The journal in this file, which is made if need be. What is not a line of a journal is
    /// passed over: the last one may have been cut short.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir)?;
        }
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error),
        };
        if !text.is_empty() && !text.starts_with(TITLE) {
            return Err(io::Error::other("it is not the journal of a load"));
        }
        let mut file = OpenOptions::new().create(true).append(true).open(path)?;
        if text.is_empty() {
            writeln!(file, "{TITLE}")?;
        } else if !text.ends_with('\n') {
            writeln!(file)?;
        }
        let mut journal = Self { file: Some((path.to_owned(), file)), ..Self::default() };
        for (digest, entries, location) in text.lines().skip(1).filter_map(parse) {
            journal.done.insert(digest, entries);
            journal.last_location = location.or(journal.last_location);
        }
        Ok(journal)
    }

    /// How many units are done.
    pub(super) fn units(&self) -> usize {
        self.done.len()
    }

    /// Where the first resource of the unit lies that was done last.
    pub(super) fn last_location(&self) -> Option<&str> {
        self.last_location.as_deref()
    }

    /// How many entries this unit had, if it is done.
    pub(super) fn entries(&self, unit: Digest) -> Option<usize> {
        self.done.get(&unit).copied()
    }

    /// Notes that a unit is done.
    pub(super) fn add(
        &mut self,
        unit: Digest,
        entries: usize,
        location: Option<&str>,
    ) -> io::Result<()> {
        self.done.insert(unit, entries);
        if let Some((_, file)) = &mut self.file {
            let location =
                location.filter(|text| !text.contains(char::is_whitespace)).unwrap_or("-");
            file.write_all(format!("{unit} {entries} {location}\n").as_bytes())?;
        }
        Ok(())
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) -> io::Result<()> {
        self.done.clear();
        self.last_location = None;
        if let Some((_, file)) = &mut self.file {
            file.set_len(0)?;
            writeln!(file, "{TITLE}")?;
        }
        Ok(())
    }

    /// Removes the file: all is done.
    pub(super) fn remove(self) -> io::Result<()> {
        match self.file {
            Some((path, _)) => fs::remove_file(path),
            None => Ok(()),
        }
    }

    /// Where the file is.
    pub(super) fn path(&self) -> Option<&Path> {
        self.file.as_ref().map(|(path, _)| path.as_path())
    }
}

fn parse(line: &str) -> Option<(Digest, usize, Option<String>)> {
    let mut words = line.split(' ');
    let digest = Digest::parse(words.next()?)?;
    let entries = words.next()?.parse().ok()?;
    let location = words.next()?;
    Some((digest, entries, (location != "-").then(|| location.to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_done_is_known_after_a_restart_and_a_line_cut_short_is_not_believed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state/load.journal");
        let (one, two) = (Digest::of(&[b"one"]), Digest::of(&[b"two"]));
        let mut journal = Journal::open(&path).unwrap();
        journal.add(one, 3, Some("Patient/1")).unwrap();
        drop(journal);
        let mut text = fs::read_to_string(&path).unwrap();
        text.push_str(&two.to_string()[..20]);
        fs::write(&path, text).unwrap();

        let mut journal = Journal::open(&path).unwrap();

        assert_eq!((journal.entries(one), journal.entries(two)), (Some(3), None));
        assert_eq!(journal.last_location(), Some("Patient/1"));
        journal.add(two, 1, None).unwrap();
        drop(journal);
        let journal = Journal::open(&path).unwrap();
        assert_eq!((journal.units(), journal.last_location()), (2, Some("Patient/1")));
        journal.remove().unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn a_cleared_journal_is_empty_on_disk_too_and_other_files_are_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("load.journal");
        let mut journal = Journal::open(&path).unwrap();
        journal.add(Digest::of(&[b"one"]), 3, None).unwrap();
        journal.clear().unwrap();
        assert_eq!(Journal::open(&path).unwrap().units(), 0);

        fs::write(&path, "my diary").unwrap();
        assert!(Journal::open(&path).is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "my diary");
    }
}
