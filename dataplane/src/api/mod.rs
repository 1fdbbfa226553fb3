//! The control API: what `shuntctl` talks to.
//!
//! [`server`] reads lines from the Unix socket, [`decode`] turns a line into a [`Request`](ctl::request::Request), and
//! the [`Facts`] answer it: a file for each noun has the answers to its verbs, each an implementation of
//! [`Answers`](ctl::verb::Answers). The verbs and the types are `ctl`'s. [`http`] serves what is counted to Prometheus.
//!
//! - In: lines of the control socket, requests over HTTP.
//! - Out: changes for the director, answers.
//! - Uses: `base`, `wire`, `count`, `state`, `control`, `slow` (the neighbors), of `dpdk` the clock.

mod answer;
mod backend;
pub mod decode;
mod drops;
mod events;
mod facts;
pub mod http;
mod metrics;
mod neighbor;
mod port;
pub mod server;
mod service;
mod status;
mod worker;

pub use answer::answer;
pub use facts::{Facts, PortFacts, PortLive};
