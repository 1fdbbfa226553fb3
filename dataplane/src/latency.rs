//! How long frames are with a worker: from before the call that receives a burst until after the one that sends it.
//!
//! The worker's [`Sampler`] times one burst in [`ONE_IN`], each frame of which counts as one sample in the worker's own
//! [`LatencyCounters`]. Readers make a [`Histogram`] of these, and [`Recent`] tells what of it is of the last minute.
//!
//! In it: the driver's receiving and sending, all stages, and whatever kept the thread from its core meanwhile. Not in it:
//! the time that a frame waits in the device's queues before and after; frames that are dropped or given to the slow path,
//! and those that it sends; fragments that waited for their first one or came from another worker. A turn that finds no frames is no
//! sample.
//!
//! Buckets are HdrHistogram's: of each power of two, 32 of the same width, so a value is known to 1 part in 32. That crate's own
//! histogram cannot be read while somebody writes, hence the plain counters.

use std::array;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::counters::{Counter, PortCounters, WorkerCounters};
use crate::dpdk::tsc;
use crate::worker::Clock;

/// One burst in so many is timed, on average.
pub const ONE_IN: u32 = 32;

/// Buckets of a power of two.
const WIDTH_BITS: u32 = 5;
const WIDTH: usize = 1 << WIDTH_BITS;
/// What takes longer counts as this: 34 s.
const MOST_NS: u64 = (1 << MOST_BITS) - 1;
const MOST_BITS: u32 = 35;
/// Below 2 × [`WIDTH`], each value has its own.
const BUCKETS: usize = (MOST_BITS - WIDTH_BITS + 1) as usize * WIDTH;
/// The first bound of [`Histogram::cumulative`] is 2 to the power of this, in ns.
const FIRST_BOUND_BITS: u32 = 8;

/// What is recent is of so long, and up to a [`STEP`] longer.
const WINDOW: Duration = Duration::from_secs(60);
const STEP: Duration = Duration::from_secs(10);

/// The bucket of a value.
#[inline]
fn bucket(ns: u64) -> usize {
    let ns = ns.min(MOST_NS);
    // How far the value is to be shifted so that its leading bits are left: from WIDTH to 2 × WIDTH - 1.
    let shift = (u64::BITS - (ns | 1).leading_zeros()).saturating_sub(WIDTH_BITS + 1);
    shift as usize * WIDTH + (ns >> shift) as usize
}

/// The smallest value above a bucket.
fn upper_bound(bucket: usize) -> u64 {
    let shift = (bucket / WIDTH).saturating_sub(1);
    ((bucket - shift * WIDTH + 1) as u64) << shift
}

/// What one worker has sampled since its start; it alone writes.
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
    /// Counts frames that took so long; only the owning thread may.
    pub(crate) fn record(&self, ns: u64, frames: u64) {
        self.buckets[bucket(ns)].add(frames);
        self.sum_ns.add(ns * frames);
    }
}

/// Chooses the bursts that a worker times, and times them.
#[derive(Debug)]
pub struct Sampler {
    /// Bursts until the next that is timed.
    left: u32,
    /// TSC before that one is received, and the frames that the worker had forwarded until then.
    since: u64,
    forwarded: u64,
    /// The state of a xorshift generator: a fixed distance could fall into step with the traffic, or with the ports.
    random: u64,
}

impl Sampler {
    /// With a seed, so that no two workers go in step.
    pub fn new(seed: u64) -> Self {
        let mut sampler = Sampler { left: 0, since: 0, forwarded: 0, random: seed | 1 };
        sampler.choose();
        sampler
    }

    /// To be called before a burst is received.
    #[inline(always)]
    pub fn receive(&mut self, counters: &WorkerCounters) {
        if self.left == 0 {
            self.start(counters);
        }
    }

    /// To be called when a burst that was not empty is on its way.
    #[inline(always)]
    pub fn sent(&mut self, clock: Clock, counters: &WorkerCounters) {
        if self.left == 0 {
            self.stop(clock, counters);
        } else {
            self.left -= 1;
        }
    }

