//! A watch on what is counted at a port: it reports what is lost where no worker can count it, and a port that sends nothing any more.
//!
//! A worker counts a frame as sent when the driver has taken it. Between a driver and a Linux interface is the kernel, which may refuse what
//! it is given without an error. What tells is the interface's own counter: where it stands still for seconds while frames are given to
//! the driver, they do not leave.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use ctl::answer::Subject;

use crate::control::events::{EventLog, Kind};
use crate::dpdk::PortStats;

/// How often the watch is to look: some NICs take a while to tell their counters.
pub(super) const INTERVAL: Duration = Duration::from_secs(1);

/// The looks between which a port must have sent something: 3 s. Some drivers bring the interface's counters up to date every other second.
const LOOKS: usize = 4;

/// If no more than one in so many frames leaves, the port sends nothing: the others may be the kernel's own.
const NEXT_TO_NOTHING: u64 = 8;

/// The watch on a port.
pub(super) struct PortWatch {
    name: String,
    missed: Growth,
    refused: Growth,
    sending: Sending,
    /// Whether flows come to queues that no worker reads, as far as has been told.
    unread: bool,
}

impl PortWatch {
    /// A watch on the port of this name.
    pub(super) fn new(name: &str) -> Self {
        PortWatch {
            name: name.into(),
            missed: Growth::default(),
            refused: Growth::default(),
            sending: Sending::default(),
            unread: false,
        }
    }

    /// Takes what is to be said of flows that come to queues that no worker reads, and reports a change.
    pub(super) fn look_at_queues(&mut self, lost: Option<String>, events: &EventLog, now: Instant) {
        if lost.is_some() == self.unread {
            return;
        }
        let name = &self.name;
        let kind = if lost.is_some() { Kind::QueuesUnread } else { Kind::QueuesRead };
        let message = || match &lost {
            Some(lost) => format!("Port {name}: {lost}"),
            None => format!("Port {name}: the workers read all receive queues that flows come to"),
        };
        if events.write(kind, Subject { port: Some(name.clone()), ..Subject::default() }, now, message) {
            self.unread = lost.is_some();
        }
    }

    /// Takes what is counted at the port, and reports what has happened to it.
    pub(super) fn look(&mut self, stats: &PortStats, events: &EventLog, now: Instant) {
        let name = &self.name;
        let write = |kind, message: &dyn Fn() -> String| {
            events.write(kind, Subject { port: Some(name.clone()), ..Subject::default() }, now, message)
        };
        self.missed.look(stats.rx_missed, |new| {
            write(Kind::RxMissed, &|| {
                format!(
                    "{new} frames came to {name} and were lost before a worker took them (missed): the workers are too slow, or something \
                     else ran on their cores. Give each worker a core of its own; if LOAD in `shuntctl worker list` is high, use more \
                     workers"
                )
            })
        });
        let xdp = stats.xdp.unwrap_or_default();
        self.refused.look(xdp.rx_invalid + xdp.tx_invalid, |new| {
            write(Kind::BuffersRefused, &|| {
                format!(
                    "The kernel has refused {new} more packet buffers of {name} (since it was opened {} to receive into, {} to send from): \
                     frames are lost, and in the end {name} receives and sends nothing. Restart shuntd; if it happens again, set the \
                     port's driver to \"af_packet\", and report it",
                    xdp.rx_invalid, xdp.tx_invalid
                )
            })
        });
        let Some(stalled) = self.sending.look(stats, now) else { return };
        write(Kind::TxStalled, &|| {
            format!(
                "{name} sends nothing: in {} s, the driver took {} frames to send, and the interface's own counter (tx_packets) has grown by \
                 {}. What is forwarded by {name} is lost. `ip -s link` and `tc -s qdisc` may show what holds it up; restart shuntd; if \
                 that helps for a while only, set the port's driver to \"af_packet\"",
                stalled.time.as_secs(),
                stalled.given,
                stalled.left,
            )
        });
    }
}

/// A counter that should not grow.
#[derive(Debug, Default)]
struct Growth {
    /// Its value when it was last read.
    seen: u64,
    /// Its value when it last led to an event.
    reported: u64,
}

