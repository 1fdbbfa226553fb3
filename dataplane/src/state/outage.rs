//! Outages: backends that a service's table still names, although they cannot be reached any more.
//!
//! A server that fails may back a thousand services. To build a thousand tables takes a second; to list the backends
//! that must get no more packets takes some milliseconds. So this list is published first, with the old tables. Until a
//! service has its new table, other backends stand in for those that have failed.
//!
//! The stand-in is a pure function of the old table and of the backends that still take flows, so that the control side
//! knows it, too. When the new table comes, the flows that have begun meanwhile are handed over like all others
//! ([`crate::control::model::handover`]). For each slot there is one order in which backends are asked to stand in, and
//! the first that takes flows does. So a stand-in stays the same when other backends fail: no flow moves because
//! another backend fails.

use crate::base::ids::BackendNo;

/// The number of other slots that are searched for a stand-in, before it is the next backend of all.
const SLOTS_ASKED: usize = 64;

/// Which of a service's backends can be reached, while its table does not yet take that into account. By the backends'
/// numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outage {
    /// Whether the backend gets packets of old flows.
    serves: Box<[bool]>,
    /// Whether the backend takes new flows. Such a backend was in the table when it was built, unless none of those is
    /// left.
    takes: Box<[bool]>,
    /// The backends that take new flows.
    taking: Box<[BackendNo]>,
}

impl Outage {
    /// From a pair for each backend: whether it serves, and whether it takes new flows.
    pub fn new(backends: impl Iterator<Item = (bool, bool)>) -> Self {
        let (serves, takes): (Vec<bool>, Vec<bool>) = backends.unzip();
        let taking = (0..takes.len()).filter(|&number| takes[number]).map(BackendNo::new).collect();
        Outage { serves: serves.into(), takes: takes.into(), taking }
    }

    /// Whether a backend takes new flows.
    pub fn takes(&self, backend: BackendNo) -> bool {
        self.takes.get(backend.index()).copied().unwrap_or(false)
    }

    /// The backend of a slot: the one that the table names, or its stand-in. [`BackendNo::NONE`] if no backend takes
    /// new flows.
    pub fn now(&self, table: &[BackendNo], slot: usize) -> BackendNo {
        let Some(&named) = table.get(slot) else { return BackendNo::NONE };
        if self.takes(named) { named } else { self.stand_in(table, slot) }
    }

    /// The backend that had a slot before, if it still serves.
    pub fn before(&self, backend: BackendNo) -> BackendNo {
        if self.serves.get(backend.index()).copied().unwrap_or(false) { backend } else { BackendNo::NONE }
    }

