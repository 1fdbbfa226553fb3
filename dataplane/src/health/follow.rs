//! Follows the model: which services have which backends and checks, and what becomes of what is known when that changes.

use std::cmp::Reverse;
use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ctl::ServiceId;
use hashbrown::HashMap;

use crate::base::truth::Voids;
use crate::control::compile::Compiled;
use crate::control::fault::FaultKind;
use crate::control::model::Service;
use crate::control::model::health::Check;
use crate::health::diagnosis::Answers;
use crate::health::engine::{Engine, Item, Timer, Watched};
use crate::health::pulse::Pulse;

/// Between the first probes of backends that are new at the same time, unless there are so many that they fill the interval.
const SPREAD: Duration = Duration::from_millis(2);

impl Engine {
    /// Takes a new model. Backends and checks that it has as before keep their pulses.
    pub fn sync(&mut self, current: &Compiled, now: Instant) {
        if self.generation.replace(current.generation) == Some(current.generation) {
            return;
        }
        self.sizes.sync(current, now);
        let gone: Vec<ServiceId> =
            self.services.keys().filter(|id| !current.model.services.contains_key(*id)).copied().collect();
        for id in gone {
            self.forget_service(&id);
        }
        let mut new = Vec::new();
        for (service, entry) in current.model.services.values().zip(&current.services) {
            match self.services.get_mut(&service.id) {
                Some(watched) if Arc::ptr_eq(&watched.service, service) => watched.first_target = entry.first_target,
                _ => self.follow(service, entry.first_target, &mut new, now),
            }
        }
        self.spread(&new, now);
    }

    fn forget_service(&mut self, id: &ServiceId) {
        let Some(watched) = self.services.remove(id) else { return };
        watched.backends.into_values().flatten().for_each(|item| self.forget(item));
        self.changed |= self.verdicts.set(*id, HashSet::new());
    }

    /// Forgets an item that its service has no more.
    fn forget(&mut self, number: usize) {
        let Some(item) = self.items[number].take() else { return };
        self.free.push(number);
        if let Some(local) = item.running {
            self.probes.remove(&local);
        }
        let certificate = item.certificate_fault.then_some(FaultKind::Certificate);
        item.fault.into_iter().chain(certificate).for_each(|kind| self.mended(kind, &item.service, item.backend));
    }

    /// Takes a service that is new or has changed.
    fn follow(&mut self, service: &Arc<Service>, first_target: usize, new: &mut Vec<usize>, now: Instant) {
        let mut old = self.services.remove(&service.id);
        let mut backends = HashMap::with_capacity(service.backends.len());
        let mut gone = Vec::new();
        for backend in &service.backends {
            let left = old.as_mut().and_then(|old| old.backends.remove(&backend.address));
            let up = left.as_ref().and_then(|items| self.inherited(items));
            let mut left = left.unwrap_or_default();
            let mut numbers = Vec::new();
            for check in service.checks.iter().filter(|check| check.probes()) {
                let number = match left.iter().position(|&number| self.goes_on(number, check)) {
                    Some(index) => left.swap_remove(index),
                    None => {
                        let number = self.add(service.id, backend.address, check.clone(), up, now);
                        new.push(number);
                        number
                    }
                };
                numbers.push(number);
            }
            gone.extend(left);
            backends.insert(backend.address, numbers);
        }
        let has = |address: &IpAddr| service.number_of(*address).is_ok();
        let mut watched = Watched {
            service: service.clone(),
            first_target,
            backends,
            believed: true,
            dampings: HashMap::new(),
            told: HashSet::new(),
        };
        if let Some(mut old) = old {
            gone.extend(old.backends.into_values().flatten());
            old.dampings.retain(|address, _| has(address));
            old.told.retain(has);
            watched = Watched { believed: old.believed, dampings: old.dampings, told: old.told, ..watched };
        }
        self.services.insert(service.id, watched);
        // Now, since a fault stays open that another check of the same backend has found, too.
        gone.into_iter().for_each(|gone| self.forget(gone));
        if !service.checks.iter().any(Check::probes) {
            self.let_all_in(&service.id, now);
        }
        self.judge(&service.id, now);
    }

    /// Whether an item goes on with this check: it is written as before. What it says may be other than it was: the CAs of a file.
    fn goes_on(&mut self, number: usize, check: &Check) -> bool {
        let Some(item) = self.items[number].as_mut().filter(|item| item.check.spec == check.spec) else { return false };
        item.check = check.clone();
        true
    }

    /// What new checks of a backend begin with, by those that it has had: it is up as it was. So nobody loses flows, and nobody gets
    /// any, because an operator has changed the question.
    fn inherited(&self, old: &[usize]) -> Option<bool> {
        let ups: Vec<Option<bool>> =
            old.iter().filter_map(|&number| self.items[number].as_ref()).map(|item| item.pulse.up).collect();
        match () {
            () if ups.contains(&Some(false)) => Some(false),
            // One that was asked nothing served, too.
            () if ups.iter().all(|up| *up == Some(true)) => Some(true),
            () => None,
        }
    }

    fn add(&mut self, service: ServiceId, backend: IpAddr, check: Check, up: Option<bool>, now: Instant) -> usize {
        self.serial += 1;
        let interval = check.interval;
        let item = Item {
            service,
            backend,
            check,
            pulse: Pulse::new(up),
            voids: Voids::default(),
            due: now + interval,
            running: None,
            serial: self.serial,
            way: None,
            answers: Answers::default(),
            fault: None,
            certificate_until: None,
            certificate_fault: false,
        };
        match self.free.pop() {
            Some(number) => {
                self.items[number] = Some(item);
                number
            }
            None => {
                self.items.push(Some(item));
                self.items.len() - 1
            }
        }
    }

    /// Has probes of these items begin one after the other, and none later than it was to.
    fn spread(&mut self, items: &[usize], now: Instant) {
        let count = u32::try_from(items.len()).unwrap_or(u32::MAX);
        for (index, &number) in (0u32..).zip(items) {
            let Some(item) = &mut self.items[number] else { continue };
            let all = (SPREAD * count).min(item.check.interval);
            item.due = item.due.min(now + all * index / count);
            self.timers.push(Reverse((item.due, Timer::Begin { item: number, serial: item.serial })));
        }
    }

    /// Has all probes begin soon, since an operator wants to know how it is now.
    pub fn ask_all(&mut self, now: Instant) {
        // However often somebody asks, an item has one timer.
        self.timers.retain(|Reverse((_, timer))| matches!(timer, Timer::Look { .. }));
        self.items.iter_mut().flatten().for_each(|item| item.answers.want());
        let all: Vec<usize> = (0..self.items.len()).filter(|&number| self.items[number].is_some()).collect();
        self.spread(&all, now);
    }
}
