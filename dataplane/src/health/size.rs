//! The size of packets: whether backends answer pings that fill the port's MTU (`mtu`).
//!
//! A backend whose link carries less than the director's takes connections, and hangs as soon as a client sends much: what
//! is too large is lost on the way, and often nobody says so. So two pings go to its own address: a small one, and one as
//! large as the port's MTU. If only the small one is answered, three times in a row, something carries less: the backend's
//! link, or a switch on the way. Each backend that has a check which sends more than ARP or NDP is asked when it is new, once a
//! minute, in each round of all checks, and each second while the fault is open.
//!
//! Nobody is taken out of service by this. As with checks, silence says nothing if the director itself has lost frames
//! meanwhile, or was stopped.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ctl::Mac;
use ctl::answer::Subject;

use crate::base::frame::Frame;
use crate::base::ids::NetworkNo;
use crate::base::truth::Losses;
use crate::control::compile::Compiled;
use crate::control::fault::{FaultKind, Sighting};
use crate::control::model::Model;
use crate::control::model::health::Check;
use crate::health::incoming::{Incoming, Kind};
use crate::health::news::Seen;
use crate::health::way::{Way, own_address};

/// Between two rounds of a backend where nothing is wrong.
const EACH: Duration = Duration::from_secs(60);
/// The same while the fault is open.
const OPEN: Duration = Duration::from_millis(700);
/// How long to wait for the MAC address of a backend, or for its link.
const AGAIN: Duration = Duration::from_secs(1);
/// How long the answers may take.
const PATIENCE: Duration = Duration::from_millis(300);
/// A director that looks later than this for the answers was stopped meanwhile.
const STALL: Duration = Duration::from_millis(250);
/// So many large pings in a row that are not answered, while small ones are, mean something.
const ENOUGH: u32 = 3;
/// After so many rounds in a row in which nothing is answered, an open fault is not known to be there any more.
const NOTHING: u32 = 10;
/// Between the first rounds of backends that are new at the same time.
const SPREAD: Duration = Duration::from_millis(2);
/// The ident of these pings. No probe of a check has it as its local port.
const IDENT: u16 = 1_500;
/// The IP packet of a small ping.
const SMALL: u16 = 84;

/// Where a backend is: its network and its MAC address. `None`: not known.
pub type Stations<'a> = &'a dyn Fn(IpAddr) -> Option<(NetworkNo, Mac)>;

/// Which sizes of packets the backends take.
#[derive(Debug, Default)]
pub struct Sizes {
    backends: BTreeMap<IpAddr, Backend>,
    /// The model of the last [`sync`](Self::sync).
    model: Option<Arc<Model>>,
    next_due: Option<Instant>,
    /// Faults since they were last taken.
    pub(super) seen: Vec<Seen>,
}

#[derive(Debug)]
struct Backend {
    /// When the next round is due.
    due: Instant,
    round: Option<Round>,
    /// The number of the round, which its pings have.
    number: u16,
    /// Rounds in a row in which only the small ping was answered, and in which none was.
    in_vain: u32,
    nothing: u32,
    open: bool,
    /// When the last round has ended, and the largest packet that it has shown to be taken.
    known: Option<(Instant, Option<u16>)>,
}

/// Two pings under way.
#[derive(Debug)]
struct Round {
    way: Way,
    size: u16,
    begin: Instant,
    losses: u64,
    small: bool,
    large: bool,
    /// What an ICMP error says that the way takes.
    most: Option<u32>,
}

impl Sizes {
    /// Takes the backends of a new model.
    pub(super) fn sync(&mut self, current: &Compiled, now: Instant) {
        if self.model.as_ref().is_some_and(|model| Arc::ptr_eq(model, &current.model)) {
            return;
        }
        let mut backends = BTreeMap::new();
        let mut due = now + AGAIN;
        // Where nothing but ARP or NDP is to be asked, nothing more is.
        let probed = current.model.services.values().filter(|service| service.checks.iter().any(Check::probes));
        for address in probed.flat_map(|service| &service.backends).map(|backend| backend.address) {
            backends.entry(address).or_insert_with(|| {
                self.backends.remove(&address).unwrap_or_else(|| {
                    due += SPREAD;
                    Backend::new(due)
                })
            });
        }
        // Of what is not asked any more, nobody would say that it is mended.
        let open = self.backends.iter().filter(|(_, backend)| backend.open);
        self.seen.extend(open.map(|(&address, _)| Seen::Mended(FaultKind::Mtu, subject(address, None))));
        (self.backends, self.model) = (backends, Some(current.model.clone()));
        self.schedule();
    }

