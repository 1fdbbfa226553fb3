//! One lcore's loop: the fast path on one screen.
//!
//! A [`Worker`] owns one queue pair of each port, its counters and its ends of the rings to and from the slow path;
//! it shares nothing that it writes. A burst goes through the stages together, so that what packet 31 needs from
//! memory is on its way while packet 0 is worked on. Nothing here allocates, locks, logs or makes a system call.

use std::sync::Arc;

use arrayvec::ArrayVec;
use ctl::Mac;
use rtrb::{Consumer, Producer};

use crate::bucket::TokenBucket;
use crate::counters::{PortCounters, TargetCounters, WorkerCounters};
use crate::dpdk::{prefetch, tsc};
use crate::exceptions::{Around, Asked, Exceptions, Kept};
use crate::exit::{DropReason, Exit, PuntReason};
use crate::flow::{AnyTuple, Flow, TupleV4, TupleV6};
use crate::fragment::{Fragments, Verdict};
use crate::latency::Sampler;
use crate::maglev;
use crate::packet::{BURST, Burst, Packet, PacketIo};
use crate::parse::{self, Headers, MacNumber, Payload, Segment};
use crate::sample::Sample;
use crate::schedule::NOBODY;
use crate::snapshot::{PortVlans, ServiceEntry, Snapshot, SnapshotReader, Target};
use crate::vips::{LastService, Local, Near};
use crate::vlan;

/// A frame for the slow path.
#[derive(Debug)]
pub struct Punt<P> {
    /// The port that it came in by.
    pub port: usize,
    /// Why it is given away.
    pub reason: PuntReason,
    /// For [`PuntReason::TooBig`]: what it would have had to fit in.
    pub mtu: u16,
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
    /// How many bytes that is.
    tx_bytes: u64,
    /// Whether that is the slow path's, and not forwarded.
    of_slow_path: bool,
}

impl<Io: PacketIo> WorkerPort<Io> {
    /// With a queue pair of the port and the port's MAC address.
    pub fn new(io: Io, mac: Mac) -> Self {
        WorkerPort { io, mac: mac.into(), tx: Burst::new(), tx_bytes: 0, of_slow_path: false }
    }

    /// Queues a frame of so many bytes; what was queued before goes out first where there is no room.
    #[inline(always)]
    fn send(&mut self, packet: Io::Packet, bytes: u64, counters: &PortCounters) {
        if self.tx.is_full() {
            self.flush(counters);
        }
        self.tx.push(packet);
        self.tx_bytes += bytes;
    }

    /// Sends what is queued.
    #[inline]
    fn flush(&mut self, counters: &PortCounters) {
        if !self.tx.is_empty() {
            let bytes = std::mem::take(&mut self.tx_bytes);
            let sent = transmit(&mut self.io, &mut self.tx, bytes, counters);
            if !self.of_slow_path {
                counters.forwarded.add(sent);
            }
        }
    }

    /// Sends forwarded frames of so many bytes, after what is queued.
    #[inline]
    fn send_all(&mut self, burst: &mut Burst<Io::Packet>, bytes: u64, counters: &PortCounters) {
        self.flush(counters);
        counters.forwarded.add(transmit(&mut self.io, burst, bytes, counters));
    }
}

/// Sends a burst of so many bytes. What the device has no room for is freed and counted. Returns how many were sent.
#[inline]
fn transmit<Io: PacketIo>(io: &mut Io, burst: &mut Burst<Io::Packet>, bytes: u64, counters: &PortCounters) -> u64 {
    let queued = burst.len();
    io.tx_burst(burst);
    let sent = (queued - burst.len()) as u64;
    counters.tx_packets.add(sent);
    counters.tx_bytes.add(bytes);
    if !burst.is_empty() {
        drop_unsent(burst, counters);
    }
    sent
}

#[cold]
fn drop_unsent<P: Packet>(burst: &mut Burst<P>, counters: &PortCounters) {
    counters.tx_bytes.sub(burst.iter().map(|packet| packet.wire_len() as u64).sum());
    counters.drops[DropReason::TxFull.index()].add(burst.len() as u64);
    burst.clear();
}

/// A forwarding thread's state.
pub struct Worker<Io: PacketIo> {
    ports: Vec<WorkerPort<Io>>,
    snapshots: SnapshotReader,
    counters: Arc<WorkerCounters>,
    punts: Producer<Punt<Io::Packet>>,
    outgoing: Consumer<Outgoing<Io::Packet>>,
    samples: Producer<Sample>,
    fragments: Fragments<Io::Packet>,
    exceptions: Exceptions,
    echo: TokenBucket,
    too_big: TokenBucket,
    clock: Clock,
    latency: Sampler,
    /// TSC at the end of the last turn.
    last_turn: u64,
}

/// Milliseconds by the TSC.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    /// Milliseconds in a TSC cycle, times 2^64: a multiplication in place of a division.
    ms_in_cycle: u64,
    ahead_ms: u64,
}

impl Clock {
    /// With so many TSC cycles in a second.
    pub fn new(tsc_hz: u64) -> Self {
        Clock { ms_in_cycle: u64::MAX / (tsc_hz / 1_000).max(1), ahead_ms: 0 }
    }

    /// One that stands still, at so many milliseconds: for tests.
    pub fn stopped_at(now_ms: u64) -> Self {
        Clock { ms_in_cycle: 0, ahead_ms: now_ms }
    }

    /// The time when the TSC is at `cycles`.
    #[inline]
    fn ms(self, cycles: u64) -> u64 {
        ((u128::from(cycles) * u128::from(self.ms_in_cycle)) >> 64) as u64 + self.ahead_ms
    }

    /// How long so many cycles are.
    #[inline]
    pub(crate) fn ns(self, cycles: u64) -> u64 {
        ((u128::from(cycles) * u128::from(self.ms_in_cycle)).saturating_mul(1_000_000) >> 64) as u64
    }
}

/// A worker's rings to and from the slow path.
pub struct Rings<P> {
    /// What the slow path is to process.
    pub punts: Producer<Punt<P>>,
    /// What the slow path wants sent.
    pub outgoing: Consumer<Outgoing<P>>,
    /// Examples of what was dropped, for events.
    pub samples: Producer<Sample>,
}

/// What a worker remembers of packets that have passed.
pub struct Memory<P> {
    /// The ports of fragmented packets.
    pub fragments: Fragments<P>,
    /// Flows.
    pub exceptions: Exceptions,
    /// How many pings it may still give to the slow path.
    pub echo: TokenBucket,
    /// How many senders may still be told that their packets are too big.
    pub too_big: TokenBucket,
}

impl<Io: PacketIo> Worker<Io> {
    /// A worker on these ports. The counters must be its own. `echo` bounds the pings that it gives to the slow path.
    pub fn new(
        ports: Vec<WorkerPort<Io>>,
        snapshots: SnapshotReader,
        counters: Arc<WorkerCounters>,
        Rings { punts, outgoing, samples }: Rings<Io::Packet>,
        Memory { fragments, exceptions, echo, too_big }: Memory<Io::Packet>,
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
            echo,
            too_big,
            clock,
            latency: Sampler::new(last_turn),
            last_turn,
        }
    }

    /// Goes by another clock from now on: for tests.
    pub fn set_clock(&mut self, clock: Clock) {
        self.clock = clock;
    }

    /// Frames that are held until their first fragment comes.
    pub fn held(&self) -> usize {
        self.fragments.held()
    }

    /// One turn: a burst from each port, and what the slow path wants sent.
    #[inline]
    pub fn turn(&mut self) {
        let snapshot: &Snapshot = self.snapshots.load();
        let generation = snapshot.generation;
        let mut busy = false;
        let (counters, now_ms) = (&*self.counters, self.clock.ms(self.last_turn));
        self.exceptions.advance(now_ms, snapshot, counters);
        let mut lane = Lane {
            snapshot,
            ports: &mut self.ports,
            counters,
            punts: &mut self.punts,
            samples: &mut self.samples,
            fragments: &mut self.fragments,
            exceptions: &mut self.exceptions,
            echo: &mut self.echo,
            too_big: &mut self.too_big,
            now_ms,
        };
        let mut burst = Burst::new();
        for port in 0..lane.ports.len() {
            self.latency.receive(counters);
            lane.ports[port].io.rx_burst(&mut burst);
            if burst.is_empty() {
                continue;
            }
            busy = true;
            let received = &counters.ports[port];
            received.rx_packets.add(burst.len() as u64);
            received.rx_bytes.add(lane.forward(port, &mut burst));
            lane.flush();
            self.latency.sent(self.clock, counters);
        }
        if !lane.fragments.is_idle() {
            busy |= lane.waiting_fragments();
        }
        if !self.outgoing.is_empty() {
            busy = true;
            self.send_for_slow_path();
        }
        self.account(busy, generation);
    }

    #[cold]
    fn send_for_slow_path(&mut self) {
        // The bursts of forwarded frames have been sent.
        self.ports.iter_mut().for_each(|port| port.of_slow_path = true);
        for _ in 0..BURST {
            let Ok(Outgoing { port, packet }) = self.outgoing.pop() else { break };
            let bytes = packet.wire_len() as u64;
            self.ports[port].send(packet, bytes, &self.counters.ports[port]);
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

/// What a burst needs on its way.
struct Lane<'w, Io: PacketIo> {
    snapshot: &'w Snapshot,
    ports: &'w mut [WorkerPort<Io>],
    counters: &'w WorkerCounters,
    punts: &'w mut Producer<Punt<Io::Packet>>,
    samples: &'w mut Producer<Sample>,
    fragments: &'w mut Fragments<Io::Packet>,
    exceptions: &'w mut Exceptions,
    echo: &'w mut TokenBucket,
    too_big: &'w mut TokenBucket,
    /// When the turn began.
    now_ms: u64,
}

/// Where a packet's backend stands.
#[derive(Clone, Copy)]
struct Choice<'s> {
    service: &'s ServiceEntry,
    /// In the service's table.
    backend: &'s u16,
}

