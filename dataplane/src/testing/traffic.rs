//! Frames for the [scene](super::scene): valid frames of clients and backends, of every kind that the parser knows;
//! damaged frames; and plain bytes.

use std::net::IpAddr;

use ctl::Mac;
use smoltcp::wire::{Icmpv4Packet, Icmpv6Packet, IpProtocol, Ipv4Packet, Ipv6Packet};

use super::choices::Choices;
use super::frame::{CLIENT_MAC, Ethernet, Ip, eth};
use super::model::{PORT_MAC, backend_mac};
use super::world::{OWN, SERVED, SILENT, VIPS};
use crate::slow::{arp, ndp};
use crate::wire::ethernet::ETHERNET_HEADER;

/// The client's port in a valid frame, to be found and replaced.
const PORT_MARK: u16 = 0x7b7b;
/// The last two bytes of the client's address in a valid frame; it is 10.77.77.77 or 2001:db8::4d4d.
const CLIENT_MARK: [u8; 2] = [77, 77];

/// EtherTypes that the parser distinguishes, and one that it does not know.
const ETHERTYPES: [u16; 6] = [0x0800, 0x86dd, 0x0806, 0x8100, 0x88a8, 0x88cc];
/// Values of a two-byte field that are limits for the parser.
const EDGES: [u16; 12] = [0, 1, 19, 20, 40, 0x2000, 0x3fff, 0x4000, 0x7fff, 0x8000, 0xfff8, 0xffff];
/// Offsets of such fields: VLAN tag and EtherType, IPv4's and IPv6's lengths, identification, fragment, ports.
const FIELDS: [usize; 12] = [12, 14, 16, 18, 20, 22, 34, 36, 46, 54, 56, 58];

/// A frame from which others are made, with the offsets of the fields that vary.
#[derive(Debug, Clone)]
struct Template {
    bytes: Vec<u8>,
    client: Vec<usize>,
    port: Vec<usize>,
}

impl Template {
    fn new(bytes: Vec<u8>) -> Self {
        let offsets = |mark: [u8; 2]| {
            let all = bytes.windows(2).enumerate().filter(move |(_, pair)| *pair == mark);
            all.map(|(offset, _)| offset).collect()
        };
        let port = offsets(PORT_MARK.to_be_bytes());
        // 77.77.77 contains the mark twice.
        let client: Vec<usize> = offsets(CLIENT_MARK);
        let client = client.iter().copied().filter(|offset| !client.contains(&(offset + 1))).collect();
        Template { client, port, bytes }
    }
}

/// The templates of all kinds of valid frames.
#[derive(Debug)]
pub struct Traffic {
    templates: Vec<Template>,
}

impl Default for Traffic {
    fn default() -> Self {
        Traffic { templates: templates().into_iter().map(Template::new).collect() }
    }
}

impl Traffic {
    /// The number of kinds of valid frames.
    pub fn kinds(&self) -> usize {
        self.templates.len()
    }

    /// A valid frame of a kind, from a client with this number and port.
    pub fn valid(&self, kind: usize, client: u8, port: u16) -> Vec<u8> {
        let Template { bytes, client: clients, port: ports } = &self.templates[kind];
        let mut bytes = bytes.clone();
        for &offset in clients {
            bytes[offset + 1] = client;
        }
        for &offset in ports {
            bytes[offset..offset + 2].copy_from_slice(&port.to_be_bytes());
        }
        mend(&mut bytes);
        bytes
    }

    /// A frame of any kind, valid or not.
    pub fn frame(&self, choices: &mut Choices<'_>) -> Vec<u8> {
        let how = choices.byte();
        if how & 0x1f == 0x1f {
            return raw(choices);
        }
        let kind = choices.below(self.kinds());
        // Few clients and ports, so that flows occur again.
        let flow = choices.byte();
        let mut frame = self.valid(kind, flow & 7, 0x4000 | u16::from(flow >> 3));
        let damages = (how >> 5).saturating_sub(4);
        for _ in 0..damages {
            self.damage(&mut frame, choices);
        }
        if damages > 0 && choices.one_in(2) {
            mend(&mut frame);
        }
        frame
    }

    /// A later fragment of a packet whose first fragment never comes, from a client with this number.
    pub fn stray_fragment(number: u32) -> Vec<u8> {
        let [_, a, b, c] = number.to_be_bytes();
        eth().ipv4(&format!("10.{a}.{b}.{c}"), "192.168.0.101").fragment(9).protocol(17, &[0; 16])
    }

