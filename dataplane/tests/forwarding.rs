//! The forwarding table: the fate of every kind of frame, for both IP versions.
//!
//! A row has a description, a frame, and the frame's fate. A frame that is sent must be the received one with new MAC
//! addresses, and nothing else may change. A frame that is not sent must be counted under exactly one reason.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::sync::Arc;

use ctl::{Mac, Protocol};
use dataplane::base::exit::{DropReason, PuntReason};
use dataplane::base::ids::WorkerNo;
use dataplane::control::compile::compile;
use dataplane::control::model::Model;
use dataplane::count::{counters::WorkerCounters, lease::Leases};
use dataplane::forward::exceptions::{Exceptions, Room};
use dataplane::forward::fragment::Fragments;
use dataplane::slow::{arp, ndp};
use dataplane::state::networks::PortLink;
use dataplane::state::publication::Publisher;
use dataplane::testing::frame::{CLIENT_MAC, Ethernet, Ip, eth};
use dataplane::testing::memory::{MemoryIo, MemoryPacket};
use dataplane::testing::model::{PORT, PORT_MAC, backend_mac, model, service};
use dataplane::{
    base::clock::Clock,
    forward::{
        class::Class,
        limits::Limits,
        port::WorkerPort,
        rings::{Punted, Rings, punt_rings},
        worker::{Memory, Worker},
    },
};

/// The fate of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It is sent to the backend whose address ends in this.
    To(u8),
    /// It is dropped.
    Drop(DropReason),
    /// It is given to the slow path.
    Punt(PuntReason),
}

use DropReason::*;
use Fate::{Drop, Punt, To};

/// An IP version, with the addresses that the rows use.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Net {
    V4,
    V6,
}

impl Net {
    fn name(self) -> &'static str {
        if self == Net::V4 { "IPv4" } else { "IPv6" }
    }

    /// A host of the local network, by the end of its address.
    fn host(self, last: u8) -> String {
        if self == Net::V4 { format!("192.168.0.{last}") } else { format!("fd00::{last}") }
    }

    fn client(self) -> &'static str {
        if self == Net::V4 { "10.0.0.1" } else { "2001:db8::1" }
    }

    fn packet(self, eth: Ethernet, source: &str, destination: &str) -> Ip {
        if self == Net::V4 { eth.ipv4(source, destination) } else { eth.ipv6(source, destination) }
    }

    /// From the client to a host.
    fn to(self, last: u8) -> Ip {
        self.packet(eth(), self.client(), &self.host(last))
    }

    /// From the client to the VIP that most services have.
    fn vip(self) -> Ip {
        self.to(VIP)
    }

    /// A packet that a backend has sent to the client from a VIP.
    fn reply(self) -> Ip {
        self.packet(eth(), &self.host(VIP), self.client())
    }

    /// The ICMP protocol.
    fn icmp(self) -> u8 {
        if self == Net::V4 { 1 } else { 58 }
    }

    /// The types of the errors: unreachable, source quench or packet too big, time exceeded, parameter problem.
    fn errors(self) -> [u8; 4] {
        if self == Net::V4 { [3, 4, 11, 12] } else { [1, 2, 3, 4] }
    }

    fn header_len(self) -> usize {
        if self == Net::V4 { 20 } else { 40 }
    }

    /// The packet as a fragment: IPv4's field, or IPv6's header.
    fn fragment(self, ip: Ip, offset: u16, more: bool) -> Ip {
        if self == Net::V4 {
            return ip.fragment(offset | if more { 0x2000 } else { 0 });
        }
        let field = offset << 3 | u16::from(more);
        ip.extension(44, &[&[0, 0][..], &field.to_be_bytes(), &[0, 0, 0, 7]].concat())
    }
}

const OWN: u8 = 2;
const VIP: u8 = 101;
const ALL_PORTS: u8 = 102;
const ANOTHER_HOST: u8 = 7;

struct Rig {
    worker: Worker<MemoryIo>,
    wire: MemoryIo,
    counters: Arc<WorkerCounters>,
    punts: Punted<MemoryPacket>,
    now_ms: u64,
    publisher: Publisher,
    model: Arc<Model>,
}

impl Rig {
    fn new() -> Rig {
        let counters = Arc::new(WorkerCounters::new(1));
        let leases = Leases::new(vec![counters.clone()]);
        let mut model = model();
        for net in [Net::V4, Net::V6] {
            let host = |last: u8| if net == Net::V4 { net.host(last) } else { format!("[{}]", net.host(last)) };
            for (vip, ports, protocol, backend, weight) in [
                (VIP, "80", Protocol::Tcp, 3, 1),
                (VIP, "82", Protocol::Tcp, 9, 1),
                (VIP, "83", Protocol::Tcp, 3, 0),
                (VIP, "443,8443", Protocol::Tcp, 7, 1),
                (VIP, "8000-8100", Protocol::Tcp, 6, 1),
                (VIP, "53", Protocol::Udp, 5, 1),
                (VIP, "any", Protocol::Udp, 8, 1),
                (VIP, "2905", Protocol::Sctp, 5, 1),
                (ALL_PORTS, "any", Protocol::Tcp, 4, 1),
                (ALL_PORTS, "22", Protocol::Tcp, 3, 1),
            ] {
                let mut wanted = service(&format!("{}:{ports}", host(vip)), &[(&net.host(backend), weight)]);
                wanted.service.protocol = protocol;
                model.add_service(&wanted, &leases).unwrap();
            }
            model.add_service(&service(&format!("{}:81", host(VIP)), &[]), &leases).unwrap();
        }
        // The backends that end in 9 have not answered.
        let resolve = |address: std::net::IpAddr| Some(backend_mac(address)).filter(|mac| mac.0[5] != 9);
        let model = Arc::new(model);
        let publisher = Publisher::new(compile(model.clone(), resolve, &[PORT], 1).snapshot);
        let (wire, (to_slow_path, punts)) = (MemoryIo::default(), punt_rings(|_| 4));
        let (outgoing, samples) = (rtrb::RingBuffer::new(4).1, rtrb::RingBuffer::new(64).0);
        let memory = Memory {
            fragments: Fragments::alone(),
            exceptions: Exceptions::new(Room { v4: 64, v6: 64 }, WorkerNo::new(0)),
            limits: Limits::new(1_000, 1),
        };
        let worker = Worker::new(
            vec![WorkerPort::new(wire.clone())],
            publisher.reader(),
            counters.clone(),
            Rings { punts: to_slow_path, outgoing, samples },
            memory,
            Clock::stopped_at(0),
        );
        Rig { worker, wire, counters, punts, now_ms: 0, publisher, model }
    }

