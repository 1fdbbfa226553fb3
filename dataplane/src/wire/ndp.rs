//! Neighbor discovery (RFC 4861): which messages are valid, and whom they concern.
//!
//! Only what a neighbor has sent is valid. A router lowers the hop limit, so a message from afar does not have 255. The
//! slow path gives these messages precedence, so the worker checks them.

use std::net::Ipv6Addr;

use smoltcp::wire::Icmpv6Packet;

use crate::wire::headers::Parties;
use crate::wire::ipv6::IPV6_HEADER;
use crate::wire::l4::{ADVERTISEMENT, ICMPV6, SOLICITATION};

/// A router lowers it (RFC 4861 §3.1).
const HOP_LIMIT: u8 = 255;
/// Length of a solicitation and of an advertisement without options: header, flags, target.
const MESSAGE: usize = 24;
/// The bit of an advertisement's flags that says that it answers a solicitation (§4.4).
const SOLICITED: u8 = 0x40;
/// The option with the sender's link-layer address (§4.6.1).
const SOURCE_LINK_LAYER: u8 = 1;
/// The most options of a message. No host sends more than three.
const MAX_OPTIONS: usize = 16;

/// Whom a valid solicitation or advertisement concerns. `packet` begins with the IPv6 header. `None`: it is not valid
/// (RFC 4861 §7.1), or has extension headers, with which no host sends it.
pub fn parties(packet: &[u8]) -> Option<Parties> {
    let (header, rest) = packet.split_first_chunk::<IPV6_HEADER>()?;
    let message = rest.get(..usize::from(u16::from_be_bytes([header[4], header[5]])))?;
    let address = |bytes: &[u8]| bytes.first_chunk::<16>().map(|&bytes| Ipv6Addr::from(bytes));
    let (source, destination) = (address(&header[8..])?, address(&header[24..])?);
    let (fixed, options) = message.split_first_chunk::<MESSAGE>()?;
    let (kind, code, flags, target) = (fixed[0], fixed[1], fixed[4], address(&fixed[8..])?);
    let a_neighbors = header[6] == ICMPV6 && header[7] == HOP_LIMIT && code == 0;
    if !a_neighbors || source.is_multicast() || target.is_multicast() || target.is_unspecified() {
        return None;
    }
    let names_source = sane_options(options)?;
    let checksum = Icmpv6Packet::new_checked(message).ok()?.verify_checksum(&source, &destination);
    match kind {
        _ if !checksum => None,
        // §7.1.1: without a source address it is duplicate address detection.
        SOLICITATION if source.is_unspecified() => {
            let sane = is_solicited_node(destination) && !names_source;
            sane.then(|| Parties { told: source.into(), asked: Some(target.into()) })
        }
        SOLICITATION => Some(Parties { told: source.into(), asked: Some(target.into()) }),
        // §7.1.2: what answers a solicitation is not for a group.
        ADVERTISEMENT if source.is_unspecified() || destination.is_multicast() && flags & SOLICITED != 0 => None,
        ADVERTISEMENT => Some(Parties { told: target.into(), asked: None }),
        _ => None,
    }
}

/// Whether the options name the sender's link-layer address. `None`: one has no length, or ends behind the message
/// (§4.6).
fn sane_options(mut options: &[u8]) -> Option<bool> {
    let mut names_source = false;
    for _ in 0..MAX_OPTIONS {
        let &[kind, words, ..] = options else { break };
        names_source |= kind == SOURCE_LINK_LAYER;
        options = options.get(usize::from(words) * 8..).filter(|_| words != 0)?;
    }
    options.is_empty().then_some(names_source)
}