    /// Asks all backends now.
    pub fn ask_all(&mut self, now: Instant) {
        self.backends.values_mut().for_each(|backend| backend.due = backend.due.min(now));
        self.schedule();
    }

    /// Whether all that can be asked has been, from this time on, and nobody is suspected.
    pub fn are_known_since(&self, begin: Instant) -> bool {
        let is_known = |backend: &Backend| backend.known.is_none_or(|(at, _)| at >= begin);
        self.backends.values().all(|backend| is_known(backend) && (backend.in_vain == 0 || backend.open))
    }

    /// Whether a backend is asked.
    pub fn asks(&self, backend: IpAddr) -> bool {
        self.backends.contains_key(&backend)
    }

    /// The largest packet that a backend is known to take. `None`: it answers no pings.
    pub fn largest(&self, backend: IpAddr) -> Option<u16> {
        self.backends.get(&backend)?.known?.1
    }

    /// Begins the rounds that are due, and ends those whose time is over. Returns the frames to send: about `room`.
    pub fn poll(
        &mut self,
        current: &Compiled,
        stations: Stations<'_>,
        losses: Losses<'_>,
        now: Instant,
        room: usize,
    ) -> Vec<Frame> {
        let mut frames = Vec::new();
        if self.next_due.is_none_or(|due| due > now) {
            return frames;
        }
        for (&address, backend) in &mut self.backends {
            if let Some(round) = backend.round.take_if(|round| round.is_over(now)) {
                let lost = losses(current.network(round.way.network).port) != round.losses;
                let sighting = backend.end(&round, lost, now);
                self.seen.extend(sighting.map(|is_there| match is_there {
                    true => Seen::Fault(fault(address, &round, current)),
                    false => Seen::Mended(FaultKind::Mtu, subject(address, None)),
                }));
            }
            if backend.round.is_some() || backend.due > now || frames.len() >= room {
                continue;
            }
            let way = stations(address).and_then(|(network, mac)| way(current, network, mac, address));
            let Some(way) = way else {
                backend.due = now + AGAIN;
                continue;
            };
            let network = current.network(way.network);
            let size = network.link.mtu;
            backend.number = backend.number.wrapping_add(2);
            for (size, seq_no) in [(SMALL, backend.number), (size, backend.number + 1)] {
                frames.push(way.frame(&way.ping(IDENT, seq_no, &vec![0x5a; payload(address, size)])));
            }
            let round =
                Round { way, size, begin: now, losses: losses(network.port), small: false, large: false, most: None };
            backend.round = Some(round);
            backend.due = now + EACH;
        }
        self.schedule();
        frames
    }

    /// Takes a packet, if it is for one of these pings. Returns whether it was.
    pub(super) fn hear(&mut self, packet: &Incoming<'_>, station: Mac, network: NetworkNo, now: Instant) -> bool {
        let (about, ident) = match &packet.kind {
            Kind::Pong { ident, .. } => (packet.source, *ident),
            Kind::TooBig { quoted, .. } | Kind::Error { quoted, .. } => (quoted.destination, quoted.local),
            Kind::Tcp { .. } | Kind::Udp { .. } => return false,
        };
        if ident != IDENT {
            return false;
        }
        let Some(backend) = self.backends.get_mut(&about) else { return true };
        let expects = |round: &&mut Round| {
            round.way.mac == station && round.way.network == network && round.way.source == packet.destination
        };
        let Some(round) = backend.round.as_mut().filter(expects) else { return true };
        match &packet.kind {
            Kind::Pong { seq_no, .. } => {
                round.small |= *seq_no == backend.number;
                round.large |= *seq_no == backend.number + 1;
            }
            Kind::TooBig { mtu, .. } => round.most = Some(*mtu),
            _ => {}
        }
        if round.is_over(now) {
            self.next_due = Some(now);
        }
        true
    }

    fn schedule(&mut self) {
        let due = |backend: &Backend| backend.round.as_ref().map_or(backend.due, |round| round.begin + PATIENCE);
        self.next_due = self.backends.values().map(due).min();
    }
}

impl Backend {
    fn new(due: Instant) -> Backend {
        Backend { due, round: None, number: 0, in_vain: 0, nothing: 0, open: false, known: None }
    }

