//! A flow's 5-tuple and its hash.
//!
//! The hash decides the Maglev slot, so two directors of one VIP must agree on it, even if their releases differ. So it
//! is fixed, and documented here. It is keyed, so that clients cannot choose their backend. With the 128-bit `hash_key`
//! of the configuration, SipHash-2-4 makes six secrets `k0 … k5`, `k_i = siphash(hash_key, "shunt-flow" ‖ i)`.
//!
//! `fold(a, b)` is the exclusive or of the two halves of the 128-bit product `a · b`. Addresses and ports are big-endian
//! numbers, and `t = source port · 2^24 + destination port · 2^8 + protocol`. Then:
//!
//! ```text
//! IPv4: h = fold((source · 2^32 + destination) ^ k0, k1 ^ t);                    hash = fold(h ^ k4, k5)
//! IPv6: h = fold(source.high ^ k0, source.low ^ k1) ^ fold(destination.high ^ k2, destination.low ^ k3);
//!                                                                                hash = fold(h ^ k4, k5 ^ t)
//! ```
//!
//! If a service hashes by the client's address alone, the source is cut to the prefix, and destination and t are 0.

use std::hash::Hasher;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use siphasher::sip::SipHasher24;

/// A 5-tuple. Addresses and ports are numbers, not network byte order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// Over IPv4.
    V4 {
        /// Source address.
        source: u32,
        /// Destination address.
        destination: u32,
        /// Ports and protocol.
        transport: Transport,
    },
    /// Over IPv6.
    V6 {
        /// Source address.
        source: u128,
        /// Destination address.
        destination: u128,
        /// Ports and protocol.
        transport: Transport,
    },
}

/// The L4 part of a flow. Ports are 0 if the protocol has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transport {
    /// Source port in the upper half, destination port in the lower.
    pub ports: u32,
    /// IP protocol number.
    pub protocol: u8,
}

impl Transport {
    /// From the two ports.
    pub fn new(source: u16, destination: u16, protocol: u8) -> Self {
        Transport { ports: u32::from(source) << 16 | u32::from(destination), protocol }
    }

    /// The destination port.
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "only the lower half is wanted")]
    pub fn destination(self) -> u16 {
        self.ports as u16
    }

    /// Ports and protocol as one number, as in a [`TupleV4`].
    #[inline(always)]
    pub(crate) fn number(self) -> u64 {
        u64::from(self.ports) << 8 | u64::from(self.protocol)
    }
}

/// A flow of one IP version, in the form of the fast path: so few words that it stays in registers.
pub trait Tuple: Copy + Into<Flow> {
    /// The flow's hash.
    fn hash(self, hasher: &FlowHasher) -> u64;
    /// Ports and protocol.
    fn transport(self) -> Transport;
}

/// An IPv4 flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TupleV4 {
    /// Source address in the upper half, destination address in the lower.
    pub addresses: u64,
    /// Source port, destination port, protocol, from bit 24, 8 and 0 on.
    pub transport: u64,
}

/// An IPv6 flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TupleV6 {
    /// Source address.
    pub source: u128,
    /// Destination address.
    pub destination: u128,
    /// As in [`TupleV4`].
    pub transport: u64,
}

impl Tuple for TupleV4 {
    #[inline(always)]
    fn hash(self, hasher: &FlowHasher) -> u64 {
        let [k0, k1, _, _, k4, k5] = hasher.secrets;
        fold(fold(self.addresses ^ k0, k1 ^ self.transport) ^ k4, k5)
    }

    #[inline(always)]
    fn transport(self) -> Transport {
        self.transport.into()
    }
}

impl Tuple for TupleV6 {
    #[inline(always)]
    fn hash(self, hasher: &FlowHasher) -> u64 {
        let [k0, k1, k2, k3, k4, k5] = hasher.secrets;
        let (source_high, source_low) = halves(self.source);
        let (destination_high, destination_low) = halves(self.destination);
        let source = fold(source_high ^ k0, source_low ^ k1);
        let destination = fold(destination_high ^ k2, destination_low ^ k3);
        fold(source ^ destination ^ k4, k5 ^ self.transport)
    }

    #[inline(always)]
    fn transport(self) -> Transport {
        self.transport.into()
    }
}

impl TupleV4 {
    /// Source address.
    #[inline(always)]
    pub fn source(self) -> u32 {
        low(self.addresses >> 32)
    }

    /// Destination address.
    #[inline(always)]
    pub fn destination(self) -> u32 {
        low(self.addresses)
    }
}

impl From<TupleV4> for Flow {
    #[inline]
    fn from(tuple: TupleV4) -> Flow {
        Flow::V4 { source: tuple.source(), destination: tuple.destination(), transport: tuple.transport() }
    }
}

