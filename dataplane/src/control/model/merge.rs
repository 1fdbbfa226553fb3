//! Merges changes that were made at the same time, service by service.

use std::cmp::Ordering;
use std::net::IpAddr;
use std::sync::Arc;

use ctl::ServiceId;

use crate::control::model::changes::Model;
use crate::control::model::service::Service;

impl Model {
    /// The services that differ from those of another model: changed, added or removed ones.
    pub fn differences<'a>(&'a self, other: &'a Model) -> impl Iterator<Item = ServiceId> + 'a {
        let (mut these, mut others) = (self.services.iter().peekable(), other.services.iter().peekable());
        // Bound: each round takes a service of one model or of both.
        std::iter::from_fn(move || {
            // Bound: the same.
            loop {
                let order = match (these.peek(), others.peek()) {
                    (Some((this, _)), Some((other, _))) => this.cmp(other),
                    (Some(_), None) => Ordering::Less,
                    (None, Some(_)) => Ordering::Greater,
                    (None, None) => return None,
                };
                let (this, other) = match order {
                    Ordering::Less => (these.next(), None),
                    Ordering::Greater => (None, others.next()),
                    Ordering::Equal => (these.next(), others.next()),
                };
                match (this, other) {
                    (Some((_, this)), Some((_, other))) if Arc::ptr_eq(this, other) => {}
                    (this, other) => return this.or(other).map(|(id, _)| *id),
                }
            }
        })
    }

    /// Copies a service from another model. Removes it if the other model does not have it.
    pub fn take_service(&mut self, id: &ServiceId, from: &Model) {
        let new = from.services.get(id).cloned();
        let old = match new.clone() {
            Some(service) => self.services.insert(*id, service),
            None => self.services.remove(id),
        };
        let addresses = |service: &Option<Arc<Service>>| -> Vec<IpAddr> {
            service.iter().flat_map(|service| &service.backends).map(|backend| backend.address).collect()
        };
        let (new, old) = (addresses(&new), addresses(&old));
        if new != old {
            new.into_iter().for_each(|address| self.backend_uses.count(address, true));
            old.into_iter().for_each(|address| self.backend_uses.count(address, false));
        }
    }
}