/// A question to the exception table.
#[derive(Clone, Copy)]
struct Question<'s, T> {
    flow: T,
    asked: Asked<'s>,
    /// Where in the burst the packet is.
    place: usize,
}

/// In the order of the packets.
type Questions<'s, T> = ArrayVec<Question<'s, T>, BURST>;

/// A flow of an IP version, on its way through the stages.
trait Staged: Near + Kept {
    /// Where the transport header of a plain frame begins.
    const L4: usize;

    /// The questions about such flows.
    fn questions<'a, 's>(aside: &'a mut Aside<'s>) -> &'a mut Questions<'s, Self>;
}

impl Staged for TupleV4 {
    const L4: usize = parse::PLAIN_V4;

    #[inline(always)]
    fn questions<'a, 's>(aside: &'a mut Aside<'s>) -> &'a mut Questions<'s, Self> {
        &mut aside.questions_v4
    }
}

impl Staged for TupleV6 {
    const L4: usize = parse::PLAIN_V6;

    #[inline(always)]
    fn questions<'a, 's>(aside: &'a mut Aside<'s>) -> &'a mut Questions<'s, Self> {
        &mut aside.questions_v6
    }
}

/// What the stages know of a packet. Each field is written on its own: a `Result` or a pair is put together in memory and
/// read as a whole at once, for which the CPU waits until the parts are written.
#[derive(Clone, Copy)]
struct Way<'s> {
    service: Option<&'s ServiceEntry>,
    backend: &'s u16,
    target: &'s Target,
    /// Its length on the wire; [`WITH_CARE`] where it is not plain.
    len: usize,
}

/// Longer than any frame that new MAC addresses alone bring to a backend ([`Target::plain_len`]).
const WITH_CARE: usize = usize::MAX;

static NOWHERE: Target = Target::NOWHERE;

impl Way<'_> {
    const UNKNOWN: Self = Way { service: None, backend: &NOBODY, target: &NOWHERE, len: WITH_CARE };
}

/// What is beside the way of most packets.
struct Aside<'s> {
    /// Why a packet leaves that has no service, or no target.
    exits: [Exit; BURST],
    questions_v4: Questions<'s, TupleV4>,
    questions_v6: Questions<'s, TupleV6>,
    last: LastService,
}

impl<'w, Io: PacketIo> Lane<'w, Io> {
    /// Takes a burst that came in by a port from parsing to the transmit queues. Returns how many bytes it was.
    #[inline]
    fn forward(&mut self, from: usize, burst: &mut Burst<Io::Packet>) -> u64 {
        let mut ways = [Way::UNKNOWN; BURST];
        let mut aside = Aside {
            exits: [Exit::Hold; BURST],
            questions_v4: ArrayVec::new(),
            questions_v6: ArrayVec::new(),
            last: LastService::default(),
        };
        burst.iter().for_each(Packet::prefetch);
        let bytes = self.choose(from, burst, &mut ways, &mut aside);
        if !aside.questions_v4.is_empty() {
            self.answer(&aside.questions_v4, &mut ways, &mut aside.exits);
        }
        if !aside.questions_v6.is_empty() {
            self.answer(&aside.questions_v6, &mut ways, &mut aside.exits);
        }
        let to = self.find_targets(&mut ways[..burst.len()], &mut aside);
        let odd = self.readdress(burst, &ways, to);
        if odd == 0 {
            let to = usize::from(to);
            self.ports[to].send_all(burst, bytes, &self.counters.ports[to]);
        } else {
            self.send_each(from, burst, &ways, &aside.exits, odd);
        }
        bytes
    }

    /// First stage: which service a packet is for, and where its backend stands. Returns how many bytes there are.
    #[inline(always)]
    fn choose(
        &mut self,
        from: usize,
        burst: &Burst<Io::Packet>,
        ways: &mut [Way<'w>; BURST],
        aside: &mut Aside<'w>,
    ) -> u64 {
        let door = self.door(from);
        // Where all networks have tags, no frame is plain.
        let ours = if door.vlans.has_untagged() { door.mac } else { MacNumber::NOBODY };
        let remembering = !self.exceptions.is_empty();
        let mut bytes = 0;
        for (place, (packet, way)) in burst.iter().zip(ways).enumerate() {
            let (frame, wire_len) = (packet.data(), packet.wire_len());
            bytes += wire_len as u64;
            // Each arm knows the IP version of its flow, and the compiler with it.
            let choice = if !packet.is_plain() {
                self.rare_choice(packet, door, place, aside)
            } else if let Some(tuple) = parse::plain_v4(frame, wire_len, ours) {
                way.len = wire_len;
                self.choice(tuple, frame, remembering, place, aside)
            } else if let Some(tuple) = parse::plain_v6(frame, wire_len, ours) {
                way.len = wire_len;
                self.choice(tuple, frame, remembering, place, aside)
            } else {
                self.rare_choice(packet, door, place, aside)
            };
            if let Some(choice) = choice {
                way.service = Some(choice.service);
                way.backend = choice.backend;
            }
        }
        bytes
    }

    /// Between the stages: asks the exception table, and finds the targets of those whom that concerns.
    #[inline(never)]
    fn answer<T: Staged>(
        &mut self,
        questions: &Questions<'w, T>,
        ways: &mut [Way<'w>; BURST],
        exits: &mut [Exit; BURST],
    ) {
        let (snapshot, around) = (self.snapshot, Around { snapshot: self.snapshot, counters: self.counters });
        let mut answered = |service: &ServiceEntry, backend: u16, place: usize| {
            if backend == NOBODY {
                exits[place] = no_backend(service);
            } else {
                ways[place].target = target(&snapshot.targets, service, backend);
            }
        };
        let mut far = ArrayVec::<&Question<'w, T>, BURST>::new();
        for question @ &Question { flow, ref asked, place } in questions {
            match self.exceptions.resolve_near(flow, asked, around) {
                Some(backend) => answered(asked.service, backend, place),
                None => far.push(question),
            }
        }
        for &&Question { flow, ref asked, place } in &far {
            answered(asked.service, self.exceptions.resolve_far(flow, asked, around), place);
        }
    }

    /// Second stage: how a frame gets to its backend. Returns the port that the first of them leaves by; `u16::MAX`: none does.
    #[inline(always)]
    fn find_targets(&mut self, ways: &mut [Way<'w>], aside: &mut Aside<'w>) -> u16 {
        let targets = &*self.snapshot.targets;
        for (place, way) in ways.iter_mut().enumerate() {
            let Some(service) = way.service else { continue };
            let backend = *way.backend;
            if backend == NOBODY {
                aside.exits[place] = no_backend(service);
            } else {
                way.target = target(targets, service, backend);
            }
        }
        ways.iter().map(|way| way.target.port).find(|&port| port != u16::MAX).unwrap_or(u16::MAX)
    }

    /// Third stage: addresses the plain frames that leave by the port `to`, and counts them. Returns a bit for each other one.
    #[inline(always)]
    fn readdress(&self, burst: &mut Burst<Io::Packet>, ways: &[Way<'w>; BURST], to: u16) -> u32 {
        let (mut odd, sent) = (0, &*self.counters.targets);
        for (place, (packet, way)) in burst.iter_mut().zip(ways).enumerate() {
            let target = way.target;
            let plain = way.len <= usize::from(target.plain_len) && target.port == to;
            if plain && readdress_plain(packet.data_mut(), target) {
                count(sent, target, way.len as u64);
            } else {
                odd |= 1 << place;
            }
        }
        odd
    }

    /// The same of a burst where not all is plain, or not all leaves by one port: the `odd` ones are not addressed yet.
    #[inline(never)]
    fn send_each(
        &mut self,
        from: usize,
        burst: &mut Burst<Io::Packet>,
        ways: &[Way<'w>; BURST],
        exits: &[Exit; BURST],
        odd: u32,
    ) {
        for (place, (mut packet, way)) in burst.drain(..).zip(ways).enumerate() {
            let target = way.target;
            if odd >> place & 1 != 0 {
                let addressed = if target.is_nowhere() { Err(exits[place]) } else { rewrite(&mut packet, target) };
                if let Err(exit) = addressed {
                    self.leave(exit, packet, from);
                    continue;
                }
                count(&self.counters.targets, target, packet.wire_len() as u64);
            }
            let (to, bytes) = (usize::from(target.port), packet.wire_len() as u64);
            self.ports[to].send(packet, bytes, &self.counters.ports[to]);
        }
    }

    /// Where the backend of a plain frame's flow stands; has it fetched. `None` where no service takes the flow, or where the
    /// exception table is asked.
    #[inline(always)]
    fn choice<T: Staged>(
        &mut self,
        tuple: T,
        frame: &[u8],
        remembering: bool,
        place: usize,
        aside: &mut Aside<'w>,
    ) -> Option<Choice<'w>> {
        let snapshot = self.snapshot;
        let found = tuple.service(&snapshot.vips).map(|number| &snapshot.services[number as usize]);
        let Some(service) = found.filter(|service| service.simple && !remembering) else {
            return self.close_choice(tuple, found, frame.get(T::L4..).unwrap_or_default(), place, aside);
        };
        let backend = &service.table[maglev::slot(tuple.hash(&snapshot.hasher), service.table.len())];
        prefetch(backend);
        Some(Choice { service, backend })
    }

    /// The same where it takes more than the table of VIPs and the hash of the 5-tuple to tell.
    #[inline(never)]
    fn close_choice<T: Staged>(
        &mut self,
        tuple: T,
        found: Option<&'w ServiceEntry>,
        l4: &[u8],
        place: usize,
        aside: &mut Aside<'w>,
    ) -> Option<Choice<'w>> {
        let snapshot = self.snapshot;
        let Some(service) = found.or_else(|| snapshot.service(&tuple.into(), &mut aside.last)) else {
            aside.exits[place] = stranger(tuple.into(), snapshot);
            return None;
        };
        self.watched_choice(tuple, service, parse::segment(tuple.transport().protocol, l4), place, aside)
    }

    /// Has fetched what the exception table may know of the flow.
    #[inline(always)]
    fn watched_choice<T: Staged>(
        &mut self,
        flow: T,
        service: &'w ServiceEntry,
        segment: Segment,
        place: usize,
        aside: &mut Aside<'w>,
    ) -> Option<Choice<'w>> {
        let hasher = &self.snapshot.hasher;
        let hash = flow.hash(hasher);
        let slot = service.slot(flow, hash, hasher);
        if !self.exceptions.may_concern(service, hash) {
            let backend = &service.table[slot];
            prefetch(backend);
            return Some(Choice { service, backend });
        }
        self.exceptions.prefetch::<T>(hash);
        if let Some(before) = &service.before {
            prefetch(&before[slot]);
            prefetch(&service.table[slot]);
        }
        T::questions(aside).push(Question { flow, asked: Asked { hash, segment, service, slot }, place });
        None
    }

    /// The same for a frame that is not plain.
    #[cold]
    fn rare_choice(
        &mut self,
        packet: &Io::Packet,
        door: Door<'w>,
        place: usize,
        aside: &mut Aside<'w>,
    ) -> Option<Choice<'w>> {
        let choice = self.try_choice(packet, door, place, aside);
        choice.unwrap_or_else(|exit| {
            aside.exits[place] = exit;
            None
        })
    }

    fn try_choice(
        &mut self,
        packet: &Io::Packet,
        door: Door<'w>,
        place: usize,
        aside: &mut Aside<'w>,
    ) -> Result<Option<Choice<'w>>, Exit> {
        let snapshot = self.snapshot;
        let headers = self.with_ports(&parse_stage(packet, door)?)?;
        let Payload::Ports(segment) = headers.payload else { return Err(not_for_a_service(&headers, snapshot)) };
        let Some(service) = snapshot.service(&headers.flow, &mut aside.last) else {
            return Err(not_for_a_service(&headers, snapshot));
        };
        Ok(match headers.flow.into() {
            AnyTuple::V4(flow) => self.watched_choice(flow, service, segment, place, aside),
            AnyTuple::V6(flow) => self.watched_choice(flow, service, segment, place, aside),
        })
    }

