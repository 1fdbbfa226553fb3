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

/// What a backend gets in an outage. Each gets what the ones above it get, too. What is out or away gets nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// No packets.
    Out,
    /// No packets. But when it is back, it has the unknown flows of its slots again.
    Away,
    /// Packets of old flows, in slots that it had before.
    Serves,
    /// Packets of old flows, also in the slots that it has. It took new flows until now.
    Holds,
    /// New flows. Such a backend was in the table when it was built, unless none of those is left.
    Takes,
}

/// Which of a service's backends can be reached, while its table does not yet take that into account. By the backends'
/// numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outage {
    standings: Box<[Standing]>,
    /// The backends that take new flows.
    taking: Box<[BackendNo]>,
    /// Those, and those that hold old ones.
    holding: Box<[BackendNo]>,
}

impl Outage {
    /// From the standing of each backend.
    pub fn new(backends: impl Iterator<Item = Standing>) -> Self {
        let standings: Box<[Standing]> = backends.collect();
        let [taking, holding] = [Standing::Takes, Standing::Holds].map(|least| {
            let numbers = (0..standings.len()).filter(|&number| standings[number] >= least);
            numbers.map(BackendNo::new).collect()
        });
        Outage { standings, taking, holding }
    }

    /// Whether a backend takes new flows.
    pub fn takes(&self, backend: BackendNo) -> bool {
        self.of(backend) == Standing::Takes
    }

    /// The backend of a slot: the one that the table names, or its stand-in. [`BackendNo::NONE`] if no backend takes
    /// new flows.
    pub fn now(&self, table: &[BackendNo], slot: usize) -> BackendNo {
        self.first(table, slot, Standing::Takes)
    }

    /// The backend that gets a slot's unknown flows: the one that has the slot now, or the one that had it until it seemed
    /// dead.
    fn holder(&self, table: &[BackendNo], slot: usize) -> BackendNo {
        self.first(table, slot, Standing::Holds)
    }

    /// The backend that the unknown flows of a slot belong to. `had` had the slot before the table was built. One that is
    /// away has them back later.
    pub fn owner(&self, had: BackendNo, table: &[BackendNo], slot: usize) -> BackendNo {
        if self.of(had) != Standing::Out {
            return had;
        }
        let is_away = |named: &&BackendNo| self.of(**named) == Standing::Away;
        table.get(slot).filter(is_away).copied().unwrap_or_else(|| self.holder(table, slot))
    }

    /// The backend that gets the old flows of a slot, if another one gets the new flows. `had` had the slot before the
    /// table was built. `NONE` if there is none.
    pub fn before(&self, had: BackendNo, table: &[BackendNo], slot: usize) -> BackendNo {
        let owner = self.owner(had, table, slot);
        match self.of(owner) {
            Standing::Out | Standing::Away => BackendNo::NONE,
            Standing::Serves | Standing::Holds => owner,
            Standing::Takes => {
                if owner == had {
                    owner
                } else {
                    BackendNo::NONE
                }
            }
        }
    }

    /// Whether a slot's unknown flows belong to a backend that is away.
    pub fn is_awaited(&self, had: BackendNo, table: &[BackendNo], slot: usize) -> bool {
        self.of(self.owner(had, table, slot)) == Standing::Away
    }

    fn of(&self, backend: BackendNo) -> Standing {
        self.standings.get(backend.index()).copied().unwrap_or(Standing::Out)
    }

    /// The first backend that holds or takes: the one that the table names, or a stand-in.
    #[inline]
    fn first(&self, table: &[BackendNo], slot: usize, least: Standing) -> BackendNo {
        let Some(&named) = table.get(slot) else { return BackendNo::NONE };
        if self.of(named) >= least { named } else { self.stand_in(table, slot, least) }
    }

    /// The stand-in for a slot. The backends of other slots are asked first, so that they share a failed backend's
    /// flows by their weights. If few backends are left, it is the next one from one that depends on the slot. All this
    /// takes a few steps, however many backends there are.
    #[cold]
    fn stand_in(&self, table: &[BackendNo], slot: usize, least: Standing) -> BackendNo {
        // A fixed odd step, about M / φ, so that the slots are spread over the table, whatever its size.
        let step = (table.len() * 5 / 8) | 1;
        let others = (1..=SLOTS_ASKED).map(|i| table[(slot + i * step) % table.len()]);
        if let Some(owner) = others.into_iter().find(|&owner| self.of(owner) >= least) {
            return owner;
        }
        let Some(from) = slot.checked_rem(self.standings.len()) else { return BackendNo::NONE };
        let all = if least == Standing::Takes { &self.taking } else { &self.holding };
        let next = all.partition_point(|backend| backend.index() < from);
        all.get(next).or(all.first()).copied().unwrap_or(BackendNo::NONE)
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
        Outage::new((0..of).map(|number| if failed.contains(&number) { Standing::Out } else { Standing::Takes }))
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
        let outage = Outage::new([Standing::Out, Standing::Serves, Standing::Takes].into_iter());
        let [first, second, third] = [0, 1, 2].map(BackendNo::new);
        let all = [first, second, third, BackendNo::NONE];
        let expected = [BackendNo::NONE, second, third, BackendNo::NONE];
        assert_eq!(all.map(|backend| outage.before(backend, &[third], 0)), expected);
        assert_eq!(all.map(|backend| outage.takes(backend)), [false, false, true, false]);
    }

    #[test]
    fn a_slot_is_held_by_the_last_backend_that_took_new_flows() {
        use Standing::{Holds, Out, Takes};
        let table = table(&[1; 3]);
        let none = BackendNo::NONE;
        for slot in 0..SIZE {
            let named = table[slot].index();
            let with = |change: &[(usize, Standing)]| {
                let standing =
                    |number| change.iter().find(|(of, _)| *of == number).map_or(Takes, |(_, standing)| *standing);
                Outage::new((0..3).map(standing))
            };
            let dead = with(&[(named, Out)]);
            let second = dead.now(&table, slot);
            assert_eq!((dead.before(none, &table, slot), dead.holder(&table, slot)), (none, second));
            let third = BackendNo::new(3 - named - second.index());
            // The stand-in seems dead, and then another one stands in for it, but its flows stay.
            let both = with(&[(named, Out), (second.index(), Holds)]);
            assert_eq!((both.before(none, &table, slot), both.now(&table, slot)), (second, third));
            assert_eq!(both.before(third, &table, slot), third, "what had the slot before comes first");
            let one = with(&[(named, Holds)]);
            assert_eq!((one.before(none, &table, slot), one.now(&table, slot)), (table[slot], second));
        }
    }

    proptest! {
        /// The last ones stand in as if they were asked one by one.
        #[test]
        fn the_next_backend_stands_in(takes in prop::collection::vec(prop::bool::weighted(0.02), 1..300)) {
            let outage = Outage::new(takes.iter().map(|&takes| if takes { Standing::Takes } else { Standing::Out }));
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
