//! The slow path: everything that is not forwarding, on a core of its own.
//!
//! Workers give it frames through bounded rings ([`Punt`]); it answers ARP, neighbor discovery and ping for the VIPs and
//! the director's own addresses, announces them, keeps the backends' MAC addresses fresh, and [tells](report) the
//! operator what it sees. What it sends goes
//! through a ring to a worker, because the queues belong to the workers.
//!
//! Each protocol is a function from a frame to what comes of it; the time is an argument. Only [`SlowPath::turn`]
//! does something.

pub mod announce;
pub mod arp;
pub mod echo;
pub mod mld;
pub mod ndp;
pub mod neighbor;
pub mod report;

use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ctl::Mac;
use rtrb::{Consumer, Producer};

use crate::director::Director;
use crate::exit::PuntReason;
use crate::packet::{FrameSource, Packet};
use crate::snapshot::{Local, LocalPort, Snapshot, SnapshotReader};
use crate::worker::{Outgoing, Punt};
use announce::Announcer;
use neighbor::{Evidence, Neighbors};
use report::Reporter;

/// Frames taken from one worker before the next has its turn.
const FRAMES_PER_TURN: usize = 64;

/// How often links are looked at, and old snapshots freed.
const HOUSEKEEPING: Duration = Duration::from_millis(500);

/// What the slow path needs of the ports besides their queues.
pub trait PortControl: Send {
    /// Which ports' links are up.
    fn links(&mut self) -> Vec<bool>;

    /// Has a port receive these multicast addresses.
    fn listen(&mut self, port: usize, groups: &[Mac]);
}

/// A frame to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// The port to send it by.
    pub port: usize,
    /// The frame from its Ethernet header on.
    pub bytes: Vec<u8>,
}

/// What a protocol makes of a frame.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The answer.
    pub reply: Option<Frame>,
    /// What it tells about somebody's MAC address.
    pub learned: Option<Learned>,
}

/// Somebody's MAC address, as somebody says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Learned {
    /// Whose.
    pub address: IpAddr,
    /// The MAC address.
    pub mac: Mac,
    /// How good the word is.
    pub evidence: Evidence,
}

/// What the slow path knows while it looks at one frame.
#[derive(Debug, Clone, Copy)]
pub struct View<'s> {
    /// The current snapshot.
    pub snapshot: &'s Snapshot,
    /// The port that the frame came in by.
    pub port: usize,
}

impl<'s> View<'s> {
    /// That port's addresses.
    pub fn local(&self) -> &'s LocalPort {
        &self.snapshot.ports[self.port]
    }

    /// Whether we answer for an address on this port: for the port's own, and for the VIPs that belong there. Not for
    /// another port's own address: it would draw that port's traffic here (as `arp_ignore=1`).
    pub fn answers_for(&self, address: IpAddr) -> bool {
        match self.snapshot.vips.local(address) {
            Some(Local::Own) => self.local().addresses.iter().any(|net| net.addr() == address),
            Some(Local::Vip) => vip_port(self.snapshot, address).is_none_or(|port| port == self.port),
            None => false,
        }
    }
}

/// The port in whose network a VIP lies. One that lies in none (it is routed to the director) belongs to all.
pub fn vip_port(snapshot: &Snapshot, vip: IpAddr) -> Option<usize> {
    snapshot.model.port_towards(vip)
}

/// The state of the slow path's thread.
pub struct SlowPath<S: FrameSource> {
    director: Arc<Director>,
    snapshots: SnapshotReader,
    neighbors: Arc<Mutex<Neighbors>>,
    announcer: Announcer,
    reporter: Reporter,
    source: S,
    punts: Vec<Consumer<Punt<S::Packet>>>,
    outgoing: Producer<Outgoing<S::Packet>>,
    ports: Box<dyn PortControl>,
    /// The multicast addresses that each port receives.
    groups: Vec<Vec<Mac>>,
    generation: u64,
    next_housekeeping: Option<Instant>,
}

impl<S: FrameSource> SlowPath<S> {
    /// With the other ends of the workers' rings. `neighbors` is shared with whoever lists them.
    pub fn new(
        director: Arc<Director>,
        neighbors: Arc<Mutex<Neighbors>>,
        source: S,
        punts: Vec<Consumer<Punt<S::Packet>>>,
        outgoing: Producer<Outgoing<S::Packet>>,
        ports: Box<dyn PortControl>,
        reporter: Reporter,
    ) -> Self {
        let snapshots = director.reader();
        SlowPath {
            director,
            snapshots,
            neighbors,
            announcer: Announcer::default(),
            reporter,
            source,
            punts,
            outgoing,
            ports,
            groups: Vec::new(),
            generation: 0,
            next_housekeeping: None,
        }
    }