    /// A fragment gets the ports of its packet, and goes on as if it were whole; or it leaves for a while.
    fn with_ports(&mut self, headers: &Headers) -> Result<Headers, Exit> {
        let Headers { flow, payload: Payload::Fragment(of) } = headers else { return Ok(*headers) };
        let to_vip = self.snapshot.vips.local(flow.destination()) == Some(Local::Vip);
        if !to_vip || !parse::has_ports(flow.transport().protocol) {
            return Err(not_for_a_service(headers, self.snapshot));
        }
        match self.fragments.verdict(flow, *of, &self.snapshot.hasher, self.now_ms) {
            Verdict::Ports(ports) => Ok(Headers { flow: flow.with_ports(ports), payload: Payload::Ports(of.segment) }),
            Verdict::Hold => Err(Exit::Hold),
            Verdict::Worker(worker) => Err(Exit::Pass(worker)),
        }
    }

    /// Forwards the fragments that had to wait and those of other workers; gives up those that have waited too long.
    /// Says whether there were any.
    #[cold]
    fn waiting_fragments(&mut self) -> bool {
        let now_ms = self.now_ms;
        let mut any = false;
        loop {
            let mut burst = Burst::new();
            let Some(port) = self.fragments.ready(&self.snapshot.hasher, now_ms, &mut burst) else { break };
            any = true;
            self.forward(port, &mut burst);
            self.flush();
        }
        while let Some((port, packet)) = self.fragments.overdue(now_ms) {
            any = true;
            self.leave(DropReason::FragmentOrphan.into(), packet, port);
        }
        any
    }

    /// What does not go to a backend, and is counted under its reason when it is gone for good.
    #[cold]
    fn leave(&mut self, exit: Exit, packet: Io::Packet, port: usize) {
        let counters = &self.counters.ports[port];
        if let Exit::Drop(reason) | Exit::DropOf(reason, _) = exit
            && Sample::wanted(reason)
        {
            self.show(reason, &packet, port);
        }
        let left = match exit {
            Exit::Drop(reason) => Err(reason),
            Exit::DropOf(reason, service) => {
                self.counters.services[service as usize].drops[reason.index()].add(1);
                Err(reason)
            }
            // Before the ring, so that a flood of pings does not reach the slow path.
            Exit::Punt(PuntReason::Echo) if !self.echo.take(self.now_ms) => Err(DropReason::EchoLimited),
            // Nor may what is left of it keep ARP out: the upper half of the ring is for what keeps the director alive.
            Exit::Punt(PuntReason::Echo | PuntReason::OwnAddress) if crowded(self.punts) => Err(DropReason::PuntFull),
            Exit::Punt(reason) => self.punt(Punt { port, reason, mtu: 0, packet }),
            Exit::TooBig(_) if crowded(self.punts) || !self.too_big.take(self.now_ms) => {
                Err(DropReason::TooBigUnanswered)
            }
            Exit::TooBig(mtu) => self.punt(Punt { port, reason: PuntReason::TooBig, mtu, packet }),
            Exit::Hold => match parse_stage(&packet, self.door(port)) {
                Ok(headers) => self.fragments.hold(&headers, port, packet, self.now_ms),
                Err(_) => Err(DropReason::FragmentOrphan),
            },
            Exit::Pass(worker) => self.fragments.pass(worker, port, packet),
        };
        if let Err(reason) = left {
            counters.drops[reason.index()].add(1);
        }
    }

    /// Gives a frame to the slow path, as it was on the wire.
    fn punt(&mut self, mut punt: Punt<Io::Packet>) -> Result<(), DropReason> {
        vlan::restore(&mut punt.packet)?;
        let count = &self.counters.ports[punt.port].punts[punt.reason.index()];
        self.punts.push(punt).map_err(|_| DropReason::PuntFull)?;
        count.add(1);
        Ok(())
    }

    /// Shows the slow path what was dropped, if it has room for an example.
    fn show(&mut self, reason: DropReason, packet: &Io::Packet, port: usize) {
        if !self.samples.is_full()
            && let Ok(headers) = parse_stage(packet, self.door(port))
            && let Some(sample) = Sample::new(reason, port, packet.data(), &headers.flow)
        {
            let _ = self.samples.push(sample);
        }
    }

    /// What frames of a port are checked against.
    #[inline]
    fn door(&self, port: usize) -> Door<'w> {
        Door { mac: self.ports[port].mac, vlans: &self.snapshot.vlans[port] }
    }

    fn flush(&mut self) {
        for (port, counters) in self.ports.iter_mut().zip(&self.counters.ports) {
            port.flush(counters);
        }
    }
}

/// A backend of a service; has its addresses fetched.
#[inline(always)]
fn target<'s>(targets: &'s [Target], service: &ServiceEntry, backend: u16) -> &'s Target {
    let target = &targets[service.first_target + usize::from(backend)];
    prefetch(target);
    target
}

/// What becomes of a packet that none of a service's backends takes.
#[cold]
fn no_backend(service: &ServiceEntry) -> Exit {
    Exit::DropOf(DropReason::NoBackend, service.counter)
}

/// Counts a frame that goes to a backend.
#[inline(always)]
fn count(sent: &[TargetCounters], target: &Target, bytes: u64) {
    let sent = &sent[target.counter as usize];
    sent.packets.add(1);
    sent.bytes.add(bytes);
}

