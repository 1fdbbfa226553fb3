//! The control side: makes snapshots from the operator's configuration and the state of the network. State changes in
//! this room only.
//!
//! - In: requests, the backends' MAC addresses, failed backends.
//! - Out: snapshots, events, open faults.
//! - Uses: `base`, `wire`, `select`, `count`, `state`.

pub mod compile;
pub mod director;
pub mod events;
pub mod fault;
pub mod faults;
pub mod hash_key;
pub mod model;
