//! Random changes and packets go through the model, the snapshots and a worker. An oracle, which is slow and simple and
//! remembers every flow, checks that no flow moves that may stay.
//!
//! A flow may stay as long as three conditions hold. Its backend exists, its drain's deadline has not passed, and the flow
//! sends nothing while the backend is down. The flow is never silent for longer than the service's idle timeout. And after
//! a change (an outage is one), it is heard of within the service's hand-over time, unless all flows are remembered. Of UDP,
//! only remembered flows have their backend back after it was down.
//!
//! New flows go to backends that take new flows. A datagram does not tell whether its flow is new. So for UDP, that
//! holds when the last hand-over is over, and where all flows are known or none is.
//!
//! There are one or two workers. As with RSS, all packets of a flow come to the same one.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use ctl::request::{BackendEdit, ServiceAdd};
use ctl::{OnAllDown, Protocol, Scheduler, Tracking};
use dataplane::base::ids::{BackendNo, WorkerNo};
use dataplane::control::compile::compile;
use dataplane::control::model::{Contact, Model, Outlook, Reach, Reachability};
use dataplane::count::{counters::WorkerCounters, lease::Leases};
use dataplane::forward::exceptions::{Exceptions, Room};
use dataplane::forward::fragment::Fragments;
use dataplane::state::{outage::Outage, publication::Publisher};
use dataplane::testing::frame::eth;
use dataplane::testing::memory::MemoryIo;
use dataplane::testing::model::{PORT, backend, backend_mac, model};
use dataplane::{
    base::clock::Clock,
    forward::{
        limits::Limits,
        port::WorkerPort,
        rings::{Rings, punt_rings},
        worker::{Memory, Worker},
    },
};
use proptest::prelude::*;

#[path = "handover/udp.rs"]
mod udp;

const IDLE_S: u32 = 300;
const IDLE_MS: u64 = IDLE_S as u64 * 1_000;
/// A hand-over may last this much longer than it has to, until its end is noticed.
const SLACK_MS: u64 = 1_500;
/// After a FIN, flows are remembered for two minutes.
const FIN_MS: u64 = 120_000;
/// Flows of which only the SYN was seen are remembered for one minute.
const SYN_MS: u64 = 60_000;

/// The events. Backends and flows are named by numbers, modulo their count.
#[derive(Debug, Clone)]
enum Event {
    Add {
        backend: u8,
        weight: u32,
    },
    Remove {
        backend: u8,
    },
    Weigh {
        backend: u8,
        weight: u32,
    },
    Drain {
        backend: u8,
        deadline_s: Option<u32>,
    },
    Disable {
        backend: u8,
    },
    Enable {
        backend: u8,
    },
    Down {
        backends: u8,
    },
    /// All backends are well again.
    Mend,
    Hear {
        reaches: [Reach; 6],
    },
    Renew,
    Pass {
        seconds: u16,
    },
    Open {
        packets: u8,
    },
    Speak {
        flow: u16,
    },
    SpeakAll,
    Finish {
        flow: u16,
    },
    Reset {
        flow: u16,
    },
    Reopen {
        flow: u16,
    },
    RepeatSyn {
        flow: u16,
    },
    Syn {
        flow: u16,
    },
    /// The flows of a backend send something.
    Wake {
        backend: u8,
    },
}

fn event() -> impl Strategy<Value = Event> {
    use Event::*;
    let backend = || 0u8..6;
    prop_oneof![
        2 => (backend(), 0u32..4).prop_map(|(backend, weight)| Add { backend, weight }),
        1 => backend().prop_map(|backend| Remove { backend }),
        2 => (backend(), 0u32..5).prop_map(|(backend, weight)| Weigh { backend, weight }),
        1 => (backend(), prop::option::of(0u32..400)).prop_map(|(backend, deadline_s)| Drain { backend, deadline_s }),
        1 => backend().prop_map(|backend| Disable { backend }),
        1 => backend().prop_map(|backend| Enable { backend }),
        1 => (0u8..64, 0u8..64).prop_map(|(a, b)| Down { backends: a & b }),
        1 => Just(Mend),
        1 => prop::array::uniform6(reach()).prop_map(|reaches| Hear { reaches }),
        1 => Just(Renew),
        4 => (1u16..200).prop_map(|seconds| Pass { seconds }),
        6 => (1u8..4).prop_map(|packets| Open { packets }),
        6 => any::<u16>().prop_map(|flow| Speak { flow }),
        3 => Just(SpeakAll),
        1 => any::<u16>().prop_map(|flow| Finish { flow }),
        1 => any::<u16>().prop_map(|flow| Reset { flow }),
        1 => any::<u16>().prop_map(|flow| Reopen { flow }),
        1 => any::<u16>().prop_map(|flow| RepeatSyn { flow }),
        2 => any::<u16>().prop_map(|flow| Syn { flow }),
        2 => backend().prop_map(|backend| Wake { backend }),
    ]
}

/// How a backend can be reached. Most answer.
fn reach() -> impl Strategy<Value = Reach> {
    prop_oneof![
        6 => Just(Reach::Answers),
        1 => Just(Reach::Asked),
        3 => Just(Reach::Silent),
        1 => Just(Reach::NoLink),
        1 => Just(Reach::Down),
    ]
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Open,
    Data,
    Fin,
    Rst,
}