    fn counted(&self) -> Vec<(Fate, u64)> {
        let (port, fates) = (&self.counters.ports[0], DropReason::ALL.iter().map(|&reason| Drop(reason)));
        let drops = fates.zip(port.drops.iter().map(|counter| counter.read()));
        let punts = PuntReason::ALL.iter().map(|&reason| Punt(reason));
        drops.chain(punts.zip(port.punts.iter().map(|counter| counter.read()))).collect()
    }

    /// The fate of a frame, and the frame that is sent. A held frame gets the time until it is given up.
    fn fate(&mut self, frame: &[u8]) -> (Fate, Option<Vec<u8>>) {
        let before = self.counted();
        self.wire.0.borrow_mut().rx.push_back(frame.to_vec().into());
        self.worker.turn();
        self.now_ms += 1_000;
        self.worker.set_clock(Clock::stopped_at(self.now_ms));
        self.worker.turn();
        Class::ALL.iter().for_each(|&class| while self.punts.pop(class).is_some() {});
        let after = self.counted();
        let changed: Vec<Fate> = after.iter().zip(&before).filter(|(a, b)| a.1 != b.1).map(|(a, _)| a.0).collect();
        let sent = self.wire.0.borrow_mut().tx.pop().map(|packet| packet.bytes);
        match (sent, &changed[..]) {
            (Some(sent), []) => (To(sent[5]), Some(sent)),
            (None, [fate]) => (*fate, None),
            (sent, reasons) => panic!("sent {sent:?} and counted {reasons:?}"),
        }
    }
}

type Row = (String, Vec<u8>, Fate);

fn cut(mut frame: Vec<u8>, length: usize) -> Vec<u8> {
    frame.truncate(length);
    frame
}

fn padded(frame: Vec<u8>, bytes: usize) -> Vec<u8> {
    [frame, vec![0; bytes]].concat()
}

fn with_byte(mut frame: Vec<u8>, offset: usize, byte: u8) -> Vec<u8> {
    frame[offset] = byte;
    frame
}

/// The body of an ICMP error: four bytes of its own, and the quoted packet of a frame.
fn about(frame: &[u8]) -> Vec<u8> {
    [&[0; 4], &frame[14..]].concat()
}

fn transport(net: Net) -> Vec<Row> {
    let vip = || net.vip();
    let row = |what: &str, frame, fate| (what.to_owned(), frame, fate);
    let mut rows = vec![
        row("a SYN", vip().tcp(1234, 80).syn(), To(3)),
        row("an ACK", vip().tcp(1234, 80).ack(), To(3)),
        row("a FIN", vip().tcp(1234, 80).fin(), To(3)),
        row("a RST", vip().tcp(1234, 80).rst(), To(3)),
        row("a byte of data", vip().tcp(1234, 80).data(b"x"), To(3)),
        row("a full segment", vip().tcp(1234, 80).data(&[7; 1_400]), To(3)),
        row("a datagram", vip().udp(1234, 53, b"?"), To(5)),
        row("an empty datagram", vip().udp(1234, 53, b""), To(5)),
        row("a large datagram", vip().udp(1234, 53, &[7; 1_400]), To(5)),
        row("from the lowest port", vip().tcp(1, 80).syn(), To(3)),
        row("from the highest port", vip().tcp(65_535, 80).syn(), To(3)),
        row("from port 0, which some scanners use", vip().tcp(0, 80).syn(), To(3)),
        row("padding behind TCP", padded(vip().tcp(1, 80).syn(), 6), To(3)),
        row("much padding behind UDP", padded(vip().udp(1, 53, b""), 100), To(5)),
        row(
            "TCP options to the full",
            with_byte(vip().tcp(1, 80).data(&[1; 40]), 14 + net.header_len() + 12, 0xf0),
            To(3),
        ),
        row(
            "a wrong TCP checksum is not ours to judge",
            with_byte(vip().tcp(1, 80).syn(), 14 + net.header_len() + 16, 9),
            To(3),
        ),
        row(
            "TTL 1: we are no router",
            with_byte(vip().tcp(1, 80).syn(), if net == Net::V4 { 22 } else { 21 }, 1),
            To(3),
        ),
        row("the TCP port of a UDP service", vip().tcp(1, 53).syn(), Drop(NoService)),
        row("a closed port", vip().tcp(1, 79).syn(), Drop(NoService)),
        row("port 0", vip().tcp(1, 0).syn(), Drop(NoService)),
        row("UDP where there is TCP only", net.to(ALL_PORTS).udp(1, 22, b"?"), Drop(NoService)),
        row("a service without backends", vip().tcp(1, 81).syn(), Drop(NoBackend)),
        row("a service whose backends have weight 0", vip().tcp(1, 83).syn(), Drop(NoBackend)),
        row("a backend that has not answered", vip().tcp(1, 82).syn(), Drop(BackendMacUnknown)),
        row("a TCP header that is cut off", vip().protocol(6, &[0; 19]), Drop(Truncated)),
        row("a UDP header that is cut off", vip().protocol(17, &[0; 7]), Drop(Truncated)),
        row("no TCP header at all", vip().protocol(6, &[]), Drop(Truncated)),
        row("no UDP header at all, padded", padded(vip().protocol(17, &[]), 46), Drop(Truncated)),
    ];
    for port in [443, 8_443] {
        rows.push(row(&format!("port {port} of a list"), vip().tcp(1, port).syn(), To(7)));
    }
    for (port, fate) in [
        (7_999, Drop(NoService)),
        (8_000, To(6)),
        (8_050, To(6)),
        (8_100, To(6)),
        (8_101, Drop(NoService)),
        (444, Drop(NoService)),
    ] {
        rows.push(row(&format!("port {port} beside or in a range"), vip().tcp(1, port).syn(), fate));
    }
    for (port, backend) in [(1, 4), (80, 4), (65_535, 4), (22, 3)] {
        let what = format!("port {port} where any is served, and one by itself");
        rows.push(row(&what, net.to(ALL_PORTS).tcp(1, port).syn(), To(backend)));
    }
    for (port, backend) in [(53, 5), (54, 8), (65_535, 8)] {
        rows.push(row(&format!("UDP port {port}, likewise"), vip().udp(1, port, b"?"), To(backend)));
    }
    // Protocols without ports, or with ports that we do not balance.
    for protocol in [2, 4, 41, 46, 47, 89, 103, 112, 136, 255] {
        let what = format!("IP protocol {protocol}");
        rows.push(row(&what, vip().protocol(protocol, &[0; 40]), Drop(NoService)));
    }
    rows
}

