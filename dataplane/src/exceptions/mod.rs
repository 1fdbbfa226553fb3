//! Remembered flows: those whose backend is, or may be, another than their slot says.
//!
//! Maglev's table tells the backend of nearly all flows, and nothing is remembered of them. Two things it cannot know:
//! which flows were there before their slot moved to another backend (a *hand-over*: the slot has a `before`), and
//! what a scheduler decided that decides flow by flow. Each worker has a table for these; who owns the slot, what
//! kind of packet it is, and what the table knows decide where it goes:
//!
//! | packet | in the table | not in the table |
//! |---|---|---|
//! | a SYN | a repetition: as remembered; else as new | a new flow: `now`, remembered |
//! | another | as remembered | an old flow: `before`, remembered; without a `before`, `now` |
//! | an ICMP error, a later fragment | as remembered | `before`, else `now`; it proves nothing, and is not remembered |
//!
//! UDP has no SYN: every packet is "another", unless the scheduler decides flow by flow; then an unknown one is new.
//! When the hand-over is over, the flows of the slot that lived are all here, and those are kept that `now` is wrong for.
//!
//! **Floods.** The table has a fixed size. An entry is on probation until a second packet of its flow comes. Nothing
//! pushes out a confirmed entry before it idles out. A SYN takes a free or expired place only (probation expires after
//! seconds); where there is none, it goes to `before`, because its next packet, unknown too, will go there. A packet of an
//! old flow may also take the place of the oldest on probation. What finds no room is counted.

mod filter;
mod table;

use crate::counters::{Counter, TargetCounters, WorkerCounters};
use crate::flow::{AnyTuple, Flow, Tuple, TupleV4, TupleV6};
use crate::parse::Segment;
use crate::schedule::NOBODY;
use crate::snapshot::{ServiceEntry, Snapshot};
use crate::vips::LastService;
use filter::Filter;
pub use table::TICK_MS;
use table::{Bucket, Meta, Phase, Position, Table, V4Bucket, V6Bucket, Wire};

/// After so many ticks without a second packet, an entry on probation gives way to anybody.
const PROBATION: u32 = 2;
/// Ticks for which a connection is remembered of which there was nothing but a SYN (60 s, as LVS's SYN_RECV).
const OPENING: u32 = 15;
/// Ticks for which a connection is remembered after the client's FIN (120 s, as LVS's FIN_WAIT).
const CLOSING: u32 = 30;
/// Ticks for which a connection is remembered after the client's RST (at least 10 s, as LVS's CLOSE).
const CLOSED: u32 = 4;
/// A connection that was heard of so few ticks ago is alive, and a SYN for it a late repetition or a forgery.
const LIVELY: u32 = 1;

/// How long a sweep through the whole table takes.
const SWEEP_MS: u64 = 16_000;
/// Buckets swept in one turn of the worker, at most.
const SWEEP_STEP: u64 = 256;
/// So often, a schedule is asked for another backend in place of one that has failed.
const MORE_PICKS: usize = 16;

/// The longest idle timeout: ages are counted modulo 2,048 ticks, and a sweep must come by in time.
pub const MAX_IDLE_MS: u64 = 2 * 60 * 60 * 1_000;

/// An idle timeout in ticks, at least the time asked for.
pub fn idle_ticks(idle_ms: u64) -> u16 {
    let ticks = idle_ms.min(MAX_IDLE_MS).div_ceil(TICK_MS) + 1;
    u16::try_from(ticks).expect("MAX_IDLE_MS is a few thousand ticks")
}

/// How many flows the tables have room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// IPv4 flows, 16 bytes each.
    pub v4: usize,
    /// IPv6 flows, 43 bytes each.
    pub v6: usize,
}

/// What is asked about a packet, besides its flow.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// The hash of its 5-tuple, whatever the service hashes by.
    pub hash: u64,
    /// What it tells of its flow.
    pub segment: Segment,
    /// The service it is for.
    pub service: &'a ServiceEntry,
    /// Its slot of the service's table.
    pub slot: usize,
}