/// A flow as the oracle remembers it.
#[derive(Debug, Clone)]
struct Flow {
    port: u16,
    /// The number of the backend where it may stay, its home; `None`: it has no home.
    home: Option<u8>,
    heard_ms: u64,
    /// The snapshot in which it came to its home.
    since: u64,
    /// How often slots had moved until then.
    moves: usize,
    /// The time that it may be silent.
    patience_ms: u64,
    /// If only SYNs were sent so far: the snapshot of the first one. After a change, another SYN may go to another
    /// backend, because SYNs to slots without a hand-over are not remembered.
    opening: Option<u64>,
    /// The snapshot of its last packet other than a SYN. As long as there is no other, its worker knows where it lives:
    /// from its slot, or from the table.
    spoke: Option<u64>,
    /// The FIN or RST by which the client has ended it, and the snapshot of that time; `u64::MAX`: of an unknown time.
    ended: Option<(Kind, u64)>,
}

/// A backend as the oracle sees it.
#[derive(Debug, Clone, Copy)]
struct Known {
    weight: u32,
    draining: bool,
    drained_at_ms: Option<u64>,
    disabled: bool,
    fallback: bool,
    contact: Contact,
    /// The snapshot since which others get its new flows, because it may be dead.
    suspended: Option<u64>,
}

impl Known {
    /// Whether the operator wants it to have new flows.
    fn is_wanted(&self) -> bool {
        self.weight > 0 && !self.draining && !self.disabled
    }
}

/// The table, and what stands in.
type Owners = (Arc<[BackendNo]>, Option<Arc<Outage>>);

struct World {
    wanted: ServiceAdd,
    model: Model,
    leases: Arc<Leases>,
    publisher: Publisher,
    workers: Vec<OneWorker>,
    /// When slots moved.
    moves_ms: Vec<u64>,
    /// What the slots belong to since the last move.
    owners: Option<Owners>,
    /// Which backends have their slots back when they return.
    away: Option<Arc<[bool]>>,
    now_ms: u64,
    generation: u64,
    known: BTreeMap<u8, Known>,
    /// How backends can be reached. What is better than before, the director knows only after the service is renewed.
    reach: [Reach; 6],
    flows: Vec<Flow>,
}

/// A worker, its end of the wire and its counters.
struct OneWorker {
    worker: Worker<MemoryIo>,
    wire: MemoryIo,
    counters: Arc<WorkerCounters>,
}

impl OneWorker {
    fn new(number: usize, counters: Arc<WorkerCounters>, publisher: &Publisher) -> Self {
        let wire = MemoryIo::default();
        let (punts, outgoing, samples) = (punt_rings(|_| 4).0, rtrb::RingBuffer::new(4).1, rtrb::RingBuffer::new(4).0);
        let rings = Rings { punts, outgoing, samples };
        let exceptions = Exceptions::new(Room { v4: 16_384, v6: 4_096 }, WorkerNo::new(number));
        let memory = Memory { fragments: Fragments::alone(), exceptions, limits: Limits::new(1, 1) };
        let ports = vec![WorkerPort::new(wire.clone())];
        let worker = Worker::new(ports, publisher.reader(), counters.clone(), rings, memory, Clock::stopped_at(0));
        OneWorker { worker, wire, counters }
    }
}

impl World {
    fn new(wanted: ServiceAdd, workers: usize) -> Self {
        let counters: Vec<_> = (0..workers).map(|_| Arc::new(WorkerCounters::new(1))).collect();
        let leases = Leases::new(counters.clone());
        let mut model = model();
        model.add_service(&wanted, &leases).unwrap();
        let publisher = Publisher::new(compile(Arc::new(model.clone()), |a| Some(backend_mac(a)), &[PORT], 1).snapshot);
        let workers = counters.into_iter().enumerate();
        let workers = workers.map(|(number, counters)| OneWorker::new(number, counters, &publisher)).collect();
        World {
            wanted,
            model,
            leases,
            publisher,
            workers,
            moves_ms: Vec::new(),
            owners: None,
            away: None,
            now_ms: 0,
            generation: 1,
            known: BTreeMap::new(),
            reach: [Reach::Answers; 6],
            flows: Vec::new(),
        }
    }

    /// A world with a service that has backend 5 for its fallback.
    fn with_fallback(wanted: ServiceAdd, workers: usize) -> Self {
        let address = World::new(wanted.clone(), 1).address(5);
        let mut world = World::new(ServiceAdd { fallback: Some(address), ..wanted }, workers);
        let known = Known {
            weight: 1,
            draining: false,
            drained_at_ms: None,
            disabled: false,
            fallback: true,
            contact: Contact::Up,
            suspended: None,
        };
        world.known.insert(5, known);
        world
    }

    fn is_udp(&self) -> bool {
        self.wanted.service.protocol == Protocol::Udp
    }

    fn address(&self, number: u8) -> IpAddr {
        let text = if self.wanted.service.vip.is_ipv4() { "192.168.0." } else { "fd00::" };
        let last =
            if self.wanted.service.vip.is_ipv4() { format!("{}", 10 + number) } else { format!("{:x}", 10 + number) };
        format!("{text}{last}").parse().unwrap()
    }

    /// Whether all backends that should serve are down, and the service uses them nevertheless.
    fn forced(&self) -> bool {
        let mut wanted = self.known.values().filter(|known| known.is_wanted()).peekable();
        self.wanted.on_all_down == OnAllDown::All
            && wanted.peek().is_some()
            && wanted.all(|known| known.contact == Contact::Down)
    }

    fn serves(&self, number: u8) -> bool {
        let forced = self.forced();
        let open = |known: &Known| {
            let reached = !matches!(known.contact, Contact::Lapsed | Contact::Down) || forced;
            reached && !known.disabled && known.drained_at_ms.is_none_or(|at| at > self.now_ms)
        };
        self.known.get(&number).is_some_and(open)
    }

