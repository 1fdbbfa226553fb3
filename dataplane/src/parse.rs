//! Bytes to headers: the first stage of a burst.
//!
//! Goes no deeper than is needed to know the flow. IPv4 options and IPv6 extension headers are legal and walked
//! over; what contradicts itself leaves with its own reason. Nothing here looks at our tables: whether an address
//! is ours is the next stage's question.

use ctl::Mac;

use crate::exit::{DropReason, Exit, PuntReason};
use crate::flow::{Flow, Transport, TupleV4, TupleV6};

/// Length of an Ethernet header without tags.
pub const ETHERNET_HEADER: usize = 14;
/// Length of an IPv6 header without extensions (RFC 8200 §3).
const IPV6_HEADER: usize = 40;
/// Length of the part of an ICMP or ICMPv6 error before what it quotes (RFC 792, RFC 4443 §3).
const ICMP_HEADER: usize = 8;
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
const SCTP: u8 = 132;
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
    /// TCP, UDP or SCTP with both ports. Or an ICMP error about such a packet: then the flow is that of the packet it quotes,
    /// seen from the client, so that the error follows the flow.
    Ports(Segment),
    /// An ICMP or ICMPv6 echo request.
    Echo,
    /// A neighbor discovery message (ICMPv6 types 133 to 137).
    Ndp,
    /// Another ICMP or ICMPv6 message, no error.
    Icmp,
    /// A fragment. The flow has the ports where it is the first one.
    Fragment(Fragment),
    /// Another protocol.
    Other,
}

/// Which packet a fragment is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fragment {
    /// What its fragments share besides addresses and protocol (16 bits in IPv4, 32 in IPv6).
    pub identification: u32,
    /// Whether it is the first, which has the ports.
    pub first: bool,
    /// What it tells of its flow.
    pub segment: Segment,
}

/// What a packet tells of its flow's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Segment {
    /// It opens a connection (a SYN without ACK; an SCTP INIT).
    Open,
    /// It is part of the flow.
    Data,
    /// The client has no more to send (a FIN; an SCTP SHUTDOWN).
    Fin,
    /// The client breaks the connection off (a RST; an SCTP ABORT).
    Rst,
    /// It belongs to the flow and proves nothing of it: an ICMP error, which anybody can send, or a later fragment.
    Related,
}

/// Our MAC address in the form that the parser compares with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MacNumber(u64);

impl MacNumber {
    /// That of no frame.
    pub const NOBODY: MacNumber = MacNumber(u64::MAX);
}

impl From<Mac> for MacNumber {
    fn from(mac: Mac) -> Self {
        let [a, b, c, d, e, f] = mac.0;
        MacNumber(u64::from_le_bytes([a, b, c, d, e, f, 0, 0]))
    }
}

/// Length of what a plain IPv4 frame has before its ports.
pub const PLAIN_V4: usize = ETHERNET_HEADER + 20;
/// The same of IPv6.
pub const PLAIN_V6: usize = ETHERNET_HEADER + IPV6_HEADER;

/// The flow of a frame that nearly all IPv4 frames are like: to our MAC address, without tag, options or fragmentation, TCP
/// or UDP. Its ports are at [`PLAIN_V4`]. Whatever [`headers`] says of such a frame, this says too, in a few instructions; of
/// all others, it says nothing.
#[inline(always)]
pub fn plain_v4(frame: &[u8], wire_len: usize, ours: MacNumber) -> Option<TupleV4> {
    let head = frame.first_chunk::<{ PLAIN_V4 + 4 }>()?;
    // EtherType, version and header length.
    let kind = u32::from_be_bytes(load(head, 12)) & 0xffff_ff00;
    // Fragmentation, time to live, protocol.
    let rest: [u8; 4] = load(head, 20);
    let fragment = u32::from_be_bytes(rest) & 0x3fff_0000;
    // A frame of several segments may have the end of its headers in another one.
    let split = frame.len() < wire_len;
    if kind != 0x0800_4500 || fragment != 0 || split || destination_mac(&load(head, 0)) != ours.0 {
        return None;
    }
    let total_len = u32::from(u16::from_be_bytes(load(head, 16)));
    let protocol = rest[3];
    if total_len as usize + ETHERNET_HEADER > wire_len || total_len < V4_LEN[usize::from(protocol)] {
        return None;
    }
    let ports = u32::from_be_bytes(load(head, PLAIN_V4));
    Some(TupleV4 { addresses: u64::from_be_bytes(load(head, 26)), transport: Transport { ports, protocol }.number() })
}

