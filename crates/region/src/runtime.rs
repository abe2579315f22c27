//! This module is the asynchronous runtime that openraft runs on: tokio, with random numbers that
//! come from a seed, so that a simulated run repeats.

use std::cell::Cell;
use std::convert::Infallible;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use openraft::async_runtime::AsyncRuntime;
use openraft::base::OptionalSend;
use openraft_rt_tokio::TokioRuntime;
use rand_core::TryRng;

/// Tokio with seeded randomness.
#[derive(Debug)]
pub(crate) struct Runtime(TokioRuntime);

/// A generator that goes on where the thread's last one ended (SplitMix64).
#[derive(Debug)]
pub(crate) struct SeededRng(());

/// What threads begin with that were not seeded themselves.
static SEED: AtomicU64 = AtomicU64::new(0);

/// Two odd constants of SplitMix64.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
const MIX: (u64, u64) = (0xbf58_476d_1ce4_e5b9, 0x94d0_49bb_1331_11eb);

thread_local! {
    static STATE: Cell<Option<u64>> = const { Cell::new(None) };
}

/// Seeds this thread, and all that have not drawn a number yet.
pub(crate) fn seed(bits: u64) {
    SEED.store(bits, Ordering::Relaxed);
    STATE.set(Some(bits));
}

fn draw() -> u64 {
    let state = STATE.get().unwrap_or_else(|| SEED.fetch_add(MIX.0, Ordering::Relaxed));
    let state = state.wrapping_add(STEP);
    STATE.set(Some(state));
    let mixed = (state ^ (state >> 30)).wrapping_mul(MIX.0);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(MIX.1);
    mixed ^ (mixed >> 31)
}

impl TryRng for SeededRng {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok((draw() >> 32) as u32)
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(draw())
    }

    fn try_fill_bytes(&mut self, into: &mut [u8]) -> Result<(), Infallible> {
        for chunk in into.chunks_mut(8) {
            chunk.copy_from_slice(&draw().to_le_bytes()[..chunk.len()]);
        }
        Ok(())
    }
}

impl AsyncRuntime for Runtime {
    type JoinError = <TokioRuntime as AsyncRuntime>::JoinError;
    type JoinHandle<T: OptionalSend + 'static> = <TokioRuntime as AsyncRuntime>::JoinHandle<T>;
    type Sleep = <TokioRuntime as AsyncRuntime>::Sleep;
    type Instant = <TokioRuntime as AsyncRuntime>::Instant;
    type TimeoutError = <TokioRuntime as AsyncRuntime>::TimeoutError;
    type Timeout<R, T: Future<Output = R> + OptionalSend> =
        <TokioRuntime as AsyncRuntime>::Timeout<R, T>;
    type ThreadLocalRng = SeededRng;
    type Mpsc = <TokioRuntime as AsyncRuntime>::Mpsc;
    type Watch = <TokioRuntime as AsyncRuntime>::Watch;
    type Oneshot = <TokioRuntime as AsyncRuntime>::Oneshot;
    type Mutex<T: OptionalSend + 'static> = <TokioRuntime as AsyncRuntime>::Mutex<T>;

    fn spawn<T>(future: T) -> Self::JoinHandle<T::Output>
    where
        T: Future + OptionalSend + 'static,
        T::Output: OptionalSend + 'static,
    {
        TokioRuntime::spawn(future)
    }

    fn sleep(duration: Duration) -> Self::Sleep {
        TokioRuntime::sleep(duration)
    }

    fn sleep_until(deadline: Self::Instant) -> Self::Sleep {
        TokioRuntime::sleep_until(deadline)
    }

    fn timeout<R, F>(duration: Duration, future: F) -> Self::Timeout<R, F>
    where
        F: Future<Output = R> + OptionalSend,
    {
        TokioRuntime::timeout(duration, future)
    }

    fn timeout_at<R, F>(deadline: Self::Instant, future: F) -> Self::Timeout<R, F>
    where
        F: Future<Output = R> + OptionalSend,
    {
        TokioRuntime::timeout_at(deadline, future)
    }

    fn is_panic(error: &Self::JoinError) -> bool {
        TokioRuntime::is_panic(error)
    }

    fn thread_rng() -> SeededRng {
        SeededRng(())
    }

    fn new(threads: usize) -> Self {
        Self(TokioRuntime::new(threads))
    }

    fn block_on<F, T>(&mut self, future: F) -> T
    where
        F: Future<Output = T>,
    {
        self.0.block_on(future)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_gives_one_sequence() {
        let sequence = || {
            seed(7);
            std::array::from_fn::<u64, 16, _>(|_| draw())
        };

        let first = sequence();

        assert_eq!(first, sequence());
        assert!(first.windows(2).all(|pair| pair[0] != pair[1]));
    }
}
