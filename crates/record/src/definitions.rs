//! This module holds the elements of FHIR R4 (4.0.1): what each type has, how often and of which type.
//!
//! They come from `definitions/r4.txt`, which says how it is written and is made from the official
//! definitions by `definitions/generate.py`.

use std::collections::HashMap;
use std::fmt;
use std::sync::LazyLock;

use crate::json::name_hash;
use crate::kind::ResourceType;

static TABLE: &str = include_str!("../definitions/r4.txt");

static DEFINITIONS: LazyLock<Definitions> = LazyLock::new(|| Definitions::parse(TABLE));

/// All types.
#[derive(Debug)]
pub(crate) struct Definitions {
    types: Vec<Type>,
    /// By the code of the resource type.
    resources: Vec<TypeId>,
    code_sets: Vec<CodeSet>,
    element: TypeId,
    bundle_entry: TypeId,
}

/// A type's place among all.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct TypeId(u16);

/// A set's place among all.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct CodeSetId(u16);

/// A resource type, a data type, or the type of elements defined in place.
pub(crate) struct Type {
    /// Its name, such as `Patient`, `HumanName`, `Patient.contact`.
    pub(crate) name: &'static str,
    /// What more than its elements it asks for.
    pub(crate) rule: Rule,
    /// Its elements, inherited ones included, 64 at the most.
    pub(crate) elements: Vec<Element>,
    /// A bit per element that must be there, by its place.
    pub(crate) required: u64,
    /// The members its JSON object can have, in the order of the hash of the name.
    members: Vec<Member>,
    /// Their hashes.
    hashes: Vec<u32>,
}

/// What a type asks for that the elements alone do not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    /// Nothing.
    None,
    /// It is a resource.
    Resource,
    /// It has either extensions or a value.
    Extension,
    /// Its `reference` may name another resource.
    Reference,
    /// Its `system` must be an absolute URI.
    Coding,
}

/// An element of a type.
#[derive(Debug)]
pub(crate) struct Element {
    /// Its name, such as `birthDate`; `deceased[x]` for a choice.
    pub(crate) name: &'static str,
    /// Whether it is an array.
    pub(crate) many: bool,
    /// Whether it is a choice of types, of which one may be there.
    pub(crate) choice: bool,
    /// Whether it is part of a summary (`isSummary` in its definition).
    pub(crate) in_summary: bool,
}

/// A member that a JSON object may have.
#[derive(Debug)]
pub(crate) struct Member {
    /// Its name, such as `deceasedBoolean` or `_deceasedBoolean`.
    pub(crate) name: Box<str>,
    /// The place of its element.
    pub(crate) element: u8,
    /// What it holds.
    pub(crate) shape: Shape,
}

/// What a member holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// A primitive value.
    Primitive(Primitive),
    /// The id and extensions of a primitive value (`_birthDate`).
    Extensions,
    /// An object of this type.
    Complex(TypeId),
    /// Any resource.
    Resource,
}

/// A primitive type (FHIR R4, datatypes, 2.24.0.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Primitive {
    Base64Binary,
    Boolean,
    Canonical,
    Code(Option<CodeSetId>),
    Date,
    DateTime,
    Decimal,
    ElementId,
    Id,
    Instant,
    Integer,
    Markdown,
    Oid,
    PositiveInt,
    String,
    Time,
    UnsignedInt,
    Uri,
    Url,
    Uuid,
    Xhtml,
}

/// The codes that an element may have.
#[derive(Debug)]
pub(crate) struct CodeSet {
    /// The id of the value set.
    pub(crate) name: &'static str,
    /// Sorted.
    codes: Vec<&'static str>,
}

/// The table while it is read: paragraphs by name, and the places given out.
struct Reader {
    paragraphs: HashMap<&'static str, Paragraph>,
    types: HashMap<&'static str, TypeId>,
    code_sets: HashMap<&'static str, CodeSetId>,
}

/// One type as it is written in the table.
struct Paragraph {
    parent: Option<&'static str>,
    lines: Vec<&'static str>,
}

