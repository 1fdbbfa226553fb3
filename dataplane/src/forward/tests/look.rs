//! Frames that show a neighbor's offloads.

use crate::base::clock::Clock;
use crate::base::ids::PortNo;
use crate::forward::sample::{Sample, Sign};
use crate::forward::tests::rig::{Rig, with_vlans};
use crate::testing::frame::{CLIENT_MAC, eth, left_to_a_nic};
use crate::testing::memory::MemoryPacket;

fn shown(rig: &mut Rig) -> Vec<Sample> {
    std::iter::from_fn(|| rig.samples.pop().ok()).collect()
}

fn sample(sign: Sign, source: &str, destination: &str) -> Sample {
    let (source, destination) = (source.parse().unwrap(), destination.parse().unwrap());
    Sample { sign, port: PortNo::new(0), from: CLIENT_MAC, source, destination }
}

#[test]
fn a_frame_with_an_unfinished_checksum_is_forwarded_counted_and_shown() {
    let v4 = || eth().ipv4("10.0.0.1", "192.168.0.101");
    let finished = v4().tcp(1, 80).syn();
    let mut rig = with_vlans();
    let mut now_ms = 0;
    // Whether it is for a VIP, whether its checksum is unfinished.
    for (description, frame, (seen, unfinished)) in [
        ("finished", finished.clone(), (1, 0)),
        ("unfinished", left_to_a_nic(finished.clone()), (1, 1)),
        ("UDP, no service", left_to_a_nic(v4().udp(1, 99, b"x")), (1, 1)),
        ("priority tag", with_priority(left_to_a_nic(finished.clone())), (1, 1)),
        ("for no VIP", left_to_a_nic(eth().ipv4("10.0.0.1", "192.168.0.77").tcp(1, 80).syn()), (0, 0)),
        ("for the director", left_to_a_nic(eth().ipv4("10.0.0.1", "192.168.0.2").tcp(1, 80).syn()), (0, 0)),
        ("a fragment", v4().fragment(0x2000).tcp(1, 80).data(b"x"), (0, 0)),
        ("runt", vec![0; 9], (0, 0)),
    ] {
        let counted = |rig: &Rig| {
            let counters = &rig.counters.ports[0];
            (counters.checksums_seen.read(), counters.checksums_unfinished.read())
        };
        now_ms += 1;
        rig.worker.set_clock(Clock::stopped_at(now_ms));
        let before = counted(&rig);
        rig.receive([frame]);
        let after = counted(&rig);
        assert_eq!((after.0 - before.0, after.1 - before.1), (seen, unfinished), "{description}");
        let expected: Vec<Sample> =
            (0..unfinished).map(|_| sample(Sign::UnfinishedChecksum, "10.0.0.1", "192.168.0.101")).collect();
        assert_eq!(shown(&mut rig), expected, "{description}");
    }
    // One burst in a millisecond, and one frame of it.
    rig.worker.set_clock(Clock::stopped_at(now_ms + 1));
    let before = rig.counters.ports[0].checksums_seen.read();
    rig.receive(vec![left_to_a_nic(finished); 1_000]);
    assert_eq!(rig.counters.ports[0].checksums_seen.read() - before, 1);
    assert_eq!(rig.counters.ports[0].forwarded.read(), 1_004, "and all of them are sent");
}

fn with_priority(frame: Vec<u8>) -> Vec<u8> {
    [&frame[..12], &[0x81, 0, 0xa0, 0], &frame[12..]].concat()
}

#[test]
fn a_tcp_packet_larger_than_the_ports_mtu_is_a_super_frame() {
    let v4 = || eth().ipv4("10.0.0.1", "192.168.0.101");
    let v6 = || eth().tag(0x8100, 100).ipv6("2001:db8::1", "fd01::101");
    let mut rig = with_vlans();
    let cut = |frame: Vec<u8>| MemoryPacket::from(frame[..1_900].to_vec());
    let super_frame = |source, destination| vec![sample(Sign::SuperFrame, source, destination)];
    for (description, packet, expected) in [
        ("too big", v4().tcp(1, 80).data(&[7; 1_461]).into(), super_frame("10.0.0.1", "192.168.0.101")),
        ("too big, in a VLAN", v6().tcp(1, 80).data(&[7; 9_000]).into(), super_frame("2001:db8::1", "fd01::101")),
        ("cut", cut(v4().tcp(1, 80).data(&[7; 9_000])), super_frame("10.0.0.1", "192.168.0.101")),
        ("cut, in a VLAN", cut(v6().tcp(1, 80).data(&[7; 9_000])), super_frame("2001:db8::1", "fd01::101")),
        ("a datagram that is too big", v4().udp(1, 53, &[7; 1_500]).into(), vec![]),
        ("cut, but no larger than the MTU", v4().tcp(1, 80).data(&[7; 1_460])[..700].to_vec().into(), vec![]),
        ("good", v4().tcp(1, 80).data(&[7; 1_460]).into(), vec![]),
    ] {
        let packet: MemoryPacket = packet;
        let _ = rig.fate_of(packet);
        assert_eq!(shown(&mut rig), expected, "{description}");
        while rig.punt().is_some() {}
    }
}
