//! Packets that come for probes: TCP, datagrams, answers to pings, and ICMP errors that quote a probe.

use std::net::IpAddr;

use smoltcp::wire::{
    Icmpv4Message, Icmpv4Packet, Icmpv6Message, Icmpv6Packet, IpProtocol, Ipv4Packet, Ipv6ExtHeader, Ipv6Packet,
    TcpPacket, UdpPacket,
};

use crate::health::finding::{Failure, Trouble};

/// A packet that may be the answer to a probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Incoming<'f> {
    /// Who has sent it.
    pub(super) source: IpAddr,
    /// Whom it is for.
    pub(super) destination: IpAddr,
    /// What it is.
    pub(super) kind: Kind<'f>,
}

/// What a packet is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind<'f> {
    /// TCP, from and to these ports: the whole IP packet.
    Tcp { from: u16, to: u16, packet: &'f [u8] },
    /// A datagram.
    Udp { from: u16, to: u16, payload: &'f [u8] },
    /// The answer to a ping, and the hop limit that it has left.
    Pong { ident: u16, seq_no: u16, hop_limit: u8 },
    /// An ICMP error: a packet is too big for a link on the way, which takes this many bytes.
    TooBig { quoted: Quoted, mtu: u32 },
    /// An ICMP error.
    Error { quoted: Quoted, failure: Failure },
}

/// The packet that an ICMP error quotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Quoted {
    pub(super) destination: IpAddr,
    /// The local port, or the ident of a ping.
    pub(super) local: u16,
}

/// Reads an IP packet; bytes behind it are padding.
pub(super) fn read(packet: &[u8]) -> Option<Incoming<'_>> {
    match packet.first()? >> 4 {
        4 => read_v4(packet),
        6 => read_v6(packet),
        _ => None,
    }
}

fn read_v4(packet: &[u8]) -> Option<Incoming<'_>> {
    let ip = Ipv4Packet::new_checked(packet).ok()?;
    let is_whole = !ip.more_frags() && ip.frag_offset() == 0;
    if !is_whole || !ip.verify_checksum() {
        return None;
    }
    let (source, destination) = (IpAddr::from(ip.src_addr()), IpAddr::from(ip.dst_addr()));
    let whole = packet.get(..usize::from(ip.total_len()))?;
    let payload = whole.get(usize::from(ip.header_len())..)?;
    let kind = match ip.next_header() {
        IpProtocol::Icmp => {
            let icmp = Icmpv4Packet::new_checked(payload).ok().filter(Icmpv4Packet::verify_checksum)?;
            match icmp.msg_type() {
                Icmpv4Message::EchoReply => {
                    Kind::Pong { ident: icmp.echo_ident(), seq_no: icmp.echo_seq_no(), hop_limit: ip.hop_limit() }
                }
                // RFC 1191 §4.
                Icmpv4Message::DstUnreachable if icmp.msg_code() == 4 => {
                    let mtu = payload.get(6..8)?;
                    Kind::TooBig { quoted: v4_quoted(icmp.data())?, mtu: u16::from_be_bytes([mtu[0], mtu[1]]).into() }
                }
                Icmpv4Message::DstUnreachable => {
                    error(v4_quoted(icmp.data())?, icmp.msg_code() == 3, "ICMP", icmp.msg_code(), source)
                }
                _ => return None,
            }
        }
        protocol => transport(protocol, payload, whole)?,
    };
    Some(Incoming { source, destination, kind })
}

fn read_v6(packet: &[u8]) -> Option<Incoming<'_>> {
    let ip = Ipv6Packet::new_checked(packet).ok()?;
    let (source, destination) = (IpAddr::from(ip.src_addr()), IpAddr::from(ip.dst_addr()));
    let whole = packet.get(..ip.total_len())?;
    let (protocol, payload) = behind_extensions(ip.next_header(), ip.payload())?;
    let kind = match protocol {
        IpProtocol::Icmpv6 => {
            let icmp = Icmpv6Packet::new_checked(payload).ok()?;
            if !icmp.verify_checksum(&ip.src_addr(), &ip.dst_addr()) {
                return None;
            }
            match icmp.msg_type() {
                Icmpv6Message::EchoReply => {
                    Kind::Pong { ident: icmp.echo_ident(), seq_no: icmp.echo_seq_no(), hop_limit: ip.hop_limit() }
                }
                Icmpv6Message::PktTooBig => {
                    Kind::TooBig { quoted: v6_quoted(payload.get(8..)?)?, mtu: icmp.pkt_too_big_mtu() }
                }
                Icmpv6Message::DstUnreachable => {
                    error(v6_quoted(payload.get(8..)?)?, icmp.msg_code() == 4, "ICMPv6", icmp.msg_code(), source)
                }
                _ => return None,
            }
        }
        protocol => transport(protocol, payload, whole)?,
    };
    Some(Incoming { source, destination, kind })
}

