//! Measures a worker beside a bare rewrite of MAC addresses. A generator inside the process makes the frames, for more
//! flows than a capture file can hold. `perf/bench` runs it, and says how to read the figures.
//!
//! There are two `net_null` ports on one thread, one for each program. A generator writes a frame of the next flow into
//! each received buffer. Three programs take turns of a few milliseconds: `bare` (addresses are rewritten, the
//! generator writes nothing), `mac` (the same with the generator), `worker` (that of the daemon, with its tables and
//! counters). The result is one line of JSON; messages go to stderr.
//!
//! With `--scaling`, only workers run: one on each core, each with its own device and tables. They share one snapshot
//! and one pool.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a bench prints its figures")]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::time::{Duration, SystemTime};

use anyhow::{Context, ensure};
use clap::{Parser, ValueEnum};
use ctl::CheckType;
use ctl::request::{BackendEdit, BackendSpec, CheckSpec, ServiceAdd};
use ctl::{Mac, ServiceId, Tracking};
use dataplane::base::ids::WorkerNo;
use dataplane::base::limits::DEFAULT_TABLE_SIZE;
use dataplane::base::packet::{Burst, Packet, PacketIo};
use dataplane::config::Hugepages;
use dataplane::control::director::Director;
use dataplane::control::model::{Model, ModelError};
use dataplane::count::{counters::WorkerCounters, lease::Leases};
use dataplane::daemon::memory;
use dataplane::dpdk::{
    Device, Eal, EalOptions, Generator, MAX_FLOWS, Memory as PacketMemory, Mempool, Port, PortSettings, QueuePair,
    ROOM, RegisteredThread, tsc, tsc_hz, version,
};
use dataplane::forward::exceptions::{Exceptions, Room};
use dataplane::forward::fragment::Fragments;
use dataplane::state::networks::PortLink;
use dataplane::testing::frame::eth;
use dataplane::testing::model::network;
use dataplane::{
    base::clock::Clock,
    forward::{
        limits::Limits,
        port::WorkerPort,
        rings::{Rings, punt_rings},
        worker::{Memory, Worker},
    },
};
use nix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};

/// The daemon's allocator.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// The time that a program runs before the next one's turn.
const SLICE: Duration = Duration::from_millis(50);
/// The turns between two readings of the clock.
const TURNS: usize = 64;
/// The default of the daemon's configuration.
const EXCEPTIONS: Room = Room { v4: 1 << 20, v6: 1 << 18 };
const MAC_OF_BACKEND: Mac = Mac([0x02, 0, 0, 1, 0, 0]);

/// Measures a worker with a generator's frames, beside a bare rewrite of MAC addresses.
#[derive(Parser)]
struct Arguments {
    /// The core to measure on.
    #[arg(long, value_delimiter = ',', default_value = "1")]
    core: Vec<usize>,
    /// Measure a worker on each core at the same time: prints "ready", and reads a line with the time to begin, in ns
    /// since the epoch.
    #[arg(long)]
    scaling: bool,
    /// Runs of each program.
    #[arg(long, default_value_t = 5)]
    pairs: usize,
    /// CPU time of a run.
    #[arg(long, default_value_t = 500)]
    milliseconds: u64,
    /// The number of flows. Several numbers are measured in turn.
    #[arg(long, value_delimiter = ',', default_value = "1000")]
    flows: Vec<u64>,
    /// The state of the service.
    #[arg(long, value_enum, default_value_t = State::Steady)]
    state: State,
    /// Every frame is a SYN. Without it, every frame belongs to an established connection.
    #[arg(long)]
    syn: bool,
    /// The number of services, each with its own VIP. The flows are spread over them.
    #[arg(long, default_value_t = 1)]
    services: u16,
    /// Backends of each service that take new flows.
    #[arg(long, default_value_t = 16)]
    backends: u16,
    /// IPv6 instead of IPv4.
    #[arg(long)]
    ipv6: bool,
    /// Packet memory.
    #[arg(long, value_enum, default_value_t = Pages::Auto)]
    hugepages: Pages,
    /// An argument that cargo gives to benches.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum State {
    /// No change, and no remembered flows.
    Steady,
    /// All slots have moved to other backends, and all flows are remembered.
    HandOver,
    /// tracking = "all".
    Tracking,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Pages {
    Auto,
    On,
    Off,
}

impl From<Pages> for Hugepages {
    fn from(pages: Pages) -> Hugepages {
        match pages {
            Pages::Auto => Hugepages::Auto,
            Pages::On => Hugepages::On,
            Pages::Off => Hugepages::Off,
        }
    }
}

impl Arguments {
    fn vip(&self, service: u16) -> IpAddr {
        if self.ipv6 {
            Ipv6Addr::from_bits(0xfd00_0000_0000_0000_0000_0064_0000_0001 + u128::from(service)).into()
        } else {
            Ipv4Addr::from_bits(0xc0a8_6401 + u32::from(service)).into()
        }
    }

