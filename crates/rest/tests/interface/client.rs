//! This module asks and looks at answers.

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use http::{HeaderMap, Request};
use serde_json::Value;
use tower::ServiceExt;

/// An answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
    pub(crate) bytes: Bytes,
}

/// Asks a router: `PUT /fhir/Patient/1`, headers, a body.
pub(crate) async fn ask(
    router: &Router,
    line: &str,
    headers: &[(&str, &str)],
    body: impl Into<Body>,
) -> Reply {
    let (method, target) = line.split_once(' ').unwrap();
    let mut request = Request::builder().method(method).uri(target).header("host", "a:1");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = router.clone().oneshot(request.body(body.into()).unwrap()).await.unwrap();
    let (head, body) = response.into_parts();
    let bytes = to_bytes(body, usize::MAX).await.unwrap();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    Reply { status: head.status.as_u16(), headers: head.headers, text, bytes }
}

impl Reply {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text)
            .unwrap_or_else(|error| panic!("{}: {error}: {}", self.status, self.text))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The version that the answer names, as an ETag.
    pub(crate) fn etag(&self) -> &str {
        self.header("etag")
    }

    /// The version's id.
    pub(crate) fn version(&self) -> &str {
        self.etag().strip_prefix("W/\"").and_then(|tag| tag.strip_suffix('"')).unwrap()
    }

    /// Where the resource is, without host and version.
    pub(crate) fn place(&self) -> String {
        let path = self.header("location").strip_prefix("http://a:1").unwrap();
        path.split_once("/_history/").unwrap().0.to_owned()
    }

    /// Status, headers and body with what differs from run to run replaced.
    pub(crate) fn shown(&self) -> String {
        let mut lines = vec![format!("{}", self.status)];
        let mut headers: Vec<String> = self
            .headers
            .iter()
            .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
            .collect();
        headers.sort();
        lines.append(&mut headers);
        if !self.text.is_empty() {
            lines.push(String::new());
            lines.push(serde_json::to_string_pretty(&self.json()).unwrap());
        }
        redact(&lines.join("\n"))
    }
}

/// Replaces tags of origins, derived ids and times.
fn redact(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let (shown, length) = instant(rest)
            .or_else(|| date(rest))
            .or_else(|| uuid(rest))
            .or_else(|| origin(rest))
            .or_else(|| age(rest))
            .map_or((None, first.len_utf8()), |(shown, length)| (Some(shown), length));
        out.push_str(shown.unwrap_or(&rest[..length]));
        rest = &rest[length..];
    }
    out
}

type Redacted = Option<(&'static str, usize)>;

/// Whether a text begins like this: `0` a digit, `a` a lower-case letter, `x` one of both, else itself.
fn begins(text: &str, pattern: &str) -> bool {
    text.len() >= pattern.len()
        && text.bytes().zip(pattern.bytes()).all(|(byte, wanted)| match wanted {
            b'0' => byte.is_ascii_digit(),
            b'a' => byte.is_ascii_alphabetic(),
            b'x' => byte.is_ascii_digit() || byte.is_ascii_lowercase(),
            _ => byte == wanted,
        })
}

fn matched(text: &str, pattern: &str, shown: &'static str) -> Redacted {
    begins(text, pattern).then_some((shown, pattern.len()))
}

fn instant(text: &str) -> Redacted {
    matched(text, "0000-00-00T00:00:00.000Z", "[instant]")
}

fn date(text: &str) -> Redacted {
    matched(text, "aaa, 00 aaa 0000 00:00:00 GMT", "[date]")
}

fn uuid(text: &str) -> Redacted {
    matched(text, "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx", "[id]")
}

fn origin(text: &str) -> Redacted {
    matched(text, "pac.xxxxxxxxxx", "pac.[tag]")
}

fn age(text: &str) -> Redacted {
    let rest = text.strip_prefix("age=")?;
    let length = rest.bytes().take_while(|byte| byte.is_ascii_digit() || *byte == b'.').count();
    Some(("age=[age]", "age=".len() + length))
}
