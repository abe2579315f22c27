//! This module finds the places that a FHIRPath of a patch names (FHIRPath N1; FHIR R4, fhirpatch).
//!
//! Of the language it has what leads to places: names, `[n]`, `where(...)`, `first()`, `last()`,
//! `tail()`, `skip(n)`, `take(n)`, `single()`, `ofType(T)`, `as(T)`, `extension('url')`; and within
//! `where`: `=`, `!=`, `and`, `or`, `not()`, `exists()`, `empty()`, `startsWith`, `endsWith`,
//! `contains`, `$this`, texts, numbers, booleans and dates. What else is
//! asked for is refused when the patch is read.

use super::edit::{Json, Step};
use crate::kind::ResourceType;
use crate::limits;
use crate::tree::ElementType;

/// A path, from the resource on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Path(Vec<PathStep>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum PathStep {
    Name(Box<str>),
    Item(usize),
    Where(Test),
    Last,
    Skip(usize),
    Take(usize),
    Single,
    OfType(Box<str>),
}

/// What is asked of a place.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Test {
    Both(Box<Self>, Box<Self>),
    Either(Box<Self>, Box<Self>),
    Not(Box<Self>),
    Equals(Path, Box<str>),
    Exists(Path),
    /// A text of the path begins with, ends with or contains another.
    Text(Path, Part, Box<str>),
    /// The path leads to `true`.
    Holds(Path),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Start,
    End,
    Any,
}

/// A place in a resource, what stands there, and what that stands within.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) at: Vec<Step>,
    pub(super) kind: Option<ElementType>,
    pub(super) within: Option<ElementType>,
}

impl Path {
    /// Reads a path.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if text.len() > limits::MAX_PATH_BYTES {
            return Err(format!("a path has {} bytes at the most", limits::MAX_PATH_BYTES));
        }
        let mut parser = Parser { text, at: 0, depth: 0 };
        let path = parser.path()?;
        parser.space();
        if parser.at < text.len() { Err(parser.unexpected()) } else { Ok(path) }
    }

    /// The path to what this one stands in, and the name that it ends with.
    pub(super) fn split_name(&self) -> Option<(Self, &str)> {
        match self.0.split_last()? {
            (PathStep::Name(name), above) => Some((Self(above.to_vec()), name)),
            _ => None,
        }
    }

    /// The places that it names.
    pub(super) fn places(&self, kind: ResourceType, resource: &Json) -> Result<Vec<Place>, String> {
        let root = Place { at: Vec::new(), kind: Some(ElementType::of(kind)), within: None };
        let mut steps = &self.0[..];
        if let Some((PathStep::Name(name), rest)) = steps.split_first()
            && name.starts_with(char::is_uppercase)
        {
            if **name != *kind.as_str() && !matches!(&**name, "Resource" | "DomainResource") {
                return Err(format!("the path is one of {name}, the resource is a {kind}"));
            }
            steps = rest;
        }
        follow(steps, vec![root], resource)
    }

    /// The places from another one on.
    fn from(&self, place: &Place, resource: &Json) -> Result<Vec<Place>, String> {
        follow(&self.0, vec![place.clone()], resource)
    }
}

fn follow(steps: &[PathStep], from: Vec<Place>, resource: &Json) -> Result<Vec<Place>, String> {
    let mut places = from;
    for step in steps {
        places = match step {
            PathStep::Name(name) => {
                let below = places.iter().flat_map(|place| members(place, name, resource));
                below.collect()
            }
            PathStep::Item(number) => places.into_iter().nth(*number).into_iter().collect(),
            PathStep::Last => places.pop().into_iter().collect(),
            PathStep::Skip(count) => places.into_iter().skip(*count).collect(),
            PathStep::Take(count) => places.into_iter().take(*count).collect(),
            PathStep::Single if places.len() > 1 => {
                return Err(format!("single() meets {} elements", places.len()));
            }
            PathStep::Single => places,
            PathStep::Where(test) => {
                let mut kept = Vec::new();
                for place in places {
                    if test.holds(&place, resource)? {
                        kept.push(place);
                    }
                }
                kept
            }
            PathStep::OfType(name) => {
                places.retain(|place| is_of(place, name, resource));
                places
            }
        };
    }
    Ok(places)
}

impl Place {
    /// What stands there: of a resource, what it says it is.
    pub(super) fn type_in(&self, resource: &Json) -> Option<ElementType> {
        let named = resource.at(&self.at).and_then(|value| value.member("resourceType")?.text());
        named.and_then(|named| named.parse().ok().map(ElementType::of)).or(self.kind)
    }
}

