//! This module reads JSON (RFC 8259) into a tree over the bytes it came from.
//!
//! Nothing is converted: strings and numbers stay ranges of the source, so that they can be written
//! again to the letter. The nodes of a document lie in one vector, in the order of the text; the
//! descendants of a node are the nodes between it and its `next`.
//!
//! Stricter than the RFC demands where a record could otherwise be read in two ways: no duplicate
//! names, no lone surrogates, no byte order mark; and with limits on depth and on names.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use crate::limits;

/// A parsed document.
pub(crate) struct Document<'s> {
    text: &'s str,
    nodes: Vec<Node>,
    /// No white space between tokens: any part can be copied as it is.
    minified: bool,
}

/// A value within a document.
#[derive(Clone, Copy)]
pub(crate) struct Value<'d> {
    document: &'d Document<'d>,
    index: u32,
}

/// What a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Null,
    Boolean,
    Number,
    String,
    Array,
    Object,
}

/// A place in a text, both counted from 1; columns in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Position {
    pub(crate) line: usize,
    pub(crate) column: usize,
}

/// The text is not JSON that can be taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {}, column {}: {fault}", position.line, position.column)]
pub(crate) struct InvalidJson {
    pub(crate) position: Position,
    pub(crate) fault: Fault,
}

/// What is wrong with a text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fault {
    #[error("not UTF-8")]
    Encoding,
    #[error("a byte order mark before the JSON")]
    ByteOrderMark,
    #[error("more than {} bytes of JSON", limits::MAX_JSON_BYTES)]
    TooLong,
    #[error("the JSON ends here, but {expected} is missing")]
    Ended { expected: &'static str },
    #[error("{found:?} where {expected} should be")]
    Unexpected { found: char, expected: &'static str },
    #[error("more text after the end of the JSON")]
    Trailing,
    #[error("a control character in a string must be escaped")]
    ControlCharacter,
    #[error("half of a surrogate pair, which is no character")]
    LoneSurrogate,
    #[error("the name {name:?} a second time in one object")]
    Duplicate { name: String },
    #[error("a name longer than {} bytes", limits::MAX_NAME_BYTES)]
    NameTooLong,
    #[error("more than {} members in one object", limits::MAX_MEMBERS)]
    TooManyMembers,
    #[error("more than {} values", limits::MAX_JSON_VALUES)]
    TooManyValues,
    #[error("nested deeper than {} levels", limits::MAX_JSON_DEPTH)]
    TooDeep,
}

/// One value, with its name if it is a member of an object. Ranges are bytes of the source.
#[derive(Clone, Copy)]
struct Node {
    kind: Kind,
    flags: u8,
    name_len: u16,
    name_at: u32,
    name_hash: u32,
    start: u32,
    end: u32,
    next: u32,
}

const VALUE_ESCAPED: u8 = 1;
const NAME_ESCAPED: u8 = 2;

/// A number by which names are looked up: equal for equal names, mostly different for others.
pub(crate) fn name_hash(name: &[u8]) -> u32 {
    let word = |bytes: &[u8]| {
        let mut padded = [0; 8];
        padded[..bytes.len()].copy_from_slice(bytes);
        u64::from_le_bytes(padded)
    };
    let (head, tail) = match (name.first_chunk(), name.last_chunk()) {
        (Some(&head), Some(&tail)) => (u64::from_le_bytes(head), u64::from_le_bytes(tail)),
        _ => (word(name), 0),
    };
    let mixed =
        (head ^ tail.rotate_left(23) ^ name.len() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 32) as u32
}

impl<'s> Document<'s> {
    /// Reads a text.
    pub(crate) fn parse(bytes: &'s [u8]) -> Result<Self, InvalidJson> {
        let fail =
            |text: &str, at: usize, fault| InvalidJson { position: position(text, at), fault };
        if bytes.len() > limits::MAX_JSON_BYTES {
            return Err(fail("", 0, Fault::TooLong));
        }
        let text = std::str::from_utf8(bytes).map_err(|error| {
            let valid = &bytes[..error.valid_up_to()];
            fail(std::str::from_utf8(valid).unwrap_or_default(), valid.len(), Fault::Encoding)
        })?;
        if text.starts_with('\u{feff}') {
            return Err(fail(text, 0, Fault::ByteOrderMark));
        }
        let nodes = Vec::with_capacity(bytes.len() / 32 + 8);
        let mut parser = Parser { text, bytes, at: 0, nodes, minified: true };
        match parser.document() {
            Ok(()) => Ok(Self { text, nodes: parser.nodes, minified: parser.minified }),
            Err((at, fault)) => Err(fail(text, at, fault)),
        }
    }

    /// The value that the text is.
    pub(crate) fn root(&self) -> Value<'_> {
        Value { document: self, index: 0 }
    }
}

