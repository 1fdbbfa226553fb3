//! The generator of the benches: its frames are valid, each flow occurs once in a round, and destinations have equal
//! shares.

use std::collections::HashMap;

use dataplane::base::packet::{Burst, Packet, PacketIo};
use dataplane::dpdk::{Device, Eal, EalOptions, Generator, MAX_FLOWS, Memory, Mempool, Port, PortSettings, ROOM};
use dataplane::testing::frame::eth;
use smoltcp::wire::{EthernetFrame, Ipv4Address, Ipv4Packet, TcpPacket};

const FLOWS: u64 = 65_536;
const DESTINATIONS: u16 = 100;

type Flow = (Ipv4Address, u16, Ipv4Address);

/// The flow of a frame, whose IPv4 header must be right.
fn flow(frame: &[u8]) -> Flow {
    let ethernet = EthernetFrame::new_checked(frame).expect("an Ethernet frame");
    let ip = Ipv4Packet::new_checked(ethernet.payload()).expect("an IPv4 packet");
    assert!(ip.verify_checksum(), "{ip}");
    let tcp = TcpPacket::new_checked(ip.payload()).expect("a TCP segment");
    assert_eq!(tcp.dst_port(), 80);
    (ip.src_addr(), tcp.src_port(), ip.dst_addr())
}

/// The number of frames of each flow, among this many frames.
fn count(queue: &mut impl PacketIo, frames: u64) -> HashMap<Flow, u64> {
    let mut flows = HashMap::new();
    for _ in 0..frames.div_ceil(32) {
        let mut burst = Burst::new();
        queue.rx_burst(&mut burst);
        assert_eq!(burst.len(), 32);
        burst.iter().for_each(|packet| *flows.entry(flow(packet.data())).or_default() += 1);
    }
    flows
}

#[test]
fn frames_have_the_number_of_flows_that_was_asked_for() {
    let options = EalOptions {
        main_lcore: 0,
        memory: Memory::Plain { mib: 64 },
        file_prefix: format!("shunt-generator-{}", std::process::id()),
        pci: Vec::new(),
        extra: Vec::new(),
    };
    let eal = Eal::init(&options).expect("DPDK starts without hugepages and without devices");
    // The folder is empty, and EAL does not remove it.
    let _ = std::fs::remove_dir(eal.runtime_folder());
    let pool = Mempool::create(&eal, "generator", 4_095, ROOM, None).expect("64 MiB are enough");
    let device = Device::Vdev("net_null0,size=60,copy=0".into());
    let settings = PortSettings { index: 0, device, queues: 1, vlan_strip: false, mtu: None };
    let (port, mut queues) = Port::open(&eal, &pool, &settings).expect("net_null is built in");
    let mut queue = queues.pop().expect("one queue");

    let frame = eth().to(port.mac()).ipv4("10.0.0.0", "192.168.100.1").tcp(1_024, 80).data(&[0; 6]);
    let generator = Generator::install(&queue, &frame, DESTINATIONS).expect("callbacks are compiled in");
    generator.set_flows(FLOWS);
    let flows = count(&mut queue, 3 * FLOWS);
    assert_eq!(flows.len() as u64, FLOWS);
    assert!(flows.values().all(|&count| count == 3), "each flow occurs once in a round");
    let mut destinations: HashMap<Ipv4Address, u64> = HashMap::new();
    flows.keys().for_each(|flow| *destinations.entry(flow.2).or_default() += 1);
    let share = FLOWS / u64::from(DESTINATIONS);
    assert_eq!(destinations.len(), usize::from(DESTINATIONS));
    assert!(destinations.values().all(|&flows| flows.abs_diff(share) <= 1), "{destinations:?}");

    generator.set_flows(MAX_FLOWS);
    let flows = count(&mut queue, 1 << 17);
    assert_eq!(flows.len(), 1 << 17, "no flow occurs twice");
    generator.set_flows(1_000);
    assert_eq!(count(&mut queue, 4_000).len(), 1_000);
}
