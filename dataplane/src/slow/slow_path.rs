//! The slow path's thread: each turn takes punted frames, sends answers and probes, and reports what has changed.

use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ctl::Mac;
use rtrb::Producer;

use crate::base::exit::{DropReason, PuntReason, UnsentReason};
use crate::base::ids::{NetworkNo, PortNo};
use crate::base::packet::{FrameSource, Packet};
use crate::commands::Commands;
use crate::control::compile::Compiled;
use crate::control::director::Director;
use crate::control::faults::Faults;
use crate::control::model::Verdicts;
use crate::forward::class::Class;
use crate::forward::rings::{Outgoing, Punt, Punted};
use crate::health::engine::Engine;
use crate::health::news::Seen;
use crate::slow::announce::{self, Announcer};
use crate::slow::mld::Listener;
use crate::slow::neighbor::Neighbors;
use crate::slow::report::Reporter;
use crate::slow::view::{Frame, Outcome, View};
use crate::slow::watch::{Claims, Rounds, Silence, Stations, forget_removed, mute};
use crate::slow::{arp, echo, ndp, too_big};
use crate::state::networks::LocalNetwork;
use crate::state::publication::SnapshotReader;
use crate::wire::ethernet::ETHERNET_HEADER;
use crate::wire::{mld, vlan};

/// The probes, the reports and the announcements that are sent in a turn, each.
const SAID_IN_A_TURN: usize = 64;

/// The frames of probes that are sent in a turn.
const PROBES_IN_A_TURN: usize = 128;

/// How often losses and samples are looked at.
const HOUSEKEEPING: Duration = Duration::from_millis(500);

/// What the slow path needs of the ports besides their queues.
pub trait PortControl: Send {
    /// Makes a port receive these multicast addresses.
    fn listen(&mut self, port: PortNo, groups: &[Mac]);

    /// The frames that came to a port so far and that no worker took in time.
    fn missed(&self, port: PortNo) -> u64;
}

/// The state of the slow path's thread.
pub struct SlowPath<S: FrameSource> {
    director: Arc<Director>,
    snapshots: SnapshotReader,
    neighbors: Arc<Mutex<Neighbors>>,
    health: Arc<Mutex<Engine>>,
    /// What the checks say.
    checked: Arc<Verdicts>,
    /// What the checks and the clients' packets say.
    verdicts: Arc<Verdicts>,
    /// Without it, no command is run.
    commands: Option<Commands>,
    announcer: Announcer,
    listener: Listener,
    reporter: Reporter,
    faults: Arc<Faults>,
    rounds: Rounds,
    claims: Claims,
    /// Announcements of addresses that others claim. The claims' limit bounds their number.
    defences: Vec<Frame>,
    silence: Silence,
    stations: Stations,
    source: S,
    punts: Vec<Punted<S::Packet>>,
    outgoing: Producer<Outgoing<S::Packet>>,
    ports: Box<dyn PortControl>,
    /// The multicast addresses that each port receives, and how often it had joined its network when it was told so.
    groups: Vec<(u32, Vec<Mac>)>,
    current: Compiled,
    next_housekeeping: Option<Instant>,
}

impl<S: FrameSource> SlowPath<S> {
    /// A slow path with the other ends of the workers' rings. The control socket lists the neighbors and what the checks have
    /// found, so these are shared with it.
    pub fn new(
        director: Arc<Director>,
        (neighbors, health): (Arc<Mutex<Neighbors>>, Arc<Mutex<Engine>>),
        source: S,
        punts: Vec<Punted<S::Packet>>,
        outgoing: Producer<Outgoing<S::Packet>>,
        ports: Box<dyn PortControl>,
        reporter: Reporter,
    ) -> Self {
        let (snapshots, current) = (director.reader(), director.current());
        let faults = reporter.faults().clone();
        faults.attend();
        SlowPath {
            director,
            snapshots,
            neighbors,
            health,
            checked: Arc::default(),
            verdicts: Arc::default(),
            commands: None,
            announcer: Announcer::default(),
            listener: Listener::default(),
            reporter,
            faults,
            rounds: Rounds::default(),
            claims: Claims::default(),
            defences: Vec::new(),
            silence: Silence::default(),
            stations: Stations::default(),
            source,
            punts,
            outgoing,
            ports,
            groups: Vec::new(),
            current,
            next_housekeeping: None,
        }
    }

    /// Has the commands of checks run.
    pub fn running(self, commands: Commands) -> Self {
        SlowPath { commands: Some(commands), ..self }
    }