impl fmt::Debug for Document<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Document").field("bytes", &self.text.len()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl<'d> Value<'d> {
    fn node(self) -> &'d Node {
        &self.document.nodes[self.index as usize]
    }

    /// What it is.
    pub(crate) fn kind(self) -> Kind {
        self.node().kind
    }

    /// Where it stands in the source, quotes and brackets included.
    pub(crate) fn span(self) -> Range<usize> {
        self.node().start as usize..self.node().end as usize
    }

    /// It as it stands in the source.
    pub(crate) fn text(self) -> &'d str {
        &self.document.text[self.span()]
    }

    /// The characters between the quotes, escapes as they stand; `None` if it is no string.
    pub(crate) fn raw_string(self) -> Option<&'d str> {
        let text = self.text();
        (self.kind() == Kind::String).then(|| &text[1..text.len() - 1])
    }

    /// The string; `None` if it is none.
    pub(crate) fn string(self) -> Option<Cow<'d, str>> {
        let raw = self.raw_string()?;
        Some(if self.is_escaped() { unescape(raw).into() } else { raw.into() })
    }

    /// Where a part of the string, given in bytes of what [`Self::string`] says, stands in the source.
    pub(crate) fn source_of(self, part: Range<usize>) -> Range<usize> {
        let (raw, first) = (self.raw_string().unwrap_or_default(), self.span().start + 1);
        if !self.is_escaped() {
            return first + part.start..first + part.end;
        }
        let place = |target: usize| {
            let (mut at, mut read) = (0, 0);
            while read < target {
                let (character, len) = if raw[at..].starts_with('\\') {
                    escape(&raw[at..])
                } else {
                    let character = raw[at..].chars().next().unwrap_or_default();
                    (character, character.len_utf8().max(1))
                };
                read += character.len_utf8();
                at += len;
            }
            first + at
        };
        place(part.start)..place(part.end)
    }

    /// Whether it is a string with an escape in it.
    pub(crate) fn is_escaped(self) -> bool {
        self.node().flags & VALUE_ESCAPED != 0
    }

    /// Its name; empty if it is not a member of an object.
    pub(crate) fn name(self) -> Cow<'d, str> {
        name_of(self.document.text, self.node())
    }

    /// The hash of its name.
    pub(crate) fn name_hash(self) -> u32 {
        self.node().name_hash
    }

    /// The items of an array or the members of an object, in the order of the text.
    pub(crate) fn children(self) -> impl Iterator<Item = Self> + Clone {
        let document = self.document;
        let end = self.node().next;
        let mut index = self.index + 1;
        std::iter::from_fn(move || {
            let child = (index < end).then_some(Value { document, index })?;
            index = child.node().next;
            Some(child)
        })
    }

    /// The member of this name.
    pub(crate) fn member(self, name: &str) -> Option<Self> {
        if self.kind() != Kind::Object {
            return None;
        }
        let hash = name_hash(name.as_bytes());
        self.children().find(|child| child.name_hash() == hash && child.name() == name)
    }

    /// Whether an array or object has nothing in it.
    pub(crate) fn is_empty(self) -> bool {
        self.node().next == self.index + 1
    }

    /// Where it begins.
    pub(crate) fn position(self) -> Position {
        position(self.document.text, self.node().start as usize)
    }

    /// The innermost value in it that holds this byte of the source, or it itself.
    pub(crate) fn at(self, byte: usize) -> Self {
        let mut value = self;
        while let Some(child) = value.children().find(|child| child.span().contains(&byte)) {
            value = child;
        }
        value
    }

    /// The values from the document's root down to and with this one.
    pub(crate) fn lineage(self) -> Vec<Self> {
        let mut lineage = vec![self.document.root()];
        while let Some(&last) = lineage.last().filter(|last| last.index != self.index) {
            let holds = |child: &Self| (child.index..child.node().next).contains(&self.index);
            let child = last.children().find(holds);
            lineage.push(child.expect("a node lies within its ancestors"));
        }
        lineage
    }
}

