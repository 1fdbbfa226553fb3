//! Floods: while one class of frames for the slow path is flooded, the others keep their answers, and no backend looks dead.
//!
//! A worker and the slow path on lists, and time that the test makes. The slow path's core is slow: it has one turn in ten milliseconds.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ctl::Mac;
use ctl::answer::NeighborState;
use dataplane::base::clock::Clock;
use dataplane::base::exit::DropReason;
use dataplane::base::ids::{PortNo, WorkerNo};
use dataplane::control::director::Director;
use dataplane::count::counters::WorkerCounters;
use dataplane::count::lease::Leases;
use dataplane::forward::class::Class;
use dataplane::forward::exceptions::{Exceptions, Room};
use dataplane::forward::fragment::Fragments;
use dataplane::forward::limits::Limits;
use dataplane::forward::port::WorkerPort;
use dataplane::forward::rings::{Rings, punt_rings};
use dataplane::forward::worker::{Memory, Worker};
use dataplane::health::Engine;
use dataplane::slow::neighbor::Neighbors;
use dataplane::slow::report::Reporter;
use dataplane::slow::{PortControl, SlowPath, arp, ndp};
use dataplane::testing::frame::{CLIENT_MAC, eth};
use dataplane::testing::memory::{MemoryIo, MemorySource};
use dataplane::testing::model::{PORT, PORT_MAC, backend_mac, model, service};

/// The time between two turns of the slow path.
const STEP: u64 = 10;
/// The frames of a flood in that time: 20,000 in a second.
const FLOOD: u32 = 200;
/// How long a flood lasts, in seconds.
const SHORT: u64 = 4;
/// The same, so that each backend is probed again meanwhile, and given up if its answers are lost.
const LONG: u64 = 28;

const BACKENDS: [&str; 4] = ["192.168.0.3", "192.168.0.4", "fd00::3", "fd00::4"];
const VIP: Ipv4Addr = Ipv4Addr::new(192, 168, 0, 101);
const VIP6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0x101);

struct Up;

impl PortControl for Up {
    fn listen(&mut self, _port: PortNo, _groups: &[Mac]) {}

    fn missed(&self, _: PortNo) -> u64 {
        0
    }
}

/// A director with two backends of each family, which answer, and a client that asks for the VIPs.
struct World {
    worker: Worker<MemoryIo>,
    slow: SlowPath<MemorySource>,
    wire: MemoryIo,
    counters: Arc<WorkerCounters>,
    neighbors: Arc<Mutex<Neighbors>>,
    begin: Instant,
    ms: u64,
    /// The frames that backends and the client send next.
    next: Vec<Vec<u8>>,
    /// By what the client has asked for, when.
    asked: BTreeMap<IpAddr, u64>,
    /// How long the answers took, in ms.
    waited: Vec<u64>,
}

impl World {
    fn new() -> World {
        let counters = Arc::new(WorkerCounters::with_room(1, 64, 64));
        let leases = Leases::new(vec![counters.clone()]);
        let mut model = model();
        let [a, b, c, d] = BACKENDS;
        model.add_service(&service("192.168.0.101:80", &[(a, 1), (b, 1)]), &leases).unwrap();
        model.add_service(&service("[fd00::101]:80", &[(c, 1), (d, 1)]), &leases).unwrap();
        let director = Arc::new(Director::new(model, leases, vec![counters.clone()], vec![PORT]));
        let wire = MemoryIo::default();
        let (punts, punted) = punt_rings(Class::ring);
        let ((to_worker, outgoing), samples) = (rtrb::RingBuffer::new(4_096), rtrb::RingBuffer::new(64).0);
        let memory = Memory {
            fragments: Fragments::alone(),
            exceptions: Exceptions::new(Room { v4: 64, v6: 64 }, WorkerNo::new(0)),
            limits: Limits::new(1_000, 1),
        };
        let rings = Rings { punts, outgoing, samples };
        let ports = vec![WorkerPort::new(wire.clone())];
        let clock = Clock::stopped_at(0);
        let worker = Worker::new(ports, director.reader(), counters.clone(), rings, memory, clock);
        let neighbors: Arc<Mutex<Neighbors>> = Arc::default();
        let reporter = Reporter::new(Arc::default(), vec![]);
        let health = Arc::new(Mutex::new(Engine::new(Instant::now(), 1)));
        let shared = (neighbors.clone(), health);
        let slow = SlowPath::new(director, shared, MemorySource, vec![punted], to_worker, Box::new(Up), reporter);
        World {
            worker,
            slow,
            wire,
            counters,
            neighbors,
            begin: Instant::now(),
            ms: 0,
            next: Vec::new(),
            asked: BTreeMap::new(),
            waited: Vec::new(),
        }
    }

