//! This module takes and gives what a Binary holds as it is (FHIR R4, binary, 2.40.3), and not as a
//! resource, where a client says so by its media types.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use chartmesh_record::{FieldName, ResourceId, Tree};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::Serialize;

use crate::answer::Answer;
use crate::document::{Reference, render};
use crate::media;
use crate::refusal::Refusal;

const SECURITY_CONTEXT: HeaderName = HeaderName::from_static("x-security-context");

#[derive(Serialize)]
#[serde(tag = "resourceType", rename = "Binary", rename_all = "camelCase")]
struct Binary<'b> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'b str>,
    content_type: &'b str,
    #[serde(skip_serializing_if = "Option::is_none")]
    security_context: Option<Reference>,
    data: String,
}

/// The type of what is sent, if that is the content of a Binary and not a resource.
pub(crate) fn content_type(headers: &HeaderMap) -> Option<&str> {
    let kind = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    (!media::is_fhir(kind)).then_some(kind)
}

/// The resource whose content, of this type, a body is.
pub(crate) fn received(
    kind: &str,
    headers: &HeaderMap,
    id: Option<&ResourceId>,
    body: &[u8],
) -> Bytes {
    let context = headers.get(SECURITY_CONTEXT).and_then(|value| value.to_str().ok());
    let security_context = context.map(|text| Reference { reference: text.to_owned() });
    let data = BASE64.encode(body);
    let id = id.map(ResourceId::as_str);
    render(&Binary { id, content_type: kind, security_context, data }).into()
}

/// The answer to a read of a Binary: its content if the client would rather have that.
pub(crate) fn shown(
    answer: Answer,
    headers: &HeaderMap,
    format: Option<&str>,
) -> Result<Answer, Refusal> {
    // Without content it is all that there is to say: not modified, for one.
    let Some(stored) = answer.resource_bytes() else { return Ok(answer) };
    match content_of(stored) {
        Some(content) if format.is_none() && media::prefers(headers, &content.kind) => {
            let answer = answer.raw(content.data.into(), content.kind);
            Ok(match content.context {
                Some(context) => answer.with(SECURITY_CONTEXT, context),
                None => answer,
            })
        }
        _ => {
            media::accepts(headers, format)?;
            Ok(answer)
        }
    }
}

/// What a Binary holds.
struct Content {
    kind: HeaderValue,
    data: Vec<u8>,
    context: Option<HeaderValue>,
}

fn content_of(stored: &Bytes) -> Option<Content> {
    let tree = Tree::parse(stored)?;
    let text = |name: &str| tree.root().member(&FieldName::new(name))?.text();
    let context = tree.root().member(&FieldName::new("securityContext"));
    let context = context.and_then(|it| it.member(&FieldName::new("reference"))?.text());
    Some(Content {
        kind: HeaderValue::from_str(&text("contentType")?).ok()?,
        data: BASE64.decode(&*text("data")?).ok()?,
        context: context.and_then(|text| HeaderValue::from_str(&text).ok()),
    })
}
