//! Counters, and how they are read. One thread writes a counter, all threads may read it.
//!
//! - In: the numbers that workers add.
//! - Out: sums, shares and histograms.
//! - Uses: `base`.

pub mod counters;
pub mod histogram;
pub mod lease;
pub mod recent;
