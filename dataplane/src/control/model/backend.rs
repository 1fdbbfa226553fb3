//! A backend of one service.

use std::net::IpAddr;
use std::sync::Arc;

use ctl::Mac;

use crate::base::ids::NetworkNo;
use crate::control::model::contact::Contact;
use crate::control::model::rise::Rise;
use crate::count::lease::TargetLease;

/// A backend of one service.
#[derive(Debug, Clone)]
pub struct Backend {
    /// Its address.
    pub address: IpAddr,
    /// Its weight, 0 to [`ctl::MAX_WEIGHT`].
    pub weight: u32,
    /// Its MAC address, if the operator sets it.
    pub pinned: Option<Mac>,
    /// The network by which it is reached.
    pub network: NetworkNo,
    /// Its counters.
    pub target: Arc<TargetLease>,
    /// Its slots of the service's table.
    pub slots: u32,
    /// Whether it gets flows at all. A backend that is added to a running service gets none until its MAC address is
    /// known for the first time. Before that, its share of the flows would be lost.
    pub joined: bool,
    /// How far its slow start has come.
    pub rise: Option<Rise>,
    /// Whether it takes new flows only where no other backend does.
    pub fallback: bool,
    /// Whether it takes new flows, or is being drained.
    pub duty: Duty,
    /// Whether it can be reached.
    pub contact: Contact,
}

/// What the operator wants a backend to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Duty {
    /// Take new flows, by its weight.
    Serve,
    /// Take no new flows. Keep the old ones until they end, or until the deadline.
    Drain {
        /// The deadline in ms, on the clock of [`Model::now_ms`](crate::control::model::Model::now_ms).
        until_ms: Option<u64>,
    },
    /// The deadline of its drain has passed: no packets go there.
    Drained,
    /// Get nothing, as if it were down, whatever its checks say. When it is enabled soon, it has those flows back that were silent.
    Disabled,
}

impl Backend {
    /// Whether others get its new flows, because it may be dead.
    pub(super) fn is_suspended(&self) -> bool {
        matches!(self.contact, Contact::Suspended { .. })
    }

    /// Whether its flows are gone for good: whatever it will get, it does not get them back.
    pub(in crate::control) fn is_gone(&self) -> bool {
        self.duty == Duty::Drained
    }

    /// Whether the operator wants it to have new flows.
    pub(super) fn is_wanted(&self) -> bool {
        self.joined && self.weight > 0 && self.duty == Duty::Serve
    }

    /// Whether it is one of those that are to serve, of which enough must be left (`min_up`): wanted, and no fallback.
    pub fn is_counted(&self) -> bool {
        self.is_wanted() && !self.fallback
    }
}
