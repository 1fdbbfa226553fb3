//! What follows from the probes: which backends are down, which are held out because they go down too often, and whether the checks
//! of a service are believed.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, UNIX_EPOCH};

use ctl::answer::CheckResult;
use ctl::{ServiceId, Start};

use crate::control::model::{Backend, Contact, Verdicts};
use crate::health::engine::{Engine, Item, Watched};
use crate::health::finding::Finding;
use crate::health::news::{News, Seen};

/// The last second of the year 9999.
const LAST_SECOND: u64 = 253_402_300_799;

impl Engine {
    /// Takes what a probe has found.
    pub(super) fn found(&mut self, number: usize, serial: u64, finding: Finding, began: Instant, now: Instant) {
        let Some(item) = self.items[number].as_mut().filter(|item| item.serial == serial) else { return };
        let Item { pulse, check, service, backend, .. } = item;
        let Some(up) = pulse.take(finding, check, began, now) else { return };
        let (service, backend) = (*service, *backend);
        let why =
            pulse.failure().map(|(failure, times)| format!("{}: {failure}, {times} times in a row", check.spec.kind));
        if let Some(why) = why.filter(|_| !up) {
            self.news.push(News::Down { service, backend, why });
            self.services.get_mut(&service).into_iter().for_each(|watched| _ = watched.told.insert(backend));
            self.damp(&service, backend, now);
        }
        self.judge(&service, now);
    }

    /// Notes that a check says that a backend is down. If it goes down too often, it is held out.
    fn damp(&mut self, service: &ServiceId, backend: IpAddr, now: Instant) {
        let Some(watched) = self.services.get_mut(service) else { return };
        if watched.checks_that_fail(backend, &self.items) != 1 {
            // It was down already, by another check.
            return;
        }
        let damping = watched.dampings.entry(backend).or_default();
        let Some(time) = damping.take_down(now) else { return };
        let downs = damping.downs();
        let end = now + time;
        self.release = Some(self.release.map_or(end, |release| release.min(end)));
        self.news.push(News::Held { service: *service, backend, time, downs });
    }

    /// Lets the backends in whose time is over, if their checks are good.
    pub(super) fn release(&mut self, now: Instant) {
        if self.release.is_none_or(|release| release > now) {
            return;
        }
        self.release = None;
        let mut over = Vec::new();
        for (id, watched) in &mut self.services {
            for (&backend, damping) in &mut watched.dampings {
                if damping.ends(now) {
                    over.push((*id, backend));
                } else if let Some(left) = damping.left(now) {
                    let end = now + left;
                    self.release = Some(self.release.map_or(end, |release| release.min(end)));
                }
            }
        }
        for (service, backend) in over {
            self.released(service, backend);
            self.judge(&service, now);
        }
    }

    /// A backend is held out no more.
    fn released(&mut self, service: ServiceId, backend: IpAddr) {
        let Some(watched) = self.services.get_mut(&service) else { return };
        let up = !watched.is_down(backend, &self.items);
        if up {
            watched.told.remove(&backend);
        }
        self.news.push(News::Released { service, backend, up });
    }

    /// Nobody is held out of a service that has no check any more which could say that it goes down.
    pub(super) fn let_all_in(&mut self, id: &ServiceId, now: Instant) {
        let Some(watched) = self.services.get_mut(id) else { return };
        for (backend, damping) in std::mem::take(&mut watched.dampings) {
            if damping.left(now).is_some() {
                self.released(*id, backend);
            }
        }
    }

    /// Forgets how often a backend went down, because an operator enables it.
    pub fn forgive(&mut self, service: &ServiceId, backend: IpAddr, now: Instant) {
        let Some(watched) = self.services.get_mut(service) else { return };
        let Some(damping) = watched.dampings.remove(&backend) else { return };
        if damping.left(now).is_some() {
            self.released(*service, backend);
        }
        self.judge(service, now);
    }

