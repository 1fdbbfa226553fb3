//! A frame that the director itself sends.

use crate::base::ids::NetworkNo;

/// A frame to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// The network to send it to.
    pub network: NetworkNo,
    /// The frame from its Ethernet header on, without VLAN tags.
    pub bytes: Vec<u8>,
}
