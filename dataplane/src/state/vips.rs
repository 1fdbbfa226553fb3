//! Finds the service of a destination address, port and protocol, and tells which addresses are ours.
//!
//! The second step of a packet's way. Nearly all services are found by a multiplication and one comparison, in a table
//! that holds the service in the cell of its key. The maps behind the table have the rest: services whose cell was
//! taken, ranges of ports, and addresses without a service. The table is written when the map is made, never by a
//! packet, so clients cannot make it slower.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use ctl::{PortRange, ServiceId};
use hashbrown::{HashMap, HashSet};

use crate::base::ids::ServiceNo;
use crate::wire::flow::{Flow, Transport, Tuple, TupleV4, TupleV6};
use crate::wire::source::{Marks, is_martian};

/// The kinds of local addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Local {
    /// The VIP of one or more services.
    Vip,
    /// An address of the director itself.
    Own,
}

/// The services' numbers and all local addresses. If several services include a port, the most specific one gets it: a
/// single port before a range, a narrow range before a wide one.
#[derive(Debug, Default, Clone)]
pub struct VipMap {
    // One map for each IP version, so that an IPv4 key is one machine word.
    v4: Single<V4Key>,
    v6: Single<V6Key>,
    v4_ranges: HashMap<V4Key, Ranges>,
    v6_ranges: HashMap<V6Key, Ranges>,
    locals: HashMap<IpAddr, Local>,
    /// The first and the last address of our IPv4 networks, which are broadcast addresses (RFC 1122 §3.2.1.3).
    broadcasts: HashSet<IpAddr>,
    /// Marks the sources that no client has. With it, [`VipMap::is_martian`] need not be asked for each packet.
    marks: Marks,
}

/// The address in the upper half, port and protocol in the lower.
type V4Key = u64;
/// The address, and port and protocol.
type V6Key = (u128, u32);

/// Ports and the services that get them, in parts that do not overlap, in their order. A look-up takes a few steps,
/// however many ranges there are.
#[derive(Debug, Default, Clone)]
struct Ranges(Vec<Part>);

/// Ports that one service gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Part {
    first: u16,
    last: u16,
    /// The width of the whole range.
    width: u16,
    service: ServiceNo,
}

impl Ranges {
    /// Adds a range. Where it overlaps others, the narrowest gets the ports; of equals, the one that was there.
    fn insert(&mut self, range: PortRange, service: ServiceNo) {
        let new = Part { first: range.first, last: range.last, width: range.width(), service };
        let begin = self.0.partition_point(|part| part.last < new.first);
        let end = self.0.partition_point(|part| part.first <= new.last);
        let mut parts = Vec::with_capacity(2 * (end - begin) + 3);
        // The first port of the range that no part has yet.
        let mut next = Some(new.first);
        for &old in &self.0[begin..end] {
            if let Some(before) = new.first.checked_sub(1).filter(|&before| old.first <= before) {
                parts.push(Part { last: before, ..old });
            }
            let (first, last) = (old.first.max(new.first), old.last.min(new.last));
            if let Some(next) = next.filter(|&next| next < first) {
                parts.push(Part { first: next, last: first - 1, ..new });
            }
            parts.push(Part { first, last, ..if old.width <= new.width { old } else { new } });
            next = last.checked_add(1);
            if let Some(behind) = new.last.checked_add(1).filter(|&behind| behind <= old.last) {
                parts.push(Part { first: behind, ..old });
            }
        }
        if let Some(next) = next.filter(|&next| next <= new.last) {
            parts.push(Part { first: next, ..new });
        }
        self.0.splice(begin..end, parts);
    }

    fn service(&self, port: u16) -> Option<&ServiceNo> {
        let part = self.0.get(self.0.partition_point(|part| part.last < port))?;
        (part.first <= port).then_some(&part.service)
    }
}

/// A flow whose service can be looked up in the tables.
pub trait Near: Tuple {
    /// The service of the flow, if it is in the table. A flow without one here may still have a service
    /// ([`VipMap::service`]).
    fn service(self, vips: &VipMap) -> Option<ServiceNo>;
}

