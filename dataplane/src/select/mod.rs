//! The selection of backends: Maglev tables, weighted turns, schedules. Pure functions.
//!
//! - In: addresses and weights.
//! - Out: tables and turns.
//! - Uses: `base`.

pub mod maglev;
pub mod schedule;
pub mod wrr;
