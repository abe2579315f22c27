//! This module reads the expressions of search parameters and walks resources along them.
//!
//! They are FHIRPath (FHIR R4, search, 3.1.1.7), of which search parameters use little: elements,
//! `as`, `where` with one comparison or one `resolve() is`, an index, `extension(url)`, and one
//! conjunction (`Patient.deceased`). Anything else is refused when it is read. An expression is
//! compiled for one type of resource, so that walking needs no types any more.

use std::fmt;

use chartmesh_record::{ElementType, FieldName, Node, ResourceType};

/// A compiled expression for resources of one type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Path {
    /// The alternatives, from the resource down.
    branches: Vec<Branch>,
    /// Whether the starting point itself is among what it leads to.
    here: Option<ElementType>,
}

/// One member on the way, and what comes after it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Branch {
    name: FieldName,
    kind: ElementType,
    /// The only item that is taken, if it is not all.
    only: Option<usize>,
    filters: Vec<Filter>,
    /// Empty at a leaf.
    next: Vec<Self>,
}

/// What an element must be to be taken.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Filter {
    /// The element at the end of these members has this text (`where(system = 'phone')`).
    Equals(Vec<FieldName>, String),
}

/// What all values of an expression must be references to (`where(resolve() is Patient)`).
pub(crate) type Target = Option<ResourceType>;

/// The expression cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expression {expression:?} cannot be used for {kind}: {reason}")]
pub(crate) struct InvalidExpression {
    /// The expression.
    pub(crate) expression: String,
    /// The type it was to be used for.
    pub(crate) kind: &'static str,
    /// What is wrong with it.
    pub(crate) reason: String,
}

/// A path as it is written, one step after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    /// A name: an element, or at the beginning a type.
    Name(String),
    /// `%resource`.
    Root,
    As(String),
    Index(usize),
    Equals(Vec<String>, String),
    ResolvesTo(String),
    Extension(String),
}

/// An alternative of an expression, compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Alternative {
    /// The way.
    pub(crate) path: Path,
    /// What its values must refer to.
    pub(crate) target: Target,
    /// Whether it begins at the resource although it stands within a component.
    pub(crate) from_root: bool,
}

/// What an expression is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Expression {
    /// Values at the ends of ways.
    Values(Vec<Alternative>),
    /// Whether there is a value at the end of a way that is not `false`.
    Truth(Path),
}

impl Expression {
    /// Compiles an expression for resources of a type.
    pub(crate) fn compile(kind: ResourceType, text: &str) -> Result<Self, InvalidExpression> {
        let refuse = |reason: String| InvalidExpression {
            expression: text.to_owned(),
            kind: kind.as_str(),
            reason,
        };
        if let Some(way) = truth(text) {
            let steps = Parser::new(way).path().map_err(&refuse)?;
            let alternative = compile(ElementType::of(kind), kind, &steps).map_err(&refuse)?;
            return Ok(Self::Truth(alternative.path));
        }
        Self::compile_at(ElementType::of(kind), kind, text).map(Self::Values)
    }

    /// Compiles an expression that begins at an element of this type.
    pub(crate) fn compile_at(
        start: ElementType,
        kind: ResourceType,
        text: &str,
    ) -> Result<Vec<Alternative>, InvalidExpression> {
        let refuse =
            |reason| InvalidExpression { expression: text.to_owned(), kind: kind.as_str(), reason };
        let paths = Parser::new(text).union().map_err(refuse)?;
        let alternatives = paths.iter().map(|steps| compile(start, kind, steps).map_err(refuse));
        alternatives.collect()
    }
}

/// The way in `way.exists() and way != false`.
fn truth(text: &str) -> Option<&str> {
    let (exists, differs) = text.split_once(" and ")?;
    let way = exists.trim().strip_suffix(".exists()")?;
    (differs.trim().strip_suffix("!= false")?.trim() == way).then_some(way)
}

