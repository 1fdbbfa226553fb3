//! The backends' MAC addresses: found before the first packet needs them, confirmed before they are stale.
//!
//! A life like that of RFC 4861 §7.3, for ARP and neighbor discovery alike: a backend is asked for as soon as it is
//! configured (`Incomplete`), confirmed by whatever it says (`Reachable`), asked again, itself first, then everybody
//! (`Probe`), and given up when nobody answers (`Failed`), but still asked for. While it is being asked again, its
//! old MAC address stays in use. A backend that says it has a new MAC address is believed at once; if that happens
//! again soon, not before a hold-down is over, so that two stations that quarrel about an address do not make
//! every flow flap.
//!
//! A backend that was given up is down only if there is a witness: another one of its network and address family that has answered
//! since this one should have. For who hears nobody may well be the one who is out himself. So as soon as a backend
//! does not answer, some of the others are asked.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ctl::answer::NeighborState;
use ctl::{Mac, ServiceId};
use hashbrown::HashMap;

use crate::base::ids::NetworkNo;
use crate::control::compile::Compiled;
use crate::control::model::{Backend, Model};
use crate::slow::view::{Evidence, Frame, Learned};
use crate::slow::{arp, ndp};

/// How long a confirmation is good for: less than the aging time of any switch's table (usually 300 s), so that
/// probes keep those tables warm, too.
const REACHABLE: Duration = Duration::from_secs(20);
/// Between two probes (RFC 4861 §10, RETRANS_TIMER).
const RETRANSMIT: Duration = Duration::from_secs(1);
/// Between two probes for somebody who does not answer.
const RETRY_FAILED: Duration = Duration::from_secs(3);
/// Probes to the station itself before everybody is asked (RFC 4861 §10, MAX_UNICAST_SOLICIT).
const UNICAST_PROBES: u32 = 3;
/// Probes to everybody before it is given up (RFC 4861 §10, MAX_MULTICAST_SOLICIT).
const BROADCAST_PROBES: u32 = 3;
/// So many others are asked when somebody does not answer, each time.
const WITNESSES: usize = 3;
/// After a change of the MAC address, another one is believed no sooner.
const HOLD_DOWN: Duration = Duration::from_secs(5);

/// Of so many changed backends, each is looked for in all services; of more, all services are gone through.
const MANY_CHANGED: usize = 100;

/// What has become of a backend's MAC address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct News {
    /// The backend.
    pub address: IpAddr,
    /// The network by which it is reached.
    pub network: NetworkNo,
    /// The MAC address that it had.
    pub before: Option<Mac>,
    /// The one that it has; none: nobody answers.
    pub now: Option<Mac>,
}

/// What is known of one backend.
#[derive(Debug, Clone)]
pub struct Neighbor {
    /// The network by which it is reached.
    pub network: NetworkNo,
    /// Its MAC address.
    pub mac: Option<Mac>,
    /// Where its resolution stands.
    pub state: NeighborState,
    /// When the MAC address was last confirmed.
    pub confirmed: Option<Instant>,
    /// Probes since then.
    pub probes: u32,
    /// How often the MAC address has changed.
    pub changes: u64,
    changed: Option<Instant>,
    /// When the first of the probes was sent that it has not answered.
    silent_since: Option<Instant>,
    due: Instant,
}

/// All backends' MAC addresses.
#[derive(Debug, Default)]
pub struct Neighbors {
    table: BTreeMap<IpAddr, Neighbor>,
    /// When the first of them is due; `None`: unknown, look at all.
    next_due: Option<Instant>,
    /// Whose MAC address has changed, or who was given up, since it was last asked.
    changed: BTreeSet<IpAddr>,
    /// The model that the backends were last taken over from.
    seen: Option<Arc<Model>>,
    /// What has happened since it was last asked: not more than a few for each backend, by the times above.
    news: Vec<News>,
    /// By port, whether its link is up.
    links: Vec<bool>,
    /// Whether some may have been given up without a witness.
    undecided: bool,
}

/// The neighbors who are each other's witnesses: of one network and one address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Group {
    network: NetworkNo,
    v4: bool,
}