    /// One turn. Says whether there was something to do.
    pub fn turn(&mut self, now: Instant) -> bool {
        let snapshot = self.snapshots.load().clone();
        if snapshot.generation != self.generation {
            self.generation = snapshot.generation;
            self.neighbors().sync(&snapshot, now);
            self.listen(&snapshot);
            self.announcer.sync(&snapshot, now);
            // A new backend may be one that is known from another service.
            self.director.join_resolved();
        }
        let mut busy = self.take_frames(&snapshot, now);
        let mut frames = self.neighbors().poll(&snapshot, now);
        frames.extend(self.announcer.poll(&snapshot, now));
        busy |= !frames.is_empty();
        self.send(frames);
        self.publish_macs(&snapshot, now);
        if self.next_housekeeping.is_none_or(|next| next <= now) {
            self.next_housekeeping = Some(now + HOUSEKEEPING);
            self.report(&snapshot, now);
            drop(snapshot); // or it would be kept for another round
            self.director.expire();
            self.director.reclaim();
        }
        busy
    }

    /// Has the ports receive solicitations for their IPv6 addresses.
    fn listen(&mut self, snapshot: &Snapshot) {
        self.groups.resize(snapshot.ports.len(), Vec::new());
        for (port, groups) in self.groups.iter_mut().enumerate() {
            let wanted =
                ndp::groups(announce::addresses(snapshot).filter(|&(on, _)| on == port).map(|(_, address)| address));
            if *groups != wanted {
                self.ports.listen(port, &wanted);
                *groups = wanted;
            }
        }
    }

    /// Processes what the workers have punted.
    fn take_frames(&mut self, snapshot: &Snapshot, now: Instant) -> bool {
        let mut frames = Vec::new();
        let mut busy = false;
        for worker in 0..self.punts.len() {
            for _ in 0..FRAMES_PER_TURN {
                let Ok(punt) = self.punts[worker].pop() else { break };
                busy = true;
                let view = View { snapshot, port: punt.port };
                let Outcome { reply, learned } = process(punt.reason, punt.packet.data(), view);
                // Pings get what room is left by what keeps the director alive.
                if punt.reason != PuntReason::Echo
                    || self.outgoing.slots() > self.outgoing.buffer().capacity() / 2 + frames.len()
                {
                    frames.extend(reply);
                }
                if let Some(learned) = learned {
                    self.neighbors().learn(learned, punt.port, now);
                }
            }
        }
        self.send(frames);
        busy
    }

    fn send(&mut self, frames: Vec<Frame>) {
        for Frame { port, bytes } in frames {
            let Some(packet) = self.source.packet(&bytes) else {
                tracing::debug!("no packet buffer for a frame of the slow path");
                continue;
            };
            if self.outgoing.push(Outgoing { port, packet }).is_err() {
                // Probes and announcements come again, and so do whoever's requests.
                tracing::debug!("the ring to the worker is full: a frame of the slow path is lost");
            }
        }
    }

    /// Looks at links and losses, and at what the workers have shown.
    fn report(&mut self, snapshot: &Snapshot, now: Instant) {
        let links = self.ports.links();
        self.reporter.links(&links, snapshot, now);
        self.announcer.links(links, now);
        self.reporter.losses(self.director.workers(), snapshot, now);
        let neighbors = self.neighbors.lock().expect("nobody panics while holding the neighbors");
        self.reporter.samples(&neighbors, snapshot, now);
    }

    fn publish_macs(&self, snapshot: &Snapshot, now: Instant) {
        let (changed, news) = {
            let mut neighbors = self.neighbors();
            (neighbors.take_changed_macs().map(|macs| (macs, neighbors.failed())), neighbors.take_news())
        };
        self.reporter.news(news, snapshot, now);
        if let Some((macs, failed)) = changed {
            self.director.set_macs(macs);
            self.director.join_resolved();
            self.director.set_down(&failed);
        }
    }

    fn neighbors(&self) -> std::sync::MutexGuard<'_, Neighbors> {
        self.neighbors.lock().expect("nobody panics while holding the neighbors")
    }
}

/// What comes of a frame.
pub fn process(reason: PuntReason, frame: &[u8], view: View<'_>) -> Outcome {
    match reason {
        PuntReason::Arp => arp::process(frame, view),
        PuntReason::Ndp => ndp::process(frame, view),
        PuntReason::Echo => Outcome { reply: echo::process(frame, view), learned: None },
        PuntReason::OwnAddress => Outcome::default(),
    }
}