fn addresses(net: Net) -> Vec<Row> {
    let row = |what: &str, frame, fate| (what.to_owned(), frame, fate);
    let from = |eth: Ethernet| net.packet(eth, net.client(), &net.host(VIP));
    let backend = backend_mac(net.host(3).parse().unwrap());
    vec![
        row("TCP to the director", net.to(OWN).tcp(1, 22).syn(), Punt(PuntReason::OwnAddress)),
        row("UDP to the director", net.to(OWN).udp(1, 161, b"?"), Punt(PuntReason::OwnAddress)),
        row("a service's port on the director's address", net.to(OWN).tcp(1, 80).syn(), Punt(PuntReason::OwnAddress)),
        row("another protocol to the director", net.to(OWN).protocol(47, &[0; 20]), Punt(PuntReason::OwnAddress)),
        row(
            "a fragment to the director",
            net.fragment(net.to(OWN), 9, false).protocol(17, &[0; 64]),
            Punt(PuntReason::OwnAddress),
        ),
        row("to another host", net.to(ANOTHER_HOST).tcp(1, 80).syn(), Drop(NotForUs)),
        row("a datagram to another host", net.to(ANOTHER_HOST).udp(1, 53, b"?"), Drop(NotForUs)),
        row("to a backend's own address", net.to(3).tcp(1, 80).syn(), Drop(NotForUs)),
        row("a reply from a VIP", net.reply().tcp(80, 1234).ack(), Drop(ReturnViaDirector)),
        row("a SYN-ACK from a VIP", net.reply().tcp(443, 1234).ack(), Drop(ReturnViaDirector)),
        row("a datagram from a VIP", net.reply().udp(53, 1234, b"!"), Drop(ReturnViaDirector)),
        row(
            "a fragment from a VIP",
            net.fragment(net.reply(), 9, false).protocol(17, &[0; 64]),
            Drop(ReturnViaDirector),
        ),
        row(
            "an echo reply from a VIP",
            net.reply().icmp(net.icmp(), if net == Net::V4 { 0 } else { 129 }, 0, &[0; 8]),
            Drop(ReturnViaDirector),
        ),
        row("the backend itself sends it", from(eth().from(backend)).tcp(1, 80).syn(), Drop(Loop)),
        row(
            "another backend sends it: a client, too",
            from(eth().from(Mac([2, 0, 0, 0, 0, 4]))).tcp(1, 80).syn(),
            To(3),
        ),
        row("to another station", from(eth().to(Mac([2, 0, 0, 0, 0, 0x77]))).tcp(1, 80).syn(), Drop(NotOurMac)),
        row("a broadcast", from(eth().to(Mac([0xff; 6]))).tcp(1, 80).syn(), Drop(Multicast)),
        row("to a group", from(eth().to(Mac([1, 0, 0x5e, 0, 0, 1]))).udp(1, 53, b"?"), Drop(Multicast)),
        row(
            "to a MAC address like ours but for the last bit",
            from(eth().to(Mac([2, 0, 0, 0, 0, 3]))).tcp(1, 80).syn(),
            Drop(NotOurMac),
        ),
    ]
}

/// Sources that no client has.
fn sources(net: Net) -> Vec<Row> {
    let row = |what: String, frame, fate| (what, frame, fate);
    let from = |source: &str, to: u8| net.packet(eth(), source, &net.host(to));
    let martian = Drop(MartianSource);
    let nobody: &[&str] = if net == Net::V4 {
        &[
            "0.0.0.0",
            "0.1.2.3",
            "127.0.0.1",
            "127.255.255.255",
            "224.0.0.1",
            "239.1.2.3",
            "240.0.0.1",
            "255.255.255.255",
        ]
    } else {
        &["::", "::1", "::192.0.2.1", "::ffff:10.0.0.1", "ff02::1", "ff00::", "ff0e::1"]
    };
    let broadcasts: &[&str] = if net == Net::V4 { &["192.168.0.0", "192.168.0.255"] } else { &[] };
    let ours = [net.host(VIP), net.host(ALL_PORTS), net.host(OWN)];
    let mut rows = Vec::new();
    for source in nobody.iter().chain(broadcasts).map(|source| source.to_string()).chain(ours) {
        let from = |to| from(&source, to);
        rows.extend([
            row(format!("a SYN from {source}"), from(VIP).tcp(1234, 80).syn(), martian),
            row(format!("an ACK from {source}"), from(VIP).tcp(1234, 80).ack(), martian),
            row(format!("a datagram from {source}"), from(VIP).udp(1234, 53, b"?"), martian),
            row(format!("from {source} to a range of ports"), from(VIP).tcp(1234, 8_050).syn(), martian),
            row(format!("from {source} to a closed port"), from(VIP).tcp(1234, 79).syn(), martian),
            row(format!("a ping from {source}"), from(VIP).echo(b"?"), martian),
            row(format!("GRE from {source}"), from(VIP).protocol(47, &[0; 20]), martian),
            row(
                format!("a first fragment from {source}"),
                net.fragment(from(VIP), 0, true).udp(1, 53, &[0; 64]),
                martian,
            ),
            row(
                format!("a later fragment from {source}"),
                net.fragment(from(VIP), 9, false).protocol(17, &[0; 64]),
                martian,
            ),
            row(
                format!("an error from {source}"),
                from(VIP).icmp(net.icmp(), net.errors()[0], 0, &about(&net.reply().tcp(80, 1234).ack())),
                martian,
            ),
        ]);
        let careful = if net == Net::V4 { from(VIP).options(&[1; 4]) } else { from(VIP).extension(60, &[0; 8]) };
        rows.push(row(format!("from {source}, not plain"), careful.tcp(1234, 80).syn(), martian));
        // From a VIP, backends send replies: to our health checks, or on a wrong way to clients.
        let vip = source == net.host(VIP) || source == net.host(ALL_PORTS);
        let (own, other) =
            if vip { (Punt(PuntReason::OwnAddress), Drop(ReturnViaDirector)) } else { (martian, martian) };
        let other = if broadcasts.contains(&source.as_str()) { martian } else { other };
        rows.push(row(format!("from {source} to the director"), from(OWN).tcp(80, 1234).ack(), own));
        rows.push(row(format!("from {source} to another host"), from(ANOTHER_HOST).tcp(80, 1234).ack(), other));
        let quoted = net.packet(eth(), &net.host(VIP), &source).tcp(80, 1234).ack();
        if nobody.contains(&source.as_str()) {
            let error = net.vip().icmp(net.icmp(), net.errors()[0], 0, &about(&quoted));
            rows.push(row(format!("a quote of a packet to {source}"), error, Drop(IcmpQuote)));
        }
    }
    let hosts: &[&str] = if net == Net::V4 {
        &[
            "1.0.0.1",
            "126.0.0.1",
            "128.0.0.1",
            "169.254.1.1",
            "192.168.0.1",
            "192.168.0.100",
            "192.168.1.101",
            "192.168.1.255",
            "10.255.255.255",
            "101.0.168.192",
            "223.255.255.254",
        ]
    } else {
        &["64:ff9b::10.0.0.1", "2001:db8::101", "2001:db8::2", "fd00:0:0:1::101", "fe80::1", "fd00::1:101", "fec0::1"]
    };
    for source in hosts {
        rows.push(row(format!("a SYN from {source}"), from(source, VIP).tcp(1234, 80).syn(), To(3)));
        rows.push(row(format!("a datagram from {source}"), from(source, VIP).udp(1234, 53, b"?"), To(5)));
    }
    for last in 1..=254 {
        if ![VIP, ALL_PORTS, OWN].contains(&last) {
            rows.push(row(format!("a SYN from neighbor {last}"), from(&net.host(last), VIP).tcp(1, 80).syn(), To(3)));
        }
    }
    if net == Net::V6 {
        let target: std::net::Ipv6Addr = net.host(VIP).parse().unwrap();
        let body = [&[0; 4][..], &target.octets()].concat();
        for source in [net.host(VIP), net.host(OWN)] {
            let what = format!("a solicitation from {source}, which the slow path judges");
            let solicitation = from(&source, VIP).hop_limit(255).icmp(58, 135, 0, &body);
            rows.push(row(what, solicitation, Punt(PuntReason::Ndp)));
        }
    }
    rows
}

