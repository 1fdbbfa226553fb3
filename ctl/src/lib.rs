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
//! [`request`] holds what may be asked, [`answer`] what comes back, [`Client`] does the talking. A request is
//! carried out whole or not at all. Whoever may open the socket may read; changing needs root or the daemon's user.

pub mod answer;
mod client;
mod name;
mod ports;
pub mod request;

pub use client::{Client, ClientError};
pub use name::{
    FlowHash, Mac, NameError, OnAllDown, Protocol, Scheduler, ServiceId, Tracking, parse_backend, parse_endpoint,
};
pub use ports::{MAX_PORT_RANGES, PortRange, Ports};

/// The version of the types in this library; a daemon answers requests of its own version only.
pub const VERSION: u32 = 1;

/// Where `shuntd` listens unless its configuration says otherwise.
pub const DEFAULT_SOCKET: &str = "/run/shunt/shuntd.sock";

/// The longest request line `shuntd` reads, in bytes, its newline included.
pub const MAX_REQUEST_BYTES: usize = 256 * 1024;

/// The largest weight of a backend, as in LVS.
pub const MAX_WEIGHT: u32 = 65_535;
