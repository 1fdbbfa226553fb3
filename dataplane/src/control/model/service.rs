//! A service and its backends: which of them serve, which take new flows, and what a change hands over.

use std::net::IpAddr;
use std::sync::Arc;

use ctl::{FlowHash, OnAllDown, Passive, Protocol, Scheduler, ServiceId, Start, Tracking};

use crate::base::ids::BackendNo;
use crate::control::model::backend::{Backend, Duty};
use crate::control::model::contact::{Contact, Reachability};
use crate::control::model::error::ModelError;
use crate::control::model::handover::{HandOver, Slots};
use crate::control::model::health::Check;
use crate::count::lease::ServiceLease;
use crate::select::maglev::Candidate;
use crate::select::schedule::{Cursor, Schedule};
use crate::state::outage::{Outage, Standing};

/// How much longer than the hand-over time a hand-over lasts.
const HAND_OVER_SLACK_MS: u64 = 1_000;

/// A service and its backends.
#[derive(Debug, Clone)]
pub struct Service {
    /// VIP, port, protocol.
    pub id: ServiceId,
    /// How backends are chosen.
    pub scheduler: Scheduler,
    /// What decides the backend of a flow.
    pub hash: FlowHash,
    /// Which flows are remembered.
    pub tracking: Tracking,
    /// How long an idle flow is remembered, in ms.
    pub idle_ms: u64,
    /// How long a hand-over lasts, in ms; 0 without tracking.
    pub handover_ms: u64,
    /// When the service was added, in ms.
    pub(super) since_ms: u64,
    /// Whether an unknown flow is new, because all flows have been remembered for as long as a hand-over lasts.
    pub knows_all: bool,
    /// What becomes of packets when all backends are down.
    pub on_all_down: OnAllDown,
    /// How its backends are checked.
    pub checks: Arc<[Check]>,
    /// If fewer of its backends than this share are up, in percent, the checks are not believed.
    pub min_up: u8,
    /// What a backend counts as that was not checked yet.
    pub start: Start,
    /// How long the weight of a backend that returns takes to rise, in ms; 0: it has it at once.
    pub slow_start_ms: u64,
    /// What becomes of a backend whose clients get no answer.
    pub passive: Passive,
    /// In ascending order of their addresses.
    pub backends: Vec<Backend>,
    /// The Maglev table over `backends`. If no backend takes new flows, all its slots are [`BackendNo::NONE`].
    pub table: Arc<[BackendNo]>,
    /// The backends that had its slots before.
    pub handover: Option<Arc<HandOver>>,
    /// The backends that have failed since the table was built, and those that stand in. A service in an outage waits
    /// to be [renewed](crate::control::model::Model::renew).
    pub outage: Option<Arc<Outage>>,
    /// When the deadline of a hand-over, a drain or a backend out of reach passes next, in ms.
    pub(super) deadline: Option<u64>,
    /// Whether all backends that should get flows are down, and get them nevertheless (`on_all_down`).
    pub(super) forced: bool,
    /// Which backend gets a new flow.
    pub schedule: Schedule,
    /// By worker, its position in the schedule.
    pub cursors: Arc<[Cursor]>,
    /// The counters of its dropped packets.
    pub counter: Arc<ServiceLease>,
}

impl Service {
    pub(super) fn is_forced(&self) -> bool {
        let mut wanted = self.backends.iter().filter(|backend| backend.is_wanted()).peekable();
        self.on_all_down == OnAllDown::All
            && wanted.peek().is_some()
            && wanted.all(|backend| backend.contact == Contact::Down)
    }

    /// Whether a backend gets the packets of its old flows.
    pub fn serves(&self, backend: &Backend) -> bool {
        let is_out = backend.is_gone() || backend.duty == Duty::Disabled;
        !is_out && (backend.contact.keeps_old_flows() || self.forced)
    }

    /// Whether a backend gets new flows.
    pub(super) fn takes(&self, backend: &Backend) -> bool {
        let can = |backend: &Backend| backend.is_wanted() && self.serves(backend) && !backend.is_suspended();
        can(backend) && !(backend.fallback && self.backends.iter().any(|other| !other.fallback && can(other)))
    }

