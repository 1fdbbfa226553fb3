//! The director's networks, and the VLANs of a port.

use ctl::Mac;
use hashbrown::HashMap;
use ipnet::IpNet;

use crate::base::ids::{NetworkNo, PortNo};
use crate::wire::vlan::Tags;

/// The properties of a port that its device reports. They may change at any time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortLink {
    /// The MAC address.
    pub mac: Mac,
    /// The largest L3 packet.
    pub mtu: u16,
    /// Whether the link is up.
    pub up: bool,
    /// How often the port has joined its network again: its link has come up, or it has another MAC address. Each time, the
    /// network must be told where the director's addresses are.
    pub joins: u32,
}

impl PortLink {
    /// A port whose link is up.
    pub const fn new(mac: Mac, mtu: u16) -> Self {
        PortLink { mac, mtu, up: true, joins: 0 }
    }
}

/// A network as the slow path sees it.
#[derive(Debug)]
pub struct LocalNetwork {
    /// The port that it is on.
    pub port: PortNo,
    /// The VLAN tags that its frames have there.
    pub tags: Tags,
    /// The port's MAC address, MTU and link.
    pub link: PortLink,
    /// Our own addresses, the link-local one among them.
    pub addresses: Box<[IpNet]>,
}

/// A port's networks by their VLAN tags, as numbers in `Snapshot::networks`.
#[derive(Debug, Default)]
pub struct PortVlans {
    untagged: Option<NetworkNo>,
    tagged: HashMap<Tags, NetworkNo>,
}

impl PortVlans {
    /// Adds a network.
    pub fn insert(&mut self, tags: Tags, network: NetworkNo) {
        if tags.is_none() {
            self.untagged = Some(network);
        } else {
            self.tagged.insert(tags, network);
        }
    }

    /// Whether the port has a network without tags.
    #[inline]
    pub fn has_untagged(&self) -> bool {
        self.untagged.is_some()
    }

    /// The network whose frames have these tags.
    pub fn network(&self, tags: Tags) -> Option<NetworkNo> {
        if tags.is_none() { self.untagged } else { self.tagged.get(&tags).copied() }
    }
}
