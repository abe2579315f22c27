//! This module tests which of fhir-sdk's objections count, over every element and code.

use std::collections::BTreeSet;
use std::fmt::Write;

use super::*;
use crate::definitions::{Definitions, Member, Primitive, Shape, Type};
use crate::json::Document;
use crate::validate::Validator;

/// A value of a primitive type.
fn primitive(primitive: Primitive) -> String {
    let text = match primitive {
        Primitive::Boolean => return "true".to_owned(),
        Primitive::Decimal => return "1.50".to_owned(),
        Primitive::Integer | Primitive::PositiveInt | Primitive::UnsignedInt => {
            return "1".to_owned();
        }
        Primitive::Base64Binary => "QUJD",
        Primitive::Canonical | Primitive::Uri | Primitive::Url => "http://a/b",
        Primitive::Code(Some(set)) => {
            let set = Definitions::of_r4().code_set(set);
            set.codes().first().expect("a set has a code")
        }
        Primitive::Date => "2026-11",
        Primitive::DateTime => "2026-11-21T20:00:01.5-05:00",
        Primitive::Instant => "2026-11-21T20:00:01.204Z",
        Primitive::Oid => "urn:oid:1.2.3",
        Primitive::Time => "20:00:01",
        Primitive::Uuid => "urn:uuid:c757873d-ec9a-4326-a141-556f43239520",
        Primitive::Xhtml => r#"<div xmlns=\"http://www.w3.org/1999/xhtml\">x</div>"#,
        Primitive::Code(None) | Primitive::ElementId | Primitive::Id => "x",
        Primitive::Markdown | Primitive::String => "some text",
    };
    format!("\"{text}\"")
}

