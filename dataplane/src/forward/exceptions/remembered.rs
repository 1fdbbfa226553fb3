//! One worker's remembered flows.

use crate::base::clock::TICK_MS;
use crate::base::ids::{BackendNo, WorkerNo};
use crate::count::counters::WorkerCounters;
use crate::forward::exceptions::books::Books;
use crate::forward::exceptions::rules::{Asked, Case};
use crate::forward::exceptions::sweep::sweep_bucket;
use crate::forward::exceptions::table::{Bucket, Meta, Phase, Position, Table, V4Bucket, V6Bucket, Wire};
use crate::state::snapshot::{ServiceEntry, Snapshot};
use crate::wire::flow::{AnyTuple, Flow, Tuple, TupleV4, TupleV6};
use crate::wire::headers::Segment;

/// The duration of a sweep through the whole table.
pub(super) const SWEEP_MS: u64 = 16_000;

/// The most buckets that are swept in one turn of the worker.
const SWEEP_STEP: u64 = 256;

/// The size of the tables, in flows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// IPv4 flows, 16 bytes each.
    pub v4: usize,
    /// IPv6 flows, 43 bytes each.
    pub v6: usize,
}

/// One worker's remembered flows.
#[derive(Debug)]
pub struct Exceptions {
    pub(super) v4: Table<V4Bucket>,
    pub(super) v6: Table<V6Bucket>,
    pub(super) books: Books,
    /// Buckets swept since the start.
    pub(super) swept: u64,
    pub(super) worker: WorkerNo,
}

impl Exceptions {
    /// The tables of this worker. All memory is allocated and touched here: the worker's own thread calls this when it is
    /// pinned.
    pub fn new(room: Room, worker: WorkerNo) -> Self {
        Exceptions { v4: Table::new(room.v4), v6: Table::new(room.v6), books: Books::new(worker), swept: 0, worker }
    }

    /// The number of flows that can be remembered.
    pub fn room(&self) -> usize {
        self.v4.room() + self.v6.room()
    }