    fn damage(&self, frame: &mut Vec<u8>, choices: &mut Choices<'_>) {
        let kind = choices.byte();
        let offset = choices.below(frame.len().max(1));
        let put = |frame: &mut Vec<u8>, offset: usize, bytes: &[u8]| {
            for (target, byte) in frame.iter_mut().skip(offset).zip(bytes) {
                *target = *byte;
            }
        };
        match kind % 12 {
            0 => put(frame, offset, &[choices.byte()]),
            1 => {
                if let Some(byte) = frame.get_mut(offset) {
                    *byte ^= 1 << (kind >> 5);
                }
            }
            2 => frame.truncate(offset),
            3 => frame.resize(frame.len() + choices.below(64), choices.byte()),
            4 => {
                // A VLAN tag, or two.
                let tag = if kind & 0x80 == 0 { [0x81, 0] } else { [0x88, 0xa8] };
                let control = choices.word().to_be_bytes();
                let at = 12.min(frame.len());
                frame.splice(at..at, [tag, control].concat());
            }
            5 => put(frame, *choices.of(&FIELDS), &choices.of(&EDGES).to_be_bytes()),
            6 => put(frame, *choices.of(&FIELDS), &choices.word().to_be_bytes()),
            7 => {
                let end = (offset + choices.below(24)).min(frame.len());
                frame.drain(offset.min(end)..end);
            }
            8 => {
                let inserted = choices.below(24);
                let bytes = choices.take(inserted);
                let at = offset.min(frame.len());
                frame.splice(at..at, bytes.iter().copied());
            }
            9 => {
                // The beginning of this frame, and the end of another.
                let other = &choices.of(&self.templates).bytes;
                frame.truncate(offset);
                frame.extend_from_slice(other.get(offset..).unwrap_or_default());
            }
            10 => {
                // A packet in a packet.
                let other = &choices.of(&self.templates).bytes;
                frame.truncate(offset);
                frame.extend_from_slice(other.get(14..).unwrap_or_default());
            }
            _ => put(frame, 0, &choices.of(&[[0xff; 6], [0x33, 0x33, 0xff, 0, 1, 1], [2, 0, 0, 0, 0, 3]])[..]),
        }
    }
}

/// Corrects the checksums that the slow path checks: those of IPv4 and ICMP.
fn mend(frame: &mut [u8]) {
    let Some((ethernet, packet)) = frame.split_at_mut_checked(ETHERNET_HEADER) else { return };
    match ethernet[12..] {
        [0x08, 0x00] => {
            let Ok(mut ip) = Ipv4Packet::new_checked(packet) else { return };
            ip.fill_checksum();
            if ip.next_header() == IpProtocol::Icmp
                && let Ok(mut icmp) = Icmpv4Packet::new_checked(ip.payload_mut())
            {
                icmp.fill_checksum();
            }
        }
        [0x86, 0xdd] => {
            let Ok(mut ip) = Ipv6Packet::new_checked(packet) else { return };
            let (source, destination) = (ip.src_addr(), ip.dst_addr());
            if ip.next_header() == IpProtocol::Icmpv6
                && let Ok(mut icmp) = Icmpv6Packet::new_checked(ip.payload_mut())
            {
                icmp.fill_checksum(&source, &destination);
            }
        }
        _ => {}
    }
}

/// Plain bytes, or bytes behind an Ethernet header to us.
fn raw(choices: &mut Choices<'_>) -> Vec<u8> {
    let (how, len) = (choices.byte(), choices.byte());
    let bytes = choices.take(len.into());
    if how & 1 == 0 { bytes.to_vec() } else { eth().payload(*choices.of(&ETHERTYPES), bytes) }
}

/// A packet from a client to an address.
fn from_client(to: IpAddr) -> Ip {
    match to {
        IpAddr::V4(_) => eth().ipv4("10.77.77.77", &to.to_string()),
        IpAddr::V6(_) => eth().ipv6("2001:db8::4d4d", &to.to_string()),
    }
}

/// A packet from a backend to a client.
fn from_vip(vip: IpAddr) -> Ip {
    match vip {
        IpAddr::V4(_) => eth().ipv4(&vip.to_string(), "10.77.77.77"),
        IpAddr::V6(_) => eth().ipv6(&vip.to_string(), "2001:db8::4d4d"),
    }
}

