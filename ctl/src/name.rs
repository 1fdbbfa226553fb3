//! How operators write things: MAC addresses, `VIP:PORT` with a protocol, backends.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use crate::ports::{MAX_PORT_RANGES, Ports};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Text that does not name what it should.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Not six hexadecimal bytes.
    #[error("\"{0}\" is not a MAC address: write six hexadecimal bytes, as in 52:54:00:12:34:56")]
    Mac(String),
    /// Not `ADDRESS:PORT`.
    #[error("\"{0}\" is not ADDRESS:PORT: write 192.0.2.1:80 or [2001:db8::1]:80")]
    Endpoint(String),
    /// Port 0.
    #[error("\"{0}\": port 0 is no port; use 1 to 65535")]
    PortZero(String),
    /// No set of ports.
    #[error("\"{0}\" is no port: use 1 to 65535, a list (80,443), a range (8000-8100) or any")]
    Ports(String),
    /// More ranges than a service may have.
    #[error("\"{0}\" has more than {MAX_PORT_RANGES} ports and ranges: make several services")]
    TooManyPorts(String),
    /// Not `VIP:PORT`.
    #[error("\"{0}\" is not VIP:PORT: write 192.0.2.1:80, [2001:db8::1]:80 or 192.0.2.1:80,443/tcp")]
    Service(String),
    /// Not a part of a flow to hash.
    #[error("\"{0}\" is not what flows can be told apart by: use 5tuple, source, or source/PREFIX")]
    FlowHash(String),
    /// Neither an address nor `ADDRESS:PORT`.
    #[error("\"{0}\" is not the IP address of a backend: write 192.0.2.10 or 2001:db8::10")]
    Backend(String),
    /// A protocol Shunt does not balance.
    #[error("Protocol \"{0}\" is not known: use tcp, udp or sctp")]
    Protocol(String),
    /// A scheduler Shunt does not have.
    #[error("Scheduler \"{0}\" is not known: use maglev, sh, wrr, rr, wlc or lc")]
    Scheduler(String),
    /// No set of flows.
    #[error("\"{0}\" is not what can be remembered: use exceptions or all")]
    Tracking(String),
    /// Nothing that can be done without backends.
    #[error("\"{0}\" is nothing to do when all backends are down: use drop or all")]
    OnAllDown(String),
}

/// A MAC address; written and read as `52:54:00:12:34:56`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// Whether frames may be addressed to exactly one station by it: not multicast, not all zeros.
    pub fn is_unicast(&self) -> bool {
        self.0[0] & 1 == 0 && self.0 != [0; 6]
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Mac {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let error = || NameError::Mac(text.into());
        let mut bytes = [0; 6];
        let mut parts = text.split([':', '-']);
        for byte in &mut bytes {
            let part = parts.next().filter(|part| (1..=2).contains(&part.len())).ok_or_else(error)?;
            // from_str_radix takes a sign
            if !part.bytes().all(|c| c.is_ascii_hexdigit()) {
                return Err(error());
            }
            *byte = u8::from_str_radix(part, 16).map_err(|_| error())?;
        }
        if parts.next().is_some() { Err(error()) } else { Ok(Mac(bytes)) }
    }
}

/// The transport protocol of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Protocol {
    /// TCP, IP protocol 6.
    #[default]
    Tcp,
    /// UDP, IP protocol 17.
    Udp,
    /// SCTP, IP protocol 132.
    Sctp,
}

impl Protocol {
    /// All of them.
    pub const ALL: [Protocol; 3] = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];

    /// The protocol's number in the IP header (IANA).
    pub fn number(self) -> u8 {
        match self {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
            Protocol::Sctp => 132,
        }
    }

    /// The name used in files and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Sctp => "sctp",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Protocol {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        match text.to_ascii_lowercase().as_str() {
            "tcp" => Ok(Protocol::Tcp),
            "udp" => Ok(Protocol::Udp),
            "sctp" => Ok(Protocol::Sctp),
            _ => Err(NameError::Protocol(text.into())),
        }
    }
}

/// How a service chooses the backend of a new flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Scheduler {
    /// Maglev's consistent hashing over the 5-tuple (ipvsadm calls it `mh`), weighted.
    #[default]
    Maglev,
    /// The same over the client's address alone, so that a client always gets the same backend (persistence).
    Sh,
    /// Smooth weighted round-robin, flow by flow.
    Wrr,
    /// Round-robin, flow by flow; weights above 0 are all the same.
    Rr,
    /// To whoever has the fewest connections for its weight.
    Wlc,
    /// To whoever has the fewest connections.
    Lc,
}

impl Scheduler {
    /// Whether the choice depends on more than the flow itself, so that it must be remembered.
    pub fn decides_by_flow(self) -> bool {
        !matches!(self, Scheduler::Maglev | Scheduler::Sh)
    }
}

