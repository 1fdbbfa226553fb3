//! Witnesses: whether a backend that does not answer is down, or the director is cut off from the network.
//!
//! A witness is another backend of the same group that was heard after the silent one should have answered. So when a
//! backend does not answer, some others of its group are probed at once. `docs/design/014-what-counts-as-dead.md` says
//! why nothing else is a witness.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Instant;

use ctl::answer::NeighborState;
use hashbrown::HashMap;

use crate::base::ids::NetworkNo;
use crate::control::model::{Outlook, Reach};
use crate::slow::neighbor::nud::{Neighbor, RETRANSMIT};
use crate::slow::neighbor::table::{Neighbors, News};

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
    /// Finds out how the backends can be reached. Returns whether that has changed.
    pub fn judge(&mut self) -> bool {
        if std::mem::replace(&mut self.judged, true) {
            return false;
        }
        let last = self.last_confirmed();
        let port_of = |neighbor: &Neighbor| self.model.as_ref().map(|model| model.network(neighbor.network).port);
        let has_link = |neighbor: &Neighbor| {
            port_of(neighbor).and_then(|port| self.links.get(port.index())).is_none_or(|link| link.up)
        };
        let reach = |(&address, neighbor): (&IpAddr, &Neighbor)| {
            let reach = match neighbor.state {
                _ if !has_link(neighbor) => Reach::NoLink,
                NeighborState::Failed if neighbor.has_witness(address, &last) => Reach::Down,
                NeighborState::Failed => Reach::Silent,
                _ if neighbor.lost => Reach::Asked,
                _ => Reach::Answers,
            };
            (address, reach)
        };
        let outlook: Outlook = self.table.iter().map(reach).collect();
        let changed = self.outlook != outlook;
        self.outlook = outlook;
        changed
    }

    /// Takes note of backends that have just been given up.
    pub(super) fn note_given_up(&mut self, addresses: &[IpAddr]) {
        if addresses.is_empty() {
            return;
        }
        (self.undecided, self.judged) = (true, false);
        let last = self.last_confirmed();
        for &address in addresses {
            let Some(neighbor) = self.table.get(&address) else { continue };
            let (network, before) = (neighbor.network, neighbor.mac);
            let others_answer = neighbor.has_witness(address, &last);
            self.news.push(News { address, network, before, now: None, others_answer });
        }
    }

    /// The backends that were given up without a witness. Looks through the table only if there may be some.
    pub(super) fn failed_without_witness(&mut self) -> Vec<IpAddr> {
        if !self.undecided {
            return Vec::new();
        }
        let last = self.last_confirmed();
        let failed = self.table.iter().filter(|(_, neighbor)| neighbor.state == NeighborState::Failed);
        let unwitnessed = failed.filter(|(address, neighbor)| !neighbor.has_witness(**address, &last));
        let found: Vec<IpAddr> = unwitnessed.map(|(&address, _)| address).collect();
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

impl Neighbor {
    /// Whether another one of its group was confirmed after this one should have answered.
    fn has_witness(&self, address: IpAddr, last: &HashMap<Group, Instant>) -> bool {
        let last = Group::of(address, self).and_then(|group| last.get(&group).copied());
        self.silent_since.is_some_and(|since| is_witnessed(since, last))
    }
}

/// Whether another neighbor was confirmed, at a time when a neighbor probed at `since` should have answered, too.
fn is_witnessed(since: Instant, last_confirmed: Option<Instant>) -> bool {
    last_confirmed.is_some_and(|confirmed| confirmed >= since + RETRANSMIT)
}
