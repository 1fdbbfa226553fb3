//! One lcore's loop: the fast path on one screen.
//!
//! A [`Worker`] owns one queue pair of each port, its counters and its ends of the rings to and from the slow path;
//! it shares nothing that it writes. A burst goes through the stages together, so that what packet 31 needs from
//! memory is on its way while packet 0 is worked on. Nothing here allocates, locks, logs or makes a system call.

use std::sync::Arc;

use arrayvec::ArrayVec;
use ctl::Mac;
use rtrb::{Consumer, Producer};

use crate::counters::{PortCounters, WorkerCounters};
use crate::dpdk::{prefetch, tsc};
use crate::exit::{DropReason, Exit, PuntReason};
use crate::packet::{BURST, Burst, Packet, PacketIo};
use crate::parse::{self, Headers, MacNumber, Payload};
use crate::snapshot::{Local, Snapshot, SnapshotReader, Target};

/// A frame for the slow path.
#[derive(Debug)]
pub struct Punt<P> {
    /// The port that it came in by.
    pub port: usize,
    /// Why it is given away.
    pub reason: PuntReason,
    /// The frame.
    pub packet: P,
}

/// A frame from the slow path, to be sent as it is.
#[derive(Debug)]
pub struct Outgoing<P> {
    /// The port to send it by.
    pub port: usize,
    /// The frame.
    pub packet: P,
}

/// A worker's share of a port.
pub struct WorkerPort<Io: PacketIo> {
    io: Io,
    mac: MacNumber,
    /// What is to be sent at the end of the burst.
    tx: Burst<Io::Packet>,
}

impl<Io: PacketIo> WorkerPort<Io> {
    /// With a queue pair of the port and the port's MAC address.
    pub fn new(io: Io, mac: Mac) -> Self {
        WorkerPort { io, mac: mac.into(), tx: Burst::new() }
    }

    /// Queues a frame; what was queued before goes out first where there is no room.
    #[inline]
    fn send(&mut self, packet: Io::Packet, counters: &PortCounters) {
        if self.tx.is_full() {
            self.flush(counters);
        }
        self.tx.push(packet);
    }

    /// Sends what is queued. What the device has no room for is freed and counted.
    #[inline]
    fn flush(&mut self, counters: &PortCounters) {
        if self.tx.is_empty() {
            return;
        }
        let bytes = |burst: &Burst<Io::Packet>| burst.iter().map(|packet| packet.wire_len() as u64).sum::<u64>();
        let (queued, queued_bytes) = (self.tx.len(), bytes(&self.tx));
        self.io.tx_burst(&mut self.tx);
        let unsent = self.tx.len();
        counters.tx_packets.add((queued - unsent) as u64);
        counters.tx_bytes.add(queued_bytes - bytes(&self.tx));
        if unsent > 0 {
            counters.drops[DropReason::TxFull.index()].add(unsent as u64);
            self.tx.clear();
        }
    }
}

/// A forwarding thread's state.
pub struct Worker<Io: PacketIo> {
    ports: Vec<WorkerPort<Io>>,
    snapshots: SnapshotReader,
    counters: Arc<WorkerCounters>,
    punts: Producer<Punt<Io::Packet>>,
    outgoing: Consumer<Outgoing<Io::Packet>>,
    /// TSC at the end of the last turn.
    last_turn: u64,
}

impl<Io: PacketIo> Worker<Io> {
    /// A worker on these ports. The counters must be its own.
    pub fn new(
        ports: Vec<WorkerPort<Io>>,
        snapshots: SnapshotReader,
        counters: Arc<WorkerCounters>,
        punts: Producer<Punt<Io::Packet>>,
        outgoing: Consumer<Outgoing<Io::Packet>>,
    ) -> Self {
        Worker { ports, snapshots, counters, punts, outgoing, last_turn: tsc() }
    }

    /// One turn: a burst from each port, and what the slow path wants sent.
    #[inline]
    pub fn turn(&mut self) {
        let snapshot: &Snapshot = self.snapshots.load();
        let generation = snapshot.generation;
        let mut busy = false;
        for port in 0..self.ports.len() {
            let mut burst = Burst::new();
            self.ports[port].io.rx_burst(&mut burst);
            if burst.is_empty() {
                continue;
            }
            busy = true;
            forward(port, burst, snapshot, &mut self.ports, &self.counters, &mut self.punts);
            for (port, counters) in self.ports.iter_mut().zip(&self.counters.ports) {
                port.flush(counters);
            }
        }
        if !self.outgoing.is_empty() {
            busy = true;
            self.send_for_slow_path();
        }
        self.account(busy, generation);
    }

