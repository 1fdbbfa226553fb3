//! One lcore's loop: the fast path on one screen.
//!
//! A [`Worker`] owns one queue pair of each port, its counters, and its ends of the rings to and from the slow path. It
//! shares nothing that it writes. A burst goes through the stages together, so that the memory for packet 31 is being
//! fetched while packet 0 is processed. Nothing here allocates, locks, logs or makes a system call.

use std::sync::Arc;

use rtrb::{Consumer, Producer};

use crate::base::clock::Clock;
use crate::base::exit::DropReason;
use crate::base::ids::PortNo;
use crate::base::packet::{BURST, Burst, Packet, PacketIo};
use crate::count::counters::WorkerCounters;
use crate::dpdk::tsc;
use crate::forward::context::Context;
use crate::forward::exceptions::Exceptions;
use crate::forward::fragment::Fragments;
use crate::forward::handshake::handshakes::Handshakes;
use crate::forward::lane;
use crate::forward::latency::Sampler;
use crate::forward::limits::Limits;
use crate::forward::look;
use crate::forward::port::WorkerPort;
use crate::forward::rings::{Outgoing, Punts, Rings};
use crate::forward::sample::Sample;
use crate::state::publication::SnapshotReader;
use crate::state::snapshot::Snapshot;

/// A forwarding thread's state.
pub struct Worker<Io: PacketIo> {
    ports: Vec<WorkerPort<Io>>,
    snapshots: SnapshotReader,
    counters: Arc<WorkerCounters>,
    pub(super) punts: Punts<Io::Packet>,
    outgoing: Consumer<Outgoing<Io::Packet>>,
    samples: Producer<Sample>,
    pub(super) fragments: Fragments<Io::Packet>,
    exceptions: Exceptions,
    pub(super) limits: Limits,
    handshakes: Handshakes,
    clock: Clock,
    latency: Sampler,
    /// TSC at the end of the last turn.
    last_turn: u64,
    /// The snapshot of the last turn.
    generation: u64,
}

/// A worker's state that outlives a burst.
pub struct Memory<P> {
    /// The ports of fragmented packets.
    pub fragments: Fragments<P>,
    /// Remembered flows.
    pub exceptions: Exceptions,
    /// The limits of the frames that it gives to the slow path.
    pub limits: Limits,
}

impl<Io: PacketIo> Worker<Io> {
    /// A worker on these ports. No other worker may have the same counters.
    pub fn new(
        ports: Vec<WorkerPort<Io>>,
        snapshots: SnapshotReader,
        counters: Arc<WorkerCounters>,
        Rings { punts, outgoing, samples }: Rings<Io::Packet>,
        Memory { fragments, exceptions, limits }: Memory<Io::Packet>,
        clock: Clock,
    ) -> Self {
        let last_turn = tsc();
        Worker {
            ports,
            snapshots,
            counters,
            punts,
            outgoing,
            samples,
            fragments,
            exceptions,
            limits,
            handshakes: Handshakes::new(),
            clock,
            latency: Sampler::new(last_turn),
            last_turn,
            generation: 0,
        }
    }

    /// Uses another clock from now on: for tests.
    pub fn set_clock(&mut self, clock: Clock) {
        self.clock = clock;
    }

    /// The frames that are held until their first fragment arrives.
    pub fn held(&self) -> usize {
        self.fragments.held()
    }

    /// One turn: a burst from each port, and the frames that the slow path sends.
    #[inline]
    pub fn turn(&mut self) {
        let snapshot: &Snapshot = self.snapshots.load();
        let generation = snapshot.generation;
        if generation != self.generation {
            self.generation = generation;
            follow(&mut self.ports, snapshot);
        }
        let mut busy = false;
        let (counters, now_ms) = (&*self.counters, self.clock.ms(self.last_turn));
        self.exceptions.advance(now_ms, snapshot, counters);
        self.handshakes.advance(now_ms, counters);
        let mut context = Context {
            snapshot,
            ports: &mut self.ports,
            counters,
            punts: &mut self.punts,
            samples: &mut self.samples,
            fragments: &mut self.fragments,
            exceptions: &mut self.exceptions,
            limits: &mut self.limits,
            handshakes: &mut self.handshakes,
            now_ms,
        };
        let mut burst = Burst::new();
        for port in 0..context.ports.len() {
            self.latency.receive(counters);
            context.ports[port].receive(&mut burst);
            if burst.is_empty() {
                continue;
            }
            busy = true;
            // By time and not by packets: on a quiet port, each burst; on a busy one, a vanishing part.
            if context.ports[port].looked_ms != now_ms {
                context.ports[port].looked_ms = now_ms;
                look::at_checksum(&mut context, PortNo::new(port), &burst);
            }
            let received = &counters.ports[port];
            received.rx_packets.add(burst.len() as u64);
            received.rx_bytes.add(lane::forward(&mut context, PortNo::new(port), &mut burst));
            context.flush();
            self.latency.sent(self.clock, counters);
        }
        if !context.fragments.is_idle() {
            busy |= lane::waiting_fragments(&mut context);
        }
        if !self.outgoing.is_empty() {
            busy = true;
            self.send_for_slow_path();
        }
        self.account(busy, generation);
    }

    /// Sends frames of the slow path. Where the link is down, they are dropped: the device might send them when it is up again.
    #[cold]
    fn send_for_slow_path(&mut self) {
        // The forwarded frames have been sent already, so these ports' queues hold frames of the slow path only.
        self.ports.iter_mut().for_each(|port| port.of_slow_path = true);
        for _ in 0..BURST {
            let Ok(Outgoing { port, packet }) = self.outgoing.pop() else { break };
            let bytes = packet.wire_len() as u64;
            let (port, counters) = (&mut self.ports[port.index()], &self.counters.ports[port.index()]);
            if port.up {
                port.send(packet, bytes, counters);
            } else {
                counters.drops[DropReason::LinkDown.index()].add(1);
            }
        }
        for (port, counters) in self.ports.iter_mut().zip(&self.counters.ports) {
            port.flush(counters);
            port.of_slow_path = false;
        }
    }

    #[inline]
    fn account(&mut self, busy: bool, generation: u64) {
        let now = tsc();
        let cycles = now.wrapping_sub(self.last_turn);
        self.last_turn = now;
        self.counters.turns.add(1);
        self.counters.cycles.add(cycles);
        self.counters.generation.set(generation);
        if busy {
            self.counters.busy_turns.add(1);
            self.counters.busy_cycles.add(cycles);
        }
    }
}

/// Takes what a new snapshot says of the ports.
#[cold]
fn follow<Io: PacketIo>(ports: &mut [WorkerPort<Io>], snapshot: &Snapshot) {
    for (port, link) in ports.iter_mut().zip(&snapshot.ports) {
        port.follow(*link);
    }
}
