//! Addresses with and without a port.

use std::net::{IpAddr, SocketAddr};

use crate::name::error::NameError;

/// Reads `VIP:PORT`, the VIP in brackets where it is IPv6.
pub fn parse_endpoint(text: &str) -> Result<(IpAddr, u16), NameError> {
    let endpoint: SocketAddr = text.parse().map_err(|_| NameError::Endpoint(text.into()))?;
    if endpoint.port() == 0 {
        return Err(NameError::PortZero(text.into()));
    }
    Ok((endpoint.ip(), endpoint.port()))
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
