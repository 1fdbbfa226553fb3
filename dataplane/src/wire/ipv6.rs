//! IPv6's header, its chain of extension headers, and link-local addresses.

use std::net::Ipv6Addr;

use ctl::Mac;

use crate::base::exit::{DropReason, Exit};

/// Length of an IPv6 header without extensions (RFC 8200 §3).
pub const IPV6_HEADER: usize = 40;
/// The most extension headers that are skipped. No ordinary sender uses more.
const MAX_EXTENSION_HEADERS: usize = 8;

#[inline]
pub(super) fn address_at(header: &[u8; IPV6_HEADER], offset: usize) -> u128 {
    let bytes = header[offset..].first_chunk().expect("both addresses lie within the header");
    u128::from_be_bytes(*bytes)
}

/// The end of the chain of extension headers.
pub(super) enum Chain {
    /// The upper-layer header, at this offset behind the IPv6 header.
    Ends { protocol: u8, offset: usize },
    /// A fragment header. In the first fragment, the upper-layer header begins at the offset `first`.
    Fragment { protocol: u8, identification: u32, first: Option<usize> },
}

/// Skips the extension headers (RFC 8200 §4.1; RFC 4302 §2.2 for AH, whose length has another unit).
#[cold]
pub(super) fn skip_extensions(first: u8, payload: &[u8], payload_len: usize) -> Result<Chain, Exit> {
    const HOP_BY_HOP: u8 = 0;
    const ROUTING: u8 = 43;
    const FRAGMENT: u8 = 44;
    const AUTHENTICATION: u8 = 51;
    const DESTINATION_OPTIONS: u8 = 60;

    let end = |protocol, offset, fragment| match (offset, fragment) {
        (Some(offset), None) => Chain::Ends { protocol, offset },
        (first, fragment) => Chain::Fragment { protocol, identification: fragment.unwrap_or_default(), first },
    };
    let mut protocol = first;
    let mut offset = 0;
    let mut fragment = None;
    for _ in 0..=MAX_EXTENSION_HEADERS {
        if !matches!(protocol, HOP_BY_HOP | ROUTING | FRAGMENT | AUTHENTICATION | DESTINATION_OPTIONS) {
            return Ok(end(protocol, Some(offset), fragment));
        }
        if offset + 8 > payload_len {
            return Err(DropReason::BadIpHeader.into());
        }
        let Some(header) = payload.get(offset..).and_then(|rest| rest.first_chunk::<8>()) else {
            return Err(DropReason::HeadersSplit.into());
        };
        offset += match protocol {
            // An "atomic" fragment (RFC 6946) is a whole packet: its offset is 0, and no more fragments follow.
            FRAGMENT if u16::from_be_bytes([header[2], header[3]]) & 0xfff9 == 0 => 8,
            FRAGMENT => {
                fragment = Some(u32::from_be_bytes([header[4], header[5], header[6], header[7]]));
                if u16::from_be_bytes([header[2], header[3]]) & 0xfff8 != 0 {
                    // The data of a later fragment begins in the middle of the packet, not with a header.
                    return Ok(end(header[0], None, fragment));
                }
                8
            }
            AUTHENTICATION => (usize::from(header[1]) + 2) * 4,
            _ => (usize::from(header[1]) + 1) * 8,
        };
        protocol = header[0];
        if offset > payload_len {
            return Err(DropReason::BadIpHeader.into());
        }
    }
    Err(DropReason::BadIpHeader.into())
}

/// The protocol behind an IPv6 packet's extension headers. `None` if the headers are damaged.
pub fn ipv6_protocol(packet: &[u8]) -> Option<u8> {
    let (header, payload) = packet.split_first_chunk::<IPV6_HEADER>()?;
    match skip_extensions(header[6], payload, payload.len()).ok()? {
        Chain::Ends { protocol, .. } | Chain::Fragment { protocol, .. } => Some(protocol),
    }
}

/// The link-local address that is formed from a MAC address (RFC 4291, appendix A).
pub fn link_local(mac: Mac) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac.0;
    let word = |high, low| u16::from_be_bytes([high, low]);
    Ipv6Addr::new(0xfe80, 0, 0, 0, word(a ^ 2, b), word(c, 0xff), word(0xfe, d), word(e, f))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn link_local_addresses_come_from_the_mac() {
        assert_eq!(link_local("52:54:00:12:34:56".parse().unwrap()).to_string(), "fe80::5054:ff:fe12:3456");
    }
}
