//! This module finds what is to be loaded and opens it down to plain text.
//!
//! Files and directories, compressed (gzip, bzip2, Zstandard) or not, and archives (tar) of such
//! files, however they lie within each other; told apart by their first bytes, read as a stream.

use std::fs::File;
use std::io::{self, Cursor, Read};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use super::limits::MAX_NESTING;

/// Something to load.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// A file, or a directory with all that is in it.
    Path(PathBuf),
    /// What a file of this name would hold.
    Memory {
        /// Its name.
        name: String,
        /// Its content.
        content: Bytes,
    },
}

/// One file, before it is opened.
#[derive(Clone, Debug)]
pub(super) struct Input {
    name: String,
    content: Content,
    size: u64,
}

#[derive(Clone, Debug)]
enum Content {
    File(PathBuf),
    Memory(Bytes),
}

/// A file that cannot be read to its end, or an archive.
#[derive(Debug, thiserror::Error)]
#[error("{name}: {source}")]
pub(super) struct Broken {
    pub(super) name: String,
    pub(super) source: io::Error,
}

/// The files that these sources name: directories in the order of their names, hidden files left
/// out.
pub(super) fn inputs(sources: &[Source]) -> Result<Vec<Input>, Broken> {
    let mut found = Vec::new();
    for source in sources {
        match source {
            Source::Path(path) => find(path, &mut found)
                .map_err(|source| Broken { name: path.display().to_string(), source })?,
            Source::Memory { name, content } => found.push(Input {
                name: name.clone(),
                size: content.len() as u64,
                content: Content::Memory(content.clone()),
            }),
        }
    }
    Ok(found)
}

fn find(path: &Path, found: &mut Vec<Input>) -> io::Result<()> {
    let metadata = path.metadata()?;
    if metadata.is_dir() {
        let mut paths = path
            .read_dir()?
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<io::Result<Vec<_>>>()?;
        paths.sort();
        let hidden = |path: &PathBuf| {
            path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
        };
        let looping = |path: &PathBuf| path.is_symlink() && path.is_dir();
        return paths
            .iter()
            .filter(|path| !hidden(path) && !looping(path))
            .try_for_each(|path| find(path, found));
    }
    found.push(Input {
        name: path.display().to_string(),
        size: metadata.len(),
        content: Content::File(path.to_owned()),
    });
    Ok(())
}