fn icmp(net: Net) -> Vec<Row> {
    let row = |what: String, frame, fate| (what, frame, fate);
    let message = |kind: u8, body: &[u8]| net.vip().icmp(net.icmp(), kind, 0, body);
    let tcp = || net.reply().tcp(80, 1234).ack();
    let (unreachable, quote) = (net.errors()[0], Drop(IcmpQuote));
    let quoted = |frame: &[u8]| message(unreachable, &about(frame));
    let eight_bytes = 4 + net.header_len() + 8;
    let mut rows = vec![
        row("a ping".into(), net.vip().echo(b"ping"), Punt(PuntReason::Echo)),
        row("a large ping".into(), net.vip().echo(&[0; 1_400]), Punt(PuntReason::Echo)),
        row("a ping to the director".into(), net.to(OWN).echo(b"ping"), Punt(PuntReason::Echo)),
        row("a ping to another".into(), net.to(ANOTHER_HOST).echo(b"ping"), Drop(NotForUs)),
        row("no ICMP header at all".into(), net.vip().protocol(net.icmp(), &[]), Drop(Truncated)),
        row("none, with padding".into(), padded(net.vip().protocol(net.icmp(), &[]), 46), Drop(Truncated)),
        row("a quoted datagram".into(), quoted(&net.reply().udp(53, 1234, b"!")), To(5)),
        row("a quoted FIN".into(), quoted(&net.reply().tcp(80, 1234).fin()), To(3)),
        row("a quote of a port of a range".into(), quoted(&net.reply().tcp(8_050, 1234).ack()), To(6)),
        row("a quote of a list's port".into(), quoted(&net.reply().tcp(8_443, 1234).ack()), To(7)),
        row("a quote of a port without a service".into(), quoted(&net.reply().tcp(79, 1234).ack()), Drop(NoService)),
        row("a quote for a service without backends".into(), quoted(&net.reply().tcp(81, 1234).ack()), Drop(NoBackend)),
        row(
            "a quote of a backend that has not answered".into(),
            quoted(&net.reply().tcp(82, 1234).ack()),
            Drop(BackendMacUnknown),
        ),
        row("a quoted first fragment".into(), quoted(&net.fragment(net.reply(), 0, true).tcp(80, 1234).ack()), To(3)),
        row("a quoted later fragment".into(), quoted(&net.fragment(net.reply(), 9, true).protocol(6, &[0; 40])), quote),
        row("eight quoted bytes of TCP".into(), message(unreachable, &about(&tcp())[..eight_bytes]), To(3)),
        row("four: the ports alone".into(), message(unreachable, &about(&tcp())[..eight_bytes - 4]), To(3)),
        row("three: not even these".into(), message(unreachable, &about(&tcp())[..eight_bytes - 5]), quote),
        row("a quoted IP header alone".into(), message(unreachable, &about(&tcp())[..eight_bytes - 8]), quote),
        row("half of one".into(), message(unreachable, &about(&tcp())[..4 + 12]), quote),
        row("nothing quoted".into(), message(unreachable, &[0; 4]), quote),
        row("a quote of the wrong version".into(), message(unreachable, &with_byte(about(&tcp()), 4, 0x55)), quote),
        row("a quote of a packet to the VIP".into(), quoted(&net.vip().tcp(1234, 80).ack()), quote),
        row(
            "a quote of a packet from another host".into(),
            quoted(&net.packet(eth(), &net.host(ANOTHER_HOST), net.client()).tcp(80, 1).ack()),
            quote,
        ),
        row(
            "a quote of a packet from another VIP".into(),
            quoted(&net.packet(eth(), &net.host(ALL_PORTS), net.client()).tcp(80, 1).ack()),
            quote,
        ),
        row("a quoted protocol without ports".into(), quoted(&net.reply().protocol(47, &[0; 40])), quote),
        row("a quoted ping's answer".into(), quoted(&net.reply().icmp(net.icmp(), 0, 0, &[0; 8])), quote),
        row("a fragment of a ping".into(), net.fragment(net.vip(), 0, true).echo(&[0; 64]), Drop(FragmentNoPorts)),
        row(
            "a later fragment of a ping".into(),
            net.fragment(net.vip(), 9, false).protocol(net.icmp(), &[0; 64]),
            Drop(FragmentNoPorts),
        ),
    ];
    for kind in net.errors() {
        rows.push(row(format!("an error of type {kind}"), message(kind, &about(&tcp())), To(3)));
    }
    let unhandled: &[u8] = if net == Net::V4 {
        &[0, 5, 9, 10, 13, 14, 15, 17, 42]
    } else {
        &[100, 129, 131, 133, 134, 137, 143, 160, 255]
    };
    for &kind in unhandled {
        rows.push(row(format!("ICMP type {kind}"), message(kind, &about(&tcp())), Drop(IcmpUnhandled)));
    }
    // The other version's ICMP has no meaning, whatever it carries.
    let (other, echo) = if net == Net::V4 { (58, 128) } else { (1, 8) };
    for kind in [echo, unreachable, 135, 136, 130] {
        let what = |to: &str| format!("type {kind} of the other version's ICMP to {to}");
        let body = about(&tcp());
        rows.push(row(what("a VIP"), net.vip().icmp(other, kind, 0, &body), Drop(NoService)));
        rows.push(row(what("us"), net.to(OWN).icmp(other, kind, 0, &body), Punt(PuntReason::OwnAddress)));
    }
    rows
}