impl Near for TupleV4 {
    #[inline(always)]
    fn service(self, vips: &VipMap) -> Option<ServiceNo> {
        vips.v4.near(self.addresses << 32 | self.transport & 0xff_ffff)
    }
}

impl Near for TupleV6 {
    #[inline(always)]
    fn service(self, vips: &VipMap) -> Option<ServiceNo> {
        vips.v6.near(v6_key(self.destination, self.transport.into()))
    }
}

/// The last look-up in the maps. The next one is often the same.
#[derive(Debug, Clone, Copy, Default)]
pub struct LastService {
    destination: Option<(IpAddr, u32)>,
    service: Option<ServiceNo>,
}

impl VipMap {
    /// Adds a service under its number.
    pub fn insert_service(&mut self, id: ServiceId, number: ServiceNo) {
        for &range in id.port.ranges() {
            if range.first == range.last {
                let transport = Transport::new(0, range.first, id.protocol.number());
                match id.vip {
                    IpAddr::V4(vip) => self.v4.insert(v4_key(vip.to_bits(), transport), number),
                    IpAddr::V6(vip) => self.v6.insert(v6_key(vip.to_bits(), transport), number),
                }
            } else {
                let any = Transport::new(0, 0, id.protocol.number());
                let ranges = match id.vip {
                    IpAddr::V4(vip) => self.v4_ranges.entry(v4_key(vip.to_bits(), any)).or_default(),
                    IpAddr::V6(vip) => self.v6_ranges.entry(v6_key(vip.to_bits(), any)).or_default(),
                };
                ranges.insert(range, number);
            }
        }
        self.locals.insert(id.vip, Local::Vip);
        self.marks.add(id.vip);
    }

    /// Adds an address of the director.
    pub fn insert_own(&mut self, address: IpAddr) {
        self.locals.insert(address, Local::Own);
        self.marks.add(address);
    }

    /// Adds a broadcast address of one of our networks.
    pub fn insert_broadcast(&mut self, address: Ipv4Addr) {
        self.broadcasts.insert(address.into());
        self.marks.add(address.into());
    }

    /// The service that a flow belongs to.
    pub fn service(&self, flow: &Flow, last: &mut LastService) -> Option<ServiceNo> {
        let destination = Some((flow.destination(), port_and_protocol(flow.transport())));
        if last.destination != destination {
            let single = match *flow {
                Flow::V4 { destination, transport, .. } => self.v4.all.get(&v4_key(destination, transport)),
                Flow::V6 { destination, transport, .. } => self.v6.all.get(&v6_key(destination, transport)),
            };
            *last = LastService { destination, service: single.or_else(|| self.in_range(flow)).copied() };
        }
        last.service
    }

    /// The service whose range a flow's port is in.
    #[cold]
    fn in_range(&self, flow: &Flow) -> Option<&ServiceNo> {
        let (ranges, transport) = match *flow {
            Flow::V4 { destination, transport, .. } => {
                (self.v4_ranges.get(&v4_key(destination, Transport { ports: 0, ..transport }))?, transport)
            }
            Flow::V6 { destination, transport, .. } => {
                (self.v6_ranges.get(&v6_key(destination, Transport { ports: 0, ..transport }))?, transport)
            }
        };
        ranges.service(transport.destination())
    }

    /// Marks of sources. A source without a mark is not [martian](VipMap::is_martian).
    #[inline(always)]
    pub fn marks(&self) -> &Marks {
        &self.marks
    }

    /// Whether no client can have sent a packet with these addresses: the source is no host's, or it is ours, or that of
    /// all stations of a network of ours. From a VIP, backends send replies, to a health check of ours, or on a wrong way
    /// to a client; but nothing goes from a VIP to a VIP.
    pub fn is_martian(&self, source: IpAddr, destination: IpAddr) -> bool {
        is_martian(source)
            || match self.local(source) {
                Some(Local::Own) => true,
                Some(Local::Vip) => self.local(destination) == Some(Local::Vip),
                None => self.is_broadcast(source),
            }
    }

