//! The daemon's log: lines of all its threads, and what libraries print, to standard error.
//!
//! - In: events of `tracing`; text that libraries write to standard output and standard error.
//! - Out: lines on what was standard error at the start; how many were lost.
//! - Promises: nobody waits for whoever reads the log. A line that cannot be written is lost and counted.
//! - Uses: no other room.

mod form;
mod libraries;
mod lines;
mod sink;
mod start;

pub use start::Log;
