//! What is kept along with the tables.

use crate::base::counter::Counter;
use crate::count::counters::TargetCounters;
use crate::forward::exceptions::filter::Filter;
use crate::forward::exceptions::table::Meta;

/// Numbers of flows, and the filter.
#[derive(Debug, Default)]
pub(crate) struct Books {
    /// Tells whether a flow of a service may be remembered whose flows are not all remembered.
    pub(super) filter: Filter,
    pub(super) used: usize,
    pub(super) tick: u32,
}

impl Books {
    /// Keeps the numbers of flows right when one entry replaces another.
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