impl Group {
    /// A neighbor's; a pinned one, which nobody asks, has none.
    fn of(address: IpAddr, neighbor: &Neighbor) -> Option<Group> {
        let asked = neighbor.state != NeighborState::Permanent;
        asked.then_some(Group { network: neighbor.network, v4: address.is_ipv4() })
    }
}

impl Neighbors {
    /// By address.
    pub fn table(&self) -> &BTreeMap<IpAddr, Neighbor> {
        &self.table
    }

    /// By address.
    pub fn iter(&self) -> impl Iterator<Item = (&IpAddr, &Neighbor)> {
        self.table.iter()
    }

    /// What is known of a backend.
    pub fn get(&self, address: IpAddr) -> Option<&Neighbor> {
        self.table.get(&address)
    }

    /// Takes over from a new snapshot which backends there are.
    pub fn sync(&mut self, snapshot: &Compiled, now: Instant) {
        let model = &snapshot.model;
        let changed = self.seen.as_ref().map(|seen| changed_backends(seen, model));
        self.seen = Some(model.clone());
        match changed.filter(|changed| changed.len() <= MANY_CHANGED) {
            Some(changed) => {
                for address in changed {
                    let services = model.services.values();
                    let uses = services
                        .filter_map(|service| Some(&service.backends[service.number_of(address).ok()?.index()]));
                    self.want(address, wanted(uses), now);
                }
            }
            None => {
                let mut uses: BTreeMap<IpAddr, Vec<&Backend>> = BTreeMap::new();
                for backend in model.services.values().flat_map(|service| &service.backends) {
                    uses.entry(backend.address).or_default().push(backend);
                }
                for gone in
                    self.table.keys().filter(|address| !uses.contains_key(*address)).copied().collect::<Vec<_>>()
                {
                    self.want(gone, None, now);
                }
                for (address, uses) in uses {
                    self.want(address, wanted(uses.into_iter()), now);
                }
            }
        }
        self.next_due = None;
    }

    /// Takes over that a backend is reached by this network, with a pinned MAC address or not; or is none any more.
    fn want(&mut self, address: IpAddr, wanted: Option<(NetworkNo, Option<Mac>)>, now: Instant) {
        let Some((network, pinned)) = wanted else {
            if self.table.remove(&address).is_some() {
                self.changed.insert(address);
            }
            return;
        };
        match self.table.get_mut(&address) {
            Some(known)
                if (known.state == NeighborState::Permanent) == pinned.is_some() && known.network == network =>
            {
                let mac = pinned.or(known.mac);
                if known.mac != mac {
                    known.mac = mac;
                    self.changed.insert(address);
                }
            }
            // No longer pinned: used on, until whoever answers says otherwise.
            Some(known) if known.state == NeighborState::Permanent && known.network == network => {
                known.state = NeighborState::Probe;
                known.probes = UNICAST_PROBES;
                known.due = now;
                self.changed.insert(address);
            }
            _ => {
                self.table.insert(address, Neighbor::new(network, pinned, now));
                self.changed.insert(address);
            }
        }
    }

    /// Takes note of somebody's MAC address, if it is a backend's and comes from where the backend is.
    pub fn learn(&mut self, learned: Learned, network: NetworkNo, now: Instant) {
        let Learned { address, mac, evidence } = learned;
        let Some(neighbor) = self.table.get_mut(&address) else { return };
        if neighbor.network != network || neighbor.state == NeighborState::Permanent {
            return;
        }
        let given_up = self.without_witness();
        let Some(neighbor) = self.table.get_mut(&address) else { return };
        match neighbor.mac {
            Some(known) if known == mac => neighbor.confirm(now),
            Some(_) if evidence == Evidence::Hint => neighbor.ask_everybody(now),
            Some(known) => match neighbor.changed.map(|changed| changed + HOLD_DOWN).filter(|&until| until > now) {
                Some(until) => neighbor.ask_everybody(until),
                None => {
                    self.news.push(News { address, network, before: Some(known), now: Some(mac) });
                    neighbor.changes += 1;
                    neighbor.changed = Some(now);
                    neighbor.take(mac, now);
                    self.changed.insert(address);
                }
            },
            None => {
                self.news.push(News { address, network, before: None, now: Some(mac) });
                neighbor.take(mac, now);
                self.changed.insert(address);
            }
        }
        // Somebody answers: those of its group who have not could not, until now. They get the time that a new one has.
        let group = Group::of(address, neighbor).filter(|_| neighbor.confirmed == Some(now));
        for address in given_up {
            if let Some(neighbor) = self.table.get_mut(&address)
                && neighbor.state == NeighborState::Failed
                && Group::of(address, neighbor) == group
            {
                (neighbor.state, neighbor.probes, neighbor.due) = (NeighborState::Incomplete, 0, now);
            }
        }
        self.next_due = None;
    }

