//! This module says whether a client sends and takes JSON (FHIR R4, http, 3.1.0.1.10).

use chartmesh_record::Patch;
use http::HeaderValue;
use http::header::{ACCEPT, CONTENT_TYPE, HeaderMap};

use crate::refusal::Refusal;

/// The types under which a resource goes as JSON, the registered one first.
const JSON: [&str; 3] = ["application/fhir+json", "application/json", "text/json"];

/// The types under which patches go.
pub(crate) const PATCHES: [&str; 3] =
    ["application/json-patch+json", "application/merge-patch+json", "application/fhir+json"];

/// The client does not take JSON.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{wanted:?} is asked for, but this server answers in application/fhir+json only")]
pub(crate) struct NotAcceptable {
    pub(crate) wanted: String,
}

/// The client does not send JSON.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a body of {sent:?} cannot be read: send application/fhir+json")]
pub(crate) struct UnsupportedMediaType {
    pub(crate) sent: String,
}

/// Whether JSON may be answered. `_format` goes before `Accept`.
pub(crate) fn accepts(headers: &HeaderMap, format: Option<&str>) -> Result<(), NotAcceptable> {
    if let Some(format) = format {
        // A plus that was not encoded has become a space.
        let format = format.replace(' ', "+");
        let json = format.eq_ignore_ascii_case("json") || is_json(&format);
        return if json { Ok(()) } else { Err(NotAcceptable { wanted: format }) };
    }
    // What nearly all clients send is not looked at closely.
    let mut values = headers.get_all(ACCEPT).iter().peekable();
    if values.peek().is_none_or(|value| *value == "*/*" || *value == JSON[0]) {
        return Ok(());
    }
    let values = values.map(|value| value.to_str().unwrap_or_default());
    let wanted: Vec<&str> = values.flat_map(|value| value.split(',')).map(str::trim).collect();
    let ranges = wanted.iter().filter(|range| !range.is_empty());
    if JSON.iter().any(|json| quality(json, ranges.clone()) > 0.0) {
        Ok(())
    } else {
        Err(NotAcceptable { wanted: wanted.join(", ") })
    }
}

/// Whether a type is taken, and rather than JSON.
pub(crate) fn prefers(headers: &HeaderMap, kind: &HeaderValue) -> bool {
    let Ok(kind) = kind.to_str() else { return false };
    let kind = kind.split(';').next().unwrap_or_default().trim();
    let values = headers.get_all(ACCEPT).iter().map(|value| value.to_str().unwrap_or_default());
    let wanted: Vec<&str> = values.flat_map(|value| value.split(',')).map(str::trim).collect();
    let as_json = JSON.iter().map(|json| quality(json, wanted.iter())).fold(0.0, f32::max);
    !wanted.is_empty() && quality(kind, wanted.iter()) > as_json
}

/// The weight of a type: that of the most specific range that holds it (RFC 9110, 12.5.1).
fn quality<'r>(json: &str, ranges: impl Iterator<Item = &'r &'r str>) -> f32 {
    let (main, _) = json.split_once('/').unwrap_or((json, ""));
    let mut best = (0, 0.0);
    for range in ranges {
        let mut parts = range.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default();
        let specificity = match name.split_once('/') {
            Some(("*", "*")) => 1,
            Some((kind, "*")) if kind.eq_ignore_ascii_case(main) => 2,
            _ if name.eq_ignore_ascii_case(json) && (is_json(range) || !is_fhir(json)) => 3,
            _ => continue,
        };
        let weight = parts.find_map(|part| part.strip_prefix("q="));
        let weight = weight.map_or(1.0, |text| text.trim().parse().unwrap_or(0.0));
        if specificity > best.0 {
            best = (specificity, weight);
        }
    }
    best.1
}

/// Whether the body is JSON by its headers. A body without a type is taken at its word.
pub(crate) fn sends_json(headers: &HeaderMap) -> Result<(), UnsupportedMediaType> {
    let unsupported = |sent: &str| Err(UnsupportedMediaType { sent: sent.to_owned() });
    let kind = headers.get(CONTENT_TYPE).map(|value| value.to_str().unwrap_or("?"));
    kind.filter(|kind| !is_json(kind)).map_or(Ok(()), unsupported)
}

