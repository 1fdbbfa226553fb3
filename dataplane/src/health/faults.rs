//! The faults that checks find: asks what tells them apart, and says when they are mended.

use std::cmp::Reverse;
use std::net::IpAddr;
use std::time::Instant;

use ctl::{CheckTo, ServiceId};

use crate::base::frame::Frame;
use crate::control::fault::FaultKind;
use crate::control::model::health::Check;
use crate::health::diagnosis::{self, PATIENCE, Question};
use crate::health::engine::{Engine, Item, Running, Timer, next_port};
use crate::health::finding::{Finding, Trouble};
use crate::health::news::Seen;
use crate::health::probe::Probe;
use crate::health::tls::certificate::Report;
use crate::health::way::Way;

impl Engine {
    /// A check has found something: says which fault that is, or asks what says so, or says that the fault is mended.
    pub(super) fn diagnose(&mut self, number: usize, serial: u64, frames: &mut Vec<Frame>, now: Instant) {
        let Some(item) = self.items[number].as_mut().filter(|item| item.serial == serial) else { return };
        let Some((failure, times)) = item.pulse.failure() else {
            item.answers.forget();
            let (fault, service, backend) = (item.fault.take(), item.service, item.backend);
            fault.into_iter().for_each(|kind| self.mended(kind, &service, backend));
            return;
        };
        if failure.trouble == Trouble::Silent {
            self.sightings.push(Seen::Silent(item.backend));
        }
        if !diagnosis::is_asked(&item.check, failure) {
            item.answers.forget();
            self.name_fault(number);
            return;
        }
        let is_due = item.answers.are_due(failure.trouble, times, &item.check, now);
        let Some((way, port)) = item.way.filter(|_| is_due && self.questions.take(ms_since(self.begin, now))) else {
            self.name_fault(number);
            return;
        };
        item.answers.begin(failure.trouble, now);
        let (check, backend) = (item.check.clone(), item.backend);
        for question in Question::ALL {
            let way = if question.to() == CheckTo::Vip { way } else { Way { target: backend, ..way } };
            let Some(local) = next_port(&self.probes, &mut self.next_port) else { return };
            let check = Check { ask: question.ask(&check), timeout: PATIENCE, ..check.clone() };
            let Some((mut probe, progress)) = Probe::begin(&check, way, local, &mut self.stack, now) else { continue };
            let look = probe.due(&mut self.stack, now);
            let before = self.truth.before(0);
            self.timers.push(Reverse((look, Timer::Look { local, serial })));
            let running = Running { item: number, serial, probe, port, before, look, question: Some(question) };
            self.probes.insert(local, running);
            if let Some(item) = &mut self.items[number] {
                item.answers.await_one();
            }
            self.go_on(local, progress, frames, now);
        }
    }

    /// A question of the diagnosis is answered, or is not.
    pub(super) fn answered(&mut self, number: usize, serial: u64, question: Question, finding: &Finding) {
        let Some(item) = self.items[number].as_mut().filter(|item| item.serial == serial) else { return };
        item.answers.take(question, finding);
        self.name_fault(number);
    }

    /// Whether all questions have their answers.
    pub(super) fn has_asked_all(&self) -> bool {
        self.probes.values().all(|running| running.question.is_none())
    }

    /// A backend has shown its certificate: says what is wrong with it, or that the fault is mended.
    pub(super) fn certificate(&mut self, number: usize, serial: u64, report: Report) {
        let Some(item) = self.items[number].as_mut().filter(|item| item.serial == serial) else { return };
        item.certificate_until = report.until;
        let was = std::mem::replace(&mut item.certificate_fault, report.complaint.is_some());
        let (service, backend) = (item.service, item.backend);
        match report.complaint {
            Some(complaint) => {
                let sighting = diagnosis::certificate(&service, backend, &item.check, complaint);
                self.sightings.push(Seen::Fault(sighting));
            }
            None if was => self.mended(FaultKind::Certificate, &service, backend),
            None => {}
        }
    }

    /// A check does not find a fault any more, or is gone. The fault stays open if another check of the backend finds it.
    pub(super) fn mended(&mut self, kind: FaultKind, service: &ServiceId, backend: IpAddr) {
        let items = self.services.get(service).and_then(|watched| watched.backends.get(&backend));
        let mut items = items.into_iter().flatten().filter_map(|&number| self.items[number].as_ref());
        let finds = |item: &Item| item.fault == Some(kind) || kind == FaultKind::Certificate && item.certificate_fault;
        if !items.any(finds) {
            self.sightings.push(Seen::Mended(kind, diagnosis::subject(service, backend)));
        }
    }

    /// Says which fault it is, if all is known that tells.
    fn name_fault(&mut self, number: usize) {
        let Some(Item { service, backend, check, pulse, answers, fault, .. }) = &mut self.items[number] else { return };
        let Some((failure, _)) = pulse.failure() else { return };
        let asked = answers.known_of(failure.trouble);
        if diagnosis::is_asked(check, failure) && asked.is_none() {
            return;
        }
        let watched = self.services.get(service).map(|watched| &watched.service);
        let of_model = watched.and_then(|service| Some(&service.backends[service.number_of(*backend).ok()?.index()]));
        let pinned = of_model.is_some_and(|backend| backend.pinned.is_some());
        let sighting = diagnosis::fault(service, *backend, check, failure, *answers, pinned);
        let kind = sighting.as_ref().map(|sighting| sighting.kind);
        let mute_since = asked.filter(|_| !pinned && diagnosis::is_mute(check, failure, *answers));
        let other = std::mem::replace(fault, kind).filter(|open| Some(*open) != kind);
        let (service, backend) = (*service, *backend);
        other.into_iter().for_each(|other| self.mended(other, &service, backend));
        self.sightings.extend(sighting.map(|sighting| match mute_since {
            Some(since) => Seen::Mute { sighting, since },
            None => Seen::Fault(sighting),
        }));
    }
}

fn ms_since(begin: Instant, now: Instant) -> u64 {
    u64::try_from(now.saturating_duration_since(begin).as_millis()).unwrap_or(u64::MAX)
}
