//! The input and the output of the protocols: what is known when a frame is processed, and what it leads to.

use std::net::IpAddr;

use ctl::Mac;

pub use crate::base::frame::Frame;
use crate::base::ids::NetworkNo;
use crate::control::compile::Compiled;
use crate::state::networks::LocalNetwork;
use crate::state::vips::Local;
use crate::wire::source::is_martian;

/// What a frame leads to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The answer.
    pub reply: Option<Frame>,
    /// What the frame says about a neighbor's MAC address.
    pub learned: Option<Learned>,
    /// What it says about an address of ours.
    pub claim: Option<Claim>,
}

/// Another station says that it has an address of ours: a VIP, or one of the director's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// The address.
    pub address: IpAddr,
    /// The MAC address where it is, as the frame says.
    pub mac: Mac,
    /// The station that has sent the frame.
    pub station: Mac,
    /// By what.
    pub how: How,
}

/// What a claim is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// The answer to a question.
    Answers,
    /// Unsolicited.
    Announces,
    /// A question for something else, whose sender has that address.
    Asks,
}

/// The MAC address of a neighbor, as a frame says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Learned {
    /// The neighbor's IP address.
    pub address: IpAddr,
    /// The MAC address.
    pub mac: Mac,
    /// How reliable this is.
    pub evidence: Evidence,
}

/// What the slow path knows when it processes one frame.
#[derive(Debug, Clone, Copy)]
pub struct View<'s> {
    /// The current model and snapshot.
    pub current: &'s Compiled,
    /// The network that the frame came from.
    pub network: NetworkNo,
}

impl<'s> View<'s> {
    /// Our port, tags and addresses in that network.
    pub fn local(&self) -> &'s LocalNetwork {
        self.current.network(self.network)
    }

    /// Our MAC address there.
    pub fn mac(&self) -> Mac {
        self.local().link.mac
    }

    /// Whether a frame can have come from this MAC address, so that an answer can go there. A group address is no
    /// source: all members of the group would get the answer. Nor is our own address.
    pub(super) fn is_station(&self, source: Mac) -> bool {
        source.is_unicast() && source != self.mac()
    }

    /// Whether an address is a single host's, so that an answer can go there (RFC 1122 §3.2.1.3 and §3.2.2, RFC 4443 §2.2
    /// and §2.4). A VIP is no single host's, and one of our own addresses would make us answer ourselves.
    pub fn is_host(&self, address: IpAddr) -> bool {
        let vips = &self.current.vips;
        !is_martian(address) && vips.local(address).is_none() && !vips.is_broadcast(address)
    }

    /// Whether a station with this address is told our MAC address: a host, or a backend that asks from its VIP, as
    /// `arp_announce=0` has it. Without an answer, such a backend could not even answer our probes.
    pub fn may_ask(&self, address: IpAddr) -> bool {
        self.is_host(address) || self.current.vips.local(address) == Some(Local::Vip)
    }

    /// What a frame claims that says that `address` is at `mac`. Only for an address that we answer for in this network;
    /// what others say of it elsewhere leads nobody astray.
    pub(super) fn claim(&self, address: IpAddr, mac: Mac, station: Mac, how: How) -> Option<Claim> {
        (mac != self.mac() && self.answers_for(address)).then_some(Claim { address, mac, station, how })
    }

    /// Whether we answer for an address in this network. We answer for our own addresses in this network and for the
    /// VIPs that belong to it. We do not answer for our address in another network, which would draw that network's
    /// traffic here (like `arp_ignore=1`).
    pub fn answers_for(&self, address: IpAddr) -> bool {
        match self.current.vips.local(address) {
            Some(Local::Own) => self.local().addresses.iter().any(|net| net.addr() == address),
            Some(Local::Vip) => vip_network(self.current, address).is_none_or(|network| network == self.network),
            None => false,
        }
    }
}

/// The network that a VIP lies in. A VIP that lies in no network is routed to the director; it belongs to all networks.
pub fn vip_network(current: &Compiled, vip: IpAddr) -> Option<NetworkNo> {
    current.model.network_towards(vip)
}

/// How reliable a statement about a MAC address is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Evidence {
    /// The answer to a probe of ours.
    Answer,
    /// Unsolicited, or part of a request for another station's address.
    Announcement,
    /// It must not replace a known MAC address (no override flag).
    Hint,
}
