//! This module holds a search parameter as it is used: where its values stand in a resource of one
//! type.
//!
//! Values are kept by the path they come from, not by parameter: `patient` and `subject` share theirs,
//! and so do `code` and `combo-code`.

use std::fmt;

use chartmesh_record::{ElementType, Node, ResourceType};
use sha2::{Digest, Sha256};

use crate::date::Span;
use crate::names::Names;
use crate::number::Interval;
use crate::path::{Alternative, Expression, InvalidExpression, Path, Target};
use crate::posting::{self, Seeds};
use crate::quantity::Quantity;
use crate::reference::Reference;
use crate::token::Token;
use crate::value::Value;
use crate::{string, uri};

/// What the values of a parameter are (FHIR R4, search, 3.1.1.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Sort {
    /// `number`.
    Number,
    /// `date`.
    Date,
    /// `string`.
    String,
    /// `token`.
    Token,
    /// `reference`.
    Reference,
    /// `composite`.
    Composite,
    /// `quantity`.
    Quantity,
    /// `uri`.
    Uri,
    /// `special`: `near`.
    Special,
}

/// All of them, as they are written.
const SORTS: [(&str, Sort); 9] = [
    ("number", Sort::Number),
    ("date", Sort::Date),
    ("string", Sort::String),
    ("token", Sort::Token),
    ("reference", Sort::Reference),
    ("composite", Sort::Composite),
    ("quantity", Sort::Quantity),
    ("uri", Sort::Uri),
    ("special", Sort::Special),
];

/// Where values come from, and of what sort they are: the same number on every node.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct PathId(pub(crate) [u8; 4]);

/// A parameter as it is defined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Source {
    /// Its name in a query.
    pub(crate) code: String,
    /// What its values are, as FHIR writes it.
    pub(crate) sort: String,
    /// Its canonical URL.
    pub(crate) url: String,
    /// The types that a reference may lead to.
    pub(crate) targets: Vec<ResourceType>,
    /// FHIRPath.
    pub(crate) expression: String,
    /// Of a composite, the sort and the expression of each component.
    pub(crate) components: Vec<(String, String)>,
}

/// A parameter for resources of one type.
#[derive(Clone, Debug)]
pub struct Parameter {
    source: Source,
    sort: Sort,
    /// Where its values are, and what they must refer to.
    paths: Vec<(PathId, Target)>,
    /// The ways there.
    ways: Vec<Way>,
    composite: Option<Composite>,
    /// Of a composite, where the values of its first component are; empty if that is not within the same
    /// element.
    first: Vec<PathId>,
}

/// A way through a resource to values of one sort.
#[derive(Clone, Debug)]
pub(crate) struct Way {
    pub(crate) id: PathId,
    pub(crate) sort: Sort,
    path: Path,
    /// Whether the value is not what stands there but whether anything does.
    truth: bool,
    /// What each of a composite's values has.
    composite: Option<Composite>,
}

/// The components of a composite: of each, its sort and where its values are, from the element that
/// they belong to.
#[derive(Clone, Debug)]
pub(crate) struct Composite {
    pub(crate) components: Vec<Component>,
}

/// One of them.
#[derive(Clone, Debug)]
pub(crate) struct Component {
    pub(crate) sort: Sort,
    alternatives: Vec<Alternative>,
}

impl Sort {
    /// It as FHIR writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        SORTS.iter().find(|(_, sort)| *sort == self).map_or("", |(name, _)| name)
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        SORTS.iter().find(|(name, _)| *name == text).map(|(_, sort)| *sort)
    }

    /// Whether elements of a type have values of this sort.
    fn is_in(self, kind: ElementType) -> bool {
        match self {
            Self::Number => {
                matches!(
                    kind.name(),
                    "decimal" | "integer" | "positiveInt" | "unsignedInt" | "Range"
                )
            }
            Self::Date => {
                matches!(kind.name(), "date" | "dateTime" | "instant" | "Period" | "Timing")
            }
            Self::String => string::is_in(kind),
            Self::Token => Token::is_in(kind),
            Self::Reference => Reference::is_in(kind),
            Self::Quantity => Quantity::is_in(kind),
            Self::Uri => uri::is_in(kind),
            Self::Special => kind.name() == "Location.position",
            Self::Composite => true,
        }
    }
}

