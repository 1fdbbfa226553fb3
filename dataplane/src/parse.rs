//! Bytes to headers: the first stage of a burst.
//!
//! Goes no deeper than is needed to know the flow. IPv4 options and IPv6 extension headers are legal and walked
//! over; what contradicts itself leaves with its own reason. Nothing here looks at our tables: whether an address
//! is ours is the next stage's question.

use ctl::Mac;

use crate::exit::{DropReason, Exit, PuntReason};
use crate::flow::{Flow, Transport};

/// Length of an Ethernet header without tags.
pub const ETHERNET_HEADER: usize = 14;
/// Length of an IPv6 header without extensions (RFC 8200 §3).
const IPV6_HEADER: usize = 40;
/// Extension headers that are walked over; more are no packet that anybody sends in earnest.
const MAX_EXTENSION_HEADERS: usize = 8;

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_ARP: u16 = 0x0806;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const ETHERTYPE_VLAN: u16 = 0x8100;
const ETHERTYPE_QINQ: u16 = 0x88a8;

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;

/// What the fast path knows of a packet after parsing it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Headers {
    /// Addresses, ports, protocol.
    pub flow: Flow,
    /// What follows the IP header.
    pub payload: Payload,
}

/// What follows the IP header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Payload {
    /// TCP or UDP with both ports.
    Ports,
    /// An ICMP or ICMPv6 echo request.
    Echo,
    /// A neighbor discovery message (ICMPv6 types 133 to 137).
    Ndp,
    /// Another ICMP or ICMPv6 message.
    Icmp,
    /// A fragment, the first among them.
    Fragment,
    /// Another protocol.
    Other,
}

/// Our MAC address in the form that the parser compares with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MacNumber(u64);

impl From<Mac> for MacNumber {
    fn from(mac: Mac) -> Self {
        let [a, b, c, d, e, f] = mac.0;
        MacNumber(u64::from_be_bytes([0, 0, a, b, c, d, e, f]))
    }
}

/// Parses a frame that arrived on a port with the MAC address `ours`. `frame` may end before `wire_len` (a packet
/// of several segments), but must hold the headers.
#[inline]
pub fn headers(frame: &[u8], wire_len: usize, ours: MacNumber) -> Result<Headers, Exit> {
    let Some((ethernet, packet)) = frame.split_first_chunk::<ETHERNET_HEADER>() else {
        return Err(DropReason::Runt.into());
    };
    let ethertype = u16::from_be_bytes([ethernet[12], ethernet[13]]);
    if destination_mac(ethernet) != ours.0 {
        return Err(to_another_mac(ethernet, ethertype, packet));
    }
    let packet_len = wire_len - ETHERNET_HEADER;
    match ethertype {
        ETHERTYPE_IPV4 => ipv4(packet, packet_len),
        ETHERTYPE_IPV6 => ipv6(packet, packet_len),
        ETHERTYPE_ARP => Err(PuntReason::Arp.into()),
        ETHERTYPE_VLAN | ETHERTYPE_QINQ => Err(DropReason::UnknownVlan.into()),
        _ => Err(DropReason::NotIp.into()),
    }
}

#[inline]
fn destination_mac(ethernet: &[u8; ETHERNET_HEADER]) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = *ethernet;
    u64::from_be_bytes([a, b, c, d, e, f, g, h]) >> 16
}

/// Broadcast and multicast carry ARP and neighbor discovery; the rest of it is not for us.
#[cold]
fn to_another_mac(ethernet: &[u8; ETHERNET_HEADER], ethertype: u16, packet: &[u8]) -> Exit {
    if ethernet[0] & 1 == 0 {
        return DropReason::NotOurMac.into();
    }
    match ethertype {
        ETHERTYPE_ARP => PuntReason::Arp.into(),
        ETHERTYPE_VLAN | ETHERTYPE_QINQ => DropReason::UnknownVlan.into(),
        ETHERTYPE_IPV6 => match ipv6(packet, packet.len()) {
            Ok(Headers { payload: Payload::Ndp, .. }) => PuntReason::Ndp.into(),
            _ => DropReason::Multicast.into(),
        },
        _ => DropReason::Multicast.into(),
    }
}

