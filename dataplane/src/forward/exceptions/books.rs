//! The accounts of the tables: the number of flows, the filter, and the time.

use crate::base::counter::Counter;
use crate::base::ids::WorkerNo;
use crate::count::counters::TargetCounters;
use crate::forward::exceptions::filter::Filter;
use crate::forward::exceptions::table::Meta;
use crate::state::snapshot::Snapshot;

/// The accounts of one worker's tables.
#[derive(Debug)]
pub(crate) struct Books {
    worker: WorkerNo,
    /// Tells whether a flow may be remembered. For services whose flows are not all remembered.
    pub(super) filter: Filter,
    pub(super) used: usize,
    pub(super) tick: u32,
}

impl Books {
    pub(super) fn new(worker: WorkerNo) -> Self {
        Books { worker, filter: Filter::default(), used: 0, tick: 0 }
    }

    /// Updates the numbers of flows when one entry replaces another, and tells the schedules.
    pub(super) fn settle(&mut self, old: Meta, new: Option<Meta>, snapshot: &Snapshot, targets: &[TargetCounters]) {
        let of = |meta: Meta| -> &Counter {
            let target = &targets[meta.counter().index()];
            if meta.phase().is_active() { &target.active } else { &target.inactive }
        };
        let old = (!old.is_free()).then_some(old);
        if let (Some(old), Some(new)) = (old, new)
            && (old.counter(), old.phase().is_active()) == (new.counter(), new.phase().is_active())
        {
            // The flow counts as before.
            return;
        }
        if let Some(old) = old {
            of(old).sub(1);
            self.used -= 1;
        }
        if let Some(new) = new {
            of(new).add(1);
            self.used += 1;
        }
        for meta in old.into_iter().chain(new) {
            snapshot.set_load(meta.counter(), self.worker, targets[meta.counter().index()].load());
        }
    }
}