    /// Its fallback, if that has the service's new flows.
    pub fn serving_fallback(&self) -> Option<&Backend> {
        self.backends.iter().find(|backend| backend.fallback).filter(|fallback| self.takes(fallback))
    }

    /// Whether a backend gets the unknown flows of slots that others have now. A datagram does not tell whether its flow
    /// is new. So of UDP, all unknown flows leave a backend that may be dead.
    pub(super) fn keeps_unknown_flows(&self, backend: &Backend) -> bool {
        self.serves(backend) && !(self.id.protocol == Protocol::Udp && backend.is_suspended())
    }

    /// Whether a backend gets no unknown flows, but has its slots back without a hand-over when it returns in time. So has
    /// each one of TCP and SCTP that is down, for whatever reason: its connections may outlive that, and new ones can be told
    /// from them. Of UDP, so has one that may only seem dead.
    pub(super) fn awaits(&self, backend: &Backend) -> bool {
        let tells_new_flows = self.id.protocol != Protocol::Udp;
        self.tracking != Tracking::None
            && !backend.is_gone()
            && !self.keeps_unknown_flows(backend)
            && (tells_new_flows || self.serves(backend))
    }

    /// What a backend gets as long as the table does not know of its contact.
    pub(super) fn standing(&self, backend: &Backend) -> Standing {
        match backend {
            _ if self.takes(backend) => Standing::Takes,
            _ if self.awaits(backend) => Standing::Away,
            _ if !self.keeps_unknown_flows(backend) => Standing::Out,
            // A fallback that does not take has no slots.
            _ if backend.is_counted() => Standing::Holds,
            _ => Standing::Serves,
        }
    }

    /// The backends with the weights by which they take new flows.
    pub(super) fn candidates(&self) -> Vec<Candidate> {
        let rises = self.backends.iter().any(|backend| backend.rise.is_some());
        let weight = |backend: &Backend| if self.takes(backend) { self.weight_now(backend, rises) } else { 0 };
        self.backends.iter().map(|backend| Candidate { address: backend.address, weight: weight(backend) }).collect()
    }

    /// The backends that will join when their MAC addresses are known.
    pub fn waiting(&self) -> impl Iterator<Item = IpAddr> {
        self.backends.iter().filter(|backend| !backend.joined).map(|backend| backend.address)
    }

    /// Whether it does not match the state of the network, or a deadline has passed.
    pub fn is_behind(&self, network: &Reachability<'_>, now_ms: u64) -> bool {
        let joins = |backend: &Backend| !backend.joined && (network.resolved)(backend.address);
        self.outage.is_some()
            || self.deadline.is_some_and(|deadline| deadline <= now_ms)
            || self.has_other_contacts(network.outlook, now_ms)
            || self.backends.iter().any(joins)
    }

    /// Whether all flows have been remembered for the time of a hand-over.
    pub(super) fn knows_all_flows(&self, now_ms: u64) -> bool {
        self.tracking == Tracking::All && now_ms.saturating_sub(self.since_ms) >= self.handover_ms
    }

    /// Whether the worker takes an unknown flow of UDP for a new one. If not, the flow may be an old one, and goes where
    /// its slot was before.
    pub fn unknown_is_new(&self) -> bool {
        self.knows_all || self.scheduler.decides_by_flow()
    }

    /// How long it takes until new flows follow a change, in ms. Of UDP, unknown flows may be old ones until then.
    pub fn delay_ms(&self) -> u64 {
        if self.id.protocol == Protocol::Udp && !self.unknown_is_new() { self.handover_ms } else { 0 }
    }

