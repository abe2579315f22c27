//! This module reads records as they are kept beside the workspace: archives and lines, compressed.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use anyhow::Context;
use tar::Archive;

/// The file of an archive: its name without folders, and its text.
pub type Document = (String, String);

/// The files of a `.tar.zst` that end so, in the order of their names.
///
/// # Errors
/// The archive cannot be read, or a file in it is not text.
pub fn documents(archive: &Path, ending: &str) -> anyhow::Result<Vec<Document>> {
    let file = File::open(archive).with_context(|| archive.display().to_string())?;
    let mut archive = Archive::new(zstd::Decoder::new(file)?);
    let mut documents = Vec::new();
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = entry.path()?.into_owned();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.ends_with(ending) && entry.header().entry_type().is_file() {
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes)?;
            let text = String::from_utf8(bytes).with_context(|| name.clone())?;
            documents.push((name, text));
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
