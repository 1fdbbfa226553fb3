//! The daemon: ports, workers, slow path, control socket; then waits for the end, and takes all down again.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::api::server::Server;
use crate::api::{Facts, PortFacts, PortLive};
use crate::base::ids::{PortNo, WorkerNo};
use crate::base::token_bucket::TokenBucket;
use crate::config::Config;
use crate::control::director::Director;
use crate::control::events::{EventLog, Kind};
use crate::count::recent::Recent;
use crate::count::{counters::WorkerCounters, lease::Leases};
use crate::daemon::memory;
use crate::dpdk::{
    Device, Eal, EalOptions, Mbuf, Memory as PacketMemory, Mempool, Port, PortSettings, QueuePair, ROOM,
    RegisteredThread, tsc_hz,
};
use crate::forward::exceptions::Exceptions;
use crate::forward::fragment;
use crate::forward::sample::SAMPLES;
use crate::metrics;
use crate::slow::neighbor::Neighbors;
use crate::slow::report::Reporter;
use crate::slow::{PortControl, SlowPath};
use crate::state::networks::PortLink;
use crate::{
    base::clock::Clock,
    forward::{
        port::WorkerPort,
        rings::Rings,
        worker::{Memory, Worker},
    },
};
use anyhow::{Context, bail};
use ctl::Mac;
use ctl::answer::{PacketBuffers, Subject};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tracing::{error, info, warn};

/// Frames that a ring between a worker and the slow path holds.
const RING: usize = 4_096;
/// How long the slow path rests when it has nothing to do.
const SLOW_PATH_REST: Duration = Duration::from_micros(500);
/// Senders that are told, in a second, that their packets are too big.
const TOO_BIG_RATE: u32 = 100;
/// The most room of a packet buffer: its length, headroom included, has 16 bits.
const MOST_ROOM: u16 = u16::MAX - 256;
/// How often the main thread looks for signals and at its workers.
const TICK: Duration = Duration::from_millis(50);

