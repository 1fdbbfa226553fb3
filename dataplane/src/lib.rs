//! Shunt.

pub mod api;
pub mod base;
pub mod config;
pub mod control;
pub mod count;
pub mod daemon;
pub mod dpdk;
pub mod forward;
pub mod select;
pub mod slow;
pub mod state;
pub mod testing;
pub mod wire;
