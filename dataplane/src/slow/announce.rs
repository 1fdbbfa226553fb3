//! Announcements: unsolicited frames that tell the network where VIPs and own addresses are.
//!
//! A new address is announced at once. Announcements get lost, so it is announced some more times, at growing
//! intervals. The same happens in the networks of a port when its link comes up: there may be another switch behind it.
//! Before the announcement of an IPv6 address, the group that receives solicitations for it is
//! [reported](super::mld).

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::base::ids::{NetworkNo, PortNo};
use crate::control::compile::Compiled;
use crate::slow::view::{Frame, vip_network};
use crate::slow::{arp, ndp};

/// When an address is announced, in seconds after it appeared.
const SCHEDULE: [u64; 6] = [0, 1, 2, 5, 10, 30];

/// Which addresses are announced, in which networks, and when.
#[derive(Debug, Default)]
pub struct Announcer {
    campaigns: BTreeMap<(NetworkNo, IpAddr), Campaign>,
    /// By port, how often it has joined its network.
    joins: Vec<u32>,
    /// When the first announcement is due; `None`: no announcement is left.
    next_due: Option<Instant>,
    /// The address that comes first in the next turn, if there was no room for it in this one.
    next: Option<(NetworkNo, IpAddr)>,
}

#[derive(Debug, Clone, Copy)]
struct Campaign {
    begin: Instant,
    /// How many announcements have been made.
    made: usize,
}

impl Campaign {
    fn due(&self) -> Option<Instant> {
        SCHEDULE.get(self.made).map(|&seconds| self.begin + Duration::from_secs(seconds))
    }
}

impl Announcer {
    /// Takes the addresses and ports of a new snapshot. Addresses that are new are announced, and all of them where a port has
    /// joined its network again.
    pub fn sync(&mut self, current: &Compiled, now: Instant) {
        let mut campaigns = BTreeMap::new();
        for key in addresses(current) {
            let campaign = self.campaigns.get(&key).copied().unwrap_or(Campaign { begin: now, made: 0 });
            campaigns.insert(key, campaign);
        }
        self.campaigns = campaigns;
        self.join(current, now);
        self.schedule();
    }

    /// In the networks of a port that has joined them again, because its link has come up or it has another MAC address, all
    /// addresses are announced again.
    fn join(&mut self, current: &Compiled, now: Instant) {
        let joined = |port: PortNo| {
            self.joins.get(port.index()).is_some_and(|joins| *joins != current.ports[port.index()].joins)
        };
        for ((network, _), campaign) in &mut self.campaigns {
            if joined(current.network(*network).port) {
                *campaign = Campaign { begin: now, made: 0 };
            }
        }
        self.joins = current.ports.iter().map(|port| port.joins).collect();
    }

    /// The addresses that are to be announced now, but at most `room`. The others wait for the next call.
    pub fn poll(&mut self, now: Instant, room: usize) -> Vec<(NetworkNo, IpAddr)> {
        if self.next_due.is_none_or(|due| due > now) || room == 0 {
            return Vec::new();
        }
        let mut due = Vec::new();
        // From where the last call has ended, so that each address gets its turn, however many there are.
        let from = self.next.take();
        let (before, behind): (Vec<_>, Vec<_>) = self.campaigns.iter_mut().partition(|(key, _)| Some(**key) < from);
        for (&key, campaign) in behind.into_iter().chain(before) {
            if campaign.due().is_none_or(|due| due > now) {
                continue;
            }
            if due.len() == room {
                self.next = Some(key);
                break;
            }
            campaign.made += 1;
            due.push(key);
        }
        self.schedule();
        due
    }

    fn schedule(&mut self) {
        self.next_due = self.campaigns.values().filter_map(Campaign::due).min();
    }
}

/// The announcement of an address to its network.
pub(super) fn announcement(current: &Compiled, network: NetworkNo, address: IpAddr) -> Frame {
    let mac = current.network(network).link.mac;
    let bytes = match address {
        IpAddr::V4(address) => arp::announcement(mac, address),
        IpAddr::V6(address) => ndp::announcement(mac, address),
    };
    Frame { network, bytes }
}

/// Own addresses and VIPs, each with its network. VIPs that are routed to us are left out: they are in no network, so
/// no station would use an announcement.
pub(super) fn addresses(current: &Compiled) -> impl Iterator<Item = (NetworkNo, IpAddr)> {
    let own = current.numbered_networks();
    let own = own.flat_map(|(network, local)| local.addresses.iter().map(move |net| (network, net.addr())));
    let vips = current.model.services.keys().filter_map(|id| Some((vip_network(current, id.vip)?, id.vip)));
    own.chain(vips)
}