/// Runs until SIGTERM or SIGINT.
pub fn run(config_file: &Path, config: &Config) -> anyhow::Result<()> {
    for warning in &config.warnings {
        warn!("{warning}");
    }
    let started = Instant::now();
    if config.director.metrics.is_some() {
        metrics::install();
    }
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP]).context("Signals cannot be taken")?;
    let server = Server::bind(&config.director.socket, config.director.socket_group.as_deref())?;
    let allowed = check_cores(config)?;

    for port in &config.ports {
        port.device.check().with_context(|| format!("Port {} does not open", port.name))?;
    }
    let mtus = interface_mtus(config)?;
    let lcores = &config.director.workers;
    let counters: Vec<Arc<WorkerCounters>> =
        lcores.iter().map(|_| Arc::new(WorkerCounters::new(config.ports.len()))).collect();
    let leases = Leases::new(counters.clone());
    // Before DPDK pins this thread: tables are built on all cores.
    let begin = Instant::now();
    let model = config.full_model(&leases).map_err(|errors| anyhow::anyhow!("{errors:?}"))?;
    info!("tables of {} are built, in {} ms", services(model.services.len()), begin.elapsed().as_millis());
    let (eal, mempool, hugepages) = start_dpdk(config, &mtus)?;
    let _folder = RuntimeFolder(eal.runtime_folder());
    let (ports, queues) = open_ports(config, &mtus, &eal, &mempool)?;

    let links = ports.iter().map(|port| PortLink { mac: port.mac(), mtu: port.mtu() }).collect();
    let director = Arc::new(Director::new(model, leases, counters, links));
    let neighbors = Arc::new(Mutex::new(Neighbors::default()));

    let stop = Arc::new(AtomicBool::new(false));
    let mut threads =
        Threads { stop: stop.clone(), workers: Vec::new(), slow_path: None, tables: None, director: director.clone() };
    let (mut punts, mut outgoing, mut samples) = (Vec::new(), Vec::new(), Vec::new());
    let events = Arc::new(EventLog::default());
    let fragments = fragment::mesh(lcores.len());
    let mut room_for_flows = 0;
    for (worker, (queues, fragments)) in queues.into_iter().zip(fragments).enumerate() {
        let (to_slow_path, from_worker) = rtrb::RingBuffer::new(RING);
        let (to_worker, from_slow_path) = rtrb::RingBuffer::new(RING);
        let (to_events, of_worker) = rtrb::RingBuffer::new(SAMPLES);
        punts.push(from_worker);
        samples.push(of_worker);
        outgoing.push(to_worker);
        let worker_ports = queues.into_iter().zip(&*ports).map(|(queue, port)| WorkerPort::new(queue, port.mac()));
        let state = WorkerParts {
            id: worker,
            lcore: lcores[worker],
            ports: worker_ports.collect(),
            director: director.clone(),
            rings: Rings { punts: to_slow_path, outgoing: from_slow_path, samples: to_events },
            memory: Memory {
                fragments,
                exceptions: Exceptions::new(config.director.room, WorkerNo::new(worker)),
                echo: TokenBucket::new(config.director.echo_rate, lcores.len()),
                too_big: TokenBucket::new(TOO_BIG_RATE, lcores.len()),
            },
        };
        room_for_flows = state.memory.exceptions.room();
        threads.workers.push(start_worker(state, eal.clone(), stop.clone())?);
    }
    events.write(Kind::Started, Subject::default(), Instant::now(), || in_short(config));
    // One worker's queues are enough for what the slow path sends.
    let outgoing = outgoing.swap_remove(0);
    let control = Box::new(OpenPortControl(ports.clone()));
    let reporter = Reporter::new(events.clone(), samples);
    let packet_buffers = packet_buffers(&mempool);
    let slow_path = SlowPath::new(director.clone(), neighbors.clone(), mempool, punts, outgoing, control, reporter);
    threads.slow_path = Some(start_slow_path(slow_path, config.director.slow_path_poll, stop.clone())?);

    keep_off_workers(&allowed, lcores);
    threads.tables = Some(start_tables(director.clone(), stop)?);
    let recent_latency = Arc::new(Recent::new(director.workers(), started));
    let facts = Facts {
        director: director.clone(),
        neighbors,
        events,
        recent_latency: recent_latency.clone(),
        ports: (0..ports.len()).map(|number| port_facts(&config.ports[number].name, &ports, number)).collect(),
        lcores: lcores.clone(),
        started,
        config_file: config_file.display().to_string(),
        dpdk: crate::dpdk::version(),
        hugepages,
        packet_buffers,
        room_for_flows,
    };
    let facts = Arc::new(facts);
    if let Some(address) = config.director.metrics {
        metrics::serve_metrics(address, facts.clone()).context("The thread of the metrics cannot be started")?;
    }
    let socket = server.run(facts).context("The control socket's thread cannot be started")?;
    info!(socket = %config.director.socket.display(), "the control socket is served");
    let outcome = wait(&mut signals, &threads, &recent_latency);
    drop(socket);
    threads.end();
    info!("stopped");
    outcome
}

/// What the daemon does, for its first event.
fn in_short(config: &Config) -> String {
    let Config { director, ports, services, .. } = config;
    let (version, services, ports) = (env!("CARGO_PKG_VERSION"), services.len(), ports.len());
    let (workers, slow_path) = (&director.workers, director.slow_path);
    let what = format!("services: {services}, ports: {ports}");
    format!("shuntd {version} forwards on cores {workers:?}, slow path on core {slow_path}; {what}")
}

/// The ports as the slow path controls them.
struct OpenPortControl(Arc<[Port]>);

impl PortControl for OpenPortControl {
    fn links(&mut self) -> Vec<bool> {
        self.0.iter().map(|port| port.link().up).collect()
    }

    fn listen(&mut self, port: PortNo, groups: &[Mac]) {
        let port = &self.0[port.index()];
        if let Err(problem) = port.listen(groups) {
            warn!("{}: takes no multicast ({problem}): neighbor discovery for IPv6 addresses may fail", port.device());
        }
    }
}

