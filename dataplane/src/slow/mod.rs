//! The slow path: everything that is not forwarding, on a core of its own.
//!
//! Workers give it frames through bounded rings ([`Punt`](crate::forward::rings::Punt)); it answers ARP, neighbor discovery and ping for the VIPs and
//! the director's own addresses, announces them, keeps the backends' MAC addresses fresh, and [tells](report) the
//! operator what it sees. What it sends goes
//! through a ring to a worker, because the queues belong to the workers.
//!
//! Each protocol is a function from a frame to what comes of it; the time is an argument. Only [`SlowPath::turn`]
//! does something.
//!
//! - In: frames and samples from workers.
//! - Out: frames for workers to send; MAC addresses and failures for the director; events.
//! - Uses: `base`, `wire`, `count`, `state`, `forward` (the rings), `control`.

pub mod announce;
pub mod arp;
pub mod echo;
pub mod mld;
pub mod ndp;
pub mod neighbor;
pub mod report;
pub mod slow_path;
pub mod too_big;
pub mod view;

pub use slow_path::{PortControl, SlowPath, process};
pub use view::{Frame, Learned, Outcome, View};
