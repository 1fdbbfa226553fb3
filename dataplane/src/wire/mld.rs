//! Queries of multicast listener discovery: by them, a router or a switch asks who listens to a group (MLDv2, RFC 3810;
//! MLDv1, RFC 2710).

use std::net::Ipv6Addr;
use std::time::Duration;

use smoltcp::wire::Icmpv6Packet;

use crate::wire::ipv6::IPV6_HEADER;
use crate::wire::l4::{ICMPV6, QUERY};

/// Messages stay on the link (RFC 3810 §5).
const HOP_LIMIT: u8 = 1;
const HOP_BY_HOP: u8 = 0;
/// Length of a query of version 1 (RFC 2710 §3).
const V1: usize = 24;
/// Length of a query of version 2 without sources (RFC 3810 §5.1).
const V2: usize = 28;
/// The most options of a hop-by-hop header that are read. Of a query, it has a router alert and padding.
const MAX_OPTIONS: usize = 8;

/// A valid query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Query<'p> {
    /// The group that it asks about. Unspecified: all groups.
    pub group: Ipv6Addr,
    /// The time within which listeners answer.
    pub max_response: Duration,
    /// Whether it is of MLDv1, so that answers of that version are wanted.
    pub v1: bool,
    /// The sources that it asks about, 16 bytes each. Empty: all.
    sources: &'p [u8],
}

impl Query<'_> {
    /// The sources that it asks about. None: all.
    pub fn sources(&self) -> impl ExactSizeIterator<Item = Ipv6Addr> {
        self.sources.as_chunks::<16>().0.iter().map(|&bytes| Ipv6Addr::from(bytes))
    }
}

/// The query in a packet that begins with the IPv6 header, if it is valid (RFC 3810 §6.2, RFC 2710 §4): from a neighbor,
/// with a right checksum, and with a router alert. Routers of version 1 need not have that.
pub fn query(packet: &[u8]) -> Option<Query<'_>> {
    let (header, rest) = packet.split_first_chunk::<IPV6_HEADER>()?;
    let payload = rest.get(..usize::from(u16::from_be_bytes([header[4], header[5]])))?;
    let address = |bytes: &[u8]| bytes.first_chunk::<16>().map(|&bytes| Ipv6Addr::from(bytes));
    let (source, destination) = (address(&header[8..])?, address(&header[24..])?);
    let (alerts, message) = behind_options(header[6], payload)?;
    let (fixed, rest) = message.split_first_chunk::<V1>()?;
    let (group, code) = (address(&fixed[8..])?, u16::from_be_bytes([fixed[4], fixed[5]]));
    let v1 = rest.is_empty();
    let a_neighbors = header[7] == HOP_LIMIT && source.is_unicast_link_local() && (alerts || v1);
    if fixed[0] != QUERY || !a_neighbors || !(group.is_unspecified() || group.is_multicast()) {
        return None;
    }
    let sources = if v1 { rest } else { sources(message)? };
    let right = Icmpv6Packet::new_unchecked(message).verify_checksum(&source, &destination);
    let max_response = Duration::from_millis(if v1 { code.into() } else { max_response_ms(code) });
    right.then_some(Query { group, max_response, v1, sources })
}

/// The ICMPv6 message, and whether there is a router alert before it (RFC 2711 §2.1).
fn behind_options(next: u8, payload: &[u8]) -> Option<(bool, &[u8])> {
    if next == ICMPV6 {
        return Some((false, payload));
    }
    let &[behind, units, ..] = payload else { return None };
    let (options, message) = payload.split_at_checked((usize::from(units) + 1) * 8)?;
    let mut options = options.get(2..)?;
    let mut alerts = false;
    for _ in 0..MAX_OPTIONS {
        // RFC 8200 §4.2: all options but a single byte of padding have a length.
        let len = match options {
            [] => break,
            [0, ..] => 1,
            [_, len, ..] => 2 + usize::from(*len),
            [_] => return None,
        };
        // The value 0: it is a message of this protocol.
        alerts |= options.starts_with(&[5, 2, 0, 0]);
        options = options.get(len..)?;
    }
    (next == HOP_BY_HOP && behind == ICMPV6 && options.is_empty()).then_some((alerts, message))
}

/// The sources that a query of version 2 names.
fn sources(message: &[u8]) -> Option<&[u8]> {
    let fixed: &[u8; V2] = message.first_chunk()?;
    let count = u16::from_be_bytes([fixed[26], fixed[27]]);
    message.get(V2..V2 + usize::from(count) * 16)
}

