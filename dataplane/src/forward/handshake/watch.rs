//! The stage that watches handshakes: it finds the SYNs of a burst, and what follows those that were sampled.

use crate::base::ids::PortNo;
use crate::base::packet::{BURST, Burst, Packet, PacketIo};
use crate::count::counters::{HANDSHAKE_PARTS, HandshakeCounters};
use crate::forward::context::Context;
use crate::forward::decision::{Decision, WITH_CARE};
use crate::forward::handshake::sampled::{Outcome, Sample};
use crate::forward::ingress::{Ingress, parse_stage};
use crate::state::snapshot::Target;
use crate::wire::flow::Flow;
use crate::wire::headers::{Payload, Segment};
use crate::wire::l4::TCP;
use crate::wire::plain::{fingerprint, glance_at_tcp, plain_v4, plain_v6};

/// The leading bits of the address that clients of one network share: of IPv4, and of IPv6.
const NETWORK_BITS: [u8; 2] = [24, 48];

/// Watches the handshakes of a burst whose backends are decided.
#[inline(never)]
pub(in crate::forward) fn watch<'w, Io: PacketIo>(
    context: &mut Context<'w, Io>,
    from: PortNo,
    burst: &Burst<Io::Packet>,
    decisions: &[Decision<'w>; BURST],
) {
    let ingress = context.ingress(from);
    for (packet, decision) in burst.iter().zip(decisions) {
        let target = decision.target;
        // What cannot be sent is not answered, and not for the backend's want of an answer.
        if target.is_nowhere() || !target.known || !target.up {
            continue;
        }
        if decision.len == WITH_CARE {
            with_care(context, packet, ingress, target);
            continue;
        }
        let Some((opens, fingerprint)) = glance_at_tcp(packet.data()) else { continue };
        if opens || context.handshakes.sampled.awaits(fingerprint) {
            let (frame, len) = (packet.data(), packet.wire_len());
            let v4 = plain_v4(frame, len, ingress.mac).map(Flow::from);
            if let Some(flow) = v4.or_else(|| plain_v6(frame, len, ingress.mac).map(Flow::from)) {
                take(context, &flow, opens, target);
            }
        }
    }
}

/// The same for a frame that is not plain.
#[cold]
fn with_care<'w, Io: PacketIo>(
    context: &mut Context<'w, Io>,
    packet: &Io::Packet,
    ingress: Ingress<'w>,
    target: &Target,
) {
    let Ok(headers) = parse_stage(packet, ingress) else { return };
    // An ICMP error, which any host can send, tells nothing.
    let Payload::Ports(segment) = headers.payload else { return };
    if headers.flow.transport().protocol == TCP && segment != Segment::Related {
        take(context, &headers.flow, segment == Segment::Open, target);
    }
}

/// Takes a packet of a flow to a backend.
fn take<'w, Io: PacketIo>(context: &mut Context<'w, Io>, flow: &Flow, opens: bool, target: &Target) {
    let hasher = &context.snapshot.hasher;
    let [v4, v6] = NETWORK_BITS;
    let (bits, source) = match *flow {
        Flow::V4 { source, .. } => (v4, u64::from(source)),
        #[expect(clippy::cast_possible_truncation, reason = "the lower half is wanted")]
        Flow::V6 { source, .. } => (v6, source as u64),
    };
    let network = hasher.hash(&flow.source_only(bits));
    let fingerprint = fingerprint(source, flow.transport().ports);
    let sample = Sample { flow: hasher.hash(flow), network, counter: target.counter, fingerprint };
    let (now_ms, samples) = (context.now_ms, context.handshakes.samples());
    let sampled = &mut context.handshakes.sampled;
    let outcome = if opens { sampled.syn(sample, samples, now_ms) } else { sampled.packet(sample, now_ms) };
    if let Some(outcome) = outcome {
        count(&context.counters.handshakes[target.counter.index()], outcome, network);
    }
}

fn count(counters: &HandshakeCounters, outcome: Outcome, network: u64) {
    match outcome {
        Outcome::Answered => counters.answered.add(1),
        Outcome::Unanswered => {
            let part = usize::try_from(network % HANDSHAKE_PARTS as u64).unwrap_or(0);
            counters.unanswered[part].add(1);
        }
    }
}
