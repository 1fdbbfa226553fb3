//! The open faults: what is wrong with the backends and around them at this moment.
//!
//! The slow path, the health checks and whoever follows the ports open and close faults; `shuntctl doctor`, `status`
//! and the metrics list them. The beginning and the end of each is an [event](crate::control::events). Some faults are
//! seen only while traffic passes. These end by themselves when they have not been seen for a time
//! ([`FaultKind::hold`]). Where one begins again soon after, that time was too short, and is doubled: so a fault that is
//! seen now and then does not begin and end all the time.
//!
//! The number of faults is bounded, and none has a name that a stranger can make up.
//!
//! Whoever wants to know how it is *now* asks for a round: [`Faults::ask_round`]. The slow path sees that in its turn,
//! makes all its checks, and says when it is done.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime};

use ctl::ServiceId;
use ctl::answer::{Severity, Subject};
use hashbrown::HashMap;

use crate::control::events::{EventLog, Kind};
use crate::control::fault::{FaultKind, Sighting};

/// How many faults may be open.
pub const MAX_OPEN: usize = 8_192;
/// How many are remembered that have ended by themselves.
const MAX_ENDED: usize = 1_024;
/// A fault that begins again within this time has ended too early.
const RELAPSE: Duration = Duration::from_secs(300);
/// How often its hold is doubled at most.
const MAX_DOUBLED: u32 = 6;

/// What tells faults apart.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Key {
    kind: FaultKind,
    service: Option<ServiceId>,
    backend: Option<IpAddr>,
    vip: Option<IpAddr>,
    port: Option<String>,
}

impl Key {
    /// Without the MAC address: any station can make one up.
    fn new(kind: FaultKind, subject: &Subject) -> Key {
        let Subject { service, vip, backend, port, mac: _ } = subject.clone();
        Key { kind, service, backend, vip, port }
    }
}

/// A fault that is open.
#[derive(Debug, Clone)]
pub struct OpenFault {
    /// Its kind.
    pub kind: FaultKind,
    /// What it is about.
    pub subject: Subject,
    /// How bad it is.
    pub severity: Severity,
    /// What was seen last.
    pub text: String,
    /// What mends it.
    pub fix: String,
    /// Since when.
    pub since: Instant,
    /// The same by the wall clock, which nothing depends on.
    pub since_wall: SystemTime,
    /// When it was last seen.
    seen: Instant,
    /// How often its hold was doubled.
    doubled: u32,
    /// Whether an event has told of it. What was left out of the log when it began, is when it ends.
    told: bool,
}

impl OpenFault {
    /// When it counts as mended, if it is not seen again.
    fn until(&self) -> Option<Instant> {
        Some(self.seen + self.kind.hold()? * (1 << self.doubled))
    }
}

/// The open faults.
#[derive(Debug, Default)]
pub struct Faults {
    events: Arc<EventLog>,
    registry: Mutex<Registry>,
    /// Whether there is somebody who makes rounds.
    attended: AtomicBool,
    /// The number of the last round that was asked for.
    asked: AtomicU64,
    /// The number of the last round that is over.
    done: Mutex<u64>,
    ended: Condvar,
}

#[derive(Debug, Default)]
struct Registry {
    open: BTreeMap<Key, OpenFault>,
    /// Those that have ended by themselves: when, and how often their hold was doubled.
    ended: HashMap<Key, (Instant, u32)>,
    left_out: u64,
}

/// How many faults are open, by severity.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FaultCounts {
    /// Warnings, and what is less.
    pub warn: usize,
    /// Errors.
    pub error: usize,
    /// Faults for which there was no room since the start.
    pub left_out: u64,
}

impl Faults {
    /// None yet; beginnings and ends go to these events.
    pub fn new(events: Arc<EventLog>) -> Faults {
        Faults { events, ..Faults::default() }
    }

    /// Where the beginnings and ends go.
    pub fn events(&self) -> &EventLog {
        &self.events
    }

