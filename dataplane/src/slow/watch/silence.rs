//! Backends that do not answer ARP or neighbor discovery (`neighbor-silent`).
//!
//! The fault opens when three probes in a row were in vain, before the backend is given up. It closes when the backend
//! answers.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Instant;

use ctl::answer::{NeighborState, Subject};

use crate::control::compile::Compiled;
use crate::control::fault::{FaultKind, Sighting};
use crate::control::faults::Faults;
use crate::slow::neighbor::{Neighbor, Neighbors};

/// Which backends are silent.
#[derive(Debug, Default)]
pub struct Silence {
    silent: BTreeSet<IpAddr>,
}

impl Silence {
    /// Looks at all backends.
    pub fn look(&mut self, faults: &Faults, neighbors: &Neighbors, current: &Compiled, now: Instant) {
        for (&address, neighbor) in neighbors.iter() {
            // Behind a link that is down, no backend is asked, so nothing is known of it.
            if !current.network(neighbor.network).link.up {
                continue;
            }
            let answers = matches!(neighbor.state, NeighborState::Reachable | NeighborState::Permanent);
            if answers && self.silent.remove(&address) {
                faults.close(FaultKind::NeighborSilent, &subject(address, neighbor), now);
            } else if !answers && neighbor.is_silent(now) && self.silent.insert(address) {
                faults.open(sighting(address, neighbor, &current.model.network(neighbor.network).name()), now);
            }
        }
    }

    /// Forgets the backends that were removed, as soon as there is a new snapshot: one that is added again is another one. Their faults
    /// are forgotten with all others.
    pub fn sync(&mut self, neighbors: &Neighbors) {
        self.silent.retain(|&address| neighbors.get(address).is_some());
    }
}

/// Takes note of a backend that has answered no check since then, and nothing else. That is a fault of its own if it has answered ARP or
/// NDP since then, and none if it is silent there, too.
pub fn mute(faults: &Faults, neighbors: &Neighbors, sighting: Sighting, since: Instant, now: Instant) {
    let Some(neighbor) = sighting.subject.backend.and_then(|backend| neighbors.get(backend)) else { return };
    if neighbor.is_silent(now) {
        faults.close(sighting.kind, &sighting.subject, now);
    } else if neighbor.confirmed.is_some_and(|confirmed| confirmed >= since) {
        faults.open(sighting, now);
    }
}

fn subject(address: IpAddr, neighbor: &Neighbor) -> Subject {
    Subject { backend: Some(address), mac: neighbor.mac, ..Subject::default() }
}

