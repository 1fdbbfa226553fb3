//! The control API of Shunt: what `shuntd` understands on its Unix socket, and a client for it.
//!
//! One request is one line of JSON, and so is its answer:
//!
//! ```text
//! → {"version":1,"command":"backend-edit","arguments":{"service":{"vip":"192.0.2.1","port":80,"protocol":"tcp"},
//!    "address":"192.0.2.10","weight":3}}
//! ← {"version":1,"ok":{"done":{"message":"…","generation":7}}}
//! ← {"version":1,"error":{"field":"weight","message":"Weight 70000 is out of range: use 0 to 65535"}}
//! ```
//!
//! The verbs are in one table, `noun/mod.rs`: their names, what they take, what answers them, and whether they change
//! something. From it come [`request::Request`], its JSON form and [`answer::Answer`]; [`verb`] has a type for each, with which
//! the compiler checks that the daemon answers all of them. The types of a noun's requests and answers are in `noun/`, a file
//! each; [`Client`] does the talking. `shuntctl` is in `bin/shuntctl/`.
//!
//! A request is carried out whole or not at all. Any user who may open the socket may read; changing needs root or the daemon's
//! user.

pub mod answer;
mod client;
mod limits;
mod name;
mod noun;
mod outcome;
pub mod request;

pub use client::{Client, ClientError, DEFAULT_SOCKET};
pub use limits::{MAX_PORT_RANGES, MAX_REQUEST_BYTES, MAX_WEIGHT};
pub use name::{
    CheckTo, CheckType, FlowHash, Mac, NameError, OnAllDown, Passive, PortRange, Ports, Protocol, Scheduler, ServiceId,
    Span, Start, Tracking, Words, parse_backend, parse_endpoint, parse_number, parse_seconds,
};
pub use noun::verb;
pub use request::VERSION;
