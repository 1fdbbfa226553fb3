//! What is counted, and how it is read. One thread writes a counter, any may read it.
//!
//! - In: what workers add.
//! - Out: sums, shares and histograms.
//! - Uses: `base`.

pub mod counters;
pub mod histogram;
pub mod lease;
pub mod recent;