fn compile(start: ElementType, kind: ResourceType, steps: &[Step]) -> Result<Alternative, String> {
    let (from_root, steps) = match steps {
        [Step::Root, rest @ ..] => (true, rest),
        [Step::Name(name), rest @ ..]
            if name == kind.as_str() || name == "Resource" || name == "DomainResource" =>
        {
            (false, rest)
        }
        steps => (false, steps),
    };
    let start = if from_root { ElementType::of(kind) } else { start };
    let (target, steps) = match steps.split_last() {
        Some((Step::ResolvesTo(name), rest)) => {
            let target = name.parse().map_err(|_| format!("there is no type {name}"))?;
            (Some(target), rest)
        }
        _ => (None, steps),
    };
    let here = steps.is_empty().then_some(start);
    let branches = branches(start, steps)?;
    if branches.is_empty() && here.is_none() {
        return Err("it leads to nothing".to_owned());
    }
    Ok(Alternative { path: Path { branches, here }, target, from_root })
}

/// The ways on from an element, by the steps that are left.
fn branches(start: ElementType, steps: &[Step]) -> Result<Vec<Branch>, String> {
    let Some((first, mut rest)) = steps.split_first() else { return Ok(Vec::new()) };
    let (name, mut filters) = match first {
        Step::Name(name) => (name.as_str(), Vec::new()),
        Step::Extension(url) => {
            ("extension", vec![Filter::Equals(vec![FieldName::new("url")], url.clone())])
        }
        other => return Err(format!("{other} cannot stand there")),
    };
    let mut members = start.element(name);
    if members.is_empty() {
        return Err(format!("{} has no element {name}", start.name()));
    }
    let mut only = None;
    while let Some((step, after)) = rest.split_first() {
        match step {
            Step::As(wanted) => members.retain(|(_, kind)| is_called(*kind, wanted)),
            Step::Index(index) => only = Some(*index),
            Step::Equals(way, text) => {
                let names = way.iter().map(|name| FieldName::new(name)).collect();
                filters.push(Filter::Equals(names, text.clone()));
            }
            Step::Name(_) | Step::Extension(_) => break,
            Step::Root | Step::ResolvesTo(_) => return Err(format!("{step} cannot stand there")),
        }
        rest = after;
    }
    let mut ways = Vec::new();
    for (name, kind) in members {
        // Of a choice, some types lack what follows.
        let next = match branches(kind, rest) {
            Ok(next) => next,
            Err(reason) if ways.is_empty() && start.element(name.as_str()).len() == 1 => {
                return Err(reason);
            }
            Err(_) => continue,
        };
        ways.push(Branch { name, kind, only, filters: filters.clone(), next });
    }
    Ok(ways)
}

/// Whether a type is meant by this name. Some expressions write `DateTime`.
fn is_called(kind: ElementType, name: &str) -> bool {
    kind.name().eq_ignore_ascii_case(name)
        || (name == "Quantity" && kind.name() == "SimpleQuantity")
        || (name == "date" && kind.name() == "dateTime")
}

impl Path {
    /// Gives every value that the path leads to, with its type.
    pub(crate) fn walk<'t>(&self, from: Node<'t>, found: &mut impl FnMut(Node<'t>, ElementType)) {
        if let Some(kind) = self.here {
            found(from, kind);
        }
        walk(&self.branches, from, found);
    }

    /// The types of the values it can lead to, each with the names of the members on the way.
    pub(crate) fn leaves(&self) -> Vec<(String, ElementType)> {
        let mut leaves: Vec<_> = self.here.map(|kind| (String::new(), kind)).into_iter().collect();
        collect_leaves(&self.branches, "", &mut leaves);
        leaves
    }

    /// The same path with those ends only that have a type which `keep` says yes to.
    pub(crate) fn ending_in(&self, keep: &impl Fn(ElementType) -> bool) -> Self {
        let here = self.here.filter(|&kind| keep(kind));
        Self { branches: prune(&self.branches, keep), here }
    }
}

