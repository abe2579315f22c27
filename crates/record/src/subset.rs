//! This module leaves parts of a stored resource out (FHIR R4, search, 3.1.1.5.8 and 3.1.1.5.9).
//!
//! What is left is to the letter as it is stored, with a tag that says that it is not all.

use std::borrow::Cow;

use crate::definitions::{Definitions, Shape, Type};
use crate::json::{Document, Kind, Minifier, Value, name_hash};
use crate::kind::ResourceType;

/// System and code of the tag on a resource of which parts are left out.
const SUBSETTED: &str =
    r#"{"system":"http://terminology.hl7.org/CodeSystem/v3-ObservationValue","code":"SUBSETTED"}"#;

/// Which parts of a resource are kept. What must be there, the id and `meta` always are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subset<'s> {
    /// What its definition marks as part of a summary (`_summary=true`).
    Summary,
    /// The narrative (`_summary=text`).
    Text,
    /// All but the narrative (`_summary=data`).
    Data,
    /// The elements of these names (`_elements`).
    Elements(&'s [String]),
}

impl Subset<'_> {
    /// These parts of a stored resource; `None` if it is none.
    #[must_use]
    pub fn of(self, kind: ResourceType, stored: &[u8]) -> Option<Vec<u8>> {
        let document = Document::parse(stored).ok()?;
        let root = document.root();
        let mut writer = Minifier::new(Vec::with_capacity(stored.len()), &[]);
        writer.out.push(b'{');
        let definition = Definitions::of_r4().resource(kind);
        let mut first = true;
        for member in root.children() {
            match &*member.name() {
                "resourceType" | "id" => writer.member(member, first),
                "meta" => write_meta(&mut writer, member, first),
                name => {
                    let Some((place, shape)) = element(definition, name) else { continue };
                    let required = definition.required & (1 << place) != 0;
                    let element = &definition.elements[place];
                    let kept = required
                        || match self {
                            Self::Summary => element.in_summary,
                            Self::Text => name == "text",
                            Self::Data => name != "text",
                            Self::Elements(names) => {
                                let stem = element.name.trim_end_matches("[x]");
                                names.iter().any(|asked| asked == stem || asked == name)
                            }
                        };
                    match (kept, self) {
                        (false, _) => continue,
                        (true, Self::Summary) => write_summary(&mut writer, member, shape, first),
                        (true, _) => writer.member(member, first),
                    }
                }
            }
            first = false;
        }
        writer.out.push(b'}');
        Some(writer.out)
    }
}

/// The element that a member is of, by its place, and what it holds.
fn element(definition: &Type, name: &str) -> Option<(usize, Shape)> {
    let member = definition.member(name_hash(name.as_bytes()), name)?;
    Some((usize::from(member.element), member.shape))
}

/// Writes what is part of a summary within a member that is.
fn write_summary(writer: &mut Minifier<'_>, member: Value<'_>, shape: Shape, first: bool) {
    let Shape::Complex(id) = shape else { return writer.member(member, first) };
    let definition = Definitions::of_r4().definition(id);
    write_name(writer, &member.name(), first);
    if member.kind() == Kind::Array {
        writer.out.push(b'[');
        for (place, item) in member.children().enumerate() {
            if place > 0 {
                writer.out.push(b',');
            }
            write_object(writer, item, definition);
        }
        writer.out.push(b']');
    } else {
        write_object(writer, member, definition);
    }
}

fn write_object(writer: &mut Minifier<'_>, object: Value<'_>, definition: &Type) {
    if object.kind() != Kind::Object {
        return writer.value(object);
    }
    let kept = object.children().filter_map(|member| {
        let (place, shape) = element(definition, &member.name())?;
        let required = definition.required & (1 << place) != 0;
        (required || definition.elements[place].in_summary).then_some((member, shape))
    });
    writer.out.push(b'{');
    let mut first = true;
    for (member, shape) in kept {
        write_summary(writer, member, shape, first);
        first = false;
    }
    writer.out.push(b'}');
}

