//! A probe's side of a TLS session: carries bytes between its connection and the sessions' thread.
//!
//! A probe hands in one thing at a time, and takes nothing from its connection meanwhile: so a server that sends faster than its
//! session reads is slowed down by TCP, and the queues stay short.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ctl::Span;

use crate::control::model::health::Https;
use crate::health::finding::{Failure, Finding, Trouble};
use crate::health::stack::Connection;
use crate::health::tls::desk::{Counter, Desk, Job, Key, Phase, Said};

/// A session that has not answered for so long is late by the director's fault.
const LATE: Duration = Duration::from_millis(50);

/// A probe's side of a session.
pub(crate) struct TlsTalk {
    counter: Counter,
    check: Arc<Https>,
    target: (IpAddr, u16),
    timeout: Duration,
    begun: bool,
    /// Since when the session has not answered.
    waiting: Option<Instant>,
    /// What is to be sent, still.
    out: Vec<u8>,
    phase: Phase,
    /// Whether the session knows that nothing follows.
    ended: bool,
    finding: Option<Finding>,
    /// Whether the session is over, as it has said.
    over: bool,
    void: bool,
}

impl TlsTalk {
    pub(crate) fn new(
        desk: &mut Desk,
        local: u16,
        check: &Arc<Https>,
        target: (IpAddr, u16),
        timeout: Duration,
    ) -> TlsTalk {
        TlsTalk {
            counter: desk.counter(local),
            check: check.clone(),
            target,
            timeout,
            begun: false,
            waiting: None,
            out: Vec::new(),
            phase: Phase::Silent,
            ended: false,
            finding: None,
            over: false,
            void: false,
        }
    }

    /// Whether it is the probe of this session.
    pub(crate) fn is(&self, key: Key) -> bool {
        self.counter.key == key
    }

    /// Whether there was no room for what it had to hand in: it finds nothing.
    pub(crate) fn is_void(&self) -> bool {
        self.void
    }

    /// Takes what its session has said.
    pub(crate) fn take(&mut self, said: Said) {
        self.waiting = None;
        self.phase = said.phase;
        self.out.extend(said.send);
        self.over |= said.finding.is_some();
        self.finding = said.finding;
    }

    /// Carries what there is to carry. Returns what the session has found.
    pub(crate) fn go_on(&mut self, connection: &mut Connection, now: Instant) -> Option<Finding> {
        let key = self.counter.key;
        if !self.begun {
            self.begun = true;
            let (check, target, timeout) = (self.check.clone(), self.target, self.timeout);
            self.hand_in(Job::Begin { key, check, target, timeout }, now);
            return None;
        }
        let sent = connection.send(&self.out);
        self.out.drain(..sent);
        if self.finding.is_none() && self.waiting.is_none() && !self.ended {
            let (data, end) = (connection.receive(), connection.has_ended());
            if end || !data.is_empty() {
                self.ended = end;
                self.hand_in(Job::Hear { key, data, end }, now);
            }
        }
        self.finding.take()
    }

    fn hand_in(&mut self, job: Job, now: Instant) {
        self.waiting = Some(now);
        self.void |= !self.counter.hand_in(job);
    }

    /// What it means that nothing more has come for so long. `None`: nothing, since the session is late.
    pub(crate) fn silence(&self, waited: Span, now: Instant) -> Option<Failure> {
        if self.waiting.is_some_and(|since| now.saturating_duration_since(since) >= LATE) {
            return None;
        }
        Some(match self.phase {
            Phase::Silent => Failure::new(Trouble::Hung, format!("connected, and no answer in {waited}")),
            Phase::Handshake => {
                Failure::new(Trouble::Hung, format!("connected, and the TLS handshake did not end in {waited}"))
            }
            Phase::Asked => Failure::new(Trouble::Hung, format!("connected by TLS, and no answer in {waited}")),
            Phase::Answer => Failure::new(Trouble::Slow, format!("the answer has begun, and did not end in {waited}")),
        })
    }
}

impl Drop for TlsTalk {
    /// Its session is over, too.
    fn drop(&mut self) {
        if self.begun && !self.over {
            // Without room for this, the session ends a little later by itself.
            self.counter.hand_in(Job::Forget(self.counter.key));
        }
    }
}
