//! What share of a service's new flows each backend gets, as workers give them out now.

use std::borrow::Cow;

use crate::base::ids::BackendNo;
use crate::control::model::service::Service;
use crate::select::maglev;
use crate::select::schedule::Schedule;

impl Service {
    /// By backend, its share of new flows, 0 to 1.
    pub fn shares(&self) -> Vec<f64> {
        let parts = match &self.schedule {
            Schedule::Slot => self.slots_of_new_flows().iter().copied().map(u64::from).collect(),
            Schedule::Turns(turns) => self.of_takers(maglev::slot_counts(turns, self.backends.len())),
            // So it is where all connections last equally long.
            Schedule::Fewest(fewest) => self.of_takers(fewest.weights().to_vec()),
        };
        // Slots without a backend count, too: their flows are dropped.
        let all = match self.schedule {
            Schedule::Slot => self.table.len() as u64,
            Schedule::Turns(_) | Schedule::Fewest(_) => parts.iter().sum(),
        };
        parts.into_iter().map(|part| part as f64 / all.max(1) as f64).collect()
    }

    /// By backend, the slots whose new flows go there.
    fn slots_of_new_flows(&self) -> Cow<'_, [u32]> {
        let delayed = self.delay_ms() > 0;
        let handover = self.handover.as_deref().filter(|_| delayed);
        if handover.is_none() && self.outage.is_none() {
            return self.backends.iter().map(|backend| backend.slots).collect();
        }
        let before = |slot| match &self.outage {
            None => handover.map_or(BackendNo::NONE, |handover| handover.before(slot)),
            Some(outage) => {
                let had = handover.map_or(BackendNo::NONE, |handover| handover.had[slot]);
                outage.before(had, &self.table, slot)
            }
        };
        let owner = |slot| {
            let earlier = if delayed { before(slot) } else { BackendNo::NONE };
            if earlier != BackendNo::NONE {
                return earlier;
            }
            self.outage.as_ref().map_or(self.table[slot], |outage| outage.now(&self.table, slot))
        };
        let owners: Vec<BackendNo> = (0..self.table.len()).map(owner).collect();
        maglev::slot_counts(&owners, self.backends.len()).into()
    }

    /// Without the backends that have failed since the schedule was made. Their turns are skipped.
    fn of_takers(&self, parts: Vec<u32>) -> Vec<u64> {
        let takes = |number: usize| self.outage.as_ref().is_none_or(|outage| outage.takes(BackendNo::new(number)));
        parts.into_iter().enumerate().map(|(number, part)| if takes(number) { part.into() } else { 0 }).collect()
    }
}
