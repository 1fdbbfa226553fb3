//! What is wrong: the open faults, and the checks by which they are found.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::name::{Mac, ServiceId};
use crate::noun::events::Severity;

/// Of what. Where a request has no arguments, of all services.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Option<Written>")]
pub struct DoctorQuery {
    /// One service alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceId>,
}

/// A [`DoctorQuery`] as it is in JSON.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Written {
    service: Option<ServiceId>,
}

impl From<Option<Written>> for DoctorQuery {
    fn from(written: Option<Written>) -> Self {
        DoctorQuery { service: written.unwrap_or_default().service }
    }
}

/// What a round of all checks has found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Doctor {
    /// The open faults, the worst first. One of a backend that several services have is there for each of them.
    pub faults: Vec<Fault>,
    /// What was checked, service by service.
    pub services: Vec<CheckedService>,
    /// Whether the round was over when this was written. If not, the answers are those of earlier rounds.
    pub complete: bool,
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// The service. `null`: it is about no service in particular, as with a link that is down.
    pub service: Option<ServiceId>,
    /// The backend's address. `null`: it is about no backend, as with a stranger who claims a VIP.
    pub backend: Option<IpAddr>,
    /// The MAC address of the station that it is about.
    pub mac: Option<Mac>,
    /// The fault's name, `kebab-case`; docs/health.md lists them.
    pub fault: String,
    /// How bad it is.
    pub severity: Severity,
    /// Since when, in UTC, as RFC 3339 writes it.
    pub since: String,
    /// The same in seconds.
    #[serde(default)]
    pub for_s: u64,
    /// What is seen, a sentence.
    pub text: String,
    /// What mends it: a command for that host, where there is one.
    pub fix: String,
    /// The check that has found it.
    #[serde(default)]
    pub check: String,
    /// The VIP, where the service is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vip: Option<IpAddr>,
    /// The director's port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<String>,
}

/// A service, and what was checked of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckedService {
    /// The service.
    pub service: ServiceId,
    /// Of its VIP.
    pub checks: Vec<Check>,
    /// Of its backends.
    pub backends: Vec<CheckedBackend>,
}

/// A backend of a service, and what was checked of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckedBackend {
    /// Its address.
    pub address: IpAddr,
    /// Its MAC address, where known.
    pub mac: Option<Mac>,
    /// The port by whose network it is reached.
    pub port: String,
    /// What was checked.
    pub checks: Vec<Check>,
    /// What is to be known besides, and is no fault: an operator has disabled it, say. A few words each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// A check and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// Its name.
    pub check: String,
    /// What came of it.
    pub outcome: CheckOutcome,
    /// What was seen, in a few words. With faults, it is these that say it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub text: String,
}

/// What came of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CheckOutcome {
    /// Nothing is wrong.
    Ok,
    /// Something is: see the faults of this check.
    Fault,
    /// It was not looked at, or cannot be seen.
    Unknown,
}