    /// Whether no flow is remembered.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.books.used == 0
    }

    /// Whether the table must be asked about a flow with this hash of its 5-tuple. If not, its backend is the slot's
    /// `now`.
    #[inline]
    pub fn may_concern(&self, service: &ServiceEntry, hash: u64) -> bool {
        service.is_watched() || (self.books.used > 0 && self.books.filter.may_know(hash))
    }

    /// Prefetches the bucket that [`Exceptions::resolve_near`] will read.
    #[inline(always)]
    pub(crate) fn prefetch<T: Kept>(&self, hash: u64) {
        T::table(self).first(hash).prefetch();
    }

    /// The backend of the service that gets the packet, if the prefetched bucket decides it. If not, prefetches the
    /// second bucket and returns `None`. Then [`Exceptions::resolve_far`] must be asked, after all other packets of the
    /// burst. No entry is added here. So once a packet of a flow has to wait, all later ones of the burst wait too, and
    /// are answered in their order.
    #[inline(always)]
    pub(crate) fn resolve_near<T: Kept>(
        &mut self,
        flow: T,
        asked: &Asked<'_>,
        around: Around<'_>,
    ) -> Option<BackendNo> {
        let &Asked { service, slot, hash, .. } = asked;
        // In a service with a hand-over, too, most slots have none.
        if !service.tracks && !service.has_owner(slot) && !self.books.filter.may_know(hash) {
            return Some(service.now(slot));
        }
        let table = T::table(self);
        let (bucket, key) = (table.first(hash), T::Bucket::key(flow));
        let same = bucket.with_key(&key);
        if same == 0 {
            table.second(hash).prefetch();
            return None;
        }
        self.at_once(flow, bucket.first_of(same), asked, around).or_else(|| self.decide_near(flow, asked, around))
    }

    /// The backend of the service that gets the packet, by both buckets.
    #[inline(always)]
    pub(crate) fn resolve_far<T: Kept>(&mut self, flow: T, asked: &Asked<'_>, around: Around<'_>) -> BackendNo {
        let (bucket, key) = (T::table(self).second(asked.hash), T::Bucket::key(flow));
        let same = bucket.with_key(&key);
        let backend = if same == 0 { None } else { self.at_once(flow, bucket.first_of(same), asked, around) };
        backend.unwrap_or_else(|| self.decide(flow, asked, around))
    }

    /// Both steps in one, for a packet that comes alone.
    pub fn resolve(
        &mut self,
        flow: Flow,
        asked: &Asked<'_>,
        snapshot: &Snapshot,
        counters: &WorkerCounters,
    ) -> BackendNo {
        let around = Around { snapshot, counters };
        match flow.into() {
            AnyTuple::V4(flow) => self.resolve_tuple(flow, asked, around),
            AnyTuple::V6(flow) => self.resolve_tuple(flow, asked, around),
        }
    }

    fn resolve_tuple<T: Kept>(&mut self, flow: T, asked: &Asked<'_>, around: Around<'_>) -> BackendNo {
        self.resolve_near(flow, asked, around).unwrap_or_else(|| self.resolve_far(flow, asked, around))
    }

    /// Most packets change nothing: the flow is known, had a packet in this tick, and goes on. If it need not be
    /// remembered any more, the next tick notices that.
    #[inline(always)]
    fn at_once<T: Kept>(&self, flow: T, meta: Meta, asked: &Asked<'_>, around: Around<'_>) -> Option<BackendNo> {
        let goes_on = asked.segment == Segment::Data
            && meta.is(Wire::of(flow.transport().protocol), Phase::Open, self.books.tick);
        if goes_on { around.snapshot.serving(meta.counter(), asked.service) } else { None }
    }

    /// The same for other packets. Out of line, so that the common path spills no registers for them.
    #[inline(never)]
    fn decide_near<T: Kept>(&mut self, flow: T, asked: &Asked<'_>, around: Around<'_>) -> Option<BackendNo> {
        let (table, key) = (T::table(self), T::Bucket::key(flow));
        let known = table.find_first(&key, Wire::of(flow.transport().protocol), asked.hash);
        if known.is_none() {
            table.second(asked.hash).prefetch();
            return None;
        }
        Some(self.decide_known(flow, known, asked, around))
    }

    #[inline(never)]
    fn decide<T: Kept>(&mut self, flow: T, asked: &Asked<'_>, around: Around<'_>) -> BackendNo {
        // An earlier packet of the burst may have added an entry to the first bucket meanwhile.
        let known = T::table(self).find(&T::Bucket::key(flow), Wire::of(flow.transport().protocol), asked.hash);
        self.decide_known(flow, known, asked, around)
    }

    fn decide_known<T: Kept>(
        &mut self,
        flow: T,
        known: Option<(Position, Meta)>,
        asked: &Asked<'_>,
        Around { snapshot, counters }: Around<'_>,
    ) -> BackendNo {
        let case = Case { asked: *asked, snapshot, counters, worker: self.worker };
        let (table, books) = T::table_mut(self);
        case.resolve(flow, table, known, books)
    }

    /// Notes the time, and sweeps a part of the table. Call it in each turn.
    #[inline]
    pub fn advance(&mut self, now_ms: u64, snapshot: &Snapshot, counters: &WorkerCounters) {
        #[expect(clippy::cast_possible_truncation, reason = "ticks are counted modulo a power of two")]
        let tick = (now_ms / TICK_MS) as u32;
        self.books.tick = tick;
        counters.exceptions.set(self.books.used as u64);
        let buckets = (self.v4.buckets() + self.v6.buckets()) as u64;
        let due = now_ms * buckets / SWEEP_MS;
        if self.books.used == 0 {
            self.swept = due;
        } else if due > self.swept {
            // After a pause, a sweep that is far behind skips whole rounds. It must not skip a bucket in a round, or
            // the filter would forget the flows of that bucket.
            self.swept += (due - self.swept) / buckets * buckets;
            self.sweep((due - self.swept).min(SWEEP_STEP), snapshot, counters);
        }
    }

    #[cold]
    fn sweep(&mut self, step: u64, snapshot: &Snapshot, counters: &WorkerCounters) {
        let (v4, v6) = (self.v4.buckets() as u64, self.v6.buckets() as u64);
        for number in self.swept..self.swept + step {
            let bucket = number % (v4 + v6);
            #[expect(clippy::cast_possible_truncation, reason = "a bucket's number is an index")]
            if bucket < v4 {
                sweep_bucket(&mut self.v4, bucket as usize, &mut self.books, snapshot, counters);
            } else {
                sweep_bucket(&mut self.v6, (bucket - v4) as usize, &mut self.books, snapshot, counters);
            }
            if bucket + 1 == v4 + v6 {
                self.books.filter.turn_over();
            }
        }
        self.swept += step;
    }
}

/// The state that does not change during a burst.
#[derive(Clone, Copy)]
pub(crate) struct Around<'a> {
    pub(crate) snapshot: &'a Snapshot,
    pub(crate) counters: &'a WorkerCounters,
}

/// A flow of one IP version, with the table that keeps it.
pub(crate) trait Kept: Tuple {
    type Bucket: Bucket<Tuple = Self>;

    fn table(exceptions: &Exceptions) -> &Table<Self::Bucket>;
    fn table_mut(exceptions: &mut Exceptions) -> (&mut Table<Self::Bucket>, &mut Books);
}

impl Kept for TupleV4 {
    type Bucket = V4Bucket;

    #[inline(always)]
    fn table(exceptions: &Exceptions) -> &Table<V4Bucket> {
        &exceptions.v4
    }

    fn table_mut(exceptions: &mut Exceptions) -> (&mut Table<V4Bucket>, &mut Books) {
        (&mut exceptions.v4, &mut exceptions.books)
    }
}

impl Kept for TupleV6 {
    type Bucket = V6Bucket;

    #[inline(always)]
    fn table(exceptions: &Exceptions) -> &Table<V6Bucket> {
        &exceptions.v6
    }

    fn table_mut(exceptions: &mut Exceptions) -> (&mut Table<V6Bucket>, &mut Books) {
        (&mut exceptions.v6, &mut exceptions.books)
    }
}
