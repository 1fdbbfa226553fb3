//! Health checks: which backends serve, by probes that go to the VIP at each backend's MAC address, the way of a client's
//! packet; and what is wrong with those that do not.
//!
//! Nothing here reads a clock, opens a socket or waits. The slow path gives the time, takes the frames to send and
//! hands in those that came.
//!
//! - In: the model, the backends' MAC addresses, frames to the director's own addresses.
//! - Out: probes as frames; what they found; for the director, which backends are down.
//! - Uses: `base`, `wire`, `state`, `control`.

pub mod finding;

pub use finding::{Failure, Finding, Trouble};
