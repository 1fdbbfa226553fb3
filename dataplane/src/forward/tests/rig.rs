//! A worker on one port, on queues and rings in memory.

use std::sync::Arc;

use ctl::Protocol;
use rtrb::{Consumer, Producer};

use crate::base::clock::Clock;
use crate::base::exit::{DropReason, Exit, PuntReason};
use crate::base::ids::WorkerNo;
use crate::base::packet::PacketIo;
use crate::control::compile::{Compiled, compile};
use crate::control::model::Model;
use crate::count::counters::WorkerCounters;
use crate::count::lease::Leases;
use crate::forward::class::Class;
use crate::forward::exceptions::{Exceptions, Room};
use crate::forward::fragment::Fragments;
use crate::forward::lending::{Lender, lending};
use crate::forward::limits::Limits;
use crate::forward::port::WorkerPort;
use crate::forward::rings::{Outgoing, Punt, Punted, Rings, punt_rings};
use crate::forward::sample::Sample;
use crate::forward::worker::{Memory, Worker};
use crate::state::networks::PortLink;
use crate::state::publication::Publisher;
use crate::testing::memory::{MemoryIo, MemoryPacket};
use crate::testing::model::{PORT, backend_mac, model, network, service};

pub(super) const ECHO_RATE: u32 = 100;

/// A worker on one port, with the other ends of its queues and rings.
pub(super) struct Rig {
    pub(super) worker: Worker<MemoryIo>,
    pub(super) wire: MemoryIo,
    pub(super) counters: Arc<WorkerCounters>,
    /// The snapshot that the worker started with, and its model.
    pub(super) current: Compiled,
    pub(super) publisher: Publisher,
    pub(super) punted: Punted<MemoryPacket>,
    pub(super) samples: Consumer<Sample>,
    pub(super) from_slow_path: Producer<Outgoing<MemoryPacket>>,
    /// Lends the worker its queue pair.
    pub(super) lender: Lender<MemoryIo>,
}

impl Rig {
    pub(super) fn new(model: Model) -> Self {
        // The backend at .9 has not answered.
        let resolve = |address: std::net::IpAddr| Some(backend_mac(address)).filter(|mac| mac.0[5] != 9);
        let current = compile(Arc::new(model), resolve, &[PORT], 1);
        let publisher = Publisher::new(current.snapshot.clone());
        let (wire, counters) = (MemoryIo::default(), Arc::new(WorkerCounters::new(1)));
        let (punts, punted) = punt_rings(|_| 4);
        let (from_slow_path, outgoing) = rtrb::RingBuffer::new(4);
        let (lender, borrower) = lending();
        let ports = vec![WorkerPort::new(wire.clone()).borrowing(borrower)];
        let (to_events, samples) = rtrb::RingBuffer::new(4);
        let rings = Rings { punts, outgoing, samples: to_events };
        let exceptions = Exceptions::new(Room { v4: 64, v6: 48 }, WorkerNo::new(0));
        let memory = Memory { fragments: Fragments::alone(), exceptions, limits: Limits::new(ECHO_RATE, 1) };
        // The clock stands still, so that a held frame stays held.
        let clock = Clock::stopped_at(0);
        let worker = Worker::new(ports, publisher.reader(), counters.clone(), rings, memory, clock);
        Rig { worker, wire, counters, current, publisher, punted, samples, from_slow_path, lender }
    }

    /// Services on a VIP of each family, among them one without backends and one whose backend has no MAC address.
    pub(super) fn example() -> Self {
        let mut model = model();
        let leases = Leases::new(vec![]);
        let mut dns = service("192.168.0.101:53", &[("192.168.0.5", 1)]);
        dns.service.protocol = Protocol::Udp;
        let sctp = |vip, backend| {
            let mut sigtran = service(vip, &[(backend, 1)]);
            sigtran.service.protocol = Protocol::Sctp;
            sigtran
        };
        for service in [
            service("192.168.0.101:80", &[("192.168.0.3", 1)]),
            service("192.168.0.101:81", &[]),
            service("192.168.0.101:82", &[("192.168.0.9", 1)]),
            service("192.168.0.101:83", &[("192.168.0.3", 0)]),
            service("[fd00::101]:80", &[("fd00::3", 1)]),
            dns,
            sctp("192.168.0.101:2905", "192.168.0.5"),
            sctp("[fd00::101]:2905", "fd00::5"),
        ] {
            model.add_service(&service, &leases).unwrap();
        }
        Rig::new(model)
    }

