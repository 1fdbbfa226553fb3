//! The time that frames spend in a worker: counters in buckets, and a histogram of them.
//!
//! The buckets are HdrHistogram's: 32 of equal width for each power of two, so a value is known to 1 part in 32. That
//! crate's histogram cannot be read while a thread writes, hence the plain counters.

use std::array;

use crate::base::counter::Counter;

/// The number of buckets for a power of two, as an exponent of 2.
const WIDTH_BITS: u32 = 5;
const WIDTH: usize = 1 << WIDTH_BITS;
/// A longer time counts as this: 34 s.
const MOST_NS: u64 = (1 << MOST_BITS) - 1;
const MOST_BITS: u32 = 35;
/// The number of buckets. Below 2 × [`WIDTH`], each value has its own bucket.
const BUCKETS: usize = (MOST_BITS - WIDTH_BITS + 1) as usize * WIDTH;
/// The first bound of [`Histogram::cumulative`] is 2 to the power of this, in ns.
const FIRST_BOUND_BITS: u32 = 8;

/// The bucket of a value.
#[inline]
fn bucket(ns: u64) -> usize {
    let ns = ns.min(MOST_NS);
    // The shift that leaves the value's leading bits, a number from WIDTH to 2 × WIDTH - 1.
    let shift = (u64::BITS - (ns | 1).leading_zeros()).saturating_sub(WIDTH_BITS + 1);
    shift as usize * WIDTH + (ns >> shift) as usize
}

/// The smallest value above a bucket.
fn upper_bound(bucket: usize) -> u64 {
    let shift = (bucket / WIDTH).saturating_sub(1);
    ((bucket - shift * WIDTH + 1) as u64) << shift
}

/// One worker's samples since its start. Only the worker writes them.
#[derive(Debug)]
#[repr(align(128))] // as the other counters
pub struct LatencyCounters {
    buckets: [Counter; BUCKETS],
    sum_ns: Counter,
}

impl Default for LatencyCounters {
    fn default() -> Self {
        LatencyCounters { buckets: array::from_fn(|_| Counter::default()), sum_ns: Counter::default() }
    }
}

impl LatencyCounters {
    /// Counts frames that took this long. Only the owning thread may.
    pub(crate) fn record(&self, ns: u64, frames: u64) {
        self.buckets[bucket(ns)].add(frames);
        self.sum_ns.add(ns * frames);
    }
}

/// The samples at one moment, or of a time span.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Histogram {
    buckets: Box<[u64]>,
    sum_ns: u64,
}

impl Histogram {
    /// All samples of a worker, since its start.
    pub fn of(worker: &LatencyCounters) -> Self {
        Histogram { buckets: worker.buckets.iter().map(Counter::read).collect(), sum_ns: worker.sum_ns.read() }
    }

    /// The samples since an earlier histogram of the same worker.
    pub fn since(&self, earlier: &Self) -> Self {
        let buckets = self.buckets.iter().zip(&earlier.buckets);
        Histogram {
            buckets: buckets.map(|(now, then)| now.wrapping_sub(*then)).collect(),
            sum_ns: self.sum_ns.wrapping_sub(earlier.sum_ns),
        }
    }

    /// The number of sampled frames.
    pub fn samples(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// The sum of all samples: for exporters, and for the mean.
    pub fn sum_ns(&self) -> u64 {
        self.sum_ns
    }

    /// The value, in ns, that `share` in 1,000 samples do not exceed. A share of 1,000 gives the largest sample. The
    /// value is up to 1 part in 32 too large, never too small. `None` if there are no samples.
    pub fn per_mille(&self, share: u16) -> Option<u64> {
        let rank = (u128::from(self.samples()) * u128::from(share)).div_ceil(1_000).max(1);
        let mut sum = 0;
        let reached = self.buckets.iter().position(|&count| {
            sum += u128::from(count);
            sum >= rank
        });
        reached.map(|bucket| upper_bound(bucket) - 1)
    }

    /// For exporters: bounds in ns, each with the number of samples that do not exceed it. The bounds are powers of two
    /// less 1, always the same ones. The last bound includes all samples.
    pub fn cumulative(&self) -> impl Iterator<Item = (u64, u64)> {
        (FIRST_BOUND_BITS..=MOST_BITS).map(|bits| {
            let bound = (1_u64 << bits) - 1;
            (bound, self.buckets[..=bucket(bound)].iter().sum())
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn histogram(samples: &[u64]) -> Histogram {
        let counters = LatencyCounters::default();
        samples.iter().for_each(|&ns| counters.record(ns, 1));
        Histogram::of(&counters)
    }

    /// From 0 to more than the longest time that is counted, with equal likelihood for each order of magnitude.
    fn durations() -> impl Strategy<Value = u64> {
        (0..=40_u32, any::<u64>()).prop_map(|(bits, random)| random & ((1 << bits) - 1))
    }

    #[test]
    fn buckets_follow_each_other_without_a_gap() {
        assert_eq!((bucket(0), bucket(MOST_NS), bucket(u64::MAX)), (0, BUCKETS - 1, BUCKETS - 1));
        for number in 0..BUCKETS {
            let bound = upper_bound(number);
            assert_eq!(bucket(bound - 1), number);
            assert_eq!(bucket(bound), (number + 1).min(BUCKETS - 1));
        }
    }

    proptest! {
        #[test]
        fn a_bucket_is_narrow(ns in durations()) {
            let (number, ns) = (bucket(ns), ns.min(MOST_NS));
            let lower = number.checked_sub(1).map_or(0, upper_bound);
            prop_assert!(lower <= ns && ns < upper_bound(number));
            prop_assert!(upper_bound(number) - lower <= 1 + ns / WIDTH as u64);
        }

        #[test]
        fn percentiles_are_those_of_the_sorted_samples(mut samples in prop::collection::vec(durations(), 1..300)) {
            let told = histogram(&samples);
            samples.sort_unstable();
            for share in [1_u16, 500, 990, 999, 1_000] {
                let rank = (samples.len() * usize::from(share)).div_ceil(1_000);
                let exact = samples[rank - 1].min(MOST_NS);
                let told = told.per_mille(share).unwrap();
                prop_assert!(exact <= told && told <= exact + exact / WIDTH as u64, "{share}: {told}, not {exact}");
            }
        }

        #[test]
        fn cumulative_counts_are_those_of_the_samples(samples in prop::collection::vec(durations(), 0..300)) {
            let told: Vec<(u64, u64)> = histogram(&samples).cumulative().collect();
            for &(bound, count) in &told {
                let so_many = samples.iter().filter(|&&ns| ns.min(MOST_NS) <= bound).count();
                prop_assert_eq!(count, so_many as u64);
            }
            prop_assert_eq!(told.last().unwrap().1, samples.len() as u64);
        }
    }

    #[test]
    fn without_samples_there_are_no_percentiles() {
        let nothing = histogram(&[]);
        assert_eq!((nothing.samples(), nothing.per_mille(500), nothing.per_mille(1_000)), (0, None, None));
    }
}
