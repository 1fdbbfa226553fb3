//! The workers' threads, from their start to their turn.
//!
//! A worker's memory must be on the NUMA node of its core, and the kernel puts it where the thread runs that first writes to it. So the
//! threads come before all else: each is pinned, makes its counters and tables, hands on the counters, which the model and the API
//! are made with, and waits. When DPDK runs and the ports are open, it is given its queues, registers with EAL, and polls.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{Builder, JoinHandle};

use anyhow::{Context, anyhow};

use crate::base::clock::Clock;
use crate::base::ids::WorkerNo;
use crate::config::Director;
use crate::count::counters::WorkerCounters;
use crate::dpdk::{Eal, Mbuf, QueuePair, RegisteredThread, tsc_hz};
use crate::forward::exceptions::Exceptions;
use crate::forward::fragment::{FragmentRings, Fragments, mesh};
use crate::forward::limits::Limits;
use crate::forward::port::WorkerPort;
use crate::forward::rings::Rings;
use crate::forward::worker::{Memory, Worker};
use crate::state::publication::SnapshotReader;

/// A worker whose thread is pinned and whose memory is there. The thread ends where this is dropped.
pub(super) struct PinnedWorker {
    name: String,
    thread: JoinHandle<()>,
    begin: Sender<Work>,
    started: Receiver<Result<(), String>>,
    counters: Arc<WorkerCounters>,
    room_for_flows: usize,
}

/// What a worker is given to begin with.
pub(super) struct Work {
    pub(super) eal: Arc<Eal>,
    pub(super) ports: Vec<WorkerPort<QueuePair>>,
    pub(super) snapshots: SnapshotReader,
    pub(super) rings: Rings<Mbuf>,
    /// Ends the worker.
    pub(super) stop: Arc<AtomicBool>,
}

/// Starts a thread for each worker, and waits until all are pinned and have their memory.
pub(super) fn pin(director: &Director, ports: usize) -> anyhow::Result<Vec<PinnedWorker>> {
    let rings = mesh(director.workers.len()).into_iter().enumerate();
    // All at once: writing to that much memory takes its time.
    let starting = rings.map(|(number, rings)| Starting::new(director, ports, number, rings));
    let starting: Vec<Starting> = starting.collect::<anyhow::Result<_>>()?;
    starting.into_iter().map(Starting::pinned).collect()
}

impl PinnedWorker {
    /// What it counts.
    pub(super) fn counters(&self) -> Arc<WorkerCounters> {
        self.counters.clone()
    }

    /// How many flows it can remember.
    pub(super) fn room_for_flows(&self) -> usize {
        self.room_for_flows
    }

    /// Has it poll. Returns its thread, which may hold queues and buffers from now on, and whether it polls.
    pub(super) fn begin(self, work: Work) -> (JoinHandle<()>, anyhow::Result<()>) {
        // Where the thread has ended, it gives no answer.
        let _ = self.begin.send(work);
        (self.thread, answer(&self.started, &self.name))
    }
}

/// A worker whose thread has begun.
struct Starting {
    name: String,
    thread: JoinHandle<()>,
    begin: Sender<Work>,
    pinned: Receiver<Result<(Arc<WorkerCounters>, usize), String>>,
    started: Receiver<Result<(), String>>,
}

