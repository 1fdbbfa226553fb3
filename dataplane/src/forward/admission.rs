//! Admission: which frames the slow path is given, and in which class.

use std::net::IpAddr;

use ctl::Mac;

use crate::base::exit::{DropReason, PuntReason};
use crate::base::packet::{Packet, PacketIo};
use crate::forward::class::Class;
use crate::forward::context::Context;
use crate::forward::limits::Sender;
use crate::forward::rings::Punt;
use crate::state::snapshot::Snapshot;
use crate::state::vips::Local;
use crate::wire::ethernet::ETHERNET_HEADER;
use crate::wire::headers::Parties;
use crate::wire::{arp, ndp, vlan};

/// Gives a frame to the slow path, as it was on the wire, if its class and its sender have room.
pub(super) fn admit<'w, Io: PacketIo>(
    context: &mut Context<'w, Io>,
    mut punt: Punt<Io::Packet>,
) -> Result<(), DropReason> {
    let (class, sender) = class(punt.reason, &punt.packet, context.snapshot)?;
    // The limit is applied before the ring, so that a flood does not reach the slow path.
    if !context.limits.take(class, sender, context.now_ms) {
        return Err(above_limit(punt.reason));
    }
    vlan::restore(&mut punt.packet)?;
    let (port, reason) = (punt.port, punt.reason);
    if !context.punts.push(class, punt) {
        return Err(if class == Class::TooBig { DropReason::TooBigUnanswered } else { DropReason::PuntFull });
    }
    context.counters.ports[port.index()].punts[reason.index()].add(1);
    Ok(())
}

/// The class of a frame, and the sender whose limit it counts for. An ARP packet or a neighbor discovery message
/// between others is not for the slow path.
fn class<P: Packet>(reason: PuntReason, packet: &P, snapshot: &Snapshot) -> Result<(Class, Sender), DropReason> {
    let (class, parties) = match reason {
        PuntReason::Mld => return Ok((Class::Mld, Sender::Any)),
        PuntReason::OwnAddress => return Ok(to_own_address(packet, snapshot)),
        PuntReason::Echo => return Ok((Class::Echo, Sender::Any)),
        PuntReason::TooBig => return Ok((Class::TooBig, Sender::Any)),
        PuntReason::Arp => (Class::Arp, behind_tags(packet).and_then(arp::parties)),
        PuntReason::Ndp => (Class::Ndp, behind_tags(packet).and_then(ndp::parties)),
    };
    let Some(Parties { told, asked }) = parties else { return Err(DropReason::ResolutionOfOthers) };
    if snapshot.backends.contains(told) {
        return Ok((Class::Backends, Sender::Backend(number(told))));
    }
    let ours = |address: IpAddr| snapshot.vips.local(address).is_some();
    // A station that claims an address of ours concerns us, too.
    if !ours(told) && !asked.is_some_and(ours) {
        return Err(DropReason::ResolutionOfOthers);
    }
    let station = packet.data().get(6..).and_then(|rest| rest.first_chunk()).map(|&mac| Mac(mac));
    Ok((class, station.map_or(Sender::Any, Sender::Station)))
}

/// A packet to an own address. If it may be the answer to a health check, its station has a limit of its own.
fn to_own_address<P: Packet>(packet: &P, snapshot: &Snapshot) -> (Class, Sender) {
    let source = behind_tags(packet).and_then(source);
    let asked = source
        .is_some_and(|source| snapshot.backends.contains(source) || snapshot.vips.local(source) == Some(Local::Vip));
    match packet.data().get(6..).and_then(|rest| rest.first_chunk()) {
        Some(&mac) if asked => (Class::Answers, Sender::Answering(Mac(mac))),
        _ => (Class::OwnAddress, Sender::Any),
    }
}

/// The source address of an IP packet.
fn source(packet: &[u8]) -> Option<IpAddr> {
    match packet.first()? >> 4 {
        4 => packet.get(12..)?.first_chunk::<4>().map(|&address| address.into()),
        6 => packet.get(8..)?.first_chunk::<16>().map(|&address| address.into()),
        _ => None,
    }
}

/// The packet behind the Ethernet header and its tags.
fn behind_tags<P: Packet>(packet: &P) -> Option<&[u8]> {
    packet.data().get(ETHERNET_HEADER + vlan::read(packet).ok()?.len..)
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_bits().into(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// Why a frame above its limit is dropped.
fn above_limit(reason: PuntReason) -> DropReason {
    match reason {
        PuntReason::Arp => DropReason::ArpLimited,
        PuntReason::Ndp => DropReason::NdpLimited,
        PuntReason::Mld => DropReason::MldLimited,
        PuntReason::OwnAddress => DropReason::OwnAddressLimited,
        PuntReason::Echo => DropReason::EchoLimited,
        PuntReason::TooBig => DropReason::TooBigUnanswered,
    }
}
