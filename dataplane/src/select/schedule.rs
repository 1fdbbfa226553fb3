//! The backend of a new flow, for services that decide flow by flow.
//!
//! With Maglev, the slot decides, and nothing needs to be remembered. LVS's other schedulers
//! decide anew for each flow, so their services remember all flows. Each worker decides on its own, from the flows that
//! it has scheduled itself. Workers share nothing that they write, and RSS gives each a fair sample of the flows.

use std::sync::Arc;

use crate::base::counter::Counter;
use crate::base::ids::BackendNo;
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
    /// The backend with the fewest connections. An active one counts as 256 inactive ones, as in LVS.
    Fewest {
        /// By backend: its weight. A backend of weight 0 takes no flows.
        weights: Arc<[u32]>,
        /// Whether connections are divided by the weight: `wlc` does, `lc` does not.
        weighted: bool,
    },
}

/// The next turn, or the first backend to look at. One for each worker and service.
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

    /// Whether it is made so quickly that backends can be left out at the moment of their failure. Of turns, those of a failed
    /// backend are skipped until there is a new table.
    pub fn is_quick_to_make(&self) -> bool {
        match self {
            Schedule::Slot | Schedule::Turns(_) => false,
            Schedule::Fewest { .. } => true,
        }
    }

    /// The backend of a new flow, or [`BackendNo::NONE`]. `of_slot` is the backend of the flow's slot. `load` gives the
    /// active and the inactive flows that the worker remembers of a backend, by its number.
    pub fn new_flow(
        &self,
        of_slot: BackendNo,
        cursor: Option<&Cursor>,
        load: impl Fn(usize) -> (u64, u64),
    ) -> BackendNo {
        let turn = || cursor.map_or(0, Cursor::advance);
        match self {
            Schedule::Slot => of_slot,
            Schedule::Turns(turns) if turns.is_empty() => BackendNo::NONE,
            #[expect(clippy::cast_possible_truncation, reason = "the remainder is an index")]
            Schedule::Turns(turns) => turns[(turn() % turns.len() as u64) as usize],
            Schedule::Fewest { weights, weighted } => {
                let weighed = |number: usize| {
                    let (active, inactive) = load(number);
                    active * 256 + inactive
                };
                fewest(weights, *weighted, turn(), weighed)
            }
        }
    }
}

/// The backend with the least load, divided by its weight if `weighted`. Of equal ones, it is the first from `start`
/// on. The start moves on, so that not every worker's first flow goes to the first backend.
#[expect(clippy::cast_possible_truncation, reason = "numbers of backends are below MAX_BACKENDS")]
fn fewest(weights: &[u32], weighted: bool, start: u64, load: impl Fn(usize) -> u64) -> BackendNo {
    let start = (start % weights.len().max(1) as u64) as usize;
    let mut best: Option<(u64, u64, usize)> = None;
    for number in (start..weights.len()).chain(0..start).filter(|&number| weights[number] > 0) {
        let weight = if weighted { u64::from(weights[number]) } else { 1 };
        let load = load(number);
        // load / weight < best load / best weight, without a division.
        if best.is_none_or(|(best_load, best_weight, _)| load * best_weight < best_load * weight) {
            best = Some((load, weight, number));
        }
    }
    best.map_or(BackendNo::NONE, |(_, _, number)| BackendNo::new(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Active and inactive flows.
    type Load = std::cell::Cell<(u64, u64)>;

    fn picks(schedule: &Schedule, loads: &[Load], count: usize) -> Vec<BackendNo> {
        let cursor = Cursor::default();
        (0..count)
            .map(|_| {
                let pick = schedule.new_flow(BackendNo::NONE, Some(&cursor), |number| loads[number].get());
                if pick != BackendNo::NONE {
                    let load = &loads[pick.index()];
                    load.set((load.get().0 + 1, load.get().1));
                }
                pick
            })
            .collect()
    }

    fn idle(count: usize) -> Vec<Load> {
        vec![Load::default(); count]
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
        let lc = Schedule::Fewest { weights: [1, 0, 9].into(), weighted: false };
        let loaded = idle(3);
        loaded[0].set((3, 0));
        assert_eq!(picks(&lc, &loaded, 3), [2, 2, 2].map(BackendNo::new));
        let wlc = Schedule::Fewest { weights: [1, 0, 3].into(), weighted: true };
        let all = idle(3);
        picks(&wlc, &all, 400);
        assert_eq!(all.iter().map(|load| load.get().0).collect::<Vec<_>>(), [100, 0, 300]);
        let idle = idle(3);
        idle[2].set((0, 255));
        idle[0].set((1, 0));
        assert_eq!(picks(&lc, &idle, 1), [BackendNo::new(2)], "an active one weighs as much as 256 inactive ones");
    }

    #[test]
    fn without_weights_no_backend_is_picked() {
        for schedule in [
            Schedule::weighted_round_robin(&[0, 0]),
            Schedule::round_robin(&[]),
            Schedule::Fewest { weights: [0].into(), weighted: true },
            Schedule::Slot,
        ] {
            assert_eq!(picks(&schedule, &idle(2), 2), [BackendNo::NONE; 2]);
        }
    }
}
