//! Ports of the director.

use serde::{Deserialize, Serialize};

use crate::name::Mac;

/// A port of the director.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Port {
    /// Its name in the configuration.
    pub name: String,
    /// Its device in the configuration.
    pub device: String,
    /// The DPDK driver that runs it.
    pub driver: String,
    /// Its MAC address.
    pub mac: Mac,
    /// The director's own addresses there, with prefix length, in the network without VLAN tag.
    pub addresses: Vec<String>,
    /// The VLANs there.
    #[serde(default)]
    pub vlans: Vec<Vlan>,
    /// Whether the link is up.
    pub link_up: bool,
    /// Why it is not, as far as that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
    /// Link speed in Mbit/s; absent where the device knows none.
    pub speed_mbps: Option<u32>,
    /// Largest L3 packet in bytes.
    pub mtu: u16,
    /// RX/TX queue pairs, one a worker.
    pub queues: u16,
    /// Frames received by the workers.
    pub rx_packets: u64,
    /// Bytes received by the workers.
    pub rx_bytes: u64,
    /// Frames sent.
    pub tx_packets: u64,
    /// Frames sent that came from clients; the others are the director's own: ARP, announcements, answers, probes.
    #[serde(default)]
    pub forwarded_packets: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Frames that came and that no worker got: dropped by the NIC because a worker was too slow (`imissed`), or by the kernel.
    pub rx_missed: u64,
    /// Frames the NIC received with errors.
    pub rx_errors: u64,
    /// Frames the NIC could not be given memory for (`rx_nombuf`).
    pub rx_no_mbuf: u64,
    /// What the kernel counts at the port's AF_XDP sockets; absent where it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub xdp: Option<XdpSockets>,
}

/// What the kernel counts at a port's AF_XDP sockets, all of them together, since the port was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct XdpSockets {
    /// Received frames that were lost because there was no buffer in the fill ring, or because they were too long for one. Also in
    /// `rx_missed`.
    pub rx_dropped: u64,
    /// Received frames that were lost because the receive ring was full. Also in `rx_missed`.
    pub rx_ring_full: u64,
    /// How often there was no buffer in the fill ring.
    pub fill_ring_empty: u64,
    /// Buffers to receive into that the kernel has refused.
    pub rx_invalid: u64,
    /// Buffers to send from that the kernel has refused: their frames are lost.
    pub tx_invalid: u64,
}

/// A VLAN of a port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vlan {
    /// Its VLAN id, or two of them with a point between, the outer one first.
    pub id: String,
    /// The director's own addresses there, with prefix length.
    pub addresses: Vec<String>,
}
