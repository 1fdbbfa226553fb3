//! Packets and queues in plain memory, for tests without DPDK; traffic, and a director in miniature that it goes through.

pub mod choices;
pub mod facts;
pub mod frame;
pub mod memory;
pub mod model;
pub mod scene;
pub mod traffic;
