//! The daemon from its start to its end.

use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use anyhow::{Context, anyhow};
use ctl::answer::Subject;
use signal_hook::iterator::Signals;
use tracing::{info, warn};

use crate::api::Facts;
use crate::api::server::Server;
use crate::commands::Keeper;
use crate::config::Config;
use crate::control::director::Director;
use crate::control::events::{EventLog, Kind};
use crate::control::faults::Faults;
use crate::control::model::Model;
use crate::count::lease::Leases;
use crate::count::recent::Recent;
use crate::daemon::cores::Cores;
use crate::daemon::follow::Follower;
use crate::daemon::ports::{self, Ports};
use crate::daemon::threads::{SlowPathRings, Threads};
use crate::daemon::{eal, serve, workers};
use crate::health::Engine;
use crate::log::Log;
use crate::slow::SlowPath;
use crate::slow::neighbor::Neighbors;
use crate::slow::report::Reporter;

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// Says why the daemon cannot start, or that one of its threads has ended by itself. All that was started has ended then.
pub(super) fn run(config_file: &Path, config: &Config, log: &Log, signals: &mut Signals) -> anyhow::Result<()> {
    config.director.hash_key.warning().iter().chain(&config.warnings).for_each(|warning| warn!("{warning}"));
    let started = Instant::now();
    if config.director.metrics.is_some() {
        crate::metrics::install();
    }
    let server = Server::bind(&config.director.socket, config.director.socket_group.as_deref())?;
    let cores = Cores::check(&config.director)?;
    if let Some(cores) = cores.without(&config.director.workers) {
        log.keep_to(cores);
    }
    let mtus = ports::check(config)?;

    // First of all, so that their memory is on their NUMA nodes.
    let workers = workers::pin(&config.director, config.ports.len())?;
    let counters: Vec<_> = workers.iter().map(|worker| worker.counters()).collect();
    let room_for_flows = workers.iter().map(|worker| worker.room_for_flows()).min().unwrap_or(0);
    let leases = Leases::new(counters.clone());
    // Before DPDK pins this thread: tables are built on all cores.
    let model = first_model(config, &leases)?;

    let dpdk = eal::start(config, &mtus)?;
    let account = config.director.account.clone().context("director.script_user")?;
    let (ports, queues, opened) = Ports::open(config, &mtus, &dpdk)?;
    let events = Arc::new(EventLog::default());
    let mut follower = Follower::new(ports.places(), opened);
    let director = Arc::new(Director::new(model, leases, counters, follower.links(&events)));
    let neighbors = Arc::new(Mutex::new(Neighbors::default()));

    let health = Arc::new(Mutex::new(Engine::new(Instant::now(), RandomState::new().hash_one(0))));

    let mut threads = Threads::new(director.clone());
    let (rings, lenders) = threads.begin_workers(workers, queues, &dpdk.eal)?;
    events.write(Kind::Started, Subject::default(), Instant::now(), || in_short(config));
    let SlowPathRings { punts, samples, outgoing } = rings;
    let faults = Arc::new(Faults::new(events.clone()));
    let reporter = Reporter::new(faults.clone(), samples).watching(dpdk.buffers.each(&config.ports));
    let buffers = dpdk.buffers.own().clone();
    let shared = (neighbors.clone(), health.clone());
    let (mut keeper, commands) = Keeper::new(account, events.clone());
    if let Some((command, least)) = config.director.notify.clone() {
        keeper = keeper.notifying(command, least);
    }
    let slow_path = SlowPath::new(director.clone(), shared, buffers, punts, outgoing, ports.control(), reporter);
    threads.start_slow_path(slow_path.running(commands), config.director.slow_path_poll)?;
    cores.keep_off(&config.director.workers);
    // From here on, threads keep off the workers' cores, and so do the processes that they start.
    threads.start_keeper(keeper)?;
    threads.start_tables()?;
    let sessions = health.lock().expect("no thread panics while it holds the health checks").take_sessions();
    sessions.map_or(Ok(()), |sessions| threads.start_tls(sessions))?;
    threads.start_follower(follower, lenders, faults.clone())?;

    let recent_latency = Arc::new(Recent::new(director.workers(), started));
    let facts = Facts {
        director,
        neighbors,
        health,
        events,
        faults,
        recent_latency: recent_latency.clone(),
        ports: ports.facts(),
        lcores: config.director.workers.clone(),
        started,
        config_file: config_file.display().to_string(),
        dpdk: crate::dpdk::version(),
        hugepages: dpdk.hugepages,
        packet_buffers: dpdk.buffers.figures(),
        room_for_flows,
        lost_log_lines: Box::new(log.lost_lines()),
    };
    let socket = serve::serve(server, facts, &config.director)?;
    let outcome = serve::wait(signals, &threads, &recent_latency);
    drop(socket);
    drop(threads);
    outcome
}

/// The model with the configured services.
fn first_model(config: &Config, leases: &Arc<Leases>) -> anyhow::Result<Model> {
    let begin = Instant::now();
    let model = config.full_model(leases).map_err(|errors| anyhow!("{errors:?}"))?;
    let services = match model.services.len() {
        1 => "1 service".into(),
        count => format!("{count} services"),
    };
    info!("tables of {services} are built, in {} ms", begin.elapsed().as_millis());
    Ok(model)
}

/// What the daemon does, for its first event.
fn in_short(config: &Config) -> String {
    let Config { director, ports, services, .. } = config;
    let (version, services, ports) = (env!("CARGO_PKG_VERSION"), services.len(), ports.len());
    let (workers, slow_path) = (&director.workers, director.slow_path);
    let what = format!("services: {services}, ports: {ports}");
    format!("shuntd {version} forwards on cores {workers:?}, slow path on core {slow_path}; {what}")
}
