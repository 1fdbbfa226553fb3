//! DPDK, made safe: the only module that calls it, and the only one with unsafe code. It knows nothing of load
//! balancing.
//!
//! [`Eal`] stands for the initialized library; [`Mempool`] and [`Port`] hold it, [`Mbuf`] and [`QueuePair`] are what
//! a worker works with. What changes between DPDK releases is here and in `dpdk-sys`.
#![expect(unsafe_code, reason = "calls DPDK")]

mod eal;
mod error;
mod heap;
mod lcore;
mod mbuf;
mod mempool;
mod port;
mod queue;

pub use eal::{Eal, EalError, EalOptions, Memory, version};
pub use error::DpdkError;
pub use heap::give_back_free_memory;
pub use lcore::{RegisteredThread, prefetch, tsc, tsc_hz};
pub use mbuf::Mbuf;
pub use mempool::{Mempool, MempoolError, ROOM};
pub use port::{Device, Driver, Link, Port, PortError, PortSettings, PortStats};
pub use queue::QueuePair;
