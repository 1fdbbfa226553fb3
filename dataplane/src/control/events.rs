//! Events: a bounded log in memory, for `shuntctl events`, and lines of the daemon's log.
//!
//! Control threads and the slow path write to it, workers never do. Packets can cause any number of events of some
//! kinds. Of these, one event is written in ten seconds for each kind and subject, with the number of those left out.
//! The number of subjects is bounded, so a flood of made-up addresses cannot push all other events out.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime};

use ctl::answer::{Event, EventCount, Severity, Subject};
use ctl::request::EventQuery;
use hashbrown::HashMap;
use metrics::counter;

/// How many events are kept.
pub const KEPT: usize = 1_024;
/// An event that packets can cause is written once in this time.
const WINDOW: Duration = Duration::from_secs(10);
/// How many kinds and subjects are told apart within a window. Beyond that, all subjects of a kind count as one.
const MAX_SUBJECTS: usize = 256;
/// What becomes of the events that an operator's command is to tell, as they are counted (`shunt_notifications_total`): it ran, it
/// failed, or there was no time for it.
pub const NOTIFIED: [&str; 3] = ["run", "failed", "dropped"];
/// The time that [`EventLog::recent`] looks back.
const RECENT: Duration = Duration::from_secs(3_600);

/// Declares the kinds with their names and severities.
macro_rules! kinds {
    ($($variant:ident = $name:literal, $severity:ident: $meaning:literal;)*) => {
        /// The kind of an event.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Kind {
            $(#[doc = $meaning] $variant,)*
        }

        impl Kind {
            /// All kinds.
            pub const ALL: &'static [Kind] = &[$(Kind::$variant),*];

            /// The name, as in listings.
            pub fn name(self) -> &'static str {
                match self { $(Kind::$variant => $name),* }
            }

            /// The severity.
            pub fn severity(self) -> Severity {
                match self { $(Kind::$variant => Severity::$severity),* }
            }

            /// What has happened, a sentence for the operator.
            pub fn meaning(self) -> &'static str {
                match self { $(Kind::$variant => $meaning),* }
            }
        }
    };
}

