//! What can be wrong with a request to change the model.

use std::net::IpAddr;

use ctl::answer::Refusal;
use ctl::{MAX_WEIGHT, Mac, Ports, Protocol, Scheduler, ServiceId};

use crate::base::limits::{
    MAX_BACKENDS, MAX_CHECKS, MAX_IDLE_MS, MAX_PROBES_PER_S, MAX_SERVICES, MAX_SLOW_START_S, MAX_TARGETS,
};

/// Why the model cannot be changed that way.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ModelError {
    /// There is no such service.
    #[error("There is no service {0}: `shuntctl service list` shows all services")]
    NoSuchService(ServiceId),
    /// There is such a service already.
    #[error("Service {0} exists already")]
    DuplicateService(ServiceId),
    /// The service has no such backend.
    #[error("Service {service} has no backend {address}")]
    NoSuchBackend {
        /// The service.
        service: ServiceId,
        /// The address that is not among its backends.
        address: IpAddr,
    },
    /// The service has such a backend already.
    #[error("Service {service} has a backend {address} already: edit it, or remove it first")]
    DuplicateBackend {
        /// The service.
        service: ServiceId,
        /// The backend.
        address: IpAddr,
    },
    /// It would be unclear to which of the two services a port belongs.
    #[error("The ports of {service} overlap with those of {other}, and neither of the two is more specific")]
    PortsOverlap {
        /// The service that was to be added.
        service: Box<ServiceId>,
        /// The service that has these ports.
        other: Box<ServiceId>,
    },
    /// Scheduler sh hashes the client's address only.
    #[error("Scheduler sh goes by the client's address: leave the hash out, or use scheduler maglev for 5tuple")]
    HashOfSh,
    /// This scheduler uses no hash.
    #[error(
        "Scheduler {0} decides flow by flow, not by a hash: use maglev or sh for persistence by the client's address"
    )]
    HashWithout(Scheduler),
    /// This scheduler's decisions would be forgotten.
    #[error("Scheduler {0} decides flow by flow, so all flows must be remembered: leave tracking out, or use all")]
    MustTrack(Scheduler),
    /// Each change would break connections.
    #[error(
        "Tracking none is for UDP alone: over {0}, each change would break connections; use exceptions (the default) or all"
    )]
    MustHandOver(Protocol),
    /// A time for a hand-over, and no hand-over.
    #[error("With tracking none, a change hands nothing over: leave handover_time out, or use tracking exceptions")]
    NothingToHandOver,
    /// The time for a hand-over is zero, or too long.
    #[error("A hand-over time of {0} s is out of range: use 1 to {max} s", max = MAX_IDLE_MS / 1_000)]
    HandOverTime(u32),
    /// The idle timeout is zero, or too long.
    #[error("An idle timeout of {0} s is out of range: use 1 to {max} s", max = MAX_IDLE_MS / 1_000)]
    IdleTimeout(u32),
    /// The prefix has more bits than the address.
    #[error("A prefix of {prefix} bits is longer than the client's address: use 1 to {bits}")]
    HashPrefix {
        /// The prefix length.
        prefix: u8,
        /// Bits of an address of the VIP's family.
        bits: u8,
    },
    /// The weight is above the maximum, which is that of LVS.
    #[error("Weight {0} is out of range: use 0 to {MAX_WEIGHT}")]
    Weight(u32),
    /// Direct routing rewrites the Ethernet header only.
    #[error(
        "Backend port {backend} differs from the service's port {service}: direct routing changes no port, leave it out"
    )]
    BackendPort {
        /// The port asked for.
        backend: u16,
        /// The service's ports.
        service: Ports,
    },
    /// The backend would get packets of a family that it does not speak there.
    #[error("Backend {backend} is not of the address family of VIP {vip}: direct routing changes no packet")]
    Family {
        /// The VIP.
        vip: IpAddr,
        /// The backend.
        backend: IpAddr,
    },
    /// The address is multicast, loopback, broadcast or unspecified.
    #[error("{0} is not an address that a single host can have on a network")]
    NotUnicast(IpAddr),
    /// An IPv4-mapped IPv6 address.
    #[error("{0} is an IPv4 address written as IPv6: write it as IPv4")]
    Mapped(IpAddr),
    /// A link-local address is valid on one link only, and does not say on which.
    #[error("{0} is a link-local address: use a global or unique local one")]
    LinkLocal(IpAddr),
    /// The VIP is an address of the director.
    #[error("VIP {0} is the director's own address: give the VIP an address of its own")]
    VipIsOwn(IpAddr),
    /// The VIP is the address of a backend.
    #[error("VIP {0} is the address of a backend: ARP for one would find the other")]
    VipIsBackend(IpAddr),
    /// The backend's address is a VIP.
    #[error("Backend {0} is a VIP: name a backend by its own address")]
    BackendIsVip(IpAddr),
    /// The backend is the director.
    #[error("Backend {0} is the director's own address: Shunt serves nothing itself")]
    BackendIsOwn(IpAddr),
    /// Direct routing needs the same segment.
    #[error(
        "Backend {address} is on none of the director's networks ({}): direct routing needs it on the same segment (off-link)",
        networks_of(networks)
    )]
    OffLink {
        /// The backend.
        address: IpAddr,
        /// The director's networks, with their ports.
        networks: Vec<String>,
    },
    /// The MAC address is a group address, or zero: no station has it.
    #[error("{0} is not the MAC address of a single station")]
    MacNotUnicast(Mac),
    /// An edit without a change.
    #[error("Nothing to change: give a weight or a MAC address")]
    NothingToChange,
    /// An edit of a service without a change.
    #[error("Nothing to change: say what is to be other than it is")]
    NothingToChangeOfService,
    /// The flows of the service depend on its scheduler.
    #[error(
        "Scheduler {now} cannot become {wanted}: one goes by a table and the other one by what it remembers of each flow, or both by \
         other tables, so flows would break; remove the service, and add it anew"
    )]
    SchedulerStays {
        /// The scheduler that the service has.
        now: Scheduler,
        /// The one asked for.
        wanted: Scheduler,
    },
    /// There would be more services than [`MAX_SERVICES`].
    #[error("There are already {MAX_SERVICES} services, the maximum")]
    TooManyServices,
    /// The service would have more backends than [`MAX_BACKENDS`].
    #[error("Service {0} already has {MAX_BACKENDS} backends, the maximum")]
    TooManyBackends(ServiceId),
    /// There would be more backends over all services than [`MAX_TARGETS`].
    #[error("There are already {MAX_TARGETS} backends over all services, the maximum")]
    TooManyTargets,
    /// More than all of the backends.
    #[error("A share of {0} % of the backends is more than all of them: use 0 to 100")]
    MinUp(u8),
    /// Nobody can see whether clients get answers.
    #[error("passive = \"remove\" is for TCP: of {0}, nobody can see whether clients get answers")]
    PassiveOf(Protocol),
    /// The service would have more checks than [`MAX_CHECKS`].
    #[error("A service can have {MAX_CHECKS} checks, and {0} are asked for")]
    TooManyChecks(usize),
    /// A check cannot work.
    #[error("{why}")]
    Check {
        /// Its index in the list.
        index: usize,
        /// The field of the check; empty: all of it.
        field: &'static str,
        /// The reason, a sentence.
        why: String,
    },
    /// The checks would ask for more probes than [`MAX_PROBES_PER_S`].
    #[error(
        "The checks of all services would ask for {0} probes in a second, and {MAX_PROBES_PER_S} is the maximum: use longer intervals, or check arp"
    )]
    TooManyProbes(u32),
    /// The slow start is too long.
    #[error("A slow start of {0} s is too long: use at most {MAX_SLOW_START_S} s; 0 for none")]
    SlowStart(u32),
    /// This scheduler knows no weights.
    #[error(
        "Scheduler {0} does not look at weights, so none can rise: leave slow_start out, or use maglev, sh, wrr or wlc"
    )]
    SlowStartWithout(Scheduler),
    /// Another fallback would break the flows of the one that serves.
    #[error(
        "The fallback {address} of {service} serves now, and its flows would break: wait until another backend is back, or drain it first: \
         `shuntctl backend drain {service} {address}`"
    )]
    FallbackServes {
        /// The service.
        service: ServiceId,
        /// Its fallback.
        address: IpAddr,
    },
    /// An error of the fallback.
    #[error("The fallback: {0}")]
    Fallback(Box<ModelError>),
    /// An error of one backend in a list.
    #[error("{error}")]
    InList {
        /// Its index in the list.
        index: usize,
        /// The error.
        error: Box<ModelError>,
    },
}