/// The same for IPv6, without extension headers; its ports are at [`PLAIN_V6`].
#[inline(always)]
pub fn plain_v6(frame: &[u8], wire_len: usize, ours: MacNumber) -> Option<TupleV6> {
    let head = frame.first_chunk::<{ PLAIN_V6 + 4 }>()?;
    let kind = u32::from_be_bytes(load(head, 12)) & 0xffff_f000;
    if kind != 0x86dd_6000 || frame.len() < wire_len || destination_mac(&load(head, 0)) != ours.0 {
        return None;
    }
    let payload_len = u32::from(u16::from_be_bytes(load(head, 18)));
    let protocol = head[20];
    if payload_len as usize + PLAIN_V6 > wire_len || payload_len < HEADER_LEN[usize::from(protocol)] {
        return None;
    }
    let [source, destination] = [22, 38].map(|place| u128::from_be_bytes(load(head, place)));
    let ports = u32::from_be_bytes(load(head, PLAIN_V6));
    Some(TupleV6 { source, destination, transport: Transport { ports, protocol }.number() })
}

/// So many bytes from this place on, in one load: the compiler does not put together what is taken byte by byte.
#[inline(always)]
fn load<const LEN: usize, const N: usize>(head: &[u8; LEN], place: usize) -> [u8; N] {
    *head[place..].first_chunk().expect("the head is longer")
}

/// By protocol: the length of the header that a plain frame's transport protocol has at least; of other protocols, more than
/// any packet's. A table in place of two comparisons that a mix of TCP and UDP would have mispredicted.
static HEADER_LEN: [u32; 256] = {
    let mut lens = [u32::MAX / 2; 256];
    lens[TCP as usize] = 20;
    lens[UDP as usize] = 8;
    lens
};

/// The same with the IPv4 header before it.
static V4_LEN: [u32; 256] = {
    let mut lens = HEADER_LEN;
    let mut protocol = 0;
    while protocol < lens.len() {
        lens[protocol] += 20;
        protocol += 1;
    }
    lens
};

/// Parses a frame that arrived on a port with the MAC address `ours`. `frame` may end before `wire_len` (a packet
/// of several segments), but must hold the headers. `tags` bytes of [VLAN tags](crate::vlan) are skipped.
#[inline]
pub fn headers(frame: &[u8], wire_len: usize, ours: MacNumber, tags: usize) -> Result<Headers, Exit> {
    let Some((ethernet, packet)) = ethernet(frame, tags) else {
        return Err(short(ETHERNET_HEADER + tags, wire_len, DropReason::Runt));
    };
    let ethertype = u16::from_be_bytes([ethernet[12], ethernet[13]]);
    if ethernet.first_chunk().map(destination_mac) != Some(ours.0) {
        return Err(to_another_mac(&ethernet, ethertype, packet));
    }
    let packet_len = wire_len - ETHERNET_HEADER - tags;
    match ethertype {
        ETHERTYPE_IPV4 => ipv4(packet, packet_len),
        ETHERTYPE_IPV6 => ipv6(packet, packet_len),
        ETHERTYPE_ARP => Err(PuntReason::Arp.into()),
        ETHERTYPE_VLAN | ETHERTYPE_QINQ => Err(DropReason::UnknownVlan.into()),
        _ => Err(DropReason::NotIp.into()),
    }
}

/// Why a header of so many bytes is not all in the first segment: the frame, of which there are `len` from there on, has
/// them in another one; or it does not have them.
#[cold]
fn short(header: usize, len: usize, otherwise: DropReason) -> Exit {
    if header <= len { DropReason::HeadersSplit.into() } else { otherwise.into() }
}

