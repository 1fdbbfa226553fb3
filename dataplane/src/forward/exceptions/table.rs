//! The exception table: a hash table of fixed size that needs little memory and never moves an entry.
//!
//! A key has two buckets, by two parts of its hash. For IPv4, a bucket is one cache line of four entries; for IPv6, it
//! is two lines of three entries. The first bucket is filled before the second is used, so most look-ups touch one
//! line. An entry holds the full key, so two flows are never confused.

use std::fmt;

use crate::base::ids::CounterNo;
use crate::base::limits::MAX_TARGETS;
use crate::base::touched::touched;
use crate::dpdk;
use crate::wire::flow::{Flow, Transport, Tuple, TupleV4, TupleV6};
use crate::wire::l4::{SCTP, TCP, UDP};

/// Ticks are counted modulo this.
const TICKS: u32 = 1 << TICK_BITS;
const TICK_BITS: u32 = 11;
const STATE_BITS: u32 = 4;
const COUNTER_BITS: u32 = 17;

const _: () = assert!(TICK_BITS + STATE_BITS + COUNTER_BITS == 32);
const _: () = assert!(MAX_TARGETS <= 1 << COUNTER_BITS);

/// What has been seen of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
#[repr(u8)]
pub(super) enum Phase {
    /// Only its first packet (a SYN). On probation.
    Opening = 1,
    /// One packet of a flow that had begun before. On probation.
    Heard = 2,
    /// More packets: confirmed.
    Open = 3,
    /// The client has closed the connection (a FIN).
    Closing = 4,
    /// The client has aborted the connection (a RST).
    Closed = 5,
    /// One packet of a flow that had begun before, and that packet was a FIN. On probation.
    Leaving = 6,
}

/// The number of phases.
const PHASES: u32 = 6;
/// UDP's flows have no end: their last phase is `Open`. So the states of all protocols fit.
const _: () = assert!(PHASES * Wire::Udp as u32 + (Phase::Open as u32) < 1 << STATE_BITS);

impl Phase {
    const ALL: [Phase; PHASES as usize] =
        [Phase::Opening, Phase::Heard, Phase::Open, Phase::Closing, Phase::Closed, Phase::Leaving];

    /// Whether a flood of single packets can make such entries.
    pub(super) fn is_probation(self) -> bool {
        matches!(self, Phase::Opening | Phase::Heard | Phase::Leaving)
    }

    /// Whether the flow counts as an active connection, as in LVS's `ActiveConn`. A single stray packet does not count.
    pub(super) fn is_active(self) -> bool {
        self == Phase::Open
    }
}

/// The data of an entry besides its key, in 32 bits: backend, protocol and phase, time of the last packet.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Meta(u32);

impl Meta {
    const FREE: Meta = Meta(0);

    /// A flow to the backend that has these counters, with a packet at this tick.
    pub(super) fn new(counter: CounterNo, protocol: Wire, phase: Phase, tick: u32) -> Meta {
        let state = phase as u32 + PHASES * protocol as u32;
        Meta(counter.raw() << (STATE_BITS + TICK_BITS) | state << TICK_BITS | tick & (TICKS - 1))
    }

    fn state(self) -> u32 {
        self.0 >> TICK_BITS & ((1 << STATE_BITS) - 1)
    }

    /// Whether the entry is free.
    #[inline]
    pub(super) fn is_free(self) -> bool {
        self.state() == 0
    }

    /// The backend's counters.
    #[inline]
    pub(super) fn counter(self) -> CounterNo {
        CounterNo::from_raw(self.0 >> (STATE_BITS + TICK_BITS))
    }

    /// What has been seen of the flow. Without meaning for a free entry.
    #[inline]
    pub(super) fn phase(self) -> Phase {
        Phase::ALL[((self.state() + PHASES - 1) % PHASES) as usize]
    }

    /// Whether the flow is of this protocol. `false` for a free entry.
    #[inline]
    fn is_of(self, protocol: Wire) -> bool {
        let first = PHASES * protocol as u32 + 1;
        (first..first + PHASES).contains(&self.state())
    }

