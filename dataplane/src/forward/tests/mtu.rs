//! Packets that do not fit the MTU, and frames of several segments.

use crate::base::exit::DropReason;
use crate::base::exit::Exit;
use crate::base::exit::PuntReason;
use crate::forward::tests::rig::Rig;
use crate::forward::tests::rig::with_vlans;
use crate::testing::frame::eth;
use crate::testing::memory::MemoryPacket;

fn drop_bytes<T>(_: T) {}

/// Packets to a backend in an untagged network and to one in a VLAN: 1,500 bytes fit, 1,501 do not.
#[test]
fn packets_that_do_not_fit_the_backends_port_are_answered_or_counted() {
    let too_big = Err(Exit::Punt(PuntReason::TooBig));
    let unanswered = Err(Exit::Drop(DropReason::TooBigUnanswered));
    let v4 = |port, len: usize| eth().ipv4("10.0.0.1", "192.168.0.101").tcp(1234, port).data(&vec![7; len - 40]);
    let v6 = |len: usize| {
        let ip = eth().tag(0x8100, 100).ipv6("2001:db8::1", "fd01::101").extension(60, &[0; 8]);
        ip.tcp(1, 80).data(&vec![7; len - 68])
    };
    let padded = |frame: Vec<u8>| [frame, vec![0; 400]].concat();
    let errors = |len: usize| {
        let reply = eth().ipv4("192.168.0.101", "10.0.0.1").tcp(80, 1234).data(&vec![7; len - 28 - 40]);
        eth().ipv4("10.0.0.1", "192.168.0.101").icmp(1, 3, 1, &[&[0; 4], &reply[14..]].concat())
    };
    let tagged =
        |len: usize| eth().tag(0x8100, 0xa000).ipv4("10.0.0.1", "192.168.0.101").tcp(1, 80).data(&vec![7; len - 40]);
    let first = eth().ipv4("10.0.0.1", "192.168.0.101").fragment(0x2000).tcp(1, 80).data(&[7; 1_468]);
    let later = eth().ipv4("10.0.0.1", "192.168.0.101").fragment(186).protocol(6, &[7; 1_488]);
    let mut rig = with_vlans();
    for (description, frame, expected) in [
        ("just fits", v4(80, 1_500), Ok(())),
        ("a byte too long", v4(80, 1_501), too_big),
        ("much too long, a super-frame", v4(80, 60_000), too_big),
        ("just fits a VLAN", v4(81, 1_500), Ok(())),
        ("a byte too long for a VLAN", v4(81, 1_501), too_big),
        ("just fits two VLANs", v4(82, 1_500), Ok(())),
        ("just fits, IPv6", v6(1_500), Ok(())),
        ("a byte too long, IPv6", v6(1_501), too_big),
        ("just fits, with a tag less", tagged(1_500), Ok(())),
        ("just fits, and has padding", padded(v4(80, 1_500)), Ok(())),
        ("a short one with much padding", padded(v4(80, 1_200)), Ok(())),
        ("an ICMP error that fits", errors(1_500), Ok(())),
        ("an ICMP error that does not", errors(1_501), unanswered),
        ("a first fragment", first, too_big),
        ("a later fragment", later, unanswered),
    ] {
        let fate = rig.fate(&frame).map(drop_bytes);
        assert_eq!(fate, expected, "{description}");
        if let Some(punt) = rig.punt() {
            assert_eq!((punt.mtu, punt.packet.bytes), (1_500, frame), "{description}");
        }
    }
}

#[test]
fn frames_of_several_segments_need_their_headers_in_the_first() {
    let v4 = || eth().ipv4("10.0.0.1", "192.168.0.101");
    let v6 = || eth().ipv6("2001:db8::1", "fd00::101");
    let fragment_header = [0, 0, 0, 1, 0, 0, 0, 7];
    // Description, frame, and the bytes that the first segment needs.
    for (description, frame, needed) in [
        ("TCP", v4().tcp(1, 80).data(&[7; 1_000]), 54),
        ("IPv4 options", v4().options(&[1; 8]).tcp(1, 80).data(&[7; 1_000]), 62),
        ("UDP", v4().udp(1, 53, &[7; 1_000]), 42),
        ("SCTP", v4().protocol(132, &[&[0, 1, 11, 89], &[7; 1_000][..]].concat()), 46),
        ("IPv6", v6().tcp(1, 80).data(&[7; 1_000]), 74),
        ("an extension header", v6().extension(60, &[0; 8]).tcp(1, 80).data(&[7; 1_000]), 82),
        ("a first fragment", v4().fragment(0x2000).udp(1, 53, &[7; 1_000]), 42),
        ("an IPv6 one", v6().extension(44, &fragment_header).tcp(1, 80).data(&[7; 1_000]), 82),
        ("a VLAN tag", eth().tag(0x8100, 0).ipv4("10.0.0.1", "192.168.0.101").tcp(1, 80).data(&[7; 1_000]), 58),
    ] {
        let mut rig = Rig::example();
        for first in 0..frame.len() {
            let fate = rig.fate_of(MemoryPacket::segmented(frame.clone(), first));
            if first < needed {
                assert_eq!(fate, Err(Exit::Drop(DropReason::HeadersSplit)), "{description}, {first} bytes");
            } else {
                let sent = fate.unwrap_or_else(|exit| panic!("{description}, {first} bytes: {exit:?}"));
                assert!(frame.ends_with(&sent[14..]), "{description}, {first} bytes");
            }
        }
    }
    // A packet that is shorter than its header says is so in segments, too.
    let mut rig = Rig::example();
    let cut = |frame: Vec<u8>, len| MemoryPacket::segmented(frame[..len].to_vec(), 20);
    assert_eq!(rig.fate_of(cut(v4().tcp(1, 80).syn(), 30)), Err(Exit::Drop(DropReason::Truncated)));
    assert_eq!(rig.fate_of(MemoryPacket::segmented(vec![0; 13], 5)), Err(Exit::Drop(DropReason::Runt)));
}

#[test]
fn not_every_sender_is_told_that_packets_are_too_big() {
    let mut rig = with_vlans();
    let frame = eth().ipv4("10.0.0.1", "192.168.0.101").tcp(1234, 80).data(&[7; 1_500]);
    let told = (0..300).filter(|_| {
        let told = rig.fate(&frame) == Err(Exit::Punt(PuntReason::TooBig));
        told && rig.punt().is_some()
    });
    assert_eq!(told.count(), 100);
}
