//! The director at a glance.

use serde::{Deserialize, Serialize};

use crate::noun::doctor::Fault;

/// The director at a glance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The daemon's version.
    pub version: String,
    /// The version of the DPDK it runs on.
    pub dpdk: String,
    /// Its process id.
    pub pid: u32,
    /// Seconds since it started.
    pub uptime_s: u64,
    /// The configuration file it was started from.
    pub config_file: String,
    /// Whether packet memory is in hugepages.
    pub hugepages: bool,
    /// The packet buffers.
    #[serde(default)]
    pub packet_buffers: PacketBuffers,
    /// The number of the current snapshot; each change makes a new one.
    pub generation: u64,
    /// How many workers forward.
    pub workers: usize,
    /// How many ports there are, and how many have their link up.
    pub ports: Count,
    /// How many services there are, and how many have a backend that can be reached.
    pub services: Count,
    /// How many backends there are over all services, and how many have their MAC address known.
    pub backends: Count,
    /// Frames received since the start.
    pub rx_packets: u64,
    /// Frames forwarded to backends since the start.
    pub forwarded_packets: u64,
    /// Frames dropped since the start, for whatever reason.
    pub dropped_packets: u64,
    /// What needs the operator's attention, a sentence each.
    pub warnings: Vec<String>,
    /// Events of the last hour that an operator should look at.
    #[serde(default)]
    pub events: EventCount,
    /// How many faults are open.
    #[serde(default)]
    pub fault_count: FaultCount,
    /// The open faults, the worst first, but not all where there are very many.
    #[serde(default)]
    pub faults: Vec<Fault>,
    /// Lines of the daemon's log that were lost since the start, because nobody read them or their disk was full.
    #[serde(default)]
    pub lost_log_lines: u64,
}

/// The buffers that frames are received into.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PacketBuffers {
    /// With frames in them, or waiting for frames in the ports' receive queues.
    pub in_use: u32,
    /// All there are.
    pub total: u32,
}

/// How many events were bad ones.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventCount {
    /// Of severity `warn`.
    pub warn: usize,
    /// Of severity `error`.
    pub error: usize,
}

/// How many faults are open.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaultCount {
    /// Of severity `warn`.
    pub warn: usize,
    /// Of severity `error`.
    pub error: usize,
    /// Faults for which there was no room: there were too many.
    #[serde(default)]
    pub left_out: u64,
}

/// So many, of which so many are well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// All of them.
    pub total: usize,
    /// Those that work.
    pub up: usize,
}
