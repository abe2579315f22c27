//! This module checks a resource, element by element, against the definitions of FHIR R4.
//!
//! What it checks: that each element is known, of its type, as often there as it must and may be; the
//! syntax of primitive values; codes of required bindings; the pairs of a primitive and its `_`
//! sibling; narratives; and the rules of the base types that concern structure alone. What it does
//! not: profiles, terminology beyond listed codes, whether references lead anywhere.

use crate::definitions::{Definitions, Element, Member, Primitive, Rule, Shape, Type};
use crate::invalid::{Invalid, Problem, ProblemSort};
use crate::json::{Kind, Value};
use crate::kind::ResourceType;
use crate::limits;
use crate::narrative;

/// A check of one document or of parts of it, with what it has found so far.
pub(crate) struct Validator<'d> {
    definitions: &'static Definitions,
    problems: Vec<Problem>,
    links: Option<Vec<Candidate<'d>>>,
}

/// A string that may name another resource.
#[derive(Clone, Debug)]
pub(crate) struct Candidate<'d> {
    /// The string.
    pub(crate) value: Value<'d>,
    /// What it is.
    pub(crate) sort: CandidateSort,
}

/// What may name another resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CandidateSort {
    /// `Reference.reference`.
    Reference,
    /// A value of type uri, url, oid or uuid.
    Uri,
    /// A narrative, by its links.
    Narrative,
}

/// Where a resource stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Setting {
    Free,
    Contained,
}

impl<'d> Validator<'d> {
    /// A check that only looks for problems.
    pub(crate) fn new() -> Self {
        let definitions = Definitions::of_r4();
        Self { definitions, problems: Vec::new(), links: None }
    }

    /// A check that also notes what may name other resources.
    pub(crate) fn noting_links() -> Self {
        Self { links: Some(Vec::new()), ..Self::new() }
    }