fn fragments(net: Net) -> Vec<Row> {
    let row = |what: &str, frame, fate| (what.to_owned(), frame, fate);
    let part = |offset, more| net.fragment(net.vip(), offset, more);
    vec![
        row("a first fragment of TCP", part(0, true).tcp(1234, 80).data(&[0; 64]), To(3)),
        row("the last one behind it", part(11, false).protocol(6, &[0; 64]), To(3)),
        row("a first fragment of UDP", part(0, true).udp(1234, 53, &[0; 64]), To(5)),
        row("a middle one behind it", part(9, true).protocol(17, &[0; 64]), To(5)),
        row("the last one", part(18, false).protocol(17, &[0; 3]), To(5)),
        row("the last one again", part(18, false).protocol(17, &[0; 3]), To(5)),
        row("the first one again", part(0, true).udp(1234, 53, &[0; 64]), To(5)),
        row("of no service", part(0, true).tcp(1234, 79).data(&[0; 64]), Drop(NoService)),
        row("of a service without backends", part(0, true).tcp(1234, 81).data(&[0; 64]), Drop(NoBackend)),
        row("to another host", net.fragment(net.to(ANOTHER_HOST), 0, true).udp(1, 53, &[0; 64]), Drop(NotForUs)),
        row("too short for ports", part(0, true).protocol(17, &[0; 3]), Drop(FragmentTiny)),
        row("too short for a TCP header", part(0, true).protocol(6, &[0; 16]), Drop(FragmentTiny)),
        row("of a protocol without ports", part(0, true).protocol(47, &[0; 64]), Drop(FragmentNoPorts)),
        row("a later one of such", part(9, false).protocol(50, &[0; 64]), Drop(FragmentNoPorts)),
        row(
            "a later one whose first one never arrives",
            net.fragment(net.packet(eth(), &net.host(ANOTHER_HOST), &net.host(VIP)), 9, false).protocol(17, &[0; 64]),
            Drop(FragmentOrphan),
        ),
    ]
}

fn malformed(net: Net) -> Vec<Row> {
    let row = |what: &str, frame, fate| (what.to_owned(), frame, fate);
    let syn = || net.vip().tcp(1, 80).syn();
    let whole = syn().len();
    let mut rows = vec![
        row("one byte short", cut(syn(), whole - 1), Drop(Truncated)),
        row("half a TCP header", cut(syn(), whole - 10), Drop(Truncated)),
        row("no TCP header", cut(syn(), 14 + net.header_len()), Drop(Truncated)),
        row("half an IP header", cut(syn(), 14 + net.header_len() / 2), Drop(Truncated)),
        row("no IP header", cut(syn(), 14), Drop(Truncated)),
        row("half an Ethernet header", cut(syn(), 7), Drop(Runt)),
        row(
            "the other version's header",
            with_byte(syn(), 14, if net == Net::V4 { 0x65 } else { 0x45 }),
            Drop(BadIpHeader),
        ),
        row("version 0", with_byte(syn(), 14, 0x05), Drop(BadIpHeader)),
        row("version 15", with_byte(syn(), 14, 0xf5), Drop(BadIpHeader)),
    ];
    let length = if net == Net::V4 { 16 } else { 18 };
    rows.push(row("a length beyond the frame's", with_byte(syn(), length, 0xff), Drop(Truncated)));
    if net == Net::V4 {
        rows.extend([
            row("a header of 16 bytes", with_byte(syn(), 14, 0x44), Drop(BadIpHeader)),
            row("a header of no bytes", with_byte(syn(), 14, 0x40), Drop(BadIpHeader)),
            row("a header longer than the packet", with_byte(syn(), 14, 0x4f), Drop(BadIpHeader)),
            row("a length shorter than the header", with_byte(syn(), 17, 19), Drop(BadIpHeader)),
            row("a length of 0, as of super-frames", with_byte(syn(), 17, 0), Drop(BadIpHeader)),
            row("the reserved flag alone is no fragment", with_byte(syn(), 20, 0x80), To(3)),
            row("don't fragment", with_byte(syn(), 20, 0x40), To(3)),
        ]);
    } else {
        rows.extend([
            row("a length of 0", with_byte(with_byte(syn(), 18, 0), 19, 0), Drop(Truncated)),
            row("a flow label and a traffic class", with_byte(with_byte(syn(), 14, 0x6f), 15, 0xff), To(3)),
            row("no next header", with_byte(syn(), 20, 59), Drop(NoService)),
        ]);
    }
    rows
}

fn options() -> Vec<Row> {
    let mut rows = Vec::new();
    for length in [4usize, 8, 20, 40] {
        let ip = || Net::V4.vip().options(&vec![1; length]);
        rows.push((format!("{length} bytes of options, TCP"), ip().tcp(1, 80).syn(), To(3)));
        rows.push((format!("{length} bytes of options, UDP"), ip().udp(1, 53, b"?"), To(5)));
        rows.push((format!("{length} bytes of options, ping"), ip().echo(b"?"), Punt(PuntReason::Echo)));
        rows.push((format!("{length} bytes of options, and then nothing"), ip().protocol(6, &[]), Drop(Truncated)));
    }
    rows
}

