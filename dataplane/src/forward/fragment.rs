//! Fragments: a packet's later fragments follow its first.
//!
//! Only the first fragment has the ports. They are kept in a small table under (source, destination, protocol,
//! identification), and later fragments are forwarded as if they had these ports: by the same code, through the same
//! service and slot to the same backend. A later fragment that arrives before its first is held for a moment.
//!
//! Everything is bounded, and a flood from one sender does not cost others their entries. A pair of addresses has one
//! bucket of the table, chosen by a keyed hash, and a limited number of the held frames. In a full bucket, the oldest
//! entry is replaced.
//!
//! RSS sees no ports in fragments, and NICs differ in how they distribute them. So all fragments of a packet have one
//! worker, their *owner*, chosen by a hash of the fields that they share. A worker that receives a fragment of another
//! owner passes it on.

use arrayvec::ArrayVec;
use rtrb::{Consumer, Producer};

use crate::base::exit::DropReason;
use crate::base::ids::{PortNo, WorkerNo};
use crate::base::packet::{BURST, Burst};
use crate::base::touched::touched;
use crate::wire::flow::{Flow, FlowHasher};
use crate::wire::headers::{Fragment, Headers, Payload};

/// The buckets of the table; a power of two.
const BUCKETS: usize = 1_024;
/// The entries of a bucket.
const WAYS: usize = 4;
/// The lifetime of an entry: the time for which Linux waits for the rest of a packet.
const LIFETIME_MS: u64 = 30_000;
/// The most frames that are held at a time.
const MAX_HELD: usize = 128;
/// The most held frames from one source to one destination.
const MAX_HELD_BY_PAIR: usize = 16;
/// The time for which a frame is held. It is short, because the fragments of a packet leave their sender back to back.
const HOLD_MS: u64 = 100;

/// The fields that all fragments of a packet share: the flow's addresses and protocol, and the identification in place
/// of ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Key(Flow);

impl Key {
    fn new(flow: &Flow, identification: u32) -> Self {
        Key(flow.with_ports(identification))
    }

    fn same_pair(&self, other: &Key) -> bool {
        self.0.with_ports(0) == other.0.with_ports(0)
    }
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    key: Key,
    /// Both ports, as in [`Transport`].
    ports: u32,
    /// The time at which the first fragment arrived, in ms.
    since_ms: u64,
}

/// What to do with a fragment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It belongs to a flow with these ports.
    Ports(u32),
    /// Its first fragment is not known yet: hold it.
    Hold,
    /// It belongs to this other worker.
    Worker(WorkerNo),
}

struct Held<P> {
    key: Key,
    port: PortNo,
    packet: P,
    until_ms: u64,
}

/// A frame on its way to the worker that owns its packet.
#[derive(Debug)]
pub struct Passed<P> {
    /// The port that it arrived on.
    pub port: PortNo,
    /// The frame.
    pub packet: P,
}

/// A worker's ends of the rings to and from the other workers.
pub struct FragmentRings<P> {
    /// By worker; `None` for itself.
    to: Vec<Option<Producer<Passed<P>>>>,
    from: Vec<Consumer<Passed<P>>>,
}

/// One worker's fragments, and its rings to and from the other workers.
pub struct Fragments<P> {
    worker: WorkerNo,
    buckets: Box<[[Option<Entry>; WAYS]]>,
    held: ArrayVec<Held<P>, MAX_HELD>,
    rings: FragmentRings<P>,
    /// Whether a first fragment has arrived since the held frames were last checked.
    news: bool,
    /// The ring that is emptied first, the next time.
    first_ring: usize,
}

impl<P> Fragments<P> {
    /// For this worker. All memory is allocated and touched here: the worker's own thread calls this when it is pinned.
    pub fn new(worker: WorkerNo, rings: FragmentRings<P>) -> Self {
        let buckets = touched(BUCKETS, || [None; WAYS]);
        Fragments { worker, buckets, held: ArrayVec::new(), rings, news: false, first_ring: 0 }
    }

    /// For the only worker.
    pub fn alone() -> Self {
        Self::new(WorkerNo::new(0), FragmentRings { to: vec![None], from: vec![] })
    }

