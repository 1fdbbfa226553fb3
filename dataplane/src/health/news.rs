//! What the operator is to know of health checks.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use ctl::ServiceId;
use ctl::answer::Subject;

use crate::control::fault::{FaultKind, Sighting};

/// What has become of a backend or of a service's checks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// No check says any more that a backend is down.
    Up {
        /// The service.
        service: ServiceId,
        /// The backend.
        backend: IpAddr,
    },
    /// A check says that a backend is down.
    Down {
        /// The service.
        service: ServiceId,
        /// The backend.
        backend: IpAddr,
        /// The check and what its last probe found, in words.
        why: String,
    },
    /// A backend goes down too often: it is held out, whatever its checks say.
    Held {
        /// The service.
        service: ServiceId,
        /// The backend.
        backend: IpAddr,
        /// For how long.
        time: Duration,
        /// How often it went down lately. If that is not too often, it went down again soon after it was let in.
        downs: usize,
    },
    /// A backend is not held out any more.
    Released {
        /// The service.
        service: ServiceId,
        /// The backend.
        backend: IpAddr,
        /// Whether it is up by its checks.
        up: bool,
    },
    /// A backend is taken out, since its clients get no answer.
    TakenOut {
        /// The service.
        service: ServiceId,
        /// The backend.
        backend: IpAddr,
        /// What was counted, in words.
        why: String,
        /// For how long.
        time: Duration,
    },
    /// A backend that was taken out gets flows again.
    Tried {
        /// The service.
        service: ServiceId,
        /// The backend.
        backend: IpAddr,
    },
    /// Too few backends are up by the checks: these are not believed.
    NotBelieved {
        /// The service.
        service: ServiceId,
        /// How many backends are up by the checks, and how many there are.
        up: (usize, usize),
    },
    /// The checks are believed again.
    Believed {
        /// The service.
        service: ServiceId,
    },
}

/// A fault that a check has found, or that is mended.
#[derive(Debug, Clone)]
pub enum Seen {
    /// It is there.
    Fault(Sighting),
    /// It is there no more.
    Mended(FaultKind, Subject),
    /// A backend has answered nothing since then, neither at the VIP nor at its own address. It is a fault if it answers ARP or NDP.
    Mute {
        /// The fault.
        sighting: Sighting,
        /// When it was asked.
        since: Instant,
    },
    /// A backend has not answered a probe: it may have another MAC address, or be gone.
    Silent(IpAddr),
}
