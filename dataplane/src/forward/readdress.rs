//! Rewrite: the frame gets new MAC addresses, and the tags of its backend's network; nothing else changes.

use crate::base::exit::{DropReason, Exit};
use crate::base::ids::PortNo;
use crate::base::packet::{BURST, Burst, Packet};
use crate::count::counters::TargetCounters;
use crate::forward::way::Way;
use crate::state::snapshot::Target;
use crate::wire::ethernet::{ETHERNET_HEADER, destination_mac, source_mac};
use crate::wire::{mtu, vlan};

/// Addresses the plain frames that leave by the port `to`, and counts them. Returns a bit for each other packet, by its index.
#[inline(always)]
pub(super) fn readdress<P: Packet>(
    sent: &[TargetCounters],
    burst: &mut Burst<P>,
    ways: &[Way<'_>; BURST],
    to: PortNo,
) -> u32 {
    let mut odd = 0;
    for (index, (packet, way)) in burst.iter_mut().zip(ways).enumerate() {
        let target = way.target;
        let plain = way.len <= usize::from(target.plain_len) && target.port == to;
        if plain && readdress_plain(packet.data_mut(), target) {
            count(sent, target, way.len as u64);
        } else {
            odd |= 1 << index;
        }
    }
    odd
}

/// Counts a frame that goes to a backend.
#[inline(always)]
pub(super) fn count(sent: &[TargetCounters], target: &Target, bytes: u64) {
    let sent = &sent[target.counter.index()];
    sent.packets.add(1);
    sent.bytes.add(bytes);
}

/// Gives a plain frame that fits the addresses of the target. Says whether it did: it does not where the frame comes from there.
#[inline(always)]
fn readdress_plain(frame: &mut [u8], target: &Target) -> bool {
    let header = frame.first_chunk_mut::<{ ETHERNET_HEADER }>().expect("a plain frame has an Ethernet header");
    if source_mac(header) == destination_mac(target.macs.first_chunk().expect("it has 12 bytes")) {
        return false;
    }
    header[..12].copy_from_slice(&target.macs);
    true
}

/// Addresses the frame to the backend. Nothing but the Ethernet header's 12 bytes of addresses and its VLAN tags changes.
#[inline]
pub(super) fn rewrite<P: Packet>(packet: &mut P, target: &Target) -> Result<(), Exit> {
    if !target.known {
        return Err(Exit::DropOf(DropReason::BackendMacUnknown, target.service));
    }
    // A frame that fits without looking at what it carries is the rule; padding and tags can make it seem larger.
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

/// From or to a VLAN, or perhaps larger than the MTU.
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
