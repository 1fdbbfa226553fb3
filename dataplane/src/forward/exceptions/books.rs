//! The accounts of the tables: the number of flows, the filter, and the time.

use crate::base::counter::Counter;
use crate::count::counters::TargetCounters;
use crate::forward::exceptions::filter::Filter;
use crate::forward::exceptions::table::Meta;

/// The accounts of one worker's tables.
#[derive(Debug, Default)]
pub(crate) struct Books {
    /// Tells whether a flow may be remembered. For services whose flows are not all remembered.
    pub(super) filter: Filter,
    pub(super) used: usize,
    pub(super) tick: u32,
}

impl Books {
    /// Updates the numbers of flows when one entry replaces another.
    pub(super) fn settle(&mut self, old: Meta, new: Option<Meta>, targets: &[TargetCounters]) {
        let of = |meta: Meta| -> &Counter {
            let target = &targets[meta.counter().index()];
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
