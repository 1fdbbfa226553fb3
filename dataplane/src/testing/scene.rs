//! A small director: workers on list queues, with services of every kind that change while frames are forwarded. It
//! keeps an account of every frame: each has exactly one fate, and its receiver gets it unchanged.

use std::net::IpAddr;
use std::sync::Arc;

use ctl::request::{BackendEdit, MacChange};
use ctl::{Mac, ServiceId};
use hashbrown::HashMap;
use rtrb::{Consumer, Producer, RingBuffer};

use super::choices::Choices;
use super::memory::ListIo;
use super::model::{PORT, PORT_MAC, backend, backend_mac, network};
use super::receiver::goes_to_a_host;
use super::traffic::Traffic;
use super::world::wanted;
use crate::base::exit::{DropReason, PuntReason};
use crate::base::ids::{NetworkNo, PortNo, WorkerNo};
use crate::base::packet::{FrameSource, Packet};
use crate::control::compile::{Compiled, compile, recompile};
use crate::control::model::{Model, Outlook, Reach, Reachability};
use crate::count::{
    counters::{PortCounters, WorkerCounters},
    lease::Leases,
};
use crate::forward::class::Class;
use crate::forward::exceptions::{Exceptions, Room};
use crate::forward::fragment::{self, Fragments};
use crate::forward::limits::Limits;
use crate::forward::sample::Sample;
use crate::slow::{View, process};
use crate::state::{networks::PortLink, publication::Publisher};
use crate::wire::vlan;
use crate::{
    base::clock::Clock,
    forward::{
        port::WorkerPort,
        rings::{Outgoing, Punt, Punted, Rings, punt_rings},
        worker::{Memory, Worker},
    },
};

const WORKERS: usize = 2;
/// The second port has a smaller MTU.
const PORTS: [PortLink; 2] = [PORT, PortLink::new(Mac([0x02, 0, 0, 0, 1, 0x02]), 1_280)];
/// The frames of a class, and of a sender, that the slow path is given in a second.
const PUNT_RATE: u32 = 20;
/// The frames of a class that wait for the slow path.
const PUNTS: usize = 4;
/// The number of frames that a ring to or from the slow path holds.
const RING: usize = 64;
/// The most frames that wait to be received.
const MAX_WAITING: usize = 64;
/// The most backends that are added to the first ones. Each needs its own counters.
const MAX_ADDED: usize = 200;

/// A worker, with the other ends of its queues and rings.
struct Seat<P: Packet> {
    worker: Worker<ListIo<P>>,
    wires: [ListIo<P>; PORTS.len()],
    counters: Arc<WorkerCounters>,
    punted: Punted<P>,
    samples: Consumer<Sample>,
    to_worker: Producer<Outgoing<P>>,
}

/// The number of frames by their fate so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Frames given to the workers.
    pub received: u64,
    /// Frames sent to backends.
    pub forwarded: u64,
    /// Frames given to the slow path.
    pub punted: u64,
    /// Frames given to the workers by the slow path.
    pub own: u64,
    /// Frames of the slow path that were sent.
    pub own_sent: u64,
    /// Changes of the model.
    pub changes: u64,
    /// Changes that were refused.
    pub refused: u64,
}

/// The small director. `S` makes the packets.
pub struct Scene<S: FrameSource> {
    source: S,
    seats: Vec<Seat<S::Packet>>,
    leases: Arc<Leases>,
    model: Model,
    ports: [PortLink; PORTS.len()],
    /// How the backends can be reached.
    outlook: Outlook,
    publisher: Publisher,
    current: Compiled,
    now_ms: u64,
    added: usize,
    /// Received frames that are not accounted for yet: without their MAC addresses, with their number.
    received: HashMap<Vec<u8>, u32>,
    /// Frames of the slow path that are to be sent, with their number.
    own: HashMap<Vec<u8>, u32>,
    last: Vec<u8>,
    waiting: usize,
    tally: Tally,
}

/// The backends at .9 do not answer.
fn resolve(address: IpAddr) -> Option<Mac> {
    Some(backend_mac(address)).filter(|mac| mac.0[5] != 9)
}