impl Source {
    /// Makes a parameter for resources of a type of it.
    ///
    /// # Errors
    /// When an expression is not one that can be used here.
    pub(crate) fn compile(self, kind: ResourceType) -> Result<Parameter, InvalidExpression> {
        let refuse = |reason: String| InvalidExpression {
            expression: self.expression.clone(),
            kind: kind.as_str(),
            reason,
        };
        let sort_of = |text: &str| {
            Sort::parse(text)
                .ok_or_else(|| refuse(format!("there are no parameters of type {text}")))
        };
        let sort = sort_of(&self.sort)?;
        let expression = Expression::compile(kind, &self.expression)?;
        let mut components = Vec::new();
        if let (Sort::Composite, Expression::Values(starts)) = (sort, &expression) {
            let leaves = starts.iter().flat_map(|start| start.path.leaves());
            let start = leaves.map(|(_, kind)| kind).next();
            let start = start.ok_or_else(|| refuse("it leads to nothing".to_owned()))?;
            for (sort, expression) in &self.components {
                let sort = sort_of(sort)?;
                let alternatives = Expression::compile_at(start, kind, expression)?;
                components.push(Component { sort, alternatives });
            }
            if components.len() < 2 {
                return Err(refuse("a composite has two components at the least".to_owned()));
            }
        }
        let composite = (!components.is_empty()).then_some(Composite { components });
        let mut parameter = Parameter {
            sort,
            paths: Vec::new(),
            ways: Vec::new(),
            composite,
            first: Vec::new(),
            source: self,
        };
        match expression {
            Expression::Values(alternatives) => {
                alternatives.into_iter().for_each(|it| parameter.add(it.path, it.target, false));
            }
            Expression::Truth(path) => parameter.add(path, None, true),
        }
        Ok(parameter)
    }
}

impl Parameter {
    fn add(&mut self, path: Path, target: Target, truth: bool) {
        let sort = self.sort;
        let path = path.ending_in(&|kind| truth || sort.is_in(kind));
        let ends: Vec<_> = path.leaves().into_iter().map(|(way, _)| way).collect();
        if ends.is_empty() {
            return;
        }
        let mark = if truth { "?" } else { "" };
        // Composites of one element differ in their components.
        let code = self.composite.as_ref().map_or("", |_| &self.source.code);
        let id = PathId::of(&format!("{}{mark}{code}", sort.as_str()), &ends);
        if let Some(first) = self.composite.iter().flat_map(|it| &it.components).next() {
            let within = !first.alternatives.iter().any(|it| it.from_root);
            for alternative in first.alternatives.iter().filter(|_| within) {
                let kept = alternative.path.ending_in(&|kind| first.sort.is_in(kind));
                let leaves = kept.leaves();
                let ends = ends
                    .iter()
                    .flat_map(|start| leaves.iter().map(move |(way, _)| format!("{start}{way}")));
                self.first.push(PathId::of(first.sort.as_str(), &ends.collect::<Vec<_>>()));
            }
        }
        self.paths.push((id, target));
        let composite = self.composite.clone();
        self.ways.push(Way { id, sort, path, truth, composite });
    }

    /// Its name in a query.
    #[must_use]
    pub fn code(&self) -> &str {
        &self.source.code
    }

    /// What its values are.
    #[must_use]
    pub fn sort(&self) -> Sort {
        self.sort
    }

    /// Its canonical URL.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.source.url
    }

    /// Its FHIRPath expression, for resources of the type.
    #[must_use]
    pub fn expression(&self) -> &str {
        &self.source.expression
    }

    /// The types that its references may lead to; of other sorts, none.
    #[must_use]
    pub fn targets(&self) -> &[ResourceType] {
        &self.source.targets
    }

    /// The sorts of a composite's components.
    #[must_use]
    pub fn components(&self) -> Vec<Sort> {
        let composite = self.composite.iter();
        composite.flat_map(|it| it.components.iter().map(|component| component.sort)).collect()
    }

    /// Whether each component's expression leads to values of its sort.
    #[cfg(test)]
    pub(crate) fn components_have_values(&self) -> bool {
        let mut components = self.composite.iter().flat_map(|it| &it.components);
        components.all(|it| {
            let leaves = it.alternatives.iter().flat_map(|alternative| alternative.path.leaves());
            leaves.into_iter().any(|(_, kind)| it.sort.is_in(kind))
        })
    }

    /// The elements of a resource that its expression leads to and that have values of its sort, as
    /// they stand in the resource; of a truth, whether there is one.
    #[must_use]
    pub fn elements(&self, root: Node<'_>) -> Vec<String> {
        let mut elements = Vec::new();
        for (way, (_, target)) in self.ways.iter().zip(&self.paths) {
            way.walk(root, &mut |node, kind| {
                let leads = |target| {
                    let mut fits = false;
                    let names = Names::all();
                    Reference::of(node, kind, names, &mut |it| fits |= it.may_be(target));
                    fits
                };
                if target.is_none_or(leads) {
                    elements.push(format!("{node:?}"));
                }
            });
        }
        elements
    }

    /// Where its values are kept.
    pub(crate) fn paths(&self) -> &[(PathId, Target)] {
        &self.paths
    }

    /// Where postings lead to its values: of a composite, to those of its first component.
    pub(crate) fn seed_paths(&self) -> Vec<PathId> {
        match self.sort {
            Sort::Composite => self.first.clone(),
            _ => self.paths.iter().map(|(path, _)| *path).collect(),
        }
    }

    /// All postings of its values; `None` if nothing leads to them.
    pub(crate) fn all_postings(&self, kind: ResourceType) -> Option<Seeds> {
        let paths = self.seed_paths();
        if paths.is_empty() || self.sort == Sort::Special {
            return None;
        }
        let ranges = paths.into_iter().map(|path| {
            let prefix = posting::prefix(kind, path);
            prefix.to_vec()..posting::after(&prefix)
        });
        Some(Seeds { ranges: ranges.collect(), sorted: false, shared: None })
    }

    pub(crate) fn ways(&self) -> &[Way] {
        &self.ways
    }
}