    /// Takes note of a fault that is seen now. Returns whether it was not open before.
    pub fn open(&self, sighting: Sighting, now: Instant) -> bool {
        let Sighting { kind, subject, severity, text, fix } = sighting;
        let key = Key::new(kind, &subject);
        let is_new = {
            let mut registry = self.registry();
            let full = registry.open.len() >= MAX_OPEN;
            if let Some(fault) = registry.open.get_mut(&key) {
                fault.seen = now;
                (fault.severity, fault.subject.mac) = (severity, subject.mac);
                (fault.text, fault.fix) = (text.clone(), fix.clone());
                false
            } else if full {
                registry.left_out += 1;
                return false;
            } else {
                let doubled = registry.relapse(&key, now);
                let (text, fix, subject) = (text.clone(), fix.clone(), subject.clone());
                let since_wall = SystemTime::now();
                let (since, seen, told) = (now, now, false);
                let fault = OpenFault { kind, subject, severity, text, fix, since, since_wall, seen, doubled, told };
                registry.open.insert(key.clone(), fault);
                true
            }
        };
        if let Some(event) = kind.event().filter(|_| is_new || kind.is_told_again()) {
            let told =
                self.events.write_of_fault(event, severity, kind.name(), subject, now, || format!("{text}: {fix}"));
            if told && let Some(fault) = self.registry().open.get_mut(&key) {
                fault.told = true;
            }
        }
        is_new
    }

    /// Takes note that a fault is mended. Returns whether it was open.
    pub fn close(&self, kind: FaultKind, subject: &Subject, now: Instant) -> bool {
        let closed = self.registry().open.remove(&Key::new(kind, subject));
        closed.iter().for_each(|fault| self.tell_end(fault, now));
        closed.is_some()
    }

    /// Closes those that have not been seen for so long that they count as mended. To be called now and then.
    pub fn expire(&self, now: Instant) {
        let expired = {
            let mut registry = self.registry();
            let over = |fault: &OpenFault| fault.until().is_some_and(|until| until <= now);
            let expired = registry.take(over);
            for (key, fault) in &expired {
                registry.remember(key, fault.doubled, now);
            }
            expired
        };
        expired.iter().for_each(|(_, fault)| self.tell_end(fault, now));
    }

    /// Forgets all that are about something that is not there any more: a service or backend that was removed. That it was
    /// removed is an event, so their end is none.
    pub fn retain(&self, is_there: impl Fn(FaultKind, &Subject) -> bool) {
        self.registry().take(|fault| !is_there(fault.kind, &fault.subject));
    }

    /// Whether a fault is open.
    pub fn is_open(&self, kind: FaultKind, subject: &Subject) -> bool {
        self.registry().open.contains_key(&Key::new(kind, subject))
    }

    /// A copy of all, by kind and subject.
    pub fn list(&self) -> Vec<OpenFault> {
        self.registry().open.values().cloned().collect()
    }

    /// How many are open.
    pub fn counts(&self) -> FaultCounts {
        let registry = self.registry();
        let error = registry.open.values().filter(|fault| fault.severity == Severity::Error).count();
        FaultCounts { warn: registry.open.len() - error, error, left_out: registry.left_out }
    }

    /// How many of a kind are open, by severity.
    pub fn of_kind(&self, kind: FaultKind, severity: Severity) -> usize {
        let registry = self.registry();
        registry.open.values().filter(|fault| fault.kind == kind && fault.severity == severity).count()
    }

    /// There is somebody who makes the rounds that are asked for, from now on.
    pub fn attend(&self) {
        self.attended.store(true, Ordering::Relaxed);
    }

