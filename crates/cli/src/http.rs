//! This module is the HTTP client that the commands share: HTTP/1.1 with kept connections, bounded
//! in time and size, whose errors say in plain words what happened.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a kept connection stays open without a request.
const IDLE_TIMEOUT: Duration = Duration::from_secs(20);

/// The largest answer that is read.
const MAX_ANSWER_BYTES: usize = 256 * 1024 * 1024;

/// The address of a FHIR endpoint, such as `http://127.0.0.1:8080/fhir`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct BaseUrl {
    authority: String,
    path: String,
}

/// The text is no address of a FHIR endpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a FHIR endpoint: {reason}, such as http://127.0.0.1:8080/fhir")]
pub(crate) struct InvalidBaseUrl {
    text: String,
    reason: &'static str,
}

impl BaseUrl {
    /// The host with its port.
    pub(crate) fn authority(&self) -> &str {
        &self.authority
    }

    /// The path under which FHIR is served, without a slash at its end.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// The address of something below the endpoint: `Patient/1`, or empty for the endpoint itself.
    pub(crate) fn join(&self, below: &str) -> String {
        let slash = if below.is_empty() { "" } else { "/" };
        format!("http://{}{}{slash}{below}", self.authority, self.path)
    }
}

impl FromStr for BaseUrl {
    type Err = InvalidBaseUrl;

    /// A bare host means its `/fhir`.
    fn from_str(text: &str) -> Result<Self, InvalidBaseUrl> {
        let invalid = |reason| InvalidBaseUrl { text: text.to_owned(), reason };
        let uri: Uri = text.parse().map_err(|_| invalid("it must be a URL"))?;
        if uri.scheme_str() != Some("http") {
            return Err(invalid("it must begin with http://"));
        }
        let authority = uri.authority().ok_or_else(|| invalid("it must name a host"))?;
        if authority.as_str().contains('@') || uri.query().is_some() {
            return Err(invalid("it may hold neither a user nor a query"));
        }
        let port = authority.port_u16().unwrap_or(80);
        let path = uri.path().trim_end_matches('/');
        Ok(Self {
            authority: format!("{}:{port}", authority.host()),
            path: if path.is_empty() { "/fhir".to_owned() } else { path.to_owned() },
        })
    }
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}", self.authority, self.path)
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoAnswer {
    /// The address cannot be used.
    #[error("{address} is not an address: {reason}")]
    Address {
        /// What was given.
        address: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Nobody takes the connection.
    #[error("cannot reach {host}: {reason}")]
    Unreachable {
        /// Who was to answer.
        host: String,
        /// What the system says.
        reason: String,
    },
    /// The connection ended before the answer was complete.
    #[error("{host} ended the connection before its answer was complete: {reason}")]
    Broken {
        /// Who was to answer.
        host: String,
        /// What happened.
        reason: String,
    },
    /// The answer takes too long.
    #[error("{host} has not answered within {} s", within.as_secs_f64())]
    Late {
        /// Who was to answer.
        host: String,
        /// How long it was waited for.
        within: Duration,
    },
    /// The answer is larger than this client reads.
    #[error("the answer of {host} is larger than {MAX_ANSWER_BYTES} bytes")]
    TooLarge {
        /// Who answered.
        host: String,
    },
}

impl NoAnswer {
    /// Whether the same request may be answered another time.
    pub(crate) fn may_pass(&self) -> bool {
        !matches!(self, Self::Address { .. } | Self::TooLarge { .. })
    }
}

/// What a server answered.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    /// Its status.
    pub(crate) status: StatusCode,
    /// Its headers.
    pub(crate) headers: HeaderMap,
    /// Its whole body.
    pub(crate) body: Bytes,
}

/// An HTTP/1.1 client that keeps its connections. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    inner: legacy::Client<HttpConnector, Full<Bytes>>,
    patience: Duration,
}