    /// One turn. Returns whether there was something to do.
    pub fn turn(&mut self, now: Instant) -> bool {
        let is_new = self.snapshots.load().generation != self.current.generation;
        if is_new {
            self.current = self.director.current();
        }
        let current = self.current.clone();
        if is_new || self.next_housekeeping.is_none() {
            let mut neighbors = self.neighbors.lock().expect("no thread panics while it holds the neighbors");
            neighbors.sync(&current, now);
            neighbors.set_links(&current, now);
            self.silence.sync(&neighbors);
            drop(neighbors);
            self.listen(&current);
            self.health().sync(&current, now);
            self.reporter.fallbacks(&current, now);
            self.announcer.sync(&current, now);
            self.listener.sync(announce::addresses(&current), now);
            self.claims.sync(&current, now);
            forget_removed(&self.faults, &current);
        }
        if self.rounds.begins(&self.faults, now) {
            self.neighbors().ask_all(now);
            self.health().ask_all(now);
            self.health().sizes.ask_all(now);
            self.claims.ask_all(now);
        }
        let mut busy = self.take_frames(&current, now);
        busy |= self.say(&current, now);
        busy |= self.check(&current, now);
        let mut health = self.health();
        let mut passive = std::mem::take(&mut health.passive);
        passive.look(&current, &|service| health.believes(service), now);
        health.passive = passive;
        drop(health);
        self.publish_macs(&current, now);
        if self.next_housekeeping.is_none_or(|next| next <= now) {
            self.next_housekeeping = Some(now + HOUSEKEEPING);
            self.report(&current, now);
        }
        self.end_round(&current, now);
        busy
    }

    /// Ends a round of all checks when all have answered that can.
    fn end_round(&mut self, current: &Compiled, now: Instant) {
        let Some((begin, is_time)) = self.rounds.due(now) else { return };
        let are_known = |health: &Engine| health.is_known_since(begin) && health.sizes.are_known_since(begin);
        let have_answered = self.neighbors().have_answered_since(begin, current) && are_known(&self.health());
        if is_time || have_answered {
            self.report(current, now);
            self.rounds.end(&self.faults);
        }
    }

    /// Makes the ports receive solicitations for their IPv6 addresses.
    fn listen(&mut self, current: &Compiled) {
        self.groups.resize(current.vlans.len(), Default::default());
        for (port, groups) in self.groups.iter_mut().enumerate() {
            let joins = current.ports[port].joins;
            let port = PortNo::new(port);
            let on_port = |&(network, _): &(NetworkNo, IpAddr)| current.network(network).port == port;
            let wanted = ndp::groups(announce::addresses(current).filter(on_port).map(|(_, address)| address));
            // A port that joins its network again may have another device.
            let wanted = (joins, wanted);
            if *groups != wanted {
                self.ports.listen(port, &wanted.1);
                *groups = wanted;
            }
        }
    }

    /// Processes the frames that the workers have punted: so many of each class and worker, and no more in a turn.
    fn take_frames(&mut self, current: &Compiled, now: Instant) -> bool {
        let mut frames = Vec::new();
        let mut busy = false;
        for class in Class::ALL {
            for worker in 0..self.punts.len() {
                for _ in 0..class.in_a_turn() {
                    let Some(punt) = self.punts[worker].pop(class) else { break };
                    busy = true;
                    for answer in self.process(&punt, current, now) {
                        // Others cause these answers. They leave room in the ring for what the director must say itself.
                        if self.outgoing.slots() > frames.len() + kept_from(class, self.outgoing.buffer().capacity()) {
                            frames.push(answer);
                        } else {
                            self.unsent(current.network(answer.network).port, UnsentReason::RingFull);
                        }
                    }
                }
            }
        }
        self.send(current, frames);
        busy
    }

    /// Sends probes, reports and announcements that are due: so many of each in a turn, and no more than the ring takes.
    fn say(&mut self, current: &Compiled, now: Instant) -> bool {
        let room = (self.outgoing.slots() / 4).min(SAID_IN_A_TURN);
        let lost = |port| lost(&self.director, &*self.ports, port);
        let mut frames = self.neighbors().poll(current, &lost, now, room);
        let announced = self.announcer.poll(now, room);
        // Reports first: a station that hears of an address may solicit it at once.
        announced.iter().for_each(|&(network, address)| self.listener.report(network, address, now));
        frames.extend(self.listener.poll(current, now, room));
        frames.extend(announced.iter().map(|&(network, address)| announce::announcement(current, network, address)));
        frames.extend(self.claims.poll(current, now, room));
        self.claims.look(&self.faults, current, now);
        frames.append(&mut self.defences);
        let busy = !frames.is_empty();
        self.send(current, frames);
        busy
    }