/// Whether more than half of a ring is taken.
pub fn crowded<T>(ring: &Producer<T>) -> bool {
    ring.slots() <= ring.buffer().capacity() / 2
}

/// Whose frames a port takes.
#[derive(Clone, Copy)]
struct Door<'s> {
    mac: MacNumber,
    vlans: &'s PortVlans,
}

#[inline]
fn parse_stage<P: Packet>(packet: &P, door: Door<'_>) -> Result<Headers, Exit> {
    if packet.bad_ip_checksum() {
        return Err(DropReason::BadIpChecksum.into());
    }
    if vlan::is_tagged(packet) || !door.vlans.has_untagged() {
        return parse_tagged(packet, door);
    }
    parse::headers(packet.data(), packet.wire_len(), door.mac, 0)
}

/// On a port with VLANs.
#[cold]
fn parse_tagged<P: Packet>(packet: &P, door: Door<'_>) -> Result<Headers, Exit> {
    let received = vlan::read(packet)?;
    door.vlans.network(received.tags).ok_or(DropReason::UnknownVlan)?;
    parse::headers(packet.data(), packet.wire_len(), door.mac, received.len)
}

/// Gives a plain frame that fits the addresses of the target. Says whether it did: it does not where the frame comes from there.
#[inline(always)]
fn readdress_plain(frame: &mut [u8], target: &Target) -> bool {
    let header = frame.first_chunk_mut::<{ parse::ETHERNET_HEADER }>().expect("a plain frame has an Ethernet header");
    if parse::source_mac(header) == parse::destination_mac(target.macs.first_chunk().expect("it has 12 bytes")) {
        return false;
    }
    header[..12].copy_from_slice(&target.macs);
    true
}

/// Addresses the frame to the backend. Nothing but the Ethernet header's 12 bytes of addresses and its VLAN tags changes.
#[inline]
fn rewrite<P: Packet>(packet: &mut P, target: &Target) -> Result<(), Exit> {
    if !target.known {
        return Err(Exit::DropOf(DropReason::BackendMacUnknown, target.service));
    }
    // A frame that fits without looking at what it carries is the rule; padding and tags can make it seem larger.
    let fits = packet.wire_len() <= usize::from(target.plain_len);
    if !fits || vlan::is_tagged(packet) {
        return rewrite_with_care(packet, target);
    }
    if readdress_plain(packet.data_mut(), target) {
        Ok(())
    } else {
        Err(Exit::DropOf(DropReason::Loop, target.service))
    }
}

/// From or to a VLAN, or perhaps larger than the MTU.
#[cold]
fn rewrite_with_care<P: Packet>(packet: &mut P, target: &Target) -> Result<(), Exit> {
    let of = |reason| Exit::DropOf(reason, target.service);
    if packet.data()[6..12] == *target.mac() {
        return Err(of(DropReason::Loop));
    }
    let received = vlan::read(packet).map_err(of)?;
    parse::fits(&packet.data()[parse::ETHERNET_HEADER + received.len..], target.mtu).map_err(|exit| match exit {
        Exit::Drop(reason) => of(reason),
        exit => exit,
    })?;
    vlan::rewrite(packet, &received, &target.macs, target.tags).map_err(of)
}

/// What becomes of a plain frame that no service takes.
#[inline(never)]
fn stranger(flow: Flow, snapshot: &Snapshot) -> Exit {
    not_for_a_service(&Headers { flow, payload: Payload::Ports(Segment::Data) }, snapshot)
}

