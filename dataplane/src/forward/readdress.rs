//! Rewrite: the frame gets new MAC addresses, and the tags of its backend's network. Nothing else changes.

use crate::base::exit::{DropReason, Exit};
use crate::base::ids::PortNo;
use crate::base::packet::{BURST, Burst, Packet};
use crate::count::counters::TargetCounters;
use crate::forward::decision::Decision;
use crate::state::snapshot::Target;
use crate::wire::ethernet::{ETHERNET_HEADER, destination_mac, source_mac};
use crate::wire::{mtu, vlan};

/// Gives the plain frames that leave by the port `to` their new addresses, and counts them. Returns a bit for each
/// remaining frame, by its index.
#[inline(always)]
pub(super) fn readdress<P: Packet>(
    sent: &[TargetCounters],
    burst: &mut Burst<P>,
    decisions: &[Decision<'_>; BURST],
    to: PortNo,
) -> u32 {
    let mut remaining = 0;
    // A bit that moves along, not a shift by an index: one register less in this loop.
    let mut bit = 1;
    for (packet, decision) in burst.iter_mut().zip(decisions) {
        let target = decision.target;
        let plain = decision.len <= usize::from(target.plain_len) && target.port == to;
        if plain && readdress_plain(packet.data_mut(), target) {
            count(sent, target, decision.len as u64);
        } else {
            remaining |= bit;
        }
        bit <<= 1;
    }
    remaining
}

/// Counts a frame that goes to a backend.
#[inline(always)]
pub(super) fn count(sent: &[TargetCounters], target: &Target, bytes: u64) {
    let sent = &sent[target.counter.index()];
    sent.packets.add(1);
    sent.bytes.add(bytes);
}

/// Gives a plain frame that fits the MTU the addresses of the target. Returns `false` and changes nothing if the frame
/// came from that backend.
#[inline(always)]
fn readdress_plain(frame: &mut [u8], target: &Target) -> bool {
    let header = frame.first_chunk_mut::<{ ETHERNET_HEADER }>().expect("a plain frame has an Ethernet header");
    if source_mac(header) == destination_mac(target.macs.first_chunk().expect("it has 12 bytes")) {
        return false;
    }
    header[..12].copy_from_slice(&target.macs);
    true
}

/// Gives any frame the addresses of its backend. Only the Ethernet header's 12 bytes of addresses and the VLAN tags
/// change.
#[inline]
pub(super) fn rewrite<P: Packet>(packet: &mut P, target: &Target) -> Result<(), Exit> {
    if !target.known || !target.up {
        let reason = if target.up { DropReason::BackendMacUnknown } else { DropReason::LinkDown };
        return Err(Exit::DropOf(reason, target.service));
    }
    // Nearly all frames fit by their length on the wire. Padding and tags can make a packet seem larger than it is.
    let fits = packet.wire_len() <= usize::from(target.plain_len);
    if !fits || vlan::is_tagged(packet) {
        return rewrite_with_care(packet, target);
    }
    if readdress_plain(packet.data_mut(), target) {
        Ok(())
    } else {
        Err(Exit::DropOf(DropReason::Loop, target.service))
    }
}

/// For frames from or to a VLAN, and frames that may be larger than the MTU.
#[cold]
fn rewrite_with_care<P: Packet>(packet: &mut P, target: &Target) -> Result<(), Exit> {
    let of = |reason| Exit::DropOf(reason, target.service);
    if packet.data()[6..12] == *target.mac() {
        return Err(of(DropReason::Loop));
    }
    let received = vlan::read(packet).map_err(of)?;
    mtu::fits(&packet.data()[ETHERNET_HEADER + received.len..], target.mtu).map_err(|exit| match exit {
        Exit::Drop(reason) => of(reason),
        exit => exit,
    })?;
    vlan::rewrite(packet, &received, &target.macs, target.tags).map_err(of)
}
