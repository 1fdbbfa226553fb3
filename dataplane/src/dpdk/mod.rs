//! DPDK, made safe: the only room that calls it, and the only one with unsafe code. It knows nothing of load balancing.
//!
//! - In: devices, and what is wanted of them.
//! - Out: ports, queue pairs, packet buffers.
//! - Uses: `base` (the traits that its packets and queues have).
//!
//! # Overview
//!
//! [`Eal`] stands for the initialized library. A [`Mempool`] has packet buffers. [`Port::open`] starts a device and returns the [`Port`], for
//! what concerns it as a whole (link, statistics, multicast), and a [`QueuePair`] for each worker, which is all that a worker needs
//! to receive and send. A packet is an [`Mbuf`]. A worker's thread is pinned by the caller and becomes a [`RegisteredThread`].
//!
//! ```no_run
//! use dataplane::base::packet::{Burst, Packet, PacketIo};
//! use dataplane::dpdk::{Device, Eal, EalOptions, Memory, Mempool, Port, PortSettings, ROOM, RegisteredThread};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let eal = Eal::init(&EalOptions {
//!     main_lcore: 0,
//!     memory: Memory::Plain { mib: 64 },
//!     file_prefix: "echo".into(),
//!     pci: vec!["0000:03:00.1".into()],
//!     extra: Vec::new(),
//! })?;
//! let pool = Mempool::create(&eal, "echo", 8_191, ROOM, None)?;
//! let device = Device::Pci("0000:03:00.1".into());
//! let settings = PortSettings { index: 0, device, queues: 1, vlan_strip: false, mtu: None };
//! let (port, mut queues) = Port::open(&eal, &pool, &settings)?;
//! println!("{} has the MAC address {}", port.device(), port.mac());
//!
//! // Sends back all that comes, with its MAC addresses exchanged.
//! let mut queue = queues.remove(0);
//! let worker = std::thread::spawn(move || {
//!     let _registered = RegisteredThread::register(&eal)?;
//!     for _ in 0..1_000_000 {
//!         let mut burst = Burst::new();
//!         queue.rx_burst(&mut burst);
//!         for addresses in burst.iter_mut().filter_map(|packet| packet.data_mut().first_chunk_mut::<12>()) {
//!             addresses.rotate_left(6);
//!         }
//!         queue.tx_burst(&mut burst);
//!         // What the device had no room for is dropped here: its buffers go back to the pool.
//!     }
//!     Ok::<(), dataplane::dpdk::DpdkError>(())
//! });
//! worker.join().expect("the worker does not panic")?;
//! # Ok(())
//! # }
//! ```
//!
//! # What is promised
//!
//! No call of a safe function here, with whatever arguments and from whichever thread, makes undefined behavior. What makes it hold:
//!
//! | type | threads | promise |
//! |---|---|---|
//! | [`Eal`] | `Send`, `Sync`, in an `Arc` | one in a process's life; cleans up when the last of all values below is gone |
//! | [`Mempool`] | `Send`, `Sync`, in an `Arc` | any thread takes and gives; its memory stays as long as one buffer is out |
//! | [`Mbuf`] | `Send` | one owner; dropping it frees it, sending it hands it to the device |
//! | [`Port`] | `Send`, `Sync` | one for a device; calls that must not meet take turns |
//! | [`QueuePair`] | `Send` | one value for a queue, so one thread polls it; holds the port open |
//! | [`RegisteredThread`] | neither | one for a thread; holds EAL, and empties the thread's caches at its end |
//!
//! - **Teardown in any order.** Values hold what they need (a queue pair its port, a port its pool, all of them EAL). The one exception is
//!   an `Mbuf`, which would pay for a reference count with each packet: instead, a pool with a buffer missing is never freed.
//! - **One owner for a device.** `Port::open` refuses a device that is open, whatever name it is given by, and two ways to one Linux
//!   interface; also where it is another process that has the interface. When the port and its queue pairs are gone, it can be opened again.
//! - **"Fast free"** (`RTE_ETH_TX_OFFLOAD_MBUF_FAST_FREE`) asks that all buffers that a queue sends be of one pool. As any buffer may be sent by any
//!   port, it is on where there is one pool, off where there are several; and while a port relies on it, there can be no second pool.
//! - **Frames in several buffers** are sent by devices that take such; elsewhere they stay in the burst.
//!
//! What is trusted: DPDK and its drivers, and with them the arguments that an operator gives to EAL ([`EalOptions::extra`] can load a driver from
//! a file) and to virtual devices.
//!
//! # Errors and panics
//!
//! What depends on the machine or on the operator is an error ([`EalError`], [`MempoolError`], [`PortError`]) whose sentence says what
//! to change; what DPDK says of it is its source ([`DpdkError`]). A panic, where a function's documentation has one, is a mistake in the
//! calling program. Nothing that a worker calls for a packet allocates, locks, or panics.
//!
//! What changes between DPDK releases is here and in `dpdk-sys`.
#![expect(unsafe_code, reason = "calls DPDK")]

mod cpu;
mod descriptors;
mod device;
mod eal;
mod error;
mod frame_size;
mod generator;
mod interface_lock;
mod interface_stats;
mod layout;
mod lcore;
mod mbuf;
mod mempool;
mod null_device;
mod open_port;
mod packet_socket;
mod port;
mod port_error;
mod port_events;
mod port_stats;
mod queue;
mod registry;
mod settings;
mod sockets;
mod umem;
mod xdp_check;
mod xdp_rings;

pub use cpu::{prefetch, tsc, tsc_hz};
pub use device::{Device, Driver};
pub use eal::{Eal, EalError, EalOptions, Memory, version};
pub use error::DpdkError;
pub use generator::{Generator, MAX_FLOWS};
pub use layout::{Layout, MOST_ROOM, ROOM};
pub use lcore::RegisteredThread;
pub use mbuf::Mbuf;
pub use mempool::{Mempool, MempoolError};
pub use packet_socket::{REASSEMBLES, fragments_come_as_they_are};
pub use port::{Link, Port};
pub use port_error::PortError;
pub use port_events::PortNews;
pub use port_stats::PortStats;
pub use queue::QueuePair;
pub use settings::PortSettings;
pub use sockets::XdpStats;
pub use xdp_check::XdpError;
