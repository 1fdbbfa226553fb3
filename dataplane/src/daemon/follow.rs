//! Follows the ports while the daemon runs: what becomes of a link, an MTU or a MAC address is in force at once, and an event.
//!
//! One thread sleeps in the kernel's netlink socket, and passes on what it hears. Another takes that, asks the devices that do not
//! tell of themselves twice a second, and tells the director, by whose snapshots workers and slow path go.

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
use crate::daemon::followed::{Followed, Happening};
use crate::daemon::ports::Ports;
use crate::dpdk::Port;
use crate::netlink::{News, Watch};
use crate::state::networks::PortLink;

/// How often devices are asked for their links that do not tell of them.
const ASK: Duration = Duration::from_millis(500);

/// News that wait for the follower. Where there are more, the kernel keeps them, or loses them and is asked anew.
const WAITING: usize = 1_024;

/// How long to wait before a netlink socket that has failed is opened again.
const RETRY: Duration = Duration::from_secs(1);

/// What the follower is to look at.
enum Notice {
    /// News from the kernel.
    Interface(News),
    /// Nothing: it is to see whether it must end.
    Wake,
}

/// Follows the ports.
pub(super) struct Follower {
    ports: Vec<Followed>,
    open: Arc<[Port]>,
    notices: Receiver<Notice>,
    sender: SyncSender<Notice>,
    watch: Option<Watch>,
    next_ask: Instant,
}

/// Wakes the follower, so that it ends.
pub(super) struct Alarm(SyncSender<Notice>);

impl Alarm {
    pub(super) fn ring(&self) {
        // If there is no room, the follower is awake.
        let _ = self.0.try_send(Notice::Wake);
    }
}

impl Follower {
    /// Takes what the kernel and the devices say at this moment.
    pub(super) fn new(ports: &Ports) -> Follower {
        let now = Instant::now();
        let followed = ports.followed(now);
        let (sender, notices) = sync_channel(WAITING);
        let names: Vec<String> = followed.iter().filter_map(|port| port.interface().map(String::from)).collect();
        let watch = if names.is_empty() { None } else { watch(names) };
        Follower { ports: followed, open: ports.open_ports(), notices, sender, watch, next_ask: now }
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
    pub(super) fn run(mut self, director: &Director, events: &EventLog, stop: &AtomicBool) {
        if let Some(watch) = self.watch.take() {
            listen(watch, self.sender.clone());
        }
        while !stop.load(Ordering::Relaxed) {
            let rest = self.next_ask.saturating_duration_since(Instant::now());
            let first = match self.notices.recv_timeout(rest) {
                Ok(notice) => Some(notice),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => unreachable!("the follower has a sender itself"),
            };
            let now = Instant::now();
            let more: Vec<Notice> = self.notices.try_iter().take(WAITING).collect();
            for notice in first.into_iter().chain(more) {
                if let Notice::Interface(news) = notice {
                    self.hear(&news, events, now);
                }
            }
            if self.next_ask <= now {
                self.next_ask = now + ASK;
                self.ask(events, now);
            }
            for (number, port) in self.ports.iter().enumerate() {
                director.set_port(PortNo::new(number), port.link);
            }
        }
    }

    fn hear(&mut self, news: &News, events: &EventLog, now: Instant) {
        for port in &mut self.ports {
            let happened = port.hear(news, now);
            happened.into_iter().for_each(|happening| write(events, &port.name, happening, now));
        }
    }

    /// Asks the devices that the kernel does not tell of.
    fn ask(&mut self, events: &EventLog, now: Instant) {
        for (port, device) in self.ports.iter_mut().zip(&*self.open) {
            let happened = match port.interface() {
                Some(_) => port.tell_link(now),
                None => port.hear_link(device.link().up, now),
            };
            happened.into_iter().for_each(|happening| write(events, &port.name, happening, now));
        }
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
