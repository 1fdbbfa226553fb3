//! The ground floor: what every room may use.
//!
//! - In: numbers and plain values.
//! - Out: numbers of things, limits, the clock, counters, token buckets, the reasons why a frame leaves, and the traits of packets and queues.
//! - Uses: no other room.

pub mod clock;
pub mod counter;
pub mod exit;
pub mod ids;
pub mod limits;
pub mod packet;
pub mod token_bucket;
