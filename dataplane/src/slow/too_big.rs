//! "Too big": tells a sender the MTU that its packets must fit to reach the backend (RFC 1191, RFC 4443 §3.2).
//!
//! Direct routing changes no packet, so it does not fragment either. Even an IPv4 packet that may be fragmented (no DF)
//! is dropped and answered. Senders with path MTU discovery, as all have for TCP, learn the MTU from the answer.

use std::net::IpAddr;

use smoltcp::wire::{Icmpv4Packet, Icmpv6Packet, IpProtocol, Ipv4Packet, Ipv4Repr, Ipv6Packet, Ipv6Repr};

use crate::slow::echo::{HOP_LIMIT, answerable};
use crate::slow::view::{Frame, View};
use crate::wire::ethernet::ETHERNET_HEADER;
use crate::wire::ipv6::ipv6_protocol;

/// The most bytes of an ICMP error, its IP header included (RFC 1812 §4.3.2.3).
const V4_MOST: usize = 576;
/// The same for ICMPv6: the smallest MTU (RFC 4443 §2.4).
const V6_MOST: usize = 1_280;
/// The bytes of an ICMP error before the quoted packet.
const ICMP_HEADER: usize = 8;

/// The answer to a packet that is larger than `mtu`, to the station that it came from.
pub fn process(frame: &[u8], mtu: u16, view: View<'_>) -> Option<Frame> {
    let (ethernet, packet) = frame.split_first_chunk::<ETHERNET_HEADER>()?;
    let answer = match packet.first()? >> 4 {
        4 => v4(packet, mtu, view)?,
        _ => v6(packet, mtu, view)?,
    };
    let bytes = [&ethernet[6..12], &view.mac().0, &ethernet[12..], &answer].concat();
    Some(Frame { network: view.network, bytes })
}

fn v4(packet: &[u8], mtu: u16, view: View<'_>) -> Option<Vec<u8>> {
    let header = packet.first_chunk::<20>()?;
    let sent = Ipv4Packet::new_unchecked(header);
    let (client, vip) = (sent.src_addr(), sent.dst_addr());
    let IpAddr::V4(own) = own_address(vip.into(), view)? else { return None };
    // An error about an ICMP error, or about a later fragment, is never sent (RFC 1122 §3.2.2). Nor is an error to an
    // address that is no single station's.
    if !answerable(client.into(), vip.into(), view) || sent.next_header() == IpProtocol::Icmp || sent.frag_offset() != 0
    {
        return None;
    }
    let quote = &packet[..packet.len().min(usize::from(sent.total_len())).min(V4_MOST - 20 - ICMP_HEADER)];
    let [high, low] = mtu.to_be_bytes();
    // Destination unreachable, fragmentation needed; the MTU is in the last two bytes before the quote (RFC 1191 §4).
    let mut message = [&[3, 4, 0, 0, 0, 0, high, low], quote].concat();
    Icmpv4Packet::new_unchecked(&mut message).fill_checksum();
    let ip = Ipv4Repr {
        src_addr: own,
        dst_addr: client,
        next_header: IpProtocol::Icmp,
        payload_len: message.len(),
        hop_limit: HOP_LIMIT,
    };
    let mut bytes = vec![0; ip.buffer_len()];
    ip.emit(&mut Ipv4Packet::new_unchecked(&mut bytes), &Default::default());
    Some([bytes, message].concat())
}

fn v6(packet: &[u8], mtu: u16, view: View<'_>) -> Option<Vec<u8>> {
    let header = packet.first_chunk::<40>()?;
    let sent = Ipv6Packet::new_unchecked(header);
    let (client, vip) = (sent.src_addr(), sent.dst_addr());
    let IpAddr::V6(own) = own_address(vip.into(), view)? else { return None };
    // An ICMPv6 error may follow extension headers, too.
    let about_icmp = ipv6_protocol(packet).is_none_or(|protocol| protocol == u8::from(IpProtocol::Icmpv6));
    if !answerable(client.into(), vip.into(), view) || about_icmp {
        return None;
    }
    let len = sent.header_len() + usize::from(sent.payload_len());
    let quote = &packet[..packet.len().min(len).min(V6_MOST - 40 - ICMP_HEADER)];
    let mut message = [&[2, 0, 0, 0], &u32::from(mtu).to_be_bytes()[..], quote].concat();
    Icmpv6Packet::new_unchecked(&mut message).fill_checksum(&own, &client);
    let ip = Ipv6Repr {
        src_addr: own,
        dst_addr: client,
        next_header: IpProtocol::Icmpv6,
        payload_len: message.len(),
        hop_limit: HOP_LIMIT,
    };
    let mut bytes = vec![0; ip.buffer_len()];
    ip.emit(&mut Ipv6Packet::new_unchecked(&mut bytes));
    Some([bytes, message].concat())
}