    /// Whether an address is a broadcast address of one of our networks.
    pub fn is_broadcast(&self, address: IpAddr) -> bool {
        self.broadcasts.contains(&address)
    }

    /// The kind of a local address; `None` if the address is not ours.
    pub fn local(&self, address: IpAddr) -> Option<Local> {
        self.locals.get(&address).copied()
    }
}

#[inline]
fn v4_key(destination: u32, transport: Transport) -> V4Key {
    u64::from(destination) << 32 | u64::from(port_and_protocol(transport))
}

#[inline]
fn v6_key(destination: u128, transport: Transport) -> V6Key {
    (destination, port_and_protocol(transport))
}

#[inline]
fn port_and_protocol(transport: Transport) -> u32 {
    (transport.ports & 0xffff) << 8 | u32::from(transport.protocol)
}

/// The cells of a table, as an exponent of 2: four for each service of a director that has a thousand services.
const CELLS_BITS: u32 = 12;
const CELLS: usize = 1 << CELLS_BITS;

/// The services of single ports.
#[derive(Debug, Clone)]
struct Single<K> {
    /// The services whose cell was free. Shared, so that a copy of the map is cheap.
    near: Arc<[(K, ServiceNo); CELLS]>,
    all: HashMap<K, ServiceNo>,
}

impl<K: Key> Default for Single<K> {
    fn default() -> Self {
        Single { near: Arc::new([(K::NO_SERVICE, ServiceNo::new(0)); CELLS]), all: HashMap::new() }
    }
}

impl<K: Key> Single<K> {
    fn insert(&mut self, key: K, number: ServiceNo) {
        let cell = &mut Arc::make_mut(&mut self.near)[key.cell()];
        if cell.0 == K::NO_SERVICE || cell.0 == key {
            *cell = (key, number);
        }
        self.all.insert(key, number);
    }

    #[inline(always)]
    fn near(&self, key: K) -> Option<ServiceNo> {
        let (service, number) = self.near[key.cell()];
        (service == key).then_some(number)
    }
}

trait Key: Copy + Eq + std::hash::Hash {
    /// A key that no service has.
    const NO_SERVICE: Self;

    /// The index of the key's cell, below [`CELLS`].
    fn cell(self) -> usize;
}

impl Key for V4Key {
    const NO_SERVICE: Self = u64::MAX;

    #[inline(always)]
    fn cell(self) -> usize {
        spread(self)
    }
}

impl Key for V6Key {
    const NO_SERVICE: Self = (u128::MAX, u32::MAX);

    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "the two halves are wanted")]
    fn cell(self) -> usize {
        let (network, host) = ((self.0 >> 64) as u64, self.0 as u64);
        spread(network ^ host.rotate_left(32) ^ u64::from(self.1))
    }
}

/// Fibonacci hashing (Knuth, The Art of Computer Programming, volume 3, section 6.4): consecutive addresses and ports
/// get cells far apart.
#[inline(always)]
fn spread(key: u64) -> usize {
    (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (u64::BITS - CELLS_BITS)) as usize
}

#[cfg(test)]
mod tests {
    use ctl::Protocol;
    use proptest::prelude::*;

    use super::*;
    use crate::testing::model::{leases, model, service, snapshot};

