//! Slow start: a backend that returns has a small share of the new flows at first, which grows to its whole one in steps, so that
//! what has just been started can warm up.
//!
//! While a backend rises, the weights of its service count 20-fold, so that those of 1 have steps, too. Shares depend on
//! the weights' ratios alone, so the table is the usual one before and after. Each step is a change like an operator's: slots
//! move, and their flows are handed over.

use std::sync::Arc;

use crate::control::model::backend::{Backend, Duty};
use crate::control::model::contact::Contact;
use crate::control::model::rise::{PARTS, Rise, STEPS};
use crate::control::model::service::Service;

impl Service {
    /// Sets how far its backends have come, `old` being the service before the change.
    pub(super) fn rise(&mut self, old: Option<&Arc<Service>>, now_ms: u64) {
        if self.slow_start_ms == 0 || old.is_none() {
            self.backends.iter_mut().for_each(|backend| backend.rise = None);
            return;
        }
        let rises: Vec<Option<Rise>> =
            self.backends.iter().map(|backend| self.next_rise(backend, old, now_ms)).collect();
        for (backend, rise) in self.backends.iter_mut().zip(rises) {
            backend.rise = rise;
        }
    }

    fn next_rise(&self, backend: &Backend, old: Option<&Arc<Service>>, now_ms: u64) -> Option<Rise> {
        if !self.takes(backend) {
            return None;
        }
        if let Some(Rise { since_ms, .. }) = backend.rise {
            return Rise::at(since_ms, now_ms, self.slow_start_ms);
        }
        let old = old?;
        // At the beginning of a service, all of its backends are new.
        let is_young = now_ms.saturating_sub(self.since_ms) < self.slow_start_ms;
        let returns = returns(backend, old) && !backend.fallback && !is_young && self.can_wait(old);
        if returns { Rise::at(now_ms, now_ms, self.slow_start_ms) } else { None }
    }

    /// Whether enough backends served before, so that one that returns has time. If fewer than half did, they need its help.
    fn can_wait(&self, old: &Service) -> bool {
        let served = |backend: &&Backend| before(backend, old).is_some_and(|before| old.takes(before));
        let all = self.backends.iter().filter(|backend| backend.is_counted());
        all.clone().filter(served).count() * 2 >= all.count()
    }

    /// When the next step is due, in ms.
    pub(super) fn next_steps(&self) -> impl Iterator<Item = u64> {
        let step = |rise: Rise| (self.slow_start_ms * u64::from(rise.step + 1)).div_ceil(u64::from(STEPS));
        self.backends.iter().filter_map(move |backend| backend.rise.map(|rise| rise.since_ms + step(rise)))
    }

    /// The weight by which a backend takes new flows.
    pub(super) fn weight_now(&self, backend: &Backend, some_rise: bool) -> u32 {
        let parts = backend.rise.map_or(PARTS, Rise::parts);
        if some_rise { backend.weight * parts } else { backend.weight }
    }
}

/// The backend as it was.
fn before<'s>(backend: &Backend, old: &'s Service) -> Option<&'s Backend> {
    let before = old.number_of(backend.address).ok().map(|number| &old.backends[number.index()]);
    before.filter(|before| Arc::ptr_eq(&before.target, &backend.target))
}