fn name_of<'s>(text: &'s str, node: &Node) -> Cow<'s, str> {
    let start = node.name_at as usize;
    let raw = &text[start..start + usize::from(node.name_len)];
    if node.flags & NAME_ESCAPED == 0 { raw.into() } else { unescape(raw).into() }
}

/// The line and column of a byte.
fn position(text: &str, at: usize) -> Position {
    let before = &text[..at];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    Position {
        line: 1 + before.bytes().filter(|&byte| byte == b'\n').count(),
        column: 1 + before[line_start..].chars().count(),
    }
}

/// The characters that a raw string stands for; it was checked when it was parsed.
pub(crate) fn unescape(raw: &str) -> String {
    let mut out = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let (character, len) = escape(&rest[at..]);
        out.push(character);
        rest = &rest[at + len..];
    }
    out.push_str(rest);
    out
}

/// The character that the escape at the beginning of this text stands for, and the escape's length.
fn escape(text: &str) -> (char, usize) {
    let unit = |at: usize| text.get(at..at + 4).and_then(|hex| u16::from_str_radix(hex, 16).ok());
    let simple = match text.as_bytes()[1] {
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        b'u' => {
            let units = [unit(2).unwrap_or_default(), unit(8).unwrap_or_default()];
            let first = char::decode_utf16(units).next().and_then(Result::ok);
            let character = first.unwrap_or(char::REPLACEMENT_CHARACTER);
            return (character, 6 * character.len_utf16());
        }
        plain => char::from(plain),
    };
    (simple, 2)
}

/// The reading of one text. A fault is named with the byte at which it was found.
struct Parser<'s> {
    text: &'s str,
    bytes: &'s [u8],
    at: usize,
    nodes: Vec<Node>,
    minified: bool,
}

type Parsed<T> = Result<T, (usize, Fault)>;

/// A string in the source: its characters between the quotes.
struct Scanned {
    range: Range<usize>,
    escaped: bool,
}