fn fragment_header(field: u16) -> Vec<u8> {
    [&[0, 0][..], &field.to_be_bytes(), &[0, 0, 0, 7]].concat()
}

/// An IP header of a fragment. The first fragment's payload is the packet behind the IP header, that of the others is
/// any data.
fn fragment(to: IpAddr, offset: u16, more: bool) -> Ip {
    match to {
        IpAddr::V4(_) => from_client(to).fragment(offset | if more { 0x2000 } else { 0 }),
        IpAddr::V6(_) => from_client(to).extension(44, &fragment_header(offset << 3 | u16::from(more))),
    }
}

fn templates() -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    // Only the first few services, so that a byte can number all kinds.
    for &(vip, protocol, port) in SERVED {
        let vip: IpAddr = vip.parse().expect("an address");
        let icmp = if vip.is_ipv4() { 1 } else { 58 };
        let [unreachable, too_big] = if vip.is_ipv4() { [(3, 3), (3, 4)] } else { [(1, 4), (2, 0)] };
        let reply = if protocol == 6 {
            let to = || from_client(vip).tcp(PORT_MARK, port);
            frames.extend([to().syn(), to().ack(), to().data(b"GET /"), to().fin(), to().rst()]);
            frames.push(fragment(vip, 0, true).tcp(PORT_MARK, port).data(&[7; 28]));
            from_vip(vip).tcp(port, PORT_MARK).ack()
        } else {
            frames.push(from_client(vip).udp(PORT_MARK, port, b"?"));
            frames.push(fragment(vip, 0, true).udp(PORT_MARK, port, &[7; 40]));
            from_vip(vip).udp(port, PORT_MARK, b"!")
        };
        frames.push(fragment(vip, 6, true).protocol(protocol, &[8; 48]));
        frames.push(fragment(vip, 12, false).protocol(protocol, &[9; 10]));
        for (kind, code) in [unreachable, too_big] {
            let from_router = if vip.is_ipv4() {
                eth().ipv4("172.16.0.9", &vip.to_string())
            } else {
                eth().ipv6("2001:db8::9", &vip.to_string())
            };
            frames.push(from_router.icmp(icmp, kind, code, &[&[0; 4], &reply[14..]].concat()));
        }
        frames.push(reply);
    }
    for vip in VIPS {
        let vip: IpAddr = vip.parse().expect("an address");
        let client = || from_client(vip);
        frames.push(client().echo(b"abcdefgh"));
        frames.push(client().tcp(PORT_MARK, 9).syn());
        frames.push(client().protocol(47, &[0; 20]));
        frames.push(client().protocol(132, &[0x7b, 0x7b, 0, 80, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 4]));
        match vip {
            IpAddr::V4(v4) => {
                frames.push(client().options(&[1; 40]).tcp(PORT_MARK, 80).ack());
                frames.push(client().icmp(1, 5, 1, &[0; 40]));
                frames.push(arp::request(CLIENT_MAC, [10, 77, 77, 77].into(), v4, None));
                frames.push(arp::announcement(CLIENT_MAC, v4));
                frames.push(arp::request(CLIENT_MAC, [192, 168, 0, 77].into(), [192, 168, 0, 78].into(), None));
            }
            IpAddr::V6(v6) => {
                let chained = client()
                    .extension(0, &[0; 8])
                    .extension(43, &[0; 8])
                    .extension(60, &[0, 1, 0, 0, 0, 0, 0, 0].repeat(2));
                frames.push(chained.tcp(PORT_MARK, 80).ack());
                frames.push(client().extension(44, &fragment_header(0)).tcp(PORT_MARK, 80).ack());
                frames.push(
                    client().extension(51, &[0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]).tcp(PORT_MARK, 80).ack(),
                );
                let source = "fd00::4d4d".parse().expect("an address");
                frames.push(ndp::request(CLIENT_MAC, source, v6, None));
                frames.push(ndp::request(CLIENT_MAC, source, v6, Some(PORT_MAC)));
                frames.push(ndp::announcement(CLIENT_MAC, v6));
                frames.push(ndp::request(CLIENT_MAC, source, "fd00::4e4e".parse().expect("an address"), None));
            }
        }
    }
    // Pings and fragments whose extension headers stand in unusual places.
    let v6 = || from_client("fd00::101".parse().expect("an address"));
    let part = |field: u16| v6().extension(44, &fragment_header(field));
    frames.push(v6().extension(0, &[0; 8]).extension(60, &[0; 8]).echo(b"abcdefgh"));
    frames.push(part(0).extension(43, &[0; 8]).echo(b"abcdefgh"));
    frames.push(part(1).extension(60, &[0; 8]).udp(PORT_MARK, 53, &[7; 40]));
    frames.push(part(7 << 3 | 1).protocol(60, &[8; 48]));
    frames.push(part(13 << 3).protocol(60, &[9; 10]));
    frames.push(part(1).extension(60, &[0; 8]).echo(&[7; 48]));
    frames.push(
        from_client("192.168.0.101".parse().expect("an address")).options(&[7, 7, 4, 0, 0, 0, 0, 0]).echo(b"abcdefgh"),
    );
    // Sources that no client has: reserved ones, a broadcast address, VIPs and own addresses.
    for source in ["127.0.0.1", "224.0.0.1", "192.168.0.255", "192.168.0.102", "192.168.1.2"] {
        frames.push(eth().ipv4(source, "192.168.0.101").tcp(PORT_MARK, 80).syn());
        frames.push(eth().ipv4(source, "192.168.0.102").echo(b"abcdefgh"));
        let sender = source.parse().expect("an address");
        frames.push(arp::request(CLIENT_MAC, sender, [192, 168, 0, 101].into(), None));
    }
    for source in ["::1", "ff02::1", "fd00::101", "fd00::2"] {
        frames.push(eth().ipv6(source, "fd00::101").udp(PORT_MARK, 53, b"?"));
        frames.push(eth().ipv6(source, "fd00::2").echo(b"abcdefgh"));
        let sender = source.parse().expect("an address");
        frames.push(ndp::request(CLIENT_MAC, sender, "fd00::101".parse().expect("an address"), Some(PORT_MAC)));
    }
    for own in OWN {
        frames.push(from_client(own.parse().expect("an address")).echo(b"abcdefgh"));
        frames.push(from_client(own.parse().expect("an address")).tcp(PORT_MARK, 22).syn());
    }
    let backend = || backend_mac(IpAddr::from([192, 168, 0, 3]));
    let from_backend = |ethernet: Ethernet| ethernet.from(backend());
    frames.push(from_backend(eth()).ipv4("10.77.77.77", "192.168.0.101").tcp(PORT_MARK, 80).syn());
    frames.push(arp::announcement(backend(), [192, 168, 0, 3].into()));
    frames.push(ndp::announcement(backend(), "fd00::3".parse().expect("an address")));
    // Who listens to multicast groups? One query is from afar.
    for hop_limit in [1, 64] {
        let ip = eth().to(Mac([0x33, 0x33, 0, 0, 0, 1])).ipv6("fe80::4d", "ff02::1").hop_limit(hop_limit);
        let ip = ip.extension(0, &[0, 0, 5, 2, 0, 0, 1, 0]);
        frames.push(ip.icmp(58, 130, 0, &[&[0, 9, 0, 0][..], &[0; 16], &[2, 125, 0, 0]].concat()));
    }
    frames.push(from_client(SILENT.parse().expect("an address")).tcp(PORT_MARK, 80).syn());
    frames.push(eth().to(Mac([2, 0, 0, 0, 0, 0x77])).ipv4("10.77.77.77", "192.168.0.101").tcp(PORT_MARK, 80).syn());
    frames.push(eth().payload(0x88cc, &[0; 60]));
    // A packet that fits all ports but the second, and one that fits no port.
    for (vip, len) in [("192.168.0.101", 1_400), ("192.168.0.102", 1_400), ("fd00::101", 1_480)] {
        frames.push(from_client(vip.parse().expect("an address")).tcp(PORT_MARK, 80).data(&vec![0x55; len]));
    }
    let tagged = |ethertype, control| eth().tag(ethertype, control);
    for ethernet in [tagged(0x8100, 100), tagged(0x8100, 0xe000), tagged(0x8100, 7), tagged(0x88a8, 3).tag(0x8100, 100)]
    {
        frames.push(ethernet.ipv4("10.77.77.77", "192.168.0.101").tcp(PORT_MARK, 80).ack());
        frames.push(ethernet.ipv4("10.77.77.77", "192.168.2.2").echo(b"abcdefgh"));
    }
    frames
}
