//! This module measures the round trip of a link, and holds it against what was asked for.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, timeout};

use crate::limits;
use crate::link::{Line, carry};
use crate::place::Place;
use crate::shape::LinkShape;

/// Why there is no round trip to rely on.
#[derive(Debug, thiserror::Error)]
pub enum RoundTripError {
    /// The link is cut or stalled.
    #[error("the link passes nothing now")]
    Closed,
    /// It takes another time than it should.
    #[error("asked for a round trip of {asked:?}, made one of {made:?}")]
    Wrong {
        /// The delays of both directions.
        asked: Duration,
        /// The best that was measured.
        made: Duration,
    },
    /// The echo did not answer.
    #[error("no echo over the link: {0}")]
    NoEcho(#[from] io::Error),
}

/// Somebody who sends back what comes, until this is dropped.
#[derive(Debug)]
pub(crate) struct Echo {
    address: SocketAddr,
    serving: JoinHandle<()>,
}

impl Echo {
    pub(crate) fn start() -> io::Result<Self> {
        let place = Place::find()?;
        let (address, listener) = (place.address(), place.listen()?);
        let serving = tokio::spawn(async move {
            let _place = place;
            let mut connections = JoinSet::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                connections.spawn(async move {
                    let (mut from, mut to) = stream.split();
                    tokio::io::copy(&mut from, &mut to).await
                });
            }
        });
        Ok(Self { address, serving })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// Measures a line of this shape.
pub(crate) async fn measure(shape: LinkShape) -> Result<Duration, RoundTripError> {
    if !shape.passes() {
        return Err(RoundTripError::Closed);
    }
    let asked = shape.round_trip();
    let probes = u32::try_from(limits::PROBES).unwrap_or(u32::MAX);
    let patience = limits::PROBE_PATIENCE + asked * (probes + 2);
    let made = timeout(patience, probe(shape)).await.map_err(io::Error::from)??;
    if made < asked || made > asked + asked / 10 + limits::ROUND_TRIP_SLACK {
        return Err(RoundTripError::Wrong { asked, made });
    }
    Ok(made)
}

/// The best of a few round trips over one connection.
async fn probe(shape: LinkShape) -> io::Result<Duration> {
    let echo = Echo::start()?;
    let door = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let mut stream = TcpStream::connect(door.local_addr()?).await?;
    stream.set_nodelay(true)?;
    let (near, _) = door.accept().await?;
    let mut connection = JoinSet::new();
    connection.spawn(carry(Arc::new(Line::new(echo.address(), shape)), near));

    // The first one waits for the connection to be made, too.
    exchange(&mut stream).await?;
    let mut best = Duration::MAX;
    for _ in 0..limits::PROBES {
        best = exchange(&mut stream).await?.min(best);
    }
    Ok(best)
}

async fn exchange(stream: &mut TcpStream) -> io::Result<Duration> {
    let started = Instant::now();
    stream.write_all(&[1]).await?;
    stream.read_exact(&mut [0]).await?;
    Ok(started.elapsed())
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use super::*;
    use crate::Link;

    #[tokio::test(flavor = "multi_thread")]
    async fn the_round_trip_is_what_was_asked_for() {
        let echo = Echo::start().unwrap();
        let link = Link::start(echo.address()).unwrap();
        for millis in [0, 25, 100] {
            link.change(|shape| *shape = LinkShape::delayed(Duration::from_millis(millis)));

            let made = link.measure_round_trip().await.unwrap();

            assert!(made >= Duration::from_millis(2 * millis), "{made:?}");
        }
        assert_eq!(link.passed().forth, 0, "it is measured beside what the link carries");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_link_that_is_slower_than_asked_for_is_found_out() {
        // Twenty bytes a second: each takes 50 ms.
        let narrow = LinkShape::default().rated(NonZeroU64::new(20));

        let error = measure(narrow).await.unwrap_err();

        assert!(matches!(error, RoundTripError::Wrong { .. }), "{error}");
    }

    #[tokio::test]
    async fn a_link_that_passes_nothing_has_no_round_trip() {
        for shape in [LinkShape::default().cut(), LinkShape::default().stalled()] {
            assert!(matches!(measure(shape).await, Err(RoundTripError::Closed)));
        }
    }
}
