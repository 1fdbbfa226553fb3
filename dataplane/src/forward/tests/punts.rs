//! Frames to the slow path, and from it.

use crate::base::exit::DropReason;
use crate::base::exit::PuntReason;
use crate::base::ids::PortNo;
use crate::base::token_bucket::TokenBucket;
use crate::forward::rings::Outgoing;
use crate::forward::tests::rig::Rig;
use crate::slow::arp;
use crate::testing::frame::{CLIENT_MAC, eth};

const PING: &[u8] = b"ping";

/// An ARP request of a client for a VIP.
fn asks() -> Vec<u8> {
    arp::request(CLIENT_MAC, [192, 168, 0, 10].into(), [192, 168, 0, 101].into(), None)
}

#[test]
fn frames_that_the_slow_path_does_not_take_are_dropped_and_counted() {
    let mut rig = Rig::example();
    rig.receive(vec![eth().ipv4("10.0.0.1", "192.168.0.101").echo(PING); 6]);
    // Pings get half of the ring's four entries; ARP gets the others.
    rig.receive(vec![asks(); 3]);
    let port = &rig.counters.ports[0];
    assert_eq!(port.punts[PuntReason::Echo.index()].read(), 2);
    assert_eq!(port.punts[PuntReason::Arp.index()].read(), 2);
    assert_eq!(port.drops[DropReason::PuntFull.index()].read(), 4 + 1);
    assert_eq!(rig.punted.pop().map(|punt| (punt.port, punt.reason)).unwrap(), (PortNo::new(0), PuntReason::Echo));
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
    rig.receive([asks()]);
    assert_eq!(rig.counters.ports[0].punts[PuntReason::Arp.index()].read(), 1, "other frames are not limited");
    rig.let_time_pass();
    rig.worker.echo = TokenBucket::new(0, 1);
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
