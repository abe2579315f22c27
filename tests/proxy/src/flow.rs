//! This module carries the bytes of one direction of one connection.
//!
//! ```text
//! take: read -> stamp with the instant when it is due -> queue (bounded) -> give: wait, pace, write
//! ```
//!
//! The queue is what makes a long line fast: as many bytes are on their way as it holds.

use std::io;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::{Instant, sleep_until};

use crate::limits;
use crate::shape::{Direction, LinkShape};

/// What all connections of a link share of one direction.
#[derive(Debug, Default)]
pub(crate) struct Lane {
    passed: AtomicU64,
    /// When the last byte that has had its turn will have passed.
    busy_until: Mutex<Option<Instant>>,
}

/// Bytes on their way; none: the end.
struct Chunk {
    due: Instant,
    bytes: Bytes,
    /// Given back when they have been passed on.
    room: OwnedSemaphorePermit,
}

impl Lane {
    /// How many bytes have passed.
    pub(crate) fn passed(&self) -> u64 {
        self.passed.load(Ordering::Relaxed)
    }

    /// The instant when so many bytes have passed, after those that had their turn before.
    fn turn(&self, bytes: usize, rate: NonZeroU64) -> Instant {
        let now = Instant::now();
        let takes = Duration::from_secs_f64(bytes as f64 / rate.get() as f64);
        let mut busy_until = self.busy_until.lock().unwrap_or_else(PoisonError::into_inner);
        let from = match *busy_until {
            Some(busy) if busy + limits::CREDIT >= now => busy,
            _ => now,
        };
        *busy_until.insert(from + takes)
    }
}

/// Carries bytes until the sender has ended, or either side breaks.
pub(crate) async fn flow(
    from: impl AsyncRead + Unpin,
    to: impl AsyncWrite + Unpin,
    direction: Direction,
    lane: &Lane,
    shape: watch::Receiver<LinkShape>,
) -> io::Result<()> {
    let (queue, arriving) = mpsc::channel(limits::QUEUE_CHUNKS);
    let take = take(from, queue, direction, shape.clone());
    let give = give(arriving, to, direction, lane, shape);
    tokio::try_join!(take, give).map(drop)
}

async fn take(
    mut from: impl AsyncRead + Unpin,
    queue: mpsc::Sender<Chunk>,
    direction: Direction,
    shape: watch::Receiver<LinkShape>,
) -> io::Result<()> {
    let room = Arc::new(Semaphore::new(limits::QUEUE_BYTES));
    let mut buffer = BytesMut::new();
    loop {
        if buffer.capacity() < limits::ROOM_TO_READ_BYTES {
            buffer.reserve(limits::CHUNK_BYTES);
        }
        let length = from.read_buf(&mut (&mut buffer).limit(limits::CHUNK_BYTES)).await?;
        let bytes = buffer.split().freeze();
        let due = Instant::now() + shape.borrow().flow(direction).delay;
        let permits = u32::try_from(length).map_err(io::Error::other)?;
        let room = Arc::clone(&room).acquire_many_owned(permits).await.map_err(io::Error::other)?;
        let given = queue.send(Chunk { due, bytes, room }).await;
        // Whoever gives them on says itself why it has ended.
        if length == 0 || given.is_err() {
            return Ok(());
        }
    }
}

async fn give(
    mut arriving: mpsc::Receiver<Chunk>,
    mut to: impl AsyncWrite + Unpin,
    direction: Direction,
    lane: &Lane,
    mut shape: watch::Receiver<LinkShape>,
) -> io::Result<()> {
    while let Some(Chunk { due, mut bytes, room }) = arriving.recv().await {
        sleep_until(due).await;
        let ends = bytes.is_empty();
        while !bytes.is_empty() {
            let rate = rate_once_it_passes(&mut shape, direction).await?;
            let piece = bytes.split_to(piece_bytes(rate).min(bytes.len()));
            if let Some(rate) = rate {
                sleep_until(lane.turn(piece.len(), rate)).await;
            }
            to.write_all(&piece).await?;
            lane.passed.fetch_add(piece.len() as u64, Ordering::Relaxed);
        }
        drop(room);
        if ends {
            rate_once_it_passes(&mut shape, direction).await?;
            return to.shutdown().await;
        }
    }
    Ok(())
}

/// Waits while nothing may pass.
async fn rate_once_it_passes(
    shape: &mut watch::Receiver<LinkShape>,
    direction: Direction,
) -> io::Result<Option<NonZeroU64>> {
    let shape = shape.wait_for(|shape| shape.passes_in(direction)).await;
    Ok(shape.map_err(io::Error::other)?.flow(direction).rate)
}

