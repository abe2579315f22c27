//! This module names the address under which a client reaches this server.

use std::sync::OnceLock;

use http::header::HOST;
use http::request::Parts;

/// The base of a request's URLs. It is put together only if an answer needs it.
#[derive(Debug)]
pub(crate) struct Base<'r> {
    parts: &'r Parts,
    url: OnceLock<String>,
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
            format!("http://{}/fhir", host.filter(|host| is_host(host)).unwrap_or("localhost"))
        })
    }
}

/// Only what may stand in a host and port, for it is written into answers.
fn is_host(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte);
    !text.is_empty() && text.bytes().all(allowed)
}