fn walk<'t>(branches: &[Branch], from: Node<'t>, found: &mut impl FnMut(Node<'t>, ElementType)) {
    for branch in branches {
        let Some(member) = from.member(&branch.name) else { continue };
        for (place, item) in member.items().enumerate() {
            let taken = branch.only.is_none_or(|only| only == place)
                && branch.filters.iter().all(|filter| filter.admits(item));
            if taken && branch.next.is_empty() {
                found(item, branch.kind);
            } else if taken {
                walk(&branch.next, item, found);
            }
        }
    }
}

fn collect_leaves(branches: &[Branch], way: &str, leaves: &mut Vec<(String, ElementType)>) {
    for branch in branches {
        let way = format!("{way}.{branch}");
        if branch.next.is_empty() {
            leaves.push((way, branch.kind));
        } else {
            collect_leaves(&branch.next, &way, leaves);
        }
    }
}

fn prune(branches: &[Branch], keep: &impl Fn(ElementType) -> bool) -> Vec<Branch> {
    let kept = branches.iter().filter_map(|branch| {
        if branch.next.is_empty() {
            return keep(branch.kind).then(|| branch.clone());
        }
        let next = prune(&branch.next, keep);
        (!next.is_empty()).then(|| Branch { next, ..branch.clone() })
    });
    kept.collect()
}

impl Filter {
    fn admits(&self, item: Node<'_>) -> bool {
        let Self::Equals(way, text) = self;
        let end = way.iter().try_fold(item, |item, name| item.member(name));
        end.and_then(Node::text).is_some_and(|found| found == *text)
    }
}

impl fmt::Display for Branch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name.as_str())?;
        for Filter::Equals(way, text) in &self.filters {
            let way: Vec<_> = way.iter().map(FieldName::as_str).collect();
            write!(f, "({}={text})", way.join("."))?;
        }
        self.only.map_or(Ok(()), |only| write!(f, "[{only}]"))
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Root => f.write_str("%resource"),
            Self::As(kind) => write!(f, "as({kind})"),
            Self::Index(index) => write!(f, "[{index}]"),
            Self::Equals(way, text) => write!(f, "where({} = '{text}')", way.join(".")),
            Self::ResolvesTo(kind) => write!(f, "where(resolve() is {kind})"),
            Self::Extension(url) => write!(f, "extension('{url}')"),
        }
    }
}

/// Reads an expression.
struct Parser<'e> {
    rest: &'e str,
}

impl<'e> Parser<'e> {
    fn new(text: &'e str) -> Self {
        Self { rest: text }
    }

    /// `path | path | ...`, to the end.
    fn union(&mut self) -> Result<Vec<Vec<Step>>, String> {
        let mut paths = vec![self.path()?];
        while self.take("|") {
            paths.push(self.path()?);
        }
        if self.rest.trim().is_empty() { Ok(paths) } else { Err(self.unexpected()) }
    }

    fn path(&mut self) -> Result<Vec<Step>, String> {
        let mut steps = Vec::new();
        if self.take("(") {
            steps.extend(self.path()?);
            self.need(")")?;
        } else if self.take("%resource") {
            steps.push(Step::Root);
        } else {
            steps.push(self.step()?);
        }
        loop {
            if self.take(".") {
                steps.push(self.step()?);
            } else if self.take("[") {
                let digits = self.word();
                steps.push(Step::Index(digits.parse().map_err(|_| self.unexpected())?));
                self.need("]")?;
            } else if self.take("as ") {
                steps.push(Step::As(self.word().to_owned()));
            } else {
                return Ok(steps);
            }
        }
    }

