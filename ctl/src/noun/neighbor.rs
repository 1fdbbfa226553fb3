//! Neighbors: the backends' MAC addresses.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::name::Mac;

/// A backend's address and how it was resolved.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Neighbor {
    /// The IP address.
    pub address: IpAddr,
    /// The port by whose network it is reached; where that is a VLAN, with its id: `lan0.100`.
    pub port: String,
    /// Its MAC address, where known. A neighbor that was given up keeps its last one.
    pub mac: Option<Mac>,
    /// Where its resolution stands.
    pub state: NeighborState,
    /// Seconds since the MAC address was last confirmed; absent where it never was, or is pinned.
    pub confirmed_s: Option<u64>,
    /// Probes sent since the last answer.
    pub probes: u32,
    /// How often its MAC address has changed.
    pub changes: u64,
    /// How many services it serves.
    pub services: usize,
}

/// Where a neighbor's resolution stands; the names are those of `ip neighbor` where it has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NeighborState {
    /// The configuration gives its MAC address.
    Permanent,
    /// Asked for, never answered.
    Incomplete,
    /// Confirmed within the reachable time.
    Reachable,
    /// Being confirmed again; the MAC address stays in use.
    Probe,
    /// No answer; it is asked for now and then. Its MAC address stays in use if it may only seem dead.
    Failed,
}
