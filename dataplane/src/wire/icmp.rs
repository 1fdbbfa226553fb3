//! ICMP and ICMPv6 errors: the flow of the quoted packet.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::base::exit::{DropReason, Exit};
use crate::wire::flow::{Flow, Transport};
use crate::wire::headers::{Headers, Payload, Segment};
use crate::wire::ipv6::{Chain, FragmentChain, IPV6_HEADER, address_at, skip_extensions};
use crate::wire::l4::has_ports;
use crate::wire::source::{is_martian_v4, is_martian_v6};

/// Length of an ICMP or ICMPv6 error before the quoted packet (RFC 792, RFC 4443 §3).
const ICMP_HEADER: usize = 8;

/// Destination unreachable, source quench, time exceeded, parameter problem (RFC 792): the messages that quote the
/// packet that caused them. A redirect quotes it too, but is meant for the host that receives it.
pub(super) fn is_v4_error(icmp: &[u8]) -> bool {
    matches!(icmp, [3 | 4 | 11 | 12, ..])
}

/// RFC 4443 §2.1: the high bit of an error's type is 0. The defined errors (§3) are 1 to 4.
pub(super) fn is_v6_error(icmp: &[u8]) -> bool {
    matches!(icmp, [1..=4, ..])
}

/// The flow of the packet that an ICMP error from `sender` to `vip` quotes. A backend sent that packet, from the VIP to
/// the client. An error may quote no more than the IP header and eight bytes (RFC 792), so the length is not checked.
#[cold]
pub(super) fn quoted_v4(sender: u32, vip: u32, icmp: &[u8]) -> Result<Headers, Exit> {
    let quote = icmp.get(ICMP_HEADER..).unwrap_or_default();
    let Some(header) = quote.first_chunk::<20>() else { return Err(DropReason::IcmpQuote.into()) };
    let header_len = usize::from(header[0] & 0x0f) * 4;
    let source = u32::from_be_bytes([header[12], header[13], header[14], header[15]]);
    let client = u32::from_be_bytes([header[16], header[17], header[18], header[19]]);
    let first_fragment = u16::from_be_bytes([header[6], header[7]]) & 0x1fff == 0;
    if header[0] >> 4 != 4 || header_len < 20 || source != vip || is_martian_v4(client) || !first_fragment {
        return Err(DropReason::IcmpQuote.into());
    }
    let transport = quoted_transport(header[9], quote.get(header_len..))?;
    Ok(Headers {
        flow: Flow::V4 { source: client, destination: vip, transport },
        payload: Payload::Ports(Segment::Related),
        quoted_by: Some(Ipv4Addr::from_bits(sender).into()),
    })
}

/// The same for ICMPv6 (RFC 4443 §3), which quotes as much of the packet as fits.
#[cold]
pub(super) fn quoted_v6(sender: u128, vip: u128, icmp: &[u8]) -> Result<Headers, Exit> {
    let quote = icmp.get(ICMP_HEADER..).unwrap_or_default();
    let Some((header, payload)) = quote.split_first_chunk::<IPV6_HEADER>() else {
        return Err(DropReason::IcmpQuote.into());
    };
    let [source, client] = [address_at(header, 8), address_at(header, 24)];
    if header[0] >> 4 != 6 || source != vip || is_martian_v6(client) {
        return Err(DropReason::IcmpQuote.into());
    }
    let (protocol, offset) = match skip_extensions(header[6], payload, payload.len()) {
        Ok(Chain::Ends { protocol, offset } | Chain::Fragment(FragmentChain { protocol, first: Some(offset), .. })) => {
            (protocol, offset)
        }
        _ => return Err(DropReason::IcmpQuote.into()),
    };
    let transport = quoted_transport(protocol, payload.get(offset..))?;
    Ok(Headers {
        flow: Flow::V6 { source: client, destination: vip, transport },
        payload: Payload::Ports(Segment::Related),
        quoted_by: Some(Ipv6Addr::from_bits(sender).into()),
    })
}

/// The quoted packet's ports, swapped: as the client's packets have them.
fn quoted_transport(protocol: u8, l4: Option<&[u8]>) -> Result<Transport, Exit> {
    match l4 {
        Some([a, b, c, d, ..]) if has_ports(protocol) => {
            Ok(Transport { ports: u32::from_be_bytes([*c, *d, *a, *b]), protocol })
        }
        _ => Err(DropReason::IcmpQuote.into()),
    }
}
