//! This module lets others cut and slow the links of a demo: HTTP on loopback, without access control.
//!
//! | request | what it does |
//! |---|---|
//! | `GET /` | shows every link with its shape and its bytes |
//! | `GET /round-trip?from=&to=` | measures the round trip of a link, and says if it is not what was asked for |
//! | `POST /isolate/NODE` | cuts a node off from all others |
//! | `POST /stall/NODE` | lets nothing pass between a node and the others; connections stay |
//! | `POST /cut-region/REGION` | cuts a region off from the others |
//! | `POST /heal` | ends every cut and stall; delays and rates stay |
//! | `POST /shape?from=&to=&delay_ms=&rate=` | delay in each direction, bytes per second (0: no limit) |
//!
//! `from` and `to` name a node or a region; absent both, the links between regions are meant.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use chartmesh_link_proxy::{Flow, Member, Net, RoundTripError, UnknownName};
use http::{Method, Request, Response, StatusCode, Uri, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Serialize;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::sleep;

use crate::links::{FlowView, LinkView, LinksView, RoundTrip, Said};

/// Connections at one time. The next one waits.
const CONNECTIONS: usize = 16;

/// How long a client may take to send the head of a request.
const HEADERS_WITHIN: Duration = Duration::from_secs(5);

/// The largest head of a request.
const HEAD_BYTES: usize = 16 * 1024;

/// After an error the next connection is taken after this time.
const ACCEPT_AGAIN_AFTER: Duration = Duration::from_millis(100);

/// The HTTP interface to the links of a demo. It ends when it is dropped.
#[derive(Debug)]
pub(super) struct Control {
    address: SocketAddr,
    serving: JoinHandle<()>,
}

/// What is not done, and why.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("there is nothing at {0}: see `chartmesh links --help`")]
    NoSuchPage(String),
    #[error(transparent)]
    Unknown(#[from] UnknownName),
    #[error("{0} names neither a node nor a region")]
    NoEnd(String),
    #[error("from and to must name two nodes")]
    NoLink,
    #[error(transparent)]
    RoundTrip(#[from] RoundTripError),
    #[error("{key}={value}: {expected}")]
    Value { key: String, value: String, expected: &'static str },
}

/// Which links are to be changed, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Change {
    from: Option<String>,
    to: Option<String>,
    delay: Option<Duration>,
    /// The inner `None`: no limit.
    rate: Option<Option<NonZeroU64>>,
}

impl Control {
    /// Serves until it is dropped.
    pub(super) async fn start(net: Arc<Net>) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let listener = listener.context("cannot listen for `chartmesh links`")?;
        let address = listener.local_addr()?;
        Ok(Self { address, serving: tokio::spawn(serve(listener, net)) })
    }

    /// Where it is.
    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(listener: TcpListener, net: Arc<Net>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Some(_) = connections.join_next() => {}
            accepted = listener.accept(), if connections.len() < CONNECTIONS => match accepted {
                Ok((stream, _)) => drop(connections.spawn(converse(stream, Arc::clone(&net)))),
                Err(_) => sleep(ACCEPT_AGAIN_AFTER).await,
            },
        }
    }
}

async fn converse(stream: TcpStream, net: Arc<Net>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let net = Arc::clone(&net);
        async move { Ok::<_, Infallible>(answer(&net, request.method(), request.uri()).await) }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEADERS_WITHIN).max_buf_size(HEAD_BYTES);
    // Whoever has asked sees that a connection has ended.
    let _ = http.serve_connection(TokioIo::new(stream), service).await;
}

async fn answer(net: &Net, method: &Method, uri: &Uri) -> Response<Full<Bytes>> {
    let done = match (method, uri.path()) {
        (&Method::GET, "/") => return json(StatusCode::OK, &view(net)),
        (&Method::GET, "/round-trip") => match round_trip(net, uri).await {
            Ok(made) => return json(StatusCode::OK, &made),
            Err(refusal) => Err(refusal),
        },
        (&Method::POST, _) => act(net, uri),
        (_, path) => Err(Refusal::NoSuchPage(format!("{method} {path}"))),
    };
    match done {
        Ok(text) => json(StatusCode::OK, &Said { text }),
        Err(refusal) => json(refusal.status(), &Said { text: refusal.to_string() }),
    }
}

async fn round_trip(net: &Net, uri: &Uri) -> Result<RoundTrip, Refusal> {
    let ends = Change::parse(uri.query().unwrap_or_default())?;
    let link = ends.from.zip(ends.to).and_then(|(from, to)| net.link(&from, &to));
    let made = link.ok_or(Refusal::NoLink)?.measure_round_trip().await?;
    Ok(RoundTrip { made_ms: made.as_secs_f64() * 1e3 })
}

