//! Ping: answers to echo requests for VIPs and own addresses (RFC 792, RFC 4443 §4).

use std::net::{IpAddr, Ipv4Addr};

use smoltcp::wire::{Icmpv4Message, Icmpv4Packet, Icmpv6Message, Icmpv6Packet, IpProtocol, Ipv4Packet, Ipv6Packet};

use crate::slow::view::{Frame, View};
use crate::wire::ethernet::ETHERNET_HEADER;
use crate::wire::ipv6::{self, IPV6_HEADER};
use crate::wire::l4::ICMPV6;

/// The usual initial value of hosts.
pub(super) const HOP_LIMIT: u8 = 64;

/// The reply: the request with its addresses swapped, sent back to the station that it came from. It has no IPv6 extension
/// headers, and of IPv4's options only the recorded route.
pub fn process(frame: &[u8], view: View<'_>) -> Option<Frame> {
    let (ethernet, packet) = frame.split_first_chunk::<ETHERNET_HEADER>()?;
    let packet = match packet.first()? >> 4 {
        4 => v4(packet, view)?,
        _ => v6(packet, view)?,
    };
    let [.., high, low] = *ethernet;
    let bytes = [&ethernet[6..12], &view.mac().0, &[high, low], &packet].concat();
    Some(Frame { network: view.network, bytes })
}

fn v4(packet: &[u8], view: View<'_>) -> Option<Vec<u8>> {
    const HEADER: usize = 20;
    let request = Ipv4Packet::new_checked(packet).ok()?;
    let (source, destination) = (request.src_addr(), request.dst_addr());
    let whole = !request.more_frags() && request.frag_offset() == 0 && request.next_header() == IpProtocol::Icmp;
    let answerable = whole && request.verify_checksum() && answerable(source.into(), destination.into(), view);
    let message = Icmpv4Packet::new_checked(request.payload()).ok()?;
    if !answerable || !message.verify_checksum() || message.msg_type() != Icmpv4Message::EchoRequest {
        return None;
    }
    let options = options_of_reply(&packet[HEADER..usize::from(request.header_len())], destination)?;
    let mut bytes = [&packet[..HEADER], &options, request.payload()].concat();
    let total_len = u16::try_from(bytes.len()).ok()?;
    let mut reply = Ipv4Packet::new_unchecked(&mut bytes);
    reply.set_header_len(u8::try_from(HEADER + options.len()).ok()?);
    reply.set_total_len(total_len);
    reply.set_src_addr(destination);
    reply.set_dst_addr(source);
    reply.set_hop_limit(HOP_LIMIT);
    reply.fill_checksum();
    let mut message = Icmpv4Packet::new_unchecked(reply.payload_mut());
    message.set_msg_type(Icmpv4Message::EchoReply);
    message.fill_checksum();
    Some(bytes)
}

/// The options of the reply to a request with these options: the recorded route, with our address added where it has room
/// (RFC 1122 §3.2.2.6, RFC 791 §3.1). Others are left out. `None`: the options are damaged, or the request came by a route
/// that its sender chose, which hosts do not take (RFC 7126 §4.3 and §4.4).
fn options_of_reply(mut options: &[u8], own: Ipv4Addr) -> Option<Vec<u8>> {
    const END: u8 = 0;
    const NOTHING: u8 = 1;
    const RECORD_ROUTE: u8 = 7;
    const SOURCE_ROUTES: [u8; 2] = [131, 137];
    let mut kept = Vec::new();
    // Bound: each round takes an option, of one byte at least.
    while let &[kind, ref rest @ ..] = options {
        if kind == END {
            break;
        }
        if kind == NOTHING {
            options = rest;
            continue;
        }
        let len = usize::from(*rest.first()?);
        if len < 2 || SOURCE_ROUTES.contains(&kind) {
            return None;
        }
        let (option, behind) = options.split_at_checked(len)?;
        if kind == RECORD_ROUTE && kept.is_empty() {
            kept.extend_from_slice(option);
            // The pointer counts from 1, and moves on by an address.
            let pointer = usize::from(*option.get(2)?);
            if let Some(free) = kept.get_mut(pointer.checked_sub(1)?..pointer + 3) {
                free.copy_from_slice(&own.octets());
                kept[2] += 4;
            }
        }
        options = behind;
    }
    kept.resize(kept.len().next_multiple_of(4), END);
    Some(kept)
}

