//! What happens to backends' MAC addresses, as time passes.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use ctl::Mac;
use ctl::answer::NeighborState;
use ctl::request::{BackendEdit, MacChange};

use super::*;
use crate::base::ids::NetworkNo;
use crate::control::compile::{Compiled, compile};
use crate::control::model::{Model, Outlook, Reach};
use crate::slow::arp;
use crate::slow::view::{Evidence, Frame, Learned};
use crate::state::networks::PortLink;
use crate::testing::model::{PORT, PORT_MAC, backend, leases, model, service, snapshot};

const HERE: NetworkNo = NetworkNo::new(0);

const OLD: Mac = Mac([2, 0, 0, 0, 0, 3]);
const NEW: Mac = Mac([2, 0, 0, 0, 0, 0x33]);

fn address() -> IpAddr {
    "192.168.0.3".parse().unwrap()
}

/// A table with one backend, and a clock.
struct Rig {
    neighbors: Neighbors,
    current: Compiled,
    begin: Instant,
    now: Instant,
}

impl Rig {
    fn new() -> Self {
        let mut model = model();
        model.add_service(&service("192.168.0.101:80", &[("192.168.0.3", 1)]), &leases()).unwrap();
        let (mut neighbors, current, now) = (Neighbors::default(), snapshot(model), Instant::now());
        neighbors.sync(&current, now);
        Rig { neighbors, current, begin: now, now }
    }

    fn at(&mut self, seconds: u64) -> &mut Self {
        self.now = self.begin + Duration::from_secs(seconds);
        self
    }

    fn hear(&mut self, mac: Mac, evidence: Evidence) -> &mut Self {
        self.neighbors.learn(Learned { address: address(), mac, evidence }, HERE, self.now);
        self
    }

    /// The destination MAC addresses of the probes that are due now.
    fn probes(&mut self) -> Vec<Mac> {
        let frames = self.neighbors.poll(&self.current, &|_| 0, self.now, usize::MAX);
        frames.iter().map(|frame| Mac(frame.bytes[..6].try_into().unwrap())).collect()
    }

    fn state(&self) -> (NeighborState, Option<Mac>) {
        let neighbor = &self.neighbors.table[&address()];
        (neighbor.state, neighbor.mac)
    }
}

#[test]
fn a_backend_is_probed_at_once_from_our_own_address() {
    let mut rig = Rig::new();
    let frames = rig.neighbors.poll(&rig.current, &|_| 0, rig.now, usize::MAX);
    let own = "192.168.0.2".parse().unwrap();
    let expected = arp::request(PORT_MAC, own, "192.168.0.3".parse().unwrap(), None);
    assert_eq!(frames, [Frame { network: HERE, bytes: expected }]);
    assert_eq!(rig.probes(), [], "no probe before the next is due");
    assert_eq!(rig.at(1).probes(), [Mac([0xff; 6])]);
}

/// Several backends of one network. Some of them answer when they are probed.
struct Lan {
    neighbors: Neighbors,
    current: Compiled,
    begin: Instant,
}

impl Lan {
    fn new(backends: u8) -> Self {
        let backends: Vec<String> = (0..backends).map(|number| Lan::address(number).to_string()).collect();
        let backends: Vec<(&str, u32)> = backends.iter().map(|address| (address.as_str(), 1)).collect();
        let mut model = model();
        model.add_service(&service("192.168.0.101:80", &backends), &leases()).unwrap();
        let (mut neighbors, current, begin) = (Neighbors::default(), snapshot(model), Instant::now());
        neighbors.sync(&current, begin);
        Lan { neighbors, current, begin }
    }

    fn address(number: u8) -> IpAddr {
        std::net::Ipv4Addr::new(192, 168, 0, 3 + number).into()
    }

    /// Half a second, the one of number `tick`. The backends in `alive` answer their probes.
    fn tick(&mut self, tick: u32, alive: &[u8]) {
        let now = self.begin + tick * Duration::from_millis(500);
        let mut probes = self.neighbors.poll(&self.current, &|_| 0, now, usize::MAX);
        // Witnesses are probed at once.
        probes.extend(self.neighbors.poll(&self.current, &|_| 0, now, usize::MAX));
        for &number in alive {
            let address = Lan::address(number);
            let IpAddr::V4(target) = address else { unreachable!() };
            // An ARP request ends with its target address.
            if probes.iter().any(|frame| frame.bytes[38..42] == target.octets()) {
                self.neighbors.learn(Learned { address, mac: OLD, evidence: Evidence::Answer }, HERE, now);
            }
        }
    }