    /// By group, when one of it was last confirmed.
    fn last_confirmed(&self) -> HashMap<Group, Instant> {
        let mut last = HashMap::new();
        for (&address, neighbor) in &self.table {
            if let (Some(group), Some(confirmed)) = (Group::of(address, neighbor), neighbor.confirmed) {
                let last = last.entry(group).or_insert(confirmed);
                *last = confirmed.max(*last);
            }
        }
        last
    }

    /// Who was given up, with or without a witness.
    fn failed(&self, witnessed: bool) -> impl Iterator<Item = IpAddr> {
        let last = self.last_confirmed();
        self.table.iter().filter(|(_, neighbor)| neighbor.state == NeighborState::Failed).filter_map(
            move |(&address, neighbor)| {
                let last = last.get(&Group::of(address, neighbor)?).copied();
                (neighbor.has_witness(last) == witnessed).then_some(address)
            },
        )
    }

    /// Who was given up without a witness; looks only where there may be somebody.
    fn without_witness(&mut self) -> Vec<IpAddr> {
        if !self.undecided {
            return Vec::new();
        }
        let found: Vec<IpAddr> = self.failed(false).collect();
        self.undecided = !found.is_empty();
        found
    }

    /// Asks some of those who are believed to be there, where others do not answer.
    fn ask_witnesses(&mut self, silent: &[(Group, Instant)], now: Instant) {
        if silent.is_empty() {
            return;
        }
        let last = self.last_confirmed();
        let unwitnessed = |&&(group, since): &&(Group, Instant)| !is_witnessed(since, last.get(&group).copied());
        let groups: BTreeSet<Group> = silent.iter().filter(unwitnessed).map(|(group, _)| *group).collect();
        for wanted in groups {
            let there = self.table.iter_mut().filter(|(address, neighbor)| {
                neighbor.state == NeighborState::Reachable && Group::of(**address, neighbor) == Some(wanted)
            });
            there.take(WITNESSES).for_each(|(_, neighbor)| neighbor.due = now);
        }
    }

    /// Takes note of which ports' links are up. Behind one that is down, nobody is asked, or given up.
    pub fn set_links(&mut self, links: &[bool]) {
        if self.links != links {
            self.links = links.to_vec();
            self.next_due = None;
        }
    }

    /// The probes that are due.
    pub fn poll(&mut self, snapshot: &Compiled, now: Instant) -> Vec<Frame> {
        if self.next_due.is_some_and(|due| due > now) {
            return Vec::new();
        }
        let (mut frames, mut silent) = (Vec::new(), Vec::new());
        for (&address, neighbor) in &mut self.table {
            if neighbor.state == NeighborState::Permanent || neighbor.due > now {
                continue;
            }
            let port = snapshot.network(neighbor.network).port;
            if !self.links.get(port.index()).copied().unwrap_or(true) {
                neighbor.due = now + RETRANSMIT;
                continue;
            }
            let (before, state) = (neighbor.mac, neighbor.state);
            if let (Some(group), Some(since), 1..) =
                (Group::of(address, neighbor), neighbor.silent_since, neighbor.probes)
            {
                silent.push((group, since));
            }
            neighbor.give_up_or_go_on(now);
            if neighbor.state == NeighborState::Failed && state != NeighborState::Failed {
                self.news.push(News { address, network: neighbor.network, before, now: None });
                self.changed.insert(address);
                self.undecided = true;
            }
            frames.extend(probe(snapshot, address, neighbor));
        }
        self.ask_witnesses(&silent, now);
        let due = self.table.values().filter(|neighbor| neighbor.state != NeighborState::Permanent).map(|n| n.due);
        // Nobody to ask: come back now and then all the same; a new snapshot resets this anyway.
        self.next_due = Some(due.min().unwrap_or(now + REACHABLE));
        frames
    }