    /// Has all checks made now. Returns the number of the round, for [`wait`](Self::wait).
    pub fn ask_round(&self) -> u64 {
        self.asked.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// The number of the last round that was asked for. What is over is not done again: compare with the last number.
    pub fn asked_round(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }

    /// All checks have been made, for this round and those before it.
    pub fn round_done(&self, round: u64) {
        let mut done = self.done.lock().expect("no thread panics while it holds the number");
        *done = round.max(*done);
        self.ended.notify_all();
    }

    /// Waits until a round is over, but not longer than this, and not at all if nobody makes rounds. Returns whether it is over.
    pub fn wait(&self, round: u64, most: Duration) -> bool {
        if !self.attended.load(Ordering::Relaxed) {
            return false;
        }
        let done = self.done.lock().expect("no thread panics while it holds the number");
        let (done, _) = self.ended.wait_timeout_while(done, most, |done| *done < round).expect("as above");
        *done >= round
    }

    fn tell_end(&self, fault: &OpenFault, now: Instant) {
        // A station can make some faults begin and end at will. Of their beginnings, the log leaves out most.
        if fault.kind.event().is_none() || !fault.told {
            return;
        }
        let (name, what) = (fault.kind.name(), in_words(&fault.subject));
        let lasted =
            humantime::format_duration(Duration::from_secs(now.saturating_duration_since(fault.since).as_secs()));
        self.events.write_of_fault(Kind::FaultEnded, Severity::Info, name, fault.subject.clone(), now, || {
            format!("{name}{what} is over, after {lasted}")
        });
    }

    fn registry(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().expect("no thread panics while it holds the faults")
    }
}

impl Registry {
    /// Takes those out that are chosen.
    fn take(&mut self, chosen: impl Fn(&OpenFault) -> bool) -> Vec<(Key, OpenFault)> {
        let keys: Vec<Key> = self.open.iter().filter(|(_, fault)| chosen(fault)).map(|(key, _)| key.clone()).collect();
        keys.into_iter().filter_map(|key| self.open.remove(&key).map(|fault| (key, fault))).collect()
    }

    fn remember(&mut self, key: &Key, doubled: u32, now: Instant) {
        if self.ended.len() >= MAX_ENDED {
            self.ended.retain(|_, (ended, _)| now.saturating_duration_since(*ended) < RELAPSE);
        }
        if self.ended.len() < MAX_ENDED {
            self.ended.insert(key.clone(), (now, doubled));
        }
    }

    /// How often the hold of a fault that begins is to be doubled.
    fn relapse(&mut self, key: &Key, now: Instant) -> u32 {
        match self.ended.remove(key) {
            Some((ended, doubled)) if now.saturating_duration_since(ended) < RELAPSE => (doubled + 1).min(MAX_DOUBLED),
            _ => 0,
        }
    }
}

/// What a fault is about: " of backend 192.0.2.3 for 192.0.2.101".
fn in_words(Subject { service, vip, backend, port, .. }: &Subject) -> String {
    let mut words = String::new();
    match (backend, port) {
        (Some(backend), _) => words += &format!(" of backend {backend}"),
        (None, Some(port)) => words += &format!(" on {port}"),
        (None, None) => {}
    }
    match (service, vip) {
        (Some(service), _) => words += &format!(" for {service}"),
        (None, Some(vip)) => words += &format!(" for {vip}"),
        (None, None) => {}
    }
    words
}

#[cfg(test)]
mod tests {
    use ctl::Mac;
    use ctl::answer::Event;
    use ctl::request::EventQuery;
    use proptest::prelude::*;

    use super::*;

    fn of(backend: &str, mac: u8) -> Subject {
        Subject { backend: backend.parse().ok(), mac: Some(Mac([2, 0, 0, 0, 0, mac])), ..Subject::default() }
    }

    fn sighting(kind: FaultKind, backend: &str) -> Sighting {
        Sighting::new(kind, of(backend, 3), format!("Backend {backend} limps"), "walk")
    }

    fn told(faults: &Faults) -> Vec<(String, Option<String>)> {
        let told = |event: Event| (event.kind, event.fault);
        faults.events().list(EventQuery::default()).into_iter().map(told).collect()
    }