    /// The backends that can be reached in this way.
    fn those(&mut self, reach: Reach) -> Vec<u8> {
        self.neighbors.judge();
        let mut fresh = Neighbors { judged: false, outlook: Outlook::default(), ..self.neighbors.clone() };
        fresh.judge();
        assert_eq!(self.neighbors.outlook, fresh.outlook, "what has changed was judged");
        let known = (0..100).filter(|&number| self.neighbors.get(Lan::address(number)).is_some());
        known.filter(|&number| self.neighbors.outlook().of(Lan::address(number)) == reach).collect()
    }

    fn down(&mut self) -> Vec<u8> {
        self.those(Reach::Down)
    }
}

#[test]
fn a_backend_that_does_not_answer_is_down_as_soon_as_it_is_given_up() {
    let mut lan = Lan::new(5);
    (0..100).for_each(|tick| lan.tick(tick, &[0, 1, 2, 3, 4]));
    let (mut failed, mut down) = (0, 0);
    for tick in 100..160 {
        lan.tick(tick, &[0, 2, 4]);
        let states = lan.neighbors.table.values().map(|neighbor| neighbor.state);
        failed += states.filter(|&state| state == NeighborState::Failed).count();
        down += lan.down().len();
    }
    assert_eq!(lan.down(), [1, 3]);
    assert_eq!(failed, down, "at once");
    // The same for a backend that has never answered, in a network where another one does.
    let mut lan = Lan::new(2);
    (0..8).for_each(|tick| lan.tick(tick, &[0]));
    assert_eq!(lan.down(), [1]);
}

/// Each backend is probed again at its own time. In an outage, they are given up one after the other.
#[test]
fn a_network_that_is_out_takes_no_backend_down() {
    let mut lan = Lan::new(4);
    let alive = |tick| (0..3).filter(|&number| tick >= 10 * u32::from(number)).collect::<Vec<u8>>();
    for tick in 0..100 {
        // The fourth never answers.
        lan.tick(tick, &alive(tick));
    }
    assert_eq!(lan.down(), [3]);
    for tick in 100..240 {
        lan.tick(tick, &[]);
        assert_eq!(lan.down(), [3], "half second {tick}: no backend answers, so the network is out");
    }
    let failed = lan.neighbors.table.values().filter(|neighbor| neighbor.state == NeighborState::Failed);
    assert_eq!(failed.count(), 4);
    assert_eq!(lan.those(Reach::Silent), [0, 1, 2], "they may only seem dead");
    let macs = lan.neighbors.table.values().map(|neighbor| neighbor.mac);
    assert_eq!(macs.collect::<Vec<_>>(), [Some(OLD), Some(OLD), Some(OLD), None], "and keep their MAC addresses");
    // A backend that is added now is no witness.
    let mut model = Model::clone(&lan.current.model);
    let id = *model.services.keys().next().unwrap();
    model.add_backend(&id, &backend(&Lan::address(4).to_string(), 1), &leases()).unwrap();
    lan.current = snapshot(model);
    lan.neighbors.sync(&lan.current, lan.begin + Duration::from_secs(120));
    for tick in 240..260 {
        lan.tick(tick, &[]);
        assert_eq!(lan.down(), [3]);
    }
    // The first backend is back. The others get time to answer; after that, those that have not are down.
    for tick in 260..266 {
        lan.tick(tick, &[0]);
        assert_eq!(lan.down(), [3], "half second {tick}");
        if lan.those(Reach::Answers) == [0] {
            assert_eq!(lan.those(Reach::Asked), [1, 2, 4], "half second {tick}");
        }
    }
    assert_eq!(lan.those(Reach::Answers), [0]);
    (266..280).for_each(|tick| lan.tick(tick, &[0, 2]));
    assert_eq!(lan.down(), [1, 3, 4]);
    assert_eq!(lan.neighbors.table[&Lan::address(1)].mac, Some(OLD), "for services that use even dead backends");
    (280..290).for_each(|tick| lan.tick(tick, &[0, 1, 2, 3, 4]));
    assert_eq!(lan.down(), [0; 0]);
}