    /// Whether the flow is of this protocol and in this phase, and had a packet in this tick.
    #[inline]
    pub(super) fn is(self, protocol: Wire, phase: Phase, tick: u32) -> bool {
        let counter_left_out = (1 << (STATE_BITS + TICK_BITS)) - 1;
        (self.0 ^ Meta::new(CounterNo::from_raw(0), protocol, phase, tick).0) & counter_left_out == 0
    }

    fn protocol(self) -> Option<Wire> {
        [Wire::Tcp, Wire::Sctp, Wire::Udp].into_iter().find(|&protocol| self.is_of(protocol))
    }

    /// The age of the flow's last packet, in ticks.
    #[inline]
    pub(super) fn age(self, tick: u32) -> u32 {
        tick.wrapping_sub(self.0) & (TICKS - 1)
    }

    /// The same flow in this phase, with a packet at this tick.
    #[inline]
    pub(super) fn heard(self, phase: Phase, tick: u32) -> Meta {
        let protocol = self.protocol().unwrap_or(Wire::Tcp);
        Meta::new(self.counter(), protocol, phase, tick)
    }
}

impl fmt::Debug for Meta {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_free() {
            return f.write_str("free");
        }
        write!(f, "{:?} {:?} to {} at {}", self.protocol(), self.phase(), self.counter(), self.0 & (TICKS - 1))
    }
}

/// The protocols that have ports. As a number, they need two bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Wire {
    /// TCP.
    Tcp = 0,
    /// SCTP.
    Sctp = 1,
    /// UDP.
    Udp = 2,
}

impl Wire {
    /// From a protocol number. A protocol other than TCP and SCTP has no beginning and no end of a flow, and is treated
    /// like UDP.
    #[inline]
    pub(super) fn of(protocol: u8) -> Wire {
        match protocol {
            TCP => Wire::Tcp,
            SCTP => Wire::Sctp,
            _ => Wire::Udp,
        }
    }

    /// The protocol number.
    pub(super) fn number(self) -> u8 {
        match self {
            Wire::Tcp => TCP,
            Wire::Sctp => SCTP,
            Wire::Udp => UDP,
        }
    }
}

/// A remembered flow: its key and its data.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub(crate) struct Entry<K> {
    key: K,
    meta: Meta,
}

/// Source, destination, both ports.
pub(crate) type V4Key = [u32; 3];
/// Source (4, the lowest bits first), destination (4), both ports.
pub(crate) type V6Key = [u32; 9];

const _: () = assert!(size_of::<Entry<V4Key>>() == 16, "four IPv4 entries are a cache line");
const _: () = assert!(size_of::<Entry<V6Key>>() == 40);

/// Two words of a key as one number, which halves the comparisons.
#[inline(always)]
fn pair(key: &[u32], word: usize) -> u64 {
    u64::from(key[word + 1]) << 32 | u64::from(key[word])
}

/// A few entries that are searched together.
pub(crate) trait Bucket: Copy {
    /// The flows that it holds.
    type Tuple: Tuple;
    /// The key of an entry: what distinguishes flows, besides the protocol.
    type Key: Copy + Eq;
    /// A bucket without flows.
    const EMPTY: Self;
    /// The number of entries.
    const WAYS: usize;

    /// The entries, free ones too.
    fn entries(&self) -> &[Entry<Self::Key>];
    /// The same for writing.
    fn entries_mut(&mut self) -> &mut [Entry<Self::Key>];
    /// A flow's key.
    fn key(flow: Self::Tuple) -> Self::Key;
    /// An entry's flow.
    fn flow(key: &Self::Key, protocol: u8) -> Flow;
    /// A bit for each entry with this key. Without a branch, because the CPU cannot predict which entry it is.
    fn with_key(&self, key: &Self::Key) -> u32;

    /// Prefetches the whole bucket.
    fn prefetch(&self);

