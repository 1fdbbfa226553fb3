//! The backend of a new flow, for services that decide flow by flow.
//!
//! With Maglev, the slot decides, and nothing needs to be remembered. LVS's other schedulers
//! decide anew for each flow, so their services remember all flows. Each worker decides on its own, from the flows that
//! it has scheduled itself. Workers share nothing that they write, and RSS gives each a fair sample of the flows.

use std::sync::Arc;

use crate::base::counter::Counter;
use crate::base::ids::{BackendNo, WorkerNo};
use crate::select::fewest::Fewest;
use crate::select::wrr;

/// The most turns that are stored. If the weights' period is longer, shares are exact to one part in this number.
const MAX_TURNS: usize = 65_537;

/// The rule that finds the backend of a new flow. Backends are numbered as in the service.
#[derive(Debug, Clone)]
pub enum Schedule {
    /// The backend of the flow's slot in the Maglev table.
    Slot,
    /// The backends in this order, one flow each.
    Turns(Arc<[BackendNo]>),
    /// The backend with the fewest connections for its weight (`wlc`), or with the fewest at all (`lc`).
    Fewest(Arc<Fewest>),
}

/// The next turn. One for each worker and service.
#[derive(Debug, Default)]
#[repr(align(128))] // no two workers write to one line
pub struct Cursor(Counter);

impl Cursor {
    fn advance(&self) -> u64 {
        let now = self.0.read();
        self.0.add(1);
        now
    }
}

impl Schedule {
    /// One turn for each backend that has a weight.
    pub fn round_robin(weights: &[u32]) -> Schedule {
        let equal: Vec<u32> = weights.iter().map(|&weight| weight.min(1)).collect();
        Schedule::weighted_round_robin(&equal)
    }

    /// Turns by smooth weighted round-robin: one whole period, but at most `MAX_TURNS` turns.
    pub fn weighted_round_robin(weights: &[u32]) -> Schedule {
        Schedule::Turns(wrr::period(weights, MAX_TURNS).into())
    }

    /// For each flow, the backend with the fewest connections of this worker's; if `weighted`, for its weight.
    pub fn fewest(weights: &[u32], weighted: bool, workers: usize) -> Schedule {
        let weights = weights.iter().map(|&weight| if weighted { weight } else { weight.min(1) });
        Schedule::Fewest(Arc::new(Fewest::new(weights.collect(), workers)))
    }

    /// Whether it is made so quickly that backends can be left out at the moment of their failure. Of turns, those of a failed
    /// backend are skipped until there is a new table.
    pub fn is_quick_to_make(&self) -> bool {
        match self {
            Schedule::Slot | Schedule::Turns(_) => false,
            Schedule::Fewest(_) => true,
        }
    }

    /// The backend of a worker's new flow, or [`BackendNo::NONE`]. `of_slot` is the backend of the flow's slot. `load`
    /// gives the load of a backend, by its number: the flows that the worker remembers of it. The new flow is counted at
    /// once; [`Schedule::set_load`] must be told afterwards what became of it, and of each other change.
    pub fn new_flow(
        &self,
        of_slot: BackendNo,
        worker: WorkerNo,
        cursors: &[Cursor],
        load: impl Fn(usize) -> u64,
    ) -> BackendNo {
        match self {
            Schedule::Slot => of_slot,
            Schedule::Turns(turns) if turns.is_empty() => BackendNo::NONE,
            #[expect(clippy::cast_possible_truncation, reason = "the remainder is an index")]
            Schedule::Turns(turns) => {
                let turn = cursors.get(worker.index()).map_or(0, Cursor::advance);
                turns[(turn % turns.len() as u64) as usize]
            }
            Schedule::Fewest(fewest) => fewest.next(worker, load).unwrap_or(of_slot),
        }
    }

    /// Notes that the load of a backend has changed.
    #[inline]
    pub fn set_load(&self, worker: WorkerNo, backend: usize, load: u64) {
        if let Schedule::Fewest(fewest) = self {
            fewest.set_load(worker, backend, load);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// The load of an active flow.
    const ACTIVE: u64 = 256;

    fn picks(schedule: &Schedule, loads: &[Cell<u64>], count: usize) -> Vec<BackendNo> {
        let cursors = [Cursor::default()];
        let worker = WorkerNo::new(0);
        (0..count)
            .map(|_| {
                let pick = schedule.new_flow(BackendNo::NONE, worker, &cursors, |number| loads[number].get());
                if pick != BackendNo::NONE {
                    let load = &loads[pick.index()];
                    load.set(load.get() + ACTIVE);
                    schedule.set_load(worker, pick.index(), load.get());
                }
                pick
            })
            .collect()
    }

    fn idle(count: usize) -> Vec<Cell<u64>> {
        vec![Cell::default(); count]
    }

    #[test]
    fn turns_follow_the_weights_in_their_smallest_period() {
        let schedule = Schedule::weighted_round_robin(&[30, 0, 10, 10]);
        assert!(matches!(&schedule, Schedule::Turns(turns) if turns.len() == 5));
        assert_eq!(picks(&schedule, &idle(4), 7), [0, 2, 0, 3, 0, 0, 2].map(BackendNo::new));
        assert_eq!(picks(&Schedule::round_robin(&[30, 0, 10, 1]), &idle(4), 5), [0, 2, 3, 0, 2].map(BackendNo::new));
    }

    #[test]
    fn long_periods_are_cut() {
        let Schedule::Turns(turns) = Schedule::weighted_round_robin(&[65_535, 65_534, 1]) else { panic!("no turns") };
        assert_eq!(turns.len(), MAX_TURNS);
        let first = turns.iter().filter(|turn| turn.index() == 0).count() as f64 / turns.len() as f64;
        assert!((first - 0.5).abs() < 0.001);
    }

    #[test]
    fn the_backend_with_the_fewest_connections_gets_the_next_flow() {
        let lc = || Schedule::fewest(&[1, 0, 9], false, 1);
        let loaded = idle(3);
        loaded[0].set(3 * ACTIVE);
        assert_eq!(picks(&lc(), &loaded, 3), [2, 2, 2].map(BackendNo::new));
        let all = idle(3);
        picks(&Schedule::fewest(&[1, 0, 3], true, 1), &all, 400);
        assert_eq!(all.iter().map(|load| load.get() / ACTIVE).collect::<Vec<_>>(), [100, 0, 300]);
        let idle = idle(3);
        idle[2].set(ACTIVE - 1);
        idle[0].set(ACTIVE);
        assert_eq!(picks(&lc(), &idle, 1), [BackendNo::new(2)], "an active one weighs as much as 256 inactive ones");
    }

    #[test]
    fn without_weights_no_backend_is_picked() {
        for schedule in [
            Schedule::weighted_round_robin(&[0, 0]),
            Schedule::round_robin(&[]),
            Schedule::fewest(&[0], true, 1),
            Schedule::Slot,
        ] {
            assert_eq!(picks(&schedule, &idle(2), 2), [BackendNo::NONE; 2]);
        }
    }
}