    fn takes_new_flows(&self, number: u8) -> bool {
        let can = |number: &u8| {
            self.serves(*number) && !self.is_suspended(*number) && self.known.get(number).is_some_and(Known::is_wanted)
        };
        let is_fallback = |number: &u8| self.known[number].fallback;
        can(&number) && !(is_fallback(&number) && self.known.keys().any(|other| !is_fallback(other) && can(other)))
    }

    /// Whether others get the backend's new flows, because it may be dead.
    fn is_suspended(&self, number: u8) -> bool {
        self.known.get(&number).is_some_and(|known| matches!(known.contact, Contact::Suspended { .. }))
    }

    /// What becomes of the backends' contacts. A backend that is dead is so until it answers. One that may be dead keeps
    /// its share while no other answers, and else its old flows for the time of a hand-over.
    fn contacts(&self) -> BTreeMap<u8, Contact> {
        let reach = |number: u8| self.reach[usize::from(number)];
        let others = self.known.iter().any(|(&number, known)| known.is_wanted() && reach(number) == Reach::Answers);
        let until_ms = self.now_ms + self.handover_ms();
        let next = |number: u8, before: Contact| match (reach(number), before) {
            (Reach::Answers, _) => Contact::Up,
            (Reach::Down, _) | (_, Contact::Down) => Contact::Down,
            (Reach::Asked, Contact::Up | Contact::CutOff) => before,
            (_, _) if !others => Contact::CutOff,
            (_, Contact::Up | Contact::CutOff) if self.handover_ms() > 0 => Contact::Suspended { until_ms },
            (_, Contact::Suspended { until_ms }) if until_ms > self.now_ms => before,
            (_, _) => Contact::Lapsed,
        };
        self.known.iter().map(|(&number, known)| (number, next(number, known.contact))).collect()
    }

    fn handover_ms(&self) -> u64 {
        self.model.services[&self.wanted.service].handover_ms
    }

    fn tracks(&self, tracking: Tracking) -> bool {
        self.model.services[&self.wanted.service].tracking == tracking
    }

    /// Whether its worker knows where a flow lives, from the table or from its slot.
    fn is_known(&self, flow: &Flow) -> bool {
        let moved_ms = self.moves_ms.get(flow.moves);
        let handed_over = || moved_ms.is_none_or(|moved_ms| self.now_ms - moved_ms <= self.handover_ms());
        self.tracks(Tracking::All) || if self.tracks(Tracking::None) { moved_ms.is_none() } else { handed_over() }
    }

    /// Whether a connection that nobody knows may be one of a backend that is down, and so does not stay where it is sent.
    fn may_be_awaited(&self) -> bool {
        !self.is_udp() && self.known.keys().any(|&number| !self.serves(number) && !self.is_gone(number))
    }

    /// Whether the flows of a backend are gone for good.
    fn is_gone(&self, number: u8) -> bool {
        self.known.get(&number).is_none_or(|known| known.drained_at_ms.is_some_and(|at| at <= self.now_ms))
    }

    /// The backend that a flow may claim.
    fn claim(&self, flow: &Flow) -> Option<u8> {
        flow.home
            .filter(|&home| self.serves(home) && self.now_ms - flow.heard_ms <= flow.patience_ms && self.is_known(flow))
    }

    /// Whether new flows are told from old ones.
    fn tells_new_flows(&self) -> bool {
        let handed_over = |since_ms: &u64| self.now_ms - since_ms > self.handover_ms() + SLACK_MS;
        !self.is_udp()
            || self.wanted.scheduler.decides_by_flow()
            || self.tracks(Tracking::None)
            || self.tracks(Tracking::All) && handed_over(&0)
            || self.moves_ms.last().is_none_or(handed_over)
    }

    fn publish(&mut self) {
        self.generation += 1;
        let service = &self.model.services[&self.wanted.service];
        let owners = Some((service.table.clone(), service.outage.clone()));
        let moves = self.owners != owners;
        if moves {
            self.owners = owners;
            self.moves_ms.push(self.now_ms);
        }
        let away = service.handover.as_ref().and_then(|handover| handover.away.clone());
        // A backend that is being drained may be back, with its slots, although the table stays.
        let goes_back = moves || self.away != away;
        self.away = away;
        let model = Arc::new(self.model.clone());
        self.publisher.publish(compile(model, |a| Some(backend_mac(a)), &[PORT], self.generation).snapshot);
        // Of UDP, only flows that are surely remembered stay with a backend that may be dead.
        let unknown_leave = self.is_udp() && !self.tracks(Tracking::All);
        // A backend that is down loses the flows that may be unknown, if nobody can tell them from new ones.
        let is_left =
            |number: u8| self.is_gone(number) || unknown_leave && (!self.serves(number) || self.is_suspended(number));
        let homeless: HashSet<u8> = (0..6).filter(|&number| is_left(number)).collect();
        // Until that one answers, or is given up, the unknown flows of its slots go by the table as it is. So those that have
        // begun since may move with it.
        let mut begun = u64::MAX;
        for known in self.known.values_mut() {
            let is_suspended = matches!(known.contact, Contact::Suspended { .. });
            let since = known.suspended.or(Some(self.generation).filter(|_| is_suspended));
            begun = begun.min(since.filter(|_| unknown_leave && goes_back).unwrap_or(u64::MAX));
            known.suspended = since.filter(|_| is_suspended);
        }
        for flow in &mut self.flows {
            flow.home = flow.home.filter(|home| !homeless.contains(home) && flow.since < begun);
        }
    }