    fn service(&self, number: u16) -> ServiceId {
        let vip = self.vip(number);
        let text = if self.ipv6 { format!("[{vip}]:80") } else { format!("{vip}:80") };
        text.parse().expect("VIP and port")
    }

    fn backend(&self, number: u16) -> IpAddr {
        if self.ipv6 {
            Ipv6Addr::from_bits(0xfd00_0000_0000_0000_0000_0000_0001_0000 + u128::from(number)).into()
        } else {
            Ipv4Addr::from_bits(0xc0a8_0101 + u32::from(number)).into()
        }
    }

    /// Twice the backends that are asked for, so that a hand-over has a second half to move to.
    fn all_backends(&self) -> u16 {
        if self.state == State::HandOver { 2 * self.backends } else { self.backends }
    }

    /// A service in which the first `backends` backends take new flows, and the others none.
    fn wanted(&self, service: u16) -> ServiceAdd {
        let backends = (0..self.all_backends()).map(|number| {
            let mut mac = MAC_OF_BACKEND;
            mac.0[4..].copy_from_slice(&number.to_be_bytes());
            // No two services have the same weights, because they would share one table.
            let weight = match number {
                number if number >= self.backends => 0,
                _ if self.services == 1 => 1,
                0 => 100 + u32::from(service % 32),
                1 => 100 + u32::from(service / 32),
                _ => 100,
            };
            BackendSpec { weight, mac: Some(mac), ..BackendSpec::new(self.backend(number)) }
        });
        let mut wanted = ServiceAdd::new(self.service(service), backends.collect());
        // Nobody answers here.
        wanted.checks = Some(vec![CheckSpec::new(CheckType::None)]);
        wanted.tracking = (self.state == State::Tracking).then_some(Tracking::All);
        wanted
    }

    /// A frame of the first flow, to a port. It has 64 bytes on the wire, with 4 bytes of checksum; an IPv6 frame is
    /// longer.
    fn frame(&self, port: &Port) -> Vec<u8> {
        let ethernet = eth().to(port.mac());
        let vip = self.vip(0).to_string();
        let ip = if self.ipv6 { ethernet.ipv6("2001:db8::", &vip) } else { ethernet.ipv4("10.0.0.0", &vip) };
        let tcp = ip.tcp(1_024, 80);
        let mut frame = if self.syn { tcp.syn() } else { tcp.ack() };
        frame.resize(frame.len().max(60), 0);
        frame
    }

    fn frame_len(&self) -> usize {
        if self.ipv6 { 74 } else { 60 }
    }
}

/// A program that is measured.
trait Program {
    /// Receives a burst from its port, and sends it.
    fn turn(&mut self);
    /// The frames that were received, and the frames that were sent.
    fn counted(&self) -> (u64, u64);
}

/// Sends all frames to one backend.
struct Rewrite {
    queue: QueuePair,
    macs: [u8; 12],
    received: u64,
    sent: u64,
}

impl Program for Rewrite {
    #[inline]
    fn turn(&mut self) {
        let mut burst = Burst::new();
        self.queue.rx_burst(&mut burst);
        let count = burst.len() as u64;
        burst.iter().for_each(Packet::prefetch);
        for packet in &mut burst {
            if let Some(macs) = packet.data_mut().first_chunk_mut() {
                *macs = self.macs;
            }
        }
        self.queue.tx_burst(&mut burst);
        self.received += count;
        self.sent += count - burst.len() as u64;
    }

    fn counted(&self) -> (u64, u64) {
        (self.received, self.sent)
    }
}

/// The worker of the daemon.
struct Forward {
    worker: Worker<QueuePair>,
    counters: Arc<WorkerCounters>,
}

impl Program for Forward {
    #[inline]
    fn turn(&mut self) {
        self.worker.turn();
    }

