//! How values are written on the command line.

use std::str::FromStr;

/// How a service is written.
pub(crate) const SERVICE: &str = "VIP:PORTS[/PROTOCOL]";

/// Reads a number.
pub(crate) fn number<T: FromStr>(text: &str) -> Result<T, String> {
    ctl::parse_number(text).ok_or_else(|| "not a number that fits: write decimal digits alone, as in 80".into())
}
