//! Fragments: a packet's later fragments follow its first.
//!
//! Only the first fragment has the ports. They are kept in a small table (`firsts.rs`), and later fragments are forwarded
//! as if they had these ports: by the same code, through the same service and slot to the same backend. A later
//! fragment that arrives before its first is held (`held.rs`) for a moment.
//!
//! RSS sees no ports in fragments, and NICs differ in how they distribute them. So all fragments of a packet have one
//! worker, their *owner*, chosen by a hash of the fields that they share. A worker that receives a fragment of another
//! owner passes it on (`passing.rs`).
//!
//! **Floods.** Everything is bounded, and where there is no room, the sender that has the most gives way: in a bucket of
//! the table, among the held frames, and in the rings between workers. A *sender* is an IPv4 address or an IPv6 /64, since
//! a host can have all addresses of its /64. So a few senders cannot use up what there is. Against a flood from so
//! many (forged) addresses that none has more than the others, the newest stay: what comes out of order in an honest
//! packet is together again within a moment.

mod firsts;
mod fragments;
mod held;
mod key;
mod passing;

pub use fragments::{Fragments, Verdict};
pub use passing::{FragmentRings, Passed, mesh};
