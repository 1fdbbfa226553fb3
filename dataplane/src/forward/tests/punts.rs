//! Frames to the slow path, and from it.

use std::net::{Ipv4Addr, Ipv6Addr};

use ctl::Mac;

use crate::base::exit::DropReason;
use crate::base::exit::PuntReason;
use crate::base::ids::PortNo;
use crate::forward::class::Class;
use crate::forward::limits::Limits;
use crate::forward::rings::{Outgoing, punt_rings};
use crate::forward::tests::rig::Rig;
use crate::slow::{arp, ndp};
use crate::testing::frame::{CLIENT_MAC, eth};
use crate::testing::memory::MemoryPacket;
use crate::testing::model::PORT_MAC;

const PING: &[u8] = b"ping";

/// An ARP request of a client for a VIP.
fn asks() -> Vec<u8> {
    arp::request(CLIENT_MAC, [192, 168, 0, 10].into(), [192, 168, 0, 101].into(), None)
}

#[test]
fn frames_that_the_slow_path_does_not_take_are_dropped_and_counted() {
    let mut rig = Rig::example();
    // Each class has a ring of its own, which holds four here.
    rig.receive(vec![eth().ipv4("10.0.0.1", "192.168.0.101").echo(PING); 6]);
    rig.receive(vec![asks(); 5]);
    let port = &rig.counters.ports[0];
    assert_eq!(port.punts[PuntReason::Echo.index()].read(), 4);
    assert_eq!(port.punts[PuntReason::Arp.index()].read(), 4);
    assert_eq!(port.drops[DropReason::PuntFull.index()].read(), 2 + 1);
    let punt = rig.punted.pop(Class::Echo).unwrap();
    assert_eq!((punt.port, punt.reason), (PortNo::new(0), PuntReason::Echo));
}

#[test]
fn pings_above_the_rate_are_dropped_before_the_ring() {
    let mut rig = Rig::example();
    rig.worker.punts = punt_rings(|_| 1_024).0;
    let pings = |rig: &mut Rig| {
        for address in ["192.168.0.101", "192.168.0.2"] {
            rig.receive(vec![eth().ipv4("10.0.0.1", address).echo(PING); 80]);
        }
        let port = &rig.counters.ports[0];
        (port.punts[PuntReason::Echo.index()].read(), port.drops[DropReason::EchoLimited.index()].read())
    };
    assert_eq!(pings(&mut rig), (100, 60));
    rig.receive([asks()]);
    assert_eq!(rig.counters.ports[0].punts[PuntReason::Arp.index()].read(), 1, "other frames are not limited");
    rig.let_time_pass();
    rig.worker.limits = Limits::new(0, 1);
    assert_eq!(pings(&mut rig), (100, 60 + 160), "a rate of 0 answers none");
}

#[test]
fn the_slow_paths_frames_are_sent_as_they_are() {
    let mut rig = Rig::example();
    rig.from_slow_path.push(Outgoing { port: PortNo::new(0), packet: vec![7; 60].into() }).unwrap();
    rig.worker.turn();
    assert_eq!(rig.sent(), [vec![7; 60]]);
    assert_eq!(rig.counters.ports[0].tx_packets.read(), 1);
    assert_eq!(rig.counters.ports[0].forwarded.read(), 0);
}

/// Frames of each class, of as many senders as can be.
fn flood(class: Class, number: u32) -> Vec<u8> {
    let [_, b, c, d] = number.to_be_bytes();
    let (from, ip) = (Mac([2, 9, 9, b, c, d]), Ipv4Addr::new(10, b, c, d));
    let v6 = |last: u32| Ipv6Addr::from_bits(0xfd00 << 112 | u128::from(last));
    let own = || eth().ipv4("10.0.0.1", "192.168.0.2");
    match class {
        Class::Backends => arp::announcement(from, [192, 168, 0, [3, 5, 9][number as usize % 3]].into()),
        Class::Answers => eth().from(from).ipv4("192.168.0.101", "192.168.0.2").tcp(80, 40_000).ack(),
        Class::Arp => arp::request(from, ip, [192, 168, 0, 101].into(), None),
        Class::Ndp => ndp::request(from, v6(number + 0x1_0000), v6(0x101), None),
        Class::Mld => query(),
        Class::OwnAddress => own().udp(1, 161, b"?"),
        Class::Echo => own().echo(PING),
        Class::TooBig => eth().ipv4("10.0.0.1", "192.168.0.101").tcp(1, 80).data(&[0; 2_000]),
    }
}

fn query() -> Vec<u8> {
    let ip = eth().to(Mac([0x33, 0x33, 0, 0, 0, 1])).ipv6("fe80::1", "ff02::1").hop_limit(1);
    ip.extension(0, &[0, 0, 5, 2, 0, 0, 1, 0]).icmp(58, 130, 0, &[0; 20])
}

