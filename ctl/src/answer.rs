//! What `shuntd` answers.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::name::{FlowHash, Mac, OnAllDown, Scheduler, ServiceId, Tracking};

/// One line from the daemon.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Envelope {
    /// [`crate::VERSION`] of the daemon.
    pub version: u32,
    /// What came of the request.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// Done, or why not.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The request was carried out.
    Ok(Answer),
    /// Nothing was changed.
    Error(Refusal),
}

/// Why a request was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// The part of the request that is at fault, as a path: `backends[2].weight`. Empty: the request as a whole.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub field: String,
    /// What is wrong and what to do, a sentence for the operator.
    pub message: String,
}

/// What was asked for, named for the request it answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// To a request that changed something.
    Done(Done),
    /// To `status`.
    Status(Status),
    /// To `service-list`.
    Services(Vec<Service>),
    /// To `service-show`.
    Service(Service),
    /// To `neighbor-list`.
    Neighbors(Vec<Neighbor>),
    /// To `port-list`.
    Ports(Vec<Port>),
    /// To `worker-list`.
    Workers(Vec<Worker>),
    /// To `drops`.
    Drops(Vec<Drop>),
    /// To `events`, the oldest first.
    Events(Vec<Event>),
}

/// A change has been made and published to the workers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// What was done, a sentence for the operator.
    pub message: String,
    /// The number of the snapshot that has the change.
    pub generation: u64,
}

/// The director at a glance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The daemon's version.
    pub version: String,
    /// The version of the DPDK it runs on.
    pub dpdk: String,
    /// Its process id.
    pub pid: u32,
    /// Seconds since it started.
    pub uptime_s: u64,
    /// The configuration file it was started from.
    pub config_file: String,
    /// Whether packet memory is in hugepages.
    pub hugepages: bool,
    /// The packet buffers.
    #[serde(default)]
    pub packet_buffers: PacketBuffers,
    /// The number of the current snapshot; each change makes a new one.
    pub generation: u64,
    /// How many workers forward.
    pub workers: usize,
    /// How many ports there are, and how many have their link up.
    pub ports: Count,
    /// How many services there are, and how many have a backend that can be reached.
    pub services: Count,
    /// How many backends there are over all services, and how many have their MAC address known.
    pub backends: Count,
    /// Frames received since the start.
    pub rx_packets: u64,
    /// Frames forwarded to backends since the start.
    pub forwarded_packets: u64,
    /// Frames dropped since the start, for whatever reason.
    pub dropped_packets: u64,
    /// What needs the operator's attention, a sentence each.
    pub warnings: Vec<String>,
    /// Events of the last hour that an operator should look at.
    #[serde(default)]
    pub events: EventCount,
}

/// The buffers that frames are received into.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PacketBuffers {
    /// With frames in them, or waiting for frames in the ports' receive queues.
    pub in_use: u32,
    /// All there are.
    pub total: u32,
}

/// How many events were bad ones.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventCount {
    /// Of severity `warn`.
    pub warn: usize,
    /// Of severity `error`.
    pub error: usize,
}

/// So many, of which so many are well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// All of them.
    pub total: usize,
    /// Those that work.
    pub up: usize,
}

/// A service, its backends and what they got.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Service {
    /// VIP, port and protocol.
    #[serde(flatten)]
    pub id: ServiceId,
    /// How backends are chosen.
    pub scheduler: Scheduler,
    /// What decides the backend of a flow.
    pub hash: FlowHash,
    /// Which flows are remembered.
    pub tracking: Tracking,
    /// For how many seconds a flow is remembered that nothing is heard of, and how long a change hands over.
    pub idle_timeout_s: u64,
    /// What becomes of packets when all backends are down.
    pub on_all_down: OnAllDown,
    /// The slots of its Maglev table.
    pub slots: u32,
    /// Slots whose old flows still go to another backend than new ones: a change is being handed over.
    pub slots_in_handover: u32,
    /// Frames forwarded to its backends.
    pub packets: u64,
    /// Bytes of these frames, Ethernet header included.
    pub bytes: u64,
    /// Frames to it that were dropped, by the reasons that occurred.
    #[serde(default)]
    pub drops: Vec<ReasonCount>,
    /// Its backends, by address.
    pub backends: Vec<Backend>,
}