    #[test]
    fn services_differ_by_address_port_and_protocol() {
        let mut model = model();
        model.add_service(&service("192.168.0.101:80", &[]), &leases()).unwrap();
        model.add_service(&service("192.168.0.101:81", &[]), &leases()).unwrap();
        model.add_service(&service("[fd00::101]:80", &[]), &leases()).unwrap();
        let snapshot = snapshot(model);
        let v4 = |destination: &str, port, protocol| {
            let destination = destination.parse::<std::net::Ipv4Addr>().unwrap().to_bits();
            let flow = Flow::V4 { source: 1, destination, transport: Transport::new(9, port, protocol) };
            snapshot.vips.service(&flow, &mut LastService::default())
        };
        assert_eq!(v4("192.168.0.101", 80, 6), Some(ServiceNo::new(0)));
        assert_eq!(v4("192.168.0.101", 81, 6), Some(ServiceNo::new(1)));
        assert_eq!(v4("192.168.0.101", 80, 17), None);
        assert_eq!(v4("192.168.0.102", 80, 6), None);
        let destination = "fd00::101".parse::<std::net::Ipv6Addr>().unwrap().to_bits();
        let flow = Flow::V6 { source: 1, destination, transport: Transport::new(9, 80, 6) };
        assert_eq!(snapshot.vips.service(&flow, &mut LastService::default()), Some(ServiceNo::new(2)));
        assert_eq!(snapshot.vips.local("fd00::101".parse().unwrap()), Some(Local::Vip));
        assert_eq!(snapshot.vips.local("192.168.0.2".parse().unwrap()), Some(Local::Own));
        assert_eq!(snapshot.vips.local("192.168.0.3".parse().unwrap()), None);
    }

    #[test]
    fn the_most_specific_service_gets_a_port() {
        let mut model = model();
        for (vip, protocol) in [
            ("192.168.0.101:80", Protocol::Tcp),
            ("192.168.0.101:any", Protocol::Tcp),
            ("192.168.0.101:50-100", Protocol::Tcp),
            ("192.168.0.101:443,60-70", Protocol::Tcp),
            ("192.168.0.101:5000-6000", Protocol::Udp),
            ("[fd00::101]:1-1024", Protocol::Tcp),
        ] {
            let mut wanted = service(vip, &[]);
            wanted.service.protocol = protocol;
            model.add_service(&wanted, &leases()).unwrap();
        }
        let names: Vec<String> = model.services.keys().map(ToString::to_string).collect();
        let snapshot = snapshot(model);
        let found = |destination: &str, port, protocol| {
            let transport = Transport::new(9, port, protocol);
            let flow = match destination.parse().unwrap() {
                IpAddr::V4(to) => Flow::V4 { source: 1, destination: to.to_bits(), transport },
                IpAddr::V6(to) => Flow::V6 { source: 1, destination: to.to_bits(), transport },
            };
            snapshot.vips.service(&flow, &mut LastService::default()).map(|number| names[number.index()].as_str())
        };
        for (port, name) in [
            (80, "192.168.0.101:80/tcp"),
            (81, "192.168.0.101:50-100/tcp"),
            (65, "192.168.0.101:60-70,443/tcp"),
            (443, "192.168.0.101:60-70,443/tcp"),
            (9, "192.168.0.101:any/tcp"),
            (65_535, "192.168.0.101:any/tcp"),
        ] {
            assert_eq!(found("192.168.0.101", port, 6), Some(name), "port {port}");
        }
        assert_eq!(found("192.168.0.101", 5_500, 17), Some("192.168.0.101:5000-6000/udp"));
        assert_eq!(found("192.168.0.101", 80, 17), None);
        assert_eq!(found("192.168.0.102", 80, 6), None);
        assert_eq!(found("fd00::101", 22, 6), Some("[fd00::101]:1-1024/tcp"));
        assert_eq!(found("fd00::101", 1_025, 6), None);
    }

    fn tuple_v4(source: u32, destination: u32, transport: Transport) -> TupleV4 {
        TupleV4 { addresses: u64::from(source) << 32 | u64::from(destination), transport: transport.number() }
    }

    /// A port that shares its cell in the table with port 80 of this VIP.
    fn rival(vip: u32) -> u16 {
        let cell = |port| v4_key(vip, Transport::new(0, port, 6)).cell();
        (81..=u16::MAX).find(|&port| cell(port) == cell(80)).expect("there are more ports than cells")
    }