impl Definitions {
    /// The definitions, read at the first call.
    pub(crate) fn of_r4() -> &'static Self {
        &DEFINITIONS
    }

    /// A type.
    pub(crate) fn definition(&self, id: TypeId) -> &Type {
        &self.types[usize::from(id.0)]
    }

    /// The type of resources of a kind.
    pub(crate) fn resource(&self, kind: ResourceType) -> &Type {
        self.definition(self.resource_id(kind))
    }

    /// The place of the type of resources of a kind.
    pub(crate) fn resource_id(&self, kind: ResourceType) -> TypeId {
        self.resources[usize::from(kind.code())]
    }

    /// `Element`: what the extensions of a primitive value are written as.
    pub(crate) fn element(&self) -> &Type {
        self.definition(self.element)
    }

    /// `Bundle.entry`.
    pub(crate) fn bundle_entry(&self) -> &Type {
        self.definition(self.bundle_entry)
    }

    /// A set of codes.
    pub(crate) fn code_set(&self, id: CodeSetId) -> &CodeSet {
        &self.code_sets[usize::from(id.0)]
    }

    fn parse(table: &'static str) -> Self {
        let (paragraphs, code_sets): (Vec<_>, Vec<_>) =
            table.trim_end().split("\n\n").partition(|paragraph| !paragraph.starts_with('='));
        let mut code_sets: Vec<CodeSet> =
            code_sets.iter().flat_map(|sets| sets.lines()).map(CodeSet::parse).collect();
        code_sets.sort_by_key(|set| set.name);
        let mut paragraphs: Vec<_> = paragraphs.into_iter().map(Paragraph::parse).collect();
        paragraphs.sort_by_key(|(name, _)| *name);

        let names: Vec<&'static str> = paragraphs.iter().map(|(name, _)| *name).collect();
        let reader = Reader {
            types: (0..).map(TypeId).zip(&names).map(|(id, name)| (*name, id)).collect(),
            code_sets: (0..)
                .map(CodeSetId)
                .zip(&code_sets)
                .map(|(id, set)| (set.name, id))
                .collect(),
            paragraphs: paragraphs.into_iter().collect(),
        };
        let types = names.iter().map(|name| reader.definition(name)).collect();
        let resources = ResourceType::all().map(|kind| reader.types[kind.as_str()]).collect();
        let (element, bundle_entry) = (reader.types["Element"], reader.types["Bundle.entry"]);
        Self { types, resources, code_sets, element, bundle_entry }
    }
}

impl Type {
    /// All members that its JSON object may have.
    pub(crate) fn members(&self) -> impl Iterator<Item = &Member> {
        self.members.iter()
    }

    /// The member of this name, whose hash is given.
    pub(crate) fn member(&self, hash: u32, name: &str) -> Option<&Member> {
        let first = self.hashes.partition_point(|&other| other < hash);
        let equal = self.hashes[first..].iter().take_while(|&&other| other == hash).count();
        self.members[first..first + equal].iter().find(|member| &*member.name == name)
    }
}

impl fmt::Debug for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl fmt::Debug for TypeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(DEFINITIONS.definition(*self).name)
    }
}

impl fmt::Debug for CodeSetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(DEFINITIONS.code_set(*self).name)
    }
}

impl CodeSet {
    fn parse(line: &'static str) -> Self {
        let mut words = line.trim_start_matches("= ").split(' ');
        let name = words.next().expect("a line has a word");
        let mut codes: Vec<&str> = words.collect();
        codes.sort_unstable();
        Self { name, codes }
    }

    /// Whether this code is one of the set.
    pub(crate) fn contains(&self, code: &str) -> bool {
        self.codes.binary_search(&code).is_ok()
    }

    /// All codes.
    #[cfg(test)]
    pub(crate) fn codes(&self) -> &[&'static str] {
        &self.codes
    }

    /// The codes, if they are few enough to be told.
    pub(crate) fn few(&self) -> Option<&[&'static str]> {
        (self.codes.len() <= 16).then_some(&self.codes)
    }
}

impl Paragraph {
    fn parse(text: &'static str) -> (&'static str, Self) {
        let mut lines = text.lines();
        let head = lines.next().expect("a paragraph has a line");
        let (name, parent) = match head.split_once(" < ") {
            Some((name, parent)) => (name, Some(parent)),
            None => (head, None),
        };
        (name, Self { parent, lines: lines.collect() })
    }
}