/// So many for one reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReasonCount {
    /// The reason's name, as in the metrics.
    pub reason: String,
    /// Frames.
    pub packets: u64,
}

/// A backend of a service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Backend {
    /// Its address.
    pub address: IpAddr,
    /// Its weight.
    pub weight: u32,
    /// Its share of the service's new flows, 0 to 1: slots of the Maglev table.
    pub share: f64,
    /// Whether packets can be sent to it.
    pub state: BackendState,
    /// The MAC address that frames for it get, where known.
    pub mac: Option<Mac>,
    /// Whether the MAC address is given by the configuration.
    pub mac_pinned: bool,
    /// Seconds until what is left of its flows goes elsewhere, where it is being drained with a deadline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain_left_s: Option<u64>,
    /// Flows to it that workers remember, in use. All of its flows only where the service tracks all.
    pub active_flows: u64,
    /// Flows to it that workers remember, beginning or ending.
    pub inactive_flows: u64,
    /// Frames forwarded to it.
    pub packets: u64,
    /// Bytes of these frames, Ethernet header included.
    pub bytes: u64,
}

/// Whether packets can be sent to a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BackendState {
    /// Its MAC address is known.
    Up,
    /// It takes no new flows, and keeps the old ones.
    Draining,
    /// Its drain is over: nothing goes there.
    Drained,
    /// Its MAC address is being asked for; frames for it are dropped until then.
    Resolving,
    /// Nobody answers for its address: it is down, and nothing goes there.
    Unreachable,
}

/// A backend's address and how it was resolved.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Neighbor {
    /// The IP address.
    pub address: IpAddr,
    /// The port by whose network it is reached; where that is a VLAN, with its id: `lan0.100`.
    pub port: String,
    /// Its MAC address, where known.
    pub mac: Option<Mac>,
    /// Where its resolution stands.
    pub state: NeighborState,
    /// Seconds since the MAC address was last confirmed; absent where it never was, or is pinned.
    pub confirmed_s: Option<u64>,
    /// Probes sent since the last answer.
    pub probes: u32,
    /// How often its MAC address has changed.
    pub changes: u64,
    /// How many services it serves.
    pub services: usize,
}

/// Where a neighbor's resolution stands; the names are those of `ip neighbor` where it has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NeighborState {
    /// The configuration gives its MAC address.
    Permanent,
    /// Asked for, never answered.
    Incomplete,
    /// Confirmed within the reachable time.
    Reachable,
    /// Being confirmed again; the MAC address stays in use.
    Probe,
    /// No answer; it is asked for now and then.
    Failed,
}

/// A port of the director.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Port {
    /// Its name in the configuration.
    pub name: String,
    /// Its device in the configuration.
    pub device: String,
    /// The DPDK driver that runs it.
    pub driver: String,
    /// Its MAC address.
    pub mac: Mac,
    /// The director's own addresses there, with prefix length, in the network without VLAN tag.
    pub addresses: Vec<String>,
    /// The VLANs there.
    #[serde(default)]
    pub vlans: Vec<Vlan>,
    /// Whether the link is up.
    pub link_up: bool,
    /// Link speed in Mbit/s; absent where the device knows none.
    pub speed_mbps: Option<u32>,
    /// Largest L3 packet in bytes.
    pub mtu: u16,
    /// RX/TX queue pairs, one a worker.
    pub queues: u16,
    /// Frames received by the workers.
    pub rx_packets: u64,
    /// Bytes received by the workers.
    pub rx_bytes: u64,
    /// Frames sent.
    pub tx_packets: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Frames the NIC dropped because a worker was too slow (`imissed`).
    pub rx_missed: u64,
    /// Frames the NIC received with errors.
    pub rx_errors: u64,
    /// Frames the NIC could not be given memory for (`rx_nombuf`).
    pub rx_no_mbuf: u64,
}