impl<S: FrameSource> Scene<S> {
    /// A director with all services, at time 0.
    pub fn new(source: S) -> Self {
        let counters: Vec<Arc<WorkerCounters>> =
            (0..WORKERS).map(|_| Arc::new(WorkerCounters::with_room(PORTS.len(), 256, 64))).collect();
        let leases = Leases::new(counters.clone());
        let networks = vec![
            network("lan0", 0, "", &["192.168.0.2/24", "fd00::2/64"]),
            network("lan1", 1, "", &["192.168.1.2/24"]),
            network("lan1", 1, "100", &["192.168.2.2/24"]),
        ];
        let mut model = Model::new([1; 16], 61, networks);
        for service in wanted() {
            model.add_service(&service, &leases).expect("the services are legal");
        }
        let current = compile(Arc::new(model.clone()), resolve, &PORTS, 1);
        let publisher = Publisher::new(current.snapshot.clone());
        let seats = fragment::mesh(WORKERS).into_iter().zip(counters).enumerate();
        let seats = seats.map(|(number, (fragment_rings, counters))| {
            let wires: [ListIo<S::Packet>; PORTS.len()] = Default::default();
            let ports = wires.iter().cloned().map(WorkerPort::new).collect();
            let (punts, punted) = punt_rings(|_| PUNTS);
            let (to_worker, outgoing) = RingBuffer::new(RING);
            let (to_events, samples) = RingBuffer::new(RING);
            let rings = Rings { punts, outgoing, samples: to_events };
            let exceptions = Exceptions::new(Room { v4: 64, v6: 48 }, WorkerNo::new(number));
            let memory = Memory {
                fragments: Fragments::new(WorkerNo::new(number), fragment_rings),
                exceptions,
                limits: Limits::all(PUNT_RATE),
            };
            let clock = Clock::stopped_at(0);
            let worker = Worker::new(ports, publisher.reader(), counters.clone(), rings, memory, clock);
            Seat { worker, wires, counters, punted, samples, to_worker }
        });
        Scene {
            source,
            seats: seats.collect(),
            leases,
            current,
            publisher,
            model,
            ports: PORTS,
            outlook: Outlook::default(),
            now_ms: 0,
            added: 0,
            received: HashMap::new(),
            own: HashMap::new(),
            last: Vec::new(),
            waiting: 0,
            tally: Tally::default(),
        }
    }

