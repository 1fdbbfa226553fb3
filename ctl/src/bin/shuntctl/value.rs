//! How values are written on the command line.

/// How a service is written.
pub(crate) const SERVICE: &str = "VIP:PORTS[/PROTOCOL]";

/// Reads a length of time, such as 90s or 15m, in whole seconds.
pub(crate) fn seconds(text: &str) -> Result<u32, String> {
    let time = humantime::parse_duration(text).map_err(|error| format!("{error}: write 90s, 15m or 2h"))?;
    u32::try_from(time.as_secs()).map_err(|_| "too long".into())
}
