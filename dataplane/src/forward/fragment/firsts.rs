//! The table of first fragments: what a packet's first fragment says about its flow, for the later ones.
//!
//! A pair of addresses has one bucket, chosen by a keyed hash. In a full bucket, the sender with the most entries loses
//! its oldest. So a flood from a few addresses costs others none of their entries, even those in the same bucket.

use crate::base::touched::touched;
use crate::forward::fragment::key::{Key, Sender};
use crate::wire::flow::{FlowHasher, Transport};

/// The buckets of the table; a power of two.
const BUCKETS: usize = 1_024;
/// The entries of a bucket.
pub(super) const WAYS: usize = 8;
/// The lifetime of an entry: the time for which Linux waits for the rest of a packet.
const LIFETIME_MS: u64 = 30_000;

type Bucket = [Option<Entry>; WAYS];

#[derive(Debug, Clone, Copy)]
struct Entry {
    key: Key,
    transport: Transport,
    sender: Sender,
    /// The time at which the first fragment arrived, in ms.
    since_ms: u64,
}

impl Entry {
    fn is_expired(&self, now_ms: u64) -> bool {
        now_ms.saturating_sub(self.since_ms) > LIFETIME_MS
    }
}

/// The table of first fragments.
pub(super) struct Firsts {
    buckets: Box<[Bucket]>,
}

impl Firsts {
    pub(super) fn new() -> Self {
        Firsts { buckets: touched(BUCKETS, || [None; WAYS]) }
    }

    /// The ports and the protocol of a packet, if its first fragment is known.
    pub(super) fn find(&self, key: &Key, hasher: &FlowHasher, now_ms: u64) -> Option<Transport> {
        let entries = self.buckets[bucket(key, hasher)].iter().flatten();
        let mut known = entries.filter(|entry| entry.key == *key && !entry.is_expired(now_ms));
        known.next().map(|entry| entry.transport)
    }

    /// Remembers the ports and the protocol of a first fragment.
    pub(super) fn remember(
        &mut self,
        key: Key,
        sender: Sender,
        transport: Transport,
        hasher: &FlowHasher,
        now_ms: u64,
    ) {
        let bucket = &mut self.buckets[bucket(&key, hasher)];
        let way = way_for(bucket, &key, now_ms);
        bucket[way] = Some(Entry { key, transport, sender, since_ms: now_ms });
    }
}

/// The place of a new entry: that of the same key, else a free or expired one, else the oldest of the sender that has
/// the most.
fn way_for(bucket: &Bucket, key: &Key, now_ms: u64) -> usize {
    let rank = |entry: &Option<Entry>| match entry {
        Some(known) if known.key == *key => (usize::MAX, 0),
        Some(known) if !known.is_expired(now_ms) => {
            let its = bucket.iter().flatten().filter(|other| other.sender == known.sender).count();
            (its, now_ms - known.since_ms.min(now_ms))
        }
        _ => (usize::MAX - 1, 0),
    };
    (0..WAYS).max_by_key(|&way| rank(&bucket[way])).expect("a bucket has entries")
}

fn bucket(key: &Key, hasher: &FlowHasher) -> usize {
    crate::select::maglev::slot(key.hash_of_pair(hasher), BUCKETS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::flow::Flow;

    const VIP: u32 = 0xc0a8_0065;

    fn hasher() -> FlowHasher {
        FlowHasher::new(&[1; 16])
    }

    fn flow(source: u32, ports: u32) -> Flow {
        Flow::V4 { source, destination: VIP, transport: Transport { ports, protocol: 17 } }
    }

    fn arrives(firsts: &mut Firsts, source: u32, id: u32, now_ms: u64) {
        let (flow, hasher) = (flow(source, source), hasher());
        firsts.remember(Key::new(&flow, id), Sender::new(&flow, &hasher), flow.transport(), &hasher, now_ms);
    }

    fn is_known(firsts: &Firsts, source: u32, id: u32, now_ms: u64) -> bool {
        firsts.find(&Key::new(&flow(source, 0), id), &hasher(), now_ms).is_some_and(|found| found.ports == source)
    }

    /// Sources whose bucket is that of source 1.
    fn neighbors(count: usize) -> Vec<u32> {
        let (hasher, of) = (hasher(), |source| Key::new(&flow(source, 0), 0));
        (2..).filter(|&source| bucket(&of(source), &hasher) == bucket(&of(1), &hasher)).take(count).collect()
    }

    #[test]
    fn a_flood_from_one_sender_costs_nobody_else_an_entry_not_even_in_its_bucket() {
        let mut firsts = Firsts::new();
        let others: Vec<u32> = neighbors(WAYS / 2).into_iter().chain(1_000_000..1_000_200).collect();
        others.iter().for_each(|&source| arrives(&mut firsts, source, 7, 0));
        (0..100_000).for_each(|id| arrives(&mut firsts, 1, id, 1));
        for source in others {
            assert!(is_known(&firsts, source, 7, 2), "{source}");
        }
        assert!(is_known(&firsts, 1, 99_999, 2), "its own newest");
    }

    #[test]
    fn in_a_flood_of_many_senders_the_newest_entries_stay() {
        let mut firsts = Firsts::new();
        let sources = neighbors(3 * WAYS);
        for (number, &source) in (0..).zip(&sources) {
            arrives(&mut firsts, source, 7, number);
        }
        let known: Vec<bool> = sources.iter().map(|&source| is_known(&firsts, source, 7, 100)).collect();
        assert_eq!(known, [vec![false; 2 * WAYS], vec![true; WAYS]].concat());
    }

    #[test]
    fn free_and_expired_entries_are_taken_first_and_the_same_packet_has_one() {
        let mut firsts = Firsts::new();
        let sources = neighbors(WAYS);
        sources.iter().for_each(|&source| arrives(&mut firsts, source, 7, 0));
        arrives(&mut firsts, sources[3], 7, LIFETIME_MS);
        assert!(sources.iter().all(|&source| is_known(&firsts, source, 7, LIFETIME_MS)), "nobody gave way");
        arrives(&mut firsts, 1, 8, LIFETIME_MS + 1);
        assert!(is_known(&firsts, sources[3], 7, LIFETIME_MS + 1), "it is not expired");
        assert!(is_known(&firsts, 1, 8, LIFETIME_MS + 1));
    }
}
