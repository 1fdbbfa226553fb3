//! The parser, which is the first stage of a burst: it turns bytes into headers.
//!
//! Parsing goes only as deep as the flow needs. IPv4 options and IPv6 extension headers are legal and skipped. A packet
//! whose headers contradict each other leaves with its own reason. Nothing here looks at our tables: the next stage
//! finds out whether an address is ours.

use crate::base::ethertype::{ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, ETHERTYPE_QINQ, ETHERTYPE_VLAN};
use crate::base::exit::{DropReason, Exit, PuntReason};
use crate::wire::ethernet::{ETHERNET_HEADER, MacNumber, destination_mac, split};
use crate::wire::flow::Flow;
use crate::wire::headers::{Fragment, Headers, Payload, short};
use crate::wire::icmp::{is_v4_error, is_v6_error, quoted_v4, quoted_v6};
use crate::wire::ipv6::{Chain, FragmentChain, IPV6_HEADER, address_at, skip_extensions};
use crate::wire::l4::{ICMP, ICMPV6, fragmented, has_ports, transport};
use crate::wire::{arp, mld, ndp};

/// Parses a frame that arrived on a port with the MAC address `ours`. `frame` may be shorter than `wire_len` (a packet
/// of several segments), but must contain the headers. `tags` bytes of [VLAN tags](crate::wire::vlan) are skipped.
#[inline]
pub fn headers(frame: &[u8], wire_len: usize, ours: MacNumber, tags: usize) -> Result<Headers, Exit> {
    let Some((ethernet, packet)) = split(frame, tags) else {
        return Err(short(ETHERNET_HEADER + tags, wire_len, DropReason::Runt));
    };
    let ethertype = u16::from_be_bytes([ethernet[12], ethernet[13]]);
    if ethernet.first_chunk().map(destination_mac) != Some(ours) {
        return Err(to_another_mac(&ethernet, ethertype, packet));
    }
    let packet_len = wire_len - ETHERNET_HEADER - tags;
    match ethertype {
        ETHERTYPE_IPV4 => ipv4(packet, packet_len),
        ETHERTYPE_IPV6 => ipv6(packet, packet_len),
        ETHERTYPE_ARP => Err(arp::exit(packet)),
        ETHERTYPE_VLAN | ETHERTYPE_QINQ => Err(DropReason::UnknownVlan.into()),
        _ => Err(DropReason::NotIp.into()),
    }
}

/// Of broadcast and multicast frames, only ARP, neighbor discovery and queries for listeners are for us.
#[cold]
fn to_another_mac(ethernet: &[u8; ETHERNET_HEADER], ethertype: u16, packet: &[u8]) -> Exit {
    if ethernet[0] & 1 == 0 {
        return DropReason::NotOurMac.into();
    }
    match ethertype {
        ETHERTYPE_ARP => arp::exit(packet),
        ETHERTYPE_VLAN | ETHERTYPE_QINQ => DropReason::UnknownVlan.into(),
        ETHERTYPE_IPV6 => match ipv6(packet, packet.len()) {
            Ok(Headers { payload: Payload::Ndp, .. }) => PuntReason::Ndp.into(),
            Ok(Headers { payload: Payload::MldQuery, .. }) => PuntReason::Mld.into(),
            Err(invalid @ Exit::Drop(DropReason::NdpInvalid | DropReason::MldInvalid)) => invalid,
            _ => DropReason::Multicast.into(),
        },
        _ => DropReason::Multicast.into(),
    }
}

/// RFC 791 §3.1.
#[inline]
fn ipv4(packet: &[u8], packet_len: usize) -> Result<Headers, Exit> {
    let Some(header) = packet.first_chunk::<20>() else {
        return Err(short(20, packet_len, DropReason::Truncated));
    };
    let header_len = usize::from(header[0] & 0x0f) * 4;
    let total_len = usize::from(u16::from_be_bytes([header[2], header[3]]));
    if header[0] >> 4 != 4 || header_len < 20 || total_len < header_len {
        return Err(DropReason::BadIpHeader.into());
    }
    if total_len > packet_len {
        return Err(DropReason::Truncated.into());
    }
    let source = u32::from_be_bytes([header[12], header[13], header[14], header[15]]);
    let destination = u32::from_be_bytes([header[16], header[17], header[18], header[19]]);
    let protocol = header[9];
    let flow = |transport| Flow::V4 { source, destination, transport };
    // What lies behind the packet is padding.
    let l4 = packet.get(header_len..total_len.min(packet.len())).unwrap_or_default();
    // The flag "more fragments" or an offset: the packet is not whole.
    let fragment = u16::from_be_bytes([header[6], header[7]]) & 0x3fff;
    if fragment != 0 {
        let identification = u32::from(u16::from_be_bytes([header[4], header[5]]));
        let first = (fragment & 0x1fff == 0).then_some(l4);
        let (transport, of) = fragmented(protocol, ICMP, identification, first, total_len - header_len)?;
        return Ok(Headers::new(flow(transport), Payload::Fragment(of)));
    }
    let (transport, payload) = transport(protocol, ICMP, l4, total_len - header_len)?;
    if payload == Payload::Icmp && is_v4_error(l4) {
        return quoted_v4(source, destination, l4);
    }
    Ok(Headers::new(flow(transport), payload))
}

/// RFC 8200 §3 and §4.
#[inline]
fn ipv6(packet: &[u8], packet_len: usize) -> Result<Headers, Exit> {
    let Some((header, payload)) = packet.split_first_chunk::<IPV6_HEADER>() else {
        return Err(short(IPV6_HEADER, packet_len, DropReason::Truncated));
    };
    if header[0] >> 4 != 6 {
        return Err(DropReason::BadIpHeader.into());
    }
    let payload_len = usize::from(u16::from_be_bytes([header[4], header[5]]));
    if IPV6_HEADER + payload_len > packet_len {
        return Err(DropReason::Truncated.into());
    }
    // What lies behind the packet is padding.
    let payload = payload.get(..payload_len).unwrap_or(payload);
    let [source, destination] = [address_at(header, 8), address_at(header, 24)];
    let flow = |transport| Flow::V6 { source, destination, transport };
    let mut protocol = header[6];
    let mut offset = 0;
    if !has_ports(protocol) {
        match skip_extensions(protocol, payload, payload_len)? {
            Chain::Ends { protocol: last, offset: at } => (protocol, offset) = (last, at),
            Chain::Fragment(FragmentChain { protocol, identification, extended, first }) => {
                let l4 = first.map(|offset| payload.get(offset..).unwrap_or_default());
                let len = payload_len - first.unwrap_or(payload_len);
                let (transport, of) = fragmented(protocol, ICMPV6, identification, l4, len)?;
                return Ok(Headers::new(flow(transport), Payload::Fragment(Fragment { extended, ..of })));
            }
        }
    }
    let l4 = payload.get(offset..).unwrap_or_default();
    let (transport, payload) = transport(protocol, ICMPV6, l4, payload_len - offset)?;
    match payload {
        Payload::Icmp if is_v6_error(l4) => return quoted_v6(source, destination, l4),
        Payload::Ndp if ndp::parties(packet).is_none() => return Err(DropReason::NdpInvalid.into()),
        Payload::MldQuery if mld::query(packet).is_none() => return Err(DropReason::MldInvalid.into()),
        _ => {}
    }
    Ok(Headers::new(flow(transport), payload))
}
