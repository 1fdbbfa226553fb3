//! The engine: which probes there are, when each begins, and what it finds.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use ctl::ServiceId;
use hashbrown::HashMap;

use crate::base::frame::Frame;
use crate::base::ids::PortNo;
use crate::base::token_bucket::TokenBucket;
use crate::base::truth::{Before, Losses, Truth, Voids};
use crate::commands::order::Order;
use crate::control::compile::Compiled;
use crate::control::fault::FaultKind;
use crate::control::model::health::{Ask, Check};
use crate::control::model::{Service, Verdicts};
use crate::health::damping::Damping;
use crate::health::diagnosis::{Answers, MOST_PER_S, Question};
use crate::health::finding::{Failure, Trouble};
use crate::health::news::{News, Seen};
use crate::health::passive::Passive;
use crate::health::probe::{Probe, Progress};
use crate::health::pulse::Pulse;
use crate::health::size::Sizes;
use crate::health::stack::Stack;
use crate::health::tls::desk::desk;
use crate::health::tls::sessions::Sessions;
use crate::health::way::Way;

/// Local ports of probes. None of them means anything to a host, and a port comes back after 28,000 probes.
pub(super) const FIRST_PORT: u16 = 32_768;
pub(super) const LAST_PORT: u16 = 60_999;
/// Connections that nobody knows any more and that are reset, in a second.
const REFUSED: u32 = 1_000;

/// The health checks.
pub struct Engine {
    pub(super) services: HashMap<ServiceId, Watched>,
    pub(super) items: Vec<Option<Item>>,
    pub(super) free: Vec<usize>,
    /// By local port.
    pub(super) probes: HashMap<u16, Running>,
    pub(super) next_port: u16,
    pub(super) timers: BinaryHeap<Reverse<(Instant, Timer)>>,
    pub(super) serial: u64,
    pub(super) stack: Stack,
    /// Those of checks over TLS, until somebody gives them a thread.
    sessions: Option<Sessions>,
    pub(super) truth: Truth,
    pub(super) refused: TokenBucket,
    pub(super) questions: TokenBucket,
    pub(super) begin: Instant,
    pub(super) verdicts: Verdicts,
    pub(super) changed: bool,
    pub(super) news: Vec<News>,
    /// When the first backend that is held out of service is to be let in.
    pub(super) release: Option<Instant>,
    /// The errands that were given out so far, and those that are to be.
    pub(super) errands: u64,
    pub(super) orders: Vec<Order>,
    pub(super) sightings: Vec<Seen>,
    /// Which sizes of packets the backends take.
    pub sizes: Sizes,
    /// What clients show of the backends.
    pub passive: Passive,
    pub(super) generation: Option<u64>,
}

/// A service.
pub(super) struct Watched {
    pub(super) service: Arc<Service>,
    /// The index of its first backend in the snapshot's targets.
    pub(super) first_target: usize,
    /// By backend, the items of those of its checks that probe, in their order.
    pub(super) backends: HashMap<IpAddr, Vec<usize>>,
    /// Whether the checks are believed.
    pub(super) believed: bool,
    /// What is remembered of the backends that went down.
    pub(super) dampings: HashMap<IpAddr, Damping>,
    /// The backends of which the operator was told that they are down, and not yet that this is over.
    pub(super) told: HashSet<IpAddr>,
}

/// A check of a backend.
pub(super) struct Item {
    pub(super) service: ServiceId,
    pub(super) backend: IpAddr,
    pub(super) check: Check,
    pub(super) pulse: Pulse,
    pub(super) voids: Voids,
    /// When the next probe is due.
    pub(super) due: Instant,
    /// The local port of the probe under way.
    pub(super) running: Option<u16>,
    /// Tells it from an item that had its number before.
    pub(super) serial: u64,
    /// The way of its last probe, and the port that it leaves by.
    pub(super) way: Option<(Way, PortNo)>,
    /// What else the backend answers, while the check fails.
    pub(super) answers: Answers,
    /// The fault that is open because of it.
    pub(super) fault: Option<FaultKind>,
    /// Until when the certificate is valid that the backend has shown last, in seconds since 1970.
    pub(super) certificate_until: Option<i64>,
    /// Whether a fault is open because of that certificate.
    pub(super) certificate_fault: bool,
}

/// A probe under way, and the item that it is for.
pub(super) struct Running {
    pub(super) item: usize,
    pub(super) serial: u64,
    pub(super) probe: Probe,
    pub(super) port: PortNo,
    pub(super) before: Before,
    /// When it is looked at next.
    pub(super) look: Instant,
    /// The question of the diagnosis that it asks. `None`: it is the check itself.
    pub(super) question: Option<Question>,
}

