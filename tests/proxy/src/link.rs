//! This module is one link: a port at which one node reaches another one.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::sleep;

use crate::flow::{Lane, flow};
use crate::limits;
use crate::place::Place;
use crate::round_trip::{self, RoundTripError};
use crate::shape::{Direction, LinkShape};

/// A link from one node to another one. It ends when it is dropped.
#[derive(Debug)]
pub struct Link {
    address: SocketAddr,
    line: Arc<Line>,
    serving: JoinHandle<()>,
}

/// How many bytes have passed over a link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Passed {
    /// From who dials.
    pub forth: u64,
    /// To who dials.
    pub back: u64,
}

/// What all connections of a link share.
#[derive(Debug)]
pub(crate) struct Line {
    to: SocketAddr,
    shape: watch::Sender<LinkShape>,
    /// Changes whenever all connections must end.
    breaks: watch::Sender<Ending>,
    forth: Lane,
    back: Lane,
}

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// In order.
    Closed,
    /// By a reset.
    Reset,
}

impl Link {
    /// A link to this address, over which bytes pass at once. Call it within a runtime.
    ///
    /// # Errors
    /// There is no port for it.
    pub fn start(to: SocketAddr) -> io::Result<Self> {
        let place = Place::find()?;
        let (address, listener) = (place.address(), place.listen()?);
        let line = Arc::new(Line::new(to, LinkShape::default()));
        let serving = tokio::spawn(serve(Arc::clone(&line), place, listener));
        Ok(Self { address, line, serving })
    }

    /// Where it is dialled.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it does.
    #[must_use]
    pub fn shape(&self) -> LinkShape {
        *self.line.shape.borrow()
    }

    /// Changes what it does. What is on its way already arrives when it was due.
    pub fn change(&self, change: impl FnOnce(&mut LinkShape)) {
        let mut cut = false;
        self.line.shape.send_modify(|shape| {
            let before = shape.cut;
            change(shape);
            cut = shape.cut && !before;
        });
        if cut {
            self.line.breaks.send_replace(Ending::Closed);
        }
    }

    /// Ends all its connections by a reset. New ones are welcome.
    pub fn reset(&self) {
        self.line.breaks.send_replace(Ending::Reset);
    }

    /// How many bytes have passed.
    #[must_use]
    pub fn passed(&self) -> Passed {
        Passed { forth: self.line.forth.passed(), back: self.line.back.passed() }
    }

