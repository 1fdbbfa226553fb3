//! Looks for frames that show a mistake in the network, and gives the slow path samples of them.

use crate::base::ids::PortNo;
use crate::base::packet::{Burst, Packet, PacketIo};
use crate::forward::context::Context;
use crate::forward::ingress::parse_stage;
use crate::forward::sample::{Sample, Sign};
use crate::state::vips::Local;
use crate::wire::ethernet::ETHERNET_HEADER;
use crate::wire::headers::Payload;
use crate::wire::{offload, vlan};

/// Looks at the checksum of one frame of a received burst, if it is for a VIP: not whether it is right, but whether its sender has left it to a
/// NIC. The frame goes its way in any case. Once in a millisecond on a port, so that a packet costs nothing.
#[cold]
#[inline(never)]
pub(super) fn at_checksum<'w, Io: PacketIo>(context: &mut Context<'w, Io>, port: PortNo, burst: &Burst<Io::Packet>) {
    // As good as any, and not always the first.
    let index = usize::try_from(context.now_ms).unwrap_or(0) % burst.len();
    let packet = &burst[index];
    let Ok(headers) = parse_stage(packet, context.ingress(port)) else { return };
    let to_vip = context.snapshot.vips.local(headers.flow.destination()) == Some(Local::Vip);
    let Some(l3) = l3(packet).filter(|_| to_vip && matches!(headers.payload, Payload::Ports(_))) else { return };
    let counters = &context.counters.ports[port.index()];
    counters.checksums_seen.add(1);
    if offload::is_unfinished(l3) {
        counters.checksums_unfinished.add(1);
        push(context, Sample::new(Sign::UnfinishedChecksum, port, packet.data(), &headers.flow));
    }
}

/// Gives the slow path a sample of a frame that leaves otherwise than to a backend, if it shows this sign and the ring has room.
#[cold]
pub(super) fn at_exit<'w, Io: PacketIo>(context: &mut Context<'w, Io>, sign: Sign, packet: &Io::Packet, port: PortNo) {
    if context.samples.is_full() {
        return;
    }
    let sample = match sign {
        Sign::SuperFrame => super_frame(context, packet, port),
        _ => parse_stage(packet, context.ingress(port))
            .ok()
            .and_then(|headers| Sample::new(sign, port, packet.data(), &headers.flow)),
    };
    push(context, sample);
}

/// A sample of a TCP packet that no host of the port's network can have sent in one piece.
fn super_frame<'w, Io: PacketIo>(context: &Context<'w, Io>, packet: &Io::Packet, port: PortNo) -> Option<Sample> {
    let announced = offload::announced_tcp(l3(packet)?)?;
    let is_larger = announced.len > usize::from(context.snapshot.ports[port.index()].mtu);
    is_larger.then(|| Sample::cut(Sign::SuperFrame, port, packet.data(), &announced)).flatten()
}

/// A frame's packet, as far as it is in the first buffer.
fn l3<P: Packet>(packet: &P) -> Option<&[u8]> {
    let tags = vlan::read(packet).ok()?.len;
    packet.data().get(ETHERNET_HEADER + tags..)
}

fn push<'w, Io: PacketIo>(context: &mut Context<'w, Io>, sample: Option<Sample>) {
    // Where the ring is full, there are examples enough.
    let _ = sample.map(|sample| context.samples.push(sample));
}
