//! Transport headers: the ports, and what a packet says about the life of its flow.

use ctl::Protocol;

use crate::base::exit::{DropReason, Exit};
use crate::wire::flow::Transport;
use crate::wire::headers::{Fragment, Payload, Segment, short};

/// IP protocol number of ICMP.
pub const ICMP: u8 = 1;
/// IP protocol number of TCP.
pub const TCP: u8 = Protocol::Tcp.number();
/// IP protocol number of UDP.
pub const UDP: u8 = Protocol::Udp.number();
/// IP protocol number of SCTP.
pub const SCTP: u8 = Protocol::Sctp.number();
/// IP protocol number of ICMPv6.
pub const ICMPV6: u8 = 58;

/// ICMPv6's type of a neighbor solicitation (RFC 4861 §4.3).
pub(super) const SOLICITATION: u8 = 135;
/// That of a neighbor advertisement (RFC 4861 §4.4).
pub(super) const ADVERTISEMENT: u8 = 136;
/// That of a query for multicast listeners (RFC 3810 §5.1).
pub(super) const QUERY: u8 = 130;

/// A fragment's transport part of the flow. The first fragment has ports, the later ones do not.
#[cold]
pub(super) fn fragmented(
    protocol: u8,
    icmp: u8,
    identification: u32,
    first: Option<&[u8]>,
    len: usize,
) -> Result<(Transport, Fragment), Exit> {
    let (transport, segment) = match first.map(|l4| transport(protocol, icmp, l4, len)) {
        // RFC 1858, RFC 7112: ports in a second fragment are an attempt to get past a firewall.
        Some(Err(exit)) if exit == DropReason::HeadersSplit.into() => return Err(exit),
        Some(Err(_)) => return Err(DropReason::FragmentTiny.into()),
        Some(Ok((transport, Payload::Ports(segment)))) => (transport, segment),
        Some(Ok((transport, _))) => (transport, Segment::Data),
        None => (Transport::new(0, 0, protocol), Segment::Related),
    };
    Ok((transport, Fragment { identification, first: first.is_some(), extended: false, segment }))
}

/// Whether a protocol's header begins with two ports. Services have such protocols only.
#[inline]
pub fn has_ports(protocol: u8) -> bool {
    matches!(protocol, TCP | UDP | SCTP)
}

/// Reads the L4 header as far as the flow needs it. `icmp` is the IP version's own ICMP protocol: that of the other
/// version has no meaning. `len` is the length of the L4 part according to the IP header.
#[inline]
pub(super) fn transport(protocol: u8, icmp: u8, l4: &[u8], len: usize) -> Result<(Transport, Payload), Exit> {
    const ECHO_REQUEST: u8 = 8;
    const V6_ECHO_REQUEST: u8 = 128;

    let ports_len = match protocol {
        TCP => 20,
        UDP => 8,
        SCTP => 12, // the common header, RFC 9260 §3.1
        _ if protocol == icmp => {
            let &[kind, ..] = l4 else { return Err(short(1, len, DropReason::Truncated)) };
            let payload = match (protocol, kind) {
                (ICMP, ECHO_REQUEST) | (ICMPV6, V6_ECHO_REQUEST) => Payload::Echo,
                (ICMPV6, SOLICITATION | ADVERTISEMENT) => Payload::Ndp,
                (ICMPV6, QUERY) => Payload::MldQuery,
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

/// What a whole packet's L4 header says about its flow. TCP's flags are in RFC 9293 §3.1, the type of SCTP's first
/// chunk in RFC 9260 §3.2.
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