#[test]
fn a_flood_of_one_class_leaves_the_others_their_rings_and_limits() {
    for flooded in Class::ALL {
        let mut rig = Rig::example();
        (rig.worker.punts, rig.punted) = punt_rings(Class::ring);
        rig.receive((0..20_000).map(|number| flood(flooded, number)));
        let taken = std::iter::from_fn(|| rig.punted.pop(flooded)).count();
        assert!(taken > 0 && taken <= flooded.ring(), "{flooded:?}: {taken}");
        rig.sent();
        for class in Class::ALL.into_iter().filter(|&class| class != flooded) {
            rig.receive((50_000..50_010).map(|number| flood(class, number)));
            let taken = std::iter::from_fn(|| rig.punted.pop(class)).count();
            assert_eq!(taken, 10, "{class:?}, while there is a flood of {flooded:?}");
        }
        assert!(Class::ALL.iter().all(|&class| rig.punted.pop(class).is_none()));
    }
}

#[test]
fn a_flood_of_requests_by_one_station_leaves_the_others_their_answers() {
    let mut rig = Rig::example();
    (rig.worker.punts, rig.punted) = punt_rings(|_| 1 << 16);
    rig.receive(vec![asks(); 20_000]);
    let port = rig.counters.ports[0].punts[PuntReason::Arp.index()].read();
    assert_eq!((port, rig.counters.ports[0].drops[DropReason::ArpLimited.index()].read()), (250, 19_750));
    rig.receive((0..100).map(|number| flood(Class::Arp, number)));
    assert!(rig.counters.ports[0].punts[PuntReason::Arp.index()].read() >= 349);
    // The same with an address of a backend: other backends keep theirs.
    let from = |last| arp::announcement(CLIENT_MAC, [192, 168, 0, last].into());
    rig.receive(vec![from(3); 1_000]);
    rig.receive([from(5)]);
    let of_backends: Vec<Vec<u8>> =
        std::iter::from_fn(|| rig.punted.pop(Class::Backends)).map(|punt| punt.packet.bytes).collect();
    assert_eq!(of_backends.len(), 26);
    assert_eq!(of_backends.last(), Some(&from(5)));
}

#[test]
fn arp_and_neighbor_discovery_between_others_stay_out() {
    let mut rig = Rig::example();
    let v4 = |last| Ipv4Addr::new(192, 168, 0, last);
    let v6 = |last: u16| Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, last);
    let to_us = |mut frame: Vec<u8>| {
        frame[..6].copy_from_slice(&PORT_MAC.0);
        frame
    };
    let (arp_others, ndp_others) =
        (arp::request(CLIENT_MAC, v4(10), v4(1), None), ndp::announcement(CLIENT_MAC, v6(0x10)));
    for (what, frame, class) in [
        ("a request for another", arp_others.clone(), None),
        ("the same to us", to_us(arp_others), None),
        ("an announcement of another", arp::announcement(CLIENT_MAC, v4(10)), None),
        ("an advertisement of another", ndp_others, None),
        ("a solicitation for another", ndp::request(CLIENT_MAC, v6(0x10), v6(1), None), None),
        ("a request for a VIP", arp::request(CLIENT_MAC, v4(10), v4(101), None), Some(Class::Arp)),
        ("a request for us", arp::request(CLIENT_MAC, v4(10), v4(2), None), Some(Class::Arp)),
        ("a probe for a VIP", arp::request(CLIENT_MAC, v4(0), v4(101), None), Some(Class::Arp)),
        ("another claims a VIP", arp::announcement(CLIENT_MAC, v4(101)), Some(Class::Arp)),
        ("a backend's request", arp::request(CLIENT_MAC, v4(3), v4(1), None), Some(Class::Backends)),
        ("a backend's announcement", arp::announcement(CLIENT_MAC, v4(5)), Some(Class::Backends)),
        ("a solicitation for a VIP", ndp::request(CLIENT_MAC, v6(0x10), v6(0x101), None), Some(Class::Ndp)),
        ("another claims a VIP over IPv6", ndp::announcement(CLIENT_MAC, v6(0x101)), Some(Class::Ndp)),
        ("a backend's advertisement", ndp::announcement(CLIENT_MAC, v6(3)), Some(Class::Backends)),
        ("a backend's solicitation", ndp::request(CLIENT_MAC, v6(5), v6(0x101), None), Some(Class::Backends)),
    ] {
        let others = |rig: &Rig| rig.counters.ports[0].drops[DropReason::ResolutionOfOthers.index()].read();
        let before = others(&rig);
        rig.receive([frame]);
        let taken = Class::ALL.into_iter().find(|&class| rig.punted.pop(class).is_some());
        assert_eq!((taken, others(&rig) - before), (class, u64::from(class.is_none())), "{what}");
    }
}

#[test]
fn a_backend_behind_a_tag_is_told_from_others() {
    let mut rig = crate::forward::tests::rig::with_vlans();
    let announcement = arp::announcement(CLIENT_MAC, [10, 1, 0, 4].into());
    let tagged = eth().to(Mac([0xff; 6])).tag(0x8100, 100).payload(0x0806, &announcement[14..]);
    for (stripped, frame) in [([None; 2], tagged), ([None, Some(100)], announcement)] {
        rig.wire.0.borrow_mut().rx.push_back(MemoryPacket { stripped, ..frame.into() });
        rig.worker.turn();
        assert!(rig.punted.pop(Class::Backends).is_some(), "{stripped:?}");
    }
}