/// The Ethernet header as it would be without tags, and what is behind it.
#[inline]
fn ethernet(frame: &[u8], tags: usize) -> Option<([u8; ETHERNET_HEADER], &[u8])> {
    let (addresses, rest) = frame.split_first_chunk::<12>()?;
    let (ethertype, packet) = rest.get(tags..)?.split_first_chunk::<2>()?;
    let mut header = [0; ETHERNET_HEADER];
    header[..12].copy_from_slice(addresses);
    header[12..].copy_from_slice(ethertype);
    Some((header, packet))
}

/// The first six bytes of an Ethernet header.
#[inline(always)]
pub fn destination_mac(ethernet: &[u8; 8]) -> u64 {
    // Two bytes too many are read and masked: one load.
    u64::from_le_bytes(*ethernet) & 0x0000_ffff_ffff_ffff
}

/// The next six.
#[inline(always)]
pub fn source_mac(ethernet: &[u8; ETHERNET_HEADER]) -> u64 {
    u64::from_le_bytes(load(ethernet, 6)) & 0x0000_ffff_ffff_ffff
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
    // More fragments follow, or an offset: not a whole packet.
    let fragment = u16::from_be_bytes([header[6], header[7]]) & 0x3fff;
    if fragment != 0 {
        let identification = u32::from(u16::from_be_bytes([header[4], header[5]]));
        let first = (fragment & 0x1fff == 0).then_some(l4);
        let (transport, payload) = fragmented(protocol, identification, first, total_len - header_len)?;
        return Ok(Headers { flow: flow(transport), payload });
    }
    let (transport, payload) = transport(protocol, l4, total_len - header_len)?;
    if payload == Payload::Icmp && is_v4_error(l4) {
        return quoted_v4(destination, l4);
    }
    Ok(Headers { flow: flow(transport), payload })
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
            Chain::Fragment { protocol, identification, first } => {
                let l4 = first.map(|offset| payload.get(offset..).unwrap_or_default());
                let len = payload_len - first.unwrap_or(payload_len);
                let (transport, payload) = fragmented(protocol, identification, l4, len)?;
                return Ok(Headers { flow: flow(transport), payload });
            }
        }
    }
    let l4 = payload.get(offset..).unwrap_or_default();
    let (transport, payload) = transport(protocol, l4, payload_len - offset)?;
    if payload == Payload::Icmp && is_v6_error(l4) {
        return quoted_v6(destination, l4);
    }
    Ok(Headers { flow: flow(transport), payload })
}

/// Whether a packet that goes to a backend fits into an MTU; if not, whether its sender may be told: not about ICMP
/// errors, the only ICMP that goes there (RFC 1122 §3.2.2, RFC 4443 §2.4), nor about later fragments of IPv4.
#[cold]
pub fn fits(packet: &[u8], mtu: u16) -> Result<(), Exit> {
    let word = |place| packet.get(place..).and_then(<[u8]>::first_chunk).copied().map_or(0, u16::from_be_bytes);
    let byte = |place| packet.get(place).copied().unwrap_or(0);
    let v4 = byte(0) >> 4 == 4;
    let len = if v4 { usize::from(word(2)) } else { IPV6_HEADER + usize::from(word(4)) };
    if len <= usize::from(mtu) {
        return Ok(());
    }
    let icmp = if v4 { byte(9) == ICMP } else { ipv6_protocol(packet) == Some(ICMPV6) };
    if icmp || v4 && word(6) & 0x1fff != 0 {
        return Err(DropReason::TooBigUnanswered.into());
    }
    Err(Exit::TooBig(mtu))
}

/// Destination unreachable, source quench, time exceeded, parameter problem (RFC 792): what quotes the packet that it
/// is about. A redirect does so, too, but is for the host that it is sent to.
fn is_v4_error(icmp: &[u8]) -> bool {
    matches!(icmp, [3 | 4 | 11 | 12, ..])
}

/// RFC 4443 §2.1: errors have the high bit clear. Those that are defined (§3) are 1 to 4.
fn is_v6_error(icmp: &[u8]) -> bool {
    matches!(icmp, [1..=4, ..])
}

