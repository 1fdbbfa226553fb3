//! What follows from what the network says: who is down, who is back, whose time is over.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;

use ctl::ServiceId;

use crate::control::model::backend::{Duty, Reachability};
use crate::control::model::changes::Model;
use crate::control::model::service::{FEW_ADDRESSES, Service, schedule};
use crate::select::schedule::Schedule;
use crate::state::outage::Outage;

impl Model {
    /// Has nothing go to those of a service's backends that have failed, from now on: a matter of microseconds. The table
    /// stays, and others stand in; the service needs to be [renewed](Self::renew). Who is up again is left to that, too, unless
    /// there is nobody else.
    pub fn mark_down(&mut self, id: &ServiceId, down: &HashSet<IpAddr>) {
        let concerned =
            |service: &&Arc<Service>| service.fails(down) || service.is_deserted() && service.recovers(down);
        let Some(old) = self.services.get(id).filter(concerned) else { return };
        let mut service = Service::clone(old);
        for backend in &mut service.backends {
            backend.down |= backend.is_among(down);
        }
        if service.is_deserted() {
            for backend in &mut service.backends {
                backend.down = backend.is_among(down);
            }
        }
        // Where all serve because all are down, that is not for others to stand in.
        if old.forced || service.is_forced() {
            return;
        }
        let candidates = service.candidates();
        if let Schedule::Fewest { .. } = service.schedule {
            service.schedule = schedule(service.scheduler, &candidates);
        }
        let standing = service.backends.iter().zip(&candidates);
        let standing = standing.map(|(backend, candidate)| (service.serves(backend), candidate.weight > 0));
        service.outage = Some(Arc::new(Outage::new(standing)));
        self.services.insert(*id, Arc::new(service));
    }

    /// Has a service be as the network says: who is down and who is up, who takes part because its MAC address is known; and
    /// ends the hand-overs and drains whose deadlines have passed.
    pub fn renew(&mut self, id: &ServiceId, network: &Reachability<'_>) {
        let Some(old) = self.services.get(id).filter(|service| service.is_behind(network, self.now_ms)) else { return };
        let mut service = Service::clone(old);
        for backend in &mut service.backends {
            backend.down = backend.is_among(network.down);
            backend.joined |= (network.resolved)(backend.address);
            if matches!(backend.duty, Duty::Drain { until_ms: Some(until) } if until <= self.now_ms) {
                backend.duty = Duty::Drained;
            }
        }
        self.put(service);
    }

    /// All services as the network says.
    pub fn renew_all(&mut self, network: &Reachability<'_>) {
        for id in self.services.keys().copied().collect::<Vec<_>>() {
            self.renew(&id, network);
        }
    }

    /// The services of which a hand-over or a drain's deadline has passed.
    pub fn due(&self, now_ms: u64) -> impl Iterator<Item = &ServiceId> {
        let due = move |service: &Service| service.deadline.is_some_and(|deadline| deadline <= now_ms);
        self.services.iter().filter(move |(_, service)| due(service)).map(|(id, _)| id)
    }

    /// The services that have one of these backends.
    pub fn with_backends(&self, addresses: &HashSet<IpAddr>) -> impl Iterator<Item = &ServiceId> {
        let has = |service: &Service| addresses.iter().any(|&address| service.number_of(address).is_ok());
        let have = move |(_, service): &(&ServiceId, &Arc<Service>)| {
            if addresses.len() < FEW_ADDRESSES {
                has(service)
            } else {
                service.backends.iter().any(|backend| addresses.contains(&backend.address))
            }
        };
        self.services.iter().filter(have).map(|(id, _)| id)
    }
}
