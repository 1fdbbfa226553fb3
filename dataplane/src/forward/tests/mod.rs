//! A worker on queues in memory: what goes in, what comes out.

mod choice;
mod counts;
mod fragments;
mod mtu;
mod properties;
mod punts;
mod rig;
mod tags;
