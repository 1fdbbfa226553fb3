//! The watches: what is wrong around the director, found by what ARP and neighbor discovery say. Each finds some kinds of
//! [faults](crate::control::fault::FaultKind), and says when they are mended.
//!
//! - `silence`: backends that do not answer.
//! - `stations`: which backends have which MAC address, and those that share one.
//! - `round`: a round of all checks, which an operator has asked for.
//! - `removed`: faults of what is not there any more.
//!
//! - In: the neighbors, the model, the time.
//! - Out: faults.
//! - Uses: `neighbor`.

mod removed;
mod round;
mod silence;
mod stations;

pub use removed::forget_removed;
pub use round::Rounds;
pub use silence::Silence;
pub use stations::Stations;