#[test]
fn behind_a_link_that_is_down_no_backend_is_probed_or_given_up() {
    let mut lan = Lan::new(2);
    (0..10).for_each(|tick| lan.tick(tick, &[0, 1]));
    let begin = lan.begin;
    let at = |second| begin + Duration::from_secs(second);
    lan.neighbors.set_links(&with_port(&lan.current, PortLink { up: false, ..PORT }), at(5));
    assert!((5..200).all(|second| lan.neighbors.poll(&lan.current, &|_| 0, at(second), usize::MAX).is_empty()));
    assert!(lan.neighbors.table.values().all(|neighbor| neighbor.state != NeighborState::Failed));
    assert_eq!(lan.those(Reach::NoLink), [0, 1]);
    lan.neighbors.set_links(&with_port(&lan.current, PortLink { joins: 1, ..PORT }), at(201));
    assert_eq!(lan.those(Reach::Asked), [0, 1], "that the link is up does not mean that they can be reached");
    lan.tick(402, &[0]);
    assert_eq!((lan.those(Reach::Answers), lan.those(Reach::Asked)), (vec![0], vec![1]));
    (403..430).for_each(|tick| lan.tick(tick, &[0]));
    assert_eq!((lan.those(Reach::Answers), lan.down()), (vec![0], vec![1]));
}

fn with_port(current: &Compiled, link: PortLink) -> Compiled {
    compile(current.model.clone(), |_| None, &[link], 2)
}

#[test]
fn when_a_port_has_joined_its_network_again_all_backends_are_probed_anew() {
    let mut lan = Lan::new(20);
    let all: Vec<u8> = (0..20).collect();
    (0..10).for_each(|tick| lan.tick(tick, &all));
    let now = lan.begin + Duration::from_secs(6);
    lan.neighbors.set_links(&lan.current, now);
    assert!(lan.neighbors.poll(&lan.current, &|_| 0, now, 64).is_empty(), "all are confirmed, and nothing has changed");
    // Down and up again, without a look in between.
    let joined = with_port(&lan.current, PortLink { joins: 1, ..PORT });
    lan.neighbors.set_links(&joined, now);
    let probes: Vec<usize> = (0..4).map(|_| lan.neighbors.poll(&joined, &|_| 0, now, 8).len()).collect();
    assert_eq!(probes, [8, 8, 4, 0], "as many at once as there is room for");
    let known = lan.neighbors.table.values().all(|neighbor| neighbor.mac.is_some());
    assert!(known, "their addresses stay in use meanwhile");
}

#[test]
fn an_answer_makes_a_backend_reachable_and_is_published_once() {
    let mut rig = Rig::new();
    rig.probes();
    rig.neighbors.take_changed_macs();
    rig.hear(OLD, Evidence::Answer);
    assert_eq!(rig.state(), (NeighborState::Reachable, Some(OLD)));
    assert_eq!(rig.neighbors.take_changed_macs(), [(address(), Some(OLD))]);
    assert_eq!(rig.neighbors.take_changed_macs(), []);
    rig.hear(OLD, Evidence::Answer);
    assert_eq!(rig.neighbors.take_changed_macs(), []);
}

#[test]
fn a_backend_is_probed_by_unicast_then_by_broadcast_and_keeps_its_mac_meanwhile() {
    let mut rig = Rig::new();
    rig.hear(OLD, Evidence::Answer);
    assert_eq!(rig.at(19).probes(), []);
    for second in 20..23 {
        assert_eq!(rig.at(second).probes(), [OLD], "second {second}");
        assert_eq!(rig.state(), (NeighborState::Probe, Some(OLD)));
    }
    for second in 23..26 {
        assert_eq!(rig.at(second).probes(), [Mac([0xff; 6])], "second {second}");
        assert_eq!(rig.state(), (NeighborState::Probe, Some(OLD)));
    }
    rig.at(26).probes();
    assert_eq!(rig.state(), (NeighborState::Failed, Some(OLD)), "perhaps the network is out");
    assert_eq!(rig.at(27).probes(), []);
    assert_eq!(rig.at(28).probes(), [Mac([0xff; 6])], "it is still probed");
    rig.hear(NEW, Evidence::Announcement);
    assert_eq!(rig.state(), (NeighborState::Reachable, Some(NEW)));
}

#[test]
fn a_backend_that_is_suspected_is_asked_at_once_and_then_by_broadcast() {
    let mut rig = Rig::new();
    rig.hear(OLD, Evidence::Answer);
    let now = rig.at(5).now;
    rig.neighbors.ask(address(), now);
    assert_eq!(rig.probes(), [OLD]);
    rig.neighbors.ask(address(), now);
    assert_eq!(rig.probes(), [], "it is asked already");
    assert_eq!(rig.at(6).probes(), [Mac([0xff; 6])]);
    rig.hear(NEW, Evidence::Answer);
    assert_eq!(rig.state(), (NeighborState::Reachable, Some(NEW)));
}

