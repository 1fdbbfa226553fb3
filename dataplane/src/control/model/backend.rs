//! A backend of one service.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;

use ctl::Mac;

use crate::base::ids::NetworkNo;
use crate::count::lease::TargetLease;

/// What the network says of the backends.
#[derive(Clone, Copy)]
pub struct Reachability<'a> {
    /// Who does not answer; the others do, or are not known not to.
    pub down: &'a HashSet<IpAddr>,
    /// Whose MAC address is known.
    pub resolved: &'a dyn Fn(IpAddr) -> bool,
}

/// A backend of one service.
#[derive(Debug, Clone)]
pub struct Backend {
    /// Its address.
    pub address: IpAddr,
    /// Its weight, 0 to [`ctl::MAX_WEIGHT`].
    pub weight: u32,
    /// Its MAC address, where the operator gives it.
    pub pinned: Option<Mac>,
    /// The network by which it is reached.
    pub network: NetworkNo,
    /// Its counters.
    pub target: Arc<TargetLease>,
    /// Its slots of the service's table.
    pub slots: u32,
    /// Whether it takes part. A backend that is added to a running service does when its MAC address is known for the
    /// first time: before that, its share of the flows would be lost.
    pub joined: bool,
    /// Whether it takes new flows, or is being drained.
    pub duty: Duty,
    /// Whether it cannot be reached, or fails its checks. Nothing goes there.
    pub down: bool,
}

/// What the operator wants a backend to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Duty {
    /// Take new flows, by its weight.
    Serve,
    /// Take no new flows; keep the old ones until they end, or until then.
    Drain {
        /// In ms.
        until_ms: Option<u64>,
    },
    /// Its drain's deadline has passed: nothing goes there.
    Drained,
}

impl Backend {
    /// Whether it is one of those that do not answer. One whose MAC address is given need not.
    pub(super) fn is_among(&self, down: &HashSet<IpAddr>) -> bool {
        self.pinned.is_none() && down.contains(&self.address)
    }

    /// Whether the operator wants it to have new flows.
    pub(super) fn is_wanted(&self) -> bool {
        self.joined && self.weight > 0 && self.duty == Duty::Serve
    }
}
