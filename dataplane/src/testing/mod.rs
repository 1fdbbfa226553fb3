//! Packets and queues in plain memory, for tests without DPDK. Also test traffic, and a small director that forwards
//! it.
//!
//! - In: bytes that decide what happens.
//! - Out: packets, queues, models, and an account of every frame.
//! - Uses: `base`, `wire`, `count`, `state`, `forward`, `control`, `health`, `slow`, `api`. Nothing but tests, benches and fuzz targets uses it.

pub mod choices;
pub mod docs;
pub mod exposition;
pub mod facts;
pub mod frame;
pub mod memory;
pub mod model;
mod receiver;
pub mod scene;
pub mod traffic;
pub mod world;
