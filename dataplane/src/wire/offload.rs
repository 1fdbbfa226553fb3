//! What a sender has left to its NIC ("offloads"), seen from the packet: a checksum to be finished, a packet to be cut into segments.
//!
//! A host may write into a packet's TCP or UDP checksum field the sum of the pseudo-header alone, and hand the NIC a packet of up to 64 KiB, which
//! the NIC finishes and cuts. Between virtual interfaces (veth, TAP) there is no NIC: the packet arrives as it was handed over. Linux
//! among itself knows such packets by a mark beside them; whoever sends the bytes on sends a packet that its receiver drops.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::wire::ipv6::IPV6_HEADER;
use crate::wire::l4::{TCP, UDP};

/// Whether a packet has an unfinished checksum: that of TCP or UDP over IPv4 or IPv6, in one piece and without extension headers.
pub fn is_unfinished(packet: &[u8]) -> bool {
    let Some(Segment { pseudo_header, protocol, bytes }) = segment(packet) else { return false };
    let (field, header_len) = if protocol == TCP { (16, 20) } else { (6, 8) };
    if bytes.len() < header_len || bytes[field..field + 2] != pseudo_header.to_be_bytes() {
        return false;
    }
    // One finished checksum in 65,536 is the same number.
    fold(u64::from(pseudo_header) + sum(bytes)) != u16::MAX
}

/// A TCP packet as its IP header announces it. Its end may be missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Announced {
    /// The length of the packet.
    pub len: usize,
    /// The source address.
    pub source: IpAddr,
    /// The destination address.
    pub destination: IpAddr,
}

/// What a packet's IP header announces, if it is a TCP packet without extension headers.
pub fn announced_tcp(packet: &[u8]) -> Option<Announced> {
    match packet.first()? >> 4 {
        4 => {
            let header = packet.first_chunk::<20>()?;
            let [source, destination] =
                [12, 16].map(|at| Ipv4Addr::from([header[at], header[at + 1], header[at + 2], header[at + 3]]));
            let len = usize::from(u16::from_be_bytes([header[2], header[3]]));
            (header[9] == TCP).then_some(Announced { len, source: source.into(), destination: destination.into() })
        }
        6 => {
            let header = packet.first_chunk::<IPV6_HEADER>()?;
            let address = |at: usize| Ipv6Addr::from(*header[at..].first_chunk::<16>().expect("it is in the header"));
            let len = IPV6_HEADER + usize::from(u16::from_be_bytes([header[4], header[5]]));
            let (source, destination) = (address(8).into(), address(24).into());
            (header[6] == TCP).then_some(Announced { len, source, destination })
        }
        _ => None,
    }
}

/// A TCP segment or UDP datagram.
struct Segment<'p> {
    /// The sum of the pseudo-header (RFC 9293 §3.1, RFC 8200 §8.1).
    pseudo_header: u16,
    protocol: u8,
    bytes: &'p [u8],
}

fn segment(packet: &[u8]) -> Option<Segment<'_>> {
    let (addresses, protocol, bytes) = match packet.first()? >> 4 {
        4 => {
            let header = packet.first_chunk::<20>()?;
            let fragment = u16::from_be_bytes([header[6], header[7]]) & 0x3fff;
            let len = usize::from(u16::from_be_bytes([header[2], header[3]]));
            if fragment != 0 {
                return None;
            }
            (&packet[12..20], header[9], packet.get(usize::from(header[0] & 0x0f) * 4..len)?)
        }
        6 => {
            let header = packet.first_chunk::<IPV6_HEADER>()?;
            let len = usize::from(u16::from_be_bytes([header[4], header[5]]));
            (&packet[8..40], header[6], packet.get(IPV6_HEADER..IPV6_HEADER + len)?)
        }
        _ => return None,
    };
    if protocol != TCP && protocol != UDP {
        return None;
    }
    let pseudo_header = fold(sum(addresses) + u64::from(protocol) + bytes.len() as u64);
    Some(Segment { pseudo_header, protocol, bytes })
}

/// The sum of the 16-bit words of some bytes (RFC 1071), not folded.
fn sum(bytes: &[u8]) -> u64 {
    let words = bytes.chunks_exact(2);
    let last = words.remainder().first().map_or(0, |&byte| u64::from(byte) << 8);
    words.map(|word| u64::from(u16::from_be_bytes([word[0], word[1]]))).sum::<u64>() + last
}