fn extensions() -> Vec<Row> {
    let ip = || Net::V6.vip();
    let row = |what: String, frame, fate| (what, frame, fate);
    let fragment = |field: u16| [&[0, 0][..], &field.to_be_bytes(), &[0, 0, 0, 9]].concat();
    let mut rows = Vec::new();
    for (name, number) in [("hop-by-hop", 0), ("routing", 43), ("destination options", 60)] {
        let long = [&[0, 2][..], &[0; 22]].concat();
        rows.push(row(format!("{name}, TCP"), ip().extension(number, &[0; 8]).tcp(1, 80).syn(), To(3)));
        rows.push(row(format!("{name}, UDP"), ip().extension(number, &[0; 8]).udp(1, 53, b"?"), To(5)));
        rows.push(row(format!("{name}, 24 bytes"), ip().extension(number, &long).tcp(1, 80).syn(), To(3)));
        rows.push(row(format!("{name}, ping"), ip().extension(number, &[0; 8]).echo(b"?"), Punt(PuntReason::Echo)));
        rows.push(row(format!("{name}, GRE"), ip().extension(number, &[0; 8]).protocol(47, &[0; 9]), Drop(NoService)));
        let endless = ip().extension(number, &[0, 200, 0, 0, 0, 0, 0, 0]).tcp(1, 80).syn();
        rows.push(row(format!("{name}, longer than the packet"), endless, Drop(BadIpHeader)));
        rows.push(row(
            format!("{name}, and then nothing"),
            ip().extension(number, &[0; 8]).protocol(6, &[]),
            Drop(Truncated),
        ));
        let first = ip().extension(number, &[0; 8]).extension(44, &fragment(1)).tcp(1, 80).data(&[0; 64]);
        rows.push(row(format!("{name}, before a first fragment"), first, To(3)));
        let ping = Net::V6.reply().extension(number, &[0; 8]).tcp(80, 1234).ack();
        rows.push(row(format!("{name}, quoted"), ip().icmp(58, 1, 0, &about(&ping)), To(3)));
    }
    let authentication = [&[0, 4][..], &[0; 22]].concat();
    let header = |number: u8| if number == 51 { authentication.clone() } else { vec![0; 8] };
    let with = |ip: Ip, chain: &[u8]| chain.iter().fold(ip, |ip, &number| ip.extension(number, &header(number)));
    // A first fragment, and a later one, which names what the fragment header of the first one names.
    let chains: [(&[u8], &[u8]); 8] = [
        (&[], &[60]),
        (&[], &[43]),
        (&[], &[51]),
        (&[], &[0]),
        (&[0, 60, 43], &[51, 60]),
        (&[60], &[43, 60, 51]),
        (&[51], &[60]),
        (&[0], &[44, 60]),
    ];
    for ((before, behind), id) in chains.into_iter().zip(100..) {
        let part = |field: u16| {
            with(ip(), before).extension(44, &[&[0, 0][..], &field.to_be_bytes(), &[0, 0, 0, id]].concat())
        };
        let what = format!("{before:?}, fragment, {behind:?}");
        rows.push(row(format!("{what}, UDP"), with(part(1), behind).udp(1234, 53, &[0; 64]), To(5)));
        rows.push(row(format!("{what}, a later one"), part(20 << 3 | 1).protocol(behind[0], &[2; 64]), To(5)));
        rows.push(row(format!("{what}, the last one"), part(28 << 3).protocol(behind[0], &[3; 5]), To(5)));
        let quoted = with(with(Net::V6.reply(), before).extension(44, &fragment(1)), behind).udp(53, 1234, b"!");
        rows.push(row(format!("{what}, quoted"), ip().icmp(58, 1, 0, &about(&quoted)), To(5)));
        // Of another protocol: the first one says so, and the later ones share its fate.
        let part = |field: u16| part(field).extension(60, &[0; 8]);
        let ping = with(part(1), behind).echo(&[0; 64]);
        rows.push(row(format!("{what}, a ping"), ping, Drop(FragmentNoPorts)));
    }
    let later = |next| ip().extension(44, &[&[0, 0, 0, 80][..], &[9, 9, 9, 9]].concat()).protocol(next, &[0; 40]);
    let first_of = |next| {
        ip().extension(44, &[&[0, 0, 0, 1][..], &[9, 9, 9, 9]].concat()).protocol(next, &[60, 0, 0, 0, 0, 0, 0, 0])
    };
    for (name, next) in [("ESP", 50), ("nothing", 59), ("ICMPv6", 58), ("GRE", 47)] {
        rows.push(row(format!("a later fragment that names {name}"), later(next), Drop(FragmentNoPorts)));
    }
    rows.extend([
        row("a later fragment that names another header, alone".into(), later(60), Drop(FragmentOrphan)),
        row("a first fragment that ends within its headers".into(), first_of(60), Drop(FragmentTiny)),
        row(
            "one that ends behind them".into(),
            with(ip().extension(44, &fragment(1)), &[60]).protocol(17, &[]),
            Drop(FragmentTiny),
        ),
        row(
            "a first fragment of a fragment".into(),
            ip().extension(44, &fragment(1)).extension(44, &fragment(1)).udp(1, 53, &[0; 64]),
            Drop(BadIpHeader),
        ),
        row(
            "a later fragment in a first one".into(),
            ip().extension(44, &fragment(1)).extension(44, &fragment(80)).udp(1, 53, &[0; 64]),
            Drop(BadIpHeader),
        ),
        row("an atomic fragment of a ping".into(), ip().extension(44, &fragment(0)).echo(b"?"), Punt(PuntReason::Echo)),
        row("an atomic one behind others".into(), with(ip(), &[0, 44, 60, 44]).udp(1, 53, b"?"), To(5)),
    ]);
    let chain = |count: usize| (0..count).fold(ip(), |ip, _| ip.extension(60, &[0; 8]));
    rows.extend([
        row("authentication".into(), ip().extension(51, &authentication).tcp(1, 80).syn(), To(3)),
        row("an atomic fragment".into(), ip().extension(44, &fragment(0)).tcp(1, 80).syn(), To(3)),
        row("one with the reserved bits set".into(), ip().extension(44, &fragment(6)).tcp(1, 80).syn(), To(3)),
        row("eight headers".into(), chain(8).tcp(1, 80).syn(), To(3)),
        row("nine headers".into(), chain(9).tcp(1, 80).syn(), Drop(BadIpHeader)),
        row("encrypted".into(), ip().protocol(50, &[0; 40]), Drop(NoService)),
        row(
            "a header of which half is there".into(),
            cut(ip().extension(60, &[0; 8]).protocol(6, &[]), 58),
            Drop(Truncated),
        ),
    ]);
    rows
}

fn sctp(net: Net) -> Vec<Row> {
    let row = |what: &str, frame, fate| (what.to_owned(), frame, fate);
    // Ports, verification tag, checksum, and the head of a chunk of this type.
    let packet =
        |from: u16, to: u16, chunk| [&from.to_be_bytes()[..], &to.to_be_bytes(), &[7; 8], &[chunk, 0, 0, 4]].concat();
    let vip = || net.vip();
    vec![
        row("SCTP, INIT", vip().protocol(132, &packet(9, 2_905, 1)), To(5)),
        row("SCTP, DATA", vip().protocol(132, &packet(9, 2_905, 0)), To(5)),
        row("SCTP, ABORT", vip().protocol(132, &packet(9, 2_905, 6)), To(5)),
        row("SCTP, SHUTDOWN", vip().protocol(132, &packet(9, 2_905, 7)), To(5)),
        row("SCTP without a chunk", vip().protocol(132, &packet(9, 2_905, 0)[..12]), To(5)),
        row("half an SCTP header", vip().protocol(132, &packet(9, 2_905, 0)[..11]), Drop(Truncated)),
        row("SCTP to a port of TCP's", vip().protocol(132, &packet(9, 80, 1)), Drop(NoService)),
        row("SCTP to the director", net.to(OWN).protocol(132, &packet(9, 80, 1)), Punt(PuntReason::OwnAddress)),
        row("an SCTP reply", net.reply().protocol(132, &packet(2_905, 9, 0)), Drop(ReturnViaDirector)),
        row("a first fragment of SCTP", net.fragment(vip(), 0, true).protocol(132, &packet(9, 2_905, 0)), To(5)),
        row("a later one", net.fragment(vip(), 2, false).protocol(132, &[0; 64]), To(5)),
        row(
            "an error that quotes SCTP",
            vip().icmp(net.icmp(), net.errors()[0], 0, &about(&net.reply().protocol(132, &packet(2_905, 9, 0)))),
            To(5),
        ),
    ]
}

