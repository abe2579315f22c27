//! This module says why an input is refused, and where in it.

use std::fmt;

use crate::json::{Fault, InvalidJson, Kind, Position, Value};
use crate::limits;

/// An input that is refused: what is wrong, and where. At least one problem; the first ones only if
/// there are many.
#[derive(Clone, PartialEq, Eq)]
pub struct Invalid {
    problems: Vec<Problem>,
}

/// One thing that is wrong with an input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Of which sort it is.
    pub sort: ProblemSort,
    /// The element, such as `Patient.name[0].given[1]`; empty where there is none to name.
    pub path: String,
    /// Where it begins in the text: line and column, counted from 1; the column in characters.
    /// `None` if the text is not the client's.
    pub place: Option<(usize, usize)>,
    /// What is wrong, as a sentence for the client.
    pub reason: String,
}

/// The sort of a problem (FHIR R4, value set issue-type).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProblemSort {
    /// The text or the elements are not put together as they must be.
    Structure,
    /// An element that must be there is not.
    Required,
    /// A value is not of its type.
    Value,
    /// A code is not one of those allowed.
    Code,
    /// A rule about several elements is broken.
    Invariant,
    /// Two things that must differ are equal.
    Duplicate,
    /// A reference leads nowhere.
    NotFound,
    /// Right, but not offered here.
    NotSupported,
    /// More than is taken at once (413).
    TooMuch,
}

impl ProblemSort {
    /// The code in the value set.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Structure => "structure",
            Self::Required => "required",
            Self::Value => "value",
            Self::Code => "code-invalid",
            Self::Invariant => "invariant",
            Self::Duplicate => "duplicate",
            Self::NotFound => "not-found",
            Self::NotSupported => "not-supported",
            Self::TooMuch => "too-costly",
        }
    }
}

impl Problem {
    /// A problem with a value.
    pub(crate) fn with(value: Value<'_>, sort: ProblemSort, reason: String) -> Self {
        Self { sort, path: element_path(value), place: Some(value.position().into()), reason }
    }

    /// An object lacks a member of this name.
    pub(crate) fn lacking(object: Value<'_>, name: &str, reason: String) -> Self {
        let mut problem = Self::with(object, ProblemSort::Required, reason);
        if !problem.path.is_empty() {
            problem.path.push('.');
        }
        problem.path.push_str(name);
        problem
    }
}

/// The path of an element, such as `Patient.name[0].given[1]`, from the resource at the root on.
fn element_path(value: Value<'_>) -> String {
    let lineage = value.lineage();
    let named = lineage[0].member("resourceType").and_then(Value::string);
    let mut path = named.map(String::from).unwrap_or_default();
    for pair in lineage.windows(2) {
        let [parent, child] = pair else { continue };
        if parent.kind() == Kind::Array {
            let place = parent.children().take_while(|item| item.span() != child.span()).count();
            path.push_str(&format!("[{place}]"));
        } else {
            if !path.is_empty() {
                path.push('.');
            }
            path.push_str(&child.name());
        }
    }
    path
}

impl Invalid {
    /// The refusal for these problems, of which there is at least one.
    pub(crate) fn new(mut problems: Vec<Problem>) -> Self {
        assert!(!problems.is_empty(), "a refusal has a reason");
        problems.truncate(limits::MAX_PROBLEMS);
        Self { problems }
    }

    /// What is wrong.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// The same of a text that is not the client's: without places in it.
    #[must_use]
    pub fn unplaced(mut self) -> Self {
        self.problems.iter_mut().for_each(|problem| problem.place = None);
        self
    }

    /// Whether the input is refused for its size alone.
    #[must_use]
    pub fn is_too_much(&self) -> bool {
        self.problems.iter().all(|problem| problem.sort == ProblemSort::TooMuch)
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut problems = self.problems.iter();
        problems.next().map_or(Ok(()), |first| first.fmt(f))?;
        problems.try_for_each(|problem| write!(f, "; {problem}"))
    }
}

impl fmt::Debug for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Invalid {}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        if let Some((line, column)) = self.place {
            write!(f, "line {line}, column {column}: ")?;
        }
        f.write_str(&self.reason)
    }
}

impl From<InvalidJson> for Invalid {
    fn from(error: InvalidJson) -> Self {
        let sort = match error.fault {
            Fault::TooLong | Fault::TooManyValues => ProblemSort::TooMuch,
            _ => ProblemSort::Structure,
        };
        let place = Some(error.position.into());
        Self::new(vec![Problem {
            sort,
            path: String::new(),
            place,
            reason: error.fault.to_string(),
        }])
    }
}

impl From<Position> for (usize, usize) {
    fn from(position: Position) -> Self {
        (position.line, position.column)
    }
}
