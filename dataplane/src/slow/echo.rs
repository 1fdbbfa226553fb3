//! Ping: answers to echo requests for VIPs and own addresses (RFC 792, RFC 4443 §4).

use std::net::IpAddr;

use smoltcp::wire::{Icmpv4Message, Icmpv4Packet, Icmpv6Message, Icmpv6Packet, IpProtocol, Ipv4Packet, Ipv6Packet};

use crate::slow::view::{Frame, View};
use crate::wire::ethernet::ETHERNET_HEADER;

/// The usual initial value of hosts.
pub(super) const HOP_LIMIT: u8 = 64;

/// The reply: the request with its addresses swapped, sent back to the station that it came from.
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
    let request = Ipv4Packet::new_checked(packet).ok()?;
    let (source, destination) = (request.src_addr(), request.dst_addr());
    let answerable = request.verify_checksum() && answerable(source.into(), destination.into(), view);
    let message = Icmpv4Packet::new_checked(request.payload()).ok()?;
    if !answerable || !message.verify_checksum() || message.msg_type() != Icmpv4Message::EchoRequest {
        return None;
    }
    let mut bytes = packet[..usize::from(request.total_len())].to_vec();
    let mut reply = Ipv4Packet::new_unchecked(&mut bytes);
    reply.set_src_addr(destination);
    reply.set_dst_addr(source);
    reply.set_hop_limit(HOP_LIMIT);
    reply.fill_checksum();
    let mut message = Icmpv4Packet::new_unchecked(reply.payload_mut());
    message.set_msg_type(Icmpv4Message::EchoReply);
    message.fill_checksum();
    Some(bytes)
}

fn v6(packet: &[u8], view: View<'_>) -> Option<Vec<u8>> {
    let request = Ipv6Packet::new_checked(packet).ok()?;
    let (source, destination) = (request.src_addr(), request.dst_addr());
    // Extension headers before an echo request are legal, but no host sends them.
    if request.next_header() != IpProtocol::Icmpv6 || !answerable(source.into(), destination.into(), view) {
        return None;
    }
    let message = Icmpv6Packet::new_checked(request.payload()).ok()?;
    if !message.verify_checksum(&source, &destination) || message.msg_type() != Icmpv6Message::EchoRequest {
        return None;
    }
    let mut bytes = packet[..request.total_len()].to_vec();
    let mut reply = Ipv6Packet::new_unchecked(&mut bytes);
    reply.set_src_addr(destination);
    reply.set_dst_addr(source);
    reply.set_hop_limit(HOP_LIMIT);
    let mut message = Icmpv6Packet::new_unchecked(reply.payload_mut());
    message.set_msg_type(Icmpv6Message::EchoReply);
    message.fill_checksum(&destination, &source);
    Some(bytes)
}

/// Whether the packet is to an address of ours, and from a single station that can receive an answer. A packet "from"
/// an address of ours would make us answer ourselves.
pub(super) fn answerable(source: IpAddr, destination: IpAddr, view: View<'_>) -> bool {
    let local = |address| view.current.vips.local(address).is_some();
    let broadcast = matches!(source, IpAddr::V4(source) if source.is_broadcast());
    let station = !(source.is_unspecified() || source.is_multicast() || source.is_loopback() || broadcast);
    station && local(destination) && !local(source)
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

    #[test]
    fn requests_with_an_impossible_source_and_damaged_ones_are_not_answered() {
        for source in ["192.168.0.101", "192.168.0.2", "224.0.0.1", "255.255.255.255", "127.0.0.1", "0.0.0.0"] {
            assert_eq!(reply(&eth().ipv4(source, "192.168.0.101").echo(b"x")), None, "{source}");
        }
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
