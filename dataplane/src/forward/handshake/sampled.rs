//! Sampled SYNs: a small table of those that wait for what their clients send next.
//!
//! **Weights.** A place is taken for as long as its SYN may be repeated, whatever comes. The few places for a backend and the network of
//! a client, an IPv4 /24 or an IPv6 /48, are one bucket. So a client weighs no more than that, whatever it sends; and where the
//! bucket is shared or full, SYNs are not sampled, which is all that happens.

use crate::base::ids::CounterNo;
use crate::base::touched::touched;
use crate::forward::handshake::windows::REPEAT_UNTIL_MS;

/// Buckets. All places together are 96 KiB.
const BUCKETS: usize = 512;
/// Places of a bucket.
const PLACES: usize = 8;
/// For how long a place is taken: until the SYN would have been repeated, and a bit more.
const HOLD_MS: u64 = REPEAT_UNTIL_MS + 50;
/// The same SYN sooner than this is no repetition, but a copy that the network made.
const COPY_MS: u64 = 200;
/// Cells that tell most flows that wait for nothing from those that do.
const CELL_BITS: u32 = 14;

/// The SYNs that a worker has sampled.
#[derive(Debug)]
pub(super) struct Sampled {
    places: Box<[Place]>,
    /// By cell: how many places wait for a flow of that cell.
    cells: Box<[u8]>,
    /// The bucket that is swept next.
    swept: usize,
}

#[derive(Debug, Clone, Copy)]
struct Place {
    /// The hash of its flow.
    flow: u64,
    /// Until when it is taken.
    until_ms: u64,
    counter: CounterNo,
    cell: u16,
    /// Whether nothing has followed yet.
    waits: bool,
}

/// A flow to a backend, as it is sampled.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sample {
    /// The hash of the flow.
    pub(super) flow: u64,
    /// The hash of its client's network.
    pub(super) network: u64,
    /// The backend's counters.
    pub(super) counter: CounterNo,
    /// The flow's [fingerprint](crate::wire::plain::fingerprint).
    pub(super) fingerprint: u64,
}

/// What has become of a sampled SYN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The client goes on.
    Answered,
    /// The client repeats its SYN.
    Unanswered,
}

impl Sampled {
    /// None yet. All memory is touched here.
    pub(super) fn new() -> Self {
        let free = Place { flow: 0, until_ms: 0, counter: CounterNo::new(0), cell: 0, waits: false };
        Sampled { places: touched(BUCKETS * PLACES, || free), cells: touched(1 << CELL_BITS, || 0), swept: 0 }
    }

    /// Whether a flow with this fingerprint may be waited for.
    #[inline(always)]
    pub(super) fn awaits(&self, fingerprint: u64) -> bool {
        self.cells[cell(fingerprint)] != 0
    }

    /// Takes a SYN. If it is new and is to be sampled, it is waited for what follows, if there is a place.
    pub(super) fn syn(&mut self, sample: Sample, is_sampled: bool, now_ms: u64) -> Option<Outcome> {
        let bucket = bucket(&sample);
        let places = &mut self.places[bucket * PLACES..][..PLACES];
        if let Some(place) = places.iter_mut().find(|place| place.is_of(&sample, now_ms)) {
            let again = place.waits && (place.until_ms - now_ms) + COPY_MS <= HOLD_MS;
            return again.then(|| place.settle(&mut self.cells, Outcome::Unanswered));
        }
        let cell = cell(sample.fingerprint);
        let place = places.iter_mut().find(|place| place.until_ms <= now_ms).filter(|_| is_sampled)?;
        place.forget(&mut self.cells);
        let count = &mut self.cells[cell];
        *count = count.checked_add(1)?;
        let cell = u16::try_from(cell).unwrap_or(0);
        *place = Place { flow: sample.flow, until_ms: now_ms + HOLD_MS, counter: sample.counter, cell, waits: true };
        None
    }

    /// Takes another packet of a flow.
    pub(super) fn packet(&mut self, sample: Sample, now_ms: u64) -> Option<Outcome> {
        let bucket = bucket(&sample);
        let places = &mut self.places[bucket * PLACES..][..PLACES];
        let place = places.iter_mut().find(|place| place.waits && place.is_of(&sample, now_ms))?;
        Some(place.settle(&mut self.cells, Outcome::Answered))
    }

    /// Forgets what has waited too long in one of the buckets, another one each time.
    pub(super) fn sweep(&mut self, now_ms: u64) {
        self.swept = (self.swept + 1) % BUCKETS;
        for place in &mut self.places[self.swept * PLACES..][..PLACES] {
            if place.until_ms <= now_ms {
                place.forget(&mut self.cells);
            }
        }
    }
}

impl Place {
    fn is_of(&self, sample: &Sample, now_ms: u64) -> bool {
        self.flow == sample.flow && self.counter == sample.counter && self.until_ms > now_ms
    }

    /// Waits no more. The place stays taken until its time is over.
    fn settle(&mut self, cells: &mut [u8], outcome: Outcome) -> Outcome {
        self.forget(cells);
        outcome
    }

