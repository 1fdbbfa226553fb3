//! First stage, for frames that are not plain: bytes to headers, or an early exit.

use crate::base::exit::{DropReason, Exit};
use crate::base::packet::Packet;
use crate::state::networks::PortVlans;
use crate::wire::ethernet::MacNumber;
use crate::wire::headers::Headers;
use crate::wire::{parse, vlan};

/// Whose frames a port takes.
#[derive(Clone, Copy)]
pub(super) struct Door<'s> {
    pub(super) mac: MacNumber,
    pub(super) vlans: &'s PortVlans,
}

#[inline]
pub(super) fn parse_stage<P: Packet>(packet: &P, door: Door<'_>) -> Result<Headers, Exit> {
    if packet.bad_ip_checksum() {
        return Err(DropReason::BadIpChecksum.into());
    }
    if vlan::is_tagged(packet) || !door.vlans.has_untagged() {
        return parse_tagged(packet, door);
    }
    parse::headers(packet.data(), packet.wire_len(), door.mac, 0)
}

/// On a port with VLANs.
#[cold]
fn parse_tagged<P: Packet>(packet: &P, door: Door<'_>) -> Result<Headers, Exit> {
    let received = vlan::read(packet)?;
    door.vlans.network(received.tags).ok_or(DropReason::UnknownVlan)?;
    parse::headers(packet.data(), packet.wire_len(), door.mac, received.len)
}
