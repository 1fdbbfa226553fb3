//! Which backends have which MAC address, and those that share one (`shared-mac`).
//!
//! Several backends of a network and an address family with one MAC address are behind a router or a proxy, where DR does
//! not work; or they are one host, which is well.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use ctl::Mac;
use ctl::answer::{NeighborState, Subject};
use hashbrown::HashMap;

use crate::base::ids::NetworkNo;
use crate::control::compile::Compiled;
use crate::control::fault::{FaultKind, Sighting};
use crate::control::faults::Faults;
use crate::slow::neighbor::{Neighbor, Neighbors};

/// Of the backends that share a MAC address, so many have a fault each.
const MOST: usize = 16;

/// How long new backends of a network are awaited. A new backend is asked for at once, and again each second.
const AWAITED: Duration = Duration::from_secs(3);

/// The backends by MAC address.
#[derive(Debug, Default)]
pub struct Stations {
    by_mac: HashMap<Mac, Vec<Station>>,
    /// The networks with new backends that have not answered yet, and since when there are some. `None`: nobody has looked yet.
    unresolved: Option<HashMap<NetworkNo, Instant>>,
    sharing: BTreeSet<IpAddr>,
}

/// A backend that has a MAC address.
#[derive(Debug, Clone, Copy)]
struct Station {
    network: NetworkNo,
    address: IpAddr,
    /// Whether it was given up.
    failed: bool,
}

impl Stations {
    /// Looks at all backends. To be called when one of them is new, or has another MAC address, or is gone.
    pub fn look(&mut self, faults: &Faults, neighbors: &Neighbors, current: &Compiled, now: Instant) {
        self.by_mac.clear();
        let mut unresolved = HashMap::new();
        let known = self.unresolved.take().unwrap_or_default();
        for (&address, neighbor) in neighbors.iter() {
            let Neighbor { network, state, .. } = *neighbor;
            if let Some(mac) = neighbor.mac {
                let failed = state == NeighborState::Failed;
                self.by_mac.entry(mac).or_default().push(Station { network, address, failed });
            } else if state == NeighborState::Incomplete {
                unresolved.insert(network, known.get(&network).copied().unwrap_or(now));
            }
        }
        self.unresolved = Some(unresolved);
        let mut sharing = BTreeSet::new();
        for (&mac, stations) in &self.by_mac {
            // What an operator has pinned is meant; and one that was given up may have another one by now.
            let counts = |station: &&Station| {
                let state = neighbors.get(station.address).map(|neighbor| neighbor.state);
                matches!(state, Some(NeighborState::Reachable | NeighborState::Probe))
            };
            let mut groups: BTreeMap<(NetworkNo, bool), Vec<IpAddr>> = BTreeMap::new();
            for &Station { network, address, .. } in stations.iter().filter(counts) {
                groups.entry((network, address.is_ipv6())).or_default().push(address);
            }
            for ((network, _), group) in groups.into_iter().filter(|(_, group)| group.len() > 1) {
                let port = current.model.network(network).name();
                for &address in group.iter().take(MOST) {
                    sharing.insert(address);
                    faults.open(sighting(address, mac, &group, &port), now);
                }
            }
        }
        for address in self.sharing.difference(&sharing) {
            faults.close(FaultKind::SharedMac, &subject(*address, None), now);
        }
        self.sharing = sharing;
    }

    /// The backend that has this MAC address: of several, one here rather than in another network, one that was not given up, and one of
    /// `family_of`'s address family. A host may be a backend in one network and answer in another one.
    pub fn backend(&self, is_here: impl Fn(NetworkNo) -> bool, mac: Mac, family_of: IpAddr) -> Option<IpAddr> {
        let order = |station: &&Station| {
            let other_family = station.address.is_ipv4() != family_of.is_ipv4();
            (!is_here(station.network), station.failed, other_family)
        };
        self.by_mac.get(&mac)?.iter().min_by_key(order).map(|station| station.address)
    }

    /// Whether a station of this network may be a backend whose MAC address is not known yet.
    pub fn are_awaited(&self, network: NetworkNo, now: Instant) -> bool {
        let Some(unresolved) = &self.unresolved else { return true };
        unresolved.get(&network).is_some_and(|since| now.saturating_duration_since(*since) < AWAITED)
    }
}

fn subject(address: IpAddr, mac: Option<Mac>) -> Subject {
    Subject { backend: Some(address), mac, ..Subject::default() }
}

