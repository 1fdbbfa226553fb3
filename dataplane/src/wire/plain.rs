//! The fast parser: it reads the flow of a plain frame in a few instructions. Nearly all frames are plain.

use crate::base::ethertype::{ETHERTYPE_IPV4, ETHERTYPE_IPV6};
use crate::wire::ethernet::{ETHERNET_HEADER, MacNumber, destination_mac, load};
use crate::wire::flow::{Transport, TupleV4, TupleV6};
use crate::wire::ipv6::IPV6_HEADER;
use crate::wire::l4::{TCP, UDP};
use crate::wire::source::Marks;

/// Length of the headers before the ports of a plain IPv4 frame.
pub const PLAIN_V4: usize = ETHERNET_HEADER + 20;

/// Length of the headers before the ports of a plain IPv6 frame.
pub const PLAIN_V6: usize = ETHERNET_HEADER + IPV6_HEADER;

/// Where the source address of a plain IPv4 frame begins.
const SOURCE_V4: usize = ETHERNET_HEADER + 12;

/// The same for IPv6.
const SOURCE_V6: usize = ETHERNET_HEADER + 8;

/// EtherType, version 4 and a header of 5 words. The type of service is masked.
const PLAIN_V4_KIND: u32 = (ETHERTYPE_IPV4 as u32) << 16 | 0x4500;

/// EtherType and version 6. Traffic class and flow label are masked.
const PLAIN_V6_KIND: u32 = (ETHERTYPE_IPV6 as u32) << 16 | 0x6000;

/// The flow of a plain IPv4 frame: to our MAC address, without tag, options or fragmentation, TCP or UDP. Its ports are
/// at [`PLAIN_V4`]. For such a frame, the result is that of [`headers`](crate::wire::parse::headers), in a few
/// instructions. For all other frames, it is `None`.
#[inline(always)]
pub fn plain_v4(frame: &[u8], wire_len: usize, ours: MacNumber) -> Option<TupleV4> {
    let head = frame.first_chunk::<{ PLAIN_V4 + 4 }>()?;
    // EtherType, version and header length.
    let kind = u32::from_be_bytes(load(head, 12)) & 0xffff_ff00;
    // Fragmentation, time to live, protocol.
    let rest: [u8; 4] = load(head, 20);
    let fragment = u32::from_be_bytes(rest) & 0x3fff_0000;
    // In a frame of several segments, the headers may end in a later segment.
    let split = frame.len() < wire_len;
    if kind != PLAIN_V4_KIND || fragment != 0 || split || destination_mac(&load(head, 0)) != ours {
        return None;
    }
    let total_len = u32::from(u16::from_be_bytes(load(head, 16)));
    let protocol = rest[3];
    if total_len as usize + ETHERNET_HEADER > wire_len || total_len < V4_LEN[usize::from(protocol)] {
        return None;
    }
    let ports = u32::from_be_bytes(load(head, PLAIN_V4));
    Some(TupleV4 {
        addresses: u64::from_be_bytes(load(head, SOURCE_V4)),
        transport: Transport { ports, protocol }.number(),
    })
}

/// The same for IPv6, without extension headers. Its ports are at [`PLAIN_V6`].
#[inline(always)]
pub fn plain_v6(frame: &[u8], wire_len: usize, ours: MacNumber) -> Option<TupleV6> {
    let head = frame.first_chunk::<{ PLAIN_V6 + 4 }>()?;
    let kind = u32::from_be_bytes(load(head, 12)) & 0xffff_f000;
    if kind != PLAIN_V6_KIND || frame.len() < wire_len || destination_mac(&load(head, 0)) != ours {
        return None;
    }
    let payload_len = u32::from(u16::from_be_bytes(load(head, 18)));
    let protocol = head[20];
    if payload_len as usize + PLAIN_V6 > wire_len || payload_len < HEADER_LEN[usize::from(protocol)] {
        return None;
    }
    let [source, destination] = [SOURCE_V6, SOURCE_V6 + 16].map(|offset| u128::from_be_bytes(load(head, offset)));
    let ports = u32::from_be_bytes(load(head, PLAIN_V6));
    Some(TupleV6 { source, destination, transport: Transport { ports, protocol }.number() })
}

/// The mark of a plain IPv4 frame's source; 0: all is well with it.
#[inline(always)]
pub fn mark_v4(frame: &[u8], marks: &Marks) -> u8 {
    frame.first_chunk::<{ PLAIN_V4 + 4 }>().map_or(0, |head| marks.of_v4(load(head, SOURCE_V4)))
}

/// The same for IPv6.
#[inline(always)]
pub fn mark_v6(frame: &[u8], marks: &Marks) -> u8 {
    let halves = |head| [load(head, SOURCE_V6), load(head, SOURCE_V6 + 8)];
    frame.first_chunk::<{ PLAIN_V6 + 4 }>().map(halves).map_or(0, |[upper, lower]| marks.of_v6(upper, lower))
}

/// What a plain frame of TCP shows at a glance: whether it opens a connection (a SYN, and nothing else), and the flow's
/// [`fingerprint`]. `None` for other protocols.
#[inline(always)]
pub fn glance_at_tcp(frame: &[u8]) -> Option<(bool, u64)> {
    const HEADER: usize = 20;
    const FLAGS: usize = 13;
    /// FIN, SYN, RST, ACK; and SYN.
    const BEGIN_AND_END: (u8, u8) = (0x17, 0x02);
    let head = frame.first_chunk::<{ PLAIN_V4 + HEADER }>()?;
    let (protocol, flags, fingerprint) = if u16::from_be_bytes(load(head, 12)) == ETHERTYPE_IPV4 {
        let source = u32::from_be_bytes(load(head, SOURCE_V4));
        let ports = u32::from_be_bytes(load(head, PLAIN_V4));
        (head[23], head[PLAIN_V4 + FLAGS], fingerprint(source.into(), ports))
    } else {
        let head = frame.first_chunk::<{ PLAIN_V6 + HEADER }>()?;
        let source = u64::from_be_bytes(load(head, SOURCE_V6 + 8));
        let ports = u32::from_be_bytes(load(head, PLAIN_V6));
        (head[20], head[PLAIN_V6 + FLAGS], fingerprint(source, ports))
    };
    let (mask, syn) = BEGIN_AND_END;
    (protocol == TCP).then_some((flags & mask == syn, fingerprint))
}

/// A number that tells most flows to a service apart, in one instruction: of the lower 64 bits of the source, and the ports. It is no hash.
#[inline(always)]
pub fn fingerprint(source: u64, ports: u32) -> u64 {
    source ^ u64::from(ports) << 32
}

/// By protocol: the least length of a transport header. For protocols that are not plain, it is more than any packet's
/// length. A table, because a mix of TCP and UDP would make the CPU mispredict two comparisons.
static HEADER_LEN: [u32; 256] = {
    let mut lens = [u32::MAX / 2; 256];
    lens[TCP as usize] = 20;
    lens[UDP as usize] = 8;
    lens
};

/// The same, plus the length of the IPv4 header.
static V4_LEN: [u32; 256] = {
    let mut lens = HEADER_LEN;
    let mut protocol = 0;
    // Bound: 256 rounds, by the compiler.
    while protocol < lens.len() {
        lens[protocol] += 20;
        protocol += 1;
    }
    lens
};
