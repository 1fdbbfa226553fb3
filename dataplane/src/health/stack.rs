//! TCP connections of probes: smoltcp's TCP, whose packets are put into frames by hand, since they go to a VIP that is not on
//! the link, at a MAC address that is not the VIP's.
//!
//! Each connection has a set of sockets of its own, so that a packet meets one socket and not thousands.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use hashbrown::HashMap;
use rustix::time::{ClockId, clock_gettime};
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Checksum, ChecksumCapabilities, Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr};

use crate::health::tls::desk::Desk;

/// The largest packet: that of plain Ethernet, which each port takes.
const MTU: usize = 1_500;
/// Packets that one call may make. A connection of a probe has two or three to send.
const PACKETS: usize = 8;

/// The director's ends of the connections.
pub(super) struct Stack {
    interfaces: HashMap<IpAddr, Interface>,
    wire: Wire,
    begin: Instant,
    random: u64,
    /// Where TLS over connections is looked after.
    pub(super) desk: Desk,
}

/// A connection of a probe.
pub(super) struct Connection {
    sockets: SocketSet<'static>,
    handle: SocketHandle,
    local: IpAddr,
}

/// The two ends of a connection: address and port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ends {
    pub(super) local: (IpAddr, u16),
    pub(super) remote: (IpAddr, u16),
}

impl Stack {
    pub(super) fn new(begin: Instant, random: u64, desk: Desk) -> Self {
        Stack { interfaces: HashMap::new(), wire: Wire::default(), begin, random, desk }
    }

    /// Opens a connection. Its first packet goes out with the next [`turn`](Self::turn).
    pub(super) fn open(&mut self, ends: Ends, rooms: (usize, usize), now: Instant) -> Option<Connection> {
        let (received, sent) = (SocketBuffer::new(vec![0; rooms.0]), SocketBuffer::new(vec![0; rooms.1]));
        let mut socket = Socket::new(received, sent);
        // Answers are awaited: nothing is gained by waiting on this side.
        socket.set_ack_delay(None);
        socket.set_nagle_enabled(false);
        // A host keeps what its end has closed for a minute, and takes a new SYN for it only where the timestamp or the sequence
        // number is greater (RFC 6191). Ports come back sooner than that.
        socket.set_tsval_generator(Some(timestamp));
        self.interface(ends.local.0, now);
        let interface = self.interfaces.get_mut(&ends.local.0)?;
        let (local, remote) = (endpoint(ends.local), endpoint(ends.remote));
        socket.connect(interface.context(), remote, local).ok()?;
        let mut sockets = SocketSet::new(Vec::with_capacity(1));
        let handle = sockets.add(socket);
        Some(Connection { sockets, handle, local: ends.local.0 })
    }

    /// Gives a connection the packet that came for it, if one did. Returns the packets to send.
    pub(super) fn turn(&mut self, connection: &mut Connection, packet: Option<&[u8]>, now: Instant) -> Vec<Vec<u8>> {
        self.poll(connection.local, &mut connection.sockets, packet, now)
    }

    /// The answer to a TCP packet of a connection that is not there any more: a RST, so that nothing stays behind.
    pub(super) fn refuse(&mut self, local: IpAddr, packet: &[u8], now: Instant) -> Vec<Vec<u8>> {
        self.poll(local, &mut SocketSet::new(Vec::new()), Some(packet), now)
    }

    fn poll(
        &mut self,
        local: IpAddr,
        sockets: &mut SocketSet<'static>,
        packet: Option<&[u8]>,
        now: Instant,
    ) -> Vec<Vec<u8>> {
        self.interface(local, now);
        let at = self.at(now);
        self.wire.received = packet.map(<[u8]>::to_vec);
        if let Some(interface) = self.interfaces.get_mut(&local) {
            interface.poll(at, &mut self.wire, sockets);
        }
        std::mem::take(&mut self.wire.sent)
    }

    fn interface(&mut self, local: IpAddr, now: Instant) {
        let at = self.at(now);
        let Stack { interfaces, wire, random, .. } = self;
        interfaces.entry(local).or_insert_with(|| {
            let mut config = Config::new(HardwareAddress::Ip);
            *random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            config.random_seed = *random;
            let mut interface = Interface::new(config, wire, at);
            let address = IpAddress::from(local);
            let bits = if local.is_ipv4() { 32 } else { 128 };
            interface.update_ip_addrs(|addresses| {
                addresses.push(IpCidr::new(address, bits)).expect("the list is empty");
            });
            interface
        });
    }

    fn at(&self, now: Instant) -> smoltcp::time::Instant {
        let since = now.saturating_duration_since(self.begin).as_micros();
        smoltcp::time::Instant::from_micros(i64::try_from(since).unwrap_or(i64::MAX))
    }
}