    pub(super) fn next_deadline(&self) -> Option<u64> {
        let drains = self.backends.iter().filter_map(|backend| match backend.duty {
            Duty::Drain { until_ms } => until_ms,
            Duty::Serve | Duty::Drained | Duty::Disabled => None,
        });
        let suspensions = self.backends.iter().filter_map(|backend| match backend.contact {
            Contact::Suspended { until_ms } => Some(until_ms),
            Contact::Up | Contact::CutOff | Contact::Lapsed | Contact::Down => None,
        });
        drains
            .chain(suspensions)
            .chain(self.next_steps())
            .chain(self.handover.as_ref().map(|handover| handover.next_deadline()))
            .min()
    }

    /// The number of the backend with this address.
    pub fn number_of(&self, address: IpAddr) -> Result<BackendNo, ModelError> {
        self.backends
            .binary_search_by_key(&address, |backend| backend.address)
            .map(BackendNo::new)
            .map_err(|_| ModelError::NoSuchBackend { service: self.id, address })
    }
}

/// The hand-over of a changed service: the slots that have moved away from backends that serve, or are awaited.
pub(super) fn hand_over(old: &Service, new: &Service, now_ms: u64) -> Option<HandOver> {
    let nothing_moves = old.handover.is_none() && old.outage.is_none() && Arc::ptr_eq(&old.table, &new.table);
    if nothing_moves || new.tracking == Tracking::None {
        return None;
    }
    // Backends are the same if their leases are: a backend that was removed and added again is a new one.
    let has_flows = |service: &Service, backend: &Backend| service.serves(backend) || service.awaits(backend);
    let number = |backend: &Backend| {
        let same = |now: &Backend| Arc::ptr_eq(&now.target, &backend.target);
        let stays = |now: &BackendNo| {
            let now = &new.backends[now.index()];
            same(now) && has_flows(old, backend) && has_flows(new, now)
        };
        new.number_of(backend.address).ok().filter(stays).unwrap_or(BackendNo::NONE)
    };
    let numbers: Vec<BackendNo> = old.backends.iter().map(number).collect();
    let stood_in: Option<Vec<BackendNo>> = old.outage.as_ref().map(|outage| {
        // One that is awaited, or may only seem dead, has the old flows of its slots. If it is removed meanwhile, those that
        // have begun since have theirs.
        let is_known = |owner: &BackendNo| numbers.get(owner.index()).is_some_and(|now| *now != BackendNo::NONE);
        let owner = |slot| {
            let owner = Some(outage.owner(BackendNo::NONE, &old.table, slot)).filter(is_known);
            owner.unwrap_or_else(|| outage.now(&old.table, slot))
        };
        (0..old.table.len()).map(owner).collect()
    });
    let slots = Slots { now: stood_in.as_deref().unwrap_or(&old.table), handover: old.handover.as_deref() };
    // A little longer, so that a flow that sent a packet just before the change may be silent for the whole time.
    let until_ms = hand_over_end(new, now_ms) + HAND_OVER_SLACK_MS;
    let away = new.backends.iter().map(|backend| new.awaits(backend));
    HandOver::begin(slots, &new.table, |backend| numbers[backend.index()], away, now_ms, until_ms)
}

/// When a hand-over that begins now is over. As soon as all flows of UDP are known, an unknown one is new.
fn hand_over_end(service: &Service, now_ms: u64) -> u64 {
    let learning = service.id.protocol == Protocol::Udp && service.tracking == Tracking::All && !service.knows_all;
    let begin_ms = if learning { service.since_ms } else { now_ms };
    begin_ms + service.handover_ms
}

/// The schedule of a service with these candidates.
pub(super) fn schedule(service: &Service, candidates: &[Candidate]) -> Schedule {
    let weights: Vec<u32> = candidates.iter().map(|candidate| candidate.weight).collect();
    // Each worker has a cursor.
    let workers = service.cursors.len();
    match service.scheduler {
        Scheduler::Maglev | Scheduler::Sh => Schedule::Slot,
        Scheduler::Wrr => Schedule::weighted_round_robin(&weights),
        Scheduler::Rr => Schedule::round_robin(&weights),
        Scheduler::Wlc => Schedule::fewest(&weights, true, workers),
        Scheduler::Lc => Schedule::fewest(&weights, false, workers),
    }
}
