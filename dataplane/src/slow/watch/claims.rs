//! Other stations that claim a VIP or an address of the director's own (`arp-flux`, `vip-conflict`).
//!
//! A claim is any frame by which a station's neighbors learn that the address is at its MAC address: an answer, an
//! announcement, a question with the address as its sender. A backend that claims a VIP lacks a sysctl, or has the VIP on
//! another interface than lo; anybody else is a conflict. The director announces the address in defence, but not more
//! than once in 10 s (RFC 5227 §2.4).
//!
//! What is asked for ([`Asking`]) shows when a claim is over: a station that has answered, and does not any more, has
//! mended it. A station that never answers is heard of by chance, and its claim lasts for a time. A claim that comes back soon
//! lasts longer each time, so that a station that claims, is silent and claims again does not fill the log.
//!
//! Who is no backend can be told only when the backends are known. Until then, no stranger is named.
//!
//! A backend's claim is told by the backend, and all others of an address by one of them. So however many MAC addresses a
//! station makes up, there is one claim for each address of ours.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use ctl::Mac;
use ctl::answer::Subject;

use crate::base::ids::NetworkNo;
use crate::control::compile::Compiled;
use crate::control::fault::{FaultKind, Sighting};
use crate::control::faults::Faults;
use crate::slow::announce::announcement;
use crate::slow::view::{Claim, Frame, How, vip_network};
use crate::slow::watch::asking::Asking;
use crate::slow::watch::stations::Stations;
use crate::state::vips::Local;

/// How many claims are kept.
const MOST: usize = 4_096;
/// Between two announcements of an address in defence (RFC 5227 §1.1, DEFEND_INTERVAL).
const DEFEND: Duration = Duration::from_secs(10);
/// A station that has left so many questions in a row unanswered does not answer any more...
const UNANSWERED: u32 = 3;
/// ... if it has had so long for the last of these.
const TO_ANSWER: Duration = Duration::from_millis(600);
/// How long a claim lasts that was heard by chance.
const HEARD: Duration = Duration::from_secs(30);
/// A claim that comes back within this time was over too early...
const RELAPSE: Duration = Duration::from_secs(300);
/// ... and lasts so long the next time, and twice as long each further time, but so often and so long at most.
const AGAIN: Duration = Duration::from_secs(3);
const MOST_DOUBLED: u32 = 6;
const LONGEST: Duration = Duration::from_secs(300);
/// How often it is looked whether claims are over.
const LOOK: Duration = Duration::from_millis(100);
/// How often a claim that goes on is told anew, at most.
const REFRESH: Duration = Duration::from_millis(400);

/// Whose claim to what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    network: NetworkNo,
    address: IpAddr,
    /// `None`: somebody who is no backend.
    backend: Option<IpAddr>,
}

#[derive(Debug)]
struct Claimed {
    claim: Claim,
    /// Another station that is no backend and claims the same.
    another: Option<Mac>,
    heard: Instant,
    /// When it was told last.
    told: Instant,
    /// Whether it has ever answered a question of ours.
    answers: bool,
    /// Questions since its last answer.
    unanswered: u32,
    /// When the last one was asked of those that say enough. More are asked before its time to answer is over.
    asked: Instant,
    /// How often its time was doubled.
    doubled: u32,
}

impl Claimed {
    fn is_over(&self, now: Instant) -> bool {
        let is_silent = self.answers && self.unanswered >= UNANSWERED && now >= self.asked + TO_ANSWER;
        let has_lasted = self.doubled == 0 || now >= self.heard + AGAIN * (1 << self.doubled);
        is_silent && has_lasted || now >= self.heard + (HEARD * (1 << self.doubled)).min(LONGEST)
    }

    /// Whether more questions tell something. Who has left some unanswered is heard of by chance, and once a minute.
    fn is_asked(&self) -> bool {
        self.unanswered < UNANSWERED
    }
}

