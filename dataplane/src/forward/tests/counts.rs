//! Which counter counts which frame.

use crate::base::exit::DropReason;
use crate::base::ids::PortNo;
use crate::forward::sample::Sample;
use crate::forward::tests::rig::Rig;
use crate::testing::frame::eth;
use crate::testing::memory::MemoryPacket;
use crate::testing::model::backend_mac;

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
    let sample = |reason, source: &str, destination: &str| {
        let (source, destination) = (source.parse().unwrap(), destination.parse().unwrap());
        Sample { reason, port: PortNo::new(0), from: backend, source, destination }
    };
    let expected = [
        sample(DropReason::Loop, "10.0.0.1", "192.168.0.101"),
        sample(DropReason::ReturnViaDirector, "fd00::101", "2001:db8::1"),
    ];
    assert_eq!(shown(), expected, "no sample for a service without a backend: no station has caused that");
    rig.receive(vec![from().ipv4("10.0.0.1", "192.168.0.101").tcp(1, 80).syn(); 100]);
    assert_eq!(rig.counters.ports[0].drops[DropReason::Loop.index()].read(), 101, "all are counted");
    assert_eq!(std::iter::from_fn(|| rig.samples.pop().ok()).count(), 4, "as many as there is room for");
}
