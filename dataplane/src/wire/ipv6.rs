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
    /// The packet is a fragment.
    Fragment(FragmentChain),
}

/// The chain of a fragment. The first fragment has the whole chain (RFC 7112 §4). A later one ends with its fragment
/// header, and what follows is data from the middle of the packet.
pub(super) struct FragmentChain {
    /// Of the first fragment, the protocol of the upper-layer header; of a later one, what its fragment header names.
    pub(super) protocol: u8,
    pub(super) identification: u32,
    /// Whether the fragment header names another extension header. Then later fragments do not tell the protocol.
    pub(super) extended: bool,
    /// In the first fragment, the offset of the upper-layer header behind the IPv6 header.
    pub(super) first: Option<usize>,
}

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION_OPTIONS: u8 = 60;

/// Whether a number is that of an extension header that is skipped. Behind an encrypted payload (50), nothing can be
/// read, and 59 says that nothing follows.
fn is_extension(protocol: u8) -> bool {
    matches!(protocol, HOP_BY_HOP | ROUTING | FRAGMENT | AUTHENTICATION | DESTINATION_OPTIONS)
}

/// Skips the extension headers, in whatever order they come (RFC 8200 §4.1; RFC 4302 §2.2 for AH, whose length has
/// another unit).
#[cold]
pub(super) fn skip_extensions(first: u8, payload: &[u8], payload_len: usize) -> Result<Chain, Exit> {
    let mut protocol = first;
    let mut offset = 0;
    // The fragment header of a first fragment: its identification, and whether it names another extension header.
    let mut fragment: Option<(u32, bool)> = None;
    for _ in 0..=MAX_EXTENSION_HEADERS {
        if !is_extension(protocol) {
            return Ok(match fragment {
                None => Chain::Ends { protocol, offset },
                Some((identification, extended)) => {
                    Chain::Fragment(FragmentChain { protocol, identification, extended, first: Some(offset) })
                }
            });
        }
        if offset + 8 > payload_len {
            return Err(too_short(fragment.is_some()));
        }
        let Some(header) = payload.get(offset..).and_then(|rest| rest.first_chunk::<8>()) else {
            return Err(DropReason::HeadersSplit.into());
        };
        offset += match protocol {
            FRAGMENT => {
                let field = u16::from_be_bytes([header[2], header[3]]);
                let identification = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
                // With offset 0 and no more fragments behind it, it is an "atomic" fragment, a whole packet (RFC 6946).
                if field & 0xfff9 != 0 {
                    if fragment.is_some() {
                        // RFC 8200 §4.1: there is at most one. A fragment of a fragment cannot be followed.
                        return Err(DropReason::BadIpHeader.into());
                    }
                    let (protocol, extended) = (header[0], is_extension(header[0]));
                    if field & 0xfff8 != 0 {
                        return Ok(Chain::Fragment(FragmentChain { protocol, identification, extended, first: None }));
                    }
                    fragment = Some((identification, extended));
                }
                8
            }
            AUTHENTICATION => (usize::from(header[1]) + 2) * 4,
            _ => (usize::from(header[1]) + 1) * 8,
        };
        protocol = header[0];
        if offset > payload_len {
            return Err(too_short(fragment.is_some()));
        }
    }
    Err(DropReason::BadIpHeader.into())
}

/// The exit of a packet that ends within its chain of headers. That a first fragment does so is forbidden (RFC 7112 §4).
fn too_short(fragment: bool) -> Exit {
    if fragment { DropReason::FragmentTiny.into() } else { DropReason::BadIpHeader.into() }
}

/// The protocol behind an IPv6 packet's extension headers. `None` if the headers are damaged.
pub fn ipv6_protocol(packet: &[u8]) -> Option<u8> {
    let (header, payload) = packet.split_first_chunk::<IPV6_HEADER>()?;
    match skip_extensions(header[6], payload, payload.len()).ok()? {
        Chain::Ends { protocol, .. } | Chain::Fragment(FragmentChain { protocol, .. }) => Some(protocol),
    }
}

/// The protocol and the message behind a whole packet's extension headers, for the host that the packet is to (RFC 8200
/// §4). `None` if a host must not take it: the headers are damaged, it is a fragment, it still has a way to go (§4.4), or
/// it has an option that a host must know (§4.2). Nor does a host without a key take what is authenticated.
pub fn message(packet: &[u8]) -> Option<(u8, &[u8])> {
    let (header, payload) = packet.split_first_chunk::<IPV6_HEADER>()?;
    let mut rest = payload.get(..usize::from(u16::from_be_bytes([header[4], header[5]])))?;
    let mut protocol = header[6];
    for _ in 0..=MAX_EXTENSION_HEADERS {
        if !is_extension(protocol) {
            return Some((protocol, rest));
        }
        let &[next, len, high, low, ..] = rest.first_chunk::<8>()?;
        let len = if protocol == FRAGMENT { 8 } else { (usize::from(len) + 1) * 8 };
        let (extension, behind) = rest.split_at_checked(len)?;
        let taken = match protocol {
            FRAGMENT => u16::from_be_bytes([high, low]) & 0xfff9 == 0,
            // The number of segments that are left.
            ROUTING => low == 0,
            AUTHENTICATION => false,
            _ => may_be_skipped(&extension[2..]),
        };
        if !taken {
            return None;
        }
        (protocol, rest) = (next, behind);
    }
    None
}

/// Whether a host that knows none of these options may skip them: the two highest bits of their types say so.
fn may_be_skipped(mut options: &[u8]) -> bool {
    const PAD1: u8 = 0;
    // Bound: each round takes an option, of one byte at least.
    while let &[kind, ref rest @ ..] = options {
        options = rest;
        if kind != PAD1 {
            let Some((&len, rest)) = rest.split_first() else { return false };
            let Some(behind) = rest.get(usize::from(len)..).filter(|_| kind >> 6 == 0) else { return false };
            options = behind;
        }
    }
    true
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