/// The "maximum response code" in milliseconds (RFC 3810 §5.1.3): large ones are floating-point numbers.
fn max_response_ms(code: u16) -> u64 {
    let code = u64::from(code);
    if code < 0x8000 { code } else { (code & 0xfff | 0x1000) << ((code >> 12 & 7) + 3) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::frame::eth;

    const ALERT: [u8; 8] = [0, 0, 5, 2, 0, 0, 1, 0];
    const GROUP: &str = "ff02::1:ff00:101";

    fn octets(address: &str) -> [u8; 16] {
        address.parse::<Ipv6Addr>().unwrap().octets()
    }

    /// The part of a query behind the checksum.
    fn v1_body(code: u16, group: &str) -> Vec<u8> {
        [&code.to_be_bytes()[..], &[0, 0], &octets(group)].concat()
    }

    fn v2_body(code: u16, group: &str, sources: &[&str]) -> Vec<u8> {
        let count = u16::try_from(sources.len()).unwrap().to_be_bytes();
        let sources: Vec<u8> = sources.iter().flat_map(|source| octets(source)).collect();
        [&v1_body(code, group)[..], &[2, 125], &count, &sources].concat()
    }

    fn packet(from: &str, to: &str, options: &[u8], body: &[u8]) -> Vec<u8> {
        eth().ipv6(from, to).hop_limit(1).extension(0, options).icmp(58, QUERY, 0, body)[14..].to_vec()
    }

    fn asked(packet: &[u8]) -> Option<(String, u64, bool, Vec<String>)> {
        let query = query(packet)?;
        let sources = query.sources().map(|source| source.to_string()).collect();
        Some((query.group.to_string(), query.max_response.as_millis().try_into().unwrap(), query.v1, sources))
    }

    #[test]
    fn queries_of_both_versions_are_read() {
        let sources = ["fd00::1", "fd00::2"];
        for (body, group, ms, v1, wanted) in [
            (v1_body(10_000, "::"), "::", 10_000, true, &[][..]),
            (v1_body(1_000, GROUP), GROUP, 1_000, true, &[]),
            (v2_body(10_000, "::", &[]), "::", 10_000, false, &[]),
            (v2_body(1_000, GROUP, &[]), GROUP, 1_000, false, &[]),
            (v2_body(0, GROUP, &sources), GROUP, 0, false, &sources),
        ] {
            let group: Ipv6Addr = group.parse().unwrap();
            let wanted = wanted.iter().map(ToString::to_string).collect();
            let good = packet("fe80::1", "ff02::1", &ALERT, &body);
            assert_eq!(asked(&good), Some((group.to_string(), ms, v1, wanted)), "{good:02x?}");
            assert_eq!(asked(&[&good[..], &[0; 6]].concat()), asked(&good), "with padding");
        }
        let bare = eth().ipv6("fe80::1", "ff02::1").hop_limit(1).icmp(58, QUERY, 0, &v1_body(1, "::"));
        assert!(asked(&bare[14..]).is_some(), "version 1 needs no router alert");
    }

    #[test]
    fn a_long_response_time_is_a_floating_point_number() {
        for (code, ms) in [(0x7fff, 32_767), (0x8000, 32_768), (0x8001, 32_776), (0xffff, 8_387_584)] {
            assert_eq!(max_response_ms(code), ms);
        }
    }

    #[test]
    fn what_is_not_from_a_neighbor_or_is_damaged_is_no_query() {
        let body = v2_body(1_000, GROUP, &["fd00::1"]);
        let good = packet("fe80::1", GROUP, &ALERT, &body);
        for hop_limit in [0, 2, 64, 255] {
            let mut routed = good.clone();
            routed[7] = hop_limit;
            assert_eq!(query(&routed), None, "hop limit {hop_limit}");
        }
        for from in ["::", "fd00::1", "ff02::1"] {
            assert_eq!(query(&packet(from, GROUP, &ALERT, &body)), None, "{from}");
        }
        // The padding behind the alert may be anything.
        for offset in (4..46).chain(48..good.len()) {
            let mut damaged = good.clone();
            damaged[offset] ^= 0x20;
            assert_eq!(query(&damaged), None, "byte {offset}");
        }
        for len in 0..good.len() {
            assert_eq!(query(&good[..len]), None, "{len} bytes");
        }
        for (what, packet) in [
            ("no alert", packet("fe80::1", GROUP, &[0, 0, 1, 4, 0, 0, 0, 0], &body)),
            ("an alert for others", packet("fe80::1", GROUP, &[0, 0, 5, 2, 0, 1, 1, 0], &body)),
            ("an option longer than the header", packet("fe80::1", GROUP, &[0, 0, 5, 2, 0, 0, 1, 9], &body)),
            ("of neither version", packet("fe80::1", GROUP, &ALERT, &body[..22])),
            ("fewer sources than it says", packet("fe80::1", GROUP, &ALERT, &body[..body.len() - 1])),
            ("not about a group", packet("fe80::1", "ff02::1", &ALERT, &v1_body(1, "fd00::1"))),
        ] {
            assert_eq!(query(&packet), None, "{what}");
        }
        let bare = eth().ipv6("fe80::1", "ff02::1").hop_limit(1).icmp(58, QUERY, 0, &v2_body(1, "::", &[]));
        assert_eq!(query(&bare[14..]), None, "version 2 needs a router alert");
    }
}
