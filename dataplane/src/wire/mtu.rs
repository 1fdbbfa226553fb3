//! Whether a packet fits into an MTU.

use crate::base::exit::{DropReason, Exit};
use crate::wire::ipv6::{IPV6_HEADER, ipv6_protocol};
use crate::wire::l4::{ICMP, ICMPV6};

/// Checks whether a packet to a backend fits into an MTU. The error says whether its sender may be told. It may not be
/// told about ICMP errors, which are the only ICMP packets that go to backends (RFC 1122 §3.2.2, RFC 4443 §2.4). The
/// same holds for later fragments of IPv4.
#[cold]
pub fn fits(packet: &[u8], mtu: u16) -> Result<(), Exit> {
    let word = |offset| packet.get(offset..).and_then(<[u8]>::first_chunk).copied().map_or(0, u16::from_be_bytes);
    let byte = |offset| packet.get(offset).copied().unwrap_or(0);
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
