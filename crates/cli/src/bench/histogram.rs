//! This module counts durations in buckets whose width grows with them, so that percentiles of any
//! number of requests take little memory and are off by less than one part in a hundred.

use std::time::Duration;

/// Every power of two is cut into so many buckets, as a power of two itself.
const CUT_BITS: u32 = 7;
const CUT: u64 = 1 << CUT_BITS;

/// Longer than any duration that is measured: 2^42 ns are more than an hour.
const POWERS: usize = 42 - CUT_BITS as usize;

/// A distribution of durations.
#[derive(Clone, Debug)]
pub(super) struct Histogram {
    buckets: Vec<u64>,
    count: u64,
    max: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: vec![0; (POWERS + 1) * CUT as usize], count: 0, max: 0 }
    }
}

impl Histogram {
    /// Counts one duration.
    pub(super) fn add(&mut self, duration: Duration) {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let last = self.buckets.len() - 1;
        self.buckets[bucket(nanos).min(last)] += 1;
        self.count += 1;
        self.max = self.max.max(nanos);
    }

    /// Adds all of another distribution.
    pub(super) fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.buckets.iter_mut().zip(&other.buckets) {
            *mine += theirs;
        }
        self.count += other.count;
        self.max = self.max.max(other.max);
    }

    /// How many durations were counted.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// The longest duration, exactly.
    pub(super) fn max(&self) -> Duration {
        Duration::from_nanos(self.max)
    }

    /// The duration that this share (0 to 1) of all does not exceed; zero if there are none.
    pub(super) fn quantile(&self, share: f64) -> Duration {
        let rank = ((share * self.count as f64).ceil() as u64).max(1);
        let mut seen = 0;
        for (number, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return Duration::from_nanos(highest(number).min(self.max));
            }
        }
        Duration::ZERO
    }
}

/// Durations below [`CUT`] have a bucket each; above, the leading bits name it.
fn bucket(nanos: u64) -> usize {
    let power = (u64::BITS - nanos.leading_zeros()).saturating_sub(CUT_BITS + 1);
    (u64::from(power) * CUT + (nanos >> power)) as usize
}

/// The longest duration that belongs to a bucket.
fn highest(bucket: usize) -> u64 {
    let power = (bucket as u64 / CUT).saturating_sub(1);
    let leading = bucket as u64 - power * CUT;
    ((leading + 1) << power) - 1
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{Rng as _, SeedableRng as _};

    use super::*;

    #[test]
    fn buckets_are_contiguous_and_narrow() {
        let mut last = 0;
        for nanos in (0..200_000).chain((0..30).map(|power| 1 << power)) {
            let number = bucket(nanos);
            assert!(
                highest(number) >= nanos && (number == 0 || highest(number - 1) < nanos),
                "{nanos}"
            );
            assert!(highest(number) - nanos <= nanos / CUT, "{nanos}");
            if nanos == last + 1 {
                assert!(number - bucket(last) <= 1, "{nanos}");
                last = nanos;
            }
        }
    }

    #[test]
    fn percentiles_agree_with_the_exact_ones() {
        let mut rng = StdRng::seed_from_u64(1);
        let mut exact: Vec<u64> =
            (0..50_000).map(|_| (rng.random_range(0.0_f64..18.0)).exp() as u64 + 50).collect();
        let (mut one, mut other) = (Histogram::default(), Histogram::default());
        for (number, nanos) in exact.iter().enumerate() {
            let half = if number % 2 == 0 { &mut one } else { &mut other };
            half.add(Duration::from_nanos(*nanos));
        }
        one.merge(&other);
        exact.sort_unstable();

        for share in [0.0, 0.1, 0.5, 0.9, 0.99, 0.999, 1.0] {
            let rank = ((share * exact.len() as f64).ceil() as usize).max(1);
            let (expected, found) = (exact[rank - 1], one.quantile(share).as_nanos() as u64);
            assert!(
                found >= expected && found - expected <= expected / 100,
                "{share}: {found} {expected}"
            );
        }
        assert_eq!(one.max().as_nanos() as u64, *exact.last().unwrap());
        assert_eq!(one.count(), 50_000);
    }

    #[test]
    fn the_longest_durations_have_a_bucket_and_none_is_no_percentile() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile(0.5), Duration::ZERO);
        histogram.add(Duration::MAX);
        histogram.add(Duration::from_secs(4000));
        assert_eq!(histogram.count(), 2);
    }
}
