//! Where flows are remembered: a hash table of fixed size that asks for little memory and never moves an entry.
//!
//! A key has two buckets, by two parts of its hash; a bucket is one cache line of four entries for IPv4, two lines of
//! three entries for IPv6. The first bucket is filled before the second is used, so most look-ups touch one line.
//! An entry holds the full key: no two flows are ever taken for one another.

use std::fmt;

use crate::base::ids::CounterNo;
use crate::base::limits::MAX_TARGETS;
use crate::dpdk;
use crate::wire::flow::{Flow, Transport, Tuple, TupleV4, TupleV6};

/// Ticks are numbered modulo this.
const TICKS: u32 = 1 << TICK_BITS;
const TICK_BITS: u32 = 11;
const STATE_BITS: u32 = 4;
const COUNTER_BITS: u32 = 17;

const _: () = assert!(TICK_BITS + STATE_BITS + COUNTER_BITS == 32);
const _: () = assert!(MAX_TARGETS <= 1 << COUNTER_BITS);

/// What has been seen of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Phase {
    /// Nothing but its first packet (a SYN). On probation.
    Opening = 1,
    /// One packet of a flow that had begun before. On probation.
    Heard = 2,
    /// More than that: confirmed.
    Open = 3,
    /// The client has said that it is done (a FIN).
    Closing = 4,
    /// The client has broken it off (a RST).
    Closed = 5,
}

impl Phase {
    const ALL: [Phase; 5] = [Phase::Opening, Phase::Heard, Phase::Open, Phase::Closing, Phase::Closed];

    /// Whether a flood of single packets can make such entries.
    pub(super) fn is_probation(self) -> bool {
        matches!(self, Phase::Opening | Phase::Heard)
    }

    /// Whether the flow counts as an active connection, as LVS's `ActiveConn`. One stray packet is none.
    pub(super) fn is_active(self) -> bool {
        self == Phase::Open
    }
}

/// What an entry says besides its key, in 32 bits: backend, protocol and phase, time.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Meta(u32);

impl Meta {
    const FREE: Meta = Meta(0);

    /// A flow of a protocol that goes to the backend with these counters, heard of now.
    pub(super) fn new(counter: CounterNo, protocol: Wire, phase: Phase, tick: u32) -> Meta {
        let state = phase as u32 + 5 * protocol as u32;
        Meta(counter.raw() << (STATE_BITS + TICK_BITS) | state << TICK_BITS | tick & (TICKS - 1))
    }

    fn state(self) -> u32 {
        self.0 >> TICK_BITS & ((1 << STATE_BITS) - 1)
    }

    /// Whether there is nothing.
    #[inline]
    pub(super) fn is_free(self) -> bool {
        self.state() == 0
    }

    /// The backend's counters.
    #[inline]
    pub(super) fn counter(self) -> CounterNo {
        CounterNo::from_raw(self.0 >> (STATE_BITS + TICK_BITS))
    }

    /// What has been seen of the flow; of a free entry, nothing sensible.
    #[inline]
    pub(super) fn phase(self) -> Phase {
        Phase::ALL[((self.state() + 4) % 5) as usize]
    }

    /// Whether the flow is of this protocol. No free entry is.
    #[inline]
    fn is_of(self, protocol: Wire) -> bool {
        let first = 5 * protocol as u32 + 1;
        (first..first + 5).contains(&self.state())
    }

    /// Whether it is of a flow of this protocol in this phase, heard of in this tick.
    #[inline]
    pub(super) fn is(self, protocol: Wire, phase: Phase, tick: u32) -> bool {
        let counter_left_out = (1 << (STATE_BITS + TICK_BITS)) - 1;
        (self.0 ^ Meta::new(CounterNo::from_raw(0), protocol, phase, tick).0) & counter_left_out == 0
    }

    fn protocol(self) -> Option<Wire> {
        [Wire::Tcp, Wire::Sctp, Wire::Udp].into_iter().find(|&protocol| self.is_of(protocol))
    }

    /// How long ago the flow was last heard of, in ticks.
    #[inline]
    pub(super) fn age(self, tick: u32) -> u32 {
        tick.wrapping_sub(self.0) & (TICKS - 1)
    }

    /// The same flow, in this phase, heard of now.
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

/// The protocols that have ports, as a number of two bits.
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
    /// Of a protocol number; what is neither TCP nor SCTP has no beginning and no end, and is treated like UDP.
    #[inline]
    pub(super) fn of(protocol: u8) -> Wire {
        match protocol {
            6 => Wire::Tcp,
            132 => Wire::Sctp,
            _ => Wire::Udp,
        }
    }