#[test]
fn a_new_mac_is_believed_at_once_but_not_twice_in_a_row() {
    let mut rig = Rig::new();
    rig.hear(OLD, Evidence::Answer).at(10).hear(NEW, Evidence::Announcement);
    assert_eq!(rig.state(), (NeighborState::Reachable, Some(NEW)));
    rig.at(12).hear(OLD, Evidence::Announcement);
    assert_eq!(rig.state(), (NeighborState::Probe, Some(NEW)), "held down");
    assert_eq!(rig.probes(), []);
    assert_eq!(rig.at(15).probes(), [Mac([0xff; 6])], "a probe by broadcast when the hold-down is over");
    rig.hear(OLD, Evidence::Answer);
    assert_eq!(rig.state(), (NeighborState::Reachable, Some(OLD)));
    assert_eq!(rig.neighbors.table[&address()].changes, 2);
}

#[test]
fn a_hint_causes_a_probe_and_replaces_nothing() {
    let mut rig = Rig::new();
    rig.hear(OLD, Evidence::Answer).at(1).hear(NEW, Evidence::Hint);
    assert_eq!(rig.state(), (NeighborState::Probe, Some(OLD)));
    assert_eq!(rig.probes(), [Mac([0xff; 6])]);
}

#[test]
fn each_change_is_told_once() {
    let mut rig = Rig::new();
    let news = |rig: &mut Rig| -> Vec<(Option<Mac>, Option<Mac>)> {
        rig.neighbors.take_news().iter().map(|news| (news.before, news.now)).collect()
    };
    for second in 0..10 {
        rig.at(second).probes();
    }
    assert_eq!(news(&mut rig), [(None, None)], "it never answered");
    rig.hear(OLD, Evidence::Answer).hear(OLD, Evidence::Answer).at(20).hear(NEW, Evidence::Announcement);
    rig.hear(OLD, Evidence::Announcement); // held down
    assert_eq!(news(&mut rig), [(None, Some(OLD)), (Some(OLD), Some(NEW))]);
    for second in 40..60 {
        rig.at(second).probes();
    }
    assert_eq!(news(&mut rig), [(Some(NEW), None)]);
    rig.hear(NEW, Evidence::Answer);
    assert_eq!(news(&mut rig), [(None, Some(NEW))], "it is back, with the same MAC address");
}

#[test]
fn of_a_backend_that_was_given_up_any_mac_address_is_believed() {
    for evidence in [Evidence::Answer, Evidence::Announcement, Evidence::Hint] {
        let mut rig = Rig::new();
        rig.hear(NEW, Evidence::Answer).at(1).hear(OLD, Evidence::Answer);
        for second in 21..40 {
            rig.at(second).probes();
        }
        assert_eq!(rig.state(), (NeighborState::Failed, Some(OLD)));
        rig.hear(NEW, evidence);
        assert_eq!(rig.state(), (NeighborState::Reachable, Some(NEW)), "{evidence:?}");
        assert_eq!(rig.neighbors.take_changed_macs(), [(address(), Some(NEW))]);
    }
}

/// The backends that are probed at a time, of which there is room for so many probes.
fn probed(lan: &mut Lan, second: u64, room: usize) -> Vec<u8> {
    let now = lan.begin + Duration::from_secs(second);
    let frames = lan.neighbors.poll(&lan.current, &|_| 0, now, room);
    frames.iter().map(|frame| frame.bytes[41] - 3).collect()
}

#[test]
fn many_backends_take_turns() {
    let mut lan = Lan::new(90);
    let mut all = Vec::new();
    for second in 0..9 {
        // The first ones are due again before the last ones have been probed.
        let some = probed(&mut lan, second, 10);
        assert_eq!(some.len(), 10, "second {second}");
        all.extend(some);
    }
    all.sort_unstable();
    assert_eq!(all, (0..90).collect::<Vec<u8>>(), "each once");
    assert_eq!(probed(&mut lan, 10, 0), [] as [u8; 0]);
    assert_eq!(probed(&mut lan, 10, 3), [0, 1, 2], "and again");
    assert!(
        lan.neighbors.table.values().all(|neighbor| neighbor.state == NeighborState::Incomplete),
        "none is given up"
    );
}

#[test]
fn other_stations_and_wrong_networks_teach_nothing() {
    let mut rig = Rig::new();
    let other_station = Learned { address: "192.168.0.9".parse().unwrap(), mac: NEW, evidence: Evidence::Answer };
    rig.neighbors.learn(other_station, HERE, rig.now);
    assert_eq!(rig.neighbors.table.len(), 1);
    let learned = Learned { address: address(), mac: NEW, evidence: Evidence::Answer };
    rig.neighbors.learn(learned, NetworkNo::new(1), rig.now);
    assert_eq!(rig.state(), (NeighborState::Incomplete, None));
}