    #[test]
    fn a_fault_begins_and_ends_with_an_event_each() {
        let (faults, begin) = (Faults::default(), Instant::now());
        for (backend, second) in [("192.0.2.3", 0), ("192.0.2.3", 1), ("fd00::3", 2)] {
            faults.open(sighting(FaultKind::Hung, backend), begin + Duration::from_secs(second));
        }
        assert_eq!(faults.counts(), FaultCounts { warn: 0, error: 2, left_out: 0 });
        assert_eq!(faults.of_kind(FaultKind::Hung, Severity::Error), 2);
        let later = begin + Duration::from_secs(75);
        faults.expire(later);
        assert!(faults.close(FaultKind::Hung, &of("192.0.2.3", 99), later), "a MAC address does not matter");
        assert!(!faults.close(FaultKind::Hung, &of("192.0.2.3", 3), later), "it is closed already");
        let some = |kind: &str| (kind.to_owned(), Some("hung".to_owned()));
        assert_eq!(told(&faults), [some("hung"), some("hung"), some("fault-ended")]);
        let events = faults.events().list(EventQuery::default());
        assert_eq!(events[0].message, "Backend 192.0.2.3 limps: walk");
        assert_eq!(events[2].message, "hung of backend 192.0.2.3 is over, after 1m 15s");
        assert_eq!((events[0].severity, events[2].severity), (Severity::Error, Severity::Info));
        let left = faults.list();
        assert!(
            left.len() == 1 && left[0].subject == of("fd00::3", 3) && left[0].since == begin + Duration::from_secs(2)
        );
    }

    #[test]
    fn what_is_seen_last_is_listed() {
        let (faults, now) = (Faults::default(), Instant::now());
        faults.open(sighting(FaultKind::Certificate, "192.0.2.3"), now);
        let worse = Sighting { severity: Severity::Error, ..sighting(FaultKind::Certificate, "192.0.2.3") };
        faults.open(Sighting { text: "It has expired".into(), subject: of("192.0.2.3", 4), ..worse }, now);
        let [fault] = &faults.list()[..] else { panic!("one") };
        assert_eq!(
            (fault.severity, &*fault.text, fault.subject.mac),
            (Severity::Error, "It has expired", of("x", 4).mac)
        );
        assert_eq!(told(&faults).len(), 1);
    }

    #[test]
    fn what_only_traffic_shows_ends_by_itself_and_later_the_more_often_it_comes_back() {
        let (faults, begin) = (Faults::default(), Instant::now());
        let at = |ms: u64| begin + Duration::from_millis(ms);
        let is_open = |ms| {
            faults.expire(at(ms));
            faults.is_open(FaultKind::Loop, &of("192.0.2.3", 3))
        };
        let see = |ms| faults.open(sighting(FaultKind::Loop, "192.0.2.3"), at(ms));
        assert!(see(0) && !see(1_000) && is_open(2_900) && !is_open(3_000));
        assert!(see(10_000) && is_open(13_900) && !is_open(14_000), "twice as long");
        assert!(see(20_000) && is_open(27_900) && !is_open(28_000), "and again");
        assert!(see(400_000) && is_open(401_900) && !is_open(402_000), "long ago is forgotten");
    }

    #[test]
    fn an_end_is_told_where_its_beginning_was() {
        let (faults, begin) = (Faults::default(), Instant::now());
        let vip =
            |number: u32| Subject { vip: Some(std::net::Ipv4Addr::from_bits(number).into()), ..Subject::default() };
        // A station claims a thousand VIPs each second, and lets go of them.
        for second in 0..10 {
            let now = begin + Duration::from_secs(second);
            (0..1_000)
                .for_each(|n| _ = faults.open(Sighting::new(FaultKind::VipConflict, vip(n), "It has it", "go"), now));
            (0..1_000).for_each(|n| _ = faults.close(FaultKind::VipConflict, &vip(n), now));
        }
        let events = faults.events().list(EventQuery::default());
        let of = |kind: &str| {
            events.iter().filter(|event| event.kind == kind).map(|event| event.subject.vip).collect::<Vec<_>>()
        };
        let (begun, ended) = (of("vip-conflict"), of("fault-ended"));
        assert_eq!(begun, ended);
        assert!((256..300).contains(&ended.len()), "{}", ended.len());
    }

