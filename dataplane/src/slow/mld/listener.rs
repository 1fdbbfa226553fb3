//! The listener: which groups the director listens to in each network, and when it says so.
//!
//! The rules are those for hosts: RFC 3810 §6.1 (joining and leaving), §6.2 (answers to queries), §8 (older versions),
//! and RFC 2710 §4 for MLDv1. An answer waits for a random time within the one that the query allows. Queries that come
//! while it waits lead to no further answer. Besides, there is a least time between two answers, and a limit for all
//! reports, so that a flood of queries does not become one of reports.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use ctl::Mac;

use crate::base::ids::NetworkNo;
use crate::base::token_bucket::TokenBucket;
use crate::control::compile::Compiled;
use crate::slow::mld::message::{GROUPS, Record, report, report_of_sources, v1_done, v1_report};
use crate::slow::ndp::solicited_node;
use crate::slow::view::Frame;
use crate::wire::mld::Query;

/// How often all groups are reported unasked: a few times within the 260 s after which a switch forgets them (RFC 3810
/// §9.4).
const REPEAT: Duration = Duration::from_secs(60);
/// How often leaving a group is said, and within which time again (RFC 3810 §9.1, §9.11).
const LEAVES: u32 = 2;
const LEAVE_INTERVAL: Duration = Duration::from_secs(1);
/// How long after a query of MLDv1 reports are of that version: twice a router's usual query interval (RFC 3810
/// §9.12), plus the time for the answer.
const OLDER_VERSION: Duration = Duration::from_secs(250);
/// The least time between two answers about the same. A router that misses a report asks again after a second (RFC 3810
/// §9.8).
const ANSWER_INTERVAL: Duration = Duration::from_millis(200);
/// The sources of a group that are kept from queries. An answer about more says that we listen to all.
const MOST_SOURCES: usize = 32;
/// The most reports in a second.
const REPORTS: u32 = 2_000;
/// How long the listener waits when it has reached that limit.
const PAUSE: Duration = Duration::from_millis(10);

/// Which groups the director listens to, and which reports wait.
#[derive(Debug)]
pub struct Listener {
    networks: BTreeMap<NetworkNo, Membership>,
    limit: TokenBucket,
    begin: Option<Instant>,
    /// When the first report is due. `None`: unknown.
    next_due: Option<Instant>,
    /// The state of a xorshift generator.
    random: u64,
}

/// The groups of one network.
#[derive(Debug)]
struct Membership {
    groups: BTreeMap<Ipv6Addr, Group>,
    /// Groups that were left: how often this is still to be said, and when.
    left: BTreeMap<Ipv6Addr, (u32, Instant)>,
    /// Until when reports are of MLDv1.
    v1_until: Option<Instant>,
    /// When a query about all groups is answered. Of MLDv1, each group has an answer of its own.
    answer: Option<Instant>,
    answered: Option<Instant>,
    /// When all groups are reported unasked.
    repeat: Instant,
}

/// What is to be said of a group.
#[derive(Debug, Default)]
struct Group {
    /// When it was joined, or is to be reported as if it was, until that is said.
    joined: Option<Instant>,
    /// When a query about it is answered.
    answer: Option<Instant>,
    answered: Option<Instant>,
    /// The sources that the query asks about. None: all.
    sources: BTreeSet<Ipv6Addr>,
}

impl Default for Listener {
    fn default() -> Self {
        // Directors that are asked at the same time must not answer at the same time.
        Self::new(RandomState::new().hash_one(0))
    }
}

impl Listener {
    /// Without a group. The seed decides the times of its answers.
    pub fn new(seed: u64) -> Self {
        Listener {
            networks: BTreeMap::new(),
            limit: TokenBucket::new(REPORTS, 1),
            begin: None,
            next_due: None,
            random: seed | 1,
        }
    }

    /// Takes the addresses that the director has now. Their groups are joined, and those of no address are left.
    pub fn sync(&mut self, addresses: impl Iterator<Item = (NetworkNo, IpAddr)>, now: Instant) {
        let mut wanted: BTreeMap<NetworkNo, BTreeSet<Ipv6Addr>> = BTreeMap::new();
        for (network, address) in addresses {
            if let IpAddr::V6(address) = address {
                wanted.entry(network).or_default().insert(solicited_node(address));
            }
        }
        for (network, groups) in &wanted {
            let membership = self.networks.entry(*network).or_insert_with(|| Membership::new(now));
            for group in groups {
                membership.left.remove(group);
                membership.groups.entry(*group).or_insert_with(|| Group { joined: Some(now), ..Group::default() });
            }
        }
        for (network, membership) in &mut self.networks {
            let wanted = wanted.get(network);
            let gone =
                membership.groups.extract_if(.., |group, _| !wanted.is_some_and(|wanted| wanted.contains(group)));
            membership.left.extend(gone.map(|(group, _)| (group, (LEAVES, now))));
        }
        self.next_due = None;
    }