impl Growth {
    /// Reports by how much the counter has grown since the last event. What was left out is reported with the next growth.
    fn look(&mut self, value: u64, report: impl FnOnce(u64) -> bool) {
        // A port that was opened anew counts from 0.
        if value < self.seen {
            (self.seen, self.reported) = (0, 0);
        }
        if std::mem::replace(&mut self.seen, value) < value && report(value - self.reported) {
            self.reported = value;
        }
    }
}

/// Whether what is given to a port leaves it.
#[derive(Debug, Default)]
struct Sending {
    /// The latest looks, all of them at one port while its link was up.
    looks: VecDeque<Look>,
    /// Whether it is known to send nothing.
    stalled: bool,
}

#[derive(Debug, Clone, Copy)]
struct Look {
    at: Instant,
    given: u64,
    left: u64,
}

/// A port that sends nothing.
#[derive(Debug, PartialEq, Eq)]
struct Stalled {
    time: Duration,
    given: u64,
    left: u64,
}

impl Sending {
    /// Whether the port has just turned out to send nothing.
    fn look(&mut self, stats: &PortStats, now: Instant) -> Option<Stalled> {
        let Some(left) = stats.tx_left.filter(|_| !stats.down) else {
            self.looks.clear();
            return None;
        };
        let look = Look { at: now, given: stats.tx_given, left };
        if self.looks.back().is_some_and(|last| look.given < last.given || look.left < last.left) {
            // Opened anew.
            self.looks.clear();
        }
        self.looks.push_back(look);
        if self.looks.len() > LOOKS {
            self.looks.pop_front();
        }
        let stalled = self.verdict()?;
        let was_stalled = std::mem::replace(&mut self.stalled, stalled.is_some());
        stalled.filter(|_| !was_stalled)
    }

    /// Whether it sends nothing; `None` where too little was given to it to tell.
    fn verdict(&self) -> Option<Option<Stalled>> {
        let (&first, &second, &last) = (self.looks.front()?, self.looks.get(1)?, self.looks.back()?);
        // What was given at first has left by now, however late the counter is.
        let due = second.given - first.given;
        // What was given once may have met a link that was down for a moment.
        if self.looks.len() < LOOKS || due == 0 || last.given == second.given {
            return None;
        }
        let (time, given, left) = (last.at.duration_since(first.at), last.given - first.given, last.left - first.left);
        Some((left < due.div_ceil(NEXT_TO_NOTHING)).then_some(Stalled { time, given, left }))
    }
}

#[cfg(test)]
mod tests {
    use ctl::answer::Event;
    use ctl::request::EventQuery;

    use super::*;
    use crate::dpdk::XdpStats;

    /// What is written when a port looks like this, second by second.
    fn written(looks: &[PortStats]) -> Vec<Event> {
        let mut watch = PortWatch::new("lan0");
        let (events, begin) = (EventLog::default(), Instant::now());
        for (second, stats) in looks.iter().enumerate() {
            watch.look(stats, &events, begin + Duration::from_secs(second as u64));
        }
        events.list(EventQuery::default())
    }

    fn port(given: u64, left: u64) -> PortStats {
        PortStats { tx_given: given, tx_left: Some(left), ..PortStats::default() }
    }

    fn kinds(events: &[Event]) -> Vec<&str> {
        events.iter().map(|event| event.kind.as_str()).collect()
    }

    #[test]
    fn a_port_from_which_nothing_leaves_is_reported_once_after_three_seconds() {
        let well = (0..5).map(|second| port(10 * second, 10 * second));
        let stuck = (0..10).map(|second| port(50 + second, 40));
        let looks: Vec<PortStats> = well.chain(stuck).collect();
        assert_eq!(kinds(&written(&looks[..7])), [] as [&str; 0]);
        assert_eq!(kinds(&written(&looks[..8])), ["tx-stalled"], "3 s after the last frame left");
        let events = written(&looks);
        assert_eq!(kinds(&events), ["tx-stalled"]);
        assert_eq!(events[0].subject.port.as_deref(), Some("lan0"));
        let message = &events[0].message;
        let begin = "lan0 sends nothing: in 3 s, the driver took 12 frames to send, and the interface's own counter (tx_packets) has grown by 0.";
        assert!(message.starts_with(begin), "{message}");
        // It goes on, with frames of the kernel's own now and then, and seconds in which nothing is given.
        let still = (0..40).map(|second| port(1_000 + 100 * (second - second % 3), 40 + second));
        assert_eq!(kinds(&written(&looks.iter().copied().chain(still).collect::<Vec<_>>())), ["tx-stalled"]);
        // It sends again, and stops again.
        let again = (0..5).map(|second| port(60 + second, 50 + second));
        let stuck_again = (0..10).map(|second| port(100 + second, 54));
        let looks: Vec<PortStats> = looks.into_iter().chain(again).chain(stuck_again).collect();
        assert_eq!(kinds(&written(&looks)), ["tx-stalled"; 2]);
        // One that never sent at all.
        assert_eq!(kinds(&written(&(0..5).map(|second| port(second, 0)).collect::<Vec<_>>())), ["tx-stalled"]);
    }

