//! What the protocols work with: a frame and what is known around it; and what comes of it.

use std::net::IpAddr;

use ctl::Mac;

use crate::base::ids::NetworkNo;
use crate::control::compile::Compiled;
use crate::state::networks::LocalNetwork;
use crate::state::vips::Local;

/// A frame to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// The network to send it to.
    pub network: NetworkNo,
    /// The frame from its Ethernet header on, without VLAN tags.
    pub bytes: Vec<u8>,
}

/// What a protocol makes of a frame.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The answer.
    pub reply: Option<Frame>,
    /// What it tells about somebody's MAC address.
    pub learned: Option<Learned>,
}

/// Somebody's MAC address, as somebody says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Learned {
    /// Whose.
    pub address: IpAddr,
    /// The MAC address.
    pub mac: Mac,
    /// How good the word is.
    pub evidence: Evidence,
}

/// What the slow path knows while it looks at one frame.
#[derive(Debug, Clone, Copy)]
pub struct View<'s> {
    /// The current model and snapshot.
    pub current: &'s Compiled,
    /// The network that the frame came from.
    pub network: NetworkNo,
}

impl<'s> View<'s> {
    /// Our part in that network.
    pub fn local(&self) -> &'s LocalNetwork {
        self.current.network(self.network)
    }

    /// Our MAC address there.
    pub fn mac(&self) -> Mac {
        self.local().link.mac
    }

    /// Whether a frame can have come from this MAC address, so that an answer can go there. Not from a group, whose members
    /// would all get it; nor from ourselves.
    pub(super) fn is_station(&self, source: Mac) -> bool {
        source.is_unicast() && source != self.mac()
    }

    /// Whether we answer for an address in this network: for our own there, and for the VIPs that belong there. Not for
    /// our address in another one: it would draw that network's traffic here (as `arp_ignore=1`).
    pub fn answers_for(&self, address: IpAddr) -> bool {
        match self.current.vips.local(address) {
            Some(Local::Own) => self.local().addresses.iter().any(|net| net.addr() == address),
            Some(Local::Vip) => vip_network(self.current, address).is_none_or(|network| network == self.network),
            None => false,
        }
    }
}

/// The network that a VIP lies in. One that lies in none (it is routed to the director) belongs to all.
pub fn vip_network(current: &Compiled, vip: IpAddr) -> Option<NetworkNo> {
    current.model.network_towards(vip)
}

/// How good somebody's word about a MAC address is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Evidence {
    /// The answer to a question of ours.
    Answer,
    /// Said without being asked, or in asking for somebody else.
    Announcement,
    /// Said without claim to replace what is known (no override flag).
    Hint,
}