/// Who claims what.
#[derive(Debug, Default)]
pub struct Claims {
    claims: BTreeMap<Key, Claimed>,
    /// Those that are over: since when, and how often their time was doubled.
    ended: BTreeMap<Key, (Instant, u32)>,
    /// When each address was last announced in defence.
    defended: BTreeMap<(NetworkNo, IpAddr), Instant>,
    asking: Asking,
    next_look: Option<Instant>,
}

impl Claims {
    /// Takes the addresses of a new snapshot.
    pub fn sync(&mut self, current: &Compiled, now: Instant) {
        self.asking.sync(current, now);
        self.claims.retain(|key, _| current.vips.local(key.address).is_some());
        self.ended.retain(|key, _| current.vips.local(key.address).is_some());
        self.defended.retain(|(_, address), _| current.vips.local(*address).is_some());
    }

    /// Asks for all addresses, whoever has them.
    pub fn ask_all(&mut self, now: Instant) {
        self.asking.ask_all(now);
    }

    /// The questions that are due, but at most `room`. The others wait for the next call.
    pub fn poll(&mut self, current: &Compiled, now: Instant, room: usize) -> Vec<Frame> {
        let asked = self.asking.poll(current, now, room);
        for &(network, address) in &asked {
            let mut is_asked = false;
            for (_, claimed) in self.of(network, address) {
                claimed.unanswered = claimed.unanswered.saturating_add(1);
                if claimed.unanswered == UNANSWERED {
                    claimed.asked = now;
                }
                is_asked |= claimed.is_asked();
            }
            if !is_asked {
                self.asking.unfollow(network, address);
            }
        }
        asked.into_iter().map(|(network, address)| Asking::question(current, network, address)).collect()
    }

    /// Takes note of a claim. Returns an announcement in defence, if it is time for one.
    pub fn hear(
        &mut self,
        claim: Claim,
        network: NetworkNo,
        stations: &Stations,
        faults: &Faults,
        current: &Compiled,
        now: Instant,
    ) -> Option<Frame> {
        let Claim { address, mac, station, how } = claim;
        // Our own frames come back by another port on the same segment.
        if current.ports.iter().any(|port| port.mac == mac) {
            return None;
        }
        let of = |mac| stations.backend(|of| of == network, mac, address);
        let key = Key { network, address, backend: of(mac).or_else(|| of(station)) };
        if key.backend.is_none() && stations.are_awaited(network, now) {
            // Perhaps a backend whose MAC address is not known yet.
            self.asking.ask_later(network, address, now);
            return self.defence(current, network, address, now);
        }
        if self.claims.len() >= MOST && !self.claims.contains_key(&key) {
            return self.defence(current, network, address, now);
        }
        let is_new = !self.claims.contains_key(&key);
        let doubled = if is_new { self.relapse(&key, now) } else { 0 };
        let claimed = self.claims.entry(key).or_insert(Claimed {
            claim,
            another: None,
            heard: now,
            told: now,
            answers: false,
            unanswered: 0,
            asked: now,
            doubled,
        });
        let answers = how == How::Answers;
        claimed.heard = now;
        let mut is_news = is_new;
        // Of several strangers, the first one is told as long as it goes on.
        if claimed.claim.mac == mac || claimed.is_over(now) {
            // That it answers is worse than that it asks, and easier to mend.
            is_news |= claimed.claim.mac != mac || answers && claimed.claim.how != How::Answers;
            if is_news || !claimed.answers {
                claimed.claim = claim;
            }
        } else {
            is_news |= claimed.another.is_none();
            claimed.another = Some(mac);
        }
        if answers {
            claimed.answers = true;
            claimed.unanswered = 0;
        }
        if is_news || now >= claimed.told + REFRESH {
            claimed.told = now;
            faults.open(sighting(key, claimed, current), now);
        }
        if claimed.is_asked() {
            self.asking.follow(network, address, now);
        }
        self.defence(current, network, address, now)
    }