impl Parser<'_> {
    fn document(&mut self) -> Parsed<()> {
        self.skip_space();
        self.value(0, |_| {})?;
        self.skip_space();
        if self.at < self.bytes.len() { Err((self.at, Fault::Trailing)) } else { Ok(()) }
    }

    /// Reads one value; `name` sets the node's name. The next byte is its first.
    fn value(&mut self, depth: usize, name: impl FnOnce(&mut Node)) -> Parsed<()> {
        let start = self.at;
        let index = self.nodes.len();
        if index == limits::MAX_JSON_VALUES {
            return Err((start, Fault::TooManyValues));
        }
        let mut node = Node {
            kind: Kind::Null,
            flags: 0,
            name_len: 0,
            name_at: 0,
            name_hash: 0,
            start: start as u32,
            end: 0,
            next: 0,
        };
        name(&mut node);
        node.kind = match self.bytes.get(start) {
            Some(b'{') => Kind::Object,
            Some(b'[') => Kind::Array,
            Some(b'"') => Kind::String,
            Some(b'-' | b'0'..=b'9') => Kind::Number,
            Some(b't' | b'f') => Kind::Boolean,
            Some(b'n') => Kind::Null,
            _ => return Err(self.unexpected("a value")),
        };
        self.nodes.push(node);
        match node.kind {
            Kind::Object => self.object(depth + 1)?,
            Kind::Array => self.array(depth + 1)?,
            Kind::String => {
                if self.string()?.escaped {
                    self.nodes[index].flags |= VALUE_ESCAPED;
                }
            }
            Kind::Number => self.number()?,
            Kind::Boolean | Kind::Null => self.literal()?,
        }
        let next = self.nodes.len() as u32;
        let node = &mut self.nodes[index];
        node.end = self.at as u32;
        node.next = next;
        Ok(())
    }

    fn array(&mut self, depth: usize) -> Parsed<()> {
        self.enter(depth)?;
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(());
        }
        loop {
            self.value(depth, |_| {})?;
            self.skip_space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => break,
                _ => return Err(self.unexpected("a comma or the end of the array")),
            }
            self.skip_space();
        }
        self.at += 1;
        Ok(())
    }

    fn object(&mut self, depth: usize) -> Parsed<()> {
        self.enter(depth)?;
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(());
        }
        let first = self.nodes.len();
        let mut names = Names { first, count: 0, filter: 0 };
        loop {
            if self.peek() != Some(b'"') {
                return Err(self.unexpected("a name in quotes"));
            }
            let place = self.at;
            let name = self.string()?;
            let hash = self.new_name(&mut names, &name).map_err(|fault| (place, fault))?;
            self.skip_space();
            if self.peek() != Some(b':') {
                return Err(self.unexpected("a colon"));
            }
            self.at += 1;
            self.skip_space();
            self.value(depth, |node| {
                node.name_at = name.range.start as u32;
                node.name_len = name.range.len() as u16;
                node.name_hash = hash;
                node.flags = if name.escaped { NAME_ESCAPED } else { 0 };
            })?;
            self.skip_space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => break,
                _ => return Err(self.unexpected("a comma or the end of the object")),
            }
            self.skip_space();
        }
        self.at += 1;
        Ok(())
    }

    /// Goes past an opening bracket, at which the parser stands.
    fn enter(&mut self, depth: usize) -> Parsed<()> {
        if depth > limits::MAX_JSON_DEPTH {
            return Err((self.at, Fault::TooDeep));
        }
        self.at += 1;
        self.skip_space();
        Ok(())
    }

    /// The hash of a name that its object has not had yet.
    fn new_name(&self, names: &mut Names, scanned: &Scanned) -> Result<u32, Fault> {
        if scanned.range.len() > limits::MAX_NAME_BYTES {
            return Err(Fault::NameTooLong);
        }
        if names.count == limits::MAX_MEMBERS {
            return Err(Fault::TooManyMembers);
        }
        let raw = &self.text[scanned.range.clone()];
        let name: Cow<'_, str> = if scanned.escaped { unescape(raw).into() } else { raw.into() };
        let hash = name_hash(name.as_bytes());
        let bit = 1 << (hash % 64);
        if names.filter & bit != 0 && self.has_name(names.first, hash, &name) {
            return Err(Fault::Duplicate { name: name.into_owned() });
        }
        names.filter |= bit;
        names.count += 1;
        Ok(hash)
    }

    /// Whether one of the members from this node on has this name.
    fn has_name(&self, first: usize, hash: u32, name: &str) -> bool {
        let mut index = first;
        while let Some(node) = self.nodes.get(index) {
            if node.name_hash == hash && name_of(self.text, node) == name {
                return true;
            }
            index = node.next as usize;
        }
        false
    }

    /// Reads a string and its closing quote. The next byte is the opening one.
    fn string(&mut self) -> Parsed<Scanned> {
        self.at += 1;
        let start = self.at;
        let mut escaped = false;
        loop {
            self.skip_plain();
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') => {
                    escaped = true;
                    self.escape()?;
                }
                Some(0..0x20) => return Err((self.at, Fault::ControlCharacter)),
                Some(_) => self.at += 1,
                None => return Err(self.unexpected("the closing quote of a string")),
            }
        }
        let range = start..self.at;
        self.at += 1;
        Ok(Scanned { range, escaped })
    }

    /// Goes on to the next eight bytes that hold a quote, a backslash or a control character.
    fn skip_plain(&mut self) {
        const ONES: u64 = u64::from_le_bytes([1; 8]);
        const TOPS: u64 = ONES << 7;
        let zero = |word: u64| word.wrapping_sub(ONES) & !word & TOPS;
        while let Some(&chunk) = self.bytes[self.at..].first_chunk() {
            let word = u64::from_le_bytes(chunk);
            let control = word.wrapping_sub(ONES * 0x20) & !word & TOPS;
            let special = control | zero(word ^ (ONES * 0x22)) | zero(word ^ (ONES * 0x5c));
            if special != 0 {
                self.at += special.trailing_zeros() as usize / 8;
                return;
            }
            self.at += 8;
        }
    }

    /// Goes past an escape, at which the parser stands.
    fn escape(&mut self) -> Parsed<()> {
        let place = self.at;
        self.at += 1;
        match self.peek() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 1,
            Some(b'u') => {
                let first = self.code_unit()?;
                let lone = Err((place, Fault::LoneSurrogate));
                match first {
                    0xd800..0xdc00 if self.bytes[self.at..].starts_with(b"\\u") => {
                        self.at += 1;
                        if !(0xdc00..0xe000).contains(&self.code_unit()?) {
                            return lone;
                        }
                    }
                    0xd800..0xe000 => return lone,
                    _ => {}
                }
            }
            _ => return Err(self.unexpected("an escape that JSON knows")),
        }
        Ok(())
    }

    /// Reads `u` and four hexadecimal digits.
    fn code_unit(&mut self) -> Parsed<u32> {
        self.at += 1;
        let mut unit = 0;
        for _ in 0..4 {
            let digit = self.peek().and_then(|byte| char::from(byte).to_digit(16));
            let Some(digit) = digit else {
                return Err(self.unexpected("a hexadecimal digit"));
            };
            unit = unit * 16 + digit;
            self.at += 1;
        }
        Ok(unit)
    }

    fn number(&mut self) -> Parsed<()> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    /// Goes past at least one digit.
    fn digits(&mut self) -> Parsed<()> {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        if self.at == start { Err(self.unexpected("a digit")) } else { Ok(()) }
    }

    fn literal(&mut self) -> Parsed<()> {
        for literal in ["true", "false", "null"] {
            if self.bytes[self.at..].starts_with(literal.as_bytes()) {
                self.at += literal.len();
                return Ok(());
            }
        }
        Err(self.unexpected("a value"))
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn skip_space(&mut self) {
        let start = self.at;
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.peek() {
            self.at += 1;
        }
        self.minified &= self.at == start;
    }

    /// The fault that something else than what is expected stands here.
    fn unexpected(&self, expected: &'static str) -> (usize, Fault) {
        let fault = match self.text[self.at..].chars().next() {
            Some(found) => Fault::Unexpected { found, expected },
            None => Fault::Ended { expected },
        };
        (self.at, fault)
    }
}

