//! Services: what clients connect to.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::name::{FlowHash, NameError, OnAllDown, Passive, Scheduler, ServiceId, Start, Tracking, serde_as_text};
use crate::noun::backend::{Backend, BackendSpec};
use crate::noun::check::CheckSpec;

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
    /// For how many seconds a flow is remembered that nothing is heard of. Without it, 900 (TCP, SCTP) or 300 (UDP).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_timeout_s: Option<u32>,
    /// For how many seconds after a change old flows stay with their backends until they are heard of. Without it, the
    /// idle timeout; for UDP, at most 30.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handover_time_s: Option<u32>,
    /// What becomes of packets when all backends are down.
    #[serde(default)]
    pub on_all_down: OnAllDown,
    /// How its backends are checked: all checks must be good. Without it, by a TCP connection where the service is of TCP and
    /// of one port, and else by ARP or NDP alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checks: Option<Vec<CheckSpec>>,
    /// If fewer backends than this share are up, in percent, the checks are not believed: all get traffic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_up: Option<u8>,
    /// What a backend counts as that was not checked yet.
    #[serde(default)]
    pub start: Start,
    /// The address of a backend that serves only when no other takes new flows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<IpAddr>,
    /// For so many seconds, the weight of a backend that returns rises from 5 % to the whole. Without it, it has that at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slow_start_s: Option<u32>,
    /// What becomes of a backend whose clients get no answer, as their packets show. Without it, it is reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passive: Option<Passive>,
    /// Its first backends.
    #[serde(default)]
    pub backends: Vec<BackendSpec>,
}

impl ServiceAdd {
    /// With these backends, and for the rest, what is usual.
    pub fn new(service: ServiceId, backends: Vec<BackendSpec>) -> Self {
        let (scheduler, on_all_down) = (Scheduler::default(), OnAllDown::default());
        ServiceAdd {
            service,
            scheduler,
            hash: None,
            tracking: None,
            idle_timeout_s: None,
            handover_time_s: None,
            on_all_down,
            checks: None,
            min_up: None,
            start: Start::default(),
            fallback: None,
            slow_start_s: None,
            passive: None,
            backends,
        }
    }
}

/// What changes about a service; what is absent stays. No running flow moves by it, but those of a fallback that is replaced.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceEdit {
    /// The service.
    pub service: ServiceId,
    /// How backends are chosen from now on. Only among those that decide flow by flow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduler: Option<Scheduler>,
    /// What becomes of packets when all backends are down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_all_down: Option<OnAllDown>,
    /// How its backends are checked. A check that it has already goes on as if nothing had changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checks: Option<Vec<CheckSpec>>,
    /// If fewer backends than this share are up, in percent, the checks are not believed; 0: they always are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_up: Option<u8>,
    /// What a backend counts as that was not checked yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<Start>,
    /// The address of the backend that serves only when no other takes new flows, or `"none"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<FallbackChange>,
    /// For so many seconds, the weight of a backend that returns rises; 0: it has that at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slow_start_s: Option<u32>,
    /// What becomes of a backend whose clients get no answer, as their packets show.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passive: Option<Passive>,
}

/// Another fallback for a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FallbackChange {
    /// This one.
    Use(IpAddr),
    /// None.
    None,
}

impl std::fmt::Display for FallbackChange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            FallbackChange::Use(address) => address.fmt(f),
            FallbackChange::None => f.write_str("none"),
        }
    }
}

impl std::str::FromStr for FallbackChange {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "none" => Ok(FallbackChange::None),
            address => address.parse().map(FallbackChange::Use).map_err(|_| NameError::Backend(address.into())),
        }
    }
}

serde_as_text!(FallbackChange);

impl ServiceEdit {
    /// Without a change.
    pub fn new(service: ServiceId) -> Self {
        ServiceEdit {
            service,
            scheduler: None,
            on_all_down: None,
            checks: None,
            min_up: None,
            start: None,
            fallback: None,
            slow_start_s: None,
            passive: None,
        }
    }
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
    /// For how many seconds a flow is remembered that nothing is heard of.
    pub idle_timeout_s: u64,
    /// For how many seconds after a change old flows stay with their backends until they are heard of. 0: nothing is
    /// handed over.
    #[serde(default)]
    pub handover_time_s: u64,
    /// What becomes of packets when all backends are down.
    pub on_all_down: OnAllDown,
    /// How its backends are checked.
    #[serde(default)]
    pub checks: Vec<CheckSpec>,
    /// If fewer backends than this share are up, in percent, the checks are not believed. 0: they always are.
    #[serde(default)]
    pub min_up: u8,
    /// For so many seconds, the weight of a backend that returns rises. 0: it has that at once.
    #[serde(default)]
    pub slow_start_s: u64,
    /// What becomes of a backend whose clients get no answer, as their packets show.
    #[serde(default)]
    pub passive: Passive,
    /// Whether the checks are believed.
    #[serde(default = "yes")]
    pub checks_believed: bool,
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

fn yes() -> bool {
    true
}

/// So many for one reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReasonCount {
    /// The reason's name, as in the metrics.
    pub reason: String,
    /// Frames.
    pub packets: u64,
}