fn v6(packet: &[u8], view: View<'_>) -> Option<Vec<u8>> {
    let request = Ipv6Packet::new_checked(packet).ok()?;
    let (source, destination) = (request.src_addr(), request.dst_addr());
    let (protocol, message) = ipv6::message(packet)?;
    if protocol != ICMPV6 || !answerable(source.into(), destination.into(), view) {
        return None;
    }
    let request = Icmpv6Packet::new_checked(message).ok()?;
    if !request.verify_checksum(&source, &destination) || request.msg_type() != Icmpv6Message::EchoRequest {
        return None;
    }
    let mut bytes = [&packet[..IPV6_HEADER], message].concat();
    let mut reply = Ipv6Packet::new_unchecked(&mut bytes);
    reply.set_src_addr(destination);
    reply.set_dst_addr(source);
    reply.set_next_header(IpProtocol::Icmpv6);
    reply.set_payload_len(u16::try_from(message.len()).ok()?);
    reply.set_hop_limit(HOP_LIMIT);
    let mut message = Icmpv6Packet::new_unchecked(reply.payload_mut());
    message.set_msg_type(Icmpv6Message::EchoReply);
    message.fill_checksum(&destination, &source);
    Some(bytes)
}

/// Whether the packet is to an address of ours, and from a single host that can receive an answer.
pub(super) fn answerable(source: IpAddr, destination: IpAddr, view: View<'_>) -> bool {
    view.current.vips.local(destination).is_some() && view.is_host(source)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::NetworkNo;
    use crate::testing::frame::{CLIENT_MAC, eth};
    use crate::testing::model::{PORT_MAC, leases, model, service, snapshot};

    fn reply(frame: &[u8]) -> Option<Vec<u8>> {
        let mut model = model();
        model.add_service(&service("192.168.0.101:80", &[]), &leases()).unwrap();
        model.add_service(&service("[fd00::101]:80", &[]), &leases()).unwrap();
        process(frame, View { current: &snapshot(model), network: NetworkNo::new(0) }).map(|frame| frame.bytes)
    }

    fn back() -> crate::testing::frame::Ethernet {
        eth().from(PORT_MAC).to(CLIENT_MAC)
    }

    #[test]
    fn ping_to_a_vip_and_to_an_own_address_is_answered() {
        let rest = [&[0x12, 0x34, 0, 1], &b"abcdefgh"[..]].concat();
        for address in ["192.168.0.101", "192.168.0.2"] {
            let request = eth().ipv4("10.0.0.1", address).echo(b"abcdefgh");
            assert_eq!(reply(&request), Some(back().ipv4(address, "10.0.0.1").icmp(1, 0, 0, &rest)));
        }
        for address in ["fd00::101", "fd00::2"] {
            let request = eth().ipv6("2001:db8::1", address).echo(b"abcdefgh");
            assert_eq!(reply(&request), Some(back().ipv6(address, "2001:db8::1").icmp(58, 129, 0, &rest)));
        }
    }

    #[test]
    fn ethernet_padding_is_not_sent_back() {
        let request = eth().ipv4("10.0.0.1", "192.168.0.101").echo(b"x");
        let padded = [&request[..], &[0; 20]].concat();
        assert_eq!(reply(&padded).unwrap().len(), request.len());
    }

    /// A host answers without the headers (RFC 4443 §4.2 asks for the data alone).
    #[test]
    fn a_ping_behind_ipv6_extension_headers_is_answered_without_them() {
        let rest = [&[0x12, 0x34, 0, 1], &b"abcdefgh"[..]].concat();
        let atomic = [0, 0, 0, 0, 1, 2, 3, 4];
        let long = [&[0, 2, 1, 4], &[0; 4][..], &[5, 2, 0, 0], &[0x1e, 10], &[7; 10]].concat();
        let arrived = [0, 2, 0, 0].into_iter().chain([0; 20]).collect::<Vec<u8>>();
        let (skipped, alert) = ([0; 8], [0, 0, 5, 2, 0, 0, 1, 0]);
        let chains: [&[(u8, &[u8])]; 8] = [
            &[(0, &skipped)],
            &[(0, &alert)],
            &[(60, &long)],
            &[(43, &arrived)],
            &[(44, &atomic)],
            &[(0, &skipped), (60, &skipped), (43, &arrived), (44, &atomic), (60, &long)],
            &[(60, &skipped), (0, &skipped)],
            &[(60, &skipped as &[u8]); 8],
        ];
        for chain in chains {
            for address in ["fd00::101", "fd00::2"] {
                let request = chain
                    .iter()
                    .fold(eth().ipv6("2001:db8::1", address), |ip, &(number, bytes)| ip.extension(number, bytes));
                let expected = back().ipv6(address, "2001:db8::1").icmp(58, 129, 0, &rest);
                assert_eq!(reply(&request.echo(b"abcdefgh")), Some(expected), "{chain:?}");
            }
        }
    }

    #[test]
    fn a_ping_behind_headers_that_a_host_must_not_pass_is_not_answered() {
        let still_to_go = [0, 2, 0, 1].into_iter().chain([0; 20]).collect::<Vec<u8>>();
        for (number, bytes) in [
            (43, &still_to_go[..]),
            // Options that must be known: 01, 10 and 11 in the highest bits, and a jumbo payload.
            (60, &[0, 0, 0x5e, 0, 0, 0, 0, 0]),
            (0, &[0, 0, 0x9e, 0, 0, 0, 0, 0]),
            (60, &[0, 0, 0xde, 0, 0, 0, 0, 0]),
            (0, &[0, 0, 0xc2, 4, 0, 1, 0, 0]),
            // An option that ends behind its header, and one without a length.
            (60, &[0, 0, 1, 5, 0, 0, 0, 0]),
            (60, &[0, 0, 0, 0, 0, 0, 0, 1]),
            // A header that ends behind the packet.
            (60, &[0, 9, 0, 0, 0, 0, 0, 0]),
            (51, &[0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
            (44, &[0, 0, 0, 1, 0, 0, 0, 7]),
            (44, &[0, 0, 0, 8, 0, 0, 0, 7]),
        ] {
            let request = eth().ipv6("2001:db8::1", "fd00::101").extension(number, bytes).echo(b"abcdefgh");
            assert_eq!(reply(&request), None, "{number}: {bytes:02x?}");
        }
        let nine = (0..9).fold(eth().ipv6("2001:db8::1", "fd00::101"), |ip, _| ip.extension(60, &[0; 8]));
        assert_eq!(reply(&nine.echo(b"x")), None);
        let good = eth().ipv6("2001:db8::1", "fd00::101").extension(60, &[0; 8]).echo(b"abcd");
        assert!((0..good.len()).all(|length| reply(&good[..length]).is_none()));
        for offset in ETHERNET_HEADER + 40 + 8..good.len() {
            let mut damaged = good.clone();
            damaged[offset] ^= 0x10;
            assert_eq!(reply(&damaged), None, "byte {offset}");
        }
    }

    #[test]
    fn of_ipv4_options_the_recorded_route_is_answered_with_our_address_in_it() {
        let rest = [0x12, 0x34, 0, 1, 7];
        let recorded = |pointer: u8, last: [u8; 4]| [&[7, 11, pointer, 10, 0, 0, 254], &last[..], &[0]].concat();
        let timestamp = [68, 12, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        for (options, answered) in [
            (vec![1u8, 1, 1, 1], vec![]),
            (vec![0, 0, 0, 0], vec![]),
            (timestamp.to_vec(), vec![]),
            (vec![148, 4, 0, 0], vec![]),
            (recorded(8, [0; 4]), recorded(12, [192, 168, 0, 101])),
            (recorded(12, [10, 0, 1, 254]), recorded(12, [10, 0, 1, 254])),
            ([&[1, 1, 1, 1][..], &timestamp, &recorded(8, [0; 4])].concat(), recorded(12, [192, 168, 0, 101])),
        ] {
            let request = eth().ipv4("10.0.0.1", "192.168.0.101").options(&options).echo(&[7]);
            let expected = back().ipv4("192.168.0.101", "10.0.0.1").options(&answered).icmp(1, 0, 0, &rest);
            assert_eq!(reply(&request), Some(expected), "{options:?}");
        }
        let source_routes = [[131, 7, 8, 10, 0, 0, 9, 0], [137, 7, 4, 10, 0, 0, 9, 0]];
        let damaged =
            [[7, 0, 0, 0, 0, 0, 0, 0], [7, 200, 4, 0, 0, 0, 0, 0], [7, 7, 0, 0, 0, 0, 0, 0], [1, 1, 1, 1, 1, 1, 1, 7]];
        for options in source_routes.into_iter().chain(damaged) {
            let request = eth().ipv4("10.0.0.1", "192.168.0.101").options(&options).echo(&[7]);
            assert_eq!(reply(&request), None, "{options:?}");
        }
    }

    #[test]
    fn requests_with_an_impossible_source_and_damaged_ones_are_not_answered() {
        for source in [
            "192.168.0.101",
            "192.168.0.2",
            "224.0.0.1",
            "255.255.255.255",
            "240.0.0.1",
            "127.0.0.1",
            "0.0.0.0",
            "0.0.0.1",
            "192.168.0.255",
            "192.168.0.0",
        ] {
            assert_eq!(reply(&eth().ipv4(source, "192.168.0.101").echo(b"x")), None, "{source}");
        }
        for source in ["fd00::101", "fd00::2", "::", "::1", "ff02::1", "::ffff:10.0.0.1", "fe80::ff:fe00:2"] {
            assert_eq!(reply(&eth().ipv6(source, "fd00::101").echo(b"x")), None, "{source}");
        }
        assert!(reply(&eth().ipv6("fe80::ff:fe00:3", "fd00::101").echo(b"x")).is_some());
        assert_eq!(reply(&eth().ipv4("10.0.0.1", "192.168.0.3").echo(b"x")), None);
        let good = eth().ipv4("10.0.0.1", "192.168.0.101").echo(b"abcd");
        for offset in ETHERNET_HEADER..good.len() {
            let mut damaged = good.clone();
            damaged[offset] ^= 0x10;
            assert_eq!(reply(&damaged), None, "byte {offset}");
        }
        for length in 0..good.len() {
            assert_eq!(reply(&good[..length]), None);
        }
    }
}