#[test]
fn a_backend_with_a_pinned_mac_is_not_probed_and_keeps_it() {
    let mut model = model();
    model.add_service(&service("192.168.0.101:80", &[]), &leases()).unwrap();
    let id = *model.services.keys().next().unwrap();
    let mut pinned = backend("192.168.0.3", 1);
    pinned.mac = Some(OLD);
    model.add_backend(&id, &pinned, &leases()).unwrap();
    let mut rig = Rig::new();
    rig.current = snapshot(model);
    rig.neighbors.sync(&rig.current, rig.now);
    assert_eq!(rig.state(), (NeighborState::Permanent, Some(OLD)));
    assert_eq!(rig.probes(), []);
    rig.hear(NEW, Evidence::Answer);
    assert_eq!(rig.state(), (NeighborState::Permanent, Some(OLD)));
    // Pinned to another MAC address, then not pinned any more: it is probed, and the address stays in use meanwhile.
    rig.neighbors.take_changed_macs();
    for (mac, expected) in [
        (MacChange::Pin(NEW), (NeighborState::Permanent, Some(NEW))),
        (MacChange::Resolve, (NeighborState::Probe, Some(NEW))),
    ] {
        let mut model = Model::clone(&rig.current.model);
        let (service, address) = (id, address());
        model.edit_backend(&BackendEdit { service, address, weight: None, mac: Some(mac) }).unwrap();
        rig.current = snapshot(model);
        rig.neighbors.sync(&rig.current, rig.now);
        assert_eq!(rig.state(), expected);
        assert_eq!(rig.neighbors.take_changed_macs(), [(address, Some(NEW))]);
    }
    assert_eq!(rig.probes(), [Mac([0xff; 6])]);
}

#[test]
fn a_removed_backend_is_forgotten() {
    let mut rig = Rig::new();
    rig.hear(OLD, Evidence::Answer);
    rig.neighbors.take_changed_macs();
    rig.neighbors.sync(&snapshot(model()), rig.now);
    assert_eq!(rig.neighbors.table.len(), 0);
    assert_eq!(rig.neighbors.take_changed_macs(), [(address(), None)]);
}

/// A backend with a pinned MAC address is never asked, but without a link, nothing reaches it.
#[test]
fn a_backend_with_a_pinned_mac_is_out_of_reach_without_a_link_only() {
    let mut model = model();
    let mut wanted = service("192.168.0.101:80", &[("192.168.0.3", 1)]);
    wanted.backends[0].mac = Some(OLD);
    model.add_service(&wanted, &leases()).unwrap();
    let mut rig = Rig::new();
    rig.current = snapshot(model);
    rig.neighbors.sync(&rig.current, rig.now);
    for (up, joins, reach) in [(true, 0, Reach::Answers), (false, 0, Reach::NoLink), (true, 1, Reach::Answers)] {
        rig.neighbors.set_links(&with_port(&rig.current, PortLink { up, joins, ..PORT }), rig.now);
        rig.neighbors.judge();
        assert_eq!(rig.neighbors.outlook().of(address()), reach, "link up: {up}");
    }
}

/// A port that loses frames all the time, such as one whose worker is saturated.
#[test]
fn frames_that_the_director_loses_make_no_backend_unreachable() {
    for lost in [0, 1] {
        let mut lan = Lan::new(20);
        (0..4).for_each(|tick| lan.tick(tick, &(0..20).collect::<Vec<_>>()));
        assert_eq!(lan.those(Reach::Answers).len(), 20);
        let (mut losses, mut given_up, mut found) = (0, Vec::new(), None);
        // Number 7 is dead. Of the others' answers, each third one arrives.
        for second in 20..120 {
            losses += lost;
            let now = lan.begin + Duration::from_secs(second);
            let probes = lan.neighbors.poll(&lan.current, &|_| losses, now, usize::MAX);
            for (index, frame) in probes.iter().enumerate() {
                let last = frame.bytes[41];
                if last != 3 + 7 && (index as u64 + second).is_multiple_of(3) {
                    let learned = Learned { address: Lan::address(last - 3), mac: OLD, evidence: Evidence::Answer };
                    lan.neighbors.learn(learned, HERE, now);
                }
            }
            let down = lan.those(Reach::Down);
            found = found.or(down.contains(&7).then_some(second));
            given_up.extend(down.into_iter().filter(|number| *number != 7));
        }
        assert!(found.is_some_and(|second| second < 90), "{lost}: what is dead is found: {found:?}");
        assert_eq!(given_up.is_empty(), lost == 1, "{given_up:?}");
    }
}
