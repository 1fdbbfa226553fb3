//! Which backends the table has: those of the current model.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::IpAddr;
use std::time::Instant;

use ctl::answer::NeighborState;
use ctl::{Mac, ServiceId};

use crate::base::ids::NetworkNo;
use crate::control::compile::Compiled;
use crate::control::model::{Backend, Model};
use crate::slow::neighbor::nud::{Neighbor, UNICAST_PROBES};
use crate::slow::neighbor::table::Neighbors;

/// Up to this number of changed backends, each one is looked up in all services. With more, one pass over all services
/// is cheaper.
const MANY_CHANGED: usize = 100;

impl Neighbors {
    /// Takes the backends of a new model into the table, and removes those that it no longer has.
    pub fn sync(&mut self, current: &Compiled, now: Instant) {
        let model = &current.model;
        let changed = self.model.as_ref().map(|previous| changed_backends(previous, model));
        self.model = Some(model.clone());
        match changed.filter(|changed| changed.len() <= MANY_CHANGED) {
            Some(changed) => {
                for address in changed {
                    let services = model.services.values();
                    let uses = services
                        .filter_map(|service| Some(&service.backends[service.number_of(address).ok()?.index()]));
                    self.update(address, reached_by(uses), now);
                }
            }
            None => {
                let mut uses: BTreeMap<IpAddr, Vec<&Backend>> = BTreeMap::new();
                for backend in model.services.values().flat_map(|service| &service.backends) {
                    uses.entry(backend.address).or_default().push(backend);
                }
                for gone in
                    self.table.keys().filter(|address| !uses.contains_key(*address)).copied().collect::<Vec<_>>()
                {
                    self.update(gone, None, now);
                }
                for (address, uses) in uses {
                    self.update(address, reached_by(uses.into_iter()), now);
                }
            }
        }
        self.next_due = None;
    }

    /// Sets the network by which a backend is reached, and its pinned MAC address, if it has one. `None`: the address
    /// is no longer a backend's.
    fn update(&mut self, address: IpAddr, reached: Option<(NetworkNo, Option<Mac>)>, now: Instant) {
        let Some((network, pinned)) = reached else {
            if self.table.remove(&address).is_some() {
                self.changed.insert(address);
                self.judged = false;
            }
            return;
        };
        self.judged = false;
        match self.table.get_mut(&address) {
            Some(known)
                if (known.state == NeighborState::Permanent) == pinned.is_some() && known.network == network =>
            {
                let mac = pinned.or(known.mac);
                if known.mac != mac {
                    known.mac = mac;
                    self.changed.insert(address);
                }
            }
            // No longer pinned: its MAC address stays in use until a station answers with another one.
            Some(known) if known.state == NeighborState::Permanent && known.network == network => {
                known.state = NeighborState::Probe;
                known.probes = UNICAST_PROBES;
                known.due = now;
                self.changed.insert(address);
            }
            _ => {
                self.table.insert(address, Neighbor::new(network, pinned, now));
                self.changed.insert(address);
            }
        }
    }
}

/// The network and the pinned MAC address of a backend, from all services that have it. If only some of them pin the
/// MAC address, it must be resolved.
fn reached_by<'a>(mut uses: impl Iterator<Item = &'a Backend>) -> Option<(NetworkNo, Option<Mac>)> {
    let first = uses.next()?;
    let pinned = first.pinned.filter(|_| uses.all(|backend| backend.pinned.is_some()));
    Some((first.network, pinned))
}

/// The backends that a service has in one model only, or with another network or pinned MAC address in the other model.
fn changed_backends(old: &Model, new: &Model) -> BTreeSet<IpAddr> {
    let mut changed = BTreeSet::new();
    let reached = |model: &Model, id: &ServiceId| -> Vec<(IpAddr, NetworkNo, Option<Mac>)> {
        let backends = model.services.get(id).into_iter().flat_map(|service| &service.backends);
        backends.map(|backend| (backend.address, backend.network, backend.pinned)).collect()
    };
    for id in old.differences(new) {
        let (before, now) = (reached(old, &id), reached(new, &id));
        if before != now {
            let (before, now): (HashSet<_>, HashSet<_>) = (before.into_iter().collect(), now.into_iter().collect());
            changed.extend(before.symmetric_difference(&now).map(|(address, ..)| *address));
        }
    }
    changed
}