impl Connection {
    fn socket(&mut self) -> &mut Socket<'static> {
        self.sockets.get_mut(self.handle)
    }

    /// Whether the other end has taken it.
    pub(super) fn is_open(&mut self) -> bool {
        !matches!(self.socket().state(), State::Closed | State::SynSent | State::Listen | State::SynReceived)
    }

    /// Whether it is over: closed by both ends, or reset.
    pub(super) fn is_over(&mut self) -> bool {
        matches!(self.socket().state(), State::Closed | State::TimeWait)
    }

    /// Whether the other end sends nothing any more.
    pub(super) fn has_ended(&mut self) -> bool {
        let socket = self.socket();
        !socket.may_recv() && !socket.can_recv()
    }

    /// Gives it bytes to send. Returns how many it has taken.
    pub(super) fn send(&mut self, data: &[u8]) -> usize {
        self.socket().send_slice(data).unwrap_or(0)
    }

    /// Takes what has come.
    pub(super) fn receive(&mut self) -> Vec<u8> {
        // What is kept in a ring may have two parts.
        let mut part = || self.socket().recv(|data| (data.len(), data.to_vec())).unwrap_or_default();
        let mut data = part();
        data.extend(part());
        data
    }

    /// Ends it in order: FIN.
    pub(super) fn close(&mut self) {
        self.socket().close();
    }

    /// Ends it at once: RST.
    pub(super) fn abort(&mut self) {
        self.socket().abort();
    }

    /// When it has to be given a turn although nothing comes, from now on.
    pub(super) fn due(&mut self, stack: &mut Stack, now: Instant) -> Option<Duration> {
        let at = stack.at(now);
        let interface = stack.interfaces.get_mut(&self.local)?;
        interface.poll_delay(at, &self.sockets).map(Duration::from)
    }
}

/// The value of the timestamp option (RFC 7323 §5.4): the host's time since it was booted, in ms. It grows over a restart of the
/// director, and nobody can set it.
fn timestamp() -> u32 {
    let time = clock_gettime(ClockId::Boottime);
    let ms = time.tv_sec * 1_000 + time.tv_nsec / 1_000_000;
    u32::try_from(ms.rem_euclid(1 << 32)).expect("less than 2^32")
}

fn endpoint((address, port): (IpAddr, u16)) -> (IpAddress, u16) {
    (address.into(), port)
}

/// The packet that came, and those to send.
#[derive(Default)]
pub(super) struct Wire {
    pub(super) received: Option<Vec<u8>>,
    pub(super) sent: Vec<Vec<u8>>,
}

pub(super) struct Received(Vec<u8>);
pub(super) struct Sent<'a>(&'a mut Vec<Vec<u8>>);

impl Device for Wire {
    type RxToken<'a> = Received;
    type TxToken<'a> = Sent<'a>;

    fn receive(&mut self, _: smoltcp::time::Instant) -> Option<(Received, Sent<'_>)> {
        self.received.take().map(|packet| (Received(packet), Sent(&mut self.sent)))
    }

    fn transmit(&mut self, _: smoltcp::time::Instant) -> Option<Sent<'_>> {
        (self.sent.len() < PACKETS).then_some(Sent(&mut self.sent))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = MTU;
        capabilities.checksum = ChecksumCapabilities::default();
        capabilities.checksum.tcp = Checksum::Both;
        capabilities
    }
}

impl RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

impl TxToken for Sent<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut packet = vec![0; len];
        let result = f(&mut packet);
        self.0.push(packet);
        result
    }
}

#[cfg(test)]
mod tests {
    use smoltcp::wire::TcpPacket;

    use super::*;

    /// The timestamp of the SYN that a new connection sends.
    fn timestamp_of_syn(stack: &mut Stack, local: &str, remote: &str) -> u32 {
        let ends = Ends { local: (local.parse().unwrap(), 40_000), remote: (remote.parse().unwrap(), 80) };
        let now = Instant::now();
        let mut connection = stack.open(ends, (64, 64), now).unwrap();
        let sent = stack.turn(&mut connection, None, now);
        let header = if local.contains(':') { 40 } else { 20 };
        let syn = TcpPacket::new_checked(&sent[0][header..]).unwrap();
        assert!(syn.syn() && !syn.ack());
        let mut options = syn.options();
        // Bound: an option is at least one byte long.
        while !options.is_empty() {
            let (rest, option) = smoltcp::wire::TcpOption::parse(options).unwrap();
            if let smoltcp::wire::TcpOption::TimeStamp { tsval, .. } = option {
                return tsval;
            }
            options = rest;
        }
        panic!("no timestamp");
    }

    #[test]
    fn a_port_can_come_back_within_a_minute_since_the_timestamp_of_its_syn_has_grown() {
        for (local, remote) in [("192.0.2.1", "192.0.2.80"), ("2001:db8::1", "2001:db8::80")] {
            // Another director, as after a restart.
            let stack = || Stack::new(Instant::now(), 1, crate::health::tls::desk::desk().0);
            let first = timestamp_of_syn(&mut stack(), local, remote);
            std::thread::sleep(Duration::from_millis(5));
            let grown = timestamp_of_syn(&mut stack(), local, remote).wrapping_sub(first);
            assert!((5..60_000).contains(&grown), "{local}: grown by {grown} ms");
        }
    }
}
