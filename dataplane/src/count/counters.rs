//! What a worker counts, and how it is read.
//!
//! Each worker has its own [`WorkerCounters`], which nobody else writes: adding is a load and a store, never a
//! locked instruction, and no two workers write to one cache line. Readers sum over the workers and may be a few
//! packets behind.

use crate::base::counter::Counter;
use crate::base::exit::{DropReason, PuntReason};
use crate::base::limits::{MAX_SERVICE_COUNTERS, MAX_TARGETS};
use crate::count::histogram::LatencyCounters;

/// What one worker counts.
#[derive(Debug)]
#[repr(align(128))] // two lines: neighbors are fetched in pairs
pub struct WorkerCounters {
    /// Turns of its loop.
    pub turns: Counter,
    /// Turns that found frames.
    pub busy_turns: Counter,
    /// TSC cycles spent in these turns.
    pub busy_cycles: Counter,
    /// TSC cycles since the worker started.
    pub cycles: Counter,
    /// The snapshot it works with.
    pub generation: Counter,
    /// Flows that it remembers now ([`crate::forward::exceptions`]).
    pub exceptions: Counter,
    /// Flows that should have been remembered, but there was no room.
    pub exceptions_full: Counter,
    /// How long frames were with it, in samples.
    pub latency: Box<LatencyCounters>,
    /// By port.
    pub ports: Box<[PortCounters]>,
    /// By pair of service and backend, see [`TargetLease`](crate::count::lease::TargetLease).
    pub targets: Box<[TargetCounters]>,
    /// By service, see [`ServiceLease`](crate::count::lease::ServiceLease).
    pub services: Box<[ServiceCounters]>,
}

/// What one worker counts of one port. Frames that enter here and their fate; frames that leave here.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct PortCounters {
    /// Frames received.
    pub rx_packets: Counter,
    /// Bytes received.
    pub rx_bytes: Counter,
    /// Frames sent here to a backend, wherever they came in.
    pub forwarded: Counter,
    /// Frames sent, those of the slow path among them.
    pub tx_packets: Counter,
    /// Bytes sent.
    pub tx_bytes: Counter,
    /// Frames received here and dropped, by reason; but `tx_full` counts frames that would have left here.
    pub drops: [Counter; DropReason::COUNT],
    /// Frames received here and given to the slow path, by reason.
    pub punts: [Counter; PuntReason::COUNT],
}

/// What one worker sent to a backend for a service, and which of its flows it remembers.
#[derive(Debug, Default)]
#[repr(align(32))] // never across two cache lines
pub struct TargetCounters {
    /// Frames.
    pub packets: Counter,
    /// Bytes.
    pub bytes: Counter,
    /// Flows that are remembered now and in use. Not a count of all flows, unless the service tracks all.
    pub active: Counter,
    /// Flows that are remembered now and are beginning or ending.
    pub inactive: Counter,
}

/// What one worker dropped of a service's packets.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct ServiceCounters {
    /// Frames, by reason; they are among their port's, too.
    pub drops: [Counter; DropReason::COUNT],
}

/// What a CPU fetches, and takes from others, at once: two cache lines.
const LINES: usize = 128;

const _: () = assert!(align_of::<WorkerCounters>() == LINES && align_of::<PortCounters>() == LINES);
const _: () = assert!(align_of::<ServiceCounters>() == LINES && align_of::<LatencyCounters>() == LINES);
const _: () = assert!(LINES.is_multiple_of(size_of::<TargetCounters>()), "no line holds part of a target's counters");

impl WorkerCounters {
    /// All zero, for this many ports.
    pub fn new(ports: usize) -> Self {
        Self::with_room(ports, MAX_TARGETS, MAX_SERVICE_COUNTERS)
    }

    /// With fewer counters of backends and services: for tests that have many workers and few backends.
    pub fn with_room(ports: usize, targets: usize, services: usize) -> Self {
        WorkerCounters {
            turns: Counter::default(),
            busy_turns: Counter::default(),
            busy_cycles: Counter::default(),
            cycles: Counter::default(),
            generation: Counter::default(),
            exceptions: Counter::default(),
            exceptions_full: Counter::default(),
            latency: Box::default(),
            ports: (0..ports).map(|_| PortCounters::default()).collect(),
            targets: (0..targets).map(|_| TargetCounters::default()).collect(),
            services: (0..services).map(|_| ServiceCounters::default()).collect(),
        }
    }

    /// The sum of one counter over the ports.
    pub fn over_ports(&self, which: impl Fn(&PortCounters) -> u64) -> u64 {
        self.ports.iter().map(which).sum()
    }
}

impl PortCounters {
    /// All drops.
    pub fn dropped(&self) -> u64 {
        self.drops.iter().map(Counter::read).sum()
    }

    /// All punts.
    pub fn punted(&self) -> u64 {
        self.punts.iter().map(Counter::read).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The memory that a worker writes to, as ranges of pairs of cache lines.
    fn lines(worker: &WorkerCounters) -> Vec<std::ops::Range<usize>> {
        fn range<T>(values: &[T]) -> std::ops::Range<usize> {
            let start = values.as_ptr() as usize;
            start / LINES..(start + size_of_val(values)).div_ceil(LINES)
        }
        let latency = range(std::slice::from_ref(&*worker.latency));
        let own = range(std::slice::from_ref(worker));
        vec![own, latency, range(&worker.ports), range(&worker.targets), range(&worker.services)]
    }

    #[test]
    fn no_two_workers_write_to_one_cache_line() {
        let workers: Vec<WorkerCounters> = (0..4).map(|_| WorkerCounters::new(2)).collect();
        for (number, worker) in workers.iter().enumerate() {
            for other in workers[number + 1..].iter().flat_map(lines) {
                let shared = lines(worker).into_iter().find(|own| own.start < other.end && other.start < own.end);
                assert_eq!(shared, None, "worker {number} has lines of {other:?}");
            }
        }
    }
}