/// A VLAN of a port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vlan {
    /// Its VLAN id, or two of them with a point between, the outer one first.
    pub id: String,
    /// The director's own addresses there, with prefix length.
    pub addresses: Vec<String>,
}

/// A worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Worker {
    /// Its number, from 0; also the number of its queue pair on each port.
    pub id: usize,
    /// The core it runs on.
    pub lcore: usize,
    /// Turns of its loop.
    pub turns: u64,
    /// Turns that found frames.
    pub busy_turns: u64,
    /// Share of its time spent on frames since the start, 0 to 1, in TSC cycles.
    pub load: f64,
    /// Frames received.
    pub rx_packets: u64,
    /// Frames forwarded to backends.
    pub forwarded_packets: u64,
    /// Frames dropped.
    pub dropped_packets: u64,
    /// Frames given to the slow path.
    pub punted_packets: u64,
    /// Flows that it remembers now.
    pub remembered_flows: u64,
    /// How many it has room for.
    pub room_for_flows: u64,
    /// Flows that should have been remembered, but there was no room; packets that met that.
    pub unremembered_packets: u64,
    /// The number of the snapshot it works with.
    pub generation: u64,
    /// How long frames were with it, from before the call that received them until after the one that sent them: of one burst in
    /// 32. `None` from daemons that do not tell.
    #[serde(default)]
    pub latency: Option<Latency>,
}

/// How long frames were with a worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Latency {
    /// In the last minute, and up to 10 s more.
    pub recent: LatencySamples,
    /// Since the start.
    pub since_start: LatencySamples,
}

/// Samples of how long frames were with a worker: those of one burst in 32 that were forwarded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LatencySamples {
    /// Over how long a time, in seconds.
    pub seconds: u64,
    /// How many frames.
    pub samples: u64,
    /// The sum over all of them.
    pub sum_ns: u64,
    /// `None` where there are no samples.
    pub percentiles: Option<Percentiles>,
    /// As in a Prometheus histogram: bounds, always the same ones, and how many samples are not above each; the last has all.
    pub buckets: Vec<LatencyBucket>,
}

/// What so many samples do not exceed; up to 3.2 % too large, never too small.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Percentiles {
    /// Half of them.
    pub p50_ns: u64,
    /// 99 %.
    pub p99_ns: u64,
    /// 99.9 %.
    pub p999_ns: u64,
    /// All.
    pub max_ns: u64,
}

/// How many samples are up to a bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LatencyBucket {
    /// The bound, itself included.
    pub up_to_ns: u64,
    /// Samples up to it, those of the smaller bounds among them.
    pub samples: u64,
}

/// A reason for which frames left the fast path, and how many did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drop {
    /// The reason's name, as in the metrics.
    pub reason: String,
    /// What becomes of such frames.
    pub fate: Fate,
    /// How many, over all workers and ports.
    pub packets: u64,
    /// How many on each port that had any.
    pub ports: Vec<PortCount>,
    /// How many each worker had that had any.
    #[serde(default)]
    pub workers: Vec<WorkerCount>,
    /// The services whose packets they were, where that is known: those with the most, the most first.
    #[serde(default)]
    pub services: Vec<ServiceCount>,
    /// How many more services there were.
    #[serde(default)]
    pub more_services: usize,
    /// What the reason means, a sentence.
    pub meaning: String,
    /// What to do about it, a sentence.
    pub advice: String,
}

/// What becomes of a frame that is not forwarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fate {
    /// It is thrown away.
    Drop,
    /// It is given to the slow path, which answers or learns from it.
    Punt,
}

