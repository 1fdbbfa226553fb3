//! What a worker counts, and how it is read.
//!
//! Each worker has its own [`WorkerCounters`], which nobody else writes: adding is a load and a store, never a
//! locked instruction, and no two workers write to one cache line. Readers sum over the workers and may be a few
//! packets behind.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::{Duration, Instant};

use crate::exit::{DropReason, PuntReason};
use crate::latency::LatencyCounters;
use crate::model::MAX_SERVICES;

/// The most pairs of service and backend, over all services.
pub const MAX_TARGETS: usize = 1 << 17;

/// The most places for the counters of services. Some more than there may be services, because a removed service's place
/// is free only when no worker uses it any more.
pub const MAX_SERVICE_PLACES: usize = MAX_SERVICES + 1_024;

/// A number that one thread adds to and any may read.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds; only the owning thread may.
    #[inline]
    pub fn add(&self, count: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(count), Relaxed);
    }

    /// Takes off; only the owning thread may.
    #[inline]
    pub fn sub(&self, count: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_sub(count), Relaxed);
    }

    /// Replaces the value; only the owning thread may.
    #[inline]
    pub fn set(&self, value: u64) {
        self.0.store(value, Relaxed);
    }

    /// The value.
    #[inline]
    pub fn read(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

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
    /// Flows that it remembers now ([`crate::exceptions`]).
    pub exceptions: Counter,
    /// Flows that should have been remembered, but there was no room.
    pub exceptions_full: Counter,
    /// How long frames were with it, in samples.
    pub latency: Box<LatencyCounters>,
    /// By port.
    pub ports: Box<[PortCounters]>,
    /// By pair of service and backend, see [`TargetId`].
    pub targets: Box<[TargetCounters]>,
    /// By service, see [`ServicePlace`].
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
        Self::with_places(ports, MAX_TARGETS, MAX_SERVICE_PLACES)
    }

    /// With fewer places for the counters of backends and services: for tests that make many of these, and few of those.
    pub fn with_places(ports: usize, targets: usize, services: usize) -> Self {
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

/// Frames and bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Frames.
    pub packets: u64,
    /// Bytes, Ethernet header included.
    pub bytes: u64,
}

/// Hands out the places of [`WorkerCounters::targets`] and of [`WorkerCounters::services`].
#[derive(Debug)]
pub struct TargetIds {
    workers: Vec<Arc<WorkerCounters>>,
    targets: Mutex<Free>,
    services: Mutex<Free>,
}

/// The places of one kind that nobody uses.
#[derive(Debug, Default)]
struct Free {
    /// The first was given back first.
    returned: VecDeque<(Instant, u32)>,
    /// Given back before any worker could know of them: those of refused changes.
    unknown: Vec<u32>,
    never_used: u32,
}

/// For so long, a place that was given back is nobody's: remembered flows name their backend by its place, and must not
/// find somebody else there. Longer than a sweep through the tables of remembered flows takes.
const QUARANTINE: Duration = Duration::from_secs(60);

impl Free {
    fn take(&mut self, most: usize, rest: Duration, now: Instant) -> Option<u32> {
        if let Some(place) = self.unknown.pop() {
            return Some(place);
        }
        let rested = |(since, _): &&(Instant, u32)| now.saturating_duration_since(*since) >= rest;
        if let Some((_, place)) = self.returned.front().filter(rested).copied() {
            self.returned.pop_front();
            return Some(place);
        }
        if (self.never_used as usize) < most {
            self.never_used += 1;
            return Some(self.never_used - 1);
        }
        // Better a place that somebody may remember than none: a remembered flow is looked up among the backends of its own
        // service, so the worst is that one whose backend is gone goes to another one of these.
        self.returned.pop_front().map(|(_, place)| place)
    }

    fn give_back(&mut self, place: u32, known: bool) {
        if known {
            self.returned.push_back((Instant::now(), place));
        } else {
            self.unknown.push(place);
        }
    }
}

