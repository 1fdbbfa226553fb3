//! Follows the ports while the daemon runs: what becomes of a link, an MTU or a MAC address is in force at once, and an event.
//!
//! One thread sleeps in the kernel's netlink socket, and passes on what it hears. Another takes that, asks the devices that do not
//! tell of themselves twice a second, and tells the director, by whose snapshots workers and slow path go. Once a second, it
//! looks at what is counted at the ports.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::{self, Builder};
use std::time::{Duration, Instant};

use ctl::answer::Subject;
use tracing::warn;

use crate::base::ids::PortNo;
use crate::control::director::Director;
use crate::control::events::EventLog;
use crate::control::fault::{FaultKind, Sighting};
use crate::control::faults::Faults;
use crate::daemon::devices::{Devices, Done};
use crate::daemon::followed::{DeviceSaid, Followed, Happening, Step};
use crate::daemon::place::{Opened, Place, Properties};
use crate::daemon::port_watch::{self, PortWatch};
use crate::dpdk::{Port, PortError, PortNews, QueuePair};
use crate::forward::lending::Lender;
use crate::netlink::{News, Watch};
use crate::state::networks::PortLink;

/// How often devices are asked for their links that do not tell of them.
const ASK: Duration = Duration::from_millis(500);

/// News that wait for the follower. Where there are more, the kernel keeps them, or loses them and is asked anew.
const WAITING: usize = 1_024;

/// How long to wait before a netlink socket that has failed is opened again.
const RETRY: Duration = Duration::from_secs(1);

/// How often to look whether the workers have given back what was recalled.
const LOOK: Duration = Duration::from_millis(1);

/// What the follower is to look at.
enum Notice {
    /// News from the kernel.
    Interface(News),
    /// A device was opened or closed.
    Device(Done),
    /// Nothing: it is to see whether it must end.
    Wake,
}

/// Follows the ports.
pub(super) struct Follower {
    ports: Vec<Followed>,
    places: Arc<[Place]>,
    notices: Receiver<Notice>,
    sender: SyncSender<Notice>,
    watch: Option<Watch>,
    next_ask: Instant,
    /// By port.
    watches: Vec<PortWatch>,
    next_look: Instant,
}

/// Wakes the follower, so that it ends.
pub(super) struct Alarm(SyncSender<Notice>);

impl Alarm {
    pub(super) fn ring(&self) {
        // If there is no room, the follower is awake.
        let _ = self.0.try_send(Notice::Wake);
    }
}

/// The lenders of the ports' queue pairs: by port, one for each worker.
pub(super) type Lenders = Vec<Vec<Lender<QueuePair>>>;

impl Follower {
    /// Takes what the kernel and the devices say at this moment. `opened` are the ports as they were opened.
    pub(super) fn new(places: Arc<[Place]>, opened: Vec<Properties>) -> Follower {
        let now = Instant::now();
        let follow = |(place, properties): (&Place, Properties)| Followed::new(&place.name, properties, now);
        let ports: Vec<Followed> = places.iter().zip(opened).map(follow).collect();
        let (sender, notices) = sync_channel(WAITING);
        let names: Vec<String> = ports.iter().filter_map(|port| port.interface().map(String::from)).collect();
        let watch = if names.is_empty() { None } else { watch(names) };
        let watches = ports.iter().map(|port| PortWatch::new(&port.name)).collect();
        Follower { ports, places, notices, sender, watch, next_ask: now, watches, next_look: now }
    }

    /// The ports as they are now.
    pub(super) fn links(&mut self, events: &EventLog) -> Vec<PortLink> {
        let now = Instant::now();
        let said = self.watch.as_mut().map(Watch::take);
        match said {
            Some(Ok(news)) => news.iter().for_each(|news| self.hear(news, events, now)),
            Some(Err(problem)) => warn!("the kernel does not say how the interfaces are: {problem}"),
            None => {}
        }
        self.ports.iter().map(|port| port.link).collect()
    }

    /// What ends [`Self::run`].
    pub(super) fn alarm(&self) -> Alarm {
        Alarm(self.sender.clone())
    }