fn json(status: StatusCode, content: &impl Serialize) -> Response<Full<Bytes>> {
    let body = serde_json::to_vec_pretty(content).unwrap_or_default();
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    let kind = http::HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

/// Does what is asked for, and says what was done.
fn act(net: &Net, uri: &Uri) -> Result<String, Refusal> {
    let path = uri.path().trim_matches('/');
    match path.split_once('/').unwrap_or((path, "")) {
        ("isolate", node) => {
            net.isolate(node)?;
            Ok(format!("{node} is cut off from all others."))
        }
        ("stall", node) => {
            net.stall(node)?;
            Ok(format!("Nothing passes between {node} and the others."))
        }
        ("cut-region", region) => {
            net.cut_region(region)?;
            Ok(format!("The region {region} is cut off from the others."))
        }
        ("heal", "") => {
            net.heal();
            Ok("Nothing is cut or stalled any more.".to_owned())
        }
        ("shape", "") => shape(net, &Change::parse(uri.query().unwrap_or_default())?),
        _ => Err(Refusal::NoSuchPage(uri.path().to_owned())),
    }
}

fn shape(net: &Net, change: &Change) -> Result<String, Refusal> {
    for name in [&change.from, &change.to].into_iter().flatten() {
        if !net.members().iter().any(|member| is(member, name)) {
            return Err(Refusal::NoEnd(name.clone()));
        }
    }
    let concerns = |from: &Member, to: &Member| match (&change.from, &change.to) {
        (None, None) => from.region != to.region,
        (dials, dialled) => {
            dials.as_ref().is_none_or(|name| is(from, name))
                && dialled.as_ref().is_none_or(|name| is(to, name))
        }
    };
    net.change(|from, to, shape| {
        if concerns(from, to) {
            change.apply(&mut shape.forth);
            change.apply(&mut shape.back);
        }
    });
    let links = net.links().filter(|(from, to, _)| concerns(from, to)).count();
    Ok(format!("{links} links are changed."))
}

fn is(member: &Member, name: &str) -> bool {
    member.name == name || member.region == name
}

fn view(net: &Net) -> LinksView {
    let flow = |flow: Flow, bytes| FlowView {
        delay_ms: u64::try_from(flow.delay.as_millis()).unwrap_or(u64::MAX),
        rate: flow.rate.map(NonZeroU64::get),
        stalled: flow.stalled,
        bytes,
    };
    let links = net.links().map(|(from, to, link)| {
        let (shape, passed) = (link.shape(), link.passed());
        LinkView {
            from: from.name.clone(),
            from_region: from.region.clone(),
            to: to.name.clone(),
            to_region: to.region.clone(),
            address: link.address().to_string(),
            cut: shape.cut,
            forth: flow(shape.forth, passed.forth),
            back: flow(shape.back, passed.back),
        }
    });
    LinksView { links: links.collect() }
}

impl Change {
    fn parse(query: &str) -> Result<Self, Refusal> {
        let mut change = Self::default();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let invalid = |expected| Refusal::Value {
                key: key.to_owned(),
                value: value.to_owned(),
                expected,
            };
            let number = || value.parse().map_err(|_| invalid("a whole number is expected"));
            match key {
                "from" | "to" if value.is_empty() => {}
                "from" => change.from = Some(value.to_owned()),
                "to" => change.to = Some(value.to_owned()),
                "delay_ms" => change.delay = Some(Duration::from_millis(number()?)),
                "rate" => change.rate = Some(NonZeroU64::new(number()?)),
                _ => return Err(invalid("from, to, delay_ms and rate are known")),
            }
        }
        Ok(change)
    }

    fn apply(&self, flow: &mut Flow) {
        flow.delay = self.delay.unwrap_or(flow.delay);
        flow.rate = self.rate.unwrap_or(flow.rate);
    }
}

