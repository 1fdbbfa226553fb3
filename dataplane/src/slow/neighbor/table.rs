//! The neighbor table: all backends by address, and what has changed since the caller last looked.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use ctl::Mac;

use crate::base::ids::NetworkNo;
use crate::base::truth::Truth;
use crate::control::model::{Model, Outlook};
use crate::slow::neighbor::nud::Neighbor;
use crate::state::networks::PortLink;

/// What has become of a backend's MAC address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct News {
    /// The backend.
    pub address: IpAddr,
    /// The network by which it is reached.
    pub network: NetworkNo,
    /// The MAC address that it had.
    pub before: Option<Mac>,
    /// The MAC address that it has now; `None`: the backend does not answer.
    pub now: Option<Mac>,
    /// Whether others of its network answer.
    pub others_answer: bool,
}

/// All backends' MAC addresses.
#[derive(Debug, Default, Clone)]
pub struct Neighbors {
    pub(super) table: BTreeMap<IpAddr, Neighbor>,
    /// When the first probe is due. `None`: unknown, so the whole table must be looked through.
    pub(super) next_due: Option<Instant>,
    /// The backend that comes first at the next probes, if there was no room for its probe at the last ones.
    pub(super) next_probed: Option<IpAddr>,
    /// Where backends that were given up without a witness were looked for last (network, and whether IPv4), and when.
    pub(super) revived: Option<(NetworkNo, bool, Instant)>,
    /// The backends whose MAC address has changed since the last [`take_changed_macs`](Self::take_changed_macs).
    pub(super) changed: BTreeSet<IpAddr>,
    /// The model of the last [`sync`](Self::sync).
    pub(super) model: Option<Arc<Model>>,
    /// What has happened since the last [`take_news`](Self::take_news). The times between probes bound it to a few
    /// items a backend.
    pub(super) news: Vec<News>,
    /// The ports' links, as last seen.
    pub(super) links: Vec<PortLink>,
    /// Whether there may be backends that were given up without a witness.
    pub(super) undecided: bool,
    /// How the backends can be reached, as of the last [`judge`](Self::judge).
    pub(super) outlook: Outlook,
    /// Whether nothing has happened since then that may make the outlook another one.
    pub(super) judged: bool,
    /// Whether a neighbor's silence means something. It hears of lost frames alone: where the slow path was stopped, what came meanwhile
    /// is still there, and no more than one probe of a neighbor goes by.
    pub(super) truth: Truth,
}

impl Neighbors {
    /// The backends by address.
    pub fn table(&self) -> &BTreeMap<IpAddr, Neighbor> {
        &self.table
    }

    /// The backends in the order of their addresses.
    pub fn iter(&self) -> impl Iterator<Item = (&IpAddr, &Neighbor)> {
        self.table.iter()
    }

    /// What is known of a backend.
    pub fn get(&self, address: IpAddr) -> Option<&Neighbor> {
        self.table.get(&address)
    }

    /// What has happened since the last call.
    pub fn take_news(&mut self) -> Vec<News> {
        std::mem::take(&mut self.news)
    }

    /// The MAC addresses that have changed since the last call. A backend that was removed has none.
    pub fn take_changed_macs(&mut self) -> Vec<(IpAddr, Option<Mac>)> {
        let changed = std::mem::take(&mut self.changed).into_iter();
        changed.map(|address| (address, self.table.get(&address).and_then(|neighbor| neighbor.mac))).collect()
    }

    /// How the backends can be reached, as of the last [`judge`](Self::judge).
    pub fn outlook(&self) -> &Outlook {
        &self.outlook
    }
}