/// Each named core must be one that this process may use. Returns those that it may.
fn check_cores(config: &Config) -> anyhow::Result<CpuSet> {
    let allowed = sched_getaffinity(Pid::from_raw(0)).context("This process's cores cannot be asked for")?;
    for core in config.director.workers.iter().chain([&config.director.slow_path]) {
        if !allowed.is_set(*core).unwrap_or(false) {
            let usable = (0..CpuSet::count()).filter(|&core| allowed.is_set(core).unwrap_or(false));
            let usable: Vec<String> = usable.map(|core| core.to_string()).collect();
            bail!("Core {core} is not one that this process may use: it may use {}", usable.join(", "));
        }
    }
    Ok(allowed)
}

/// What the ports' MTUs are to be: configured or, of Linux interfaces, those that they have. `None`: the device's own.
fn interface_mtus(config: &Config) -> anyhow::Result<Vec<Option<u16>>> {
    let ports = config.ports.iter();
    let mtus = ports.map(|port| Ok(port.device.interface_mtu(port.mtu)?.or(port.mtu)));
    mtus.collect()
}

/// The room of a packet buffer, so that frames fit in that cannot be spread over several.
fn buffer_room(config: &Config, mtus: &[Option<u16>]) -> u16 {
    let needs = config.ports.iter().zip(mtus).map(|(port, mtu)| mtu.map_or(0, |mtu| port.device.buffer(mtu)));
    u16::try_from(needs.max().unwrap_or(0)).unwrap_or(MOST_ROOM).clamp(ROOM, MOST_ROOM)
}

fn start_dpdk(config: &Config, mtus: &[Option<u16>]) -> anyhow::Result<(Arc<Eal>, Arc<Mempool>, bool)> {
    let director = &config.director;
    let mbufs = director.mbufs.unwrap_or_else(|| memory::mbufs(config.ports.len(), director.workers.len()));
    let room = buffer_room(config, mtus);
    let memory = memory::choose(director.hugepages, mbufs, room)?;
    match memory {
        PacketMemory::Huge => info!("packet memory: hugepages, {mbufs} buffers"),
        PacketMemory::Plain { mib } => {
            info!("packet memory: {mib} MiB of plain pages, {mbufs} buffers; hugepages are faster")
        }
    }
    let pci = config.ports.iter().filter_map(|port| match &port.device {
        Device::Pci(address) => Some(address.clone()),
        _ => None,
    });
    let options = EalOptions {
        main_lcore: director.slow_path,
        memory,
        file_prefix: file_prefix(&director.socket),
        pci: pci.collect(),
        extra: director.eal_args.clone(),
    };
    let eal = Eal::init(&options)?;
    let mempool = Mempool::create(&eal, "shunt", mbufs, room, None)?;
    Ok((eal, mempool, memory == PacketMemory::Huge))
}

/// As no two daemons have one socket, no two have one prefix; and after a kill -9, the next one finds the same.
fn file_prefix(socket: &Path) -> String {
    let legal = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    let path: String = socket.display().to_string().chars().map(legal).collect();
    // EAL bounds the length of its paths.
    let tail = path.len().saturating_sub(40);
    format!("shunt{}", &path[tail..])
}

/// The open ports, and each worker's queue pairs, one of each port.
type OpenPorts = (Arc<[Port]>, Vec<Vec<QueuePair>>);

fn open_ports(
    config: &Config,
    mtus: &[Option<u16>],
    eal: &Arc<Eal>,
    mempool: &Arc<Mempool>,
) -> anyhow::Result<OpenPorts> {
    let workers = config.director.workers.len();
    let mut by_worker: Vec<Vec<QueuePair>> = (0..workers).map(|_| Vec::new()).collect();
    let mut ports = Vec::new();
    for (index, configured) in config.ports.iter().enumerate() {
        let queues = u16::try_from(workers).context("There are more workers than a NIC can have queues")?;
        let settings = PortSettings {
            index,
            device: configured.device.clone(),
            queues,
            vlan_strip: configured.vlan_strip,
            mtu: mtus[index],
        };
        warn_of_kernel_addresses(&configured.device);
        let (port, pairs) =
            Port::open(eal, mempool, &settings).with_context(|| format!("Port {} does not open", configured.name))?;
        info!(
            device = %configured.device,
            driver = port.driver(),
            mac = %port.mac(),
            mtu = port.mtu(),
            queues,
            "port {} is open",
            configured.name
        );
        for (worker, pair) in by_worker.iter_mut().zip(pairs) {
            worker.push(pair);
        }
        ports.push(port);
    }
    Ok((ports.into(), by_worker))
}

