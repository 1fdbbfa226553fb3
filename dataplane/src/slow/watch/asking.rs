//! Questions for the director's own addresses: nobody should answer.
//!
//! Each VIP and own address is asked for when it appears, when its port joins the network again, once a minute, and in
//! each round of all checks; and twice a second as long as another station claims it, to see when that is over.
//!
//! IPv4: an ARP probe (RFC 5227 §2.1.1), whose sender has no address, so that nobody learns from it. IPv6: a solicitation
//! from the port's link-local address, and not one for duplicate address detection, from `::`. That would be answered to
//! all nodes (RFC 4861 §7.2.4), and so the question itself would lead all of them to the wrong station.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::base::ids::NetworkNo;
use crate::control::compile::Compiled;
use crate::slow::announce::addresses;
use crate::slow::view::Frame;
use crate::slow::{arp, ndp};
use crate::wire::ipv6::link_local;

/// Between two questions for an address.
const EACH: Duration = Duration::from_secs(60);
/// The same as long as another station claims it.
const CLAIMED: Duration = Duration::from_millis(500);
/// In which part of a minute an address is asked for: not all at once.
const PARTS: u32 = 32;

/// When each address is asked for next.
#[derive(Debug, Default)]
pub(super) struct Asking {
    due: BTreeMap<(NetworkNo, IpAddr), Question>,
    /// By port, how often it has joined its network.
    joins: Vec<u32>,
    next_due: Option<Instant>,
    /// The address that comes first at the next call, if there was no room for it at the last.
    next: Option<(NetworkNo, IpAddr)>,
}

#[derive(Debug, Clone, Copy)]
struct Question {
    due: Instant,
    claimed: bool,
}

impl Asking {
    /// Takes the addresses and ports of a new snapshot.
    pub(super) fn sync(&mut self, current: &Compiled, now: Instant) {
        let joins: Vec<u32> = current.ports.iter().map(|port| port.joins).collect();
        let joined = self.joins != joins;
        self.joins = joins;
        let mut due = BTreeMap::new();
        for (network, address) in addresses(current) {
            // The question would have that address as its source.
            if address == IpAddr::V6(link_local(current.network(network).link.mac)) {
                continue;
            }
            let known = self.due.get(&(network, address)).filter(|_| !joined);
            due.insert((network, address), known.copied().unwrap_or(Question { due: now, claimed: false }));
        }
        self.due = due;
        self.schedule();
    }

    pub(super) fn ask_all(&mut self, now: Instant) {
        self.due.values_mut().for_each(|question| question.due = now);
        self.schedule();
    }

    /// An address is claimed: it is asked for more often, from now on.
    pub(super) fn follow(&mut self, network: NetworkNo, address: IpAddr, is_new: bool, now: Instant) {
        let Some(question) = self.due.get_mut(&(network, address)) else { return };
        if is_new || !question.claimed {
            question.claimed = true;
            // The answer that we have just heard may have been to a question of ours: there is time.
            question.due = question.due.min(now + CLAIMED);
            self.schedule();
        }
    }

    /// Which addresses are still claimed.
    pub(super) fn follow_only(&mut self, is_claimed: impl Fn(NetworkNo, IpAddr) -> bool) {
        for (&(network, address), question) in self.due.iter_mut().filter(|(_, question)| question.claimed) {
            question.claimed = is_claimed(network, address);
        }
    }

    /// The addresses that are to be asked for now, but at most `room`.
    pub(super) fn poll(&mut self, current: &Compiled, now: Instant, room: usize) -> Vec<(NetworkNo, IpAddr)> {
        if self.next_due.is_none_or(|due| due > now) || room == 0 {
            return Vec::new();
        }
        let mut asked = Vec::new();
        // From where the last call has ended, so that each address gets its turn, however many there are.
        let from = self.next.take();
        // Bound: the addresses, which the parts are numbered with.
        let parts = (0..PARTS).cycle();
        let (before, behind): (Vec<_>, Vec<_>) = self.due.iter_mut().partition(|(key, _)| Some(**key) < from);
        for ((&key, question), part) in behind.into_iter().chain(before).zip(parts) {
            if question.due > now {
                continue;
            }
            if asked.len() == room {
                self.next = Some(key);
                break;
            }
            question.due = now + if question.claimed { CLAIMED } else { EACH - EACH / 2 / PARTS * part };
            if current.network(key.0).link.up {
                asked.push(key);
            }
        }
        self.schedule();
        asked
    }