    /// What has happened since the last call.
    pub fn take_news(&mut self) -> Vec<News> {
        std::mem::take(&mut self.news)
    }

    /// A backend that has this MAC address, with an address of the wanted family if it has one.
    pub fn with_mac(&self, mac: Mac, family_of: IpAddr) -> Option<IpAddr> {
        let found = self.table.iter().filter(|(_, neighbor)| neighbor.mac == Some(mac)).map(|(&address, _)| address);
        found.min_by_key(|address| address.is_ipv4() != family_of.is_ipv4())
    }

    /// The MAC addresses that have changed since the last call, and those of backends that were given up: none; `None` if
    /// there was nothing of the kind.
    pub fn take_changed_macs(&mut self) -> Option<Vec<(IpAddr, Option<Mac>)>> {
        let changed = std::mem::take(&mut self.changed).into_iter();
        let macs = changed.map(|address| (address, self.table.get(&address).and_then(|neighbor| neighbor.mac)));
        Some(macs.collect()).filter(|macs: &Vec<_>| !macs.is_empty())
    }

    /// Who is down: was given up, while others of its group answer.
    pub fn down(&self) -> HashSet<IpAddr> {
        self.failed(true).collect()
    }
}

/// Whether somebody was heard when one who was first asked at `since` should have answered long ago.
fn is_witnessed(since: Instant, last_confirmed: Option<Instant>) -> bool {
    last_confirmed.is_some_and(|confirmed| confirmed >= since + RETRANSMIT)
}

impl Neighbor {
    fn new(network: NetworkNo, pinned: Option<Mac>, now: Instant) -> Self {
        let state = if pinned.is_some() { NeighborState::Permanent } else { NeighborState::Incomplete };
        Neighbor {
            network,
            mac: pinned,
            state,
            confirmed: None,
            probes: 0,
            changes: 0,
            changed: None,
            silent_since: None,
            due: now,
        }
    }

    fn take(&mut self, mac: Mac, now: Instant) {
        self.mac = Some(mac);
        self.confirm(now);
    }

    fn confirm(&mut self, now: Instant) {
        self.state = NeighborState::Reachable;
        self.confirmed = Some(now);
        self.probes = 0;
        self.due = now + REACHABLE;
    }

    /// The next probe is at that time, and for everybody: somebody else may have the address.
    fn ask_everybody(&mut self, at: Instant) {
        if self.state == NeighborState::Reachable {
            self.state = NeighborState::Probe;
            self.probes = UNICAST_PROBES;
            self.silent_since = Some(at);
            self.due = at;
        }
    }

    fn has_witness(&self, last_confirmed: Option<Instant>) -> bool {
        self.silent_since.is_some_and(|since| is_witnessed(since, last_confirmed))
    }

    /// Counts the probe that is due and sets the time of the next.
    fn give_up_or_go_on(&mut self, now: Instant) {
        if self.probes == 0 {
            self.silent_since = Some(now);
        }
        match self.state {
            NeighborState::Reachable => self.state = NeighborState::Probe,
            NeighborState::Probe if self.probes >= UNICAST_PROBES + BROADCAST_PROBES => {
                self.state = NeighborState::Failed;
                self.mac = None;
            }
            NeighborState::Incomplete if self.probes >= BROADCAST_PROBES => self.state = NeighborState::Failed,
            _ => {}
        }
        self.probes = self.probes.saturating_add(1);
        self.due = now + if self.state == NeighborState::Failed { RETRY_FAILED } else { RETRANSMIT };
    }
}

