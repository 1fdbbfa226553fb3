//! The faults that checks find: asks what tells them apart, and says when they are mended.

use std::cmp::Reverse;
use std::net::IpAddr;
use std::time::Instant;

use ctl::{CheckTo, ServiceId};

use crate::base::frame::Frame;
use crate::control::fault::FaultKind;
use crate::control::model::health::Check;
use crate::health::diagnosis::{self, Answers, PATIENCE, Question};
use crate::health::engine::{Engine, Item, Running, Timer, next_port};
use crate::health::finding::Trouble;
use crate::health::news::Seen;
use crate::health::probe::Probe;
use crate::health::tls::certificate::Report;
use crate::health::way::Way;

impl Engine {
    /// A check has found something: says which fault that is, or asks what says so, or says that the fault is mended.
    pub(super) fn diagnose(&mut self, number: usize, serial: u64, frames: &mut Vec<Frame>, now: Instant) {
        let Some(item) = self.items[number].as_mut().filter(|item| item.serial == serial) else { return };
        let Some((failure, _)) = item.pulse.failure() else {
            item.answers = Answers::default();
            let (fault, service, backend) = (item.fault.take(), item.service, item.backend);
            fault.into_iter().for_each(|kind| self.mended(kind, &service, backend));
            return;
        };
        if failure.trouble == Trouble::Silent {
            self.sightings.push(Seen::Silent(item.backend));
        }
        if !diagnosis::is_asked(&item.check, failure) {
            self.name_fault(number);
            return;
        }
        item.answers = Answers::default();
        let Some((way, port)) = item.way else { return };
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
            self.go_on(local, progress, frames, now);
        }
    }

    /// A question of the diagnosis is answered, or is not.
    pub(super) fn answered(&mut self, number: usize, serial: u64, question: Question, answered: bool) {
        let Some(item) = self.items[number].as_mut().filter(|item| item.serial == serial) else { return };
        item.answers.set(question, answered);
        if item.answers.are_complete() {
            self.name_fault(number);
        }
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

    fn name_fault(&mut self, number: usize) {
        let Some(Item { service, backend, check, pulse, answers, fault, .. }) = &mut self.items[number] else { return };
        let Some((failure, _)) = pulse.failure() else { return };
        let sighting = diagnosis::fault(service, *backend, check, failure, *answers);
        let kind = sighting.as_ref().map(|sighting| sighting.kind);
        let other = std::mem::replace(fault, kind).filter(|open| Some(*open) != kind);
        let (service, backend) = (*service, *backend);
        other.into_iter().for_each(|other| self.mended(other, &service, backend));
        self.sightings.extend(sighting.map(Seen::Fault));
    }
}
