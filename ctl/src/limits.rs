//! The limits of the API.

/// The longest request line `shuntd` reads, in bytes, its newline included.
pub const MAX_REQUEST_BYTES: usize = 256 * 1024;

/// The largest weight of a backend, as in LVS.
pub const MAX_WEIGHT: u32 = 65_535;

/// Ranges in one service, as many as iptables' multiport takes.
pub const MAX_PORT_RANGES: usize = 15;
