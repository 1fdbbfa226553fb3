//! The cost per packet of each room of the fast path on its own. Criterion's `Throughput` is packets.
//!
//! In a burst, the rooms wait for memory together, so the whole (`turn.rs`, `flows.rs`) costs less than the sum of
//! these. `maglev.rs` measures the building of tables. How to read the figures: perf/README.md.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use ctl::{Scheduler, Tracking};
use dataplane::base::ids::{BackendNo, WorkerNo};
use dataplane::base::limits::DEFAULT_TABLE_SIZE;
use dataplane::control::compile::{Compiled, compile};
use dataplane::control::model::Model;
use dataplane::count::{counters::WorkerCounters, lease::Leases};
use dataplane::forward::exceptions::{Asked, Exceptions, Room};
use dataplane::forward::fragment::Fragments;
use dataplane::select::maglev;
use dataplane::state::vips::{LastService, Near};
use dataplane::testing::frame::eth;
use dataplane::testing::memory::MemoryPacket;
use dataplane::testing::model::{PORT, PORT_MAC, backend_mac, model, network, service};
use dataplane::wire::flow::{Flow, FlowHasher, Transport, TupleV4};
use dataplane::wire::headers::{Fragment, Segment};
use dataplane::wire::parse;
use dataplane::wire::plain::{plain_v4, plain_v6};

/// The flows of benches with few flows, whose data stays in the first-level cache.
const FEW: usize = 1_024;
/// The default size of the exception table, of which half is used.
const ROOM: Room = Room { v4: 1 << 20, v6: 1 << 18 };
const REMEMBERED: usize = 1 << 19;

/// A service on port 80 of each of this many VIPs, with 16 backends.
fn snapshot(services: u32, tracking: Tracking) -> Compiled {
    let mut model: Model = model();
    model.table_size = DEFAULT_TABLE_SIZE;
    let backends: Vec<String> = (10..26).map(|last| format!("192.168.0.{last}")).collect();
    let leases = Leases::new(vec![]);
    for number in 0..services {
        // No two services have the same weights, because they would share one table.
        let weights = [100 + number % 32, 100 + number / 32].into_iter().chain(std::iter::repeat(100));
        let backends: Vec<(&str, u32)> = backends.iter().map(String::as_str).zip(weights).collect();
        let vip = std::net::Ipv4Addr::from_bits(0xac10_0000 + number);
        let mut service = service(&format!("{vip}:80"), &backends);
        service.tracking = Some(tracking);
        model.add_service(&service, &leases).expect("a service");
    }
    compile(Arc::new(model), |address| Some(backend_mac(address)), &[PORT], 1)
}