    /// The question for an address.
    pub(super) fn question(current: &Compiled, network: NetworkNo, address: IpAddr) -> Frame {
        let mac = current.network(network).link.mac;
        let bytes = match address {
            IpAddr::V4(address) => arp::probe(mac, address),
            IpAddr::V6(address) => ndp::request(mac, link_local(mac), address, None),
        };
        Frame { network, bytes }
    }

    fn schedule(&mut self) {
        self.next_due = self.due.values().map(|question| question.due).min();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::networks::PortLink;
    use crate::testing::model::{PORT, leases, model, service, snapshot};

    fn current(vips: &[&str]) -> Compiled {
        let mut model = model();
        for vip in vips {
            model.add_service(&service(vip, &[]), &leases()).unwrap();
        }
        snapshot(model)
    }

    fn asked(asking: &mut Asking, current: &Compiled, now: Instant) -> Vec<String> {
        asking.poll(current, now, 100).into_iter().map(|(_, address)| address.to_string()).collect()
    }

    #[test]
    fn each_address_is_asked_for_when_it_appears_and_each_minute() {
        let (mut asking, begin) = (Asking::default(), Instant::now());
        let one = current(&["192.168.0.101:80", "[fd00::101]:80", "203.0.113.1:80"]);
        asking.sync(&one, begin);
        let first = ["192.168.0.2", "192.168.0.101", "fd00::2", "fd00::101"];
        assert_eq!(asked(&mut asking, &one, begin), first, "but not for what is routed to us, nor for link-local ones");
        let two = current(&["192.168.0.101:80", "[fd00::101]:80", "192.168.0.102:80"]);
        asking.sync(&two, begin);
        assert_eq!(asked(&mut asking, &two, begin), ["192.168.0.102"]);
        let mut later: Vec<String> =
            (1..=60).flat_map(|second| asked(&mut asking, &two, begin + Duration::from_secs(second))).collect();
        later.sort();
        later.dedup();
        assert_eq!(later.len(), 5);
        asking.ask_all(begin + Duration::from_secs(61));
        assert_eq!(asked(&mut asking, &two, begin + Duration::from_secs(61)).len(), 5);
    }

    #[test]
    fn a_port_that_joins_its_network_again_asks_again_and_one_without_link_does_not() {
        let (mut asking, now) = (Asking::default(), Instant::now());
        let with = |link: PortLink| {
            let mut model = model();
            model.add_service(&service("192.168.0.101:80", &[]), &leases()).unwrap();
            crate::control::compile::compile(std::sync::Arc::new(model), |_| None, &[link], 1)
        };
        let (up, down) = (with(PORT), with(PortLink { up: false, ..PORT }));
        asking.sync(&down, now);
        assert!(asked(&mut asking, &down, now).is_empty());
        asking.sync(&up, now);
        assert!(asked(&mut asking, &up, now).is_empty(), "not again so soon");
        let again = with(PortLink { joins: 1, ..PORT });
        asking.sync(&again, now);
        assert_eq!(asked(&mut asking, &again, now).len(), 3);
    }

    #[test]
    fn each_address_gets_its_turn() {
        let vips: Vec<String> = (1..=50).map(|last| format!("192.168.0.{}:80", last + 100)).collect();
        let current = current(&vips.iter().map(|vip| &**vip).collect::<Vec<_>>());
        let (mut asking, now) = (Asking::default(), Instant::now());
        asking.sync(&current, now);
        let mut all: Vec<_> = (0..10).flat_map(|_| asking.poll(&current, now, 7)).collect();
        assert_eq!(all.len(), 52);
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 52);
    }
}
