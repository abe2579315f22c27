//! This module reads records as they are kept beside the workspace: archives and lines, compressed.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use anyhow::Context;
use tar::Archive;

/// The file of an archive: its path, and its bytes.
pub type Document = (String, Vec<u8>);

/// The files of a `.tar.zst` whose names end so, in the order of their paths.
///
/// # Errors
/// The archive cannot be read.
pub fn documents(archive: &Path, ending: &str) -> anyhow::Result<Vec<Document>> {
    let file = File::open(archive).with_context(|| archive.display().to_string())?;
    let mut archive = Archive::new(zstd::Decoder::new(file)?);
    let mut documents = Vec::new();
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = entry.path()?.to_string_lossy().into_owned();
        if path.ends_with(ending) && entry.header().entry_type().is_file() {
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes)?;
            documents.push((path, bytes));
        }
    }
    documents.sort();
    Ok(documents)
}

/// The lines of a file, `.zst` or plain.
///
/// # Errors
/// The file cannot be read, or is not text.
pub fn lines(path: &Path) -> anyhow::Result<Vec<String>> {
    let file = File::open(path).with_context(|| path.display().to_string())?;
    let reader: Box<dyn BufRead> = if path.extension().is_some_and(|ending| ending == "zst") {
        Box::new(BufReader::new(zstd::Decoder::new(file)?))
    } else {
        Box::new(BufReader::new(file))
    };
    Ok(reader.lines().collect::<Result<_, _>>()?)
}

/// The text of a `.bz2`.
///
/// # Errors
/// The file cannot be read, or is not text.
pub fn bzip2(path: &Path) -> anyhow::Result<String> {
    let file = File::open(path).with_context(|| path.display().to_string())?;
    let mut text = String::new();
    bzip2::read::MultiBzDecoder::new(file).read_to_string(&mut text)?;
    Ok(text)
}