/// Which flows of a service are remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Tracking {
    /// Those whose backend differs from what their hash says, after a change.
    #[default]
    Exceptions,
    /// All of them: for exact numbers of connections.
    All,
}

/// What becomes of packets to a service whose backends are all down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum OnAllDown {
    /// They are dropped.
    #[default]
    Drop,
    /// They go to the backends as if all were up.
    All,
}

/// Enums that are a word each: `WORDS`, `Display` and `FromStr`.
macro_rules! words {
    ($name:ident, $error:ident, $($variant:ident = $word:literal),*) => {
        impl $name {
            /// All words, in the order of the variants.
            pub const WORDS: &'static [&'static str] = &[$($word),*];
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(match self { $($name::$variant => $word),* })
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                match text {
                    $($word => Ok($name::$variant),)*
                    _ => Err(NameError::$error(text.into())),
                }
            }
        }
    };
}

words!(Tracking, Tracking, Exceptions = "exceptions", All = "all");
words!(OnAllDown, OnAllDown, Drop = "drop", All = "all");
words!(Scheduler, Scheduler, Maglev = "maglev", Sh = "sh", Wrr = "wrr", Rr = "rr", Wlc = "wlc", Lc = "lc");

/// What decides the backend of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum FlowHash {
    /// Addresses, ports and protocol: each flow by itself.
    #[default]
    FiveTuple,
    /// The client's address, or as many of its leading bits: each client, or each network of clients, as a whole.
    Source {
        /// The leading bits that count; `None`: all.
        prefix: Option<u8>,
    },
}

impl fmt::Display for FlowHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FlowHash::FiveTuple => f.write_str("5tuple"),
            FlowHash::Source { prefix: None } => f.write_str("source"),
            FlowHash::Source { prefix: Some(prefix) } => write!(f, "source/{prefix}"),
        }
    }
}

impl FromStr for FlowHash {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        match (text, text.strip_prefix("source/")) {
            ("5tuple", _) => Ok(FlowHash::FiveTuple),
            ("source", _) => Ok(FlowHash::Source { prefix: None }),
            (_, Some(prefix)) => match prefix.parse::<u8>() {
                Ok(prefix) if (1..=128).contains(&prefix) => Ok(FlowHash::Source { prefix: Some(prefix) }),
                _ => Err(NameError::FlowHash(text.into())),
            },
            _ => Err(NameError::FlowHash(text.into())),
        }
    }
}

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
        let (vip, ports) = endpoint.rsplit_once(':').ok_or_else(error)?;
        let vip = match vip.strip_prefix('[').and_then(|vip| vip.strip_suffix(']')) {
            Some(v6) => v6.parse().map(IpAddr::V6).map_err(|_| error())?,
            None => vip.parse().map(IpAddr::V4).map_err(|_| error())?,
        };
        Ok(ServiceId { vip, port: ports.parse()?, protocol })
    }
}

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

/// Serde through `Display` and `FromStr`: the same words in JSON, in files and on the command line.
macro_rules! serde_as_text {
    ($($name:ty),*) => {$(
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
            }
        }
    )*};
}

serde_as_text!(Mac, Protocol, Scheduler, FlowHash, Tracking, OnAllDown);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mac_is_read_as_it_is_written() {
        let mac: Mac = "52:54:00:aB:34:5".parse().unwrap();
        assert_eq!(mac.to_string(), "52:54:00:ab:34:05");
        assert_eq!("52-54-00-ab-34-05".parse(), Ok(mac));
    }

    #[test]
    fn what_is_no_mac_is_refused() {
        for text in ["", "52:54:00:12:34", "52:54:00:12:34:56:78", "52:54:00:12:34:zz", "+1:2:3:4:5:6", "525400123456"]
        {
            assert_eq!(text.parse::<Mac>(), Err(NameError::Mac(text.into())), "{text}");
        }
    }

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
    fn flow_hashes_are_read_as_they_are_written() {
        for text in ["5tuple", "source", "source/24", "source/128"] {
            assert_eq!(text.parse::<FlowHash>().unwrap().to_string(), text);
        }
        for text in ["", "sources", "source/", "source/0", "source/129", "source/x"] {
            assert!(text.parse::<FlowHash>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_backend_may_name_its_port() {
        assert_eq!(parse_backend("192.0.2.9"), Ok(("192.0.2.9".parse().unwrap(), None)));
        assert_eq!(parse_backend("2001:db8::9"), Ok(("2001:db8::9".parse().unwrap(), None)));
        assert_eq!(parse_backend("192.0.2.9:80"), Ok(("192.0.2.9".parse().unwrap(), Some(80))));
        assert!(parse_backend("web1").is_err());
    }

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
