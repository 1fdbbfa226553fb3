//! Puts it all together: cores, memory, ports, threads; and takes it down again.
//!
//! - In: a checked configuration.
//! - Out: a director that runs.
//! - Uses: everything but `testing`.

pub mod memory;
pub mod run;
