//! Leases of counters to backends and services.
//!
//! Each service, and each backend of a service, leases a set of counters from all workers. Counters are never reset, so
//! workers need not be told of a new lease. A lease knows their values when it began, and returns the differences.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::{Duration, Instant};

use crate::base::exit::DropReason;
use crate::base::ids::{CounterNo, ServiceCounterNo};
use crate::base::limits::{MAX_SERVICE_COUNTERS, MAX_TARGETS};
use crate::count::counters::{HANDSHAKE_PARTS, WorkerCounters};

/// Frames and bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Frames.
    pub packets: u64,
    /// Bytes, Ethernet header included.
    pub bytes: u64,
}

/// Handshakes that were looked at: a sample of the connections that clients open.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Handshakes {
    /// Those whose client went on.
    pub answered: u64,
    /// Those whose client repeated its SYN, in parts by the client's network.
    pub unanswered: [u64; HANDSHAKE_PARTS],
}

impl Handshakes {
    /// Those since `before`.
    #[must_use]
    pub fn since(&self, before: &Handshakes) -> Handshakes {
        let unanswered = std::array::from_fn(|part| self.unanswered[part].wrapping_sub(before.unanswered[part]));
        Handshakes { answered: self.answered.wrapping_sub(before.answered), unanswered }
    }

    /// These and others.
    #[must_use]
    pub fn plus(&self, others: &Handshakes) -> Handshakes {
        let unanswered = std::array::from_fn(|part| self.unanswered[part].wrapping_add(others.unanswered[part]));
        Handshakes { answered: self.answered.wrapping_add(others.answered), unanswered }
    }

    /// All that were not answered.
    pub fn lost(&self) -> u64 {
        self.unanswered.iter().sum()
    }

    /// All of them.
    pub fn all(&self) -> u64 {
        self.answered + self.lost()
    }
}

/// Lends the counters of [`WorkerCounters::targets`] and of [`WorkerCounters::services`].
#[derive(Debug)]
pub struct Leases {
    workers: Vec<Arc<WorkerCounters>>,
    targets: Mutex<Free>,
    services: Mutex<Free>,
}

/// The counters of one kind that are not lent.
#[derive(Debug, Default)]
struct Free {
    /// Indices of returned counters, with the time of their return. The oldest is first.
    returned: VecDeque<(Instant, usize)>,
    /// Returned before any worker could know of them: the counters of refused changes.
    unknown: Vec<usize>,
    /// From this index on, no counters have been lent yet.
    never_used: usize,
}

/// The time for which returned counters are not lent again. Remembered flows name their backend by the number of its
/// counters, and must not find another backend under it. It is longer than a sweep through the tables of remembered
/// flows.
const QUARANTINE: Duration = Duration::from_secs(60);

impl Free {
    fn take(&mut self, most: usize, rest: Duration, now: Instant) -> Option<usize> {
        if let Some(index) = self.unknown.pop() {
            return Some(index);
        }
        let rested = |(since, _): &&(Instant, usize)| now.saturating_duration_since(*since) >= rest;
        if let Some((_, index)) = self.returned.front().filter(rested).copied() {
            self.returned.pop_front();
            return Some(index);
        }
        if self.never_used < most {
            self.never_used += 1;
            return Some(self.never_used - 1);
        }
        // Counters that a remembered flow may still name are better than none. Such a flow is looked up among the
        // backends of its own service. So at worst, a flow whose backend is gone goes to another backend of the same
        // service.
        self.returned.pop_front().map(|(_, index)| index)
    }

    fn give_back(&mut self, index: usize, known: bool) {
        if known {
            self.returned.push_back((Instant::now(), index));
        } else {
            self.unknown.push(index);
        }
    }
}

/// The lease of the counters of one backend of one service. The counters are returned when the last holder drops the
/// lease. Its holders are the model, and each snapshot that workers may still use.
#[derive(Debug)]
pub struct TargetLease {
    number: CounterNo,
    /// The values when the lease began.
    before: Traffic,
    /// The same of its handshakes.
    before_handshakes: Handshakes,
    /// Whether workers may know the number.
    known: AtomicBool,
    leases: Weak<Leases>,
}

/// The lease of the counters of one service's dropped packets. They are returned like those of a [`TargetLease`].
#[derive(Debug)]
pub struct ServiceLease {
    number: ServiceCounterNo,
    /// The values when the lease began.
    before: ServiceDrops,
    leases: Weak<Leases>,
}