    /// Has the group of an address reported as if it had just been joined: there may be another switch on the way.
    pub fn report(&mut self, network: NetworkNo, address: IpAddr, now: Instant) {
        let IpAddr::V6(address) = address else { return };
        let group = self.networks.get_mut(&network).and_then(|of| of.groups.get_mut(&solicited_node(address)));
        if let Some(group) = group {
            group.joined = Some(now);
            self.next_due = None;
        }
    }

    /// Takes note of a valid query.
    pub fn hear(&mut self, query: &Query<'_>, network: NetworkNo, now: Instant) {
        let Some(membership) = self.networks.get_mut(&network) else { return };
        if query.v1 {
            let before = membership.is_v1(now);
            membership.v1_until = Some(now + OLDER_VERSION + query.max_response);
            if !before {
                membership.forget_answers();
            }
        }
        let general_first = |due: Instant, general: Option<Instant>| general.is_some_and(|general| general <= due);
        let random = &mut self.random;
        let mut within = || now + draw(random, query.max_response);
        match (query.group.is_unspecified(), membership.is_v1(now)) {
            (true, true) => {
                for group in membership.groups.values_mut() {
                    group.answer_by(within());
                }
            }
            (true, false) => {
                let due = within();
                if !general_first(due, membership.answer) {
                    membership.answer = Some(not_before(due, membership.answered));
                }
            }
            (false, v1) => {
                let due = within();
                let Some(group) = membership.groups.get_mut(&query.group) else { return };
                if general_first(due, membership.answer) {
                    return;
                }
                let asks_for_all = v1 || query.sources().len() == 0;
                let asked_for_all = group.answer.is_some() && group.sources.is_empty();
                if asks_for_all || asked_for_all || group.sources.len() + query.sources().len() > MOST_SOURCES {
                    group.sources.clear();
                } else {
                    group.sources.extend(query.sources());
                }
                group.answer_by(due);
            }
        }
        self.next_due = None;
    }

    /// The reports that are due, but at most `room`. The others wait for the next call.
    pub fn poll(&mut self, current: &Compiled, now: Instant, room: usize) -> Vec<Frame> {
        if self.next_due.is_some_and(|due| due > now) {
            return Vec::new();
        }
        let begin = *self.begin.get_or_insert(now);
        let now_ms = u64::try_from((now - begin).as_millis()).unwrap_or(u64::MAX);
        let mut outbox = Outbox { frames: Vec::new(), room, limit: &mut self.limit, now_ms, limited: false };
        for (&network, membership) in &mut self.networks {
            if let Some(local) = current.networks.get(network.index()) {
                membership.speak(network, local.link.mac, &mut outbox, now, &mut self.random);
            }
        }
        let Outbox { frames, limited, .. } = outbox;
        let due = self.networks.values().map(Membership::next_due).min();
        // Without a network, any later time will do: new addresses reset this.
        let due = due.unwrap_or(now + REPEAT);
        self.next_due = Some(if limited { due.max(now + PAUSE) } else { due });
        frames
    }
}

/// The reports of one call.
struct Outbox<'l> {
    frames: Vec<Frame>,
    room: usize,
    limit: &'l mut TokenBucket,
    now_ms: u64,
    /// Whether there was no room because of the limit.
    limited: bool,
}

impl Outbox<'_> {
    /// Whether one more report may be sent.
    fn has_room(&mut self) -> bool {
        if self.frames.len() >= self.room {
            return false;
        }
        self.limited = !self.limit.take(self.now_ms);
        !self.limited
    }

    fn push(&mut self, network: NetworkNo, bytes: Vec<u8>) {
        self.frames.push(Frame { network, bytes });
    }
}

impl Membership {
    fn new(now: Instant) -> Self {
        Membership {
            groups: BTreeMap::new(),
            left: BTreeMap::new(),
            v1_until: None,
            answer: None,
            answered: None,
            repeat: now + REPEAT,
        }
    }

    /// Whether reports are of MLDv1: there is a router of that version.
    fn is_v1(&self, now: Instant) -> bool {
        self.v1_until.is_some_and(|until| until > now)
    }

    /// What happens when the version changes (RFC 3810 §8.2.1).
    fn forget_answers(&mut self) {
        self.answer = None;
        for group in self.groups.values_mut() {
            group.answer = None;
            group.sources.clear();
        }
    }