/// One worker's remembered flows.
#[derive(Debug)]
pub struct Exceptions {
    v4: Table<V4Bucket>,
    v6: Table<V6Bucket>,
    books: Books,
    /// Buckets swept since the start.
    swept: u64,
    worker: usize,
}

/// What is kept along with the tables.
#[derive(Debug, Default)]
pub(crate) struct Books {
    /// Tells whether a flow of a service may be remembered whose flows are not all remembered.
    filter: Filter,
    used: usize,
    tick: u32,
}

impl Exceptions {
    /// For the worker of this number. All memory is taken, and touched, here.
    pub fn new(room: Room, worker: usize) -> Self {
        Exceptions { v4: Table::new(room.v4), v6: Table::new(room.v6), books: Books::default(), swept: 0, worker }
    }

    /// Flows that there is room for.
    pub fn room(&self) -> usize {
        self.v4.room() + self.v6.room()
    }

    /// Whether no flow is remembered.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.books.used == 0
    }

    /// Whether a packet of a flow with this hash of its 5-tuple is to be asked about; if not, its slot's `now` has it.
    #[inline]
    pub fn may_concern(&self, service: &ServiceEntry, hash: u64) -> bool {
        service.is_watched() || (self.books.used > 0 && self.books.filter.may_know(hash))
    }

    /// Has what [`Exceptions::resolve_near`] will look at fetched.
    #[inline(always)]
    pub(crate) fn prefetch<T: Kept>(&self, hash: u64) {
        T::table(self).first(hash).prefetch();
    }

    /// Which of the service's backends gets the packet, if that can be told by what has been fetched. If not, has the rest fetched:
    /// then [`Exceptions::resolve_far`] is to be asked, after all other packets of the burst. No entry comes into the table here, so
    /// once one packet of a flow has to wait, all later ones of the burst do: they are answered in their order.
    #[inline(always)]
    pub(crate) fn resolve_near<T: Kept>(&mut self, flow: T, asked: &Asked<'_>, around: Around<'_>) -> Option<u16> {
        let &Asked { service, slot, hash, .. } = asked;
        // In a service with a hand-over, too, most slots have none.
        if !service.tracks && service.before(slot) == NOBODY && !self.books.filter.may_know(hash) {
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

    /// Which of the service's backends gets the packet.
    #[inline(always)]
    pub(crate) fn resolve_far<T: Kept>(&mut self, flow: T, asked: &Asked<'_>, around: Around<'_>) -> u16 {
        let (bucket, key) = (T::table(self).second(asked.hash), T::Bucket::key(flow));
        let same = bucket.with_key(&key);
        let backend = if same == 0 { None } else { self.at_once(flow, bucket.first_of(same), asked, around) };
        backend.unwrap_or_else(|| self.decide(flow, asked, around))
    }

    /// Both in one, for a packet that comes alone.
    pub fn resolve(&mut self, flow: Flow, asked: &Asked<'_>, snapshot: &Snapshot, counters: &WorkerCounters) -> u16 {
        let around = Around { snapshot, counters };
        match flow.into() {
            AnyTuple::V4(flow) => self.resolve_tuple(flow, asked, around),
            AnyTuple::V6(flow) => self.resolve_tuple(flow, asked, around),
        }
    }

    fn resolve_tuple<T: Kept>(&mut self, flow: T, asked: &Asked<'_>, around: Around<'_>) -> u16 {
        self.resolve_near(flow, asked, around).unwrap_or_else(|| self.resolve_far(flow, asked, around))
    }

    /// Most packets change nothing: the flow is known, was heard of in this tick, and goes on. That it need not be remembered any
    /// more is noticed in the next tick.
    #[inline(always)]
    fn at_once<T: Kept>(&self, flow: T, meta: Meta, asked: &Asked<'_>, around: Around<'_>) -> Option<u16> {
        let goes_on = asked.segment == Segment::Data
            && meta.is(Wire::of(flow.transport().protocol), Phase::Open, self.books.tick);
        if goes_on { around.snapshot.serving(meta.place(), asked.service) } else { None }
    }

    /// The same for other packets. Out of line, so that nothing that is for them need lie in memory where most packets go.
    #[inline(never)]
    fn decide_near<T: Kept>(&mut self, flow: T, asked: &Asked<'_>, around: Around<'_>) -> Option<u16> {
        let (table, key) = (T::table(self), T::Bucket::key(flow));
        let known = table.find_first(&key, Wire::of(flow.transport().protocol), asked.hash);
        if known.is_none() {
            table.second(asked.hash).prefetch();
            return None;
        }
        Some(self.decide_known(flow, known, asked, around))
    }

    #[inline(never)]
    fn decide<T: Kept>(&mut self, flow: T, asked: &Asked<'_>, around: Around<'_>) -> u16 {
        // An earlier packet of the burst may have come into the first bucket meanwhile.
        let known = T::table(self).find(&T::Bucket::key(flow), Wire::of(flow.transport().protocol), asked.hash);
        self.decide_known(flow, known, asked, around)
    }

    fn decide_known<T: Kept>(
        &mut self,
        flow: T,
        known: Option<(Position, Meta)>,
        asked: &Asked<'_>,
        Around { snapshot, counters }: Around<'_>,
    ) -> u16 {
        let context = Context { asked: *asked, snapshot, counters, worker: self.worker };
        let (table, books) = T::table_mut(self);
        context.resolve(flow, table, known, books)
    }

    /// Takes note of the time, and forgets some of what need not be remembered any more. To be called each turn.
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
            // One that is far behind, after a pause, leaves out whole rounds: no bucket may be left out of a round, or the filter
            // would forget what is in it.
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

/// What does not change in a burst.
#[derive(Clone, Copy)]
pub(crate) struct Around<'a> {
    pub(crate) snapshot: &'a Snapshot,
    pub(crate) counters: &'a WorkerCounters,
}

/// A flow of an IP version, for which there is a table.
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

/// One packet and all that its fate depends on, except the table.
#[derive(Clone, Copy)]
struct Context<'a> {
    asked: Asked<'a>,
    snapshot: &'a Snapshot,
    counters: &'a WorkerCounters,
    worker: usize,
}