/// The elements of this name at a place, one by one.
fn members(place: &Place, name: &str, resource: &Json) -> Vec<Place> {
    let Some(value) = resource.at(&place.at) else { return Vec::new() };
    let within = place.type_in(resource);
    let known = within.map(|kind| kind.element(name)).unwrap_or_default();
    let known = known.iter().map(|(name, kind)| (name.as_str(), Some(*kind)));
    let mut named: Vec<_> = known.filter(|(name, _)| value.member(name).is_some()).collect();
    if named.is_empty() && value.member(name).is_some() {
        named.push((name, None));
    }
    let mut below = Vec::new();
    for (name, kind) in named {
        let mut at = place.at.clone();
        at.push(Step::Member(name.into()));
        match value.member(name) {
            Some(Json::Array(items)) => below.extend((0..items.len()).map(|item| {
                let at = [&at[..], &[Step::Item(item)]].concat();
                Place { at, kind, within }
            })),
            _ => below.push(Place { at, kind, within }),
        }
    }
    below
}

/// Whether what stands at a place is of a type.
fn is_of(place: &Place, name: &str, resource: &Json) -> bool {
    place.type_in(resource).is_some_and(|own| own.name().eq_ignore_ascii_case(name))
}

impl Test {
    fn holds(&self, place: &Place, resource: &Json) -> Result<bool, String> {
        let text = |path: &Path| {
            let places = path.from(place, resource)?;
            let [place] = &places[..] else { return Ok(None) };
            Ok::<_, String>(resource.at(&place.at).and_then(Json::text))
        };
        Ok(match self {
            Self::Both(one, other) => {
                one.holds(place, resource)? && other.holds(place, resource)?
            }
            Self::Either(one, other) => {
                one.holds(place, resource)? || other.holds(place, resource)?
            }
            Self::Not(test) => !test.holds(place, resource)?,
            Self::Equals(path, sought) => text(path)?.is_some_and(|text| text == **sought),
            Self::Exists(path) => !path.from(place, resource)?.is_empty(),
            Self::Holds(path) => text(path)?.is_some_and(|text| text == "true"),
            Self::Text(path, part, sought) => text(path)?.is_some_and(|text| match part {
                Part::Start => text.starts_with(&**sought),
                Part::End => text.ends_with(&**sought),
                Part::Any => text.contains(&**sought),
            }),
        })
    }
}

/// Reads a path from a text.
struct Parser<'t> {
    text: &'t str,
    at: usize,
    /// How many conditions it is within.
    depth: usize,
}

/// What follows a path in a condition instead of another step of it.
enum Ending {
    None,
    Exists,
    Empty,
    Not,
    Text(Part, Box<str>),
}

impl<'t> Parser<'t> {
    fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    fn space(&mut self) {
        self.at = self.text.len() - self.rest().trim_start().len();
    }

    fn takes(&mut self, token: &str) -> bool {
        self.space();
        let takes = self.rest().starts_with(token);
        self.at += if takes { token.len() } else { 0 };
        takes
    }

    fn expect(&mut self, token: &str) -> Result<(), String> {
        if self.takes(token) { Ok(()) } else { Err(self.unexpected()) }
    }

    /// A word such as `and`, not the beginning of a longer one.
    fn takes_word(&mut self, word: &str) -> bool {
        self.space();
        let rest = self.rest().strip_prefix(word);
        let takes = rest
            .is_some_and(|rest| !rest.starts_with(|it: char| it.is_alphanumeric() || it == '_'));
        self.at += if takes { word.len() } else { 0 };
        takes
    }

    fn unexpected(&self) -> String {
        format!("the path cannot be read from {:?} on", self.rest())
    }

    fn path(&mut self) -> Result<Path, String> {
        let (path, ending) = self.path_with_ending()?;
        match ending {
            Ending::None => Ok(path),
            _ => Err(format!("the path {:?} leads to a truth, not to elements", self.text)),
        }
    }

    fn path_with_ending(&mut self) -> Result<(Path, Ending), String> {
        let mut steps = Vec::new();
        loop {
            if let Some(ending) = self.step(&mut steps)? {
                return Ok((Path(steps), ending));
            }
            while self.takes("[") {
                steps.push(PathStep::Item(self.number()?));
                self.expect("]")?;
            }
            if !self.takes(".") {
                return Ok((Path(steps), Ending::None));
            }
        }
    }

    /// One step; what ends the path, if that follows instead.
    fn step(&mut self, steps: &mut Vec<PathStep>) -> Result<Option<Ending>, String> {
        if self.takes_word("$this") {
            return if steps.is_empty() { Ok(None) } else { Err(self.unexpected()) };
        }
        let name = self.name()?;
        if !self.takes("(") {
            steps.push(PathStep::Name(name));
            return Ok(None);
        }
        let step = match &*name {
            "where" => PathStep::Where(self.condition()?),
            "first" => PathStep::Item(0),
            "last" => PathStep::Last,
            "tail" => PathStep::Skip(1),
            "skip" => PathStep::Skip(self.number()?),
            "take" => PathStep::Take(self.number()?),
            "single" => PathStep::Single,
            "ofType" | "as" => {
                let mut name = self.name()?;
                if self.takes(".") {
                    name = self.name()?;
                }
                PathStep::OfType(name)
            }
            "extension" => {
                steps.push(PathStep::Name("extension".into()));
                let url = Path(vec![PathStep::Name("url".into())]);
                PathStep::Where(Test::Equals(url, self.literal()?))
            }
            ending => {
                let ending = match ending {
                    "exists" if self.rest().trim_start().starts_with(')') => Ending::Exists,
                    "exists" => {
                        steps.push(PathStep::Where(self.condition()?));
                        Ending::Exists
                    }
                    "empty" => Ending::Empty,
                    "not" => Ending::Not,
                    "startsWith" => Ending::Text(Part::Start, self.literal()?),
                    "endsWith" => Ending::Text(Part::End, self.literal()?),
                    "contains" => Ending::Text(Part::Any, self.literal()?),
                    other => return Err(format!("{other}() is not known in the path of a patch")),
                };
                self.expect(")")?;
                return Ok(Some(ending));
            }
        };
        self.expect(")")?;
        steps.push(step);
        Ok(None)
    }