    /// The number of frames by their fate so far.
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// The number of frames dropped for a reason.
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.sum(|port| port.drops[reason.index()].read())
    }

    /// Makes the events that the bytes choose, until all are used, and finishes.
    pub fn run(&mut self, traffic: &Traffic, choices: &mut Choices<'_>) {
        while !choices.is_empty() {
            self.step(traffic, choices);
        }
        self.finish();
    }

    fn step(&mut self, traffic: &Traffic, choices: &mut Choices<'_>) {
        let what = choices.byte();
        match what & 0xf {
            0..=9 => {
                let frame = traffic.frame(choices);
                self.receive(usize::from(what >> 4 & 1), usize::from(what >> 5 & 1), frame);
            }
            // Again, perhaps to another worker.
            10 | 11 => {
                let frame = self.last.clone();
                self.receive(usize::from(what >> 4 & 1), usize::from(what >> 5 & 1), frame);
            }
            12 => self.pass(choices.word().into()),
            13 => self.change(choices),
            14 => self.choke(usize::from(what >> 4 & 1), usize::from(what >> 5 & 1), usize::from(what >> 6)),
            _ => self.settle(),
        }
        if what & 0x80 == 0 || self.waiting >= MAX_WAITING {
            self.settle();
        }
    }

    /// Gives a frame to a worker on a port. If its destination is the first port's MAC address, it becomes this port's.
    pub fn receive(&mut self, worker: usize, port: usize, mut frame: Vec<u8>) {
        if let Some(to) = frame.first_chunk_mut::<6>()
            && *to == PORT_MAC.0
        {
            *to = self.ports[port].mac.0;
        }
        let Some(packet) = self.source.packet(&frame) else { return };
        self.seats[worker].wires[port].0.borrow_mut().rx.push_back(packet);
        self.tally.received += 1;
        self.waiting += 1;
        *self.received.entry(behind(&frame).to_vec()).or_default() += 1;
        self.last = frame;
    }

    /// Limits the frames that a worker can send on a port until [`Scene::settle`].
    pub fn choke(&mut self, worker: usize, port: usize, room: usize) {
        self.seats[worker].wires[port].0.borrow_mut().tx_room = room;
    }

    /// Lets time pass.
    pub fn pass(&mut self, ms: u64) {
        self.settle();
        self.now_ms += ms;
        self.model.now_ms = self.now_ms;
        for seat in &mut self.seats {
            seat.worker.set_clock(Clock::stopped_at(self.now_ms));
        }
        if self.model.due(self.now_ms).next().is_some() {
            self.model.renew_all(&Reachability { outlook: &self.outlook, resolved: &|_| false });
            self.publish();
        }
        self.settle();
    }

    /// Changes the model or the ports, as an operator or the network does.
    pub fn change(&mut self, choices: &mut Choices<'_>) {
        self.settle();
        let services = wanted();
        let add = choices.of(&services);
        let id: &ServiceId = &add.service;
        let (what, number) = (choices.byte(), choices.byte());
        let address_of = |number: u8| -> IpAddr {
            let last = 3 + number % 7;
            let text =
                if id.vip.is_ipv6() { format!("fd00::{last}") } else { format!("192.168.{}.{last}", last / 6 % 2) };
            text.parse().expect("an address")
        };
        let address = address_of(number);
        let mut model = self.model.clone();
        let edit = |weight, mac| BackendEdit { service: *id, address, weight, mac };
        let changed = match what % 12 {
            0 | 1 => model.edit_backend(&edit(Some(u32::from(number >> 3)), None)),
            2 => model.edit_backend(&edit(None, Some(MacChange::Pin(Mac([2, 0, 0, 0, 2, number]))))),
            3 => model.edit_backend(&edit(None, Some(MacChange::Resolve))),
            4 => model.drain_backend(id, address, Some(u64::from(choices.byte()) * 1_000).filter(|&ms| ms < 200_000)),
            5 => model.enable_backend(id, address),
            6 => model.remove_backend(id, address),
            7 if self.added < MAX_ADDED => {
                self.added += 1;
                model.add_backend(id, &backend(&address.to_string(), u32::from(number >> 4)), &self.leases)
            }
            8 => {
                let reaches = [Reach::Down, Reach::Silent, Reach::NoLink, Reach::Asked];
                let trouble = (0..7).filter(|bit| number & 1 << bit != 0).map(address_of);
                let outlook: Outlook = trouble.map(|address| (address, *choices.of(&reaches))).collect();
                // First, the backends get no more packets. The new tables may follow later.
                model.services.keys().copied().collect::<Vec<_>>().iter().for_each(|id| model.take_note(id, &outlook));
                if number & 0x80 == 0 {
                    model.renew_all(&Reachability { outlook: &outlook, resolved: &|_| false });
                }
                self.outlook = outlook;
                Ok(())
            }
            9 => {
                model.renew_all(&Reachability {
                    outlook: &self.outlook,
                    resolved: &|address| resolve(address).is_some(),
                });
                Ok(())
            }
            11 => {
                // A port's link, its MTU and its MAC address.
                let port = &mut self.ports[usize::from(number & 1)];
                port.up = number & 6 != 0;
                port.mtu = 1_280 + 110 * u16::from(number >> 3 & 3);
                port.mac.0[2] = number >> 6;
                Ok(())
            }
            10 if number & 1 == 0 => model.remove_service(id),
            10 if self.added + add.backends.len() < MAX_ADDED => {
                self.added += add.backends.len().max(1);
                model.add_service(add, &self.leases).map_err(|mut errors| errors.swap_remove(0))
            }
            _ => Ok(()),
        };
        match changed {
            Ok(()) => {
                self.tally.changes += 1;
                self.model = model;
                self.publish();
            }
            Err(_) => self.tally.refused += 1,
        }
        self.settle();
    }

    fn publish(&mut self) {
        let generation = self.current.generation + 1;
        self.current = recompile(&self.current, &[], Arc::new(self.model.clone()), resolve, &self.ports, generation);
        self.publisher.publish(self.current.snapshot.clone());
        drop(self.publisher.reclaim());
    }

    /// Lets the workers process all frames, and checks the account.
    pub fn settle(&mut self) {
        let idle = |seat: &Seat<S::Packet>| {
            seat.to_worker.slots() == RING && seat.wires.iter().all(|wire| wire.0.borrow().rx.is_empty())
        };
        let mut rounds = 2;
        // Two more rounds than the frames need, because a worker may pass a frame on, which another worker then
        // forwards.
        while rounds > 0 {
            rounds = if self.seats.iter().all(idle) { rounds - 1 } else { 2 };
            self.seats.iter_mut().for_each(|seat| seat.worker.turn());
        }
        self.waiting = 0;
        for number in 0..self.seats.len() {
            for (port, link) in self.ports.into_iter().enumerate() {
                let sent = std::mem::take(&mut self.seats[number].wires[port].0.borrow_mut().tx);
                assert!(link.up || sent.is_empty(), "sent while the link was down");
                sent.iter().for_each(|packet| self.sent(port, link.mac, packet));
                self.seats[number].wires[port].0.borrow_mut().tx_room = usize::MAX;
            }
            while let Some(punt) = Class::ALL.iter().find_map(|&class| self.seats[number].punted.pop(class)) {
                self.punted(&punt);
            }
            while self.seats[number].samples.pop().is_ok() {}
        }
        self.balance();
    }

    /// Settles, and waits until no frame is held.
    pub fn finish(&mut self) {
        self.settle();
        for _ in 0..2 {
            // No frame is held for that long.
            self.pass(150);
        }
        assert_eq!(self.held(), 0, "no frame is held for ever");
        self.balance_backends();
        self.received.clear();
        self.own.clear();
    }

    /// Checks a frame that was sent. It is an unchanged frame of the slow path, or a received frame that goes to a
    /// backend of its VIP.
    fn sent(&mut self, port: usize, mac: Mac, packet: &S::Packet) {
        let frame = packet.data();
        if take(&mut self.own, frame) {
            self.tally.own_sent += 1;
            return;
        }
        assert!(take(&mut self.received, behind(frame)), "sent, but not received: {frame:02x?}");
        self.tally.forwarded += 1;
        assert_eq!(frame[6..12], mac.0, "sent from the port's own address");
        let vip: IpAddr = match behind(frame) {
            [0x08, 0x00, ip @ ..] => <[u8; 4]>::try_from(&ip[16..20]).expect("four bytes").into(),
            [0x86, 0xdd, ip @ ..] => <[u8; 16]>::try_from(&ip[24..40]).expect("sixteen bytes").into(),
            _ => panic!("sent, but not IP: {frame:02x?}"),
        };
        let tags = vlan::read(packet).expect("sent with tags that can be read").tags;
        assert!(!packet.has_stripped_tags());
        let services = self.model.services.values().filter(|service| service.id.vip == vip);
        let mut backends = services.flat_map(|service| service.backends.iter().filter(|b| service.serves(b)));
        let there = |network: NetworkNo| {
            let network = self.model.network(network);
            network.port.index() == port && network.tags == tags
        };
        let is_it =
            |address, pinned: Option<Mac>| pinned.or_else(|| resolve(address)).is_some_and(|mac| frame[..6] == mac.0);
        let known = backends.any(|b| there(b.network) && is_it(b.address, b.pinned));
        assert!(known, "sent to no backend of {vip}: {frame:02x?}");
    }

    /// Checks a frame for the slow path: it is an unchanged received frame. The answer is sent.
    fn punted(&mut self, punt: &Punt<S::Packet>) {
        let (frame, mac) = (punt.packet.data(), self.ports[punt.port.index()].mac);
        assert!(take(&mut self.received, behind(frame)), "punted, but not received: {frame:02x?}");
        self.tally.punted += 1;
        let Some((tags, frame)) = vlan::untagged(frame) else { return };
        let Some(network) = self.current.vlans[punt.port.index()].network(tags) else { return };
        let view = View { current: &self.current, network };
        let outcome = process(punt.reason, punt.mtu, &frame, view);
        if let Some(learned) = outcome.learned {
            assert!(learned.mac.is_unicast() && learned.mac != mac, "learned {learned:?}");
        }
        let Some(reply) = outcome.reply else { return };
        assert_ne!(punt.reason, PuntReason::OwnAddress);
        assert!(reply.bytes.len() >= 42 && reply.bytes[6..12] == mac.0, "an answer: {:02x?}", reply.bytes);
        assert!(goes_to_a_host(&reply.bytes, view), "an answer: {:02x?}", reply.bytes);
        let network = self.current.network(reply.network);
        self.say(network.port, vlan::tagged(reply.bytes, network.tags));
    }

    /// Sends a frame of the slow path through the first worker.
    pub fn say(&mut self, port: PortNo, frame: Vec<u8>) {
        let Some(packet) = self.source.packet(&frame) else { return };
        if self.seats[0].to_worker.push(Outgoing { port, packet }).is_ok() {
            self.tally.own += 1;
            *self.own.entry(frame).or_default() += 1;
        }
    }

    fn sum(&self, which: impl Fn(&PortCounters) -> u64) -> u64 {
        self.seats.iter().map(|seat| seat.counters.over_ports(&which)).sum()
    }

    fn dropped_of_services(&self, reason: DropReason) -> u64 {
        let services = self.seats.iter().flat_map(|seat| &seat.counters.services);
        services.map(|service| service.drops[reason.index()].read()).sum()
    }

    fn held(&self) -> u64 {
        self.seats.iter().map(|seat| seat.worker.held() as u64).sum()
    }

    /// Each frame has exactly one fate, and is counted exactly once.
    fn balance(&self) {
        let Tally { received, forwarded, punted, own, own_sent, .. } = self.tally;
        let (dropped, held) = (self.sum(PortCounters::dropped), self.held());
        // New frames of the slow path wait for the next turn.
        let waiting: u64 = self.seats.iter().map(|seat| (RING - seat.to_worker.slots()) as u64).sum();
        assert_eq!(self.sum(|port| port.rx_packets.read()), received, "received");
        assert_eq!(self.sum(|port| port.forwarded.read()), forwarded, "forwarded");
        assert_eq!(self.sum(|port| port.tx_packets.read()), forwarded + own_sent, "sent");
        assert_eq!(self.sum(PortCounters::punted), punted, "punted");
        assert_eq!(
            received + own,
            forwarded + punted + own_sent + dropped + held + waiting,
            "dropped {dropped}, held {held}"
        );
    }

    /// The counters by backend add up to those of the workers.
    fn balance_backends(&self) {
        // Everything has been sent or dropped.
        let own_without_link = self.dropped(DropReason::LinkDown) - self.dropped_of_services(DropReason::LinkDown);
        let own_without_room = self.tally.own - self.tally.own_sent - own_without_link;
        let not_sent = self.dropped(DropReason::TxFull) - own_without_room;
        let (mut to_backends, mut flows) = (0, 0);
        for target in self.seats.iter().flat_map(|seat| &seat.counters.targets) {
            to_backends += target.packets.read();
            flows += target.active.read() + target.inactive.read();
        }
        assert_eq!(to_backends, self.tally.forwarded + not_sent, "counted for the backends");
        let remembered: u64 = self.seats.iter().map(|seat| seat.counters.exceptions.read()).sum();
        assert_eq!(flows, remembered, "the sum of the backends' flows");
    }
}

