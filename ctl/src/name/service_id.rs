//! `VIP:PORTS/PROTOCOL`: the name of a service.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::name::endpoint::address_and_rest;
use crate::name::error::NameError;
use crate::name::ports::Ports;
use crate::name::protocol::Protocol;

/// Names a service: its VIP, its port and its protocol. Displayed as `192.0.2.1:80/tcp`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceId {
    /// The virtual address that clients connect to.
    pub vip: IpAddr,
    /// The L4 ports.
    pub port: Ports,
    /// The transport protocol.
    #[serde(default)]
    pub protocol: Protocol,
}

impl fmt::Display for ServiceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.vip {
            IpAddr::V4(vip) => write!(f, "{vip}:{}/{}", self.port, self.protocol),
            IpAddr::V6(vip) => write!(f, "[{vip}]:{}/{}", self.port, self.protocol),
        }
    }
}

impl FromStr for ServiceId {
    type Err = NameError;

    /// Reads `VIP:PORTS` or `VIP:PORTS/PROTOCOL`; without a protocol, TCP. An IPv6 VIP is in brackets.
    fn from_str(text: &str) -> Result<Self, NameError> {
        let (endpoint, protocol) = match text.split_once('/') {
            Some((endpoint, protocol)) => (endpoint, protocol.parse()?),
            None => (text, Protocol::Tcp),
        };
        let error = || NameError::Service(text.into());
        let (vip, ports) = address_and_rest(endpoint).ok_or_else(error)?;
        Ok(ServiceId { vip, port: ports.parse()?, protocol })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_named_in_one_word() {
        let service = ServiceId { vip: "2001:db8::1".parse().unwrap(), port: Ports::one(80), protocol: Protocol::Udp };
        assert_eq!(service.to_string(), "[2001:db8::1]:80/udp");
        assert_eq!("[2001:db8::1]:80/udp".parse(), Ok(service));
        for text in ["192.0.2.1:80,443/tcp", "192.0.2.1:any/udp", "192.0.2.1:2905/sctp", "[2001:db8::1]:8000-8100/tcp"]
        {
            assert_eq!(text.parse::<ServiceId>().unwrap().to_string(), text);
        }
        for text in ["192.0.2.1", "2001:db8::1", "2001:db8::1:80", "[192.0.2.1]:80", "192.0.2.1:", "192.0.2.1:http"] {
            assert!(text.parse::<ServiceId>().is_err(), "{text}");
        }
        assert_eq!("[2001:db8::1]:80".parse(), Ok(ServiceId { protocol: Protocol::Tcp, ..service }));
    }
}
