//! A builder of frames, which reads like the frame: `eth().ipv4("10.0.0.1", "192.168.0.101").tcp(1234, 80).syn()`.

use std::net::{Ipv4Addr, Ipv6Addr};

use ctl::Mac;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    IpAddress, IpProtocol, Ipv4Packet, TcpControl, TcpPacket, TcpRepr, TcpSeqNumber, UdpPacket, UdpRepr,
};

use super::model::PORT_MAC;

/// The source MAC address of test frames: that of a client or its gateway.
pub const CLIENT_MAC: Mac = Mac([0x02, 0, 0, 0, 0, 0xcc]);

/// A frame from a client to `lan0`.
pub fn eth() -> Ethernet {
    Ethernet { source: CLIENT_MAC, destination: PORT_MAC, tags: [None; 4] }
}

/// An Ethernet header, to which a payload is added.
#[derive(Debug, Clone, Copy)]
pub struct Ethernet {
    source: Mac,
    destination: Mac,
    /// EtherType and tag control information of each VLAN tag, in the order of the frame.
    tags: [Option<[u16; 2]>; 4],
}

impl Ethernet {
    /// From another station.
    pub fn from(self, source: Mac) -> Self {
        Ethernet { source, ..self }
    }

    /// To another station.
    pub fn to(self, destination: Mac) -> Self {
        Ethernet { destination, ..self }
    }

    /// Adds a VLAN tag: its EtherType, and its priority and VLAN id.
    pub fn tag(mut self, ethertype: u16, control: u16) -> Self {
        let free = self.tags.iter_mut().find(|tag| tag.is_none()).expect("four tags are enough");
        *free = Some([ethertype, control]);
        self
    }

    /// Any payload under any EtherType.
    pub fn payload(self, ethertype: u16, payload: &[u8]) -> Vec<u8> {
        let tags: Vec<u8> = self.tags.into_iter().flatten().flatten().flat_map(u16::to_be_bytes).collect();
        [&self.destination.0[..], &self.source.0, &tags, &ethertype.to_be_bytes(), payload].concat()
    }

    /// An IPv4 packet from one address to another.
    pub fn ipv4(self, source: &str, destination: &str) -> Ip {
        Ip { ethernet: self, source: v4(source).into(), destination: v4(destination).into(), ..Ip::EMPTY }
    }

    /// An IPv6 packet from one address to another.
    pub fn ipv6(self, source: &str, destination: &str) -> Ip {
        Ip { ethernet: self, source: v6(source).into(), destination: v6(destination).into(), ..Ip::EMPTY }
    }
}

/// A TCP or UDP frame as a host hands it to a NIC that is to finish its checksum: with the sum of the pseudo-header in its place. Without tags and
/// extension headers.
pub fn left_to_a_nic(mut frame: Vec<u8>) -> Vec<u8> {
    let packet = &mut frame[14..];
    let (addresses, protocol, l4) = if packet[0] >> 4 == 4 { (12..20, packet[9], 20) } else { (8..40, packet[6], 40) };
    let mut sum = u32::from(protocol) + u32::try_from(packet.len() - l4).expect("a packet of at most 65535 bytes");
    for word in packet[addresses].chunks(2) {
        sum += u32::from(word[0]) << 8 | u32::from(word[1]);
    }
    sum = (sum >> 16) + (sum & 0xffff);
    sum = (sum >> 16) + (sum & 0xffff);
    let field = l4 + if protocol == 6 { 16 } else { 6 };
    packet[field..field + 2].copy_from_slice(&sum.to_be_bytes()[2..]);
    frame
}

fn v4(text: &str) -> Ipv4Addr {
    text.parse().expect("an IPv4 address")
}

fn v6(text: &str) -> Ipv6Addr {
    text.parse().expect("an IPv6 address")
}

/// An IP header, to which a payload is added.
#[derive(Debug, Clone)]
pub struct Ip {
    ethernet: Ethernet,
    source: IpAddress,
    destination: IpAddress,
    /// IPv4 flags and fragment offset, as in the header.
    fragment: u16,
    identification: u16,
    /// Hop limit, or time to live.
    hop_limit: u8,
    /// IPv4 options, a multiple of four bytes.
    options: Vec<u8>,
    /// IPv6 extension headers: their protocol numbers and their bytes. The first byte is filled in later.
    extensions: Vec<(u8, Vec<u8>)>,
}