/// Whether a group is one of those that solicitations go to (RFC 4291 §2.7.1).
fn is_solicited_node(group: Ipv6Addr) -> bool {
    matches!(group.segments(), [0xff02, 0, 0, 0, 0, 1, 0xff00..=0xffff, _])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::frame::eth;

    const CLIENT: &str = "fd00::10";
    const VIP: &str = "fd00::101";
    const GROUP: &str = "ff02::1:ff00:101";
    const SOURCE_OPTION: [u8; 8] = [1, 1, 2, 0, 0, 0, 0, 0xcc];
    const TARGET_OPTION: [u8; 8] = [2, 1, 2, 0, 0, 0, 0, 0xcc];

    fn message(from: &str, to: &str, kind: u8, flags: u8, target: &str, options: &[u8]) -> Vec<u8> {
        let target = target.parse::<Ipv6Addr>().unwrap().octets();
        let body = [&[flags, 0, 0, 0][..], &target, options].concat();
        eth().ipv6(from, to).hop_limit(255).icmp(58, kind, 0, &body)[14..].to_vec()
    }

    fn told(told: &str, asked: Option<&str>) -> Option<Parties> {
        let address = |text: &str| text.parse().unwrap();
        Some(Parties { told: address(told), asked: asked.map(address) })
    }

    #[test]
    fn solicitations_ask_and_advertisements_tell_of_their_target() {
        let twice = [SOURCE_OPTION, TARGET_OPTION].concat();
        for (packet, expected) in [
            (message(CLIENT, GROUP, 135, 0, VIP, &SOURCE_OPTION), told(CLIENT, Some(VIP))),
            (message(CLIENT, VIP, 135, 0, VIP, &[]), told(CLIENT, Some(VIP))),
            (message(CLIENT, VIP, 135, 0, VIP, &twice), told(CLIENT, Some(VIP))),
            (message("::", GROUP, 135, 0, VIP, &[]), told("::", Some(VIP))),
            (message("fe80::3", "fd00::2", 136, 0x60, "fd00::3", &TARGET_OPTION), told("fd00::3", None)),
            (message("fe80::3", "ff02::1", 136, 0x20, "fd00::3", &TARGET_OPTION), told("fd00::3", None)),
        ] {
            assert_eq!(parties(&packet), expected, "{packet:02x?}");
            assert_eq!(parties(&[&packet[..], &[0; 9]].concat()), expected, "with padding");
        }
    }

    #[test]
    fn what_is_not_from_a_neighbor_or_contradicts_itself_is_invalid() {
        let good = message(CLIENT, GROUP, 135, 0, VIP, &SOURCE_OPTION);
        for hop_limit in [0, 1, 64, 254] {
            let mut routed = good.clone();
            routed[7] = hop_limit;
            assert_eq!(parties(&routed), None, "hop limit {hop_limit}");
        }
        // The traffic class and the flow label are nobody's business, and the MAC address has no checksum but this one.
        for offset in 4..good.len() {
            let mut damaged = good.clone();
            damaged[offset] ^= 0x20;
            assert_eq!(parties(&damaged), None, "byte {offset}");
        }
        for len in 0..good.len() {
            assert_eq!(parties(&good[..len]), None, "{len} bytes");
        }
        let option = |words: u8| [1, words, 2, 0, 0, 0, 0, 0xcc];
        for (what, packet) in [
            ("from a group", message("ff02::1", VIP, 135, 0, VIP, &[])),
            ("about a group", message(CLIENT, VIP, 135, 0, "ff02::1", &[])),
            ("about no address", message(CLIENT, VIP, 135, 0, "::", &[])),
            ("a router's", message(CLIENT, "ff02::1", 134, 0, VIP, &[])),
            ("an option of no length", message(CLIENT, VIP, 135, 0, VIP, &option(0))),
            ("an option longer than the message", message(CLIENT, VIP, 135, 0, VIP, &option(2))),
            ("half an option", message(CLIENT, VIP, 135, 0, VIP, &option(1)[..4])),
            ("many options", message(CLIENT, VIP, 135, 0, VIP, &option(1).repeat(17))),
            ("detection to one address", message("::", VIP, 135, 0, VIP, &[])),
            ("detection to another group", message("::", "ff02::1", 135, 0, VIP, &[])),
            ("detection that names its sender", message("::", GROUP, 135, 0, VIP, &SOURCE_OPTION)),
            ("an answer to a group", message("fe80::3", "ff02::1", 136, 0x60, "fd00::3", &TARGET_OPTION)),
            ("an answer from nowhere", message("::", "fd00::2", 136, 0x60, "fd00::3", &TARGET_OPTION)),
        ] {
            assert_eq!(parties(&packet), None, "{what}");
        }
    }

    #[test]
    fn extension_headers_make_it_invalid() {
        let body = [&[0; 4][..], &VIP.parse::<Ipv6Addr>().unwrap().octets()].concat();
        for header in [0, 43, 44, 60] {
            let frame = eth().ipv6(CLIENT, VIP).hop_limit(255).extension(header, &[0; 8]).icmp(58, 135, 0, &body);
            assert_eq!(parties(&frame[14..]), None, "header {header}");
        }
    }
}