    #[test]
    fn a_service_whose_cell_is_taken_is_found_all_the_same() {
        let vip = 0xc0a8_0065;
        let ports = [80, rival(vip)];
        let mut vips = VipMap::default();
        for (number, port) in (0..).zip(ports) {
            vips.insert_service(format!("192.168.0.101:{port}").parse().unwrap(), ServiceNo::new(number));
        }
        let tuples = ports.map(|port| tuple_v4(1, vip, Transport::new(9, port, 6)));
        assert_eq!(tuples.map(|tuple| tuple.service(&vips)), [Some(ServiceNo::new(0)), None]);
        let mut last = LastService::default();
        assert_eq!(
            tuples.map(|tuple| vips.service(&tuple.into(), &mut last)),
            [0, 1].map(|number| Some(ServiceNo::new(number)))
        );
    }

    #[test]
    fn many_ranges_are_found_in_few_steps() {
        let mut ranges = Ranges::default();
        for number in 0..16_000u16 {
            ranges.insert(PortRange { first: 4 * number, last: 4 * number + 1 }, ServiceNo::new(number.into()));
        }
        assert_eq!(ranges.0.len(), 16_000);
        for port in 0..=u16::MAX {
            let expected = (port % 4 < 2 && port < 64_000).then(|| ServiceNo::new(usize::from(port / 4)));
            assert_eq!(ranges.service(port).copied(), expected);
        }
    }

    proptest! {
        /// Ranges that overlap: each port has the service of the narrowest.
        #[test]
        fn the_narrowest_range_gets_a_port(
            ranges in prop::collection::vec((prop_oneof![0u16..40, 65_500u16..=65_535], 0u16..40), 1..30),
        ) {
            let ranges: Vec<PortRange> = ranges
                .into_iter()
                .map(|(first, more)| PortRange { first, last: first.saturating_add(more) })
                .collect();
            let mut parts = Ranges::default();
            for (number, &range) in ranges.iter().enumerate() {
                parts.insert(range, ServiceNo::new(number));
            }
            prop_assert!(parts.0.is_sorted_by(|a, b| a.last < b.first) && parts.0.iter().all(|part| part.first <= part.last));
            for port in (0..100).chain(65_400..=65_535) {
                let of = |(_, range): &(usize, &PortRange)| range.contains(port);
                let expected = ranges.iter().enumerate().filter(of).min_by_key(|(number, range)| (range.width(), *number));
                prop_assert_eq!(parts.service(port).copied(), expected.map(|(number, _)| ServiceNo::new(number)));
            }
        }

        /// Few ports and addresses, so that services share cells, and tables with more services than cells.
        #[test]
        fn the_tables_agree_with_the_maps(
            services in prop::collection::btree_map((any::<bool>(), 0u32..20, 1u16..400, any::<bool>()), 0usize..1 << 20, 0..6_000),
            asked in prop::collection::vec((any::<bool>(), 0u32..20, 1u16..400, any::<bool>()), 100),
        ) {
            let mut vips = VipMap::default();
            let protocol = |udp| if udp { Protocol::Udp } else { Protocol::Tcp };
            for (&(v6, host, port, udp), &number) in &services {
                let vip = if v6 { format!("[fd00::{host}]:{port}") } else { format!("10.0.0.{host}:{port}") };
                let mut id: ServiceId = vip.parse().unwrap();
                id.protocol = protocol(udp);
                vips.insert_service(id, ServiceNo::new(number));
            }
            let mut last = LastService::default();
            let known: Vec<_> = services.keys().copied().collect();
            for (v6, host, port, udp) in asked.into_iter().chain(known) {
                let transport = Transport::new(9, port, protocol(udp).number());
                let (near, flow): (_, Flow) = if v6 {
                    let host = format!("fd00::{host}").parse::<std::net::Ipv6Addr>().unwrap().to_bits();
                    let tuple = TupleV6 { source: 1, destination: host, transport: transport.number() };
                    (tuple.service(&vips), tuple.into())
                } else {
                    let tuple = tuple_v4(1, 0x0a00_0000 + host, transport);
                    (tuple.service(&vips), tuple.into())
                };
                let expected = services.get(&(v6, host, port, udp)).copied().map(ServiceNo::new);
                prop_assert_eq!(vips.service(&flow, &mut last), expected);
                prop_assert!(near.is_none() || near == expected);
            }
        }
    }
}
