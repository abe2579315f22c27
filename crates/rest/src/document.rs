//! This module holds the resources that the server itself writes, as far as it writes them, and puts
//! stored resources into bundles as they are, without reading them.
//!
//! They are plain shapes rather than `fhir-sdk`'s types, which take minutes to compile wherever they
//! are used; the tests have `record` check that what is written is valid.

use bytes::Bytes;
use serde::Serialize;

/// An OperationOutcome.
#[derive(Debug, Serialize)]
#[serde(tag = "resourceType", rename = "OperationOutcome")]
pub(crate) struct OperationOutcome {
    pub(crate) issue: Vec<Issue>,
}

/// One issue of an OperationOutcome.
#[derive(Debug, Serialize)]
pub(crate) struct Issue {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) extension: Vec<IntegerExtension>,
    pub(crate) severity: &'static str,
    /// From the value set issue-type.
    pub(crate) code: &'static str,
    pub(crate) details: Details,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) diagnostics: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) expression: Vec<String>,
}

/// An extension whose value is an integer.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct IntegerExtension {
    pub(crate) url: &'static str,
    pub(crate) value_integer: usize,
}

/// A text, with a code for machines where there is one.
#[derive(Debug, Serialize)]
pub(crate) struct Details {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) coding: Option<[Coding; 1]>,
    pub(crate) text: String,
}

/// A code of this project's.
#[derive(Debug, Serialize)]
pub(crate) struct Coding {
    pub(crate) system: &'static str,
    pub(crate) code: &'static str,
}

/// A bundle without its entries.
#[derive(Debug, Serialize)]
#[serde(tag = "resourceType", rename = "Bundle")]
pub(crate) struct BundleHead {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) meta: Option<BundleMeta>,
    #[serde(rename = "type")]
    pub(crate) sort: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) total: Option<usize>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) link: Vec<Link>,
}

impl BundleHead {
    /// One of this type, with nothing else.
    pub(crate) fn new(sort: &'static str) -> Self {
        Self { meta: None, sort, total: None, link: Vec::new() }
    }
}

/// What a bundle says of itself.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct BundleMeta {
    pub(crate) last_updated: String,
}

/// A link of a bundle.
#[derive(Debug, Serialize)]
pub(crate) struct Link {
    pub(crate) relation: &'static str,
    pub(crate) url: String,
}

/// An entry of a bundle without its resource.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct EntryHead {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) full_url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) request: Option<EntryRequest>,
    pub(crate) response: EntryResponse,
}

/// What an entry asked for.
#[derive(Debug, Serialize)]
pub(crate) struct EntryRequest {
    pub(crate) method: &'static str,
    pub(crate) url: String,
}

/// What an entry is answered.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct EntryResponse {
    pub(crate) status: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) location: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) etag: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) last_modified: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) outcome: Option<OperationOutcome>,
}

/// An entry of a searchset without its resource.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Match {
    #[serde(skip_serializing_if = "Option::is_none")]
    full_url: Option<String>,
    search: Search,
}

impl Match {
    /// A resource that matches.
    pub(crate) fn found(full_url: String) -> Self {
        Self { full_url: Some(full_url), search: Search { mode: "match" } }
    }

    /// A resource that comes along.
    pub(crate) fn included(full_url: String) -> Self {
        Self { full_url: Some(full_url), search: Search { mode: "include" } }
    }

    /// What is said about the search.
    pub(crate) fn outcome() -> Self {
        Self { full_url: None, search: Search { mode: "outcome" } }
    }
}

#[derive(Debug, Serialize)]
struct Search {
    mode: &'static str,
}

impl Default for Search {
    fn default() -> Self {
        Self { mode: "match" }
    }
}

/// A Parameters resource.
#[derive(Debug, Serialize)]
#[serde(tag = "resourceType", rename = "Parameters")]
pub(crate) struct Parameters {
    pub(crate) parameter: Vec<Parameter>,
}

