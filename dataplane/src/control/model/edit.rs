//! Edits of a service: what can change while it runs. No running flow moves by it. With another fallback, the old one is removed, and
//! with it the flows that it has left; while it serves, it stays.

use std::sync::Arc;

use ctl::request::{FallbackChange, ServiceEdit};

use crate::control::model::changes::Model;
use crate::control::model::checks::{checked_min_up, checked_passive, checked_slow_start};
use crate::control::model::error::ModelError;
use crate::control::model::health;
use crate::control::model::service::Service;
use crate::count::lease::Leases;

impl Model {
    /// Changes how a service's backends are checked, and what follows from it. If the request is wrong, returns all its errors at
    /// once, and leaves the model as it was.
    pub fn edit_service(&mut self, edit: &ServiceEdit, leases: &Arc<Leases>) -> Result<(), Vec<ModelError>> {
        if *edit == ServiceEdit::new(edit.service) {
            return Err(vec![ModelError::NothingToChangeOfService]);
        }
        let mut service = Service::clone(self.service(&edit.service).map_err(|error| vec![error])?);
        let mut errors = Vec::new();
        if let Some(scheduler) = edit.scheduler.filter(|&scheduler| scheduler != service.scheduler) {
            let by_flow = [service.scheduler, scheduler].map(|scheduler| scheduler.decides_by_flow());
            if by_flow == [true; 2] {
                service.scheduler = scheduler;
            } else {
                errors.push(ModelError::SchedulerStays { now: service.scheduler, wanted: scheduler });
            }
        }
        if let Some(specs) = &edit.checks {
            match health::list_checked(specs, &service.id) {
                Ok(checks) => service.checks = checks.into(),
                Err(wrong) => errors.extend(wrong),
            }
        }
        match edit.min_up.map(checked_min_up) {
            Some(Ok(min_up)) => service.min_up = min_up,
            Some(Err(error)) => errors.push(error),
            None => {}
        }
        match edit.passive.map(|wish| checked_passive(wish, service.id.protocol)) {
            Some(Ok(passive)) => service.passive = passive,
            Some(Err(error)) => errors.push(error),
            None => {}
        }
        let slow_start_s = edit.slow_start_s.or_else(|| u32::try_from(service.slow_start_ms / 1_000).ok());
        match checked_slow_start(slow_start_s, service.scheduler) {
            Ok(slow_start_ms) => service.slow_start_ms = slow_start_ms,
            Err(error) => errors.push(error),
        }
        service.on_all_down = edit.on_all_down.unwrap_or(service.on_all_down);
        service.start = edit.start.unwrap_or(service.start);
        let old = self.services[&service.id].backends.iter().find(|backend| backend.fallback);
        let old = old.map(|backend| backend.address);
        let new = match edit.fallback {
            Some(FallbackChange::Use(address)) => Some(address),
            Some(FallbackChange::None) => None,
            None => old,
        };
        let serving = service.serving_fallback().filter(|_| old != new).map(|fallback| fallback.address);
        if let Some(address) = serving {
            errors.push(ModelError::FallbackServes { service: service.id, address });
        } else if old != new {
            service.backends.retain(|backend| !backend.fallback);
            if let Some(address) = new {
                errors.extend(self.insert_fallback(&mut service, address, leases).err());
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        self.check_probes(Some(&service)).map_err(|error| vec![error])?;
        if old != new {
            old.into_iter().for_each(|address| self.backend_uses.count(address, false));
            new.into_iter().for_each(|address| self.backend_uses.count(address, true));
        }
        self.put(service);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use ctl::{OnAllDown, Scheduler, Start};

    use super::*;
    use crate::control::model::{Outlook, Reachability};
    use crate::select::schedule::Schedule;
    use crate::testing::model::{leases, model, service};

    #[test]
    fn an_edit_changes_what_it_names_and_moves_no_flow() {
        for (vip, backends) in [
            ("192.168.0.101:80", [("192.168.0.3", 1), ("192.168.0.4", 2)]),
            ("[fd00::101]:80", [("fd00::3", 1), ("fd00::4", 2)]),
        ] {
            let (mut model, wanted) = (model(), service(vip, &backends));
            model.add_service(&wanted, &leases()).unwrap();
            let id = wanted.service;
            let before = model.services[&id].clone();
            let edit = ServiceEdit {
                checks: Some(vec!["http path=/health".parse().unwrap(), "icmp".parse().unwrap()]),
                min_up: Some(50),
                start: Some(Start::Down),
                ..ServiceEdit::new(id)
            };
            model.edit_service(&edit, &leases()).unwrap();
            let after = &model.services[&id];
            assert_eq!((after.checks.len(), after.min_up, after.start), (2, 50, Start::Down));
            assert_eq!(after.on_all_down, before.on_all_down, "it was not named");
            assert!(Arc::ptr_eq(&after.table, &before.table) && after.handover.is_none());
            let same = |(a, b): (&crate::control::model::Backend, &crate::control::model::Backend)| {
                Arc::ptr_eq(&a.target, &b.target)
            };
            assert!(before.backends.iter().zip(&after.backends).all(same), "the counters go on");
        }
    }

    #[test]
    fn an_edit_that_is_wrong_changes_nothing_and_says_all_that_is_wrong() {
        let (mut model, wanted) = (model(), service("192.168.0.101:80", &[("192.168.0.3", 1)]));
        model.add_service(&wanted, &leases()).unwrap();
        let (id, before) = (wanted.service, model.services[&wanted.service].clone());
        let edit = ServiceEdit {
            scheduler: Some(Scheduler::Wlc),
            checks: Some(vec!["tcp fall=0".parse().unwrap()]),
            min_up: Some(101),
            on_all_down: Some(OnAllDown::All),
            ..ServiceEdit::new(id)
        };
        let errors = model.edit_service(&edit, &leases()).unwrap_err();
        let fields: Vec<String> = errors.iter().map(ModelError::field).collect();
        assert_eq!(fields, ["scheduler", "checks[0].fall", "min_up"]);
        assert!(errors[0].to_string().contains("remove the service"), "{errors:?}");
        let nothing = model.edit_service(&ServiceEdit::new(id), &leases()).unwrap_err();
        assert_eq!(nothing, [ModelError::NothingToChangeOfService]);
        let other = ServiceEdit { min_up: Some(1), ..ServiceEdit::new("192.168.0.9:80".parse().unwrap()) };
        assert!(matches!(model.edit_service(&other, &leases()).unwrap_err()[..], [ModelError::NoSuchService(_)]));
        assert!(Arc::ptr_eq(&model.services[&id], &before));
    }

    #[test]
    fn a_fallback_that_serves_stays_until_it_serves_no_more() {
        for (vip, backend, fallback, other) in [
            ("192.168.0.101:80", "192.168.0.3", "192.168.0.9", "192.168.0.8"),
            ("[fd00::101]:80", "fd00::3", "fd00::9", "fd00::8"),
        ] {
            let address = |text: &str| text.parse::<IpAddr>().unwrap();
            let (mut model, mut wanted) = (model(), service(vip, &[(backend, 1)]));
            wanted.fallback = Some(address(fallback));
            model.add_service(&wanted, &leases()).unwrap();
            let id = wanted.service;
            let renew = |model: &mut Model, down: &[IpAddr]| {
                let outlook = Outlook::with_down(down.iter().copied());
                model.renew_all(&Reachability { outlook: &outlook, resolved: &|_| true });
            };
            renew(&mut model, &[address(backend)]);
            let edit = |change| ServiceEdit { fallback: Some(change), ..ServiceEdit::new(id) };
            let changes = [FallbackChange::Use(address(other)), FallbackChange::None];
            for change in changes {
                let before = model.services[&id].clone();
                let errors = model.edit_service(&edit(change), &leases()).unwrap_err();
                assert_eq!(errors, [ModelError::FallbackServes { service: id, address: address(fallback) }]);
                assert!(errors[0].field() == "fallback" && errors[0].to_string().contains("backend drain"));
                assert!(Arc::ptr_eq(&before, &model.services[&id]));
            }
            model.edit_service(&edit(FallbackChange::Use(address(fallback))), &leases()).unwrap();
            // Drained, or not needed any more.
            for change in changes {
                let mut drained = model.clone();
                drained.drain_backend(&id, address(fallback), None).unwrap();
                drained.edit_service(&edit(change), &leases()).unwrap();
                assert!(drained.services[&id].number_of(address(fallback)).is_err());
                let mut back = model.clone();
                renew(&mut back, &[]);
                back.edit_service(&edit(change), &leases()).unwrap();
                assert!(back.services[&id].number_of(address(fallback)).is_err());
            }
        }
    }

    #[test]
    fn schedulers_that_decide_flow_by_flow_can_take_each_others_place() {
        let (mut model, mut wanted) = (model(), service("192.168.0.101:80", &[("192.168.0.3", 1), ("192.168.0.4", 1)]));
        wanted.scheduler = Scheduler::Rr;
        model.add_service(&wanted, &leases()).unwrap();
        let edit = ServiceEdit { scheduler: Some(Scheduler::Wlc), ..ServiceEdit::new(wanted.service) };
        model.edit_service(&edit, &leases()).unwrap();
        let service = &model.services[&wanted.service];
        assert!(service.scheduler == Scheduler::Wlc && matches!(service.schedule, Schedule::Fewest(_)));
    }

    #[test]
    fn what_becomes_of_packets_without_a_backend_can_change_when_there_is_none() {
        let (mut model, wanted) = (model(), service("192.168.0.101:80", &[("192.168.0.3", 1)]));
        model.add_service(&wanted, &leases()).unwrap();
        let outlook = Outlook::with_down(["192.168.0.3".parse::<IpAddr>().unwrap()]);
        model.renew_all(&Reachability { outlook: &outlook, resolved: &|_| true });
        let slots = |model: &Model| model.services[&wanted.service].backends[0].slots;
        assert_eq!(slots(&model), 0);
        let edit = |on_all_down| ServiceEdit { on_all_down: Some(on_all_down), ..ServiceEdit::new(wanted.service) };
        model.edit_service(&edit(OnAllDown::All), &leases()).unwrap();
        assert_eq!(slots(&model), 1_021);
        model.edit_service(&edit(OnAllDown::Drop), &leases()).unwrap();
        assert_eq!(slots(&model), 0);
    }
}
