//! Ingress: the first stage of frames that are not plain. It turns bytes into headers, or an early exit.

use crate::base::exit::{DropReason, Exit};
use crate::base::packet::Packet;
use crate::state::networks::PortVlans;
use crate::wire::ethernet::MacNumber;
use crate::wire::headers::Headers;
use crate::wire::{parse, vlan};

/// The frames that a port accepts: those to this MAC address, in these VLANs.
#[derive(Clone, Copy)]
pub(super) struct Ingress<'s> {
    pub(super) mac: MacNumber,
    pub(super) vlans: &'s PortVlans,
}

#[inline]
pub(super) fn parse_stage<P: Packet>(packet: &P, ingress: Ingress<'_>) -> Result<Headers, Exit> {
    if packet.bad_ip_checksum() {
        return Err(DropReason::BadIpChecksum.into());
    }
    if vlan::is_tagged(packet) || !ingress.vlans.has_untagged() {
        return parse_tagged(packet, ingress);
    }
    parse::headers(packet.data(), packet.wire_len(), ingress.mac, 0)
}

/// The same for a frame with tags, or on a port whose networks all have tags.
#[cold]
fn parse_tagged<P: Packet>(packet: &P, ingress: Ingress<'_>) -> Result<Headers, Exit> {
    let received = vlan::read(packet)?;
    ingress.vlans.network(received.tags).ok_or(DropReason::UnknownVlan)?;
    parse::headers(packet.data(), packet.wire_len(), ingress.mac, received.len)
}
