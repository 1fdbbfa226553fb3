//! How operators write things: numbers and times, MAC addresses, `VIP:PORT` with a protocol, backends, schedulers. A file for each kind of word.

mod check;
mod endpoint;
mod error;
mod mac;
mod number;
mod policy;
mod ports;
mod protocol;
mod scheduler;
mod service_id;
mod words;

pub use check::{CheckTo, CheckType, Span, Start};
pub use endpoint::{parse_backend, parse_endpoint};
pub use error::{NameError, Words};
pub use mac::Mac;
pub use number::{parse_number, parse_seconds};
pub use policy::{FlowHash, OnAllDown, Passive, Tracking};
pub use ports::{PortRange, Ports};
pub use protocol::Protocol;
pub use scheduler::Scheduler;
pub use service_id::ServiceId;
pub(crate) use words::serde_as_text;