    /// Follows the ports until `stop` is set.
    pub(super) fn run(mut self, director: &Director, lenders: Lenders, faults: &Faults, stop: &AtomicBool) {
        let events = faults.events();
        if let Some(watch) = self.watch.take() {
            listen(watch, self.sender.clone());
        }
        let to_me = self.sender.clone();
        // Without room for what it has done, it waits.
        let done = move |done| drop(to_me.send(Notice::Device(done)));
        let devices = match Devices::start(self.places.clone(), done) {
            Ok(devices) => devices,
            Err(problem) => return warn!("the thread that opens devices cannot be started: {problem}"),
        };
        let mut queues = Queues::new(lenders);
        while !stop.load(Ordering::Relaxed) {
            let notices = self.wait();
            let now = Instant::now();
            for notice in notices {
                match notice {
                    Notice::Interface(news) => self.hear(&news, events, now),
                    Notice::Device(Done::Closed(port)) => self.ports[port].closed(now),
                    Notice::Device(Done::Opened(port, outcome)) => {
                        let outcome = outcome.map(|Opened { queues: pairs, properties }| {
                            queues.lend(port, pairs);
                            properties
                        });
                        let happened = self.ports[port].opened(outcome.map_err(|error| in_words(&error)), now);
                        happened.into_iter().for_each(|what| write(events, &self.ports[port].name, what, now));
                    }
                    Notice::Wake => {}
                }
            }
            if self.next_ask <= now {
                self.next_ask = now + ASK;
                self.ask(events, now);
                self.look(events, now);
            }
            self.take_steps(&devices, &mut queues, director, now);
            self.tell_faults(faults, now);
        }
        // What the thread does last goes nowhere, and it must not wait for room.
        drop(self.notices);
        drop(devices);
    }

    /// Waits for something to do, but not longer than until the devices are to be asked again.
    fn wait(&self) -> Vec<Notice> {
        let rest = self.next_ask.saturating_duration_since(Instant::now());
        let rest = if self.ports.iter().any(Followed::is_recalled) { LOOK } else { rest };
        let first = match self.notices.recv_timeout(rest) {
            Ok(notice) => Some(notice),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => unreachable!("the follower has a sender itself"),
        };
        first.into_iter().chain(self.notices.try_iter().take(WAITING)).collect()
    }

    /// Does what is to be done with each port, and tells the director.
    fn take_steps(&mut self, devices: &Devices, queues: &mut Queues<QueuePair>, director: &Director, now: Instant) {
        for (number, port) in self.ports.iter_mut().enumerate() {
            match port.step(now) {
                Some(Step::Recall) => queues.recall(number),
                Some(Step::Open) => devices.open(number),
                None => {}
            }
            self.places[number].set_trouble(port.trouble());
            director.set_port(PortNo::new(number), port.link);
        }
        // The workers look for queue pairs when they take a snapshot.
        if std::mem::take(&mut queues.moved) {
            director.republish();
        }
        for (number, port) in self.ports.iter_mut().enumerate().filter(|(_, port)| port.is_recalled()) {
            if let Some(pairs) = queues.given_back(number) {
                port.given_back();
                devices.close(number, pairs);
            }
        }
    }

    /// A port without a link is a fault. Its events are written where the port is followed, with a limit for one that flaps.
    fn tell_faults(&self, faults: &Faults, now: Instant) {
        for port in &self.ports {
            let subject = Subject { port: Some(port.name.clone()), ..Subject::default() };
            match port.trouble() {
                Some(trouble) => {
                    let text = format!("Port {} has no link: {trouble}", port.name);
                    faults.open(Sighting::new(FaultKind::LinkDown, subject, text, port.mend()), now);
                }
                None => _ = faults.close(FaultKind::LinkDown, &subject, now),
            }
        }
    }

    fn hear(&mut self, news: &News, events: &EventLog, now: Instant) {
        for port in &mut self.ports {
            let happened = port.hear(news, now);
            happened.into_iter().for_each(|happening| write(events, &port.name, happening, now));
        }
    }

    /// Looks at what is counted at the ports, if it is time.
    fn look(&mut self, events: &EventLog, now: Instant) {
        if now < self.next_look {
            return;
        }
        self.next_look = now + port_watch::INTERVAL;
        for (watch, place) in self.watches.iter_mut().zip(&*self.places) {
            watch.look(&place.stats(), events, now);
            if let Some(lost) = place.ask(Port::lost_flows) {
                watch.look_at_queues(lost, events, now);
            }
        }
    }