    /// Closes the claims that are over.
    pub fn look(&mut self, faults: &Faults, current: &Compiled, now: Instant) {
        if self.claims.is_empty() || self.next_look.is_some_and(|next| next > now) {
            return;
        }
        self.next_look = Some(now + LOOK);
        let over: Vec<Key> =
            self.claims.iter().filter(|(_, claimed)| claimed.is_over(now)).map(|(key, _)| *key).collect();
        for key in over {
            let Some(claimed) = self.claims.remove(&key) else { continue };
            self.remember(key, claimed.doubled, now);
            faults.close(kind(key, current), &subject(key, None, current), now);
            if !self.of(key.network, key.address).any(|(_, claimed)| claimed.is_asked()) {
                self.asking.unfollow(key.network, key.address);
            }
        }
    }

    fn remember(&mut self, key: Key, doubled: u32, now: Instant) {
        if self.ended.len() >= MOST {
            self.ended.retain(|_, (ended, _)| now.saturating_duration_since(*ended) < RELAPSE);
        }
        if self.ended.len() < MOST {
            self.ended.insert(key, (now, doubled));
        }
    }

    /// How often the time of a claim that begins is to be doubled.
    fn relapse(&mut self, key: &Key, now: Instant) -> u32 {
        match self.ended.remove(key) {
            Some((ended, doubled)) if now.saturating_duration_since(ended) < RELAPSE => (doubled + 1).min(MOST_DOUBLED),
            _ => 0,
        }
    }

    fn of(&mut self, network: NetworkNo, address: IpAddr) -> impl Iterator<Item = (&Key, &mut Claimed)> {
        let first = Key { network, address, backend: None };
        let all = self.claims.range_mut(first..);
        all.take_while(move |(key, _)| (key.network, key.address) == (network, address))
    }

    fn defence(&mut self, current: &Compiled, network: NetworkNo, address: IpAddr, now: Instant) -> Option<Frame> {
        // A VIP that is routed to us is in no network, and nobody uses an announcement of it.
        let is_there =
            current.vips.local(address) == Some(Local::Own) || vip_network(current, address) == Some(network);
        let last = self.defended.get(&(network, address));
        if !is_there || last.is_some_and(|last| now < *last + DEFEND) {
            return None;
        }
        self.defended.insert((network, address), now);
        Some(announcement(current, network, address))
    }
}

fn kind(key: Key, current: &Compiled) -> FaultKind {
    // A sysctl mends a VIP on lo. An address of our own is nobody else's, wherever that one has it.
    let is_vip = current.vips.local(key.address) != Some(Local::Own);
    if key.backend.is_some() && is_vip { FaultKind::ArpFlux } else { FaultKind::VipConflict }
}

fn subject(key: Key, mac: Option<Mac>, current: &Compiled) -> Subject {
    let port = Some(current.model.network(key.network).name());
    Subject { vip: Some(key.address), backend: key.backend, mac, port, ..Subject::default() }
}

fn sighting(key: Key, claimed: &Claimed, current: &Compiled) -> Sighting {
    let Claim { address, mac, station, how } = claimed.claim;
    let port = current.model.network(key.network).name();
    let kind = kind(key, current);
    let who = match key.backend {
        Some(backend) => format!("Backend {backend} ({mac})"),
        None => format!("Station {mac}, which is no backend{},", vrrp(mac)),
    };
    let protocol = if address.is_ipv4() { "ARP" } else { "NDP" };
    let what = match how {
        How::Answers => format!("answers {protocol} for {address} on {port}"),
        How::Announces => format!("announces {address} on {port}"),
        How::Asks => format!("asks by {protocol} with {address} as its sender on {port}"),
    };
    let through = if station == mac { String::new() } else { format!(", in frames from {station}") };
    let others = claimed.another.map_or_else(String::new, |another| format!("; and so do others, {another} for one"));
    let own = current.vips.local(address) == Some(Local::Own);
    let so = match kind {
        FaultKind::ArpFlux => ": clients may go to it directly, past the director",
        _ if own => ": that is the director's own address",
        _ => ": clients may go there, and not to the director",
    };
    let fix = fix(kind, address, mac, how);
    Sighting::new(kind, subject(key, Some(mac), current), format!("{who} {what}{through}{others}{so}"), fix)
}