/// An entry whose backend still serves.
#[derive(Clone, Copy)]
struct Remembered {
    position: Position,
    meta: Meta,
    backend: u16,
}

impl Context<'_> {
    fn resolve<B: Bucket>(
        self,
        flow: B::Tuple,
        table: &mut Table<B>,
        known: Option<(Position, Meta)>,
        books: &mut Books,
    ) -> u16 {
        let (key, protocol) = (B::key(flow), Wire::of(flow.transport().protocol));
        let remembered = known.and_then(|(position, meta)| {
            let backend = self.snapshot.serving(meta.place(), self.asked.service)?;
            Some(Remembered { position, meta, backend })
        });
        let mut ledger =
            Ledger { table, books, key, protocol, position: known.map(|(position, _)| position), context: &self };
        match (self.asked.segment, remembered) {
            (Segment::Related, Some(remembered)) => remembered.backend,
            (Segment::Related, None) => self.unless_told(),
            (Segment::Open, Some(remembered)) if ledger.is_repetition(remembered.meta) => {
                if remembered.meta.phase() == Phase::Opening {
                    ledger.hear(remembered, Phase::Opening);
                }
                remembered.backend
            }
            (Segment::Open, _) => self.new_flow(&mut ledger, Phase::Opening),
            (segment, Some(remembered)) => {
                ledger.hear(remembered, next(remembered.meta.phase(), segment));
                remembered.backend
            }
            (_, None) if protocol == Wire::Udp && self.asked.service.decides_by_flow() => {
                self.new_flow(&mut ledger, Phase::Heard)
            }
            (segment, None) => self.old_flow(&mut ledger, segment),
        }
    }

    fn now(&self) -> u16 {
        self.asked.service.now(self.asked.slot)
    }

    fn before(&self) -> u16 {
        self.asked.service.before(self.asked.slot)
    }

    /// Whether a flow that goes to this backend must be remembered.
    fn must_remember(&self, backend: u16) -> bool {
        self.asked.service.tracks || self.before() != NOBODY || backend != self.now()
    }

    /// Where a packet goes that nothing is known about.
    fn unless_told(&self) -> u16 {
        if self.before() != NOBODY { self.before() } else { self.now() }
    }

    fn new_flow<B: Bucket>(&self, ledger: &mut Ledger<'_, B>, phase: Phase) -> u16 {
        let service = self.asked.service;
        let of = |backend: usize| self.target_counters(backend);
        let pick = || service.schedule.new_flow(self.now(), service.cursors.get(self.worker), of);
        let mut backend = pick();
        // In an outage, some of the turns are of backends that have failed.
        if backend == NOBODY {
            backend = self.now();
        } else if !service.takes(backend) {
            backend = (0..MORE_PICKS).map(|_| pick()).find(|&next| service.takes(next)).unwrap_or_else(|| self.now());
        }
        if backend == NOBODY {
            return NOBODY;
        }
        if !self.must_remember(backend) {
            ledger.forget();
            return backend;
        }
        if ledger.remember(backend, phase) { backend } else { self.unless_told() }
    }

    fn old_flow<B: Bucket>(&self, ledger: &mut Ledger<'_, B>, segment: Segment) -> u16 {
        let backend = self.unless_told();
        if backend == NOBODY || segment == Segment::Rst || !self.must_remember(backend) {
            ledger.forget();
        } else {
            ledger.remember(backend, Phase::Heard);
        }
        backend
    }

    fn target_counters(&self, backend: usize) -> &TargetCounters {
        let target = &self.snapshot.targets[self.asked.service.first_target + backend];
        &self.counters.targets[target.counter as usize]
    }
}