/// The flow of the packet that an ICMP error to `vip` quotes: a backend sent it, from the VIP to the client.
/// As little as the IP header and eight bytes are quoted (RFC 792), so its length is not checked.
#[cold]
fn quoted_v4(vip: u32, icmp: &[u8]) -> Result<Headers, Exit> {
    let quote = icmp.get(ICMP_HEADER..).unwrap_or_default();
    let Some(header) = quote.first_chunk::<20>() else { return Err(DropReason::IcmpQuote.into()) };
    let header_len = usize::from(header[0] & 0x0f) * 4;
    let source = u32::from_be_bytes([header[12], header[13], header[14], header[15]]);
    let client = u32::from_be_bytes([header[16], header[17], header[18], header[19]]);
    let first_fragment = u16::from_be_bytes([header[6], header[7]]) & 0x1fff == 0;
    if header[0] >> 4 != 4 || header_len < 20 || source != vip || !first_fragment {
        return Err(DropReason::IcmpQuote.into());
    }
    let transport = quoted_transport(header[9], quote.get(header_len..))?;
    Ok(Headers {
        flow: Flow::V4 { source: client, destination: vip, transport },
        payload: Payload::Ports(Segment::Related),
    })
}

/// The same for ICMPv6 (RFC 4443 §3), which quotes as much as fits.
#[cold]
fn quoted_v6(vip: u128, icmp: &[u8]) -> Result<Headers, Exit> {
    let quote = icmp.get(ICMP_HEADER..).unwrap_or_default();
    let Some((header, payload)) = quote.split_first_chunk::<IPV6_HEADER>() else {
        return Err(DropReason::IcmpQuote.into());
    };
    let [source, client] = [address_at(header, 8), address_at(header, 24)];
    if header[0] >> 4 != 6 || source != vip {
        return Err(DropReason::IcmpQuote.into());
    }
    let (protocol, offset) = match skip_extensions(header[6], payload, payload.len()) {
        Ok(Chain::Ends { protocol, offset } | Chain::Fragment { protocol, first: Some(offset), .. }) => {
            (protocol, offset)
        }
        _ => return Err(DropReason::IcmpQuote.into()),
    };
    let transport = quoted_transport(protocol, payload.get(offset..))?;
    Ok(Headers {
        flow: Flow::V6 { source: client, destination: vip, transport },
        payload: Payload::Ports(Segment::Related),
    })
}

/// The client's side of a quoted packet's ports.
fn quoted_transport(protocol: u8, l4: Option<&[u8]>) -> Result<Transport, Exit> {
    match l4 {
        Some([a, b, c, d, ..]) if has_ports(protocol) => {
            Ok(Transport { ports: u32::from_be_bytes([*c, *d, *a, *b]), protocol })
        }
        _ => Err(DropReason::IcmpQuote.into()),
    }
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
    /// To a fragment header; where it is the first fragment's, the upper-layer header begins at that offset.
    Fragment { protocol: u8, identification: u32, first: Option<usize> },
}