    /// Another worker of the same snapshot, on a port of another kind.
    pub(super) fn with_io<Io: PacketIo>(&self, io: Io, fragments: Fragments<Io::Packet>) -> Worker<Io> {
        let (outgoing, samples) = (rtrb::RingBuffer::new(4).1, rtrb::RingBuffer::new(4).0);
        let rings = Rings { punts: punt_rings(|_| 4).0, outgoing, samples };
        let exceptions = Exceptions::new(Room { v4: 64, v6: 48 }, WorkerNo::new(0));
        let memory = Memory { fragments, exceptions, limits: Limits::new(ECHO_RATE, 1) };
        let (ports, counters) = (vec![WorkerPort::new(io)], Arc::new(WorkerCounters::new(1)));
        Worker::new(ports, self.publisher.reader(), counters, rings, memory, Clock::stopped_at(0))
    }

    /// The next frame that the slow path was given.
    pub(super) fn punt(&mut self) -> Option<Punt<MemoryPacket>> {
        Class::ALL.iter().find_map(|&class| self.punted.pop(class))
    }

    pub(super) fn receive(&mut self, frames: impl IntoIterator<Item = Vec<u8>>) {
        self.wire.0.borrow_mut().rx.extend(frames.into_iter().map(MemoryPacket::from));
        while !self.wire.0.borrow().rx.is_empty() {
            self.worker.turn();
        }
    }

    pub(super) fn sent(&self) -> Vec<Vec<u8>> {
        self.wire.0.borrow_mut().tx.drain(..).map(|packet| packet.bytes).collect()
    }

    /// The fate of one frame: it was sent, or it left for exactly one reason that was counted.
    pub(super) fn fate(&mut self, frame: &[u8]) -> Result<Vec<u8>, Exit> {
        self.fate_of(frame.to_vec().into())
    }

    pub(super) fn fate_of(&mut self, packet: MemoryPacket) -> Result<Vec<u8>, Exit> {
        let before = self.reasons();
        self.wire.0.borrow_mut().rx.push_back(packet);
        self.worker.turn();
        if !self.worker.fragments.is_idle() {
            self.let_time_pass();
        }
        let counted: Vec<Exit> =
            self.reasons().into_iter().filter(|reason| !before.contains(reason)).map(|r| r.0).collect();
        let mut sent = self.sent();
        match (sent.pop(), &counted[..]) {
            (Some(frame), []) => Ok(frame),
            (None, [exit]) => Err(*exit),
            (sent, reasons) => panic!("sent {sent:?} and counted {reasons:?}"),
        }
    }

    /// Lets enough time pass that all held frames are given up.
    pub(super) fn let_time_pass(&mut self) {
        self.worker.set_clock(Clock::stopped_at(1_000));
        self.worker.turn();
        self.worker.set_clock(Clock::stopped_at(0));
    }

    pub(super) fn reasons(&self) -> Vec<(Exit, u64)> {
        let port = &self.counters.ports[0];
        let drops = DropReason::ALL.iter().map(|&r| (Exit::Drop(r), port.drops[r.index()].read()));
        drops.chain(PuntReason::ALL.iter().map(|&r| (Exit::Punt(r), port.punts[r.index()].read()))).collect()
    }
}

/// A port with an untagged network, VLAN 100, and VLAN 30 inside VLAN 200.
pub(super) fn with_vlans() -> Rig {
    let networks = vec![
        network("lan0", 0, "", &["192.168.0.2/24"]),
        network("lan0", 0, "100", &["10.1.0.2/24", "fd01::2/64"]),
        network("lan0", 0, "200.30", &["10.2.0.2/24"]),
    ];
    let mut model = Model::new([1; 16], 1_021, networks);
    for (vip, backend) in [
        ("192.168.0.101:80", "192.168.0.3"),
        ("192.168.0.101:81", "10.1.0.4"),
        ("192.168.0.101:82", "10.2.0.5"),
        ("10.1.0.101:80", "10.1.0.4"),
        ("[fd01::101]:80", "fd01::4"),
    ] {
        model.add_service(&service(vip, &[(backend, 1)]), &Leases::new(vec![])).unwrap();
    }
    Rig::new(model)
}

/// Publishes a snapshot in which the port is so.
pub(super) fn publish(rig: &mut Rig, generation: u64, link: PortLink) {
    let resolve = |address| Some(backend_mac(address)).filter(|mac| mac.0[5] != 9);
    rig.publisher.publish(compile(rig.current.model.clone(), resolve, &[link], generation).snapshot);
}