kinds! {
    Started = "started", Info: "The daemon forwards.";
    ServiceAdded = "service-added", Info: "An operator has added a service.";
    ServiceEdited = "service-edited", Info: "An operator has changed how a service's backends are checked, or what follows from it.";
    ServiceRemoved = "service-removed", Info: "An operator has removed a service.";
    BackendAdded = "backend-added", Info: "An operator has added a backend.";
    BackendEdited = "backend-edited", Info: "An operator has changed a backend's weight or MAC address, or drains, disables or enables it.";
    BackendRemoved = "backend-removed", Info: "An operator has removed a backend.";
    BackendResolved = "backend-resolved", Info: "A backend has answered ARP or NDP: it can get packets.";
    BackendUnreachable = "backend-unreachable", Error: "A backend does not answer ARP or NDP, or never did. If others of its network do, it is down; if not, the director may be cut off from it.";
    BackendMacChanged = "backend-mac-changed", Warn: "A backend has another MAC address; its packets go there from then on.";
    BackendUp = "backend-up", Info: "A backend that was down by its checks serves again, or one is tried again that was taken out for its clients' sake.";
    BackendDown = "backend-down", Error: "A check says that a backend does not serve: it gets no packets. The event has the check and its words.";
    BackendDamped = "backend-damped", Warn: "A backend went down too often: it is held out for a time, even if its checks are good by then.";
    BackendReleased = "backend-released", Info: "A backend is not held out any more.";
    FallbackServes = "fallback-serves", Error: "No backend of a service takes new flows: its fallback has them.";
    FallbackRests = "fallback-rests", Info: "A backend of a service takes new flows again: its fallback gets no more.";
    ChecksNotBelieved = "checks-not-believed", Error: "Fewer backends of a service are up by its checks than `min_up`: the checks are not believed, and all backends get traffic.";
    ChecksBelieved = "checks-believed", Info: "Enough backends of a service are up by its checks: these count again.";
    CommandsStopped = "commands-stopped", Warn: "The process that runs commands has ended, or cannot be started. It is started again; until then, checks of type `script` say nothing, and `notify` is silent.";
    LinkUp = "link-up", Info: "A port's link is up again.";
    LinkDown = "link-down", Error: "A port's link is down.";
    PortGone = "port-gone", Error: "The device of a port is gone: its interface was deleted, renamed or moved to another namespace. Frames that should leave there are dropped (`link_down`).";
    PortBack = "port-back", Info: "The device of a port is back.";
    PortUnusable = "port-unusable", Error: "The device of a port is back, and the port cannot be opened on it. It is tried again.";
    MacChanged = "mac-changed", Warn: "A port has another MAC address. It is in force, and the director's addresses are announced anew.";
    MtuChanged = "mtu-changed", Warn: "A port has another MTU. It is in force.";
    MtuTooLarge = "mtu-too-large", Error: "A port's new MTU is larger than what it was opened for: packets larger than that are lost.";
    QueuesUnread = "queues-unread", Error: "Flows that come by an AF_XDP port are lost: its interface has other receive queues by now than the workers read. The event says what to do.";
    QueuesRead = "queues-read", Info: "The workers read all receive queues of a port again.";
    Loop = "loop", Error: "A backend sends a VIP's packets back to the director: the VIP is missing on its loopback. The event names it.";
    ReturnViaDirector = "return-via-director", Error: "A backend's replies come to the director: its default route is wrong. The event names it.";
    UnfinishedChecksums = "unfinished-checksums", Warn: "A neighbor leaves checksums to a NIC that is not there (offload on veth or TAP): backends drop its packets. The event names it.";
    SuperFrames = "super-frames", Warn: "TCP packets larger than any MTU there came and were dropped: a neighbor leaves segmentation to a NIC that is not there, or this host puts segments together. The event names it.";
    SlowPathOverloaded = "slow-path-overloaded", Warn: "Frames for the slow path were dropped (`punt_full`): a flood of ARP, NDP or the like.";
    RxMissed = "rx-missed", Warn: "Frames came to a port and no worker took them in time (`missed`): the workers are too slow, or not left alone.";
    BuffersRefused = "buffers-refused", Error: "The kernel refuses packet buffers of an AF_XDP port: frames are lost, and in the end the port stands still.";
    TxStalled = "tx-stalled", Error: "A port sends nothing any more: the counter of its Linux interface stands still while frames are given to it.";
    TxFull = "tx-full", Warn: "A port's transmit queue was full (`tx_full`): the link is saturated, the device too slow or, on memif and AF_PACKET, the other end.";
    BuffersExhausted = "buffers-exhausted", Error: "Nearly all packet buffers have been in use for seconds: what is received is lost. The event says what to do.";
    BuffersBack = "buffers-back", Info: "Packet buffers are free again.";
    NeighborSilent = "neighbor-silent", Error: "A backend does not answer ARP or NDP: three probes in a row were in vain. It is given up after some more (`backend-unreachable`).";
    OffLink = "off-link", Error: "A backend is not on a segment of the director.";
    SharedMac = "shared-mac", Warn: "Several backends of a network have one MAC address: a router or a proxy is in between, or they are one host.";
    VipMissing = "vip-missing", Error: "A backend does not take packets for a VIP.";
    ServiceClosed = "service-closed", Error: "Nothing listens on a VIP at a backend.";
    NotOnVip = "not-on-vip", Error: "A service listens on the backend's own address only, and not on the VIP.";
    Hung = "hung", Error: "A service takes connections and does not answer.";
    Slow = "slow", Warn: "A service answers later than its check's timeout on some probes.";
    WrongAnswer = "wrong-answer", Error: "A service answers with something else than its check wants.";
    ArpFlux = "arp-flux", Error: "A backend answers ARP or NDP for a VIP, or asks with the VIP as its sender. The event says which sysctl it lacks.";
    VipConflict = "vip-conflict", Error: "A station that is no backend says that it has a VIP, or an address of the director's own. The event names it.";
    OneWay = "one-way", Error: "A backend is sent SYNs, and no ACK follows.";
    Mtu = "mtu", Warn: "A backend's link carries less than the director's.";
    Certificate = "certificate", Warn: "A certificate has expired or will soon, or has another name.";
    FaultEnded = "fault-ended", Info: "A fault is mended. The event names it (`fault`).";
}