/// What becomes of a packet that no service takes.
fn not_for_a_service(headers: &Headers, snapshot: &Snapshot) -> Exit {
    let local = |address| snapshot.vips.local(address);
    match (local(headers.flow.destination()), headers.payload) {
        (Some(_), Payload::Echo) => PuntReason::Echo.into(),
        (Some(_), Payload::Ndp) => PuntReason::Ndp.into(),
        // What claims to come from our own addresses is nothing to answer, but the slow path may want to know.
        (Some(Local::Own), _) => PuntReason::OwnAddress.into(),
        (Some(Local::Vip), Payload::Fragment(_)) => DropReason::FragmentNoPorts.into(),
        (Some(Local::Vip), Payload::Icmp) => DropReason::IcmpUnhandled.into(),
        (Some(Local::Vip), Payload::Ports(_) | Payload::Other) => DropReason::NoService.into(),
        (None, _) if local(headers.flow.source()) == Some(Local::Vip) => DropReason::ReturnViaDirector.into(),
        (None, _) => DropReason::NotForUs.into(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use ctl::request::BackendEdit;
    use ctl::{Protocol, Tracking};
    use proptest::prelude::*;

    use super::*;
    use crate::counters::TargetIds;
    use crate::exceptions::Room;
    use crate::model::compile::compile;
    use crate::model::{Model, Reachability};
    use crate::snapshot::Publisher;
    use crate::testing::frame::{CLIENT_MAC, eth};
    use crate::testing::memory::{MemoryIo, MemoryPacket};
    use crate::testing::model::{PORT, PORT_MAC, backend, backend_mac, model, network, service};

    const PING: &[u8] = b"ping";

    const ECHO_RATE: u32 = 100;

    /// A worker on one port, and what is at the other ends of its queues and rings.
    struct Rig {
        worker: Worker<MemoryIo>,
        wire: MemoryIo,
        counters: Arc<WorkerCounters>,
        publisher: Publisher,
        punted: Consumer<Punt<MemoryPacket>>,
        samples: Consumer<Sample>,
        from_slow_path: Producer<Outgoing<MemoryPacket>>,
    }

    impl Rig {
        fn new(model: Model) -> Self {
            // The backend at .9 has not answered.
            let resolve = |address: std::net::IpAddr| Some(backend_mac(address)).filter(|mac| mac.0[5] != 9);
            let publisher = Publisher::new(compile(Arc::new(model), resolve, &[PORT], 1));
            let (wire, counters) = (MemoryIo::default(), Arc::new(WorkerCounters::new(1)));
            let (punts, punted) = rtrb::RingBuffer::new(4);
            let (from_slow_path, outgoing) = rtrb::RingBuffer::new(4);
            let ports = vec![WorkerPort::new(wire.clone(), PORT_MAC)];
            let (to_events, samples) = rtrb::RingBuffer::new(4);
            let rings = Rings { punts, outgoing, samples: to_events };
            let exceptions = Exceptions::new(Room { v4: 64, v6: 48 }, 0);
            let memory = Memory {
                fragments: Fragments::alone(),
                exceptions,
                echo: TokenBucket::new(ECHO_RATE, 1),
                too_big: TokenBucket::new(100, 1),
            };
            // What is held stays so.
            let clock = Clock::stopped_at(0);
            let worker = Worker::new(ports, publisher.reader(), counters.clone(), rings, memory, clock);
            Rig { worker, wire, counters, publisher, punted, samples, from_slow_path }
        }

        /// Services on a VIP of each family, one without backends, one whose backend has no MAC address.
        fn example() -> Self {
            let mut model = model();
            let ids = TargetIds::new(vec![]);
            let mut dns = service("192.168.0.101:53", &[("192.168.0.5", 1)]);
            dns.service.protocol = Protocol::Udp;
            let sctp = |vip, backend| {
                let mut sigtran = service(vip, &[(backend, 1)]);
                sigtran.service.protocol = Protocol::Sctp;
                sigtran
            };
            for service in [
                service("192.168.0.101:80", &[("192.168.0.3", 1)]),
                service("192.168.0.101:81", &[]),
                service("192.168.0.101:82", &[("192.168.0.9", 1)]),
                service("192.168.0.101:83", &[("192.168.0.3", 0)]),
                service("[fd00::101]:80", &[("fd00::3", 1)]),
                dns,
                sctp("192.168.0.101:2905", "192.168.0.5"),
                sctp("[fd00::101]:2905", "fd00::5"),
            ] {
                model.add_service(&service, &ids).unwrap();
            }
            Rig::new(model)
        }

        fn receive(&mut self, frames: impl IntoIterator<Item = Vec<u8>>) {
            self.wire.0.borrow_mut().rx.extend(frames.into_iter().map(MemoryPacket::from));
            while !self.wire.0.borrow().rx.is_empty() {
                self.worker.turn();
            }
        }

        fn sent(&self) -> Vec<Vec<u8>> {
            self.wire.0.borrow_mut().tx.drain(..).map(|packet| packet.bytes).collect()
        }

        /// What became of one frame: sent, or gone for exactly one reason that was counted.
        fn fate(&mut self, frame: &[u8]) -> Result<Vec<u8>, Exit> {
            self.fate_of(frame.to_vec().into())
        }

        fn fate_of(&mut self, packet: MemoryPacket) -> Result<Vec<u8>, Exit> {
            let before = self.reasons();
            self.wire.0.borrow_mut().rx.push_back(packet);
            self.worker.turn();
            if !self.worker.fragments.is_idle() {
                self.let_time_pass();
            }
            let counted: Vec<Exit> =
                self.reasons().into_iter().filter(|reason| !before.contains(reason)).map(|r| r.0).collect();
            let mut sent = self.sent();
            match (sent.pop(), &counted[..]) {
                (Some(frame), []) => Ok(frame),
                (None, [exit]) => Err(*exit),
                (sent, reasons) => panic!("sent {sent:?} and counted {reasons:?}"),
            }
        }

        /// Enough for everything that is held to be given up.
        fn let_time_pass(&mut self) {
            self.worker.set_clock(Clock::stopped_at(1_000));
            self.worker.turn();
            self.worker.set_clock(Clock::stopped_at(0));
        }

        fn reasons(&self) -> Vec<(Exit, u64)> {
            let port = &self.counters.ports[0];
            let drops = DropReason::ALL.iter().map(|&r| (Exit::Drop(r), port.drops[r.index()].read()));
            drops.chain(PuntReason::ALL.iter().map(|&r| (Exit::Punt(r), port.punts[r.index()].read()))).collect()
        }
    }

    fn drop_bytes<T>(_: T) {}

    /// Packets to a backend in an untagged network and to one in a VLAN: 1,500 bytes fit, 1,501 do not.
    #[test]
    fn what_does_not_fit_the_backends_port_is_answered_or_counted() {
        let too_big = Err(Exit::Punt(PuntReason::TooBig));
        let unanswered = Err(Exit::Drop(DropReason::TooBigUnanswered));
        let v4 = |port, len: usize| eth().ipv4("10.0.0.1", "192.168.0.101").tcp(1234, port).data(&vec![7; len - 40]);
        let v6 = |len: usize| {
            let ip = eth().tag(0x8100, 100).ipv6("2001:db8::1", "fd01::101").extension(60, &[0; 8]);
            ip.tcp(1, 80).data(&vec![7; len - 68])
        };
        let padded = |frame: Vec<u8>| [frame, vec![0; 400]].concat();
        let errors = |len: usize| {
            let reply = eth().ipv4("192.168.0.101", "10.0.0.1").tcp(80, 1234).data(&vec![7; len - 28 - 40]);
            eth().ipv4("10.0.0.1", "192.168.0.101").icmp(1, 3, 1, &[&[0; 4], &reply[14..]].concat())
        };
        let tagged = |len: usize| {
            eth().tag(0x8100, 0xa000).ipv4("10.0.0.1", "192.168.0.101").tcp(1, 80).data(&vec![7; len - 40])
        };
        let first = eth().ipv4("10.0.0.1", "192.168.0.101").fragment(0x2000).tcp(1, 80).data(&[7; 1_468]);
        let later = eth().ipv4("10.0.0.1", "192.168.0.101").fragment(186).protocol(6, &[7; 1_488]);
        let mut rig = with_vlans();
        for (description, frame, expected) in [
            ("just fits", v4(80, 1_500), Ok(())),
            ("a byte too long", v4(80, 1_501), too_big),
            ("much too long, a super-frame", v4(80, 60_000), too_big),
            ("just fits a VLAN", v4(81, 1_500), Ok(())),
            ("a byte too long for a VLAN", v4(81, 1_501), too_big),
            ("just fits two VLANs", v4(82, 1_500), Ok(())),
            ("just fits, IPv6", v6(1_500), Ok(())),
            ("a byte too long, IPv6", v6(1_501), too_big),
            ("just fits, with a tag less", tagged(1_500), Ok(())),
            ("just fits, and has padding", padded(v4(80, 1_500)), Ok(())),
            ("a short one with much padding", padded(v4(80, 1_200)), Ok(())),
            ("an ICMP error that fits", errors(1_500), Ok(())),
            ("an ICMP error that does not", errors(1_501), unanswered),
            ("a first fragment", first, too_big),
            ("a later fragment", later, unanswered),
        ] {
            let fate = rig.fate(&frame).map(drop_bytes);
            assert_eq!(fate, expected, "{description}");
            if let Ok(punt) = rig.punted.pop() {
                assert_eq!((punt.mtu, punt.packet.bytes), (1_500, frame), "{description}");
            }
        }
    }

    #[test]
    fn frames_of_several_segments_need_their_headers_in_the_first() {
        let v4 = || eth().ipv4("10.0.0.1", "192.168.0.101");
        let v6 = || eth().ipv6("2001:db8::1", "fd00::101");
        let fragment_header = [0, 0, 0, 1, 0, 0, 0, 7];
        // Description, frame, and how many bytes the first segment needs.
        for (description, frame, needed) in [
            ("TCP", v4().tcp(1, 80).data(&[7; 1_000]), 54),
            ("IPv4 options", v4().options(&[1; 8]).tcp(1, 80).data(&[7; 1_000]), 62),
            ("UDP", v4().udp(1, 53, &[7; 1_000]), 42),
            ("SCTP", v4().protocol(132, &[&[0, 1, 11, 89], &[7; 1_000][..]].concat()), 46),
            ("IPv6", v6().tcp(1, 80).data(&[7; 1_000]), 74),
            ("an extension header", v6().extension(60, &[0; 8]).tcp(1, 80).data(&[7; 1_000]), 82),
            ("a first fragment", v4().fragment(0x2000).udp(1, 53, &[7; 1_000]), 42),
            ("an IPv6 one", v6().extension(44, &fragment_header).tcp(1, 80).data(&[7; 1_000]), 82),
            ("a VLAN tag", eth().tag(0x8100, 0).ipv4("10.0.0.1", "192.168.0.101").tcp(1, 80).data(&[7; 1_000]), 58),
        ] {
            let mut rig = Rig::example();
            for first in 0..frame.len() {
                let fate = rig.fate_of(MemoryPacket::segmented(frame.clone(), first));
                if first < needed {
                    assert_eq!(fate, Err(Exit::Drop(DropReason::HeadersSplit)), "{description}, {first} bytes");
                } else {
                    let sent = fate.unwrap_or_else(|exit| panic!("{description}, {first} bytes: {exit:?}"));
                    assert!(frame.ends_with(&sent[14..]), "{description}, {first} bytes");
                }
            }
        }
        // What is shorter than it says is so in segments, too.
        let mut rig = Rig::example();
        let cut = |frame: Vec<u8>, len| MemoryPacket::segmented(frame[..len].to_vec(), 20);
        assert_eq!(rig.fate_of(cut(v4().tcp(1, 80).syn(), 30)), Err(Exit::Drop(DropReason::Truncated)));
        assert_eq!(rig.fate_of(MemoryPacket::segmented(vec![0; 13], 5)), Err(Exit::Drop(DropReason::Runt)));
    }

    #[test]
    fn not_everybody_is_told_that_packets_are_too_big() {
        let mut rig = with_vlans();
        let frame = eth().ipv4("10.0.0.1", "192.168.0.101").tcp(1234, 80).data(&[7; 1_500]);
        let told = (0..300).filter(|_| {
            let told = rig.fate(&frame) == Err(Exit::Punt(PuntReason::TooBig));
            told && rig.punted.pop().is_ok()
        });
        assert_eq!(told.count(), 100);
    }

    /// A port with an untagged network, VLAN 100, and VLAN 30 inside VLAN 200.
    fn with_vlans() -> Rig {
        let networks = vec![
            network("lan0", 0, "", &["192.168.0.2/24"]),
            network("lan0", 0, "100", &["10.1.0.2/24", "fd01::2/64"]),
            network("lan0", 0, "200.30", &["10.2.0.2/24"]),
        ];
        let mut model = Model::new([1; 16], 1_021, networks);
        for (vip, backend) in [
            ("192.168.0.101:80", "192.168.0.3"),
            ("192.168.0.101:81", "10.1.0.4"),
            ("192.168.0.101:82", "10.2.0.5"),
            ("10.1.0.101:80", "10.1.0.4"),
            ("[fd01::101]:80", "fd01::4"),
        ] {
            model.add_service(&service(vip, &[(backend, 1)]), &TargetIds::new(vec![])).unwrap();
        }
        Rig::new(model)
    }

    /// Description, the tags that a packet comes with (in the frame, taken out by the device), its port, and the tags that it
    /// leaves with or why it does not.
    #[test]
    fn tags_become_those_of_the_backends_network() {
        type Tags<'t> = &'t [(u16, u16)];
        let drop = |reason| Err(Exit::Drop(reason));
        let (tag, qinq): (Tags<'_>, Tags<'_>) = (&[(0x8100, 100)], &[(0x88a8, 200), (0x8100, 30)]);
        type Row<'t> = (&'t str, Tags<'t>, [Option<u16>; 2], u16, Result<Tags<'t>, Exit>);
        let table: [Row<'_>; 24] = [
            ("none to none", &[], [None; 2], 80, Ok(&[])),
            ("none to one", &[], [None; 2], 81, Ok(tag)),
            ("none to two", &[], [None; 2], 82, Ok(qinq)),
            ("one to none", tag, [None; 2], 80, Ok(&[])),
            ("one to the same", tag, [None; 2], 81, Ok(tag)),
            ("one to two", tag, [None; 2], 82, Ok(qinq)),
            ("two to none", qinq, [None; 2], 80, Ok(&[])),
            ("two to one", qinq, [None; 2], 81, Ok(tag)),
            ("two to two", qinq, [None; 2], 82, Ok(qinq)),
            ("two, both 0x8100", &[(0x8100, 200), (0x8100, 30)], [None; 2], 82, Ok(qinq)),
            ("a priority stays", &[(0x8100, 0xb064)], [None; 2], 82, Ok(&[(0x88a8, 0xb0c8), (0x8100, 0xb01e)])),
            (
                "each of two",
                &[(0x88a8, 0x20c8), (0x8100, 0xe01e)],
                [None; 2],
                82,
                Ok(&[(0x88a8, 0x20c8), (0x8100, 0xe01e)]),
            ),
            ("the outer one for one", &[(0x88a8, 0x20c8), (0x8100, 0xe01e)], [None; 2], 81, Ok(&[(0x8100, 0x2064)])),
            ("a priority alone is no VLAN", &[(0x8100, 0xa000)], [None; 2], 80, Ok(&[])),
            ("and stays in one", &[(0x8100, 0xa000)], [None; 2], 81, Ok(&[(0x8100, 0xa064)])),
            ("taken out, to none", &[], [Some(100), None], 80, Ok(&[])),
            ("taken out, to one", &[], [None, Some(0x6064)], 81, Ok(&[(0x8100, 0x6064)])),
            ("both taken out", &[], [Some(200), Some(30)], 82, Ok(qinq)),
            ("the outer one taken out", &[(0x8100, 30)], [Some(200), None], 81, Ok(tag)),
            ("no VLAN of ours", &[(0x8100, 101)], [None; 2], 80, drop(DropReason::UnknownVlan)),
            ("no VLAN of ours, taken out", &[], [Some(101), None], 80, drop(DropReason::UnknownVlan)),
            ("the outer one alone", &[(0x8100, 200)], [None; 2], 80, drop(DropReason::UnknownVlan)),
            ("three", &[(0x88a8, 200), (0x8100, 30), (0x8100, 1)], [None; 2], 80, drop(DropReason::UnknownVlan)),
            ("the reserved one", &[(0x8100, 4095)], [None; 2], 80, drop(DropReason::UnknownVlan)),
        ];
        let mut rig = with_vlans();
        let with = |tags: Tags<'_>| tags.iter().fold(eth(), |eth, &(kind, control)| eth.tag(kind, control));
        for (description, tags, stripped, port, expected) in table {
            let frame = |tags| with(tags).ipv4("10.0.0.1", "192.168.0.101").tcp(1234, port).data(b"GET /");
            let mac = Mac([2, 0, 0, 0, 0, u8::try_from(port - 77).unwrap()]);
            let expected = expected.map(|tags| [&mac.0[..], &PORT_MAC.0, &frame(tags)[12..]].concat());
            assert_eq!(rig.fate_of(MemoryPacket { stripped, ..frame(tags).into() }), expected, "{description}");
        }
        let v6 = eth().tag(0x8100, 100).ipv6("2001:db8::1", "fd01::101").tcp(1, 80).syn();
        assert_eq!(rig.fate(&v6).unwrap()[12..], v6[12..]);
        let looped =
            eth().from(Mac([2, 0, 0, 0, 0, 4])).tag(0x8100, 100).ipv4("10.0.0.1", "10.1.0.101").tcp(1, 80).syn();
        assert_eq!(rig.fate(&looped), Err(Exit::Drop(DropReason::Loop)));
        let other = eth().to(CLIENT_MAC).tag(0x8100, 100).ipv4("10.0.0.1", "10.1.0.101").tcp(1, 80).syn();
        assert_eq!(rig.fate(&other), Err(Exit::Drop(DropReason::NotOurMac)));
        for length in 12..22 {
            let cut = eth().tag(0x88a8, 200).tag(0x8100, 30).payload(0x0800, &[])[..length].to_vec();
            assert!(matches!(rig.fate(&cut), Err(Exit::Drop(_))), "{length} bytes");
        }
    }

    #[test]
    fn a_tag_needs_room_in_the_buffer() {
        let mut rig = with_vlans();
        let frame = || eth().ipv4("10.0.0.1", "192.168.0.101").tcp(1234, 81).syn();
        let fate = rig.fate_of(MemoryPacket { headroom: 3, ..frame().into() });
        assert_eq!(fate, Err(Exit::Drop(DropReason::NoHeadroom)));
        assert!(rig.fate_of(MemoryPacket { headroom: 4, ..frame().into() }).is_ok());
    }

    #[test]
    fn a_port_with_vlans_alone_takes_no_untagged_frames() {
        let mut model = Model::new([1; 16], 1_021, vec![network("lan0", 0, "7", &["192.168.0.2/24"])]);
        model.add_service(&service("192.168.0.101:80", &[("192.168.0.3", 1)]), &TargetIds::new(vec![])).unwrap();
        let mut rig = Rig::new(model);
        let untagged = eth().ipv4("10.0.0.1", "192.168.0.101").tcp(1, 80).syn();
        assert_eq!(rig.fate(&untagged), Err(Exit::Drop(DropReason::UnknownVlan)));
        let tagged = eth().tag(0x8100, 7).ipv4("10.0.0.1", "192.168.0.101").tcp(1, 80).syn();
        assert_eq!(rig.fate(&tagged).unwrap()[12..], tagged[12..]);
    }

    #[test]
    fn the_slow_path_gets_frames_with_all_their_tags() {
        let mut rig = with_vlans();
        let arp = |eth: crate::testing::frame::Ethernet| eth.to(Mac([0xff; 6])).payload(0x0806, &[0; 28]);
        let tagged = arp(eth().tag(0x8100, 100));
        for (frame, stripped) in [(tagged.clone(), [None; 2]), (arp(eth()), [None, Some(100)])] {
            let fate = rig.fate_of(MemoryPacket { stripped, ..frame.into() });
            assert_eq!(fate, Err(Exit::Punt(PuntReason::Arp)));
            assert_eq!(rig.punted.pop().unwrap().packet.bytes, tagged);
        }
    }

    #[test]
    fn fragments_keep_their_tags_while_they_are_held() {
        let mut rig = with_vlans();
        let v4 = || eth().ipv4("10.0.0.1", "192.168.0.101");
        let (first, last) = (v4().fragment(0x2000).tcp(1234, 81).data(&[1; 4]), v4().fragment(3).protocol(6, &[2; 72]));
        let stripped = [None, Some(100)];
        let packets = [last, first].map(|frame| MemoryPacket { stripped, ..frame.into() });
        rig.wire.0.borrow_mut().rx.extend(packets);
        rig.worker.turn();
        let sent = rig.sent();
        assert_eq!(sent.len(), 2);
        assert!(sent.iter().all(|frame| frame[12..16] == [0x81, 0, 0, 100]));
    }

    #[test]
    fn a_wrong_checksum_that_the_nic_found_is_dropped() {
        let mut rig = Rig::example();
        let bytes = eth().ipv4("10.0.0.1", "192.168.0.101").tcp(1, 80).syn();
        rig.wire.0.borrow_mut().rx.push_back(MemoryPacket { bad_ip_checksum: true, ..bytes.into() });
        rig.worker.turn();
        assert_eq!(rig.counters.ports[0].drops[DropReason::BadIpChecksum.index()].read(), 1);
    }

    #[test]
    fn what_the_queue_has_no_room_for_is_freed_and_counted() {
        let mut rig = Rig::example();
        rig.wire.0.borrow_mut().tx_room = 3;
        let frame = eth().ipv4("10.0.0.1", "192.168.0.101").tcp(1, 80).syn();
        let bytes = frame.len() as u64;
        rig.receive(vec![frame; 5]);
        let port = &rig.counters.ports[0];
        assert_eq!((port.forwarded.read(), port.tx_packets.read(), port.tx_bytes.read()), (3, 3, 3 * bytes));
        assert_eq!(port.drops[DropReason::TxFull.index()].read(), 2);
        assert_eq!(rig.sent().len(), 3);
    }

    #[test]
    fn what_the_slow_path_does_not_take_is_dropped_and_counted() {
        let mut rig = Rig::example();
        rig.receive(vec![eth().ipv4("10.0.0.1", "192.168.0.101").echo(PING); 6]);
        // Pings get half of the ring's four places; ARP gets the others.
        rig.receive(vec![eth().payload(0x0806, &[0; 28]); 3]);
        let port = &rig.counters.ports[0];
        assert_eq!(port.punts[PuntReason::Echo.index()].read(), 2);
        assert_eq!(port.punts[PuntReason::Arp.index()].read(), 2);
        assert_eq!(port.drops[DropReason::PuntFull.index()].read(), 4 + 1);
        assert_eq!(rig.punted.pop().map(|punt| (punt.port, punt.reason)).unwrap(), (0, PuntReason::Echo));
    }

    #[test]
    fn pings_above_the_rate_are_dropped_before_the_ring() {
        let mut rig = Rig::example();
        rig.worker.punts = rtrb::RingBuffer::new(1_024).0;
        let pings = |rig: &mut Rig| {
            for address in ["192.168.0.101", "192.168.0.2"] {
                rig.receive(vec![eth().ipv4("10.0.0.1", address).echo(PING); 80]);
            }
            let port = &rig.counters.ports[0];
            (port.punts[PuntReason::Echo.index()].read(), port.drops[DropReason::EchoLimited.index()].read())
        };
        assert_eq!(pings(&mut rig), (100, 60));
        rig.receive([eth().payload(0x0806, &[0; 28])]);
        assert_eq!(rig.counters.ports[0].punts[PuntReason::Arp.index()].read(), 1, "nobody else is limited");
        rig.let_time_pass();
        rig.worker.echo = TokenBucket::new(0, 1);
        assert_eq!(pings(&mut rig), (100, 60 + 160), "a rate of 0 answers none");
    }

    #[test]
    fn the_slow_paths_frames_are_sent_as_they_are() {
        let mut rig = Rig::example();
        rig.from_slow_path.push(Outgoing { port: 0, packet: vec![7; 60].into() }).unwrap();
        rig.worker.turn();
        assert_eq!(rig.sent(), [vec![7; 60]]);
        assert_eq!(rig.counters.ports[0].tx_packets.read(), 1);
        assert_eq!(rig.counters.ports[0].forwarded.read(), 0);
    }

    #[test]
    fn traffic_is_counted_by_service_and_backend() {
        let mut rig = Rig::example();
        let frame = eth().ipv4("10.0.0.1", "192.168.0.101").tcp(1, 80).syn();
        let bytes = frame.len() as u64;
        rig.receive(vec![frame; 40]);
        let snapshot = rig.publisher.current();
        let service = &snapshot.model.services[&"192.168.0.101:80".parse().unwrap()];
        let counted = &rig.counters.targets[service.backends[0].target.place() as usize];
        assert_eq!((counted.packets.read(), counted.bytes.read()), (40, 40 * bytes));
        assert_eq!(rig.counters.ports[0].rx_packets.read(), 40);
        assert_eq!(rig.counters.busy_turns.read(), 2);
    }

    #[test]
    fn what_is_dropped_of_a_service_is_counted_there_too() {
        let mut rig = Rig::example();
        let to = |port| {
            eth().from(backend_mac("192.168.0.3".parse().unwrap())).ipv4("10.0.0.1", "192.168.0.101").tcp(1, port)
        };
        rig.receive([to(80).syn(), to(81).syn(), to(81).syn(), to(82).syn(), to(8080).syn()]);
        let snapshot = rig.publisher.current();
        let drops = |id: &str, reason: DropReason| {
            let place = snapshot.model.services[&id.parse().unwrap()].counter.place();
            let drops = &rig.counters.services[place as usize].drops;
            let others: u64 = DropReason::ALL.iter().filter(|&&r| r != reason).map(|r| drops[r.index()].read()).sum();
            (drops[reason.index()].read(), others)
        };
        assert_eq!(drops("192.168.0.101:80", DropReason::Loop), (1, 0));
        assert_eq!(drops("192.168.0.101:81", DropReason::NoBackend), (2, 0));
        assert_eq!(drops("192.168.0.101:82", DropReason::BackendMacUnknown), (1, 0));
        assert_eq!(rig.counters.ports[0].dropped(), 5, "the port has them all, and the one without a service");
    }

    #[test]
    fn a_few_of_the_frames_that_tell_of_a_mistake_are_shown() {
        let mut rig = Rig::example();
        let backend = backend_mac("192.168.0.3".parse().unwrap());
        let from = || eth().from(backend);
        rig.receive([
            from().ipv4("10.0.0.1", "192.168.0.101").tcp(1, 80).syn(),
            from().ipv6("fd00::101", "2001:db8::1").tcp(80, 1).ack(),
            from().ipv4("10.0.0.1", "192.168.0.101").tcp(1, 81).syn(),
        ]);
        let mut shown = || -> Vec<Sample> { std::iter::from_fn(|| rig.samples.pop().ok()).collect() };
        let sample = |reason, source: &str, destination: &str| {
            let (source, destination) = (source.parse().unwrap(), destination.parse().unwrap());
            Sample { reason, port: 0, from: backend, source, destination }
        };
        let expected = [
            sample(DropReason::Loop, "10.0.0.1", "192.168.0.101"),
            sample(DropReason::ReturnViaDirector, "fd00::101", "2001:db8::1"),
        ];
        assert_eq!(shown(), expected, "and not that there is no backend: no station has done that");
        rig.receive(vec![from().ipv4("10.0.0.1", "192.168.0.101").tcp(1, 80).syn(); 100]);
        assert_eq!(rig.counters.ports[0].drops[DropReason::Loop.index()].read(), 101, "all are counted");
        assert_eq!(std::iter::from_fn(|| rig.samples.pop().ok()).count(), 4, "as many as there is room for");
    }

    #[test]
    fn flows_spread_by_weight_and_stay_where_they_are() {
        let mut model = model();
        let ids = TargetIds::new(vec![]);
        model.table_size = crate::maglev::DEFAULT_TABLE_SIZE;
        model.add_service(&service("192.168.0.101:80", &[("192.168.0.3", 3), ("192.168.0.4", 1)]), &ids).unwrap();
        let mut rig = Rig::new(model);
        let flows = || (1024..31_024).map(|port| eth().ipv4("10.0.0.1", "192.168.0.101").tcp(port, 80).syn());
        rig.receive(flows());
        let first = rig.sent();
        rig.receive(flows());
        assert_eq!(rig.sent(), first);
        let to_first = first.iter().filter(|frame| frame[5] == 3).count() as f64 / first.len() as f64;
        // Five standard deviations of 30,000 fair draws.
        assert!((to_first - 0.75).abs() < 0.0125, "{to_first}");
    }

    #[test]
    fn fragments_follow_their_first_in_whatever_order_they_come() {
        let mut rig = Rig::example();
        let v4 = || eth().ipv4("10.0.0.1", "192.168.0.101");
        let first = v4().fragment(0x2000).udp(1234, 53, &[1; 64]);
        let later: Vec<Vec<u8>> =
            (1..9).map(|place| v4().fragment(0x2000 + place * 9).protocol(17, &[2; 72])).collect();
        let expected = |frame: &Vec<u8>| [&[2, 0, 0, 0, 0, 5][..], &PORT_MAC.0, &frame[12..]].concat();
        rig.receive(later.iter().take(4).cloned());
        assert!(rig.sent().is_empty());
        // The first, and in the same burst fragments before and behind it.
        rig.receive([&later[4..6], std::slice::from_ref(&first), &later[6..]].concat());
        let mut sent = rig.sent();
        sent.sort();
        let mut all: Vec<Vec<u8>> = later.iter().chain([&first]).map(expected).collect();
        all.sort();
        assert_eq!(sent, all);
        assert!(rig.reasons().iter().all(|(_, count)| *count == 0), "nothing is lost");
        assert_eq!(rig.counters.ports[0].rx_packets.read(), 9);
        assert_eq!(rig.counters.ports[0].forwarded.read(), 9);
    }

    #[test]
    fn a_fragment_whose_first_does_not_come_is_dropped_in_the_end() {
        let mut rig = Rig::example();
        rig.receive([eth().ipv4("10.0.0.1", "192.168.0.101").fragment(9).protocol(17, &[0; 64])]);
        assert!(rig.reasons().iter().all(|(_, count)| *count == 0), "it is held");
        rig.let_time_pass();
        assert_eq!(rig.counters.ports[0].drops[DropReason::FragmentOrphan.index()].read(), 1);
    }

    /// The error goes where the flow goes, whoever sends it: the same slot of a table of many backends.
    #[test]
    fn an_icmp_error_follows_the_flow_that_it_quotes() {
        let mut model = model();
        let backends: Vec<(String, u32)> = (10..60).map(|last| (format!("192.168.0.{last}"), 1)).collect();
        let backends: Vec<(&str, u32)> = backends.iter().map(|(address, weight)| (address.as_str(), *weight)).collect();
        model.add_service(&service("192.168.0.101:80", &backends), &TargetIds::new(vec![])).unwrap();
        let mut rig = Rig::new(model);
        for port in 1024..1524 {
            let request = eth().ipv4("10.0.0.1", "192.168.0.101").tcp(port, 80).syn();
            let reply = eth().ipv4("192.168.0.101", "10.0.0.1").tcp(80, port).ack();
            let error = eth().ipv4("172.16.0.9", "192.168.0.101").icmp(1, 3, 4, &[&[0; 4], &reply[14..42]].concat());
            let [request, error] = [rig.fate(&request).unwrap(), rig.fate(&error).unwrap()];
            assert_eq!(request[..6], error[..6], "port {port}");
        }
    }

    /// Services that meet in the table of VIPs, and ranges of ports: each frame finds its own.
    #[test]
    fn each_of_many_services_gets_its_frames() {
        let (mut model, ids) = (model(), TargetIds::new(vec![]));
        for last in 10..60 {
            let address = format!("192.168.0.{last}");
            let backend = [(address.as_str(), 1)];
            for first in [1, 31, 61, 91] {
                // Ports in a row would be a range.
                let ports: Vec<String> = (first..first + 30).step_by(2).map(|port| port.to_string()).collect();
                let vip = format!("192.168.1.{last}:{}", ports.join(","));
                model.add_service(&service(&vip, &backend), &ids).unwrap();
            }
            model.add_service(&service(&format!("192.168.1.{last}:200-300"), &backend), &ids).unwrap();
        }
        let mut rig = Rig::new(model);
        for port in (1..120).step_by(2).chain([200, 300]) {
            let frames = (10..60).map(|last| eth().ipv4("10.0.0.1", &format!("192.168.1.{last}")).tcp(7, port).syn());
            rig.receive(frames);
            let to: Vec<u8> = rig.sent().iter().map(|frame| frame[5]).collect();
            assert_eq!(to, (10..60).collect::<Vec<u8>>(), "port {port}");
        }
    }

    #[test]
    fn clients_stay_with_a_backend_where_their_address_decides() {
        let backends: Vec<(String, u32)> = (10..60).map(|last| (format!("192.168.0.{last}"), 1)).collect();
        let backends: Vec<(&str, u32)> = backends.iter().map(|(address, weight)| (address.as_str(), *weight)).collect();
        let mut model = model();
        for (vip, hash) in
            [("192.168.0.101:80", "source"), ("192.168.0.101:443", "source"), ("192.168.0.102:80", "source/24")]
        {
            let hash = Some(hash.parse().unwrap());
            model
                .add_service(&ctl::request::ServiceAdd { hash, ..service(vip, &backends) }, &TargetIds::new(vec![]))
                .unwrap();
        }
        let mut rig = Rig::new(model);
        let mut backend_of =
            |client: &str, vip: &str, from, to| rig.fate(&eth().ipv4(client, vip).tcp(from, to).syn()).unwrap()[5];
        let mut seen = std::collections::HashSet::new();
        for last in 1..100 {
            let client = format!("10.0.0.{last}");
            let first = backend_of(&client, "192.168.0.101", 1_000, 80);
            for from in 1_001..1_020 {
                assert_eq!(backend_of(&client, "192.168.0.101", from, 80), first);
            }
            assert_eq!(backend_of(&client, "192.168.0.101", 1_000, 443), first, "another service, the same backends");
            let network = backend_of("10.0.0.1", "192.168.0.102", 1, 80);
            assert_eq!(backend_of(&client, "192.168.0.102", 7, 80), network, "one network is one client");
            seen.insert(first);
        }
        assert!(seen.len() > 30, "clients spread: {}", seen.len());
    }

    #[test]
    fn a_new_snapshot_is_taken_at_the_next_turn() {
        let mut rig = Rig::example();
        let frame = || eth().ipv4("10.0.0.1", "192.168.0.101").tcp(1, 81).syn();
        rig.receive([frame()]);
        assert!(rig.sent().is_empty());
        let mut changed = Model::clone(&rig.publisher.current().model);
        let id = "192.168.0.101:81".parse().unwrap();
        changed.add_backend(&id, &backend("192.168.0.4", 1), &TargetIds::new(vec![])).unwrap();
        rig.publisher.publish(compile(Arc::new(changed), |address| Some(backend_mac(address)), &[PORT], 2));
        rig.receive([frame()]);
        assert_eq!(rig.sent().len(), 1);
        assert_eq!(rig.counters.generation.read(), 2);
    }

    /// A service of each IP version of which half of the slots have just moved, and whose flows are all remembered if that is wanted.
    fn handing_over(all: bool) -> Model {
        let ids = TargetIds::new(vec![Arc::new(WorkerCounters::new(1))]);
        let mut model = model();
        let services = [("192.168.0.101:80", "192.168.0.3", "192.168.0.4"), ("[fd00::101]:80", "fd00::3", "fd00::4")];
        for (protocol, (vip, first, second)) in
            [Protocol::Tcp, Protocol::Udp].into_iter().flat_map(|p| services.map(|s| (p, s)))
        {
            let mut wanted = service(vip, &[(first, 1), (second, 0)]);
            wanted.service.protocol = protocol;
            wanted.tracking = all.then_some(Tracking::All);
            model.add_service(&wanted, &ids).unwrap();
            model.renew_all(&Reachability { down: &HashSet::new(), resolved: &|_| true });
            let address = second.parse().unwrap();
            let edit = BackendEdit { service: wanted.service, address, weight: Some(1), mac: None };
            model.edit_backend(&edit).unwrap();
        }
        model
    }

    proptest! {
        /// What the first look at a frame says, the second says, too.
        #[test]
        fn a_plain_frame_is_what_the_parser_says(
            (mut frame, damage) in (
                (any::<bool>(), any::<bool>(), any::<u16>(), 0usize..30).prop_map(|(v6, udp, port, len)| {
                    let data = vec![7; len];
                    let ip = if v6 { eth().ipv6("2001:db8::1", "fd00::101") } else { eth().ipv4("10.0.0.1", "192.168.0.101") };
                    if udp { ip.udp(port, 53, &data) } else { ip.tcp(port, 80).data(&data) }
                }),
                prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
            ),
            cut in prop::option::weighted(0.3, any::<prop::sample::Index>()),
        ) {
            for (place, byte) in damage {
                let place = place.index(frame.len().min(70));
                frame[place] = byte;
            }
            let wire_len = frame.len();
            // The first segment may be shorter than the frame.
            if let Some(cut) = cut {
                frame.truncate(cut.index(frame.len()));
            }
            let whole = parse::headers(&frame, wire_len.max(14), PORT_MAC.into(), 0);
            let v4 = parse::plain_v4(&frame, wire_len, PORT_MAC.into()).map(Flow::from);
            let v6 = parse::plain_v6(&frame, wire_len, PORT_MAC.into()).map(Flow::from);
            for (flow, l4) in [(v4, parse::PLAIN_V4), (v6, parse::PLAIN_V6)] {
                let Some(flow) = flow else { continue };
                let segment = parse::segment(flow.transport().protocol, &frame[l4..]);
                prop_assert_eq!(whole, Ok(Headers { flow, payload: Payload::Ports(segment) }));
            }
        }

        /// Packets of remembered flows go where they go one by one, however they are received together.
        #[test]
        fn a_burst_is_answered_as_its_packets_would_be(
            packets in prop::collection::vec((any::<bool>(), 0u16..16, 0u8..8), 1..200),
            lens in prop::collection::vec(1usize..=BURST, 1..20),
            tracking in any::<bool>(),
        ) {
            let frames: Vec<Vec<u8>> = packets.iter().map(|&(v6, port, kind)| {
                let ip = if v6 { eth().ipv6("2001:db8::1", "fd00::101") } else { eth().ipv4("10.0.0.1", "192.168.0.101") };
                let port = 1_024 + port;
                match kind {
                    0 => ip.tcp(port, 80).syn(),
                    1 => ip.tcp(port, 80).fin(),
                    2 => ip.tcp(port, 80).rst(),
                    // The same ports of another protocol.
                    3 | 4 => ip.udp(port, 80, b"x"),
                    _ => ip.tcp(port, 80).data(b"x"),
                }
            }).collect();
            let sent = |lens: &mut dyn Iterator<Item = usize>| {
                let mut rig = Rig::new(handing_over(tracking));
                let mut frames = frames.iter();
                while frames.len() > 0 {
                    let burst = frames.by_ref().take(lens.next().unwrap_or(1));
                    rig.wire.0.borrow_mut().rx.extend(burst.map(|frame| MemoryPacket::from(frame.clone())));
                    rig.worker.turn();
                }
                let sent: Vec<Vec<u8>> = rig.wire.0.borrow().tx.iter().map(|packet| packet.bytes.clone()).collect();
                let active: Vec<u64> = rig.counters.targets[..8].iter().map(|target| target.active.read()).collect();
                (sent, active)
            };
            let one_by_one = sent(&mut std::iter::repeat(1));
            prop_assert_eq!(one_by_one.0.len(), frames.len());
            prop_assert_eq!(sent(&mut lens.iter().copied().cycle()), one_by_one);
        }

        /// Whatever comes in, nothing panics, and what goes out differs in the two MAC addresses only.
        #[test]
        fn nothing_behind_the_addresses_ever_changes(
            mut frame in prop_oneof![
                prop::collection::vec(any::<u8>(), 0..200),
                (any::<u16>(), any::<[u8; 4]>()).prop_map(|(port, data)| eth().ipv4("10.0.0.1", "192.168.0.101").tcp(port, 80).data(&data)),
                (any::<u16>(), any::<[u8; 4]>()).prop_map(|(port, data)| eth().ipv6("2001:db8::1", "fd00::101").extension(60, &[0; 8]).tcp(port, 80).data(&data)),
                any::<[u8; 4]>().prop_map(|data| eth().ipv4("10.0.0.1", "192.168.0.101").udp(7, 53, &data)),
            ],
            damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
            cut in prop::option::weighted(0.2, any::<prop::sample::Index>()),
        ) {
            if !frame.is_empty() {
                for (place, byte) in damage {
                    let place = place.index(frame.len());
                    frame[place] = byte;
                }
                if let Some(cut) = cut {
                    frame.truncate(cut.index(frame.len()));
                }
            }
            let mut rig = Rig::example();
            if let Ok(sent) = rig.fate(&frame) {
                prop_assert_eq!(&sent[12..], &frame[12..]);
                prop_assert_eq!(&sent[6..12], &PORT_MAC.0);
                prop_assert_ne!(&sent[..6], &CLIENT_MAC.0);
            }
        }
    }
}