    /// Begins and ends the probes of health checks.
    fn check(&mut self, current: &Compiled, now: Instant) -> bool {
        let room = (self.outgoing.slots() / 4).min(PROBES_IN_A_TURN);
        let lost = |port| lost(&self.director, &*self.ports, port);
        let (mut frames, orders) = {
            let mut health = self.health();
            (health.poll(current, &lost, now, room), health.take_orders())
        };
        let rest = room.saturating_sub(frames.len());
        let neighbors = self.neighbors();
        let station = |address| neighbors.get(address).and_then(|neighbor| Some((neighbor.network, neighbor.mac?)));
        frames.extend(self.health().sizes.poll(current, &station, &lost, now, rest));
        drop(neighbors);
        let busy = !frames.is_empty();
        if let Some(commands) = &mut self.commands {
            commands.order(orders, now);
            let ended = commands.turn(now);
            frames.extend(ended.iter().flat_map(|ended| self.health().hear_of(ended, now)));
        }
        self.send(current, frames);
        busy
    }

    /// Processes a punted frame. Returns the answers.
    fn process(&mut self, punt: &Punt<S::Packet>, current: &Compiled, now: Instant) -> Vec<Frame> {
        let Some((tags, frame)) = vlan::untagged(punt.packet.data()) else { return Vec::new() };
        // The worker may have had another snapshot.
        let Some(network) = current.vlans[punt.port.index()].network(tags) else { return Vec::new() };
        if punt.reason == PuntReason::Mld {
            if let Some(query) = frame.get(ETHERNET_HEADER..).and_then(mld::query) {
                self.listener.hear(&query, network, now);
            }
            return Vec::new();
        }
        if punt.reason == PuntReason::OwnAddress {
            return self.health().hear(&frame, network, now);
        }
        let Outcome { reply, learned, claim } = process(punt.reason, punt.mtu, &frame, View { current, network });
        if let Some(learned) = learned {
            self.neighbors().learn(learned, network, now);
        }
        if let Some(claim) = claim {
            self.defences.extend(self.claims.hear(claim, network, &self.stations, &self.faults, current, now));
        }
        reply.into_iter().collect()
    }

    fn send(&mut self, current: &Compiled, frames: Vec<Frame>) {
        for Frame { network, bytes } in frames {
            let &LocalNetwork { port, tags, link, .. } = current.network(network);
            // When it is up again, everything is said anew.
            if !link.up {
                continue;
            }
            let Some(packet) = self.source.packet(&vlan::tagged(bytes, tags)) else {
                self.unsent(port, UnsentReason::NoBuffer);
                continue;
            };
            if self.outgoing.push(Outgoing { port, packet }).is_err() {
                // Probes and announcements are repeated, and so are requests that stay unanswered.
                self.unsent(port, UnsentReason::RingFull);
            }
        }
    }

    /// Counts a frame that is not sent.
    fn unsent(&self, port: PortNo, reason: UnsentReason) {
        self.director.unsent()[port.index()][reason.index()].add(1);
    }

    /// Reports losses, samples, and faults that have come or gone with time.
    fn report(&mut self, current: &Compiled, now: Instant) {
        self.reporter.losses(self.director.workers(), current, now);
        self.reporter.buffers(now);
        let neighbors = self.neighbors.lock().expect("no thread panics while it holds the neighbors");
        self.reporter.samples(&self.stations, current, now);
        self.silence.look(&self.faults, &neighbors, current, now);
        drop(neighbors);
        self.faults.expire(now);
    }