/// Whether resources go under a type, or would if this server knew how to read them.
pub(crate) fn is_fhir(media_type: &str) -> bool {
    let name = media_type.split(';').next().unwrap_or_default().trim();
    let fhir = ["application/fhir+xml", "application/fhir+turtle", "application/x-turtle"];
    JSON.iter().chain(&fhir).any(|known| name.eq_ignore_ascii_case(known))
}

/// The patch in a body, of the sort that its type says: a type of JSON stands for any of them.
pub(crate) fn patch(headers: &HeaderMap, body: &[u8]) -> Result<Patch, Refusal> {
    let kind = headers.get(CONTENT_TYPE).map(|value| value.to_str().unwrap_or("?"));
    let named = kind.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    let patch = match named.to_ascii_lowercase().as_str() {
        "application/json-patch+json" => Patch::json(body),
        "application/merge-patch+json" => Patch::merge(body),
        _ => {
            if sends_json(headers).is_err() {
                return Err(Refusal::UnsupportedPatch { sent: named.to_owned() });
            }
            Patch::any(body)
        }
    };
    Ok(patch?)
}

/// Whether a media type, with its parameters, is FHIR R4 as JSON in UTF-8.
fn is_json(media_type: &str) -> bool {
    let mut parts = media_type.split(';').map(str::trim);
    let name = parts.next().unwrap_or_default();
    let fits = |parameter: &str| {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        let value = value.trim().trim_matches('"');
        match name.trim().to_ascii_lowercase().as_str() {
            "charset" => value.eq_ignore_ascii_case("utf-8"),
            // Some clients know R4 by the name of R4B alone. What they are answered is R4.
            "fhirversion" => matches!(value, "4.0" | "4.0.1" | "4.3" | "4.3.0"),
            _ => true,
        }
    };
    JSON.iter().any(|json| name.eq_ignore_ascii_case(json)) && parts.all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accept_and_format_decide_whether_json_is_answered() {
        let check = |accept: Option<&str>, format: Option<&str>, expect: bool| {
            let mut headers = HeaderMap::new();
            if let Some(accept) = accept {
                headers.insert(ACCEPT, accept.parse().unwrap());
            }
            assert_eq!(accepts(&headers, format).is_ok(), expect, "{accept:?} {format:?}");
        };
        check(None, None, true);
        check(Some("*/*"), None, true);
        check(Some("application/*"), None, true);
        check(Some("application/fhir+json"), None, true);
        check(Some("application/fhir+json; fhirVersion=4.0"), None, true);
        check(Some("application/fhir+json; fhirVersion=4.3"), None, true);
        check(Some("application/fhir+json; fhirVersion=3.0"), None, false);
        check(Some("application/fhir+json; fhirVersion=5.0"), None, false);
        check(Some("application/json"), None, true);
        check(Some("text/json"), None, true);
        check(Some("text/html, application/xhtml+xml, */*;q=0.8"), None, true);
        check(Some("application/fhir+xml"), None, false);
        check(Some("application/xml, text/xml"), None, false);
        check(Some("application/fhir+xml, application/fhir+json;q=0.5"), None, true);
        check(Some("*/*;q=0"), None, false);
        check(Some("image/*"), None, false);
        check(None, Some("json"), true);
        check(None, Some("application/fhir json"), true);
        check(Some("application/fhir+xml"), Some("json"), true);
        check(Some("application/fhir+json"), Some("xml"), false);
        check(None, Some("application/fhir+xml"), false);
        check(None, Some("ttl"), false);
    }

    #[test]
    fn only_json_bodies_are_read() {
        let check = |kind: Option<&str>, expect: bool| {
            let mut headers = HeaderMap::new();
            kind.map(|kind| headers.insert(CONTENT_TYPE, kind.parse().unwrap()));
            assert_eq!(sends_json(&headers).is_ok(), expect, "{kind:?}");
        };
        check(None, true);
        check(Some("application/fhir+json"), true);
        check(Some("application/fhir+json; charset=UTF-8"), true);
        check(Some("application/json;charset=utf-8"), true);
        check(Some("text/json"), true);
        check(Some("application/json; charset=latin1"), false);
        check(Some("application/fhir+xml"), false);
        check(Some("application/x-www-form-urlencoded"), false);
        check(Some("application/json-patch+json"), false);
        check(Some("text/plain"), false);
    }
}
