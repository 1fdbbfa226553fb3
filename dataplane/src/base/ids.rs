//! Numbers of things.

/// No backend, where a number of one is expected.
pub const NOBODY: u16 = u16::MAX;