/// The part of a frame that a director must not change: all from the first EtherType on that is not of a VLAN tag.
fn behind(frame: &[u8]) -> &[u8] {
    let mut rest = frame.get(12..).unwrap_or_default();
    while let [0x81, 0x00, _, _, inner @ ..] | [0x88, 0xa8, _, _, inner @ ..] = rest {
        rest = inner;
    }
    rest
}

/// Removes one such frame. Returns whether there was one.
fn take(frames: &mut HashMap<Vec<u8>, u32>, frame: &[u8]) -> bool {
    match frames.get_mut(frame) {
        Some(1) => frames.remove(frame).is_some(),
        Some(count) => {
            *count -= 1;
            true
        }
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::memory::MemorySource;
    use super::*;

    /// Valid frames of each kind have the effects that they are made for.
    #[test]
    fn the_traffic_has_all_kinds() {
        let (traffic, mut scene) = (Traffic::default(), Scene::new(MemorySource));
        assert!(traffic.kinds() <= 256, "one byte chooses the kind: {}", traffic.kinds());
        for kind in 0..traffic.kinds() {
            for (client, port) in [(1, 1_024), (2, 1_025), (3, 1_026)] {
                scene.receive(usize::from(client & 1), 0, traffic.valid(kind, client, port));
                scene.settle();
            }
        }
        scene.finish();
        let Tally { received, forwarded, punted, own_sent, .. } = scene.tally();
        assert_eq!(received, 3 * traffic.kinds() as u64);
        assert!(forwarded > received * 2 / 5 && punted > 20 && own_sent > 10, "{:?}", scene.tally());
        for reason in [
            DropReason::NoService,
            DropReason::IcmpUnhandled,
            DropReason::ReturnViaDirector,
            DropReason::MartianSource,
            DropReason::Loop,
            DropReason::NotOurMac,
            DropReason::NotIp,
            DropReason::BackendMacUnknown,
        ] {
            assert!(scene.dropped(reason) > 0, "{reason:?}");
        }
        for reason in [DropReason::Truncated, DropReason::BadIpHeader, DropReason::Runt] {
            assert_eq!(scene.dropped(reason), 0, "{reason:?}");
        }
    }

    proptest! {
        /// A short run of the fuzz targets' search.
        #[test]
        fn every_frame_is_accounted_for(bytes in prop::collection::vec(any::<u8>(), 0..2_000)) {
            Scene::new(MemorySource).run(&Traffic::default(), &mut Choices::new(&bytes));
        }
    }
}