/// How a backend is reached, by those services that have it: pinned in one and not in another, it needs to be resolved.
fn wanted<'a>(mut uses: impl Iterator<Item = &'a Backend>) -> Option<(NetworkNo, Option<Mac>)> {
    let first = uses.next()?;
    let pinned = first.pinned.filter(|_| uses.all(|backend| backend.pinned.is_some()));
    Some((first.network, pinned))
}

/// The backends that a service has in one model and not, or with another MAC address, in the other.
fn changed_backends(old: &Model, new: &Model) -> BTreeSet<IpAddr> {
    let mut changed = BTreeSet::new();
    let reached = |model: &Model, id: &ServiceId| -> Vec<(IpAddr, NetworkNo, Option<Mac>)> {
        let backends = model.services.get(id).into_iter().flat_map(|service| &service.backends);
        backends.map(|backend| (backend.address, backend.network, backend.pinned)).collect()
    };
    for id in old.differences(new) {
        let (before, now) = (reached(old, &id), reached(new, &id));
        if before != now {
            let (before, now): (HashSet<_>, HashSet<_>) = (before.into_iter().collect(), now.into_iter().collect());
            changed.extend(before.symmetric_difference(&now).map(|(address, ..)| *address));
        }
    }
    changed
}

/// Asks for a neighbor, from our own address in its network, never from a VIP.
fn probe(snapshot: &Compiled, address: IpAddr, neighbor: &Neighbor) -> Option<Frame> {
    let network = &snapshot.network(neighbor.network);
    let own = network.addresses.iter().find(|net| net.contains(&address))?.addr();
    let last = neighbor.mac.filter(|_| neighbor.probes <= UNICAST_PROBES);
    let bytes = match (own, address) {
        (IpAddr::V4(own), IpAddr::V4(address)) => arp::request(network.link.mac, own, address, last),
        (IpAddr::V6(own), IpAddr::V6(address)) => ndp::request(network.link.mac, own, address, last),
        _ => return None,
    };
    Some(Frame { network: neighbor.network, bytes })
}

#[cfg(test)]
mod tests {
    use ctl::request::{BackendEdit, MacChange};

    use super::*;
    use crate::testing::model::{PORT_MAC, backend, ids, model, service, snapshot};

    const HERE: NetworkNo = NetworkNo::new(0);

    const OLD: Mac = Mac([2, 0, 0, 0, 0, 3]);
    const NEW: Mac = Mac([2, 0, 0, 0, 0, 0x33]);

    fn address() -> IpAddr {
        "192.168.0.3".parse().unwrap()
    }

    /// One backend, a clock, and what happens in time.
    struct Story {
        neighbors: Neighbors,
        snapshot: Compiled,
        begin: Instant,
        now: Instant,
    }

    impl Story {
        fn new() -> Self {
            let mut model = model();
            model.add_service(&service("192.168.0.101:80", &[("192.168.0.3", 1)]), &ids()).unwrap();
            let (mut neighbors, snapshot, now) = (Neighbors::default(), snapshot(model), Instant::now());
            neighbors.sync(&snapshot, now);
            Story { neighbors, snapshot, begin: now, now }
        }

        fn at(&mut self, seconds: u64) -> &mut Self {
            self.now = self.begin + Duration::from_secs(seconds);
            self
        }

        fn hear(&mut self, mac: Mac, evidence: Evidence) -> &mut Self {
            self.neighbors.learn(Learned { address: address(), mac, evidence }, HERE, self.now);
            self
        }

        /// Where the probes that are due now go to.
        fn probes(&mut self) -> Vec<Mac> {
            let frames = self.neighbors.poll(&self.snapshot, self.now);
            frames.iter().map(|frame| Mac(frame.bytes[..6].try_into().unwrap())).collect()
        }

        fn state(&self) -> (NeighborState, Option<Mac>) {
            let neighbor = &self.neighbors.table[&address()];
            (neighbor.state, neighbor.mac)
        }
    }

