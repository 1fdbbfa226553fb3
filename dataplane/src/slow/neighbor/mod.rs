//! The backends' MAC addresses: resolved before the first packet needs them, confirmed before they are stale.
//!
//! ARP and neighbor discovery follow the same states (RFC 4861 §7.3, `nud.rs`). A new backend is probed at once
//! (`Incomplete`). An answer confirms it (`Reachable`). Before the confirmation is stale, the backend is probed again
//! (`Probe`): first by unicast, then by broadcast. It keeps its MAC address meanwhile. A backend that does not answer
//! is given up (`Failed`), but the probes go on.
//!
//! A backend that announces a new MAC address is believed at once. A second change soon after is believed only when a
//! hold-down is over. So two stations that claim one address do not make every flow flap.
//!
//! A backend that was given up is down only if there is a witness: another backend of the same network and address
//! family that has answered since (`witness.rs`). Without a witness, the director itself may be cut off from the
//! network. In both cases the backend keeps its last MAC address. What it gets of its services' flows, the control side
//! decides ([`crate::control::model::Contact`]).
//!
//! - In: the model's backends, what ARP and neighbor discovery have learned, the state of the links, the time.
//! - Out: probes to send, MAC addresses that have changed, how the backends can be reached, news for the operator.
//! - Uses: `arp` and `ndp` for the probes' bytes.

mod backends;
mod learn;
mod nud;
mod probe;
mod table;
mod witness;

#[cfg(test)]
mod tests;

pub use nud::Neighbor;
pub use table::{Neighbors, News};
