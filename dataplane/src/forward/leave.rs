//! Exits: frames that do not go to a backend. They are dropped, given to the slow path, held, or passed to another
//! worker.

use crate::base::exit::{DropReason, Exit, PuntReason};
use crate::base::ids::PortNo;
use crate::base::packet::{Packet, PacketIo};
use crate::forward::context::Context;
use crate::forward::ingress::parse_stage;
use crate::forward::rings::{Punt, crowded};
use crate::forward::sample::Sample;
use crate::wire::vlan;

/// Handles a frame that does not go to a backend. If it is dropped, that is counted under its reason.
#[cold]
pub(super) fn leave<'w, Io: PacketIo>(context: &mut Context<'w, Io>, exit: Exit, packet: Io::Packet, port: PortNo) {
    let counters = &context.counters.ports[port.index()];
    if let Exit::Drop(reason) | Exit::DropOf(reason, _) = exit
        && Sample::wanted(reason)
    {
        show(context, reason, &packet, port);
    }
    let left = match exit {
        Exit::Drop(reason) => Err(reason),
        Exit::DropOf(reason, service) => {
            context.counters.services[service.index()].drops[reason.index()].add(1);
            Err(reason)
        }
        // The limit is applied before the ring, so that a flood of pings does not reach the slow path.
        Exit::Punt(PuntReason::Echo) if !context.echo.take(context.now_ms) => Err(DropReason::EchoLimited),
        // The pings below the limit must not keep ARP out, either. So half of the ring is kept for frames without which
        // the director cannot work.
        Exit::Punt(PuntReason::Echo | PuntReason::OwnAddress) if crowded(context.punts) => Err(DropReason::PuntFull),
        Exit::Punt(reason) => punt(context, Punt { port, reason, mtu: 0, packet }),
        Exit::TooBig(_) if crowded(context.punts) || !context.too_big.take(context.now_ms) => {
            Err(DropReason::TooBigUnanswered)
        }
        Exit::TooBig(mtu) => punt(context, Punt { port, reason: PuntReason::TooBig, mtu, packet }),
        Exit::Hold => match parse_stage(&packet, context.ingress(port)) {
            Ok(headers) => context.fragments.hold(&headers, port, packet, context.now_ms),
            Err(_) => Err(DropReason::FragmentOrphan),
        },
        Exit::Pass(worker) => context.fragments.pass(worker, port, packet),
    };
    if let Err(reason) = left {
        counters.drops[reason.index()].add(1);
    }
}

/// Gives a frame to the slow path, as it was on the wire.
fn punt<'w, Io: PacketIo>(context: &mut Context<'w, Io>, mut punt: Punt<Io::Packet>) -> Result<(), DropReason> {
    vlan::restore(&mut punt.packet)?;
    let count = &context.counters.ports[punt.port.index()].punts[punt.reason.index()];
    context.punts.push(punt).map_err(|_| DropReason::PuntFull)?;
    count.add(1);
    Ok(())
}

/// Gives the slow path a sample of a dropped frame, if the ring has room.
fn show<'w, Io: PacketIo>(context: &mut Context<'w, Io>, reason: DropReason, packet: &Io::Packet, port: PortNo) {
    if !context.samples.is_full()
        && let Ok(headers) = parse_stage(packet, context.ingress(port))
        && let Some(sample) = Sample::new(reason, port, packet.data(), &headers.flow)
    {
        let _ = context.samples.push(sample);
    }
}
