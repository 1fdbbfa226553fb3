//! Questions for the director's own addresses: nobody should answer.
//!
//! Each VIP and own address is asked for a second after it appears, a second after its port has joined the network again, once a
//! minute, and in each round of all checks; and twice a second as long as another station that answers claims it, to see when that is
//! over. Questions for claimed addresses have a limit, however many are claimed.
//!
//! IPv4: an ARP probe (RFC 5227 §2.1.1), whose sender has no address, so that nobody learns from it. IPv6: a solicitation
//! from the port's link-local address, and not one for duplicate address detection, from `::`. That would be answered to
//! all nodes (RFC 4861 §7.2.4), and so the question itself would lead all of them to the wrong station.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::base::ids::NetworkNo;
use crate::base::token_bucket::TokenBucket;
use crate::control::compile::Compiled;
use crate::slow::announce::addresses;
use crate::slow::view::Frame;
use crate::slow::{arp, ndp};
use crate::wire::ipv6::link_local;

/// Before the first question for an address (PROBE_WAIT, RFC 5227 §1.1). The backends are asked for meanwhile, so that one of them that
/// answers is known by its MAC address.
const WAIT: Duration = Duration::from_secs(1);
/// Between two questions for an address.
const EACH: Duration = Duration::from_secs(60);
/// The same as long as another station claims it.
const CLAIMED: Duration = Duration::from_millis(500);
/// Such questions in a second, for all addresses together: one station can claim them all.
const CLAIMED_IN_A_SECOND: u32 = 200;
/// In which part of a minute an address is asked for: not all at once.
const PARTS: u32 = 32;

type Address = (NetworkNo, IpAddr);

/// When each address is asked for next.
#[derive(Debug)]
pub(super) struct Asking {
    questions: BTreeMap<Address, Question>,
    /// The addresses by the time of their questions: those that nobody claims...
    usual: BTreeSet<(Instant, Address)>,
    /// ... and those that are claimed.
    claimed: BTreeSet<(Instant, Address)>,
    /// The limit of questions for claimed addresses, and the beginning of its time.
    limit: TokenBucket,
    begin: Option<Instant>,
    /// The part of the minute for the next usual question.
    part: u32,
    /// By port, how often it has joined its network.
    joins: Vec<u32>,
}

#[derive(Debug, Clone, Copy)]
struct Question {
    due: Instant,
    claimed: bool,
}

impl Default for Asking {
    fn default() -> Self {
        Asking {
            questions: BTreeMap::new(),
            usual: BTreeSet::new(),
            claimed: BTreeSet::new(),
            limit: TokenBucket::with_depth(CLAIMED_IN_A_SECOND, 1, 100),
            begin: None,
            part: 0,
            joins: Vec::new(),
        }
    }
}

impl Asking {
    /// Takes the addresses and ports of a new snapshot.
    pub(super) fn sync(&mut self, current: &Compiled, now: Instant) {
        let joins: Vec<u32> = current.ports.iter().map(|port| port.joins).collect();
        let joined = self.joins != joins;
        self.joins = joins;
        let mut known = std::mem::take(&mut self.questions);
        self.usual.clear();
        self.claimed.clear();
        for (network, address) in addresses(current) {
            // The question would have that address as its source.
            if address == IpAddr::V6(link_local(current.network(network).link.mac)) {
                continue;
            }
            let known = known.remove(&(network, address)).filter(|_| !joined);
            self.put((network, address), known.unwrap_or(Question { due: now + WAIT, claimed: false }));
        }
    }

    pub(super) fn ask_all(&mut self, now: Instant) {
        let all: Vec<(Address, Question)> =
            self.questions.iter().map(|(&address, question)| (address, Question { due: now, ..*question })).collect();
        all.into_iter().for_each(|(address, question)| self.put(address, question));
    }

    /// An address is claimed: it is asked for more often, from now on.
    pub(super) fn follow(&mut self, network: NetworkNo, address: IpAddr, now: Instant) {
        if let Some(question) = self.questions.get(&(network, address)).filter(|question| !question.claimed) {
            // The answer that we have just heard may have been to a question of ours: there is time.
            let due = question.due.min(now + CLAIMED);
            self.put((network, address), Question { due, claimed: true });
        }
    }

    /// It is not asked for more often any more.
    pub(super) fn unfollow(&mut self, network: NetworkNo, address: IpAddr) {
        if let Some(&question) = self.questions.get(&(network, address)).filter(|question| question.claimed) {
            self.put((network, address), Question { claimed: false, ..question });
        }
    }