    #[test]
    fn a_link_that_is_down_is_told_by_who_follows_the_ports() {
        let (faults, now) = (Faults::default(), Instant::now());
        let port = Subject { port: Some("lan0".into()), ..Subject::default() };
        assert!(faults.open(Sighting::new(FaultKind::LinkDown, port.clone(), "It is down", "look"), now));
        assert!(faults.close(FaultKind::LinkDown, &port, now));
        assert!(told(&faults).is_empty());
    }

    #[test]
    fn faults_of_what_was_removed_are_forgotten() {
        let (faults, now) = (Faults::default(), Instant::now());
        for backend in ["192.0.2.3", "192.0.2.4"] {
            faults.open(sighting(FaultKind::NeighborSilent, backend), now);
        }
        faults.retain(|_, subject| subject.backend == of("192.0.2.4", 0).backend);
        assert!(faults.is_open(FaultKind::NeighborSilent, &of("192.0.2.4", 0)) && faults.list().len() == 1);
        assert!(told(&faults).iter().all(|(kind, _)| kind == "neighbor-silent"), "that it was removed says it all");
    }

    #[test]
    fn their_number_is_bounded() {
        let (faults, now) = (Faults::default(), Instant::now());
        for number in 0..u32::try_from(MAX_OPEN).unwrap() + 100 {
            let address = std::net::Ipv4Addr::from_bits(number).to_string();
            faults.open(sighting(FaultKind::Loop, &address), now);
        }
        assert_eq!(faults.counts(), FaultCounts { warn: 0, error: MAX_OPEN, left_out: 100 });
        faults.expire(now + Duration::from_secs(60));
        assert_eq!(faults.counts().error, 0);
        assert!(faults.registry().ended.len() <= MAX_ENDED);
    }

    #[test]
    fn a_round_is_waited_for() {
        let faults = Arc::new(Faults::default());
        assert!(!faults.wait(0, Duration::from_secs(60)), "nobody makes rounds");
        faults.attend();
        assert_eq!((faults.asked_round(), faults.wait(0, Duration::ZERO)), (0, true), "none was asked for");
        let round = faults.ask_round();
        assert!(!faults.wait(round, Duration::from_millis(1)));
        let slow_path = std::thread::spawn({
            let faults = faults.clone();
            move || faults.round_done(faults.asked_round())
        });
        assert!(faults.wait(round, Duration::from_secs(10)));
        slow_path.join().unwrap();
        assert!(!faults.wait(faults.ask_round(), Duration::from_millis(1)), "the next one is another");
    }

    proptest! {
        /// Whatever is opened and closed: an end is told for each beginning that was told and is not open any more.
        #[test]
        fn beginnings_and_ends_match(steps in prop::collection::vec((0usize..18, 0u8..4, 0u8..3, 0u64..3_000), 0..200)) {
            let (faults, mut now) = (Faults::default(), Instant::now());
            for (kind, backend, what, ms) in steps {
                now += Duration::from_millis(ms);
                let kind = FaultKind::ALL[kind];
                let seen = sighting(kind, &format!("192.0.2.{backend}"));
                match what {
                    0 => _ = faults.open(seen, now),
                    1 => _ = faults.close(kind, &seen.subject, now),
                    _ => faults.expire(now),
                }
            }
            let mut open = std::collections::BTreeSet::new();
            for event in faults.events().list(EventQuery::default()) {
                let key = (event.fault.unwrap(), event.subject.backend);
                if event.kind == "fault-ended" {
                    prop_assert!(open.remove(&key), "an end without a beginning: {key:?}");
                } else {
                    open.insert(key);
                }
            }
            let told = faults.list().into_iter().filter(|fault| fault.told);
            let told = told.map(|fault| (fault.kind.name().to_owned(), fault.subject.backend)).collect();
            prop_assert_eq!(open, told);
        }
    }
}