/// Frames dropped, by [`DropReason`].
type ServiceDrops = [u64; DropReason::COUNT];

impl Leases {
    /// A lender of the counters of these workers, which are all workers.
    pub fn new(workers: Vec<Arc<WorkerCounters>>) -> Arc<Self> {
        Arc::new(Leases { workers, targets: Mutex::default(), services: Mutex::default() })
    }

    /// Leases counters for a backend of a service, if possible counters that were not in use a minute ago. `None` if
    /// all [`MAX_TARGETS`] are lent.
    pub fn take_target(self: &Arc<Self>) -> Option<TargetLease> {
        self.take_target_at(Instant::now())
    }

    fn take_target_at(self: &Arc<Self>, now: Instant) -> Option<TargetLease> {
        let number = CounterNo::new(lock(&self.targets).take(MAX_TARGETS, QUARANTINE, now)?);
        Some(TargetLease {
            number,
            before: self.sum(number),
            before_handshakes: self.handshakes(number),
            known: AtomicBool::new(false),
            leases: Arc::downgrade(self),
        })
    }

    /// Leases counters for a service. `None` if all [`MAX_SERVICE_COUNTERS`] are lent.
    pub fn take_service(self: &Arc<Self>) -> Option<ServiceLease> {
        let index = lock(&self.services).take(MAX_SERVICE_COUNTERS, Duration::ZERO, Instant::now())?;
        let number = ServiceCounterNo::new(index);
        Some(ServiceLease { number, before: self.drops(number), leases: Arc::downgrade(self) })
    }

    /// The number of workers.
    pub fn workers(&self) -> usize {
        self.workers.len()
    }

    fn sum(&self, number: CounterNo) -> Traffic {
        let mut sum = Traffic::default();
        for worker in &self.workers {
            let target = &worker.targets[number.index()];
            sum.packets = sum.packets.wrapping_add(target.packets.read());
            sum.bytes = sum.bytes.wrapping_add(target.bytes.read());
        }
        sum
    }

    fn handshakes(&self, number: CounterNo) -> Handshakes {
        let mut sum = Handshakes::default();
        for worker in &self.workers {
            let counters = &worker.handshakes[number.index()];
            sum.answered = sum.answered.wrapping_add(counters.answered.read());
            for (sum, count) in sum.unanswered.iter_mut().zip(&counters.unanswered) {
                *sum = sum.wrapping_add(count.read());
            }
        }
        sum
    }