impl Starting {
    fn new(director: &Director, ports: usize, number: usize, rings: FragmentRings<Mbuf>) -> anyhow::Result<Self> {
        let (lcore, room, workers) = (director.workers[number], director.room, director.workers.len());
        let echo_rate = director.echo_rate;
        let ((tell_pinned, pinned), (tell_started, started), (begin, work)) = (channel(), channel(), channel());
        let body = move || {
            if !core_affinity::set_for_current(core_affinity::CoreId { id: lcore }) {
                return drop(tell_pinned.send(Err(format!("it cannot be pinned to core {lcore}"))));
            }
            let counters = Arc::new(WorkerCounters::new(ports));
            let worker = WorkerNo::new(number);
            let (fragments, exceptions) = (Fragments::new(worker, rings), Exceptions::new(room, worker));
            let _ = tell_pinned.send(Ok((counters.clone(), exceptions.room())));
            let memory = Memory { fragments, exceptions, limits: Limits::new(echo_rate, workers) };
            // Without work, the daemon does not start, for another reason.
            if let Ok(work) = work.recv() {
                run(work, counters, memory, &tell_started);
            }
        };
        let name = format!("Worker {number} on core {lcore}");
        let thread = Builder::new().name(format!("shunt-worker{number}")).spawn(body);
        let thread = thread.with_context(|| format!("{name} cannot be started"))?;
        Ok(Starting { name, thread, begin, pinned, started })
    }

    fn pinned(self) -> anyhow::Result<PinnedWorker> {
        let Starting { name, thread, begin, pinned, started } = self;
        let (counters, room_for_flows) = answer(&pinned, &name)?;
        Ok(PinnedWorker { name, thread, begin, started, counters, room_for_flows })
    }
}

/// The worker's thread from when it has ports.
fn run(work: Work, counters: Arc<WorkerCounters>, memory: Memory<Mbuf>, started: &Sender<Result<(), String>>) {
    let Work { eal, ports, snapshots, rings, stop } = work;
    let _registered = match RegisteredThread::register(&eal) {
        Ok(registered) => registered,
        Err(problem) => return drop(started.send(Err(format!("EAL does not register it: {problem}")))),
    };
    let mut worker = Worker::new(ports, snapshots, counters, rings, memory, Clock::new(tsc_hz()));
    let _ = started.send(Ok(()));
    while !stop.load(Ordering::Relaxed) {
        worker.turn();
    }
}

/// What a worker's thread says of itself.
fn answer<T>(from: &Receiver<Result<T, String>>, worker: &str) -> anyhow::Result<T> {
    match from.recv() {
        Ok(said) => said.map_err(|problem| anyhow!("{worker} cannot be started: {problem}")),
        Err(_) => Err(anyhow!("{worker} ended before it began")),
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::config::Hugepages;
    use crate::control::hash_key::HashKey;
    use crate::forward::exceptions::Room;

    fn director(workers: Vec<usize>) -> Director {
        Director {
            workers,
            slow_path: 0,
            slow_path_poll: false,
            echo_rate: 1_000,
            hash_key: HashKey([1; 16]),
            maglev_table_size: 61,
            socket: PathBuf::new(),
            socket_group: None,
            metrics: None,
            hugepages: Hugepages::Off,
            mbufs: None,
            room: Room { v4: 1_024, v6: 256 },
            notify: None,
            account: Ok(None),
            eal_args: Vec::new(),
        }
    }

    /// A core that this process may use.
    fn core() -> usize {
        core_affinity::get_core_ids().expect("the kernel says")[0].id
    }

    #[test]
    fn a_pinned_worker_has_its_memory_and_ends_when_the_daemon_does_not_start() {
        let workers = pin(&director(vec![core(), core()]), 3).unwrap();
        assert_eq!(workers.len(), 2);
        for worker in workers {
            let counters = worker.counters();
            assert_eq!((counters.ports.len(), counters.turns.read(), worker.room_for_flows()), (3, 0, 1_408));
            let PinnedWorker { thread, begin, counters: its, .. } = worker;
            drop((begin, its));
            thread.join().expect("it ends");
            assert_eq!(Arc::strong_count(&counters), 1);
        }
    }

    #[test]
    fn a_worker_that_cannot_be_pinned_says_so() {
        let Err(error) = pin(&director(vec![core(), 1_000]), 1) else { panic!("there is no such core") };
        assert_eq!(error.to_string(), "Worker 1 on core 1000 cannot be started: it cannot be pinned to core 1000");
    }
}