fn piece_bytes(rate: Option<NonZeroU64>) -> usize {
    let Some(rate) = rate else { return usize::MAX };
    let pieces_per_second = Duration::from_secs(1).as_millis() / limits::PIECE.as_millis();
    let bytes = u128::from(rate.get()) / pieces_per_second;
    usize::try_from(bytes.max(limits::PIECE_BYTES_MIN.into())).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use tokio::io::{DuplexStream, duplex};
    use tokio::task::JoinHandle;
    use tokio::time::timeout;

    use super::*;
    use crate::shape::Flow;

    /// A flow between two streams, in a time of its own.
    struct Bench {
        sender: DuplexStream,
        receiver: DuplexStream,
        shape: watch::Sender<LinkShape>,
        lane: Arc<Lane>,
        flow: JoinHandle<io::Result<()>>,
    }

    fn start(forth: Flow) -> Bench {
        let (sender, from) = duplex(limits::CHUNK_BYTES);
        let (to, receiver) = duplex(limits::CHUNK_BYTES);
        let (shape, shaped) = watch::channel(LinkShape { forth, ..LinkShape::default() });
        let lane = Arc::new(Lane::default());
        let shared = Arc::clone(&lane);
        let flow =
            tokio::spawn(async move { flow(from, to, Direction::Forth, &shared, shaped).await });
        Bench { sender, receiver, shape, lane, flow }
    }

    fn delayed(delay: Duration) -> Flow {
        Flow { delay, ..Flow::default() }
    }

    /// Sends so many bytes and the end, and takes the time until all have arrived.
    async fn time_of(bench: &mut Bench, bytes: usize) -> Duration {
        let started = Instant::now();
        let sent = vec![7; bytes];
        let mut received = Vec::new();
        let send = async {
            bench.sender.write_all(&sent).await.unwrap();
            bench.sender.shutdown().await.unwrap();
        };
        let (_, result) = tokio::join!(send, bench.receiver.read_to_end(&mut received));
        result.unwrap();
        assert!(received == sent, "the bytes that were sent, in their order");
        started.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn a_byte_is_on_its_way_for_as_long_as_was_asked_for() {
        for millis in [0, 1, 50, 400] {
            let delay = Duration::from_millis(millis);
            let mut bench = start(delayed(delay));

            let took = time_of(&mut bench, 1).await;

            assert!(took >= delay && took <= delay + Duration::from_millis(1), "{took:?}");
            assert_eq!(bench.lane.passed(), 1);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_long_line_is_as_wide_as_a_short_one() {
        let mut bench = start(delayed(Duration::from_millis(50)));

        let took = time_of(&mut bench, 64_000_000).await;

        let rate = 64.0 / took.as_secs_f64();
        assert!(rate >= 50.0, "{rate:.0} MB/s");
        assert!(took >= Duration::from_millis(150), "no more than the queue holds is on its way");
    }

    #[tokio::test(start_paused = true)]
    async fn so_many_bytes_pass_in_a_second_as_the_rate_says() {
        for rate in [1_000, 100_000, 20_000_000] {
            let mut bench = start(Flow { rate: NonZeroU64::new(rate), ..Flow::default() });
            let bytes = usize::try_from(2 * rate).unwrap();

            let took = time_of(&mut bench, bytes).await;

            let seconds = took.as_secs_f64();
            assert!((1.98..=2.02).contains(&seconds), "{seconds} s at {rate} bytes/s");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_connections_of_a_link_share_its_rate() {
        let rate = NonZeroU64::new(1_000_000);
        let mut one = start(Flow { rate, ..Flow::default() });
        let (sender, from) = duplex(limits::CHUNK_BYTES);
        let (to, receiver) = duplex(limits::CHUNK_BYTES);
        let (lane, shaped) = (Arc::clone(&one.lane), one.shape.subscribe());
        let flow =
            tokio::spawn(async move { flow(from, to, Direction::Forth, &lane, shaped).await });
        let shape = one.shape.clone();
        let mut other = Bench { sender, receiver, shape, lane: Arc::clone(&one.lane), flow };

        let (took, too) =
            tokio::join!(time_of(&mut one, 1_000_000), time_of(&mut other, 1_000_000));

        let both = took.max(too).as_secs_f64();
        assert!((1.98..=2.02).contains(&both), "{both} s");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_stalled_waits_and_goes_on() {
        let mut bench = start(Flow { stalled: true, ..Flow::default() });
        bench.sender.write_all(b"waits").await.unwrap();
        let mut received = [0; 5];

        let stalled =
            timeout(Duration::from_secs(60), bench.receiver.read_exact(&mut received)).await;
        bench.shape.send_replace(LinkShape::default());
        bench.receiver.read_exact(&mut received).await.unwrap();

        assert!(stalled.is_err());
        assert_eq!(&received, b"waits");
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_sends_more_than_the_queue_holds_waits() {
        let mut bench = start(Flow { stalled: true, ..Flow::default() });
        let piece = [0; 1024];
        let mut taken = 0;

        while timeout(Duration::from_secs(1), bench.sender.write_all(&piece)).await.is_ok() {
            taken += piece.len();
        }

        // What waits at both ends and in the hands of the two tasks comes on top.
        let most = limits::QUEUE_BYTES + 4 * limits::CHUNK_BYTES;
        assert!(taken >= limits::QUEUE_BYTES / 2 && taken <= most, "{taken} bytes");
    }

    #[tokio::test(start_paused = true)]
    async fn a_side_that_breaks_ends_the_flow() {
        let Bench { mut sender, receiver, flow, shape: _shape, .. } = start(Flow::default());

        drop(receiver);
        sender.write_all(b"nobody reads this").await.unwrap();

        assert!(flow.await.unwrap().is_err());
    }
}
