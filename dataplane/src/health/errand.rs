//! Errands: probes that send no frame, because others look after them. A script is run by the [runner](crate::commands); what it
//! says comes back here.

use std::cmp::Reverse;
use std::time::{Duration, Instant};

use crate::base::frame::Frame;
use crate::commands::order::{Ended, How, Order};
use crate::control::model::health::Ask;
use crate::health::engine::{Engine, Timer};
use crate::health::finding::{Failure, Finding, Trouble};
use crate::health::probe::Progress;

/// The lower bits of an errand's number are the probe's local port.
const PORT_BITS: u32 = 16;

impl Engine {
    /// Gives out a probe that has just begun, if it is an errand.
    pub(super) fn give_out(&mut self, number: usize, local: u16) {
        let Some((item, running)) = self.items[number].as_ref().zip(self.probes.get_mut(&local)) else { return };
        let Ask::Script(command) = &item.check.ask else { return };
        self.errands += 1;
        let id = self.errands << PORT_BITS | u64::from(local);
        running.probe.give_out(id);
        let service = item.service;
        let environment = [
            ("SHUNT_SERVICE", service.to_string()),
            ("SHUNT_VIP", service.vip.to_string()),
            ("SHUNT_PORT", service.port.to_string()),
            ("SHUNT_PROTOCOL", service.protocol.to_string()),
            ("SHUNT_BACKEND", item.backend.to_string()),
        ];
        self.orders.push(Order {
            id,
            command: (**command).clone(),
            environment: environment.map(|(name, value)| (name.into(), value)).into(),
            input: None,
            limit_ms: u64::try_from(item.check.timeout.as_millis()).unwrap_or(u64::MAX),
            beside: false,
        });
    }

    /// The commands that are to be run since the last call.
    pub fn take_orders(&mut self) -> Vec<Order> {
        std::mem::take(&mut self.orders)
    }

    /// Takes what has become of a command. Returns the frames to send.
    pub fn hear_of(&mut self, ended: &Ended, now: Instant) -> Vec<Frame> {
        let mut frames = Vec::new();
        let local = u16::try_from(ended.id & ((1 << PORT_BITS) - 1)).unwrap_or_default();
        // Others may have the port by now.
        let Some(running) = self.probes.get(&local).filter(|running| running.probe.is_errand_of(ended.id)) else {
            return frames;
        };
        let (number, serial) = (running.item, running.serial);
        let Some(item) = self.items[number].as_ref() else { return frames };
        let finding = finding(&ended.how, item.check.timeout);
        let void = finding.is_none();
        self.go_on(local, Progress { finding, void, over: true, ..Progress::default() }, &mut frames, now);
        // The next one has waited for this one.
        if self.items[number].as_ref().is_some_and(|item| item.serial == serial && item.due <= now) {
            self.timers.push(Reverse((now, Timer::Begin { item: number, serial })));
        }
        frames
    }
}

/// What a script has found. `None`: nothing, because it was not run.
fn finding(how: &How, limit: Duration) -> Option<Finding> {
    let words = how.words(limit);
    match how {
        How::NotBegun { .. } => None,
        How::Overran => Some(Err(Failure::new(Trouble::Slow, words))),
        _ if how.is_good() => Some(Ok(words)),
        _ => Some(Err(Failure::new(Trouble::Wrong, words))),
    }
}