/// Writes `meta` with the tag that parts are left out.
fn write_meta(writer: &mut Minifier<'_>, meta: Value<'_>, first: bool) {
    write_name(writer, "meta", first);
    writer.out.push(b'{');
    let mut tags: Cow<'_, str> = SUBSETTED.into();
    let mut first = true;
    for member in meta.children() {
        if &*member.name() == "tag" {
            let all = member.children().map(Value::text).chain([SUBSETTED]);
            tags = all.collect::<Vec<_>>().join(",").into();
            continue;
        }
        writer.member(member, first);
        first = false;
    }
    write_name(writer, "tag", first);
    writer.out.push(b'[');
    writer.out.extend_from_slice(tags.as_bytes());
    writer.out.extend_from_slice(b"]}");
}

fn write_name(writer: &mut Minifier<'_>, name: &str, first: bool) {
    let comma = if first { "" } else { "," };
    writer.out.extend_from_slice(format!("{comma}\"{name}\":").as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    const STORED: &str = concat!(
        r#"{"resourceType":"Patient","id":"1","meta":{"versionId":"1-a","tag":[{"code":"x"}]},"#,
        r#""text":{"status":"empty"},"birthDate":"1970-01-01","_birthDate":{"id":"b"},"#,
        r#""deceasedBoolean":false,"maritalStatus":{"text":"m"},"#,
        r#""link":[{"other":{"reference":"Patient/2"},"type":"refer","extension":[{"url":"u"}]}],"#,
        r#""communication":[{"language":{"text":"l"}}],"photo":[{"title":"t","data":"AA=="}]}"#,
    );

    fn subset(subset: Subset<'_>, stored: &str) -> String {
        let kind = serde_json::from_str::<serde_json::Value>(stored).expect("JSON");
        let kind = kind["resourceType"].as_str().expect("a type").parse().expect("a type");
        let bytes = subset.of(kind, stored.as_bytes()).expect("a resource");
        let text = String::from_utf8(bytes).expect("UTF-8");
        let _: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        text.replace(SUBSETTED, "S")
    }

    #[test]
    fn a_summary_has_what_its_definition_marks_at_every_level() {
        assert_eq!(
            subset(Subset::Summary, STORED),
            concat!(
                r#"{"resourceType":"Patient","id":"1","meta":{"versionId":"1-a","tag":[{"code":"x"},S]},"#,
                r#""birthDate":"1970-01-01","_birthDate":{"id":"b"},"deceasedBoolean":false,"#,
                r#""link":[{"other":{"reference":"Patient/2"},"type":"refer"}]}"#,
            )
        );
    }

    #[test]
    fn the_narrative_alone_or_all_but_it_or_elements_by_name() {
        let head = r#"{"resourceType":"Patient","id":"1","meta":{"versionId":"1-a","tag":[{"code":"x"},S]}"#;
        assert_eq!(
            subset(Subset::Text, STORED),
            format!(r#"{head},"text":{{"status":"empty"}}}}"#)
        );
        let data = subset(Subset::Data, STORED);
        assert!(!data.contains("\"text\":{\"status\"") && data.contains("photo"), "{data}");
        let names = ["birthDate".to_owned(), "deceased".to_owned()];
        assert_eq!(
            subset(Subset::Elements(&names), STORED),
            format!(
                r#"{head},"birthDate":"1970-01-01","_birthDate":{{"id":"b"}},"deceasedBoolean":false}}"#
            )
        );
    }

    #[test]
    fn what_must_be_there_stays() {
        let observation = r#"{"resourceType":"Observation","id":"1","meta":{},"status":"final","code":{"text":"c"},"note":[{"text":"n"}]}"#;
        let text = subset(Subset::Text, observation);
        assert_eq!(
            text,
            r#"{"resourceType":"Observation","id":"1","meta":{"tag":[S]},"status":"final","code":{"text":"c"}}"#
        );
    }
}
