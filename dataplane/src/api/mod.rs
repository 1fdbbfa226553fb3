//! The control API: what `shuntctl` talks to.
//!
//! [`server`] reads lines from the Unix socket, [`decode`] turns a line into a [`Request`](ctl::request::Request), and
//! the [`Facts`] answer it: a file for each noun has the answers to its verbs, each an implementation of
//! [`Answers`](ctl::verb::Answers). The verbs and the types are `ctl`'s.
//!
//! - In: lines of the control socket.
//! - Out: changes for the director, answers.
//! - Uses: `base`, `wire`, `count`, `state`, `control`, `commands`, `health`, `slow` (the neighbors).

mod answer;
mod backend;
mod clients;
pub mod decode;
mod doctor;
mod drops;
mod events;
mod facts;
mod line;
mod lock;
mod neighbor;
mod port;
pub mod server;
mod service;
mod status;
mod tally;
mod worker;

pub use answer::answer;
pub use facts::{Facts, PortFacts, PortLive};
pub use lock::LockError;
pub use tally::{OUTCOMES, UNREADABLE};
