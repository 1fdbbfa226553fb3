//! The result of parsing: a packet's flow, and the kind of its payload.

use std::net::IpAddr;

use crate::base::exit::{DropReason, Exit};
use crate::wire::flow::Flow;

/// A parsed packet, as the fast path needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Headers {
    /// Addresses, ports, protocol.
    pub flow: Flow,
    /// What follows the IP header.
    pub payload: Payload,
    /// The source address of an ICMP error, whose flow is that of the packet that it quotes.
    pub quoted_by: Option<IpAddr>,
}

impl Headers {
    /// Those of a packet that quotes no other.
    #[inline]
    pub fn new(flow: Flow, payload: Payload) -> Self {
        Headers { flow, payload, quoted_by: None }
    }

    /// The source address of the packet itself.
    pub fn source(&self) -> IpAddr {
        self.quoted_by.unwrap_or_else(|| self.flow.source())
    }
}

/// What follows the IP header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Payload {
    /// TCP, UDP or SCTP with both ports. Or an ICMP error about such a packet: then the flow is that of the quoted
    /// packet, seen from the client, so that the error follows the flow.
    Ports(Segment),
    /// An ICMP or ICMPv6 echo request.
    Echo,
    /// A neighbor solicitation or advertisement, valid.
    Ndp,
    /// A query who listens to multicast groups, valid.
    MldQuery,
    /// Another ICMP or ICMPv6 message, no error.
    Icmp,
    /// A fragment. Only the first fragment's flow has ports, and in IPv6, only its protocol is certain.
    Fragment(Fragment),
    /// Another protocol.
    Other,
}

/// Whom an ARP packet or a neighbor discovery message concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parties {
    /// The address of which it tells the MAC address. Unspecified: it tells of none.
    pub told: IpAddr,
    /// The address whose MAC address it asks for.
    pub asked: Option<IpAddr>,
}

/// Which packet a fragment belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fragment {
    /// The identification that all fragments of the packet share (16 bits in IPv4, 32 in IPv6).
    pub identification: u32,
    /// Whether it is the first fragment, which has the ports.
    pub first: bool,
    /// Whether extension headers stand behind the fragment header, in the first fragment (IPv6). The later ones name the
    /// first of these headers in place of the protocol.
    pub extended: bool,
    /// What it says about its flow.
    pub segment: Segment,
}

/// What a packet says about the life of its flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Segment {
    /// It opens a connection (a SYN without ACK; an SCTP INIT).
    Open,
    /// It is part of the flow.
    Data,
    /// The client will send no more data (a FIN; an SCTP SHUTDOWN).
    Fin,
    /// The client aborts the connection (a RST; an SCTP ABORT).
    Rst,
    /// It belongs to the flow but proves nothing about it: an ICMP error, which any host can send, or a later fragment.
    Related,
}

/// Why a header of `header` bytes is not complete in the first segment. `len` is what is left of the frame: if it is
/// long enough, the header continues in another segment. Else the frame is too short.
#[cold]
pub(super) fn short(header: usize, len: usize, otherwise: DropReason) -> Exit {
    if header <= len { DropReason::HeadersSplit.into() } else { otherwise.into() }
}
