//! Announcements: tells the network where VIPs and own addresses are, without being asked.
//!
//! An address that appears is announced at once and, because announcements get lost, some more times at growing
//! distances. The same happens on a port whose link comes up: what is behind it may be another switch.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::{Frame, arp, ndp, vip_port};
use crate::snapshot::Snapshot;

/// How long after its appearance an address is announced, in seconds.
const SCHEDULE: [u64; 6] = [0, 1, 2, 5, 10, 30];

/// Who is to be announced where, and when.
#[derive(Debug, Default)]
pub struct Announcer {
    campaigns: BTreeMap<(usize, IpAddr), Campaign>,
    links: Vec<bool>,
    /// When the first announcement is due; `None`: none is.
    next_due: Option<Instant>,
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
    /// Takes over from a new snapshot which addresses there are.
    pub fn sync(&mut self, snapshot: &Snapshot, now: Instant) {
        let mut campaigns = BTreeMap::new();
        for place in places(snapshot) {
            let campaign = self.campaigns.get(&place).copied().unwrap_or(Campaign { begin: now, made: 0 });
            campaigns.insert(place, campaign);
        }
        self.campaigns = campaigns;
        self.schedule();
    }

    /// Takes over which links are up; where one has come up, all is announced anew.
    pub fn links(&mut self, up: Vec<bool>, now: Instant) {
        for (port, _) in up.iter().enumerate().filter(|&(port, &up)| up && self.links.get(port) == Some(&false)) {
            for (_, campaign) in self.campaigns.iter_mut().filter(|((on, _), _)| *on == port) {
                *campaign = Campaign { begin: now, made: 0 };
            }
        }
        self.links = up;
        self.schedule();
    }

    /// The announcements that are due.
    pub fn poll(&mut self, snapshot: &Snapshot, now: Instant) -> Vec<Frame> {
        if self.next_due.is_none_or(|due| due > now) {
            return Vec::new();
        }
        let mut frames = Vec::new();
        for (&(port, address), campaign) in &mut self.campaigns {
            if campaign.due().is_none_or(|due| due > now) {
                continue;
            }
            campaign.made += 1;
            let mac = snapshot.ports[port].mac;
            let bytes = match address {
                IpAddr::V4(address) => arp::announcement(mac, address),
                IpAddr::V6(address) => ndp::announcement(mac, address),
            };
            frames.push(Frame { port, bytes });
        }
        self.schedule();
        frames
    }

    fn schedule(&mut self) {
        self.next_due = self.campaigns.values().filter_map(Campaign::due).min();
    }
}

/// Own addresses on their ports, VIPs on the port of their network. A VIP that is routed to us is on no network, and
/// nobody would listen.
fn places(snapshot: &Snapshot) -> impl Iterator<Item = (usize, IpAddr)> {
    let own = snapshot
        .ports
        .iter()
        .enumerate()
        .flat_map(|(port, local)| local.addresses.iter().map(move |net| (port, net.addr())));
    let vips = snapshot.model.services.keys().filter_map(|id| Some((vip_port(snapshot, id.vip)?, id.vip)));
    own.chain(vips)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::model::{PORT_MAC, ids, model, service, snapshot};

    fn with_vip(vip: &str) -> Snapshot {
        let mut model = model();
        model.add_service(&service(vip, &[]), &ids()).unwrap();
        snapshot(model)
    }

    fn announcements_of_vip(announcer: &mut Announcer, snapshot: &Snapshot, now: Instant) -> usize {
        let frame = arp::announcement(PORT_MAC, "192.168.0.101".parse().unwrap());
        announcer.poll(snapshot, now).iter().filter(|announced| announced.bytes == frame).count()
    }

    #[test]
    fn a_new_vip_is_announced_at_once_and_some_more_times() {
        let (begin, snapshot) = (Instant::now(), with_vip("192.168.0.101:80"));
        let mut announcer = Announcer::default();
        announcer.sync(&snapshot, begin);
        let mut times = Vec::new();
        for second in 0..100 {
            let now = begin + Duration::from_secs(second);
            announcer.sync(&snapshot, now); // another change does not begin anew
            if announcements_of_vip(&mut announcer, &snapshot, now) > 0 {
                times.push(second);
            }
        }
        assert_eq!(times, [0, 1, 2, 5, 10, 30]);
    }

    #[test]
    fn a_link_that_comes_up_is_told_anew() {
        let (begin, snapshot) = (Instant::now(), with_vip("192.168.0.101:80"));
        let mut announcer = Announcer::default();
        announcer.sync(&snapshot, begin);
        let later = begin + Duration::from_secs(100);
        for _ in SCHEDULE {
            announcer.poll(&snapshot, later);
        }
        for (up, announced) in [(true, 0), (true, 0), (false, 0), (true, 1)] {
            announcer.links(vec![up], later);
            assert_eq!(announcements_of_vip(&mut announcer, &snapshot, later), announced);
        }
    }

    #[test]
    fn a_vip_of_no_network_is_not_announced() {
        let (now, snapshot) = (Instant::now(), with_vip("203.0.113.1:80"));
        let mut announcer = Announcer::default();
        announcer.sync(&snapshot, now);
        let frame = arp::announcement(PORT_MAC, "203.0.113.1".parse().unwrap());
        assert!(announcer.poll(&snapshot, now).iter().all(|announced| announced.bytes != frame));
    }
}