    #[cold]
    fn send_for_slow_path(&mut self) {
        for _ in 0..BURST {
            let Ok(Outgoing { port, packet }) = self.outgoing.pop() else { break };
            self.ports[port].send(packet, &self.counters.ports[port]);
        }
        for (port, counters) in self.ports.iter_mut().zip(&self.counters.ports) {
            port.flush(counters);
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

/// A packet's fate so far: what the stages hand on, or why it leaves.
type Stage<T> = ArrayVec<Result<T, Exit>, BURST>;

/// Takes a burst from parsing to the transmit queues.
#[inline]
fn forward<Io: PacketIo>(
    from: usize,
    burst: Burst<Io::Packet>,
    snapshot: &Snapshot,
    ports: &mut [WorkerPort<Io>],
    counters: &WorkerCounters,
    punts: &mut Producer<Punt<Io::Packet>>,
) {
    let ours = ports[from].mac;
    let received = &counters.ports[from];
    received.rx_packets.add(burst.len() as u64);
    received.rx_bytes.add(burst.iter().map(|packet| packet.wire_len() as u64).sum());

    burst.iter().for_each(Packet::prefetch);
    let parsed: Stage<Headers> = burst.iter().map(|packet| parse_stage(packet, ours)).collect();
    let slots: Stage<(&u16, usize)> =
        parsed.iter().map(|headers| service_stage(headers.as_ref().map_err(|exit| *exit)?, snapshot)).collect();
    let targets: Stage<&Target> = slots.iter().map(|slot| target_stage((*slot)?, snapshot)).collect();

    let mut forwarded = 0;
    for (mut packet, target) in burst.into_iter().zip(targets) {
        match target.and_then(|target| rewrite_stage(&mut packet, target)) {
            Ok(target) => {
                let sent = &counters.targets[target.counter as usize];
                sent.packets.add(1);
                sent.bytes.add(packet.wire_len() as u64);
                forwarded += 1;
                let to = usize::from(target.port);
                ports[to].send(packet, &counters.ports[to]);
            }
            Err(exit) => leave(exit, packet, from, received, punts),
        }
    }
    received.forwarded.add(forwarded);
}

#[inline]
fn parse_stage<P: Packet>(packet: &P, ours: MacNumber) -> Result<Headers, Exit> {
    if packet.bad_ip_checksum() {
        return Err(DropReason::BadIpChecksum.into());
    }
    parse::headers(packet.data(), packet.wire_len(), ours)
}

/// The service and the slot of a packet; has the slot fetched.
#[inline]
fn service_stage<'s>(headers: &Headers, snapshot: &'s Snapshot) -> Result<(&'s u16, usize), Exit> {
    if headers.payload != Payload::Ports {
        return Err(not_for_a_service(headers, snapshot));
    }
    let Some(service) = snapshot.vips.service(&headers.flow) else {
        return Err(not_for_a_service(headers, snapshot));
    };
    let service = &snapshot.services[service];
    let slot = service.slot(snapshot.hasher.hash(&headers.flow))?;
    prefetch(slot);
    Ok((slot, service.first_target))
}

/// The backend that has the slot; has its addresses fetched.
#[inline]
fn target_stage<'s>((slot, first_target): (&u16, usize), snapshot: &'s Snapshot) -> Result<&'s Target, Exit> {
    let target = &snapshot.targets[first_target + usize::from(*slot)];
    prefetch(target);
    Ok(target)
}

/// Addresses the frame to the backend. Nothing behind the Ethernet header's 12 bytes of addresses changes.
#[inline]
fn rewrite_stage<'s, P: Packet>(packet: &mut P, target: &'s Target) -> Result<&'s Target, Exit> {
    if !target.known {
        return Err(DropReason::BackendMacUnknown.into());
    }
    let macs = packet.data_mut().first_chunk_mut::<12>().expect("a parsed frame has an Ethernet header");
    if macs[6..] == *target.mac() {
        return Err(DropReason::Loop.into());
    }
    *macs = target.macs;
    Ok(target)
}

/// What becomes of a packet that no service takes.
#[cold]
fn not_for_a_service(headers: &Headers, snapshot: &Snapshot) -> Exit {
    let local = |address| snapshot.vips.local(address);
    match (local(headers.flow.destination()), headers.payload) {
        (Some(_), Payload::Echo) => PuntReason::Echo.into(),
        (Some(_), Payload::Ndp) => PuntReason::Ndp.into(),
        // What claims to come from our own addresses is nothing to answer, but the slow path may want to know.
        (Some(Local::Own), _) => PuntReason::OwnAddress.into(),
        (Some(Local::Vip), Payload::Fragment) => DropReason::Fragment.into(),
        (Some(Local::Vip), Payload::Icmp) => DropReason::IcmpUnhandled.into(),
        (Some(Local::Vip), Payload::Ports | Payload::Other) => DropReason::NoService.into(),
        (None, _) if local(headers.flow.source()) == Some(Local::Vip) => DropReason::ReturnViaDirector.into(),
        (None, _) => DropReason::NotForUs.into(),
    }
}

/// Frees a packet or gives it to the slow path, and counts it under its reason.
#[cold]
fn leave<P>(exit: Exit, packet: P, port: usize, counters: &PortCounters, punts: &mut Producer<Punt<P>>) {
    match exit {
        Exit::Drop(reason) => counters.drops[reason.index()].add(1),
        Exit::Punt(reason) => match punts.push(Punt { port, reason, packet }) {
            Ok(()) => counters.punts[reason.index()].add(1),
            Err(_) => counters.drops[DropReason::PuntFull.index()].add(1),
        },
    }
}