impl Kind {
    /// The labels by which such events are counted (`shunt_events_total`), written or left out.
    pub fn labels(self) -> [(&'static str, &'static str); 2] {
        [("kind", self.name()), ("severity", self.severity().name())]
    }

    /// Whether packets can cause any number of these events. A backend that becomes resolved and unreachable in turn
    /// cannot: its probes take time. A port's link has a limit of its own.
    fn limited(self) -> bool {
        use Kind::*;
        matches!(
            self,
            BackendMacChanged
                | ArpFlux
                | VipConflict
                | Loop
                | ReturnViaDirector
                | UnfinishedChecksums
                | SuperFrames
                | SlowPathOverloaded
                | RxMissed
                | BuffersRefused
                | TxFull
                | BuffersExhausted
                | BuffersBack
        )
    }
}

/// The log.
#[derive(Debug, Default)]
pub struct EventLog {
    log: Mutex<Log>,
}

#[derive(Debug, Default)]
struct Log {
    /// The events, the oldest first, each with the time when it was written.
    events: VecDeque<(Instant, Event)>,
    /// The number of the last one.
    sequence: u64,
    windows: HashMap<(Kind, Subject), Window>,
}

/// The current window of a limited kind of event, for one subject.
#[derive(Debug)]
struct Window {
    /// No other event is written until then.
    until: Instant,
    /// How many were left out.
    suppressed: u64,
}

impl EventLog {
    /// Writes an event. `message` makes the sentence that says what has happened and what to do. Returns whether the
    /// event was written. An event is left out if there were too many of its kind and subject; then `message` is not
    /// called.
    pub fn write(&self, kind: Kind, subject: Subject, now: Instant, message: impl FnOnce() -> String) -> bool {
        self.write_event(kind, kind.severity(), None, subject, now, message)
    }

    /// The same for the beginning or the end of a fault, which may have a severity of its own.
    pub fn write_of_fault(
        &self,
        kind: Kind,
        severity: Severity,
        fault: &str,
        subject: Subject,
        now: Instant,
        message: impl FnOnce() -> String,
    ) -> bool {
        self.write_event(kind, severity, Some(fault), subject, now, message)
    }

    fn write_event(
        &self,
        kind: Kind,
        severity: Severity,
        fault: Option<&str>,
        subject: Subject,
        now: Instant,
        message: impl FnOnce() -> String,
    ) -> bool {
        counter!("shunt_events_total", &kind.labels()).increment(1);
        let mut log = self.log();
        let Some(suppressed) = log.admit(kind, &subject, now) else { return false };
        let (kind, message, fault) = (kind.name().into(), message(), fault.map(String::from));
        // Nothing depends on the wall clock. The operator compares it with other logs.
        let time = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
        let event = Event { sequence: 0, time, severity, kind, fault, subject, message, suppressed };
        let event = log.push(event, now);
        drop(log);
        log_line(&event);
        true
    }

    /// The events that a query asks for, the oldest first.
    pub fn list(&self, query: EventQuery) -> Vec<Event> {
        let log = self.log();
        let limit = query.limit.unwrap_or(KEPT);
        let Some(since) = query.since else {
            let first = log.events.len().saturating_sub(limit);
            return log.events.range(first..).map(|(_, event)| event.clone()).collect();
        };
        let newer = log.events.iter().map(|(_, event)| event).filter(|event| event.sequence > since);
        newer.take(limit).cloned().collect()
    }