    #[cold]
    fn start(&mut self, counters: &WorkerCounters) {
        self.forwarded = forwarded(counters);
        self.since = tsc();
    }

    #[cold]
    fn stop(&mut self, clock: Clock, counters: &WorkerCounters) {
        let ns = clock.ns(tsc().wrapping_sub(self.since));
        let frames = forwarded(counters).wrapping_sub(self.forwarded);
        if frames > 0 {
            counters.latency.record(ns, frames);
        }
        self.choose();
    }

    /// The distance to the next one is 1 to 63, each as likely.
    fn choose(&mut self) {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.left = (((self.random >> 32) * u64::from(2 * ONE_IN - 1)) >> 32) as u32;
    }
}

fn forwarded(counters: &WorkerCounters) -> u64 {
    counters.over_ports(|port: &PortCounters| port.forwarded.read())
}

/// Samples as they were at some time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Histogram {
    buckets: Box<[u64]>,
    sum_ns: u64,
}

impl Histogram {
    /// All of a worker, since its start.
    pub fn of(worker: &LatencyCounters) -> Self {
        Histogram { buckets: worker.buckets.iter().map(Counter::read).collect(), sum_ns: worker.sum_ns.read() }
    }

    /// What has come to an earlier one of the same worker.
    pub fn since(&self, earlier: &Self) -> Self {
        let buckets = self.buckets.iter().zip(&earlier.buckets);
        Histogram {
            buckets: buckets.map(|(now, then)| now.wrapping_sub(*then)).collect(),
            sum_ns: self.sum_ns.wrapping_sub(earlier.sum_ns),
        }
    }

    /// How many frames were sampled.
    pub fn samples(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// The sum of all samples: for exporters, and for the mean.
    pub fn sum_ns(&self) -> u64 {
        self.sum_ns
    }

    /// The value, in ns, that so many in 1,000 samples do not exceed; up to 1 part in 32 too large, never too small. 1,000: the
    /// largest. `None` where there are no samples.
    pub fn per_mille(&self, share: u16) -> Option<u64> {
        let rank = (u128::from(self.samples()) * u128::from(share)).div_ceil(1_000).max(1);
        let mut sum = 0;
        let reached = self.buckets.iter().position(|&count| {
            sum += u128::from(count);
            sum >= rank
        });
        reached.map(|bucket| upper_bound(bucket) - 1)
    }

    /// Bounds in ns, and how many samples are not above each, as exporters want them: powers of two less 1, always the same ones. The
    /// last has all.
    pub fn cumulative(&self) -> impl Iterator<Item = (u64, u64)> {
        (FIRST_BOUND_BITS..=MOST_BITS).map(|bits| {
            let bound = (1_u64 << bits) - 1;
            (bound, self.buckets[..=bucket(bound)].iter().sum())
        })
    }
}

/// What the workers have sampled in the last minute: histograms of the past, to subtract.
#[derive(Debug)]
pub struct Recent {
    workers: Vec<Arc<WorkerCounters>>,
    /// The oldest first; never empty.
    past: Mutex<VecDeque<(Instant, Vec<Histogram>)>>,
}

impl Recent {
    /// Of these workers, from now on.
    pub fn new(workers: &[Arc<WorkerCounters>], now: Instant) -> Self {
        let recent = Recent { workers: workers.to_vec(), past: Mutex::default() };
        recent.past().push_back((now, recent.read()));
        recent
    }

    /// Keeps what there is, where it is time to; to be called some times a second.
    pub fn tick(&self, now: Instant) {
        let mut past = self.past();
        let age = |(then, _): &(Instant, Vec<Histogram>)| now.saturating_duration_since(*then);
        if past.back().is_some_and(|newest| age(newest) < STEP) {
            return;
        }
        past.push_back((now, self.read()));
        while past.get(1).is_some_and(|second| age(second) >= WINDOW) {
            past.pop_front();
        }
    }