    /// An address is asked for once more, a little later.
    pub(super) fn ask_later(&mut self, network: NetworkNo, address: IpAddr, now: Instant) {
        if let Some(&question) = self.questions.get(&(network, address)) {
            self.put((network, address), Question { due: question.due.min(now + WAIT), ..question });
        }
    }

    /// The addresses that are to be asked for now, but at most `room`: those first that have waited longest, so that each gets its
    /// turn, however many there are.
    pub(super) fn poll(&mut self, current: &Compiled, now: Instant, room: usize) -> Vec<Address> {
        let mut asked = Vec::new();
        let is_up = |address: Address| current.network(address.0).link.up;
        let begin = *self.begin.get_or_insert(now);
        let now_ms = u64::try_from(now.saturating_duration_since(begin).as_millis()).unwrap_or(u64::MAX);
        // Bound: the limit.
        while asked.len() < room
            && let Some(&(due, address)) = self.claimed.first()
            && due <= now
            && self.limit.take(now_ms)
        {
            self.put(address, Question { due: now + CLAIMED, claimed: true });
            asked.extend(is_up(address).then_some(address));
        }
        // Bound: each address is due once, and then much later.
        while asked.len() < room
            && let Some(&(due, address)) = self.usual.first()
            && due <= now
        {
            self.part = (self.part + 1) % PARTS;
            self.put(address, Question { due: now + EACH - EACH / 2 / PARTS * self.part, claimed: false });
            asked.extend(is_up(address).then_some(address));
        }
        asked
    }

    fn put(&mut self, address: Address, question: Question) {
        if let Some(old) = self.questions.insert(address, question) {
            self.queue(old.claimed).remove(&(old.due, address));
        }
        self.queue(question.claimed).insert((question.due, address));
    }

    fn queue(&mut self, claimed: bool) -> &mut BTreeSet<(Instant, Address)> {
        if claimed { &mut self.claimed } else { &mut self.usual }
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
    fn each_address_is_asked_for_soon_after_it_appears_and_each_minute() {
        let (mut asking, begin) = (Asking::default(), Instant::now());
        let at = |second| begin + Duration::from_secs(second);
        let one = current(&["192.168.0.101:80", "[fd00::101]:80", "203.0.113.1:80"]);
        asking.sync(&one, begin);
        assert!(asked(&mut asking, &one, at(1) - Duration::from_millis(1)).is_empty(), "backends are found meanwhile");
        let first = ["192.168.0.2", "192.168.0.101", "fd00::2", "fd00::101"];
        assert_eq!(asked(&mut asking, &one, at(1)), first, "but not for what is routed to us, nor for link-local ones");
        let two = current(&["192.168.0.101:80", "[fd00::101]:80", "192.168.0.102:80"]);
        asking.sync(&two, at(1));
        assert_eq!(asked(&mut asking, &two, at(2)), ["192.168.0.102"]);
        let mut later: Vec<String> = (3..=62).flat_map(|second| asked(&mut asking, &two, at(second))).collect();
        later.sort();
        later.dedup();
        assert_eq!(later.len(), 5);
        asking.ask_all(at(63));
        assert_eq!(asked(&mut asking, &two, at(63)).len(), 5);
    }

    #[test]
    fn a_port_that_joins_its_network_again_asks_again_and_one_without_link_does_not() {
        let (mut asking, begin) = (Asking::default(), Instant::now());
        let at = |second| begin + Duration::from_secs(second);
        let with = |link: PortLink| {
            let mut model = model();
            model.add_service(&service("192.168.0.101:80", &[]), &leases()).unwrap();
            crate::control::compile::compile(std::sync::Arc::new(model), |_| None, &[link], 1)
        };
        let (up, down) = (with(PORT), with(PortLink { up: false, ..PORT }));
        asking.sync(&down, begin);
        assert!(asked(&mut asking, &down, at(1)).is_empty());
        asking.sync(&up, at(1));
        assert!(asked(&mut asking, &up, at(2)).is_empty(), "not again so soon");
        let again = with(PortLink { joins: 1, ..PORT });
        asking.sync(&again, at(2));
        assert_eq!(asked(&mut asking, &again, at(3)).len(), 3);
    }

    #[test]
    fn each_address_gets_its_turn() {
        let vips: Vec<String> = (1..=50).map(|last| format!("192.168.0.{}:80", last + 100)).collect();
        let current = current(&vips.iter().map(|vip| &**vip).collect::<Vec<_>>());
        let (mut asking, now) = (Asking::default(), Instant::now());
        asking.sync(&current, now);
        let mut all: Vec<_> = (0..10).flat_map(|_| asking.poll(&current, now + WAIT, 7)).collect();
        assert_eq!(all.len(), 52);
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 52);
    }
}