    /// Takes what a round has shown. Returns whether the fault is there, if that is news or is to be told anew.
    fn end(&mut self, round: &Round, lost: bool, now: Instant) -> Option<bool> {
        let was_stopped = now > round.begin + PATIENCE + STALL;
        let shown = if round.large { Some(round.size) } else { None };
        if !round.large && (lost || was_stopped) {
            self.due = now + if self.open { OPEN } else { AGAIN };
            return None;
        }
        self.known = Some((now, shown));
        match (round.large, round.small, round.most) {
            (true, ..) => (self.in_vain, self.nothing) = (0, 0),
            (false, _, Some(_)) => (self.in_vain, self.nothing) = (ENOUGH, 0),
            (false, true, None) => (self.in_vain, self.nothing) = ((self.in_vain + 1).min(ENOUGH), 0),
            (false, false, None) => self.nothing = (self.nothing + 1).min(NOTHING),
        }
        if self.nothing >= NOTHING || !self.open && self.nothing > 0 {
            self.in_vain = 0;
        }
        let was_open = std::mem::replace(&mut self.open, self.in_vain >= ENOUGH);
        if self.in_vain > 0 {
            self.due = if self.open { now + OPEN } else { now };
        }
        (self.open || was_open).then_some(self.open)
    }
}

impl Round {
    fn is_over(&self, now: Instant) -> bool {
        self.small && self.large || self.most.is_some() || now >= self.begin + PATIENCE
    }
}

fn way(current: &Compiled, number: NetworkNo, mac: Mac, target: IpAddr) -> Option<Way> {
    let network = current.network(number);
    let source = own_address(network, target).filter(|_| network.link.up)?;
    Some(Way { network: number, mac, from: network.link.mac, source, target })
}

/// The bytes that a ping carries in an IP packet of this size.
fn payload(address: IpAddr, packet: u16) -> usize {
    usize::from(packet).saturating_sub(if address.is_ipv4() { 28 } else { 48 })
}

fn subject(backend: IpAddr, mac: Option<Mac>) -> Subject {
    Subject { backend: Some(backend), mac, ..Subject::default() }
}

