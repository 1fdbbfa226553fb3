//! The base: types that every room may use.
//!
//! - In: numbers and plain values.
//! - Out: typed numbers, limits, lock files, the clock, counters, token buckets, the clients of a server, exit reasons, whether silence means something,
//!   the traits of packets and queues.
//! - Uses: no other room.

pub mod clock;
pub mod counter;
pub mod crowd;
pub mod ethertype;
pub mod exit;
pub mod frame;
pub mod ids;
pub mod limits;
pub mod lock_file;
pub mod packet;
pub mod token_bucket;
pub mod touched;
pub mod truth;
