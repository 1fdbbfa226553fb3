//! The size of the frames that DPDK's null device makes: its driver does not look at whether they fit a buffer.

use crate::dpdk::port_error::PortError;

/// What it makes if nothing is said.
const DEFAULT_SIZE: &str = "64";

/// Fails where a null device would write, or have us read, behind the end of a buffer with that room. Other devices are well.
pub(super) fn check(devargs: &str, room: u16) -> Result<(), PortError> {
    let mut parts = devargs.split(',').map(str::trim);
    let is_null = parts.next().is_some_and(|name| name.starts_with("net_null") || name.starts_with("eth_null"));
    let sizes = parts.filter_map(|part| part.split_once('=')).filter(|(key, _)| key.trim() == "size");
    let mut sizes = [DEFAULT_SIZE].into_iter().chain(sizes.map(|(_, size)| size.trim()));
    let fits = |size: &str| number(size).is_some_and(|size| size <= u64::from(room));
    if is_null && !sizes.all(fits) {
        return Err(PortError::NullFrames { device: devargs.into(), room });
    }
    Ok(())
}

/// As C's `strtoul` reads a number whose base is 0, but nothing may follow it.
fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None if text.len() > 1 && text.starts_with('0') => u64::from_str_radix(text, 8).ok(),
        None => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_of_a_null_device_must_fit() {
        for (devargs, fits) in [
            ("net_null0", true),
            ("net_null0,size=2048,copy=1", true),
            ("net_null0,copy=1,size=2049", false),
            ("eth_null0,size=0x801", false),
            ("net_null0,size=0x800", true),
            ("net_null0,size=04000", true),
            ("net_null0,size=04001", false),
            ("net_null0, size = 9000", false),
            ("net_null0,size=-1", false),
            ("net_null0,size=60 bytes", false),
            ("net_tap0,size=9000", true),
        ] {
            assert_eq!(check(devargs, 2_048).is_ok(), fits, "{devargs}");
        }
        assert!(check("net_null0", 63).is_err() && check("net_null0", 64).is_ok());
    }
}