    fn counted(&self) -> (u64, u64) {
        let port = &self.counters.ports[0];
        (port.rx_packets.read(), port.forwarded.read())
    }
}

/// The cost of a program so far.
#[derive(Clone, Copy, Default)]
struct Cost {
    packets: u64,
    cpu: Duration,
    cycles: u64,
}

impl Cost {
    fn as_json(&self) -> Value {
        let cpu_ns = self.cpu.as_secs() * 1_000_000_000 + u64::from(self.cpu.subsec_nanos());
        json!({ "packets": self.packets, "cpu_ns": cpu_ns, "tsc_cycles": self.cycles })
    }
}

/// The CPU time of this thread.
fn cpu_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("each thread has a clock").into()
}

/// Runs a program for a while, and adds the cost.
fn go_on(program: &mut impl Program, slice: Duration, cost: &mut Cost) -> anyhow::Result<()> {
    let start = cpu_time();
    // A part of the time is not measured, because the caches still hold the data of the previous program.
    while cpu_time() - start < slice / 10 {
        (0..TURNS).for_each(|_| program.turn());
    }
    let ((received, sent), start, start_cycles) = (program.counted(), cpu_time(), tsc());
    while cpu_time() - start < slice {
        (0..TURNS).for_each(|_| program.turn());
    }
    cost.cycles += tsc() - start_cycles;
    cost.cpu += cpu_time() - start;
    let (received, sent) = (program.counted().0 - received, program.counted().1 - sent);
    ensure!(received > 0 && sent == received, "Of {received} frames, {sent} were sent");
    cost.packets += received;
    Ok(())
}

fn open(eal: &Arc<Eal>, pool: &Arc<Mempool>, index: usize, size: usize) -> anyhow::Result<(Port, QueuePair)> {
    let device = Device::Vdev(format!("net_null{index},size={size},copy=0"));
    let (port, mut queues) =
        Port::open(eal, pool, &PortSettings { index, device, queues: 1, vlan_strip: false, mtu: None })?;
    let queue = queues.pop().context("A port with one queue pair has one")?;
    Ok((port, queue))
}

fn director(arguments: &Arguments, port: &Port, workers: usize) -> anyhow::Result<Director> {
    let counters: Vec<Arc<WorkerCounters>> = (0..workers).map(|_| Arc::new(WorkerCounters::new(1))).collect();
    let leases = Leases::new(counters.clone());
    let networks = vec![network("lan0", 0, "", &["192.168.0.2/16", "fd00::2/64"])];
    let key = std::array::from_fn(|byte| u8::try_from(byte).unwrap_or_default());
    let mut model = Model::new(key, DEFAULT_TABLE_SIZE, networks);
    for service in 0..arguments.services {
        let added = model.add_service(&arguments.wanted(service), &leases);
        added.map_err(|errors| anyhow::anyhow!("{errors:?}"))?;
    }
    let links = vec![PortLink::new(port.mac(), port.mtu())];
    Ok(Director::new(model, leases, counters, links))
}

/// Swaps the weights of the two halves of the backends, so that every slot moves.
fn hand_over(arguments: &Arguments, director: &Director) -> Result<(), ModelError> {
    let edit = |model: &mut Model, service: u16, number: u16, weight: u32| {
        let edit = BackendEdit {
            service: arguments.service(service),
            address: arguments.backend(number),
            weight: Some(weight),
            mac: None,
        };
        model.edit_backend(&edit)
    };
    let change = |model: &mut Model, _: &Arc<Leases>| {
        for service in 0..arguments.services {
            (arguments.backends..arguments.all_backends()).try_for_each(|number| edit(model, service, number, 1))?;
            (0..arguments.backends).try_for_each(|number| edit(model, service, number, 0))?;
        }
        Ok(())
    };
    director.change(change).map(drop)
}

fn worker(queue: QueuePair, director: &Director, number: usize) -> Forward {
    let memory = Memory {
        fragments: Fragments::alone(),
        exceptions: Exceptions::new(EXCEPTIONS, WorkerNo::new(number)),
        limits: Limits::new(1_000, 1),
    };
    // The generator makes no frames for the slow path.
    let rings = Rings {
        punts: punt_rings(|_| 64).0,
        outgoing: rtrb::RingBuffer::new(64).1,
        samples: rtrb::RingBuffer::new(64).0,
    };
    let ports = vec![WorkerPort::new(queue)];
    let counters = director.workers()[number].clone();
    let worker = Worker::new(ports, director.reader(), counters.clone(), rings, memory, Clock::new(tsc_hz()));
    Forward { worker, counters }
}