/// Flow number `number`, to one of `vips` VIPs, in an order without locality.
fn tuple(number: usize, vips: u32) -> TupleV4 {
    let mixed = (number as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let [a, b, c, d, e, f, g, h] = mixed.to_be_bytes();
    let vip = u32::from_be_bytes([g, h, a, b]) % vips;
    let (source, destination) = (0x0a00_0000 | number as u64, 0xac10_0000 + u64::from(vip));
    let port = u16::from_be_bytes([c ^ e, d ^ f]);
    TupleV4 { addresses: source << 32 | destination, transport: u64::from(port) << 24 | 80 << 8 | 6 }
}

/// The same as a flow.
fn flow(number: usize, vips: u32) -> Flow {
    tuple(number, vips).into()
}

fn flow_v6(number: usize) -> Flow {
    let source = 0x2001_0db8 << 96 | number as u128;
    Flow::V6 { source, destination: 0xfd00 << 112 | 0x101, transport: Transport::new(40_000, 80, 6) }
}

/// Measures `room` on all inputs in turn.
fn each<T: Copy, R>(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, inputs: &[T], mut room: impl FnMut(T) -> R) {
    group.throughput(Throughput::Elements(FEW as u64));
    let mut rounds = inputs.chunks_exact(FEW).cycle();
    group.bench_function(name, |bencher| {
        bencher.iter(|| {
            for &input in rounds.next().expect("there is a round") {
                black_box(room(black_box(input)));
            }
        });
    });
}

fn parsing(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("parse");
    let v4 = eth().ipv4("10.0.0.1", "192.168.0.101").tcp(40_000, 80).data(&[0; 6]);
    let v6 = eth().ipv6("2001:db8::1", "fd00::101").tcp(40_000, 80).ack();
    let options = eth().ipv4("10.0.0.1", "192.168.0.101").options(&[1; 8]).tcp(40_000, 80).ack();
    let extension = eth().ipv6("2001:db8::1", "fd00::101").extension(60, &[0; 8]).tcp(40_000, 80).ack();
    let tagged = eth().tag(0x8100, 7).ipv4("10.0.0.1", "192.168.0.101").tcp(40_000, 80).ack();
    let ours = PORT_MAC.into();
    each(&mut group, "plain ipv4", &[v4.as_slice(); FEW], |frame| plain_v4(frame, frame.len(), ours));
    each(&mut group, "plain ipv6", &[v6.as_slice(); FEW], |frame| plain_v6(frame, frame.len(), ours));
    for (name, frame, tags) in [
        ("any, ipv4", v4, 0),
        ("any, ipv4 options", options, 0),
        ("any, ipv6 extension", extension, 0),
        ("any, tag", tagged, 4),
    ] {
        assert!(parse::headers(&frame, frame.len(), ours, tags).is_ok(), "{name}");
        each(&mut group, name, &[frame.as_slice(); FEW], |frame| parse::headers(frame, frame.len(), ours, tags));
    }
    group.finish();
}

fn services(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("service");
    for (name, vips) in [("of one", 1), ("of 1,000", 1_000)] {
        let snapshot = snapshot(vips, Tracking::Exceptions);
        let tuples: Vec<TupleV4> = (0..64 * FEW).map(|number| tuple(number, vips)).collect();
        each(&mut group, name, &tuples, |tuple| tuple.service(&snapshot.vips).expect("all have a service"));
    }
    let snapshot = snapshot(1_000, Tracking::Exceptions);
    let flows: Vec<Flow> = (0..64 * FEW).map(|number| flow(number, 1_000)).collect();
    let mut last = LastService::default();
    each(&mut group, "of 1,000, by the maps", &flows, |flow| snapshot.vips.service(&flow, &mut last));
    group.finish();
}

fn slots(criterion: &mut Criterion) {
    let hasher = FlowHasher::new(&[7; 16]);
    let mut group = criterion.benchmark_group("hash");
    let flows: Vec<Flow> = (0..FEW).map(|number| flow(number, 1)).collect();
    each(&mut group, "ipv4", &flows, |flow| hasher.hash(&flow));
    let flows: Vec<Flow> = (0..FEW).map(flow_v6).collect();
    each(&mut group, "ipv6", &flows, |flow| hasher.hash(&flow));
    group.finish();

    let mut group = criterion.benchmark_group("slot");
    for (name, vips) in [("one table", 1), ("1,000 tables", 1_000)] {
        let snapshot = snapshot(vips, Tracking::Exceptions);
        // In a burst, the service and the hash are known before.
        let mut last = LastService::default();
        let asked: Vec<(&[BackendNo], u64)> = (0..64 * FEW)
            .map(|number| flow(number, vips))
            .map(|flow| {
                let service = snapshot.service(&flow, &mut last).expect("all have a service");
                (&*service.table, snapshot.hasher.hash(&flow))
            })
            .collect();
        each(&mut group, name, &asked, |(table, hash)| table[maglev::slot(hash, table.len())]);
    }
    group.finish();
}

fn exceptions(criterion: &mut Criterion) {
    let snapshot = snapshot(1, Tracking::All);
    let counters = WorkerCounters::new(1);
    let mut last = LastService::default();
    let service = snapshot.service(&flow(0, 1), &mut last).expect("there is one");
    let mut table = Exceptions::new(ROOM, WorkerNo::new(0));
    table.advance(0, &snapshot, &counters);
    let ask = |table: &mut Exceptions, flow: Flow, segment| {
        let hash = snapshot.hasher.hash(&flow);
        let slot = service.slot(flow, hash, &snapshot.hasher);
        let asked = Asked { hash, segment, service, slot };
        table.resolve(flow, &asked, &snapshot, &counters)
    };
    let known: Vec<Flow> = (0..REMEMBERED).map(|number| flow(number, 1)).collect();
    let unknown: Vec<Flow> = (REMEMBERED..2 * REMEMBERED).map(|number| flow(number, 1)).collect();
    for segment in [Segment::Open, Segment::Data] {
        known.iter().for_each(|&flow| assert!(ask(&mut table, flow, segment).index() < 16));
    }
    let mut group = criterion.benchmark_group("exceptions");
    each(&mut group, "hit, few flows", &known[..FEW], |flow| ask(&mut table, flow, Segment::Data));
    each(&mut group, "hit, 524,288 flows", &known, |flow| ask(&mut table, flow, Segment::Data));
    // Such a packet proves nothing about its flow, and is not remembered.
    each(&mut group, "miss", &unknown, |flow| ask(&mut table, flow, Segment::Related));
    // New flows only. When a number occurs again, its flow has been swept out, because an entry of the previous round
    // has been on probation for too long.
    let (mut table, mut round) = (Exceptions::new(ROOM, WorkerNo::new(0)), 0);
    group.bench_function("insert", |bencher| {
        bencher.iter_custom(|rounds| {
            let mut taken = Duration::ZERO;
            for _ in 0..rounds {
                round += 1;
                table.advance(12_000 * round as u64, &snapshot, &counters);
                let first = round * FEW % (1 << 24);
                let flows: Vec<Flow> = (first..first + FEW).map(|number| flow(number, 1)).collect();
                let begin = Instant::now();
                for &flow in &flows {
                    black_box(ask(&mut table, black_box(flow), Segment::Open));
                }
                taken += begin.elapsed();
            }
            taken
        });
    });
    group.finish();
}

/// A new flow of a service whose scheduler decides flow by flow: a backend is chosen, and remembered.
fn schedules(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("new flow");
    group.throughput(Throughput::Elements(FEW as u64));
    for scheduler in [Scheduler::Wrr, Scheduler::Wlc, Scheduler::Lc] {
        for backends in [10, 1_000, 10_000] {
            let counters = Arc::new(WorkerCounters::new(1));
            let leases = Leases::new(vec![counters.clone()]);
            let mut model = Model::new([1; 16], 1_021, vec![network("lan0", 0, "", &["10.0.0.2/8"])]);
            let addresses: Vec<String> =
                (0..backends).map(|number| std::net::Ipv4Addr::from_bits(0x0a02_0000 + number).to_string()).collect();
            let backends: Vec<(&str, u32)> =
                addresses.iter().zip((1..=3).cycle()).map(|(address, weight)| (address.as_str(), weight)).collect();
            let mut service = service("172.16.0.0:80", &backends);
            service.scheduler = scheduler;
            model.add_service(&service, &leases).expect("a service");
            let snapshot = compile(Arc::new(model), |address| Some(backend_mac(address)), &[PORT], 1);
            let mut last = LastService::default();
            let service = snapshot.service(&flow(0, 1), &mut last).expect("there is one");
            let (mut table, mut round) = (Exceptions::new(ROOM, WorkerNo::new(0)), 0);
            group.bench_function(format!("{scheduler}, {} backends", addresses.len()), |bencher| {
                bencher.iter_custom(|rounds| {
                    let mut taken = Duration::ZERO;
                    for _ in 0..rounds {
                        // Flows that are as old as five rounds have been swept out.
                        round += 1;
                        (0..64).for_each(|part| {
                            table.advance(12_000 * round as u64 + 187 * part, &snapshot, &counters);
                        });
                        let first = round * FEW % (1 << 24);
                        let flows: Vec<Flow> = (first..first + FEW).map(|number| flow(number, 1)).collect();
                        let begin = Instant::now();
                        for &flow in &flows {
                            let hash = snapshot.hasher.hash(&flow);
                            let slot = service.slot(flow, hash, &snapshot.hasher);
                            let asked = Asked { hash, segment: Segment::Open, service, slot };
                            black_box(table.resolve(black_box(flow), &asked, &snapshot, &counters));
                        }
                        taken += begin.elapsed();
                    }
                    taken
                });
            });
        }
    }
    group.finish();
}

fn fragments(criterion: &mut Criterion) {
    let hasher = FlowHasher::new(&[7; 16]);
    let mut fragments = Fragments::<MemoryPacket>::alone();
    let of = |first| Fragment { identification: 7, first, extended: false, segment: Segment::Related };
    let flows: Vec<Flow> = (0..FEW).map(|number| flow(number, 1)).collect();
    let mut group = criterion.benchmark_group("fragment");
    each(&mut group, "first", &flows, |flow| fragments.verdict(&flow, of(true), &hasher, 0));
    each(&mut group, "later", &flows, |flow| fragments.verdict(&flow.with_ports(0), of(false), &hasher, 0));
    group.finish();
}

criterion_group!(benches, parsing, services, slots, exceptions, schedules, fragments);
criterion_main!(benches);