impl Way {
    /// Gives all values that it leads to.
    pub(crate) fn values<'t>(&self, root: Node<'t>, zone: i32, found: &mut impl FnMut(Value<'t>)) {
        let names = Names::all();
        if self.truth {
            let mut is_true = false;
            self.path.walk(root, &mut |node, _| {
                is_true |= node.text().is_none_or(|text| text != "false");
            });
            let code = if is_true { "true" } else { "false" };
            return found(Value::Token(Token { system: None, code: code.into() }));
        }
        self.path.walk(root, &mut |node, kind| match &self.composite {
            None => self.sort.values(node, kind, names, zone, found),
            Some(composite) => {
                composite.values(root, node, names, zone).into_iter().for_each(&mut *found);
            }
        });
    }

    /// Gives what stands at its ends.
    pub(crate) fn walk<'t>(&self, root: Node<'t>, found: &mut impl FnMut(Node<'t>, ElementType)) {
        self.path.walk(root, found);
    }
}

impl Composite {
    /// The value of an element, if it has something of every component.
    fn values<'t>(
        &self,
        root: Node<'t>,
        node: Node<'t>,
        names: &Names,
        zone: i32,
    ) -> Option<Value<'t>> {
        let mut parts = Vec::with_capacity(self.components.len());
        for component in &self.components {
            let mut values = Vec::new();
            for alternative in &component.alternatives {
                let from = if alternative.from_root { root } else { node };
                alternative.path.walk(from, &mut |node, kind| {
                    component.sort.values(node, kind, names, zone, &mut |value| values.push(value));
                });
            }
            if values.is_empty() {
                return None;
            }
            parts.push(values);
        }
        Some(Value::Composite(parts))
    }
}

impl Sort {
    /// The values of an element.
    fn values<'t>(
        self,
        node: Node<'t>,
        kind: ElementType,
        names: &Names,
        zone: i32,
        found: &mut impl FnMut(Value<'t>),
    ) {
        match self {
            Self::Number => {
                Interval::of(node, kind, names).into_iter().for_each(|it| found(Value::Number(it)));
            }
            Self::Date => Span::of(node, kind, names, zone, &mut |it| found(Value::Date(it))),
            Self::String => {
                string::strings(node, kind, names, &mut |it| found(Value::String(it)));
            }
            Self::Token => Token::of(node, kind, names, &mut |it| found(Value::Token(it))),
            Self::Reference => {
                Reference::of(node, kind, names, &mut |it| found(Value::Reference(it)));
            }
            Self::Quantity => {
                let quantity = Quantity::of(node, kind, names);
                quantity.into_iter().for_each(|it| found(Value::Quantity(it)));
            }
            Self::Uri => node.text().into_iter().for_each(|it| found(Value::Uri(it))),
            Self::Special => {
                let number = |name| node.member(name)?.text()?.parse::<f64>().ok();
                let position = number(&names.latitude).zip(number(&names.longitude));
                position.into_iter().for_each(|it| found(Value::Position(it.0, it.1)));
            }
            Self::Composite => {}
        }
    }
}

impl PathId {
    /// Of values of a sort at these ends.
    fn of(sort: &str, ends: &[String]) -> Self {
        let hash: [u8; 32] = Sha256::digest(format!("{sort} {}", ends.join(" "))).into();
        Self(*hash.first_chunk().expect("32 bytes hold 4"))
    }
}

impl fmt::Debug for PathId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
