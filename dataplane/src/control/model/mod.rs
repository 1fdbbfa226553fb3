//! The configuration of forwarding, as the operator wants it: networks, services, backends.
//!
//! A [`Model`] is a value. A change makes a new model from a clone of the old one ([`Model::clone`] is cheap, because
//! services are shared), and checks it. Either the whole change is valid, or a [`ModelError`] says what is wrong.
//! [`compile`](crate::control::compile::compile) turns a model into the [`Snapshot`](crate::state::snapshot::Snapshot)
//! that workers forward by.

mod addresses;
mod backend;
mod changes;
mod checks;
pub mod command;
mod contact;
mod edit;
mod error;
pub mod handover;
pub mod health;
mod merge;
mod network;
mod reach;
mod renewal;
mod rise;
mod service;
mod shares;
mod slow_start;
mod tables;
#[cfg(test)]
mod tests;
pub mod tls;

pub use backend::{Backend, Duty};
pub use changes::Model;
pub use checks::check_unicast;
pub use contact::{Contact, Outlook, Reach, Reachability, Verdicts};
pub use error::ModelError;
pub use network::Network;
pub use rise::Rise;
pub use service::Service;