/// A sum with the carries added.
#[expect(clippy::cast_possible_truncation, reason = "nothing is left above")]
fn fold(sum: u64) -> u16 {
    let sum = (sum >> 32) + (sum & 0xffff_ffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    ((sum >> 16) + (sum & 0xffff)) as u16
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::frame::{Ip, eth, left_to_a_nic};

    fn v4() -> Ip {
        eth().ipv4("10.0.0.1", "192.168.0.101")
    }

    fn v6() -> Ip {
        eth().ipv6("fd01::1", "fd00::101")
    }

    fn handed_over(frame: Vec<u8>) -> Vec<u8> {
        left_to_a_nic(frame)[14..].to_vec()
    }

    #[test]
    fn what_is_handed_to_a_nic_is_unfinished_and_what_a_nic_sends_is_not() {
        for payload in [&b""[..], b"x", b"an odd number of bytes!", &[0xff; 1_400]] {
            for ip in [v4(), v6()] {
                let (tcp, udp) = (ip.clone().tcp(1_234, 80).data(payload), ip.udp(1_234, 53, payload));
                assert!(!is_unfinished(&tcp[14..]) && !is_unfinished(&udp[14..]));
                assert!(is_unfinished(&handed_over(tcp.clone())));
                assert!(is_unfinished(&handed_over(udp)));
                // Padding is no part of the packet, and a packet whose end is missing is not looked at.
                let mut padded = handed_over(tcp);
                assert!(!is_unfinished(&padded[..padded.len() - 1]));
                padded.extend([7; 6]);
                assert!(is_unfinished(&padded));
            }
        }
    }

    #[test]
    fn a_damaged_checksum_is_not_an_unfinished_one() {
        let mut udp = v4().udp(1_234, 53, b"question");
        udp[14 + 20 + 6] ^= 1;
        assert!(!is_unfinished(&udp[14..]));
        // UDP over IPv4 without a checksum.
        udp[14 + 20 + 6..14 + 20 + 8].fill(0);
        assert!(!is_unfinished(&udp[14..]));
        // Without ports, or not whole.
        assert!(!is_unfinished(&v4().protocol(50, &[0; 40])[14..]));
        assert!(!is_unfinished(&handed_over(v4().fragment(0x2000).udp(1, 2, b"first"))));
        assert!(!is_unfinished(&v6().extension(0, &[0, 0, 1, 4, 0, 0, 0, 0]).udp(1, 2, b"later")[14..]));
    }

    /// The payload is such that the finished checksum is the pseudo-header's sum, as one in 65,536 is.
    #[test]
    fn a_finished_checksum_that_looks_unfinished_is_recognized() {
        let found = (0..=u16::MAX).find_map(|word: u16| {
            let udp = v4().udp(1_234, 53, &word.to_be_bytes());
            let pseudo_header = segment(&udp[14..]).unwrap().pseudo_header;
            (udp[40..42] == pseudo_header.to_be_bytes()).then_some(udp)
        });
        assert!(!is_unfinished(&found.expect("there is such a word")[14..]));
    }

    #[test]
    fn a_tcp_packet_announces_its_length_though_it_is_cut() {
        let (v4, v6) = (v4().tcp(1, 80).data(&[1; 9_000]), v6().tcp(1, 80).data(&[1; 9_000]));
        let announced =
            |frame: &[u8]| announced_tcp(&frame[14..100]).map(|packet| (packet.len, packet.destination.to_string()));
        assert_eq!(announced(&v4), Some((9_040, "192.168.0.101".into())));
        assert_eq!(announced(&v6), Some((9_060, "fd00::101".into())));
        assert_eq!(announced(&super::tests::v4().udp(1, 53, &[1; 100])), None);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(packet in proptest::collection::vec(any::<u8>(), 0..120), version in prop_oneof![Just(4_u8), Just(6)]) {
            let mut packet = packet;
            if let Some(first) = packet.first_mut() {
                *first = version << 4 | *first & 0x0f;
            }
            is_unfinished(&packet);
            announced_tcp(&packet);
        }

        #[test]
        fn sums_are_those_of_rfc_1071(bytes in proptest::collection::vec(any::<u8>(), 0..3_000)) {
            let mut simple = 0_u32;
            for word in bytes.chunks(2) {
                simple += u32::from(word[0]) << 8 | u32::from(*word.get(1).unwrap_or(&0));
                simple = (simple >> 16) + (simple & 0xffff);
            }
            prop_assert_eq!(u32::from(fold(sum(&bytes))), simple);
        }
    }
}