    /// Some milliseconds, in which these frames of a flood arrive, and what the others have to say in their midst.
    fn step(&mut self, flood: &[Vec<u8>]) {
        self.ms += STEP;
        self.worker.set_clock(Clock::stopped_at(self.ms));
        let (before, behind) = flood.split_at(flood.len() / 2);
        let said = std::mem::take(&mut self.next);
        let all = before.iter().chain(&said).chain(behind).map(|frame| frame.clone().into());
        self.wire.0.borrow_mut().rx.extend(all);
        while !self.wire.0.borrow().rx.is_empty() {
            self.worker.turn();
        }
        self.slow.turn(self.begin + Duration::from_millis(self.ms));
        // The worker is fast: it sends what the slow path has given it.
        (0..32).for_each(|_| self.worker.turn());
        let sent: Vec<Vec<u8>> = self.wire.0.borrow_mut().tx.drain(..).map(|packet| packet.bytes).collect();
        sent.iter().for_each(|frame| self.hear(frame));
    }

    /// What the hosts do when they receive a frame of the director.
    fn hear(&mut self, frame: &[u8]) {
        let to_client = frame[..6] == CLIENT_MAC.0;
        match frame[12..14] {
            [8, 6] => {
                let address = |offset: usize| Ipv4Addr::from(<[u8; 4]>::try_from(&frame[offset..offset + 4]).unwrap());
                let (sender, target) = (address(28), address(38));
                if frame[21] == 1 && sender != target {
                    self.answer_probe(target.into(), frame);
                } else if to_client && frame[21] == 2 {
                    self.answered(sender.into());
                }
            }
            [0x86, 0xdd] if frame[20] == 58 => {
                let target = Ipv6Addr::from(<[u8; 16]>::try_from(&frame[62..78]).unwrap());
                match frame[54] {
                    135 => self.answer_probe(target.into(), frame),
                    136 if to_client => self.answered(target.into()),
                    _ => {}
                }
            }
            _ => {}
        }
    }

    fn answer_probe(&mut self, target: IpAddr, probe: &[u8]) {
        // Whether anybody else has an address of ours: nobody answers.
        if [VIP.to_string().as_str(), &VIP6.to_string(), "192.168.0.2", "fd00::2"].contains(&&*target.to_string()) {
            return;
        }
        assert!(BACKENDS.contains(&target.to_string().as_str()), "{target} is probed: {probe:02x?}");
        let mac = backend_mac(target);
        self.next.push(match target {
            IpAddr::V4(address) => {
                let mut reply = arp::request(mac, address, [192, 168, 0, 2].into(), Some(PORT_MAC));
                reply[21] = 2;
                reply
            }
            IpAddr::V6(address) => {
                let body = [&[0x60, 0, 0, 0][..], &address.octets(), &[2, 1], &mac.0].concat();
                eth().from(mac).ipv6(&address.to_string(), "fd00::2").hop_limit(255).icmp(58, 136, 0, &body)
            }
        });
    }

    fn answered(&mut self, address: IpAddr) {
        if let Some(since) = self.asked.remove(&address) {
            self.waited.push(self.ms - since);
        }
    }

