//! The real daemon between real hosts: network namespaces, veth pairs, nginx and curl, without a NIC and without
//! hugepages. Needs root; where namespaces cannot be made, scripts/test leaves them out and says so.

#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, but does not see that this is all tests")]

mod addresses;
mod bytes;
mod changes;
mod control;
mod events;
mod failure;
mod fragments;
mod handover;
mod http;
mod lab;
mod mtu;
mod vlan;
mod wire;