    #[test]
    fn a_backend_is_asked_for_at_once_from_our_own_address() {
        let mut story = Story::new();
        let frames = story.neighbors.poll(&story.snapshot, story.now);
        let own = "192.168.0.2".parse().unwrap();
        let expected = arp::request(PORT_MAC, own, "192.168.0.3".parse().unwrap(), None);
        assert_eq!(frames, [Frame { network: HERE, bytes: expected }]);
        assert_eq!(story.probes(), [], "not again before its time");
        assert_eq!(story.at(1).probes(), [Mac([0xff; 6])]);
    }

    /// Several backends of one network, of which some answer what they are asked.
    struct Lan {
        neighbors: Neighbors,
        snapshot: Compiled,
        begin: Instant,
    }

    impl Lan {
        fn new(backends: u8) -> Self {
            let backends: Vec<String> = (0..backends).map(|number| Lan::address(number).to_string()).collect();
            let backends: Vec<(&str, u32)> = backends.iter().map(|address| (address.as_str(), 1)).collect();
            let mut model = model();
            model.add_service(&service("192.168.0.101:80", &backends), &ids()).unwrap();
            let (mut neighbors, snapshot, begin) = (Neighbors::default(), snapshot(model), Instant::now());
            neighbors.sync(&snapshot, begin);
            Lan { neighbors, snapshot, begin }
        }

        fn address(number: u8) -> IpAddr {
            std::net::Ipv4Addr::new(192, 168, 0, 3 + number).into()
        }

        /// The half second `tick`, in which these answer.
        fn tick(&mut self, tick: u32, alive: &[u8]) {
            let now = self.begin + tick * Duration::from_millis(500);
            let mut asked = self.neighbors.poll(&self.snapshot, now);
            // Witnesses are asked at once.
            asked.extend(self.neighbors.poll(&self.snapshot, now));
            for &number in alive {
                let address = Lan::address(number);
                let IpAddr::V4(target) = address else { unreachable!() };
                // The target of an ARP request is its end.
                if asked.iter().any(|frame| frame.bytes[38..42] == target.octets()) {
                    self.neighbors.learn(Learned { address, mac: OLD, evidence: Evidence::Answer }, HERE, now);
                }
            }
        }

        fn down(&self) -> Vec<u8> {
            (0..100).filter(|&number| self.neighbors.down().contains(&Lan::address(number))).collect()
        }
    }

    #[test]
    fn who_does_not_answer_is_down_as_soon_as_it_is_given_up() {
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
        // Nor is one that has never answered anything else, in a network where others do.
        let mut lan = Lan::new(2);
        (0..8).for_each(|tick| lan.tick(tick, &[0]));
        assert_eq!(lan.down(), [1]);
    }

