//! A director without DPDK, and the facts that the control API answers from.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use ctl::answer::{PacketBuffers, XdpSockets};
use ctl::request::ServiceAdd;

use super::model::{PORT, model};
use crate::api::{Facts, PortFacts, PortLive};
use crate::control::director::Director;
use crate::control::events::EventLog;
use crate::control::faults::Faults;
use crate::count::recent::Recent;
use crate::count::{counters::WorkerCounters, lease::Leases};
use crate::health::Engine;

/// A director with one worker and these services.
pub fn director(services: &[ServiceAdd]) -> Director {
    let workers = vec![Arc::new(WorkerCounters::new(1))];
    let leases = Leases::new(workers.clone());
    let mut model = model();
    for service in services {
        model.add_service(service, &leases).expect("the service is valid");
    }
    Director::new(model, leases, workers, vec![PORT])
}

/// The facts of a director with one worker.
pub fn facts(director: Arc<Director>) -> Facts {
    let live = || PortLive { xdp: Some(XdpSockets::default()), ..PortLive::default() };
    let port = PortFacts { name: "lan0".into(), device: "net_null0".into(), queues: 1, live: Box::new(live) };
    let events = Arc::<EventLog>::default();
    Facts {
        recent_latency: Arc::new(Recent::new(director.workers(), Instant::now())),
        director,
        neighbors: Arc::new(Mutex::default()),
        health: Arc::new(Mutex::new(Engine::new(Instant::now(), 1))),
        faults: Arc::new(Faults::new(events.clone())),
        events,
        ports: vec![port],
        lcores: vec![1],
        started: Instant::now(),
        config_file: "shunt.toml".into(),
        dpdk: String::new(),
        hugepages: false,
        packet_buffers: Box::new(PacketBuffers::default),
        room_for_flows: 0,
        lost_log_lines: Box::new(|| 0),
    }
}
