//! A network that the director is in.

use ipnet::IpNet;

use crate::base::ids::PortNo;
use crate::wire::vlan::Tags;

/// A network that the director is in: a port, or a VLAN of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// The port that it is on.
    pub port: PortNo,
    /// The port's name in the configuration.
    pub port_name: String,
    /// The VLAN tags of its frames.
    pub tags: Tags,
    /// The director's own addresses in the network, each with the network's prefix length.
    pub addresses: Vec<IpNet>,
}

impl Network {
    /// Its name: that of the port, with the VLAN if there is one (`lan0`, `lan0.100`).
    pub fn name(&self) -> String {
        if self.tags.is_none() { self.port_name.clone() } else { format!("{}.{}", self.port_name, self.tags) }
    }
}
