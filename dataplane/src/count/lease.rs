//! Leases of counters.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::{Duration, Instant};

use crate::base::exit::DropReason;
use crate::base::limits::{MAX_SERVICE_COUNTERS, MAX_TARGETS};
use crate::count::counters::WorkerCounters;

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
pub struct Leases {
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
pub struct TargetLease {
    place: u32,
    /// What stood there when the place was handed out: counters never go back, so that workers need no word.
    before: Traffic,
    /// Whether workers may know of it.
    known: AtomicBool,
    ids: Weak<Leases>,
}

/// The place where the workers count what they drop of one service's packets; given back as a [`TargetLease`] is.
#[derive(Debug)]
pub struct ServiceLease {
    place: u32,
    /// What stood there when the place was handed out.
    before: ServiceDrops,
    ids: Weak<Leases>,
}

/// Frames dropped, by [`DropReason`].
type ServiceDrops = [u64; DropReason::COUNT];

impl Leases {
    /// With the counters of all workers.
    pub fn new(workers: Vec<Arc<WorkerCounters>>) -> Arc<Self> {
        Arc::new(Leases { workers, targets: Mutex::default(), services: Mutex::default() })
    }

    /// A place that nobody uses, and if possible, that nobody used a minute ago; `None` where all [`MAX_TARGETS`] are in use.
    pub fn take(self: &Arc<Self>) -> Option<TargetLease> {
        self.take_at(Instant::now())
    }

    fn take_at(self: &Arc<Self>, now: Instant) -> Option<TargetLease> {
        let place = lock(&self.targets).take(MAX_TARGETS, QUARANTINE, now)?;
        Some(TargetLease { place, before: self.sum(place), known: AtomicBool::new(false), ids: Arc::downgrade(self) })
    }

    /// A place for a service; `None` where all [`MAX_SERVICE_COUNTERS`] are in use.
    pub fn take_service(self: &Arc<Self>) -> Option<ServiceLease> {
        let place = lock(&self.services).take(MAX_SERVICE_COUNTERS, Duration::ZERO, Instant::now())?;
        Some(ServiceLease { place, before: self.drops(place), ids: Arc::downgrade(self) })
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

impl TargetLease {
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

impl Drop for TargetLease {
    fn drop(&mut self) {
        if let Some(ids) = self.ids.upgrade() {
            lock(&ids.targets).give_back(self.place, self.known.load(Relaxed));
        }
    }
}

impl ServiceLease {
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

impl Drop for ServiceLease {
    fn drop(&mut self) {
        if let Some(ids) = self.ids.upgrade() {
            lock(&ids.services).give_back(self.place, true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_that_comes_back_counts_from_zero() {
        let worker = Arc::new(WorkerCounters::new(1));
        let ids = Leases::new(vec![worker.clone()]);
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
        let ids = Leases::new(vec![]);
        let all: Vec<TargetLease> = (0..MAX_TARGETS).map(|_| ids.take().unwrap()).collect();
        assert!(ids.take().is_none());
        let (known, unknown) = (MAX_TARGETS / 2, MAX_TARGETS - MAX_TARGETS / 2);
        for target in &all[..known] {
            target.publish();
        }
        drop(all);
        let first: Vec<TargetLease> = (0..unknown).map(|_| ids.take().unwrap()).collect();
        assert!(
            first.iter().all(|target| target.place() as usize >= known),
            "the others' places may still be remembered"
        );
        let rest: Vec<TargetLease> = (0..known).map(|_| ids.take().unwrap()).collect();
        assert!(ids.take().is_none());
        drop((first, rest));
    }

    #[test]
    fn a_service_s_drops_count_from_zero_too() {
        let workers = [(); 2].map(|()| Arc::new(WorkerCounters::new(1)));
        let ids = Leases::new(workers.to_vec());
        let count = |place: &ServiceLease, worker: usize, reason: DropReason, count| {
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
