//! This module takes the connections of one address, finds out who is at the other end, and serves
//! HTTP over them until the door is shut.
//!
//! The number of connections is bounded, in all and for one address. Who has nothing under way gives its
//! place to who comes; who does not read what it is sent is given up.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::response::Response;
use chartmesh_region::PeerIdentity;
use http::Request;
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};
use tower::ServiceExt;

use crate::guard::Guard;
use crate::limits;
use crate::network::{Listen, Stream};
use crate::places::{Guest, Places, TooMany};
use crate::stall::Stalling;

/// The largest head of a request.
const HEAD_BYTES: u32 = chartmesh_rest::Limits::HEAD_BYTES as u32;

/// Who may come in, and how HTTP is spoken with them.
#[derive(Debug)]
pub(crate) enum Policy {
    /// Clients: anybody, HTTP/1.1 and HTTP/2 without TLS.
    Clients,
    /// Other nodes: only those that the guard knows, HTTP/2, each connection for a limited time.
    Nodes(Arc<Guard>),
}

/// An open address. Dropped without being shut, it stops where it is.
#[derive(Debug)]
pub(crate) struct Door {
    shut: watch::Sender<bool>,
    serving: JoinHandle<()>,
}

/// What all connections of a door share.
struct Hall {
    policy: Policy,
    router: Router,
    http: auto::Builder<TokioExecutor>,
    shut: watch::Receiver<bool>,
}

impl Door {
    /// Serves what comes in over `listener` by `router`.
    pub(crate) fn open(
        listener: Box<dyn Listen>,
        policy: Policy,
        places: Places,
        router: Router,
    ) -> Self {
        let (shut, shutting) = watch::channel(false);
        let http = http(&policy);
        let hall = Arc::new(Hall { policy, router, http, shut: shutting });
        let serving = tokio::spawn(hall.serve(listener, Arc::new(places)));
        Self { shut, serving }
    }

    /// Takes no connection any more; those that stand end with what is under way on them.
    pub(crate) fn shut(&self) {
        self.shut.send_replace(true);
    }

    /// Waits until the last connection has ended, but not longer than this.
    pub(crate) async fn emptied(&mut self, within: Duration) -> bool {
        timeout(within, &mut self.serving).await.is_ok()
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn http(policy: &Policy) -> auto::Builder<TokioExecutor> {
    let mut http = auto::Builder::new(TokioExecutor::new());
    http.http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits::HEADERS_WITHIN)
        .max_buf_size(HEAD_BYTES as usize);
    http.http2()
        .timer(TokioTimer::new())
        .max_header_list_size(HEAD_BYTES)
        .max_concurrent_streams(limits::STREAMS_PER_CONNECTION)
        .initial_stream_window_size(limits::STREAM_WINDOW_BYTES)
        .initial_connection_window_size(limits::CONNECTION_WINDOW_BYTES);
    if let Policy::Nodes(_) = policy {
        http.http2()
            .keep_alive_interval(limits::PING_EVERY)
            .keep_alive_timeout(limits::PONG_WITHIN);
        return http.http2_only();
    }
    http
}

impl Hall {
    async fn serve(self: Arc<Self>, mut listener: Box<dyn Listen>, places: Arc<Places>) {
        let mut connections = JoinSet::new();
        let mut shut = self.shut.clone();
        let mut shut = pin!(shut.wait_for(|&shut| shut));
        loop {
            let accepted = tokio::select! {
                _ = &mut shut => break,
                Some(_) = connections.join_next() => continue,
                accepted = listener.accept() => accepted,
            };
            let (stream, from) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be taken");
                    sleep(limits::LISTEN_AGAIN_AFTER).await;
                    continue;
                }
            };
            // One waits here; those after it wait to be accepted.
            let place = tokio::select! {
                _ = &mut shut => break,
                place = places.enter(from.ip()) => place,
            };
            match place {
                Ok(place) => {
                    let hall = Arc::clone(&self);
                    connections.spawn(async move {
                        hall.welcome(stream, from, place.guest()).await;
                        drop(place);
                    });
                }
                Err(TooMany) => {
                    let address = from.ip();
                    tracing::debug!(%address, "a connection is refused: its address has too many");
                }
            }
        }
        drop(listener);
        while connections.join_next().await.is_some() {}
    }

    async fn welcome(&self, stream: Box<dyn Stream>, from: SocketAddr, guest: &Arc<Guest>) {
        match &self.policy {
            Policy::Clients => {
                let stream = Stalling::new(stream, limits::READ_WITHIN);
                self.converse(stream, None, guest).await;
            }
            Policy::Nodes(guard) => match guard.admit(stream, from).await {
                Ok((stream, peer)) => {
                    self.converse(stream, Some(PeerIdentity(peer)), guest).await;
                }
                Err(refusal) => guard.turn_away(from, &refusal),
            },
        }
    }

    /// Serves one connection to its end. One that never asks for anything is dropped. One of a node
    /// is asked to end after its time, and dropped after some grace: a stream of log entries would
    /// otherwise keep an old certificate in use.
    async fn converse<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
        &self,
        stream: S,
        peer: Option<PeerIdentity>,
        guest: &Arc<Guest>,
    ) {
        let limited = peer.is_some();
        let begun = Arc::new(AtomicBool::new(false));
        let service = service(self.router.clone(), peer, Arc::clone(&begun), Arc::clone(guest));
        let mut connection = pin!(self.http.serve_connection(TokioIo::new(stream), service));
        let mut shut = self.shut.clone();
        let over = async {
            tokio::select! {
                _ = shut.wait_for(|&shut| shut) => {}
                () = sleep(limits::CONNECTION_AGE), if limited => {}
            }
        };
        let silent = async {
            sleep(limits::HEADERS_WITHIN).await;
            if begun.load(Ordering::Relaxed) {
                after(None).await;
            }
        };
        tokio::select! {
            _ = connection.as_mut() => return,
            () = silent => return,
            () = over => connection.as_mut().graceful_shutdown(),
            () = guest.sent_away() => {
                connection.as_mut().graceful_shutdown();
                tokio::select! {
                    _ = connection.as_mut() => return,
                    () = sleep(limits::LEAVE_PLACE_WITHIN) => {}
                }
                if guest.is_idle() {
                    return;
                }
            }
        }
        tokio::select! {
            _ = connection => {}
            () = after(limited.then_some(limits::CONNECTION_GRACE)) => {}
        }
    }
}