/// Whether a backend was out of service: down, drained or disabled.
fn returns(backend: &Backend, old: &Service) -> bool {
    before(backend, old).is_some_and(|before| {
        let was_out = matches!(before.contact, Contact::Down | Contact::Lapsed) || before.duty != Duty::Serve;
        was_out && before.joined && !old.takes(before)
    })
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use ctl::ServiceId;
    use ctl::request::ServiceAdd;

    use super::*;
    use crate::base::ids::BackendNo;
    use crate::control::model::{Model, Outlook, Reachability};
    use crate::testing::model::{leases, model, service};

    const FOURS: [&str; 4] = ["192.168.0.3", "192.168.0.4", "192.168.0.5", "192.168.0.6"];

    /// A service with backends of weight 1 whose slow start takes a minute. It is ten minutes old.
    fn rig(vip: &str, backends: &[&str], change: impl FnOnce(&mut ServiceAdd)) -> (Model, ServiceId) {
        let weighted: Vec<(&str, u32)> = backends.iter().map(|&backend| (backend, 1)).collect();
        let (mut model, mut wanted) = (model(), service(vip, &weighted));
        wanted.slow_start_s = Some(60);
        change(&mut wanted);
        model.add_service(&wanted, &leases()).unwrap();
        (model, wanted.service)
    }

    /// These backends are down, at this time.
    fn hear(model: &mut Model, down: &[&str], at_s: u64) {
        model.now_ms = at_s * 1_000;
        let outlook = Outlook::with_down(down.iter().map(|address| address.parse().unwrap()));
        let ids: Vec<ServiceId> = model.services.keys().copied().collect();
        ids.iter().for_each(|id| model.take_note(id, &outlook));
        model.renew_all(&Reachability { outlook: &outlook, resolved: &|_| true });
    }

    fn percents(model: &Model, id: &ServiceId) -> Vec<Option<u32>> {
        model.services[id].backends.iter().map(|backend| backend.rise.map(Rise::percent)).collect()
    }

    /// The share of the first backend, in percent.
    fn share(model: &Model, id: &ServiceId) -> f64 {
        (model.services[id].shares()[0] * 100.0).round()
    }

    #[test]
    fn a_backend_that_returns_has_its_share_in_steps_and_no_flow_breaks() {
        for (vip, backends) in
            [("192.168.0.101:80", ["192.168.0.3", "192.168.0.4"]), ("[fd00::101]:80", ["fd00::3", "fd00::4"])]
        {
            let (mut model, id) = rig(vip, &backends, |_| {});
            let table = model.services[&id].table.clone();
            hear(&mut model, &[backends[0]], 600);
            assert_eq!((share(&model, &id), percents(&model, &id)), (0.0, vec![None, None]));
            hear(&mut model, &[], 2_000);
            assert_eq!((share(&model, &id), percents(&model, &id)), (5.0, vec![Some(5), None]), "1 to 20");
            let mut shares = Vec::new();
            for second in 2_001..=2_060 {
                let old = model.services[&id].clone();
                let owners = &old.table;
                let is_due = model.due(second * 1_000).next().is_some();
                assert_eq!(is_due, (second - 2_000) % 6 == 0, "at {second} s");
                hear(&mut model, &[], second);
                let service = &model.services[&id];
                for (slot, (&was, &now)) in owners.iter().zip(service.table.iter()).enumerate() {
                    let [earlier, before] = [&*old, &**service].map(|service| {
                        service.handover.as_ref().map_or(BackendNo::NONE, |handover| handover.before(slot))
                    });
                    let kept = if earlier == BackendNo::NONE { was } else { earlier };
                    assert!(was == now || kept == now || before == kept, "slot {slot}: old flows stay");
                }
                if is_due {
                    shares.push(share(&model, &id));
                }
            }
            assert!(shares.is_sorted() && shares.len() == 10, "{shares:?}");
            assert_eq!((shares[3], shares[9], percents(&model, &id)), (31.0, 50.0, vec![None, None]));
            assert_eq!(model.services[&id].table, table, "in the end, all is as it was");
        }
    }

    #[test]
    fn so_it_is_after_a_drain_and_when_it_is_enabled_but_not_for_one_that_seems_dead_or_is_new() {
        let (mut model, id) = rig("192.168.0.101:80", &FOURS, |_| {});
        hear(&mut model, &[], 600);
        let address: IpAddr = FOURS[0].parse().unwrap();
        model.disable_backend(&id, address).unwrap();
        model.enable_backend(&id, address).unwrap();
        assert_eq!(percents(&model, &id)[0], Some(5));
        model.drain_backend(&id, address, None).unwrap();
        assert_eq!(percents(&model, &id)[0], None);
        model.now_ms += 30_000;
        model.enable_backend(&id, address).unwrap();
        assert_eq!(percents(&model, &id)[0], Some(5), "from the beginning");
        hear(&mut model, &[], 700);
        // An operator who changes a weight says what it is to be.
        let weigh = |weight| ctl::request::BackendEdit { service: id, address, weight: Some(weight), mac: None };
        model.edit_backend(&weigh(0)).unwrap();
        model.edit_backend(&weigh(1)).unwrap();
        model.add_backend(&id, &crate::testing::model::backend("192.168.0.9", 1), &leases()).unwrap();
        hear(&mut model, &[], 701);
        assert_eq!(percents(&model, &id), [None; 5]);
        // Its slow start ends with a slow start of 0.
        model.disable_backend(&id, address).unwrap();
        model.enable_backend(&id, address).unwrap();
        assert_eq!(percents(&model, &id)[0], Some(5));
        let edit = ctl::request::ServiceEdit { slow_start_s: Some(0), ..ctl::request::ServiceEdit::new(id) };
        model.edit_service(&edit, &leases()).unwrap();
        assert_eq!((percents(&model, &id)[0], share(&model, &id)), (None, 20.0));
    }

    #[test]
    fn there_is_none_at_the_start_and_none_when_too_few_serve() {
        let (mut model, id) = rig("192.168.0.101:80", &FOURS, |_| {});
        hear(&mut model, &FOURS[..1], 5);
        hear(&mut model, &[], 20);
        assert_eq!(percents(&model, &id), [None; 4], "the service is young");
        // All are down, and return one after the other.
        for (down, rises) in [(4, 0), (3, 0), (2, 0), (1, 1), (0, 2)] {
            hear(&mut model, &FOURS[4 - down..], 700);
            assert_eq!(percents(&model, &id).iter().flatten().count(), rises, "{down} are down");
        }
        assert!((0.45..0.48).contains(&model.services[&id].shares()[0]), "{:?}", model.services[&id].shares());
    }

    #[test]
    fn weights_of_all_sizes_have_their_steps_and_all_schedulers_that_know_weights() {
        for scheduler in
            ctl::Scheduler::ALL.iter().copied().filter(|each| !matches!(each, ctl::Scheduler::Rr | ctl::Scheduler::Lc))
        {
            for weight in [1, 3, ctl::MAX_WEIGHT] {
                let (mut model, id) = rig("192.168.0.101:80", &[], |wanted| {
                    wanted.scheduler = scheduler;
                    wanted.backends = FOURS[..2].iter().map(|a| crate::testing::model::backend(a, weight)).collect();
                });
                hear(&mut model, &FOURS[..1], 600);
                hear(&mut model, &[], 2_000);
                hear(&mut model, &[], 2_024);
                assert_eq!(percents(&model, &id)[0], Some(45));
                assert_eq!(share(&model, &id), 31.0, "{scheduler} {weight}");
            }
        }
    }
}