/// Sends three packets of each flow, so that all flows that must be remembered are remembered and confirmed.
fn remember(forward: &mut Forward, flows: u64) -> anyhow::Result<()> {
    let enough = forward.counted().0 + 3 * flows;
    while forward.counted().0 < enough {
        forward.turn();
    }
    let remembered = forward.counters.exceptions.read();
    ensure!(
        remembered * 10 >= flows * 9,
        "Of {flows} flows, {remembered} are remembered only: there is room for {} IPv4, {} IPv6 flows",
        EXCEPTIONS.v4,
        EXCEPTIONS.v6
    );
    Ok(())
}

/// Starts EAL on the first core. Returns it, a pool for this many ports, and whether the pool is in hugepages.
fn start_dpdk(arguments: &Arguments, ports: usize) -> anyhow::Result<(Arc<Eal>, Arc<Mempool>, bool)> {
    let mbufs = memory::mbufs(ports, 1);
    let (memory, _) = memory::choose(arguments.hugepages.into(), mbufs, ROOM.into(), &[])?;
    let eal = Eal::init(&EalOptions {
        main_lcore: arguments.core[0],
        memory,
        file_prefix: format!("shunt-flows-{}", std::process::id()),
        pci: Vec::new(),
        extra: Vec::new(),
    })?;
    // The folder is empty, and EAL does not remove it.
    let _ = std::fs::remove_dir(eal.runtime_folder());
    let pool = Mempool::create(&eal, "flows", mbufs, ROOM, None)?;
    Ok((eal, pool, memory == PacketMemory::Huge))
}

/// The time at which workers begin, in ns since the epoch; 0: not known yet.
static START: AtomicU64 = AtomicU64::new(0);

fn now_ns() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// Runs a worker until some time after the measurement, while other workers still measure. Returns the cost.
fn go_on_until(forward: &mut Forward, ready: &Barrier, length: Duration) -> anyhow::Result<Cost> {
    let length = u64::try_from(length.as_nanos())?;
    let go_on_while = |forward: &mut Forward, condition: &dyn Fn() -> bool| {
        while condition() {
            (0..TURNS).for_each(|_| forward.turn());
        }
        (forward.counted(), cpu_time(), tsc())
    };
    forward.turn();
    ready.wait();
    let start = || START.load(Ordering::Relaxed);
    let ((received, sent), cpu, cycles) = go_on_while(forward, &|| start() == 0 || now_ns() < start());
    let end = start() + length;
    let ((later_received, later_sent), later_cpu, later_cycles) = go_on_while(forward, &|| now_ns() < end);
    go_on_while(forward, &|| now_ns() < end + length / 5);
    let packets = later_received - received;
    ensure!(packets > 0 && later_sent - sent == packets, "Not all of {packets} frames were sent");
    Ok(Cost { packets, cpu: later_cpu - cpu, cycles: later_cycles - cycles })
}

/// Prints that all workers are ready, and reads the time to begin.
fn wait_for_start(ready: &Barrier) -> anyhow::Result<()> {
    ready.wait();
    println!("ready");
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    // Without a time: now.
    START.store(line.trim().parse().unwrap_or_else(|_| now_ns()), Ordering::Relaxed);
    Ok(())
}

/// A worker on each core.
fn scale(arguments: &Arguments) -> anyhow::Result<Value> {
    let (eal, pool, hugepages) = start_dpdk(arguments, arguments.core.len())?;
    let opened = (0..arguments.core.len()).map(|index| open(&eal, &pool, index, arguments.frame_len()));
    let mut opened = opened.collect::<anyhow::Result<Vec<(Port, QueuePair)>>>()?;
    let director = &director(arguments, &opened[0].0, arguments.core.len())?;
    // The snapshot knows one port; to a worker, each device is this port, under its MAC address.
    let frame = &arguments.frame(&opened[0].0);
    let length = Duration::from_millis(arguments.milliseconds);
    let ready = &Barrier::new(arguments.core.len() + 1);
    let eal = &eal;
    let costs = std::thread::scope(|scope| {
        let threads = opened.drain(..).zip(&arguments.core).enumerate().map(|(number, ((_port, queue), &id))| {
            scope.spawn(move || {
                let set_up = || {
                    ensure!(core_affinity::set_for_current(core_affinity::CoreId { id }), "There is no core {id}");
                    let registered = RegisteredThread::register(eal)?;
                    let generator = Generator::install(&queue, frame, arguments.services)?;
                    generator.set_flows(arguments.flows[0]);
                    Ok(registered)
                };
                // A worker that cannot begin must not make the others wait for ever.
                let _registered = set_up().unwrap_or_else(|problem| {
                    eprintln!("The worker on core {id} cannot begin: {problem}");
                    std::process::exit(1)
                });
                go_on_until(&mut worker(queue, director, number), ready, length)
            })
        });
        let threads: Vec<_> = threads.collect();
        wait_for_start(ready)?;
        let joined = threads.into_iter().map(|thread| thread.join().expect("a worker does not panic"));
        joined.collect::<anyhow::Result<Vec<Cost>>>()
    })?;
    let runs = arguments.core.iter().zip(&costs).map(|(core, cost)| {
        let mut run = cost.as_json();
        run["core"] = json!(core);
        run
    });
    Ok(json!({ "tsc_hz": tsc_hz(), "hugepages": hugepages, "runs": runs.collect::<Vec<Value>>() }))
}

