//! This module says which web pages of other origins may ask (Fetch, CORS protocol).

use std::str::FromStr;
use std::time::Duration;

use http::header::{ETAG, LAST_MODIFIED, LOCATION, RETRY_AFTER};
use http::{HeaderName, HeaderValue, Method};
use tower_http::cors::{AllowOrigin, Any, CorsLayer};

/// The origins of web pages that may ask; none unless they are named.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origins(Vec<HeaderValue>);

/// A text that names no origin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no origin such as https://app.example.org, nor * for all")]
pub struct InvalidOrigin {
    text: String,
}

/// What scripts may read of an answer, beside its body.
const EXPOSED: [&str; 7] = [
    "chartmesh-applied",
    "chartmesh-as-of",
    "chartmesh-conflict",
    "chartmesh-durability",
    "chartmesh-state",
    "preference-applied",
    "x-request-id",
];

/// For how long a browser may remember what it was told.
const KEPT: Duration = Duration::from_secs(600);

impl FromStr for Origins {
    type Err = InvalidOrigin;

    /// Origins, separated by commas.
    fn from_str(text: &str) -> Result<Self, InvalidOrigin> {
        let origins = text.split(',').map(str::trim).filter(|origin| !origin.is_empty());
        let origin = |text: &str| {
            let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
            let is_host = |host: &str| {
                !host.is_empty()
                    && host.bytes().all(|it| it.is_ascii_alphanumeric() || b".-:[]".contains(&it))
            };
            let is_one = text == "*" || host.is_some_and(is_host);
            let value = HeaderValue::from_str(text).ok().filter(|_| is_one);
            value.ok_or_else(|| InvalidOrigin { text: text.to_owned() })
        };
        origins.map(origin).collect::<Result<_, _>>().map(Self)
    }
}

impl Origins {
    /// What answers and asks the browser; `None` if no page may ask.
    pub(crate) fn layer(&self) -> Option<CorsLayer> {
        if self.0.is_empty() {
            return None;
        }
        let origins = match self.0.iter().any(|origin| origin == "*") {
            true => AllowOrigin::any(),
            false => AllowOrigin::list(self.0.clone()),
        };
        let methods = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"];
        let methods = methods.map(|name| Method::from_bytes(name.as_bytes()).expect("a method"));
        let exposed = [ETAG, LAST_MODIFIED, LOCATION, RETRY_AFTER].into_iter();
        let exposed = exposed.chain(EXPOSED.map(HeaderName::from_static));
        let layer = CorsLayer::new().allow_origin(origins).allow_methods(methods);
        let layer = layer.allow_headers(Any).expose_headers(exposed.collect::<Vec<_>>());
        Some(layer.max_age(KEPT))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_read_from_a_list() {
        let count = |text: &str| text.parse::<Origins>().map(|origins| origins.0.len());
        assert_eq!(count(""), Ok(0));
        assert_eq!(count("https://a.example.org, http://localhost:3000"), Ok(2));
        assert_eq!(count("*"), Ok(1));
        for bad in ["a.example.org", "https://", "https://a/b", "ftp://a", "https://a b"] {
            assert!(count(bad).is_err(), "{bad}");
        }
    }
}
