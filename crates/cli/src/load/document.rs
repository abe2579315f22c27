//! This module cuts a plain file into its JSON documents: one a line (NDJSON), or one in all.
//!
//! The ending tells (`.ndjson`, `.jsonl`); where it does not, a first line that is a whole JSON
//! value does.

use std::io::{self, BufRead, BufReader, Read};

use bytes::Bytes;
use serde::de::IgnoredAny;

use super::limits::MAX_DOCUMENT_BYTES;

/// How much of a file is looked at before it is read.
const HEAD_BYTES: usize = 128 * 1024;

/// One JSON document as it stands in its file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Document {
    /// Its line, where there is one document a line.
    pub(super) line: Option<u64>,
    /// Its text, not yet parsed.
    pub(super) text: Bytes,
}

/// Why there is no document.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unreadable {
    /// The file cannot be read further.
    #[error("cannot be read further: {0}")]
    File(#[from] io::Error),
    /// It begins with something else than a JSON object.
    #[error("not JSON")]
    NotJson,
    /// A document is longer than what is read.
    #[error("larger than {MAX_DOCUMENT_BYTES} bytes")]
    TooLarge,
}

enum Shape {
    Unknown,
    Lines,
    Done,
}

/// The documents of one file, in their order.
pub(super) struct Documents<'a> {
    reader: BufReader<&'a mut dyn Read>,
    shape: Shape,
    line: u64,
}

impl<'a> Documents<'a> {
    /// Reads a file of this name.
    pub(super) fn new(name: &str, reader: &'a mut dyn Read) -> Self {
        let reader = BufReader::with_capacity(HEAD_BYTES, reader);
        let shape = if is_ndjson(name) { Shape::Lines } else { Shape::Unknown };
        Self { reader, shape, line: 0 }
    }

    /// The first bytes of the file, which stay to be read.
    pub(super) fn head(&mut self) -> io::Result<&[u8]> {
        self.reader.fill_buf()
    }

    fn read_line(&mut self) -> Result<Option<Bytes>, Unreadable> {
        loop {
            let mut text = Vec::new();
            let limit = MAX_DOCUMENT_BYTES as u64 + 1;
            let count = self.reader.by_ref().take(limit).read_until(b'\n', &mut text)?;
            if count == 0 {
                return Ok(None);
            }
            if count > MAX_DOCUMENT_BYTES {
                return Err(Unreadable::TooLarge);
            }
            self.line += 1;
            if self.line == 1 && text.starts_with(b"\xef\xbb\xbf") {
                text.drain(..3);
            }
            if !text.trim_ascii().is_empty() {
                return Ok(Some(text.into()));
            }
        }
    }

    fn read_rest(&mut self, begun: Bytes) -> Result<Document, Unreadable> {
        self.shape = Shape::Done;
        let mut text = Vec::from(begun);
        let limit = (MAX_DOCUMENT_BYTES + 1).saturating_sub(text.len()) as u64;
        self.reader.by_ref().take(limit).read_to_end(&mut text)?;
        if text.len() > MAX_DOCUMENT_BYTES {
            return Err(Unreadable::TooLarge);
        }
        Ok(Document { line: None, text: text.into() })
    }

    fn read(&mut self) -> Result<Option<Document>, Unreadable> {
        let Some(text) = self.read_line()? else { return Ok(None) };
        if matches!(self.shape, Shape::Lines) {
            return Ok(Some(Document { line: Some(self.line), text }));
        }
        if text.trim_ascii_start().first() != Some(&b'{') {
            return Err(Unreadable::NotJson);
        }
        if serde_json::from_slice::<IgnoredAny>(&text).is_err() {
            return self.read_rest(text).map(Some);
        }
        self.shape = Shape::Lines;
        let alone = self.line == 1 && self.reader.fill_buf()?.is_empty();
        Ok(Some(Document { line: (!alone).then_some(self.line), text }))
    }
}

impl Iterator for Documents<'_> {
    type Item = Result<Document, Unreadable>;

    fn next(&mut self) -> Option<Self::Item> {
        if matches!(self.shape, Shape::Done) {
            return None;
        }
        let document = self.read().transpose();
        if !matches!(document, Some(Ok(_))) {
            self.shape = Shape::Done;
        }
        document
    }
}

/// Whether the name of a file says that it holds one document a line.
pub(super) fn is_ndjson(name: &str) -> bool {
    name.ends_with(".ndjson") || name.ends_with(".jsonl")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, content: &str) -> Vec<(Option<u64>, String)> {
        let mut reader = content.as_bytes();
        Documents::new(name, &mut reader)
            .map(|document| {
                let document = document.unwrap();
                (document.line, String::from_utf8(document.text.trim_ascii().to_vec()).unwrap())
            })
            .collect()
    }

    fn line(number: u64, text: &str) -> (Option<u64>, String) {
        (Some(number), text.to_owned())
    }

    #[test]
    fn ndjson_is_one_document_a_line_with_its_number() {
        let expected = [line(1, r#"{"a":1}"#), line(3, "{broken"), line(4, r#"{"b":2}"#)];
        assert_eq!(read("x.ndjson", "{\"a\":1}\n\n{broken\r\n{\"b\":2}"), expected);
    }

    #[test]
    fn a_first_line_that_is_a_whole_value_tells_ndjson_where_the_name_does_not() {
        assert_eq!(
            read("x", "{\"a\":1}\n{\"b\":2}\n"),
            [line(1, r#"{"a":1}"#), line(2, r#"{"b":2}"#)]
        );
    }

    #[test]
    fn anything_else_is_one_document_whatever_its_lines() {
        for text in ["{\n \"a\": [\n1]}", "{\"a\":1}", "{\"a\":"] {
            assert_eq!(read("x.json", text), [(None, text.to_owned())]);
        }
        assert_eq!(read("x.json", "\u{feff}{\"a\":1}\n"), [(None, r#"{"a":1}"#.to_owned())]);
        assert_eq!(read("empty.json", ""), []);
    }

    #[test]
    fn what_begins_as_something_else_is_not_json() {
        let mut reader = "# Title\n".as_bytes();
        let found: Vec<_> = Documents::new("README.md", &mut reader).collect();
        assert!(matches!(found[..], [Err(Unreadable::NotJson)]), "{found:?}");
    }
}
