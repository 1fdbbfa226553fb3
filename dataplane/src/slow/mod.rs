//! The slow path: all frame processing that is not forwarding, on a core of its own.
//!
//! Workers punt frames to it through bounded rings ([`Punt`](crate::forward::rings::Punt)). It answers ARP, neighbor
//! discovery and ping for the VIPs and the director's own addresses, and announces these addresses. It keeps the
//! backends' MAC addresses fresh. It [reports](report) what it sees to the operator as events. Its own frames go
//! through a ring to a worker, because the NIC's queues belong to the workers.
//!
//! Each protocol is a function from a frame to an [`Outcome`], with the time as an argument. Only [`SlowPath::turn`]
//! has side effects.
//!
//! - In: punted frames, and samples of dropped frames, from workers.
//! - Out: frames for workers to send; MAC addresses and failures for the director; events and faults.
//! - Uses: `base`, `wire`, `count`, `state`, `forward` (the rings), `control`, `commands`, `health`.

pub mod announce;
pub mod arp;
pub mod buffers;
pub mod echo;
pub mod mld;
pub mod ndp;
pub mod neighbor;
pub mod report;
pub mod slow_path;
pub mod too_big;
pub mod view;
pub mod watch;

pub use slow_path::{PortControl, SlowPath, process};
pub use view::{Frame, Learned, Outcome, View};
