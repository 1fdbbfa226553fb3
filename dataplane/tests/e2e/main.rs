//! End-to-end tests: the real daemon between real hosts. The hosts are network namespaces with veth pairs, nginx and
//! curl. No NIC and no hugepages are needed, but root is. Where namespaces cannot be made, scripts/test leaves these
//! tests out and says so.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "clippy.toml allows it in tests, but does not see that this is all tests"
)]

mod addresses;
mod bytes;
mod changes;
mod control;
mod doctor;
mod events;
mod failure;
mod floods;
mod fragments;
mod handover;
mod health;
mod http;
mod interfaces;
mod lab;
mod log;
mod many;
mod mld;
mod mtu;
mod offloads;
mod outage;
mod owner;
mod passive;
mod queues;
mod restart;
mod returns;
mod script;
mod vlan;
mod wire;
mod xdp;