    /// How many warnings and errors there were in the last hour.
    pub fn recent(&self, now: Instant) -> EventCount {
        let log = self.log();
        let recent = log.events.iter().rev().take_while(|(then, _)| now.saturating_duration_since(*then) < RECENT);
        let mut count = EventCount::default();
        for (_, event) in recent {
            match event.severity {
                Severity::Info => {}
                Severity::Warn => count.warn += 1,
                Severity::Error => count.error += 1,
            }
        }
        count
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().expect("no thread panics while it holds the events")
    }
}

impl Log {
    /// Whether an event may be written now. Returns how many of its kind and subject were left out before, or `None`.
    fn admit(&mut self, kind: Kind, subject: &Subject, now: Instant) -> Option<u64> {
        if !kind.limited() {
            return Some(0);
        }
        if self.windows.len() >= MAX_SUBJECTS {
            self.windows.retain(|_, window| window.until > now);
        }
        // Any station can make up MAC addresses, so they do not tell subjects apart.
        let mut key = (kind, Subject { mac: None, ..subject.clone() });
        if self.windows.len() >= MAX_SUBJECTS && !self.windows.contains_key(&key) {
            key.1 = Subject::default();
        }
        let next = Window { until: now + WINDOW, suppressed: 0 };
        match self.windows.get_mut(&key) {
            Some(window) if window.until > now => {
                window.suppressed += 1;
                None
            }
            Some(window) => Some(std::mem::replace(window, next).suppressed),
            None => {
                self.windows.insert(key, next);
                Some(0)
            }
        }
    }

    /// Keeps an event, and gives it its number.
    fn push(&mut self, event: Event, now: Instant) -> Event {
        if self.events.len() == KEPT {
            self.events.pop_front();
        }
        self.sequence += 1;
        let event = Event { sequence: self.sequence, ..event };
        self.events.push_back((now, event.clone()));
        event
    }
}

