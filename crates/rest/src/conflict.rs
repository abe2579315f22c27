//! This module puts the tag on resources in conflict when they are read. It is never stored: `record`
//! takes it off what comes in.
//!
//! All other bytes stay as they are stored.

use bytes::Bytes;
use chartmesh_record::CONFLICT_TAG;

/// A stored resource with the tag that says that it is in conflict.
pub(crate) fn tagged(stored: &Bytes) -> Bytes {
    // A stored resource begins with its type, its id, and what the server sets in its meta.
    const LAST: &[u8] = br#""lastUpdated":""#;
    let begin = stored.windows(LAST.len()).position(|window| window == LAST);
    let begin = begin.map(|begin| begin + LAST.len() - 1);
    let Some(begin) = begin else { return stored.clone() };
    let stamped = begin + string_length(&stored[begin..]);

    let (system, code) = CONFLICT_TAG;
    let tag = format!(r#"{{"system":"{system}","code":"{code}"}}"#);
    let (place, insert) = match first_tag(&stored[stamped..]) {
        Some(place) if stored.get(stamped + place) == Some(&b']') => (stamped + place, tag),
        Some(place) => (stamped + place, tag + ","),
        None => (stamped, format!(r#","tag":[{tag}]"#)),
    };
    let mut out = Vec::with_capacity(stored.len() + insert.len());
    out.extend_from_slice(&stored[..place]);
    out.extend_from_slice(insert.as_bytes());
    out.extend_from_slice(&stored[place..]);
    out.into()
}

/// Where the tags of a meta begin, of which this is the rest: `,"name":value,...}`.
fn first_tag(meta: &[u8]) -> Option<usize> {
    let (mut at, mut depth) = (0, 0_usize);
    while let Some(byte) = meta.get(at) {
        match byte {
            b'"' => {
                at += string_length(&meta[at..]);
                continue;
            }
            b',' if depth == 0 => {
                let name = &meta[at + 1..];
                let length = string_length(name);
                at += 1 + length;
                // A colon and a bracket stand between the name and the first of the tags.
                if is_tag(&name[..length]) {
                    return Some(at + 2).filter(|_| name[length..].starts_with(b":["));
                }
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.checked_sub(1)?,
            _ => {}
        }
        at += 1;
    }
    None
}

/// Whether a name in its quotes is `tag`.
fn is_tag(name: &[u8]) -> bool {
    let escaped = || serde_json::from_slice::<String>(name).is_ok_and(|name| name == "tag");
    name == br#""tag""# || (name.contains(&b'\\') && escaped())
}

/// The length of the string that this text begins with, quotes included.
fn string_length(text: &[u8]) -> usize {
    let mut escaped = false;
    let end = text.iter().skip(1).position(|&byte| {
        let closes = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        closes
    });
    end.map_or(text.len(), |end| end + 2)
}

#[cfg(test)]
mod tests {
    use chartmesh_record::{Generation, Resource, ResourceKey, Timestamp, VersionId};
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    /// A resource as it is stored.
    fn stored(sent: &str) -> Bytes {
        let resource = Resource::parse(sent.as_bytes()).unwrap_or_else(|error| panic!("{error}"));
        let key = ResourceKey { kind: resource.kind(), id: "p1".parse().unwrap() };
        let origin = "pac.7h2k4m9qzx".parse().unwrap();
        resource.render(&key, &VersionId { generation: Generation(3), origin }, Timestamp(0))
    }

    /// Whether what follows on the time in a patient's meta begins like this once it is tagged.
    fn check(meta: &str, expect: &str) {
        let stored = stored(&format!(r#"{{"resourceType":"Patient",{meta}"active":true}}"#));

        let tagged = tagged(&stored);

        let tagged = std::str::from_utf8(&tagged).unwrap();
        let time = r#""lastUpdated":"1970-01-01T00:00:00.000Z""#;
        let (head, rest) = tagged.split_once(time).unwrap();
        assert!(rest.starts_with(expect), "{rest}");
        let alone = format!(r#","tag":[{TAG}]"#);
        let rest = rest.replacen(&alone, "", 1).replacen(&format!("{TAG},"), "", 1);
        assert_eq!(format!("{head}{time}{rest}"), stored, "the rest stays to the letter");
    }

    const TAG: &str = r#"{"system":"urn:chartmesh","code":"conflict"}"#;

    #[test]
    fn a_resource_without_tags_has_one_then() {
        check("", &format!(r#","tag":[{TAG}]}},"active""#));
        check(
            r#""meta":{"profile":["http://a/\"tag\":["]},"#,
            &format!(r#","tag":[{TAG}],"profile":["http://a/\"tag\":["]}},"active""#),
        );
    }

    #[test]
    fn other_tags_stay_wherever_they_stand() {
        check(
            r#""meta":{"tag":[{"system":"urn:s","code":"c"}]},"#,
            &format!(r#","tag":[{TAG},{{"system":"urn:s","code":"c"}}]}},"active""#),
        );
        check(
            r#""meta":{"extension":[{"url":"http://a/tag","valueCoding":{"display":"x,\"tag\":["}}],"t\u0061g":[{"code":"c"}],"source":"urn:x"},"#,
            &format!(
                r#","extension":[{{"url":"http://a/tag","valueCoding":{{"display":"x,\"tag\":["}}}}],"t\u0061g":[{TAG},{{"code":"c"}}],"source":"urn:x"}},"active""#
            ),
        );
    }

    #[test]
    fn a_tag_outside_of_the_meta_is_another_matter() {
        let sent = r#"{"resourceType":"Bundle","type":"collection","entry":[{"resource":{"resourceType":"Basic","meta":{"tag":[{"code":"c"}]},"code":{"text":"x"}}}]}"#;
        let tagged: Value = serde_json::from_slice(&tagged(&stored(sent))).unwrap();

        assert_eq!(tagged["meta"]["tag"], json!([{"system": "urn:chartmesh", "code": "conflict"}]));
        assert_eq!(tagged["entry"][0]["resource"]["meta"]["tag"], json!([{"code": "c"}]));
    }

    proptest! {
        #[test]
        fn the_tag_is_put_on_and_taken_off_again(
            tags in prop::option::of(prop::collection::vec("[a-z\\\\\"\\[\\]{},]{1,5}", 1..4)),
            source in prop::option::of("[a-z:\\\\\"\\[\\]{},]{1,9}"),
            text in "[a-z\\\\\"\\[\\]{},]{1,9}",
            tags_first: bool,
        ) {
            let tags = tags.map(|tags| {
                let tags: Value = tags.iter().map(|tag| json!({"display": tag})).collect();
                format!(r#""tag":{tags}"#)
            });
            let source = source.map(|source| format!(r#""source":{}"#, json!(source)));
            let members = if tags_first { [tags, source] } else { [source, tags] };
            let members: Vec<String> = members.into_iter().flatten().collect();
            let meta = match members.len() {
                0 => String::new(),
                _ => format!(r#""meta":{{{}}},"#, members.join(",")),
            };
            let code = json!({"text": text});
            let stored = stored(&format!(r#"{{"resourceType":"Basic",{meta}"code":{code}}}"#));

            let read = tagged(&stored);

            let ours = json!({"system": "urn:chartmesh", "code": "conflict"});
            let value: Value = serde_json::from_slice(&read).unwrap();
            let tags = value["meta"]["tag"].as_array().unwrap();
            prop_assert_eq!(tags.iter().filter(|tag| **tag == ours).count(), 1);
            prop_assert_eq!(stored_again(&read), stored);
        }
    }

    /// What is stored of a resource that a client has read and sends back.
    fn stored_again(read: &[u8]) -> Bytes {
        stored(std::str::from_utf8(read).unwrap())
    }
}
