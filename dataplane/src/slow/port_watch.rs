//! Ports: a watch that reports what is lost where no worker can count it, and ports that send nothing any more.
//!
//! A worker counts a frame as sent when the driver has taken it. Between a driver and a Linux interface is the kernel, which may refuse what
//! it is given without an error. What tells is the interface's own counter: where it stands still for seconds while frames are given to
//! the driver, they do not leave.

use std::time::{Duration, Instant};

use ctl::answer::Subject;

use crate::control::events::{EventLog, Kind};

/// How often the watch looks: some NICs take a while to tell their counters.
const INTERVAL: Duration = Duration::from_secs(1);
/// A port sends nothing if it has sent nothing for so long. Some drivers bring the interface's counters up to date every other second.
const LONG: Duration = Duration::from_secs(3);

/// What is counted at a port since it was opened, as the watch sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PortCounts {
    /// Its name.
    pub name: String,
    /// Frames that were received and that no worker got.
    pub missed: u64,
    /// Packet buffers that the kernel has refused to receive into, and to send from.
    pub refused: [u64; 2],
    /// Frames that the driver took to send.
    pub given: u64,
    /// Frames that the Linux interface has sent, where that is known.
    pub left: Option<u64>,
    /// Whether the link is down: then nothing can be sent.
    pub down: bool,
}

/// Asks for the ports, always the same ones in the same order.
pub type Ports = Box<dyn Fn() -> Vec<PortCounts> + Send>;

/// The watch.
pub struct PortWatch {
    ports: Ports,
    next: Option<Instant>,
    /// By port.
    states: Vec<State>,
}

/// What is known of a port.
#[derive(Debug, Clone, Copy, Default)]
struct State {
    missed: Growth,
    refused: Growth,
    sending: Sending,
}

impl PortWatch {
    /// A watch on these ports.
    pub fn new(ports: Ports) -> Self {
        PortWatch { ports, next: None, states: Vec::new() }
    }

    /// Looks at the ports, if it is time, and reports what has happened to them.
    pub fn look(&mut self, events: &EventLog, now: Instant) {
        if self.next.is_some_and(|next| now < next) {
            return;
        }
        self.next = Some(now + INTERVAL);
        let ports = (self.ports)();
        self.states.resize(ports.len(), State::default());
        for (port, state) in ports.iter().zip(&mut self.states) {
            state.look(port, events, now);
        }
    }
}

impl State {
    fn look(&mut self, port: &PortCounts, events: &EventLog, now: Instant) {
        let name = &port.name;
        let write = |kind, message: &dyn Fn() -> String| {
            events.write(kind, Subject { port: Some(name.clone()), ..Subject::default() }, now, message)
        };
        self.missed.look(port.missed, |new| {
            write(Kind::RxMissed, &|| {
                format!(
                    "{new} frames came to {name} and were lost before a worker took them (missed): the workers are too slow, or something \
                     else ran on their cores. Give each worker a core of its own; if LOAD in `shuntctl worker list` is high, use more \
                     workers"
                )
            })
        });
        self.refused.look(port.refused.iter().sum(), |new| {
            let [receive, send] = port.refused;
            write(Kind::BuffersRefused, &|| {
                format!(
                    "The kernel has refused {new} more packet buffers of {name} (since its start {receive} to receive into, {send} to send \
                     from): frames are lost, and in the end {name} receives and sends nothing. Restart shuntd; if it happens again, set the \
                     port's driver to \"af_packet\", and report it"
                )
            })
        });
        let Some(stalled) = self.sending.look(port, now) else { return };
        write(Kind::TxStalled, &|| {
            format!(
                "{name} sends nothing: in {} s, the driver took {} frames to send, and the interface's own counter (tx_packets) stands still. \
                 What is forwarded by {name} is lost. See `ip -s link` and `tc -s qdisc` for what holds it up; restart shuntd; if that helps \
                 for a while only, set the port's driver to \"af_packet\"",
                stalled.time.as_secs(),
                stalled.frames,
            )
        });
    }
}

/// A counter that should not grow.
#[derive(Debug, Clone, Copy, Default)]
struct Growth {
    /// Its value when it was last read.
    seen: u64,
    /// Its value when it last led to an event.
    reported: u64,
}

impl Growth {
    /// Reports by how much the counter has grown since the last event. What was left out is reported with the next growth.
    fn look(&mut self, value: u64, report: impl FnOnce(u64) -> bool) {
        if std::mem::replace(&mut self.seen, value) < value && report(value.saturating_sub(self.reported)) {
            self.reported = value;
        }
        // A port that was opened anew counts from 0.
        self.reported = self.reported.min(value);
    }
}

/// Whether what is given to a port leaves it.
#[derive(Debug, Clone, Copy, Default)]
struct Sending {
    /// Frames given and left when something had last left.
    given: u64,
    left: u64,
    /// When it was first seen that what was given since then has not left.
    since: Option<Instant>,
    reported: bool,
}

/// A port that sends nothing.
#[derive(Debug, PartialEq, Eq)]
struct Stalled {
    time: Duration,
    frames: u64,
}