/// With an address of its own there, the kernel takes part in what is the director's alone: it answers ARP, and
/// refuses connections.
fn warn_of_kernel_addresses(device: &Device) {
    let Device::Interface { name, .. } = device else { return };
    let interfaces = nix::ifaddrs::getifaddrs().into_iter().flatten();
    for storage in interfaces.filter(|interface| interface.interface_name == *name).filter_map(|i| i.address) {
        let v4 = storage.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
        let v6 = storage.as_sockaddr_in6().map(|address| address.ip()).filter(|ip| !ip.is_unicast_link_local());
        if let Some(address) = v4.or(v6.map(IpAddr::V6)) {
            warn!("{name} has the address {address} in the kernel, too: remove it (ip address flush dev {name})");
        }
    }
}

/// EAL's folder, which it does not remove by itself. If there is something in it, it stays.
struct RuntimeFolder(PathBuf);

impl Drop for RuntimeFolder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.0);
    }
}

/// What a worker's thread is started with.
struct WorkerParts {
    id: usize,
    lcore: usize,
    ports: Vec<WorkerPort<QueuePair>>,
    director: Arc<Director>,
    rings: Rings<Mbuf>,
    memory: Memory<Mbuf>,
}

/// Starts a worker and waits until it polls, or cannot.
fn start_worker(parts: WorkerParts, eal: Arc<Eal>, stop: Arc<AtomicBool>) -> anyhow::Result<JoinHandle<()>> {
    let (id, lcore) = (parts.id, parts.lcore);
    let (ready, started) = std::sync::mpsc::channel();
    let body = move || {
        let WorkerParts { id, lcore, ports, director, rings, memory } = parts;
        if !core_affinity::set_for_current(core_affinity::CoreId { id: lcore }) {
            return drop(ready.send(Err(format!("it cannot be pinned to core {lcore}"))));
        }
        let _registered = match RegisteredThread::register(&eal) {
            Ok(registered) => registered,
            Err(problem) => return drop(ready.send(Err(format!("EAL does not register it: {problem}")))),
        };
        let counters = director.workers()[id].clone();
        let clock = Clock::new(tsc_hz());
        let mut worker = Worker::new(ports, director.reader(), counters, rings, memory, clock);
        let _ = ready.send(Ok(()));
        while !stop.load(Ordering::Relaxed) {
            worker.turn();
        }
    };
    let thread = std::thread::Builder::new().name(format!("shunt-worker{id}")).spawn(body);
    let thread = thread.with_context(|| format!("Worker {id} cannot be started"))?;
    match started.recv() {
        Ok(Ok(())) => Ok(thread),
        Ok(Err(problem)) => bail!("Worker {id} cannot be started: {problem}"),
        Err(_) => bail!("Worker {id} on core {lcore} ended before it began"),
    }
}

/// Starts the slow path on the core of the calling thread, which EAL has pinned to it.
fn start_slow_path(
    mut slow_path: SlowPath<Arc<Mempool>>,
    poll: bool,
    stop: Arc<AtomicBool>,
) -> anyhow::Result<JoinHandle<()>> {
    let body = move || {
        while !stop.load(Ordering::Relaxed) {
            let busy = slow_path.turn(Instant::now());
            if !busy && !poll {
                std::thread::sleep(SLOW_PATH_REST);
            }
        }
    };
    std::thread::Builder::new().name("shunt-slow".into()).spawn(body).context("The slow path cannot be started")
}

