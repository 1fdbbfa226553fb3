//! How the model follows the network and the time: backends that fail or come back, and deadlines that pass.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;

use ctl::ServiceId;

use crate::control::model::backend::Duty;
use crate::control::model::changes::Model;
use crate::control::model::contact::{Outlook, Reachability};
use crate::control::model::reach::FEW_ADDRESSES;
use crate::control::model::service::{Service, schedule};
use crate::state::outage::Outage;

impl Model {
    /// Takes a service's failed backends out of use. This takes microseconds: the table stays, and other backends stand
    /// in for the failed ones. The service must then be [renewed](Self::renew). A backend that is up again also waits
    /// for the renewal, unless no other backend of the service is up.
    pub fn take_note(&mut self, id: &ServiceId, outlook: &Outlook) {
        let Some(old) = self.services.get(id).filter(|service| service.is_concerned(outlook)) else { return };
        let contacts = old.contacts_at_once(outlook, self.now_ms);
        if old.backends.iter().map(|backend| backend.contact).eq(contacts.iter().copied()) {
            return;
        }
        let mut service = Service::clone(old);
        service.set_contacts(contacts);
        // If all backends serve because all are down, no backend can stand in.
        if old.forced || service.is_forced() {
            return;
        }
        if service.schedule.is_quick_to_make() {
            service.schedule = schedule(&service, &service.candidates());
        }
        let outage = Outage::new(service.backends.iter().map(|backend| service.standing(backend)));
        service.outage = Some(Arc::new(outage));
        self.services.insert(*id, Arc::new(service));
    }

    /// Brings a service up to date with the network: which backends can be reached, and which join because their MAC
    /// addresses are known. Ends the hand-overs and drains whose deadlines have passed. Builds a new table if the
    /// backends that take new flows have changed.
    pub fn renew(&mut self, id: &ServiceId, network: &Reachability<'_>) {
        let Some(old) = self.services.get(id).filter(|service| service.is_behind(network, self.now_ms)) else { return };
        let mut service = Service::clone(old);
        for backend in &mut service.backends {
            backend.joined |= (network.resolved)(backend.address);
            if matches!(backend.duty, Duty::Drain { until_ms: Some(until) } if until <= self.now_ms) {
                backend.duty = Duty::Drained;
            }
        }
        service.set_contacts(service.contacts(network.outlook, self.now_ms));
        self.put(service);
    }

    /// [Renews](Self::renew) all services.
    pub fn renew_all(&mut self, network: &Reachability<'_>) {
        for id in self.services.keys().copied().collect::<Vec<_>>() {
            self.renew(&id, network);
        }
    }

    /// The services with a hand-over, a drain or a backend out of reach whose deadline has passed.
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