impl Ip {
    const EMPTY: Ip = Ip {
        ethernet: Ethernet { source: CLIENT_MAC, destination: PORT_MAC, tags: [None; 4] },
        source: IpAddress::Ipv4(Ipv4Addr::UNSPECIFIED),
        destination: IpAddress::Ipv4(Ipv4Addr::UNSPECIFIED),
        fragment: 0,
        identification: 0x4242,
        hop_limit: 64,
        options: Vec::new(),
        extensions: Vec::new(),
    };

    /// IPv4 flags and fragment offset: 0x2000 is "more fragments", the rest the offset in units of eight bytes.
    pub fn fragment(mut self, field: u16) -> Self {
        self.fragment = field;
        self
    }

    /// Sets the IPv4 identification, which the fragments of a packet share.
    pub fn identification(self, identification: u16) -> Self {
        Ip { identification, ..self }
    }

    /// Sets "don't fragment" and no identification, as in packets that are never fragmented (RFC 6864 §4.1).
    pub fn dont_fragment(mut self) -> Self {
        self.fragment = 0x4000;
        self.identification = 0;
        self
    }

    /// Sets the hop limit, or the time to live.
    pub fn hop_limit(self, hop_limit: u8) -> Self {
        Ip { hop_limit, ..self }
    }

    /// IPv4 options; a multiple of four bytes.
    pub fn options(mut self, options: &[u8]) -> Self {
        assert_eq!(options.len() % 4, 0, "IHL counts words");
        self.options = options.to_vec();
        self
    }

    /// An IPv6 extension header: its protocol number and its bytes. The first byte will name the next header.
    pub fn extension(mut self, protocol: u8, bytes: &[u8]) -> Self {
        self.extensions.push((protocol, bytes.to_vec()));
        self
    }

    /// A TCP segment. Its flag is ACK unless another method sets one.
    pub fn tcp(self, source: u16, destination: u16) -> Tcp {
        Tcp { ip: self, source, destination, control: TcpControl::None, ack: true, payload: Vec::new() }
    }

    /// A UDP datagram with a payload.
    pub fn udp(self, source: u16, destination: u16, payload: &[u8]) -> Vec<u8> {
        let header = UdpRepr { src_port: source, dst_port: destination };
        let mut bytes = vec![0; header.header_len() + payload.len()];
        header.emit(
            &mut UdpPacket::new_unchecked(&mut bytes),
            &self.source,
            &self.destination,
            payload.len(),
            |buffer| buffer.copy_from_slice(payload),
            &ChecksumCapabilities::default(),
        );
        self.protocol(17, &bytes)
    }

    /// An echo request of the address family's ICMP, checksum included.
    pub fn echo(self, payload: &[u8]) -> Vec<u8> {
        let (kind, protocol) = if self.is_v4() { (8, 1) } else { (128, 58) };
        self.icmp(protocol, kind, 0, &[&[0x12, 0x34, 0, 1], payload].concat())
    }

    /// An ICMP (protocol 1) or ICMPv6 (58) message, checksum included.
    pub fn icmp(self, protocol: u8, kind: u8, code: u8, rest: &[u8]) -> Vec<u8> {
        let mut message = [&[kind, code, 0, 0], rest].concat();
        let checksum = match (self.source, self.destination) {
            (IpAddress::Ipv6(source), IpAddress::Ipv6(destination)) => {
                let mut packet = smoltcp::wire::Icmpv6Packet::new_unchecked(&mut message);
                packet.fill_checksum(&source, &destination);
                packet.checksum()
            }
            _ => {
                let mut packet = smoltcp::wire::Icmpv4Packet::new_unchecked(&mut message);
                packet.fill_checksum();
                packet.checksum()
            }
        };
        message[2..4].copy_from_slice(&checksum.to_be_bytes());
        self.protocol(protocol, &message)
    }

    /// Any protocol.
    pub fn protocol(self, protocol: u8, payload: &[u8]) -> Vec<u8> {
        match (self.source, self.destination) {
            (IpAddress::Ipv4(source), IpAddress::Ipv4(destination)) => {
                self.v4_bytes(source, destination, protocol, payload)
            }
            (IpAddress::Ipv6(source), IpAddress::Ipv6(destination)) => {
                self.v6_bytes(source, destination, protocol, payload)
            }
            _ => unreachable!("both addresses are of the family of the method that made this"),
        }
    }

