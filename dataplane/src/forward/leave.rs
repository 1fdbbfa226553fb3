//! Exits: frames that do not go to a backend. They are dropped, given to the slow path, held, or passed to another
//! worker.

use crate::base::exit::{DropReason, Exit, PuntReason};
use crate::base::ids::PortNo;
use crate::base::packet::PacketIo;
use crate::forward::admission::admit;
use crate::forward::context::Context;
use crate::forward::ingress::parse_stage;
use crate::forward::look;
use crate::forward::rings::Punt;
use crate::forward::sample::Sign;

/// Handles a frame that does not go to a backend. If it is dropped, that is counted under its reason.
#[cold]
pub(super) fn leave<'w, Io: PacketIo>(context: &mut Context<'w, Io>, exit: Exit, packet: Io::Packet, port: PortNo) {
    let counters = &context.counters.ports[port.index()];
    if let Some(sign) = Sign::of(exit) {
        look::at_exit(context, sign, &packet, port);
    }
    let left = match exit {
        Exit::Drop(reason) => Err(reason),
        Exit::DropOf(reason, service) => {
            context.counters.services[service.index()].drops[reason.index()].add(1);
            Err(reason)
        }
        Exit::Punt(reason) => admit(context, Punt { port, reason, mtu: 0, packet }),
        Exit::TooBig(mtu) => admit(context, Punt { port, reason: PuntReason::TooBig, mtu, packet }),
        Exit::Hold | Exit::Pass(_) => keep(context, exit, packet, port),
    };
    if let Err(reason) = left {
        counters.drops[reason.index()].add(1);
    }
}

/// Holds a fragment, or passes it to another worker.
fn keep<'w, Io: PacketIo>(
    context: &mut Context<'w, Io>,
    exit: Exit,
    packet: Io::Packet,
    port: PortNo,
) -> Result<(), DropReason> {
    let Ok(headers) = parse_stage(&packet, context.ingress(port)) else { return Err(DropReason::FragmentOrphan) };
    let hasher = &context.snapshot.hasher;
    if let Exit::Pass(worker) = exit {
        return context.fragments.pass(worker, &headers, port, packet, hasher);
    }
    if let Some(port) = context.fragments.hold(&headers, port, packet, hasher, context.now_ms) {
        context.counters.ports[port.index()].drops[DropReason::FragmentHoldFull.index()].add(1);
    }
    Ok(())
}