    #[test]
    fn queues_that_no_worker_reads_are_told_of_when_they_come_and_when_they_go() {
        let (mut watch, events) = (PortWatch::new("lan0"), EventLog::default());
        let lost = || Some("lan0 has 2 receive queues for 1 worker".into());
        let begin = Instant::now();
        for (second, lost) in (0..).zip([None, lost(), lost(), None, None, lost()]) {
            watch.look_at_queues(lost, &events, begin + Duration::from_secs(second));
        }
        let events = events.list(EventQuery::default());
        assert_eq!(kinds(&events), ["queues-unread", "queues-read", "queues-unread"]);
        assert_eq!(events[0].message, "Port lan0: lan0 has 2 receive queues for 1 worker");
    }

    #[test]
    fn ports_of_which_there_is_no_proof_are_not_reported() {
        type AtSecond = fn(u64) -> PortStats;
        let all: [(&str, AtSecond); 8] = [
            ("an idle one", |_| port(50, 40)),
            ("one that tells nothing", |second| PortStats { tx_left: None, ..port(50 + second, 40) }),
            ("one that is down", |second| PortStats { down: true, ..port(50 + second, 40) }),
            ("one that was down", |second| PortStats { down: second < 9, ..port(50 + second, 40) }),
            ("one that lost a burst", |second| port(50 + 100 * (second / 6), 40)),
            ("a slow one", |second| port(50 + 100 * second, 40 + 20 * second)),
            ("one whose counter is two seconds late", |second| port(50 + 10 * second, 50 + 10 * second / 20 * 20 - 10)),
            ("one with frames of the kernel's own", |second| port(50 + second, 70 + 2 * second)),
        ];
        for (what, look) in all {
            assert_eq!(kinds(&written(&(0..12).map(look).collect::<Vec<_>>())), [] as [&str; 0], "{what}");
        }
    }

    #[test]
    fn a_port_that_was_opened_anew_is_another_one() {
        let old = (0..5).map(|second| port(1_000 + second, 1_000 + second));
        let new = (0..3).map(|second| port(1 + second, 0));
        let looks: Vec<PortStats> = old.chain(new).collect();
        assert_eq!(kinds(&written(&looks)), [] as [&str; 0]);
        assert_eq!(kinds(&written(&[&looks[..], &[port(4, 0)]].concat())), ["tx-stalled"]);
    }

    #[test]
    fn what_is_missed_and_what_the_kernel_refuses_is_told_with_its_number() {
        let look = |rx_missed, [rx_invalid, tx_invalid]: [u64; 2]| {
            let xdp = Some(XdpStats { rx_invalid, tx_invalid, ..XdpStats::default() });
            PortStats { rx_missed, xdp, ..PortStats::default() }
        };
        let events = written(&[look(0, [0, 0]), look(7, [0, 0]), look(7, [1, 2]), look(9, [1, 2]), look(9, [1, 2])]);
        assert_eq!(kinds(&events), ["rx-missed", "buffers-refused"]);
        assert!(events[0].message.starts_with("7 frames came to lan0 and were lost"), "{}", events[0].message);
        let message = &events[1].message;
        assert!(
            message.contains("refused 3 more packet buffers of lan0 (since it was opened 1 to receive"),
            "{message}"
        );
        // Left out within ten seconds, and told with the next ones. A port that is opened anew counts from 0.
        let missed = [0, 7, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 10, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 5];
        let events = written(&missed.map(|missed| look(missed, [0, 0])));
        let numbers: Vec<&str> = events.iter().filter_map(|event| event.message.split(' ').next()).collect();
        assert_eq!(numbers, ["7", "3", "5"]);
    }
}
