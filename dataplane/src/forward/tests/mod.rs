//! A worker on queues in memory: frames in, frames out.

mod choice;
mod counts;
mod fragments;
mod handshakes;
mod lending;
mod look;
mod mtu;
mod properties;
mod punts;
mod rig;
mod tags;