    fn is_v4(&self) -> bool {
        matches!(self.source, IpAddress::Ipv4(_))
    }

    fn v4_bytes(self, source: Ipv4Addr, destination: Ipv4Addr, protocol: u8, payload: &[u8]) -> Vec<u8> {
        let header_len = 20 + self.options.len();
        let mut bytes = vec![0; header_len];
        bytes[20..].copy_from_slice(&self.options);
        bytes.extend_from_slice(payload);
        let total_len = u16::try_from(bytes.len()).expect("a packet of at most 65535 bytes");
        let mut packet = Ipv4Packet::new_unchecked(&mut bytes);
        packet.set_version(4);
        packet.set_header_len(u8::try_from(header_len).expect("at most 60"));
        packet.set_total_len(total_len);
        packet.set_ident(self.identification);
        packet.set_hop_limit(self.hop_limit);
        packet.set_next_header(IpProtocol::from(protocol));
        packet.set_src_addr(source);
        packet.set_dst_addr(destination);
        bytes[6..8].copy_from_slice(&self.fragment.to_be_bytes());
        Ipv4Packet::new_unchecked(&mut bytes).fill_checksum();
        self.ethernet.payload(0x0800, &bytes)
    }

    fn v6_bytes(self, source: Ipv6Addr, destination: Ipv6Addr, protocol: u8, payload: &[u8]) -> Vec<u8> {
        let mut chain = Vec::new();
        let first = self.extensions.first().map_or(protocol, |(number, _)| *number);
        for (index, (_, bytes)) in self.extensions.iter().enumerate() {
            let next = self.extensions.get(index + 1).map_or(protocol, |(number, _)| *number);
            chain.push(next);
            chain.extend_from_slice(&bytes[1..]);
        }
        chain.extend_from_slice(payload);
        let payload_len = u16::try_from(chain.len()).expect("a packet of at most 65535 bytes");
        let mut bytes = vec![0x60, 0, 0, 0];
        bytes.extend_from_slice(&payload_len.to_be_bytes());
        bytes.extend_from_slice(&[first, self.hop_limit]);
        bytes.extend_from_slice(&source.octets());
        bytes.extend_from_slice(&destination.octets());
        bytes.extend_from_slice(&chain);
        self.ethernet.payload(0x86dd, &bytes)
    }
}

/// A TCP segment.
#[derive(Debug, Clone)]
pub struct Tcp {
    ip: Ip,
    source: u16,
    destination: u16,
    control: TcpControl,
    ack: bool,
    payload: Vec<u8>,
}

impl Tcp {
    /// The first segment of a connection.
    pub fn syn(self) -> Vec<u8> {
        Tcp { control: TcpControl::Syn, ack: false, ..self }.ack()
    }

    /// The client's last segment.
    pub fn fin(self) -> Vec<u8> {
        Tcp { control: TcpControl::Fin, ..self }.ack()
    }

    /// The segment that aborts a connection.
    pub fn rst(self) -> Vec<u8> {
        Tcp { control: TcpControl::Rst, ..self }.ack()
    }

    /// With payload.
    pub fn data(self, payload: &[u8]) -> Vec<u8> {
        Tcp { payload: payload.to_vec(), ..self }.ack()
    }

    /// The segment without payload.
    pub fn ack(self) -> Vec<u8> {
        let segment = TcpRepr {
            src_port: self.source,
            dst_port: self.destination,
            control: self.control,
            seq_number: TcpSeqNumber(1_000),
            ack_number: self.ack.then_some(TcpSeqNumber(2_000)),
            window_len: 64_000,
            window_scale: None,
            max_seg_size: None,
            sack_permitted: false,
            sack_ranges: [None; 3],
            timestamp: None,
            payload: &self.payload,
        };
        let mut bytes = vec![0; segment.buffer_len()];
        let (source, destination) = (self.ip.source, self.ip.destination);
        let mut packet = TcpPacket::new_unchecked(&mut bytes);
        segment.emit(&mut packet, &source, &destination, &ChecksumCapabilities::default());
        self.ip.protocol(6, &bytes)
    }
}