    /// A name or a function.
    fn step(&mut self) -> Result<Step, String> {
        let word = self.word();
        if word.is_empty() {
            return Err(self.unexpected());
        }
        if !self.rest.starts_with('(') {
            return Ok(Step::Name(word.to_owned()));
        }
        self.need("(")?;
        let step = match word {
            "as" | "ofType" => Step::As(self.word().to_owned()),
            "extension" => Step::Extension(self.literal()?),
            "where" if self.take("resolve()") => {
                self.need("is")?;
                self.take(" ");
                Step::ResolvesTo(self.word().to_owned())
            }
            "where" => {
                let mut way = vec![self.word().to_owned()];
                while self.take(".") {
                    way.push(self.word().to_owned());
                }
                self.need("=")?;
                Step::Equals(way, self.literal()?)
            }
            other => return Err(format!("the function {other} is not one that is known here")),
        };
        self.need(")")?;
        Ok(step)
    }

    fn literal(&mut self) -> Result<String, String> {
        self.need("'")?;
        let (text, rest) = self.rest.split_once('\'').ok_or("a quote is not closed")?;
        self.rest = rest;
        Ok(text.to_owned())
    }

    fn word(&mut self) -> &'e str {
        self.rest = self.rest.trim_start();
        let is_end = |letter: char| !(letter.is_ascii_alphanumeric() || letter == '_');
        let end = self.rest.find(is_end).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word
    }

    fn take(&mut self, token: &str) -> bool {
        let Some(rest) = self.rest.trim_start().strip_prefix(token) else { return false };
        self.rest = rest;
        true
    }

    fn need(&mut self, token: &str) -> Result<(), String> {
        if self.take(token) {
            Ok(())
        } else {
            Err(format!("{token:?} is missing: {}", self.unexpected()))
        }
    }

    fn unexpected(&self) -> String {
        format!("{:?} is not understood", self.rest)
    }
}

#[cfg(test)]
mod tests {
    use chartmesh_record::Tree;

    use super::*;

    fn found(kind: &str, expression: &str, resource: &str) -> Vec<String> {
        let kind = kind.parse().expect("a type");
        let tree = Tree::parse(resource.as_bytes()).expect("JSON");
        let Ok(Expression::Values(alternatives)) = Expression::compile(kind, expression) else {
            panic!("{expression} is no list of ways")
        };
        let mut found = Vec::new();
        for alternative in alternatives {
            alternative.path.walk(tree.root(), &mut |node, kind| {
                let text = node.text().map_or_else(|| format!("{node:?}"), Into::into);
                found.push(format!("{}:{text}", kind.name()));
            });
        }
        found
    }

    #[test]
    fn ways_lead_through_choices_filters_and_indexes() {
        let observation = r#"{"valueQuantity":{"value":1},"component":[{"valueString":"x"}]}"#;
        let patient =
            r#"{"telecom":[{"system":"phone","value":"1"},{"system":"email","value":"2"}]}"#;
        let check = |kind, expression, resource, expected: &[&str]| {
            assert_eq!(found(kind, expression, resource), expected, "{expression}");
        };

        check(
            "Observation",
            "(Observation.value as Quantity) | (Observation.component.value as string)",
            observation,
            &[r#"Quantity:{"value":1}"#, "string:x"],
        );
        check("Observation", "Observation.value.as(DateTime)", observation, &[]);
        check("Patient", "Patient.telecom.where(system='phone').value", patient, &["string:1"]);
        check("Patient", "Patient.telecom[1].value", patient, &["string:2"]);
        let raced = r#"{"extension":[{"url":"race","extension":[{"url":"a","valueCoding":{"code":"c"}}]}]}"#;
        let race = "Patient.extension.where(url = 'race').extension.value.code";
        check("Patient", race, raced, &["code:c"]);
    }

    #[test]
    fn what_is_not_understood_is_refused_and_said() {
        let refused = |text| {
            Expression::compile("Patient".parse().expect("a type"), text)
                .expect_err("a refusal")
                .reason
        };

        assert_eq!(refused("Patient.nonsense"), "Patient has no element nonsense");
        assert!(refused("Patient.name.given.lower()").contains("lower"));
        assert!(refused("Patient.name.where(use = 'usual)").contains("quote"));
        assert!(refused("Patient.name +").contains("not understood"));
    }
}