/// A member with a value of its type, as small as it can be.
fn member(type_: &Type, member: &Member, value: Option<&str>) -> String {
    let value = match (value, member.shape) {
        (Some(value), _) => value.to_owned(),
        (None, Shape::Primitive(kind)) => primitive(kind),
        (None, Shape::Extensions) => {
            r#"{"extension":[{"url":"urn:x","valueCode":"unknown"}]}"#.to_owned()
        }
        (None, Shape::Complex(id)) => smallest(Definitions::of_r4().definition(id)),
        (None, Shape::Resource) => r#"{"resourceType":"Patient","active":true}"#.to_owned(),
    };
    let many = type_.elements[usize::from(member.element)].many;
    let value = if many { format!("[{value}]") } else { value };
    format!(r#""{}":{value}"#, member.name)
}

/// The members that an object of a type must have, those of one element aside.
fn required(type_: &Type, but: Option<u8>) -> Vec<String> {
    let mut members = Vec::new();
    for (place, _) in type_.elements.iter().enumerate() {
        let needed = type_.required & (1 << place) != 0 && but != Some(place as u8);
        let mut candidates = type_.members().filter(|m| usize::from(m.element) == place);
        if let Some(found) = candidates.find(|m| needed && m.shape != Shape::Extensions) {
            members.push(member(type_, found, None));
        }
    }
    members
}

fn smallest(type_: &Type) -> String {
    let mut members = required(type_, None);
    if type_.name == "Extension" {
        members.push(r#""valueString":"x""#.to_owned());
    }
    if members.is_empty() {
        let first = type_.members().find(
            |member| matches!(member.shape, Shape::Primitive(kind) if kind != Primitive::ElementId),
        );
        let first = first.or_else(|| type_.members().find(|member| &*member.name == "extension"));
        members.push(member(type_, first.expect("a type has an element"), None));
    }
    format!("{{{}}}", members.join(","))
}

/// Objects of a type that, together, have each of its elements, in each type that it can have, and
/// each code that is listed.
fn variants(type_: &Type) -> Vec<String> {
    let mut objects = Vec::new();
    for found in type_.members() {
        let mut others = required(type_, Some(found.element));
        if type_.name == "Extension" && !found.name.trim_start_matches('_').starts_with("value") {
            if &*found.name == "extension" {
                continue;
            }
            others.push(r#""valueString":"x""#.to_owned());
        }
        let codes: Vec<String> = match found.shape {
            Shape::Primitive(Primitive::Code(Some(set))) => {
                let codes = Definitions::of_r4().code_set(set).codes().iter();
                codes.take(40).map(|code| format!("\"{code}\"")).collect()
            }
            Shape::Primitive(Primitive::ElementId) => continue,
            _ => Vec::new(),
        };
        let values: Vec<Option<&str>> = match codes.is_empty() {
            true => vec![None],
            false => codes.iter().map(|code| Some(code.as_str())).collect(),
        };
        for value in values {
            let mut members = others.clone();
            members.push(member(type_, found, value));
            objects.push(format!("{{{}}}", members.join(",")));
        }
    }
    objects
}

/// Resources of a kind that have, together, each element once, down to types seen before.
fn resources(kind: ResourceType, seen: &mut BTreeSet<&'static str>) -> Vec<String> {
    let root = Definitions::of_r4().resource(kind);
    let head = format!(r#"{{"resourceType":"{kind}","#);
    let mut resources: Vec<String> =
        variants(root).into_iter().map(|object| object.replacen('{', &head, 1)).collect();
    let mut pending = vec![(root, head, "}".to_owned())];
    while let Some((type_, before, after)) = pending.pop() {
        for found in type_.members() {
            let Shape::Complex(id) = found.shape else { continue };
            let inner = Definitions::of_r4().definition(id);
            if !seen.insert(inner.name) {
                continue;
            }
            let many = type_.elements[usize::from(found.element)].many;
            let (open, close) = if many { ("[", "]") } else { ("", "") };
            let mut start = before.clone();
            for other in required(type_, Some(found.element)) {
                write!(start, "{other},").expect("a string can be written");
            }
            write!(start, "\"{}\":{open}", found.name).expect("a string can be written");
            let end = format!("{close}{after}");
            resources.extend(variants(inner).iter().map(|object| format!("{start}{object}{end}")));
            pending.push((inner, format!("{start}{{"), format!("}}{end}")));
        }
    }
    resources
}

#[test]
fn objects_to_nothing_that_the_table_allows() {
    let (mut checked, mut seen, mut objections) = (0, BTreeSet::new(), Vec::new());
    for kind in ResourceType::all() {
        for text in resources(kind, &mut seen) {
            let document = Document::parse(text.as_bytes()).expect("it is JSON");
            let mut validator = Validator::new();
            validator.resource(document.root());
            if let Err(invalid) = validator.finish() {
                panic!("what is made from the table is valid: {invalid}: {text}");
            }
            checked += 1;
            if let Some((place, reason)) = objection(kind, document.root()) {
                objections.push(format!("{reason} at {place:?} in {text}"));
            }
        }
    }
    println!("{checked} resources");
    assert!(
        objections.is_empty(),
        "{}\n{}",
        objections.len(),
        objections[..objections.len().min(60)].join("\n")
    );
}

#[test]
fn objects_to_no_value_at_the_edge_of_its_type() {
    let objections: Vec<String> = [
        r#""valueDateTime":"2016-12-31T23:59:60Z""#,
        r#""valueDateTime":"2026-11-21T12:00:60+01:00""#,
        r#""valueDateTime":"2026-11-21T00:00:00.123456789012345Z""#,
        r#""valueDateTime":"2026-11-21T00:00:00+14:00""#,
        r#""valueDateTime":"2026-11-21T00:00:00-00:00""#,
        r#""valueDateTime":"0001-01-01T00:00:00Z""#,
        r#""valueDateTime":"9999-12-31T23:59:59-14:00""#,
        r#""valueDateTime":"0001""#,
        r#""valueDateTime":"9999-12""#,
        r#""valueInstant":"2016-12-31T23:59:60.5Z""#,
        r#""valueDate":"0001-01-01""#,
        r#""valueTime":"23:59:60""#,
        r#""valueTime":"12:00:00.123456789012345""#,
        r#""valueDecimal":1e400"#,
        r#""valueDecimal":-0.0E-400"#,
        r#""valueDecimal":123456789012345678901234567890.123456789"#,
        r#""valueInteger":-2147483648"#,
        r#""valueUnsignedInt":2147483647"#,
        r#""valueBase64Binary":"QU JD\nRA==""#,
        r#""valueBase64Binary":"QR==""#,
        r#""valueOid":"urn:oid:2.999""#,
        r#""valueCode":"a b""#,
        r#""valueString":"\u0009 \ud83d\ude00""#,
    ]
    .into_iter()
    .filter_map(|value| {
        let text =
            format!(r#"{{"resourceType":"Patient","extension":[{{"url":"urn:x",{value}}}]}}"#);
        let document = Document::parse(text.as_bytes()).expect("it is JSON");
        let mut validator = Validator::new();
        let kind = validator.resource(document.root()).expect("it is a patient");
        assert_eq!(validator.problems(), 0, "{value}");
        objection(kind, document.root()).map(|(_, reason)| format!("{value}: {reason}"))
    })
    .collect();
    assert!(objections.is_empty(), "{objections:#?}");
}
