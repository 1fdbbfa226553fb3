//! DPDK, made safe: the only room that calls it, and the only one with unsafe code. It knows nothing of load balancing.
//!
//! [`Eal`] stands for the initialized library; [`Mempool`] and [`Port`] hold it, [`Mbuf`] and [`QueuePair`] are what
//! a worker works with. What changes between DPDK releases is here and in `dpdk-sys`.
//!
//! - In: devices, and what is wanted of them.
//! - Out: ports, queue pairs, packet buffers.
//! - Uses: `base` (the traits that its packets and queues have).
#![expect(unsafe_code, reason = "calls DPDK")]

mod device;
mod eal;
mod error;
mod frame_size;
mod generator;
mod lcore;
mod mbuf;
mod mempool;
mod open_port;
mod port;
mod port_error;
mod queue;
mod settings;

pub use device::{Device, Driver};
pub use eal::{Eal, EalError, EalOptions, Memory, version};
pub use error::DpdkError;
pub use generator::{Generator, MAX_FLOWS};
pub use lcore::{RegisteredThread, prefetch, tsc, tsc_hz};
pub use mbuf::Mbuf;
pub use mempool::{Mempool, MempoolError, ROOM};
pub use port::{Link, Port, PortStats};
pub use port_error::PortError;
pub use queue::QueuePair;
pub use settings::PortSettings;