/// What a further packet makes of a flow. FIN and RST shorten its time; but if the client goes on after a RST, that was
/// a forgery.
fn next(phase: Phase, segment: Segment) -> Phase {
    match (phase, segment) {
        (_, Segment::Rst) => Phase::Closed,
        (_, Segment::Fin) | (Phase::Closing, _) => Phase::Closing,
        _ => Phase::Open,
    }
}

/// The place that a flow has or gets.
struct Ledger<'a, B: Bucket> {
    table: &'a mut Table<B>,
    books: &'a mut Books,
    key: B::Key,
    protocol: Wire,
    /// Where its key stands, whether its backend still serves or not: no key stands there twice.
    position: Option<Position>,
    context: &'a Context<'a>,
}

impl<B: Bucket> Ledger<'_, B> {
    /// Whether a SYN is no new connection: the client has not heard from the backend yet, or the connection is alive.
    fn is_repetition(&self, meta: Meta) -> bool {
        match meta.phase() {
            Phase::Opening => true,
            Phase::Heard | Phase::Open => meta.age(self.books.tick) <= LIVELY,
            Phase::Closing | Phase::Closed => false,
        }
    }

    /// Notes that there was a packet, or forgets the flow where the slot knows as much.
    fn hear(&mut self, remembered: Remembered, phase: Phase) {
        let Remembered { position, meta, backend } = remembered;
        if !self.context.must_remember(backend) {
            return self.forget();
        }
        let heard = meta.heard(phase, self.books.tick);
        if heard != meta {
            self.table.update(position, heard);
            self.books.settle(meta, Some(heard), &self.context.counters.targets);
        }
    }

    /// Remembers the flow's backend. Says whether there was room.
    fn remember(&mut self, backend: u16, phase: Phase) -> bool {
        let Context { asked, snapshot, counters, .. } = self.context;
        let tick = self.books.tick;
        let rank = |meta: Meta| rank(meta, phase, tick, snapshot);
        let Some(position) = self.position.or_else(|| self.table.room_for(asked.hash, rank)) else {
            counters.exceptions_full.add(1);
            return false;
        };
        let place = snapshot.targets[asked.service.first_target + usize::from(backend)].counter;
        let meta = Meta::new(place, self.protocol, phase, tick);
        let old = self.table.write(position, self.key, meta);
        self.books.settle(old, Some(meta), &counters.targets);
        if !asked.service.tracks {
            self.books.filter.mark(asked.hash);
        }
        true
    }

    /// Frees the flow's place, if it has one.
    fn forget(&mut self) {
        if let Some(position) = self.position.take() {
            let old = self.table.free(position);
            self.books.settle(old, None, &self.context.counters.targets);
        }
    }
}