    /// Lets time pass in small steps, because the director checks deadlines twice a second.
    fn pass(&mut self, ms: u64) {
        let until = self.now_ms + ms;
        while self.now_ms < until {
            self.now_ms = (self.now_ms + 500).min(until);
            self.model.now_ms = self.now_ms;
            if self.model.due(self.now_ms).next().is_some() {
                self.renew();
            }
            for OneWorker { worker, .. } in &mut self.workers {
                worker.set_clock(Clock::stopped_at(self.now_ms));
                worker.turn();
            }
        }
    }

    /// Sends a packet of a flow. Returns the number of the backend that got it.
    fn send(&mut self, port: u16, kind: Kind) -> Option<u8> {
        let service = self.wanted.service;
        let to = service.port.single().unwrap();
        let ip = match service.vip {
            IpAddr::V4(vip) => eth().ipv4("10.0.0.1", &vip.to_string()),
            IpAddr::V6(vip) => eth().ipv6("2001:db8::1", &vip.to_string()),
        };
        let frame = match (self.is_udp(), kind) {
            (true, _) => ip.udp(port, to, b"x"),
            (false, Kind::Open) => ip.tcp(port, to).syn(),
            (false, Kind::Data) => ip.tcp(port, to).data(b"x"),
            (false, Kind::Fin) => ip.tcp(port, to).fin(),
            (false, Kind::Rst) => ip.tcp(port, to).rst(),
        };
        let workers = self.workers.len();
        let OneWorker { worker, wire, .. } = &mut self.workers[usize::from(port) % workers];
        wire.0.borrow_mut().rx.push_back(frame.into());
        worker.turn();
        let sent = wire.0.borrow_mut().tx.pop();
        sent.map(|packet| packet.bytes[5] - 10)
    }

    /// Opens a new flow from a port. It must go to a backend that takes new flows. Only if there is none may it be
    /// dropped.
    fn open(&mut self, index: usize) {
        let port = self.flows[index].port;
        let backend = self.send(port, Kind::Open);
        match backend {
            Some(number) if !self.tells_new_flows() => {
                assert!(self.serves(number) && !self.is_suspended(number), "{number} takes no unknown flows");
            }
            Some(number) => assert!(self.takes_new_flows(number), "{number} takes no new flows"),
            None => assert!(!(0..6).any(|number| self.takes_new_flows(number)), "a backend takes new flows"),
        }
        let (heard_ms, patience_ms) = (self.now_ms, if self.is_udp() { IDLE_MS } else { SYN_MS });
        let opening = Some(self.generation).filter(|_| !self.is_udp());
        let (spoke, moves) = (Some(self.generation).filter(|_| self.is_udp()), self.moves_ms.len());
        let since = self.generation;
        self.flows[index] =
            Flow { port, home: backend, heard_ms, since, moves, patience_ms, opening, spoke, ended: None };
    }

    /// Sends a SYN with the ports of a flow that has begun before.
    fn syn(&mut self, index: usize) {
        let flow = self.flows[index].clone();
        if self.is_udp() || flow.opening.is_some() {
            return;
        }
        // If it has sent more since a later change, its worker may not know that it has ended.
        if flow.ended.is_some_and(|(_, generation)| flow.spoke == Some(generation)) {
            return self.open(index);
        }
        let backend = self.send(flow.port, Kind::Open);
        assert!(backend.is_none_or(|number| self.serves(number)), "{backend:?} does not serve");
        if let Some(home) = self.claim(&flow)
            && flow.spoke == Some(self.generation)
            && flow.ended.is_none()
        {
            // The SYN proves nothing: from now on, the flow may be silent for no longer than before.
            assert_eq!(backend, Some(home), "a SYN moved flow {} at {} ms: {flow:?}", flow.port, self.now_ms);
        } else {
            // It lives where the SYN went. But where it was remembered, the entry may be about to expire.
            self.flows[index].home = None;
        }
    }

    /// Sends a packet of an old flow. It must go to the flow's home, if the flow may still claim it.
    fn speak(&mut self, index: usize, kind: Kind) {
        let flow = self.flows[index].clone();
        let backend = self.send(flow.port, kind);
        let claims = self.claim(&flow);
        if let Some(home) = claims {
            assert_eq!(backend, Some(home), "flow {} moved from home at {} ms: {flow:?}", flow.port, self.now_ms);
        }
        if let Some(number) = backend {
            assert!(self.serves(number), "{number} does not serve");
            assert!(!self.tracks(Tracking::None) || self.takes_new_flows(number), "{number} takes no new flows");
        }
        // Nobody got the packet. Its backend may be back.
        if backend.is_none() && kind == Kind::Data && flow.home.is_some_and(|home| !self.serves(home)) {
            return;
        }
        let (moves, may_be_awaited) = (self.moves_ms.len(), self.may_be_awaited());
        let flow = &mut self.flows[index];
        flow.opening = flow.opening.filter(|_| kind == Kind::Open);
        flow.spoke = if kind == Kind::Open { flow.spoke } else { Some(self.generation) };
        flow.ended = match kind {
            Kind::Fin | Kind::Rst => Some((kind, self.generation)),
            // After a RST, the client goes on: the RST was forged.
            // After too long a silence, its worker may have forgotten that it has ended.
            Kind::Data => flow.ended.filter(|&(end, _)| end == Kind::Fin).map(|(end, snapshot)| {
                (end, if self.now_ms - flow.heard_ms > flow.patience_ms { u64::MAX } else { snapshot })
            }),
            Kind::Open => flow.ended,
        };
        (flow.heard_ms, flow.moves) = (self.now_ms, moves);
        flow.patience_ms = match kind {
            Kind::Open => SYN_MS,
            Kind::Fin => FIN_MS,
            _ => flow.patience_ms.max(if flow.patience_ms == FIN_MS { FIN_MS } else { IDLE_MS }),
        };
        // A flow without a claim has its home where the packet went, if it may stay there. A flow that was reset has no home.
        let adopted = if flow.home.is_some() && !may_be_awaited { backend } else { None };
        let home = if kind == Kind::Rst { None } else { claims.or(adopted) };
        flow.since = if claims.is_none() { self.generation } else { flow.since };
        flow.home = home;
    }