    /// The data of the first entry that these bits name. There must be one.
    #[inline(always)]
    fn first_of(&self, bits: u32) -> Meta {
        self.entries()[bits.trailing_zeros() as usize].meta
    }
}

/// A cache line of IPv4 flows.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct V4Bucket([Entry<V4Key>; 4]);

/// Two cache lines of IPv6 flows.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(128))]
pub(crate) struct V6Bucket([Entry<V6Key>; 3]);

impl Bucket for V4Bucket {
    type Tuple = TupleV4;
    type Key = V4Key;
    const EMPTY: Self = V4Bucket([Entry { key: [0; 3], meta: Meta::FREE }; 4]);
    const WAYS: usize = 4;

    #[inline]
    fn entries(&self) -> &[Entry<V4Key>] {
        &self.0
    }

    #[inline]
    fn entries_mut(&mut self) -> &mut [Entry<V4Key>] {
        &mut self.0
    }

    #[inline(always)]
    fn key(flow: TupleV4) -> V4Key {
        [flow.source(), flow.destination(), flow.transport().ports]
    }

    #[inline(always)]
    fn prefetch(&self) {
        dpdk::prefetch(self);
    }

    fn flow(key: &V4Key, protocol: u8) -> Flow {
        let &[source, destination, ports] = key;
        Flow::V4 { source, destination, transport: Transport { ports, protocol } }
    }

    #[inline(always)]
    fn with_key(&self, key: &V4Key) -> u32 {
        let differences = |other: &V4Key| (pair(other, 0) ^ pair(key, 0)) | u64::from(other[2] ^ key[2]);
        self.0.iter().enumerate().fold(0, |same, (way, entry)| same | u32::from(differences(&entry.key) == 0) << way)
    }
}

impl Bucket for V6Bucket {
    type Tuple = TupleV6;
    type Key = V6Key;
    const EMPTY: Self = V6Bucket([Entry { key: [0; 9], meta: Meta::FREE }; 3]);
    const WAYS: usize = 3;

    #[inline]
    fn entries(&self) -> &[Entry<V6Key>] {
        &self.0
    }

    #[inline]
    fn entries_mut(&mut self) -> &mut [Entry<V6Key>] {
        &mut self.0
    }

    #[inline(always)]
    fn key(flow: TupleV6) -> V6Key {
        v6_key(flow.source, flow.destination, flow.transport().ports)
    }

    #[inline(always)]
    fn prefetch(&self) {
        dpdk::prefetch(self);
        // The middle entry begins in the first line and ends in the second.
        dpdk::prefetch(&self.0[2]);
    }

    fn flow(key: &V6Key, protocol: u8) -> Flow {
        let &[a, b, c, d, e, f, g, h, ports] = key;
        let address = |words: [u32; 4]| words.into_iter().rev().fold(0, |all, word| all << 32 | u128::from(word));
        let (source, destination) = (address([a, b, c, d]), address([e, f, g, h]));
        Flow::V6 { source, destination, transport: Transport { ports, protocol } }
    }

    #[inline(always)]
    fn with_key(&self, key: &V6Key) -> u32 {
        let differences = |other: &V6Key| {
            let addresses = [0, 2, 4, 6].into_iter().fold(0, |bits, word| bits | (pair(other, word) ^ pair(key, word)));
            addresses | u64::from(other[8] ^ key[8])
        };
        self.0.iter().enumerate().fold(0, |same, (way, entry)| same | u32::from(differences(&entry.key) == 0) << way)
    }
}

#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "an address is taken apart into words")]
fn v6_key(source: u128, destination: u128, ports: u32) -> V6Key {
    let words =
        |address: u128| [address as u32, (address >> 32) as u32, (address >> 64) as u32, (address >> 96) as u32];
    let ([a, b, c, d], [e, f, g, h]) = (words(source), words(destination));
    [a, b, c, d, e, f, g, h, ports]
}

/// The position of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Position {
    bucket: usize,
    way: usize,
}

/// The table of one address family.
#[derive(Debug)]
pub(crate) struct Table<B> {
    buckets: Box<[B]>,
}