    /// Sends what is due.
    fn speak(&mut self, network: NetworkNo, mac: Mac, outbox: &mut Outbox<'_>, now: Instant, random: &mut u64) {
        if self.v1_until.is_some_and(|until| until <= now) {
            self.v1_until = None;
            self.forget_answers();
        }
        let asked = self.answer.is_some_and(|due| due <= now);
        if asked || self.repeat <= now {
            self.answer_for_all(now, asked);
        }
        let v1 = self.is_v1(now);
        let left: Vec<Ipv6Addr> =
            self.left.iter().filter(|(_, (_, due))| *due <= now).map(|(group, _)| *group).collect();
        for groups in left.chunks(if v1 { 1 } else { GROUPS }) {
            if !outbox.has_room() {
                return;
            }
            outbox.push(network, if v1 { v1_done(mac, groups[0]) } else { report(mac, Record::Left, groups) });
            groups.iter().for_each(|group| self.said_left(group, now + draw(random, LEAVE_INTERVAL)));
        }
        if v1 {
            self.speak_v1(network, mac, outbox, now);
        } else {
            self.speak_v2(network, mac, outbox, now);
        }
    }

    /// Has all groups reported now.
    fn answer_for_all(&mut self, now: Instant, asked: bool) {
        self.answer = None;
        if asked {
            self.answered = Some(now);
        }
        if self.repeat <= now {
            self.repeat = now + REPEAT;
        }
        for group in self.groups.values_mut() {
            group.answer = Some(now);
            group.sources.clear();
        }
    }

    fn said_left(&mut self, group: &Ipv6Addr, next: Instant) {
        match self.left.get_mut(group) {
            Some((times, due)) if *times > 1 => (*times, *due) = (*times - 1, next),
            _ => drop(self.left.remove(group)),
        }
    }

    fn speak_v1(&mut self, network: NetworkNo, mac: Mac, outbox: &mut Outbox<'_>, now: Instant) {
        for (address, group) in &mut self.groups {
            if group.joined.is_none() && !group.is_due(now) {
                continue;
            }
            if !outbox.has_room() {
                return;
            }
            outbox.push(network, v1_report(mac, *address));
            group.said(now);
        }
    }

    fn speak_v2(&mut self, network: NetworkNo, mac: Mac, outbox: &mut Outbox<'_>, now: Instant) {
        let joined = self.groups_that(|group| group.joined.is_some());
        let answers = self.groups_that(|group| group.joined.is_none() && group.is_due(now) && group.sources.is_empty());
        let of_sources =
            self.groups_that(|group| group.joined.is_none() && group.is_due(now) && !group.sources.is_empty());
        let reports = [(Record::Joined, joined), (Record::Listens, answers)];
        for (record, groups) in &reports {
            for groups in groups.chunks(GROUPS) {
                if !outbox.has_room() {
                    return;
                }
                outbox.push(network, report(mac, *record, groups));
                groups.iter().for_each(|group| self.said(group, now));
            }
        }
        for group in of_sources {
            if !outbox.has_room() {
                return;
            }
            let sources: Vec<Ipv6Addr> = self.groups[&group].sources.iter().copied().collect();
            outbox.push(network, report_of_sources(mac, group, &sources));
            self.said(&group, now);
        }
    }

    fn groups_that(&self, wanted: impl Fn(&Group) -> bool) -> Vec<Ipv6Addr> {
        self.groups.iter().filter(|(_, group)| wanted(group)).map(|(address, _)| *address).collect()
    }

    fn said(&mut self, group: &Ipv6Addr, now: Instant) {
        if let Some(group) = self.groups.get_mut(group) {
            group.said(now);
        }
    }

    /// When it has something to say next. In the past, if there was no room for it.
    fn next_due(&self) -> Instant {
        let of_groups = self.groups.values().filter_map(|group| group.joined.or(group.answer));
        let left = self.left.values().map(|(_, due)| *due);
        of_groups.chain(left).chain(self.answer).chain(self.v1_until).chain([self.repeat]).min().unwrap_or(self.repeat)
    }
}

impl Group {
    fn is_due(&self, now: Instant) -> bool {
        self.answer.is_some_and(|due| due <= now)
    }

    /// Has it reported at that time, if not before.
    fn answer_by(&mut self, due: Instant) {
        let due = not_before(due, self.answered);
        self.answer = Some(self.answer.map_or(due, |other| other.min(due)));
    }

    fn said(&mut self, now: Instant) {
        *self = Group { answered: Some(now), ..Group::default() };
    }
}

/// An answer's time, but not too soon after the last one.
fn not_before(due: Instant, answered: Option<Instant>) -> Instant {
    answered.map_or(due, |answered| due.max(answered + ANSWER_INTERVAL))
}

/// A random time up to this one.
fn draw(random: &mut u64, most: Duration) -> Duration {
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    most.mul_f64(f64::from((*random >> 32) as u32) / f64::from(u32::MAX))
}