fn services(count: usize) -> String {
    if count == 1 { "1 service".into() } else { format!("{count} services") }
}

/// Starts the thread that builds tables when the network changes, on the cores of the calling thread.
fn start_tables(director: Arc<Director>, stop: Arc<AtomicBool>) -> anyhow::Result<JoinHandle<()>> {
    let body = move || director.keep_up(&stop);
    std::thread::Builder::new().name("shunt-tables".into()).spawn(body).context("The tables' thread cannot be started")
}

/// Lets this thread, and those that it will start, use all cores but the workers'.
fn keep_off_workers(allowed: &CpuSet, workers: &[usize]) {
    let mut cores = *allowed;
    for &core in workers {
        let _ = cores.unset(core);
    }
    let any = (0..CpuSet::count()).any(|core| cores.is_set(core).unwrap_or(false));
    // Where the workers have all cores, the control threads share the slow path's.
    if any && let Err(problem) = sched_setaffinity(Pid::from_raw(0), &cores) {
        warn!("the control threads stay on the slow path's core: {problem}");
    }
}

/// As with ports: the API's threads must not be what keeps the memory.
fn packet_buffers(mempool: &Arc<Mempool>) -> Box<dyn Fn() -> PacketBuffers + Send + Sync> {
    let weak = Arc::downgrade(mempool);
    Box::new(move || {
        let of = |pool: Arc<Mempool>| PacketBuffers { in_use: pool.in_use(), total: pool.size() };
        weak.upgrade().map(of).unwrap_or_default()
    })
}

/// The API's threads end with the process, so they must not be what keeps a port open.
fn port_facts(name: &str, ports: &Arc<[Port]>, number: usize) -> PortFacts {
    let (port, weak) = (&ports[number], Arc::downgrade(ports));
    let live = move || {
        let Some(ports) = weak.upgrade() else { return PortLive::default() };
        let (link, stats) = (ports[number].link(), ports[number].stats());
        PortLive {
            link_up: link.up,
            speed_mbps: link.speed_mbps,
            rx_missed: stats.rx_missed,
            rx_errors: stats.rx_errors,
            rx_no_mbuf: stats.rx_no_mbuf,
        }
    };
    PortFacts {
        name: name.into(),
        device: port.device().to_string(),
        driver: port.driver().into(),
        mac: port.mac(),
        mtu: port.mtu(),
        queues: port.queues(),
        live: Box::new(live),
    }
}

/// The threads that hold DPDK's queues and buffers, which must be gone before DPDK is; and the one that builds tables.
struct Threads {
    stop: Arc<AtomicBool>,
    workers: Vec<JoinHandle<()>>,
    slow_path: Option<JoinHandle<()>>,
    tables: Option<JoinHandle<()>>,
    director: Arc<Director>,
}

impl Threads {
    /// Whether one of them has ended by itself, which it never should.
    fn lost(&self) -> bool {
        self.workers.iter().chain(&self.slow_path).chain(&self.tables).any(JoinHandle::is_finished)
    }

    fn end(mut self) {
        self.join();
    }

    fn join(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.director.wake();
        for thread in self.workers.drain(..).chain(self.slow_path.take()).chain(self.tables.take()) {
            if thread.join().is_err() {
                error!("a thread ended in a panic");
            }
        }
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.join();
    }
}

/// Returns when the daemon is to end. Until then, it keeps count of the time for what is recent.
fn wait(signals: &mut Signals, threads: &Threads, recent_latency: &Recent) -> anyhow::Result<()> {
    loop {
        for signal in signals.pending() {
            match signal {
                SIGHUP => warn!("SIGHUP: this release re-reads nothing; use shuntctl, or restart"),
                SIGINT | SIGTERM => {
                    info!("stopping");
                    return Ok(());
                }
                _ => {}
            }
        }
        if threads.lost() {
            bail!(
                "A worker, the slow path or the tables' thread has ended by itself: stopping, rather than being half a director"
            );
        }
        recent_latency.tick(Instant::now());
        std::thread::sleep(TICK);
    }
}
