//! The rules: where a packet goes, and how it changes the entry of its flow.

use crate::base::ids::{BackendNo, WorkerNo};
use crate::count::counters::{TargetCounters, WorkerCounters};
use crate::forward::exceptions::age::{keeps_syn, rank};
use crate::forward::exceptions::books::Books;
use crate::forward::exceptions::table::{Bucket, Meta, Phase, Position, Table, Wire};
use crate::state::snapshot::{ServiceEntry, Snapshot};
use crate::wire::flow::Tuple;
use crate::wire::headers::Segment;

/// The number of times that a schedule is asked for another backend if it has picked a failed one.
const MORE_PICKS: usize = 16;

/// A packet about which the exception table is asked: all but its flow.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// The hash of its 5-tuple, even if the service hashes by something else.
    pub hash: u64,
    /// What it says about its flow.
    pub segment: Segment,
    /// The service that it is for.
    pub service: &'a ServiceEntry,
    /// Its slot of the service's table.
    pub slot: usize,
}

/// A packet, and all that its backend depends on, except the table.
#[derive(Clone, Copy)]
pub(super) struct Case<'a> {
    pub(super) asked: Asked<'a>,
    pub(super) snapshot: &'a Snapshot,
    pub(super) counters: &'a WorkerCounters,
    pub(super) worker: WorkerNo,
}

/// An entry whose backend serves.
#[derive(Clone, Copy)]
struct Remembered {
    position: Position,
    meta: Meta,
    backend: BackendNo,
}

impl Case<'_> {
    pub(super) fn resolve<B: Bucket>(
        self,
        flow: B::Tuple,
        table: &mut Table<B>,
        known: Option<(Position, Meta)>,
        books: &mut Books,
    ) -> BackendNo {
        let (key, protocol) = (B::key(flow), Wire::of(flow.transport().protocol));
        let remembered = known.and_then(|(position, meta)| {
            let backend = self.snapshot.serving(meta.counter(), self.asked.service)?;
            Some(Remembered { position, meta, backend })
        });
        let out = known.filter(|(_, meta)| self.snapshot.is_out(meta.counter(), self.asked.service));
        let mut ledger =
            Ledger { table, books, key, protocol, position: known.map(|(position, _)| position), case: &self };
        match (self.asked.segment, remembered) {
            (Segment::Related, Some(remembered)) => remembered.backend,
            (Segment::Related, None) => self.if_unknown(),
            (Segment::Open, Some(remembered)) if ledger.keeps_syn(remembered.meta) => {
                // A SYN shows that somebody knows the ports, and no more. It keeps no confirmed entry alive.
                let phase = remembered.meta.phase();
                if phase.is_probation() {
                    ledger.hear(remembered, phase);
                }
                remembered.backend
            }
            (Segment::Open, _) => self.new_flow(&mut ledger, Phase::Opening),
            (segment, Some(remembered)) => {
                ledger.hear(remembered, next(remembered.meta.phase(), segment));
                remembered.backend
            }
            (_, None) if protocol == Wire::Udp && self.asked.service.unknown_is_new => {
                self.new_flow(&mut ledger, Phase::Heard)
            }
            (segment, None) => match out.filter(|_| protocol != Wire::Udp) {
                Some((position, meta)) => self.flow_of_one_that_is_out(&mut ledger, position, meta),
                None => self.old_flow(&mut ledger, segment),
            },
        }
    }

    fn now(&self) -> BackendNo {
        self.asked.service.now(self.asked.slot)
    }

    fn before(&self) -> BackendNo {
        self.asked.service.before(self.asked.slot)
    }

    /// Whether a flow that is known to go to this backend must be remembered.
    fn must_remember(&self, backend: BackendNo) -> bool {
        let Asked { service, slot, .. } = self.asked;
        service.tracks || service.has_owner(slot) || backend != self.now()
    }

    /// Whether an unknown flow must be remembered, of which a packet does not show that it is new. If the slot waits for a
    /// backend that is away, it may be that one's flow. The packet goes to another backend, but the flow must not stay there.
    /// A flow of UDP may, because the other backend may have taken it.
    fn must_remember_unknown(&self, protocol: Wire) -> bool {
        let Asked { service, slot, .. } = self.asked;
        let may_be_awaited = || protocol != Wire::Udp && service.is_awaited(slot);
        self.before() != BackendNo::NONE || service.tracks && !may_be_awaited()
    }

    /// The backend of a packet whose flow is unknown.
    fn if_unknown(&self) -> BackendNo {
        if self.before() != BackendNo::NONE { self.before() } else { self.now() }
    }

    fn new_flow<B: Bucket>(&self, ledger: &mut Ledger<'_, B>, phase: Phase) -> BackendNo {
        let service = self.asked.service;
        let load = |backend: usize| self.target_counters(backend).load();
        let pick = || service.schedule.new_flow(self.now(), self.worker, &service.cursors, load);
        let mut backend = pick();
        // In an outage, some turns belong to backends that have failed.
        if backend == BackendNo::NONE {
            backend = self.now();
        } else if !service.takes(backend) {
            backend = (0..MORE_PICKS).map(|_| pick()).find(|&next| service.takes(next)).unwrap_or_else(|| self.now());
        }
        if backend == BackendNo::NONE {
            return BackendNo::NONE;
        }
        let must_remember = self.must_remember(backend);
        if !must_remember {
            ledger.forget();
        }
        let remembered = must_remember && ledger.remember(backend, phase);
        // The schedule has counted the flow already.
        service.schedule.set_load(self.worker, backend.index(), load(backend.index()));
        if must_remember && !remembered { self.if_unknown() } else { backend }
    }

    fn old_flow<B: Bucket>(&self, ledger: &mut Ledger<'_, B>, segment: Segment) -> BackendNo {
        let backend = self.if_unknown();
        // What nobody gets changes nothing: its flow may be of a backend that is out.
        if backend == BackendNo::NONE {
            return backend;
        }
        if segment == Segment::Rst || !self.must_remember_unknown(ledger.protocol) {
            ledger.forget();
        } else {
            ledger.remember(backend, if segment == Segment::Fin { Phase::Leaving } else { Phase::Heard });
        }
        backend
    }

    /// A packet of a connection whose backend is out. Whoever gets it knows no such connection, and answers with a RST: that
    /// ends it. Where nobody gets it, nothing has happened.
    fn flow_of_one_that_is_out<B: Bucket>(
        &self,
        ledger: &mut Ledger<'_, B>,
        position: Position,
        meta: Meta,
    ) -> BackendNo {
        let backend = self.if_unknown();
        let phase = if backend == BackendNo::NONE { next(meta.phase(), self.asked.segment) } else { Phase::Closed };
        ledger.note(position, meta, phase);
        backend
    }

    fn target_counters(&self, backend: usize) -> &TargetCounters {
        let target = &self.snapshot.targets[self.asked.service.first_target + backend];
        &self.counters.targets[target.counter.index()]
    }
}