impl Books {
    /// Keeps the numbers of flows right when one entry takes another's place.
    fn settle(&mut self, old: Meta, new: Option<Meta>, targets: &[TargetCounters]) {
        let of = |meta: Meta| -> &Counter {
            let target = &targets[meta.place() as usize];
            if meta.phase().is_active() { &target.active } else { &target.inactive }
        };
        if !old.is_free() {
            of(old).sub(1);
            self.used -= 1;
        }
        if let Some(new) = new {
            of(new).add(1);
            self.used += 1;
        }
    }
}

/// Whether an entry is worth nothing any more: its backend does not serve, or it was not heard of for too long.
fn is_outlived(meta: Meta, tick: u32, snapshot: &Snapshot) -> bool {
    let Some(place) = snapshot.place(meta.place()) else { return true };
    let idle = u32::from(place.idle_ticks);
    let limit = match meta.phase() {
        Phase::Opening => OPENING.min(idle),
        Phase::Heard | Phase::Open => idle,
        Phase::Closing => CLOSING.min(idle),
        Phase::Closed => CLOSED.min(idle),
    };
    meta.age(tick) > limit
}

/// How readily an entry gives way to a newcomer: the lower, the sooner. A newcomer in the phase `Opening` is a new flow, one
/// in `Heard` an old flow (or a datagram, which tells nothing of its flow's age).
fn rank(meta: Meta, newcomer: Phase, tick: u32, snapshot: &Snapshot) -> Option<u32> {
    let age = meta.age(tick);
    let oldest_first = |class: u32| Some(class << 16 | (u32::from(u16::MAX) - age));
    match meta.phase() {
        _ if is_outlived(meta, tick, snapshot) => Some(1),
        // A SYN that was never followed up is worth less than a flow that speaks seldom.
        Phase::Opening if age >= PROBATION => oldest_first(2),
        Phase::Heard if age >= PROBATION => oldest_first(3),
        phase if phase.is_probation() && newcomer == Phase::Heard => oldest_first(4),
        _ => None,
    }
}

/// Frees what need not be remembered, and marks the rest in the filter.
fn sweep_bucket<B: Bucket>(
    table: &mut Table<B>,
    bucket: usize,
    books: &mut Books,
    snapshot: &Snapshot,
    counters: &WorkerCounters,
) {
    let mut worthless = arrayvec::ArrayVec::<Position, 4>::new();
    for (position, flow, meta) in table.flows(bucket) {
        match fate(&flow, meta, books.tick, snapshot) {
            Fate::Forget => worthless.push(position),
            Fate::Keep => {}
            Fate::Mark => books.filter.keep(snapshot.hasher.hash(&flow)),
        }
    }
    for position in worthless {
        let old = table.free(position);
        books.settle(old, None, &counters.targets);
    }
}

/// What the sweep does with an entry.
enum Fate {
    Forget,
    /// All flows of its service are remembered, and looked for without asking the filter.
    Keep,
    /// The filter must know it.
    Mark,
}