    /// Each has its own time at which it is asked again: in an outage, they are given up one after the other.
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
            assert_eq!(lan.down(), [3], "half second {tick}: nobody answers, which is not the backends");
        }
        let failed = lan.neighbors.table.values().filter(|neighbor| neighbor.state == NeighborState::Failed);
        assert_eq!(failed.count(), 4);
        // A backend that is added now is no witness.
        let mut model = Model::clone(&lan.snapshot.model);
        let id = *model.services.keys().next().unwrap();
        model.add_backend(&id, &backend(&Lan::address(4).to_string(), 1), &ids()).unwrap();
        lan.snapshot = snapshot(model);
        lan.neighbors.sync(&lan.snapshot, lan.begin + Duration::from_secs(120));
        for tick in 240..260 {
            lan.tick(tick, &[]);
            assert_eq!(lan.down(), [3]);
        }
        // The first is back: the others get their time, then those who have still not answered are down.
        for tick in 260..266 {
            lan.tick(tick, &[0]);
            assert_eq!(lan.down(), [3], "half second {tick}");
        }
        (266..280).for_each(|tick| lan.tick(tick, &[0, 2]));
        assert_eq!(lan.down(), [1, 3, 4]);
        (280..290).for_each(|tick| lan.tick(tick, &[0, 1, 2, 3, 4]));
        assert_eq!(lan.down(), [0; 0]);
    }

    #[test]
    fn behind_a_link_that_is_down_nobody_is_asked_or_given_up() {
        let mut lan = Lan::new(2);
        (0..10).for_each(|tick| lan.tick(tick, &[0, 1]));
        lan.neighbors.set_links(&[false]);
        let at = |second| lan.begin + Duration::from_secs(second);
        assert!((5..200).all(|second| lan.neighbors.poll(&lan.snapshot, at(second)).is_empty()));
        assert!(lan.neighbors.table.values().all(|neighbor| neighbor.state != NeighborState::Failed));
        lan.neighbors.set_links(&[true]);
        assert!(!lan.neighbors.poll(&lan.snapshot, at(201)).is_empty());
    }

    #[test]
    fn an_answer_makes_it_reachable_and_is_published_once() {
        let mut story = Story::new();
        story.probes();
        story.neighbors.take_changed_macs();
        story.hear(OLD, Evidence::Answer);
        assert_eq!(story.state(), (NeighborState::Reachable, Some(OLD)));
        assert_eq!(story.neighbors.take_changed_macs(), Some(vec![(address(), Some(OLD))]));
        assert_eq!(story.neighbors.take_changed_macs(), None);
        story.hear(OLD, Evidence::Answer);
        assert_eq!(story.neighbors.take_changed_macs(), None);
    }

    #[test]
    fn it_is_asked_again_itself_first_and_keeps_its_mac_meanwhile() {
        let mut story = Story::new();
        story.hear(OLD, Evidence::Answer);
        assert_eq!(story.at(19).probes(), []);
        for second in 20..23 {
            assert_eq!(story.at(second).probes(), [OLD], "second {second}");
            assert_eq!(story.state(), (NeighborState::Probe, Some(OLD)));
        }
        for second in 23..26 {
            assert_eq!(story.at(second).probes(), [Mac([0xff; 6])], "second {second}");
            assert_eq!(story.state(), (NeighborState::Probe, Some(OLD)));
        }
        story.at(26).probes();
        assert_eq!(story.state(), (NeighborState::Failed, None));
        assert_eq!(story.at(28).probes(), []);
        assert_eq!(story.at(29).probes(), [Mac([0xff; 6])], "it is still asked for");
        story.hear(NEW, Evidence::Announcement);
        assert_eq!(story.state(), (NeighborState::Reachable, Some(NEW)));
    }

    #[test]
    fn a_new_mac_is_believed_at_once_but_not_twice_in_a_row() {
        let mut story = Story::new();
        story.hear(OLD, Evidence::Answer).at(10).hear(NEW, Evidence::Announcement);
        assert_eq!(story.state(), (NeighborState::Reachable, Some(NEW)));
        story.at(12).hear(OLD, Evidence::Announcement);
        assert_eq!(story.state(), (NeighborState::Probe, Some(NEW)), "held down");
        assert_eq!(story.probes(), []);
        assert_eq!(story.at(15).probes(), [Mac([0xff; 6])], "everybody is asked when the hold-down is over");
        story.hear(OLD, Evidence::Answer);
        assert_eq!(story.state(), (NeighborState::Reachable, Some(OLD)));
        assert_eq!(story.neighbors.table[&address()].changes, 2);
    }

    #[test]
    fn a_hint_makes_us_ask_and_replaces_nothing() {
        let mut story = Story::new();
        story.hear(OLD, Evidence::Answer).at(1).hear(NEW, Evidence::Hint);
        assert_eq!(story.state(), (NeighborState::Probe, Some(OLD)));
        assert_eq!(story.probes(), [Mac([0xff; 6])]);
    }

    #[test]
    fn what_happens_is_told_once() {
        let mut story = Story::new();
        let news = |story: &mut Story| -> Vec<(Option<Mac>, Option<Mac>)> {
            story.neighbors.take_news().iter().map(|news| (news.before, news.now)).collect()
        };
        for second in 0..10 {
            story.at(second).probes();
        }
        assert_eq!(news(&mut story), [(None, None)], "it never answered");
        story.hear(OLD, Evidence::Answer).hear(OLD, Evidence::Answer).at(20).hear(NEW, Evidence::Announcement);
        story.hear(OLD, Evidence::Announcement); // held down
        assert_eq!(news(&mut story), [(None, Some(OLD)), (Some(OLD), Some(NEW))]);
        for second in 40..60 {
            story.at(second).probes();
        }
        assert_eq!(news(&mut story), [(Some(NEW), None)]);
    }

    #[test]
    fn a_station_is_known_by_its_mac() {
        let mut story = Story::new();
        let v6: IpAddr = "fd00::3".parse().unwrap();
        let mut model = Model::clone(&story.snapshot.model);
        model.add_service(&service("[fd00::101]:80", &[("fd00::3", 1)]), &ids()).unwrap();
        story.neighbors.sync(&snapshot(model), story.now);
        story.hear(OLD, Evidence::Answer);
        assert_eq!(story.neighbors.with_mac(OLD, v6), Some(address()), "better than none");
        story.neighbors.learn(Learned { address: v6, mac: OLD, evidence: Evidence::Answer }, HERE, story.now);
        assert_eq!(story.neighbors.with_mac(OLD, v6), Some(v6));
        assert_eq!(story.neighbors.with_mac(OLD, address()), Some(address()));
        assert_eq!(story.neighbors.with_mac(NEW, v6), None);
    }

    #[test]
    fn strangers_and_wrong_networks_are_not_learned_from() {
        let mut story = Story::new();
        let stranger = Learned { address: "192.168.0.9".parse().unwrap(), mac: NEW, evidence: Evidence::Answer };
        story.neighbors.learn(stranger, HERE, story.now);
        assert_eq!(story.neighbors.table.len(), 1);
        let learned = Learned { address: address(), mac: NEW, evidence: Evidence::Answer };
        story.neighbors.learn(learned, NetworkNo::new(1), story.now);
        assert_eq!(story.state(), (NeighborState::Incomplete, None));
    }

    #[test]
    fn a_pinned_mac_is_neither_asked_for_nor_replaced() {
        let mut model = model();
        model.add_service(&service("192.168.0.101:80", &[]), &ids()).unwrap();
        let id = *model.services.keys().next().unwrap();
        let mut pinned = backend("192.168.0.3", 1);
        pinned.mac = Some(OLD);
        model.add_backend(&id, &pinned, &ids()).unwrap();
        let mut story = Story::new();
        story.snapshot = snapshot(model);
        story.neighbors.sync(&story.snapshot, story.now);
        assert_eq!(story.state(), (NeighborState::Permanent, Some(OLD)));
        assert_eq!(story.probes(), []);
        story.hear(NEW, Evidence::Answer);
        assert_eq!(story.state(), (NeighborState::Permanent, Some(OLD)));
        // Pinned to another one, and then not any more: asked for, and used meanwhile.
        story.neighbors.take_changed_macs();
        for (mac, expected) in [
            (MacChange::Pin(NEW), (NeighborState::Permanent, Some(NEW))),
            (MacChange::Resolve, (NeighborState::Probe, Some(NEW))),
        ] {
            let mut model = Model::clone(&story.snapshot.model);
            let (service, address) = (id, address());
            model.edit_backend(&BackendEdit { service, address, weight: None, mac: Some(mac) }).unwrap();
            story.snapshot = snapshot(model);
            story.neighbors.sync(&story.snapshot, story.now);
            assert_eq!(story.state(), expected);
            assert_eq!(story.neighbors.take_changed_macs(), Some(vec![(address, Some(NEW))]));
        }
        assert_eq!(story.probes(), [Mac([0xff; 6])]);
    }

    #[test]
    fn what_is_no_backend_any_more_is_forgotten() {
        let mut story = Story::new();
        story.hear(OLD, Evidence::Answer);
        story.neighbors.take_changed_macs();
        story.neighbors.sync(&snapshot(model()), story.now);
        assert_eq!(story.neighbors.table.len(), 0);
        assert_eq!(story.neighbors.take_changed_macs(), Some(vec![(address(), None)]));
    }
}