    fn publish_macs(&mut self, current: &Compiled, now: Instant) {
        let (news, changed) = {
            let mut neighbors = self.neighbors.lock().expect("no thread panics while it holds the neighbors");
            let (judged, macs) = (neighbors.judge(), neighbors.take_changed_macs());
            let (verdicts, found, seen, (of_clients, shown), out) = {
                let mut health = self.health();
                let (verdicts, found, seen) = (health.take_verdicts(), health.take_news(), health.take_sightings());
                let of_clients = health.passive.take_found();
                let has_changed = health.passive.take_changed() | verdicts.is_some();
                (verdicts, found, seen, of_clients, has_changed.then(|| health.passive.verdicts().clone()))
            };
            self.reporter.health(found.into_iter().chain(of_clients).collect(), now);
            for seen in seen.into_iter().chain(shown) {
                match seen {
                    Seen::Fault(sighting) => _ = self.faults.open(sighting, now),
                    Seen::Mended(kind, subject) => _ = self.faults.close(kind, &subject, now),
                    Seen::Silent(backend) => neighbors.ask(backend, now),
                    Seen::Mute { sighting, since } => mute(&self.faults, &neighbors, sighting, since, now),
                }
            }
            let other = out.is_some();
            self.checked = verdicts.unwrap_or_else(|| self.checked.clone());
            if let Some(out) = out {
                self.verdicts = Arc::new(self.checked.or(&out));
            }
            let outlook = || neighbors.outlook().clone().with_verdicts(self.verdicts.clone());
            let changed = (judged || other || !macs.is_empty()).then(|| (macs, outlook()));
            (neighbors.take_news(), changed)
        };
        self.reporter.news(news, current, now);
        if let Some((macs, outlook)) = changed {
            let neighbors = self.neighbors.lock().expect("no thread panics while it holds the neighbors");
            self.stations.look(&self.faults, &neighbors, current, now);
            drop(neighbors);
            self.director.hear(&macs, &outlook);
        }
    }

    fn health(&self) -> std::sync::MutexGuard<'_, Engine> {
        self.health.lock().expect("no thread panics while it holds the health checks")
    }

    fn neighbors(&self) -> std::sync::MutexGuard<'_, Neighbors> {
        self.neighbors.lock().expect("no thread panics while it holds the neighbors")
    }
}

/// Frames that the director has lost at a port, each of which may have been a probe or an answer to one: those that no worker took
/// in time, those of the slow path that were dropped on the way to it, and those that did not leave.
fn lost(director: &Director, ports: &dyn PortControl, port: PortNo) -> u64 {
    const REASONS: [DropReason; 3] = [DropReason::PuntFull, DropReason::OwnAddressLimited, DropReason::TxFull];
    let workers = director.workers().iter().filter_map(|worker| worker.ports.get(port.index()));
    let dropped: u64 = workers.flat_map(|port| REASONS.map(|reason| port.drops[reason.index()].read())).sum();
    let unsent: u64 = director.unsent()[port.index()].iter().map(|counter| counter.read()).sum();
    dropped + unsent + ports.missed(port)
}

/// The entries of the ring to the worker that the answers to frames of a class leave free. Any client can ping, and any
/// neighbor can ask; probes, announcements, and answers to backends come before those.
fn kept_from(class: Class, ring: usize) -> usize {
    match class {
        Class::Backends => 0,
        // A connection of a probe takes three frames, the first of which was sent.
        Class::Answers => ring / 8,
        Class::Arp | Class::Ndp | Class::Mld => ring / 4,
        Class::OwnAddress | Class::Echo | Class::TooBig => ring / 2,
    }
}