/// The place where the workers count what they send to one backend of one service. It is given back when the last
/// holder lets go of it: the model, and each snapshot that workers may still use.
#[derive(Debug)]
pub struct TargetId {
    place: u32,
    /// What stood there when the place was handed out: counters never go back, so that workers need no word.
    before: Traffic,
    /// Whether workers may know of it.
    known: AtomicBool,
    ids: Weak<TargetIds>,
}

/// The place where the workers count what they drop of one service's packets; given back as a [`TargetId`] is.
#[derive(Debug)]
pub struct ServicePlace {
    place: u32,
    /// What stood there when the place was handed out.
    before: ServiceDrops,
    ids: Weak<TargetIds>,
}

/// Frames dropped, by [`DropReason`].
type ServiceDrops = [u64; DropReason::COUNT];

impl TargetIds {
    /// With the counters of all workers.
    pub fn new(workers: Vec<Arc<WorkerCounters>>) -> Arc<Self> {
        Arc::new(TargetIds { workers, targets: Mutex::default(), services: Mutex::default() })
    }

    /// A place that nobody uses, and if possible, that nobody used a minute ago; `None` where all [`MAX_TARGETS`] are in use.
    pub fn take(self: &Arc<Self>) -> Option<TargetId> {
        self.take_at(Instant::now())
    }

    fn take_at(self: &Arc<Self>, now: Instant) -> Option<TargetId> {
        let place = lock(&self.targets).take(MAX_TARGETS, QUARANTINE, now)?;
        Some(TargetId { place, before: self.sum(place), known: AtomicBool::new(false), ids: Arc::downgrade(self) })
    }

    /// A place for a service; `None` where all [`MAX_SERVICE_PLACES`] are in use.
    pub fn take_service(self: &Arc<Self>) -> Option<ServicePlace> {
        let place = lock(&self.services).take(MAX_SERVICE_PLACES, Duration::ZERO, Instant::now())?;
        Some(ServicePlace { place, before: self.drops(place), ids: Arc::downgrade(self) })
    }

    /// How many workers count.
    pub fn workers(&self) -> usize {
        self.workers.len()
    }

    fn sum(&self, place: u32) -> Traffic {
        let mut sum = Traffic::default();
        for worker in &self.workers {
            let target = &worker.targets[place as usize];
            sum.packets = sum.packets.wrapping_add(target.packets.read());
            sum.bytes = sum.bytes.wrapping_add(target.bytes.read());
        }
        sum
    }

    fn drops(&self, place: u32) -> ServiceDrops {
        let mut sums = [0; DropReason::COUNT];
        for worker in &self.workers {
            for (sum, count) in sums.iter_mut().zip(&worker.services[place as usize].drops) {
                *sum = u64::wrapping_add(*sum, count.read());
            }
        }
        sums
    }
}

fn lock(free: &Mutex<Free>) -> MutexGuard<'_, Free> {
    free.lock().expect("no holder of this lock panics")
}

impl TargetId {
    /// The place in [`WorkerCounters::targets`].
    pub fn place(&self) -> u32 {
        self.place
    }

    /// The place, for workers: from now on, they may remember flows by it.
    pub fn publish(&self) -> u32 {
        self.known.store(true, Relaxed);
        self.place
    }

    /// How many flows the workers remember, active and inactive ones.
    pub fn flows(&self) -> (u64, u64) {
        let Some(ids) = self.ids.upgrade() else { return (0, 0) };
        let targets = ids.workers.iter().map(|worker| &worker.targets[self.place as usize]);
        targets.fold((0, 0), |(active, inactive), target| {
            (active + target.active.read(), inactive + target.inactive.read())
        })
    }

    /// What all workers have sent since the place was handed out.
    pub fn traffic(&self) -> Traffic {
        let Some(ids) = self.ids.upgrade() else { return Traffic::default() };
        let now = ids.sum(self.place);
        Traffic {
            packets: now.packets.wrapping_sub(self.before.packets),
            bytes: now.bytes.wrapping_sub(self.before.bytes),
        }
    }
}