    /// The client asks for both VIPs, unless it waits for an answer.
    fn ask(&mut self) {
        for (vip, request) in [
            (IpAddr::V4(VIP), arp::request(CLIENT_MAC, [192, 168, 0, 10].into(), VIP, None)),
            (IpAddr::V6(VIP6), ndp::request(CLIENT_MAC, "fd00::10".parse().unwrap(), VIP6, None)),
        ] {
            self.asked.entry(vip).or_insert_with(|| {
                self.next.push(request);
                self.ms + STEP
            });
        }
    }

    fn states(&self) -> Vec<NeighborState> {
        self.neighbors.lock().unwrap().iter().map(|(_, neighbor)| neighbor.state).collect()
    }

    fn dropped(&self, reason: DropReason) -> u64 {
        self.counters.ports[0].drops[DropReason::ALL.iter().position(|&other| other == reason).unwrap()].read()
    }
}

/// A frame of a flood, by its number.
type Flood = fn(u32) -> Vec<u8>;

fn stranger(number: u32) -> (Mac, Ipv4Addr, Ipv6Addr) {
    let [a, b, c, d] = number.to_be_bytes();
    (
        Mac([2, 9, a, b, c, d]),
        Ipv4Addr::new(192, 168, 1, d),
        Ipv6Addr::from_bits(0xfd00 << 112 | 0x1_0000 | u128::from(number)),
    )
}

fn arp_of_one(_: u32) -> Vec<u8> {
    arp::request(Mac([2, 9, 9, 9, 9, 9]), [192, 168, 0, 66].into(), VIP, None)
}

fn arp_of_many(number: u32) -> Vec<u8> {
    let (mac, address, _) = stranger(number);
    arp::request(mac, address, VIP, None)
}

fn arp_of_others(number: u32) -> Vec<u8> {
    let (mac, address, _) = stranger(number);
    arp::request(mac, address, [192, 168, 0, 1].into(), None)
}

fn forged_answers(number: u32) -> Vec<u8> {
    // In the name of a backend, but from a station that is not there.
    let mut reply = arp::request(stranger(number).0, [192, 168, 0, 4].into(), [192, 168, 0, 2].into(), Some(PORT_MAC));
    reply[21] = 2;
    reply
}

fn ndp_of_one(_: u32) -> Vec<u8> {
    ndp::request(Mac([2, 9, 9, 9, 9, 9]), "fd00::66".parse().unwrap(), VIP6, None)
}

fn ndp_of_many(number: u32) -> Vec<u8> {
    let (mac, _, address) = stranger(number);
    ndp::request(mac, address, VIP6, None)
}

fn ndp_from_afar(number: u32) -> Vec<u8> {
    let body = [&[0; 4][..], &VIP6.octets()].concat();
    eth().ipv6(&stranger(number).2.to_string(), "fd00::101").hop_limit(64).icmp(58, 135, 0, &body)
}

fn ndp_in_ipv4(_: u32) -> Vec<u8> {
    eth().ipv4("10.0.0.1", "192.168.0.101").icmp(58, 135, 0, &[0; 20])
}

fn queries(_: u32) -> Vec<u8> {
    let ip = eth().to(Mac([0x33, 0x33, 0, 0, 0, 1])).ipv6("fe80::1", "ff02::1").hop_limit(1);
    ip.extension(0, &[0, 0, 5, 2, 0, 0, 1, 0]).icmp(58, 130, 0, &[&[0; 20][..], &[2, 125, 0, 0]].concat())
}

fn pings(_: u32) -> Vec<u8> {
    eth().ipv4("10.0.0.1", "192.168.0.101").echo(b"ping")
}

fn to_us(number: u32) -> Vec<u8> {
    eth().ipv4(&Ipv4Addr::from(0x0a00_0000 | number).to_string(), "192.168.0.2").udp(1, 161, b"?")
}

