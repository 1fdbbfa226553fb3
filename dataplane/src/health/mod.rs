//! Health checks: which backends serve, by probes that go to the VIP at each backend's MAC address, the way of a client's
//! packet; and what is wrong with those that do not.
//!
//! Nothing here reads a clock, opens a socket or waits. The slow path gives the time, takes the frames to send and
//! hands in those that came.
//!
//! - In: the model, the backends' MAC addresses, frames to the director's own addresses, what has become of commands.
//! - Out: probes as frames, commands to run; what they found; for the director, which backends are down.
//! - Uses: `base`, `count`, `state`, `control`, `commands` (its orders).

pub mod damping;
pub mod datagram;
mod diagnosis;
pub mod dns;
pub mod engine;
mod errand;
mod faults;
pub mod finding;
mod follow;
mod hear;
pub mod http;
mod incoming;
mod judge;
pub mod news;
pub mod passive;
mod probe;
pub mod pulse;
pub mod size;
mod stack;
#[cfg(test)]
mod tests;
pub mod tls;
mod way;

pub use engine::Engine;
pub use finding::{Failure, Finding, Trouble};
