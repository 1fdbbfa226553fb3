//! A burst's way on one screen: parse, service, slot, exceptions, rewrite, send.

use arrayvec::ArrayVec;

use crate::base::exit::{DropReason, Exit};
use crate::base::ids::PortNo;
use crate::base::packet::{BURST, Burst, Packet, PacketIo};
use crate::forward::answer::answer;
use crate::forward::choose::choose;
use crate::forward::context::Context;
use crate::forward::leave::leave;
use crate::forward::readdress::{count, readdress, rewrite};
use crate::forward::target::find_targets;
use crate::forward::way::{Aside, Way};
use crate::state::vips::LastService;

/// Takes a burst that came in by a port from parsing to the transmit queues. Returns how many bytes it was.
#[inline]
pub(super) fn forward<'w, Io: PacketIo>(
    context: &mut Context<'w, Io>,
    from: PortNo,
    burst: &mut Burst<Io::Packet>,
) -> u64 {
    let mut ways = [Way::UNKNOWN; BURST];
    let mut aside = Aside {
        exits: [Exit::Hold; BURST],
        questions_v4: ArrayVec::new(),
        questions_v6: ArrayVec::new(),
        last: LastService::default(),
    };
    burst.iter().for_each(Packet::prefetch);
    let bytes = choose(context, from, burst, &mut ways, &mut aside);
    if !aside.questions_v4.is_empty() {
        answer(context, &aside.questions_v4, &mut ways, &mut aside.exits);
    }
    if !aside.questions_v6.is_empty() {
        answer(context, &aside.questions_v6, &mut ways, &mut aside.exits);
    }
    let to = find_targets(context.snapshot, &mut ways[..burst.len()], &mut aside);
    let odd = readdress(&context.counters.targets, burst, &ways, to);
    if odd == 0 {
        let to = to.index();
        context.ports[to].send_all(burst, bytes, &context.counters.ports[to]);
    } else {
        send_each(context, from, burst, &ways, &aside.exits, odd);
    }
    bytes
}

/// The same of a burst where not all is plain, or not all leaves by one port: the `odd` ones are not addressed yet.
#[inline(never)]
fn send_each<'w, Io: PacketIo>(
    context: &mut Context<'w, Io>,
    from: PortNo,
    burst: &mut Burst<Io::Packet>,
    ways: &[Way<'w>; BURST],
    exits: &[Exit; BURST],
    odd: u32,
) {
    for (index, (mut packet, way)) in burst.drain(..).zip(ways).enumerate() {
        let target = way.target;
        if odd >> index & 1 != 0 {
            let addressed = if target.is_nowhere() { Err(exits[index]) } else { rewrite(&mut packet, target) };
            if let Err(exit) = addressed {
                leave(context, exit, packet, from);
                continue;
            }
            count(&context.counters.targets, target, packet.wire_len() as u64);
        }
        let (to, bytes) = (target.port.index(), packet.wire_len() as u64);
        context.ports[to].send(packet, bytes, &context.counters.ports[to]);
    }
}

/// Forwards the fragments that had to wait and those of other workers; gives up those that have waited too long.
/// Says whether there were any.
#[cold]
pub(super) fn waiting_fragments<'w, Io: PacketIo>(context: &mut Context<'w, Io>) -> bool {
    let now_ms = context.now_ms;
    let mut any = false;
    loop {
        let mut burst = Burst::new();
        let Some(port) = context.fragments.ready(&context.snapshot.hasher, now_ms, &mut burst) else { break };
        any = true;
        forward(context, port, &mut burst);
        context.flush();
    }
    while let Some((port, packet)) = context.fragments.overdue(now_ms) {
        any = true;
        leave(context, DropReason::FragmentOrphan.into(), packet, port);
    }
    any
}
