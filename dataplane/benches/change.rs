//! The time that a change takes to reach the workers: 1,000 services of 100 backends each, and a thread that takes
//! snapshots like a worker.
//!
//! It is measured from a request at the control socket, and from the moment when the slow path knows that a backend
//! does not answer.

#![allow(clippy::print_stdout, reason = "a bench prints its figures")]
#![expect(clippy::unwrap_used, reason = "a bench fails by a panic")]

use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Acquire, Ordering::Relaxed, Ordering::Release};
use std::time::{Duration, Instant};

use ctl::CheckType;
use ctl::request::{BackendEdit, BackendName, BackendSpec, CheckSpec, Request, ServiceAdd};
use ctl::{Mac, ServiceId};
use dataplane::api::server::Server;
use dataplane::base::limits::DEFAULT_TABLE_SIZE;
use dataplane::control::director::Director;
use dataplane::control::model::{Contact, Model, Outlook};
use dataplane::count::{counters::WorkerCounters, lease::Leases};
use dataplane::testing::facts::facts;
use dataplane::testing::model::{PORT, network};

const SERVICES: u32 = 1_000;
const BACKENDS: u32 = 100;

fn vip(service: u32) -> ServiceId {
    format!("{}:80", Ipv4Addr::from_bits(0x0a00_1000 + service)).parse().unwrap()
}

/// Backend 0 is in all services, each other one in a single service.
fn backend(service: u32, number: u32) -> IpAddr {
    let offset = if number == 0 { 0 } else { 1 + service * BACKENDS + number };
    Ipv4Addr::from_bits(0x0a80_0000 + offset).into()
}

fn model(leases: &Arc<Leases>) -> Model {
    let mut model = Model::new([1; 16], DEFAULT_TABLE_SIZE, vec![network("lan0", 0, "", &["10.0.0.2/8"])]);
    let wanted = |service| {
        let spec = |number| BackendSpec::new(backend(service, number));
        // By TCP, each second, there would be more probes than a director makes.
        let checks = Some(vec![CheckSpec::new(CheckType::Arp)]);
        ServiceAdd { checks, ..ServiceAdd::new(vip(service), (0..BACKENDS).map(spec).collect()) }
    };
    let wanted: Vec<ServiceAdd> = (0..SERVICES).map(wanted).collect();
    let threads = std::thread::available_parallelism().unwrap().get();
    model.add_services(&wanted, leases, threads).unwrap();
    model
}

/// A thread that takes snapshots.
struct Worker {
    started: Instant,
    /// The snapshot that it took last.
    generation: Arc<AtomicU64>,
    /// The time at which it took it, in ns since `started`.
    taken_ns: Arc<AtomicU64>,
}

impl Worker {
    fn start(director: &Director, stop: Arc<AtomicBool>) -> Self {
        let worker = Worker { started: Instant::now(), generation: Arc::default(), taken_ns: Arc::default() };
        let (started, generation, taken) = (worker.started, worker.generation.clone(), worker.taken_ns.clone());
        let mut reader = director.reader();
        let turns = move || {
            while !stop.load(Relaxed) {
                let now = reader.load().generation;
                if now != generation.load(Relaxed) {
                    taken.store(u64::try_from(started.elapsed().as_nanos()).unwrap(), Relaxed);
                    generation.store(now, Release);
                }
                std::hint::spin_loop();
            }
        };
        std::thread::Builder::new().name("worker".into()).spawn(turns).unwrap();
        worker
    }

    /// Waits for a snapshot newer than this one. Returns the time at which the thread took it.
    fn has_newer(&self, than: u64) -> Instant {
        while self.generation.load(Acquire) <= than {
            std::thread::sleep(Duration::from_micros(50));
        }
        self.started + Duration::from_nanos(self.taken_ns.load(Relaxed))
    }
}

/// The time that an action took, and the CPU time in it. On a busy machine, the difference is time spent waiting.
#[derive(Clone, Copy)]
struct Took {
    wall: Duration,
    cpu: Duration,
}

/// The CPU time of all threads except the worker, which never sleeps.
fn control_cpu() -> Duration {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let of = |task: std::path::PathBuf| -> Option<u64> {
        let name = std::fs::read_to_string(task.join("comm")).ok()?;
        let schedstat = std::fs::read_to_string(task.join("schedstat")).ok().filter(|_| name.trim() != "worker")?;
        schedstat.split(' ').next()?.parse().ok()
    };
    Duration::from_nanos(tasks.filter_map(|task| of(task.unwrap().path())).sum())
}