fn too_big(_: u32) -> Vec<u8> {
    eth().ipv4("10.0.0.1", "192.168.0.101").tcp(1, 80).data(&[7; 1_460 + 100])
}

fn errors(_: u32) -> Vec<u8> {
    let quoted = eth().ipv4("192.168.0.101", "10.0.0.1").tcp(80, 1).ack();
    eth().ipv4("172.16.0.1", "192.168.0.101").icmp(1, 3, 1, &[&[0; 4], &quoted[14..]].concat())
}

/// Lets a flood last so many seconds, while the client asks ten times a second. Returns how long the answers took, sorted.
fn waited_during(flood: Option<Flood>, seconds: u64) -> (Vec<u64>, World) {
    let mut world = World::new();
    (0..100).for_each(|_| world.step(&[]));
    assert_eq!(world.states(), [NeighborState::Reachable; 4]);
    for step in 0..seconds * 1_000 / STEP {
        if step % 10 == 0 {
            world.ask();
        }
        let number = u32::try_from(step).unwrap() * FLOOD;
        let frames: Vec<Vec<u8>> = flood.map_or(vec![], |flood| (number..number + FLOOD).map(flood).collect());
        world.step(&frames);
        assert!(!world.states().contains(&NeighborState::Failed), "a backend looks dead after {} ms", world.ms);
    }
    world.waited.sort_unstable();
    (world.waited.clone(), world)
}

#[test]
fn arp_and_neighbor_discovery_are_answered_at_once_whatever_is_flooded() {
    let (quiet, _) = waited_during(None, SHORT);
    assert!(quiet.len() >= 80 && quiet.iter().all(|&ms| ms == 0), "{quiet:?}");
    let floods: [(&str, Flood, Option<DropReason>); 11] = [
        ("ARP of one station", arp_of_one, Some(DropReason::ArpLimited)),
        ("ARP between others", arp_of_others, Some(DropReason::ResolutionOfOthers)),
        ("neighbor discovery of one station", ndp_of_one, Some(DropReason::NdpLimited)),
        ("neighbor discovery from afar", ndp_from_afar, Some(DropReason::NdpInvalid)),
        ("neighbor discovery in IPv4", ndp_in_ipv4, Some(DropReason::NoService)),
        ("queries for listeners", queries, Some(DropReason::MldLimited)),
        ("pings", pings, Some(DropReason::EchoLimited)),
        ("packets to the director", to_us, Some(DropReason::OwnAddressLimited)),
        ("packets that are too big", too_big, Some(DropReason::TooBigUnanswered)),
        ("ICMP errors", errors, None),
        ("answers forged in the name of a backend", forged_answers, Some(DropReason::ArpLimited)),
    ];
    for (what, flood, lost) in floods {
        let (waited, world) = waited_during(Some(flood), SHORT);
        // What a station may send at once takes the slow path a few turns.
        let at_once = waited.iter().filter(|&&ms| ms == 0).count();
        assert!(waited.len() == quiet.len() && waited.last() <= Some(&60), "{what}: {waited:?}");
        assert!(at_once + 4 >= quiet.len(), "{what}: {waited:?}");
        if let Some(reason) = lost {
            assert!(world.dropped(reason) > 1_000, "{what}: {}", world.dropped(reason));
        }
    }
}

/// Stations that change their MAC addresses use up the class. The other protocol is answered at once, and no backend looks dead.
#[test]
fn many_stations_that_flood_slow_down_their_own_class_alone() {
    for (what, flood) in [("ARP", arp_of_many as Flood), ("neighbor discovery", ndp_of_many)] {
        let (waited, world) = waited_during(Some(flood), LONG);
        let at_once = waited.iter().filter(|&&ms| ms == 0).count();
        assert!(at_once >= 280, "{what}: {at_once} of {waited:?}");
        assert!(world.dropped(DropReason::ArpLimited) + world.dropped(DropReason::NdpLimited) > 10_000, "{what}");
    }
}