/// RFC 791 §3.1.
#[inline]
fn ipv4(packet: &[u8], packet_len: usize) -> Result<Headers, Exit> {
    let Some(header) = packet.first_chunk::<20>() else {
        return Err(DropReason::Truncated.into());
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
    // More fragments follow, or an offset: not a whole packet.
    if u16::from_be_bytes([header[6], header[7]]) & 0x3fff != 0 {
        return Ok(Headers { flow: flow(Transport::new(0, 0, protocol)), payload: Payload::Fragment });
    }
    let l4 = packet.get(header_len..).unwrap_or_default();
    let (transport, payload) = transport(protocol, l4, total_len - header_len)?;
    Ok(Headers { flow: flow(transport), payload })
}

/// RFC 8200 §3 and §4.
#[inline]
fn ipv6(packet: &[u8], packet_len: usize) -> Result<Headers, Exit> {
    let Some((header, payload)) = packet.split_first_chunk::<IPV6_HEADER>() else {
        return Err(DropReason::Truncated.into());
    };
    if header[0] >> 4 != 6 {
        return Err(DropReason::BadIpHeader.into());
    }
    let payload_len = usize::from(u16::from_be_bytes([header[4], header[5]]));
    if IPV6_HEADER + payload_len > packet_len {
        return Err(DropReason::Truncated.into());
    }
    let [source, destination] = [address_at(header, 8), address_at(header, 24)];
    let flow = |transport| Flow::V6 { source, destination, transport };
    let mut protocol = header[6];
    let mut offset = 0;
    if !matches!(protocol, TCP | UDP) {
        match skip_extensions(protocol, payload, payload_len)? {
            Chain::Ends { protocol: last, offset: at } => (protocol, offset) = (last, at),
            Chain::Fragment { protocol } => {
                return Ok(Headers { flow: flow(Transport::new(0, 0, protocol)), payload: Payload::Fragment });
            }
        }
    }
    let l4 = payload.get(offset..).unwrap_or_default();
    let (transport, payload) = transport(protocol, l4, payload_len - offset)?;
    Ok(Headers { flow: flow(transport), payload })
}

#[inline]
fn address_at(header: &[u8; IPV6_HEADER], offset: usize) -> u128 {
    let bytes = header[offset..].first_chunk().expect("both addresses lie within the header");
    u128::from_be_bytes(*bytes)
}

/// Where the chain of extension headers leads to.
enum Chain {
    /// To the upper-layer header at this offset behind the IPv6 header.
    Ends { protocol: u8, offset: usize },
    /// To a fragment header.
    Fragment { protocol: u8 },
}

/// Walks the extension headers (RFC 8200 §4.1, RFC 4302 §2.2 for AH, whose length counts differently).
#[cold]
fn skip_extensions(first: u8, payload: &[u8], payload_len: usize) -> Result<Chain, Exit> {
    const HOP_BY_HOP: u8 = 0;
    const ROUTING: u8 = 43;
    const FRAGMENT: u8 = 44;
    const AUTHENTICATION: u8 = 51;
    const DESTINATION_OPTIONS: u8 = 60;

    let mut protocol = first;
    let mut offset = 0;
    for _ in 0..=MAX_EXTENSION_HEADERS {
        if !matches!(protocol, HOP_BY_HOP | ROUTING | FRAGMENT | AUTHENTICATION | DESTINATION_OPTIONS) {
            return Ok(Chain::Ends { protocol, offset });
        }
        if offset + 8 > payload_len {
            return Err(DropReason::BadIpHeader.into());
        }
        let Some(header) = payload.get(offset..).and_then(|rest| rest.first_chunk::<8>()) else {
            return Err(DropReason::Truncated.into());
        };
        offset += match protocol {
            // An "atomic" fragment (RFC 6946) is a whole packet: offset 0, no more to come.
            FRAGMENT if u16::from_be_bytes([header[2], header[3]]) & 0xfff9 == 0 => 8,
            FRAGMENT => return Ok(Chain::Fragment { protocol: header[0] }),
            AUTHENTICATION => (usize::from(header[1]) + 2) * 4,
            _ => (usize::from(header[1]) + 1) * 8,
        };
        protocol = header[0];
        if offset > payload_len {
            return Err(DropReason::BadIpHeader.into());
        }
    }
    Err(DropReason::BadIpHeader.into())
}

/// Reads as much of the L4 header as tells the flow. `len` is the length that the IP header gives it.
#[inline]
fn transport(protocol: u8, l4: &[u8], len: usize) -> Result<(Transport, Payload), Exit> {
    const ECHO_REQUEST: u8 = 8;
    const V6_ECHO_REQUEST: u8 = 128;
    const NDP: std::ops::RangeInclusive<u8> = 133..=137;

    let ports_len = match protocol {
        TCP => 20,
        UDP => 8,
        ICMP | ICMPV6 => {
            let &[kind, ..] = l4 else { return Err(DropReason::Truncated.into()) };
            let payload = match (protocol, kind) {
                (ICMP, ECHO_REQUEST) | (ICMPV6, V6_ECHO_REQUEST) => Payload::Echo,
                (ICMPV6, kind) if NDP.contains(&kind) => Payload::Ndp,
                _ => Payload::Icmp,
            };
            return Ok((Transport::new(0, 0, protocol), payload));
        }
        _ => return Ok((Transport::new(0, 0, protocol), Payload::Other)),
    };
    match l4 {
        [a, b, c, d, ..] if len >= ports_len => {
            let ports = u32::from_be_bytes([*a, *b, *c, *d]);
            Ok((Transport { ports, protocol }, Payload::Ports))
        }
        _ => Err(DropReason::Truncated.into()),
    }
}
