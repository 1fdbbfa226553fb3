//! Witnesses: whether a backend that does not answer is down, or the director is cut off from the network.
//!
//! A witness is another backend of the same group that was heard after the silent one should have answered. So when a
//! backend does not answer, some others of its group are probed at once.

use std::collections::{BTreeSet, HashSet};
use std::net::IpAddr;
use std::time::Instant;

use ctl::answer::NeighborState;
use hashbrown::HashMap;

use crate::base::ids::NetworkNo;
use crate::slow::neighbor::nud::{Neighbor, RETRANSMIT};
use crate::slow::neighbor::table::Neighbors;

/// How many others of a group are probed each time that a backend does not answer.
const WITNESSES: usize = 3;

/// The neighbors that are each other's witnesses: those of one network and one address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Group {
    network: NetworkNo,
    v4: bool,
}

impl Group {
    /// The group of a neighbor. A neighbor with a pinned MAC address is never probed, and has none.
    pub(super) fn of(address: IpAddr, neighbor: &Neighbor) -> Option<Group> {
        let probed = neighbor.state != NeighborState::Permanent;
        probed.then_some(Group { network: neighbor.network, v4: address.is_ipv4() })
    }
}

impl Neighbors {
    /// The backends that are down: they were given up, and others of their group answer.
    pub fn down(&self) -> HashSet<IpAddr> {
        self.failed(true).collect()
    }

    /// The backends that were given up without a witness. Looks through the table only if there may be some.
    pub(super) fn failed_without_witness(&mut self) -> Vec<IpAddr> {
        if !self.undecided {
            return Vec::new();
        }
        let found: Vec<IpAddr> = self.failed(false).collect();
        self.undecided = !found.is_empty();
        found
    }

    /// Probes some backends that were reachable, in each group that has a silent backend without a witness. `silent`
    /// has the silent backends' groups, and the time of the first probe that each has not answered.
    pub(super) fn probe_witnesses(&mut self, silent: &[(Group, Instant)], now: Instant) {
        if silent.is_empty() {
            return;
        }
        let last = self.last_confirmed();
        let unwitnessed = |&&(group, since): &&(Group, Instant)| !is_witnessed(since, last.get(&group).copied());
        let groups: BTreeSet<Group> = silent.iter().filter(unwitnessed).map(|(group, _)| *group).collect();
        for wanted in groups {
            let reachable = self.table.iter_mut().filter(|(address, neighbor)| {
                neighbor.state == NeighborState::Reachable && Group::of(**address, neighbor) == Some(wanted)
            });
            reachable.take(WITNESSES).for_each(|(_, neighbor)| neighbor.due = now);
        }
    }

    /// The backends that were given up, with or without a witness.
    fn failed(&self, witnessed: bool) -> impl Iterator<Item = IpAddr> {
        let last = self.last_confirmed();
        self.table.iter().filter(|(_, neighbor)| neighbor.state == NeighborState::Failed).filter_map(
            move |(&address, neighbor)| {
                let last = last.get(&Group::of(address, neighbor)?).copied();
                let has_witness = neighbor.silent_since.is_some_and(|since| is_witnessed(since, last));
                (has_witness == witnessed).then_some(address)
            },
        )
    }

    /// By group, when one of its neighbors was last confirmed.
    fn last_confirmed(&self) -> HashMap<Group, Instant> {
        let mut last = HashMap::new();
        for (&address, neighbor) in &self.table {
            if let (Some(group), Some(confirmed)) = (Group::of(address, neighbor), neighbor.confirmed) {
                let last = last.entry(group).or_insert(confirmed);
                *last = confirmed.max(*last);
            }
        }
        last
    }
}

/// Whether another neighbor was confirmed, at a time when a neighbor probed at `since` should have answered, too.
fn is_witnessed(since: Instant, last_confirmed: Option<Instant>) -> bool {
    last_confirmed.is_some_and(|confirmed| confirmed >= since + RETRANSMIT)
}