/// Writes a line to the daemon's log.
fn log_line(event: &Event) {
    let (kind, sentence) = (&event.kind, event.sentence());
    match event.severity {
        Severity::Info => tracing::info!("{kind}: {sentence}"),
        Severity::Warn => tracing::warn!("{kind}: {sentence}"),
        Severity::Error => tracing::error!("{kind}: {sentence}"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::net::Ipv4Addr;

    use ctl::Mac;
    use metrics::with_local_recorder;

    use super::*;
    use crate::metrics::ControlSide;
    use crate::testing::docs;

    fn backend(number: u32) -> Subject {
        Subject { backend: Some(Ipv4Addr::from_bits(number).into()), ..Subject::default() }
    }

    fn all() -> EventQuery {
        EventQuery::default()
    }

    fn sequences(events: &[Event]) -> Vec<u64> {
        events.iter().map(|event| event.sequence).collect()
    }

    #[test]
    fn kinds_have_distinct_names_and_the_docs_say_the_same_of_each() {
        let names: HashSet<&str> = Kind::ALL.iter().map(|kind| kind.name()).collect();
        assert_eq!(names.len(), Kind::ALL.len());
        let row =
            |kind: &Kind| vec![format!("`{}`", kind.name()), kind.severity().name().into(), kind.meaning().into()];
        let table = docs::table(&["kind", "severity", "what has happened"], Kind::ALL.iter().map(row));
        docs::check("docs/operations.md", "events", &table);
    }

    #[test]
    fn the_last_events_are_kept_and_numbered() {
        let (log, now) = (EventLog::default(), Instant::now());
        for number in 0..KEPT + 10 {
            assert!(log.write(Kind::ServiceAdded, Subject::default(), now, || format!("Number {number}.")));
        }
        let kept = log.list(all());
        assert_eq!((kept.len(), kept[0].sequence), (KEPT, 11));
        assert_eq!(kept[0].message, "Number 10.");
        assert!(kept[0].time.starts_with("20") && kept[0].time.ends_with('Z'), "{}", kept[0].time);
        let last = KEPT as u64 + 10;
        let ask = |since, limit| sequences(&log.list(EventQuery { since, limit }));
        assert_eq!(ask(None, Some(2)), [last - 1, last], "the latest");
        assert_eq!(ask(Some(last - 3), Some(2)), [last - 2, last - 1], "those that follow");
        assert_eq!(ask(Some(last - 1), None), [last]);
        assert!(ask(Some(last), None).is_empty());
        assert_eq!(ask(Some(0), Some(1)), [11]);
    }

    #[test]
    fn what_packets_cause_is_written_once_in_a_window_and_counted_each_time() {
        let counted = ControlSide::default();
        with_local_recorder(&counted, what_packets_cause_is_written_once_in_a_window);
        let count = |kind: Kind| counted.count("shunt_events_total", &kind.labels());
        assert_eq!((count(Kind::Loop), count(Kind::LinkUp)), (Some(55), Some(0)), "written or left out");
    }

    fn what_packets_cause_is_written_once_in_a_window() {
        let (log, begin) = (EventLog::default(), Instant::now());
        let at = |second: u64| begin + Duration::from_secs(second);
        let write = |kind, number, second| log.write(kind, backend(number), at(second), || "It happened.".into());
        assert!(write(Kind::Loop, 1, 0));
        assert!((0..50).all(|_| !write(Kind::Loop, 1, 9)));
        assert!(
            write(Kind::Loop, 2, 9) && write(Kind::ReturnViaDirector, 1, 9),
            "other subjects and kinds are written"
        );
        assert!(write(Kind::Loop, 1, 10));
        let events = log.list(all());
        assert_eq!(events.iter().map(|event| event.suppressed).collect::<Vec<_>>(), [0, 0, 0, 50]);
        assert!(write(Kind::Loop, 1, 30));
        assert_eq!(log.list(EventQuery { since: Some(4), limit: None })[0].suppressed, 0);
        let of_mac = |last| Subject { mac: Some(Mac([2, 0, 0, 0, 0, last])), ..backend(1) };
        assert!(!log.write(Kind::Loop, of_mac(1), at(30), String::new), "a made-up MAC address is no new subject");
        assert!((0..5).all(|_| write(Kind::BackendEdited, 1, 30)), "what an operator does is never left out");
    }

    #[test]
    fn made_up_subjects_do_not_push_all_other_events_out() {
        let (log, begin) = (EventLog::default(), Instant::now());
        let write = |kind, number, now| log.write(kind, backend(number), now, || "It happened.".into());
        let written = (0..100_000).filter(|&number| write(Kind::Loop, number, begin)).count();
        assert_eq!(written, MAX_SUBJECTS + 1, "one for all subjects beyond the limit");
        assert!(write(Kind::ReturnViaDirector, 1, begin), "another kind has a window of its own");
        assert!(log.log().windows.len() <= MAX_SUBJECTS + Kind::ALL.len());
        let later = begin + WINDOW;
        assert!(write(Kind::Loop, 1_000_000, later) && log.log().windows.len() == 1, "the old ones are forgotten");
    }

    #[test]
    fn the_last_hours_bad_events_are_counted() {
        let (log, begin) = (EventLog::default(), Instant::now());
        for (kind, minute) in [(Kind::LinkDown, 0), (Kind::LinkUp, 1), (Kind::LinkDown, 30), (Kind::TxFull, 31)] {
            log.write(kind, Subject::default(), begin + Duration::from_secs(60 * minute), String::new);
        }
        assert_eq!(log.recent(begin + Duration::from_secs(59 * 60)), EventCount { warn: 1, error: 2 });
        assert_eq!(log.recent(begin + Duration::from_secs(60 * 60)), EventCount { warn: 1, error: 1 });
    }
}
