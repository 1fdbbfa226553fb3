//! Shunt's dataplane: a layer-4 load balancer in direct-routing mode.
//!
//! # The life of a packet
//!
//! A client's packet for a VIP arrives on a queue that one [worker](forward::worker) polls. The worker takes a burst from each port, and
//! the burst goes through the stages of its [lane](forward), each of which has a file of its name:
//!
//! 1. **parse**: the bytes become a flow. Nearly all frames are read by [`wire::plain`] in a few instructions, all others by
//!    [`wire::parse`]. What contradicts itself leaves early, with a named [reason](base::exit).
//! 2. **service**: [`state::vips`] finds the service of the destination's address, port and protocol.
//! 3. **slot**: the flow's keyed [hash](wire::flow) names a slot of the service's [Maglev](select::maglev) table, and the slot a backend.
//! 4. **exceptions**: where the slot has moved lately, or where the [schedule](select::schedule) decides flow by flow, a
//!    [table of remembered flows](forward::exceptions) has the last word. Of most flows nothing is remembered, and nothing is looked up.
//! 5. **rewrite**: the MAC addresses of the backend and of the port are written over the frame's first 12 bytes, and
//!    [VLAN tags](wire::vlan) where one of the networks has some. Nothing else changes.
//! 6. **send**: the frame is [counted](count), and goes into the transmit burst of the port that the backend is behind.
//!
//! What is not for a service (ARP, neighbor discovery, ping) crosses a [ring](forward::rings) to the [slow path](slow) on a core of
//! its own. The slow path answers, and keeps the backends' MAC addresses fresh. Of a frame that tells of a mistake in the network,
//! the worker shows it a [sample](forward::sample).
//!
//! # The way of a change
//!
//! State flows the other way. A request to the [`api`], or a MAC address that the slow path has found, changes the
//! [director](control::director)'s [model](control::model). The model is [compiled](control::compile) to an immutable
//! [snapshot](state::snapshot), and each worker takes the [current one](state::publication) at the top of its next turn. When a
//! backend fails, a snapshot says so at once, in which other backends [stand in](state::outage); new tables follow.
//!
//! A port's link, MTU and MAC address are part of the snapshot, too. A thread of the daemon follows them: what it hears from the
//! [kernel](netlink) or from the device is in force with the next snapshot.
//!
//! # The rooms
//!
//! A folder is a room. Its `mod.rs` is the door: it says what the room is for, what goes in and out and which rooms it uses, and has no
//! code. An arrow goes down only; no files use each other in a circle. `tests/rooms.rs` has the rules and reads the imports.
//!
//! ```text
//! daemon   testing         put together; tried out
//! metrics                  what an operator's monitoring reads
//! api      config          what an operator says
//! slow                     what is not forwarding
//! health                   which backends serve
//! commands                 what the operator has run
//! forward  control         what happens to a burst; what happens to the state
//! state                    what workers read
//! wire  select  count      bytes; tables; numbers         dpdk     the only unsafe code
//!                                                         netlink  what the kernel says of interfaces
//! base                     what every room uses           log      what the daemon says, and libraries print
//! ```
//!
//! Only [`dpdk`] knows DPDK. All else works on slices and on the [traits of a packet](base::packet), and is tested in
//! [plain memory](testing).

pub mod api;
pub mod base;
pub mod commands;
pub mod config;
pub mod control;
pub mod count;
pub mod daemon;
pub mod dpdk;
pub mod forward;
pub mod health;
pub mod log;
pub mod metrics;
pub mod netlink;
pub mod select;
pub mod slow;
pub mod state;
pub mod testing;
pub mod wire;
