//! Handshakes: a sample of the TCP connections that clients open, and whether their clients got an answer.
//!
//! The director sees the clients' packets only. A client that gets no answer to its SYN sends it again, a second later; one that gets an
//! answer sends something else. So a sampled SYN (`sampled.rs`) is *answered* when another packet of its flow follows, and *unanswered*
//! when the SYN comes again first. Where neither comes, it counts for nothing: forged SYNs are like that.
//!
//! A worker looks at all of its frames for a part of the time only (`windows.rs`), the more of them the less it has to do. So a packet of a
//! busy worker costs nothing most of the time. The reasons are in `docs/design/015-passive-health.md`.

pub(super) mod handshakes;
mod sampled;
mod watch;
mod windows;

pub(super) use watch::watch;
