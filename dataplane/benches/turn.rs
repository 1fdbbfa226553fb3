//! A worker's whole turn, without a device: 32 frames in memory are received and sent.
//!
//! This measures all that a worker adds to a driver's receiving and sending. How to read the figures: perf/README.md.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use dataplane::base::ids::WorkerNo;
use dataplane::base::limits;
use dataplane::base::packet::{BURST, Burst, Packet, PacketIo};
use dataplane::control::compile::compile;
use dataplane::control::model::Model;
use dataplane::count::{counters::WorkerCounters, lease::Leases};
use dataplane::forward::exceptions::{Exceptions, Room};
use dataplane::forward::fragment::Fragments;
use dataplane::state::publication::Publisher;
use dataplane::testing::frame::eth;
use dataplane::testing::model::{PORT, PORT_MAC, backend_mac, model, service};
use dataplane::{
    base::clock::Clock,
    forward::{
        limits::Limits,
        port::WorkerPort,
        rings::{Rings, punt_rings},
        worker::{Memory, Worker},
    },
};

/// A frame that is borrowed from the queue, like an mbuf from its pool.
struct Slot(&'static mut [u8]);

impl Packet for Slot {
    #[inline(always)]
    fn data(&self) -> &[u8] {
        self.0
    }

    #[inline(always)]
    fn data_mut(&mut self) -> &mut [u8] {
        self.0
    }

    #[inline(always)]
    fn wire_len(&self) -> usize {
        self.0.len()
    }

    #[inline(always)]
    fn bad_ip_checksum(&self) -> bool {
        false
    }

    #[inline(always)]
    fn has_stripped_tags(&self) -> bool {
        false
    }

    fn stripped_tags(&self) -> [Option<u16>; 2] {
        [None; 2]
    }

    fn forget_stripped_tags(&mut self) {}

    fn grow_front(&mut self, _bytes: usize) -> bool {
        false
    }

    fn shrink_front(&mut self, _bytes: usize) {}

    #[inline(always)]
    fn prefetch(&self) {}
}

/// A queue pair that receives the same frames again and again.
#[derive(Default)]
struct Circle {
    waiting: Vec<Slot>,
    sent: Vec<Slot>,
}

impl PacketIo for Circle {
    type Packet = Slot;

    fn rx_burst(&mut self, burst: &mut Burst<Slot>) {
        if self.waiting.is_empty() {
            std::mem::swap(&mut self.waiting, &mut self.sent);
        }
        for _ in 0..BURST.min(self.waiting.len()) {
            if let Some(slot) = self.waiting.pop() {
                burst.push(slot);
            }
        }
    }

    fn tx_burst(&mut self, burst: &mut Burst<Slot>) {
        for slot in burst.drain(..) {
            // The header is restored: from the client, to us.
            slot.0[..6].copy_from_slice(&PORT_MAC.0);
            slot.0[6..12].copy_from_slice(&[2, 0, 0, 0, 0, 0xcc]);
            self.sent.push(slot);
        }
    }
}

fn worker(model: Model, frames: Vec<Vec<u8>>) -> (Worker<Circle>, Publisher) {
    let counters = Arc::new(WorkerCounters::new(1));
    let publisher = Publisher::new(compile(Arc::new(model), |address| Some(backend_mac(address)), &[PORT], 1).snapshot);
    let io = Circle { waiting: frames.into_iter().map(|frame| Slot(frame.leak())).collect(), sent: Vec::new() };
    let rings = Rings {
        punts: punt_rings(|_| 64).0,
        outgoing: rtrb::RingBuffer::new(64).1,
        samples: rtrb::RingBuffer::new(64).0,
    };
    let exceptions = Exceptions::new(Room { v4: 1 << 21, v6: 1 << 19 }, WorkerNo::new(0));
    let memory = Memory { fragments: Fragments::alone(), exceptions, limits: Limits::new(1_000, 1) };
    let ports = vec![WorkerPort::new(io)];
    let worker = Worker::new(ports, publisher.reader(), counters, rings, memory, Clock::stopped_at(0));
    (worker, publisher)
}

fn sixteen_backends() -> Model {
    let mut model = model();
    model.table_size = limits::DEFAULT_TABLE_SIZE;
    let backends: Vec<String> = (10..26).map(|last| format!("192.168.0.{last}")).collect();
    let backends: Vec<(&str, u32)> = backends.iter().map(|address| (address.as_str(), 1)).collect();
    let leases = Leases::new(vec![]);
    model.add_service(&service("192.168.0.101:80", &backends), &leases).expect("a service");
    let backends: Vec<String> = (0x10..0x20).map(|last| format!("fd00::{last:x}")).collect();
    let backends: Vec<(&str, u32)> = backends.iter().map(|address| (address.as_str(), 1)).collect();
    model.add_service(&service("[fd00::101]:80", &backends), &leases).expect("a service");
    model
}

fn frames_v4(flows: u16) -> Vec<Vec<u8>> {
    (0..flows).map(|port| eth().ipv4("10.0.0.1", "192.168.0.101").tcp(1_024 + port, 80).data(&[0; 6])).collect()
}

fn frames_v6(flows: u16) -> Vec<Vec<u8>> {
    (0..flows).map(|port| eth().ipv6("2001:db8::1", "fd00::101").tcp(1_024 + port, 80).ack()).collect()
}

fn turns(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("turn");
    group.throughput(Throughput::Elements(BURST as u64));
    for (name, frames) in [("ipv4 tcp, 1024 flows", frames_v4(1_024)), ("ipv6 tcp, 1024 flows", frames_v6(1_024))] {
        let (mut worker, _publisher) = worker(sixteen_backends(), frames);
        group.bench_function(name, |bencher| bencher.iter(|| black_box(&mut worker).turn()));
        // A cycle of looking at handshakes begins, and does not end, since the clock stands still. There is one before it, also where
        // only this is run.
        worker.turn();
        worker.set_clock(Clock::stopped_at(10_000));
        let name = format!("looking at handshakes, {name}");
        group.bench_function(name, |bencher| bencher.iter(|| black_box(&mut worker).turn()));
    }
    group.finish();
}

criterion_group!(benches, turns);
criterion_main!(benches);
