//! This module lets other crates walk through a stored resource, by the definitions of FHIR R4.
//!
//! An [`ElementType`] says which members an element can have, a [`Node`] is a value in the text:
//! whoever knows beforehand which way to go looks up each [`FieldName`] by its hash alone.

use std::borrow::Cow;
use std::fmt;

use crate::definitions::{Definitions, Primitive, Shape};
use crate::json::{Document, Kind, Value, name_hash};
use crate::kind::ResourceType;

/// A resource that was validated when it was written.
#[derive(Debug)]
pub struct Tree<'s>(Document<'s>);

/// A value in a [`Tree`].
#[derive(Clone, Copy)]
pub struct Node<'t>(Value<'t>);

/// The name of a member of a JSON object.
#[derive(Clone, PartialEq, Eq)]
pub struct FieldName {
    hash: u32,
    text: Box<str>,
}

/// What an element is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ElementType(Shape);

impl<'s> Tree<'s> {
    /// Reads a stored resource; `None` if it is not JSON.
    #[must_use]
    pub fn parse(stored: &'s [u8]) -> Option<Self> {
        Document::parse(stored).ok().map(Self)
    }

    /// The resource.
    #[must_use]
    pub fn root(&self) -> Node<'_> {
        Node(self.0.root())
    }
}

impl<'t> Node<'t> {
    /// The member of this name.
    #[must_use]
    pub fn member(self, name: &FieldName) -> Option<Self> {
        if self.0.kind() != Kind::Object {
            return None;
        }
        let is_it =
            |child: &Value<'t>| child.name_hash() == name.hash && child.name() == *name.text;
        self.0.children().find(is_it).map(Self)
    }

    /// The items of an array, or the value itself; no nulls.
    pub fn items(self) -> impl Iterator<Item = Self> {
        let is_array = self.0.kind() == Kind::Array;
        let items = self.0.children().filter(move |_| is_array);
        let itself = (!is_array).then_some(self.0);
        itself.into_iter().chain(items).filter(|item| item.kind() != Kind::Null).map(Self)
    }

    /// A primitive value: a string's characters, or a number or a boolean as it is written.
    #[must_use]
    pub fn text(self) -> Option<Cow<'t, str>> {
        match self.0.kind() {
            Kind::String => self.0.string(),
            Kind::Number | Kind::Boolean => Some(self.0.text().into()),
            Kind::Null | Kind::Array | Kind::Object => None,
        }
    }

    /// It as it stands in the text.
    #[must_use]
    pub fn source(self) -> &'t str {
        self.0.text()
    }

    /// What a resource that stands here is.
    #[must_use]
    pub fn resource_type(self) -> Option<ResourceType> {
        self.0.member("resourceType")?.string()?.parse().ok()
    }
}

impl FieldName {
    /// The name of this text.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self { hash: name_hash(text.as_bytes()), text: text.into() }
    }

    /// It as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl ElementType {
    /// What resources of a type are.
    #[must_use]
    pub fn of(kind: ResourceType) -> Self {
        Self(Shape::Complex(Definitions::of_r4().resource_id(kind)))
    }

    /// Its name, such as `Patient`, `Quantity`, `dateTime`, `Patient.contact`; `Resource` for any
    /// resource.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self.0 {
            Shape::Primitive(primitive) => primitive.name(),
            Shape::Extensions => "Element",
            Shape::Complex(id) => Definitions::of_r4().definition(id).name,
            Shape::Resource => "Resource",
        }
    }

    /// The id of the value set that its codes must be of, if one is required.
    #[must_use]
    pub fn code_set(self) -> Option<&'static str> {
        let Shape::Primitive(Primitive::Code(set)) = self.0 else { return None };
        Some(Definitions::of_r4().code_set(set?).name)
    }

    /// The members that an element of this name can be written as, and what each is: one, or one per
    /// type of a choice (`value`: `valueQuantity`, `valueString` and so on). Without those that hold
    /// the extensions of primitive values.
    #[must_use]
    pub fn element(self, name: &str) -> Vec<(FieldName, Self)> {
        let Shape::Complex(id) = self.0 else { return Vec::new() };
        let definition = Definitions::of_r4().definition(id);
        let is_it = |element: &str| element.strip_suffix("[x]").unwrap_or(element) == name;
        let members = definition.members().filter(|member| {
            member.shape != Shape::Extensions
                && is_it(definition.elements[usize::from(member.element)].name)
        });
        let mut members: Vec<_> =
            members.map(|member| (FieldName::new(&member.name), Self(member.shape))).collect();
        members.sort_by(|(one, _), (other, _)| one.text.cmp(&other.text));
        members
    }
}

impl ElementType {
    /// Whether an element of this name is written as an array.
    pub(crate) fn is_list(self, name: &str) -> bool {
        let Shape::Complex(id) = self.0 else { return false };
        let mut elements = Definitions::of_r4().definition(id).elements.iter();
        elements.any(|element| element.many && element.name == name)
    }

    /// The name of the element that a member is of: of `valueString`, `value`.
    pub(crate) fn stem(self, member: &str) -> Option<&'static str> {
        let Shape::Complex(id) = self.0 else { return None };
        let definition = Definitions::of_r4().definition(id);
        let found = definition.member(name_hash(member.as_bytes()), member)?;
        let name = definition.elements[usize::from(found.element)].name;
        Some(name.strip_suffix("[x]").unwrap_or(name))
    }
}

impl fmt::Debug for Node<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for FieldName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for ElementType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn observation() -> ElementType {
        ElementType::of("Observation".parse().expect("a type"))
    }

    #[test]
    fn an_element_of_several_types_has_a_member_for_each() {
        let effective: Vec<_> = observation()
            .element("effective")
            .into_iter()
            .map(|(name, kind)| (name.as_str().to_owned(), kind.name()))
            .collect();

        let expected = [
            ("effectiveDateTime", "dateTime"),
            ("effectiveInstant", "instant"),
            ("effectivePeriod", "Period"),
            ("effectiveTiming", "Timing"),
        ];
        assert_eq!(effective, expected.map(|(name, kind)| (name.to_owned(), kind)));
        assert_eq!(observation().element("nonsense"), []);
    }

    #[test]
    fn a_way_through_a_resource_leads_to_its_values() {
        let text = br#"{"resourceType":"Observation","code":{"coding":[{"code":"a\u0062"},null]}}"#;
        let tree = Tree::parse(text).expect("JSON");

        let code = tree.root().member(&FieldName::new("code")).expect("a code");
        let codings = code.member(&FieldName::new("coding")).expect("codings");
        let codes: Vec<_> = codings
            .items()
            .filter_map(|coding| coding.member(&FieldName::new("code"))?.text())
            .collect();

        assert_eq!(codes, ["ab"]);
        assert_eq!(tree.root().resource_type(), "Observation".parse().ok());
        assert!(code.text().is_none());
    }
}