    fn drops(&self, number: ServiceCounterNo) -> ServiceDrops {
        let mut sums = [0; DropReason::COUNT];
        for worker in &self.workers {
            for (sum, count) in sums.iter_mut().zip(&worker.services[number.index()].drops) {
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
    /// The number in [`WorkerCounters::targets`].
    pub fn number(&self) -> CounterNo {
        self.number
    }

    /// The number, for workers. From now on, they may remember flows by it.
    pub fn publish(&self) -> CounterNo {
        self.known.store(true, Relaxed);
        self.number
    }

    /// The flows that the workers remember: active ones, inactive ones.
    pub fn flows(&self) -> (u64, u64) {
        let Some(leases) = self.leases.upgrade() else { return (0, 0) };
        let targets = leases.workers.iter().map(|worker| &worker.targets[self.number.index()]);
        targets.fold((0, 0), |(active, inactive), target| {
            (active + target.active.read(), inactive + target.inactive.read())
        })
    }

    /// The frames and bytes that all workers have sent since the lease began.
    pub fn traffic(&self) -> Traffic {
        let Some(leases) = self.leases.upgrade() else { return Traffic::default() };
        let now = leases.sum(self.number);
        Traffic {
            packets: now.packets.wrapping_sub(self.before.packets),
            bytes: now.bytes.wrapping_sub(self.before.bytes),
        }
    }

    /// What became of the handshakes that all workers have looked at since the lease began.
    pub fn handshakes(&self) -> Handshakes {
        let Some(leases) = self.leases.upgrade() else { return Handshakes::default() };
        leases.handshakes(self.number).since(&self.before_handshakes)
    }
}

impl Drop for TargetLease {
    fn drop(&mut self) {
        if let Some(leases) = self.leases.upgrade() {
            lock(&leases.targets).give_back(self.number.index(), self.known.load(Relaxed));
        }
    }
}

impl ServiceLease {
    /// The number in [`WorkerCounters::services`].
    pub fn number(&self) -> ServiceCounterNo {
        self.number
    }

    /// The drops of all workers since the lease began: each reason that occurred, and its count.
    pub fn drops(&self) -> Vec<(DropReason, u64)> {
        let Some(leases) = self.leases.upgrade() else { return Vec::new() };
        let now = leases.drops(self.number);
        let since = DropReason::ALL.iter().zip(now.into_iter().zip(self.before));
        since.map(|(&reason, (now, before))| (reason, now.wrapping_sub(before))).filter(|(_, new)| *new > 0).collect()
    }
}

impl Drop for ServiceLease {
    fn drop(&mut self) {
        if let Some(leases) = self.leases.upgrade() {
            lock(&leases.services).give_back(self.number.index(), true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_that_are_lent_again_count_from_zero() {
        let worker = Arc::new(WorkerCounters::new(1));
        let leases = Leases::new(vec![worker.clone()]);
        let first = leases.take_target().unwrap();
        worker.targets[first.number().index()].packets.add(5);
        worker.targets[first.number().index()].bytes.add(500);
        assert_eq!(first.traffic(), Traffic { packets: 5, bytes: 500 });
        let number = first.publish();
        drop(first);
        let other = leases.take_target().unwrap();
        assert_ne!(other.number(), number, "a flow may still be remembered by it");
        let second = leases.take_target_at(Instant::now() + QUARANTINE).unwrap();
        assert_eq!(second.number(), number);
        assert_eq!(second.traffic(), Traffic::default());
    }

    #[test]
    fn handshakes_are_those_of_all_workers_since_the_lease_began() {
        let workers = [(); 2].map(|()| Arc::new(WorkerCounters::new(1)));
        let leases = Leases::new(workers.to_vec());
        let count = |lease: &TargetLease| {
            for (worker, count) in workers.iter().zip([3, 4]) {
                let counters = &worker.handshakes[lease.number().index()];
                counters.answered.add(count);
                counters.unanswered[1].add(10 * count);
            }
        };
        let first = leases.take_target().unwrap();
        count(&first);
        assert_eq!(first.handshakes(), Handshakes { answered: 7, unanswered: [0, 70, 0] });
        let number = first.publish();
        drop(first);
        let second = leases.take_target_at(Instant::now() + QUARANTINE).unwrap();
        assert_eq!((second.number(), second.handshakes()), (number, Handshakes::default()));
        count(&second);
        assert_eq!(second.handshakes(), Handshakes { answered: 7, unanswered: [0, 70, 0] });
    }

    #[test]
    fn counters_are_bounded() {
        let leases = Leases::new(vec![]);
        let all: Vec<TargetLease> = (0..MAX_TARGETS).map(|_| leases.take_target().unwrap()).collect();
        assert!(leases.take_target().is_none());
        let (known, unknown) = (MAX_TARGETS / 2, MAX_TARGETS - MAX_TARGETS / 2);
        for target in &all[..known] {
            target.publish();
        }
        drop(all);
        let first: Vec<TargetLease> = (0..unknown).map(|_| leases.take_target().unwrap()).collect();
        assert!(first.iter().all(|target| target.number().index() >= known), "the others may still be remembered");
        let rest: Vec<TargetLease> = (0..known).map(|_| leases.take_target().unwrap()).collect();
        assert!(leases.take_target().is_none());
        drop((first, rest));
    }

    #[test]
    fn drops_of_a_service_count_from_zero_too() {
        let workers = [(); 2].map(|()| Arc::new(WorkerCounters::new(1)));
        let leases = Leases::new(workers.to_vec());
        let count = |lease: &ServiceLease, worker: usize, reason: DropReason, count| {
            workers[worker].services[lease.number().index()].drops[reason.index()].add(count);
        };
        let first = leases.take_service().unwrap();
        count(&first, 0, DropReason::NoBackend, 3);
        count(&first, 1, DropReason::NoBackend, 4);
        count(&first, 1, DropReason::Loop, 1);
        assert_eq!(first.drops(), [(DropReason::NoBackend, 7), (DropReason::Loop, 1)]);
        let number = first.number();
        let other = leases.take_service().unwrap();
        assert_ne!(other.number(), number);
        drop(first);
        let second = leases.take_service().unwrap();
        assert_eq!((second.number(), second.drops()), (number, vec![]));
        count(&second, 0, DropReason::Loop, 2);
        assert_eq!(second.drops(), [(DropReason::Loop, 2)]);
    }
}
