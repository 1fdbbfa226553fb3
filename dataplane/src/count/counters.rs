//! The counters of a worker, and how they are read.
//!
//! Each worker has its own [`WorkerCounters`], and no other thread writes them. So adding is a load and a store, never
//! a locked instruction, and no two workers write to one cache line. Readers sum over the workers, and may be a few
//! packets behind.

use crate::base::counter::Counter;
use crate::base::exit::{DropReason, PuntReason, UnsentReason};
use crate::base::limits::{MAX_SERVICE_COUNTERS, MAX_TARGETS};
use crate::base::touched::touched;
use crate::count::histogram::LatencyCounters;

/// The counters of one worker.
#[derive(Debug)]
#[repr(align(128))] // two lines: CPUs fetch neighboring lines in pairs
pub struct WorkerCounters {
    /// Turns of its loop.
    pub turns: Counter,
    /// Turns in which there were frames.
    pub busy_turns: Counter,
    /// TSC cycles of the busy turns.
    pub busy_cycles: Counter,
    /// TSC cycles since the worker started.
    pub cycles: Counter,
    /// The generation of the snapshot that it uses.
    pub generation: Counter,
    /// Flows that it remembers now ([`crate::forward::exceptions`]).
    pub exceptions: Counter,
    /// Flows that were not remembered because there was no room.
    pub exceptions_full: Counter,
    /// How long frames were in the worker, in samples.
    pub latency: Box<LatencyCounters>,
    /// By port.
    pub ports: Box<[PortCounters]>,
    /// By pair of service and backend, see [`TargetLease`](crate::count::lease::TargetLease).
    pub targets: Box<[TargetCounters]>,
    /// The same pairs: what became of the handshakes that were looked at.
    pub handshakes: Box<[HandshakeCounters]>,
    /// By service, see [`ServiceLease`](crate::count::lease::ServiceLease).
    pub services: Box<[ServiceCounters]>,
}

/// One worker's counters of one port: the frames that arrive here and what happens to them, and the frames that leave
/// here.
#[derive(Debug)]
#[repr(align(128))]
pub struct PortCounters {
    /// Frames received.
    pub rx_packets: Counter,
    /// Bytes received.
    pub rx_bytes: Counter,
    /// Frames sent from here to a backend, whatever port they arrived on.
    pub forwarded: Counter,
    /// Frames sent, including those of the slow path.
    pub tx_packets: Counter,
    /// Bytes sent.
    pub tx_bytes: Counter,
    /// Frames received here and dropped, by reason. But `tx_full` counts frames that were to leave here.
    pub drops: [Counter; DropReason::COUNT],
    /// Frames received here and given to the slow path, by reason.
    pub punts: [Counter; PuntReason::COUNT],
    /// Frames received here for VIPs whose checksum was looked at: some of all.
    pub checksums_seen: Counter,
    /// Those of them whose sender had left the checksum to a NIC that is not there.
    pub checksums_unfinished: Counter,
}

/// The slow path's counters of one port: its own frames that were to leave there, and were not sent, by reason.
pub type UnsentCounters = [Counter; UnsentReason::COUNT];

/// One worker's counters of a backend of a service: frames sent, and remembered flows.
#[derive(Debug, Default)]
#[repr(align(32))] // never across two cache lines
pub struct TargetCounters {
    /// Frames.
    pub packets: Counter,
    /// Bytes.
    pub bytes: Counter,
    /// Active flows that are remembered now. These are not all flows, unless the service tracks all.
    pub active: Counter,
    /// Flows that are remembered now and are opening or closing.
    pub inactive: Counter,
}

impl TargetCounters {
    /// The backend's load by the flows that are remembered: an active one weighs as much as 256 inactive ones, as in LVS.
    #[inline]
    pub fn load(&self) -> u64 {
        self.active.read() * 256 + self.inactive.read()
    }
}

/// The parts in which unanswered handshakes are counted.
pub const HANDSHAKE_PARTS: usize = 3;

/// One worker's counters of a backend's handshakes: of a sample of the connections that clients open.
#[derive(Debug, Default)]
#[repr(align(32))]
pub struct HandshakeCounters {
    /// Those whose client went on.
    pub answered: Counter,
    /// Those whose client repeated its SYN, by a hash of the client's network: what one network sends is in one part.
    pub unanswered: [Counter; HANDSHAKE_PARTS],
}

/// One worker's counters of a service: its dropped packets.
#[derive(Debug)]
#[repr(align(128))]
pub struct ServiceCounters {
    /// Frames, by reason. The port's drops include them.
    pub drops: [Counter; DropReason::COUNT],
}

/// The bytes that a CPU fetches at once, or takes from another CPU: two cache lines.
const LINES: usize = 128;

const _: () = assert!(align_of::<WorkerCounters>() == LINES && align_of::<PortCounters>() == LINES);
const _: () = assert!(align_of::<ServiceCounters>() == LINES && align_of::<LatencyCounters>() == LINES);
const _: () = assert!(LINES.is_multiple_of(size_of::<TargetCounters>()), "a target's counters never cross a line");

impl WorkerCounters {
    /// All zero, for this many ports. The memory is taken, and touched, here: to be called by the worker's own thread, when it is pinned.
    pub fn new(ports: usize) -> Self {
        Self::with_room(ports, MAX_TARGETS, MAX_SERVICE_COUNTERS)
    }

    /// With fewer counters of backends and services, for tests that have many workers and few backends.
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
            ports: touched(ports, PortCounters::default),
            targets: touched(targets, TargetCounters::default),
            handshakes: touched(targets, HandshakeCounters::default),
            services: touched(services, ServiceCounters::default),
        }
    }

    /// The sum of one counter over the ports.
    pub fn over_ports(&self, which: impl Fn(&PortCounters) -> u64) -> u64 {
        self.ports.iter().map(which).sum()
    }
}

/// An array of zeros. The standard library knows arrays of up to 32.
fn zeros<const N: usize>() -> [Counter; N] {
    std::array::from_fn(|_| Counter::default())
}

impl Default for PortCounters {
    fn default() -> Self {
        PortCounters {
            rx_packets: Counter::default(),
            rx_bytes: Counter::default(),
            forwarded: Counter::default(),
            tx_packets: Counter::default(),
            tx_bytes: Counter::default(),
            drops: zeros(),
            punts: zeros(),
            checksums_seen: Counter::default(),
            checksums_unfinished: Counter::default(),
        }
    }
}

impl Default for ServiceCounters {
    fn default() -> Self {
        ServiceCounters { drops: zeros() }
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
        let WorkerCounters { ports, targets, handshakes, services, .. } = worker;
        vec![own, latency, range(ports), range(targets), range(handshakes), range(services)]
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