fn sighting(address: IpAddr, neighbor: &Neighbor, port: &str) -> Sighting {
    let protocol = if address.is_ipv4() { "ARP" } else { "neighbor solicitations" };
    let (name, since) = match neighbor.mac {
        Some(mac) => (format!("{address} ({mac})"), "any more"),
        None => (address.to_string(), "and never did"),
    };
    let text = format!("Backend {name} does not answer {protocol} on {port} {since}");
    let fix = "is it up, and its cable in? `ip link set INTERFACE up` there; then look at the switch and the VLAN";
    Sighting::new(FaultKind::NeighborSilent, subject(address, neighbor), text, fix)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::base::ids::NetworkNo;
    use crate::slow::view::{Evidence, Learned};
    use crate::testing::model::{backend_mac, leases, model, service, snapshot};

    const BACKENDS: [&str; 2] = ["192.168.0.3", "fd00::3"];

    struct Rig {
        silence: Silence,
        faults: Faults,
        neighbors: Neighbors,
        current: Compiled,
        begin: Instant,
    }

    impl Rig {
        fn new() -> Rig {
            let mut model = model();
            for (vip, backend) in ["192.168.0.101:80", "[fd00::101]:80"].into_iter().zip(BACKENDS) {
                model.add_service(&service(vip, &[(backend, 1)]), &leases()).unwrap();
            }
            let (mut neighbors, current, begin) = (Neighbors::default(), snapshot(model), Instant::now());
            neighbors.sync(&current, begin);
            Rig { silence: Silence::default(), faults: Faults::default(), neighbors, current, begin }
        }

        fn answer(&mut self, ms: u64) {
            for address in BACKENDS.map(|address| address.parse::<IpAddr>().unwrap()) {
                let learned = Learned { address, mac: backend_mac(address), evidence: Evidence::Answer };
                self.neighbors.learn(learned, NetworkNo::new(0), self.begin + Duration::from_millis(ms));
            }
        }

        /// The backends whose silence is a fault, if the probes are sent from the one time to the other.
        fn silent(&mut self, from_ms: u64, to_ms: u64) -> Vec<String> {
            for ms in (from_ms..=to_ms).step_by(100) {
                let now = self.begin + Duration::from_millis(ms);
                self.neighbors.poll(&self.current, &|_| 0, now, 10);
                self.silence.look(&self.faults, &self.neighbors, &self.current, now);
            }
            let open = self.faults.list().into_iter();
            open.map(|fault| fault.subject.backend.unwrap().to_string()).collect()
        }
    }

    #[test]
    fn a_backend_that_never_answered_is_silent_after_three_probes() {
        let mut rig = Rig::new();
        assert!(rig.silent(0, 2_100).is_empty());
        assert_eq!(rig.silent(2_200, 2_700), BACKENDS);
        assert!(rig.faults.list()[0].text.ends_with("does not answer ARP on lan0 and never did"));
        assert!(rig.faults.list()[1].text.contains("does not answer neighbor solicitations on lan0"));
        rig.answer(5_000);
        assert!(rig.silent(5_000, 5_000).is_empty());
    }

    #[test]
    fn one_that_answered_is_silent_within_three_seconds_of_a_probe() {
        let mut rig = Rig::new();
        rig.silent(0, 0);
        rig.answer(10);
        assert!(rig.silent(100, 3_000).is_empty());
        rig.neighbors.ask_all(rig.begin + Duration::from_millis(4_000));
        assert!(rig.silent(4_000, 6_100).is_empty());
        assert_eq!(rig.silent(6_200, 6_700), BACKENDS);
        // It is given up meanwhile, and that is the same silence.
        assert_eq!(rig.silent(6_800, 30_000), BACKENDS);
        rig.answer(30_100);
        assert!(rig.silent(30_100, 30_100).is_empty());
    }

    #[test]
    fn a_backend_that_is_removed_and_added_again_at_once_is_silent_again() {
        let mut rig = Rig::new();
        assert_eq!(rig.silent(0, 3_000), BACKENDS);
        // Nobody looks in between.
        for current in [snapshot(model()), rig.current.clone()] {
            rig.neighbors.sync(&current, rig.begin + Duration::from_millis(3_050));
            rig.silence.sync(&rig.neighbors);
            crate::slow::watch::forget_removed(&rig.faults, &current);
        }
        assert!(rig.silence.silent.is_empty() && rig.faults.list().is_empty());
        assert_eq!(rig.silent(3_100, 6_000), BACKENDS);
    }

    #[test]
    fn a_mute_backend_has_a_fault_of_its_own_only_while_it_answers() {
        for backend in BACKENDS {
            let mut rig = Rig::new();
            let begin = rig.begin;
            let at = |ms| begin + Duration::from_millis(ms);
            let subject = Subject { backend: backend.parse().ok(), ..Subject::default() };
            let sighting = Sighting::new(FaultKind::Hung, subject.clone(), "It is mute", "look there");
            let is_open = |rig: &Rig, ms: u64| {
                mute(&rig.faults, &rig.neighbors, sighting.clone(), at(1_000), at(ms));
                rig.faults.is_open(FaultKind::Hung, &subject)
            };
            rig.answer(500);
            assert!(!is_open(&rig, 1_400), "it has not answered since it was asked");
            rig.answer(1_001);
            assert!(is_open(&rig, 1_400));
            rig.silent(1_500, 60_000);
            assert!(!is_open(&rig, 60_000), "now it is silent altogether");
        }
    }
}
