//! The fast path: a burst's way from a receive queue to a transmit queue. Nothing here allocates, locks, logs or makes
//! a system call.
//!
//! - In: bursts of frames, a snapshot.
//! - Out: frames to backends; frames and samples for the slow path; counters.
//! - Uses: `base`, `wire`, `select`, `count`, `state`; of `dpdk` the clock and the prefetch.

mod admission;
mod answer;
mod choose;
pub mod class;
mod context;
mod decision;
pub mod exceptions;
pub mod fragment;
mod handshake;
mod ingress;
mod lane;
pub mod latency;
mod leave;
pub mod lending;
pub mod limits;
mod look;
pub mod port;
mod readdress;
pub mod rings;
pub mod sample;
mod target;
pub mod worker;

#[cfg(test)]
mod tests;