impl Reader {
    /// The lines of a type's elements, inherited ones first.
    fn lines(&self, name: &str) -> Vec<&'static str> {
        let paragraph = &self.paragraphs[name];
        let mut lines = paragraph.parent.map(|parent| self.lines(parent)).unwrap_or_default();
        lines.extend(&paragraph.lines);
        lines
    }

    fn extends(&self, name: &str, ancestor: &str) -> bool {
        name == ancestor
            || self.paragraphs[name].parent.is_some_and(|parent| self.extends(parent, ancestor))
    }

    fn definition(&self, name: &'static str) -> Type {
        let (mut elements, mut members, mut required) = (Vec::new(), Vec::new(), 0);
        for line in self.lines(name) {
            let place = elements.len();
            let (head, kinds) = line.split_once(' ').expect("a line has a name and types");
            let (cardinality, element) = head.split_at(1);
            let in_summary = element.starts_with('^');
            let element = element.trim_start_matches('^');
            if matches!(cardinality, "!" | "+") {
                required |= 1 << place;
            }
            let many = matches!(cardinality, "*" | "+");
            let stem = element.strip_suffix("[x]");
            elements.push(Element { name: element, many, choice: stem.is_some(), in_summary });
            for kind in kinds.split('|') {
                let (shape, extensible) = self.shape(kind);
                let member = match stem {
                    Some(stem) => format!("{stem}{}", capitalized(json_name(kind))),
                    None => element.to_owned(),
                };
                let mut add = |name: String, shape| {
                    members.push(Member { name: name.into(), element: place as u8, shape });
                };
                if extensible {
                    add(format!("_{member}"), Shape::Extensions);
                }
                add(member, shape);
            }
        }
        assert!(elements.len() <= 64, "{name} has more than 64 elements");
        members.sort_by_key(|member| name_hash(member.name.as_bytes()));
        let hashes = members.iter().map(|member| name_hash(member.name.as_bytes())).collect();
        let rule = match name {
            "Extension" => Rule::Extension,
            "Reference" => Rule::Reference,
            "Coding" => Rule::Coding,
            _ if self.extends(name, "Resource") => Rule::Resource,
            _ => Rule::None,
        };
        Type { name, rule, elements, required, members, hashes }
    }

    /// What a member of this type holds, and whether it has a sibling for extensions.
    fn shape(&self, kind: &str) -> (Shape, bool) {
        let primitive = match kind {
            "base64Binary" => Primitive::Base64Binary,
            "boolean" => Primitive::Boolean,
            "canonical" => Primitive::Canonical,
            "code" => Primitive::Code(None),
            "date" => Primitive::Date,
            "dateTime" => Primitive::DateTime,
            "decimal" => Primitive::Decimal,
            "element-id" => Primitive::ElementId,
            "id" | "resource-id" => Primitive::Id,
            "instant" => Primitive::Instant,
            "integer" => Primitive::Integer,
            "markdown" => Primitive::Markdown,
            "oid" => Primitive::Oid,
            "positiveInt" => Primitive::PositiveInt,
            "string" => Primitive::String,
            "time" => Primitive::Time,
            "unsignedInt" => Primitive::UnsignedInt,
            "uri" | "extension-url" => Primitive::Uri,
            "url" => Primitive::Url,
            "uuid" => Primitive::Uuid,
            "xhtml" => Primitive::Xhtml,
            "Resource" => return (Shape::Resource, false),
            _ => match kind.strip_prefix("code=") {
                Some(set) => Primitive::Code(Some(self.code_sets[set])),
                None => return (Shape::Complex(self.types[kind]), false),
            },
        };
        let extensible = !matches!(kind, "resource-id" | "element-id" | "extension-url" | "xhtml");
        (Shape::Primitive(primitive), extensible)
    }
}

/// The name of a type in the name of a choice: a profile of `Quantity` goes by its type's.
fn json_name(kind: &str) -> &str {
    match kind {
        "SimpleQuantity" | "MoneyQuantity" => "Quantity",
        _ => kind.split('=').next().unwrap_or(kind),
    }
}

fn capitalized(name: &str) -> String {
    let mut letters = name.chars();
    letters.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(letters).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(type_: &str, name: &str) -> Option<Shape> {
        let mut types = Definitions::of_r4().types.iter();
        let type_ = types.find(|candidate| candidate.name == type_).expect("a type");
        type_.member(name_hash(name.as_bytes()), name).map(|member| member.shape)
    }

    #[test]
    fn every_resource_type_has_its_elements_and_those_it_inherits() {
        for kind in ResourceType::all() {
            let type_ = Definitions::of_r4().resource(kind);
            assert_eq!(type_.name, kind.as_str());
            assert_eq!(type_.rule, Rule::Resource);
            assert_eq!(member(type_.name, "id"), Some(Shape::Primitive(Primitive::Id)));
            assert_eq!(member(type_.name, "_id"), None);
        }
        assert_eq!(
            member("Patient", "deceasedBoolean"),
            Some(Shape::Primitive(Primitive::Boolean))
        );
        assert_eq!(member("Patient", "_deceasedBoolean"), Some(Shape::Extensions));
        assert_eq!(member("Patient", "deceased"), None);
        assert_eq!(member("Binary", "text"), None);
    }

    #[test]
    fn elements_that_refer_to_others_have_their_type() {
        let type_of = |type_: &str, name: &str| match member(type_, name) {
            Some(Shape::Complex(id)) => Definitions::of_r4().definition(id).name,
            other => panic!("{type_}.{name} is {other:?}"),
        };
        assert_eq!(type_of("Questionnaire.item", "item"), "Questionnaire.item");
        assert_eq!(type_of("Dosage.doseAndRate", "doseQuantity"), "SimpleQuantity");
        assert_eq!(type_of("Patient.contact", "name"), "HumanName");
        assert_eq!(member("SimpleQuantity", "comparator"), None);
    }

    #[test]
    fn codes_of_required_bindings_are_listed() {
        let Some(Shape::Primitive(Primitive::Code(Some(set)))) = member("Patient", "gender") else {
            panic!("gender has a required binding")
        };
        let set = Definitions::of_r4().code_set(set);
        assert_eq!(set.few(), Some(["female", "male", "other", "unknown"].as_slice()));
        assert!(set.contains("male") && !set.contains("Male"));
    }
}