    /// What each worker has sampled lately, and in how long a time.
    pub fn histograms(&self, now: Instant) -> (Duration, Vec<Histogram>) {
        let past = self.past();
        let (then, before) = past.front().expect("there is one from the start");
        let since = self.read().iter().zip(before).map(|(now, before)| now.since(before)).collect();
        (now.saturating_duration_since(*then), since)
    }

    fn read(&self) -> Vec<Histogram> {
        self.workers.iter().map(|worker| Histogram::of(&worker.latency)).collect()
    }

    fn past(&self) -> std::sync::MutexGuard<'_, VecDeque<(Instant, Vec<Histogram>)>> {
        self.past.lock().expect("nobody panics while holding the past")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    impl LatencyCounters {
        fn sum(&self) -> u64 {
            self.buckets.iter().map(Counter::read).sum()
        }
    }

    fn histogram(samples: &[u64]) -> Histogram {
        let counters = LatencyCounters::default();
        samples.iter().for_each(|&ns| counters.record(ns, 1));
        Histogram::of(&counters)
    }

    fn workers(count: usize) -> Vec<Arc<WorkerCounters>> {
        (0..count).map(|_| Arc::new(WorkerCounters::with_places(2, 1, 1))).collect()
    }

    /// From 0 to more than counts, each order of magnitude as likely.
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

    #[test]
    fn one_burst_in_32_is_timed_and_not_always_the_same() {
        let (workers, clock) = (workers(1), Clock::new(1_000_000_000));
        let mut sampler = Sampler::new(7);
        let mut timed = Vec::new();
        for burst in 0..320_000_u32 {
            let before = workers[0].latency.sum();
            sampler.receive(&workers[0]);
            // By one port or the other; 2 frames each.
            workers[0].ports[burst as usize % 2].forwarded.add(2);
            sampler.sent(clock, &workers[0]);
            match workers[0].latency.sum() - before {
                0 => {}
                frames => timed.push((burst, frames)),
            }
        }
        assert!(timed.iter().all(|&(_, frames)| frames == 2), "each frame of the burst is a sample");
        assert!((9_500..10_500).contains(&timed.len()), "{}", timed.len());
        for phases in [2, 3, 32] {
            for phase in 0..phases {
                let share = timed.iter().filter(|(burst, _)| burst % phases == phase).count() * phases as usize;
                assert!(share.abs_diff(timed.len()) < timed.len() / 3, "{share} of {} in {phase}", timed.len());
            }
        }
    }

    #[test]
    fn a_burst_of_which_nothing_is_forwarded_is_no_sample() {
        let (workers, clock) = (workers(1), Clock::new(1_000_000_000));
        let mut sampler = Sampler::new(7);
        for _ in 0..1_000 {
            sampler.receive(&workers[0]);
            sampler.sent(clock, &workers[0]);
        }
        assert_eq!(Histogram::of(&workers[0].latency).samples(), 0);
    }

    #[test]
    fn what_is_recent_is_of_the_last_minute() {
        let (workers, start) = (workers(2), Instant::now());
        let recent = Recent::new(&workers, start);
        let at = |seconds| start + Duration::from_secs(seconds);
        let samples = |seconds| {
            let (over, of) = recent.histograms(at(seconds));
            (over.as_secs(), of.iter().map(Histogram::samples).collect::<Vec<_>>())
        };
        workers[0].latency.record(1_000, 3);
        workers[1].latency.record(9_000, 1);
        assert_eq!(samples(5), (5, vec![3, 1]));
        // A tick each second; a frame of the second worker each 10 s, right after what is kept.
        for second in 1..=300 {
            recent.tick(at(second));
            if second % 10 == 0 {
                workers[1].latency.record(500, 1);
            }
            if second >= 70 {
                let (over, counts) = samples(second);
                assert!((60..70).contains(&over), "{over}");
                assert_eq!(counts, [0, 7], "after {second} s");
            }
        }
        assert_eq!(recent.histograms(at(300)).1[1].per_mille(1_000), Some(503), "the first, slow frame is forgotten");
        // Nobody ticked for long: what is told is of a longer time, and says so.
        assert_eq!(samples(1_000).0, 760);
    }
}