    fn forget(&mut self, cells: &mut [u8]) {
        if std::mem::take(&mut self.waits) {
            let count = &mut cells[usize::from(self.cell)];
            *count = count.saturating_sub(1);
        }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "a few bits are wanted")]
fn bucket(sample: &Sample) -> usize {
    let mixed = (sample.network ^ sample.counter.index() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> (u64::BITS - BUCKETS.trailing_zeros())) as usize
}

#[inline(always)]
fn cell(fingerprint: u64) -> usize {
    (fingerprint.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (u64::BITS - CELL_BITS)) as usize
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sample(flow: u64, network: u64) -> Sample {
        Sample { flow, network, counter: CounterNo::new(7), fingerprint: flow * 31 }
    }

    #[test]
    fn its_size_is_what_the_documents_say() {
        assert_eq!(size_of::<Place>() * BUCKETS * PLACES, 96 << 10);
        assert_eq!(1usize << CELL_BITS, 16 << 10);
    }

    #[test]
    fn a_syn_is_answered_or_repeated_or_counts_for_nothing() {
        let mut sampled = Sampled::new();
        let (one, other, third) = (sample(1, 1), sample(2, 1), sample(3, 1));
        assert!(
            [one, other]
                .iter()
                .all(|flow| sampled.syn(*flow, true, 1_000).is_none() && sampled.awaits(flow.fingerprint))
        );
        assert_eq!(sampled.packet(third, 1_010), None, "none of those");
        assert_eq!(sampled.syn(other, true, 1_100), None, "a copy");
        assert_eq!(sampled.packet(one, 1_200), Some(Outcome::Answered));
        assert_eq!((sampled.packet(one, 1_201), sampled.syn(one, true, 2_000)), (None, None), "once is enough");
        assert_eq!(sampled.syn(other, true, 2_020), Some(Outcome::Unanswered));
        assert_eq!((sampled.syn(other, true, 2_030), sampled.packet(other, 2_040)), (None, None));
        assert!(!sampled.awaits(one.fingerprint) && !sampled.awaits(other.fingerprint));
        assert_eq!(sampled.syn(third, false, 3_000), None);
        assert_eq!(sampled.syn(third, false, 4_000), None, "it was not sampled");
        assert_eq!(
            (sampled.syn(third, true, 5_000), sampled.syn(third, true, 6_300)),
            (None, None),
            "too late, a new one"
        );
        assert_eq!(sampled.packet(third, 6_310), Some(Outcome::Answered));
    }

    #[test]
    fn a_network_has_a_few_places_at_each_backend() {
        let mut sampled = Sampled::new();
        let mut unanswered = |network: u64, counter: usize, now_ms: u64| {
            let of = |flow| Sample { counter: CounterNo::new(counter), ..sample(flow, network) };
            (0..1_000).for_each(|flow| assert_eq!(sampled.syn(of(flow), true, now_ms), None));
            (0..1_000).filter(|flow| sampled.syn(of(*flow), true, now_ms + 1_000).is_some()).count()
        };
        assert_eq!([unanswered(1, 7, 0), unanswered(1, 8, 0), unanswered(2, 7, 0)], [PLACES; 3]);
        assert_eq!(unanswered(1, 7, HOLD_MS), PLACES);
    }

    #[test]
    fn a_flood_leaves_nothing_behind() {
        let mut sampled = Sampled::new();
        for flow in 0..100_000 {
            sampled.syn(sample(flow, flow), true, flow / 100);
        }
        (0..BUCKETS).for_each(|_| sampled.sweep(1_000_000));
        assert!(sampled.cells.iter().all(|&count| count == 0) && sampled.places.iter().all(|place| !place.waits));
    }

    proptest! {
        /// An outcome needs a SYN of the flow at the right time before it, and the cells are those of the places.
        #[test]
        fn outcomes_have_their_syns(steps in prop::collection::vec((0u64..40, 0u8..3, 0u64..400), 0..400)) {
            let (mut sampled, mut now_ms) = (Sampled::new(), 0);
            let mut syns: std::collections::HashMap<u64, Vec<u64>> = std::collections::HashMap::new();
            for (flow, what, ms) in steps {
                now_ms += ms;
                let of = sample(flow, flow % 4);
                let outcome = match what {
                    0 => sampled.packet(of, now_ms),
                    1 => {
                        sampled.sweep(now_ms);
                        None
                    }
                    _ => sampled.syn(of, true, now_ms),
                };
                let least = if outcome == Some(Outcome::Unanswered) { COPY_MS } else { 0 };
                let began = syns.entry(flow).or_default();
                if outcome.is_some() {
                    prop_assert!(began.iter().any(|began| (least..HOLD_MS).contains(&(now_ms - began))));
                    began.clear();
                }
                if what == 2 {
                    began.push(now_ms);
                }
                let waiting = sampled.places.iter().filter(|place| place.waits);
                let mut cells = vec![0; 1 << CELL_BITS];
                waiting.for_each(|place| cells[usize::from(place.cell)] += 1);
                prop_assert!(cells[..] == sampled.cells[..]);
            }
        }
    }
}