impl Client {
    /// A client that waits this long for each whole answer.
    pub(crate) fn new(patience: Duration) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        connector.set_nodelay(true);
        let inner = legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .build(connector);
        Self { inner, patience }
    }

    /// The same client, its connections shared, that waits this long for each whole answer.
    pub(crate) fn waiting(&self, patience: Duration) -> Self {
        Self { inner: self.inner.clone(), patience }
    }

    /// Reads `url`.
    pub(crate) async fn get(&self, url: &str) -> Result<Answer, NoAnswer> {
        self.send(Method::GET, url, HeaderMap::new(), Bytes::new()).await
    }

    /// Sends one request and reads its whole answer. A body goes as `application/fhir+json`,
    /// unless the headers say otherwise.
    pub(crate) async fn send(
        &self,
        method: Method,
        url: &str,
        mut headers: HeaderMap,
        body: Bytes,
    ) -> Result<Answer, NoAnswer> {
        let not_an_address = |reason: String| NoAnswer::Address { address: url.to_owned(), reason };
        let uri: Uri =
            url.parse().map_err(|e: http::uri::InvalidUri| not_an_address(e.to_string()))?;
        let host = uri.authority().map(ToString::to_string).unwrap_or_default();
        let fhir_json = HeaderValue::from_static("application/fhir+json");
        if !body.is_empty() {
            headers.entry(header::CONTENT_TYPE).or_insert_with(|| fhir_json.clone());
        }
        headers.entry(header::ACCEPT).or_insert(fhir_json);
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = uri;
        *request.headers_mut() = headers;
        let late = NoAnswer::Late { host: host.clone(), within: self.patience };
        tokio::time::timeout(self.patience, self.exchange(request, host)).await.unwrap_or(Err(late))
    }

    async fn exchange(
        &self,
        request: Request<Full<Bytes>>,
        host: String,
    ) -> Result<Answer, NoAnswer> {
        let answer = match self.inner.request(request).await {
            Ok(answer) => answer,
            Err(error) if error.is_connect() => {
                return Err(NoAnswer::Unreachable { host, reason: root_cause(&error) });
            }
            Err(error) => return Err(NoAnswer::Broken { host, reason: root_cause(&error) }),
        };
        let (head, body) = answer.into_parts();
        match Limited::new(body, MAX_ANSWER_BYTES).collect().await {
            Ok(body) => {
                Ok(Answer { status: head.status, headers: head.headers, body: body.to_bytes() })
            }
            Err(error) if error.is::<LengthLimitError>() => Err(NoAnswer::TooLarge { host }),
            Err(error) => Err(NoAnswer::Broken { host, reason: root_cause(error.as_ref()) }),
        }
    }
}

/// The innermost reason: what the operating system says, not through which layers it came.
fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_a_plain_http_url_and_a_bare_host_means_its_fhir() {
        for (text, authority, path) in [
            ("http://127.0.0.1:8080/fhir/", "127.0.0.1:8080", "/fhir"),
            ("http://localhost:9", "localhost:9", "/fhir"),
            ("http://[::1]:80/a/b", "[::1]:80", "/a/b"),
            ("http://ehr.example", "ehr.example:80", "/fhir"),
        ] {
            let base: BaseUrl = text.parse().unwrap();
            assert_eq!((base.authority(), base.path()), (authority, path), "{text}");
        }
        for bad in ["", "127.0.0.1:8080", "https://a/fhir", "http://u@a/", "http://a/?x=1", "/fhir"]
        {
            assert!(bad.parse::<BaseUrl>().is_err(), "{bad:?}");
        }
    }

    #[tokio::test]
    async fn a_refused_connection_is_told_in_plain_words_and_may_pass() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap();
        drop(listener);

        let error = Client::new(Duration::from_secs(5))
            .get(&format!("http://{host}/fhir/metadata"))
            .await
            .unwrap_err();

        assert!(error.may_pass());
        let text = error.to_string();
        assert!(text.starts_with(&format!("cannot reach {host}: Connection refused")), "{text}");
    }

    #[tokio::test]
    async fn a_server_that_does_not_answer_is_not_waited_for_forever() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());

        let error = Client::new(Duration::from_millis(50)).get(&url).await.unwrap_err();

        assert!(matches!(error, NoAnswer::Late { .. }), "{error}");
    }
}
