//! What the fast path knows of a packet after parsing it.

use crate::base::exit::{DropReason, Exit};
use crate::wire::flow::Flow;

/// What the fast path knows of a packet after parsing it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Headers {
    /// Addresses, ports, protocol.
    pub flow: Flow,
    /// What follows the IP header.
    pub payload: Payload,
}

/// What follows the IP header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Payload {
    /// TCP, UDP or SCTP with both ports. Or an ICMP error about such a packet: then the flow is that of the packet it quotes,
    /// seen from the client, so that the error follows the flow.
    Ports(Segment),
    /// An ICMP or ICMPv6 echo request.
    Echo,
    /// A neighbor discovery message (ICMPv6 types 133 to 137).
    Ndp,
    /// Another ICMP or ICMPv6 message, no error.
    Icmp,
    /// A fragment. The flow has the ports where it is the first one.
    Fragment(Fragment),
    /// Another protocol.
    Other,
}

/// Which packet a fragment is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fragment {
    /// What its fragments share besides addresses and protocol (16 bits in IPv4, 32 in IPv6).
    pub identification: u32,
    /// Whether it is the first, which has the ports.
    pub first: bool,
    /// What it tells of its flow.
    pub segment: Segment,
}

/// What a packet tells of its flow's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Segment {
    /// It opens a connection (a SYN without ACK; an SCTP INIT).
    Open,
    /// It is part of the flow.
    Data,
    /// The client has no more to send (a FIN; an SCTP SHUTDOWN).
    Fin,
    /// The client breaks the connection off (a RST; an SCTP ABORT).
    Rst,
    /// It belongs to the flow and proves nothing of it: an ICMP error, which anybody can send, or a later fragment.
    Related,
}

/// Why a header of so many bytes is not all in the first segment: the frame, of which there are `len` from there on, has
/// them in another one; or it does not have them.
#[cold]
pub(super) fn short(header: usize, len: usize, otherwise: DropReason) -> Exit {
    if header <= len { DropReason::HeadersSplit.into() } else { otherwise.into() }
}