    /// Decides what to do with a fragment of a flow. The ports of a first fragment are remembered.
    pub fn verdict(&mut self, flow: &Flow, fragment: Fragment, hasher: &FlowHasher, now_ms: u64) -> Verdict {
        let key = Key::new(flow, fragment.identification);
        let owner = owner(hasher.hash(&key.0), self.rings.to.len());
        if owner != self.worker {
            return Verdict::Worker(owner);
        }
        let bucket = &mut self.buckets[bucket(hasher.hash(&key.0.with_ports(0)))];
        if fragment.first {
            let ports = flow.transport().ports;
            remember(bucket, Entry { key, ports, since_ms: now_ms }, now_ms);
            self.news = true;
            return Verdict::Ports(ports);
        }
        let known = bucket.iter().flatten().find(|entry| entry.key == key && !expired(entry, now_ms));
        known.map_or(Verdict::Hold, |entry| Verdict::Ports(entry.ports))
    }

    /// Holds a frame until its first fragment arrives.
    pub fn hold(&mut self, headers: &Headers, port: PortNo, packet: P, now_ms: u64) -> Result<(), DropReason> {
        let Payload::Fragment(fragment) = headers.payload else { return Err(DropReason::FragmentHoldFull) };
        let key = Key::new(&headers.flow, fragment.identification);
        let by_pair = self.held.iter().filter(|held| held.key.same_pair(&key)).count();
        if by_pair >= MAX_HELD_BY_PAIR || self.held.is_full() {
            return Err(DropReason::FragmentHoldFull);
        }
        self.held.push(Held { key, port, packet, until_ms: now_ms + HOLD_MS });
        // Its first fragment may have been behind it in the same burst.
        self.news = true;
        Ok(())
    }

    /// Passes a frame on to the worker that owns its packet.
    pub fn pass(&mut self, worker: WorkerNo, port: PortNo, packet: P) -> Result<(), DropReason> {
        let ring =
            self.rings.to.get_mut(worker.index()).and_then(Option::as_mut).ok_or(DropReason::FragmentPassFull)?;
        ring.push(Passed { port, packet }).map_err(|_| DropReason::FragmentPassFull)
    }

    /// The number of held frames.
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// Whether [`Fragments::ready`] and [`Fragments::overdue`] have nothing to return.
    #[inline]
    pub fn is_idle(&self) -> bool {
        self.held.is_empty() && self.rings.from.iter().all(Consumer::is_empty)
    }

    /// Adds frames of one port to `burst`: held frames whose first fragment has arrived, and frames from other workers.
    /// Returns the port.
    pub fn ready(&mut self, hasher: &FlowHasher, now_ms: u64, burst: &mut Burst<P>) -> Option<PortNo> {
        let mut port = None;
        if self.news {
            let mut index = 0;
            // Bound: each round looks at one more held frame, or takes one out; there are at most MAX_HELD.
            while index < self.held.len() && !burst.is_full() {
                let held = &self.held[index];
                if port.is_none_or(|port| port == held.port) && self.is_known(&held.key, hasher, now_ms) {
                    let held = self.held.remove(index);
                    port = Some(held.port);
                    burst.push(held.packet);
                } else {
                    index += 1;
                }
            }
            self.news = !burst.is_empty();
        }
        // A worker that refills its ring at once must not keep the others' fragments waiting.
        let (others, rings) = self.rings.from.split_at_mut(self.first_ring);
        let first_ring = (self.first_ring + 1) % (rings.len() + others.len()).max(1);
        self.first_ring = first_ring;
        for ring in rings.iter_mut().chain(others) {
            // Bound: each round adds a frame to the burst, which holds BURST.
            while !burst.is_full() && ring.peek().is_ok_and(|passed| port.is_none_or(|port| port == passed.port)) {
                let Ok(passed) = ring.pop() else { break };
                port = Some(passed.port);
                burst.push(passed.packet);
            }
        }
        port
    }

    /// A frame that has been held for too long, and its port.
    pub fn overdue(&mut self, now_ms: u64) -> Option<(PortNo, P)> {
        // The first frame has been held longest.
        if self.held.first()?.until_ms > now_ms {
            return None;
        }
        let held = self.held.remove(0);
        Some((held.port, held.packet))
    }

    fn is_known(&self, key: &Key, hasher: &FlowHasher, now_ms: u64) -> bool {
        let bucket = &self.buckets[bucket(hasher.hash(&key.0.with_ports(0)))];
        bucket.iter().flatten().any(|entry| entry.key == *key && !expired(entry, now_ms))
    }
}

