//! What answers are made of.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use ctl::ServiceId;
use ctl::answer::{CheckResult, Done, PacketBuffers, Subject, XdpSockets};

use crate::control::director::Director;
use crate::control::events::{EventLog, Kind};
use crate::control::faults::Faults;
use crate::control::model::{Backend, Service};
use crate::count::recent::Recent;
use crate::health::Engine;
use crate::slow::neighbor::{Neighbor, Neighbors};

/// All that answers are made of.
pub struct Facts {
    /// Services, counters, snapshots.
    pub director: Arc<Director>,
    /// The backends' MAC addresses.
    pub neighbors: Arc<Mutex<Neighbors>>,
    /// What the health checks have found.
    pub health: Arc<Mutex<Engine>>,
    /// What has happened.
    pub events: Arc<EventLog>,
    /// What is wrong now.
    pub faults: Arc<Faults>,
    /// How long frames were with the workers lately.
    pub recent_latency: Arc<Recent>,
    /// The ports, in the order of the configuration.
    pub ports: Vec<PortFacts>,
    /// The workers' cores.
    pub lcores: Vec<usize>,
    /// When the daemon started.
    pub started: Instant,
    /// The file it was started from.
    pub config_file: String,
    /// DPDK's release.
    pub dpdk: String,
    /// Whether packet memory is in hugepages.
    pub hugepages: bool,
    /// How many packet buffers there are, and in use.
    pub packet_buffers: Box<dyn Fn() -> PacketBuffers + Send + Sync>,
    /// How many flows a worker can remember.
    pub room_for_flows: usize,
    /// How many lines of the log were lost.
    pub lost_log_lines: Box<dyn Fn() -> u64 + Send + Sync>,
}

/// The backends whose results are copied before the slow path may have its turn.
const AT_ONCE: usize = 100;

/// What the checks of a service have found.
pub(super) struct Found {
    /// By the number of the backend.
    pub(super) by_backend: Vec<Vec<CheckResult>>,
    /// By the number of the backend, for how many seconds it is held out.
    pub(super) damped: Vec<Option<u64>>,
    /// By the number of the backend, for how many seconds it is out because its clients got no answer.
    pub(super) out: Vec<Option<u64>>,
    /// The largest packet that each backend is known to take, if it is asked for that.
    pub(super) largest: Vec<Option<Option<u16>>>,
    /// Whether the checks are believed.
    pub(super) believed: bool,
}

/// What does not change about a port, and how to ask for what does.
pub struct PortFacts {
    /// Its name.
    pub name: String,
    /// Its device, as configured.
    pub device: String,
    /// Queue pairs.
    pub queues: u16,
    /// Its driver, its speed, and what the NIC counts.
    pub live: Box<dyn Fn() -> PortLive + Send + Sync>,
}

/// What changes about a port, besides its MAC address, MTU and link: these are the snapshot's.
#[derive(Debug, Clone, Default)]
pub struct PortLive {
    /// The driver that runs it, or that ran it last.
    pub driver: String,
    /// Why it cannot be used, if it cannot.
    pub trouble: Option<String>,
    /// What does not work as it should, a sentence each.
    pub warnings: Vec<String>,
    /// The link's speed, where known.
    pub speed_mbps: Option<u32>,
    /// Frames that no worker took in time.
    pub rx_missed: u64,
    /// Frames with errors.
    pub rx_errors: u64,
    /// Frames without a buffer.
    pub rx_no_mbuf: u64,
    /// What the kernel counts at AF_XDP sockets.
    pub xdp: Option<XdpSockets>,
}

impl Facts {
    /// A copy, so that the slow path waits for no listing.
    pub(super) fn neighbors(&self) -> BTreeMap<IpAddr, Neighbor> {
        self.neighbors.lock().expect("no thread panics while it holds the neighbors").table().clone()
    }

    /// What the checks of a service have found: by backend; and whether they are believed.
    pub(super) fn found(&self, service: &Service) -> Found {
        let health = || self.health.lock().expect("no thread panics while it holds the health checks");
        let (id, now) = (&service.id, Instant::now());
        let believed = health().believes(id);
        let mut found = Found { by_backend: vec![], damped: vec![], out: vec![], largest: vec![], believed };
        for some in service.backends.chunks(AT_ONCE) {
            let health = health();
            for &Backend { address, .. } in some {
                found.by_backend.push(health.results(id, address, now));
                found.damped.push(health.held_for_s(id, address, now));
                found.out.push(health.passive.out_for_s(id, address, now));
                found.largest.push(health.sizes.asks(address).then(|| health.sizes.largest(address)));
            }
            drop(health);
            // Who waits for the lock gets it in between.
            std::thread::yield_now();
        }
        found
    }

    /// The answer to a change, which is an event, too.
    pub(super) fn done(&self, kind: Kind, subject: Subject, message: String, generation: u64) -> Done {
        self.events.write(kind, subject, Instant::now(), || message.clone());
        Done { message, generation }
    }
}

/// An event is about this service.
pub(super) fn of_service(id: &ServiceId) -> Subject {
    Subject { service: Some(*id), ..Subject::default() }
}

/// An event is about this backend of the service.
pub(super) fn of_backend(id: &ServiceId, address: IpAddr) -> Subject {
    Subject { backend: Some(address), ..of_service(id) }
}
