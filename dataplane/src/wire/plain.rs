//! The fast reading: the flow of a frame that nearly all frames are like, in a few instructions.

use crate::wire::ethernet::{ETHERNET_HEADER, ETHERTYPE_IPV4, ETHERTYPE_IPV6, MacNumber, destination_mac, load};
use crate::wire::flow::{Transport, TupleV4, TupleV6};
use crate::wire::ipv6::IPV6_HEADER;
use crate::wire::l4::{TCP, UDP};

/// Length of what a plain IPv4 frame has before its ports.
pub const PLAIN_V4: usize = ETHERNET_HEADER + 20;

/// The same of IPv6.
pub const PLAIN_V6: usize = ETHERNET_HEADER + IPV6_HEADER;

/// EtherType, version 4, a header of 5 words; without the type of service.
const PLAIN_V4_KIND: u32 = (ETHERTYPE_IPV4 as u32) << 16 | 0x4500;

/// EtherType, version 6; without traffic class and flow label.
const PLAIN_V6_KIND: u32 = (ETHERTYPE_IPV6 as u32) << 16 | 0x6000;

/// The flow of a frame that nearly all IPv4 frames are like: to our MAC address, without tag, options or fragmentation, TCP
/// or UDP. Its ports are at [`PLAIN_V4`]. Whatever [`headers`](crate::wire::parse::headers) says of such a frame, this says too, in a few instructions; of
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
    if kind != PLAIN_V4_KIND || fragment != 0 || split || destination_mac(&load(head, 0)) != ours {
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
    if kind != PLAIN_V6_KIND || frame.len() < wire_len || destination_mac(&load(head, 0)) != ours {
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