/// What a turn goes by, and the frames that it has to send.
struct Turn<'a> {
    current: &'a Compiled,
    losses: Losses<'a>,
    now: Instant,
    frames: Vec<Frame>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// An item's probe begins.
    Begin { item: usize, serial: u64 },
    /// A probe is looked at.
    Look { local: u16, serial: u64 },
}

impl Engine {
    /// Without services. `random` makes connections hard to guess.
    pub fn new(now: Instant, random: u64) -> Self {
        let (desk, queues) = desk();
        Engine {
            services: HashMap::new(),
            items: Vec::new(),
            free: Vec::new(),
            probes: HashMap::new(),
            // Anywhere: a director that was just restarted does not ask from the ports that it began with before.
            next_port: FIRST_PORT
                + u16::try_from(random % u64::from(LAST_PORT - FIRST_PORT)).expect("less than a port"),
            timers: BinaryHeap::new(),
            serial: 0,
            stack: Stack::new(now, random, desk),
            sessions: Some(Sessions::new(queues)),
            truth: Truth::default(),
            refused: TokenBucket::new(REFUSED, 1),
            questions: TokenBucket::new(MOST_PER_S, 1),
            begin: now,
            errands: 0,
            orders: Vec::new(),
            verdicts: Verdicts::default(),
            changed: false,
            news: Vec::new(),
            release: None,
            sightings: Vec::new(),
            sizes: Sizes::default(),
            passive: Passive::default(),
            generation: None,
        }
    }

    /// The sessions of checks over TLS, which need a thread of their own. Without it, such checks find nothing.
    pub fn take_sessions(&mut self) -> Option<Sessions> {
        self.sessions.take()
    }

    /// Whether all that can be asked has been, from this time on, and what is wrong is told apart.
    pub fn is_known_since(&self, begin: Instant) -> bool {
        let mut asked = self.items.iter().flatten().filter(|item| item.way.is_some());
        asked.all(|item| item.pulse.is_known_since(begin)) && self.has_asked_all()
    }

    /// Begins the probes that are due, and ends those whose time is over. Returns the frames to send: about `room`, and no
    /// probe begins where there is none left.
    pub fn poll(&mut self, current: &Compiled, losses: Losses<'_>, now: Instant, room: usize) -> Vec<Frame> {
        self.truth.turn(now);
        self.release(now);
        let mut turn = Turn { current, losses, now, frames: self.hear_sessions(now, room) };
        // Bound: each timer that is due is taken once; what it begins is due later.
        while let Some(&Reverse((at, timer))) = self.timers.peek()
            && at <= now
        {
            if turn.frames.len() >= room {
                break;
            }
            self.timers.pop();
            match timer {
                Timer::Begin { item, serial } => self.begin_probe(item, serial, &mut turn),
                Timer::Look { local, serial } => self.look(local, serial, &mut turn),
            }
        }
        turn.frames
    }

    fn begin_probe(&mut self, number: usize, serial: u64, turn: &mut Turn<'_>) {
        let now = turn.now;
        // A probe that was asked for by hand has a timer of its own, besides.
        let is_due = |item: &&mut Item| item.serial == serial && item.due <= now;
        let Some(item) = self.items[number].as_mut().filter(is_due) else { return };
        if let Some(local) = item.running {
            // The last probe has its whole time, also where the next one was asked for by hand. What has come for it while the
            // director was stopped is looked at first.
            let deadline = self.probes.get(&local).and_then(|running| running.probe.awaits_until());
            let wait = deadline.filter(|deadline| *deadline > now).or_else(|| self.truth.grace_until(now));
            if let Some(until) = wait {
                self.timers.push(Reverse((until, Timer::Begin { item: number, serial })));
                return;
            }
            self.end(local, turn);
        }
        let Some(item) = self.items[number].as_mut() else { return };
        let Some(watched) = self.services.get(&item.service) else { return };
        // What is late by a whole turn has missed it. It does not catch up, and keeps its place among the others: after a stop, all
        // would begin at the same time, for ever.
        let interval = item.check.interval;
        let late = now.saturating_duration_since(item.due);
        let missed = u32::try_from(late.as_nanos() / interval.as_nanos()).unwrap_or(u32::MAX);
        item.due += interval * missed.saturating_add(1);
        self.timers.push(Reverse((item.due, Timer::Begin { item: number, serial })));
        if missed > 0 {
            item.pulse.take_void();
            // A script has waited for the one before it. How many run at the same time, others say.
            if !matches!(item.check.ask, Ask::Script(_)) {
                return;
            }
        }
        let Some(way) = watched.way(item, turn.current) else { return };
        let Some(local) = next_port(&self.probes, &mut self.next_port) else {
            item.pulse.take_void();
            return;
        };
        let Some((mut probe, progress)) = Probe::begin(&item.check, way, local, &mut self.stack, now) else { return };
        item.running = Some(local);
        let port = turn.current.network(way.network).port;
        item.way = Some((way, port));
        let look = probe.due(&mut self.stack, now);
        let before = self.truth.before((turn.losses)(port));
        self.timers.push(Reverse((look, Timer::Look { local, serial })));
        self.probes.insert(local, Running { item: number, serial, probe, port, before, look, question: None });
        self.give_out(number, local);
        self.go_on(local, progress, &mut turn.frames, now);
    }