/// What a frame without VLAN tags leads to. For a frame that is too big, `mtu` is that of the port towards the backend.
pub fn process(reason: PuntReason, mtu: u16, frame: &[u8], view: View<'_>) -> Outcome {
    let Some(&[a, b, c, d, e, f]) = frame.get(6..).and_then(<[u8]>::first_chunk) else { return Outcome::default() };
    if !view.is_station(Mac([a, b, c, d, e, f])) {
        return Outcome::default();
    }
    match reason {
        PuntReason::Arp => arp::process(frame, view),
        PuntReason::Ndp => ndp::process(frame, view),
        PuntReason::Echo => Outcome { reply: echo::process(frame, view), ..Outcome::default() },
        PuntReason::TooBig => Outcome { reply: too_big::process(frame, mtu, view), ..Outcome::default() },
        // A query is answered later, by a report.
        PuntReason::Mld | PuntReason::OwnAddress => Outcome::default(),
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use rtrb::Consumer;

    use super::*;
    use crate::control::model::{Contact, Model};
    use crate::forward::rings::{Punts, punt_rings};
    use crate::slow::mld::message::{Record, report};
    use crate::state::networks::PortLink;
    use crate::testing::frame::{CLIENT_MAC, Ethernet, eth};
    use crate::testing::memory::{MemoryPacket, MemorySource};
    use crate::testing::model::{PORT, PORT_MAC, backend_mac, leases, network, service};

    /// A port that takes any address.
    struct Up;

    impl PortControl for Up {
        fn listen(&mut self, _port: PortNo, _groups: &[Mac]) {}

        fn missed(&self, _port: PortNo) -> u64 {
            0
        }
    }

    fn tables() -> (Arc<Mutex<Neighbors>>, Arc<Mutex<Engine>>) {
        (Arc::default(), Arc::new(Mutex::new(Engine::new(Instant::now(), 1))))
    }

    /// A slow path with an untagged network and VLAN 100 on one port, and the ends of its rings.
    struct Rig {
        slow_path: SlowPath<MemorySource>,
        punts: Punts<MemoryPacket>,
        outgoing: Consumer<Outgoing<MemoryPacket>>,
        now: Instant,
    }

    impl Rig {
        fn new() -> Self {
            let networks = vec![
                network("lan0", 0, "", &["192.168.0.2/24"]),
                network("lan0", 0, "100", &["10.1.0.2/24", "fd01::2/64"]),
            ];
            let mut model = Model::new([1; 16], 31, networks);
            for (vip, backend) in
                [("192.168.0.101:80", "10.1.0.3"), ("10.1.0.101:80", "192.168.0.3"), ("[fd01::101]:80", "fd01::3")]
            {
                model.add_service(&service(vip, &[(backend, 1)]), &leases()).unwrap();
            }
            let director = Arc::new(Director::new(model, leases(), vec![], vec![PORT]));
            let (punts, punted) = punt_rings(|_| 64);
            let (to_worker, outgoing) = rtrb::RingBuffer::new(64);
            let reporter = Reporter::new(Arc::default(), Vec::new());
            let slow_path =
                SlowPath::new(director, tables(), MemorySource, vec![punted], to_worker, Box::new(Up), reporter);
            Rig { slow_path, punts, outgoing, now: Instant::now() }
        }

        /// The frames that are sent in one turn.
        fn turn(&mut self) -> Vec<Vec<u8>> {
            self.slow_path.turn(self.now);
            std::iter::from_fn(|| self.outgoing.pop().ok()).map(|outgoing| outgoing.packet.bytes).collect()
        }

        fn answers(&mut self, reason: PuntReason, frame: Vec<u8>) -> Vec<Vec<u8>> {
            let punt = Punt { port: PortNo::new(0), reason, mtu: 1_400, packet: frame.into() };
            assert!(self.punts.push(Class::Arp, punt));
            self.turn()
        }
    }

    fn in_vlan(frame: &[u8]) -> Vec<u8> {
        vlan::tagged(frame.to_vec(), "100".parse().unwrap())
    }

    #[test]
    fn frames_from_group_addresses_and_from_ourselves_are_not_answered() {
        let mut rig = Rig::new();
        rig.turn();
        for (station, answers) in [(CLIENT_MAC, 1), (Mac([0xff; 6]), 0), (Mac([1, 0, 0x5e, 0, 0, 1]), 0), (PORT_MAC, 0)]
        {
            let ip = || eth().from(station).ipv4("10.0.0.1", "192.168.0.101");
            assert_eq!(rig.answers(PuntReason::Echo, ip().echo(b"x")).len(), answers, "{station}");
            assert_eq!(rig.answers(PuntReason::TooBig, ip().tcp(1, 80).ack()).len(), answers, "{station}");
            let mut solicitation = in_vlan(&ndp::request(
                CLIENT_MAC,
                "fd01::10".parse().unwrap(),
                "fd01::101".parse().unwrap(),
                Some(PORT_MAC),
            ));
            solicitation[6..12].copy_from_slice(&station.0);
            assert_eq!(rig.answers(PuntReason::Ndp, solicitation).len(), answers, "{station}");
        }
    }

    #[test]
    fn probes_and_announcements_have_the_tags_of_their_network() {
        let sent = Rig::new().turn();
        let (untagged, tagged) = (["192.168.0.2", "192.168.0.101"], ["10.1.0.2", "10.1.0.101"]);
        for address in untagged {
            assert!(sent.contains(&arp::announcement(PORT_MAC, address.parse().unwrap())), "{address}");
        }
        for address in tagged {
            assert!(sent.contains(&in_vlan(&arp::announcement(PORT_MAC, address.parse().unwrap()))), "{address}");
        }
        assert!(sent.contains(&in_vlan(&ndp::announcement(PORT_MAC, "fd01::101".parse().unwrap()))));
        let asks =
            |own: &str, target: &str| arp::request(PORT_MAC, own.parse().unwrap(), target.parse().unwrap(), None);
        assert!(sent.contains(&asks("192.168.0.2", "192.168.0.3")));
        assert!(sent.contains(&in_vlan(&asks("10.1.0.2", "10.1.0.3"))));
        let solicits = ndp::request(PORT_MAC, "fd01::2".parse().unwrap(), "fd01::3".parse().unwrap(), None);
        assert!(sent.contains(&in_vlan(&solicits)));
        // The link-local address ends like another one.
        let groups = ["ff02::1:ff00:2", "ff02::1:ff00:101"].map(|group| group.parse().unwrap());
        assert!(sent.contains(&in_vlan(&report(PORT_MAC, Record::Joined, &groups))));
    }

    #[test]
    fn nothing_is_said_while_the_link_is_down_and_everything_when_it_is_up_again() {
        let mut rig = Rig::new();
        let all = rig.turn();
        let port = PortNo::new(0);
        rig.slow_path.director.set_port(port, PortLink { up: false, ..PORT });
        for second in 0..60 {
            rig.now += Duration::from_secs(1);
            assert_eq!(rig.turn(), [] as [Vec<u8>; 0], "second {second}");
        }
        let other = Mac([2, 0, 0, 0, 9, 9]);
        for (joins, mac) in [(1, PORT_MAC), (2, other)] {
            rig.slow_path.director.set_port(port, PortLink { joins, mac, ..PORT });
            let said = rig.turn();
            // Announcements, reports and probes, as at the start.
            let from_us = said.iter().filter(|frame| frame[6..12] == mac.0).count();
            assert_eq!(from_us, said.len(), "{mac}");
            // With another MAC address, one group is left.
            assert!((all.len()..=all.len() + 1).contains(&said.len()), "{mac}");
            let vip = "192.168.0.101".parse().unwrap();
            assert!(said.contains(&arp::announcement(mac, vip)), "{mac}");
        }
    }

    fn unsent<S: FrameSource>(slow_path: &SlowPath<S>) -> [u64; UnsentReason::COUNT] {
        slow_path.director.unsent()[0].each_ref().map(|counter| counter.read())
    }

    #[test]
    fn what_is_not_sent_is_counted_with_its_reason() {
        let mut rig = Rig::new();
        rig.turn();
        assert_eq!(unsent(&rig.slow_path), [0, 0]);
        // Nobody takes the answers out of the ring of 64; these leave a quarter of it.
        for _ in 0..60 {
            let ask = arp::request(CLIENT_MAC, [192, 168, 0, 9].into(), [192, 168, 0, 101].into(), None);
            let punt = Punt { port: PortNo::new(0), reason: PuntReason::Arp, mtu: 1_400, packet: ask.into() };
            assert!(rig.punts.push(Class::Arp, punt));
        }
        rig.slow_path.turn(rig.now);
        assert_eq!((rig.outgoing.slots(), unsent(&rig.slow_path)), (48, [0, 12]));
        // The director itself may use all of it.
        let frame = || Frame { network: NetworkNo::new(0), bytes: vec![0; 60] };
        let current = rig.slow_path.current.clone();
        rig.slow_path.send(&current, (0..20).map(|_| frame()).collect());
        assert_eq!((rig.outgoing.slots(), unsent(&rig.slow_path)), (64, [0, 16]));

        struct NoMemory;
        impl FrameSource for NoMemory {
            type Packet = MemoryPacket;
            fn packet(&self, _: &[u8]) -> Option<MemoryPacket> {
                None
            }
        }
        let director = rig.slow_path.director.clone();
        let (to_worker, outgoing) = rtrb::RingBuffer::new(64);
        let reporter = Reporter::new(Arc::default(), Vec::new());
        let mut slow_path = SlowPath::new(director, tables(), NoMemory, Vec::new(), to_worker, Box::new(Up), reporter);
        slow_path.turn(rig.now);
        let [no_buffer, ring_full] = unsent(&slow_path);
        assert!(no_buffer > 0 && ring_full == 16 && outgoing.is_empty(), "{no_buffer} {ring_full}");
    }

    #[test]
    fn answers_have_the_tags_of_the_request_and_a_vip_is_in_its_own_network_only() {
        let mut rig = Rig::new();
        rig.turn();
        let who_has =
            |target: &str| arp::request(CLIENT_MAC, "10.1.0.9".parse().unwrap(), target.parse().unwrap(), None);
        let answers = |frames: Vec<Vec<u8>>| frames.into_iter().filter(|frame| frame[..6] == CLIENT_MAC.0).collect();
        let answered: Vec<Vec<u8>> = answers(rig.answers(PuntReason::Arp, in_vlan(&who_has("10.1.0.101"))));
        assert_eq!(answered.len(), 1);
        assert_eq!(answered[0][12..18], [0x81, 0, 0, 100, 8, 6]);
        for frame in [who_has("10.1.0.101"), in_vlan(&who_has("192.168.0.101")), in_vlan(&who_has("192.168.0.2"))] {
            assert_eq!(answers(rig.answers(PuntReason::Arp, frame)), [] as [Vec<u8>; 0]);
        }
        // A ping may come from any network.
        let back = || eth().from(PORT_MAC).to(CLIENT_MAC);
        let reply = |eth: Ethernet| eth.ipv4("192.168.0.101", "10.1.0.9").icmp(1, 0, 0, &[0x12, 0x34, 0, 1, 7]);
        let ping = eth().tag(0x8100, 0xa064).ipv4("10.1.0.9", "192.168.0.101").echo(&[7]);
        assert_eq!(rig.answers(PuntReason::Echo, ping), [reply(back().tag(0x8100, 100))]);
        let ping = eth().tag(0x8100, 0xa000).ipv4("10.1.0.9", "192.168.0.101").echo(&[7]);
        assert_eq!(rig.answers(PuntReason::Echo, ping), [reply(back())]);
    }

    #[test]
    fn a_query_is_answered_in_its_network_within_its_time() {
        let mut rig = Rig::new();
        rig.turn();
        // Behind the announcements of the start, which report the same groups and leave nothing to answer.
        for _ in 0..35 {
            rig.now += Duration::from_secs(1);
            rig.turn();
        }
        let query = |eth: Ethernet| {
            let ip = eth.to(Mac([0x33, 0x33, 0, 0, 0, 1])).ipv6("fe80::1", "ff02::1").hop_limit(1);
            let ip = ip.extension(0, &[0, 0, 5, 2, 0, 0, 1, 0]);
            ip.icmp(58, 130, 0, &[&[1, 244, 0, 0][..], &[0; 16], &[2, 125, 0, 0]].concat())
        };
        let own = report(PORT_MAC, Record::Listens, &["ff02::1:ff00:2".parse().unwrap()]);
        let groups = ["ff02::1:ff00:2", "ff02::1:ff00:101"].map(|group| group.parse().unwrap());
        let of_vlan = in_vlan(&report(PORT_MAC, Record::Listens, &groups));
        for (eth, expected, other) in [(eth(), &own, &of_vlan), (eth().tag(0x8100, 0xa064), &of_vlan, &own)] {
            let mut sent = rig.answers(PuntReason::Mld, query(eth));
            for _ in 0..10 {
                rig.now += Duration::from_millis(50);
                sent.extend(rig.turn());
            }
            let count = |wanted: &Vec<u8>| sent.iter().filter(|frame| *frame == wanted).count();
            assert_eq!((count(expected), count(other)), (1, 0), "within 500 ms");
            rig.now += Duration::from_secs(1);
            rig.turn();
        }
    }

    #[test]
    fn a_packet_that_does_not_fit_is_answered_in_its_vlan() {
        let mut rig = Rig::new();
        rig.turn();
        let sent = eth().tag(0x8100, 100).ipv4("10.1.0.9", "192.168.0.101").tcp(1, 80).data(&[7; 1_460]);
        let answers = rig.answers(PuntReason::TooBig, sent.clone());
        let rest = [&[0, 0, 5, 120], &sent[18..18 + 548]].concat();
        let back = eth().from(PORT_MAC).to(CLIENT_MAC).tag(0x8100, 100).ipv4("10.1.0.2", "10.1.0.9");
        assert_eq!(answers, [back.dont_fragment().icmp(1, 3, 4, &rest)]);
    }

    #[test]
    fn a_backend_is_learned_in_its_own_network_only() {
        let mut rig = Rig::new();
        rig.turn();
        let mac = Mac([2, 0, 0, 0, 0, 3]);
        let here = arp::announcement(mac, "10.1.0.3".parse().unwrap());
        let known = |rig: &Rig| rig.slow_path.neighbors().get("10.1.0.3".parse().unwrap()).unwrap().mac;
        rig.answers(PuntReason::Arp, here.clone());
        assert_eq!(known(&rig), None);
        rig.answers(PuntReason::Arp, in_vlan(&here));
        assert_eq!(known(&rig), Some(mac));
        let targets = &rig.slow_path.director.current().targets;
        assert!(targets.iter().any(|target| target.known && !target.tags.is_none()));
    }

    /// An ARP request's target, and the answer of its station, which has the tags of its network.
    fn answer_of(request: &[u8], station: Ipv4Addr) -> Option<Vec<u8>> {
        let (tags, frame) = vlan::untagged(request)?;
        let asked = frame.get(12..14)? == [8, 6] && frame.get(38..42)? == station.octets();
        let mac = backend_mac(station.into());
        asked.then(|| {
            let mut answer = frame.to_vec();
            answer[..6].copy_from_slice(&frame[6..12]);
            answer[6..12].copy_from_slice(&mac.0);
            answer[21] = 2;
            answer[22..28].copy_from_slice(&mac.0);
            answer[28..32].copy_from_slice(&station.octets());
            answer[32..42].copy_from_slice(&frame[22..32]);
            vlan::tagged(answer, tags)
        })
    }

    /// Lets seconds pass. These stations answer ARP.
    fn pass(rig: &mut Rig, seconds: u32, alive: &[Ipv4Addr]) {
        for _ in 0..2 * seconds {
            rig.now += Duration::from_millis(500);
            // Once more, since witnesses are probed at once.
            for frame in [rig.turn(), rig.turn()].concat() {
                for answer in alive.iter().filter_map(|&station| answer_of(&frame, station)) {
                    rig.answers(PuntReason::Arp, answer);
                }
            }
            while rig.slow_path.director.catch_up() {}
        }
    }

    /// A service has backends in two networks. All of one network die, or the director is cut off from it.
    #[test]
    fn the_new_flows_of_a_silent_network_go_to_another_one() {
        let mut rig = Rig::new();
        let director = rig.slow_path.director.clone();
        let [a, b, far]: [Ipv4Addr; 3] = ["192.168.0.3", "192.168.0.4", "10.1.0.3"].map(|text| text.parse().unwrap());
        let backends = [a, b, far].map(|address| address.to_string());
        let wanted = service("192.168.0.102:80", &[(&backends[0], 1), (&backends[1], 1), (&backends[2], 1)]);
        director.change(|model, _| model.add_service(&wanted, &leases())).unwrap();
        // How each stands, with its share in quarters (rounded), and whether its MAC address is known.
        let stand = || {
            let current = director.current();
            let service = &current.model.services[&wanted.service];
            let number = current.model.services.keys().position(|id| *id == wanted.service).unwrap();
            let first = current.snapshot.services[number].first_target;
            let known = |backend: usize| current.targets[first + backend].known;
            let share = |backend: usize| (service.shares()[backend] * 4.0).round();
            [0, 1, 2].map(|backend| (service.backends[backend].contact, share(backend), known(backend)))
        };
        pass(&mut rig, 10, &[a, b, far]);
        assert_eq!(stand(), [(Contact::Up, 1.0, true); 3], "ordered by address: the far one comes first");
        pass(&mut rig, 40, &[far]);
        let [up, one, other] = stand();
        assert_eq!(up, (Contact::Up, 4.0, true));
        assert!(matches!(one, (Contact::Suspended { .. }, 0.0, true)) && one == other, "{one:?} {other:?}");
        // One of them is back. The other has some seconds; then it is dead.
        pass(&mut rig, 4, &[far, a]);
        assert_eq!(stand()[1], (Contact::Up, 2.0, true));
        pass(&mut rig, 10, &[far, a]);
        assert_eq!(stand(), [(Contact::Up, 2.0, true), (Contact::Up, 2.0, true), (Contact::Down, 0.0, true)]);
        // Nothing answers any more: whoever may be alive keeps its share.
        pass(&mut rig, 40, &[]);
        assert_eq!(stand(), [(Contact::CutOff, 2.0, true), (Contact::CutOff, 2.0, true), (Contact::Down, 0.0, true)]);
        pass(&mut rig, 10, &[a, b, far]);
        assert_eq!(stand(), [(Contact::Up, 1.0, true); 3]);
        // The port, and with it both networks.
        director.set_port(PortNo::new(0), PortLink { up: false, ..PORT });
        pass(&mut rig, 1, &[]);
        assert_eq!(stand(), [(Contact::CutOff, 1.0, true); 3], "nobody is taken down");
    }
}