/// The phase of a flow after a further packet. FIN and RST shorten its timeout. But if the client goes on after a RST,
/// the RST was forged.
fn next(phase: Phase, segment: Segment) -> Phase {
    match (phase, segment) {
        (_, Segment::Rst) => Phase::Closed,
        (_, Segment::Fin) | (Phase::Closing | Phase::Leaving, _) => Phase::Closing,
        _ => Phase::Open,
    }
}

/// Reads and writes the entry of one flow.
struct Ledger<'a, B: Bucket> {
    table: &'a mut Table<B>,
    books: &'a mut Books,
    key: B::Key,
    protocol: Wire,
    /// The entry that has the key, even if its backend does not serve any more. So no key has two entries.
    position: Option<Position>,
    case: &'a Case<'a>,
}

impl<B: Bucket> Ledger<'_, B> {
    /// Whether a SYN goes where the flow is remembered.
    fn keeps_syn(&self, meta: Meta) -> bool {
        keeps_syn(meta, self.books.tick, self.case.snapshot)
    }

    /// Notes a packet of the flow, or forgets the flow if its slot alone gives the right backend.
    fn hear(&mut self, remembered: Remembered, phase: Phase) {
        let Remembered { position, meta, backend } = remembered;
        if !self.case.must_remember(backend) {
            return self.forget();
        }
        self.note(position, meta, phase);
    }

    /// Notes a packet of the flow.
    fn note(&mut self, position: Position, meta: Meta, phase: Phase) {
        let heard = meta.heard(phase, self.books.tick);
        if heard != meta {
            self.table.update(position, heard);
            self.books.settle(meta, Some(heard), self.case.snapshot, &self.case.counters.targets);
        }
    }

    /// Remembers the flow's backend. Returns whether there was room.
    fn remember(&mut self, backend: BackendNo, phase: Phase) -> bool {
        let Case { asked, snapshot, counters, .. } = self.case;
        let tick = self.books.tick;
        let rank = |meta: Meta| rank(meta, phase, tick, snapshot);
        let Some(position) = self.position.or_else(|| self.table.room_for(asked.hash, rank)) else {
            counters.exceptions_full.add(1);
            return false;
        };
        let counter = snapshot.targets[asked.service.first_target + backend.index()].counter;
        let meta = Meta::new(counter, self.protocol, phase, tick);
        let old = self.table.write(position, self.key, meta);
        self.books.settle(old, Some(meta), snapshot, &counters.targets);
        if !asked.service.tracks {
            self.books.filter.mark(asked.hash);
        }
        true
    }

    /// Frees the flow's entry, if it has one.
    fn forget(&mut self) {
        if let Some(position) = self.position.take() {
            let old = self.table.free(position);
            self.books.settle(old, None, self.case.snapshot, &self.case.counters.targets);
        }
    }
}