/// Measures an action, until the worker has its snapshot.
fn until_taken(director: &Director, worker: &Worker, what: impl FnOnce()) -> Took {
    let (before, cpu, begin) = (director.current().generation, control_cpu(), Instant::now());
    what();
    let wall = worker.has_newer(before) - begin;
    Took { wall, cpu: control_cpu() - cpu }
}

fn show(what: &str, took: Vec<Took>) {
    let spread = |which: fn(&Took) -> Duration| {
        let mut times: Vec<Duration> = took.iter().map(which).collect();
        times.sort();
        format!("{:.2?} ({:.2?} to {:.2?})", times[times.len() / 2], times[0], times[times.len() - 1])
    };
    println!("{what}: {}, CPU {}, {} times", spread(|took| took.wall), spread(|took| took.cpu), took.len());
}

fn main() {
    let begin = Instant::now();
    let counters = vec![Arc::new(WorkerCounters::new(1))];
    let leases = Leases::new(counters.clone());
    let model = model(&leases);
    println!("{SERVICES} services of {BACKENDS} backends, first tables: {:.2?}", begin.elapsed());
    let begin = Instant::now();
    let director = Arc::new(Director::new(model, leases, counters, vec![PORT]));
    println!("first snapshot: {:.2?}", begin.elapsed());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let _socket = Server::bind(&path, None).unwrap().run(Arc::new(facts(director.clone()))).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let worker = Worker::start(&director, stop.clone());

    let mac = Some(Mac([2, 0, 0, 0, 0, 1]));
    let all = (0..SERVICES).flat_map(|s| (0..BACKENDS).map(move |b| (backend(s, b), mac)));
    director.hear(&all.collect::<Vec<_>>(), &Outlook::default());
    let tables = {
        let (director, stop) = (director.clone(), stop.clone());
        std::thread::spawn(move || director.keep_up(&stop))
    };

    let mut stream = UnixStream::connect(&path).unwrap();
    let mut answers = BufReader::new(stream.try_clone().unwrap());
    let mut ask = |request: &Request| {
        let mut line =
            serde_json::to_vec(&ctl::request::Envelope { version: ctl::VERSION, request: request.clone() }).unwrap();
        line.push(b'\n');
        let took = until_taken(&director, &worker, || stream.write_all(&line).unwrap());
        let mut answer = String::new();
        answers.read_line(&mut answer).unwrap();
        assert!(answer.contains("ok"), "{answer}");
        took
    };
    let edits = (0..40u32).map(|i| {
        let (service, address) = (vip(i * 17), backend(i * 17, 1 + i));
        ask(&Request::BackendEdit(BackendEdit { service, address, weight: Some(2), mac: None }))
    });
    show("a weight, from the request to the worker", edits.collect());
    let removals = (0..40u32)
        .map(|i| ask(&Request::BackendRemove(BackendName { service: vip(i * 17), address: backend(i * 17, 50) })));
    show("a backend removed, from the request to the worker", removals.collect());

    let dead = backend(0, 0);
    let (mut failures, mut tables_took) = (Vec::new(), Vec::new());
    for round in 0..6 {
        let (mac, down) = if round % 2 == 0 { (None, Some(dead)) } else { (mac, None) };
        let outlook = Outlook::with_down(down);
        let (cpu, begin) = (control_cpu(), Instant::now());
        let took = until_taken(&director, &worker, || director.hear(&[(dead, mac)], &outlook));
        if round % 2 == 0 {
            failures.push(took);
        }
        let settled = |director: &Director| {
            let snapshot = director.current();
            let backends = snapshot.model.services.values().map(|service| &service.backends[0]);
            snapshot.services.iter().all(|service| service.outage.is_none())
                && backends.into_iter().all(|backend| (backend.contact == Contact::Up) == down.is_none())
        };
        while !settled(&director) {
            std::thread::sleep(Duration::from_millis(5));
        }
        tables_took.push(Took { wall: begin.elapsed(), cpu: control_cpu() - cpu });
    }
    show("a backend of all services fails, from the slow path to the worker", failures);
    show("all tables after it has failed, or is back", tables_took);
    stop.store(true, Relaxed);
    director.wake();
    tables.join().unwrap();
}