/// Writes the entry that has the same key, else a free or expired one, else the oldest.
fn remember(bucket: &mut [Option<Entry>; WAYS], new: Entry, now_ms: u64) {
    let rank = |entry: &Option<Entry>| match entry {
        Some(known) if known.key == new.key => 0,
        Some(known) if !expired(known, now_ms) => 2 + known.since_ms,
        _ => 1,
    };
    if let Some(entry) = bucket.iter_mut().min_by_key(|entry| rank(entry)) {
        *entry = Some(new);
    }
}

fn expired(entry: &Entry, now_ms: u64) -> bool {
    now_ms.saturating_sub(entry.since_ms) > LIFETIME_MS
}

fn owner(hash: u64, workers: usize) -> WorkerNo {
    WorkerNo::new(crate::select::maglev::slot(hash, workers))
}

fn bucket(hash: u64) -> usize {
    crate::select::maglev::slot(hash, BUCKETS)
}

/// Makes rings from each of `workers` workers to each other. Returns each worker's ends.
pub fn mesh<P>(workers: usize) -> Vec<FragmentRings<P>> {
    let mut to: Vec<Vec<Option<Producer<Passed<P>>>>> = (0..workers).map(|_| Vec::new()).collect();
    let mut from: Vec<Vec<Consumer<Passed<P>>>> = (0..workers).map(|_| Vec::new()).collect();
    for (source, producers) in to.iter_mut().enumerate() {
        for (target, consumers) in from.iter_mut().enumerate() {
            if source == target {
                producers.push(None);
                continue;
            }
            let (producer, consumer) = rtrb::RingBuffer::new(4 * BURST);
            producers.push(Some(producer));
            consumers.push(consumer);
        }
    }
    to.into_iter().zip(from).map(|(to, from)| FragmentRings { to, from }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::flow::Transport;
    use crate::wire::headers::Segment;

    const PORT: PortNo = PortNo::new(0);

    fn flow(source: u32, ports: u32) -> Flow {
        Flow::V4 { source, destination: 0xc0a8_0065, transport: Transport { ports, protocol: 17 } }
    }

    fn fragment(identification: u32, first: bool) -> Fragment {
        Fragment { identification, first, segment: Segment::Data }
    }

    fn connected(workers: usize) -> Vec<Fragments<u32>> {
        mesh(workers)
            .into_iter()
            .enumerate()
            .map(|(worker, rings)| Fragments::new(WorkerNo::new(worker), rings))
            .collect()
    }

    fn hasher() -> FlowHasher {
        FlowHasher::new(&[1; 16])
    }

    #[test]
    fn later_fragments_get_the_ports_of_their_first() {
        let mut fragments = Fragments::<u32>::alone();
        let mut verdict = |source, ports, id, first, now| {
            fragments.verdict(&flow(source, ports), fragment(id, first), &hasher(), now)
        };
        assert_eq!(verdict(1, 0, 7, false, 0), Verdict::Hold);
        assert_eq!(verdict(1, 99, 7, true, 0), Verdict::Ports(99));
        assert_eq!(verdict(1, 0, 7, false, 1), Verdict::Ports(99));
        assert_eq!(verdict(1, 0, 8, false, 1), Verdict::Hold, "another packet");
        assert_eq!(verdict(2, 0, 7, false, 1), Verdict::Hold, "another source");
        assert_eq!(verdict(1, 55, 7, true, 2), Verdict::Ports(55), "the identification is used again");
        assert_eq!(verdict(1, 0, 7, false, 3), Verdict::Ports(55));
        assert_eq!(verdict(1, 0, 7, false, 40_000), Verdict::Hold, "long ago");
    }

    #[test]
    fn a_flood_from_one_source_leaves_others_their_entries() {
        let mut fragments = Fragments::<u32>::alone();
        let hasher = hasher();
        let others: Vec<u32> = (2..200).collect();
        for &source in &others {
            fragments.verdict(&flow(source, source), fragment(1, true), &hasher, 0);
        }
        for id in 0..100_000 {
            fragments.verdict(&flow(1, 1), fragment(id, true), &hasher, 1);
        }
        let same_bucket = |source: u32| bucket(hasher.hash(&flow(source, 0))) == bucket(hasher.hash(&flow(1, 0)));
        for source in others.into_iter().filter(|&source| !same_bucket(source)) {
            let verdict = fragments.verdict(&flow(source, 0), fragment(1, false), &hasher, 2);
            assert_eq!(verdict, Verdict::Ports(source));
        }
    }

    #[test]
    fn held_frames_are_released_bounded_and_given_up() {
        let mut fragments = Fragments::<u32>::alone();
        let hasher = hasher();
        let headers = |source, id| Headers { flow: flow(source, 0), payload: Payload::Fragment(fragment(id, false)) };
        for packet in 0..16 {
            assert_eq!(fragments.hold(&headers(1, packet % 2), PORT, packet, 0), Ok(()));
        }
        assert_eq!(
            fragments.hold(&headers(1, 0), PORT, 99, 0),
            Err(DropReason::FragmentHoldFull),
            "this pair of addresses has its share"
        );
        assert_eq!(fragments.hold(&headers(2, 0), PORT, 100, 0), Ok(()));
        fragments.verdict(&flow(1, 5), fragment(1, true), &hasher, 10);
        let mut burst = Burst::new();
        assert_eq!(fragments.ready(&hasher, 10, &mut burst), Some(PORT));
        assert_eq!(burst.as_slice(), [1, 3, 5, 7, 9, 11, 13, 15], "in the order in which they came");
        assert_eq!(fragments.overdue(99), None);
        let overdue: Vec<u32> = std::iter::from_fn(|| fragments.overdue(100)).map(|(_, packet)| packet).collect();
        assert_eq!(overdue, [0, 2, 4, 6, 8, 10, 12, 14, 100]);
        assert!(fragments.is_idle());
    }

    #[test]
    fn all_fragments_of_a_packet_have_one_owner_and_reach_it() {
        let mut workers = connected(4);
        let hasher = hasher();
        let mut owners = [0; 4];
        for id in 0..400 {
            let verdicts: Vec<Verdict> =
                workers.iter_mut().map(|w| w.verdict(&flow(1, 0), fragment(id, false), &hasher, 0)).collect();
            let owner = verdicts.iter().position(|verdict| *verdict == Verdict::Hold).unwrap();
            owners[owner] += 1;
            for (worker, verdict) in verdicts.into_iter().enumerate().filter(|(worker, _)| *worker != owner) {
                assert_eq!(verdict, Verdict::Worker(WorkerNo::new(owner)));
                workers[worker].pass(WorkerNo::new(owner), PORT, id).unwrap();
            }
            let mut burst = Burst::new();
            assert!(!workers[owner].is_idle());
            assert_eq!(workers[owner].ready(&hasher, 0, &mut burst), Some(PORT));
            assert_eq!(burst.as_slice(), [id; 3]);
        }
        assert!(owners.iter().all(|&count| count > 50), "{owners:?}");
    }

    #[test]
    fn a_ring_that_is_always_full_does_not_keep_the_others_waiting() {
        let mut workers = connected(4);
        let to_first = |worker: &mut Fragments<u32>, packet| worker.pass(WorkerNo::new(0), PORT, packet).is_ok();
        to_first(&mut workers[2], 2);
        to_first(&mut workers[3], 3);
        let mut taken = Vec::new();
        for _ in 0..8 {
            // Bound: the ring's room.
            while to_first(&mut workers[1], 1) {}
            let mut burst = Burst::new();
            workers[0].ready(&hasher(), 0, &mut burst);
            assert_eq!(burst.len(), BURST);
            taken.extend(burst);
        }
        assert!(taken.contains(&2) && taken.contains(&3));
    }

    #[test]
    fn a_worker_that_does_not_keep_up_gets_no_more_frames() {
        let mut workers = connected(2);
        let passed = (0..1_000)
            .map(|packet| workers[0].pass(WorkerNo::new(1), PORT, packet))
            .filter(|passed| passed.is_ok())
            .count();
        assert!((32..1_000).contains(&passed), "{passed}");
        assert_eq!(workers[0].pass(WorkerNo::new(1), PORT, 7), Err(DropReason::FragmentPassFull));
        let mut burst = Burst::new();
        workers[1].ready(&hasher(), 0, &mut burst);
        assert_eq!(workers[0].pass(WorkerNo::new(1), PORT, 7), Ok(()), "there is room again");
    }
}