    /// Asks the devices that the kernel does not tell of.
    fn ask(&mut self, events: &EventLog, now: Instant) {
        for (port, place) in self.ports.iter_mut().zip(&*self.places) {
            let happened = match place.ask(|port| (port.news(), port.link())) {
                Some((news, link)) if port.interface().is_none() => {
                    let PortNews { link_was_down: was_down, removed } = news;
                    port.hear_device(DeviceSaid { up: link.up, was_down, removed }, now)
                }
                _ => port.tell(now).into_iter().collect(),
            };
            happened.into_iter().for_each(|happening| write(events, &port.name, happening, now));
        }
    }
}

/// The queue pairs that are with the workers, and those that come back.
struct Queues<Io> {
    lenders: Vec<Vec<Lender<Io>>>,
    returned: Vec<Vec<Io>>,
    /// Whether the workers are to look for some.
    moved: bool,
}

impl<Io> Queues<Io> {
    fn new(lenders: Vec<Vec<Lender<Io>>>) -> Self {
        let returned = lenders.iter().map(|_| Vec::new()).collect();
        Queues { lenders, returned, moved: false }
    }

    /// Lends a port's queue pairs to the workers.
    fn lend(&mut self, port: usize, pairs: Vec<Io>) {
        for (lender, pair) in self.lenders[port].iter_mut().zip(pairs) {
            // A port is opened when all that was recalled is back, so there is room.
            let _ = lender.lend(pair);
        }
        self.moved = true;
    }

    fn recall(&mut self, port: usize) {
        for lender in &mut self.lenders[port] {
            let _ = lender.recall();
        }
        self.moved = true;
    }

    /// A port's queue pairs, if all workers have given theirs back.
    fn given_back(&mut self, port: usize) -> Option<Vec<Io>> {
        let returned = &mut self.returned[port];
        returned.extend(self.lenders[port].iter_mut().filter_map(Lender::returned));
        (returned.len() == self.lenders[port].len()).then(|| std::mem::take(returned))
    }
}

/// An error with its cause.
fn in_words(error: &PortError) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

fn write(events: &EventLog, port: &str, Happening { kind, message }: Happening, now: Instant) {
    events.write(kind, Subject { port: Some(port.into()), ..Subject::default() }, now, || message);
}

fn watch(names: Vec<String>) -> Option<Watch> {
    let watch = Watch::new(names);
    watch
        .inspect_err(|problem| warn!("the kernel does not tell of interfaces, so no change of them is seen: {problem}"))
        .ok()
}

/// Passes on what the kernel says. The thread ends with the process, and holds nothing that must be gone before.
fn listen(mut watch: Watch, to: SyncSender<Notice>) {
    let body = move || {
        loop {
            match watch.wait() {
                Ok(news) => {
                    if to.send(Notice::Interface(news)).is_err() {
                        return;
                    }
                }
                Err(problem) => {
                    warn!("the kernel tells no more of interfaces; asking again: {problem}");
                    thread::sleep(RETRY);
                    if let Err(problem) = watch.renew() {
                        warn!("the kernel does not tell of interfaces: {problem}");
                    }
                }
            }
        }
    };
    if let Err(problem) = Builder::new().name("shunt-netlink".into()).spawn(body) {
        warn!(
            "the thread that listens to the kernel cannot be started, so changes of interfaces are not seen: {problem}"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forward::lending::{Borrower, lending};

    /// A worker's end, and the queue pair that it has.
    type End = (Borrower<u8>, Option<u8>);

    fn end(io: u8) -> (Lender<u8>, End) {
        let (lender, borrower) = lending();
        (lender, (borrower, Some(io)))
    }

    fn exchange((borrower, io): &mut End) {
        borrower.exchange(io);
    }

    #[test]
    fn a_port_is_closed_when_all_workers_have_given_it_back() {
        let ((to_first, mut first), (to_second, mut second)) = (end(1), end(2));
        let (of_other_port, mut other) = end(3);
        let mut queues = Queues::new(vec![vec![of_other_port], vec![to_first, to_second]]);
        queues.recall(1);
        assert!(queues.moved, "the workers are to look");
        assert_eq!(queues.given_back(1), None);
        exchange(&mut second);
        assert_eq!((queues.given_back(1), queues.given_back(1)), (None, None), "one is not enough, nor counted twice");
        exchange(&mut first);
        exchange(&mut other);
        assert_eq!((queues.given_back(1), other.1), (Some(vec![2, 1]), Some(3)), "the other port goes on");
        queues.lend(1, vec![4, 5]);
        exchange(&mut first);
        exchange(&mut second);
        assert_eq!((first.1, second.1, other.1), (Some(4), Some(5), Some(3)));
    }
}