    /// Says which backends of a service are down.
    pub(super) fn judge(&mut self, id: &ServiceId, now: Instant) {
        let Some(watched) = self.services.get_mut(id) else { return };
        let service = watched.service.clone();
        let backend =
            |address: &IpAddr| service.number_of(*address).ok().map(|number| &service.backends[number.index()]);
        let counts = |address: &IpAddr| backend(address).is_some_and(Backend::is_counted);
        let those = |is_down: fn(&Watched, IpAddr, &[Option<Item>]) -> bool| -> HashSet<IpAddr> {
            let all = watched.backends.keys().copied();
            all.filter(|address| is_down(watched, *address, &self.items)).collect()
        };
        let (failed, mut down) = (those(Watched::has_failed), those(Watched::is_down));
        let all = watched.backends.keys().filter(|address| counts(address)).count();
        let enough = |up: usize| up * 100 >= all * usize::from(service.min_up);
        // One that was not asked yet is no evidence against the checks.
        let up = all - failed.iter().filter(|address| counts(address)).count();
        let believed = enough(up);
        if std::mem::replace(&mut watched.believed, believed) != believed {
            let service = *id;
            self.news.push(match believed {
                true => News::Believed { service },
                false => News::NotBelieved { service, up: (up, all) },
            });
        }
        // Those that are held out although their checks are good.
        let held = watched.dampings.iter().filter(|(address, damping)| {
            damping.left(now).is_some() && watched.backends.contains_key(*address) && !down.contains(*address)
        });
        let held: Vec<IpAddr> = held.map(|(&address, _)| address).collect();
        // Others may have a backend out for another reason: then it does not stand in.
        let is_out = |address: &IpAddr| {
            !self.verdicts.is_down(id, *address)
                && backend(address).is_some_and(|backend| matches!(backend.contact, Contact::Down | Contact::Lapsed))
        };
        let stands_in = |address: &&IpAddr| {
            counts(address) && !down.contains(*address) && !held.contains(*address) && !is_out(address)
        };
        let left = watched.backends.keys().filter(stands_in).count();
        if !held.iter().any(counts) || believed && left > 0 && enough(left) {
            down.extend(held);
        } else {
            // Too few are left without them: they serve from now on, and are not taken out again when others return.
            for backend in held {
                watched.dampings.entry(backend).or_default().end();
                watched.told.remove(&backend);
                self.news.push(News::Released { service: *id, backend, up: true });
            }
        }
        for backend in watched.told.extract_if(|backend| !down.contains(backend)) {
            self.news.push(News::Up { service: *id, backend });
        }
        self.changed |= self.verdicts.set(*id, if believed { down } else { HashSet::new() });
    }

    /// Which backends are down, if that has changed since the last call.
    pub fn take_verdicts(&mut self) -> Option<Arc<Verdicts>> {
        std::mem::take(&mut self.changed).then(|| Arc::new(self.verdicts.clone()))
    }

    /// What has happened since the last call.
    pub fn take_news(&mut self) -> Vec<News> {
        std::mem::take(&mut self.news)
    }

    /// The faults that are seen or mended since the last call.
    pub fn take_sightings(&mut self) -> Vec<Seen> {
        self.sightings.append(&mut self.sizes.seen);
        std::mem::take(&mut self.sightings)
    }

    /// What the checks of a backend have found, in the order of the checks.
    pub fn results(&self, service: &ServiceId, backend: IpAddr, now: Instant) -> Vec<CheckResult> {
        let items = self.services.get(service).and_then(|watched| watched.backends.get(&backend));
        let items = items.into_iter().flatten().filter_map(|&number| self.items[number].as_ref());
        items.map(|item| item.result(now)).collect()
    }

    /// Whether the checks of a service are believed.
    pub fn believes(&self, service: &ServiceId) -> bool {
        self.services.get(service).is_none_or(|watched| watched.believed)
    }

    /// For how long a backend is still held out, in s, if it is.
    pub fn held_for_s(&self, service: &ServiceId, backend: IpAddr, now: Instant) -> Option<u64> {
        let damping = self.services.get(service)?.dampings.get(&backend)?;
        let left = damping.left(now).filter(|_| self.verdicts.is_down(service, backend))?;
        Some(u64::try_from(left.as_millis()).unwrap_or(u64::MAX).div_ceil(1_000))
    }
}

impl Item {
    /// What it has found.
    fn result(&self, now: Instant) -> CheckResult {
        let until = self.certificate_until.and_then(|seconds| u64::try_from(seconds).ok());
        let date = |seconds| humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(seconds)).to_string();
        // No later time can be written.
        let until = until.filter(|seconds| *seconds <= LAST_SECOND).map(date);
        CheckResult { certificate_until: until, ..self.pulse.result(&self.check, now) }
    }
}

impl Watched {
    /// Whether some check has found a backend down.
    fn has_failed(&self, backend: IpAddr, items: &[Option<Item>]) -> bool {
        let numbers = self.backends.get(&backend).into_iter().flatten();
        numbers.filter_map(|&number| items[number].as_ref()).any(|item| item.pulse.up == Some(false))
    }

    /// Whether some check says that a backend is down, or has not asked it yet, where it counts as down until then.
    fn is_down(&self, backend: IpAddr, items: &[Option<Item>]) -> bool {
        self.checks_that_fail(backend, items) > 0
    }

    /// How many checks say that a backend is down.
    fn checks_that_fail(&self, backend: IpAddr, items: &[Option<Item>]) -> usize {
        let unknown = self.service.start == Start::Up;
        let numbers = self.backends.get(&backend).into_iter().flatten();
        numbers.filter_map(|&number| items[number].as_ref()).filter(|item| !item.pulse.up.unwrap_or(unknown)).count()
    }
}