    /// The stand-in for a slot. The backends of other slots are asked first, so that they share a failed backend's
    /// flows by their weights. If few backends are left, it is the next one from one that depends on the slot. All this
    /// takes a few steps, however many backends there are.
    #[cold]
    fn stand_in(&self, table: &[BackendNo], slot: usize) -> BackendNo {
        // A fixed odd step, about M / φ, so that the slots are spread over the table, whatever its size.
        let step = (table.len() * 5 / 8) | 1;
        let others = (1..=SLOTS_ASKED).map(|i| table[(slot + i * step) % table.len()]);
        if let Some(owner) = others.into_iter().find(|&owner| self.takes(owner)) {
            return owner;
        }
        let Some(from) = slot.checked_rem(self.takes.len()) else { return BackendNo::NONE };
        let next = self.taking.partition_point(|backend| backend.index() < from);
        self.taking.get(next).or(self.taking.first()).copied().unwrap_or(BackendNo::NONE)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;
    use crate::select::maglev::{Candidate, build, slot_counts};

    const SIZE: usize = 1_021;

    fn table(weights: &[u32]) -> Box<[BackendNo]> {
        let address = |i: u32| Ipv4Addr::from_bits(0xc0a8_0003 + i).into();
        let candidates: Vec<Candidate> =
            (0..).zip(weights).map(|(i, &weight)| Candidate { address: address(i), weight }).collect();
        build(&[1; 16], 1_021, &candidates)
    }

    fn without(failed: &[usize], of: usize) -> Outage {
        Outage::new((0..of).map(|number| (!failed.contains(&number), !failed.contains(&number))))
    }

    fn owners(outage: &Outage, table: &[BackendNo]) -> Vec<BackendNo> {
        (0..table.len()).map(|slot| outage.now(table, slot)).collect()
    }

    #[test]
    fn only_the_slots_of_a_failed_backend_move() {
        let table = table(&[1, 1, 1, 1]);
        let owners = owners(&without(&[2], 4), &table);
        for (&named, &owner) in table.iter().zip(&owners) {
            assert!(owner == named || named.index() == 2 && owner.index() != 2);
        }
    }

    #[test]
    fn stand_ins_share_by_their_weights() {
        let table = table(&[3, 1, 4, 1]);
        let counts = slot_counts(&owners(&without(&[2], 4), &table), 4);
        for (count, share) in counts.into_iter().zip([0.6, 0.2, 0.0, 0.2]) {
            assert!((f64::from(count) / SIZE as f64 - share).abs() < 0.05, "{count} of {SIZE} for {share}");
        }
    }

    #[test]
    fn the_last_backend_stands_in_for_all_and_then_there_is_none() {
        let table = table(&[1; 200]);
        let but_one: Vec<usize> = (0..200).filter(|&number| number != 77).collect();
        assert!(owners(&without(&but_one, 200), &table).iter().all(|&owner| owner.index() == 77));
        let all: Vec<usize> = (0..200).collect();
        assert!(owners(&without(&all, 200), &table).iter().all(|&owner| owner == BackendNo::NONE));
        assert_eq!(without(&[], 0).now(&[BackendNo::NONE; 31], 3), BackendNo::NONE);
        assert_eq!(without(&[], 0).now(&[], 3), BackendNo::NONE);
    }

    #[test]
    fn a_drained_backend_keeps_old_flows_and_gets_no_new_ones() {
        let outage = Outage::new([(false, false), (true, false), (true, true)].into_iter());
        let [first, second, third] = [0, 1, 2].map(BackendNo::new);
        let all = [first, second, third, BackendNo::NONE];
        assert_eq!(all.map(|backend| outage.before(backend)), [BackendNo::NONE, second, third, BackendNo::NONE]);
        assert_eq!(all.map(|backend| outage.takes(backend)), [false, false, true, false]);
    }

    proptest! {
        /// The last ones stand in as if they were asked one by one.
        #[test]
        fn the_next_backend_stands_in(takes in prop::collection::vec(prop::bool::weighted(0.02), 1..300)) {
            let outage = Outage::new(takes.iter().map(|&takes| (takes, takes)));
            // All slots have a backend that has failed, so that no other slot's can stand in.
            let Some(failed) = takes.iter().position(|takes| !takes) else { return Ok(()) };
            let table = vec![BackendNo::new(failed); SIZE];
            for slot in 0..SIZE {
                let mut order = (0..takes.len()).map(|i| (slot + i) % takes.len());
                let expected = order.find(|&number| takes[number]).map_or(BackendNo::NONE, BackendNo::new);
                prop_assert_eq!(outage.now(&table, slot), expected);
            }
        }

        /// A backend that has a slot keeps it until it fails itself.
        #[test]
        fn the_failure_of_other_backends_moves_no_slot(order in Just((0..12).collect::<Vec<usize>>()).prop_shuffle()) {
            let table = table(&[1, 2, 3, 1, 1, 1, 9, 1, 1, 1, 1, 1]);
            let mut before = table.to_vec();
            for failed in 1..=12 {
                let now = owners(&without(&order[..failed], 12), &table);
                let just_failed = order[failed - 1];
                for (&before, &now) in before.iter().zip(&now) {
                    prop_assert!(now == before || before.index() == just_failed);
                }
                before = now;
            }
        }
    }
}
