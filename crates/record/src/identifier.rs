//! This module reads the business identifiers out of a resource: what the search parameter
//! `identifier` looks at.

use serde::Deserialize;
use serde_json::Value;

/// System, where there is one, and value.
pub type Identifier = (Option<String>, String);

/// The elements that the parameter `identifier` of FHIR R4 covers. `masterIdentifier` is an element
/// of DocumentReference and DocumentManifest only.
#[derive(Default, Deserialize)]
struct Carrier {
    identifier: Option<Value>,
    #[serde(rename = "masterIdentifier")]
    master: Option<Value>,
}

/// The identifiers of a resource in JSON, those without a value left out, in the resource's order.
#[must_use]
pub fn identifiers(resource: &[u8]) -> Vec<Identifier> {
    let Carrier { identifier, master } = serde_json::from_slice(resource).unwrap_or_default();
    let elements = [identifier, master].into_iter().flatten().flat_map(|element| match element {
        Value::Array(several) => several,
        one => vec![one],
    });
    elements
        .filter_map(|element| {
            let text = |name| element.get(name).and_then(Value::as_str).map(str::to_owned);
            Some((text("system"), text("value")?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(resource: &str, expected: &[(Option<&str>, &str)]) {
        let expected: Vec<Identifier> = expected
            .iter()
            .map(|(system, value)| (system.map(str::to_owned), (*value).to_owned()))
            .collect();
        assert_eq!(identifiers(resource.as_bytes()), expected, "{resource}");
    }

    #[test]
    fn finds_identifiers_in_lists_and_alone_at_the_top_only() {
        check(r#"{"resourceType":"Patient"}"#, &[]);
        check(
            r#"{"identifier":[{"system":"a","value":"1"},{"value":"2"},{"system":"a"}],"active":true}"#,
            &[(Some("a"), "1"), (None, "2")],
        );
        check(r#"{"resourceType":"Bundle","identifier":{"value":"1"}}"#, &[(None, "1")]);
        check(r#"{"subject":{"identifier":{"value":"1"}}}"#, &[]);
        check(
            r#"{"masterIdentifier":{"value":"1"},"identifier":[{"value":"2"}]}"#,
            &[(None, "2"), (None, "1")],
        );
    }
}