/// A parameter: a value, or parts.
#[derive(Debug, Serialize)]
pub(crate) struct Parameter {
    pub(crate) name: &'static str,
    #[serde(flatten)]
    pub(crate) value: Option<ParameterValue>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) part: Vec<Self>,
}

/// The value of a parameter.
#[derive(Debug, Serialize)]
pub(crate) enum ParameterValue {
    #[serde(rename = "valueBoolean")]
    Boolean(bool),
    #[serde(rename = "valueCode")]
    Code(&'static str),
    #[serde(rename = "valueId")]
    Id(String),
    #[serde(rename = "valueInstant")]
    Instant(String),
    #[serde(rename = "valueReference")]
    Reference(Reference),
    #[serde(rename = "valueString")]
    Text(String),
}

/// A reference to a resource.
#[derive(Debug, Serialize)]
pub(crate) struct Reference {
    pub(crate) reference: String,
}

/// The bytes of what the server writes.
pub(crate) fn render(document: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(document).expect("shapes of strings and numbers can be written")
}

/// A bundle that is being written.
#[derive(Debug)]
pub(crate) struct BundleWriter {
    out: Vec<u8>,
    empty: bool,
}

impl BundleWriter {
    /// A bundle without entries yet.
    pub(crate) fn new(head: &BundleHead) -> Self {
        let mut out = render(head);
        assert_eq!(out.pop(), Some(b'}'), "an object");
        Self { out, empty: true }
    }

    /// Adds an entry with this resource. The head is an object that is not empty.
    pub(crate) fn entry(&mut self, head: &impl Serialize, resource: Option<&[u8]>) {
        self.out.extend_from_slice(if self.empty { br#","entry":["# } else { b"," });
        self.empty = false;
        let head = render(head);
        let Some(resource) = resource else {
            self.out.extend_from_slice(&head);
            return;
        };
        self.out.extend_from_slice(br#"{"resource":"#);
        self.out.extend_from_slice(resource);
        self.out.push(b',');
        self.out.extend_from_slice(&head[1..]);
    }

    /// The whole bundle.
    pub(crate) fn finish(mut self) -> Bytes {
        self.out.extend_from_slice(if self.empty { b"}" } else { b"]}" });
        self.out.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chartmesh_record::Resource;

    fn entry(full_url: &str) -> EntryHead {
        let response = EntryResponse { status: "200 OK".to_owned(), ..Default::default() };
        EntryHead { full_url: Some(full_url.to_owned()), request: None, response }
    }

    #[test]
    fn stored_bytes_stand_in_a_bundle_to_the_letter() {
        let stored = br#"{"resourceType":"Basic","id":"1","x":1.00}"#;
        let head = BundleHead { total: Some(2), ..BundleHead::new("history") };
        let mut bundle = BundleWriter::new(&head);
        bundle.entry(&entry("http://a/fhir/Basic/1"), Some(stored));
        bundle.entry(&entry("http://a/fhir/Basic/2"), None);

        let text = String::from_utf8(bundle.finish().to_vec()).unwrap();
        assert_eq!(
            text,
            concat!(
                r#"{"resourceType":"Bundle","type":"history","total":2,"entry":["#,
                r#"{"resource":{"resourceType":"Basic","id":"1","x":1.00},"#,
                r#""fullUrl":"http://a/fhir/Basic/1","response":{"status":"200 OK"}},"#,
                r#"{"fullUrl":"http://a/fhir/Basic/2","response":{"status":"200 OK"}}]}"#
            )
        );
    }

    #[test]
    fn a_bundle_without_entries_has_no_empty_list_and_is_valid() {
        let bundle = BundleWriter::new(&BundleHead::new("transaction-response")).finish();
        assert_eq!(bundle, &br#"{"resourceType":"Bundle","type":"transaction-response"}"#[..]);
        Resource::parse(&bundle).unwrap();
    }
}
