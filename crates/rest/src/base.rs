//! This module names the address under which a client reaches this server.
//!
//! Where a proxy stands between, it says how it was reached: in `Forwarded` (RFC 7239) or, if that is
//! absent, in `X-Forwarded-Proto`, `-Host`, `-Port` and `-Prefix`. Of several, the first counts: that of
//! the proxy next to the client.

use std::sync::OnceLock;

use http::HeaderMap;
use http::header::{FORWARDED, HOST};
use http::request::Parts;

/// The base of a request's URLs. It is put together only if an answer needs it.
#[derive(Debug)]
pub(crate) struct Base<'r> {
    parts: &'r Parts,
    url: OnceLock<String>,
}

/// What a proxy says of how it was reached.
#[derive(Debug, Default)]
struct Reached {
    scheme: Option<String>,
    host: Option<String>,
    port: Option<String>,
    prefix: Option<String>,
}

impl<'r> Base<'r> {
    /// The base by which this request has come.
    pub(crate) fn of(parts: &'r Parts) -> Self {
        Self { parts, url: OnceLock::new() }
    }

    /// `http://host:port/fhir`
    pub(crate) fn url(&self) -> &str {
        self.url.get_or_init(|| {
            let named = self.parts.headers.get(HOST).and_then(|host| host.to_str().ok());
            let host = self.parts.uri.authority().map(http::uri::Authority::as_str).or(named);
            let reached = Reached::of(&self.parts.headers);
            let scheme = reached.scheme.filter(|it| matches!(&**it, "http" | "https"));
            let scheme = scheme.as_deref().unwrap_or("http");
            let host = reached.host.as_deref().or(host).filter(|host| is_host(host));
            let host = host.unwrap_or("localhost");
            let port = reached.port.filter(|port| port.parse::<u16>().is_ok());
            let port = port.filter(|_| !host.rsplit(']').next().unwrap_or(host).contains(':'));
            let port = port.map_or_else(String::new, |port| format!(":{port}"));
            let prefix = reached.prefix.filter(|prefix| is_prefix(prefix)).unwrap_or_default();
            format!("{scheme}://{host}{port}{}/fhir", prefix.trim_end_matches('/'))
        })
    }
}

impl Reached {
    fn of(headers: &HeaderMap) -> Self {
        let first = |name: &str| {
            let text = headers.get(name)?.to_str().ok()?;
            Some(text.split(',').next()?.trim().to_owned())
        };
        let Some(forwarded) = first(FORWARDED.as_str()) else {
            return Self {
                scheme: first("x-forwarded-proto").map(|scheme| scheme.to_ascii_lowercase()),
                host: first("x-forwarded-host"),
                port: first("x-forwarded-port"),
                prefix: first("x-forwarded-prefix"),
            };
        };
        let mut reached = Self::default();
        for pair in forwarded.split(';') {
            let Some((name, value)) = pair.split_once('=') else { continue };
            let value = value.trim().trim_matches('"').to_owned();
            match name.trim().to_ascii_lowercase().as_str() {
                "proto" => reached.scheme = Some(value.to_ascii_lowercase()),
                "host" => reached.host = Some(value),
                _ => {}
            }
        }
        reached
    }
}

/// Only what may stand in a host and port, for it is written into answers.
fn is_host(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte);
    !text.is_empty() && text.bytes().all(allowed)
}

/// Only what may stand in a path.
fn is_prefix(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"/.-_~".contains(&byte);
    text.starts_with('/') && text.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base(headers: &[(&str, &str)]) -> String {
        let mut request = http::Request::builder().uri("/fhir/Patient").header(HOST, "node:8000");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (parts, ()) = request.body(()).expect("a request").into_parts();
        Base::of(&parts).url().to_owned()
    }

    #[test]
    fn links_begin_with_the_address_that_the_client_has_used() {
        let check = |headers: &[_], expected: &str| {
            assert_eq!(base(headers), expected, "{headers:?}");
        };

        check(&[], "http://node:8000/fhir");
        let forwarded = "for=1.2.3.4;proto=HTTPS;host=\"ehr.mil:444\", for=10.0.0.1;host=inner";
        check(&[("forwarded", forwarded)], "https://ehr.mil:444/fhir");
        let proto = ("x-forwarded-proto", "https, http");
        let host = ("x-forwarded-host", "ehr.mil");
        check(&[proto], "https://node:8000/fhir");
        check(&[proto, host], "https://ehr.mil/fhir");
        check(&[proto, host, ("x-forwarded-port", "444")], "https://ehr.mil:444/fhir");
        check(&[host, ("x-forwarded-prefix", "/emr/")], "http://ehr.mil/emr/fhir");
        check(&[("forwarded", "proto=https"), host], "https://node:8000/fhir");
    }

    #[test]
    fn what_may_not_stand_in_a_url_is_not_taken_over() {
        assert_eq!(base(&[("x-forwarded-host", "a<b>")]), "http://localhost/fhir");
        assert_eq!(base(&[("x-forwarded-proto", "javascript")]), "http://node:8000/fhir");
        assert_eq!(base(&[("x-forwarded-prefix", "/a\"b")]), "http://node:8000/fhir");
        assert_eq!(base(&[("x-forwarded-port", "x")]), "http://node:8000/fhir");
    }
}