    fn wake(&mut self, backend: u8) {
        (0..self.flows.len())
            .filter(|&index| self.flows[index].home == Some(backend))
            .collect::<Vec<_>>()
            .into_iter()
            .for_each(|index| self.speak(index, Kind::Data));
    }

    fn flow(&self, number: u16) -> Option<usize> {
        if self.flows.is_empty() { None } else { Some(usize::from(number) % self.flows.len()) }
    }

    fn change(&mut self, change: impl FnOnce(&mut Model)) {
        self.model.now_ms = self.now_ms;
        change(&mut self.model);
        self.publish();
    }

    fn outlook(&self) -> Outlook {
        (0..).zip(self.reach).map(|(number, reach)| (self.address(number), reach)).collect()
    }

    /// Renews the service: it gets its new table, and backends that are up again take part.
    fn renew(&mut self) {
        for (number, contact) in self.contacts() {
            self.known.get_mut(&number).unwrap().contact = contact;
        }
        let outlook = self.outlook();
        self.change(|model| model.renew_all(&Reachability { outlook: &outlook, resolved: &|_| true }));
    }

    /// Takes note of how backends can be reached. Those that have failed get no more packets, unless all have failed and the
    /// service uses them nevertheless. A backend that is up again takes part only if no other does.
    fn hear(&mut self, reach: [Reach; 6]) {
        self.reach = reach;
        let (before, forced) = (self.known.clone(), self.forced());
        let takes = |contact: Contact| matches!(contact, Contact::Up | Contact::CutOff);
        let serves = |contact: Contact| !matches!(contact, Contact::Lapsed | Contact::Down);
        let contacts = self.contacts();
        let has_flows =
            |(number, known): (&u8, &Known)| known.is_wanted() && serves(known.contact) && serves(contacts[number]);
        let waits = self.known.iter().any(has_flows);
        for (number, contact) in contacts {
            let known = self.known.get_mut(&number).unwrap();
            if !waits || takes(known.contact) || !takes(contact) {
                known.contact = contact;
            }
        }
        if forced || self.forced() {
            self.known = before;
        }
        let (id, outlook) = (self.wanted.service, self.outlook());
        self.change(|model| model.take_note(&id, &outlook));
    }

    fn happen(&mut self, event: &Event) {
        let id = self.wanted.service;
        match *event {
            Event::Add { backend: number, weight } if !self.known.contains_key(&number) => {
                let known = Known {
                    weight,
                    draining: false,
                    drained_at_ms: None,
                    disabled: false,
                    fallback: false,
                    contact: Contact::Up,
                    suspended: None,
                };
                self.known.insert(number, known);
                let (spec, leases) = (backend(&self.address(number).to_string(), weight), self.leases.clone());
                self.change(|model| model.add_backend(&id, &spec, &leases).unwrap());
                self.renew();
            }
            Event::Remove { backend } if self.known.remove(&backend).is_some() => {
                let address = self.address(backend);
                self.change(|model| model.remove_backend(&id, address).unwrap());
            }
            Event::Weigh { backend, weight } if self.known.contains_key(&backend) => {
                self.known.get_mut(&backend).unwrap().weight = weight;
                let edit = BackendEdit { service: id, address: self.address(backend), weight: Some(weight), mac: None };
                self.change(|model| model.edit_backend(&edit).unwrap());
            }
            Event::Drain { backend, deadline_s } if self.known.contains_key(&backend) => {
                let deadline_ms = deadline_s.map(|seconds| u64::from(seconds) * 1_000);
                let known = self.known.get_mut(&backend).unwrap();
                (known.draining, known.disabled) = (true, false);
                known.drained_at_ms = deadline_ms.map(|deadline| self.now_ms + deadline);
                let address = self.address(backend);
                self.change(|model| model.drain_backend(&id, address, deadline_ms).unwrap());
            }
            Event::Disable { backend } if self.known.contains_key(&backend) => {
                let known = self.known.get_mut(&backend).unwrap();
                (known.draining, known.drained_at_ms, known.disabled) = (false, None, true);
                let address = self.address(backend);
                self.change(|model| model.disable_backend(&id, address).unwrap());
            }
            Event::Enable { backend } if self.known.contains_key(&backend) => {
                let known = self.known.get_mut(&backend).unwrap();
                (known.draining, known.drained_at_ms, known.disabled) = (false, None, false);
                let address = self.address(backend);
                self.change(|model| model.enable_backend(&id, address).unwrap());
            }
            Event::Down { backends } => {
                let down = |bit: u8| if backends & bit == 0 { Reach::Answers } else { Reach::Down };
                self.hear([1, 2, 4, 8, 16, 32].map(down));
            }
            Event::Mend => {
                self.hear([Reach::Answers; 6]);
                self.renew();
            }
            Event::Hear { reaches } => self.hear(reaches),
            Event::Renew => self.renew(),
            Event::Pass { seconds } => self.pass(u64::from(seconds) * 1_000),
            Event::Open { packets } => {
                let port = 1_024 + u16::try_from(self.flows.len()).unwrap();
                let (home, opening, spoke) = (None, None, None);
                let (heard_ms, since, moves, patience_ms) = (0, 0, 0, 0);
                self.flows.push(Flow { port, home, heard_ms, since, moves, patience_ms, opening, spoke, ended: None });
                let index = self.flows.len() - 1;
                self.open(index);
                (1..packets).for_each(|_| self.speak(index, Kind::Data));
            }
            Event::Speak { flow } => {
                if let Some(index) = self.flow(flow) {
                    self.speak(index, Kind::Data);
                }
            }
            Event::SpeakAll => (0..self.flows.len()).for_each(|index| self.speak(index, Kind::Data)),
            Event::Finish { flow } => {
                if let Some(index) = self.flow(flow) {
                    self.speak(index, Kind::Fin);
                }
            }
            Event::Reset { flow } => {
                if let Some(index) = self.flow(flow) {
                    self.speak(index, Kind::Rst);
                }
            }
            // The client uses a port again after it has reset the old connection.
            Event::Reopen { flow } => {
                if let Some(index) = self.flow(flow).filter(|_| !self.is_udp()) {
                    self.speak(index, Kind::Rst);
                    self.open(index);
                }
            }
            Event::RepeatSyn { flow } => {
                let now = Some(self.generation);
                match self.flow(flow) {
                    Some(index) if self.flows[index].opening == now => self.speak(index, Kind::Open),
                    Some(index) if self.flows[index].opening.is_some() => {
                        self.flows[index].home = None;
                        let port = self.flows[index].port;
                        let home = self.send(port, Kind::Open);
                        assert!(home.is_none_or(|number| self.serves(number)));
                        let moves = self.moves_ms.len();
                        let flow = &mut self.flows[index];
                        flow.moves = moves;
                        (flow.home, flow.heard_ms, flow.patience_ms, flow.opening) = (home, self.now_ms, SYN_MS, now);
                    }
                    _ => {}
                }
            }
            Event::Syn { flow } => {
                if let Some(index) = self.flow(flow) {
                    self.syn(index);
                }
            }
            Event::Wake { backend } => self.wake(backend),
            Event::Add { .. }
            | Event::Remove { .. }
            | Event::Weigh { .. }
            | Event::Drain { .. }
            | Event::Disable { .. }
            | Event::Enable { .. } => {}
        }
    }
}