    /// Sends bytes to an echo and back over connections as this link makes them, and returns how long
    /// that takes. Those bytes are not counted, and do not share the rate with others.
    ///
    /// # Errors
    /// It takes another time than the link was asked to make of it: what was measured over this link
    /// means nothing then. Or the link passes nothing now.
    pub async fn measure_round_trip(&self) -> Result<Duration, RoundTripError> {
        round_trip::measure(self.shape()).await
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Line {
    pub(crate) fn new(to: SocketAddr, shape: LinkShape) -> Self {
        let (shape, breaks) = (watch::Sender::new(shape), watch::Sender::new(Ending::Closed));
        Self { to, shape, breaks, forth: Lane::default(), back: Lane::default() }
    }
}

/// Takes connections for as long as the link is not cut.
async fn serve(line: Arc<Line>, place: Place, listener: TcpListener) {
    let mut shape = line.shape.subscribe();
    let mut connections = JoinSet::new();
    let mut listener = Some(listener);
    loop {
        if shape.borrow_and_update().cut {
            listener = None;
            if shape.wait_for(|shape| !shape.cut).await.is_err() {
                return;
            }
        }
        let Some(open) = listener.take().or_else(|| place.listen().ok()) else {
            sleep(limits::LISTEN_AGAIN_AFTER).await;
            continue;
        };
        let open = listener.insert(open);
        tokio::select! {
            changed = shape.changed() => if changed.is_err() { return },
            Some(_) = connections.join_next() => {}
            accepted = open.accept(), if connections.len() < limits::CONNECTIONS => match accepted {
                Ok((near, _)) => drop(connections.spawn(carry(Arc::clone(&line), near))),
                Err(_) => sleep(limits::LISTEN_AGAIN_AFTER).await,
            },
        }
    }
}

/// Carries one connection to its end.
pub(crate) async fn carry(line: Arc<Line>, mut near: TcpStream) {
    let mut breaks = line.breaks.subscribe();
    if line.shape.borrow().cut {
        return;
    }
    let mut far = None;
    let ending = tokio::select! {
        ending = pass(&line, &mut near, &mut far) => ending,
        _ = breaks.changed() => *breaks.borrow(),
    };
    if ending == Ending::Reset {
        for stream in [Some(near), far].into_iter().flatten() {
            // It may be broken already, which is what this is to show.
            let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
        }
    }
}

/// Whoever dials over a long line has an answer to that after a round trip.
async fn pass(line: &Line, near: &mut TcpStream, far: &mut Option<TcpStream>) -> Ending {
    let round_trip = line.shape.borrow().round_trip();
    if !round_trip.is_zero() {
        sleep(round_trip).await;
    }
    let Ok(stream) = TcpStream::connect(line.to).await else { return Ending::Reset };
    let far = far.insert(stream);
    if near.set_nodelay(true).and_then(|()| far.set_nodelay(true)).is_err() {
        return Ending::Reset;
    }
    let ((near_in, near_out), (far_in, far_out)) = (near.split(), far.split());
    let forth = flow(near_in, far_out, Direction::Forth, &line.forth, line.shape.subscribe());
    let back = flow(far_in, near_out, Direction::Back, &line.back, line.shape.subscribe());
    match tokio::try_join!(forth, back) {
        Ok(_) => Ending::Closed,
        Err(_) => Ending::Reset,
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time::timeout;

    use super::*;
    use crate::round_trip::Echo;

    const PATIENCE: Duration = Duration::from_secs(10);

    async fn dial(link: &Link) -> io::Result<TcpStream> {
        timeout(PATIENCE, TcpStream::connect(link.address())).await.unwrap()
    }

    async fn echoed(stream: &mut TcpStream) -> io::Result<()> {
        let exchange = async {
            stream.write_all(b"there and back").await?;
            let mut back = [0; 14];
            stream.read_exact(&mut back).await?;
            assert_eq!(&back, b"there and back");
            Ok(())
        };
        timeout(PATIENCE, exchange).await.unwrap()
    }

    /// How the stream ends.
    async fn end(stream: &mut TcpStream) -> io::Result<usize> {
        timeout(PATIENCE, stream.read(&mut [0; 1])).await.unwrap()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn bytes_pass_in_both_directions_and_are_counted() {
        let echo = Echo::start().unwrap();
        let link = Link::start(echo.address()).unwrap();
        let mut stream = dial(&link).await.unwrap();

        echoed(&mut stream).await.unwrap();
        stream.shutdown().await.unwrap();

        assert_eq!(end(&mut stream).await.unwrap(), 0, "the end of one side reaches the other");
        assert_eq!(link.passed(), Passed { forth: 14, back: 14 });
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_cut_link_ends_what_stands_and_refuses_what_comes_until_it_is_healed() {
        let echo = Echo::start().unwrap();
        let link = Link::start(echo.address()).unwrap();
        let mut before = dial(&link).await.unwrap();
        echoed(&mut before).await.unwrap();

        link.change(|shape| shape.cut = true);

        assert!(matches!(end(&mut before).await, Ok(0) | Err(_)));
        let refused = async {
            while dial(&link).await.is_ok() {
                tokio::task::yield_now().await;
            }
            dial(&link).await.unwrap_err().kind()
        };
        let kind = timeout(PATIENCE, refused).await.unwrap();
        assert_eq!(kind, io::ErrorKind::ConnectionRefused);

        link.change(|shape| shape.cut = false);

        let again = async {
            loop {
                match dial(&link).await {
                    Ok(stream) => return stream,
                    Err(_) => tokio::task::yield_now().await,
                }
            }
        };
        echoed(&mut timeout(PATIENCE, again).await.unwrap()).await.unwrap();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_cut_that_is_healed_at_once_has_ended_what_stood() {
        let echo = Echo::start().unwrap();
        let link = Link::start(echo.address()).unwrap();
        let mut before = dial(&link).await.unwrap();
        echoed(&mut before).await.unwrap();

        link.change(|shape| shape.cut = true);
        link.change(|shape| shape.cut = false);

        assert!(matches!(end(&mut before).await, Ok(0) | Err(_)));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_reset_is_seen_as_one_and_the_next_connection_is_welcome() {
        let echo = Echo::start().unwrap();
        let link = Link::start(echo.address()).unwrap();
        let mut before = dial(&link).await.unwrap();
        echoed(&mut before).await.unwrap();

        link.reset();

        assert_eq!(end(&mut before).await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        echoed(&mut dial(&link).await.unwrap()).await.unwrap();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn one_direction_can_stall_alone() {
        let echo = Echo::start().unwrap();
        let link = Link::start(echo.address()).unwrap();
        let mut stream = dial(&link).await.unwrap();
        echoed(&mut stream).await.unwrap();
        link.change(|shape| shape.back.stalled = true);

        stream.write_all(b"x").await.unwrap();
        let forth = async {
            while link.passed().forth < 15 {
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, forth).await.unwrap();

        assert_eq!(link.passed().back, 14);
        link.change(|shape| *shape = shape.healed());
        assert_eq!(end(&mut stream).await.unwrap(), 1);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_link_to_nobody_resets_who_dials() {
        let echo = Echo::start().unwrap();
        let nobody = echo.address();
        drop(echo);
        let link = Link::start(nobody).unwrap();
        let gone = async { while TcpStream::connect(nobody).await.is_ok() {} };
        timeout(PATIENCE, gone).await.unwrap();

        // It may come before whoever dials has looked.
        let ended = match dial(&link).await {
            Ok(mut stream) => end(&mut stream).await.unwrap_err(),
            Err(error) => error,
        };

        assert_eq!(ended.kind(), io::ErrorKind::ConnectionReset);
    }
}