/// The headers that smoltcp's TCP skips itself, and no more: an answer has none.
fn behind_extensions(first: IpProtocol, payload: &[u8]) -> Option<(IpProtocol, &[u8])> {
    match first {
        IpProtocol::HopByHop | IpProtocol::Ipv6Opts => {
            let header = Ipv6ExtHeader::new_checked(payload).ok()?;
            let len = (usize::from(header.header_len()) + 1) * 8;
            Some((header.next_header(), payload.get(len..)?))
        }
        protocol => Some((protocol, payload)),
    }
}

fn transport<'f>(protocol: IpProtocol, payload: &'f [u8], packet: &'f [u8]) -> Option<Kind<'f>> {
    match protocol {
        IpProtocol::Tcp => {
            let tcp = TcpPacket::new_checked(payload).ok()?;
            Some(Kind::Tcp { from: tcp.src_port(), to: tcp.dst_port(), packet })
        }
        IpProtocol::Udp => {
            let udp = UdpPacket::new_checked(payload).ok()?;
            let payload = payload.get(8..usize::from(udp.len()))?;
            Some(Kind::Udp { from: udp.src_port(), to: udp.dst_port(), payload })
        }
        _ => None,
    }
}

fn v4_quoted(packet: &[u8]) -> Option<Quoted> {
    let ip = Ipv4Packet::new_unchecked(packet);
    if packet.len() < 20 || ip.version() != 4 {
        return None;
    }
    let local = local(ip.next_header(), packet.get(usize::from(ip.header_len())..)?)?;
    Some(Quoted { destination: ip.dst_addr().into(), local })
}

fn v6_quoted(packet: &[u8]) -> Option<Quoted> {
    let ip = Ipv6Packet::new_unchecked(packet);
    if packet.len() < 40 || ip.version() != 6 {
        return None;
    }
    Some(Quoted { destination: ip.dst_addr().into(), local: local(ip.next_header(), packet.get(40..)?)? })
}

/// The local port of a quoted packet, or the ident of a quoted ping. At least 8 bytes are quoted (RFC 792).
fn local(protocol: IpProtocol, payload: &[u8]) -> Option<u16> {
    let two = |at: usize| payload.get(at..at + 2).map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]));
    match protocol {
        IpProtocol::Tcp | IpProtocol::Udp => two(0),
        IpProtocol::Icmp | IpProtocol::Icmpv6 => two(4),
        _ => None,
    }
}

fn error(quoted: Quoted, closed: bool, name: &str, code: u8, source: IpAddr) -> Kind<'static> {
    let what = match (name, code) {
        ("ICMP", 0) => "network unreachable",
        ("ICMP", 1) => "host unreachable",
        ("ICMP", 2) => "protocol unreachable",
        ("ICMP", 3) | ("ICMPv6", 4) => "port unreachable",
        ("ICMP", 9 | 10 | 13) | ("ICMPv6", 1) => "administratively prohibited",
        ("ICMPv6", 0) => "no route to the destination",
        ("ICMPv6", 3) => "address unreachable",
        _ => "destination unreachable",
    };
    let trouble = if closed { Trouble::Closed } else { Trouble::Unreachable };
    Kind::Error { quoted, failure: Failure::new(trouble, format!("{name} {what} from {source}")) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::frame::eth;

    #[test]
    fn what_comes_for_a_ping_is_read() {
        let ident = [1_500u16.to_be_bytes(), 7u16.to_be_bytes()].concat();
        let sent = eth().ipv4("192.168.0.2", "192.168.0.3").icmp(1, 8, 0, &ident);
        let sent6 = eth().ipv6("fd00::2", "fd00::3").icmp(58, 128, 0, &ident);
        let [too_big, too_big6] = [&sent, &sent6].map(|sent| [&[0, 0, 5, 120], &sent[14..]].concat());
        for (backend, pong, error) in [
            (
                "192.168.0.3",
                eth().ipv4("192.168.0.3", "192.168.0.2").icmp(1, 0, 0, &ident),
                eth().ipv4("192.168.0.1", "192.168.0.2").icmp(1, 3, 4, &too_big),
            ),
            (
                "fd00::3",
                eth().ipv6("fd00::3", "fd00::2").icmp(58, 129, 0, &ident),
                eth().ipv6("fd00::1", "fd00::2").icmp(58, 2, 0, &too_big6),
            ),
        ] {
            let destination = backend.parse().unwrap();
            let pong = read(&pong[14..]).unwrap();
            assert_eq!(pong.source, destination);
            assert!(matches!(pong.kind, Kind::Pong { ident: 1_500, seq_no: 7, hop_limit: 1.. }), "{pong:?}");
            let quoted = Quoted { destination, local: 1_500 };
            assert_eq!(read(&error[14..]).unwrap().kind, Kind::TooBig { quoted, mtu: 1_400 });
            assert!((14..error.len()).all(|end| read(&error[14..end]).is_none()), "what was cut off is nothing");
        }
    }

    proptest! {
        #[test]
        fn no_packet_panics(first in prop::sample::select(vec![0x45u8, 0x46, 0x60]), bytes in prop::collection::vec(any::<u8>(), 0..120)) {
            let _ = read(&[&[first][..], &bytes].concat());
        }
    }
}
