//! The time that frames spend in a worker: from before the call that receives a burst until after the call that sends
//! it.
//!
//! The worker's [`Sampler`] times one burst in [`ONE_IN`]. Each frame of that burst counts as one sample in the
//! worker's own [`LatencyCounters`](crate::count::histogram::LatencyCounters).
//!
//! The time includes the driver's receiving and sending, all stages, and any interruption of the thread. It does not
//! include the time in the device's queues before and after. Some frames are no samples: those that are dropped or
//! given to the slow path, those that the slow path sends, and fragments that were held or came from another worker. A
//! turn without frames is no sample.

use crate::base::clock::Clock;
use crate::count::counters::{PortCounters, WorkerCounters};
use crate::dpdk::tsc;

/// One burst in this number is timed, on average.
pub const ONE_IN: u32 = 32;

/// Chooses the bursts that a worker times, and times them.
#[derive(Debug)]
pub struct Sampler {
    /// Bursts until the next timed one.
    left: u32,
    /// For the timed burst: the TSC before it was received, and the frames that the worker had forwarded until then.
    since: u64,
    forwarded: u64,
    /// The state of a xorshift generator. The distance is random, because a fixed one could fall into step with the
    /// traffic, or with the ports.
    random: u64,
}

impl Sampler {
    /// With a seed, which differs from worker to worker, so that they do not sample in step.
    pub fn new(seed: u64) -> Self {
        let mut sampler = Sampler { left: 0, since: 0, forwarded: 0, random: seed | 1 };
        sampler.choose();
        sampler
    }

    /// Call it before a burst is received.
    #[inline(always)]
    pub fn receive(&mut self, counters: &WorkerCounters) {
        if self.left == 0 {
            self.start(counters);
        }
    }

    /// Call it after a burst that was not empty has been sent.
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

    /// The distance to the next timed burst is 1 to 63, with equal likelihood.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::count::histogram::Histogram;

    fn worker() -> WorkerCounters {
        WorkerCounters::with_room(2, 1, 1)
    }

    fn samples(worker: &WorkerCounters) -> u64 {
        Histogram::of(&worker.latency).samples()
    }

    #[test]
    fn one_burst_in_32_is_timed_and_not_always_the_same() {
        let (worker, clock) = (worker(), Clock::new(1_000_000_000));
        let mut sampler = Sampler::new(7);
        let mut timed = Vec::new();
        for burst in 0..320_000_u32 {
            let before = samples(&worker);
            sampler.receive(&worker);
            // The bursts alternate between the ports, with 2 frames each.
            worker.ports[burst as usize % 2].forwarded.add(2);
            sampler.sent(clock, &worker);
            match samples(&worker) - before {
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
        let (worker, clock) = (worker(), Clock::new(1_000_000_000));
        let mut sampler = Sampler::new(7);
        for _ in 0..1_000 {
            sampler.receive(&worker);
            sampler.sent(clock, &worker);
        }
        assert_eq!(samples(&worker), 0);
    }
}
