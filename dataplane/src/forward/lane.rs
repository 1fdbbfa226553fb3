//! A burst's way on one screen: parse, service, slot, exceptions, rewrite, send.

use arrayvec::ArrayVec;

use crate::base::exit::{DropReason, Exit};
use crate::base::ids::PortNo;
use crate::base::packet::{BURST, Burst, Packet, PacketIo};
use crate::forward::answer::answer;
use crate::forward::choose::choose;
use crate::forward::context::Context;
use crate::forward::decision::{Decision, Rare};
use crate::forward::handshake::watch;
use crate::forward::leave::leave;
use crate::forward::readdress::{count, readdress, rewrite};
use crate::forward::target::find_targets;
use crate::state::vips::LastService;

/// Forwards a burst that arrived on the port `from`. Returns its bytes.
#[inline]
pub(super) fn forward<'w, Io: PacketIo>(
    context: &mut Context<'w, Io>,
    from: PortNo,
    burst: &mut Burst<Io::Packet>,
) -> u64 {
    let mut decisions = [Decision::UNKNOWN; BURST];
    // Written out here: made by a function, it costs four instructions a packet.
    let mut rare = Rare {
        exits: [Exit::Hold; BURST],
        questions_v4: ArrayVec::new(),
        questions_v6: ArrayVec::new(),
        last: LastService::default(),
    };
    burst.iter().for_each(Packet::prefetch);
    // Parse, service, slot: where each packet's backend stands, or a question to the exception table.
    let bytes = choose(context, from, burst, &mut decisions, &mut rare);
    // Exceptions: the remembered backends of the packets that a question is about.
    if !rare.questions_v4.is_empty() {
        answer(context, &rare.questions_v4, &mut decisions, &mut rare.exits);
    }
    if !rare.questions_v6.is_empty() {
        answer(context, &rare.questions_v6, &mut decisions, &mut rare.exits);
    }
    // The addresses of the backends of all others.
    let to = find_targets(context.snapshot, &mut decisions[..burst.len()], &mut rare);
    // For a part of the time only, so that a packet costs nothing.
    if context.handshakes.looks() {
        watch(context, from, burst, &decisions);
    }
    // Rewrite.
    let remaining = readdress(&context.counters.targets, burst, &decisions, to);
    // Send.
    if remaining == 0 {
        let to = to.index();
        context.ports[to].send_all(burst, bytes, &context.counters.ports[to]);
    } else {
        send_each(context, from, burst, &decisions, &rare.exits, remaining);
    }
    bytes
}

/// The same for a burst in which some frames are not plain, or which leaves by several ports. The `remaining` frames, a
/// bit each by index, have no new addresses yet.
#[inline(never)]
fn send_each<'w, Io: PacketIo>(
    context: &mut Context<'w, Io>,
    from: PortNo,
    burst: &mut Burst<Io::Packet>,
    decisions: &[Decision<'w>; BURST],
    exits: &[Exit; BURST],
    remaining: u32,
) {
    for (index, (mut packet, decision)) in burst.drain(..).zip(decisions).enumerate() {
        let target = decision.target;
        if remaining >> index & 1 != 0 {
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

/// The most bursts of waiting fragments that are forwarded in a turn. Other workers may fill their rings as fast as this
/// one empties them, and its own queues must not wait for that.
const WAITING_BURSTS: usize = 8;
/// The most fragments that have waited too long, and are dropped in a turn.
const OVERDUE: usize = 2 * BURST;

/// Forwards fragments that had to wait and fragments from other workers. Drops fragments that have waited too long.
/// Returns whether there were any. What is left comes next turn.
#[cold]
pub(super) fn waiting_fragments<'w, Io: PacketIo>(context: &mut Context<'w, Io>) -> bool {
    let now_ms = context.now_ms;
    let mut any = false;
    for _ in 0..WAITING_BURSTS {
        let mut burst = Burst::new();
        let Some(port) = context.fragments.ready(&mut burst) else { break };
        any = true;
        forward(context, port, &mut burst);
        context.flush();
    }
    for _ in 0..OVERDUE {
        let Some((port, packet)) = context.fragments.overdue(now_ms) else { break };
        any = true;
        leave(context, DropReason::FragmentOrphan.into(), packet, port);
    }
    any
}