/// A service of each kind: protocols, families, schedulers, what is remembered and for how long.
fn service() -> impl Strategy<Value = ServiceAdd> {
    use Scheduler::*;
    let by_flow: Vec<Scheduler> = Scheduler::ALL.iter().copied().filter(|each| each.decides_by_flow()).collect();
    let vips = ["192.168.0.101:80/tcp", "192.168.0.101:53/udp", "[fd00::101]:80/tcp", "[fd00::101]:53/udp"];
    let vip = prop::sample::select(vips.to_vec());
    let scheduler = prop_oneof![
        4 => Just((Maglev, Tracking::Exceptions)),
        1 => Just((Maglev, Tracking::All)),
        1 => Just((Sh, Tracking::Exceptions)),
        1 => prop::sample::select(by_flow).prop_map(|scheduler| (scheduler, Tracking::All)),
    ];
    let on_all_down = prop_oneof![Just(OnAllDown::Drop), Just(OnAllDown::All)];
    let handover_time_s = prop::sample::select(vec![None, None, Some(5), Some(60), Some(IDLE_S)]);
    let slow_start_s = prop::sample::select(vec![None, None, Some(20), Some(300)]);
    let service = (vip, scheduler, on_all_down, handover_time_s, slow_start_s, 0u8..4);
    service.prop_map(|(vip, (scheduler, tracking), on_all_down, handover_time_s, slow_start_s, one_packet)| {
        let wanted = ServiceAdd {
            scheduler,
            tracking: Some(tracking),
            idle_timeout_s: Some(IDLE_S),
            handover_time_s,
            on_all_down,
            slow_start_s: slow_start_s.filter(|_| !matches!(scheduler, Rr | Lc)),
            ..ServiceAdd::new(vip.parse().unwrap(), vec![])
        };
        if one_packet > 0 || wanted.service.protocol != Protocol::Udp || scheduler.decides_by_flow() {
            return wanted;
        }
        ServiceAdd { tracking: Some(Tracking::None), handover_time_s: None, ..wanted }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_flow_that_may_stay_ever_moves(
        service in service(),
        workers in 1usize..=2,
        fallback in any::<bool>(),
        events in prop::collection::vec(event(), 1..80),
    ) {
        let mut world = if fallback { World::with_fallback(service, workers) } else { World::new(service, workers) };
        for number in 0..3 {
            world.happen(&Event::Add { backend: number, weight: 1 });
        }
        for event in &events {
            world.happen(event);
        }
        // In the end all flows are forgotten, and all counts of flows are 0.
        world.pass(3 * IDLE_MS);
        for OneWorker { counters, .. } in &world.workers {
            prop_assert_eq!(counters.exceptions.read(), 0);
            let counted = counters.targets.iter().take(64).map(|target| (target.active.read(), target.inactive.read()));
            prop_assert!(counted.into_iter().all(|flows| flows == (0, 0)));
            prop_assert_eq!(counters.exceptions_full.read(), 0);
        }
    }
}

/// A flow sends at the moment of a change, and then not before the last moment of its idle timeout.
#[test]
fn a_flow_may_be_silent_for_its_whole_idle_timeout() {
    let wanted =
        ServiceAdd { idle_timeout_s: Some(IDLE_S), ..ServiceAdd::new("192.168.0.101:80".parse().unwrap(), vec![]) };
    let mut world = World::new(wanted, 1);
    world.happen(&Event::Add { backend: 0, weight: 1 });
    (0..50).for_each(|_| world.happen(&Event::Open { packets: 2 }));
    world.happen(&Event::Add { backend: 1, weight: 1 });
    world.pass(IDLE_MS);
    world.happen(&Event::SpeakAll);
}

/// A backend is down for a while. What is silent meanwhile goes on there, and what begins stays where it began, whether the
/// new tables are there in time or not, and although another backend fails, too.
#[test]
fn a_short_outage_breaks_no_silent_flow_and_none_that_begins() {
    for (vip, tracking, scheduler) in [
        ("192.168.0.101:80", Tracking::Exceptions, Scheduler::Maglev),
        ("[fd00::101]:80", Tracking::Exceptions, Scheduler::Maglev),
        ("192.168.0.101:80", Tracking::All, Scheduler::Maglev),
        ("[fd00::101]:80", Tracking::All, Scheduler::Wlc),
        ("192.168.0.101:53/udp", Tracking::All, Scheduler::Wlc),
    ] {
        for (renews, others) in [(false, 0), (true, 0), (true, 2), (false, 4)] {
            let wanted = ServiceAdd {
                tracking: Some(tracking),
                scheduler,
                idle_timeout_s: Some(IDLE_S),
                ..ServiceAdd::new(vip.parse().unwrap(), vec![])
            };
            let mut world = World::new(wanted, 2);
            (0..3).for_each(|backend| world.happen(&Event::Add { backend, weight: 1 }));
            (0..60).for_each(|_| world.happen(&Event::Open { packets: 2 }));
            let at_first: Vec<_> = world.flows.iter().map(|flow| flow.home).collect();
            assert!((0..3).all(|backend| at_first.contains(&Some(backend))));
            let go_on = |world: &mut World| {
                if renews {
                    world.happen(&Event::Renew);
                }
                (0..60).for_each(|_| world.happen(&Event::Open { packets: 2 }));
                world.pass(60_000);
            };
            world.happen(&Event::Down { backends: 1 });
            go_on(&mut world);
            // Every second flow of the others goes on, and so does what has begun since.
            (0..world.flows.len())
                .filter(|&flow| flow % 2 == 0 && world.flows[flow].home != Some(0))
                .collect::<Vec<_>>()
                .into_iter()
                .for_each(|flow| world.speak(flow, Kind::Data));
            world.happen(&Event::Down { backends: 1 | others });
            go_on(&mut world);
            world.happen(&Event::Mend);
            let homes: Vec<_> = world.flows.iter().map(|flow| flow.home).collect();
            assert_eq!(homes[..60], at_first, "the oracle has forgotten none");
            assert!(homes.iter().all(|home| home.is_some()));
            world.happen(&Event::SpeakAll);
            assert_eq!(world.flows.iter().map(|flow| flow.home).collect::<Vec<_>>(), homes, "none was adopted");
            // It has new flows at once.
            let count = world.flows.len();
            (0..60).for_each(|_| world.happen(&Event::Open { packets: 1 }));
            assert!(world.flows[count..].iter().any(|flow| flow.home == Some(0)));
        }
    }
}

/// Who sends during the outage is answered with a RST by whoever gets that, and begins anew: there.
#[test]
fn a_connection_that_speaks_during_an_outage_leaves_nothing_behind_and_may_begin_anew() {
    for tracking in [Tracking::Exceptions, Tracking::All] {
        for vip in ["192.168.0.101:80", "[fd00::101]:80"] {
            let wanted = ServiceAdd { tracking: Some(tracking), ..ServiceAdd::new(vip.parse().unwrap(), vec![]) };
            let mut world = World::new(wanted, 1);
            (0..2).for_each(|backend| world.happen(&Event::Add { backend, weight: 1 }));
            (0..60).for_each(|_| world.happen(&Event::Open { packets: 2 }));
            let of_a: Vec<u16> = world.flows.iter().filter(|flow| flow.home == Some(0)).map(|flow| flow.port).collect();
            world.happen(&Event::Down { backends: 1 });
            world.happen(&Event::Renew);
            assert!(of_a.iter().all(|&port| world.send(port, Kind::Data) == Some(1)));
            let (again, not_again) = of_a.split_at(of_a.len() / 2);
            assert!(again.iter().all(|&port| world.send(port, Kind::Open) == Some(1)));
            world.happen(&Event::Mend);
            assert!(again.iter().all(|&port| world.send(port, Kind::Data) == Some(1)), "they began there");
            assert!(not_again.iter().all(|&port| world.send(port, Kind::Data) == Some(0)));
        }
    }
}

/// The fallback has new flows as long as no other backend takes any. Then, all that began there stay, and so do those that were
/// silent at the others.
#[test]
fn a_fallback_serves_only_when_all_others_are_out() {
    for vip in ["192.168.0.101:80", "[fd00::101]:80"] {
        for (renews, on_all_down) in [(true, OnAllDown::Drop), (false, OnAllDown::Drop), (true, OnAllDown::All)] {
            let wanted = ServiceAdd { on_all_down, ..ServiceAdd::new(vip.parse().unwrap(), vec![]) };
            let mut world = World::with_fallback(wanted, 2);
            (0..2).for_each(|backend| world.happen(&Event::Add { backend, weight: 1 }));
            // `open` asserts that only those that may have it get a new flow.
            (0..60).for_each(|_| world.happen(&Event::Open { packets: 2 }));
            let homes = |world: &World| world.flows.iter().map(|flow| flow.home).collect::<Vec<_>>();
            assert!(homes(&world).iter().all(|home| *home < Some(2)));
            let before = homes(&world);
            world.happen(&Event::Down { backends: 1 | 2 });
            if renews {
                world.happen(&Event::Renew);
            }
            (0..60).for_each(|_| world.happen(&Event::Open { packets: 2 }));
            assert_eq!(homes(&world)[60..], [Some(5); 60]);
            world.happen(&Event::Down { backends: 1 | 2 | 32 });
            world.happen(&Event::Renew);
            let got = world.send(9_999, Kind::Open);
            assert_eq!(got.is_some_and(|number| number < 2), on_all_down == OnAllDown::All, "{got:?}");
            world.happen(&Event::Mend);
            world.happen(&Event::SpeakAll);
            assert_eq!((&homes(&world)[..60], &homes(&world)[60..]), (&before[..], &[Some(5); 60][..]));
            (0..60).for_each(|_| world.happen(&Event::Open { packets: 2 }));
            assert!(homes(&world)[120..].iter().all(|home| *home < Some(2)));
            // One is drained and the other one disabled.
            world.happen(&Event::Drain { backend: 0, deadline_s: None });
            world.happen(&Event::Disable { backend: 1 });
            (0..60).for_each(|_| world.happen(&Event::Open { packets: 2 }));
            assert_eq!(homes(&world)[180..], [Some(5); 60]);
            world.happen(&Event::Enable { backend: 1 });
            world.happen(&Event::SpeakAll);
            world.happen(&Event::Disable { backend: 5 });
            (0..60).for_each(|_| world.happen(&Event::Open { packets: 2 }));
            assert_eq!(homes(&world)[240..], [Some(1); 60]);
        }
    }
}

/// By hand beats what the checks say: a disabled backend gets nothing, and what was silent goes on when it is enabled.
#[test]
fn a_disabled_backend_gets_nothing_until_it_is_enabled() {
    for vip in ["192.168.0.101:80", "[fd00::101]:80"] {
        for on_all_down in [OnAllDown::Drop, OnAllDown::All] {
            let wanted = ServiceAdd { on_all_down, ..ServiceAdd::new(vip.parse().unwrap(), vec![]) };
            let mut world = World::new(wanted, 2);
            (0..2).for_each(|backend| world.happen(&Event::Add { backend, weight: 1 }));
            (0..60).for_each(|_| world.happen(&Event::Open { packets: 2 }));
            let at_first: Vec<_> = world.flows.iter().map(|flow| flow.home).collect();
            world.happen(&Event::Drain { backend: 0, deadline_s: None });
            world.happen(&Event::SpeakAll);
            world.happen(&Event::Disable { backend: 0 });
            // Each of these asserts that nothing goes there. It answers all the time.
            (0..60).for_each(|_| world.happen(&Event::Open { packets: 2 }));
            let of_a = (0..60).find(|&flow| at_first[flow] == Some(0)).unwrap();
            assert_eq!(world.send(world.flows[of_a].port, Kind::Data), Some(1));
            world.pass(30_000);
            world.happen(&Event::Mend);
            assert_eq!(world.send(world.flows[of_a].port, Kind::Data), Some(1));
            world.happen(&Event::Down { backends: 2 });
            assert_eq!(world.send(9_999, Kind::Open), Some(1).filter(|_| on_all_down == OnAllDown::All));
            world.happen(&Event::Mend);
            world.happen(&Event::Enable { backend: 0 });
            let homes: Vec<_> = world.flows.iter().map(|flow| flow.home).collect();
            assert_eq!(homes[..60], at_first);
            world.happen(&Event::SpeakAll);
            (0..60).for_each(|_| world.happen(&Event::Open { packets: 1 }));
            assert!(world.flows[120..].iter().any(|flow| flow.home == Some(0)));
        }
    }
}

/// What is down for longer than the hand-over lasts comes back like any other backend.
#[test]
fn after_a_long_outage_the_slots_are_handed_over() {
    let wanted =
        ServiceAdd { handover_time_s: Some(60), ..ServiceAdd::new("192.168.0.101:80".parse().unwrap(), vec![]) };
    let mut world = World::new(wanted, 1);
    (0..2).for_each(|backend| world.happen(&Event::Add { backend, weight: 1 }));
    world.happen(&Event::Down { backends: 1 });
    world.happen(&Event::Renew);
    world.pass(62_000);
    let (many, mut homes) = (2_000..2_100, Vec::new());
    for port in many.clone() {
        homes.push((world.send(port, Kind::Open), world.send(port, Kind::Data)));
    }
    assert!(homes.iter().all(|home| *home == (Some(1), Some(1))));
    world.happen(&Event::Mend);
    assert!(many.clone().all(|port| world.send(port, Kind::Data) == Some(1)), "nobody remembered them, but none moves");
    assert!((3_000..3_100).any(|port| world.send(port, Kind::Open) == Some(0)));
}

/// The same after a change that hands over for less than that, where all flows are remembered.
#[test]
fn where_all_flows_are_known_a_short_hand_over_moves_none() {
    for vip in ["192.168.0.101:53/udp", "[fd00::101]:53/udp", "192.168.0.101:80", "[fd00::101]:80"] {
        let wanted = ServiceAdd {
            tracking: Some(Tracking::All),
            idle_timeout_s: Some(IDLE_S),
            handover_time_s: Some(1),
            ..ServiceAdd::new(vip.parse().unwrap(), vec![])
        };
        let mut world = World::new(wanted, 2);
        world.happen(&Event::Add { backend: 0, weight: 1 });
        (0..50).for_each(|_| world.happen(&Event::Open { packets: 2 }));
        world.happen(&Event::Add { backend: 1, weight: 1 });
        world.happen(&Event::Drain { backend: 0, deadline_s: None });
        // New flows go to the new backend from the first one on: `open` asserts it.
        world.pass(2_500);
        (0..50).for_each(|_| world.happen(&Event::Open { packets: 1 }));
        world.pass(IDLE_MS - 2_500);
        world.happen(&Event::SpeakAll);
    }
}