/// What answers the requests of one connection.
fn service(
    router: Router,
    peer: Option<PeerIdentity>,
    begun: Arc<AtomicBool>,
    guest: Arc<Guest>,
) -> impl Service<Request<Incoming>, Response = Response, Error = Infallible, Future: Send + 'static>
{
    service_fn(move |mut request: Request<Incoming>| {
        begun.store(true, Ordering::Relaxed);
        if let Some(peer) = &peer {
            request.extensions_mut().insert(peer.clone());
        }
        let under_way = UnderWay::of(&guest);
        let answering = router.clone().oneshot(request);
        async move {
            let answer = answering.await;
            drop(under_way);
            answer
        }
    })
}

/// A request that is not answered yet, however it ends.
struct UnderWay(Arc<Guest>);

impl UnderWay {
    fn of(guest: &Arc<Guest>) -> Self {
        guest.begin();
        Self(Arc::clone(guest))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// Waits so long; without a time, for ever.
async fn after(time: Option<Duration>) {
    match time {
        Some(time) => sleep(time).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io;

    use axum::Extension;
    use axum::routing::get;
    use futures::future::BoxFuture;
    use http::StatusCode;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio::sync::mpsc;

    use super::*;
    use crate::guard::Proof;
    use crate::network::Tcp;
    use crate::topology::Topology;

    /// A listener whose connections are made by the test.
    struct Hand(mpsc::Receiver<DuplexStream>);

    impl Listen for Hand {
        fn accept(&mut self) -> BoxFuture<'_, io::Result<(Box<dyn Stream>, SocketAddr)>> {
            Box::pin(async {
                let Some(stream) = self.0.recv().await else { return std::future::pending().await };
                let from = SocketAddr::from(([10, 0, 0, 1], 5));
                Ok((Box::new(stream) as Box<dyn Stream>, from))
            })
        }
    }

    /// A door for so many clients, and the hand that knocks at it.
    fn open(connections: usize, router: Router) -> (Door, mpsc::Sender<DuplexStream>) {
        let (hand, knocks) = mpsc::channel(8);
        let places = Places::new(connections, connections + 1);
        let door = Door::open(Box::new(Hand(knocks)), Policy::Clients, places, router);
        (door, hand)
    }

    async fn knock(hand: &mpsc::Sender<DuplexStream>) -> DuplexStream {
        let (near, far) = duplex(1 << 16);
        hand.send(far).await.unwrap();
        near
    }

    async fn ask(stream: &mut DuplexStream) {
        stream.write_all(b"GET / HTTP/1.1\r\nhost: h\r\n\r\n").await.unwrap();
    }

    /// The status line of the answer.
    async fn answer(stream: &mut DuplexStream) -> String {
        let mut text = vec![0; 1_000];
        let length = stream.read(&mut text).await.unwrap();
        String::from_utf8_lossy(&text[..length]).lines().next().unwrap_or_default().to_owned()
    }

    fn slow() -> Router {
        Router::new().route(
            "/",
            get(async || {
                sleep(Duration::from_secs(2)).await;
                "done"
            }),
        )
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_under_way_is_finished_after_the_door_is_shut() {
        let (mut door, hand) = open(8, slow());
        let mut busy = knock(&hand).await;
        let mut idle = knock(&hand).await;
        ask(&mut busy).await;
        sleep(Duration::from_secs(1)).await;

        door.shut();

        assert!(!door.emptied(Duration::from_millis(500)).await, "a request is under way");
        assert_eq!(answer(&mut busy).await, "HTTP/1.1 200 OK");
        assert!(door.emptied(Duration::from_millis(500)).await);
        assert_eq!(answer(&mut idle).await, "", "an idle connection is closed");
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_above_the_number_waits_for_a_place() {
        let (_door, hand) = open(1, slow());
        let mut first = knock(&hand).await;
        let mut second = knock(&hand).await;
        ask(&mut first).await;
        ask(&mut second).await;

        let waiting = timeout(Duration::from_secs(1), answer(&mut second)).await;
        assert!(waiting.is_err(), "the first connection has something under way");
        assert_eq!(answer(&mut first).await, "HTTP/1.1 200 OK");

        assert_eq!(answer(&mut second).await, "HTTP/1.1 200 OK");
        assert_eq!(answer(&mut first).await, "", "it has given its place away");
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_sends_half_a_request_gives_its_place_away() {
        let (_door, hand) = open(1, slow());
        let mut slow = knock(&hand).await;
        slow.write_all(b"GET / HTTP/1.1\r\nhost:").await.unwrap();
        let mut other = knock(&hand).await;
        ask(&mut other).await;

        let answered = timeout(Duration::from_secs(5), answer(&mut other)).await;

        assert_eq!(answered.unwrap(), "HTTP/1.1 200 OK");
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_never_asks_loses_its_place() {
        let (_door, hand) = open(1, slow());
        let mut silent = knock(&hand).await;

        let mut nothing = Vec::new();
        let closed = timeout(2 * limits::HEADERS_WITHIN, silent.read_to_end(&mut nothing)).await;

        assert_eq!(closed.unwrap().unwrap(), 0);
    }

    #[tokio::test]
    async fn a_client_has_no_identity() {
        let router = Router::new().route(
            "/",
            get(
                async |identity: Option<Extension<PeerIdentity>>| {
                    if identity.is_none() { StatusCode::OK } else { StatusCode::FORBIDDEN }
                },
            ),
        );
        let (_door, hand) = open(1, router);
        let mut client = knock(&hand).await;

        ask(&mut client).await;

        assert_eq!(answer(&mut client).await, "HTTP/1.1 200 OK");
    }

    /// A door for nodes, where pac-1 is known by its address.
    fn open_for_nodes(router: Router) -> (Door, mpsc::Sender<DuplexStream>) {
        let text = "[mesh]\nname = \"demo\"\n[[region]]\nname = \"pac\"\n[[node]]\nname = \"pac-1\"\n\
                    region = \"pac\"\nsite = \"yokota\"\nmesh = \"h:1\"\nfhir = \"h:2\"\n";
        let topology = Arc::new(Topology::parse(text).unwrap());
        let known = BTreeMap::from([([10, 0, 0, 1].into(), "pac-1".parse().unwrap())]);
        let guard = Guard::new(Proof::Address(known), Arc::new(Tcp), topology);
        let (hand, knocks) = mpsc::channel(8);
        let policy = Policy::Nodes(Arc::new(guard));
        (Door::open(Box::new(Hand(knocks)), policy, Places::new(8, 8), router), hand)
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_of_a_node_ends_after_its_time_even_under_an_endless_call() {
        let endless = get(async |Extension(PeerIdentity(peer)): Extension<PeerIdentity>| {
            assert_eq!(peer.as_str(), "pac-1");
            std::future::pending::<()>().await;
        });
        let (_door, hand) = open_for_nodes(Router::new().route("/", endless));
        let stream = TokioIo::new(knock(&hand).await);
        let handshake = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .handshake(stream);
        let (mut client, connection) = handshake.await.unwrap();
        let connection = tokio::spawn(connection);
        let started = tokio::time::Instant::now();
        let request = Request::get("http://pac-2/").body(String::new()).unwrap();

        let answer = client.send_request(request).await;

        assert!(answer.is_err(), "the call never ended by itself");
        drop(client);
        let _ = connection.await;
        let lasted = started.elapsed();
        let most = limits::CONNECTION_AGE + limits::CONNECTION_GRACE;
        assert!(lasted >= limits::CONNECTION_AGE && lasted <= most + Duration::from_secs(1));
    }
}