impl From<TupleV6> for Flow {
    #[inline]
    fn from(TupleV6 { source, destination, transport }: TupleV6) -> Flow {
        Flow::V6 { source, destination, transport: transport.into() }
    }
}

impl From<u64> for Transport {
    /// From the `transport` of a tuple.
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "only the lowest byte is wanted")]
    fn from(number: u64) -> Transport {
        Transport { ports: low(number >> 8), protocol: number as u8 }
    }
}

#[inline]
#[expect(clippy::cast_possible_truncation, reason = "only the lower half is wanted")]
fn low(wide: u64) -> u32 {
    wide as u32
}

/// A flow of either IP version, as a tuple.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnyTuple {
    /// IPv4.
    V4(TupleV4),
    /// IPv6.
    V6(TupleV6),
}

impl From<Flow> for AnyTuple {
    #[inline(always)]
    fn from(flow: Flow) -> AnyTuple {
        match flow {
            Flow::V4 { source, destination, transport } => {
                let addresses = u64::from(source) << 32 | u64::from(destination);
                AnyTuple::V4(TupleV4 { addresses, transport: transport.number() })
            }
            Flow::V6 { source, destination, transport } => {
                AnyTuple::V6(TupleV6 { source, destination, transport: transport.number() })
            }
        }
    }
}

impl Flow {
    /// Ports and protocol.
    #[inline]
    pub fn transport(&self) -> Transport {
        match *self {
            Flow::V4 { transport, .. } | Flow::V6 { transport, .. } => transport,
        }
    }

    /// The same flow with other ports, both as in [`Transport::ports`].
    pub fn with_ports(self, ports: u32) -> Flow {
        self.with_transport(Transport { ports, ..self.transport() })
    }

    /// The same flow with other ports and another protocol.
    pub fn with_transport(self, transport: Transport) -> Flow {
        match self {
            Flow::V4 { source, destination, .. } => Flow::V4 { source, destination, transport },
            Flow::V6 { source, destination, .. } => Flow::V6 { source, destination, transport },
        }
    }

    /// The flow reduced to the leading bits of the source address. It is the same for all ports and VIPs, so that a
    /// client gets the same backend from all services with the same backends.
    pub fn source_only(self, bits: u8) -> Flow {
        let transport = Transport::new(0, 0, 0);
        match self {
            Flow::V4 { source, .. } => {
                let dropped = 32 - u32::from(bits.min(32));
                let source = source.unbounded_shr(dropped).unbounded_shl(dropped);
                Flow::V4 { source, destination: 0, transport }
            }
            Flow::V6 { source, .. } => {
                let dropped = 128 - u32::from(bits.min(128));
                let source = source.unbounded_shr(dropped).unbounded_shl(dropped);
                Flow::V6 { source, destination: 0, transport }
            }
        }
    }

    /// The source address.
    pub fn source(&self) -> IpAddr {
        match *self {
            Flow::V4 { source, .. } => Ipv4Addr::from_bits(source).into(),
            Flow::V6 { source, .. } => Ipv6Addr::from_bits(source).into(),
        }
    }

    /// The destination address.
    pub fn destination(&self) -> IpAddr {
        match *self {
            Flow::V4 { destination, .. } => Ipv4Addr::from_bits(destination).into(),
            Flow::V6 { destination, .. } => Ipv6Addr::from_bits(destination).into(),
        }
    }
}

/// The secret keys of the flow hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlowHasher {
    secrets: [u64; 6],
}

impl FlowHasher {
    /// Derives the secrets from the configuration's `hash_key`.
    pub fn new(key: &[u8; 16]) -> Self {
        let mut secrets = [0; 6];
        for (number, secret) in (0u8..).zip(&mut secrets) {
            let mut hasher = SipHasher24::new_with_key(key);
            hasher.write(b"shunt-flow");
            hasher.write(&[number]);
            *secret = hasher.finish();
        }
        FlowHasher { secrets }
    }

    /// The flow's hash. All 64 bits are well mixed.
    #[inline(always)]
    pub fn hash(&self, flow: &Flow) -> u64 {
        match AnyTuple::from(*flow) {
            AnyTuple::V4(tuple) => tuple.hash(self),
            AnyTuple::V6(tuple) => tuple.hash(self),
        }
    }
}

#[inline]
fn fold(a: u64, b: u64) -> u64 {
    let (low, high) = halves(u128::from(a) * u128::from(b));
    low ^ high
}