/// Tags on a port without VLANs; sizes. (Ports with VLANs have a table of their own, in `forward/tests/tags.rs`.)
fn tags_and_sizes(net: Net) -> Vec<Row> {
    let row = |what: &str, frame, fate| (what.to_owned(), frame, fate);
    let tagged = |eth: Ethernet| net.packet(eth, net.client(), &net.host(VIP)).tcp(1, 80).syn();
    let packet_of = |bytes: usize| net.vip().tcp(1, 80).data(&vec![7; bytes - net.header_len() - 20]);
    vec![
        row("a tag", tagged(eth().tag(0x8100, 7)), Drop(UnknownVlan)),
        row("a service provider's tag", tagged(eth().tag(0x88a8, 7)), Drop(UnknownVlan)),
        row("two tags", tagged(eth().tag(0x88a8, 7).tag(0x8100, 8)), Drop(UnknownVlan)),
        row("two tags of customers", tagged(eth().tag(0x8100, 7).tag(0x8100, 8)), Drop(UnknownVlan)),
        row("a tagged broadcast", tagged(eth().to(Mac([0xff; 6])).tag(0x8100, 7)), Drop(UnknownVlan)),
        row("a packet that just fits", packet_of(1_500), To(3)),
        row("a byte too large", packet_of(1_501), Punt(PuntReason::TooBig)),
        row("as large as a super-frame", packet_of(60_000), Punt(PuntReason::TooBig)),
        row("a large one for no service", net.vip().tcp(1, 79).data(&[7; 3_000]), Drop(NoService)),
    ]
}

/// Frames that are not IP, and broadcast and multicast frames.
fn ethernet() -> Vec<Row> {
    let row = |what: &str, frame, fate| (what.to_owned(), frame, fate);
    let asks = arp::request(CLIENT_MAC, [192, 168, 0, 10].into(), [192, 168, 0, 101].into(), None);
    let arp = |eth: Ethernet| eth.payload(0x0806, &asks[14..]);
    let asks_router = |from: u8| arp::request(CLIENT_MAC, [192, 168, 0, from].into(), [192, 168, 0, 1].into(), None);
    let (others, of_backend) = (asks_router(10), asks_router(3));
    let mut rows = vec![
        row("a broadcast ARP request", arp(eth().to(Mac([0xff; 6]))), Punt(PuntReason::Arp)),
        row("a unicast ARP packet", arp(eth()), Punt(PuntReason::Arp)),
        row(
            "a request between others",
            eth().to(Mac([0xff; 6])).payload(0x0806, &others[14..]),
            Drop(ResolutionOfOthers),
        ),
        row("a backend's request to another", eth().payload(0x0806, &of_backend[14..]), Punt(PuntReason::Arp)),
        row("ARP between others", arp(eth().to(Mac([2, 0, 0, 0, 0, 0x77]))), Drop(NotOurMac)),
        row("an ARP packet of no bytes", eth().payload(0x0806, &[]), Drop(ArpInvalid)),
        row("one of zeros, as a broadcast", eth().to(Mac([0xff; 6])).payload(0x0806, &[0; 28]), Drop(ArpInvalid)),
        row("RARP's question", with_byte(arp(eth()), 21, 3), Drop(ArpInvalid)),
        row("an answer from a group", with_byte(arp(eth()), 22, 1), Drop(ArpInvalid)),
        row(
            "mDNS",
            eth().to(Mac([1, 0, 0x5e, 0, 0, 0xfb])).ipv4("10.0.0.1", "224.0.0.251").udp(5353, 5353, b"?"),
            Drop(Multicast),
        ),
        row(
            "VRRP",
            eth().to(Mac([1, 0, 0x5e, 0, 0, 18])).ipv4("10.0.0.1", "224.0.0.18").protocol(112, &[0; 20]),
            Drop(Multicast),
        ),
        row(
            "DHCP",
            eth().to(Mac([0xff; 6])).ipv4("0.0.0.0", "255.255.255.255").udp(68, 67, &[0; 300]),
            Drop(Multicast),
        ),
        row("an empty frame", vec![], Drop(Runt)),
    ];
    for length in [1usize, 6, 12, 13] {
        rows.push((format!("{length} bytes"), cut(Net::V4.vip().tcp(1, 80).syn(), length), Drop(Runt)));
    }
    for (name, ethertype) in [
        ("LLDP", 0x88cc),
        ("MPLS", 0x8847),
        ("PPPoE", 0x8864),
        ("EAPOL", 0x888e),
        ("a length of 802.3", 60),
        ("EtherType 0", 0),
    ] {
        rows.push((name.into(), eth().payload(ethertype, &[0; 60]), Drop(NotIp)));
    }
    rows
}

/// A query for the listeners of all groups.
fn query(mac: Mac, address: &str, hop_limit: u8) -> Vec<u8> {
    let ip = eth().to(mac).ipv6("fe80::1", address).hop_limit(hop_limit).extension(0, &[0, 0, 5, 2, 0, 0, 1, 0]);
    ip.icmp(58, 130, 0, &[&[0x27, 0x10, 0, 0][..], &[0; 16], &[2, 125, 0, 0]].concat())
}

/// The same to all hosts.
fn general_query(hop_limit: u8) -> Vec<u8> {
    query(Mac([0x33, 0x33, 0, 0, 0, 1]), "ff02::1", hop_limit)
}

/// Messages of ICMPv6 that only neighbors may send: neighbor discovery, and queries for multicast listeners.
fn of_neighbors() -> Vec<Row> {
    let row = |what: &str, frame, fate| (what.to_owned(), frame, fate);
    let (group, group_mac) = ("ff02::1:ff00:101", Mac([0x33, 0x33, 0xff, 0, 1, 1]));
    let octets = |address: &str| address.parse::<std::net::Ipv6Addr>().unwrap().octets();
    let body = [&[0; 4][..], &octets("fd00::101")].concat();
    let to = |mac, address: &str| eth().to(mac).ipv6("fd00::10", address).hop_limit(255);
    let solicitation = || to(group_mac, group).icmp(58, 135, 0, &body);
    let unicast = |last: u8| to(PORT_MAC, &Net::V6.host(last));
    let everyone = Mac([0x33, 0x33, 0, 0, 0, 1]);
    let mut rows = vec![
        row("a multicast solicitation", solicitation(), Punt(PuntReason::Ndp)),
        row("a solicitation that is cut off", cut(solicitation(), 50), Drop(Multicast)),
        row("one with a wrong checksum", with_byte(solicitation(), 56, 0x77), Drop(NdpInvalid)),
        row("one with a code", to(group_mac, group).icmp(58, 135, 1, &body), Drop(NdpInvalid)),
        row("one without a target", to(group_mac, group).icmp(58, 135, 0, &body[..4]), Drop(NdpInvalid)),
        row("a unicast solicitation", unicast(VIP).icmp(58, 135, 0, &body), Punt(PuntReason::Ndp)),
        row("one to the director", unicast(OWN).icmp(58, 135, 0, &body), Punt(PuntReason::Ndp)),
        row("an advertisement", unicast(OWN).icmp(58, 136, 0, &body), Punt(PuntReason::Ndp)),
        row("one to another host", unicast(ANOTHER_HOST).icmp(58, 136, 0, &body), Drop(NotForUs)),
        row(
            "behind an extension header",
            unicast(VIP).extension(60, &[0; 8]).icmp(58, 135, 0, &body),
            Drop(NdpInvalid),
        ),
        row("a general query", general_query(1), Punt(PuntReason::Mld)),
        row("one to the director", query(PORT_MAC, "fd00::2", 1), Punt(PuntReason::Mld)),
        row("one to a VIP", query(PORT_MAC, "fd00::101", 1), Drop(IcmpUnhandled)),
        row("one from afar", general_query(64), Drop(MldInvalid)),
        row("a report", to(everyone, "ff02::16").icmp(58, 143, 0, &body), Drop(Multicast)),
    ];
    for kind in [135, 136] {
        for hop_limit in [0, 1, 64, 254] {
            for (what, ip) in [("the group", to(group_mac, group)), ("a VIP", unicast(VIP)), ("us", unicast(OWN))] {
                let frame = ip.hop_limit(hop_limit).icmp(58, kind, 0, &body);
                rows.push(row(&format!("type {kind}, hop limit {hop_limit}, to {what}"), frame, Drop(NdpInvalid)));
            }
        }
    }
    for kind in [133, 134, 137] {
        rows.push(row(
            &format!("type {kind} to all"),
            to(everyone, "ff02::1").icmp(58, kind, 0, &body),
            Drop(Multicast),
        ));
    }
    rows
}