/// Our own address of the VIP's address family: in the network that the packet came by, else in any network. Never the
/// VIP.
fn own_address(vip: IpAddr, view: View<'_>) -> Option<IpAddr> {
    let all_networks = view.current.networks.iter();
    let addresses = [view.local()].into_iter().chain(all_networks).flat_map(|network| &network.addresses);
    let link_local = |address: IpAddr| matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
    let fits = |address: &IpAddr| address.is_ipv4() == vip.is_ipv4() && !link_local(*address);
    addresses.map(ipnet::IpNet::addr).find(fits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::NetworkNo;
    use crate::control::model::Model;
    use crate::testing::frame::{CLIENT_MAC, Ethernet, eth};
    use crate::testing::model::{PORT_MAC, leases, network, service, snapshot};

    fn answer(frame: &[u8]) -> Option<Vec<u8>> {
        let networks =
            vec![network("a", 0, "", &["192.168.0.2/24", "fd00::2/64"]), network("a.7", 0, "7", &["10.1.0.2/24"])];
        let mut model = Model::new([1; 16], 31, networks);
        model.add_service(&service("192.168.0.101:80", &[]), &leases()).unwrap();
        model.add_service(&service("[fd00::101]:80", &[]), &leases()).unwrap();
        // The packet comes by VLAN 7, which has no IPv6 address.
        process(frame, 1_400, View { current: &snapshot(model), network: NetworkNo::new(1) }).map(|frame| frame.bytes)
    }

    fn back() -> Ethernet {
        eth().from(PORT_MAC).to(CLIENT_MAC)
    }

    #[test]
    fn the_client_is_told_the_mtu_from_our_own_address() {
        let sent = eth().ipv4("172.16.0.1", "192.168.0.101").tcp(1234, 80).data(&[7; 1_460]);
        let rest = [&[0, 0, 5, 120], &sent[14..14 + 548]].concat();
        assert_eq!(answer(&sent), Some(back().ipv4("10.1.0.2", "172.16.0.1").dont_fragment().icmp(1, 3, 4, &rest)));
        let sent = eth().ipv6("2001:db8::1", "fd00::101").tcp(1234, 80).data(&[7; 1_440]);
        let rest = [&[0, 0, 5, 120], &sent[14..14 + 1_232]].concat();
        assert_eq!(answer(&sent), Some(back().ipv6("fd00::2", "2001:db8::1").icmp(58, 2, 0, &rest)));
    }

    #[test]
    fn a_first_fragment_is_answered_and_a_truncated_packet_is_quoted_as_far_as_it_goes() {
        let sent = eth().ipv4("172.16.0.1", "192.168.0.101").fragment(0x2000).udp(1, 80, &[7; 1_464]);
        assert!(answer(&sent).is_some());
        let quoted = answer(&sent[..14 + 100]).unwrap();
        assert_eq!(quoted[14 + 20 + 8..], sent[14..14 + 100]);
    }

    #[test]
    fn packets_that_must_not_be_answered_are_not() {
        let v4 = || eth().ipv4("172.16.0.1", "192.168.0.101");
        let from = |source| eth().ipv4(source, "192.168.0.101").tcp(1, 80).data(&[7; 1_460]);
        for frame in [
            v4().fragment(185).protocol(6, &[7; 1_480]),
            v4().icmp(1, 3, 3, &[7; 1_472]),
            eth().ipv6("2001:db8::1", "fd00::101").icmp(58, 1, 0, &[7; 1_432]),
            eth().ipv6("2001:db8::1", "fd00::101").extension(60, &[0; 8]).icmp(58, 1, 0, &[7; 1_424]),
            eth().ipv4("172.16.0.1", "224.0.0.1").tcp(1, 80).data(&[7; 1_460]),
            from("0.0.0.0"),
            from("224.0.0.1"),
            from("127.0.0.1"),
            from("192.168.0.101"),
            from("192.168.0.2"),
            from("192.168.0.255"),
            from("240.0.0.1"),
            eth().ipv6("::1", "fd00::101").tcp(1, 80).data(&[7; 1_440]),
            eth().ipv6("fd00::101", "fd00::101").tcp(1, 80).data(&[7; 1_440]),
        ] {
            assert_eq!(answer(&frame), None, "{:02x?}", &frame[14..34]);
        }
        let good = v4().tcp(1, 80).data(&[7; 1_460]);
        assert!((0..34).all(|length| answer(&good[..length]).is_none()));
    }
}