/// Walks the extension headers (RFC 8200 §4.1, RFC 4302 §2.2 for AH, whose length counts differently).
#[cold]
fn skip_extensions(first: u8, payload: &[u8], payload_len: usize) -> Result<Chain, Exit> {
    const HOP_BY_HOP: u8 = 0;
    const ROUTING: u8 = 43;
    const FRAGMENT: u8 = 44;
    const AUTHENTICATION: u8 = 51;
    const DESTINATION_OPTIONS: u8 = 60;

    let end = |protocol, offset, fragment| match (offset, fragment) {
        (Some(offset), None) => Chain::Ends { protocol, offset },
        (first, fragment) => Chain::Fragment { protocol, identification: fragment.unwrap_or_default(), first },
    };
    let mut protocol = first;
    let mut offset = 0;
    let mut fragment = None;
    for _ in 0..=MAX_EXTENSION_HEADERS {
        if !matches!(protocol, HOP_BY_HOP | ROUTING | FRAGMENT | AUTHENTICATION | DESTINATION_OPTIONS) {
            return Ok(end(protocol, Some(offset), fragment));
        }
        if offset + 8 > payload_len {
            return Err(DropReason::BadIpHeader.into());
        }
        let Some(header) = payload.get(offset..).and_then(|rest| rest.first_chunk::<8>()) else {
            return Err(DropReason::HeadersSplit.into());
        };
        offset += match protocol {
            // An "atomic" fragment (RFC 6946) is a whole packet: offset 0, no more to come.
            FRAGMENT if u16::from_be_bytes([header[2], header[3]]) & 0xfff9 == 0 => 8,
            FRAGMENT => {
                fragment = Some(u32::from_be_bytes([header[4], header[5], header[6], header[7]]));
                if u16::from_be_bytes([header[2], header[3]]) & 0xfff8 != 0 {
                    // What follows is the middle of something.
                    return Ok(end(header[0], None, fragment));
                }
                8
            }
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

/// The protocol that an IPv6 packet carries behind its extension headers; `None` where that cannot be told.
pub fn ipv6_protocol(packet: &[u8]) -> Option<u8> {
    let (header, payload) = packet.split_first_chunk::<IPV6_HEADER>()?;
    match skip_extensions(header[6], payload, payload.len()).ok()? {
        Chain::Ends { protocol, .. } | Chain::Fragment { protocol, .. } => Some(protocol),
    }
}

/// A fragment's flow, as far as it tells: the first has ports, the later ones do not.
#[cold]
fn fragmented(
    protocol: u8,
    identification: u32,
    first: Option<&[u8]>,
    len: usize,
) -> Result<(Transport, Payload), Exit> {
    let (transport, segment) = match first.map(|l4| transport(protocol, l4, len)) {
        // RFC 1858, RFC 7112: ports in a second fragment are an attempt to get past somebody.
        Some(Err(exit)) if exit == DropReason::HeadersSplit.into() => return Err(exit),
        Some(Err(_)) => return Err(DropReason::FragmentTiny.into()),
        Some(Ok((transport, Payload::Ports(segment)))) => (transport, segment),
        Some(Ok((transport, _))) => (transport, Segment::Data),
        None => (Transport::new(0, 0, protocol), Segment::Related),
    };
    Ok((transport, Payload::Fragment(Fragment { identification, first: first.is_some(), segment })))
}

/// Whether a protocol's header begins with two ports, and services may be of that protocol.
#[inline]
pub fn has_ports(protocol: u8) -> bool {
    matches!(protocol, TCP | UDP | SCTP)
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
        SCTP => 12, // the common header, RFC 9260 §3.1
        ICMP | ICMPV6 => {
            let &[kind, ..] = l4 else { return Err(short(1, len, DropReason::Truncated)) };
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
        [a, b, c, d, ..] if l4.len().min(len) >= ports_len => {
            let ports = u32::from_be_bytes([*a, *b, *c, *d]);
            Ok((Transport { ports, protocol }, Payload::Ports(segment(protocol, l4))))
        }
        _ => Err(short(ports_len, len, DropReason::Truncated)),
    }
}

/// What a whole packet's L4 header tells of its flow. RFC 9293 §3.1 for TCP's flags, RFC 9260 §3.2 for the type of SCTP's first chunk.
#[inline]
pub fn segment(protocol: u8, l4: &[u8]) -> Segment {
    const TCP_FLAGS: usize = 13;
    const SCTP_CHUNK: usize = 12;
    const FIN: u8 = 0x01;
    const SYN: u8 = 0x02;
    const RST: u8 = 0x04;
    const ACK: u8 = 0x10;
    match protocol {
        TCP => match l4.get(TCP_FLAGS) {
            Some(flags) if flags & RST != 0 => Segment::Rst,
            Some(flags) if flags & FIN != 0 => Segment::Fin,
            Some(flags) if flags & (SYN | ACK) == SYN => Segment::Open,
            _ => Segment::Data,
        },
        SCTP => match l4.get(SCTP_CHUNK) {
            Some(1) => Segment::Open,     // INIT
            Some(7 | 8) => Segment::Fin,  // SHUTDOWN, SHUTDOWN ACK
            Some(6 | 14) => Segment::Rst, // ABORT, SHUTDOWN COMPLETE
            _ => Segment::Data,
        },
        _ => Segment::Data,
    }
}