fn fate(flow: &Flow, meta: Meta, tick: u32, snapshot: &Snapshot) -> Fate {
    let service = snapshot.service(flow, &mut LastService::default());
    let Some(service) = service.filter(|_| !is_outlived(meta, tick, snapshot)) else { return Fate::Forget };
    let Some(backend) = snapshot.serving(meta.place(), service) else { return Fate::Forget };
    let slot = service.slot(*flow, snapshot.hasher.hash(flow), &snapshot.hasher);
    if service.tracks {
        Fate::Keep
    } else if service.before(slot) != NOBODY || service.now(slot) != backend {
        Fate::Mark
    } else {
        Fate::Forget
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::sync::Arc;

    use ctl::request::ServiceAdd;
    use ctl::{Scheduler, ServiceId};

    use super::*;
    use crate::counters::TargetIds;
    use crate::flow::Transport;
    use crate::model::compile::compile;
    use crate::model::{Model, Reachability};
    use crate::testing::model::{PORT, backend, backend_mac, model, service};

    const OLD: u16 = 0;
    const NEW: u16 = 1;

    /// A table of a few places, and a service of which each slot has just moved from the first backend to the second.
    struct Scene {
        exceptions: Exceptions,
        counters: Arc<WorkerCounters>,
        snapshot: Snapshot,
        model: Model,
        id: ServiceId,
    }

    impl Scene {
        fn new(room: usize) -> Scene {
            Scene::with(service("192.168.0.101:80", &[("192.168.0.3", 1)]), room)
        }

        fn with(wanted: ServiceAdd, room: usize) -> Scene {
            let counters = Arc::new(WorkerCounters::new(1));
            let ids = TargetIds::new(vec![counters.clone()]);
            let mut model = model();
            let id = wanted.service;
            model.add_service(&wanted, &ids).unwrap();
            model.add_backend(&id, &backend("192.168.0.4", 1), &ids).unwrap();
            model.renew_all(&Reachability { down: &HashSet::new(), resolved: &|_| true });
            model.drain_backend(&id, "192.168.0.3".parse().unwrap(), None).unwrap();
            let snapshot = snapshot(&model);
            let exceptions = Exceptions::new(Room { v4: room, v6: 3 }, 0);
            Scene { exceptions, counters, snapshot, model, id }
        }

        fn change(&mut self, change: impl FnOnce(&mut Model)) {
            change(&mut self.model);
            self.snapshot = snapshot(&self.model);
        }

        fn at(&mut self, seconds: u64) -> &mut Scene {
            self.exceptions.advance(seconds * 1_000, &self.snapshot, &self.counters);
            self
        }

        /// Who gets a packet of the flow from this client.
        fn ask(&mut self, source: u32, segment: Segment) -> u16 {
            let transport = Transport::new(1_024, 80, 6);
            let flow = TupleV4 { addresses: u64::from(source) << 32 | 0xc0a8_0065, transport: transport.number() };
            let service = &self.snapshot.services[0];
            let hash = flow.hash(&self.snapshot.hasher);
            let slot = service.slot(flow, hash, &self.snapshot.hasher);
            if !self.exceptions.may_concern(service, hash) {
                return service.now(slot);
            }
            let asked = Asked { hash, segment, service, slot };
            self.exceptions.resolve(flow.into(), &asked, &self.snapshot, &self.counters)
        }

        fn full(&self) -> u64 {
            self.counters.exceptions_full.read()
        }
    }

    fn snapshot(model: &Model) -> Snapshot {
        compile(Arc::new(model.clone()), |address| Some(backend_mac(address)), &[PORT], 1)
    }

    #[test]
    fn in_a_hand_over_new_flows_and_old_ones_part() {
        let mut scene = Scene::new(64);
        assert_eq!(scene.ask(1, Segment::Open), NEW);
        assert_eq!(scene.ask(1, Segment::Data), NEW);
        assert_eq!(scene.ask(2, Segment::Data), OLD);
        assert_eq!(scene.ask(2, Segment::Data), OLD);
        let (used, targets) = (scene.exceptions.books.used, &scene.counters.targets);
        assert_eq!((used, targets[0].active.read(), targets[1].active.read()), (2, 1, 1));
    }

    #[test]
    fn after_a_hand_over_only_those_that_differ_are_kept() {
        let mut scene = Scene::new(64);
        for _ in 0..2 {
            assert_eq!(
                [scene.ask(1, Segment::Open), scene.ask(1, Segment::Data), scene.ask(2, Segment::Data)],
                [NEW, NEW, OLD]
            );
        }
        scene.at(899);
        scene.ask(1, Segment::Data);
        scene.ask(2, Segment::Data);
        scene.change(|model| {
            model.now_ms = 901_000;
            model.renew_all(&Reachability { down: &HashSet::new(), resolved: &|_| false });
        });
        assert!(scene.snapshot.services[0].before.is_none());
        for seconds in (901..1_000).step_by(4) {
            assert_eq!((scene.at(seconds).ask(2, Segment::Data), scene.ask(3, Segment::Data)), (OLD, NEW));
        }
        assert_eq!(scene.exceptions.books.used, 1, "the flow that its slot knows is forgotten");
        for seconds in (1_000..2_000).step_by(4) {
            scene.at(seconds);
        }
        assert_eq!(scene.exceptions.books.used, 0, "idle for too long");
        assert_eq!(scene.ask(2, Segment::Data), NEW);
    }

    /// Whatever comes, 8 places hold 8 confirmed flows for as long as these live.
    #[test]
    fn floods_push_out_no_confirmed_flow() {
        let mut scene = Scene::new(8);
        for source in 0..8 {
            assert_eq!((scene.ask(source, Segment::Data), scene.ask(source, Segment::Data)), (OLD, OLD));
        }
        assert_eq!(scene.exceptions.books.used, 8, "two buckets hold them all");
        for second in 0..100u32 {
            scene.at(u64::from(second));
            for number in 0..100 {
                let stranger = 1_000 + second * 100 + number;
                assert_eq!(scene.ask(stranger, if number % 2 == 0 { Segment::Open } else { Segment::Data }), OLD);
            }
        }
        assert_eq!(scene.full(), 10_000);
        scene.change(|model| {
            model
                .edit_backend(&ctl::request::BackendEdit {
                    service: model.services.keys().next().copied().unwrap(),
                    address: "192.168.0.4".parse().unwrap(),
                    weight: Some(5),
                    mac: None,
                })
                .unwrap()
        });
        assert!((0..8).all(|source| scene.ask(source, Segment::Data) == OLD));
    }

    #[test]
    fn a_syn_takes_no_place_that_is_not_free_and_an_old_flow_the_oldest_on_probation() {
        let mut scene = Scene::new(8);
        for source in 0..8 {
            assert_eq!(scene.at(u64::from(source) / 4).ask(source, Segment::Open), NEW);
        }
        assert_eq!(scene.ask(100, Segment::Open), OLD, "without a place, where its next packet will go");
        assert_eq!(scene.full(), 1);
        assert_eq!(scene.ask(100, Segment::Data), OLD, "an old flow for all we know: it takes somebody's place");
        assert_eq!((scene.full(), scene.exceptions.books.used), (1, 8));
        let left = (0..8).filter(|&source| scene.ask(source, Segment::Related) == NEW).count();
        assert_eq!(left, 7);
        // Seconds later, probation is over, and a SYN may have such a place, too.
        assert_eq!(scene.at(12).ask(200, Segment::Open), NEW);
        assert_eq!(scene.full(), 1);
    }

    #[test]
    fn a_live_connection_is_not_moved_by_a_syn() {
        let mut scene = Scene::new(64);
        scene.ask(1, Segment::Data);
        assert_eq!(scene.ask(1, Segment::Open), OLD, "a forgery, or a late repetition");
        assert_eq!(scene.at(60).ask(1, Segment::Open), NEW, "the client has forgotten it, and begins anew");
        assert_eq!(scene.ask(1, Segment::Data), NEW);
    }

    #[test]
    fn after_a_fin_or_a_rst_a_syn_begins_anew_at_once() {
        for end in [Segment::Fin, Segment::Rst] {
            let mut scene = Scene::new(64);
            assert_eq!((scene.ask(1, Segment::Data), scene.ask(1, end)), (OLD, OLD));
            assert_eq!(scene.ask(1, Segment::Open), NEW, "{end:?}");
        }
    }

    #[test]
    fn timeouts_depend_on_what_was_seen() {
        for (segments, remembered_s, forgotten_s) in [
            (&[Segment::Open][..], 56, 90),
            (&[Segment::Data, Segment::Data], 896, 940),
            (&[Segment::Data, Segment::Fin], 116, 150),
            (&[Segment::Data, Segment::Rst], 10, 44),
            (&[Segment::Data, Segment::Rst, Segment::Data], 896, 940),
        ] {
            let used = |until: u64| {
                let mut scene = Scene::new(64);
                for &segment in segments {
                    scene.ask(1, segment);
                }
                for second in 0..=until {
                    scene.at(second);
                }
                scene.exceptions.books.used
            };
            assert_eq!((used(remembered_s), used(forgotten_s)), (1, 0), "{segments:?}");
        }
    }

    #[test]
    fn what_anybody_can_forge_is_not_remembered() {
        let mut scene = Scene::new(64);
        assert_eq!(scene.ask(1, Segment::Related), OLD);
        assert_eq!(scene.ask(2, Segment::Rst), OLD);
        assert_eq!(scene.exceptions.books.used, 0);
    }

    #[test]
    fn a_backend_that_serves_no_more_is_forgotten_at_once() {
        let mut scene = Scene::new(64);
        assert_eq!((scene.ask(1, Segment::Data), scene.ask(1, Segment::Data)), (OLD, OLD));
        let id = scene.id;
        scene.change(|model| model.remove_backend(&id, "192.168.0.3".parse().unwrap()).unwrap());
        // The other one is the first now.
        assert_eq!(scene.ask(1, Segment::Data), 0);
        assert_eq!(scene.exceptions.books.used, 0);
        assert_eq!(scene.counters.targets[0].active.read(), 0);
    }

    #[test]
    fn a_scheduler_that_decides_by_flow_is_asked_once_for_each() {
        let wanted = ServiceAdd { scheduler: Scheduler::Rr, ..service("192.168.0.101:80", &[("192.168.0.3", 1)]) };
        let mut scene = Scene::with(wanted, 4_096);
        let id = scene.id;
        scene.change(|model| model.enable_backend(&id, "192.168.0.3".parse().unwrap()).unwrap());
        let first: Vec<u16> = (0..100).map(|source| scene.ask(source, Segment::Open)).collect();
        assert!(first.chunks(2).all(|pair| pair == [0, 1]), "{first:?}");
        let again: Vec<u16> = (0..100).map(|source| scene.ask(source, Segment::Open)).collect();
        let data: Vec<u16> = (0..100).map(|source| scene.ask(source, Segment::Data)).collect();
        assert_eq!((&again, &data), (&first, &first));
        assert_eq!(scene.counters.targets[0].active.read(), 50);
    }

    /// The worker stands still for a while, in the middle of a sweep; what it remembers, it still does.
    #[test]
    fn a_pause_forgets_nothing() {
        let mut scene = Scene::new(4_096);
        for source in 0..500 {
            assert_eq!((scene.ask(source, Segment::Data), scene.ask(source, Segment::Data)), (OLD, OLD));
        }
        scene.change(|model| {
            model.now_ms = 901_000;
            model.renew_all(&Reachability { down: &HashSet::new(), resolved: &|_| false });
        });
        for (pause_ms, steps) in [(1_000, 5), (20_000, 9), (50_000, 40), (33_333, 17), (16_001, 60)] {
            let mut now_ms = scene.exceptions.swept * SWEEP_MS / (scene.exceptions.v4.buckets() + 2) as u64 + pause_ms;
            for _ in 0..steps {
                now_ms += 700;
                scene.exceptions.advance(now_ms, &scene.snapshot, &scene.counters);
                assert!((0..500).all(|source| scene.ask(source, Segment::Data) == OLD), "after {pause_ms} ms");
            }
        }
    }

    /// The steady state costs nothing: without hand-over and without exceptions the table is not asked.
    #[test]
    fn nothing_is_asked_where_nothing_can_be_known() {
        let mut scene = Scene::new(64);
        scene.change(|model| {
            model.now_ms = 901_000;
            model.renew_all(&Reachability { down: &HashSet::new(), resolved: &|_| false });
        });
        let asked = |scene: &Scene| scene.exceptions.may_concern(&scene.snapshot.services[0], 7);
        assert!(!asked(&scene));
        scene.exceptions.books.used = 1;
        assert!(!asked(&scene), "others are remembered, this flow is not");
        scene.exceptions.books.filter.mark(7);
        assert!(asked(&scene));
    }
}
