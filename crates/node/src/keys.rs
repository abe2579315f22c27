//! This module reads a TOML file key by key, so that every refusal names its line, and an unknown
//! key the nearest valid one.
//!
//! The keys that a reader asks for are the keys that a table may hold: there is no second list.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A file of settings or topology that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// What it says cannot be used.
    #[error("{}, {error}", path.display())]
    Invalid {
        /// Which file.
        path: PathBuf,
        /// Where and why not.
        error: ConfigError,
    },
}

impl ReadError {
    /// Reads a file and understands its text.
    pub(crate) fn read<T>(
        path: &Path,
        parse: impl FnOnce(&str) -> Result<T, ConfigError>,
    ) -> Result<T, Self> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| Self::Unreadable { path: path.to_owned(), source })?;
        parse(&text).map_err(|error| Self::Invalid { path: path.to_owned(), error })
    }
}

/// What in a file of settings or topology cannot be used, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct ConfigError {
    /// The line, counted from 1.
    pub line: usize,
    /// What is wrong there.
    pub problem: Problem,
}

/// What is wrong at a line of a file of settings or topology.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// Not TOML.
    #[error("this is not TOML: {0}")]
    Syntax(String),
    /// A key that means nothing here.
    #[error("unknown key `{key}` in {table}; {hint}")]
    UnknownKey {
        /// What was found.
        key: String,
        /// The table it was found in.
        table: String,
        /// What it may have been meant to be.
        hint: Hint,
    },
    /// A key that must be there.
    #[error("{table} lacks the key `{key}`{}", instead(.misspelt.as_deref()))]
    MissingKey {
        /// What was looked for.
        key: &'static str,
        /// The table it was looked for in.
        table: String,
        /// A key that is there instead.
        misspelt: Option<String>,
    },
    /// A value of another type.
    #[error("`{key}` in {table} must be {expected}, not {found}")]
    WrongType {
        /// Whose value it is.
        key: &'static str,
        /// The table that holds it.
        table: String,
        /// What is wanted.
        expected: &'static str,
        /// What was found.
        found: &'static str,
    },
    /// A value that does not mean anything.
    #[error("`{key}` in {table}: {reason}")]
    BadValue {
        /// Whose value it is.
        key: &'static str,
        /// The table that holds it.
        table: String,
        /// Why not.
        reason: String,
    },
    /// Entries that do not fit together.
    #[error("{0}")]
    Contradiction(String),
}

/// The keys that a table may hold, the one nearest to what was found first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hint(Vec<&'static str>);

fn instead(misspelt: Option<&str>) -> String {
    misspelt.map_or_else(String::new, |found| format!("; did you misspell it as `{found}`?"))
}

impl Hint {
    fn new(found: &str, mut known: Vec<&'static str>) -> Self {
        known.sort_by_key(|key| strsim::damerau_levenshtein(found, key));
        Self(known)
    }
}

impl fmt::Display for Hint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((nearest, others)) = self.0.split_first() else {
            return f.write_str("this table holds no keys");
        };
        write!(f, "did you mean `{nearest}`?")?;
        if !others.is_empty() {
            let others: Vec<String> = others.iter().map(|key| format!("`{key}`")).collect();
            write!(f, " (also valid: {})", others.join(", "))?;
        }
        Ok(())
    }
}

/// The text of a file, which turns places into lines.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Text<'i>(&'i str);

impl<'i> Text<'i> {
    /// Reads the whole file as one table.
    pub(crate) fn table(text: &'i str) -> Result<Table<'i>, ConfigError> {
        let source = Self(text);
        let root = DeTable::parse(text).map_err(|error| ConfigError {
            line: source.line(error.span().map_or(0, |span| span.start)),
            problem: Problem::Syntax(error.message().replace('\n', ", ")),
        })?;
        Ok(Table::new(source, "the file".to_owned(), 1, root.into_inner()))
    }

    fn line(self, place: usize) -> usize {
        let before = &self.0.as_bytes()[..place.min(self.0.len())];
        1 + before.iter().filter(|&&byte| byte == b'\n').count()
    }
}

/// A table that is being read: what is left at the end is unknown.
#[derive(Debug)]
pub(crate) struct Table<'i> {
    text: Text<'i>,
    name: String,
    line: usize,
    rest: DeTable<'i>,
    known: Vec<&'static str>,
}