/// The upper and the lower 64 bits.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "the two halves are wanted")]
fn halves(wide: u128) -> (u64, u64) {
    ((wide >> 64) as u64, wide as u64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEY: [u8; 16] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];

    fn v4(source: u32, port: u16) -> Flow {
        Flow::V4 { source, destination: 0xc0a8_0065, transport: Transport::new(port, 80, 6) }
    }

    fn v6(source: u128, port: u16) -> Flow {
        Flow::V6 { source, destination: 0xfd00 << 112 | 0x101, transport: Transport::new(port, 80, 6) }
    }

    /// Directors of different releases must agree: these values never change.
    #[test]
    fn golden_hashes() {
        let hasher = FlowHasher::new(&KEY);
        assert_eq!(hasher.hash(&v4(0x0a00_0001, 40000)), GOLDEN_V4);
        assert_eq!(hasher.hash(&v6(0xfd00 << 112 | 0x10, 40000)), GOLDEN_V6);
    }
    const GOLDEN_V4: u64 = 7_949_386_639_766_629_248;
    const GOLDEN_V6: u64 = 11_192_987_213_934_425_232;

    /// Chi-squared over 1,024 cells: the mean is 1023, the standard deviation 45. 1,250 is five deviations above the
    /// mean.
    fn chi_squared(flows: impl Iterator<Item = Flow>, bits: impl Fn(u64) -> usize) -> f64 {
        let hasher = FlowHasher::new(&KEY);
        let mut cells = [0u32; 1024];
        let mut count = 0;
        for flow in flows {
            cells[bits(hasher.hash(&flow))] += 1;
            count += 1;
        }
        let expected = f64::from(count) / 1024.0;
        cells.iter().map(|&cell| (f64::from(cell) - expected).powi(2) / expected).sum()
    }

    #[test]
    fn neighboring_flows_spread_evenly_by_upper_and_lower_bits() {
        let upper = |hash: u64| (hash >> 54) as usize;
        let lower = |hash: u64| (hash & 1023) as usize;
        for bits in [&upper as &dyn Fn(u64) -> usize, &lower] {
            let one_client = (1024..=u16::MAX).map(|port| v4(0x0a00_0001, port));
            assert!(chi_squared(one_client, bits) < 1250.0);
            let many_clients = (0..100_000).map(|i| v4(0x0a00_0000 + i, 40000));
            assert!(chi_squared(many_clients, bits) < 1250.0);
            let one_client = (1024..=u16::MAX).map(|port| v6(0xfd00 << 112 | 0x10, port));
            assert!(chi_squared(one_client, bits) < 1250.0);
            let many_clients = (0..100_000).map(|i| v6(0xfd00 << 112 | i, 40000));
            assert!(chi_squared(many_clients, bits) < 1250.0);
        }
    }

    #[test]
    fn a_prefix_of_the_source_may_decide_alone() {
        let of = |source, bits| v4(source, 7).source_only(bits).source().to_string();
        assert_eq!(of(0x0a01_0203, 32), "10.1.2.3");
        assert_eq!(of(0x0a01_0203, 24), "10.1.2.0");
        assert_eq!(of(0x0a01_0203, 0), "0.0.0.0");
        assert_eq!(v6(0xfd00 << 112 | 0x10, 7).source_only(64).source().to_string(), "fd00::");
        assert_eq!(v4(1, 7).source_only(32), v4(1, 8).source_only(32));
    }

    #[test]
    fn the_key_matters() {
        let other = FlowHasher::new(&[7; 16]);
        assert_ne!(FlowHasher::new(&KEY).hash(&v4(1, 1)), other.hash(&v4(1, 1)));
    }

    proptest! {
        #[test]
        fn a_tuple_and_its_flow_agree(source in any::<u128>(), destination in any::<u128>(), ports in any::<u32>(), protocol in any::<u8>()) {
            let (hasher, transport) = (FlowHasher::new(&[7; 16]), Transport { ports, protocol });
            let v6 = TupleV6 { source, destination, transport: transport.number() };
            let flow = Flow::V6 { source, destination, transport };
            prop_assert_eq!((Flow::from(v6), v6.hash(&hasher)), (flow, hasher.hash(&flow)));
            prop_assert_eq!(AnyTuple::from(flow), AnyTuple::V6(v6));
            let [source, destination] = [source, destination].map(|address| u32::try_from(address >> 96).unwrap());
            let addresses = u64::from(source) << 32 | u64::from(destination);
            let v4 = TupleV4 { addresses, transport: transport.number() };
            let flow = Flow::V4 { source, destination, transport };
            prop_assert_eq!((Flow::from(v4), v4.hash(&hasher)), (flow, hasher.hash(&flow)));
            prop_assert_eq!(AnyTuple::from(flow), AnyTuple::V4(v4));
        }
    }
}
