//! Addresses with and without a port.

use std::net::IpAddr;

use crate::name::error::NameError;
use crate::name::number::parse_number;

/// The address and what stands behind its colon: an IPv6 address is in brackets.
pub(super) fn address_and_rest(text: &str) -> Option<(IpAddr, &str)> {
    let (address, rest) = text.rsplit_once(':')?;
    let address = match address.strip_prefix('[').and_then(|address| address.strip_suffix(']')) {
        Some(v6) => v6.parse().map(IpAddr::V6).ok()?,
        None => address.parse().map(IpAddr::V4).ok()?,
    };
    Some((address, rest))
}

/// Reads `VIP:PORT`, the VIP in brackets where it is IPv6.
pub fn parse_endpoint(text: &str) -> Result<(IpAddr, u16), NameError> {
    let endpoint = address_and_rest(text).and_then(|(address, port)| Some((address, parse_number(port)?)));
    match endpoint {
        Some((_, 0)) => Err(NameError::PortZero(text.into())),
        Some(endpoint) => Ok(endpoint),
        None => Err(NameError::Endpoint(text.into())),
    }
}

/// Reads a backend, `ADDRESS` or, as ipvsadm's users write it, `ADDRESS:PORT`.
pub fn parse_backend(text: &str) -> Result<(IpAddr, Option<u16>), NameError> {
    if let Ok(address) = text.parse() {
        return Ok((address, None));
    }
    match parse_endpoint(text) {
        Ok((address, port)) => Ok((address, Some(port))),
        Err(NameError::PortZero(text)) => Err(NameError::PortZero(text)),
        Err(_) => Err(NameError::Backend(text.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_need_a_port_and_ipv6_needs_brackets() {
        assert_eq!(parse_endpoint("192.0.2.1:80"), Ok(("192.0.2.1".parse().unwrap(), 80)));
        assert_eq!(parse_endpoint("[2001:db8::1]:443"), Ok(("2001:db8::1".parse().unwrap(), 443)));
        for text in ["192.0.2.1", "2001:db8::1", "192.0.2.1:http", "192.0.2.1:65536", "example.org:80", ""] {
            assert!(parse_endpoint(text).is_err(), "{text}");
        }
        for text in
            ["192.0.2.1:+80", "192.0.2.1:080", "192.0.2.1: 80", "192.0.2.01:80", "[2001:db8::1%7]:80", "[192.0.2.1]:80"]
        {
            assert!(parse_endpoint(text).is_err(), "{text}");
        }
        assert_eq!(parse_endpoint("192.0.2.1:0"), Err(NameError::PortZero("192.0.2.1:0".into())));
    }

    #[test]
    fn a_backend_may_name_its_port() {
        assert_eq!(parse_backend("192.0.2.9"), Ok(("192.0.2.9".parse().unwrap(), None)));
        assert_eq!(parse_backend("2001:db8::9"), Ok(("2001:db8::9".parse().unwrap(), None)));
        assert_eq!(parse_backend("192.0.2.9:80"), Ok(("192.0.2.9".parse().unwrap(), Some(80))));
        assert!(parse_backend("web1").is_err());
    }
}