impl Input {
    /// How much there is to read, in bytes as it lies on the disk.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Shows every plain file in it to `show` until that breaks off. Only those that `wants` names
    /// are decompressed; what is read of the input itself is added to `read`.
    pub(super) fn open(
        &self,
        wants: &dyn Fn(&str) -> bool,
        read: &Arc<AtomicU64>,
        show: &mut dyn FnMut(&str, &mut dyn Read) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, Broken> {
        let broken = |source| Broken { name: self.name.clone(), source };
        let plain: Box<dyn Read> = match &self.content {
            Content::File(path) => Box::new(File::open(path).map_err(broken)?),
            Content::Memory(content) => Box::new(Cursor::new(content.clone())),
        };
        let counted = Counted { inner: plain, read: read.clone() };
        peel(&self.name, Box::new(counted), 0, wants, show)
    }
}

/// A reader that tells how far it is.
struct Counted {
    inner: Box<dyn Read>,
    read: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(into)?;
        self.read.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

/// How the bytes of a file are wrapped.
#[derive(Debug, PartialEq, Eq)]
enum Wrapping {
    Gzip,
    Bzip2,
    Zstandard,
    Tar,
    None,
}

impl Wrapping {
    /// The first bytes tell; an archive so old that it does not say so is told by its name.
    fn of(name: &str, head: &[u8]) -> Self {
        let tar =
            head.get(257..262) == Some(b"ustar") || (name.ends_with(".tar") && !is_json(head));
        match head {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [b'B', b'Z', b'h', b'1'..=b'9', ..] => Self::Bzip2,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::Zstandard,
            _ if tar => Self::Tar,
            _ => Self::None,
        }
    }
}

fn is_json(head: &[u8]) -> bool {
    head.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{')
}

fn peel(
    name: &str,
    mut reader: Box<dyn Read + '_>,
    depth: usize,
    wants: &dyn Fn(&str) -> bool,
    show: &mut dyn FnMut(&str, &mut dyn Read) -> ControlFlow<()>,
) -> Result<ControlFlow<()>, Broken> {
    let broken = |source| Broken { name: name.to_owned(), source };
    if depth > MAX_NESTING {
        return Err(broken(io::Error::other(format!("more than {MAX_NESTING} archives deep"))));
    }
    if !wants(name) {
        return Ok(ControlFlow::Continue(()));
    }
    let mut head = Vec::with_capacity(512);
    reader.by_ref().take(512).read_to_end(&mut head).map_err(broken)?;
    let wrapping = Wrapping::of(name, &head);
    let whole = Cursor::new(head).chain(reader);
    let inner: Box<dyn Read + '_> = match wrapping {
        Wrapping::Gzip => Box::new(flate2::read::MultiGzDecoder::new(whole)),
        Wrapping::Bzip2 => Box::new(bzip2::read::MultiBzDecoder::new(whole)),
        Wrapping::Zstandard => Box::new(zstd::Decoder::new(whole).map_err(broken)?),
        Wrapping::Tar => return unpack(name, Box::new(whole), depth, wants, show),
        Wrapping::None => {
            let mut whole = whole;
            return Ok(show(name, &mut whole));
        }
    };
    peel(&unwrapped(name), inner, depth + 1, wants, show)
}

fn unpack(
    name: &str,
    reader: Box<dyn Read + '_>,
    depth: usize,
    wants: &dyn Fn(&str) -> bool,
    show: &mut dyn FnMut(&str, &mut dyn Read) -> ControlFlow<()>,
) -> Result<ControlFlow<()>, Broken> {
    let broken = |source| Broken { name: name.to_owned(), source };
    let mut archive = tar::Archive::new(reader);
    for member in archive.entries().map_err(broken)? {
        let member = member.map_err(broken)?;
        let path = String::from_utf8_lossy(&member.path_bytes()).into_owned();
        let hidden = file_name(&path).starts_with('.');
        if hidden || !member.header().entry_type().is_file() {
            continue;
        }
        let inside = format!("{name}!{path}");
        if peel(&inside, Box::new(member), depth + 1, wants, show)?.is_break() {
            return Ok(ControlFlow::Break(()));
        }
    }
    Ok(ControlFlow::Continue(()))
}

/// The name without the ending that its wrapping gave it.
fn unwrapped(name: &str) -> String {
    if let Some(stem) = name.strip_suffix(".tgz") {
        return format!("{stem}.tar");
    }
    let endings = [".gz", ".bz2", ".zst", ".zstd"];
    endings.iter().find_map(|ending| name.strip_suffix(ending)).unwrap_or(name).to_owned()
}

/// The last part of a name: without directories and archives.
pub(super) fn file_name(name: &str) -> &str {
    name.rsplit(['/', '!']).next().unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        out.write_all(bytes).unwrap();
        out.finish().unwrap()
    }

    fn bzip2(bytes: &[u8]) -> Vec<u8> {
        let mut out = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
        out.write_all(bytes).unwrap();
        out.finish().unwrap()
    }

    fn zstandard(bytes: &[u8]) -> Vec<u8> {
        zstd::encode_all(bytes, 1).unwrap()
    }

    fn archive(members: &[(&str, Vec<u8>)]) -> Vec<u8> {
        let mut out = tar::Builder::new(Vec::new());
        for (path, content) in members {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            header.set_cksum();
            out.append_data(&mut header, path, content.as_slice()).unwrap();
        }
        out.into_inner().unwrap()
    }

