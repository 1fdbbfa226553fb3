//! Whom a frame of the slow path is for.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::base::ethertype::{ETHERTYPE_ARP, ETHERTYPE_IPV4};
use crate::slow::View;

/// All nodes of the link (RFC 4291 §2.7.1).
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// The type of a neighbor advertisement (RFC 4861 §4.4).
const ADVERTISEMENT: u8 = 136;

/// Whether an answer goes to a single host; or by ARP or neighbor discovery to a host that has no address yet, or that asked
/// from a VIP.
pub(super) fn goes_to_a_host(answer: &[u8], view: View<'_>) -> bool {
    let (ethertype, rest) = answer[12..].split_first_chunk::<2>().expect("an Ethernet header");
    let v4 = |offset: usize| Ipv4Addr::from(*rest[offset..].first_chunk::<4>().expect("an IPv4 address"));
    let (to, discovery): (IpAddr, bool) = match u16::from_be_bytes(*ethertype) {
        ETHERTYPE_ARP => (v4(24).into(), true),
        ETHERTYPE_IPV4 => (v4(16).into(), false),
        _ => {
            let to = Ipv6Addr::from(*rest[24..].first_chunk::<16>().expect("an IPv6 address"));
            (to.into(), rest.get(40) == Some(&ADVERTISEMENT))
        }
    };
    view.is_host(to) || discovery && (view.may_ask(to) || to == Ipv4Addr::UNSPECIFIED || to == ALL_NODES)
}
