//! Which counter counts which frame.

use ctl::Mac;

use crate::base::exit::{DropReason, Exit, PuntReason};
use crate::base::ids::PortNo;
use crate::forward::class::Class;
use crate::forward::rings::Outgoing;
use crate::forward::sample::{Sample, Sign};
use crate::forward::tests::rig::{Rig, publish};
use crate::state::networks::PortLink;
use crate::testing::frame::eth;
use crate::testing::memory::MemoryPacket;
use crate::testing::model::{PORT, backend_mac};

#[test]
fn a_wrong_checksum_that_the_nic_found_is_dropped() {
    let mut rig = Rig::example();
    let bytes = eth().ipv4("10.0.0.1", "192.168.0.101").tcp(1, 80).syn();
    rig.wire.0.borrow_mut().rx.push_back(MemoryPacket { bad_ip_checksum: true, ..bytes.into() });
    rig.worker.turn();
    assert_eq!(rig.counters.ports[0].drops[DropReason::BadIpChecksum.index()].read(), 1);
}

#[test]
fn frames_without_room_in_the_queue_are_freed_and_counted() {
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
fn traffic_is_counted_by_service_and_backend() {
    let mut rig = Rig::example();
    let frame = eth().ipv4("10.0.0.1", "192.168.0.101").tcp(1, 80).syn();
    let bytes = frame.len() as u64;
    rig.receive(vec![frame; 40]);
    let snapshot = rig.current.clone();
    let service = &snapshot.model.services[&"192.168.0.101:80".parse().unwrap()];
    let counted = &rig.counters.targets[service.backends[0].target.number().index()];
    assert_eq!((counted.packets.read(), counted.bytes.read()), (40, 40 * bytes));
    assert_eq!(rig.counters.ports[0].rx_packets.read(), 40);
    assert_eq!(rig.counters.busy_turns.read(), 2);
}

#[test]
fn dropped_frames_of_a_service_are_counted_there_too() {
    let mut rig = Rig::example();
    let to =
        |port| eth().from(backend_mac("192.168.0.3".parse().unwrap())).ipv4("10.0.0.1", "192.168.0.101").tcp(1, port);
    rig.receive([to(80).syn(), to(81).syn(), to(81).syn(), to(82).syn(), to(8080).syn()]);
    let snapshot = rig.current.clone();
    let drops = |id: &str, reason: DropReason| {
        let number = snapshot.model.services[&id.parse().unwrap()].counter.number();
        let drops = &rig.counters.services[number.index()].drops;
        let others: u64 = DropReason::ALL.iter().filter(|&&r| r != reason).map(|r| drops[r.index()].read()).sum();
        (drops[reason.index()].read(), others)
    };
    assert_eq!(drops("192.168.0.101:80", DropReason::Loop), (1, 0));
    assert_eq!(drops("192.168.0.101:81", DropReason::NoBackend), (2, 0));
    assert_eq!(drops("192.168.0.101:82", DropReason::BackendMacUnknown), (1, 0));
    assert_eq!(rig.counters.ports[0].dropped(), 5, "the port counts them all, and the frame without a service");
}

#[test]
fn a_few_frames_that_point_to_a_mistake_are_sampled() {
    let mut rig = Rig::example();
    let backend = backend_mac("192.168.0.3".parse().unwrap());
    let from = || eth().from(backend);
    rig.receive([
        from().ipv4("10.0.0.1", "192.168.0.101").tcp(1, 80).syn(),
        from().ipv6("fd00::101", "2001:db8::1").tcp(80, 1).ack(),
        from().ipv4("10.0.0.1", "192.168.0.101").tcp(1, 81).syn(),
    ]);
    let mut shown = || -> Vec<Sample> { std::iter::from_fn(|| rig.samples.pop().ok()).collect() };
    let sample = |sign, source: &str, destination: &str| {
        let (source, destination) = (source.parse().unwrap(), destination.parse().unwrap());
        Sample { sign, port: PortNo::new(0), from: backend, source, destination }
    };
    let expected =
        [sample(Sign::Loop, "10.0.0.1", "192.168.0.101"), sample(Sign::ReturnViaDirector, "fd00::101", "2001:db8::1")];
    assert_eq!(shown(), expected, "no sample for a service without a backend: no station has caused that");
    rig.receive(vec![from().ipv4("10.0.0.1", "192.168.0.101").tcp(1, 80).syn(); 100]);
    assert_eq!(rig.counters.ports[0].drops[DropReason::Loop.index()].read(), 101, "all are counted");
    assert_eq!(std::iter::from_fn(|| rig.samples.pop().ok()).count(), 4, "as many as there is room for");
}

#[test]
fn while_a_link_is_down_nothing_is_given_to_the_device() {
    let mut rig = Rig::example();
    let plain = eth().ipv4("10.0.0.1", "192.168.0.101").tcp(1, 80).syn();
    let frames = || [plain.clone(), eth().ipv6("2001:db8::1", "fd00::101").tcp(1, 80).syn(), with_options()];
    publish(&mut rig, 2, PortLink { up: false, ..PORT });
    rig.receive(frames());
    let own = || Outgoing { port: PortNo::new(0), packet: plain.clone().into() };
    rig.from_slow_path.push(own()).unwrap();
    rig.worker.turn();
    assert!(rig.sent().is_empty());
    let port = &rig.counters.ports[0];
    assert_eq!((port.forwarded.read(), port.tx_packets.read(), port.tx_bytes.read()), (0, 0, 0));
    assert_eq!((port.drops[DropReason::LinkDown.index()].read(), port.dropped()), (4, 4), "the slow path's frame, too");
    let of_services: u64 =
        rig.counters.services.iter().map(|service| service.drops[DropReason::LinkDown.index()].read()).sum();
    let of_backends: u64 = rig.counters.targets.iter().map(|target| target.packets.read()).sum();
    assert_eq!((of_services, of_backends), (3, 0), "a service has lost them, and no backend has got them");
    // Nothing is left over from that time.
    publish(&mut rig, 3, PortLink { joins: 1, ..PORT });
    rig.receive(frames());
    rig.from_slow_path.push(own()).unwrap();
    rig.worker.turn();
    assert_eq!((rig.sent().len(), rig.counters.ports[0].forwarded.read()), (4, 3));
}

fn with_options() -> Vec<u8> {
    eth().ipv4("10.0.0.1", "192.168.0.101").options(&[1, 1, 1, 1]).tcp(1, 80).ack()
}

#[test]
fn another_mac_address_of_the_port_is_in_force_with_the_next_snapshot() {
    let mut rig = Rig::example();
    let other = Mac([2, 0, 0, 0, 9, 9]);
    let frame = |to: Mac| eth().to(to).ipv4("10.0.0.1", "192.168.0.101").tcp(1, 80).syn();
    assert_eq!(rig.fate(&frame(other)), Err(Exit::Drop(DropReason::NotOurMac)));
    publish(&mut rig, 2, PortLink { mac: other, ..PORT });
    assert_eq!(rig.fate(&frame(PORT.mac)), Err(Exit::Drop(DropReason::NotOurMac)));
    let sent = rig.fate(&frame(other)).unwrap();
    assert_eq!(sent[6..12], other.0, "and it is the source of what is sent");
}

#[test]
fn another_mtu_of_the_port_is_in_force_with_the_next_snapshot() {
    let mut rig = Rig::example();
    let frame = eth().ipv4("10.0.0.1", "192.168.0.101").dont_fragment().tcp(1, 80).data(&[0; 1_400]);
    assert!(rig.fate(&frame).is_ok());
    publish(&mut rig, 2, PortLink { mtu: 1_400, ..PORT });
    assert_eq!(rig.fate(&frame), Err(Exit::Punt(PuntReason::TooBig)));
    assert_eq!(rig.punted.pop(Class::TooBig).unwrap().mtu, 1_400);
}
