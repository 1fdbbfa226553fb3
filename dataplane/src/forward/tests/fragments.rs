//! Fragments wait for their first fragment, and follow it.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use crate::base::exit::DropReason;
use crate::base::ids::{PortNo, WorkerNo};
use crate::base::packet::{BURST, Burst, PacketIo};
use crate::forward::fragment::{Fragments, Verdict, mesh};
use crate::forward::tests::rig::Rig;
use crate::testing::frame::eth;
use crate::testing::memory::MemoryPacket;
use crate::testing::model::PORT_MAC;
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
                self.other.borrow_mut().pass(WorkerNo::new(0), PortNo::new(0), packet).unwrap();
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
        let Headers { flow, payload: Payload::Fragment(of) } =
            parse::headers(&later, later.len(), PORT_MAC.into(), 0).unwrap()
        else {
            panic!("a fragment")
        };
        let ports = u32::from_be_bytes([4, 210, 0, 53]);
        let first = Fragment { first: true, ..of };
        if own.verdict(&flow.with_ports(ports), first, &rig.current.hasher, 0) != Verdict::Ports(ports) {
            continue;
        }
        for _ in 0..BURST {
            other.borrow_mut().pass(WorkerNo::new(0), PortNo::new(0), later.clone().into()).unwrap();
        }
        let io = Refilling { other, fragment: later, sent: sent.clone() };
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
