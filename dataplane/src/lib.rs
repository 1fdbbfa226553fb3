//! Shunt's dataplane: a layer-4 load balancer in direct-routing mode.
//!
//! # The life of a packet
//!
//! A client's packet for a VIP arrives on a queue that one [`worker`] polls. The worker takes it through the stages of
//! its burst:
//!
//! 1. [`parse`]: bytes to [`parse::Headers`], the flow and what it carries; or an early [`exit`] with a named reason.
//! 2. [`vips`]: destination address, port and protocol to a service.
//! 3. [`flow`]: the flow's keyed hash; [`maglev`]: the hash's slot in the service's table, the backend that has it.
//! 4. [`exceptions`]: the backend that is remembered for the flow, where the slot has moved lately or the [`schedule`] decides
//!    flow by flow. Of most flows, nothing is remembered, and nothing is looked up.
//! 5. [`worker`]: the backend's and the port's MAC address are written over the frame's first 12 bytes, and, where one of
//!    the networks has VLAN [tags](vlan), these; nothing else;
//!    the frame is [counted](counters) and goes into the transmit burst of the port that the backend is behind. Of one burst in
//!    some, the time from receiving to sending is [taken](latency).
//!
//! What is not for a service (ARP, neighbor discovery, ping) crosses a ring to the [`slow`] path, on a core of its own,
//! which answers, and which keeps the backends' MAC addresses fresh.
//!
//! What the operator should hear of goes to the log of [`events`]; of a frame that tells of a mistake in the network, a
//! worker shows the slow path a [`sample`].
//!
//! State flows the other way: a request to the [`api`], or a MAC address that the slow path has found, changes the
//! [`director`]'s state; the [`model`] of what the operator wants is compiled to an immutable snapshot; each worker
//! takes it at the top of its next turn. When a backend fails, a snapshot says so at once, in which others [stand in](outage);
//! the tables follow, from a thread of their own.
//!
//! Only [`dpdk`] knows DPDK. All else works on slices and on [`packet`]'s traits, and is tested in [plain memory](testing).

pub mod api;
pub mod bucket;
pub mod config;
pub mod counters;
pub mod director;
pub mod dpdk;
pub mod events;
pub mod exceptions;
pub mod exit;
pub mod flow;
pub mod fragment;
pub mod latency;
pub mod maglev;
pub mod memory;
pub mod model;
pub mod outage;
pub mod packet;
pub mod parse;
pub mod sample;
pub mod schedule;
pub mod slow;
pub mod snapshot;
pub mod testing;
pub mod vips;
pub mod vlan;
pub mod worker;
pub mod wrr;