impl Drop for TargetId {
    fn drop(&mut self) {
        if let Some(ids) = self.ids.upgrade() {
            lock(&ids.targets).give_back(self.place, self.known.load(Relaxed));
        }
    }
}

impl ServicePlace {
    /// The place in [`WorkerCounters::services`].
    pub fn place(&self) -> u32 {
        self.place
    }

    /// What all workers have dropped since the place was handed out: the reasons that occurred, and how often.
    pub fn drops(&self) -> Vec<(DropReason, u64)> {
        let Some(ids) = self.ids.upgrade() else { return Vec::new() };
        let now = ids.drops(self.place);
        let since = DropReason::ALL.iter().zip(now.into_iter().zip(self.before));
        since.map(|(&reason, (now, before))| (reason, now.wrapping_sub(before))).filter(|(_, new)| *new > 0).collect()
    }
}

impl Drop for ServicePlace {
    fn drop(&mut self) {
        if let Some(ids) = self.ids.upgrade() {
            lock(&ids.services).give_back(self.place, true);
        }
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

    #[test]
    fn a_place_that_comes_back_counts_from_zero() {
        let worker = Arc::new(WorkerCounters::new(1));
        let ids = TargetIds::new(vec![worker.clone()]);
        let first = ids.take().unwrap();
        worker.targets[first.place() as usize].packets.add(5);
        worker.targets[first.place() as usize].bytes.add(500);
        assert_eq!(first.traffic(), Traffic { packets: 5, bytes: 500 });
        let place = first.publish();
        drop(first);
        let other = ids.take().unwrap();
        assert_ne!(other.place(), place, "somebody may still remember who was there");
        let second = ids.take_at(Instant::now() + QUARANTINE).unwrap();
        assert_eq!(second.place(), place);
        assert_eq!(second.traffic(), Traffic::default());
    }

    #[test]
    fn places_are_bounded() {
        let ids = TargetIds::new(vec![]);
        let all: Vec<TargetId> = (0..MAX_TARGETS).map(|_| ids.take().unwrap()).collect();
        assert!(ids.take().is_none());
        let (known, unknown) = (MAX_TARGETS / 2, MAX_TARGETS - MAX_TARGETS / 2);
        for target in &all[..known] {
            target.publish();
        }
        drop(all);
        let first: Vec<TargetId> = (0..unknown).map(|_| ids.take().unwrap()).collect();
        assert!(
            first.iter().all(|target| target.place() as usize >= known),
            "the others' places may still be remembered"
        );
        let rest: Vec<TargetId> = (0..known).map(|_| ids.take().unwrap()).collect();
        assert!(ids.take().is_none());
        drop((first, rest));
    }

    #[test]
    fn a_service_s_drops_count_from_zero_too() {
        let workers = [(); 2].map(|()| Arc::new(WorkerCounters::new(1)));
        let ids = TargetIds::new(workers.to_vec());
        let count = |place: &ServicePlace, worker: usize, reason: DropReason, count| {
            workers[worker].services[place.place() as usize].drops[reason.index()].add(count);
        };
        let first = ids.take_service().unwrap();
        count(&first, 0, DropReason::NoBackend, 3);
        count(&first, 1, DropReason::NoBackend, 4);
        count(&first, 1, DropReason::Loop, 1);
        assert_eq!(first.drops(), [(DropReason::NoBackend, 7), (DropReason::Loop, 1)]);
        let place = first.place();
        let other = ids.take_service().unwrap();
        assert_ne!(other.place(), place);
        drop(first);
        let second = ids.take_service().unwrap();
        assert_eq!((second.place(), second.drops()), (place, vec![]));
        count(&second, 0, DropReason::Loop, 2);
        assert_eq!(second.drops(), [(DropReason::Loop, 2)]);
    }
}