fn fault(backend: IpAddr, round: &Round, current: &Compiled) -> Sighting {
    let Round { way: Way { mac, network, .. }, size, most, .. } = *round;
    let port = current.model.network(network).name();
    let what = match most {
        Some(most) => format!("says by ICMP that no more than {most} bytes get through, and {port} sends {size}"),
        None => format!(
            "answers pings of {SMALL} bytes and none of {size}, the MTU of {port}: its link carries less, or a switch on the way does, \
             or a firewall drops large pings"
        ),
    };
    let fix = format!("ip link set INTERFACE mtu {size}; and the same on the switch. Or give {port} the smaller MTU");
    Sighting::new(FaultKind::Mtu, subject(backend, Some(mac)), format!("Backend {backend} ({mac}) {what}"), fix)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::incoming::Quoted;
    use crate::testing::model::{PORT, backend_mac, leases, model, service, snapshot};

    const BACKENDS: [&str; 2] = ["192.168.0.3", "fd00::3"];

    struct Rig {
        sizes: Sizes,
        current: Compiled,
        begin: Instant,
        /// What the backends' link carries.
        carries: usize,
        /// Whether somebody says so by ICMP.
        says: bool,
        answers: bool,
        /// The director loses so many frames a round.
        losses: u64,
        asked: Vec<(u64, usize)>,
    }

    impl Rig {
        fn new() -> Rig {
            let mut model = model();
            for (vip, backend) in ["192.168.0.101:80", "[fd00::101]:80"].into_iter().zip(BACKENDS) {
                model.add_service(&service(vip, &[(backend, 1)]), &leases()).unwrap();
            }
            let (mut sizes, current, begin) = (Sizes::default(), snapshot(model), Instant::now());
            sizes.sync(&current, begin);
            let (carries, says, answers, losses) = (1_500, false, true, 0);
            Rig { sizes, current, begin, carries, says, answers, losses, asked: Vec::new() }
        }

        /// Lets time pass. Returns what was seen, and when.
        fn pass(&mut self, from_ms: u64, to_ms: u64) -> Vec<(u64, bool)> {
            let mut seen = Vec::new();
            for ms in (from_ms..=to_ms).step_by(10) {
                let now = self.begin + Duration::from_millis(ms);
                let stations = |address| Some((NetworkNo::new(0), backend_mac(address)));
                let lost = self.losses * ms;
                let frames = self.sizes.poll(&self.current, &stations, &|_| lost, now, 100);
                for frame in &frames {
                    self.asked.push((ms, frame.bytes.len() - 14));
                    self.answer(&frame.bytes, now);
                }
                seen.extend(self.sizes.seen.drain(..).map(|seen| (ms, matches!(seen, Seen::Fault(_)))));
            }
            seen
        }

        fn answer(&mut self, frame: &[u8], now: Instant) {
            let number = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
            let v4 = frame[14] >> 4 == 4;
            let [source, destination] = if v4 { ["192.168.0.3", "192.168.0.2"] } else { ["fd00::3", "fd00::2"] };
            let [source, destination]: [IpAddr; 2] = [source, destination].map(|address| address.parse().unwrap());
            let icmp = if v4 { 34 } else { 54 };
            let ident = number(icmp + 4);
            if v4 {
                assert_eq!(frame[20] & 0x40, 0x40, "do not fragment");
            }
            let kind = if frame.len() - 14 <= self.carries {
                Kind::Pong { ident, seq_no: number(icmp + 6), hop_limit: 64 }
            } else if self.says {
                Kind::TooBig { quoted: Quoted { destination: source, local: ident }, mtu: 1_400 }
            } else {
                return;
            };
            if self.answers {
                let packet = Incoming { source, destination, kind };
                assert!(self.sizes.hear(&packet, backend_mac(source), NetworkNo::new(0), now));
                assert!(self.sizes.hear(&packet, Mac([2; 6]), NetworkNo::new(0), now), "not for a check, either");
            }
        }
    }

    #[test]
    fn each_backend_is_asked_once_a_minute_by_a_small_and_a_full_packet() {
        let mut rig = Rig::new();
        assert!(rig.pass(0, 59_000).is_empty());
        let sizes: Vec<usize> = rig.asked.iter().map(|(_, size)| *size).collect();
        assert_eq!(sizes, [84, usize::from(PORT.mtu), 84, usize::from(PORT.mtu)]);
        assert!(BACKENDS.iter().all(|backend| rig.sizes.largest(backend.parse().unwrap()) == Some(PORT.mtu)));
        assert!(rig.pass(59_010, 62_000).is_empty() && rig.asked.len() == 8);
        rig.sizes.ask_all(rig.begin + Duration::from_secs(70));
        assert!(!rig.sizes.are_known_since(rig.begin + Duration::from_secs(70)));
        rig.pass(70_000, 70_020);
        assert!(rig.sizes.are_known_since(rig.begin + Duration::from_secs(70)));
    }

    #[test]
    fn a_link_that_carries_less_is_named_within_three_seconds_and_so_is_its_end() {
        for says in [false, true] {
            let mut rig = Rig::new();
            (rig.carries, rig.says) = (1_400, says);
            let seen = rig.pass(0, 2_500);
            let first: Vec<bool> = seen.iter().take(2).map(|(_, is_there)| *is_there).collect();
            assert!(first == [true, true] && seen.iter().all(|(_, is_there)| *is_there), "{seen:?}");
            let fast = if says { 1_100 } else { 2_000 };
            assert!(seen[1].0 <= fast, "{seen:?}");
            assert!(rig.pass(2_510, 30_000).iter().all(|(_, is_there)| *is_there), "it does not come and go");
            rig.carries = 1_500;
            let seen = rig.pass(30_010, 60_000);
            assert!(seen.len() == 2 && seen.iter().all(|(ms, is_there)| !is_there && *ms < 32_000), "{seen:?}");
        }
    }

    #[test]
    fn who_answers_no_ping_at_all_and_a_director_that_loses_frames_say_nothing() {
        let mut rig = Rig::new();
        rig.answers = false;
        assert!(rig.pass(0, 130_000).is_empty());
        assert_eq!(rig.sizes.largest(BACKENDS[0].parse().unwrap()), None);
        let mut rig = Rig::new();
        (rig.carries, rig.losses) = (1_400, 1);
        assert!(rig.pass(0, 130_000).is_empty());
    }

    #[test]
    fn a_fault_that_nothing_shows_any_more_ends() {
        let mut rig = Rig::new();
        rig.carries = 1_400;
        rig.pass(0, 5_000);
        rig.answers = false;
        let seen = rig.pass(5_010, 30_000);
        assert!(seen.iter().any(|(ms, is_there)| !is_there && *ms > 10_000), "{seen:?}");
        assert!(rig.pass(30_010, 60_000).is_empty());
    }

    #[test]
    fn of_a_backend_that_is_not_asked_any_more_the_fault_ends() {
        for check in ["arp", "none"] {
            let mut rig = Rig::new();
            rig.carries = 1_400;
            rig.pass(0, 5_000);
            let mut model = model();
            for (vip, backend) in ["192.168.0.101:80", "[fd00::101]:80"].into_iter().zip(BACKENDS) {
                let mut wanted = service(vip, &[(backend, 1)]);
                wanted.checks = Some(vec![check.parse().unwrap()]);
                model.add_service(&wanted, &leases()).unwrap();
            }
            rig.current = snapshot(model);
            rig.sizes.sync(&rig.current, rig.begin + Duration::from_secs(5));
            let seen = rig.pass(5_010, 10_000);
            assert_eq!(seen, [(5_010, false), (5_010, false)], "{check}");
            assert!(BACKENDS.iter().all(|backend| !rig.sizes.asks(backend.parse().unwrap())));
        }
    }
}