    /// Gives a probe its turn, or ends it.
    fn look(&mut self, local: u16, serial: u64, turn: &mut Turn<'_>) {
        let now = turn.now;
        let Some(running) = self.probes.get_mut(&local).filter(|running| running.serial == serial) else { return };
        if running.look > now {
            return;
        }
        if running.probe.deadline > now {
            let progress = running.probe.turn(None, &mut self.stack, now);
            self.go_on(local, progress, &mut turn.frames, now);
            return;
        }
        // What has come while the director was stopped is looked at first.
        if let Some(until) = self.truth.grace_until(now) {
            running.look = until;
            self.timers.push(Reverse((until, Timer::Look { local, serial })));
            return;
        }
        self.end(local, turn);
    }

    /// Ends a probe whose time is over.
    fn end(&mut self, local: u16, turn: &mut Turn<'_>) {
        let has_no_way = self.has_another_way(local, turn.current);
        let Some(running) = self.probes.get_mut(&local) else { return };
        let mut progress = running.probe.give_up(&mut self.stack, turn.now);
        if running.question.is_none()
            && let Some(item) = self.items[running.item].as_mut()
        {
            let (before, lost) = (running.before, (turn.losses)(running.port));
            let is_void = has_no_way
                || match &progress.finding {
                    // It is silent, and that is good. The error that would say otherwise may be lost.
                    Some(Ok(_)) => self.truth.has_lost(before, lost),
                    Some(Err(Failure { trouble: Trouble::Silent | Trouble::Hung | Trouble::Slow, .. })) => {
                        self.truth.is_void(before, lost, running.port, &mut item.voids)
                    }
                    _ => false,
                };
            if is_void && progress.finding.take().is_some() {
                item.pulse.take_void();
            }
        }
        self.go_on(local, progress, &mut turn.frames, turn.now);
    }

    /// Whether the way to a probe's backend is not the one that the probe has taken: it has another MAC address by now, or cannot be
    /// reached, since the link is down. Then its silence says nothing.
    fn has_another_way(&self, local: u16, current: &Compiled) -> bool {
        let item = self.probes.get(&local).and_then(|running| self.items[running.item].as_ref());
        let known = item.and_then(|item| Some((item, self.services.get(&item.service)?, item.way?)));
        known.is_some_and(|(item, watched, (then, _))| watched.way(item, current).is_none_or(|now| now.mac != then.mac))
    }

    /// Sends what a probe has to send, takes what it has found, and forgets it when it is over.
    pub(super) fn go_on(&mut self, local: u16, progress: Progress, frames: &mut Vec<Frame>, now: Instant) {
        frames.extend(progress.frames);
        let Some(running) = self.probes.get_mut(&local) else { return };
        let (number, serial, began) = (running.item, running.serial, running.probe.began);
        let question = running.question;
        if progress.over {
            self.probes.remove(&local);
            if let Some(item) = self.items[number].as_mut().filter(|item| item.running == Some(local)) {
                item.running = None;
            }
        } else {
            let look = running.probe.due(&mut self.stack, now);
            if look < running.look || running.look <= now {
                running.look = look;
                self.timers.push(Reverse((look, Timer::Look { local, serial })));
            }
        }
        if progress.void
            && let Some(item) = self.items[number].as_mut()
        {
            item.pulse.take_void();
        }
        match (progress.finding, question) {
            (None, _) => {}
            (Some(finding), Some(question)) => self.answered(number, serial, question, &finding),
            (Some(finding), None) => {
                self.found(number, serial, finding, began, now);
                self.diagnose(number, serial, frames, now);
            }
        }
    }
}

impl Watched {
    /// The way to an item's backend, if there is one.
    fn way(&self, item: &Item, current: &Compiled) -> Option<Way> {
        let backend = self.service.number_of(item.backend).ok()?;
        Way::to(current, &self.service, self.first_target, backend.index(), item.check.to)
    }
}

/// A local port that no probe has.
pub(super) fn next_port<P>(probes: &HashMap<u16, P>, next: &mut u16) -> Option<u16> {
    if probes.len() > usize::from(LAST_PORT - FIRST_PORT) {
        return None;
    }
    for _ in FIRST_PORT..=LAST_PORT {
        let port = *next;
        *next = if port == LAST_PORT { FIRST_PORT } else { port + 1 };
        if !probes.contains_key(&port) {
            return Some(port);
        }
    }
    None
}