fn sighting(address: IpAddr, mac: Mac, group: &[IpAddr], port: &str) -> Sighting {
    let others: Vec<String> =
        group.iter().filter(|other| **other != address).take(3).map(ToString::to_string).collect();
    let more = match group.len() - 1 - others.len() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let with = others.join(", ");
    let text = format!(
        "Backend {address} has the MAC address {mac} on {port}, and so has {with}{more}: a router or a proxy is in between, or they are \
         one host"
    );
    let fix = match address {
        IpAddr::V4(_) => "put them on the director's segment; on the host with that MAC address, \
                          `sysctl -w net.ipv4.conf.all.proxy_arp=0`, and 0 for each interface"
            .to_owned(),
        IpAddr::V6(address) => format!(
            "put them on the director's segment; on the host with that MAC address, `ip -6 neigh del proxy {address} dev INTERFACE`"
        ),
    };
    Sighting::new(FaultKind::SharedMac, subject(address, Some(mac)), text, fix)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slow::view::{Evidence, Learned};
    use crate::testing::model::{backend_mac, leases, model, service, snapshot};

    const ROUTER: Mac = Mac([2, 0, 0, 0, 0, 0x77]);

    struct Rig {
        stations: Stations,
        faults: Faults,
        neighbors: Neighbors,
        current: Compiled,
        now: Instant,
    }

    impl Rig {
        fn new(backends: &[&str]) -> Rig {
            let mut model = model();
            for (vip, v4) in [("192.168.0.101:80", true), ("[fd00::101]:80", false)] {
                let of_family = backends.iter().filter(|backend| backend.contains('.') == v4);
                let backends: Vec<(&str, u32)> = of_family.map(|backend| (*backend, 1)).collect();
                model.add_service(&service(vip, &backends), &leases()).unwrap();
            }
            let (mut neighbors, current, now) = (Neighbors::default(), snapshot(model), Instant::now());
            neighbors.sync(&current, now);
            Rig { stations: Stations::default(), faults: Faults::default(), neighbors, current, now }
        }

        fn at(&mut self, backend: &str, mac: Mac) {
            let learned = Learned { address: backend.parse().unwrap(), mac, evidence: Evidence::Answer };
            self.neighbors.learn(learned, NetworkNo::new(0), self.now);
        }

        fn sharing(&mut self) -> Vec<String> {
            self.stations.look(&self.faults, &self.neighbors, &self.current, self.now);
            self.faults.list().into_iter().map(|fault| fault.subject.backend.unwrap().to_string()).collect()
        }
    }

    #[test]
    fn backends_behind_one_mac_address_are_named_until_they_have_their_own() {
        for backends in [["192.168.0.3", "192.168.0.4"], ["fd00::3", "fd00::4"]] {
            let mut rig = Rig::new(&backends);
            rig.at(backends[0], ROUTER);
            assert!(rig.sharing().is_empty());
            rig.at(backends[1], ROUTER);
            assert_eq!(rig.sharing(), backends);
            let fault = &rig.faults.list()[0];
            assert!(fault.text.contains(&format!("and so has {}", backends[1])), "{}", fault.text);
            assert_eq!(fault.subject.mac, Some(ROUTER));
            rig.now += std::time::Duration::from_secs(60);
            rig.at(backends[1], backend_mac(backends[1].parse().unwrap()));
            assert!(rig.sharing().is_empty());
        }
    }

    #[test]
    fn the_two_addresses_of_a_dual_stack_host_and_a_silent_one_share_nothing() {
        let mut rig = Rig::new(&["192.168.0.3", "fd00::3", "192.168.0.4"]);
        rig.at("192.168.0.3", ROUTER);
        rig.at("fd00::3", ROUTER);
        assert!(rig.sharing().is_empty());
        for here in [0, 1] {
            // Also where that host is heard in another network, such as without the tag of its VLAN.
            let of = |family: &str| {
                let found =
                    rig.stations.backend(|network| network == NetworkNo::new(here), ROUTER, family.parse().unwrap());
                found.map(|address| address.to_string())
            };
            assert_eq!([of("fd00::1"), of("10.0.0.1")], ["fd00::3", "192.168.0.3"].map(|address| Some(address.into())));
        }
        let stranger = Mac([2, 0, 0, 0, 0, 0x66]);
        assert_eq!(rig.stations.backend(|_| true, stranger, "10.0.0.1".parse().unwrap()), None);
    }

    #[test]
    fn of_several_backends_with_a_mac_address_one_that_is_here_and_answers_is_named() {
        let mut rig = Rig::new(&["192.168.0.3", "192.168.0.4", "fd00::3"]);
        let network = NetworkNo::new(0);
        rig.stations.look(&rig.faults, &rig.neighbors, &rig.current, rig.now);
        let station = |network, address: &str, failed| {
            let network = NetworkNo::new(network);
            Station { network, address: address.parse().unwrap(), failed }
        };
        let all = [
            station(1, "192.168.0.5", false),
            station(0, "192.168.0.3", true),
            station(0, "fd00::3", false),
            station(0, "192.168.0.4", false),
        ];
        rig.stations.by_mac.insert(ROUTER, all.to_vec());
        let of = |rig: &Rig| rig.stations.backend(|of| of == network, ROUTER, "10.0.0.1".parse().unwrap()).unwrap();
        for expected in ["192.168.0.4", "fd00::3", "192.168.0.3", "192.168.0.5"] {
            assert_eq!(of(&rig).to_string(), expected);
            rig.stations.by_mac.get_mut(&ROUTER).unwrap().retain(|station| station.address.to_string() != expected);
        }
    }

    #[test]
    fn of_very_many_behind_one_mac_address_some_are_named() {
        let addresses: Vec<String> = (1..=100).map(|last| format!("192.168.0.{}", last + 2)).collect();
        let addresses: Vec<&str> =
            addresses.iter().map(|address| &**address).filter(|a| *a != "192.168.0.101").collect();
        let mut rig = Rig::new(&addresses);
        addresses.iter().for_each(|address| rig.at(address, ROUTER));
        assert_eq!(rig.sharing().len(), MOST);
        let text = &rig.faults.list()[0].text;
        assert!(text.contains(&format!("and {} more", addresses.len() - 4)), "{text}");
    }
}