impl Sending {
    /// Whether the port has just turned out to send nothing.
    fn look(&mut self, port: &PortCounts, now: Instant) -> Option<Stalled> {
        let left = port.left.filter(|_| !port.down);
        if left != Some(self.left) || port.given <= self.given {
            *self = Sending { given: port.given, left: left.unwrap_or(self.left), ..Sending::default() };
            return None;
        }
        let since = *self.since.get_or_insert(now);
        let (time, frames) = (now.saturating_duration_since(since), port.given - self.given);
        let stalled = time >= LONG && !self.reported;
        self.reported |= stalled;
        stalled.then_some(Stalled { time, frames })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use ctl::answer::Event;
    use ctl::request::EventQuery;

    use super::*;

    /// What is written when ports look like this, second by second.
    fn written(looks: &[PortCounts]) -> Vec<Event> {
        let current = Arc::new(Mutex::new(PortCounts::default()));
        let shown = current.clone();
        let mut watch = PortWatch::new(Box::new(move || vec![shown.lock().unwrap().clone()]));
        let (events, begin) = (EventLog::default(), Instant::now());
        for (second, port) in looks.iter().enumerate() {
            current.lock().unwrap().clone_from(port);
            let now = begin + Duration::from_secs(second as u64);
            watch.look(&events, now);
            // Between two looks, nothing is asked for.
            *current.lock().unwrap() = PortCounts { missed: u64::MAX, ..PortCounts::default() };
            watch.look(&events, now + Duration::from_millis(500));
        }
        events.list(EventQuery::default())
    }

    fn port(given: u64, left: Option<u64>) -> PortCounts {
        PortCounts { name: "lan0".into(), given, left, ..PortCounts::default() }
    }

    fn kinds(events: &[Event]) -> Vec<&str> {
        events.iter().map(|event| event.kind.as_str()).collect()
    }

    #[test]
    fn a_port_from_which_nothing_leaves_is_reported_once_after_three_seconds() {
        let well = (0..5).map(|second| port(10 * second, Some(10 * second)));
        let stuck = (0..10).map(|second| port(41 + second, Some(40)));
        let again = (0..5).map(|second| port(60 + second, Some(50 + second)));
        let looks: Vec<PortCounts> = well.chain(stuck).chain(again.clone()).collect();
        let events = written(&looks);
        assert_eq!(kinds(&events), ["tx-stalled"]);
        assert_eq!(events[0].subject.port.as_deref(), Some("lan0"));
        let message = &events[0].message;
        assert!(message.starts_with("lan0 sends nothing: in 3 s, the driver took 4 frames"), "{message}");
        // A second time, and one that never sent at all.
        let stuck_again = (0..10).map(|second| port(100 + second, Some(54)));
        assert_eq!(kinds(&written(&[looks, stuck_again.collect()].concat())), ["tx-stalled"; 2]);
        let never: Vec<PortCounts> = (0..5).map(|second| port(second, Some(0))).collect();
        assert_eq!(kinds(&written(&never)), ["tx-stalled"]);
    }

    #[test]
    fn an_idle_port_one_that_is_down_and_one_that_tells_nothing_are_not_reported() {
        let looks = |look: fn(u64) -> PortCounts| (0..12).map(look).collect::<Vec<_>>();
        let all: [fn(u64) -> PortCounts; 5] = [
            |_| port(50, Some(40)),
            |second| port(50 + second, None),
            |second| PortCounts { down: true, ..port(50 + second, Some(40)) },
            |second| port(50 + second, Some(40 + second / 3)),
            // Its counter is brought up to date every other second.
            |second| port(50 + second, Some(50 + second / 2 * 2)),
        ];
        for look in all {
            assert_eq!(kinds(&written(&looks(look))), [] as [&str; 0], "{:?}", look(11));
        }
        // Nothing leaves a link that is down: what waits since then does not count.
        let down = (0..5).map(|second| PortCounts { down: true, ..port(50 + second, Some(40)) });
        let up = (0..3).map(|second| port(55 + second, Some(40)));
        assert_eq!(kinds(&written(&down.chain(up).collect::<Vec<_>>())), [] as [&str; 0]);
    }

    #[test]
    fn what_is_missed_and_what_the_kernel_refuses_is_told_with_its_number() {
        let look = |missed, refused| PortCounts { missed, refused, ..port(0, Some(0)) };
        let events = written(&[look(0, [0, 0]), look(7, [0, 0]), look(7, [1, 2]), look(9, [1, 2]), look(9, [1, 2])]);
        assert_eq!(kinds(&events), ["rx-missed", "buffers-refused"]);
        assert!(events[0].message.starts_with("7 frames came to lan0 and were lost"), "{}", events[0].message);
        let message = &events[1].message;
        assert!(message.contains("refused 3 more packet buffers of lan0 (since its start 1 to receive"), "{message}");
        // Left out within ten seconds, and told with the next ones. A port that is opened anew counts from 0.
        let missed = [0, 7, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 10, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 5];
        let events = written(&missed.map(|missed| look(missed, [0, 0])));
        let numbers: Vec<&str> = events.iter().filter_map(|event| event.message.split(' ').next()).collect();
        assert_eq!(numbers, ["7", "3", "3"]);
    }
}
