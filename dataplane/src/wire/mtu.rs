//! Whether a packet fits into an MTU.

use crate::base::exit::{DropReason, Exit};
use crate::wire::ipv6::{IPV6_HEADER, ipv6_protocol};
use crate::wire::l4::{ICMP, ICMPV6};

/// Whether a packet that goes to a backend fits into an MTU; if not, whether its sender may be told: not about ICMP
/// errors, the only ICMP that goes there (RFC 1122 §3.2.2, RFC 4443 §2.4), nor about later fragments of IPv4.
#[cold]
pub fn fits(packet: &[u8], mtu: u16) -> Result<(), Exit> {
    let word = |place| packet.get(place..).and_then(<[u8]>::first_chunk).copied().map_or(0, u16::from_be_bytes);
    let byte = |place| packet.get(place).copied().unwrap_or(0);
    let v4 = byte(0) >> 4 == 4;
    let len = if v4 { usize::from(word(2)) } else { IPV6_HEADER + usize::from(word(4)) };
    if len <= usize::from(mtu) {
        return Ok(());
    }
    let icmp = if v4 { byte(9) == ICMP } else { ipv6_protocol(packet) == Some(ICMPV6) };
    if icmp || v4 && word(6) & 0x1fff != 0 {
        return Err(DropReason::TooBigUnanswered.into());
    }
    Err(Exit::TooBig(mtu))
}
