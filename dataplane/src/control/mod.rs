//! What the operator wants and what the network says, made into snapshots. The only room where state changes.
//!
//! - In: requests, MAC addresses, failures.
//! - Out: snapshots, events.
//! - Uses: `base`, `wire`, `select`, `count`, `state`.

pub mod compile;
pub mod director;
pub mod events;
pub mod model;
