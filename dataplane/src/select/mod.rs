//! The selection of backends: Maglev tables, weighted turns, schedules.
//!
//! - In: addresses and weights.
//! - Out: tables and turns.
//! - Uses: `base`.

pub mod fewest;
pub mod maglev;
pub mod schedule;
pub mod wrr;