#[cfg(test)]
mod tests {
    use ctl::Mac;

    use super::*;
    use crate::control::compile::compile;
    use crate::state::networks::PortLink;
    use crate::testing::model::{PORT, PORT_MAC, leases, model, service, snapshot};

    fn with_vip(vip: &str) -> Compiled {
        let mut model = model();
        model.add_service(&service(vip, &[]), &leases()).unwrap();
        snapshot(model)
    }

    fn announcements_of_vip(announcer: &mut Announcer, now: Instant) -> usize {
        let vip: IpAddr = "192.168.0.101".parse().unwrap();
        announcer.poll(now, usize::MAX).into_iter().filter(|(_, address)| *address == vip).count()
    }

    #[test]
    fn a_new_vip_is_announced_at_once_and_some_more_times() {
        let (begin, current) = (Instant::now(), with_vip("192.168.0.101:80"));
        let mut announcer = Announcer::default();
        announcer.sync(&current, begin);
        let mut times = Vec::new();
        for second in 0..100 {
            let now = begin + Duration::from_secs(second);
            announcer.sync(&current, now); // another change does not start the announcements again
            if announcements_of_vip(&mut announcer, now) > 0 {
                times.push(second);
            }
        }
        assert_eq!(times, [0, 1, 2, 5, 10, 30]);
    }

    #[test]
    fn after_a_link_comes_up_its_addresses_are_announced_again() {
        let (begin, current) = (Instant::now(), with_vip("192.168.0.101:80"));
        let mut announcer = Announcer::default();
        announcer.sync(&current, begin);
        let later = begin + Duration::from_secs(100);
        for _ in SCHEDULE {
            announcer.poll(later, usize::MAX);
        }
        let vip = (NetworkNo::new(0), "192.168.0.101".parse().unwrap());
        let mut announced = |link| {
            announcer.sync(&compile(current.model.clone(), |_| None, &[link], 2), later);
            announcer.poll(later, usize::MAX).contains(&vip)
        };
        let moved = PortLink { mac: Mac([2, 0, 0, 0, 9, 9]), joins: 2, ..PORT };
        for (link, expected) in [
            (PORT, false),
            (PortLink { mtu: 1_400, ..PORT }, false),
            (PortLink { up: false, ..PORT }, false),
            (PortLink { joins: 1, ..PORT }, true),
            (PortLink { joins: 1, ..PORT }, false),
            // Down and up again, without a look in between.
            (PortLink { joins: 2, ..PORT }, true),
            (moved, false),
            (PortLink { joins: 3, ..moved }, true),
        ] {
            assert_eq!(announced(link), expected, "{link:?}");
        }
    }

    #[test]
    fn many_addresses_take_turns() {
        let mut model = model();
        for number in 0..100 {
            model.add_service(&service(&format!("192.168.0.{}:80", 101 + number), &[]), &leases()).unwrap();
        }
        let (begin, current) = (Instant::now(), snapshot(model));
        let mut announcer = Announcer::default();
        announcer.sync(&current, begin);
        let mut announced = Vec::new();
        for turn in 0..11 {
            // The first ones are due again before the last ones have been announced.
            let now = begin + Duration::from_secs(turn);
            let some = announcer.poll(now, 10);
            assert!(some.len() == 10 || turn == 10, "{} in turn {turn}", some.len());
            announced.extend(some);
        }
        announced.sort_unstable();
        announced.dedup();
        assert_eq!(announced.len(), 100 + 3, "each VIP and own address");
        assert_eq!(announcer.poll(begin, 0), []);
    }

    #[test]
    fn an_announcement_names_the_address() {
        let current = with_vip("[fd00::101]:80");
        let frame = |address: &str| announcement(&current, NetworkNo::new(0), address.parse().unwrap()).bytes;
        assert_eq!(frame("192.168.0.2"), arp::announcement(PORT_MAC, "192.168.0.2".parse().unwrap()));
        assert_eq!(frame("fd00::101"), ndp::announcement(PORT_MAC, "fd00::101".parse().unwrap()));
    }

    #[test]
    fn a_vip_that_lies_in_no_network_is_not_announced() {
        let (now, current) = (Instant::now(), with_vip("203.0.113.1:80"));
        let mut announcer = Announcer::default();
        announcer.sync(&current, now);
        let vip: IpAddr = "203.0.113.1".parse().unwrap();
        assert!(announcer.poll(now, usize::MAX).iter().all(|(_, announced)| *announced != vip));
    }
}
