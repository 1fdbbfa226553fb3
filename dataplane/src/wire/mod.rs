//! Bytes on the wire: they are parsed to headers, flows and tags; tags are written back.
//!
//! - In: a frame.
//! - Out: [`headers::Headers`], a flow, or an early [`Exit`](crate::base::exit::Exit).
//! - Uses: `base`.

pub mod arp;
pub mod ethernet;
pub mod flow;
pub mod headers;
pub mod icmp;
pub mod ipv6;
pub mod l4;
pub mod mld;
pub mod mtu;
pub mod ndp;
pub mod offload;
pub mod parse;
pub mod plain;
pub mod source;
pub mod vlan;
