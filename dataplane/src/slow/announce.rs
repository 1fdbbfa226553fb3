//! Announcements: unsolicited frames that tell the network where VIPs and own addresses are.
//!
//! A new address is announced at once. Announcements get lost, so it is announced some more times, at growing
//! intervals. The same happens in the networks of a port when its link comes up: there may be another switch behind it.
//! With the announcements, [reports](super::mld) are sent of the groups that receive solicitations for IPv6 addresses.
//! The reports are repeated for ever.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::base::ids::{NetworkNo, PortNo};
use crate::control::compile::Compiled;
use crate::slow::view::{Frame, vip_network};
use crate::slow::{arp, mld, ndp};

/// When an address is announced, in seconds after it appeared.
const SCHEDULE: [u64; 6] = [0, 1, 2, 5, 10, 30];

/// How often all groups are reported again: a few times within the 260 s after which a switch forgets them.
const REPORT_INTERVAL: Duration = Duration::from_secs(60);

/// Which addresses are announced, in which networks, and when.
#[derive(Debug, Default)]
pub struct Announcer {
    campaigns: BTreeMap<(NetworkNo, IpAddr), Campaign>,
    links: Vec<bool>,
    /// When the first announcement is due; `None`: no announcement is left.
    next_due: Option<Instant>,
    /// When the next report is due.
    next_report: Option<Instant>,
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
    /// Takes the addresses of a new snapshot. Those that are new are announced.
    pub fn sync(&mut self, current: &Compiled, now: Instant) {
        let mut campaigns = BTreeMap::new();
        for key in addresses(current) {
            let campaign = self.campaigns.get(&key).copied().unwrap_or(Campaign { begin: now, made: 0 });
            campaigns.insert(key, campaign);
        }
        self.campaigns = campaigns;
        self.next_report.get_or_insert(now + REPORT_INTERVAL);
        self.schedule();
    }

    /// Takes note of which links are up. In the networks of a link that has come up, all addresses are announced again.
    pub fn links(&mut self, current: &Compiled, up: Vec<bool>, now: Instant) {
        let come_up =
            |port: PortNo| up.get(port.index()) == Some(&true) && self.links.get(port.index()) == Some(&false);
        for ((network, _), campaign) in &mut self.campaigns {
            if current.networks.get(network.index()).is_some_and(|network| come_up(network.port)) {
                *campaign = Campaign { begin: now, made: 0 };
            }
        }
        self.links = up;
        self.schedule();
    }

    /// The announcements that are due.
    pub fn poll(&mut self, current: &Compiled, now: Instant) -> Vec<Frame> {
        let due = |time: Option<Instant>| time.is_some_and(|time| time <= now);
        if !due(self.next_due) && !due(self.next_report) {
            return Vec::new();
        }
        // Reports first: a station that hears of an address may solicit it at once.
        let mut frames = self.reports(current);
        self.next_report = Some(now + REPORT_INTERVAL);
        for (&(network, address), campaign) in &mut self.campaigns {
            if !due(campaign.due()) {
                continue;
            }
            campaign.made += 1;
            let mac = current.network(network).link.mac;
            let bytes = match address {
                IpAddr::V4(address) => arp::announcement(mac, address),
                IpAddr::V6(address) => ndp::announcement(mac, address),
            };
            frames.push(Frame { network, bytes });
        }
        self.schedule();
        frames
    }

    fn reports(&self, current: &Compiled) -> Vec<Frame> {
        let in_network = |wanted| {
            let mine = self.campaigns.keys().filter(move |(network, _)| *network == wanted);
            mine.filter_map(|(_, address)| match address {
                IpAddr::V6(address) => Some(*address),
                IpAddr::V4(_) => None,
            })
        };
        let reports = current.numbered_networks().flat_map(|(network, local)| {
            mld::reports(local.link.mac, in_network(network)).into_iter().map(move |bytes| Frame { network, bytes })
        });
        reports.collect()
    }

    fn schedule(&mut self) {
        self.next_due = self.campaigns.values().filter_map(Campaign::due).min();
    }
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
    use super::*;
    use crate::testing::model::{PORT_MAC, leases, model, service, snapshot};

    fn with_vip(vip: &str) -> Compiled {
        let mut model = model();
        model.add_service(&service(vip, &[]), &leases()).unwrap();
        snapshot(model)
    }

    fn announcements_of_vip(announcer: &mut Announcer, current: &Compiled, now: Instant) -> usize {
        let frame = arp::announcement(PORT_MAC, "192.168.0.101".parse().unwrap());
        announcer.poll(current, now).iter().filter(|announced| announced.bytes == frame).count()
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
            if announcements_of_vip(&mut announcer, &current, now) > 0 {
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
            announcer.poll(&current, later);
        }
        for (up, announced) in [(true, 0), (true, 0), (false, 0), (true, 1)] {
            announcer.links(&current, vec![up], later);
            assert_eq!(announcements_of_vip(&mut announcer, &current, later), announced);
        }
    }

    #[test]
    fn groups_are_reported_with_each_announcement_and_for_ever_after() {
        let (begin, current) = (Instant::now(), with_vip("[fd00::101]:80"));
        let own = current.networks[0].addresses.iter().map(|net| net.addr());
        let addresses = own.chain(["fd00::101".parse().unwrap()]).filter_map(|address| match address {
            IpAddr::V6(address) => Some(address),
            IpAddr::V4(_) => None,
        });
        let report = mld::reports(PORT_MAC, addresses).pop().unwrap();
        let mut announcer = Announcer::default();
        announcer.sync(&current, begin);
        let reported = |second: &u64| {
            let frames = announcer.poll(&current, begin + Duration::from_secs(*second));
            frames.iter().any(|frame| frame.bytes == report)
        };
        let times: Vec<u64> = (0..200).filter(reported).collect();
        assert_eq!(times, [0, 1, 2, 5, 10, 30, 90, 150]);
    }

    #[test]
    fn a_vip_that_lies_in_no_network_is_not_announced() {
        let (now, current) = (Instant::now(), with_vip("203.0.113.1:80"));
        let mut announcer = Announcer::default();
        announcer.sync(&current, now);
        let frame = arp::announcement(PORT_MAC, "203.0.113.1".parse().unwrap());
        assert!(announcer.poll(&current, now).iter().all(|announced| announced.bytes != frame));
    }
}