    fn name(&mut self) -> Result<Box<str>, String> {
        self.space();
        if self.takes("`") {
            let end = self.rest().find('`').ok_or_else(|| self.unexpected())?;
            let name = self.rest()[..end].into();
            self.at += end + 1;
            return Ok(name);
        }
        let is_part = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
        let end = self.rest().find(|it| !is_part(it)).unwrap_or(self.rest().len());
        let name = &self.rest()[..end];
        if name.is_empty() || name.starts_with(|first: char| first.is_ascii_digit()) {
            return Err(self.unexpected());
        }
        self.at += end;
        Ok(name.into())
    }

    fn number(&mut self) -> Result<usize, String> {
        self.space();
        let rest = self.rest();
        let end = rest.find(|it: char| !it.is_ascii_digit()).unwrap_or(rest.len());
        let number = rest[..end].parse().map_err(|_| self.unexpected())?;
        self.at += end;
        Ok(number)
    }

    fn condition(&mut self) -> Result<Test, String> {
        self.depth += 1;
        if self.depth > limits::MAX_PATH_DEPTH {
            return Err(format!(
                "conditions are nested {} deep at the most",
                limits::MAX_PATH_DEPTH
            ));
        }
        let mut test = self.conjunction()?;
        while self.takes_word("or") {
            test = Test::Either(Box::new(test), Box::new(self.conjunction()?));
        }
        self.depth -= 1;
        Ok(test)
    }

    fn conjunction(&mut self) -> Result<Test, String> {
        let mut test = self.term()?;
        while self.takes_word("and") {
            test = Test::Both(Box::new(test), Box::new(self.term()?));
        }
        Ok(test)
    }

    fn term(&mut self) -> Result<Test, String> {
        if self.takes("(") {
            let test = self.condition()?;
            self.expect(")")?;
            return Ok(match self.takes(".not()") {
                true => Test::Not(Box::new(test)),
                false => test,
            });
        }
        let (path, ending) = self.path_with_ending()?;
        let test = match ending {
            Ending::Exists => Test::Exists(path),
            Ending::Empty => Test::Not(Box::new(Test::Exists(path))),
            Ending::Not => Test::Not(Box::new(Test::Holds(path))),
            Ending::Text(part, text) => Test::Text(path, part, text),
            Ending::None if self.takes("!=") => {
                // What is not there is neither equal nor different.
                let differs = Test::Not(Box::new(Test::Equals(path.clone(), self.literal()?)));
                return Ok(Test::Both(Box::new(Test::Exists(path)), Box::new(differs)));
            }
            Ending::None if self.takes("=") => return Ok(Test::Equals(path, self.literal()?)),
            Ending::None => Test::Holds(path),
        };
        Ok(match self.takes(".not()") {
            true => Test::Not(Box::new(test)),
            false => test,
        })
    }

    /// A text in quotes, a number, a boolean, or a date after an `@`.
    fn literal(&mut self) -> Result<Box<str>, String> {
        self.space();
        if self.takes("'") {
            let mut text = String::new();
            let mut letters = self.rest().char_indices();
            while let Some((at, letter)) = letters.next() {
                match letter {
                    '\'' => {
                        self.at += at + 1;
                        return Ok(text.into());
                    }
                    '\\' => text.push(match letters.next().ok_or_else(|| self.unexpected())?.1 {
                        'n' => '\n',
                        'r' => '\r',
                        't' => '\t',
                        'f' => '\u{c}',
                        other => other,
                    }),
                    _ => text.push(letter),
                }
            }
            return Err("a text in the path does not end".to_owned());
        }
        let is_part = |letter: char| letter.is_ascii_alphanumeric() || "-+:.".contains(letter);
        let dated = self.takes("@");
        let rest = self.rest();
        let end = rest.find(|it| !is_part(it)).unwrap_or(rest.len());
        let word = &rest[..end];
        let is_number = word.trim_start_matches('-').starts_with(|it: char| it.is_ascii_digit());
        if !(is_number || (!dated && matches!(word, "true" | "false"))) {
            return Err(self.unexpected());
        }
        self.at += end;
        Ok(if dated { word.trim_start_matches('T').into() } else { word.into() })
    }
}
