//! What may be asked of `shuntd`.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::name::{FlowHash, Mac, OnAllDown, Scheduler, ServiceId, Tracking};

/// One line to the daemon: a [`Request`] and the version of the API it is written in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Envelope {
    /// [`crate::VERSION`] of whoever asks.
    pub version: u32,
    /// The request itself.
    #[serde(flatten)]
    pub request: Request,
}

/// All that may be asked, reading first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "command", content = "arguments", rename_all = "kebab-case")]
pub enum Request {
    /// The director at a glance.
    Status,
    /// All services with their backends and counters.
    ServiceList,
    /// One service with its backends and counters.
    ServiceShow(ServiceId),
    /// The MAC addresses of the backends, and how fresh they are.
    NeighborList,
    /// The ports: device, driver, link, addresses, counters.
    PortList,
    /// The workers: core, packets, load.
    WorkerList,
    /// Why frames were dropped or given to the slow path, and how many.
    Drops,
    /// What has happened of late.
    Events(EventQuery),
    /// A new service, with or without backends.
    ServiceAdd(ServiceAdd),
    /// Removes a service and its backends.
    ServiceRemove(ServiceId),
    /// A new backend for a service.
    BackendAdd(BackendAdd),
    /// Changes a backend's weight or MAC address.
    BackendEdit(BackendEdit),
    /// Has a backend take no new flows, and keep the old ones.
    BackendDrain(BackendDrain),
    /// Has a backend that was drained take new flows again.
    BackendEnable(BackendName),
    /// Removes a backend from a service.
    BackendRemove(BackendName),
}

impl Request {
    /// Whether the request would change what the director does: such requests need root or the daemon's own user.
    pub fn changes(&self) -> bool {
        match self {
            Request::Status
            | Request::ServiceList
            | Request::ServiceShow(_)
            | Request::NeighborList
            | Request::PortList
            | Request::WorkerList
            | Request::Drops
            | Request::Events(_) => false,
            Request::ServiceAdd(_)
            | Request::ServiceRemove(_)
            | Request::BackendAdd(_)
            | Request::BackendEdit(_)
            | Request::BackendDrain(_)
            | Request::BackendEnable(_)
            | Request::BackendRemove(_) => true,
        }
    }
}

/// Which events.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EventQuery {
    /// Only those with a greater sequence number: who has read up to one event asks with its number for what comes next.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<u64>,
    /// At most so many: of those behind `since` the first, without `since` the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

/// A new service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceAdd {
    /// Its VIP, port and protocol.
    pub service: ServiceId,
    /// How backends are chosen.
    #[serde(default)]
    pub scheduler: Scheduler,
    /// What decides the backend of a flow; without it, the scheduler says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<FlowHash>,
    /// Which flows are remembered; without it, the scheduler says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tracking: Option<Tracking>,
    /// For how many seconds a flow is remembered that nothing is heard of, and how long a change hands over. Without it,
    /// 900 (TCP, SCTP) or 300 (UDP).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_timeout_s: Option<u32>,
    /// What becomes of packets when all backends are down.
    #[serde(default)]
    pub on_all_down: OnAllDown,
    /// Its first backends.
    #[serde(default)]
    pub backends: Vec<BackendSpec>,
}

impl ServiceAdd {
    /// With these backends, and for the rest, what is usual.
    pub fn new(service: ServiceId, backends: Vec<BackendSpec>) -> Self {
        let (scheduler, on_all_down) = (Scheduler::default(), OnAllDown::default());
        ServiceAdd { service, scheduler, hash: None, tracking: None, idle_timeout_s: None, on_all_down, backends }
    }
}

/// A backend as an operator asks for it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackendSpec {
    /// Its IP address, on one of the director's networks.
    pub address: IpAddr,
    /// Its L4 port: DR rewrites no port, so it can only be the service's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Its share of new flows in relation to the other backends', 0 to 65535; 0: no new flows.
    #[serde(default = "default_weight")]
    pub weight: u32,
    /// Its MAC address, if that is not to be resolved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<Mac>,
}

fn default_weight() -> u32 {
    1
}

/// A new backend for a service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackendAdd {
    /// The service that it is to serve.
    pub service: ServiceId,
    /// The backend.
    pub backend: BackendSpec,
}

/// What changes about a backend; what is absent stays.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackendEdit {
    /// The service.
    pub service: ServiceId,
    /// The backend's address.
    pub address: IpAddr,
    /// The new weight.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u32>,
    /// The new pinned MAC address, or `"resolve"` to have it resolved again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<MacChange>,
}

/// A new source for a backend's MAC address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MacChange {
    /// Use this one, ask nobody.
    Pin(Mac),
    /// Resolve it by ARP or NDP.
    Resolve,
}

impl std::fmt::Display for MacChange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            MacChange::Pin(mac) => mac.fmt(f),
            MacChange::Resolve => f.write_str("resolve"),
        }
    }
}

impl std::str::FromStr for MacChange {
    type Err = crate::NameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "resolve" { Ok(MacChange::Resolve) } else { text.parse().map(MacChange::Pin) }
    }
}

impl Serialize for MacChange {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for MacChange {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Which backend of which service is to be drained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackendDrain {
    /// The service.
    pub service: ServiceId,
    /// The backend's address.
    pub address: IpAddr,
    /// After so many seconds, what is left of its flows goes elsewhere; 0: at once. Without it, it keeps them until they
    /// end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_s: Option<u32>,
}

/// A backend of a service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackendName {
    /// The service.
    pub service: ServiceId,
    /// The backend's address.
    pub address: IpAddr,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_one_flat_json_object() {
        let line = r#"{"version":1,"command":"backend-edit","arguments":{"service":{"vip":"192.0.2.1","port":80},"address":"192.0.2.9","weight":3,"mac":"resolve"}}"#;
        let envelope: Envelope = serde_json::from_str(line).unwrap();
        let Request::BackendEdit(edit) = &envelope.request else { panic!("{envelope:?}") };
        assert_eq!((edit.weight, edit.mac), (Some(3), Some(MacChange::Resolve)));
        let again: Envelope = serde_json::from_str(&serde_json::to_string(&envelope).unwrap()).unwrap();
        assert_eq!(again, envelope);
    }

    #[test]
    fn a_request_without_arguments_needs_none() {
        let envelope: Envelope = serde_json::from_str(r#"{"version":1,"command":"status"}"#).unwrap();
        assert_eq!(envelope.request, Request::Status);
        assert!(!envelope.request.changes());
    }

    #[test]
    fn unknown_fields_and_commands_are_refused() {
        for line in [
            r#"{"version":1,"command":"reboot"}"#,
            r#"{"version":1,"command":"service-show","arguments":{"vip":"192.0.2.1","port":80,"prot":"tcp"}}"#,
            r#"{"version":1,"command":"service-show","arguments":{"vip":"192.0.2.1","port":65536}}"#,
            r#"{"version":1,"command":"service-show","arguments":{"vip":"192.0.2.300","port":80}}"#,
        ] {
            assert!(serde_json::from_str::<Envelope>(line).is_err(), "{line}");
        }
    }
}
