//! This module is a client: one HTTP/1.1 connection to one node, over the machine's network or a
//! simulated one.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chartmesh_node::{Address, Network};
use http::{HeaderMap, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::time::timeout;

/// A client of one node. It connects when it first asks, and again after a connection broke.
#[derive(Debug)]
pub struct Client {
    network: Arc<dyn Network>,
    address: Address,
    patience: Duration,
    connection: Option<SendRequest<Full<Bytes>>>,
}

/// What a client asks.
#[derive(Clone, Debug)]
pub struct Ask {
    /// `GET`, `PUT`, ...
    pub method: Method,
    /// The path and the query, from the root of the node: `/fhir/Patient/1`.
    pub path: String,
    /// Header fields beside those of HTTP itself.
    pub headers: Vec<(&'static str, String)>,
    /// The body; a JSON document if it is not empty.
    pub body: Bytes,
}

/// What a node answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The header fields.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Client {
    /// A client of the node at `host:port` that gives up on an answer after `patience`.
    #[must_use]
    pub fn new(network: Arc<dyn Network>, address: Address, patience: Duration) -> Self {
        Self { network, address, patience, connection: None }
    }

    /// The same client with another patience.
    #[must_use]
    pub fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Asks and waits for the whole answer.
    ///
    /// # Errors
    /// No connection, a broken one, or no answer in time: what became of a write is then unknown.
    pub async fn ask(&mut self, ask: Ask) -> io::Result<Answer> {
        let answered = timeout(self.patience, self.exchange(ask)).await;
        let answered = answered.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        if answered.is_err() {
            self.connection = None;
        }
        answered
    }

    async fn exchange(&mut self, ask: Ask) -> io::Result<Answer> {
        let mut connection = match self.connection.take() {
            Some(open) if !open.is_closed() => open,
            _ => self.open().await?,
        };
        let mut request = Request::builder()
            .method(ask.method)
            .uri(ask.path)
            .header(header::HOST, self.address.as_str())
            .header(header::ACCEPT, "application/fhir+json");
        if !ask.body.is_empty() && !ask.headers.iter().any(|(name, _)| *name == "content-type") {
            request = request.header(header::CONTENT_TYPE, "application/fhir+json");
        }
        for (name, value) in ask.headers {
            request = request.header(name, value);
        }
        let request = request.body(Full::new(ask.body)).expect("a well-formed request");
        connection.ready().await.map_err(io::Error::other)?;
        let answer = connection.send_request(request).await.map_err(io::Error::other)?;
        let (head, body) = answer.into_parts();
        let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
        self.connection = Some(connection);
        Ok(Answer { status: head.status, headers: head.headers, body })
    }

    async fn open(&self) -> io::Result<SendRequest<Full<Bytes>>> {
        let stream = self.network.connect(&self.address).await?;
        let (connection, driver) =
            http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        tokio::spawn(driver);
        Ok(connection)
    }
}

impl Ask {
    /// Asks for what is at a path.
    #[must_use]
    pub fn get(path: impl Into<String>) -> Self {
        Self { method: Method::GET, path: path.into(), headers: Vec::new(), body: Bytes::new() }
    }

    /// Sends a document to a path.
    #[must_use]
    pub fn put(path: impl Into<String>, body: impl Into<Bytes>) -> Self {
        Self { method: Method::PUT, body: body.into(), ..Self::get(path) }
    }

    /// Sends a document to a path, for the server to choose where it stands.
    #[must_use]
    pub fn post(path: impl Into<String>, body: impl Into<Bytes>) -> Self {
        Self { method: Method::POST, ..Self::put(path, body) }
    }

    /// The same with a header field.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

impl Answer {
    /// The body as JSON; null if it is none.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// A header field; empty if it is absent.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The version id in the ETag.
    #[must_use]
    pub fn version(&self) -> Option<&str> {
        self.header("etag").strip_prefix("W/\"")?.strip_suffix('"')
    }
}