/// So many of one worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerCount {
    /// The worker's number.
    pub worker: usize,
    /// Frames.
    pub packets: u64,
}

/// So many of one service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceCount {
    /// The service.
    pub service: ServiceId,
    /// Frames, since it was added.
    pub packets: u64,
}

/// So many on one port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortCount {
    /// The port's name.
    pub port: String,
    /// Frames.
    pub packets: u64,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Counts the events since the daemon started, from 1.
    pub sequence: u64,
    /// When, in UTC, as RFC 3339 writes it: `2026-01-31T12:00:00.000Z`.
    pub time: String,
    /// How bad it is.
    pub severity: Severity,
    /// What kind of event it is, `kebab-case`; docs/operations.md lists them.
    pub kind: String,
    /// What it is about.
    #[serde(flatten)]
    pub subject: Subject,
    /// What happened and what to do, a sentence.
    pub message: String,
    /// How many events of this kind about the same were left out since the last one, because there were too many.
    #[serde(default)]
    pub suppressed: u64,
}

impl Event {
    /// The message, and how many were left out.
    pub fn sentence(&self) -> String {
        match self.suppressed {
            0 => self.message.clone(),
            more => format!("{} ({more} more like this were left out)", self.message),
        }
    }
}

/// A line of a listing.
impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (severity, sentence) = (self.severity.name(), self.sentence());
        write!(f, "{}  {severity:<5}  {:<20}  {sentence}", self.time, self.kind)
    }
}

/// What an event is about, as far as that is known.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Subject {
    /// The service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceId>,
    /// The VIP, where the service is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vip: Option<IpAddr>,
    /// The backend's address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend: Option<IpAddr>,
    /// The director's port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<String>,
    /// A station's MAC address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<Mac>,
}

/// How bad an event is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// A change of state, as it should be.
    Info,
    /// Odd, but handled: have a look.
    Warn,
    /// Clients notice.
    Error,
}

impl Severity {
    /// The name, as in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Severity::Info => "info",
            Severity::Warn => "warn",
            Severity::Error => "error",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_flat_json_object_and_one_line() {
        let subject = Subject { backend: Some("192.0.2.3".parse().unwrap()), ..Subject::default() };
        let event = Event {
            sequence: 7,
            time: "2026-01-31T12:00:00.000Z".into(),
            severity: Severity::Warn,
            kind: "loop".into(),
            subject,
            message: "It goes round.".into(),
            suppressed: 3,
        };
        let json = serde_json::to_string(&event).unwrap();
        assert!(json.contains(r#""kind":"loop","backend":"192.0.2.3","message""#), "{json}");
        assert_eq!(serde_json::from_str::<Event>(&json).unwrap(), event);
        let line =
            "2026-01-31T12:00:00.000Z  warn   loop                  It goes round. (3 more like this were left out)";
        assert_eq!(event.to_string(), line);
    }

    #[test]
    fn outcomes_are_told_apart_by_their_key() {
        let refusal = Refusal { field: "weight".into(), message: "Weight 70000 is out of range".into() };
        let envelope = Envelope { version: 1, outcome: Outcome::Error(refusal) };
        let line = serde_json::to_string(&envelope).unwrap();
        assert_eq!(line, r#"{"version":1,"error":{"field":"weight","message":"Weight 70000 is out of range"}}"#);
        assert_eq!(serde_json::from_str::<Envelope>(&line).unwrap(), envelope);

        let done = Answer::Done(Done { message: "Added".into(), generation: 2 });
        let envelope = Envelope { version: 1, outcome: Outcome::Ok(done) };
        let line = serde_json::to_string(&envelope).unwrap();
        assert_eq!(line, r#"{"version":1,"ok":{"done":{"message":"Added","generation":2}}}"#);
        assert_eq!(serde_json::from_str::<Envelope>(&line).unwrap(), envelope);
    }
}
