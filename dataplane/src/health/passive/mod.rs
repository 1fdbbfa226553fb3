//! Passive health: backends whose clients get no answer, found by the clients' own packets.
//!
//! Workers look at a sample of the handshakes ([`HandshakeCounters`](crate::count::counters::HandshakeCounters)). Here their counts are compared: a
//! backend whose clients repeat their SYNs far more often than those of the service's other backends has the fault
//! `one-way`. Where the operator wants that, it is taken out for a time, and tried again. The reasons are in
//! `docs/design/015-passive-health.md`.

mod judge;
mod pool;
mod watch;
mod window;

pub use watch::{Believed, Passive};