fn fix(kind: FaultKind, address: IpAddr, mac: Mac, how: How) -> String {
    let on_lo = |length: u8| {
        format!(
            "ip addr del {address}/{length} dev INTERFACE; scripts/real-server start {address}, which has it on lo alone"
        )
    };
    match (kind, address) {
        (FaultKind::ArpFlux, IpAddr::V4(_)) if how == How::Announces => on_lo(32),
        (FaultKind::ArpFlux, IpAddr::V4(_)) => {
            "sysctl -w net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2".into()
        }
        (FaultKind::ArpFlux, IpAddr::V6(_)) => on_lo(128),
        _ => format!(
            "find that station (`bridge fdb show | grep {mac}`, or the switch's table), and take {address} from it; if it is another \
             director, `shuntctl port list` there shows that MAC address: only one of the two may be in use"
        ),
    }
}

/// A note on the MAC addresses of virtual routers (RFC 9568 §7.3).
fn vrrp(mac: Mac) -> String {
    match mac.0 {
        [0, 0, 0x5e, 0, 1 | 2, id] => format!(", but virtual router {id} of VRRP (keepalived, or a router)"),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::base::ids::NetworkNo;
    use crate::slow::neighbor::Neighbors;
    use crate::slow::view::{Evidence, Learned};
    use crate::testing::model::{PORT_MAC, backend_mac, leases, model, service, snapshot};

    const NETWORK: NetworkNo = NetworkNo::new(0);
    const STRANGER: Mac = Mac([2, 0, 0, 0, 0, 0x66]);

    struct Rig {
        claims: Claims,
        stations: Stations,
        faults: Faults,
        current: Compiled,
        begin: Instant,
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    impl Rig {
        fn new() -> Rig {
            let mut model = model();
            for (vip, backend) in
                [("192.168.0.101:80", "192.168.0.3"), ("[fd00::101]:80", "fd00::3"), ("203.0.113.1:80", "192.168.0.3")]
            {
                model.add_service(&service(vip, &[(backend, 1)]), &leases()).unwrap();
            }
            let (mut neighbors, current, begin) = (Neighbors::default(), snapshot(model), Instant::now());
            neighbors.sync(&current, begin);
            for address in ["192.168.0.3", "fd00::3"].map(address) {
                let learned = Learned { address, mac: backend_mac(address), evidence: Evidence::Answer };
                neighbors.learn(learned, NETWORK, begin);
            }
            let (faults, mut stations, mut claims) = (Faults::default(), Stations::default(), Claims::default());
            stations.look(&faults, &neighbors, &current, begin);
            claims.sync(&current, begin);
            Rig { claims, stations, faults, current, begin }
        }

        fn hear(&mut self, ms: u64, of: &str, mac: Mac, how: How) -> Option<Frame> {
            let claim = Claim { address: address(of), mac, station: mac, how };
            let now = self.begin + Duration::from_millis(ms);
            self.claims.hear(claim, NETWORK, &self.stations, &self.faults, &self.current, now)
        }

        /// Sends what is due up to a time; returns what is open then.
        fn open(&mut self, from_ms: u64, to_ms: u64) -> Vec<&'static str> {
            for ms in (from_ms..=to_ms).step_by(100) {
                let now = self.begin + Duration::from_millis(ms);
                self.claims.poll(&self.current, now, 100);
                self.claims.look(&self.faults, &self.current, now);
            }
            self.faults.list().iter().map(|fault| fault.kind.name()).collect()
        }
    }

    const BACKEND: Mac = Mac([2, 0, 0, 0, 0, 3]);

    #[test]
    fn a_backend_that_answers_is_named_with_the_sysctl_until_it_does_not_any_more() {
        for (vip, backend, fix) in [
            ("192.168.0.101", "192.168.0.3", "arp_ignore=1 net.ipv4.conf.all.arp_announce=2"),
            ("fd00::101", "fd00::3", "ip addr del fd00::101/128 dev INTERFACE"),
        ] {
            let mut rig = Rig::new();
            rig.open(0, 0);
            rig.hear(10, vip, BACKEND, How::Answers);
            assert_eq!(rig.open(100, 500), ["arp-flux"]);
            let fault = &rig.faults.list()[0];
            assert_eq!((fault.subject.backend, fault.subject.mac), (Some(address(backend)), Some(BACKEND)));
            assert!(fault.fix.contains(fix) && fault.text.contains("answers"), "{fault:?}");
            rig.hear(1_000, vip, BACKEND, How::Answers);
            assert_eq!(rig.open(600, 2_000), ["arp-flux"]);
            assert!(rig.open(2_100, 3_700).is_empty(), "within 3 s of its last answer");
        }
    }

    #[test]
    fn a_backend_that_asks_from_the_vip_is_named_and_one_that_does_both_is_mended_by_not_answering() {
        let mut rig = Rig::new();
        rig.hear(0, "192.168.0.101", BACKEND, How::Asks);
        assert_eq!(rig.open(0, 29_000), ["arp-flux"]);
        assert!(rig.faults.list()[0].text.contains("asks by ARP with 192.168.0.101 as its sender"));
        assert!(rig.open(29_100, 30_100).is_empty());
        rig.hear(40_000, "192.168.0.101", BACKEND, How::Asks);
        rig.hear(40_010, "192.168.0.101", BACKEND, How::Answers);
        rig.hear(40_500, "192.168.0.101", BACKEND, How::Asks);
        assert!(rig.faults.list()[0].text.contains("answers ARP"));
        assert_eq!(
            rig.open(40_100, 46_400),
            ["arp-flux"],
            "it has come back, and so it is believed later that it is over"
        );
        assert!(rig.open(46_500, 46_600).is_empty());
    }

    /// A model with this many VIPs, of both families in turn.
    fn with_vips(count: u16) -> (Compiled, Vec<IpAddr>) {
        let network = crate::testing::model::network("lan0", 0, "", &["10.0.0.2/8", "fd00::2/64"]);
        let mut model = crate::control::model::Model::new([1; 16], 31, vec![network]);
        let vip = |number: u16| -> IpAddr {
            let [high, low] = number.to_be_bytes();
            if number.is_multiple_of(2) {
                [10, 1, high, low].into()
            } else {
                std::net::Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 1, number).into()
            }
        };
        let vips: Vec<IpAddr> = (0..count).map(vip).collect();
        for vip in &vips {
            let id = std::net::SocketAddr::new(*vip, 80).to_string();
            model.add_service(&service(&id, &[]), &leases()).unwrap();
        }
        (snapshot(model), vips)
    }

    /// A rig with these VIPs, which knows all backends.
    fn rig_with(count: u16) -> (Rig, Vec<IpAddr>) {
        let (current, vips) = with_vips(count);
        let mut rig = Rig::new();
        rig.claims = Claims::default();
        rig.claims.sync(&current, rig.begin);
        rig.current = current;
        (rig, vips)
    }

    #[test]
    fn a_station_that_claims_all_and_is_silent_in_turn_does_not_fill_the_log() {
        let (mut rig, vips) = rig_with(64);
        let mut ended = 0;
        for ms in (0..120_000).step_by(100) {
            // 300 ms of answers, 2.2 s of silence.
            if ms % 2_500 < 300 {
                vips.iter().for_each(|vip| _ = rig.hear(ms, &vip.to_string(), STRANGER, How::Answers));
            }
            let before = rig.faults.list().len();
            rig.open(ms, ms);
            ended += before.saturating_sub(rig.faults.list().len());
        }
        let events = rig.faults.events().list(ctl::request::EventQuery::default());
        let ends = events.iter().filter(|event| event.kind == "fault-ended").count();
        assert!(ends <= events.len() - ends, "an end for each beginning that was told, and no more: {ends}");
        assert!(ended <= 2 * vips.len(), "claims that come back last longer: {ended}");
    }

    #[test]
    fn however_many_addresses_are_claimed_questions_are_few() {
        let (mut rig, vips) = rig_with(4_096);
        let texts: Vec<String> = vips.iter().map(ToString::to_string).collect();
        let mut asked = Vec::new();
        // All are claimed by a station that answers.
        for ms in (0..20_000u64).step_by(100) {
            let now = rig.begin + Duration::from_millis(ms);
            if ms % 5_000 == 0 {
                texts.iter().for_each(|vip| _ = rig.hear(ms, vip, STRANGER, How::Answers));
            }
            asked.push(rig.claims.poll(&rig.current, now, 100).len());
            rig.claims.look(&rig.faults, &rig.current, now);
        }
        assert_eq!(rig.faults.list().len(), vips.len());
        let most = asked.chunks(10).map(|second| second.iter().sum::<usize>()).max();
        assert!(most <= Some(220), "{most:?} questions in a second");
        // One announcement is no reason to ask for half a minute.
        let mut rig = Rig::new();
        rig.open(0, 3_000);
        rig.hear(3_000, "192.168.0.101", STRANGER, How::Announces);
        let questions = |ms| rig.claims.poll(&rig.current, rig.begin + Duration::from_millis(ms), 100).len();
        let asked: usize = (3_000..30_000).step_by(100).map(questions).sum();
        assert!(asked <= 4, "{asked}");
    }

    #[test]
    fn no_stranger_is_named_while_backends_are_not_known_yet() {
        let mut rig = Rig::new();
        let mut neighbors = Neighbors::default();
        neighbors.sync(&rig.current, rig.begin);
        rig.stations = Stations::default();
        rig.hear(0, "192.168.0.101", BACKEND, How::Answers);
        rig.stations.look(&rig.faults, &neighbors, &rig.current, rig.begin);
        for (vip, mac) in [("192.168.0.101", BACKEND), ("fd00::101", STRANGER)] {
            rig.hear(10, vip, mac, How::Answers);
        }
        assert!(rig.open(0, 500).is_empty());
        let known = address("192.168.0.3");
        let learned = Learned { address: known, mac: backend_mac(known), evidence: Evidence::Answer };
        neighbors.learn(learned, NETWORK, rig.begin);
        rig.stations.look(&rig.faults, &neighbors, &rig.current, rig.begin);
        rig.hear(1_010, "192.168.0.101", BACKEND, How::Answers);
        assert_eq!(rig.open(600, 1_100), ["arp-flux"], "by its name at once");
        // Another backend never answers: that does not hide strangers for long.
        rig.hear(3_010, "fd00::101", STRANGER, How::Answers);
        assert_eq!(rig.open(3_000, 3_100), ["arp-flux", "vip-conflict"]);
    }

    #[test]
    fn the_end_of_a_claim_is_seen_however_seldom_it_is_looked_for() {
        for (vip, mac) in [("192.168.0.101", BACKEND), ("fd00::101", STRANGER)] {
            for step in [20, 300, 450, 700] {
                let mut rig = Rig::new();
                rig.open(0, 0);
                for ms in (step..10_000).step_by(step) {
                    let ms = ms.try_into().unwrap();
                    rig.hear(ms, vip, mac, How::Answers);
                    assert_eq!(rig.open(ms, ms).len(), 1, "{step}");
                }
                let end = (10_000..20_000).step_by(step).find(|&ms| rig.open(ms, ms).is_empty());
                assert!(end.is_some_and(|end| end < 13_000), "{step}: {end:?}");
            }
        }
    }

    #[test]
    fn a_stranger_is_a_conflict_whoever_else_is() {
        let mut rig = Rig::new();
        for (of, says) in [
            ("192.168.0.101", "clients may go there"),
            ("fd00::101", "clients may go there"),
            ("192.168.0.2", "the director's own address"),
        ] {
            rig.hear(0, of, STRANGER, How::Announces);
            let fault = rig.faults.list().into_iter().find(|fault| fault.subject.vip == Some(address(of))).unwrap();
            assert_eq!((fault.kind, fault.subject.backend), (FaultKind::VipConflict, None));
            assert!(fault.text.contains(says) && fault.text.contains(&STRANGER.to_string()), "{fault:?}");
            assert!(fault.fix.contains("shuntctl port list"), "{fault:?}");
        }
        rig.hear(0, "192.168.0.2", BACKEND, How::Answers);
        let own = rig.faults.list().into_iter().find(|fault| fault.subject.backend.is_some()).unwrap();
        assert!(own.kind == FaultKind::VipConflict && own.text.starts_with("Backend 192.168.0.3"), "{own:?}");
        rig.hear(0, "fd00::101", Mac([0, 0, 0x5e, 0, 2, 51]), How::Announces);
    }

    #[test]
    fn a_virtual_router_is_called_one() {
        let mut rig = Rig::new();
        rig.hear(0, "192.168.0.101", Mac([0, 0, 0x5e, 0, 1, 51]), How::Announces);
        assert!(rig.faults.list()[0].text.contains("virtual router 51 of VRRP"));
    }

    #[test]
    fn the_address_is_defended_once_in_ten_seconds() {
        let mut rig = Rig::new();
        let defence = rig.hear(0, "192.168.0.101", STRANGER, How::Announces).expect("a defence");
        assert_eq!(defence, announcement(&rig.current, NETWORK, address("192.168.0.101")));
        assert!(rig.hear(0, "fd00::101", STRANGER, How::Announces).is_some(), "another address");
        for ms in [1, 5_000, 9_999] {
            let mac = Mac([2, 0, 0, 9, 0, u8::try_from(ms % 251).unwrap()]);
            assert_eq!(rig.hear(ms, "192.168.0.101", mac, How::Answers), None);
        }
        assert!(rig.hear(10_000, "192.168.0.101", STRANGER, How::Announces).is_some());
        assert_eq!(rig.hear(0, "203.0.113.1", STRANGER, How::Announces), None, "it is routed to us");
    }

    #[test]
    fn our_own_frames_are_no_claims_and_ten_thousand_mac_addresses_are_one() {
        let mut rig = Rig::new();
        assert_eq!(rig.hear(0, "192.168.0.101", PORT_MAC, How::Announces), None);
        assert!(rig.faults.list().is_empty());
        for number in 0..10_000u16 {
            let [high, low] = number.to_be_bytes();
            rig.hear(u64::from(number), "192.168.0.101", Mac([2, 0, 0, 7, high, low]), How::Answers);
        }
        let faults = rig.faults.list();
        assert_eq!((faults.len(), rig.claims.claims.len()), (1, 1));
        assert!(faults[0].text.contains("; and so do others"), "{}", faults[0].text);
        rig.hear(10_000, "192.168.0.101", BACKEND, How::Answers);
        assert_eq!(rig.faults.list().len(), 2, "a backend is named beside them");
    }

    #[test]
    fn a_frame_that_another_station_sends_for_a_backend_names_both() {
        let mut rig = Rig::new();
        let claim = Claim { address: address("192.168.0.101"), mac: STRANGER, station: BACKEND, how: How::Answers };
        rig.claims.hear(claim, NETWORK, &rig.stations, &rig.faults, &rig.current, rig.begin);
        let fault = &rig.faults.list()[0];
        assert_eq!(fault.subject.backend, Some(address("192.168.0.3")));
        assert!(fault.text.contains(&format!("in frames from {BACKEND}")), "{}", fault.text);
    }

    proptest! {
        /// Whatever is claimed, and by whom: what is kept is bounded by the addresses and the backends that there are.
        #[test]
        fn claims_are_bounded(heard in prop::collection::vec((0usize..4, any::<u8>(), 0u64..2_000, 0u8..3), 0..300)) {
            let mut rig = Rig::new();
            let mut now = 0;
            for (of, last, ms, how) in heard {
                now += ms;
                let of = ["192.168.0.101", "fd00::101", "192.168.0.2", "203.0.113.1"][of];
                let how = [How::Answers, How::Announces, How::Asks][usize::from(how)];
                rig.hear(now, of, Mac([2, 0, 0, 0, 0, last]), how);
                rig.open(now, now);
            }
            prop_assert!(rig.claims.claims.len() <= 4 * 2 && rig.faults.list().len() <= 4 * 2);
            let seconds = now..now + 400_000;
            seconds.step_by(1_000).for_each(|ms| _ = rig.open(ms, ms));
            prop_assert!(rig.claims.claims.is_empty() && rig.faults.list().is_empty());
        }
    }
}
