//! Packets and queues in plain memory, for tests without DPDK.

pub mod frame;
pub mod memory;
pub mod model;