impl<B: Bucket> Table<B> {
    /// A table for about this many flows. The number of buckets is rounded up to a power of two.
    pub(super) fn new(flows: usize) -> Self {
        let buckets = flows.div_ceil(B::WAYS).next_power_of_two().max(2);
        Table { buckets: touched(buckets, || B::EMPTY) }
    }

    /// The number of entries that it can hold.
    pub(super) fn room(&self) -> usize {
        self.buckets.len() * B::WAYS
    }

    /// The number of its buckets.
    pub(super) fn buckets(&self) -> usize {
        self.buckets.len()
    }

    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "some bits of the hash are enough")]
    fn homes(&self, hash: u64) -> [usize; 2] {
        let mask = self.buckets.len() - 1;
        let first = hash as usize & mask;
        // Odd, so that the second differs from the first.
        [first, (first ^ ((hash >> 32) as usize | 1)) & mask]
    }

    /// The first bucket of a hash. Most flows are there, even in a full table more than half.
    #[inline(always)]
    pub(super) fn first(&self, hash: u64) -> &B {
        &self.buckets[self.homes(hash)[0]]
    }

    /// The second bucket of a hash.
    #[inline(always)]
    pub(super) fn second(&self, hash: u64) -> &B {
        &self.buckets[self.homes(hash)[1]]
    }

    /// The entry of a flow, if it is in the first bucket.
    pub(super) fn find_first(&self, key: &B::Key, protocol: Wire, hash: u64) -> Option<(Position, Meta)> {
        self.find_in(self.homes(hash)[0], key, protocol)
    }

    /// The entry of a flow.
    pub(super) fn find(&self, key: &B::Key, protocol: Wire, hash: u64) -> Option<(Position, Meta)> {
        self.homes(hash).into_iter().find_map(|bucket| self.find_in(bucket, key, protocol))
    }

    fn find_in(&self, number: usize, key: &B::Key, protocol: Wire) -> Option<(Position, Meta)> {
        let bucket = &self.buckets[number];
        // A key has at most one entry for each protocol.
        let mut same = bucket.with_key(key);
        // Bound: each round clears a bit, of which there is one for each entry of a bucket.
        while same != 0 {
            let meta = bucket.first_of(same);
            if meta.is_of(protocol) {
                return Some((Position { bucket: number, way: same.trailing_zeros() as usize }, meta));
            }
            same &= same - 1;
        }
        None
    }

    /// The position for a new entry: the entry for which `rank` gives the lowest number, of equals the first. `None` if
    /// it gives no number. A free entry comes before all others, without a call of `rank`.
    pub(super) fn room_for(&self, hash: u64, rank: impl Fn(Meta) -> Option<u32>) -> Option<Position> {
        let mut best: Option<(u32, Position)> = None;
        for bucket in self.homes(hash) {
            for (way, entry) in self.buckets[bucket].entries().iter().enumerate() {
                let position = Position { bucket, way };
                if entry.meta.is_free() {
                    return Some(position);
                }
                if let Some(rank) = rank(entry.meta).filter(|rank| best.is_none_or(|(best, _)| *rank < best)) {
                    best = Some((rank, position));
                }
            }
        }
        best.map(|(_, position)| position)
    }

    /// Writes an entry, and returns the old data.
    #[inline]
    pub(super) fn write(&mut self, Position { bucket, way }: Position, key: B::Key, meta: Meta) -> Meta {
        let entry = &mut self.buckets[bucket].entries_mut()[way];
        entry.key = key;
        std::mem::replace(&mut entry.meta, meta)
    }

    /// Changes the data of an entry, and returns the old data.
    #[inline]
    pub(super) fn update(&mut self, Position { bucket, way }: Position, meta: Meta) -> Meta {
        std::mem::replace(&mut self.buckets[bucket].entries_mut()[way].meta, meta)
    }

    /// Frees an entry, and returns its data.
    #[inline]
    pub(super) fn free(&mut self, position: Position) -> Meta {
        self.update(position, Meta::FREE)
    }

    /// The flows of one bucket, with their data.
    pub(super) fn flows(&self, bucket: usize) -> impl Iterator<Item = (Position, Flow, Meta)> + use<'_, B> {
        let entries = self.buckets[bucket].entries().iter().enumerate();
        entries.filter_map(move |(way, entry)| {
            let protocol = entry.meta.protocol()?;
            Some((Position { bucket, way }, B::flow(&entry.key, protocol.number()), entry.meta))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COUNTER: CounterNo = CounterNo::from_raw(131_071);

    #[test]
    fn the_data_of_an_entry_is_read_as_it_was_written() {
        for protocol in [Wire::Tcp, Wire::Sctp, Wire::Udp] {
            for phase in Phase::ALL.into_iter().filter(|&phase| protocol != Wire::Udp || phase <= Phase::Open) {
                let meta = Meta::new(COUNTER, protocol, phase, 2_047);
                assert!(!meta.is_free() && meta.is_of(protocol));
                assert_eq!(
                    (meta.counter().raw(), meta.protocol(), meta.phase()),
                    (COUNTER.raw(), Some(protocol), phase)
                );
                assert_eq!((meta.age(2_047), meta.age(2_048), meta.age(2_047 + 900)), (0, 1, 900));
                assert_eq!(meta.heard(Phase::Open, 5), Meta::new(COUNTER, protocol, Phase::Open, 5));
            }
        }
        assert!(Meta::FREE.is_free() && Meta::FREE.protocol().is_none());
    }

    #[test]
    fn flows_are_distinguished_by_the_whole_key() {
        let mut table = Table::<V4Bucket>::new(64);
        let meta = Meta::new(CounterNo::from_raw(7), Wire::Tcp, Phase::Open, 0);
        let position = table.room_for(5, |_| None).unwrap();
        table.write(position, [1, 2, 3], meta);
        assert_eq!(table.find(&[1, 2, 3], Wire::Tcp, 5), Some((position, meta)));
        assert_eq!(table.find(&[1, 2, 4], Wire::Tcp, 5), None);
        assert_eq!(table.find(&[1, 2, 3], Wire::Udp, 5), None, "the same ports of another protocol");
        assert_eq!(table.free(position), meta);
        assert_eq!(table.find(&[1, 2, 3], Wire::Tcp, 5), None);
    }

    #[test]
    fn a_hash_has_two_buckets_and_no_more() {
        let mut table = Table::<V6Bucket>::new(64);
        let meta = Meta::new(CounterNo::from_raw(7), Wire::Udp, Phase::Open, 0);
        for number in 0..6 {
            let position = table.room_for(1 << 32 | 9, |_| None).unwrap();
            table.write(position, v6_key(number, 1, 2), meta);
        }
        assert_eq!(table.room_for(1 << 32 | 9, |_| None), None);
        for number in 0..6 {
            assert!(table.find(&v6_key(number, 1, 2), Wire::Udp, 1 << 32 | 9).is_some());
        }
        let flows: Vec<Flow> = (0..table.buckets()).flat_map(|b| table.flows(b)).map(|(_, flow, _)| flow).collect();
        assert_eq!(flows.len(), 6);
        assert!(
            flows.iter().all(|flow| matches!(flow, Flow::V6 { destination: 1, transport, .. } if transport.ports == 2))
        );
    }

    #[test]
    fn the_entry_of_the_lowest_rank_is_replaced() {
        let mut table = Table::<V4Bucket>::new(8);
        for number in 0..8 {
            let position = table.room_for(0, |_| None).unwrap();
            table.write(position, [number, 0, 0], Meta::new(CounterNo::from_raw(number), Wire::Tcp, Phase::Open, 0));
        }
        let position =
            table.room_for(0, |meta| (meta.counter().raw() > 2).then_some(10 - meta.counter().raw())).unwrap();
        assert_eq!(table.free(position).counter().raw(), 7);
    }
}