    /// The protocol number.
    pub(super) fn number(self) -> u8 {
        match self {
            Wire::Tcp => 6,
            Wire::Sctp => 132,
            Wire::Udp => 17,
        }
    }
}

/// A remembered flow: its key and the rest.
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

/// Two words of a key at a time: half the comparisons.
#[inline(always)]
fn pair(key: &[u32], word: usize) -> u64 {
    u64::from(key[word + 1]) << 32 | u64::from(key[word])
}

/// A few entries that are looked through together.
pub(crate) trait Bucket: Copy {
    /// Which flows it has.
    type Tuple: Tuple;
    /// What tells its entries apart, besides the protocol.
    type Key: Copy + Eq;
    /// Without entries.
    const EMPTY: Self;
    /// How many entries there can be.
    const WAYS: usize;

    /// The entries, free ones too.
    fn entries(&self) -> &[Entry<Self::Key>];
    /// The same for writing.
    fn entries_mut(&mut self) -> &mut [Entry<Self::Key>];
    /// A flow's key.
    fn key(flow: Self::Tuple) -> Self::Key;
    /// An entry's flow.
    fn flow(key: &Self::Key, protocol: u8) -> Flow;
    /// A bit for each entry with this key. Without a branch: which entry it is cannot be predicted.
    fn with_key(&self, key: &Self::Key) -> u32;

    /// Has all of it fetched.
    fn prefetch(&self);

    /// What the first of the entries says that these bits name; there must be one.
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

/// Where an entry is.
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
    /// With room for about so many flows, rounded up to a power of two of buckets.
    pub(super) fn new(flows: usize) -> Self {
        let buckets = flows.div_ceil(B::WAYS).next_power_of_two().max(2);
        Table { buckets: vec![B::EMPTY; buckets].into() }
    }

    /// Entries that it can hold.
    pub(super) fn room(&self) -> usize {
        self.buckets.len() * B::WAYS
    }

    /// Its buckets.
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

    /// The first bucket of a hash, where most flows are; in a full table, more than half of them.
    #[inline(always)]
    pub(super) fn first(&self, hash: u64) -> &B {
        &self.buckets[self.homes(hash)[0]]
    }

    /// The second one.
    #[inline(always)]
    pub(super) fn second(&self, hash: u64) -> &B {
        &self.buckets[self.homes(hash)[1]]
    }

    /// The entry of a flow if it is in the first bucket.
    pub(super) fn find_first(&self, key: &B::Key, protocol: Wire, hash: u64) -> Option<(Position, Meta)> {
        self.find_in(self.homes(hash)[0], key, protocol)
    }

    /// The entry of a flow.
    pub(super) fn find(&self, key: &B::Key, protocol: Wire, hash: u64) -> Option<(Position, Meta)> {
        self.homes(hash).into_iter().find_map(|bucket| self.find_in(bucket, key, protocol))
    }

    fn find_in(&self, number: usize, key: &B::Key, protocol: Wire) -> Option<(Position, Meta)> {
        let bucket = &self.buckets[number];
        // There is one at most for each protocol.
        let mut same = bucket.with_key(key);
        while same != 0 {
            let meta = bucket.first_of(same);
            if meta.is_of(protocol) {
                return Some((Position { bucket: number, way: same.trailing_zeros() as usize }, meta));
            }
            same &= same - 1;
        }
        None
    }

    /// Where there is room for a newcomer: the entry that `rank` gives the lowest number, if it gives any; of equals, the
    /// first. A free entry has rank 0, and is not asked about.
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

    /// Writes an entry, and returns what was there before.
    #[inline]
    pub(super) fn write(&mut self, Position { bucket, way }: Position, key: B::Key, meta: Meta) -> Meta {
        let entry = &mut self.buckets[bucket].entries_mut()[way];
        entry.key = key;
        std::mem::replace(&mut entry.meta, meta)
    }

    /// Changes what an entry says, and returns what it said before.
    #[inline]
    pub(super) fn update(&mut self, Position { bucket, way }: Position, meta: Meta) -> Meta {
        std::mem::replace(&mut self.buckets[bucket].entries_mut()[way].meta, meta)
    }

    /// Frees an entry, and returns what it said.
    #[inline]
    pub(super) fn free(&mut self, position: Position) -> Meta {
        self.update(position, Meta::FREE)
    }

    /// The flows of one bucket, with what is known of them.
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
    fn what_an_entry_says_is_read_as_it_was_written() {
        for protocol in [Wire::Tcp, Wire::Sctp, Wire::Udp] {
            for phase in Phase::ALL {
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
    fn flows_are_told_apart_by_all_of_the_key() {
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
    fn the_lowest_rank_gives_way() {
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
