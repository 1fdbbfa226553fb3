//! The watches: what is wrong around the director, found by what ARP and neighbor discovery say. Each finds some kinds of
//! [faults](crate::control::fault::FaultKind), and says when they are mended.
//!
//! - `claims`: who else claims a VIP or an address of the director's own; `asking` asks for them.
//! - `silence`: backends that do not answer.
//! - `stations`: which backends have which MAC address, and those that share one.
//! - `round`: a round of all checks, which an operator has asked for.
//! - `removed`: faults of what is not there any more.
//!
//! - In: the neighbors, claims that frames have made, the model, the time.
//! - Out: faults; questions for our own addresses, and announcements in defence.
//! - Uses: `neighbor`, `announce`, `arp`, `ndp`.

mod asking;
mod claims;
mod removed;
mod round;
mod silence;
mod stations;

pub use claims::Claims;
pub use removed::forget_removed;
pub use round::{LONGEST_ROUND, Rounds};
pub use silence::{Silence, mute};
pub use stations::Stations;
