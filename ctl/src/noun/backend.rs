//! Backends: the servers of a service.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::name::{Mac, NameError, ServiceId, serde_as_text};
use crate::noun::check::CheckResult;

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
    /// Whether it gets nothing until it is enabled.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub disabled: bool,
}

impl BackendSpec {
    /// With this address, and for the rest, what is usual.
    pub fn new(address: IpAddr) -> Self {
        BackendSpec { address, port: None, weight: default_weight(), mac: None, disabled: false }
    }
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
    /// Use this one, and resolve nothing.
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
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "resolve" { Ok(MacChange::Resolve) } else { text.parse().map(MacChange::Pin) }
    }
}

serde_as_text!(MacChange);

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

/// A backend of a service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Backend {
    /// Its address.
    pub address: IpAddr,
    /// Its weight.
    pub weight: u32,
    /// Whether it serves only when no other takes new flows.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub fallback: bool,
    /// Its share of the service's new flows, 0 to 1, as they are given out now. During a hand-over, a new flow of UDP may
    /// still go to the backend that its slot had before. Schedulers that look at numbers of connections have no fixed
    /// shares: theirs are those of connections that last equally long.
    pub share: f64,
    /// Whether packets can be sent to it.
    pub state: BackendState,
    /// What its checks have found.
    #[serde(default)]
    pub checks: Vec<CheckResult>,
    /// Seconds for which it is held out because it went down too often, whatever its checks say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub damped_left_s: Option<u64>,
    /// Seconds until it is tried again that was taken out because its clients got no answer, whatever its checks say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub out_left_s: Option<u64>,
    /// The share of its weight that it has so far, in percent, in a slow start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slow_start_percent: Option<u32>,
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
    /// An operator has disabled it: nothing goes there, whatever its checks say.
    Disabled,
    /// Its MAC address is being asked for; frames for it are dropped until then.
    Resolving,
    /// The director may be cut off from it: nothing in its network answers, or the link of its port is down. It keeps its
    /// old flows, and gets new ones only where no other backend of the service answers.
    CutOff,
    /// Its checks say that it does not serve: nothing goes there.
    Down,
    /// No station answers for its address, although others in its network do, or for longer than the service's hand-over
    /// time: it is down, and nothing goes there.
    Unreachable,
}
