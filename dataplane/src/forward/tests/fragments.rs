//! Fragments wait for their first fragment, and follow it.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use crate::base::exit::DropReason;
use crate::base::ids::{PortNo, WorkerNo};
use crate::base::packet::{BURST, Burst, PacketIo};
use crate::forward::fragment::{Fragments, Verdict, mesh};
use crate::forward::tests::rig::Rig;
use crate::testing::frame::{Ip, eth};
use crate::testing::memory::MemoryPacket;
use crate::testing::model::PORT_MAC;
use crate::wire::flow::FlowHasher;
use crate::wire::headers::{Fragment, Headers, Payload};
use crate::wire::parse;

#[test]
fn fragments_follow_their_first_in_whatever_order_they_arrive() {
    let mut rig = Rig::example();
    let v4 = || eth().ipv4("10.0.0.1", "192.168.0.101");
    let first = v4().fragment(0x2000).udp(1234, 53, &[1; 64]);
    let later: Vec<Vec<u8>> = (1..9).map(|index| v4().fragment(0x2000 + index * 9).protocol(17, &[2; 72])).collect();
    let expected = |frame: &Vec<u8>| [&[2, 0, 0, 0, 0, 5][..], &PORT_MAC.0, &frame[12..]].concat();
    rig.receive(later.iter().take(4).cloned());
    assert!(rig.sent().is_empty());
    // The first fragment, with fragments before and behind it in the same burst.
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
fn a_fragment_without_its_first_is_dropped_in_the_end() {
    let mut rig = Rig::example();
    rig.receive([eth().ipv4("10.0.0.1", "192.168.0.101").fragment(9).protocol(17, &[0; 64])]);
    assert!(rig.reasons().iter().all(|(_, count)| *count == 0), "it is held");
    rig.let_time_pass();
    assert_eq!(rig.counters.ports[0].drops[DropReason::FragmentOrphan.index()].read(), 1);
}

/// A port that gives the worker's ring a fragment of another worker for each frame that is sent: the ring is refilled as
/// fast as it is emptied.
struct Refilling {
    other: Rc<RefCell<Fragments<MemoryPacket>>>,
    fragment: Vec<u8>,
    headers: Headers,
    hasher: FlowHasher,
    sent: Rc<Cell<usize>>,
}

impl PacketIo for Refilling {
    type Packet = MemoryPacket;

    fn rx_burst(&mut self, _: &mut Burst<MemoryPacket>) {}

    fn tx_burst(&mut self, burst: &mut Burst<MemoryPacket>) {
        for _ in burst.drain(..) {
            self.sent.set(self.sent.get() + 1);
            if self.sent.get() < 100_000 {
                let packet = self.fragment.clone().into();
                let mut other = self.other.borrow_mut();
                other.pass(WorkerNo::new(0), &self.headers, PortNo::new(0), packet, &self.hasher).unwrap();
            }
        }
    }
}

#[test]
fn a_ring_that_is_refilled_at_once_does_not_hold_up_the_turn() {
    let v4 = || eth().ipv4("10.0.0.1", "192.168.0.101");
    // The identification decides the owner: of some packet, that is the first worker.
    for identification in 0..64 {
        let mut rings = mesh(2).into_iter();
        let mut fragments = |worker| Fragments::new(WorkerNo::new(worker), rings.next().unwrap());
        let (mut own, other) = (fragments(0), Rc::new(RefCell::new(fragments(1))));
        let later = v4().identification(identification).fragment(0x2000 + 9).protocol(17, &[2; 72]);
        let (rig, sent) = (Rig::example(), Rc::new(Cell::new(0)));
        let (headers, hasher) = (parse::headers(&later, later.len(), PORT_MAC.into(), 0).unwrap(), rig.current.hasher);
        let Headers { flow, payload: Payload::Fragment(of), .. } = headers else { panic!("a fragment") };
        let ports = u32::from_be_bytes([4, 210, 0, 53]);
        let first = Fragment { first: true, ..of };
        let flow = flow.with_ports(ports);
        if own.verdict(&flow, first, &hasher, 0) != Verdict::Of(flow.transport()) {
            continue;
        }
        for _ in 0..BURST {
            let packet = later.clone().into();
            other.borrow_mut().pass(WorkerNo::new(0), &headers, PortNo::new(0), packet, &hasher).unwrap();
        }
        let io = Refilling { other, fragment: later, headers, hasher, sent: sent.clone() };
        let mut worker = rig.with_io(io, own);
        for turn in 1..=3 {
            let before = sent.get();
            worker.turn();
            let in_turn = sent.get() - before;
            assert!((BURST..=8 * BURST).contains(&in_turn), "{in_turn} frames in turn {turn}");
        }
        return;
    }
    panic!("no packet is the first worker's");
}

/// Fragments of datagrams to the VIP's UDP service, or of segments to the IPv6 VIP's TCP service.
#[derive(Clone, Copy)]
enum Family {
    V4,
    V6,
}

impl Family {
    /// A source by its number, each with a /64 of its own.
    fn packet(self, source: u32) -> Ip {
        let [a, b, c, d] = source.to_be_bytes();
        match self {
            Family::V4 => eth().ipv4(&format!("10.{b}.{c}.{d}"), "192.168.0.101"),
            Family::V6 => eth().ipv6(&format!("2001:db8:{a:x}{b:02x}:{c:x}{d:02x}::1"), "fd00::101"),
        }
    }

    fn part(self, source: u32, id: u16, offset: u16, more: bool) -> Ip {
        match self {
            Family::V4 => self.packet(source).identification(id).fragment(offset | if more { 0x2000 } else { 0 }),
            Family::V6 => self.packet(source).extension(44, &v6_fragment(id.into(), offset, more)),
        }
    }

    fn first(self, source: u32, id: u16) -> Vec<u8> {
        match self {
            Family::V4 => self.part(source, id, 0, true).udp(1234, 53, &[1; 64]),
            Family::V6 => self.part(source, id, 0, true).tcp(1234, 80).data(&[1; 64]),
        }
    }

    fn later(self, source: u32, id: u16, index: u16) -> Vec<u8> {
        let protocol = if matches!(self, Family::V4) { 17 } else { 6 };
        self.part(source, id, 11 + index * 9, true).protocol(protocol, &[2; 72])
    }
}

fn v6_fragment(id: u32, offset: u16, more: bool) -> Vec<u8> {
    [&[0, 0][..], &(offset << 3 | u16::from(more)).to_be_bytes(), &id.to_be_bytes()].concat()
}

const HONEST: u32 = 0x0a_0001;

fn stranger(number: u32) -> u32 {
    0x20_0000 + number
}

/// The honest sender's fragments that are sent, of five that come before their first, when so many strangers send
/// `between` fragments each kind of which is `flood`. All that is lost has its reason.
fn honest_fragments_sent(family: Family, strangers: u32, between: u32, flood: impl Fn(u32, u16) -> Vec<u8>) -> usize {
    let mut rig = Rig::example();
    let mut id = 0;
    let mut flood = |rig: &mut Rig, frames: u32| {
        for frame in 0..frames {
            id += 1;
            rig.receive([flood(stranger(frame % strangers), id)]);
        }
    };
    flood(&mut rig, 2_000);
    rig.sent();
    rig.receive((0..5).map(|index| family.later(HONEST, 7, index)));
    flood(&mut rig, between);
    rig.sent();
    rig.receive([family.first(HONEST, 7)]);
    let sent = rig.sent().len();
    // A turn gives up some of the held frames only.
    (0..8).for_each(|_| rig.let_time_pass());
    let port = &rig.counters.ports[0];
    let explained = [DropReason::FragmentHoldFull, DropReason::FragmentOrphan];
    let lost: u64 = explained.iter().map(|reason| port.drops[reason.index()].read()).sum();
    assert_eq!(port.dropped(), lost);
    assert_eq!(port.rx_packets.read(), port.forwarded.read() + lost);
    sent
}

#[test]
fn a_flood_of_fragments_from_eight_pairs_costs_another_sender_none_of_its_own() {
    for family in [Family::V4, Family::V6] {
        for flood in [Family::V4, Family::V6] {
            assert_eq!(honest_fragments_sent(family, 8, 5_000, |source, id| flood.later(source, id, 0)), 6);
        }
    }
}

/// In such a flood, nobody has more than anybody else. The newest fragments stay, so that those of a packet that come
/// within 200 other frames are together again.
#[test]
fn in_a_flood_of_fragments_from_a_thousand_pairs_the_newest_fragments_go_on() {
    for family in [Family::V4, Family::V6] {
        let sent = |between| honest_fragments_sent(family, 1_000, between, |source, id| family.later(source, id, 0));
        assert_eq!(sent(200), 6);
        assert_eq!(sent(2_000), 1, "the others have given way");
    }
}

#[test]
fn a_flood_of_first_fragments_leaves_the_packets_of_others_their_entries() {
    for family in [Family::V4, Family::V6] {
        for strangers in [8, 1_000] {
            let mut rig = Rig::example();
            let honest = (0..50).map(|number| HONEST + number);
            rig.receive(honest.clone().map(|source| family.first(source, 7)));
            (0..3_000).for_each(|id| {
                rig.receive([family.first(stranger(u32::from(id) % strangers), id)]);
                rig.sent();
            });
            rig.receive(honest.map(|source| family.later(source, 7, 0)));
            assert_eq!(rig.sent().len(), 50, "{strangers} strangers");
        }
    }
}

/// Chains of extension headers behind the fragment header (RFC 8200 §4.1 recommends an order, and has receivers take
/// any).
#[test]
fn later_fragments_follow_a_first_one_with_extension_headers_behind_the_fragment_header() {
    let header = |number: u8| match number {
        51 => (51, vec![0, 4].into_iter().chain([0; 22]).collect::<Vec<u8>>()),
        number => (number, vec![0; 8]),
    };
    let chains: [&[u8]; 9] = [&[60], &[43], &[51], &[0], &[43, 51], &[51, 60], &[60, 43, 51, 60], &[44, 60], &[60, 44]];
    for before in [&[][..], &[0], &[0, 60, 43], &[51]] {
        for behind in chains {
            let part = |offset, more| {
                let ip = eth().ipv6("2001:db8::1", "fd00::101");
                let ip = before.iter().map(|&number| header(number)).fold(ip, |ip, (n, bytes)| ip.extension(n, &bytes));
                ip.extension(44, &v6_fragment(9, offset, more))
            };
            let first = behind
                .iter()
                .map(|&number| header(number))
                .fold(part(0, true), |ip, (number, bytes)| ip.extension(number, &bytes))
                .tcp(1234, 80)
                .data(&[1; 64]);
            // It names what the fragment header of the first one names.
            let later = [part(20, true).protocol(behind[0], &[2; 64]), part(28, false).protocol(behind[0], &[3; 5])];
            let mut rig = Rig::example();
            rig.receive([&later[..1], std::slice::from_ref(&first), &later[1..]].concat());
            let mut sent = rig.sent();
            let expected = |frame: &Vec<u8>| [&[2, 0, 0, 0, 0, 3][..], &PORT_MAC.0, &frame[12..]].concat();
            let mut all: Vec<Vec<u8>> = later.iter().chain([&first]).map(expected).collect();
            sent.sort();
            all.sort();
            assert_eq!(sent, all, "{before:?}, fragment, {behind:?}");
            assert!(rig.reasons().iter().all(|(_, count)| *count == 0), "{before:?}, fragment, {behind:?}");
        }
    }
}