/// A value of a table, not yet understood.
#[derive(Debug)]
pub(crate) struct Entry<'i> {
    text: Text<'i>,
    table: String,
    key: &'static str,
    line: usize,
    value: DeValue<'i>,
}

impl<'i> Table<'i> {
    fn new(text: Text<'i>, name: String, line: usize, rest: DeTable<'i>) -> Self {
        Self { text, name, line, rest, known: Vec::new() }
    }

    /// Where the table begins.
    pub(crate) fn line(&self) -> usize {
        self.line
    }

    /// The value of this key, if it is there.
    pub(crate) fn optional(&mut self, key: &'static str) -> Option<Entry<'i>> {
        self.known.push(key);
        let value = self.rest.remove(key)?;
        Some(Entry {
            text: self.text,
            table: self.name.clone(),
            key,
            line: self.text.line(value.span().start),
            value: value.into_inner(),
        })
    }

    /// The value of this key, which must be there.
    pub(crate) fn required(&mut self, key: &'static str) -> Result<Entry<'i>, ConfigError> {
        if let Some(entry) = self.optional(key) {
            return Ok(entry);
        }
        let mut others = self.rest.keys();
        let misspelt = others.find(|found| strsim::damerau_levenshtein(found.get_ref(), key) <= 2);
        let place = misspelt.map_or(self.line, |found| self.text.line(found.span().start));
        let misspelt = misspelt.map(|found| found.get_ref().to_string());
        let problem = Problem::MissingKey { key, table: self.name.clone(), misspelt };
        Err(ConfigError { line: place, problem })
    }

    /// Puts what the value of this key means into its place, if it is there.
    pub(crate) fn set<T>(
        &mut self,
        key: &'static str,
        place: &mut T,
        read: impl FnOnce(Entry<'i>) -> Result<T, ConfigError>,
    ) -> Result<(), ConfigError> {
        if let Some(entry) = self.optional(key) {
            *place = read(entry)?;
        }
        Ok(())
    }

    /// The table under this key; an empty one if it is not there.
    pub(crate) fn table(&mut self, key: &'static str) -> Result<Self, ConfigError> {
        match self.optional(key) {
            Some(entry) => entry.table(format!("[{key}]")),
            None => Ok(Self::new(self.text, format!("[{key}]"), self.line, DeTable::new())),
        }
    }

    /// The tables of this array of tables.
    pub(crate) fn tables(&mut self, key: &'static str) -> Result<Vec<Self>, ConfigError> {
        let Some(entry) = self.optional(key) else { return Ok(Vec::new()) };
        let wrong_type = entry.wrong_type("an array of tables");
        let Entry { text, table, value: DeValue::Array(items), .. } = entry else {
            return Err(wrong_type);
        };
        let item = |item: Spanned<DeValue<'i>>| {
            let line = text.line(item.span().start);
            let item = Entry { text, table: table.clone(), key, line, value: item.into_inner() };
            item.table(format!("[[{key}]]"))
        };
        items.into_iter().map(item).collect()
    }

    /// Refuses what was not asked for.
    pub(crate) fn finish(self) -> Result<(), ConfigError> {
        let first = self.rest.iter().min_by_key(|(key, _)| key.span().start);
        let Some((key, _)) = first else { return Ok(()) };
        let found = key.get_ref().to_string();
        let hint = Hint::new(&found, self.known);
        Err(ConfigError {
            line: self.text.line(key.span().start),
            problem: Problem::UnknownKey { key: found, table: self.name, hint },
        })
    }
}

impl<'i> Entry<'i> {
    /// Where the value stands.
    pub(crate) fn line(&self) -> usize {
        self.line
    }

    /// The value as text that means a `T`.
    pub(crate) fn parse<T: FromStr<Err: fmt::Display>>(self) -> Result<T, ConfigError> {
        let DeValue::String(text) = &self.value else { return Err(self.wrong_type("a string")) };
        text.parse().map_err(|error: T::Err| self.bad(error.to_string()))
    }

    /// The value as one of these words.
    pub(crate) fn word<T: Copy>(self, words: &[(&str, T)]) -> Result<T, ConfigError> {
        let DeValue::String(text) = &self.value else { return Err(self.wrong_type("a string")) };
        let found = words.iter().find(|(word, _)| word == text);
        found.map(|&(_, value)| value).ok_or_else(|| {
            let valid: Vec<String> = words.iter().map(|(word, _)| format!("{word:?}")).collect();
            self.bad(format!("{:?} is not one of {}", text.as_ref(), valid.join(", ")))
        })
    }

    /// The value as a number of at least one.
    pub(crate) fn count(self) -> Result<usize, ConfigError> {
        let DeValue::Integer(number) = &self.value else {
            return Err(self.wrong_type("a whole number"));
        };
        match usize::from_str_radix(number.as_str(), number.radix()) {
            Ok(count) if count > 0 => Ok(count),
            _ => Err(self.bad(format!("{number} is not a number from 1 upward"))),
        }
    }

    /// The value as a duration: a number and a unit, `"500ms"`, `"5s"`, `"10min"`, `"1h"`.
    pub(crate) fn duration(self) -> Result<Duration, ConfigError> {
        const UNITS: &[(&str, u64)] = &[("ms", 1), ("s", 1_000), ("min", 60_000), ("h", 3_600_000)];
        let amount = self.amount(UNITS, "\"500ms\", \"5s\", \"10min\" or \"1h\"")?;
        if amount == 0 {
            return Err(self.bad("must be longer than nothing".to_owned()));
        }
        Ok(Duration::from_millis(amount))
    }

    /// The value as a number of bytes: `"512MiB"`, `"2GiB"`, `"0B"`.
    pub(crate) fn bytes(self) -> Result<u64, ConfigError> {
        const UNITS: &[(&str, u64)] =
            &[("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40)];
        self.amount(UNITS, "\"512MiB\" or \"2GiB\"")
    }

    fn amount(&self, units: &[(&str, u64)], example: &str) -> Result<u64, ConfigError> {
        let DeValue::String(text) = &self.value else { return Err(self.wrong_type("a string")) };
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let unit = units.iter().find(|(name, _)| *name == unit.trim_start());
        let amount = number.parse::<u64>().ok().zip(unit);
        amount.and_then(|(number, (_, factor))| number.checked_mul(*factor)).ok_or_else(|| {
            self.bad(format!("{:?} is not a value such as {example}", text.as_ref()))
        })
    }

    fn table(self, name: String) -> Result<Table<'i>, ConfigError> {
        match self.value {
            DeValue::Table(rest) => Ok(Table::new(self.text, name, self.line, rest)),
            _ => Err(self.wrong_type("a table")),
        }
    }

    fn wrong_type(&self, expected: &'static str) -> ConfigError {
        let found = match self.value.type_str() {
            "array" => "an array",
            "integer" => "a number",
            "float" => "a number with a fraction",
            "boolean" => "true or false",
            "datetime" => "a date",
            "table" => "a table",
            _ => "a string",
        };
        let (key, table) = (self.key, self.table.clone());
        ConfigError { line: self.line, problem: Problem::WrongType { key, table, expected, found } }
    }

    fn bad(&self, reason: String) -> ConfigError {
        let (key, table) = (self.key, self.table.clone());
        ConfigError { line: self.line, problem: Problem::BadValue { key, table, reason } }
    }
}