    fn shown(name: &str, content: Vec<u8>) -> Vec<(String, String)> {
        let source = Source::Memory { name: name.to_owned(), content: content.into() };
        let mut found = Vec::new();
        for input in inputs(&[source]).unwrap() {
            let mut show = |name: &str, reader: &mut dyn Read| {
                found.push((name.to_owned(), io::read_to_string(reader).unwrap()));
                ControlFlow::Continue(())
            };
            let flow = input.open(&|_| true, &Arc::default(), &mut show).unwrap();
            assert!(flow.is_continue());
        }
        found
    }

    #[test]
    fn every_wrapping_is_told_by_its_first_bytes_whatever_the_name() {
        let text = br#"{"resourceType":"Patient"}"#;
        for (name, content, expect) in [
            ("a.json", text.to_vec(), "a.json"),
            ("a.json.gz", gzip(text), "a.json"),
            ("a.json.bz2", bzip2(text), "a.json"),
            ("a.json.zst", zstandard(text), "a.json"),
            ("a", zstandard(&bzip2(&gzip(text))), "a"),
            ("a.tgz", gzip(&archive(&[("d/b.json", text.to_vec())])), "a.tar!d/b.json"),
            ("misnamed.tar", text.to_vec(), "misnamed.tar"),
        ] {
            let expected = vec![(expect.to_owned(), String::from_utf8(text.to_vec()).unwrap())];
            assert_eq!(shown(name, content), expected, "{name}");
        }
    }

    #[test]
    fn archives_within_archives_are_opened_and_hidden_files_left_out() {
        let inner = zstandard(&archive(&[("x.ndjson.bz2", bzip2(b"{}")), ("._x.json", vec![1])]));
        let outer = archive(&[("one.json", b"{ }".to_vec()), ("sub/two.tar.zst", inner)]);

        let names: Vec<_> = shown("all.tar.gz", gzip(&outer)).into_iter().map(|(n, _)| n).collect();

        assert_eq!(names, ["all.tar!one.json", "all.tar!sub/two.tar!x.ndjson"]);
    }

    #[test]
    fn members_of_several_streams_one_after_the_other_are_all_read() {
        for twice in [
            [gzip(b"one "), gzip(b"two")].concat(),
            [bzip2(b"one "), bzip2(b"two")].concat(),
            [zstandard(b"one "), zstandard(b"two")].concat(),
        ] {
            assert_eq!(shown("x", twice), [("x".to_owned(), "one two".to_owned())]);
        }
    }

    #[test]
    fn what_nobody_wants_is_not_opened() {
        let content = archive(&[("a.json.gz", vec![0x1f, 0x8b, 0xff]), ("b.json", b"{}".to_vec())]);
        let source = Source::Memory { name: "t.tar".to_owned(), content: content.into() };
        let mut names = Vec::new();

        let flow = inputs(&[source]).unwrap()[0].open(
            &|name| !name.contains("a.json"),
            &Arc::default(),
            &mut |name, _| {
                names.push(name.to_owned());
                ControlFlow::Continue(())
            },
        );

        assert!(flow.unwrap().is_continue());
        assert_eq!(names, ["t.tar!b.json"]);
    }

    #[test]
    fn archives_deeper_than_the_limit_are_refused() {
        let mut content = b"{}".to_vec();
        for _ in 0..=MAX_NESTING + 1 {
            content = gzip(&content);
        }
        let source = Source::Memory { name: "deep".to_owned(), content: content.into() };

        let broken = inputs(&[source]).unwrap()[0]
            .open(&|_| true, &Arc::default(), &mut |_, _| ControlFlow::Continue(()))
            .unwrap_err();

        assert!(broken.to_string().contains("archives deep"), "{broken}");
    }

    #[test]
    fn a_directory_is_read_in_the_order_of_its_names() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("b")).unwrap();
        for name in ["c.json", "b/z.json", "a.json", ".hidden"] {
            std::fs::write(dir.path().join(name), "{}").unwrap();
        }

        let found = inputs(&[Source::Path(dir.path().to_owned())]).unwrap();

        let names: Vec<_> = found.iter().map(|input| file_name(&input.name)).collect();
        assert_eq!(names, ["a.json", "z.json", "c.json"]);
        assert!(inputs(&[Source::Path(dir.path().join("missing"))]).is_err());
    }
}
