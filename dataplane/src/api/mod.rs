//! The control API: what `shuntctl` talks to.
//!
//! [`server`] reads lines from the Unix socket, [`decode`] turns a line into a [`Request`](ctl::request::Request), and one file
//! per group of requests answers it from the [`Facts`]. The types are `ctl`'s. [`http`] serves what is counted to Prometheus.
//!
//! - In: lines of the control socket, requests over HTTP.
//! - Out: changes for the director, answers.
//! - Uses: `base`, `wire`, `count`, `state`, `control`, `slow` (the neighbors), of `dpdk` the clock.

mod answer;
pub mod decode;
mod facts;
pub mod http;
mod metrics;
mod network;
mod reasons;
pub mod server;
mod services;
mod status;

pub use answer::answer;
pub use facts::{Facts, PortFacts, PortLive};