    /// Ends the check: the strings that may name other resources, in the order of the text.
    pub(crate) fn finish(self) -> Result<Vec<Candidate<'d>>, Invalid> {
        if self.problems.is_empty() {
            return Ok(self.links.unwrap_or_default());
        }
        Err(Invalid::new(self.problems))
    }

    /// How many problems it has noted so far.
    pub(crate) fn problems(&self) -> usize {
        self.problems.len()
    }

    /// Notes a problem with a value.
    pub(crate) fn fault(&mut self, value: Value<'d>, sort: ProblemSort, reason: impl Into<String>) {
        if self.problems.len() < limits::MAX_PROBLEMS {
            self.problems.push(Problem::with(value, sort, reason.into()));
        }
    }

    /// Notes that an object lacks a member.
    pub(crate) fn lacks(&mut self, value: Value<'d>, name: &str, reason: impl Into<String>) {
        if self.problems.len() < limits::MAX_PROBLEMS {
            self.problems.push(Problem::lacking(value, name, reason.into()));
        }
    }

    /// Checks a resource of any type. Its type, if that can be told.
    pub(crate) fn resource(&mut self, value: Value<'d>) -> Option<ResourceType> {
        self.resource_in(value, Setting::Free)
    }

    fn resource_in(&mut self, value: Value<'d>, setting: Setting) -> Option<ResourceType> {
        if value.kind() != Kind::Object {
            self.fault(value, ProblemSort::Structure, "a resource must be a JSON object");
            return None;
        }
        let Some(named) = value.member("resourceType") else {
            self.lacks(value, "resourceType", "a resource must say its resourceType");
            return None;
        };
        let Some(name) = named.string() else {
            self.fault(named, ProblemSort::Structure, "resourceType must be a string");
            return None;
        };
        match name.parse::<ResourceType>() {
            Ok(kind) => {
                let type_ = self.definitions.resource(kind);
                // What a Bundle refers to is for itself to resolve (FHIR R4, bundle, 2.36.4).
                let outside = if kind.as_str() == "Bundle" { self.links.take() } else { None };
                self.object(value, type_);
                self.links = outside.or(self.links.take());
                if setting == Setting::Contained {
                    self.contained(value);
                }
                Some(kind)
            }
            Err(unknown) => {
                self.fault(named, ProblemSort::Value, unknown.to_string());
                None
            }
        }
    }

    /// Checks the rules about contained resources (FHIR R4, dom-2, dom-4).
    fn contained(&mut self, value: Value<'d>) {
        if let Some(inner) = value.member("contained") {
            let reason = "a contained resource must not contain resources";
            self.fault(inner, ProblemSort::Invariant, reason);
        }
        let meta = value.member("meta");
        for name in ["versionId", "lastUpdated"] {
            if let Some(member) = meta.and_then(|meta| meta.member(name)) {
                let reason = format!("a contained resource must not have {name}");
                self.fault(member, ProblemSort::Invariant, reason);
            }
        }
    }

    /// Checks an object of a type, the resources in it included.
    pub(crate) fn object(&mut self, value: Value<'d>, type_: &'static Type) {
        self.object_without(value, type_, None);
    }

    /// Checks an object of a type except for what is in the member of this name.
    pub(crate) fn object_without(
        &mut self,
        value: Value<'d>,
        type_: &'static Type,
        unchecked: Option<&str>,
    ) {
        if value.kind() != Kind::Object {
            let reason = format!("{} must be a JSON object", type_.name);
            return self.fault(value, ProblemSort::Structure, reason);
        }
        let (mut seen, mut only_id) = (0_u64, true);
        for child in value.children() {
            let name = child.name();
            let Some(member) = type_.member(child.name_hash(), &name) else {
                if !(type_.rule == Rule::Resource && name == "resourceType") {
                    let reason = format!("{name:?} is not an element of {}", type_.name);
                    self.fault(child, ProblemSort::Structure, reason);
                }
                only_id = false;
                continue;
            };
            let element = &type_.elements[usize::from(member.element)];
            let bit = 1 << member.element;
            if element.choice && seen & bit != 0 {
                self.choice(value, child, type_, member);
            }
            seen |= bit;
            only_id &= &*member.name == "id";
            if unchecked != Some(&*member.name) {
                self.member(value, child, element, member);
            }
            match (type_.rule, &*name) {
                (Rule::Reference, "reference") => self.note(child, CandidateSort::Reference),
                (Rule::Coding, "system") => self.code_system(child),
                // A resource's own canonical: others refer to it by canonicals, which stay.
                (Rule::Resource, "url") => self.unnote(child),
                _ => {}
            }
        }
        if only_id {
            let reason = "an element must have a value or other elements, not just an id";
            self.fault(value, ProblemSort::Structure, reason);
        }
        self.required(value, type_, seen);
        if type_.rule == Rule::Extension {
            self.extension(value, type_, seen);
        }
    }

    fn required(&mut self, value: Value<'d>, type_: &'static Type, seen: u64) {
        let mut missing = type_.required & !seen;
        while missing != 0 {
            let name = type_.elements[missing.trailing_zeros() as usize].name;
            self.lacks(value, name, format!("{} must have {name}", type_.name));
            missing &= missing - 1;
        }
    }

    /// An extension has either extensions or a value (FHIR R4, ext-1).
    fn extension(&mut self, value: Value<'d>, type_: &'static Type, seen: u64) {
        let has = |name: &str| {
            let place = type_.elements.iter().position(|element| element.name == name);
            place.is_some_and(|place| seen & (1 << place) != 0)
        };
        if has("value[x]") == has("extension") {
            let reason = "an extension must have either a value or extensions";
            self.fault(value, ProblemSort::Invariant, reason);
        }
    }

    /// The system of a code is named by an absolute URI (FHIR R4, terminologies, 4.1.1).
    fn code_system(&mut self, value: Value<'d>) {
        if value.raw_string().is_some_and(|system| !has_scheme(system)) {
            let reason = "the system of a code must be an absolute URI";
            self.fault(value, ProblemSort::Value, reason);
        }
    }

    /// Checks the second member found of a choice: it must be the sibling of the first.
    fn choice(
        &mut self,
        value: Value<'d>,
        child: Value<'d>,
        type_: &'static Type,
        member: &Member,
    ) {
        let plain = |name: &str| name.trim_start_matches('_').to_owned();
        let mut others = value.children().filter_map(|other| {
            let found = type_.member(other.name_hash(), &other.name())?;
            (found.element == member.element).then(|| plain(&found.name))
        });
        if others.any(|other| other != plain(&member.name)) {
            let name = type_.elements[usize::from(member.element)].name;
            let reason = format!("{name} is a choice: it may be there in one type only");
            self.fault(child, ProblemSort::Structure, reason);
        }
    }

    /// Checks one member of an object.
    fn member(
        &mut self,
        object: Value<'d>,
        child: Value<'d>,
        element: &'static Element,
        member: &'static Member,
    ) {
        let setting = if element.name == "contained" { Setting::Contained } else { Setting::Free };
        if !element.many {
            return match member.shape {
                Shape::Extensions => self.sibling(child, object.member(&member.name[1..])),
                shape => self.item(child, shape, setting),
            };
        }
        if child.kind() != Kind::Array {
            let reason = format!("{} may repeat, so it must be a JSON array", element.name);
            return self.fault(child, ProblemSort::Structure, reason);
        }
        if child.is_empty() {
            return self.fault(child, ProblemSort::Structure, "an array must not be empty");
        }
        match member.shape {
            Shape::Extensions => self.siblings(child, object.member(&member.name[1..])),
            Shape::Primitive(_) => {
                for item in child.children() {
                    if item.kind() != Kind::Null {
                        self.item(item, member.shape, setting);
                    } else if object.member(&format!("_{}", member.name)).is_none() {
                        let reason = "null stands for a value that has extensions, but has none";
                        self.fault(item, ProblemSort::Structure, reason);
                    }
                }
            }
            shape => child.children().for_each(|item| self.item(item, shape, setting)),
        }
    }

    fn item(&mut self, value: Value<'d>, shape: Shape, setting: Setting) {
        match shape {
            Shape::Primitive(primitive) => self.primitive(value, primitive),
            Shape::Extensions => self.sibling(value, None),
            Shape::Complex(id) => self.object(value, self.definitions.definition(id)),
            Shape::Resource => {
                self.resource_in(value, setting);
            }
        }
    }

    /// Checks the id and extensions of one primitive value.
    fn sibling(&mut self, value: Value<'d>, primitive: Option<Value<'d>>) {
        let just_id = value.children().all(|child| child.name() == "id");
        if value.kind() == Kind::Object && just_id && !value.is_empty() && primitive.is_some() {
            let id = value.children().next().expect("it is not empty");
            return self.primitive(id, Primitive::ElementId);
        }
        self.object(value, self.definitions.element());
    }

    /// Checks the ids and extensions of the values of a repeating primitive: at each place there
    /// must be a value or extensions.
    fn siblings(&mut self, array: Value<'d>, primitives: Option<Value<'d>>) {
        let mut values = primitives
            .filter(|values| values.kind() == Kind::Array)
            .map(|values| values.children());
        for item in array.children() {
            let value = values.as_mut().and_then(Iterator::next);
            let value = value.filter(|value| value.kind() != Kind::Null);
            if item.kind() != Kind::Null {
                self.sibling(item, value);
            } else if value.is_none() {
                let reason = "null here and no value at the same place";
                self.fault(item, ProblemSort::Structure, reason);
            }
        }
        for value in values.into_iter().flatten() {
            if value.kind() == Kind::Null {
                let reason = "null here and no extensions at the same place";
                self.fault(value, ProblemSort::Structure, reason);
            }
        }
    }

    fn primitive(&mut self, value: Value<'d>, primitive: Primitive) {
        if value.kind() != primitive.kind() {
            let reason = match value.kind() {
                Kind::Array => "this may not repeat: it must not be a JSON array".to_owned(),
                _ => format!(
                    "this must be a JSON {}: {}",
                    kind_name(primitive.kind()),
                    primitive.expected()
                ),
            };
            return self.fault(value, ProblemSort::Structure, reason);
        }
        let text = value.string().unwrap_or_else(|| value.text().into());
        if !primitive.admits(&text) {
            let shown: String = text.chars().take(80).collect();
            let reason = format!("{shown:?} is not {}", primitive.expected());
            return self.fault(value, ProblemSort::Value, reason);
        }
        match primitive {
            Primitive::Code(Some(set)) => {
                let set = self.definitions.code_set(set);
                if !set.contains(&text) {
                    let among = match set.few() {
                        Some(codes) => format!("one of {}", codes.join(", ")),
                        None => format!("in the value set {}", set.name),
                    };
                    let reason = format!("the code {text:?} is not {among}");
                    self.fault(value, ProblemSort::Code, reason);
                }
            }
            Primitive::Xhtml => match narrative::check(&text) {
                Ok(()) => self.note(value, CandidateSort::Narrative),
                Err(error) => self.fault(value, ProblemSort::Value, error.to_string()),
            },
            Primitive::Uri | Primitive::Url | Primitive::Oid | Primitive::Uuid => {
                self.note(value, CandidateSort::Uri);
            }
            _ => {}
        }
    }

    fn unnote(&mut self, value: Value<'d>) {
        if let Some(links) = &mut self.links {
            links.pop_if(|last| last.value.span() == value.span());
        }
    }

    fn note(&mut self, value: Value<'d>, sort: CandidateSort) {
        if let Some(links) = &mut self.links {
            links.push(Candidate { value, sort });
        }
    }
}

/// Whether a URI is absolute (RFC 3986, 3.1).
fn has_scheme(uri: &str) -> bool {
    let scheme = uri.split_once(':').map(|(scheme, _)| scheme).unwrap_or_default();
    let belongs = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
    scheme.starts_with(|c: char| c.is_ascii_alphabetic()) && scheme.chars().all(belongs)
}

fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Null => "null",
        Kind::Boolean => "boolean",
        Kind::Number => "number",
        Kind::String => "string",
        Kind::Array => "array",
        Kind::Object => "object",
    }
}

#[cfg(test)]
mod tests;
