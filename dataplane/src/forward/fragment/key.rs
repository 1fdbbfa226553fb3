//! What fragments have in common: those of a packet, and those of a sender.

use crate::wire::flow::{Flow, FlowHasher, Transport};

/// The fields that all fragments of a packet share. In IPv4, these are the addresses, the protocol and the
/// identification (RFC 791 §3.2). In IPv6, they are the addresses and the identification (RFC 8200 §4.5), since the next
/// header of a later fragment may be an extension header, and only the first fragment's counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Key(Flow);

impl Key {
    /// The identification takes the place of the ports.
    pub(super) fn new(flow: &Flow, identification: u32) -> Self {
        Key(match flow {
            Flow::V4 { .. } => flow.with_ports(identification),
            Flow::V6 { .. } => flow.with_transport(Transport { ports: identification, protocol: 0 }),
        })
    }

    /// The hash of the packet.
    pub(super) fn hash(&self, hasher: &FlowHasher) -> u64 {
        hasher.hash(&self.0)
    }

    /// The hash of its two addresses.
    pub(super) fn hash_of_pair(&self, hasher: &FlowHasher) -> u64 {
        hasher.hash(&self.0.with_transport(Transport::new(0, 0, 0)))
    }
}

/// A sender, by a keyed hash. Senders that have one hash share what each would have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sender(u32);

impl Sender {
    /// The number of groups.
    pub(super) const GROUPS: usize = 256;

    /// The sender of a flow: an IPv4 address, or the /64 of an IPv6 address.
    pub(super) fn new(flow: &Flow, hasher: &FlowHasher) -> Self {
        let bits = if matches!(flow, Flow::V4 { .. }) { 32 } else { 64 };
        Sender((hasher.hash(&flow.source_only(bits)) >> 32) as u32)
    }

    /// One of [`Sender::GROUPS`] groups of senders, where a few bytes must do.
    #[expect(clippy::cast_possible_truncation, reason = "the lowest byte is wanted")]
    pub(super) fn group(self) -> u8 {
        self.0 as u8
    }
}
