//! Packets and queues in plain memory, for tests without DPDK; traffic, and a director in miniature that it goes through.
//!
//! - In: bytes that decide what happens.
//! - Out: packets, queues, models, and the books on every frame.
//! - Uses: `base`, `wire`, `count`, `state`, `forward`, `control`, `slow`, `api`. Nothing but tests, benches and fuzz targets uses it.

pub mod choices;
pub mod docs;
pub mod facts;
pub mod frame;
pub mod memory;
pub mod model;
pub mod scene;
pub mod traffic;
pub mod world;