fn table() -> Vec<Row> {
    let mut rows: Vec<Row> = [ethernet(), of_neighbors(), options(), extensions()].concat();
    for net in [Net::V4, Net::V6] {
        let both = [
            transport(net),
            sctp(net),
            addresses(net),
            sources(net),
            icmp(net),
            fragments(net),
            tags_and_sizes(net),
            malformed(net),
        ]
        .concat();
        rows.extend(both.into_iter().map(|(what, frame, fate)| (format!("{}: {what}", net.name()), frame, fate)));
    }
    rows
}

#[test]
fn every_frame_goes_where_it_should() {
    let mut rig = Rig::new();
    let rows = table();
    assert!(rows.len() >= 250, "{} rows", rows.len());
    let mut wrong = Vec::new();
    for (what, frame, expected) in rows {
        let (fate, sent) = rig.fate(&frame);
        if fate != expected {
            wrong.push(format!("{what}: {fate:?}, not {expected:?}"));
        }
        if let Some(sent) = sent {
            assert_eq!(sent[6..12], PORT_MAC.0, "{what}");
            assert_eq!(sent[12..], frame[12..], "{what}: not a byte behind the addresses may change");
        }
    }
    assert!(wrong.is_empty(), "{} rows:\n{}", wrong.len(), wrong.join("\n"));
}

/// Every reason is caused by a frame. The reasons that the rows above do not cause need several frames, or a report of
/// the device.
#[test]
fn every_reason_has_a_frame() {
    let mut seen: Vec<Fate> = table().into_iter().map(|(_, _, fate)| fate).collect();
    let mut rig = Rig::new();
    let mut caused = |rig: &mut Rig, expected: Fate, frames: Vec<MemoryPacket>| {
        rig.wire.0.borrow_mut().rx.extend(frames);
        while !rig.wire.0.borrow().rx.is_empty() {
            rig.worker.turn();
        }
        let counted = rig.counted();
        assert!(counted.iter().any(|&(fate, count)| fate == expected && count > 0), "{expected:?}: {counted:?}");
        seen.push(expected);
    };
    let syn = || Net::V4.vip().tcp(1, 80).syn();
    caused(&mut rig, Drop(BadIpChecksum), vec![MemoryPacket { bad_ip_checksum: true, ..syn().into() }]);
    caused(&mut rig, Drop(HeadersSplit), vec![MemoryPacket::segmented(Net::V4.vip().tcp(1, 80).data(&[0; 64]), 40)]);
    // Fragments of one sender, without a first one: some are held, but not all.
    let fragments = (0..300).map(|index| Net::V4.vip().fragment(0x2001 + index).protocol(17, &[0; 8]).into());
    caused(&mut rig, Drop(FragmentHoldFull), fragments.collect());
    caused(&mut rig, Drop(EchoLimited), (0..1_500).map(|_| Net::V4.vip().echo(b"?").into()).collect());
    let asks = arp::request(CLIENT_MAC, [192, 168, 0, 10].into(), [192, 168, 0, 101].into(), None);
    caused(&mut rig, Drop(PuntFull), (0..64).map(|_| asks.clone().into()).collect());
    // The same station asks on and on, and many stations query for listeners.
    rig.now_ms += 2_000;
    rig.worker.set_clock(Clock::stopped_at(rig.now_ms));
    caused(&mut rig, Drop(ArpLimited), (0..1_100).map(|_| asks.clone().into()).collect());
    let solicits = ndp::request(CLIENT_MAC, "fd00::10".parse().unwrap(), "fd00::101".parse().unwrap(), None);
    caused(&mut rig, Drop(NdpLimited), (0..1_100).map(|_| solicits.clone().into()).collect());
    caused(&mut rig, Drop(MldLimited), (0..200).map(|_| general_query(1).into()).collect());
    let to_us = || Net::V4.to(OWN).udp(1, 161, b"?").into();
    caused(&mut rig, Drop(OwnAddressLimited), (0..10_100).map(|_| to_us()).collect());
    let large = || Net::V4.vip().tcp(1, 80).data(&[0; 2_000]).into();
    caused(&mut rig, Drop(TooBigUnanswered), (0..200).map(|_| large()).collect());
    let down = PortLink { up: false, ..PORT };
    rig.publisher.publish(compile(rig.model.clone(), |address| Some(backend_mac(address)), &[down], 2).snapshot);
    caused(&mut rig, Drop(LinkDown), vec![syn().into()]);
    rig.publisher.publish(compile(rig.model.clone(), |address| Some(backend_mac(address)), &[PORT], 3).snapshot);
    rig.wire.0.borrow_mut().tx_room = 3;
    caused(&mut rig, Drop(TxFull), (0..8).map(|_| syn().into()).collect());
    // These two need another worker and a VLAN. They have tests: `a_worker_that_does_not_keep_up_gets_no_more_frames`
    // in forward/fragment/fragments.rs, and `a_tag_needs_headroom` in forward/tests/tags.rs.
    seen.extend([Drop(FragmentPassFull), Drop(NoHeadroom)]);
    let all = DropReason::ALL.iter().map(|&reason| Drop(reason)).chain(PuntReason::ALL.iter().map(|&r| Punt(r)));
    let without: Vec<Fate> = all.filter(|fate| !seen.contains(fate)).collect();
    assert_eq!(without, [], "reasons that no test causes");
}
