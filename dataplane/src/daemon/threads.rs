//! The threads that hold DPDK's queues and buffers, and the one that builds tables: their start and their end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::Context;
use rtrb::{Consumer, Producer, RingBuffer};
use tracing::error;

use crate::commands::Keeper;
use crate::control::director::Director;
use crate::control::faults::Faults;
use crate::daemon::follow::{Alarm, Follower, Lenders};
use crate::daemon::workers::{PinnedWorker, Work};
use crate::dpdk::{Eal, Mbuf, Mempool, QueuePair};
use crate::forward::class::Class;
use crate::forward::lending::lending;
use crate::forward::port::WorkerPort;
use crate::forward::rings::{Outgoing, Punted, Rings, punt_rings};
use crate::forward::sample::{SAMPLES, Sample};
use crate::health::tls::sessions::Sessions;
use crate::slow::SlowPath;

/// Frames that the ring from the slow path to a worker holds.
const RING: usize = 4_096;
/// How long the slow path rests when it has nothing to do.
const SLOW_PATH_REST: Duration = Duration::from_micros(500);

/// The threads, which must be gone before DPDK is.
pub(super) struct Threads {
    stop: Arc<AtomicBool>,
    director: Arc<Director>,
    running: Vec<JoinHandle<()>>,
    /// Wakes the thread that follows the ports.
    alarm: Option<Alarm>,
}

/// The slow path's ends of the rings to and from the workers.
pub(super) struct SlowPathRings {
    pub(super) punts: Vec<Punted<Mbuf>>,
    pub(super) samples: Vec<Consumer<Sample>>,
    /// To one worker, whose queues are enough for what the slow path sends.
    pub(super) outgoing: Producer<Outgoing<Mbuf>>,
}

impl Threads {
    /// None yet; they work for this director.
    pub(super) fn new(director: Arc<Director>) -> Self {
        Threads { stop: Arc::default(), director, running: Vec::new(), alarm: None }
    }

    /// Has the workers poll their queues, and waits until they do. The queues are lent to them.
    pub(super) fn begin_workers(
        &mut self,
        workers: Vec<PinnedWorker>,
        queues: Vec<Vec<QueuePair>>,
        eal: &Arc<Eal>,
    ) -> anyhow::Result<(SlowPathRings, Lenders)> {
        let (mut punts, mut samples, mut to_workers) = (Vec::new(), Vec::new(), Vec::new());
        let mut lenders: Lenders = queues.first().into_iter().flatten().map(|_| Vec::new()).collect();
        for (worker, queues) in workers.into_iter().zip(queues) {
            let (to_slow_path, from_worker) = punt_rings(Class::ring);
            let (to_worker, from_slow_path) = RingBuffer::new(RING);
            let (to_events, of_worker) = RingBuffer::new(SAMPLES);
            punts.push(from_worker);
            samples.push(of_worker);
            to_workers.push(to_worker);
            let ports = queues.into_iter().zip(&mut lenders).map(|(queue, lenders)| {
                let (lender, borrower) = lending();
                lenders.push(lender);
                WorkerPort::new(queue).borrowing(borrower)
            });
            let (thread, outcome) = worker.begin(Work {
                eal: eal.clone(),
                ports: ports.collect(),
                snapshots: self.director.reader(),
                rings: Rings { punts: to_slow_path, outgoing: from_slow_path, samples: to_events },
                stop: self.stop.clone(),
            });
            self.running.push(thread);
            outcome?;
        }
        Ok((SlowPathRings { punts, samples, outgoing: to_workers.swap_remove(0) }, lenders))
    }

    /// Starts the slow path on the core of the calling thread, which EAL has pinned to it.
    pub(super) fn start_slow_path(&mut self, mut slow_path: SlowPath<Arc<Mempool>>, poll: bool) -> anyhow::Result<()> {
        let stop = self.stop.clone();
        let body = move || {
            while !stop.load(Ordering::Relaxed) {
                let busy = slow_path.turn(Instant::now());
                if !busy && !poll {
                    std::thread::sleep(SLOW_PATH_REST);
                }
            }
        };
        self.start("shunt-slow", body).context("The slow path cannot be started")
    }

    /// Starts the thread that builds tables when the network changes, on the cores of the calling thread.
    pub(super) fn start_tables(&mut self) -> anyhow::Result<()> {
        let (director, stop) = (self.director.clone(), self.stop.clone());
        self.start("shunt-tables", move || director.keep_up(&stop)).context("The tables' thread cannot be started")
    }

    /// Starts the thread that has the TLS sessions of health checks, on the cores of the calling thread.
    pub(super) fn start_tls(&mut self, sessions: Sessions) -> anyhow::Result<()> {
        let stop = self.stop.clone();
        self.start("shunt-tls", move || sessions.run(&stop)).context("The thread for TLS cannot be started")
    }

    /// Starts the thread that follows the ports.
    pub(super) fn start_follower(
        &mut self,
        follower: Follower,
        lenders: Lenders,
        faults: Arc<Faults>,
    ) -> anyhow::Result<()> {
        let (director, stop) = (self.director.clone(), self.stop.clone());
        self.alarm = Some(follower.alarm());
        self.start("shunt-ports", move || follower.run(&director, lenders, &faults, &stop))
            .context("The thread that follows the ports cannot be started")
    }

    /// Starts the thread that has commands run.
    pub(super) fn start_keeper(&mut self, keeper: Keeper) -> anyhow::Result<()> {
        let stop = self.stop.clone();
        self.start("shunt-commands", move || keeper.run(&stop)).context("The thread for commands cannot be started")
    }

    fn start(&mut self, name: &str, body: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
        self.running.push(Builder::new().name(name.into()).spawn(body)?);
        Ok(())
    }

    /// Whether one of them has ended by itself, which it never should.
    pub(super) fn lost(&self) -> bool {
        self.running.iter().any(JoinHandle::is_finished)
    }
}

impl Drop for Threads {
    /// Ends them: the workers first, then the slow path, which they give frames to.
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.director.wake();
        self.alarm.iter().for_each(Alarm::ring);
        for thread in self.running.drain(..) {
            if thread.join().is_err() {
                error!("a thread ended in a panic");
            }
        }
    }
}