/// The names that an object has had so far: those of the members from the node `first` on.
struct Names {
    first: usize,
    count: usize,
    /// A bit for each; if the bit of a name is not set, the name is new.
    filter: u64,
}

/// A writer of values without white space between tokens, strings and numbers to the letter.
#[derive(Debug)]
pub(crate) struct Minifier<'w> {
    /// What is written.
    pub(crate) out: Vec<u8>,
    /// Ranges of the source, in ascending order, whose place in what is written is wanted.
    wanted: &'w [Range<usize>],
    /// How many of them lie behind.
    passed: usize,
    /// Those that were written, by number, with their place.
    pub(crate) placed: Vec<(usize, Range<usize>)>,
}

impl<'w> Minifier<'w> {
    /// Writes after `out`, noting where these ranges of the source are written. Each lies within
    /// one string.
    pub(crate) fn new(out: Vec<u8>, wanted: &'w [Range<usize>]) -> Self {
        Self { out, wanted, passed: 0, placed: Vec::new() }
    }

    /// Writes a member of an object, name and value, after a comma unless it is the first.
    pub(crate) fn member(&mut self, member: Value<'_>, first: bool) {
        if !first {
            self.out.push(b',');
        }
        let node = member.node();
        let start = node.name_at as usize - 1;
        self.copy(member.document, start..start + usize::from(node.name_len) + 2);
        self.out.push(b':');
        self.value(member);
    }

    /// Writes a member of this plain name whose value is an array of these items.
    pub(crate) fn array(&mut self, name: &str, first: bool, items: &[Value<'_>]) {
        if !first {
            self.out.push(b',');
        }
        self.out.extend_from_slice(format!("\"{name}\":[").as_bytes());
        for (place, item) in items.iter().enumerate() {
            if place > 0 {
                self.out.push(b',');
            }
            self.value(*item);
        }
        self.out.push(b']');
    }

    /// Writes a value.
    pub(crate) fn value(&mut self, value: Value<'_>) {
        let (open, close) = match value.kind() {
            Kind::Object if !value.document.minified => (b'{', b'}'),
            Kind::Array if !value.document.minified => (b'[', b']'),
            _ => return self.copy(value.document, value.span()),
        };
        self.out.push(open);
        for (place, child) in value.children().enumerate() {
            if open == b'{' {
                self.member(child, place == 0);
            } else {
                if place > 0 {
                    self.out.push(b',');
                }
                self.value(child);
            }
        }
        self.out.push(close);
    }

    /// Writes a piece of the source as it is.
    fn copy(&mut self, document: &Document<'_>, piece: Range<usize>) {
        let written = self.out.len();
        self.out.extend_from_slice(&document.text.as_bytes()[piece.clone()]);
        while let Some(range) = self.wanted.get(self.passed) {
            if range.start >= piece.end {
                break;
            }
            if range.start >= piece.start {
                let place = written + range.start - piece.start;
                self.placed.push((self.passed, place..place + range.len()));
            }
            self.passed += 1;
        }
    }
}

#[cfg(test)]
mod tests;