impl Refusal {
    fn status(&self) -> StatusCode {
        match self {
            Self::NoSuchPage(_) | Self::Unknown(_) | Self::NoEnd(_) => StatusCode::NOT_FOUND,
            Self::Value { .. } | Self::NoLink => StatusCode::BAD_REQUEST,
            Self::RoundTrip(_) => StatusCode::CONFLICT,
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;
    use crate::http::Client;

    /// The links of `a-1`, `a-2` and `b-1`, and the way to change them.
    async fn start() -> (Arc<Net>, Control) {
        let member = |name: &str| Member {
            name: name.to_owned(),
            region: name[..1].to_owned(),
            mesh: SocketAddr::from((Ipv4Addr::LOCALHOST, 1)),
        };
        let net = Arc::new(Net::start(["a-1", "a-2", "b-1"].map(member).to_vec()).unwrap());
        let control = Control::start(Arc::clone(&net)).await.unwrap();
        (net, control)
    }

    async fn post(control: &Control, path: &str) -> (u16, String) {
        let url = format!("{}{path}", control.url());
        let client = Client::new(Duration::from_secs(10));
        let answer = client.send(Method::POST, &url, HeaderMap::new(), Bytes::new()).await.unwrap();
        let said: Said = serde_json::from_slice(&answer.body).unwrap();
        (answer.status.as_u16(), said.text)
    }

    async fn list(control: &Control) -> Vec<LinkView> {
        let answer = Client::new(Duration::from_secs(10)).get(&control.url()).await.unwrap();
        serde_json::from_slice::<LinksView>(&answer.body).unwrap().links
    }

    #[tokio::test]
    async fn links_are_cut_and_healed_over_http() {
        let (net, control) = start().await;

        assert_eq!(post(&control, "/isolate/a-2").await.0, 200);
        let cut: Vec<String> = list(&control)
            .await
            .into_iter()
            .filter(|link| link.cut)
            .map(|link| format!("{}>{}", link.from, link.to))
            .collect();
        assert_eq!(cut, ["a-1>a-2", "a-2>a-1", "a-2>b-1", "b-1>a-2"]);
        assert_eq!(post(&control, "/stall/b-1").await.0, 200);
        assert_eq!(post(&control, "/cut-region/a").await.0, 200);
        assert!(net.links().filter(|(_, _, link)| link.shape().passes()).count() == 0);

        assert_eq!(post(&control, "/heal").await.0, 200);

        assert!(net.links().all(|(_, _, link)| link.shape().passes()));
    }

    #[tokio::test]
    async fn a_shape_without_ends_is_for_the_links_between_regions() {
        let (net, control) = start().await;

        let all = post(&control, "/shape?delay_ms=50").await;
        let some = post(&control, "/shape?from=a-1&to=b&rate=1000").await;

        assert_eq!(all, (200, "4 links are changed.".to_owned()));
        assert_eq!(some, (200, "1 links are changed.".to_owned()));
        let shape = net.link("a-1", "b-1").unwrap().shape();
        let flow =
            Flow { delay: Duration::from_millis(50), rate: NonZeroU64::new(1_000), stalled: false };
        assert_eq!((shape.forth, shape.back), (flow, flow));
        assert_eq!(net.link("a-1", "a-2").unwrap().shape(), Default::default());
        assert_eq!(list(&control).await[1].forth.delay_ms, 50);
        post(&control, "/shape?rate=0").await;
        assert_eq!(net.link("a-1", "b-1").unwrap().shape().forth.rate, None);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_round_trip_of_a_link_is_measured() {
        let (_net, control) = start().await;
        post(&control, "/shape?delay_ms=20").await;
        let get = async |path: &str| {
            Client::new(Duration::from_secs(10))
                .get(&format!("{}{path}", control.url()))
                .await
                .unwrap()
        };

        let made = get("/round-trip?from=a-1&to=b-1").await;
        post(&control, "/isolate/b-1").await;
        let cut = get("/round-trip?from=a-1&to=b-1").await;

        let made: RoundTrip = serde_json::from_slice(&made.body).unwrap();
        assert!((40.0..50.0).contains(&made.made_ms), "{made:?}");
        assert_eq!(cut.status, StatusCode::CONFLICT);
        assert_eq!(get("/round-trip?from=a-1").await.status, StatusCode::BAD_REQUEST);
    }

    #[tokio::test]
    async fn what_means_nothing_is_refused_in_words() {
        let (_net, control) = start().await;

        for (path, expect) in [
            ("/isolate/c-1", (404, "there is no node \"c-1\"")),
            ("/cut-region/", (404, "there is no region \"\"")),
            ("/shape?from=c", (404, "c names neither a node nor a region")),
            ("/shape?delay_ms=-1", (400, "delay_ms=-1: a whole number is expected")),
            ("/shape?dleay=1", (400, "dleay=1: from, to, delay_ms and rate are known")),
            ("/explode", (404, "there is nothing at /explode: see `chartmesh links --help`")),
        ] {
            let (status, text) = post(&control, path).await;
            assert_eq!((status, text.as_str()), expect, "{path}");
        }
    }
}