fn run(arguments: &Arguments) -> anyhow::Result<Value> {
    let most = arguments.flows.iter().copied().max().unwrap_or_default();
    ensure!(arguments.flows.iter().all(|&flows| (1..=MAX_FLOWS).contains(&flows)), "--flows is 1 to {MAX_FLOWS}");
    ensure!(arguments.services > 0 && arguments.backends > 0, "There must be services, and backends");
    if arguments.scaling {
        return scale(arguments);
    }
    let (eal, pool, hugepages) = start_dpdk(arguments, 2)?;
    let (mover_port, mover_queue) = open(&eal, &pool, 0, arguments.frame_len())?;
    let (worker_port, worker_queue) = open(&eal, &pool, 1, arguments.frame_len())?;
    let install = |queue, port: &Port| Generator::install(queue, &arguments.frame(port), arguments.services);
    let to_mover = install(&mover_queue, &mover_port)?;
    let to_worker = install(&worker_queue, &worker_port)?;

    let director = director(arguments, &worker_port, 1)?;
    let mut forward = worker(worker_queue, &director, 0);
    let mut macs = [0; 12];
    macs[..6].copy_from_slice(&MAC_OF_BACKEND.0);
    macs[6..].copy_from_slice(&mover_port.mac().0);
    let mut rewrite = Rewrite { queue: mover_queue, macs, received: 0, sent: 0 };

    to_worker.set_flows(most);
    if arguments.state == State::HandOver {
        hand_over(arguments, &director)?;
    }
    if arguments.state != State::Steady && !arguments.syn {
        remember(&mut forward, most)?;
    }
    let mut runs = Vec::new();
    let slices = u32::try_from(arguments.milliseconds)?.div_ceil(u32::try_from(SLICE.as_millis())?).max(1);
    let slice = Duration::from_millis(arguments.milliseconds) / slices;
    for pair in 0..arguments.pairs {
        let mut costs = vec![[Cost::default(); 3]; arguments.flows.len()];
        for _ in 0..slices {
            for (&flows, [bare, mac, worker]) in arguments.flows.iter().zip(&mut costs) {
                to_mover.set_flows(0);
                go_on(&mut rewrite, slice, bare)?;
                to_mover.set_flows(flows);
                go_on(&mut rewrite, slice, mac)?;
                to_worker.set_flows(flows);
                go_on(&mut forward, slice, worker)?;
            }
        }
        for (&flows, costs) in arguments.flows.iter().zip(&costs) {
            for (program, cost) in ["bare", "mac", "worker"].iter().zip(costs) {
                let mut run = cost.as_json();
                run["pair"] = json!(pair);
                run["flows"] = json!(flows);
                run["program"] = json!(program);
                runs.push(run);
            }
        }
    }
    Ok(json!({
        "dpdk": version(),
        "tsc_hz": tsc_hz(),
        "hugepages": hugepages,
        "frame_bytes": arguments.frame_len() + 4,
        "state": format!("{:?}", arguments.state),
        "room_for_flows": { "ipv4": EXCEPTIONS.v4, "ipv6": EXCEPTIONS.v6 },
        "remembered_flows": forward.counters.exceptions.read(),
        "unremembered_packets": forward.counters.exceptions_full.read(),
        "runs": runs,
    }))
}

fn main() -> anyhow::Result<()> {
    println!("{}", run(&Arguments::parse())?);
    Ok(())
}