fn networks_of(networks: &[String]) -> String {
    if networks.is_empty() { "it has none of that address family".into() } else { networks.join(", ") }
}

impl ModelError {
    /// The field of the request that is wrong, as the operator wrote it: `backends[1].weight`.
    pub fn field(&self) -> String {
        let field = match self {
            ModelError::NoSuchService(_) | ModelError::DuplicateService(_) | ModelError::TooManyServices => "service",
            ModelError::TooManyBackends(_) | ModelError::TooManyTargets => "backends",
            ModelError::NoSuchBackend { .. }
            | ModelError::DuplicateBackend { .. }
            | ModelError::Family { .. }
            | ModelError::BackendIsVip(_)
            | ModelError::BackendIsOwn(_)
            | ModelError::OffLink { .. } => "address",
            ModelError::VipIsOwn(_) | ModelError::VipIsBackend(_) => "vip",
            ModelError::NotUnicast(_) | ModelError::Mapped(_) | ModelError::LinkLocal(_) => "address",
            ModelError::PortsOverlap { .. } | ModelError::BackendPort { .. } => "port",
            ModelError::Weight(_) => "weight",
            ModelError::HashOfSh | ModelError::HashPrefix { .. } | ModelError::HashWithout(_) => "hash",
            ModelError::MustTrack(_) | ModelError::MustHandOver(_) => "tracking",
            ModelError::IdleTimeout(_) => "idle_timeout",
            ModelError::NothingToHandOver | ModelError::HandOverTime(_) => "handover_time",
            ModelError::MacNotUnicast(_) => "mac",
            ModelError::NothingToChange | ModelError::NothingToChangeOfService => "",
            ModelError::SchedulerStays { .. } => "scheduler",
            ModelError::MinUp(_) => "min_up",
            ModelError::FallbackServes { .. } | ModelError::Fallback(_) => "fallback",
            ModelError::SlowStart(_) | ModelError::SlowStartWithout(_) => "slow_start",
            ModelError::PassiveOf(_) => "passive",
            ModelError::TooManyChecks(_) | ModelError::TooManyProbes(_) => "checks",
            ModelError::Check { index, field: "", .. } => return format!("checks[{index}]"),
            ModelError::Check { index, field, .. } => return format!("checks[{index}].{field}"),
            ModelError::InList { index, error } => return format!("backends[{index}].{}", error.field()),
        };
        field.into()
    }
}

impl From<ModelError> for Refusal {
    fn from(error: ModelError) -> Self {
        Refusal { field: error.field(), message: error.to_string() }
    }
}
